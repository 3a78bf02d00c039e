"""EBMC: enhance, then balance (ledger 3). This is the second stage; ``enhance`` is the first, a run of its own.

It trains the fusion, pulls the modalities' energies together (EMC) and follows the first stage's frozen predictors,
each as far as it can be trusted (IMTD). Eq. 17 adds it all up. The equations are in ``disentangle`` (1-7) and
``energy`` (8-16), the released code's in ``ebmc_released``; neither parts nor rebuilt features enter the prediction
(E10).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmlib.backbones.momke import MoMKE
from mmlib.errors import InputError
from mmlib.methods import ebmc_released, energy
from mmlib.methods.disentangle import Components, Parts
from mmlib.methods.enhance import RELEASED, EbmcConfig, Enhance
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import each_loss, logit_residual
from mmlib.nn.sums import mean_where

VARIANTS: dict[str, EbmcConfig] = {
    "paper": EbmcConfig(),
    "no_msd": EbmcConfig(msd="none"),
    "no_cce": EbmcConfig(cce="none"),
    "no_emc": EbmcConfig(emc="none"),
    "no_imtd": EbmcConfig(imtd="none"),
    "no_parts": EbmcConfig(msd="none", cce="none", emc="none", imtd="none"),
    "no_norm": EbmcConfig(norm=0.0),
    "no_loss": EbmcConfig(loss=0.0),
    "no_uncertainty": EbmcConfig(uncertainty=0.0),
    "no_penalty": EbmcConfig(delta=0.0),
    "signed": EbmcConfig(signed=True),
    "printed_kl": EbmcConfig(printed_kl=True),
    "squared": EbmcConfig(squared=True),
    "entropy": EbmcConfig(entropy=True),
    "teacher_drops": EbmcConfig(teacher_drops=True),
    "released_msd": EbmcConfig(msd="released", gaussian=False),
    "released_cce": EbmcConfig(cce="released", noise=0.0),
    "released_emc": EbmcConfig(emc="released"),
    "released_imtd": EbmcConfig(imtd="released"),
    "released": RELEASED,
}


class Ebmc(Enhance):
    """Stage II, Eq. 17: every expert for every modality, with the first stage as frozen teacher."""

    ROUTING = ("unnormalised", "softmax")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.teacher = Teacher(self.backbone, self.parts)
        self.taught = False

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A first stage's weights become the student's and the teacher's."""
        weights = dict(state_dict)
        if not any(name.startswith("teacher.") for name in weights):
            weights |= {f"teacher.{name}": value for name, value in state_dict.items()}
        self.taught = True
        return super().load_state_dict(weights, strict, assign)

    def train(self, mode: bool = True) -> Ebmc:
        """The teacher stays in evaluation mode, but where the released code forgets that (E8)."""
        super().train(mode)
        self.teacher.train(mode and self.config.teacher_drops)
        return self

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch, Eq. 17; l is the squared error for scores (C13).

        Raises:
            InputError: without a first stage's weights, whose predictors teach.
        """
        if not self.taught:
            raise InputError(
                "ebmc",
                "no first stage",
                "a run of the method enhance to start from",
                "Give that run as the parent, or load its weights.",
            )
        c, fused = self.config, self(batch)
        parts = self.parts(fused.z)
        total = self.fused_loss(batch, fused) + self.enhancing(batch, fused, parts)
        if c.emc == c.imtd == "none" and not self.keep_series:
            return total
        with torch.no_grad():
            taught = self.teacher(batch)
        if (
            c.emc != "none" or self.keep_series
        ):  # energies are recorded also where nothing balances them
            total = total + (c.gamma if c.emc != "none" else 0.0) * self.emc(
                batch, fused, parts, taught
            )
        return total if c.imtd == "none" else total + c.eta * self.imtd(batch, fused, taught)

    def still_right(self, batch: Batch, fused: Fused, made: Mapping[str, Tensor]) -> Tensor:
        """l(f(z~_m, z_-m), y) of Eq. 7: f is the fusion, with one modality rebuilt (C3)."""
        each = []
        for m in self.modalities:
            joined = torch.cat([made[o] if o == m else fused.z[o] for o in self.modalities], dim=1)
            logits = self.backbone.prediction(self.backbone.tail(joined))
            each.append(each_loss(self.task, logits, batch.labels))
        return mean_where(torch.stack(each), batch.observed.t()).mean()

    def emc(self, batch: Batch, fused: Fused, parts: Components, taught: Taught) -> Tensor:
        """L_EMC, Eq. 12, with its energies noted for the record."""
        c, seen, z = self.config, batch.observed, self.stacked(fused.z)
        weights, released, own = (
            (c.norm, c.loss, c.uncertainty),
            c.emc == "released",
            self.own_heads(c.emc),
        )
        predicted = self.stacked(self.backbone.alone(fused.z) if own else self.means(parts.logits))
        teachers = taught.own if own else taught.parts
        if released:
            terms = ebmc_released.energies(batch, self.task, z, predicted, teachers, weights)
        else:
            losses = torch.stack([each_loss(self.task, x, batch.labels) for x in predicted])
            uncertain = torch.stack([energy.entropy(self.task, t, self.gaussian) for t in teachers])
            terms = energy.energies(z, losses, uncertain, seen, weights)
        self.energy_terms = dict(zip(("norm", "loss", "uncertainty"), terms.detach(), strict=True))
        gap = energy.gap(terms.sum(dim=0), seen.any(dim=0))
        if not c.delta:
            return gap
        steep = (
            ebmc_released.steepness(batch, z, c.norm)
            if released
            else energy.steepness(
                z, self.pulled(batch, fused, parts, predicted), seen, c.norm, c.loss
            )
        )
        return gap + c.delta * steep

    def pulled(self, batch: Batch, fused: Fused, parts: Components, predicted: Tensor) -> Tensor:
        """(M, n, d): each utterance's gradient of l_m with respect to z_m, in closed form and differentiable."""
        gradients = []
        for i, m in enumerate(self.modalities):
            upstream = logit_residual(self.task, predicted[i], batch.labels)
            if self.own_heads():
                head = self.backbone.heads[m]
                assert isinstance(head, nn.Linear)
                gradients.append(upstream @ head.weight)
                continue
            if self.gaussian:
                upstream = torch.cat(
                    [upstream, torch.zeros_like(upstream)], dim=1
                )  # l_m reads the mean alone
            gradients.append(self.parts.pullback(m, fused.z[m], parts.raw[m], upstream))
        return torch.stack(gradients)

    def imtd(self, batch: Batch, fused: Fused, taught: Taught) -> Tensor:
        """L_IMTD, Eq. 16."""
        c, task = self.config, self.task
        teachers = taught.own if self.own_heads(c.imtd) else taught.parts
        if c.imtd == "released":
            return ebmc_released.distillation(
                batch, task, fused.logits, teachers, c.trust_temperature
            )
        use_entropy = c.entropy and not self.gaussian  # a density's may be below 0
        uncertainty = energy.entropy if use_entropy else energy.spread
        sigma = torch.stack([uncertainty(task, t, self.gaussian) for t in teachers])
        weights = energy.trust(sigma, batch.observed, c.squared)
        return energy.distillation(
            task,
            fused.logits,
            teachers[:, :, : task.outputs],
            weights,
            c.trust_temperature,
            c.printed_kl,
        )

    def series(self) -> dict[str, Tensor]:
        """The terms of the energies of the last step, each (M,)."""
        return self.energy_terms


class Taught(NamedTuple):
    """What a first stage says, (M, n, outputs) each: its parts' predictors T_m, and the modalities' own heads."""

    parts: Tensor
    own: Tensor


class Teacher(nn.Module):
    """A frozen copy of a first stage: each expert on its own modality, its parts, predictors and heads."""

    def __init__(self, backbone: MoMKE, parts: Parts) -> None:
        super().__init__()
        self.backbone, self.parts = copy.deepcopy(backbone), copy.deepcopy(parts)
        self.backbone.config = dataclasses.replace(backbone.config, routing="own")
        self.requires_grad_(False)
        self.eval()

    def forward(self, batch: Batch) -> Taught:
        """From what the batch shows (E9)."""
        z = self.backbone.encoded(batch, batch.features)
        parts, own = self.parts(z).logits, self.backbone.alone(z)
        return Taught(torch.stack([parts[m] for m in z]), torch.stack([own[m] for m in z]))
