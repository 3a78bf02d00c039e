"""Supplement B: what can be enumerated is exact, what is sampled agrees with theory, what is false is shown false."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.papers.balm import cost, theory
from mmlib.papers.balm import gradients as tg

TINY = "twin:iemocap6@tiny"


@pytest.mark.parametrize("kind", ["separable", "zeros", "fused"])
def test_expectation_by_patterns_is_that_over_all_joint_masks(kind: str) -> None:
    model, features, labels = tg.small_case(kind, TINY, 3)
    features, labels = {m: x[:2] for m, x in features.items()}, labels[:2]
    rates = (0.5, 0.7, 0.3)
    found = tg.expected_gradients(model, features, labels, tg.bernoulli(rates))
    total = {m: 0.0 for m in model.modalities}
    for bits in itertools.product((0, 1), repeat=6):
        seen = np.array(bits, dtype=float).reshape(2, 3)
        probability = np.prod(np.where(seen == 1, 1 - np.array(rates), rates))
        each = tg.encoder_gradients(model, model.loss(features, labels, torch.from_numpy(seen)))
        total = {m: total[m] + probability * each[m]["all"] for m in total}
    for m in model.modalities:
        assert np.abs(found[m]["all"] - total[m]).max() < 1e-10


def test_lemma_1_is_exact_under_its_assumptions() -> None:
    frame = theory.lemma_holds(seed=1)
    assert list(frame["modality"]) == ["audio", "text", "vision"]
    assert np.abs(frame["measured"] - [0.5, 0.3, 0.7]).max() < 1e-10
    assert np.abs(frame["cosine"] - 1).max() < 1e-10
    assert (frame["holds"] == "yes").all()


def test_drawn_masks_give_the_availability_of_their_law_and_not_1_minus_r() -> None:
    frame = theory.lemma_masks(seed=2, draws=150)
    printed = frame["note"].str.startswith("factor 1 - r")
    assert len(frame) == 18 and (frame.loc[printed, "holds"] == "no").all()
    # By hand: prod(0.5, 0.7, 0.3) / 3 = 0.035; 0.5 ** 3 / 3 = 0.0417; divided by 1 - 0.105 under Eq. 3.
    wanted = [0.535, 0.335, 0.735, *[0.5 + 0.125 / 3] * 3, 0.5 / 0.895, 0.3 / 0.895, 0.7 / 0.895]
    assert list(frame.loc[~printed, "claimed"]) == pytest.approx(wanted)
    slack = 4 * frame.loc[~printed, "error"] + np.repeat(
        [0.0105, 1e-10, 1e-10], 3
    )  # quotas are whole numbers of 350
    assert (np.abs(frame.loc[~printed, "measured"] - wanted) <= slack).all()


def test_zero_inputs_silence_an_encoders_weights_but_not_its_bias() -> None:
    model, features, labels = tg.small_case("zeros", TINY, 0)
    rate = 0.7
    expected = tg.expected_gradients(model, features, labels, tg.bernoulli((0.5, rate, 0.3)))[
        "text"
    ]
    encoder, head = (
        [p.detach().numpy() for p in part["text"].parameters()]
        for part in (model.encoders, model.heads)
    )

    def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = np.tanh(x @ encoder[0].T + encoder[1])
        logits = z @ head[0].T + head[1]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual = p / p.sum(axis=1, keepdims=True) - np.eye(p.shape[1])[labels.numpy()]
        inner = (residual @ head[0]) * (1 - z**2)
        return inner.T @ x / len(x), inner.mean(axis=0)

    x = features["text"].numpy()
    (weight, bias), (_, bias_of_zero) = by_hand(x), by_hand(0 * x)
    assert np.abs(expected["weight"] - (1 - rate) * weight.ravel()).max() < 1e-10
    assert np.abs(expected["bias"] - (1 - rate) * bias - rate * bias_of_zero).max() < 1e-10
    frame = theory.lemma_inputs(seed=0)
    separate = frame[frame["where"].str.contains("D22")]
    assert list(separate["holds"]) == ["yes", "no"] * 3
    assert (frame.loc[~frame.index.isin(separate.index), "holds"] == "no").all()


def test_sampled_slope_and_cosine_find_the_known_ones_in_noise() -> None:
    generator = np.random.default_rng(0)
    whole = np.r_[2.0, np.zeros(49)]
    mean = np.r_[0.6, 0.45, np.zeros(48)]  # slope 0.3, cosine 0.8
    draws = mean + generator.normal(0, 0.5, (400, 50))
    slope, slope_error, cosine, cosine_error = tg.sampled_slope_cosine(draws, whole)
    assert abs(slope - 0.3) <= 4 * slope_error and 0 < slope_error < 0.02
    assert abs(cosine - 0.8) <= 4 * cosine_error and 0 < cosine_error < 0.05
    plain = tg.slope_cosine(draws.mean(axis=0), whole)[1]
    assert plain < cosine  # the mean of noisy draws is too long


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch of the twelve that the artifact trains for: what is asserted holds after it as well."""
    monkeypatch.setattr(theory, "SCHEDULE", dataclasses.replace(theory.SCHEDULE, epochs=1))


@pytest.mark.usefixtures("_short")
def test_real_backbone_departs_from_the_lemma_and_the_same_seed_gives_the_same_rows() -> None:
    state = torch.get_rng_state()
    first = theory.lemma_backbone(seed=0, draws=20)
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == 6 and first["error"].gt(0).all()
    text = first[first["modality"] == "text"]
    assert (text["holds"] == "no").all()  # a bidirectional LSTM answers zeros too
    pd.testing.assert_frame_equal(first, theory.lemma_backbone(seed=0, draws=20))


def test_norms_of_batches_agree_with_enumeration() -> None:
    generator = np.random.default_rng(1)
    gradients, rate = generator.normal(0.4, 1, (3, 4)), 0.7
    for batch in (1, 2):
        norms, squares, plain, plain_squares = 0.0, 0.0, 0.0, 0.0
        for rows in itertools.product(range(3), repeat=batch):
            whole = gradients[list(rows)].mean(axis=0)
            plain += np.linalg.norm(whole) / 3**batch
            plain_squares += (whole**2).sum() / 3**batch
            for seen in itertools.product((0, 1), repeat=batch):
                probability = math.prod(1 - rate if s else rate for s in seen) / 3**batch
                masked = np.array(seen) @ gradients[list(rows)] / batch
                norms += probability * np.linalg.norm(masked)
                squares += probability * (masked**2).sum()
        ratio, error = tg.norm_ratio(gradients, rate, batch, 4000, seed=2)
        assert abs(ratio - norms / plain) <= 4 * error
        assert (
            abs(tg.square_ratio(gradients, rate, batch) - math.sqrt(squares / plain_squares))
            < 1e-10
        )
        share, error = tg.norm_of_mean(gradients, rate, batch, 4000, seed=3)
        assert abs(share - (1 - rate) * np.linalg.norm(gradients.mean(axis=0)) / norms) <= 4 * error
    with_one = tg.norm_ratio(gradients, rate, 1, 4000, seed=4)
    assert abs(with_one[0] - (1 - rate)) <= 4 * with_one[1]


def test_per_sample_gradients_are_uniform_minus_truth_at_zero_weights_and_cancel_at_the_minimum() -> (
    None
):
    bundle = open_bundle(theory.LARGER_DATA)
    rows = bundle.rows("train")
    x = np.c_[bundle.features["text"][rows], np.ones(len(rows))].astype(float)
    start = tg.per_sample_gradients(theory.LARGER_DATA, "text", False)
    wanted = (np.full(6, 1 / 6) - np.eye(6)[bundle.labels[rows]])[:, :, None] * x[:, None, :]
    assert np.abs(start - wanted.reshape(len(rows), -1)).max() < 1e-12
    least = tg.per_sample_gradients(theory.LARGER_DATA, "text", True)
    assert np.linalg.norm(least.mean(axis=0)) < 1e-4 < np.linalg.norm(least, axis=1).mean()


def test_corollary_1_holds_for_single_utterances_and_fails_for_batches() -> None:
    frame = theory.corollary(seed=0, draws=800).set_index(["claim", "condition"])
    printed = frame.loc["E||gradient|| ratio = 1 - r"]
    for state in ("at the start", "at the minimum"):
        assert printed.loc[f"classifier {state}, batch of 1", "holds"] == "yes"
        assert printed.loc[f"classifier {state}, batch of 16", "holds"] == "no"
    limit = frame.loc["E||gradient|| ratio = sqrt(1 - r)"].iloc[0]
    assert limit["claimed"] == pytest.approx(math.sqrt(0.3))
    assert abs(limit["measured"] - math.sqrt(0.3)) <= 4 * limit["error"] and limit["error"] < 0.01
    assert (frame.loc["||E gradient|| / E||gradient|| = 1", "measured"] < 0.6).all()


def test_a_constant_factor_scales_sgds_step_and_not_adams() -> None:
    frame = theory.scaling(seed=0, steps=4)
    scale = frame["claim"].str.extract(r"mu = ([\d.]+)")[0].astype(float)
    sgd = frame["condition"].str.startswith("SGD")
    assert set(scale) == {0.5, 1.5} and sgd.sum() == 4 and (~sgd).sum() == 8
    assert np.abs(frame["measured"] - scale)[sgd].max() < 1e-3
    assert np.abs(frame["measured"] - 1)[~sgd].max() < 1e-3
    assert list(frame["holds"]) == [
        "yes" if abs(c - m) < 0.01 else "no"
        for c, m in zip(frame["claimed"], frame["measured"], strict=True)
    ]


def test_departures_from_the_proposition_are_shares_of_a_trainings_coefficients() -> None:
    coefficients = np.array(
        [[0.4, 0.7, 0.9], [-0.5, 1.5, 1.0], [12.0, -20.0, 10.0], [0.7, 0.8, 0.5]]
    )
    norms = np.array([[4.0, 2.0, 1.0], [1.0, 2.0, 1.5], [1.0, 2.0, 4.0], [3.0, 1.0, 2.0]])
    names = ["audio", "text", "vision"]
    series = pd.DataFrame(
        [
            {
                "seed": k // 2,
                "step": k % 2,
                "modality": m,
                "rate": theory.RATES[m],
                "mu": 1.4 * coefficients[k, i],
                "norm": norms[k, i],
            }
            for k in range(4)
            for i, m in enumerate(names)
        ]
    )
    frame = theory.proposition(series, rho=1.4).set_index("claim")["measured"]
    assert frame["c sums to M - 1 (deviation 0)"] == pytest.approx(0, abs=1e-12)
    assert frame["no c is negative (share 0)"] == pytest.approx(2 / 12)
    assert frame["no |c| exceeds 10 (share 0)"] == pytest.approx(2 / 12)
    # 1 / (1 - r) is ordered text, audio, vision; the four steps' rank correlations by hand: -1/2, 1/2, -1/2, 1.
    assert frame["mu rises with 1/(1 - r) (rank correlation 1)"] == pytest.approx(0.5 / 4)
    assert frame["mu is ordered as 1/(1 - r) (share of steps 1)"] == 1 / 4
    before = np.mean([np.median([4, 2]), np.median([4, 3])])
    after = np.mean([np.median([1.6 / 0.9, 3 / 0.5]), np.median([40 / 12, 2.1 / 0.8])])
    assert frame["largest / smallest norm = 1 before"] == pytest.approx(before)
    assert frame["largest / smallest norm = 1 after"] == pytest.approx(after)


@pytest.mark.usefixtures("_short")
def test_coefficients_of_a_real_training_sum_to_rho_times_m_minus_1() -> None:
    series = theory.modulation_series([5])
    sums, largest = (
        series.groupby("step")["mu"].sum(),
        series.groupby("step")["mu"].agg(lambda mu: mu.abs().max()),
    )
    assert (np.abs(sums - 1.4 * 2) <= 1e-5 * largest.clip(lower=1)).all()
    frame = theory.proposition(series).set_index("claim")
    assert frame.loc["c sums to M - 1 (deviation 0)", "holds"] == "yes"
    assert frame.loc["no c is negative (share 0)", "holds"] == "no"
    assert frame.loc["largest / smallest norm = 1 after", "measured"] > 1


def test_cost_counts_the_parameters_of_tables_6_dims() -> None:
    frame = cost.lightweight(repeats=1).set_index(["dataset", "quantity"])
    for dataset, dims, outputs in (
        ("iemocap", (1582, 1024, 342), 6),
        ("mosei", (512, 1024, 1024), 1),
    ):
        total = sum(dims)
        fcm = (total + 1) * (total // 4) + sum((total // 4 + 1) * d for d in dims)
        heads = 3 * (201 * 900 + 901 * outputs)
        assert frame.loc[(dataset, "parameters of fcm"), "value"] == fcm
        assert frame.loc[(dataset, "parameters of heads"), "value"] == heads
        assert frame.loc[(dataset, "parameters BALM adds in training"), "value"] == fcm + heads
        assert frame.loc[(dataset, "parameters BALM adds at test"), "value"] == fcm
    measured = frame[frame["source"] == "measured"]
    assert (measured["value"] > 0).all() and len(measured) == 8
    with pytest.raises(InputError, match="mmgcn"):
        cost.lightweight("mmgnc")
