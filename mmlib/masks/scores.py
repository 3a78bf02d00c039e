"""What mechanisms of missingness look at: a standardised score of each modality's content, its quality, the label.

On twins the score is exactly Gaussian given the state: the class axis of the latents, or a nuisance coordinate of the
features, which says nothing of the state. On other data it is the first principal axis of the training rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mmlib.data import embedded
from mmlib.data.bundle import Bundle
from mmlib.data.twin_laws import FRAME_ROLES, ROLES
from mmlib.errors import InputError

if TYPE_CHECKING:
    from mmlib.data.av_twins import AVTwin
    from mmlib.data.twins import Twin

AXES = ("class", "nuisance")
LEAST_QUALITY = 1e-3  # below it all clips are as bad
STEPS_OF_SCORE = 6  # a score's range in so many steps: those of acc7


@dataclass(frozen=True)
class Scores:
    """One score for each modality of each utterance."""

    values: np.ndarray
    """(n, M) float64, rows as the bundle's; over the training rows that have the modality their mean is 0 and their
    standard deviation 1; 0 where an utterance lacks the modality in the data."""

    mean: np.ndarray
    """(M,) of the raw scores, over those rows."""

    sd: np.ndarray
    """(M,) of the raw scores, over those rows; 1 where all are equal."""

    direction: np.ndarray | None = None
    """(k,) the axis of a twin's latents that the raw scores are coordinates on; None for other scores."""


def content(bundle: Bundle, axis: str = "class") -> Scores:
    """The scores of what each modality holds.

    axis: ``class``, the direction in which the classes' means lie furthest apart (twins) or the first principal axis
        of the training rows' features, averaged over time (other data); ``nuisance``, a coordinate that is independent
        of everything else (twins alone).

    Raises:
        InputError: a nuisance axis of data that are no twin.
    """
    twin = twin_of(bundle)
    if twin is not None and axis == "class":
        direction = class_axis(np.asarray(twin.role.axes), np.asarray(twin.role.prior))
        raw = [_over_time(twin.latents[m] @ direction, bundle, m) for m in bundle.modalities]
        return _standardised(bundle, np.stack(raw, axis=1), direction)
    if twin is not None:
        return _standardised(bundle, np.stack([_nuisance(twin, m) for m in bundle.modalities], 1))
    if axis == "nuisance":
        raise InputError(
            f"mask law with a nuisance axis, bundle {bundle.name}",
            "data whose law is not known",
            "a twin with an exact posterior",
            "Take the class axis, or a twin: " + ", ".join((*ROLES, *FRAME_ROLES)) + ".",
        )
    raw = [_principal(bundle, index) for index in range(len(bundle.modalities))]
    return _standardised(bundle, np.stack(raw, axis=1))


def badness(bundle: Bundle) -> Scores:
    """Minus the log of each modality's quality.

    Quality is what was planted (audio-visual twins), the share of raters who agree (``crema-d-votes``), or how many
    frames there are.

    Raises:
        InputError: data of which nothing is known that could be called quality.
    """
    quality = np.stack([_quality(bundle, m) for m in bundle.modalities], axis=1)
    return _standardised(bundle, -np.log(np.maximum(quality, LEAST_QUALITY)))


def label_contrasts(bundle: Bundle) -> np.ndarray:
    """The contrast of each class, (C,), with mean 0: the label's part in ``mnar_label``.

    Classes and binary labels: 1 and -1 for the two that training has most often, 0 for others. Scores: the seven equal
    steps of the range (those of acc7), standardised over the training rows.
    """
    train = bundle.labels[bundle.split == 0]
    if bundle.task.kind == "score":
        steps = _steps(bundle, train)
        spread = steps.std() or 1.0
        return np.asarray((np.arange(STEPS_OF_SCORE + 1) - steps.mean()) / spread)
    counts = train.sum(axis=0) if train.ndim == 2 else np.bincount(train)
    contrasts = np.zeros(len(bundle.task.names))
    first, second = np.argsort(-counts, kind="stable")[:2]
    contrasts[[first, second]] = 1.0, -1.0
    return contrasts


def of_labels(bundle: Bundle) -> np.ndarray:
    """(n,) each utterance's contrast; the sum over its binary labels where there are several."""
    contrasts = label_contrasts(bundle)
    if bundle.task.kind == "score":
        return np.asarray(contrasts[_steps(bundle, bundle.labels)])
    labels = bundle.labels
    return np.asarray(labels @ contrasts if labels.ndim == 2 else contrasts[labels])


def classes_of(bundle: Bundle) -> np.ndarray:
    """(n,) whole numbers: each utterance's class, combination of binary labels, or step of its score."""
    if bundle.task.kind == "score":
        return _steps(bundle, bundle.labels)
    if bundle.labels.ndim == 1:
        return bundle.labels
    return np.asarray(np.unique(bundle.labels, axis=0, return_inverse=True)[1]).ravel()


def class_axis(axes: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(k,) the unit direction in which classes at places (K, k) with a prior (K,) lie furthest apart.

    That is the first principal axis of the classes' places; its largest coordinate is positive.
    """
    away = axes - prior @ axes
    return _signed(np.linalg.eigh(away.T @ (away * prior[:, None]))[1][:, -1])


def twin_of(bundle: Bundle) -> Twin | None:
    """The twin with an exact posterior that a bundle is of; None for other data."""
    from mmlib.data.catalog import open_twin
    from mmlib.data.twins import make_twin

    role, size, seed = (bundle.notes.get(name) for name in ("twin", "size", "seed"))
    if role not in ROLES and role not in FRAME_ROLES:
        return None
    twin = make_twin(str(role), str(size), int(seed)) if seed else open_twin(f"twin:{role}@{size}")
    return twin if twin.bundle.ids == bundle.ids else None


@lru_cache(maxsize=2)
def _av_twin(role: str, size: str, seed: int) -> AVTwin:
    from mmlib.data.av_twins import make_av_twin
    from mmlib.data.catalog import open_av_twin

    return make_av_twin(role, size, seed) if seed else open_av_twin(f"twin:{role}@{size}")


def _quality(bundle: Bundle, modality: str) -> np.ndarray:
    """(n,) of one modality, positive or 0."""
    from mmlib.data.av_twins import AV_ROLES, MODALITIES

    role, size, seed = (bundle.notes.get(name) for name in ("twin", "size", "seed"))
    if role in AV_ROLES:
        planted = _av_twin(str(role), str(size), int(seed or 0))
        if planted.bundle.ids == bundle.ids:
            return planted.quality[:, MODALITIES.index(modality)].astype(np.float64)
    if bundle.name in embedded.KINDS:
        return _votes(bundle, modality).max(axis=1)
    if modality in bundle.lengths:
        return bundle.lengths[modality].astype(np.float64)
    raise InputError(
        f"mask law mnar_quality, bundle {bundle.name}",
        f"nothing that tells how good {modality} is",
        "an audio-visual twin, raters' votes, or sequences with lengths",
        "Choose another mechanism, or other data.",
    )


def _votes(bundle: Bundle, modality: str) -> np.ndarray:
    """(n, C) shares of the raters' votes, as they were before any standardisation."""
    values = bundle.features[modality].astype(np.float64)
    scaling = bundle.scaling.get(modality)
    if scaling is not None:
        values = values * np.asarray(scaling["sd"]) + np.asarray(scaling["mean"])
    return values[:, : len(bundle.task.names)]


def _steps(bundle: Bundle, labels: np.ndarray) -> np.ndarray:
    """A score's step, a whole number from 0 to ``STEPS_OF_SCORE``."""
    low, high = bundle.task.range or (0.0, 1.0)
    return np.rint(STEPS_OF_SCORE * (labels - low) / (high - low)).astype(int)


def _nuisance(twin: Twin, modality: str) -> np.ndarray:
    """(n,) the first coordinate of a modality's features that holds nothing of the latent."""
    features = twin.bundle.features[modality]
    free = np.setdiff1d(np.arange(features.shape[-1]), twin.lifts[modality].columns)
    return _over_time(features[..., free[0]].astype(np.float64), twin.bundle, modality)


def _over_time(values: np.ndarray, bundle: Bundle, modality: str) -> np.ndarray:
    """(n, ...) means over the frames that exist of (n, t, ...); vectors as they are."""
    lengths = bundle.lengths.get(modality)
    if lengths is None:
        return values
    exists = np.arange(values.shape[1]) < lengths[:, None]
    weight = (exists / lengths[:, None]).reshape(*exists.shape, *[1] * (values.ndim - 2))
    return np.asarray(np.where(weight > 0, values * weight, 0.0).sum(axis=1))


def _principal(bundle: Bundle, index: int) -> np.ndarray:
    """(n,) coordinates on the first principal axis of the training rows that have a modality."""
    modality = bundle.modalities[index]
    values = bundle.features[modality].astype(np.float64)
    has = bundle.observed[:, index]
    values[~has] = 0
    if values.ndim == 3:
        steps = np.full(len(values), values.shape[1])
        lengths = bundle.lengths.get(modality, steps)
        exists = np.arange(values.shape[1]) < lengths[:, None]
        values = np.where(exists[..., None], values, 0).sum(axis=1) / lengths[:, None]
    flat = values.reshape(len(values), -1)
    train = flat[has & (bundle.split == 0)]
    return np.asarray((flat - train.mean(axis=0)) @ _first_axis(train - train.mean(axis=0)))


def _first_axis(centred: np.ndarray) -> np.ndarray:
    """(d,) the unit direction of the largest variance of (n, d); its largest coordinate is positive."""
    n, d = centred.shape
    if d <= n:
        return _signed(np.linalg.eigh(centred.T @ centred)[1][:, -1])
    axis = centred.T @ np.linalg.eigh(centred @ centred.T)[1][:, -1]
    return _signed(axis / (np.linalg.norm(axis) or 1.0))


def _signed(axis: np.ndarray) -> np.ndarray:
    return np.asarray(axis * (1 if axis[np.abs(axis).argmax()] >= 0 else -1))


def _standardised(bundle: Bundle, raw: np.ndarray, direction: np.ndarray | None = None) -> Scores:
    """Scores of the raw ones, (n, M)."""
    counts = bundle.observed & (bundle.split == 0)[:, None]
    mean, sd = np.zeros(raw.shape[1]), np.ones(raw.shape[1])
    for index, column in enumerate(raw.T):
        if counts[:, index].any():
            mean[index] = column[counts[:, index]].mean()
            sd[index] = column[counts[:, index]].std() or 1.0
    return Scores(np.where(bundle.observed, (raw - mean) / sd, 0.0), mean, sd, direction)
