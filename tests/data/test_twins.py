"""The twins: exact posteriors, no model beyond them, and data that follow the stated law."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from functools import lru_cache

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import f_oneway, multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmlib import metrics
from mmlib.data.bundle import SPLITS, check_bundle
from mmlib.data.twin_laws import SIZES
from mmlib.data.twins import METRICS, MODALITIES, ROLES, Twin, best_possible, make_twin
from mmlib.errors import InputError

SUBSETS = [s for count in (1, 2, 3) for s in itertools.combinations(MODALITIES, count)]
ALL = MODALITIES


@lru_cache
def study(role: str) -> Twin:
    return make_twin(role, "study")


def keep(twin: Twin, subset: tuple[str, ...], split: str = "test") -> np.ndarray:
    return np.tile([m in subset for m in MODALITIES], (len(twin.bundle.rows(split)), 1))


def random_mask(twin: Twin, seed: int, split: str = "test") -> np.ndarray:
    return np.random.default_rng(seed).random((len(twin.bundle.rows(split)), 3)) < 0.5


def clustered_error(values: np.ndarray, cluster: np.ndarray) -> float:
    """Standard error of a mean over rows that are independent between clusters only."""
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))


def enumerated_posterior(twin: Twin, rows: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The posterior of one dialogue by summing over every sequence of states of both speakers."""
    law, count = twin.role, len(twin.role.prior)
    axes = len(law.axes[0])
    noise = np.zeros((3 * axes, 3 * axes))
    for (i, a), (j, b) in itertools.product(itertools.product(range(3), range(axes)), repeat=2):
        if a == b:
            noise[i * axes + a, j * axes + b] = (
                1.0 if i == j else np.sqrt(law.share[i] * law.share[j])
            )
    density = np.zeros((len(rows), count))
    for u, row in enumerate(rows):
        seen = np.repeat(observed[u], axes)
        stacked = np.concatenate([twin.latents[m][row] for m in MODALITIES])[seen]
        for state in range(count):
            centre = np.concatenate([snr * np.array(law.axes[state]) for snr in law.snr])[seen]
            if seen.any():
                density[u, state] = multivariate_normal(centre, noise[np.ix_(seen, seen)]).logpdf(
                    stacked
                )
    sequences = np.array(list(itertools.product(range(count), repeat=len(rows))))
    log_joint = density[np.arange(len(rows)), sequences].sum(axis=1)
    last: dict[int, int] = {}
    for u, row in enumerate(rows):
        speaker, now = int(twin.bundle.speaker[row]), sequences[:, u]
        prior = np.array(law.prior)[now]
        if speaker in last:
            prior = law.stay * (now == sequences[:, last[speaker]]) + (1 - law.stay) * prior
        log_joint += np.log(prior)
        last[speaker] = u
    weight = np.exp(log_joint - logsumexp(log_joint))
    return np.array(
        [np.bincount(sequences[:, u], weight, minlength=count) for u in range(len(rows))]
    )


@pytest.mark.parametrize("role", ROLES)
def test_posterior_equals_the_sum_over_all_state_sequences(role: str) -> None:
    twin = make_twin(role, "tiny")
    dialogues = twin.bundle.dialogues("test")
    assert max(len(d) for d in dialogues) <= 5
    for observed in [*(keep(twin, s) for s in SUBSETS), random_mask(twin, 1), random_mask(twin, 2)]:
        parts = np.split(observed, np.cumsum([len(d) for d in dialogues])[:-1])
        wanted = np.concatenate(
            [enumerated_posterior(twin, *pair) for pair in zip(dialogues, parts, strict=True)]
        )
        assert np.abs(twin.bayes("test", observed) - wanted).max() < 1e-6


def test_without_context_the_posterior_is_bayes_rule_per_utterance() -> None:
    twin = make_twin("iemocap6", "tiny")
    observed = random_mask(twin, 3)
    alone = [
        enumerated_posterior(twin, np.array([r]), o[None])
        for r, o in zip(twin.bundle.rows("test"), observed, strict=True)
    ]
    assert np.abs(twin.bayes("test", observed, context=False) - np.concatenate(alone)).max() < 1e-6


def test_an_utterance_with_nothing_observed_is_predicted_by_its_speakers_other_utterances() -> None:
    twin = make_twin("iemocap6", "quick")
    nothing = np.zeros((len(twin.bundle.rows("test")), 3), dtype=bool)
    assert np.allclose(twin.bayes("test", nothing), twin.role.prior)
    one = nothing.copy()
    one[0] = True
    moved = np.abs(twin.bayes("test", one) - twin.role.prior).max(axis=1) > 1e-9
    rows = twin.bundle.rows("test")
    same = (twin.bundle.dialogue[rows] == twin.bundle.dialogue[rows[0]]) & (
        twin.bundle.speaker[rows] == twin.bundle.speaker[rows[0]]
    )
    assert same.sum() > 1 and not same.all()
    assert np.array_equal(moved, same)


def targets(twin: Twin, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What a classifier learns (class, or sign of the score) and which rows count."""
    labels = twin.bundle.labels[twin.bundle.rows(split)]
    if twin.bundle.task.kind == "classes":
        return labels, np.ones(len(labels), dtype=bool)
    return np.sign(labels).astype(int), labels != 0


def inputs(
    twin: Twin, split: str, arrays: dict[str, np.ndarray], observed: np.ndarray, neighbours: bool
) -> np.ndarray:
    """Zero-filled modalities side by side with their mask; the dialogue's utterances before and after too."""
    rows = twin.bundle.rows(split)
    parts = [np.where(observed[:, [i]], arrays[m][rows], 0) for i, m in enumerate(MODALITIES)]
    own = np.concatenate([*parts, observed], axis=1)
    if not neighbours:
        return own
    both = []
    for shift in (1, 2, -1, -2):
        near = np.roll(own, shift, axis=0)
        place = np.roll(twin.bundle.dialogue[rows], shift) == twin.bundle.dialogue[rows]
        same = place & (np.roll(twin.bundle.speaker[rows], shift) == twin.bundle.speaker[rows])
        both += [near * same[:, None], near * (place & ~same)[:, None]]
    return np.concatenate([own, *both], axis=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("masked", [False, True], ids=["complete", "masked"])
@pytest.mark.parametrize("role", ROLES)
def test_no_trained_model_is_more_accurate_than_the_best_decision(role: str, masked: bool) -> None:
    twin = study(role)
    observed = {
        s: random_mask(twin, 5, s) if masked else keep(twin, ALL, s) for s in ("train", "test")
    }
    truth, counted = targets(twin, "test")
    assert counted.sum() > 1000
    best = twin.decisions("test", observed["test"], "accuracy") == truth
    cluster = twin.bundle.dialogue[twin.bundle.rows("test")][counted]
    learn, use = targets(twin, "train")
    use[3000:] = False  # as many as the roles without sessions have
    logistic = LogisticRegression(C=0.1, max_iter=300)
    network = MLPClassifier((32,), alpha=1.0, max_iter=25, random_state=0)
    gaps = {}
    for name, model, arrays, neighbours in [
        ("logistic on features", logistic, twin.bundle.features, False),
        ("network on features", network, twin.bundle.features, False),
        ("logistic on latents and context", logistic, twin.latents, True),
    ]:
        x = {s: inputs(twin, s, dict(arrays), observed[s], neighbours) for s in ("train", "test")}
        fitted = make_pipeline(StandardScaler(), model).fit(x["train"][use], learn[use])
        gain = ((fitted.predict(x["test"]) == truth).astype(float) - best)[counted]
        gaps[name] = gain.mean() / clustered_error(gain, cluster)
    assert max(gaps.values()) < 2, gaps
    assert min(gaps.values()) < 0


@pytest.mark.parametrize("role", ["mosi", "mosei"])
def test_no_trained_regressor_has_a_lower_absolute_error_than_the_median(role: str) -> None:
    twin = study(role)
    x = {
        s: inputs(twin, s, dict(twin.latents), keep(twin, ALL, s), True) for s in ("train", "test")
    }
    y = {s: twin.bundle.labels[twin.bundle.rows(s)] for s in ("train", "test")}
    trained = np.abs(Ridge(1.0).fit(x["train"], y["train"]).predict(x["test"]) - y["test"])
    best = np.abs(twin.decisions("test", keep(twin, ALL), "mae") - y["test"])
    assert best.mean() < trained.mean()


def smoothed(
    log_like: np.ndarray, chains: list[np.ndarray], start: np.ndarray, move: np.ndarray
) -> np.ndarray:
    """Forward-backward in logarithms, one chain after the other."""
    result = np.empty_like(log_like)
    for chain in chains:
        ahead, back = [np.log(start) + log_like[chain[0]]], [np.zeros(len(start))]
        for u in chain[1:]:
            ahead.append(log_like[u] + logsumexp(ahead[-1][:, None] + np.log(move), axis=0))
        for u in chain[:0:-1]:
            back.append(logsumexp(np.log(move) + (log_like[u] + back[-1]), axis=1))
        result[chain] = np.array(ahead) + np.array(back[::-1])
    return np.exp(result - logsumexp(result, axis=1, keepdims=True))


def chains_of(twin: Twin, split: str) -> list[np.ndarray]:
    rows = twin.bundle.rows(split)
    key = twin.bundle.dialogue[rows] * 2 + twin.bundle.speaker[rows]
    return [np.flatnonzero(key == k) for k in np.unique(key)]


@pytest.mark.parametrize("subset", [ALL, ("audio",)], ids=["ALV", "A"])
@pytest.mark.parametrize("role", ROLES)
def test_a_well_specified_estimator_comes_within_a_point_of_the_best(
    role: str, subset: tuple[str, ...]
) -> None:
    twin = study(role)
    rows = {s: twin.bundle.rows(s) for s in ("train", "test")}
    x = {s: np.concatenate([twin.latents[m][r] for m in subset], axis=1) for s, r in rows.items()}
    states, count = twin.states[rows["train"]], len(twin.role.prior)
    estimator = LinearDiscriminantAnalysis().fit(x["train"], states)
    start = np.bincount(states, minlength=count) / len(states)
    steps = np.concatenate(
        [np.stack([states[c[:-1]], states[c[1:]]]) for c in chains_of(twin, "train")], axis=1
    )
    move = np.full((count, count), 0.5)
    np.add.at(move, (steps[0], steps[1]), 1)
    log_like = estimator.predict_log_proba(x["test"]) - np.log(start)
    estimate = smoothed(
        log_like, chains_of(twin, "test"), start, move / move.sum(axis=1, keepdims=True)
    )
    truth, counted = targets(twin, "test")
    for guess, context in [(estimate, True), (np.exp(log_like) * start, False)]:
        if twin.bundle.task.kind == "score":
            decided = np.where(guess[:, 4:].sum(axis=1) > guess[:, :3].sum(axis=1), 1, -1)
        else:
            decided = guess.argmax(axis=1)
        best = twin.decisions("test", keep(twin, subset), "accuracy", context=context)
        assert abs(((decided == truth)[counted]).mean() - ((best == truth)[counted]).mean()) < 0.01


@pytest.mark.parametrize("role", ROLES)
def test_realised_equals_expected_within_sampling_error_under_masks(role: str) -> None:
    twin = study(role)
    observed, rows = random_mask(twin, 7), twin.bundle.rows("test")
    mass = twin.bayes("test", observed)
    surprise = np.eye(mass.shape[1])[twin.states[rows]] - mass
    for state in range(mass.shape[1]):
        assert abs(surprise[:, state].mean()) < 4 * clustered_error(
            surprise[:, state], twin.bundle.dialogue[rows]
        )
    sure = (twin.states[rows] == mass.argmax(axis=1)) - mass.max(axis=1)
    assert abs(sure.mean()) < 3 * clustered_error(sure, twin.bundle.dialogue[rows])


@pytest.mark.parametrize("role", ROLES)
def test_realised_values_are_those_of_the_metrics_module(role: str) -> None:
    twin = study(role)
    observed, labels = random_mask(twin, 8), twin.bundle.labels[twin.bundle.rows("test")]
    for metric in METRICS[twin.bundle.task.kind]:
        guess = twin.decisions("test", observed, metric)
        truth = labels
        if twin.bundle.task.kind == "score" and metric in ("accuracy", "weighted_f1"):
            truth, guess = metrics.sign_labels(labels, guess, with_zero=False)
        realised = twin.best("test", observed, metric)[1]
        assert realised == pytest.approx(getattr(metrics, metric)(truth, guess), abs=1e-6)


def test_each_metrics_decision_is_the_best_for_that_metric() -> None:
    """On average over labels that the posterior may well have."""
    twin = study("iemocap6")
    observed = keep(twin, ("vision",))
    generator, upper = np.random.default_rng(2), twin.bayes("test", observed).cumsum(axis=1)
    drawn = [(upper > generator.random((len(upper), 1))).argmax(axis=1) for _ in range(40)]
    decided = {
        m: twin.decisions("test", observed, m) for m in ("accuracy", "macro_recall", "weighted_f1")
    }
    for name in decided:
        metric = getattr(metrics, name)
        scores = {
            other: np.mean([metric(truth, decided[other]) for truth in drawn]) for other in decided
        }
        assert max(scores, key=scores.__getitem__) == name, scores


def test_the_median_makes_the_absolute_error_least_among_shifted_decisions() -> None:
    twin = study("mosei")
    observed = keep(twin, ("text", "audio"))
    expected, _ = twin.best("test", observed, "mae")
    low, high = twin.role.score_bounds
    generator, some = np.random.default_rng(1), twin.bayes("test", observed)[:300]
    states = np.stack([generator.choice(7, 400, p=p / p.sum()) for p in some])
    labels = low[states] + generator.random(states.shape) * (high - low)[states]
    decision = twin.decisions("test", observed, "mae")[:300, None]
    errors = {shift: np.abs(labels - decision - shift).mean() for shift in (-0.2, 0.0, 0.2)}
    assert min(errors, key=errors.__getitem__) == 0.0
    assert np.abs(decision[:, 0] - np.median(labels, axis=1)).mean() < 0.1
    assert expected == pytest.approx(twin.best("test", observed, "mae")[1], abs=0.03)


@pytest.mark.parametrize("role", ROLES)
def test_hiding_a_modality_never_raises_the_expected_accuracy(role: str) -> None:
    twin = study(role)
    for subset, more in itertools.product(SUBSETS, SUBSETS):
        if set(subset) < set(more):
            less, full = (twin.best("test", keep(twin, s), "accuracy")[0] for s in (subset, more))
            assert less <= full + 0.1, (subset, more)
    some = random_mask(twin, 9)
    fewer = some & random_mask(twin, 10)
    assert twin.best("test", fewer, "accuracy")[0] < twin.best("test", some, "accuracy")[0]


def test_what_a_missing_modality_holds_does_not_matter() -> None:
    twin = make_twin("iemocap6", "smoke")
    observed = random_mask(twin, 11)
    other = {m: v.copy() for m, v in twin.latents.items()}
    for index, modality in enumerate(MODALITIES):
        other[modality][twin.bundle.rows("test")[~observed[:, index]]] = 1e3
    changed = dataclasses.replace(twin, latents=other)
    assert np.array_equal(changed.bayes("test", observed), twin.bayes("test", observed))
    assert not np.allclose(changed.bayes("test", ~observed), twin.bayes("test", ~observed))


@pytest.mark.parametrize(
    ("role", "lead", "ranges"),
    [
        (
            "iemocap4",
            7,
            {
                "A": (66, 70),
                "V": (53, 58),
                "L": (74, 78),
                "AV": (71, 75),
                "AL": (80, 84),
                "LV": (76, 80),
                "ALV": (82, 85),
            },
        ),
        (
            "iemocap6",
            9,
            {
                "A": (50, 55),
                "V": (32, 37),
                "L": (61, 66),
                "AV": (52, 57),
                "AL": (64, 69),
                "LV": (62, 67),
                "ALV": (64, 70),
            },
        ),
        (
            "mosei",
            9,
            {
                "A": (64, 68),
                "V": (63, 66),
                "L": (84, 88),
                "AV": (65, 69),
                "AL": (86, 89),
                "LV": (86, 89),
                "ALV": (86, 90),
            },
        ),
        (
            "mosi",
            9,
            {
                "A": (60, 65),
                "V": (57, 62),
                "L": (80, 84),
                "AV": (60, 66),
                "AL": (81, 86),
                "LV": (81, 86),
                "ALV": (82, 87),
            },
        ),
    ],
)
def test_best_accuracies_have_the_order_and_spacing_of_the_papers(
    role: str, lead: int, ranges: dict[str, tuple[int, int]]
) -> None:
    table = best_possible(study(role), metrics=("accuracy",)).set_index("subset")["expected"]
    assert table["L"] > table["A"] + lead and table["A"] > table["V"] + 1
    assert list(table.index) == ["A", "L", "V", "AL", "AV", "LV", "ALV"]
    for subset, (low, high) in ranges.items():
        assert low <= table[subset] <= high, (subset, table[subset])


@pytest.mark.parametrize("size", SIZES[:4])
def test_each_of_five_sessions_holds_whole_dialogues_and_every_class(size: str) -> None:
    bundle = make_twin("iemocap4", size).bundle
    assert (
        bundle.fold is not None
        and bundle.fold.dtype == np.int64
        and set(bundle.fold) == set(range(5))
    )
    for split in SPLITS:
        assert all(len(set(bundle.fold[rows])) == 1 for rows in bundle.dialogues(split))
    dialogues = [len(set(bundle.dialogue[bundle.fold == k])) for k in range(5)]
    utterances = np.bincount(bundle.fold)
    assert max(dialogues) == min(dialogues) >= 4
    assert utterances.max() / utterances.min() < 1.4
    assert all(set(bundle.labels[bundle.fold == k]) == {0, 1, 2, 3} for k in range(5))
    assert np.array_equal(bundle.split, bundle.with_fold(4).split)


@pytest.mark.parametrize("size", SIZES[:4])
def test_every_session_is_the_test_and_the_validation_of_one_fold(size: str) -> None:
    twin = make_twin("iemocap4", size)
    folds = [twin.with_fold(k).bundle for k in range(5)]
    for split in ("valid", "test"):
        assert sorted(np.concatenate([f.rows(split) for f in folds])) == list(
            range(len(twin.bundle))
        )
    assert (session := twin.bundle.fold) is not None
    for number, fold in enumerate(folds):
        check_bundle(fold)
        assert set(session[fold.rows("test")]) == {number} and set(session[fold.rows("valid")]) == {
            (number + 1) % 5
        }
        assert fold.features is twin.bundle.features and fold.labels is twin.bundle.labels


@pytest.mark.parametrize("number", range(5))
def test_the_best_of_a_fold_is_that_of_its_sessions_dialogues(number: int) -> None:
    whole = make_twin("iemocap4", "tiny")
    twin = whole.with_fold(number)
    session = np.flatnonzero(whole.bundle.fold == number)
    dialogues = [
        session[whole.bundle.dialogue[session] == d]
        for d in sorted(set(whole.bundle.dialogue[session]))
    ]
    rows = np.concatenate(dialogues)
    seen = np.random.default_rng(number).random((len(rows), 3)) < 0.6
    parts = np.split(seen, np.cumsum([len(d) for d in dialogues])[:-1])
    mass = np.concatenate(
        [enumerated_posterior(whole, *pair) for pair in zip(dialogues, parts, strict=True)]
    )
    right = mass.argmax(axis=1) == whole.states[rows]
    assert twin.best("test", seen, "accuracy") == pytest.approx(
        (100 * mass.max(axis=1).mean(), 100 * right.mean())
    )


def test_means_over_folds_are_near_the_best_accuracies_of_much_data() -> None:
    twin = make_twin("iemocap4", "quick")
    tables = [best_possible(twin.with_fold(k), metrics=("accuracy",))["realised"] for k in range(5)]
    much = best_possible(study("iemocap4"), metrics=("accuracy",))["expected"]
    assert np.abs(np.mean(tables, axis=0) - much).max() < 2


def test_class_shares_are_those_of_iemocaps_four_classes() -> None:
    labels = study("iemocap4").bundle.labels
    assert np.abs(np.bincount(labels) / len(labels) - (0.296, 0.196, 0.309, 0.199)).max() < 0.02


@pytest.mark.parametrize(
    ("role", "rows", "audio", "vision"),
    [
        ("iemocap6", "ea20bcb9dd41890c", -532.060, 1363.659),
        ("mosi", "930a26ca2272694f", 143.078, -98.743),
        ("mosei", "6e30fad80b11e464", 147.518, -52.835),
        ("iemocap4", "9304494607db19ff", -80.204, -1301.973),
    ],
)
def test_a_twin_is_the_one_that_results_were_made_on(
    role: str, rows: str, audio: float, vision: float
) -> None:
    twin = make_twin(role)
    b = twin.bundle
    numbers = np.stack([b.split, b.dialogue, b.position, b.speaker, twin.states]).astype("<i8")
    assert hashlib.sha256(numbers.tobytes()).hexdigest()[:16] == rows
    assert twin.latents["audio"].sum() == pytest.approx(audio, abs=0.01)
    assert b.features["vision"].astype(float).sum() == pytest.approx(vision, abs=0.1)


def test_share_of_positive_scores_is_that_of_the_data_sets() -> None:
    for role, share in (("mosei", 0.6285), ("mosi", 0.55)):
        labels = study(role).bundle.labels
        assert abs((labels > 0).sum() / (labels != 0).sum() - share) < 0.02


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("role", ROLES)
def test_the_seed_decides_every_byte(role: str, size: str) -> None:
    first, again, other = (
        make_twin(role, size, 3),
        make_twin(role, size, 3),
        make_twin(role, size, 4),
    )
    assert first.bundle.fingerprint == again.bundle.fingerprint != other.bundle.fingerprint
    for modality in MODALITIES:
        assert first.latents[modality].tobytes() == again.latents[modality].tobytes()
        assert (
            first.bundle.features[modality].tobytes() == again.bundle.features[modality].tobytes()
        )


@pytest.mark.parametrize("role", ROLES)
def test_features_are_the_lifted_latents_and_can_be_inverted(role: str) -> None:
    twin = make_twin(role, "quick")
    for modality, lift in twin.lifts.items():
        features, latent = twin.bundle.features[modality][:, lift.columns], twin.latents[modality]
        assert np.abs(lift.inverse(lift(latent)) - latent).max() < 1e-10
        assert np.abs(lift.inverse(features) - latent).max() < 1e-5
        straight = latent @ np.linalg.lstsq(latent, features, rcond=None)[0]
        assert (features - straight).var() > 0.01 * features.var()


def test_nuisance_coordinates_carry_no_class_information_and_the_others_do() -> None:
    twin = study("iemocap6")
    for modality, lift in twin.lifts.items():
        groups = [twin.bundle.features[modality][twin.states == state] for state in range(6)]
        p = f_oneway(*groups).pvalue
        nuisance = np.setdiff1d(np.arange(len(p)), lift.columns)
        assert len(nuisance) >= 4 and p[nuisance].min() * len(nuisance) > 0.01
        assert p[lift.columns].max() < 1e-6


@pytest.mark.parametrize("role", ["mosi", "mosei"])
def test_the_jitter_of_a_score_never_changes_its_level_or_sign(role: str) -> None:
    twin = study(role)
    levels = twin.states - 3
    assert np.array_equal(np.rint(twin.bundle.labels), levels)
    assert np.array_equal(np.sign(twin.bundle.labels), np.sign(levels))
    assert np.unique(twin.bundle.labels).size > 1000 and np.abs(twin.bundle.labels).max() <= 3


def test_chains_move_at_each_own_utterance_and_start_anew_with_each_dialogue() -> None:
    twin = study("iemocap6")
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for split in ("train", "test"):
        rows = twin.bundle.rows(split)
        for chain in chains_of(twin, split):
            own = rows[chain]
            for before, after in itertools.pairwise(own):
                adjacent = twin.bundle.position[after] == twin.bundle.position[before] + 1
                kept[bool(adjacent)].append(twin.states[before] == twin.states[after])
    chance = float((np.array(twin.role.prior) ** 2).sum())
    for adjacent, same in kept.items():
        assert len(same) > 1000
        assert abs(np.mean(same) - (twin.role.stay + (1 - twin.role.stay) * chance)) < 0.04, (
            adjacent
        )
    dialogues = twin.bundle.dialogues("test")
    across = [twin.states[a[-1]] == twin.states[b[0]] for a, b in itertools.pairwise(dialogues)]
    assert abs(np.mean(across) - chance) < 0.08


def test_sizes_and_speakers_are_those_of_the_data_sets() -> None:
    wanted = {
        "iemocap6": ((108, 12, 31), 7433, 2),
        "mosi": ((52, 10, 31), 2199, 1),
        "mosei": ((2249, 300, 676), 22856, 1),
        "iemocap4": ((90, 30, 31), 5531, 2),
    }
    assert set(wanted) == set(ROLES)
    for role, (dialogues, utterances, speakers) in wanted.items():
        full = ROLES[role].shapes["full"]
        assert full.dialogues == dialogues and sum(full.utterances) == utterances
        bundle = make_twin(role, "quick").bundle
        assert len(bundle) == sum(ROLES[role].shapes["quick"].utterances)
        assert bundle.speakers == speakers
        assert set(ROLES[role].shapes) == set(SIZES)
        assert "Synthetic" in bundle.source and "not the data set" in bundle.source
        assert bundle.modalities == MODALITIES


def test_unknown_names_and_masks_of_another_shape_are_refused() -> None:
    twin = make_twin("mosi", "tiny")
    with pytest.raises(InputError, match="mosei"):
        make_twin("mosey")
    with pytest.raises(InputError, match="quick"):
        make_twin("mosi", "quik")
    with pytest.raises(InputError, match="shape"):
        twin.bayes("test", np.ones((2, 3), dtype=bool))
    with pytest.raises(InputError, match="no folds"):
        twin.with_fold(0)
    with pytest.raises(InputError, match="0 to 4"):
        make_twin("iemocap4", "tiny").with_fold(5)
    with pytest.raises(InputError, match="acc7"):
        twin.decisions("test", keep(twin, ALL), "acc77")
