"""BALM: balanced agnostic learning under imbalanced missing rates (CVPR 2026).

A feature calibration module (FCM, Eqs 7-10) rescales each modality's features by a gate that a
dialogue's available features decide. A gradient rebalancing module (GRM, Eqs 16-27) trains one
small head per modality, scales the task loss's gradient of each encoder by how fast its head's
prediction nears the fused one, and adds a loss on the cosine between the heads' and the fused prediction's gradients.
The backbone stays as it is. Every reading of an ambiguity and every departure of the released code
is a field of ``BalmConfig`` that names its ledger row; ``VARIANTS`` holds the named combinations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.errors import InputError, unknown_name
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import log_distribution

EPSILON = 1e-8
IN_LOSS = ("gradients", "aligned", "constant")  # spatial parts that are a term of this step's loss
WITH_GRADIENT = ("gradients", "aligned")  # those that reach the encoders
_CHOICES = {
    "gate": ("one-plus", "double"),
    "descriptor": ("dialogue", "batch"),
    "discrepancy": ("uni-multi", "multi-uni", "mse"),
    "scaled": ("task", "whole"),
    "coefficients": ("raw", "guarded", "ema"),
    "spatial": ("off", "gradients", "weights", "constant", "aligned"),
    "reduction": ("sum-rho", "mean"),
    "pairing": ("matched", "shifted"),
}


@dataclass(frozen=True)
class BalmConfig(PlainConfig):
    """Every switch of BALM.

    tau, rho: weight of L_mod (Eq. 27) and intensity of the coefficients (Eq. 21); A20.
    fcm: calibrate features. gate: ``one-plus`` is 1 + sigmoid (Eq. 10), ``double`` is 2 sigmoid (A5, D7).
    descriptor: Eq. 7 averages over each ``dialogue`` (A4, D8) or over the ``batch``.
    distribution: scale encoder gradients by mu (Eq. 22; A9, A10, A11).
    scaled: the gradient of the ``task`` loss alone, as Eq. 22 prints, to which that of tau L_mod is added; or the
        ``whole`` encoder gradient, as the released code does, where L_mod reaches no encoder (A9).
    discrepancy: KL(unimodal || fused) as Eq. 19 prints, ``multi-uni`` as released (A6, D9), or ``mse`` (BALM-M).
    coefficients: ``raw`` (A8, D10), ``guarded`` clips c to [0, 2], ``ema`` smooths D^m over steps (A7); both ours.
    spatial: ``gradients`` is Eq. 26 differentiably in the same step (A12); ``weights`` is the released
        cosine of the weights themselves, one step late (D3, D4); ``constant`` reads Eq. 26 literally,
        as a number without gradient (A12); ``aligned`` changes the sign so that cosines rise (A13).
    reduction: L_mod as a sum with rho (paper) or a mean without (A14, D5).
    pairing: ``shifted`` multiplies each cosine by its neighbour's coefficient, as released (D25).
    noise: add Gaussian noise of the modulated gradient's own deviation (D6).
    """

    tau: float = 0.4
    rho: float = 1.4
    fcm: bool = True
    gate: str = "one-plus"
    descriptor: str = "dialogue"
    distribution: bool = True
    scaled: str = "task"
    discrepancy: str = "uni-multi"
    coefficients: str = "raw"
    spatial: str = "gradients"
    reduction: str = "sum-rho"
    pairing: str = "matched"
    noise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(f"balm {name}", getattr(self, name), known)
        for name in ("tau", "rho"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"balm {name}",
                    str(getattr(self, name)),
                    "0 or more",
                    "The paper uses 0.1 to 1.8.",
                )


PAPER = BalmConfig()
RELEASED = BalmConfig(
    gate="double",
    scaled="whole",
    discrepancy="multi-uni",
    spatial="weights",
    reduction="mean",
    pairing="shifted",
    noise=True,
)
VARIANTS: dict[str, BalmConfig] = {
    "paper": PAPER,
    "released": RELEASED,
    "fcm": dataclasses.replace(PAPER, distribution=False, spatial="off"),
    "d": dataclasses.replace(PAPER, spatial="off"),
    "s": dataclasses.replace(PAPER, distribution=False),
    "m": dataclasses.replace(PAPER, discrepancy="mse"),
    "constant": dataclasses.replace(PAPER, spatial="constant"),
    "guarded": dataclasses.replace(PAPER, coefficients="guarded"),
    "ema": dataclasses.replace(PAPER, coefficients="ema"),
    "aligned": dataclasses.replace(PAPER, spatial="aligned"),
    "probe": dataclasses.replace(PAPER, fcm=False, distribution=False, spatial="off"),
}


class FeatureCalibration(nn.Module):
    """FCM, Eqs 7-10: from a dialogue's available features to one gate per modality and coordinate."""

    def __init__(self, dims: Mapping[str, int], gate: str, descriptor: str) -> None:
        super().__init__()
        self.modalities, self.gate, self.descriptor = tuple(sorted(dims)), gate, descriptor
        total = sum(dims.values())
        width = max(1, total // 4)  # d_global, Table 6
        self.context = nn.Linear(total, width)
        self.calibrate = nn.ModuleDict({m: nn.Linear(width, dims[m]) for m in self.modalities})

    def descriptors(self, batch: Batch) -> Tensor:
        """x_glob of Eq. 7, all modalities side by side: (dialogues, sum of d_m).

        The mean over the utterances in which the modality is observed; zero where there are none.
        """
        member = batch.layout.membership  # (B, n)
        if self.descriptor == "batch":
            member = torch.ones_like(member)
        counts = member @ batch.observed.to(member.dtype)  # (B, M)
        sums = [member @ batch.features[m] for m in self.modalities]
        return torch.cat([s / (EPSILON + counts[:, i : i + 1]) for i, s in enumerate(sums)], dim=1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Calibrated features x_hat, modality to (n, d_m); what is missing stays zero."""
        context = F.relu(self.context(self.descriptors(batch)))  # Eq. 8
        calibrated = {}
        for modality in self.modalities:
            activation = torch.sigmoid(self.calibrate[modality](context))  # Eq. 9
            gate = 1 + activation if self.gate == "one-plus" else 2 * activation
            calibrated[modality] = (
                gate.index_select(0, batch.layout.dialogue) * batch.features[modality]
            )  # Eq. 10
        return calibrated


class UnimodalHead(nn.Module):
    """Eqs 16-17: two linear layers, the second of the same shape as the fused prediction layer."""

    def __init__(self, embedding: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(embedding, hidden)
        self.prediction = nn.Linear(hidden, outputs)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(n, d_emb) -> h^m (n, d_h) and logits (n, C)."""
        hidden = F.relu(self.map(z))
        return hidden, self.prediction(hidden)


def divergence(kind: str, uni: Tensor, multi: Tensor) -> Tensor:
    """D^m of Eq. 19 as a mean over the batch (A6: the sum gives the same coefficients).

    uni, multi: log-probabilities (n, K). ``mse`` compares probabilities (supplement F.5).
    """
    if kind == "mse":
        return (uni.exp() - multi.exp()).square().mean()
    first, second = (uni, multi) if kind == "uni-multi" else (multi, uni)
    return (first.exp() * (first - second)).sum(dim=1).mean()


def coefficients(progress: Tensor) -> Tensor:
    """c of Eq. 21 without rho: c_m = 1 - Delta_m / sum Delta, raw as released (A8, D10); progress (M,)."""
    return 1 - progress / (progress.sum() + EPSILON)


def prediction_gradient(hidden: Tensor, residual: Tensor) -> Tensor:
    """Eqs 23-24 in closed form (A12): the mean loss's gradient for the last layer's weight, (C, d_h)."""
    return residual.T @ hidden / len(hidden)


def cosine_slope(weight: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine of two matrices as vectors, and its gradient for the first."""
    norms = weight.norm() * other.norm()
    cosine = (weight * other).sum() / norms
    return cosine, other / norms - cosine * weight / weight.square().sum()


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """A loss's gradients of the parameters that it reaches; the graph stays, for a backward pass after it."""
    values = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {p: g for p, g in zip(parameters, values, strict=True) if g is not None}


def _add(gradients: Mapping[nn.Parameter, Tensor], sign: int) -> None:
    """Add gradients to those that the parameters have, or take them away again."""
    for parameter, gradient in gradients.items():
        assert parameter.grad is not None  # the loss has this gradient as a term
        parameter.grad.add_(gradient, alpha=sign)


class Balm(Plain):
    """BALM over any backbone that declares ``encoders``, ``prediction`` and ``embedding_dim``."""

    Config = BalmConfig
    config: BalmConfig
    previous: Tensor
    step: Tensor
    share: Tensor
    stale: Tensor

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: BalmConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        if len(dims) < 2 and config.distribution:
            raise InputError(
                "balm",
                "one modality",
                "two or more",
                "Eq. 21 would freeze it: take the variant 'fcm'.",
            )
        last = backbone.prediction
        self.fcm = FeatureCalibration(dims, config.gate, config.descriptor) if config.fcm else None
        self.heads = nn.ModuleDict(
            {
                m: UnimodalHead(backbone.embedding_dim, last.in_features, last.out_features)
                for m in self.modalities
            }
        )
        count = len(self.modalities)
        self.register_buffer("previous", torch.zeros(count), persistent=False)
        self.register_buffer("step", torch.zeros(()), persistent=False)
        self.register_buffer("share", torch.ones(count), persistent=False)
        self.register_buffer("stale", torch.zeros_like(last.weight), persistent=False)
        self._series: dict[str, Tensor] = {}
        self._spatial: dict[nn.Parameter, Tensor] = {}
        self._own = [p for name, p in self.named_parameters() if not name.startswith("heads.")]

    def forward(self, batch: Batch) -> Fused:
        """Calibrate (Eq. 10), then the backbone, unchanged (Eqs 11-13)."""
        features = self.fcm(batch) if self.fcm is not None else batch.features
        fused: Fused = self.backbone(batch, features)
        return fused

    def loss(self, batch: Batch) -> Tensor:
        """L_task + tau L_mod (Eq. 27) plus the heads' own losses (Eq. 18), which reach nothing else."""
        fused = self(batch)
        heads = {m: self.heads[m](fused.z[m].detach()) for m in self.modalities}
        self._spatial = {}
        loss = self.fused_loss(batch, fused)
        loss = loss + sum(self.task_loss(logits, batch.labels) for _, logits in heads.values())
        with torch.no_grad():
            distance = self._distance(fused.logits, heads)
            self.share = self._coefficients(distance)
        if self.config.spatial not in IN_LOSS and not self.keep_series:
            return loss
        cosines = self._gradient_cosines(fused, heads, batch.labels)
        if self.keep_series:
            self._series = {
                "kl": distance,
                "cosine": cosines.detach(),
                "mu": self.config.rho * self.share,
            }
        if self.config.spatial not in IN_LOSS:
            return loss
        spatial = self._spatial_loss(cosines)
        if self._splits and spatial.requires_grad:
            self._spatial = _gradients(spatial, self.backbone.encoder_parameters())
        return loss + spatial

    @property
    def _splits(self) -> bool:
        """Whether the encoders' gradients of the task loss and of tau L_mod are treated apart (A9)."""
        c = self.config
        return c.distribution and c.scaled == "task" and c.spatial in WITH_GRADIENT

    def after_backward(self) -> None:
        """Scale the encoders' gradients (Eq. 22), add noise where released (D6), keep L_mod's late gradient (D4).

        What is scaled is the gradient without that of tau L_mod, which is taken out before and put back after.
        """
        if self.config.spatial == "weights":
            self._add_stale_gradient()
        _add(self._spatial, -1)
        if self.keep_series:
            self._series["gradient_norm"] = torch.stack(
                [
                    torch.stack([g.norm() for g in self.backbone.encoder_gradients(m)]).norm()
                    for m in self.modalities
                ]
            )
        if self.config.distribution:
            self._scale()
        _add(self._spatial, 1)
        self._spatial = {}

    def _scale(self) -> None:
        mu = self.config.rho * self.share
        for index, modality in enumerate(self.modalities):
            gradients = self.backbone.encoder_gradients(modality)
            torch._foreach_mul_(gradients, mu[index])
            if self.config.noise:
                for gradient in gradients:
                    if gradient.numel() > 1:
                        gradient.add_(torch.randn_like(gradient) * (gradient.std() + EPSILON))

    def clipped(self) -> Iterable[nn.Parameter]:
        """All but the heads, which are their own networks (D11, D12)."""
        return self._own

    def series(self) -> dict[str, Tensor]:
        """kl, cosine, mu and gradient_norm of the last step, each (M,), modalities alphabetical.

        gradient_norm is that of what mu scales, before it does: an encoder's gradient of the task loss, or the whole.
        """
        return self._series

    def _distance(self, logits: Tensor, heads: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        multi = log_distribution(self.task, logits)
        return torch.stack(
            [
                divergence(self.config.discrepancy, log_distribution(self.task, heads[m][1]), multi)
                for m in self.modalities
            ]
        )

    def _coefficients(self, distance: Tensor) -> Tensor:
        """Eqs 20-21: progress since the last training step, D itself at the first one."""
        if not self.training:
            return self.share
        if self.config.coefficients == "ema":
            distance = torch.where(self.step == 0, distance, 0.9 * self.previous + 0.1 * distance)
        progress = torch.where(self.step == 0, distance, self.previous - distance)
        self.previous, self.step = distance, self.step + 1
        share = coefficients(progress)
        return share.clamp(0, 2) if self.config.coefficients == "guarded" else share

    def _gradient_cosines(
        self, fused: Fused, heads: Mapping[str, tuple[Tensor, Tensor]], labels: Tensor
    ) -> Tensor:
        """Eq. 25 for every modality, (M,); the heads' gradients are constants (A12)."""
        with torch.set_grad_enabled(
            self.config.spatial in WITH_GRADIENT and torch.is_grad_enabled()
        ):
            main = prediction_gradient(
                fused.hidden, self.task_loss.residual(fused.logits, labels)
            ).flatten()
            with torch.no_grad():
                own = torch.stack(
                    [
                        prediction_gradient(
                            hidden, self.task_loss.residual(logits, labels)
                        ).flatten()
                        for hidden, logits in (heads[m] for m in self.modalities)
                    ]
                )
            return F.cosine_similarity(own, main[None], dim=1)

    def _spatial_loss(self, cosines: Tensor) -> Tensor:
        """tau L_mod (Eq. 26)."""
        weight = self._loss_weights()
        terms = (cosines * weight).abs()
        if self.config.spatial == "aligned":
            terms = weight.abs() - weight * cosines
        return self.config.tau * (
            terms.sum() if self.config.reduction == "sum-rho" else terms.mean()
        )

    def _loss_weights(self) -> Tensor:
        weight = self.share.roll(1) if self.config.pairing == "shifted" else self.share
        return weight * self.config.rho if self.config.reduction == "sum-rho" else weight

    @torch.no_grad()
    def _add_stale_gradient(self) -> None:
        """D3, D4: add the last step's gradient of |c cos(weights)|, then compute this step's for the next."""
        last = self.backbone.prediction
        assert last.weight.grad is not None
        last.weight.grad.add_(self.stale, alpha=self.config.tau)
        slopes, weight = [], self._loss_weights()
        for index, modality in enumerate(self.modalities):
            cosine, slope = cosine_slope(
                last.weight, self.heads[modality].get_parameter("prediction.weight")
            )
            slopes.append(torch.sign(cosine * weight[index]) * weight[index] * slope)
        total = torch.stack(slopes)
        self.stale = total.sum(dim=0) if self.config.reduction == "sum-rho" else total.mean(dim=0)
