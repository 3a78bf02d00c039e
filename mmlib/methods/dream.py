"""DREAM: Two Challenges, One Solution: Robust Multimodal Learning through Dynamic Modality Recognition and Enhancement.

A frozen pre-trained network P predicts from every subset of a sample's modalities. How often a modality changes P's
decision (PSS, Eqs 1-2) picks what the network enhances (Eqs 5-9) and weighs what it fuses (Eqs 10-11); how much it adds
to right decisions (PAS, Eqs 3-4) teaches the weights (Eq. 12); Eq. 13 adds up. No code was released: ledger 2.2 has the
readings, each a switch here. P is a run of its own, this run's parent; the network is the backbone ``dream``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmlib.backbones import build_backbone
from mmlib.backbones.dream import FUSIONS, DreamNet
from mmlib.data.bundle import Task
from mmlib.errors import InputError, unknown_name
from mmlib.methods.contribution import EMPTY, Memory, decided
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn import shapley
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.rows import RowIndex
from mmlib.nn.shapley import Plan

ENHANCEMENTS = ("zero_pss", "all", "none")
TARGETS = ("softmax", "clipped")


@dataclass(frozen=True)
class DreamConfig(ReferenceConfig):
    """The readings of ledger 2.2, by row.

    reference: the backbone that P is, and reference_options its options: name, value, name, value (B16).
    empty: what P decides of nothing (B1). rule: a score's decision, its ``sign`` or one of ``seven`` (B2).
    together: a modality shifts the four emotions where it changes any, not their mean (B3).
    target: what the weights learn, softmax(PAS), or its positive part, samples without any left out (B5).
    fusion: w of Eq. 10 on the ``simplex``, ``literal``ly unbounded, or fused by w without PSS, ``none`` (B6).
    enhancement: of modalities with no PSS, of ``all``, or ``none``; threshold: the PSS that counts as none (B7).
    weight: lambda of Eq. 13, which the paper does not give. permutations: orders drawn beyond six modalities.
    cache: P's decisions on data that do not change are kept; they are the same either way.
    """

    reference: str = "corrkd"
    reference_options: tuple[Any, ...] = ()
    empty: str = "zeros"
    rule: str = "sign"
    together: bool = False
    target: str = "softmax"
    fusion: str = "simplex"
    enhancement: str = "zero_pss"
    threshold: float = 0.0
    weight: float = 0.1
    permutations: int = 64
    cache: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (
            ("empty", EMPTY),
            ("rule", shapley.RULES),
            ("target", TARGETS),
            ("fusion", FUSIONS),
            ("enhancement", ENHANCEMENTS),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(f"dream {name}", getattr(self, name), known)
        for name, least in (("threshold", 0), ("weight", 0), ("permutations", 2)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(
                    f"dream {name}", str(getattr(self, name)), f"{least} or more", "Correct it."
                )
        if len(self.reference_options) % 2:
            raise InputError(
                "dream reference_options",
                str(self.reference_options),
                "name, value, name, value",
                "Give every option a value.",
            )


VARIANTS: dict[str, DreamConfig] = {
    "paper": DreamConfig(),
    "no_enhancement": DreamConfig(enhancement="none"),
    "enhance_all": DreamConfig(enhancement="all"),  # Fig. 4, w/o dynamic enhancement
    "no_masked_fusion": DreamConfig(fusion="none"),  # Fig. 4, w/o MMFM
    "no_distillation": DreamConfig(weight=0.0),
    "undecided_empty": DreamConfig(empty="undecided"),
    "seven_classes": DreamConfig(rule="seven"),
    "any_emotion": DreamConfig(together=True),
    "clipped_pas": DreamConfig(target="clipped"),
    "literal_fusion": DreamConfig(fusion="literal"),
    "low_contribution": DreamConfig(threshold=1 / 6 + 1e-6),
    "squared": DreamConfig(absolute=False),
    "mlp_reference": DreamConfig(reference="mlp"),
    "selfmm_reference": DreamConfig(reference="selfmm"),
}


class Told(NamedTuple):
    """What the method makes of a batch: the prediction, w before any softmax and PSS, both (n, M), P's decisions."""

    fused: Fused
    raw: Tensor
    pss: Tensor
    decided: Tensor


class Dream(Reference):
    """The method over the backbone ``dream``, started from a run that trained P."""

    Config = DreamConfig
    config: DreamConfig
    subsets: Tensor
    without: Tensor
    joined: Tensor
    weights: Tensor

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: DreamConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        if not isinstance(backbone, DreamNet):
            raise InputError(
                "dream",
                f"the backbone {type(backbone).__name__}",
                "its own network",
                "Use the backbone dream.",
            )
        backbone.alone = False
        options = zip(config.reference_options[::2], config.reference_options[1::2], strict=True)
        self.reference = build_backbone(config.reference, dims, task.outputs, 1, options)
        self.reference.requires_grad_(False).eval()
        for name, values in shapley.make_plan(len(dims), config.permutations)._asdict().items():
            self.register_buffer(name, values, persistent=False)
        self.given = False
        self.memory = Memory()
        self.remembers = False

    @property
    def plan(self) -> Plan:
        """Of the subsets that P predicts from."""
        return Plan(self.subsets, self.without, self.joined, self.weights)

    @property
    def net(self) -> DreamNet:
        """The backbone."""
        assert isinstance(self.backbone, DreamNet)
        return self.backbone

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A parent's backbone becomes P, and this network stays as it is; a run's own weights come back whole.

        Raises:
            InputError: a parent whose backbone is not ``reference`` with ``reference_options``.
        """
        if any(name.startswith("reference.") for name in state_dict):
            self.given = True
            return super().load_state_dict(state_dict, strict, assign)
        parent_weights = {
            k.removeprefix("backbone."): v
            for k, v in state_dict.items()
            if k.startswith("backbone.")
        }
        own_shapes = {k: v.shape for k, v in self.reference.state_dict().items()}
        if own_shapes != {k: v.shape for k, v in parent_weights.items()}:
            raise InputError(
                "dream, parent",
                "weights of another network",
                f"those of a {self.config.reference} on the same modalities",
                "Set reference and reference_options as the parent's backbone.",
            )
        self.given = True
        return self.reference.load_state_dict(parent_weights, assign=assign)

    def train(self, mode: bool = True) -> Dream:
        """P stays in evaluation mode."""
        super().train(mode)
        self.reference.eval()
        return self

    def look(self, batch: Batch) -> Tensor:
        """P's decisions on a batch under every subset, (S, n, K), made anew.

        Raises:
            InputError: P has no trained weights.
        """
        if not self.given:
            raise InputError(
                "dream",
                "a pre-trained network without weights",
                "a run with a parent that trained it",
                f"Give the run a parent: method reference on backbone {self.config.reference}.",
            )
        c = self.config
        return decided(self.reference, batch, self.plan, self.task, c.rule, c.empty)

    def decided(self, batch: Batch) -> Tensor:
        """P's decisions, (S, n, K), from memory while training goes on; test labels have no part in them."""
        if not self.remembers:
            return self.look(batch)
        if self.training:
            decisions = self.memory.of_training(batch)
            return self.look(batch) if decisions is None else decisions
        if (decisions := self.memory.of_other(batch)) is None:
            decisions = self.look(batch)
            self.memory.others[id(batch)] = batch, decisions
        return decisions

    def told(self, batch: Batch) -> Told:
        """All that a batch's loss and prediction need."""
        c = self.config
        decisions = self.decided(batch)
        pss = shapley.pss(self.plan, decisions, c.together)
        targets = {
            "zero_pss": pss <= c.threshold,
            "all": torch.ones_like(pss, dtype=torch.bool),
            "none": None,
        }[c.enhancement]
        fused, raw = self.net.run(batch, batch.features, pss, targets, c.fusion)
        return Told(fused, raw, pss, decisions)

    def forward(self, batch: Batch) -> Fused:
        """The prediction, without any label."""
        return self.told(batch).fused

    def loss(self, batch: Batch) -> Tensor:
        """L_task + lambda L_distillation (Eq. 13)."""
        outcome = self.told(batch)
        loss = self.fused_loss(batch, outcome.fused)
        if not self.config.weight:
            return loss
        values = shapley.pas(
            self.plan, outcome.decided, shapley.truths(self.task, batch.labels, self.config.rule)
        )
        return loss + self.config.weight * distillation(outcome.raw, values, self.config.target)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Fill the memory where the training data have changed.

        Returns:
            Over the training data, (M,) each: mean PSS and PAS, and the share of samples in which PSS is 0.
        """
        if not self.config.cache:
            return {}
        batches, self.remembers = peek.train(), True
        index = RowIndex(batches)
        if not self.memory.knows(index):
            self.memory.train = torch.cat([self.look(b) for b in batches], dim=1)
        self.memory.index = index
        truth = shapley.truths(self.task, torch.cat([b.labels for b in batches]), self.config.rule)
        pss = shapley.pss(self.plan, self.memory.train, self.config.together)
        return {
            "pss": pss.mean(dim=0),
            "pas": shapley.pas(self.plan, self.memory.train, truth).mean(dim=0),
            "without_pss": (pss == 0).float().mean(dim=0),
        }

    def end_training(self, peek: Peek) -> dict[str, Tensor]:
        """Forget what is remembered of the data."""
        self.memory, self.remembers = Memory(), False
        return {}


def distillation(raw: Tensor, values: Tensor, target: str) -> Tensor:
    """KL(q || p), p = softmax(raw), mean over samples (Eq. 12, B5); raw (n, M), values (n, M) PAS.

    q is softmax(PAS), or ``clipped``: PAS's positive part over its sum, the mean over samples that have one.
    """
    log_p = raw.log_softmax(dim=1)
    if target == "softmax":
        log_q = values.log_softmax(dim=1)
        return (log_q.exp() * (log_q - log_p)).sum(dim=1).mean()
    positive = values.clamp(min=0)
    total = positive.sum(dim=1, keepdim=True)
    q = positive / total.clamp(min=torch.finfo(values.dtype).tiny)
    counts = total[:, 0] > 0
    each = (torch.xlogy(q, q) - q * log_p).sum(dim=1)
    return torch.where(counts, each, 0).sum() / counts.sum().clamp(min=1)
