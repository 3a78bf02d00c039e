"""GMM-loss: a Gaussian mixture over the modality gap weighs the loss of each sample (ledger 5).

A warm-up trains the fused and both unimodal predictions. Then come rounds: a mixture of two Gaussians is fitted to
the modality gaps of the training set, and for some epochs each sample's loss is weighed by its posterior of being
balanced. Where the paper is silent or unclear the reading is that of ledger 5.2, rows H1 to H19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor

from mmlib.errors import InputError, unknown_name
from mmlib.methods.plain import Peek, Plain, PlainConfig, two_modalities_of_classes
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch

VARIANCE_FLOOR = (
    1e-4  # H18 has 1e-3, under which no density at 0 could exceed 12.6; Fig 3 has more than 20
)
TIE, COLLAPSED = 0.02, 0.05  # H1


@dataclass(frozen=True)
class GmmLossConfig(PlainConfig):
    """The schedule and the weights of Eq. 10.

    warmup: epochs of warm-up in this run, none where it starts from a run that was one. round_epochs: E_adaptive.
    alpha, beta, gamma: of classification, gap and balance (H9). decay: base of lambda_t, counted over the adaptive
    epochs (H6). weighted: False replaces both posteriors by 1 (Table 2, H12). gap: signed as printed, or absolute (H2).
    reset: the optimizer forgets its state where the adaptive phase starts (H19).
    """

    warmup: int = 0
    round_epochs: int = 5
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    decay: float = 0.96
    weighted: bool = True
    gap: str = "signed"
    reset: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gap not in ("signed", "absolute"):
            raise unknown_name("gap", self.gap, ("signed", "absolute"))
        if self.focal or self.class_weights != "none":
            raise InputError(
                "gmm_loss",
                f"focal {self.focal}, class_weights {self.class_weights}",
                "neither",
                "Leave them out: Eq. 10 weighs samples by their posterior alone.",
            )
        for name, least in (
            ("warmup", 0),
            ("round_epochs", 1),
            ("alpha", 0),
            ("beta", 0),
            ("gamma", 0),
            ("decay", 0),
        ):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(name, str(getattr(self, name)), f"{least} or more", "Correct it.")


VARIANTS: dict[str, GmmLossConfig] = {
    "paper": GmmLossConfig(),
    "alpha0": GmmLossConfig(alpha=0.0),  # H10: no classification loss at all after the warm-up
    "beta0": GmmLossConfig(beta=0.0),
    "gamma0": GmmLossConfig(gamma=0.0),
    "unweighted": GmmLossConfig(weighted=False),
    "absolute": GmmLossConfig(gap="absolute"),
    "same_state": GmmLossConfig(reset=False),
}


class Mixture(NamedTuple):
    """Two Gaussians, the balanced one first, each (2,): shares pi, means mu, variances sigma^2 (Eq. 8)."""

    shares: Tensor
    means: Tensor
    variances: Tensor


class GmmLoss(Plain):
    """The method over a backbone whose logits split by modality."""

    Config = GmmLossConfig
    config: GmmLossConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        two_modalities_of_classes(self)
        self.continues = not self.config.reset
        self.mixture: Mixture | None = None
        self.scale = 1.0

    def loss(self, batch: Batch) -> Tensor:
        """Eq. 7 in the warm-up, then Eq. 10."""
        fused = self(batch)
        alone = self.unimodal(fused)
        if self.mixture is None:
            return self.fused_loss(batch, fused) + sum(
                self.task_loss(alone[m], batch.labels) for m in self.modalities
            )
        gap = modality_gap(alone, self.modalities, batch.labels, self.config.gap)
        return self.adaptive_loss(fused, batch.labels, gap, self.mixture)

    def adaptive_loss(self, fused: Fused, labels: Tensor, gap: Tensor, mixture: Mixture) -> Tensor:
        """Eq. 10, mean over the batch; gap (n,) carries gradient, the posteriors do not (H4)."""
        posterior = posteriors(gap.detach(), mixture)
        balanced, imbalanced = posterior.unbind(dim=1) if self.config.weighted else (1.0, 1.0)
        from_balanced = (gap - mixture.means[0]).square()
        gap_terms = gap.square() * self.config.beta + imbalanced * from_balanced * self.config.gamma
        losses = self.scale * gap_terms
        if self.config.alpha:
            losses = losses + self.config.alpha * balanced * F.cross_entropy(
                fused.logits, labels, reduction="none"
            )
        return losses.mean()

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """l^a and l^v (Eq. 3)."""
        alone = self.backbone.unimodal(fused)
        if not alone:
            raise InputError(
                "gmm_loss",
                f"the backbone {type(self.backbone).__name__}",
                "one whose logits split by modality",
                "Use concat.",
            )
        return alone

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """At the start of a round, the gaps of the training set and their mixture; lambda_t in every adaptive epoch."""
        adaptive = peek.epoch - self.config.warmup
        if adaptive < 0:
            return {}
        self.scale = self.config.decay**adaptive
        return {} if adaptive % self.config.round_epochs else self.fit_mixture(peek)

    def end_training(self, peek: Peek) -> dict[str, Tensor]:
        """The gaps and the mixture that training leaves behind."""
        return self.fit_mixture(peek)

    def resets(self, epoch: int) -> bool:
        """At the start of the adaptive phase, unless ``reset`` is off."""
        return self.config.reset and 0 < self.config.warmup == epoch

    @torch.no_grad()
    def fit_mixture(self, peek: Peek) -> dict[str, Tensor]:
        """Gaps of all training clips in evaluation mode (Eq. 6, H5), and the mixture fitted to them."""
        self.eval()
        gaps = torch.cat(
            [
                modality_gap(self.unimodal(self(b)), self.modalities, b.labels, self.config.gap)
                for b in peek.train()
            ]
        )
        if not gaps.isfinite().all():
            raise FloatingPointError(
                f"training diverged: modality gaps are not finite before epoch {peek.epoch}"
            )
        fitted = fit_mixture(gaps.double().cpu().numpy())
        self.mixture = Mixture(
            *(torch.tensor(v, dtype=gaps.dtype, device=gaps.device) for v in fitted)
        )
        return {"gap": gaps, **self.mixture._asdict()}


def modality_gap(
    alone: dict[str, Tensor], modalities: tuple[str, ...], labels: Tensor, kind: str
) -> Tensor:
    """g_i = s^a_{i, y_i} - s^v_{i, y_i}, (n,) (Eq. 6): how much surer the first modality is of the true class."""
    first, second = (alone[m].softmax(dim=1).gather(1, labels[:, None])[:, 0] for m in modalities)
    return (first - second).abs() if kind == "absolute" else first - second


def fit_mixture(gaps: np.ndarray, components: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares, means and variances of a mixture fitted to gaps (n,), the balanced component first (H1, H18).

    Expectation-maximisation from k-means whose centres start evenly from 0 to the largest gap; ``VARIANCE_FLOOR`` is
    added to every variance. Where labels would be arbitrary, because all gaps are equal or, with two components, both
    means are near 0, everything is balanced, in one Gaussian.
    """
    variance = max(gaps.var(), VARIANCE_FLOOR)
    one_gaussian = (
        np.eye(components)[0],
        np.full(components, gaps.mean()),
        np.full(components, variance),
    )
    if np.ptp(gaps) == 0:
        return one_gaussian
    values, centres = gaps[:, None], np.linspace(0, max(gaps.max(), TIE), components)[:, None]
    groups = KMeans(components, init=centres, n_init=1).fit_predict(values)
    parts = [gaps[groups == k] if (groups == k).any() else centres[k] for k in range(components)]
    model = GaussianMixture(
        components,
        covariance_type="spherical",
        reg_covar=VARIANCE_FLOOR,
        random_state=0,
        tol=1e-7,
        max_iter=2000,
        weights_init=np.array([len(p) for p in parts]) / sum(len(p) for p in parts),
        means_init=np.array([[p.mean()] for p in parts]),
        precisions_init=np.array([1 / (p.var() + VARIANCE_FLOOR) for p in parts]),
    ).fit(values)
    shares, means, variances = model.weights_, model.means_[:, 0], model.covariances_
    if components == 2 and np.abs(means).max() < COLLAPSED:
        return one_gaussian
    order = np.argsort(np.abs(means), kind="stable")
    if components == 2 and np.abs(means)[order[1]] - np.abs(means)[order[0]] < TIE:
        order = np.argsort(-shares, kind="stable")
    return shares[order], means[order], variances[order]


def posteriors(gap: Tensor, mixture: Mixture) -> Tensor:
    """w_{i,k} = pi_k N(g_i; mu_k, sigma_k^2) / sum over k, (n, 2) (Eq. 9)."""
    away = (gap[:, None] - mixture.means).square() / mixture.variances
    return (mixture.shares.log() - 0.5 * (away + mixture.variances.log())).softmax(dim=1)
