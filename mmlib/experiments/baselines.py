"""Rows that stand in several papers' tables: the linear model, and networks of other papers."""

from __future__ import annotations

from mmlib.experiments.context import Context
from mmlib.experiments.rows import Budget, Row, Stage
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes

STRENGTHS = 13  # half a decade apart
ALL_AT_ONCE = 10**6  # dialogues
# Each epoch solves for one strength of the penalty, and a step does nothing.
_SOLVED = (
    ("batch", ALL_AT_ONCE),
    ("clip", 0.0),
    ("epochs", STRENGTHS),
    ("lr", 0.0),
    ("weight_decay", 0.0),
)
LINEAR = Row(
    "linear model",
    (Stage("linear", "linear", training=_SOLVED),),
    against=None,
    takes=Takes((VECTORS, SEQUENCES)),
)
GCNET = (
    "GCNet is trained with its own loss on what is missing, which reads the complete training features, at the width "
    "and by the recipe that it has in BALM's tables; as a network of another paper it is compared with no row."
)


def gcnet(
    context: Context, budget: Budget, stages: int, method: str = "plain", frames: bool = False
) -> Row:
    """GCNet as published (ledger 6.2), its reconstruction included, trained in one stage.

    budget: of the table. stages: the other rows' number of stages, the epochs of all of which it has. method: that of
    the other rows' task loss. frames: whether an utterance is a sequence, whose mean it reads.
    """
    profile, backbone = context.profile, "gcnet_frames" if frames else "gcnet"
    network = (*profile.network.get(backbone, ()), ("reconstruct", 1.0))
    epochs = stages * budget.of(backbone).epochs
    schedule = {**profile.by_backbone.get("gcnet", {}), "epochs": epochs}
    stage = Stage(method, backbone, network=network, training=tuple(schedule.items()))
    kind = SEQUENCES if frames else VECTORS
    return Row("GCNet", (stage,), against=None, takes=Takes((kind,)))
