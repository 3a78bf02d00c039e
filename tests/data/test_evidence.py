"""What a pattern of missing modalities says of the state: closed forms against counting, integrals, enumeration."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from mmlib import masks
from mmlib.data.catalog import open_twin
from mmlib.data.evidence import Missingness, log_evidence, orthant
from mmlib.data.twins import Twin
from mmlib.errors import InputError
from mmlib.masks import Law, draw
from mmlib.masks.draw import restore

INF = math.inf
IGNORABLE = [
    masks.mcar(0.5),
    masks.mar_anchor(0.5, 2.0, "text"),
    masks.mar_anchor(0.6, INF, "audio"),
    masks.mar_candidates(0.3, 2.0),
    masks.mnar_self(0.5, 2.0, "nuisance"),
    masks.mnar_self(0.7, INF, "nuisance"),
    masks.mnar_label(0.5, 0.0),
    masks.mnar_cross(0.5, 0.0, "text"),
]
TELLING = [
    masks.mnar_self(0.5, 0.5),
    masks.mnar_self(0.5, 2.0),
    masks.mnar_self(0.6, INF),
    masks.mnar_self({"audio": 0.8, "text": 0.2, "vision": 0.0}, 1.0),
    masks.mnar_label(0.5, 1.0),
    masks.mnar_label(0.5, INF),
    masks.mnar_cross(0.5, 2.0, "text"),
    masks.mnar_cross(0.6, INF, "audio"),
]
VECTORS, FRAMES, SCORES = "twin:iemocap6@study", "twin:iemocap4-frames@study", "twin:mosi@study"


@lru_cache
def patterns(reference: str, law: Law) -> np.ndarray:
    return draw(law, open_twin(reference).bundle, "test", 0).utterance


def aware(twin: Twin, law: Law, observed: np.ndarray, context: bool = True) -> np.ndarray:
    known = masks.fitted(law, twin.bundle).missingness
    return twin.bayes("test", observed, context, law=known)


# The normal distribution function of several variables.


def test_two_variables_are_those_of_scipy_at_all_signs_and_correlations() -> None:
    values = (-3.0, -0.7, 0.0, 1e-8, 0.4, 2.5, INF, -INF)
    for h, k in itertools.product(values, repeat=2):
        for rho in (-0.999, -0.5, 0.0, 0.3, 0.95):
            found, error = orthant(np.array([h, k]), np.array([[1, rho], [rho, 1]]))
            limits = np.clip([h, k], -9, 9)
            expected = multivariate_normal.cdf(limits, cov=[[1, rho], [rho, 1]])
            assert found == pytest.approx(expected, abs=1e-8) and error == 0


@pytest.mark.parametrize("h, k", [(0.3, 0.7), (-0.5, 1.2), (0.0, 0.0), (-1.0, -2.0)])
def test_two_variables_that_are_one_or_opposite(h: float, k: float) -> None:
    one, _ = orthant(np.array([h, k]), np.ones((2, 2)))
    opposite, _ = orthant(np.array([h, k]), np.array([[1.0, -1], [-1, 1]]))
    assert one == pytest.approx(norm.cdf(min(h, k)))
    assert opposite == pytest.approx(max(0, norm.cdf(h) - norm.cdf(-k)), abs=1e-15)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_more_variables_are_sampled_within_three_standard_errors(count: int) -> None:
    half = np.full((count, count), 0.5) + np.eye(count) / 2
    found, error = orthant(np.zeros(count), half)  # in closed form: one of count + 1 is the largest
    assert abs(found - 1 / (count + 1)) < 3 * error and 0 < error < 0.004
    free, error = orthant(np.linspace(-1, 1, count), np.eye(count))
    assert free == pytest.approx(norm.cdf(np.linspace(-1, 1, count)).prod()) and error < 1e-12
    random = np.random.default_rng(1).normal(size=(count, count + 2))
    covariance = np.asarray(np.corrcoef(random))
    limits = np.stack([np.linspace(-0.5, 1.5, count), np.ones(count)])
    found, error = orthant(limits, covariance[None])
    for value, spread, limit in zip(found, error, limits, strict=True):
        expected = multivariate_normal.cdf(limit, cov=covariance, abseps=1e-5, releps=1e-5)
        assert abs(value - expected) < 3 * spread + 3e-5


# The table of two classes and one modality.


def two_classes(slope: float, distance: float = 2.0) -> tuple[Missingness, np.ndarray]:
    """A modality N(-d/2 or d/2, 1) that masks itself at 0.5, beside one that says nothing and is never missing."""
    sd = math.sqrt(1 + distance**2 / 4)  # of z before it is standardised
    how = Missingness(
        rates=np.array([0.5, 0.0]),
        slopes=np.array([slope, slope]),
        biases=np.zeros(2),
        sources=(0 if slope else -1, 1),
        direction=np.ones(1),
        mean=np.zeros(2),
        sd=np.array([sd, 1.0]),
    )
    means = np.zeros((2, 2, 1))
    means[0, :, 0] = -distance / 2, distance / 2
    return how, means


@pytest.mark.parametrize(
    "slope, missing, bits, best, blind",
    [
        (0.0, 0.500, 0.0, 0.671, 0.671),
        (0.5, 0.631, 0.050, 0.737, 0.671),
        (1.0, 0.718, 0.142, 0.780, 0.671),
        (2.0, 0.793, 0.264, 0.816, 0.670),
        (INF, 0.841, 0.369, 0.841, 0.670),
    ],
)
def test_the_size_of_the_effect_is_that_of_simulations(
    slope: float, missing: float, bits: float, best: float, blind: float
) -> None:
    """Chance to be missing in the upper class, information in bits, best accuracy with the mask and without it."""
    how, means = two_classes(slope)
    lost = np.exp(
        log_evidence(how, np.zeros((1, 2, 1)), np.array([[False, True]]), means, np.eye(2))
    )[0]
    if slope == 0:
        lost = lost / 2  # up to a constant: the pattern says nothing
    assert lost[1] == pytest.approx(missing, abs=1e-3) and lost.sum() == pytest.approx(1)
    entropy = -(lost * np.log2(lost)).sum()
    assert 1 - entropy == pytest.approx(bits, abs=2e-3)

    def seen(x: float, state: int) -> float:
        """Density of x, seen, in a state."""
        z = x / math.sqrt(2)
        kept = float(z < 0) if slope == INF else float(norm.cdf(-slope * z))
        return kept * float(norm.pdf(x - (2 * state - 1)))

    def right(x: float) -> float:
        return max(seen(x, 0), seen(x, 1)) / 2

    known = sum(quad(right, *ends)[0] for ends in ((-9, 0), (0, 9)))
    assert known + lost.max() / 2 == pytest.approx(best, abs=2e-3)
    assert known + lost.mean() / 2 == pytest.approx(blind, abs=2e-3)  # a coin where it is missing


def test_one_missing_modality_is_the_integral_over_its_score() -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    how, means = two_classes(1.5)
    how = dataclasses.replace(how, biases=np.array([-0.4, 0.0]), mean=np.array([0.3, 0.0]))
    means = means.repeat(2, axis=2)  # two axes, of which the score weighs both
    how = dataclasses.replace(how, direction=np.array([0.6, 0.8]))
    x = np.array([0.9, -0.2])
    found = np.exp(
        log_evidence(how, np.stack([[0, 0], x])[None], np.array([[False, True]]), means, covariance)
    )[0]
    for state in (0, 1):
        centre = how.direction @ (means[0, state] + 0.6 * (x - means[1, state]))

        def integrand(v: float, centre: float = float(centre)) -> float:
            chance = norm.cdf(1.5 * (v - 0.3) / how.sd[0] - 0.4)
            return float(chance * norm.pdf(v, centre, math.sqrt(1 - 0.36)))

        assert found[state] == pytest.approx(quad(integrand, -12, 12)[0], abs=1e-9)


def test_three_missing_of_four_are_sampled_near_the_normal_distribution_function() -> None:
    covariance = np.full((4, 4), 0.4) + 0.6 * np.eye(4)
    slopes, biases = np.array([0.5, 1.0, 2.0, 1.0]), np.array([0.1, -0.3, 0.4, 0.0])
    how = Missingness(
        rates=np.full(4, 0.5),
        slopes=slopes,
        biases=biases,
        sources=(0, 1, 2, 3),
        direction=np.ones(1),
        mean=np.zeros(4),
        sd=np.ones(4),
    )
    means = np.stack([[-1.0, 1.0]] * 4)[..., None]
    observed = np.array([[False, False, False, True]])
    found = log_evidence(how, np.full((1, 4, 1), 0.7), observed, means, covariance)[0]
    for state, centre in enumerate((-1.0, 1.0)):
        mean = centre + 0.4 * (0.7 - centre)
        inner = covariance[:3, :3] - 0.16
        spread = slopes[:3, None] * inner * slopes[:3] + np.eye(3)
        limits = slopes[:3] * mean + biases[:3]
        expected = multivariate_normal.cdf(limits, cov=spread, abseps=1e-5, releps=1e-5)
        assert np.exp(found[state]) == pytest.approx(expected, abs=0.004)


# On twins: against simulating the law.


def simulated(
    twin: Twin, law: Law, row: int, pattern: np.ndarray, state: int, n: int
) -> np.ndarray:
    """n draws of whether a pattern comes of the law in a state, given one row's observed content."""
    how, role = masks.fitted(law, twin.bundle), twin.role
    generator = np.random.default_rng([row, state])
    axes = role.means.shape[2]
    noise = np.kron(role.covariance, np.eye(axes))  # all latents of an utterance at once
    seen, mean = np.repeat(pattern, axes), role.means[:, state].ravel()
    whole = np.concatenate([twin.latents[m][row] for m in twin.bundle.modalities])
    gain = noise[np.ix_(~seen, seen)] @ np.linalg.inv(noise[np.ix_(seen, seen)])
    centre = mean[~seen] + gain @ (whole[seen] - mean[seen])
    spread = noise[np.ix_(~seen, ~seen)] - gain @ noise[np.ix_(seen, ~seen)]
    latents = np.tile(whole, (n, 1))
    latents[:, ~seen] = generator.multivariate_normal(centre, spread, size=n)
    content = how.content
    if content is not None and content.direction is not None:
        z = (latents.reshape(n, 3, axes) @ content.direction - content.mean) / content.sd
        decides = z[:, [max(s, 0) for s in how.sources]]
    else:
        assert how.contrasts is not None
        decides = np.full((n, 3), how.contrasts[state])
    chances = np.stack([curve(decides[:, i]) for i, curve in enumerate(how.curves)], axis=1)
    left = generator.random((n, 3)) >= chances
    return (restore(left, np.ones_like(left), generator) == pattern).all(axis=1)


@pytest.mark.parametrize("law", TELLING, ids=masks.describe)
def test_the_likelihood_of_a_pattern_is_what_simulating_the_law_counts(law: Law) -> None:
    twin, n = open_twin(VECTORS), 20_000
    observed, rows = patterns(VECTORS, law), twin.bundle.rows("test")
    how = masks.fitted(law, twin.bundle).missingness
    away = []
    for pattern in np.unique(observed, axis=0):
        if pattern.all():
            continue
        place = int(np.flatnonzero((observed == pattern).all(axis=1))[0])
        latents = np.stack([twin.latents[m][rows[[place]]] for m in twin.bundle.modalities], axis=1)
        found = log_evidence(how, latents, pattern[None], twin.role.means, twin.role.covariance)[0]
        counted = np.array(
            [simulated(twin, law, rows[place], pattern, k, n).mean() for k in range(6)]
        )
        # Only ratios count: the factor that all states share is the one that fits best.
        share = np.exp(found)
        scale = counted.sum() / share.sum()
        error = np.sqrt(np.maximum(counted * (1 - counted), 1 / n) / n)
        away += list((counted - scale * share) / error)
    assert np.max(np.abs(away)) < 4.2 and np.mean(np.square(away)) < 1.6


# On twins: what the best prediction comes to.


def calibration(twin: Twin, mass: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """How far counts of states are from their expectations, in standard errors, in each group of patterns."""
    truth = np.eye(mass.shape[1])[twin.states[twin.bundle.rows("test")]]
    away = []
    for pattern in np.unique(observed, axis=0):
        rows = (observed == pattern).all(axis=1)
        if rows.sum() > 60:
            spread = np.sqrt((mass[rows] * (1 - mass[rows])).sum(axis=0))
            away += list((truth[rows] - mass[rows]).sum(axis=0) / np.maximum(spread, 1))
    return np.array(away)


@pytest.mark.parametrize("reference", [VECTORS, FRAMES])
@pytest.mark.parametrize("law", TELLING, ids=masks.describe)
def test_states_are_as_frequent_as_the_prediction_that_knows_the_law_says(
    law: Law, reference: str
) -> None:
    twin, observed = open_twin(reference), patterns(reference, law)
    own = calibration(twin, aware(twin, law, observed, context=False), observed)
    assert np.abs(own).max() < 4.2 and np.mean(own**2) < 2
    without = calibration(twin, twin.bayes("test", observed, context=False), observed)
    assert np.mean(without**2) > 4 * np.mean(own**2)


@pytest.mark.parametrize("law", TELLING, ids=masks.describe)
def test_knowing_the_law_never_lowers_the_best_accuracy_and_its_expectation_is_met(
    law: Law,
) -> None:
    for reference in (VECTORS, SCORES):
        twin, observed = open_twin(reference), patterns(reference, law)
        known = masks.fitted(law, twin.bundle).missingness
        expected, realised = twin.best("test", observed, "accuracy", False, law=known)
        _, blind = twin.best("test", observed, "accuracy", False)
        assert abs(realised - expected) < 3 * 100 * math.sqrt(0.25 / len(observed))
        decided = twin.decisions("test", observed, "accuracy", False)
        mass = aware(twin, law, observed, context=False)
        mass = (
            mass if reference == VECTORS else np.stack([mass[:, :3].sum(1), mass[:, 4:].sum(1)], 1)
        )
        chosen = decided if reference == VECTORS else (decided > 0).astype(int)
        of_blind = 100 * mass[np.arange(len(mass)), chosen].sum() / mass.sum()
        assert expected >= of_blind - 1e-9  # both expected under the law
        assert realised > blind - 3 * 100 * math.sqrt(0.25 / len(observed))


@pytest.mark.parametrize("law", IGNORABLE, ids=masks.describe)
@pytest.mark.parametrize("reference", ["twin:iemocap6", "twin:mosi-frames", "twin:mosei"])
def test_where_missingness_says_nothing_the_two_predictions_are_one(
    law: Law, reference: str
) -> None:
    twin, observed = open_twin(reference), patterns(reference, law)
    assert not observed.all()
    for context in (True, False):
        apart = aware(twin, law, observed, context) - twin.bayes("test", observed, context)
        assert np.abs(apart).max() < 1e-12


def test_quality_that_is_independent_of_the_state_says_nothing() -> None:
    twin, law = open_twin(FRAMES), masks.mnar_quality(0.5, 2.0)
    observed = patterns(FRAMES, law)
    lengths = twin.bundle.lengths["text"][twin.bundle.rows("test")]
    assert lengths[~observed[:, 1]].mean() < lengths[observed[:, 1]].mean() - 0.5
    assert (aware(twin, law, observed) == twin.bayes("test", observed)).all()


def test_the_mean_of_the_prediction_is_the_share_of_each_class_but_not_without_the_label_s_law() -> (
    None
):
    law = masks.mnar_label(0.5, 1.0)
    twin, observed = open_twin(VECTORS), patterns(VECTORS, law)
    truth = np.bincount(twin.states[twin.bundle.rows("test")], minlength=6) / len(observed)
    most = observed.all(axis=1)
    own = aware(twin, law, observed, context=False)
    blind = twin.bayes("test", observed, context=False)
    assert np.abs(own.mean(axis=0) - truth).max() < 0.012
    classes = twin.states[twin.bundle.rows("test")][most]
    shares = np.bincount(classes, minlength=6) / most.sum()
    assert np.abs(own[most].mean(axis=0) - shares).max() < 0.03
    assert np.abs(blind[most].mean(axis=0) - shares).max() > 0.05


def test_a_speaker_s_other_utterances_carry_the_evidence_of_their_masks_too() -> None:
    """By enumeration of all states of one short chain."""
    law = masks.mnar_self(0.6, 2.0)
    twin = open_twin("twin:iemocap6@tiny")
    rows, observed = twin.bundle.rows("test"), draw(law, twin.bundle, "test", 0).utterance
    chain = twin.bundle.dialogue[rows] * 2 + twin.bundle.speaker[rows]
    numbers, counts = np.unique(chain, return_counts=True)
    places = np.flatnonzero(chain == numbers[np.argmax(np.where(counts <= 4, counts, 0))])
    assert 2 <= len(places) <= 4
    alone = aware(twin, law, observed, context=False)[places] / np.array(
        twin.role.prior
    )  # likelihoods
    total = np.zeros((len(places), 6))
    for states in itertools.product(range(6), repeat=len(places)):
        weight = twin.role.prior[states[0]]
        for before, after in itertools.pairwise(states):
            weight *= twin.role.transition[before, after]
        weight *= math.prod(alone[u, s] for u, s in enumerate(states))
        for u, s in enumerate(states):
            total[u, s] += weight
    found = aware(twin, law, observed)[places]
    assert found == pytest.approx(total / total.sum(axis=1, keepdims=True), abs=1e-12)


def test_a_mask_that_the_law_cannot_give_or_frames_beside_a_law_are_refused() -> None:
    twin = open_twin("twin:iemocap4-frames@tiny")
    known = masks.fitted(masks.mar_anchor(0.5, 1.0, "text"), twin.bundle).missingness
    nothing = np.ones((len(twin.bundle.rows("test")), 3), bool)
    with pytest.raises(InputError, match="rate is 0"):
        twin.bayes("test", nothing & [True, False, True], law=known)
    frames = {"text": np.ones((len(nothing), 4), bool)}
    with pytest.raises(InputError, match="frames dropped"):
        twin.bayes("test", nothing, frames=frames, law=known)
