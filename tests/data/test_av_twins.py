"""The audio-visual twins: what is planted can be found again, and says how well a clip can be classified."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest
from scipy.special import roots_hermite
from scipy.stats import chi2_contingency, f_oneway, norm
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from mmlib.data import av_twins
from mmlib.data.av_twins import AV_ROLES, AVTwin, make_av_twin
from mmlib.data.bundle import SPLITS
from mmlib.data.catalog import is_av_twin, open_av_twin, open_bundle, open_twin
from mmlib.data.readers.crema_d_votes import CLASSES
from mmlib.data.twin_laws import SIZES
from mmlib.errors import InputError

ROLES = tuple(AV_ROLES)
MODALITIES = ("audio", "vision")
KINDS = {"balanced": -1, "audio dominant": 0, "vision dominant": 1}
FINGERPRINTS = {
    "twin:crema-d@tiny": "825536be479b24da",
    "twin:crema-d@quick": "2ff6aee6a9b2fd60",
    "twin:ave@tiny": "57876d29629cabdb",
    "twin:ave@quick": "a36e419e31618b97",
}


@lru_cache
def study(role: str) -> AVTwin:
    return make_av_twin(role, "study")


def planted(twin: AVTwin, split: str = "test") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, dominant modality and quality of a split's clips."""
    rows = twin.bundle.rows(split)
    return twin.bundle.labels[rows], twin.dominant[rows], twin.quality[rows]


def percent(twin: AVTwin, split: str = "test") -> dict[str, dict[str, float]]:
    """The oracle's table, by row and then by column."""
    return {
        str(row): {str(c): float(v) for c, v in columns.items()}
        for row, columns in twin.oracle(split).to_dict("index").items()
    }


def units(pictures: np.ndarray) -> np.ndarray:
    """Frames as numbers around 0, in the patterns' units; spectrograms as they are, as one frame."""
    if pictures.dtype == np.uint8:
        return (pictures.astype(float) - av_twins.MIDDLE) / av_twins.CONTRAST
    return pictures[:, None].astype(float)


def searched(twin: AVTwin, modality: str, row: int) -> np.ndarray:
    """Each pattern's strength in one clip: every shift within reach tried, one frame after the other."""
    pattern, found = twin.patterns[modality], []
    far = max(1, pattern.shape[3] // {"audio": 4, "vision": 5}[modality])
    near = range(-far, far + 1)
    tries = list(itertools.product(near if modality == "vision" else [0], near))
    for frame in units(twin.bundle.features[modality][[row]])[0]:
        fits = []
        for steps in tries:
            columns = np.stack([np.roll(p, steps, axis=(1, 2)).ravel() for p in pattern], axis=1)
            strength, *_ = np.linalg.lstsq(columns, frame.ravel(), rcond=None)
            fits.append((((frame.ravel() - columns @ strength) ** 2).sum(), strength))
        found.append(min(fits, key=lambda fit: fit[0])[1])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("size", ["tiny", "smoke", "quick"])
@pytest.mark.parametrize("role", ROLES)
def test_the_seed_decides_every_byte(role: str, size: str) -> None:
    first, again, other = (
        make_av_twin(role, size, 3),
        make_av_twin(role, size, 3),
        make_av_twin(role, size, 4),
    )
    assert first.bundle.fingerprint == again.bundle.fingerprint != other.bundle.fingerprint
    for one, two in [
        (first.quality, again.quality),
        (first.dominant, again.dominant),
        *((first.bundle.features[m], again.bundle.features[m]) for m in MODALITIES),
        *((first.patterns[m], again.patterns[m]) for m in MODALITIES),
    ]:
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(
    "settings", [{}, {"OPENBLAS_CORETYPE": "Prescott", "OMP_NUM_THREADS": "2"}]
)
def test_fingerprints_are_the_same_in_every_process_and_with_other_kernels(
    settings: dict[str, str],
) -> None:
    code = (
        "from mmlib.data.catalog import open_bundle\n"
        f"for name in {list(FINGERPRINTS)}: print(open_bundle(name).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True
    )
    assert done.stdout.split() == list(FINGERPRINTS.values()), done.stderr


@pytest.mark.parametrize("size", [s for s in SIZES if s != "full"])
@pytest.mark.parametrize("role", ROLES)
def test_shapes_dtypes_and_names(role: str, size: str) -> None:
    twin = study(role) if size == "study" else make_av_twin(role, size)
    bundle, side = twin.bundle, {"tiny": 8, "smoke": 16, "quick": 32, "study": 32}[size]
    frames = 2 if (role, size) == ("ave", "tiny") else 1
    n, classes = len(bundle), {"crema-d": 6, "ave": 8}[role]
    assert (
        bundle.features["audio"].shape == (n, 1, side, side)
        and bundle.features["audio"].dtype == np.float32
    )
    assert (
        bundle.features["vision"].shape == (n, frames, 3, side, side)
        and bundle.features["vision"].dtype == np.uint8
    )
    assert bundle.shapes == {"audio": (1, side, side), "vision": (frames, 3, side, side)}
    assert [len(bundle.rows(s)) for s in SPLITS] == list(AV_ROLES[role].shapes[size].clips)
    assert twin.quality.shape == (n, 2) and twin.quality.dtype == np.float32
    assert twin.imbalanced.shape == (n,) and twin.imbalanced.dtype == bool
    assert twin.dominant.shape == (n,) and twin.dominant.dtype == np.int8
    assert bundle.task.outputs == classes and (role != "crema-d" or bundle.task.names == CLASSES)
    assert bundle.notes["classes"] == {"crema-d": "6 of 6", "ave": "8 of 28"}[role]
    assert "Synthetic" in bundle.source and "not the data set" in bundle.source
    assert bundle.modalities == MODALITIES and bundle.observed.all()


def test_sizes_are_those_of_the_data_sets() -> None:
    assert AV_ROLES["crema-d"].shapes["full"].clips == (5954, 744, 744)
    assert AV_ROLES["crema-d"].shapes["full"].audio == (257, 188)
    assert sum(AV_ROLES["crema-d"].shapes["full"].clips) == 7442
    assert AV_ROLES["ave"].shapes["full"].clips == (3339, 402, 402)
    assert AV_ROLES["ave"].shapes["full"].classes == 28 == len(set(AV_ROLES["ave"].names))
    assert sorted(AV_ROLES["ave"].names) == list(AV_ROLES["ave"].names)
    assert all(
        set(law.shapes) == set(SIZES) and law.shapes["full"].side == 224
        for law in AV_ROLES.values()
    )
    assert (
        sum(AV_ROLES["crema-d"].shapes["quick"].clips)
        == sum(AV_ROLES["ave"].shapes["quick"].clips)
        == 900
    )


@pytest.mark.parametrize("role", ROLES)
def test_each_split_has_as_many_clips_of_each_class_and_of_each_imbalance(role: str) -> None:
    twin, law = study(role), AV_ROLES[role]
    for split in SPLITS:
        labels, dominant, _ = planted(twin, split)
        counts = np.bincount(labels, minlength=twin.bundle.task.outputs)
        assert counts.max() - counts.min() <= 1
        loud, seen = law.imbalanced * law.audio_dominant, law.imbalanced * (1 - law.audio_dominant)
        for kind, share in ((0, loud), (1, seen), (-1, 1 - law.imbalanced)):
            assert abs((dominant == kind).sum() - share * len(dominant)) <= 1
    assert np.array_equal(twin.imbalanced, twin.dominant >= 0)
    assert 0.14 <= law.imbalanced <= 0.3


@pytest.mark.parametrize("role", ROLES)
def test_quality_is_alike_where_balanced_and_one_sided_where_not(role: str) -> None:
    twin = study(role)
    balanced, loud, seen = (twin.quality[twin.dominant == kind] for kind in (-1, 0, 1))
    assert abs(balanced.mean() - 1) < 0.02 and balanced.min() > 0.3
    assert np.corrcoef(balanced.T)[0, 1] > 0.5
    assert np.abs(np.log(balanced[:, 0] / balanced[:, 1])).max() < 0.7
    for strong, weak in ((loud[:, 0], loud[:, 1]), (seen[:, 1], seen[:, 0])):
        assert strong.min() > 0.9 and abs(strong.mean() - 1.4) < 0.05
        assert weak.max() < 0.2 and abs(weak.mean() - 0.05) < 0.01 and weak.min() >= 0


@pytest.mark.parametrize("role", ROLES)
def test_quality_does_not_depend_on_the_label(role: str) -> None:
    twin = study(role)
    labels, classes = twin.bundle.labels, range(twin.bundle.task.outputs)
    counts = [
        [((labels == c) & (twin.dominant == kind)).sum() for kind in KINDS.values()]
        for c in classes
    ]
    assert chi2_contingency(counts).pvalue > 0.01
    for column, kind in itertools.product((0, 1), KINDS.values()):
        groups = [twin.quality[(labels == c) & (twin.dominant == kind), column] for c in classes]
        assert f_oneway(*groups).pvalue > 0.001


@pytest.mark.parametrize("role", ROLES)
def test_splits_are_drawn_on_their_own(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    law = AV_ROLES[role]
    before = make_av_twin(role, "smoke")
    longer = dataclasses.replace(law.shapes["smoke"], clips=(200, 36, 84))
    monkeypatch.setitem(
        AV_ROLES, role, dataclasses.replace(law, shapes={**law.shapes, "smoke": longer})
    )
    after = make_av_twin(role, "smoke")
    for split in ("valid", "test"):
        ours, theirs = before.bundle.rows(split), after.bundle.rows(split)
        assert np.array_equal(before.quality[ours], after.quality[theirs])
        for modality in MODALITIES:
            assert np.array_equal(
                before.bundle.features[modality][ours], after.bundle.features[modality][theirs]
            )
    flat = before.bundle.features["audio"].reshape(len(before.bundle), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)
    assert len(np.unique(before.quality[~before.imbalanced], axis=0)) == (~before.imbalanced).sum()


@pytest.mark.parametrize("role", ROLES)
def test_patterns_are_orthogonal_smooth_and_blind_to_the_background(role: str) -> None:
    twin = make_av_twin(role, "quick")
    for modality, axes in (("audio", 3), ("vision", (2, 3))):
        pattern = twin.patterns[modality]
        flat = pattern.reshape(len(pattern), -1)
        assert np.abs(flat @ flat.T / flat.shape[1] - np.eye(len(pattern))).max() < 1e-12
        assert np.abs(pattern.mean(axis=axes)).max() < 1e-12
        near = (pattern * np.roll(pattern, 1, axis=3)).mean(axis=(1, 2, 3))
        assert near.min() > 0.7


def test_a_larger_picture_shows_the_same_pattern() -> None:
    small, large = make_av_twin("crema-d", "smoke"), make_av_twin("crema-d", "quick")
    for modality in MODALITIES:
        coarse = large.patterns[modality]
        coarse = coarse.reshape(*coarse.shape[:2], 16, 2, 16, 2).mean(axis=(3, 5))
        alike = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1]
            for a, b in zip(coarse, small.patterns[modality], strict=True)
        ]
        assert min(alike) > 0.9


@pytest.mark.parametrize(
    ("role", "size"), [("crema-d", "tiny"), ("ave", "tiny"), ("crema-d", "smoke")]
)
def test_the_oracle_is_a_search_over_every_shift(role: str, size: str) -> None:
    twin = make_av_twin(role, size)
    scores, rows = twin.scores("test"), twin.bundle.rows("test")[:8]
    for modality, trace in zip(MODALITIES, AV_ROLES[role].trace, strict=True):
        wanted = np.array([searched(twin, modality, row) for row in rows]) / trace**2
        assert np.abs(scores[modality][:8] - wanted).max() < 1e-3
    assert np.allclose(scores["both"], scores["audio"] + scores["vision"])


def gaussian_accuracy(quality: np.ndarray, noise: np.ndarray, classes: int) -> float:
    """Of the largest of ``classes`` normal strengths, when the label's is raised by ``quality``, in percent."""
    nodes, weights = roots_hermite(60)
    lead = np.sqrt(2) * nodes + (quality / noise)[:, None]
    return 100 * float((norm.cdf(lead) ** (classes - 1) @ weights / np.sqrt(np.pi)).mean())


@pytest.mark.parametrize("role", ROLES)
def test_oracle_accuracies_follow_from_quality_and_traces(role: str) -> None:
    twin, law = study(role), AV_ROLES[role]
    classes, table = twin.bundle.task.outputs, percent(twin)
    _, dominant, quality = planted(twin)
    for name, kept in ((name, dominant == kind) for name, kind in KINDS.items()):
        error = 3 * 50 / np.sqrt(kept.sum())
        for index, modality in enumerate(MODALITIES):
            spread = np.full(kept.sum(), law.trace[index])
            assert (
                abs(
                    table[name][modality] - gaussian_accuracy(quality[kept, index], spread, classes)
                )
                < error + 1
            )
        evidence = (quality[kept] / np.square(law.trace)).sum(axis=1)
        spread = np.full(kept.sum(), np.sqrt((1 / np.square(law.trace)).sum()))
        assert abs(table[name]["both"] - gaussian_accuracy(evidence, spread, classes)) < error + 1


@pytest.mark.parametrize("role", ROLES)
def test_both_modalities_are_good_where_balanced_and_together_better(role: str) -> None:
    for twin in (study(role), make_av_twin(role, "quick")):
        found = percent(twin)["balanced"]
        assert (
            abs(found["audio"] - 85) < 4
            and abs(found["vision"] - 75) < 4
            and abs(found["both"] - 95) < 3
        )


@pytest.mark.parametrize("role", ROLES)
def test_where_imbalanced_the_weak_modality_is_near_chance_and_the_dominant_one_near_its_best(
    role: str,
) -> None:
    twin = study(role)
    chance = 100 / twin.bundle.task.outputs
    table = percent(twin, "train")
    for strong, weak in (MODALITIES, MODALITIES[::-1]):
        found = table[f"{strong} dominant"]
        assert abs(found[weak] - chance) < 8
        assert found[strong] > max(88, table["balanced"][strong] + 5)


def test_the_oracle_has_no_number_for_clips_that_a_split_does_not_have() -> None:
    twin = make_av_twin("crema-d", "tiny")
    assert not (planted(twin)[1] == 1).any()
    assert np.isnan(list(percent(twin)["vision dominant"].values())).all()
    assert percent(twin)["all"]["audio"] == 100 * np.mean(
        twin.scores("test")["audio"].argmax(axis=1) == planted(twin)[0]
    )


@pytest.mark.parametrize("role", ROLES)
def test_the_gap_of_the_oracles_confidences_tells_imbalanced_clips(role: str) -> None:
    twin = study(role)
    labels, dominant, _ = planted(twin, "train")
    confidence = {
        m: np.exp(s - s.max(axis=1, keepdims=True)) for m, s in twin.scores("train").items()
    }
    own = {
        m: (c / c.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
        for m, c in confidence.items()
    }
    gap = own["audio"] - own["vision"]
    assert abs(gap[dominant < 0].mean()) < 0.2
    assert gap[dominant == 0].mean() > 0.6
    assert gap[dominant == 1].mean() < -0.5


def shrunk(twin: AVTwin, modality: str) -> np.ndarray:
    """Pictures of 32 x 32 averaged over squares of 4 x 4, one row of numbers per clip."""
    pictures = units(twin.bundle.features[modality])
    return (
        pictures.reshape(len(pictures), -1, 8, 4, 8, 4).mean(axis=(3, 5)).reshape(len(pictures), -1)
    )


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("role", ROLES)
def test_a_linear_probe_on_small_pictures_is_better_than_chance(role: str, modality: str) -> None:
    twin = make_av_twin(role, "quick")
    inputs, labels, chance = (
        shrunk(twin, modality),
        twin.bundle.labels,
        1 / twin.bundle.task.outputs,
    )
    train, test = twin.bundle.rows("train"), twin.bundle.rows("test")
    error = np.sqrt(chance * (1 - chance) / len(test))
    for learnt, better in (
        (labels[train], True),
        (np.random.default_rng(0).permutation(labels[train]), False),
    ):
        probe = LogisticRegression(C=0.001, max_iter=500).fit(inputs[train], learnt)
        assert (probe.score(inputs[test], labels[test]) > chance + 4 * error) == better


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("role", ROLES)
def test_a_linear_probe_on_many_clips_does_not_reach_the_oracle(role: str, modality: str) -> None:
    twin = study(role)
    inputs, labels = shrunk(twin, modality), twin.bundle.labels
    train, test = twin.bundle.rows("train"), twin.bundle.rows("test")
    probe = LogisticRegression(C=0.001, max_iter=500).fit(inputs[train], labels[train])
    assert 100 * probe.score(inputs[test], labels[test]) < percent(twin)["all"][modality] - 2


@pytest.mark.parametrize("index", [0, 1], ids=MODALITIES)
@pytest.mark.parametrize("role", ROLES)
def test_pictures_have_the_variances_of_their_law(role: str, index: int) -> None:
    twin, modality = study(role), MODALITIES[index]
    pictures, axes = units(twin.bundle.features[modality]), (4,) if modality == "audio" else (3, 4)
    gain = np.exp(2 * av_twins.GAIN**2)
    steady = pictures.mean(axis=axes, keepdims=True)  # the patterns have none
    assert steady.var(axis=0).mean() == pytest.approx(gain * av_twins.BACKGROUND**2, rel=0.1)
    strength = (twin.quality[:, index] ** 2).mean() + twin.bundle.task.outputs * AV_ROLES[
        role
    ].trace[index] ** 2
    varying = (pictures - steady).var(axis=(1, 2, 3, 4))
    assert varying.mean() == pytest.approx(gain * (strength + av_twins.NOISE**2), rel=0.04)
    rough = (np.diff(np.diff(pictures, 2, axis=3), 2, axis=4) ** 2).mean(
        axis=(1, 2, 3, 4)
    ) / 36  # hardly the patterns
    assert np.exp(np.log(rough).mean()) == pytest.approx(av_twins.NOISE**2, rel=0.04)
    assert np.log(rough).std() == pytest.approx(2 * av_twins.GAIN, rel=0.2)


def test_values_are_round_so_that_no_sum_decides_the_last_bit() -> None:
    audio = make_av_twin("crema-d", "quick").bundle.features["audio"]
    assert np.array_equal(audio * 4096, np.rint(audio * 4096))


def test_frames_of_a_clip_move_on_their_own_and_carry_the_same_class() -> None:
    frames = make_av_twin("ave", "tiny").bundle.features["vision"].astype(float)
    steps = list(itertools.product(range(-2, 3), repeat=2))
    alike = np.array(
        [
            [np.corrcoef(a.ravel(), np.roll(b, step, axis=(1, 2)).ravel())[0, 1] for step in steps]
            for a, b in frames
        ]
    )
    assert alike.max(axis=1).mean() > 0.7
    moved = np.abs(np.array(steps)[alike.argmax(axis=1)])
    assert (moved.max(axis=1) == 2).mean() > 0.2 and (moved.max(axis=1) == 0).mean() < 0.3


def test_references_open_bundles_and_twins() -> None:
    # Each remembers a few and forgets the oldest, but not together.
    for opens in (open_bundle, open_twin, open_av_twin):
        opens.cache_clear()
    twin = open_av_twin("twin:crema-d@tiny")
    assert open_bundle("twin:crema-d@tiny") is twin.bundle
    assert (
        open_av_twin("twin:ave").bundle.fingerprint
        == make_av_twin("ave", "quick").bundle.fingerprint
    )
    assert open_bundle("twin:iemocap6@tiny") is open_twin("twin:iemocap6@tiny").bundle
    assert is_av_twin("twin:ave@quick") and not is_av_twin("twin:mosi") and not is_av_twin("ave")


@pytest.mark.parametrize(
    ("reference", "nearest"),
    [
        ("twin:crema@tiny", "'crema-d'"),
        ("twin:av@tiny", "'ave'"),
        ("twin:mosey@tiny", "'mosei'"),
        ("twin:crema-d@quik", "'quick'"),
        ("twin:ave@fulll", "'full'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_known_one(reference: str, nearest: str) -> None:
    for opener in (open_bundle, open_av_twin):
        with pytest.raises(InputError, match=f"Did you mean {nearest}"):
            opener(reference)


def test_a_twin_is_opened_by_the_function_for_its_kind() -> None:
    with pytest.raises(InputError, match="open_av_twin"):
        open_twin("twin:crema-d@tiny")
    with pytest.raises(InputError, match="open_twin"):
        open_av_twin("twin:mosi@tiny")
    with pytest.raises(InputError, match="crema-d"):
        make_av_twin("crema")
    with pytest.raises(InputError, match="'test'"):
        open_av_twin("twin:ave@tiny").oracle("tests")


def test_patterns_of_the_full_size_do_not_depend_on_the_number_of_threads() -> None:
    law = AV_ROLES["ave"]
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(av_twins._patterns(law, law.shapes["full"], 0, "ave#test"))
    for modality, pattern in made[0].items():
        assert np.array_equal(pattern, made[1][modality]), modality
