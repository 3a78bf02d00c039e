"""MCULoRA: low-rank adapters for every combination of modalities on a frozen, pre-trained network (ledger 4).

MCLA puts adapters on the map R^m = W^m x^m that ends each modality's encoder (Eq. 2 as read in F1 and F2; the paper
adapts "the unimodal representation", so its encoder stays as pre-training left it). The shared adapter is added to
W^m, a private one per combination stands alone; both go through the pre-trained fusion, and their predictions are
mixed. DPFT changes how often each combination is trained (``methods/dpft.py``). Rows of ledger 4.2 and 4.3 name the
readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.masks.modality_patterns import combinations
from mmlib.methods import dpft
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.metrics import curve_metrics
from mmlib.nn.backbone import Fused, Staged
from mmlib.nn.batch import Batch, hide
from mmlib.nn.lora import Adapters

RULES = ("fixed", "dpft", "first_release", "test_accuracy")
SPLITS = ("train", "valid", "test")
SMALL = 1e-6  # a norm under which a direction counts as none (F3, G11)


@dataclass(frozen=True)
class McuLoraConfig(PlainConfig):
    """What is adapted, the losses and the rule of the shares.

    mcla: adapters; without them the whole network trains (Table 2). freeze: the pre-trained weights stay (G4).
    rank, scale, adapter_dropout: of the adapters. beta: weight of L_ort. ort: ``printed`` Eq. 3 or, as ``read``, with
    a square and 1 - cos (F3). mix: Eq. 4's weighted sum, or the released sum of both predictions (G10).
    rule: of the shares; ``fixed`` keeps them equal. measure: the split that it looks at (F9). size: lambda of Eq. 10,
    which the paper does not give. low, high: bounds of the shares in parts of 1 / K (F13). signed: rank by the signed
    change (F11). step, least, most: of the first release's rule (G5; for scores the code has 0.003, 0.4 and 0.6).
    probe: record the cosines between the combinations' gradients on the shared weights.
    """

    mcla: bool = True
    freeze: bool = True
    rank: int = 4
    scale: float = 1.0
    adapter_dropout: float = 0.1
    beta: float = 1e-3
    ort: str = "printed"
    mix: str = "weighted"
    rule: str = "dpft"
    measure: str = "train"
    size: float = 0.1
    low: float = 0.9
    high: float = 1.1
    signed: bool = False
    step: float = 0.003
    least: float = 0.4
    most: float = 0.6
    probe: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (
            ("ort", ("printed", "read")),
            ("mix", ("weighted", "sum")),
            ("rule", RULES),
            ("measure", SPLITS),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(f"mculora {name}", getattr(self, name), known)
        for name, least in (("rank", 1), ("scale", 0), ("beta", 0), ("size", 0), ("step", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(
                    f"mculora {name}", str(getattr(self, name)), f"{least} or more", "Correct it."
                )
        if not 0 <= self.low <= 1 <= self.high < math.inf:
            raise InputError(
                "mculora low, high",
                f"{self.low}, {self.high}",
                "low of 0 to 1, high of 1 or more",
                "Equal shares must lie between them.",
            )
        if not 0 < self.least <= self.most < 1:
            raise InputError(
                "mculora least, most",
                f"{self.least}, {self.most}",
                "0 to 1, in order",
                "Swap them.",
            )


VARIANTS: dict[str, McuLoraConfig] = {
    "paper": McuLoraConfig(),
    "orthogonal": McuLoraConfig(ort="read"),
    "no_ort": McuLoraConfig(beta=0.0),
    "fixed": McuLoraConfig(rule="fixed"),
    "no_mcla": McuLoraConfig(mcla=False),
    "neither": McuLoraConfig(mcla=False, rule="fixed"),
    "signed": McuLoraConfig(signed=True),
    "valid": McuLoraConfig(measure="valid"),
    "first_release": McuLoraConfig(rule="first_release"),
    "unfrozen": McuLoraConfig(freeze=False),
    "leaking_test_inputs": McuLoraConfig(
        measure="test"
    ),  # Eq. 9 as printed: measured on the test set (F9)
    "leaking_first_release": McuLoraConfig(rule="first_release", measure="test"),  # G5
    "leaking_test_accuracy": McuLoraConfig(
        rule="test_accuracy"
    ),  # G1: the test labels steer training
    "leaking_released": McuLoraConfig(
        rule="test_accuracy", freeze=False, beta=0.0, mix="sum"
    ),  # G1, G4, G9, G10
}


class Parts(NamedTuple):
    """What MCLA makes of a batch.

    given, common, private: modality to (n, d): R^m, R_com^m and R_prt^m. fused: of the mixed prediction.
    """

    given: dict[str, Tensor]
    common: dict[str, Tensor]
    private: dict[str, Tensor]
    fused: Fused


class McuLora(Plain):
    """The method over a backbone in stages (crossmodal), started from its pre-trained weights.

    patterns: (K, M) the combinations. chances: (K,) their shares in the epoch to come.
    """

    Config = McuLoraConfig
    config: McuLoraConfig
    patterns: Tensor

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        if not isinstance(self.backbone, Staged):
            raise InputError(
                "mculora",
                f"the backbone {type(self.backbone).__name__}",
                "one in stages, between which adapters can be put",
                "Use crossmodal.",
            )
        c = self.config
        patterns = combinations(len(self.modalities))
        self.leaks = c.rule == "test_accuracy" or c.rule != "fixed" and c.measure == "test"
        self.register_buffer("patterns", torch.from_numpy(patterns), persistent=False)
        self.chances = np.full(len(patterns), 1 / len(patterns))
        self.keep = np.full(len(self.modalities), (c.least + c.most) / 2)
        self.before: np.ndarray | None = None
        if c.mcla:
            self._add_adapters(len(patterns))
            self.backbone.requires_grad_(not c.freeze)

    def _add_adapters(self, count: int) -> None:
        c, width = self.config, self.backbone.embedding_dim
        joined, outputs = len(self.modalities) * width, self.task.outputs
        self.shared = nn.ModuleDict(
            {
                m: Adapters(1, width, width, c.rank, c.scale, c.adapter_dropout)
                for m in self.modalities
            }
        )
        self.private = nn.ModuleDict(
            {
                m: Adapters(count, width, width, c.rank, c.scale, c.adapter_dropout)
                for m in self.modalities
            }
        )
        self.common_head = nn.Linear(joined, outputs)
        self.heads = nn.Linear(
            joined, count * outputs
        )  # F^i of every combination, one after the other
        self.weigh = nn.Sequential(nn.Linear(joined, width), nn.ReLU(), nn.Linear(width, 1))  # F5

    @property
    def net(self) -> Staged:
        """The backbone."""
        assert isinstance(self.backbone, Staged)
        return self.backbone

    def forward(self, batch: Batch) -> Fused:
        """The mixed prediction y_last, or the network's own without MCLA."""
        return self.parts(batch).fused if self.config.mcla else super().forward(batch)

    def parts(self, batch: Batch) -> Parts:
        """Eqs 2 and 4. Each utterance takes the adapters and the head of its own combination."""
        encoded = self.net.represent(batch, batch.features)
        chosen = self.chosen(batch.observed)
        given = {m: self.net.outputs[m](encoded[m]) for m in self.modalities}
        common = {m: given[m] + self.shared[m](encoded[m]) for m in self.modalities}
        private = {
            m: self.private[m](encoded[m], chosen) * batch.observed[:, i, None]
            for i, m in enumerate(self.modalities)
        }
        z, hidden = self.net.fuse(batch, common)
        own = self.net.fuse(batch, private)[1]
        heads = self.heads(own).unflatten(1, (len(self.patterns), -1))
        logits = self.mixed(
            self.common_head(hidden), (heads * chosen[:, :, None]).sum(dim=1), private
        )
        return Parts(given, common, private, Fused(z, hidden, logits))

    def mixed(self, common: Tensor, own: Tensor, private: dict[str, Tensor]) -> Tensor:
        """y_last = (1 - w) y_com + w y^ (Eq. 4, heads as in F4), w a sigmoid for each utterance (F5)."""
        if self.config.mix == "sum":
            return common + own
        weight = self.weigh(torch.cat([private[m] for m in self.modalities], dim=1)).sigmoid()
        return (1 - weight) * common + weight * own

    def chosen(self, observed: Tensor) -> Tensor:
        """(n, M) -> (n, K) float: 1 at the utterance's combination."""
        places = 2 ** torch.arange(len(self.modalities) - 1, -1, -1, device=observed.device)
        number = (observed * places).sum(dim=1) - 1
        return F.one_hot(number.clamp(min=0), len(self.patterns)).to(torch.float32)

    def loss(self, batch: Batch) -> Tensor:
        """L_task + beta L_ort (Eqs 5-7; F6: cross-entropy, or squared error for scores)."""
        if not self.config.mcla:
            return super().loss(batch)
        parts = self.parts(batch)
        loss = self.fused_loss(batch, parts.fused)
        return (
            loss + self.config.beta * self.orthogonality(parts, batch.observed)
            if self.config.beta
            else loss
        )

    def orthogonality(self, parts: Parts, observed: Tensor) -> Tensor:
        """L_ort (Eq. 3), summed over the modalities at hand (F3), mean over utterances."""
        terms = []
        for index, m in enumerate(self.modalities):
            to_private = cosine(parts.common[m], parts.private[m])
            to_given = cosine(parts.common[m], parts.given[m])
            term = (
                to_private.square() + (1 - to_given)
                if self.config.ort == "read"
                else to_private - to_given
            )
            terms.append(term * observed[:, index])
        return torch.stack(terms).sum(dim=0).mean()

    def clipped(self) -> list[nn.Parameter]:
        """All that trains."""
        return [p for p in self.parameters() if p.requires_grad]

    def shares(self) -> np.ndarray | None:
        """The combinations' shares in the epoch to come."""
        return None if self.config.rule == "fixed" else self.chances

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Before the first epoch the heads start from the pre-trained one; before every epoch the shares change.

        Returns:
            shares and measured (the rule's statistic), (K,) each; with ``probe`` a row of cosines (K,) for each
            combination; with MCLA the cosines of L_ort, (2,).
        """
        if peek.epoch == 0 and self.config.mcla:
            with torch.no_grad():
                for name, value in self.backbone.prediction.named_parameters():
                    self.common_head.get_parameter(name).copy_(value)
                    self.heads.get_parameter(name).copy_(torch.cat([value] * len(self.patterns)))
        self.eval()
        cosines = self.probed(peek)
        if self.config.rule == "fixed":
            return cosines
        measured = (
            self.accuracies(peek) if self.config.rule == "test_accuracy" else self.separation(peek)
        )
        self.change_shares(measured)
        return {
            "shares": torch.from_numpy(self.chances),
            "measured": torch.from_numpy(measured),
            **cosines,
        }

    def change_shares(self, measured: np.ndarray) -> None:
        """One step of the rule, from its statistic (K,); s_0 = 0 (Eq. 9), but the first release's is the first one."""
        c, patterns = self.config, self.patterns.cpu().numpy()
        if c.rule == "first_release":
            if self.before is None:
                self.before = measured
                return
            self.keep = dpft.first_release(
                self.keep, measured - self.before, patterns, c.step, c.least, c.most
            )
            self.chances = dpft.kept(self.keep, patterns)
            return
        before = np.zeros_like(measured) if self.before is None else self.before
        if c.rule == "test_accuracy":
            self.chances = dpft.from_test_accuracies(before, measured)
        else:
            moved = dpft.adjusted(self.chances, measured - before, c.size, c.signed)
            self.chances = dpft.bounded(moved, c.low, c.high)
        self.before = measured

    @torch.no_grad()
    def separation(self, peek: Peek) -> np.ndarray:
        """s^i (Eq. 8), (K,): JS of private and common features, mean over the utterances that have the modality, then
        over the combination's modalities.

        Without adapters there are no such features; then of what the prediction reads under a combination and with
        all modalities, mean over utterances (our own reading).
        """
        total = torch.zeros(self.patterns.shape, device=self.patterns.device, dtype=torch.float64)
        counts = torch.zeros(len(self.modalities), device=self.patterns.device, dtype=torch.float64)
        for batch in peek.whole(self.config.measure):
            if self.config.mcla:
                total += self.apart(batch)
                counts += batch.observed.sum(dim=0)
            else:
                full = super().forward(batch).hidden
                parts = [
                    super(McuLora, self).forward(hide(batch, pattern)).hidden
                    for pattern in self.patterns
                ]
                total += torch.stack([dpft.decoupling(part, full).sum() for part in parts])[:, None]
                counts += len(batch)
        inside = self.patterns.double()
        means: np.ndarray = (
            ((total / counts.clamp(min=1) * inside).sum(dim=1) / inside.sum(dim=1)).cpu().numpy()
        )
        return means

    def apart(self, batch: Batch) -> Tensor:
        """Eq. 8 summed over a batch's utterances that have the modality, (K, M), for every adapter of each modality."""
        encoded = self.net.represent(batch, batch.features)
        sums = []
        for index, m in enumerate(self.modalities):
            adapters = self.private[m]
            assert isinstance(adapters, Adapters)
            common = self.net.outputs[m](encoded[m]) + self.shared[m](encoded[m])
            each = dpft.decoupling(adapters.every(encoded[m]), common[:, None])
            sums.append((each * batch.observed[:, index, None]).sum(dim=0))
        return torch.stack(sums, dim=1)

    @torch.no_grad()
    def accuracies(self, peek: Peek) -> np.ndarray:
        """Test accuracy under each combination (K,), in parts of 1: what the released rule (G1) leaks into training."""
        accuracies = []
        for pattern in self.patterns:
            batches = peek.whole("test")
            outputs = (
                torch.cat([self(hide(batch, pattern)).logits for batch in batches]).cpu().numpy()
            )
            truth = torch.cat([batch.labels for batch in batches]).cpu().numpy()
            accuracies.append(curve_metrics(self.task, outputs, truth)["accuracy"] / 100)
        return np.array(accuracies)

    def probed(self, peek: Peek) -> dict[str, Tensor]:
        """Cosines between the combinations' gradients on the shared maps, of the training loss on its first batch.

        Each is taken over the maps W^m that both combinations use, on the weights W^m + B A of the shared branch; NaN
        where they use none in common. With MCLA also the mean cosines of L_ort: common to private, common to given.
        """
        if not self.config.probe:
            return {}
        batch = peek.whole("train")[0]
        gradients = torch.stack(
            [self.gradient(hide(batch, p)) for p in self.patterns]
        )  # (K, M, d d)
        both = (self.patterns[:, None] & self.patterns).to(gradients.dtype)
        dots, norms = (
            torch.einsum("imd,jmd->ijm", gradients, gradients),
            gradients.square().sum(dim=2),
        )
        first, second = (
            torch.einsum("im,ijm->ij", norms, both),
            torch.einsum("jm,ijm->ij", norms, both),
        )
        cosines = (dots * both).sum(dim=2) / (first * second).sqrt()
        conflicts = {f"conflict.{i}": row for i, row in enumerate(cosines)}
        return {**conflicts, "angles": self.angles(batch)} if self.config.mcla else conflicts

    def gradient(self, batch: Batch) -> Tensor:
        """d L_task / d W^m for every modality, flat, (M, d d)."""
        weights = [self.net.outputs[m].get_parameter("weight") for m in self.modalities]
        trains = [w.requires_grad for w in weights]
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            loss = self.task_loss(self(batch).logits, batch.labels)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, was in zip(weights, trains, strict=True):
            weight.requires_grad_(was)
        return torch.stack(
            [
                torch.zeros_like(w).flatten() if g is None else g.flatten()
                for w, g in zip(weights, gradients, strict=True)
            ]
        )

    @torch.no_grad()
    def angles(self, batch: Batch) -> Tensor:
        """(2,): mean over utterances, modalities and combinations of cos(R_com, R_prt) and cos(R_com, R)."""
        cosines = []
        for pattern in self.patterns:
            parts = self.parts(hide(batch, pattern))
            for index, m in enumerate(self.modalities):
                if pattern[index]:
                    to_private = cosine(parts.common[m], parts.private[m]).mean()
                    to_given = cosine(parts.common[m], parts.given[m]).mean()
                    cosines.append(torch.stack([to_private, to_given]))
        return torch.stack(cosines).mean(dim=0)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """(n, d) and (n, d) -> (n,); 0, without gradient, where either norm is under ``SMALL`` (ledger 8, F3)."""
    lengths = first.square().sum(dim=1), second.square().sum(dim=1)
    real = (lengths[0] > SMALL**2) & (lengths[1] > SMALL**2)
    product = torch.where(real, lengths[0] * lengths[1], 1.0)
    return torch.where(real, (first * second).sum(dim=1), 0.0) / product.sqrt()
