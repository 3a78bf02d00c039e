"""Networks of other papers, as rows of tables that print them."""

from __future__ import annotations

from mmlib.experiments.context import Context
from mmlib.experiments.rows import Row, Stage
from mmlib.experiments.takes import VECTORS, Takes

GCNET = (
    "GCNet is trained with its own loss on what is missing, which reads the complete training features, at the width "
    "and learning rate that it has in BALM's tables; as a network of another paper it is compared with no row."
)


def gcnet(context: Context, epochs: int, method: str = "plain") -> Row:
    """GCNet as published (ledger 6.2), its reconstruction included, trained in one stage of so many epochs.

    method: that of the other rows' task loss.
    """
    profile = context.profile
    network = (*profile.network.get("gcnet", ()), ("reconstruct", 1.0))
    schedule = {**profile.recipes.get("gcnet", {}), "epochs": epochs}
    stage = Stage(method, "gcnet", network=network, training=tuple(schedule.items()))
    return Row("GCNet", (stage,), against=None, takes=Takes((VECTORS,)))
