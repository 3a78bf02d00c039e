"""Mechanisms of missingness: their rates, what they look at and what they do not, and what a mask shows of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.metrics import mutual_info_score, roc_auc_score

from mmlib import masks
from mmlib.data.av_twins import make_av_twin
from mmlib.data.bundle import SPLITS, Bundle, Task
from mmlib.data.catalog import open_bundle, open_twin
from mmlib.data.missing import missing_lines
from mmlib.errors import InputError
from mmlib.masks import Law, audit, draw, mechanism, scores
from mmlib.masks.dependence import area, shared_bits
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training, numerics_modules, spec_from_json

Toy = Callable[..., Bundle]
SLOPES = (0.0, 0.5, 1.0, 2.0, math.inf)
RATES = {"audio": 0.5, "text": 0.0, "vision": 0.3}
MAKE: dict[str, Callable[[masks.mechanism.Rates, float], Law]] = {
    "mar_anchor": lambda rate, slope: masks.mar_anchor(rate, slope, "text"),
    "mnar_self": masks.mnar_self,
    "mnar_label": masks.mnar_label,
    "mnar_cross": lambda rate, slope: masks.mnar_cross(rate, slope, "text"),
}


@pytest.fixture(scope="module")
def wide(toy: Toy) -> Bundle:
    """4,000 utterances in every split."""
    return toy((40, 40, 40, 40) * 100, {"audio": 4, "text": 5, "vision": 3})


def with_features(bundle: Bundle, **features: np.ndarray) -> Bundle:
    return dataclasses.replace(bundle, features={**bundle.features, **features})


# The curve.


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.97])
def test_the_mean_probability_over_the_rows_that_a_curve_is_solved_on_is_the_rate(
    slope: float, rate: float
) -> None:
    generator = np.random.default_rng(0)
    for z in (
        generator.normal(size=997),
        generator.exponential(size=50) - 1,
        np.tile([1.0, -1, 0], 9),
    ):
        curve = mechanism.solved(z, rate, slope)
        assert curve(z).mean() == pytest.approx(rate, abs=1e-9)
        assert (np.diff(curve(np.sort(z))) >= 0).all()
        if 0 < slope < math.inf:
            assert curve(np.array([0.7]))[0] == pytest.approx(norm.cdf(slope * 0.7 + curve.bias))


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("kind", MAKE)
def test_every_mechanism_meets_its_rates_on_train_and_has_one_function_for_all_splits(
    wide: Bundle, kind: str, slope: float
) -> None:
    law = MAKE[kind](RATES, slope)
    known = masks.fitted(law, wide)
    assert known.chances(wide.rows("train")).mean(axis=0) == pytest.approx([0.5, 0, 0.3], abs=1e-9)
    other = with_features(
        wide,
        audio=np.where(
            (wide.split == 2)[:, None], 5 * wide.features["audio"], wide.features["audio"]
        ),
    )
    assert masks.fitted(law, other).curves == known.curves
    assert (masks.fitted(law, other).fingerprint != known.fingerprint) == (kind == "mnar_self")


def test_a_threshold_takes_exactly_the_training_rows_with_the_largest_scores(wide: Bundle) -> None:
    law = masks.mnar_self({"audio": 0.25, "text": 0.0, "vision": 0.0}, math.inf)
    train = wide.rows("train")
    z = scores.content(wide).values[train, 0]
    lost = ~draw(law, wide, "train", 3).utterance[:, 0]
    assert lost.sum() == 8000 / 4 and z[lost].min() > z[~lost].max()


# Draws.


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("split", SPLITS)
def test_slope_0_is_mcar_bit_for_bit(wide: Bundle, kind: str, split: str) -> None:
    completely = draw(masks.mcar(RATES), wide, split, 4)
    assert draw(MAKE[kind](RATES, 0.0), wide, split, 4).fingerprint == completely.fingerprint
    assert draw(MAKE[kind](RATES, 1e-13), wide, split, 4).fingerprint == completely.fingerprint
    assert draw(MAKE[kind](RATES, 1.0), wide, split, 4).fingerprint != completely.fingerprint


@pytest.mark.parametrize("slope", [0.5, math.inf])
@pytest.mark.parametrize("kind", MAKE)
def test_a_draw_compares_the_seeds_own_uniform_numbers_with_a_probit_of_the_first_principal_axis(
    wide: Bundle, kind: str, slope: float
) -> None:
    law, rows = MAKE[kind](RATES, slope), wide.rows("test")
    z = np.empty((len(wide), 3))
    for index, modality in enumerate(wide.modalities):
        x = wide.features[modality].astype(float)
        found = PCA(1).fit(x[wide.split == 0])
        axis = found.components_[0] * np.sign(
            found.components_[0][abs(found.components_[0]).argmax()]
        )
        raw = x @ axis
        z[:, index] = (raw - raw[wide.split == 0].mean()) / raw[wide.split == 0].std()
    if kind in ("mar_anchor", "mnar_cross"):
        z = np.tile(z[:, [1]], (1, 3))
    if kind == "mnar_label":
        most = np.bincount(wide.labels[wide.split == 0]).argsort(kind="stable")[::-1]
        counts = np.bincount(wide.labels[wide.split == 0])
        first, second = sorted(range(3), key=lambda k: (-counts[k], k))[:2]
        assert counts[first] == counts[most[0]]
        z = np.tile(
            np.select([wide.labels == first, wide.labels == second], [1.0, -1.0])[:, None], (1, 3)
        )
    children = np.random.SeedSequence([9, 2, 13]).spawn(4)
    uniform = np.stack([np.random.default_rng(c).random(len(rows)) for c in children[:3]], 1)
    lost = np.zeros((len(rows), 3), bool)
    for index, curve in enumerate(masks.fitted(law, wide).curves):
        if math.isinf(slope):
            chance = np.select(
                [z[rows, index] > curve.bias + 1e-9, abs(z[rows, index] - curve.bias) < 1e-9],
                [1.0, curve.tie],
            )
        else:
            chance = norm.cdf(slope * z[rows, index] + curve.bias)
        lost[:, index] = uniform[:, index] < (0.0 if index == 1 else chance)
    assert (draw(law, wide, "test", 9).utterance == ~lost).all()  # text is always there


def test_masks_of_larger_rates_hold_those_of_smaller_ones_but_for_what_was_given_back(
    wide: Bundle,
) -> None:
    for make in (masks.mnar_self, masks.mnar_label, lambda r, a: masks.mnar_cross(r, a, "text")):
        for slope in (0.0, 1.0, math.inf):
            before = np.ones((4000, 3), bool)
            for rate in (0.1, 0.4, 0.7):
                law = make(rate, slope)
                given = masks.restored(law, wide, "test", 2)
                now = draw(law, wide, "test", 2).utterance
                assert not (now & ~before)[~given].any()
                now[given] = False
                before = now


def test_restored_rows_are_named_and_have_one_modality_each_as_often(toy: Toy) -> None:
    bundle = toy((40, 40, 40, 40) * 100, {"audio": 4, "text": 5, "vision": 3})
    law = masks.mnar_self(0.7, 1.0)
    given = masks.restored(law, bundle, "test", 0)
    mask = draw(law, bundle, "test", 0).utterance
    assert (mask[given].sum(axis=1) == 1).all()
    share = masks.fitted(law, bundle).chances(bundle.rows("test")).prod(axis=1).mean()
    assert abs(given.mean() - share) < 5 * math.sqrt(share / 4000)
    back = mask[given].sum(axis=0)
    assert (abs(back - given.sum() / 3) < 5 * np.sqrt(given.sum() * 2 / 9)).all()
    assert not masks.restored(masks.mar_anchor(0.7, 1.0, "text"), bundle, "test", 0).any()


def test_realised_rates_are_audited_against_what_the_function_gives_on_the_split(
    wide: Bundle,
) -> None:
    for law in (masks.mnar_self(0.6, 2.0), masks.mar_candidates(0.2, 2.0), masks.mcar(0.4)):
        table = audit(law, wide, "test", draw(law, wide, "test", 1))
        spread = np.sqrt(table.expected * (1 - table.expected) / 4000)
        assert (abs(table.realised - table.expected) < 5 * spread).all()
    nominal = audit(masks.mcar(0.4), wide, "test", draw(masks.mcar(0.4), wide, "test", 1))
    assert list(nominal.expected) == pytest.approx([0.4 - 0.4**3 / 3] * 3)
    assert masks.nominal_rates(masks.mar_anchor(0.4, 1, "text"), wide.modalities) == {
        "audio": 0.4,
        "text": 0.0,
        "vision": 0.4,
    }


@pytest.mark.parametrize("lacking", [0.0, 0.4])
@pytest.mark.parametrize(
    "law",
    [masks.mcar(0.7), masks.mar_candidates(0.3, 2.0), *(make(0.7, 2.0) for make in MAKE.values())],
    ids=str,
)
def test_every_utterance_keeps_something_and_what_the_data_lack_stays_missing(
    toy: Toy, law: Law, lacking: float
) -> None:
    shuffled = np.random.default_rng(3).permutation(113)
    one, two = (
        toy((3, 40, 1, 4, 5, 50, 2, 8), lacking=lacking, order=order) for order in (None, shuffled)
    )
    for split in SPLITS:
        mask = draw(law, one, split, 7)
        has = one.observed[one.rows(split)]
        assert mask.utterance.any(axis=1).all() and not (mask.utterance & ~has).any()
        assert draw(law, two, split, 7).fingerprint == mask.fingerprint
        given = masks.restored(law, one, split, 7)
        assert (mask.utterance[given].sum(axis=1) == 1).all()


# What a mechanism looks at.


def test_missing_at_random_does_not_change_with_content_that_is_missing(wide: Bundle) -> None:
    rows, noise = wide.rows("test"), np.random.default_rng(0)
    for law in (masks.mar_anchor(0.5, 2.0, "text"), masks.mar_candidates(0.25, 2.0)):
        mask = draw(law, wide, "test", 1)
        features = {m: x.copy() for m, x in wide.features.items()}
        for index, modality in enumerate(wide.modalities):
            gone = rows[~mask.utterance[:, index]]
            features[modality][gone] = 9 * noise.normal(size=features[modality][gone].shape)
        assert draw(law, with_features(wide, **features), "test", 1).fingerprint == mask.fingerprint
    mask = draw(masks.mnar_self(0.5, 2.0), wide, "test", 1)
    gone = rows[~mask.utterance[:, 0]]
    audio = wide.features["audio"].copy()
    audio[gone] = 9 * noise.normal(size=audio[gone].shape)
    again = draw(masks.mnar_self(0.5, 2.0), with_features(wide, audio=audio), "test", 1)
    assert again.fingerprint != mask.fingerprint


def test_labels_move_the_masks_of_the_label_mechanism_alone(wide: Bundle) -> None:
    permuted = dataclasses.replace(wide, labels=np.random.default_rng(0).permutation(wide.labels))
    laws = [masks.mcar(0.4), masks.mar_candidates(0.2, 1.0), *(f(0.4, 1.0) for f in MAKE.values())]
    for law in laws:
        same = draw(law, wide, "test", 0).fingerprint == draw(law, permuted, "test", 0).fingerprint
        assert same == (law.kind != "mnar_label"), law


def test_candidates_lose_one_modality_at_most_at_the_rates_that_were_asked_for(
    wide: Bundle,
) -> None:
    """BEYOND's example: three candidates, 0.6 of the rows incomplete, gives rates of 0.20 and 0.40 complete rows."""
    law = masks.mar_candidates(0.2, 2.0)
    mask = draw(law, wide, "train", 0).utterance
    assert (mask.sum(axis=1) >= 2).all()
    assert mask.all(axis=1).mean() == pytest.approx(0.4, abs=5 * math.sqrt(0.24 / 8000))
    assert (1 - mask).mean(axis=0) == pytest.approx([0.2] * 3, abs=5 * math.sqrt(0.16 / 8000))
    uneven = masks.mar_candidates({"audio": 0.3, "text": 0.1, "vision": 0.0}, 1.0)
    rates = 1 - draw(uneven, wide, "train", 0).utterance.mean(axis=0)
    assert rates == pytest.approx([0.3, 0.1, 0], abs=5 * math.sqrt(0.21 / 8000))


def test_the_cross_mechanism_is_the_anchor_whose_source_is_missing_too(wide: Bundle) -> None:
    anchor = draw(masks.mar_anchor(0.5, 2.0, "text"), wide, "test", 0).utterance
    law = masks.mnar_cross({"audio": 0.5, "text": 0.4, "vision": 0.5}, 2.0, "text")
    cross, given = draw(law, wide, "test", 0).utterance, masks.restored(law, wide, "test", 0)
    assert (cross[~given][:, [0, 2]] == anchor[~given][:, [0, 2]]).all()
    completely = draw(masks.mcar({"audio": 0.0, "text": 0.4, "vision": 0.0}), wide, "test", 0)
    assert (cross[~given][:, 1] == completely.utterance[~given][:, 1]).all()


def test_bad_clips_vanish_where_quality_was_planted_voted_or_is_the_number_of_frames(
    toy: Toy,
) -> None:
    planted = make_av_twin("crema-d", "tiny")
    law = masks.mnar_quality(0.5, math.inf)
    lost = ~draw(law, planted.bundle, "train", 0).utterance
    whole = ~masks.restored(law, planted.bundle, "train", 0)
    quality = planted.quality[planted.bundle.rows("train")]
    for index in range(2):
        bad = quality[whole & lost[:, index], index]
        assert bad.max() <= quality[whole & ~lost[:, index], index].min()
    votes = open_bundle("crema-d-votes")
    shares = votes.features["audio"][:, :6].max(axis=1)
    assert np.corrcoef(-np.log(shares), scores.badness(votes).values[:, 0])[0, 1] > 1 - 1e-6
    assert np.allclose(
        scores.badness(votes.standardised_over_train()).values,
        scores.badness(votes).values,
        atol=1e-4,
    )
    frames = toy((5, 5, 5, 5) * 9, frames=6)
    ranked = scores.badness(frames).values[:, 1]
    assert (
        np.argsort(ranked, kind="stable") == np.argsort(-frames.lengths["text"], kind="stable")
    ).all()
    with pytest.raises(InputError, match="how good"):
        draw(law, toy(), "test", 0)


def test_contrasts_of_labels_have_mean_0_and_name_the_two_most_frequent_classes(toy: Toy) -> None:
    bundle = open_bundle("twin:iemocap6@tiny")
    counts = np.bincount(bundle.labels[bundle.split == 0], minlength=6)
    contrasts = scores.label_contrasts(bundle)
    assert contrasts.sum() == 0 and counts[contrasts == 1] == counts.max()
    assert counts[contrasts == -1] == np.sort(counts)[-2]
    several = toy(task=Task("binaries", ("a", "b", "c")))
    assert set(np.unique(scores.of_labels(several))) == {-1.0, 0.0, 1.0}
    score = open_bundle("twin:mosi@tiny")
    standard = scores.of_labels(score)[score.split == 0]
    assert standard.mean() == pytest.approx(0, abs=1e-12) and standard.std() == pytest.approx(1)
    level = open_twin("twin:mosi@tiny").states
    assert all(np.ptp(scores.of_labels(score)[level == k]) == 0 for k in range(7))


def test_scores_of_twins_are_the_axis_on_which_classes_lie_apart_and_a_coordinate_of_noise() -> (
    None
):
    for reference in ("twin:iemocap6@quick", "twin:iemocap4-frames@quick"):
        twin = open_twin(reference)
        informative = scores.content(twin.bundle).values
        noise = scores.content(twin.bundle, "nuisance").values
        train, n = twin.bundle.split == 0, len(twin.bundle)
        for values in (informative, noise):
            assert values[train].mean(axis=0) == pytest.approx([0] * 3, abs=1e-9)
            assert values[train].std(axis=0) == pytest.approx([1] * 3)
        for index in range(3):
            grouped = [informative[twin.states == k, index].mean() for k in np.unique(twin.states)]
            assert np.ptp(grouped) > 0.5
            grouped = [noise[twin.states == k, index] for k in np.unique(twin.states)]
            assert max(abs(g.mean()) * math.sqrt(len(g)) for g in grouped) < 4.5
            assert abs(np.corrcoef(noise[:, index], informative[:, index])[0, 1]) < 5 / math.sqrt(n)


# Audits.


def test_an_area_is_that_of_sklearn_and_its_error_that_of_resampling() -> None:
    generator = np.random.default_rng(0)
    missing = generator.random(300) < 0.4
    score = np.round(generator.normal(size=300) + 0.5 * missing, 1)  # with ties
    value, error = area(score, missing)
    assert value == pytest.approx(roc_auc_score(missing, score))
    drawn = []
    for _ in range(200):
        rows = generator.integers(0, 300, 300)
        drawn.append(roc_auc_score(missing[rows], score[rows]))
    assert error == pytest.approx(np.std(drawn), rel=0.2)
    bins = generator.integers(0, 4, 300)
    pairs = [
        (
            missing[bins == b].sum() * (~missing[bins == b]).sum(),
            roc_auc_score(missing[bins == b], score[bins == b]),
        )
        for b in range(4)
    ]
    assert area(score, missing, bins)[0] == pytest.approx(
        sum(n * a for n, a in pairs) / sum(n for n, _ in pairs)
    )


def test_information_is_that_of_sklearn_in_bits() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 3, 500), generator.integers(0, 4, 500)
    assert shared_bits(one, other) == pytest.approx(mutual_info_score(one, other) / math.log(2))
    assert shared_bits(one, one) == pytest.approx(
        -sum(p * math.log2(p) for p in np.bincount(one) / 500)
    )


@pytest.fixture(scope="module")
def study() -> Bundle:
    return open_bundle("twin:iemocap6@study")


def areas(law: Law, bundle: Bundle) -> dict[tuple[str, str], Any]:
    found = masks.dependence(law, bundle, "test", draw(law, bundle, "test", 0))
    return {(row["modality"], row["against"]): row for row in found.to_dict("records")}


def test_audits_tell_the_mechanisms_apart(study: Bundle) -> None:
    """Completely at random: nothing. An anchor: its content, and others' only through it. Self: its own content."""
    for row in areas(masks.mcar(0.5), study).values():
        assert abs(row["auc"] - 0.5) < 0.035
    anchored = areas(masks.mar_anchor(0.5, 1.0, "text"), study)
    assert anchored["audio", "content of text"]["low"] > 0.75
    assert anchored["audio", "own content"]["low"] > 0.6  # through the text
    assert abs(anchored["audio", "own content"]["within"] - 0.5) < 0.04
    itself = areas(masks.mnar_self({"audio": 0.5, "text": 0, "vision": 0.5}, 1.0), study)
    assert itself["audio", "own content"]["low"] > 0.7
    assert itself["vision", "own content"]["auc"] > itself["vision", "content of text"]["auc"] + 0.1
    labelled = areas(masks.mnar_label(0.5, 1.0), study)
    assert all(abs(labelled[m, "label"]["auc"] - 0.5) > 0.1 for m in study.modalities)
    assert abs(labelled["text", "own content"]["within"] - 0.5) < 0.04


def test_masks_that_look_at_the_label_or_its_content_tell_of_it_and_others_do_not(
    study: Bundle,
) -> None:
    def bits(law: Law) -> tuple[float, float]:
        mask = draw(law, study, "test", 0)
        last: Any = masks.information(study, "test", mask).set_index("modality").loc["pattern"]
        return last["bits"] - last["by_chance"], last["p"]

    told = {
        name: bits(law)
        for name, law in {
            "mcar": masks.mcar(0.5),
            "nuisance": masks.mnar_self(
                {"audio": 0.5, "text": 0.5, "vision": 0.0}, 2.0, "nuisance"
            ),
            "self": masks.mnar_self(0.5, 2.0),
            "label": masks.mnar_label(0.5, 2.0),
        }.items()
    }
    assert told["mcar"][1] > 0.01 and told["nuisance"][1] > 0.01
    assert told["self"][1] < 0.01 and told["label"][0] > told["self"][0] > 0.05


def test_completeness_of_laws_with_one_rate_differs_many_times(toy: Toy) -> None:
    """At a mean rate of 1/3 of three modalities: 0.296 independent, 0 where one is missing, 0.5 where one is kept."""
    bundle = toy((50, 50, 50, 50) * 120, {"audio": 1, "text": 1, "vision": 1})
    found = {
        law.kind: masks.completeness(draw(law, bundle, "train", 0).utterance, bundle.modalities)
        for law in (masks.mcar(1 / 3), masks.mar_candidates(0.3333, 0.0), masks.keep_one(0.5))
    }
    assert found["mcar"]["complete"] == pytest.approx(8 / 27, abs=0.02)
    assert found["mar_candidates"]["complete"] == pytest.approx(0.0001, abs=0.002)
    assert found["keep_one"]["complete"] == 0.5
    given = masks.pattern_distribution([1 / 3] * 3)
    assert given[1, 1, 1] == pytest.approx(8 / 26)  # where what lost everything is left out
    for shares in found.values():
        pairs = [shares[f"{a}+{b}"] for a, b in itertools.combinations(bundle.modalities, 2)]
        assert shares["complete"] <= min(pairs)
    for a, b in itertools.combinations(
        bundle.modalities, 2
    ):  # independent, but for what was given back
        assert found["mcar"][f"{a}+{b}"] == pytest.approx(4 / 9, abs=0.02)
    assert found["mar_candidates"]["entropy"] == pytest.approx(math.log2(3), abs=0.02)
    four = np.array(list(itertools.product((True, False), repeat=2)))
    assert masks.completeness(four, ("audio", "text")) == {
        "complete": 0.25,
        "audio+text": 0.25,
        "entropy": 2.0,
    }


def test_what_the_data_lack_themselves_is_described_by_pairs_too(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 4) * 5, lacking=0.4)
    *_, last = missing_lines(bundle)
    both = bundle.observed[:, 0] & bundle.observed[:, 2]
    assert f"audio+vision {both.mean():.0%}" in last and last.endswith("bits.")


# As data, in runs, and bad input.


def test_a_run_under_a_mechanism_records_its_rates_and_counts_its_family() -> None:
    law = masks.mnar_self({"audio": 0.5, "text": 0.2, "vision": 0.5}, math.inf)
    spec = RunSpec(
        "twin:iemocap6@tiny",
        seed=0,
        backbone="linear",
        train_mask=law,
        eval_masks=(("self", law), ("at random", masks.mar_anchor(0.5, 2.0, "text"))),
        training=Training(epochs=1),
    )
    assert spec_from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec
    assert spec.families == ("masks.mechanism",)
    assert {"masks.mechanism", "masks.scores", "masks.law"} <= numerics_modules(
        "plain", "linear", spec.families
    )
    lines = execute(spec).record["rates"]
    nominal = {(line["mask"], line["modality"]): line["nominal"] for line in lines}
    assert nominal["self", "text"] == 0.2 and nominal["at random", "text"] == 0


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("kind", MAKE)
def test_a_mechanism_survives_json_that_has_no_infinity(kind: str, slope: float) -> None:
    law = MAKE[kind](RATES, slope)
    text = json.dumps(dataclasses.asdict(law), allow_nan=False)
    assert masks.law_from_json(json.loads(text)) == law
    assert mechanism.slope_of(law) == slope
    assert ("slope" in masks.describe(law)) == (0 < slope < math.inf)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda b: masks.mcar(1.0), "missing rate"),
        (lambda b: masks.mnar_self(0.5, -1.0), "slope"),
        (lambda b: masks.mnar_self(0.5, math.nan), "slope"),
        (lambda b: masks.mnar_self(0.5, 1.0, "clas"), "class"),
        (lambda b: masks.mar_anchor({"audio": 0.5, "text": 0.1}, 1.0, "text"), "never missing"),
        (lambda b: draw(masks.mar_anchor(0.5, 1.0, "smell"), b, "test", 0), "smell"),
        (lambda b: draw(Law("mnar_cross", rate=0.5), b, "test", 0), "source"),
        (lambda b: draw(masks.mar_candidates(0.4, 1.0), b, "test", 0), "sum"),
        (lambda b: draw(masks.mnar_self(0.4, 1.0, "nuisance"), b, "test", 0), "twin"),
        (lambda b: masks.fitted(masks.shared(0.4), b), "mechanism"),
    ],
)
def test_a_mechanism_that_makes_no_sense_raises(
    toy: Toy, make: Callable[[Bundle], object], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        make(toy())
