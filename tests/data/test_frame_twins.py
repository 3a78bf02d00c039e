"""The frame-level twins: exact posteriors for any frames dropped, and data that follow the stated law."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import f_oneway, multivariate_normal, norm
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmlib import masks, metrics, paths
from mmlib.data.bundle import SPLITS, check_bundle, load_bundle, save_bundle
from mmlib.data.catalog import is_av_twin, open_av_twin, open_bundle, open_twin
from mmlib.data.check import check
from mmlib.data.posterior import frame_log_likelihood
from mmlib.data.twin_laws import FRAME_ROLES, MODALITIES, ROLES, SIZES
from mmlib.data.twins import Twin, best_possible, make_twin
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]
AXES = {"iemocap4-frames": 3, "mosi-frames": 2, "mosei-frames": 2}


@lru_cache
def study(role: str) -> Twin:
    return make_twin(role, "study")


def everything(twin: Twin, split: str = "test") -> np.ndarray:
    return np.ones((len(twin.bundle.rows(split)), 3), dtype=bool)


def dropped(
    twin: Twin, rate: float, split: str = "test", seed: int = 0
) -> Mapping[str, np.ndarray]:
    return masks.draw(masks.frames(rate), twin.bundle, split, seed).frames


def pooled(
    twin: Twin, split: str, arrays: Mapping[str, np.ndarray], frames: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Each modality's sum over its observed frames, and how many those are."""
    rows = twin.bundle.rows(split)
    parts = [np.where(frames[m][..., None], arrays[m][rows], 0).sum(axis=1) for m in MODALITIES]
    return np.concatenate([*parts, *(frames[m].sum(axis=1)[:, None] for m in MODALITIES)], axis=1)


def stacked_log_density(twin: Twin, row: int, seen: np.ndarray) -> np.ndarray:
    """Log density of all that is seen of an utterance, as one Gaussian, per state; seen (t, M)."""
    law = FRAME_ROLES[str(twin.bundle.notes["twin"])]
    longest = twin.bundle.features["text"].shape[1]
    per_frame = np.sqrt(np.mean([np.ceil(longest / 2), longest]))
    where = [
        (t, m, a)
        for t, m, a in itertools.product(range(longest), range(3), range(len(law.axes[0])))
        if seen[t, m] and t < twin.bundle.lengths["text"][row]
    ]
    if not where:
        return np.zeros(len(law.prior))
    point = [twin.latents[MODALITIES[m]][row, t, a] for t, m, a in where]
    noise = np.array(
        [
            [
                float((m, t, a) == (n, u, b))
                if m == n
                else ((t, a) == (u, b)) * np.sqrt(law.share[m] * law.share[n])
                for u, n, b in where
            ]
            for t, m, a in where
        ]
    )
    return np.array(
        [
            multivariate_normal(
                [law.snr[m] / per_frame * law.axes[s][a] for _, m, a in where], noise
            ).logpdf(point)
            for s in range(len(law.prior))
        ]
    )


def enumerated(twin: Twin, rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The posterior of one dialogue of one speaker, by summing over every sequence of states."""
    law = FRAME_ROLES[str(twin.bundle.notes["twin"])]
    density = np.array([stacked_log_density(twin, r, s) for r, s in zip(rows, seen, strict=True)])
    sequences = np.array(list(itertools.product(range(len(law.prior)), repeat=len(rows))))
    joint = density[np.arange(len(rows)), sequences].sum(axis=1) + np.log(
        np.array(law.prior)[sequences[:, 0]]
    )
    for u in range(1, len(rows)):
        fresh = (1 - law.stay) * np.array(law.prior)[sequences[:, u]]
        joint += np.log(law.stay * (sequences[:, u] == sequences[:, u - 1]) + fresh)
    weight = np.exp(joint - logsumexp(joint))
    return np.array(
        [np.bincount(sequences[:, u], weight, minlength=len(law.prior)) for u in range(len(rows))]
    )


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("role", FRAME_ROLES)
def test_posterior_equals_the_sum_over_all_state_sequences(role: str, rate: float) -> None:
    twin = make_twin(role, "tiny")
    generator = np.random.default_rng(int(10 * rate))
    observed = generator.random((15, 3)) < 0.8
    frames = {m: generator.random((15, 4)) >= rate for m in MODALITIES}
    rows = twin.bundle.rows("test")
    seen = np.stack([frames[m] for m in MODALITIES], axis=-1) & observed[:, None]
    wanted = [
        enumerated(twin, d, seen[np.searchsorted(rows, d)]) for d in twin.bundle.dialogues("test")
    ]
    assert np.array_equal(rows, np.concatenate(twin.bundle.dialogues("test")))
    np.testing.assert_allclose(
        twin.bayes("test", observed, frames=frames), np.concatenate(wanted), atol=1e-9
    )


def test_likelihood_is_the_integral_over_the_common_noise() -> None:
    """Frame by frame, by quadrature over what the modalities share: no covariance matrix and no inverse."""
    generator = np.random.default_rng(3)
    share, means = np.array([0.3, 0.6, 0.1]), generator.normal(size=(3, 4, 1))
    covariance = np.sqrt(np.outer(share, share)) + np.diag(1 - share)
    latents, seen = generator.normal(size=(5, 6, 3, 1)), generator.random((5, 6, 3)) < 0.5
    assert not seen.any(axis=2).all()
    grid = np.linspace(-9, 9, 20001)
    log_like = np.zeros((5, 4))
    for n, t, s in itertools.product(range(5), range(6), range(4)):
        density = norm.pdf(grid)
        for m in np.flatnonzero(seen[n, t]):
            density = density * norm.pdf(
                latents[n, t, m, 0],
                means[m, s, 0] + np.sqrt(share[m]) * grid,
                np.sqrt(1 - share[m]),
            )
        log_like[n, s] += np.log(np.trapezoid(density, grid))
    found = frame_log_likelihood(latents, seen, means, covariance)
    np.testing.assert_allclose(found - found[:, :1], log_like - log_like[:, :1], atol=1e-8)


@pytest.mark.parametrize("rate", [0.0, 0.7])
@pytest.mark.parametrize("role", FRAME_ROLES)
def test_states_come_up_as_often_as_the_posterior_says(role: str, rate: float) -> None:
    twin = study(role)
    rows, dialogue = twin.bundle.rows("test"), twin.bundle.dialogue[twin.bundle.rows("test")]
    mass = twin.bayes("test", everything(twin), frames=dropped(twin, rate))

    def surprise(values: np.ndarray) -> float:
        sums = np.bincount(np.unique(dialogue, return_inverse=True)[1], values)
        return float(abs(values.sum()) / np.sqrt((sums**2).sum()))

    truth = np.eye(mass.shape[1])[twin.states[rows]]
    for state, (low, high) in itertools.product(
        range(mass.shape[1]), ((0, 0.2), (0.2, 0.5), (0.5, 1.01))
    ):
        among = (mass[:, state] >= low) & (mass[:, state] < high)
        if among.sum() > 200:
            assert surprise(np.where(among, truth[:, state] - mass[:, state], 0)) < 4, (state, low)
    assert surprise(truth[np.arange(len(rows)), mass.argmax(axis=1)] - mass.max(axis=1)) < 3


def targets(twin: Twin, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The state or the sign of the score, and which rows count."""
    states = twin.states[twin.bundle.rows(split)]
    if twin.bundle.task.kind == "binaries":
        return states, np.ones(len(states), dtype=bool)
    return np.sign(states - 3), states != 3


def best_guess(twin: Twin, frames: Mapping[str, np.ndarray]) -> np.ndarray:
    mass = twin.bayes("test", everything(twin), context=False, frames=frames)
    if twin.bundle.task.kind == "binaries":
        return mass.argmax(axis=1)
    return np.where(mass[:, 4:].sum(axis=1) > mass[:, :3].sum(axis=1), 1, -1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("rate", [0.0, 0.6])
@pytest.mark.parametrize("role", FRAME_ROLES)
def test_a_well_specified_model_comes_near_the_best_and_none_exceeds_it(
    role: str, rate: float
) -> None:
    """Sums of latents and lengths are sufficient where no frame is dropped, and nearly so where some are."""
    twin = study(role)
    frames = {s: dropped(twin, rate, s) for s in ("train", "test")}
    (learn, use), (truth, counted) = targets(twin, "train"), targets(twin, "test")
    best = best_guess(twin, frames["test"]) == truth
    models = {
        "latents": (LogisticRegression(C=0.3, max_iter=500), twin.latents),
        "features": (
            MLPClassifier((32,), alpha=1.0, max_iter=25, random_state=0),
            twin.bundle.features,
        ),
    }
    gain = {}
    for name, (model, arrays) in models.items():
        x = {s: pooled(twin, s, arrays, frames[s]) for s in ("train", "test")}
        guess = (
            make_pipeline(StandardScaler(), model)
            .fit(x["train"][use], learn[use])
            .predict(x["test"])
        )
        gain[name] = ((guess == truth).astype(float) - best)[counted]
    error = {name: g.std() / np.sqrt(len(g)) for name, g in gain.items()}
    assert all(g.mean() < 3 * error[name] for name, g in gain.items()), gain
    assert gain["latents"].mean() > (-0.012 if rate == 0 else -0.02)
    assert gain["features"].mean() > -0.06


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_the_more_frames_are_dropped_the_less_can_be_known(role: str) -> None:
    twin = study(role)
    expected = [
        twin.best("test", everything(twin), "accuracy", frames=dropped(twin, rate))[0]
        for rate in (0.0, 0.3, 0.5, 0.7, 0.9)
    ]
    assert all(a > b + 1.5 for a, b in itertools.pairwise(expected)), expected
    nothing = twin.bayes("test", ~everything(twin))
    assert np.allclose(nothing, twin.role.prior)


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_best_accuracies_have_the_order_of_the_papers(role: str) -> None:
    table = best_possible(study(role), metrics=("accuracy",)).set_index("subset")["expected"]
    assert table["ALV"] > table["L"] > table["A"] > table["V"] + 1
    low, high = {"iemocap4-frames": (88, 91), "mosi-frames": (82, 85), "mosei-frames": (86, 89)}[
        role
    ]
    assert low < table["ALV"] < high


@pytest.mark.parametrize("role", ["mosi-frames", "mosei-frames"])
def test_an_utterance_knows_as_much_as_one_of_the_vector_twin(role: str) -> None:
    """The frames' ratio is such that an utterance of average length carries the evidence of the role's own ratio."""
    expected = {}
    for name, twin in (
        ("frames", study(role)),
        ("vector", make_twin(role.removesuffix("-frames"), "study")),
    ):
        mass = twin.bayes("test", everything(twin), context=False)
        expected[name] = 100 * mass.max(axis=1).mean()
    assert abs(expected["frames"] - expected["vector"]) < 1.5, expected


def test_a_modality_without_frames_is_a_missing_modality() -> None:
    twin = make_twin("mosi-frames", "quick")
    none = {"text": np.zeros((600, 8), dtype=bool)}
    hidden = everything(twin) & [True, False, True]
    assert np.array_equal(
        twin.bayes("test", everything(twin), frames=none), twin.bayes("test", hidden)
    )
    assert not np.allclose(twin.bayes("test", hidden), twin.bayes("test", everything(twin)))


def test_what_is_dropped_or_beyond_the_length_does_not_matter() -> None:
    twin = make_twin("iemocap4-frames", "quick")
    rows, frames = twin.bundle.rows("test"), dropped(twin, 0.5)
    changed = {}
    for modality, values in twin.latents.items():
        changed[modality] = values.copy()
        changed[modality][rows] = np.where(frames[modality][..., None], values[rows], 1e3)
    other = dataclasses.replace(twin, latents=changed)
    kept = twin.bayes("test", everything(twin), frames=frames)
    assert np.array_equal(other.bayes("test", everything(twin), frames=frames), kept)
    assert not np.allclose(
        other.bayes("test", everything(twin)), twin.bayes("test", everything(twin))
    )
    loose = {m: f | (np.arange(8) >= twin.bundle.lengths[m][rows, None]) for m, f in frames.items()}
    assert any((loose[m] != f).any() for m, f in frames.items())
    assert np.array_equal(twin.bayes("test", everything(twin), frames=loose), kept)


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_features_are_the_lifted_latents_and_zero_beyond_the_length(role: str) -> None:
    twin = make_twin(role, "quick")
    longest = twin.bundle.shapes["text"][0]
    lengths = twin.bundle.lengths
    assert all(np.array_equal(lengths[m], lengths["text"]) for m in MODALITIES)
    assert set(lengths["text"]) == set(range((longest + 1) // 2, longest + 1))
    exists = np.arange(longest) < lengths["text"][:, None]
    for modality, lift in twin.lifts.items():
        features, latent = twin.bundle.features[modality], twin.latents[modality]
        assert (
            features.shape[:2] == latent.shape[:2] == (1750, longest)
            and features.dtype == np.float32
        )
        assert not features[~exists].any() and features[exists].all()
        assert np.abs(lift.inverse(features[..., lift.columns]) - latent)[exists].max() < 1e-4
        straight = latent[exists] @ np.linalg.lstsq(latent[exists], features[exists], rcond=None)[0]
        assert (features[exists] - straight).var() > 0.01 * features[exists].var()


def test_lengths_and_nuisance_carry_no_information_and_the_lifted_coordinates_do() -> None:
    twin = study("iemocap4-frames")
    groups = [np.flatnonzero(twin.states == state) for state in range(4)]
    assert f_oneway(*(twin.bundle.lengths["text"][g] for g in groups)).pvalue > 0.001
    for modality, lift in twin.lifts.items():
        mean = twin.bundle.features[modality].sum(axis=1) / twin.bundle.lengths[modality][:, None]
        p = f_oneway(*(mean[g] for g in groups)).pvalue
        nuisance = np.setdiff1d(np.arange(len(p)), lift.columns)
        assert len(nuisance) >= 4 and p[nuisance].min() * len(nuisance) > 0.01
        assert p[lift.columns].max() < 1e-6


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_frames_are_independent_given_the_state_and_share_noise_within_a_frame_alone(
    role: str,
) -> None:
    twin = study(role)
    longest = twin.bundle.shapes["text"][0]
    away = {}
    for modality, values in twin.latents.items():
        centre = np.stack(
            [values[twin.states == s].mean(axis=(0, 1)) for s in range(len(twin.role.prior))]
        )
        away[modality] = values - centre[twin.states][:, None]
    for i, m in enumerate(MODALITIES):
        assert np.abs(away[m].var() - 1) < 0.02
        assert abs((away[m][:, 1:] * away[m][:, :-1]).mean()) < 0.02
        for j, other in enumerate(MODALITIES[i + 1 :], start=i + 1):
            wanted = np.sqrt(FRAME_ROLES[role].share[i] * FRAME_ROLES[role].share[j])
            assert abs((away[m] * away[other]).mean() - wanted) < 0.02
            assert abs((away[m] * np.roll(away[other], longest // 2, axis=1)).mean()) < 0.02


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_best_values_are_those_of_the_metrics_module(role: str) -> None:
    twin, frames = study(role), dropped(study(role), 0.5)
    labels, task = twin.bundle.labels[twin.bundle.rows("test")], twin.bundle.task
    for metric in twin.metrics:
        guess = twin.decisions("test", everything(twin), metric, frames=frames)
        expected, realised = twin.best("test", everything(twin), metric, frames=frames)
        if task.kind == "score":
            assert realised == pytest.approx(
                metrics.all_metrics(task, guess[:, None], labels)[metric], abs=1e-6
            )
        else:
            every = guess if guess.ndim == 2 else np.tile(guess[:, None], 4)
            logits = np.stack([1 - every, every], axis=2).reshape(len(every), 8)
            assert realised == pytest.approx(
                metrics.all_metrics(task, logits, labels)[metric], abs=1e-6
            )
        assert expected == pytest.approx(realised, abs=0.05 if metric == "mae" else 2)


def test_yes_or_no_is_decided_for_the_metric() -> None:
    twin = study("iemocap4-frames")
    seen = everything(twin) & [False, False, True]
    mass, labels = twin.bayes("test", seen), twin.bundle.labels[twin.bundle.rows("test")]
    assert np.array_equal(twin.decisions("test", seen, "accuracy"), mass > 0.5)
    for k, name in enumerate(("neutral", "happy", "sad", "angry")):
        own, plain = twin.decisions("test", seen, f"f1_{name}"), mass[:, k] > 0.5
        assert (
            metrics.weighted_f1(labels[:, k], own) >= metrics.weighted_f1(labels[:, k], plain) - 0.3
        )
    happy = twin.decisions("test", seen, "f1_happy")
    assert metrics.weighted_f1(labels[:, 1], happy) > metrics.weighted_f1(
        labels[:, 1], mass[:, 1] > 0.5
    )
    table = best_possible(make_twin("iemocap4-frames", "tiny"))
    assert set(table["metric"]) == {
        "accuracy",
        "macro_recall",
        "weighted_f1",
        "f1_neutral",
        "f1_happy",
        "f1_sad",
        "f1_angry",
    }
    assert set(table[table["exact"]]["metric"]) == {"accuracy"}


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_best_values_at_quick_are_near_those_of_much_data(role: str) -> None:
    much = best_possible(study(role), metrics=("accuracy", "weighted_f1"))["expected"]
    quick = best_possible(make_twin(role, "quick"), metrics=("accuracy", "weighted_f1"))["realised"]
    assert np.abs(quick - much).max() < 3


@pytest.mark.parametrize("size", ["tiny", "quick"])
@pytest.mark.parametrize("role", FRAME_ROLES)
def test_the_seed_decides_every_byte(role: str, size: str) -> None:
    first, again, other = (
        make_twin(role, size, 3),
        make_twin(role, size, 3),
        make_twin(role, size, 4),
    )
    assert first.bundle.fingerprint == again.bundle.fingerprint != other.bundle.fingerprint
    for modality in MODALITIES:
        assert first.latents[modality].tobytes() == again.latents[modality].tobytes()
    assert first.bundle.features["text"].tobytes() != other.bundle.features["text"].tobytes()


@pytest.mark.parametrize(
    ("role", "states", "audio", "vision"),
    [
        ("iemocap4-frames", 11021294, -2575.417, -9994.139),
        ("mosi-frames", 14093488, 566.745, 6858.917),
        ("mosei-frames", 14146514, 447.539, 4943.093),
    ],
)
def test_a_twin_is_the_one_that_results_were_made_on(
    role: str, states: int, audio: float, vision: float
) -> None:
    twin = make_twin(role)
    lengths = twin.bundle.lengths["audio"]
    rows = np.arange(len(lengths))
    assert int((twin.states * rows).sum() + (lengths * rows).sum()) == states
    assert twin.latents["audio"].sum() == pytest.approx(audio, abs=0.01)
    assert twin.bundle.features["vision"].astype(float).sum() == pytest.approx(vision, abs=0.1)


@pytest.mark.parametrize("role", FRAME_ROLES)
def test_full_size_is_that_of_the_papers_data(role: str) -> None:
    manifest = tomllib.loads((paths.root() / "data" / "manifest.toml").read_text())["role"][role]
    dream = next(entry for entry in manifest["paper"] if entry["name"] == "DREAM")
    law, full = FRAME_ROLES[role], FRAME_ROLES[role].shapes["full"]
    assert dict(zip(SPLITS, full.utterances, strict=True)) == dream["utterances"]
    assert dict(zip(MODALITIES, full.dims, strict=True)) == dream["dims"]
    assert (
        law.task.kind == manifest["task"]
        and len(law.task.names) == manifest["classes"]
        and manifest["frames"]
    )
    assert set(law.shapes) == set(SIZES) and len(law.axes[0]) == AXES[role]


@pytest.mark.parametrize("role", FRAME_ROLES)
@pytest.mark.parametrize("size", ["tiny", "smoke", "quick"])
def test_bundles_are_sound_and_hold_frames(role: str, size: str) -> None:
    # Each remembers a few and forgets the oldest, but not together.
    open_bundle.cache_clear()
    open_twin.cache_clear()
    bundle = open_bundle(f"twin:{role}@{size}")
    check_bundle(bundle)
    assert bundle is open_twin(f"twin:{role}@{size}").bundle and not is_av_twin(
        f"twin:{role}@{size}"
    )
    assert all(array.ndim == 3 for array in bundle.features.values()) and set(
        bundle.lengths
    ) == set(MODALITIES)
    assert "Synthetic" in bundle.source and bundle.notes["twin"] == role
    if bundle.task.kind == "binaries":
        assert (bundle.labels.sum(axis=1) == 1).all() and len(bundle.dialogues("test")) == len(
            bundle.rows("test")
        )


def test_a_bundle_of_frames_is_saved_with_its_lengths_and_checked(tmp_path: Path, cli: Cli) -> None:
    bundle = open_bundle("twin:mosi-frames@smoke")
    save_bundle(bundle, tmp_path / "saved")
    loaded = load_bundle(tmp_path / "saved")
    assert loaded.fingerprint == bundle.fingerprint
    assert np.array_equal(loaded.lengths["vision"], bundle.lengths["vision"])
    report = check(bundle, "mosi-frames")
    assert report.ok and "a score by frames" in str(report)
    assert (
        cli(["data", "twin", "iemocap4-frames", "--size", "tiny", "--out", str(tmp_path / "out")])
        == 0
    )
    assert (
        load_bundle(tmp_path / "out").fingerprint
        == open_bundle("twin:iemocap4-frames@tiny").fingerprint
    )


def test_unknown_names_and_frames_of_another_shape_are_refused() -> None:
    twin, vectors = make_twin("mosi-frames", "tiny"), make_twin("mosi", "tiny")
    full, frames = everything(twin), {"audio": np.ones((15, 4), dtype=bool)}
    assert set(ROLES) & set(FRAME_ROLES) == set()
    with pytest.raises(InputError, match="has no frames"):
        vectors.bayes("test", everything(vectors), frames=frames)
    with pytest.raises(InputError, match=r"\(15, 5\).*\(15, 4\)"):
        twin.bayes("test", full, frames={"audio": np.ones((15, 5), dtype=bool)})
    with pytest.raises(InputError, match="Did you mean 'audio'"):
        twin.bayes("test", full, frames={"audoi": frames["audio"]})
    with pytest.raises(InputError, match="Did you mean 'f1_happy'"):
        make_twin("iemocap4-frames", "tiny").decisions("test", full, "f1_hapy")
    with pytest.raises(InputError, match="Did you mean 'mosi-frames'"):
        make_twin("mosi-frame")
    with pytest.raises(InputError, match="open_twin"):
        open_av_twin("twin:mosi-frames@tiny")
