"""EBMC's first stage: every modality by itself, divided (MSD) and rebuilt from what the others know (CCE).

Ledger 3; the equations are in ``disentangle``. The second stage, ``ebmc``, starts from a run of this one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmlib.backbones.momke import MoMKE
from mmlib.errors import InputError, unknown_name
from mmlib.methods import disentangle, ebmc_released
from mmlib.methods.disentangle import Components, Parts
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where

WAYS = ("paper", "released", "none")


@dataclass(frozen=True)
class EbmcConfig(PlainConfig):
    """Which way each component goes, and the weights of the equations.

    msd, cce, emc, imtd: ``paper`` as read in the ledger, ``released``, or ``none`` (Table 4; without MSD the
    predictors read z_m itself and train on, since EMC and IMTD need them).
    zeta, beta, gamma, eta: Eq. 17. lambda1, lambda2: Eq. 5. temperature: of Eq. 2 (C1); trust_temperature: of Eq. 16,
    which the paper does not give. norm, loss, uncertainty: alpha, beta, gamma of Eq. 8; delta: Eq. 12 (C4).
    noise: standard deviation of Eq. 6's perturbation, a guess. gaussian: predictors of scores give a variance (C9).
    signed: Eq. 3 as printed, a sum of signed cosines over ordered pairs (C2). printed_kl: Eq. 16's direction as printed
    (C11). squared: sigma squared in Eq. 14 (C10). entropy: sigma is the entropy instead (C9). teacher_drops: the
    teacher drops out while it teaches (E8). continues: the optimizer goes on from the first stage's state (E21).
    """

    msd: str = "paper"
    cce: str = "paper"
    emc: str = "paper"
    imtd: str = "paper"
    zeta: float = 0.5
    beta: float = 0.1
    gamma: float = 0.1
    eta: float = 0.1
    lambda1: float = 0.1
    lambda2: float = 0.1
    temperature: float = 0.05
    trust_temperature: float = 1.0
    norm: float = 1.0
    loss: float = 1.0
    uncertainty: float = 1.0
    delta: float = 0.01
    noise: float = 0.1
    gaussian: bool = True
    signed: bool = False
    printed_kl: bool = False
    squared: bool = False
    entropy: bool = False
    teacher_drops: bool = False
    continues: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.focal or self.class_weights != "none":
            raise InputError(
                "ebmc focal, class_weights",
                f"{self.focal:g}, {self.class_weights}",
                "0 and none",
                "Leave them out: not all of EBMC's losses could follow.",
            )
        for name in ("msd", "cce", "emc", "imtd"):
            if getattr(self, name) not in WAYS:
                raise unknown_name(f"ebmc {name}", getattr(self, name), WAYS)
        for name in (
            "zeta",
            "beta",
            "gamma",
            "eta",
            "lambda1",
            "lambda2",
            "norm",
            "loss",
            "uncertainty",
            "delta",
            "noise",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"ebmc {name}", str(getattr(self, name)), "0 or more", "Correct it."
                )
        if not (0 < self.temperature < math.inf and 0 < self.trust_temperature < math.inf):
            raise InputError(
                "ebmc temperature",
                f"{self.temperature}, {self.trust_temperature}",
                "above 0",
                "Raise it.",
            )


RELEASED = EbmcConfig(
    msd="released",
    cce="released",
    emc="released",
    imtd="released",
    lambda1=1.0,
    noise=0.0,
    gaussian=False,
    teacher_drops=True,
    continues=True,
)
VARIANTS: dict[str, EbmcConfig] = {
    "paper": EbmcConfig(),
    "no_msd": EbmcConfig(msd="none"),
    "no_cce": EbmcConfig(cce="none"),
    "signed": EbmcConfig(signed=True),
    "released_msd": EbmcConfig(msd="released", gaussian=False),
    "released_cce": EbmcConfig(cce="released", noise=0.0),
    "released": dataclasses.replace(
        RELEASED, lambda2=1.0, continues=False
    ),  # E15: lambda2 falls in the second stage
}


class Enhance(Plain):
    """Stage I: the modalities' own task losses, MSD and CCE, on MoMKE's experts, each for its own modality."""

    Config = EbmcConfig
    config: EbmcConfig
    backbone: MoMKE
    ROUTING: tuple[str, ...] = ("own",)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if not isinstance(self.backbone, MoMKE) or self.backbone.config.routing not in self.ROUTING:
            routing = getattr(getattr(self.backbone, "config", None), "routing", "none")
            raise InputError(
                "ebmc",
                f"the backbone {type(self.backbone).__name__}, routing {routing}",
                f"momke with routing {' or '.join(self.ROUTING)}",
                "Give it in backbone_options.",
            )
        c = self.config
        if self.task.kind == "binaries" and "released" in (c.msd, c.emc, c.imtd):
            raise InputError(
                "ebmc",
                "a released component on yes-or-no questions",
                "classes or a score",
                "The released code has no such task: take the variant paper.",
            )
        self.continues = c.continues
        self.gaussian = c.gaussian and self.task.kind == "score" and c.msd != "released"
        self.parts = Parts(
            self.modalities,
            self.backbone.embedding_dim,
            self.task.outputs,
            gaussian=self.gaussian,
            shared_generator=c.cce == "released",
            divided=c.msd != "none",
        )
        self.energy_terms: dict[str, Tensor] = {}

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of the first stage: the task losses of the modalities' own heads, and both components."""
        fused = self(batch)
        own = torch.stack(
            [each_loss(self.task, x, batch.labels) for x in self.backbone.unimodal(fused).values()]
        )
        return mean_where(own, batch.observed.t()).sum() + self.enhancing(
            batch, fused, self.parts(fused.z)
        )

    def enhancing(self, batch: Batch, fused: Fused, parts: Components) -> Tensor:
        """zeta L_MSD + beta L_CCE."""
        c = self.config
        msd = c.zeta * self.msd(batch, parts)
        return msd if c.cce == "none" else msd + c.beta * self.cce(batch, fused, parts)

    def msd(self, batch: Batch, parts: Components) -> Tensor:
        """L_MSD, Eq. 5."""
        c, seen = self.config, batch.observed
        common, specific = self.stacked(parts.common), self.stacked(parts.specific)
        if c.msd == "released":
            inv, dis = ebmc_released.msd(batch, common, specific, c.temperature)
            uni = ebmc_released.predictors_loss(batch, self.task, self.stacked(parts.logits))
            return inv + c.lambda1 * dis + c.lambda2 * uni
        uni = disentangle.predictors_loss(
            self.task, parts.logits, batch.labels, seen, self.gaussian
        )
        if c.msd == "none":
            return c.lambda2 * uni
        inv, dis = (
            disentangle.alignment(common, seen, c.temperature),
            disentangle.overlap(specific, seen, c.signed),
        )
        return inv + c.lambda1 * dis + c.lambda2 * uni

    def cce(self, batch: Batch, fused: Fused, parts: Components) -> Tensor:
        """L_CCE, Eq. 7 with its gamma at 1 (C3) and the squared norm divided by d (C23); as released, the distance of
        predictions in place of a loss (E16).
        """
        made = self.parts.generate(parts, batch.observed, self.config.noise)
        rebuilt = disentangle.reconstruction(
            self.stacked(fused.z), self.stacked(made), batch.observed
        )
        if self.config.cce == "released":
            gaps = self.stacked(self.backbone.alone(fused.z)) - self.stacked(
                self.backbone.alone(made)
            )
            return rebuilt + mean_where(gaps.abs().mean(dim=2), batch.observed.t()).mean()
        return rebuilt + self.still_right(batch, fused, made)

    def still_right(self, batch: Batch, fused: Fused, made: Mapping[str, Tensor]) -> Tensor:
        """l(f(z~_m, z_-m), y) of Eq. 7 before there is a fusion: f is T_m (C3)."""
        if self.own_heads():
            logits = self.backbone.alone(made)
        else:
            logits = {m: self.parts.heads[m](x) for m, x in made.items()}
        return disentangle.predictors_loss(
            self.task, logits, batch.labels, batch.observed, self.gaussian
        )

    def own_heads(self, way: str = "paper") -> bool:
        """Whether a component follows the first stage's own heads in place of MSD's predictors T_m.

        As released MSD's predictors serve MSD alone, and for emotions nothing trains them (E13).
        """
        return "released" in (way, self.config.msd)

    def means(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions without their variances, modality to (n, C)."""
        return {m: x[:, : self.task.outputs] for m, x in logits.items()}

    def stacked(self, values: Mapping[str, Tensor]) -> Tensor:
        """(M, n, d), modalities in alphabetical order."""
        return torch.stack([values[m] for m in self.modalities])

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own prediction."""
        return (
            self.backbone.alone(fused.z)
            if self.own_heads()
            else self.means(self.parts(fused.z).logits)
        )

    def clipped(self) -> Iterable[nn.Parameter]:
        """All that trains."""
        return [p for p in self.parameters() if p.requires_grad]
