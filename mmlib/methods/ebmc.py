"""EBMC: enhance, then balance (ledger 3). This is the second stage; ``enhance`` is the first, a run of its own.

It trains the fusion, pulls the modalities' energies together (EMC) and follows the first stage's frozen predictors,
each as far as it can be trusted (IMTD). Eq. 17 adds it all up. The equations are in ``disentangle`` (1-7) and
``energy`` (8-16); neither parts nor rebuilt features enter the prediction (E10).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmlib.backbones.momke import MoMKE
from mmlib.methods import disentangle, energy
from mmlib.methods.disentangle import Components, Parts
from mmlib.methods.enhance import RELEASED, EbmcConfig, Enhance
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import logit_residual
from mmlib.nn.sums import each_loss, mean_where

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
    "released_msd": EbmcConfig(msd="released"),
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

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """A first stage's weights become the student's and the teacher's."""
        known = dict(state_dict)
        if not any(name.startswith("teacher.") for name in known):
            known |= {f"teacher.{name}": value for name, value in state_dict.items()}
        return super().load_state_dict(known, strict, assign)

    def train(self, mode: bool = True) -> Ebmc:
        """The teacher stays in evaluation mode, but where the released code forgets that (E8)."""
        super().train(mode)
        self.teacher.train(mode and self.config.teacher_drops)
        return self

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch, Eq. 17; l is the squared error for scores (C13)."""
        c, fused = self.config, self(batch)
        parts = self.parts(fused.z)
        total = self.fused_loss(batch, fused) + self.enhancing(batch, fused, parts)
        if c.emc == c.imtd == "none" and not self.keep_series:
            return total
        with torch.no_grad():
            teachers = self.stacked(self.teacher(batch))
        if c.emc != "none" or self.keep_series:  # energies are recorded also where nothing balances them
            total = total + (c.gamma if c.emc != "none" else 0.0) * self.emc(batch, fused, parts, teachers)
        return total if c.imtd == "none" else total + c.eta * self.imtd(batch, fused, teachers)

    def still_right(self, batch: Batch, fused: Fused, made: Mapping[str, Tensor]) -> Tensor:
        """l(f(z~_m, z_-m), y) of Eq. 7: f is the fusion, with one modality rebuilt (C3)."""
        each = []
        for m in self.modalities:
            joined = torch.cat([made[o] if o == m else fused.z[o] for o in self.modalities], dim=1)
            logits = self.backbone.prediction(self.backbone.tail(joined))
            each.append(each_loss(self.task, logits, batch.labels))
        return mean_where(torch.stack(each), batch.observed.t()).mean()

    def emc(self, batch: Batch, fused: Fused, parts: Components, teachers: Tensor) -> Tensor:
        """L_EMC, Eq. 12, with its energies noted for the record; teachers are (M, n, outputs)."""
        c, seen, z = self.config, batch.observed, self.stacked(fused.z)
        predicted = self.stacked(self.means(parts.logits))
        if c.emc == "released":
            terms = self.released_terms(batch, z, predicted, teachers)
        else:
            losses = torch.stack([each_loss(self.task, x, batch.labels) for x in predicted])
            uncertain = torch.stack([energy.entropy(self.task, t, self.gaussian) for t in teachers])
            terms = energy.energies(z, losses, uncertain, seen, (c.norm, c.loss, c.uncertainty))
        self.told = dict(zip(("norm", "loss", "uncertainty"), terms.detach(), strict=True))
        found = energy.gap(terms.sum(dim=0), seen.any(dim=0))
        if not c.delta:
            return found
        steep = (energy.released_steepness(z, c.norm) if c.emc == "released" else
                 energy.steepness(z, self.pulled(batch, z, predicted), seen, c.norm, c.loss))
        return found + c.delta * steep

    def pulled(self, batch: Batch, z: Tensor, predicted: Tensor) -> Tensor:
        """(M, n, d): each utterance's gradient of l_m with respect to z_m, in closed form and differentiable."""
        found = []
        for i, m in enumerate(self.modalities):
            upstream = logit_residual(self.task, predicted[i], batch.labels)
            if self.gaussian:
                upstream = torch.cat([upstream, torch.zeros_like(upstream)], dim=1)  # l_m reads the mean alone
            found.append(self.parts.pullback(m, z[i], upstream))
        return torch.stack(found)

    def released_terms(self, batch: Batch, z: Tensor, predicted: Tensor, teachers: Tensor) -> Tensor:
        """(3, M): Eq. 8's terms as released, of dialogues' means (E14, E17), the teachers' spread in a batch (E18)."""
        c, task = self.config, self.task
        truth = disentangle.dialogue_mean(batch, batch.labels.reshape(len(batch), -1)[:, :1].float())
        mean = [disentangle.dialogue_mean(batch, x) for x in predicted]
        losses = torch.stack([energy.released_loss(task, x, truth) for x in mean])
        told = torch.stack([disentangle.dialogue_mean(batch, t[:, :task.outputs]) for t in teachers])
        uncertain = (told[:, :, 0].var(dim=1, unbiased=False) if task.kind == "score" else
                     torch.stack([energy.entropy(task, t).mean() for t in told]))
        terms = torch.stack([z.square().mean(dim=(1, 2)), losses, uncertain])
        return terms * terms.new_tensor((c.norm, c.loss, c.uncertainty))[:, None]

    def imtd(self, batch: Batch, fused: Fused, teachers: Tensor) -> Tensor:
        """L_IMTD, Eq. 16; teachers are (M, n, outputs)."""
        c, task, outputs = self.config, self.task, self.task.outputs
        if c.imtd == "released":
            if task.kind != "score":
                sigma = energy.released_trust(task, teachers)
                weights = energy.trust(sigma, torch.ones_like(batch.observed))
                found = energy.distillation(task, fused.logits, teachers, weights, c.trust_temperature)
            else:
                means = torch.stack([disentangle.dialogue_mean(batch, t[:, :1]) for t in teachers])
                weights = energy.trust(energy.released_trust(task, means),
                                       batch.observed.new_ones(means.shape[1], len(means)))
                student = disentangle.dialogue_mean(batch, fused.logits)
                found = energy.distillation(task, student, means, weights, c.trust_temperature)
            return found / len(teachers)
        of = energy.entropy if c.entropy and not self.gaussian else energy.spread  # a density's may be below 0
        sigma = torch.stack([of(task, t, self.gaussian) for t in teachers])
        weights = energy.trust(sigma, batch.observed, c.squared)
        return energy.distillation(task, fused.logits, teachers[:, :, :outputs], weights, c.trust_temperature,
                                   c.printed_kl)

    def series(self) -> dict[str, Tensor]:
        """The terms of the energies of the last step, each (M,)."""
        return self.told


class Teacher(nn.Module):
    """A frozen copy of a first stage: each expert on its own modality, its parts and predictors."""

    def __init__(self, backbone: MoMKE, parts: Parts) -> None:
        super().__init__()
        self.backbone, self.parts = copy.deepcopy(backbone), copy.deepcopy(parts)
        self.backbone.config = dataclasses.replace(backbone.config, routing="own")
        self.requires_grad_(False)
        self.eval()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """T_m's logits, modality to (n, outputs), from what the batch shows (E9)."""
        logits: dict[str, Tensor] = self.parts(self.backbone(batch, batch.features).z).logits
        return logits
