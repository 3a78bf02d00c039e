"""What a pattern of missing modalities says of the state: the likelihood of the pattern, given all that is observed.

The best prediction from observed content x and pattern e is p(y | x, e), proportional to p(y | x) P(e | x, y). The
second factor, the *evidence*, is exact on Gaussian twins: where a missing modality's own score decides, it is the mean
of Phi(a z + b) over a Gaussian z, one normal distribution function; where two are decided so, a bivariate one.
Where the pattern says nothing of the state given x (missing at random, or a nuisance), it is the same for all states.

A pattern with a single modality may be one from which everything was lost, and to which one of M was given back with
probability 1/M; this is part of the likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used: scipy.special takes long

from mmlib.errors import InputError

LEAST = 1e-300
FAR = 40.0  # standard deviations beyond which nothing lies
CORRELATED = 1 - 1e-12  # beyond it two variables are one
DRAWS = 4096


@dataclass(frozen=True)
class Missingness:
    """How M modalities go missing, as ``masks.fitted(law, bundle).missingness`` gives it."""

    rates: np.ndarray
    """(M,) mean probabilities over training; a modality of rate 0 is never missing."""

    slopes: np.ndarray
    """(M,) a of Phi(a z + b); infinite for thresholds."""

    biases: np.ndarray
    """(M,) b, or the threshold above which z is missing."""

    sources: tuple[int, ...]
    """Of each modality, the number of the one whose content is the score z; -1 where the score says nothing of the
    state."""

    direction: np.ndarray | None
    """(k,) the axis of the latents that raw scores are coordinates on; None where no content is looked at."""

    mean: np.ndarray
    """(M,) by which raw scores are made z."""

    sd: np.ndarray
    """(M,) by which raw scores are made z."""

    by_class: np.ndarray | None = None
    """(K, M) the probability to be missing in each state, where the label alone decides."""


def log_evidence(
    how: Missingness,
    latents: np.ndarray,
    observed: np.ndarray,
    means: np.ndarray,
    covariance: np.ndarray,
    frames: np.ndarray | None = None,
) -> np.ndarray:
    """(n, K) the log likelihood of each row's pattern under each state, up to a constant per row.

    latents: (n, M, k), or their means over frames, of which each row has ``frames`` (n,); observed: (n, M) bool;
    means: (M, K, k) and covariance: (M, M), of one frame.

    Raises:
        InputError: a pattern that the law cannot give.
    """
    if (~observed[:, how.rates == 0]).any():
        raise InputError(
            "mask for the best possible prediction",
            "a modality missing whose rate is 0",
            "a mask that the law can draw",
            "Draw the mask from the law that it is judged by.",
        )
    if how.by_class is not None:
        return _of_labels(how.by_class, observed)
    result = np.zeros((len(latents), means.shape[1]))
    if how.direction is None:
        return result
    scores, centres = latents @ how.direction, means @ how.direction
    over = np.ones(len(latents)) if frames is None else frames
    for pattern in np.unique(observed, axis=0):
        open_ones = [i for i, s in enumerate(how.sources) if s >= 0 and not pattern[s]]
        if open_ones:
            rows = np.flatnonzero((observed == pattern).all(axis=1))
            given = _given(pattern, scores[rows], centres, covariance, over[rows])
            result[rows] = _of_pattern(how, pattern, open_ones, *given)
    return result


def _given(
    pattern: np.ndarray,
    scores: np.ndarray,
    centres: np.ndarray,
    covariance: np.ndarray,
    frames: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Missing scores given the observed ones and the state: means (r, K, M) and covariances (r, 1, M, M).

    Rows and columns of observed modalities hold zeros.
    """
    seen, lost = np.flatnonzero(pattern), np.flatnonzero(~pattern)
    across = covariance[np.ix_(lost, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    away = scores[:, None, seen] - centres[seen].T  # (r, K, seen)
    mean = np.zeros((len(scores), centres.shape[1], len(pattern)))
    mean[..., lost] = centres[lost].T + away @ across.T
    spread = np.zeros((len(pattern), len(pattern)))
    spread[np.ix_(lost, lost)] = (
        covariance[np.ix_(lost, lost)] - across @ covariance[np.ix_(seen, lost)]
    )
    return mean, spread / frames[:, None, None, None]


def _of_pattern(
    how: Missingness,
    pattern: np.ndarray,
    open_ones: list[int],
    mean: np.ndarray,
    spread: np.ndarray,
) -> np.ndarray:
    """(r, K) the log likelihood of a pattern; open_ones: modalities on which a missing score decides."""
    here = np.flatnonzero(pattern)
    signs = {i: -1 if pattern[i] else 1 for i in open_ones}
    if len(here) != 1 or here[0] not in open_ones:
        return _together(how, signs, mean, spread)
    # It stayed, or everything was lost and it was given back: P - (1 - 1/M) Q, with P of the others all lost, and Q
    # of everything lost.
    others = {i: 1 for i in open_ones if i != here[0]}
    everything = dict.fromkeys(open_ones, 1)
    without = np.exp(_together(how, others, mean, spread)) if others else 1.0
    return np.log(
        without - (1 - 1 / len(pattern)) * np.exp(_together(how, everything, mean, spread))
    )


def _together(
    how: Missingness, signs: dict[int, int], mean: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """(r, K) the log probability that modalities are missing (sign 1) or not (-1), given what is observed."""
    which = np.array(list(signs))
    sign = np.array(list(signs.values()))
    source = np.array(how.sources)[which]
    steps = np.isinf(how.slopes[which])
    slope = np.where(steps, 1.0, how.slopes[which]) / how.sd[source]
    bias = np.where(steps, -how.biases[which], how.biases[which]) - slope * how.mean[source]
    line = sign * (slope * mean[..., source] + bias)  # (r, K, J)
    scale = sign * slope
    covariance = spread[..., source[:, None], source] * scale[:, None] * scale
    covariance = covariance + np.diag(np.where(steps, 0.0, 1.0))
    sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))  # (r, 1, J)
    if len(which) == 1:
        return np.asarray(scipy.special.log_ndtr((line / sd)[..., 0]))
    chance, _ = orthant(line / sd, covariance / sd[..., :, None] / sd[..., None, :])
    return np.log(np.maximum(chance, LEAST))


def _of_labels(by_class: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(n, K) the log likelihood of patterns that the state alone decides on."""
    single = observed.sum(axis=1) == 1
    chance = np.where(observed[:, None], 1 - by_class, by_class)  # (n, K, M)
    given_back = 1 - (1 - 1 / by_class.shape[1]) * by_class
    chance = np.where((observed & single[:, None])[:, None], given_back, chance)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chance).sum(axis=-1))


def orthant(limits: np.ndarray, correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(all of J standard normal variables lie below their limits), and its standard error.

    limits: (..., J); correlation: (..., J, J) that broadcasts with them. Exact, with an error of 0, for one and two
    variables (Owen's T); beyond, by sequential sampling with ``DRAWS`` draws, always the same ones (Genz 1992).
    """
    limits = np.clip(limits, -FAR, FAR)
    if limits.shape[-1] == 1:
        exact = scipy.special.ndtr(limits[..., 0])
    elif limits.shape[-1] == 2:
        exact = _two(limits[..., 0], limits[..., 1], correlation[..., 0, 1])
    else:
        return _sampled(limits, correlation)
    return exact, np.zeros_like(exact)


def _two(h: np.ndarray, k: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """The bivariate normal distribution function."""
    owens_t, ndtr = scipy.special.owens_t, scipy.special.ndtr
    rho = np.clip(correlation, -CORRELATED, CORRELATED)
    h, k = (np.where(x == 0, LEAST, x) for x in (h, k))  # so that nothing is divided by 0
    root = np.sqrt(1 - rho**2)
    with np.errstate(over="ignore"):
        found = (ndtr(h) + ndtr(k)) / 2 - owens_t(h, (k / h - rho) / root)
        found = found - owens_t(k, (h / k - rho) / root) - np.where(h * k < 0, 0.5, 0.0)
    alike = np.where(rho > 0, ndtr(np.minimum(h, k)), np.maximum(ndtr(h) - ndtr(-k), 0.0))
    return np.asarray(np.where(np.abs(correlation) >= CORRELATED, alike, np.maximum(found, 0.0)))


def _sampled(limits: np.ndarray, correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw each variable in turn below its limit; the mean product of the chances to lie there."""
    ndtr, ndtri = scipy.special.ndtr, scipy.special.ndtri
    root = np.linalg.cholesky(correlation)
    uniform = np.random.default_rng(0).random((limits.shape[-1], DRAWS))
    chance = np.ones((*limits.shape[:-1], DRAWS))
    drawn: list[np.ndarray] = []
    for j in range(limits.shape[-1]):
        before = sum((root[..., j, i, None] * x for i, x in enumerate(drawn)), start=np.zeros(1))
        below = ndtr((limits[..., j, None] - before) / root[..., j, j, None])
        chance = chance * below
        drawn.append(ndtri(np.clip(uniform[j] * below, LEAST, 1 - 1e-16)))
    return chance.mean(axis=-1), chance.std(axis=-1, ddof=1) / np.sqrt(DRAWS)
