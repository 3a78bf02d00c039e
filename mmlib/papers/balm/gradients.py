"""Gradients under missing modalities: expectations by enumeration, by sampling, and norms of batch means.

What ``theory`` holds BALM's supplement B against. Gradients are float64 vectors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.data.catalog import open_bundle
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import task_loss

Gradients = dict[str, dict[str, np.ndarray]]
Patterns = Mapping[tuple[int, ...], float]


class Small(nn.Module):
    """One encoder per modality, tanh(A x + b), and linear heads: the cases of Lemma 1 at a size to enumerate.

    kind: ``separable`` sums one loss per observed modality (Eq. 29); ``zeros`` gives missing inputs as zeros and
    keeps their losses; ``fused`` has one head on all encoders, missing inputs as zeros.
    """

    def __init__(self, dims: Mapping[str, int], classes: int, kind: str, width: int = 8) -> None:
        super().__init__()
        self.kind, self.modalities = kind, tuple(sorted(dims))
        self.encoders = nn.ModuleDict({m: nn.Linear(dims[m], width) for m in self.modalities})
        inputs = (
            {m: width for m in self.modalities} if kind != "fused" else {"all": width * len(dims)}
        )
        self.heads = nn.ModuleDict({m: nn.Linear(size, classes) for m, size in inputs.items()})

    def loss(self, features: Mapping[str, Tensor], labels: Tensor, seen: Tensor) -> Tensor:
        """Mean over n utterances; features[m] (n, d_m), labels (n,), seen (n, M) zeros and ones."""
        z = [
            torch.tanh(self.encoders[m](features[m] * seen[:, [i]]))
            for i, m in enumerate(self.modalities)
        ]
        if self.kind == "fused":
            return F.cross_entropy(self.heads["all"](torch.cat(z, dim=1)), labels)
        terms = [
            F.cross_entropy(self.heads[m](x), labels, reduction="none")
            for m, x in zip(self.modalities, z, strict=True)
        ]
        weights = seen if self.kind == "separable" else torch.ones_like(seen)
        return (torch.stack(terms, dim=1) * weights).mean(dim=0).sum()


Case = tuple[Small, dict[str, Tensor], Tensor]


def encoder_gradients(model: nn.Module, loss: Tensor) -> Gradients:
    """Modality to an encoder's gradient: ``all`` of it, and its linear layer's ``weight`` and ``bias``."""
    parts: Gradients = {}
    encoders: nn.ModuleDict = model.encoders  # type: ignore[assignment]
    for modality, encoder in encoders.items():
        names, parameters = zip(*encoder.named_parameters(), strict=True)
        values = torch.autograd.grad(loss, parameters, retain_graph=True)
        flat = {
            name: value.flatten().double().numpy()
            for name, value in zip(names, values, strict=True)
        }
        linear = {name.rpartition(".")[2]: value for name, value in flat.items()}
        parts[modality] = {
            "all": np.concatenate(list(flat.values())),
            **{part: linear[part] for part in ("weight", "bias")},
        }
    return parts


def expected_gradients(
    model: Small, features: Mapping[str, Tensor], labels: Tensor, patterns: Patterns
) -> Gradients:
    """The exact expectation over masks when every utterance draws its pattern from ``patterns``.

    The loss is a mean over utterances, so their joint law plays no part.
    """
    total: Gradients = {}
    for pattern, probability in patterns.items():
        seen = torch.tensor(pattern, dtype=torch.float64).expand(len(labels), -1)
        of_pattern = encoder_gradients(model, model.loss(features, labels, seen))
        for modality, parts in of_pattern.items():
            sums = total.setdefault(modality, {})
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + probability * value
    return total


def bernoulli(rates: Sequence[float]) -> dict[tuple[int, ...], float]:
    """Assumption 1: every pattern and its probability, all-missing included."""
    return {
        pattern: math.prod(1 - r if e else r for e, r in zip(pattern, rates, strict=True))
        for pattern in itertools.product((0, 1), repeat=len(rates))
    }


def slope_cosine(expected: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """The factor that takes ``whole`` nearest to ``expected`` (least squares), and the cosine of their angle."""
    inner = float(expected @ whole)
    return inner / float(whole @ whole), inner / float(
        np.linalg.norm(expected) * np.linalg.norm(whole)
    )


def sampled_slope_cosine(draws: np.ndarray, whole: np.ndarray) -> tuple[float, float, float, float]:
    """Slope, its standard error, cosine, its standard error, from K gradients (K, P) whose mean is wanted.

    The noise of K draws lengthens their mean and would lower its cosine; the squared length comes from
    products of different draws instead, so the cosine may pass 1 by chance. Its error is the jackknife's.
    """
    count = len(draws)
    along = draws @ whole / (whole @ whole)
    total, own = draws.sum(axis=0), (draws**2).sum(axis=1)
    size = math.sqrt(whole @ whole)

    def cosine(mean_along: Any, square: Any) -> Any:
        return mean_along * size / np.sqrt(square)

    value = float(cosine(along.mean(), (total @ total - own.sum()) / (count * (count - 1))))
    others = (total @ total - 2 * draws @ total + own) - (own.sum() - own)
    left = cosine((along.sum() - along) / (count - 1), others / ((count - 1) * (count - 2)))
    error = math.sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    return float(along.mean()), float(along.std(ddof=1) / math.sqrt(count)), value, error


def small_case(kind: str, reference: str, seed: int) -> Case:
    """A ``Small`` network in float64, and the standardised train features and labels of a bundle."""
    bundle = open_bundle(reference)
    rows = bundle.rows("train")
    features = {}
    for modality in bundle.modalities:
        values = torch.from_numpy(bundle.features[modality][rows]).double()
        features[modality] = (values - values.mean(dim=0)) / values.std(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Small(bundle.dims, bundle.task.outputs, kind).double()
    return model, features, torch.from_numpy(bundle.labels[rows])


def complete_gradients(model: Small, features: Mapping[str, Tensor], labels: Tensor) -> Gradients:
    """The encoders' gradients with nothing missing."""
    seen = torch.ones(len(labels), len(model.modalities), dtype=torch.float64)
    return encoder_gradients(model, model.loss(features, labels, seen))


def mask_gradients(
    model: Small, features: Mapping[str, Tensor], labels: Tensor, masks: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """Modality to (K, P): each mask's gradient of the whole encoder; masks (n, M) bool."""
    each = [
        encoder_gradients(model, model.loss(features, labels, torch.from_numpy(mask).double()))
        for mask in masks
    ]
    return {m: np.stack([gradients[m]["all"] for gradients in each]) for m in model.modalities}


def backbone_gradients(
    method: Plain, batch: Batch, masks: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """Modality to (K, P): each mask's gradient of a real backbone's encoder, missing inputs as zeros."""
    each = []
    for mask in masks:
        seen = torch.from_numpy(mask)
        features = {m: batch.features[m] * seen[:, [i]] for i, m in enumerate(method.modalities)}
        hidden = dataclasses.replace(batch, features=features, observed=seen)
        each.append(
            encoder_gradients(
                method.backbone, task_loss(method.task, method(hidden).logits, batch.labels)
            )
        )
    return {m: np.stack([gradients[m]["all"] for gradients in each]) for m in method.modalities}


def per_sample_gradients(reference: str, modality: str, trained: bool) -> np.ndarray:
    """(n, P) float64: cross-entropy gradients of a linear classifier on one modality of a bundle's train split.

    At zero weights, where the mean gradient matters, or at the loss's minimum, where it is zero.
    """
    bundle = open_bundle(reference)
    rows, classes = bundle.rows("train"), bundle.task.outputs
    x = torch.from_numpy(bundle.features[modality][rows]).double()
    x = torch.cat([x, torch.ones(len(x), 1).double()], dim=1)
    labels = torch.from_numpy(bundle.labels[rows])
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    if trained:
        optimizer = torch.optim.LBFGS(
            [weight], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(x @ weight.T, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    residual = (x @ weight.detach().T).softmax(dim=1) - F.one_hot(labels, classes)
    result: np.ndarray = (residual[:, :, None] * x[:, None, :]).flatten(1).numpy()
    return result


def norm_ratio(
    gradients: np.ndarray, rate: float, batch: int, draws: int, seed: int
) -> tuple[float, float]:
    """E||mean of e_i g_i|| / E||mean of g_i|| over random batches, both on the same batches, and its standard error."""
    generator = np.random.default_rng([seed, batch])
    rows = generator.integers(len(gradients), size=(draws, batch))
    seen = generator.random((draws, batch)) >= rate
    masked, whole = np.empty(draws), np.empty(draws)
    for k in range(draws):
        chosen = gradients[rows[k]]
        masked[k], whole[k] = np.linalg.norm(seen[k] @ chosen), np.linalg.norm(chosen.sum(axis=0))
    ratio = masked.mean() / whole.mean()
    return float(ratio), float(
        (masked - ratio * whole).std(ddof=1) / math.sqrt(draws) / whole.mean()
    )


def square_ratio(gradients: np.ndarray, rate: float, batch: int) -> float:
    """sqrt(E||mean of e_i g_i||^2 / E||mean of g_i||^2), in closed form.

    The noise of a batch's mean shrinks by sqrt(1 - r), its expectation by 1 - r.
    """
    noise, mean = (gradients**2).sum(axis=1).mean(), (gradients.mean(axis=0) ** 2).sum()
    keep = 1 - rate
    return math.sqrt((keep * noise + keep**2 * (batch - 1) * mean) / (noise + (batch - 1) * mean))


def norm_of_mean(
    gradients: np.ndarray, rate: float, batch: int, draws: int, seed: int
) -> tuple[float, float]:
    """||E mean of e_i g_i|| / E||mean of e_i g_i|| over random batches, and its standard error; the first is exact."""
    generator = np.random.default_rng([seed, batch])
    rows = generator.integers(len(gradients), size=(draws, batch))
    seen = generator.random((draws, batch)) >= rate
    norms = (
        np.array([np.linalg.norm(s @ gradients[r]) for s, r in zip(seen, rows, strict=True)])
        / batch
    )
    share = (1 - rate) * np.linalg.norm(gradients.mean(axis=0)) / norms.mean()
    return float(share), float(share * norms.std(ddof=1) / math.sqrt(draws) / norms.mean())
