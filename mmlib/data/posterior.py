"""The exact posterior of a hidden Markov chain with jointly Gaussian emissions, and the best decisions.

The model (design, section 6): a chain of K states moves by ``transition`` at each step and starts
from ``prior``. Given state s, modality m's latent on axis a is ``means[m, s, a]`` plus noise whose
covariance across modalities, ``covariance`` (M, M), is the same for every state and axis, and zero
between axes. So a missing modality drops out of the Gaussian, and nothing has to be approximated.
"""

from __future__ import annotations

import numpy as np

TILTS = np.linspace(0, 1, 21)


def log_likelihood(
    latents: np.ndarray, observed: np.ndarray, means: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Log density of each row's observed latents under each state, up to a constant per row.

    latents: (n, M, k); observed: (n, M) bool; means: (M, K, k); covariance: (M, M).
    Returns (n, K) float64; zeros where a row has nothing observed.
    """
    result = np.zeros((len(latents), means.shape[1]))
    centres = means.transpose(1, 0, 2)  # (K, M, k)
    for pattern in np.unique(observed, axis=0):
        rows, kept = np.flatnonzero((observed == pattern).all(axis=1)), np.flatnonzero(pattern)
        precision = np.linalg.inv(covariance[np.ix_(kept, kept)])
        away = latents[rows][:, None, kept] - centres[None][:, :, kept]  # (rows, K, kept, k)
        result[rows] = -0.5 * np.einsum("rsma,mp,rspa->rs", away, precision, away, optimize=True)
    return result


def frame_log_likelihood(
    latents: np.ndarray, observed: np.ndarray, means: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """The same for rows of t frames that are independent given the state: the sum over the observed ones.

    latents: (n, t, M, k); observed: (n, t, M) bool; means: (M, K, k) and covariance: (M, M), of one frame.
    """
    n, steps = observed.shape[:2]
    flat = log_likelihood(
        latents.reshape(-1, *latents.shape[2:]), observed.reshape(n * steps, -1), means, covariance
    )
    return np.asarray(flat.reshape(n, steps, -1).sum(axis=1))


def smooth(
    log_like: np.ndarray,
    chain: np.ndarray,
    position: np.ndarray,
    prior: np.ndarray,
    transition: np.ndarray,
) -> np.ndarray:
    """Forward-backward over many chains at once.

    log_like: (n, K); chain: (n,) any label per chain; position: (n,) order within a chain;
    prior: (K,); transition: (K, K), rows sum to one. Returns the posterior, (n, K), rows as given.
    """
    order = np.lexsort((position, chain))
    starts = np.r_[True, np.diff(chain[order]) != 0]
    number = np.cumsum(starts) - 1
    step = np.arange(len(order)) - np.flatnonzero(starts)[number]
    like = np.ones((number[-1] + 1, step.max() + 1, len(prior)))  # padding carries no evidence
    like[number, step] = np.exp(log_like[order] - log_like[order].max(axis=1, keepdims=True))
    forward, backward = np.empty_like(like), np.ones_like(like)
    for t in range(like.shape[1]):
        before = forward[:, t - 1] @ transition if t else prior
        forward[:, t] = _normalised(before * like[:, t])
    for t in range(like.shape[1] - 1, 0, -1):
        backward[:, t - 1] = _normalised((backward[:, t] * like[:, t]) @ transition.T)
    posterior = np.empty_like(log_like)
    posterior[order] = _normalised(forward * backward)[number, step]
    return posterior


def signs(mass: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The mass of negative and of positive levels, (..., 2); level 0 belongs to neither."""
    return np.stack(
        [mass[..., levels < 0].sum(axis=-1), mass[..., levels > 0].sum(axis=-1)], axis=-1
    )


def decide(mass: np.ndarray, prior: np.ndarray, metric: str) -> np.ndarray:
    """The best class per row, (n,), for a posterior mass (n, C) and the classes' prior (C,).

    ``accuracy``: the mode. ``macro_recall``: the mode after division by the prior. ``weighted_f1``: an approximation,
    the mode after division by the power of the prior that makes the expected weighted F1 largest.
    """
    if metric == "accuracy":
        return np.asarray(mass.argmax(axis=1))
    if metric == "macro_recall":
        return np.asarray((mass / prior).argmax(axis=1))
    tilted = [np.argmax(mass / prior**tilt, axis=1) for tilt in TILTS]
    return max(tilted, key=lambda decision: class_score(mass, decision, "weighted_f1"))


def class_score(mass: np.ndarray, decision: np.ndarray, metric: str) -> float:
    """A metric in percent: expected if ``mass`` is a posterior, realised if it is one-hot.

    The expected ``macro_recall`` and ``weighted_f1`` are those of the expected confusion matrix.
    """
    confusion = mass.T @ np.eye(mass.shape[1])[decision]  # (true, decided)
    hits, actual, decided = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = actual > 0
    if metric == "accuracy":
        return 100 * float(hits.sum() / confusion.sum())
    if metric == "macro_recall":
        return 100 * float((hits[present] / actual[present]).mean())
    return 100 * float(
        (actual * 2 * hits / np.where(present, actual + decided, 1)).sum() / actual.sum()
    )


def median_score(posterior: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The median of each row's score, (n,), where level l's score is uniform on [low[l], high[l]].

    The intervals are in rising order and do not overlap. The median makes the expected absolute error least.
    """
    rising = posterior.cumsum(axis=1)
    level = np.minimum((rising < 0.5).sum(axis=1), len(low) - 1)
    rows = np.arange(len(posterior))
    inside = posterior[rows, level]
    share = np.clip((0.5 - (rising[rows, level] - inside)) / inside, 0, 1)
    return np.asarray(low[level] + share * (high[level] - low[level]))


def expected_absolute_error(
    posterior: np.ndarray, score: np.ndarray, low: np.ndarray, high: np.ndarray
) -> float:
    """Mean over rows of E|label - score|, with the labels as in ``median_score``."""
    point = score[:, None]
    outside = np.abs((low + high) / 2 - point)
    width = np.where(high > low, high - low, 1)
    within = ((point - low) ** 2 + (high - point) ** 2) / (2 * width)
    error = np.where((point > low) & (point < high), within, outside)
    return float((posterior * error).sum(axis=1).mean())


def _normalised(array: np.ndarray) -> np.ndarray:
    return np.asarray(array / array.sum(axis=-1, keepdims=True))
