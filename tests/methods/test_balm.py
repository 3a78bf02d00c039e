"""BALM, equations 7-10 and 16-22: each is computed a second way, by hand, NumPy or SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import (
    FOUR,
    PAIRS,
    SCORE,
    Toy,
    array,
    batches,
    gradients,
    kl_by_scipy,
    make,
    probabilities,
    unlike,
)
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from mmlib import masks
from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.fit import fit, make_optimizer, train_step
from mmlib.methods.balm import VARIANTS, BalmConfig, FeatureCalibration, coefficients, divergence
from mmlib.nn.batch import Batch, to_device
from mmlib.nn.objectives import log_distribution
from mmlib.runs.spec import Training

LAW = masks.imbalanced({"audio": 0.3, "text": 0.6, "vision": 0.4})


# Feature calibration.


@pytest.fixture
def silent(toy: Toy) -> Batch:
    """A batch whose second dialogue has no text at all."""
    bundle = toy((3, 5, 4, 4, 2, 5, 1, 4))
    mask = masks.draw(masks.shared(0.4), bundle, "train", 1)
    mask.utterance[3:7] = [True, False, True]
    return to_device(bundle, "train", mask, "cpu").batch([0, 1, 2])


def descriptor_by_hand(batch: Batch, modality: int, rows: list[int]) -> np.ndarray:
    name = sorted(batch.features)[modality]
    seen = [array(batch.features[name][i]) for i in rows if batch.observed[i, modality]]
    return np.mean(seen, axis=0) if seen else np.zeros(batch.features[name].shape[1])


def test_eq07_descriptor_is_the_mean_of_a_dialogues_available_features(silent: Batch) -> None:
    found = array(
        FeatureCalibration({"audio": 6, "text": 5, "vision": 4}, "double", "dialogue").descriptors(
            silent
        )
    )
    home = silent.layout.dialogue.tolist()
    for dialogue in range(3):
        rows = [i for i, d in enumerate(home) if d == dialogue]
        expected = np.concatenate([descriptor_by_hand(silent, m, rows) for m in range(3)])
        np.testing.assert_allclose(found[dialogue], expected, atol=1e-6)
    assert (found[1, 6:11] == 0).all() and (found[1, :6] != 0).all()


def test_eq07_batch_descriptor_is_the_same_for_every_dialogue_and_spans_the_batch(
    silent: Batch,
) -> None:
    found = array(
        FeatureCalibration({"audio": 6, "text": 5, "vision": 4}, "double", "batch").descriptors(
            silent
        )
    )
    expected = np.concatenate(
        [descriptor_by_hand(silent, m, list(range(len(silent)))) for m in range(3)]
    )
    np.testing.assert_allclose(found, np.stack([expected] * 3), atol=1e-6)


@pytest.mark.parametrize("gate", ["one-plus", "double"])
@pytest.mark.parametrize("descriptor", ["dialogue", "batch"])
def test_eq08_eq09_eq10_calibration_by_numpy_and_missing_stays_zero(
    silent: Batch, gate: str, descriptor: str
) -> None:
    torch.manual_seed(0)
    fcm = FeatureCalibration({"audio": 6, "text": 5, "vision": 4}, gate, descriptor)
    found, home = fcm(silent), silent.layout.dialogue.tolist()
    for i in range(len(silent)):
        rows = [k for k in range(len(silent)) if home[k] == home[i] or descriptor == "batch"]
        joined = np.concatenate([descriptor_by_hand(silent, m, rows) for m in range(3)])
        shared = np.maximum(
            array(fcm.context.weight) @ joined + array(fcm.context.bias), 0
        )  # Eq. 8
        for m, name in enumerate(("audio", "text", "vision")):
            layer: Any = fcm.calibrate[name]
            weight = array(layer.weight) @ shared + array(layer.bias)  # Eq. 9
            open_ = 1 / (1 + np.exp(-weight))
            factor = 1 + open_ if gate == "one-plus" else 2 * open_
            np.testing.assert_allclose(
                array(found[name][i]), factor * array(silent.features[name][i]), atol=1e-6
            )
            assert silent.observed[i, m] or (found[name][i] == 0).all()


def test_eq08_context_is_a_quarter_of_all_coordinates_wide_as_in_table_6() -> None:
    for dims, width in (((1582, 1024, 342), 737), ((512, 1024, 1024), 640)):
        fcm = FeatureCalibration(dict(zip("atv", dims, strict=True)), "one-plus", "dialogue")
        assert fcm.context.weight.shape == (width, sum(dims))
        assert [fcm.calibrate[m].weight.shape for m in "atv"] == [(d, width) for d in dims]


# Heads.


def test_eq16_eq17_heads_by_numpy_have_the_fused_layers_shape(toy: Toy) -> None:
    bundle = toy()
    balm, batch = make(bundle), next(batches(bundle))
    z = balm(batch).z
    for name, head in balm.heads.items():
        hidden, logits = head(z[name])
        h = np.maximum(array(z[name]) @ array(head.map.weight).T + array(head.map.bias), 0)
        np.testing.assert_allclose(array(hidden), h, atol=1e-6)
        by_hand = h @ array(head.prediction.weight).T + array(head.prediction.bias)
        np.testing.assert_allclose(array(logits), by_hand, atol=1e-6)
        assert (
            head.prediction.weight.shape
            == balm.backbone.prediction.weight.shape
            == (3, 3 * (8 + 6))
        )


@pytest.mark.parametrize("variant", ["probe", "paper", "released", "s", "d"])
def test_eq18_heads_get_their_own_losses_gradient_by_hand_in_every_variant(
    toy: Toy, variant: str
) -> None:
    bundle = toy()
    balm, batch = make(bundle, variant), next(batches(bundle))
    z, found = balm(batch).z, gradients(balm, batch)
    truth, n = np.eye(3)[batch.labels.numpy()], len(batch)
    for name, head in balm.heads.items():
        inputs = array(z[name])
        before = inputs @ array(head.map.weight).T + array(head.map.bias)
        h = np.maximum(before, 0)
        residual = (
            softmax(h @ array(head.prediction.weight).T + array(head.prediction.bias), axis=1)
            - truth
        ) / n
        back = residual @ array(head.prediction.weight) * (before > 0)
        for key, expected in (
            ("prediction.weight", residual.T @ h),
            ("prediction.bias", residual.sum(axis=0)),
            ("map.weight", back.T @ inputs),
            ("map.bias", back.sum(axis=0)),
        ):
            np.testing.assert_allclose(array(found[f"heads.{name}.{key}"]), expected, atol=1e-6)


def test_eq14_eq18_loss_is_the_mean_cross_entropy_of_the_fused_and_of_each_head(toy: Toy) -> None:
    bundle = toy()
    balm, batch = make(bundle, "probe"), next(batches(bundle))
    fused = balm(batch)
    every = [fused.logits, *(balm.heads[m](fused.z[m])[1] for m in balm.modalities)]
    rows, labels = np.arange(len(batch)), batch.labels.numpy()
    expected = sum(-log_softmax(array(x), axis=1)[rows, labels].mean() for x in every)
    assert balm.loss(batch).item() == pytest.approx(expected, rel=1e-6)


def test_heads_send_no_gradient_into_the_backbone(toy: Toy) -> None:
    bundle = toy()
    plain, probe, batch = make(bundle, method="plain"), make(bundle, "probe"), next(batches(bundle))
    alone, beside = gradients(plain, batch), gradients(probe, batch)
    assert all(torch.equal(alone[k], beside[k]) for k in alone)
    with torch.no_grad():
        for p in probe.heads.parameters():
            p.mul_(3)
    assert all(
        torch.equal(alone[k], grad) for k, grad in gradients(probe, batch).items() if k in alone
    )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_probe_trains_the_backbone_bit_for_bit_as_plain_does(toy: Toy, optimizer: str) -> None:
    bundle, training = (
        toy(),
        Training(epochs=3, batch=3, lr=0.01, weight_decay=1e-3, optimizer=optimizer, clip=0.5),
    )
    mask = {s: masks.draw(LAW, bundle, s, 0) for s in ("train", "valid", "test")}
    found = [
        fit(
            make(bundle, "paper" if m == "plain" else "probe", m, dropout=0.4),
            bundle,
            lambda _: mask["train"],
            mask["valid"],
            {"test": mask["test"]},
            training,
            5,
        )
        for m in ("plain", "balm")
    ]
    assert np.array_equal(found[0].tests["test"], found[1].tests["test"])
    assert np.array_equal(found[0].valid, found[1].valid)


# Distribution-driven modulation.


def test_eq19_divergence_in_both_directions_is_scipys_and_mse_is_the_mean_square() -> None:
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(4), 9), random.dirichlet(np.ones(4), 9)
    log_p, log_q = torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q))
    assert divergence("uni-multi", log_p, log_q).item() == pytest.approx(
        entropy(p, q, axis=1).mean()
    )
    assert divergence("multi-uni", log_p, log_q).item() == pytest.approx(
        entropy(q, p, axis=1).mean()
    )
    assert divergence("mse", log_p, log_q).item() == pytest.approx(((p - q) ** 2).mean())


@pytest.mark.parametrize(
    "variant, kind", [("d", "uni-multi"), ("released", "multi-uni"), ("m", "mse")]
)
def test_eq19_the_series_holds_each_modalitys_divergence(toy: Toy, variant: str, kind: str) -> None:
    bundle = toy()
    balm, batch = make(bundle, variant), next(batches(bundle))
    balm.keep_series = True
    balm.loss(batch)
    fused, heads = probabilities(balm, batch)
    by_kind = {
        "uni-multi": lambda uni: entropy(uni, fused, axis=1).mean(),
        "multi-uni": lambda uni: entropy(fused, uni, axis=1).mean(),
        "mse": lambda uni: np.mean((uni - fused) ** 2),
    }
    expected = [by_kind[kind](heads[m]) for m in balm.modalities]
    np.testing.assert_allclose(array(balm.series()["kl"]), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("smoothing", ["raw", "ema"])
def test_eq20_eq21_progress_is_the_divergence_at_first_and_its_fall_afterwards(
    toy: Toy, smoothing: str
) -> None:
    bundle = toy((3, 5, 7, 4) * 4)
    balm, source, last = (
        make(bundle, "d", coefficients=smoothing, rho=1.3),
        batches(bundle),
        np.zeros(3),
    )
    optimizer = make_optimizer(balm, Training(lr=0.01))
    balm.keep_series = True
    for t in range(6):
        batch = next(source)
        now = kl_by_scipy(balm, batch)
        if smoothing == "ema" and t:
            now = 0.9 * last + 0.1 * now
        delta, last = (now if t == 0 else last - now), now
        train_step(balm, batch, optimizer, clip=0.0)
        expected = [1.3 * sum(np.delete(delta, m)) / sum(delta) for m in range(3)]
        slack = (
            1e-5 * abs(delta).max() / abs(delta.sum()) ** 2
        )  # float32 divergences, divided by their sum
        np.testing.assert_allclose(
            array(balm.series()["mu"]), expected, rtol=1e-3, atol=max(slack, 1e-4)
        )


def test_eq20_evaluation_moves_no_progress(toy: Toy) -> None:
    bundle = toy()
    one, two, source = make(bundle, "d"), make(bundle, "d"), batches(bundle)
    first, second, other = next(source), next(source), next(source)
    for balm in (one, two):
        balm.loss(first)
    two.eval()
    two(other)
    two.loss(other)
    two.train()
    one.loss(second), two.loss(second)
    assert torch.equal(one.share, two.share)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_eq21_coefficients_are_the_others_share_of_progress_and_sum_to_one_less_than_modalities(
    count: int,
) -> None:
    random = np.random.default_rng(count)
    checked = 0
    for _ in range(200):
        delta = random.normal(size=count)
        if abs(delta.sum()) < 0.05:
            continue
        found = coefficients(torch.from_numpy(delta)).numpy()
        expected = [np.delete(delta, m).sum() / delta.sum() for m in range(count)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert found.sum() == pytest.approx(count - 1, abs=1e-5)
        checked += 1
    assert checked > 150


def test_eq21_guarded_coefficients_are_the_raw_ones_cut_to_zero_and_two(toy: Toy) -> None:
    bundle = toy((3, 5, 7, 4) * 4)
    raw, guarded, source = (
        make(bundle, "d"),
        make(bundle, "d", coefficients="guarded"),
        batches(bundle),
    )
    seen = []
    for _ in range(40):
        batch = next(source)
        raw.loss(batch), guarded.loss(batch)
        assert torch.equal(guarded.share, raw.share.clamp(0, 2))
        seen.append(raw.share)
    assert (torch.stack(seen) < 0).any() and (torch.stack(seen) > 2).any()


@pytest.mark.parametrize(
    "dims", [{"audio": 6, "text": 5}, {"audio": 6, "text": 5, "vision": 4}, FOUR], ids=len
)
def test_eq22_encoder_gradients_are_scaled_by_mu_exactly_and_nothing_else_is(
    toy: Toy, dims: dict[str, int]
) -> None:
    bundle = toy((3, 5, 1, 4) * 4, dims)
    scaled, bare, source = make(bundle, "d", rho=1.7), make(bundle, "fcm"), batches(bundle)
    scaled.keep_series = True
    for _ in range(3):
        batch = next(source)
        ours, plain = gradients(scaled, batch), gradients(bare, batch)
        assert ours.keys() == plain.keys()
        mu = dict(zip(scaled.modalities, scaled.series()["mu"], strict=True))
        for name, gradient in plain.items():
            modality = name.split(".")[2] if name.startswith("backbone.encoders.") else None
            assert torch.equal(ours[name], gradient * mu[modality] if modality else gradient), name
        norms = [
            math.sqrt(
                sum(
                    float(g.double().square().sum())
                    for k, g in plain.items()
                    if k.startswith(f"backbone.encoders.{m}.")
                )
            )
            for m in scaled.modalities
        ]
        np.testing.assert_allclose(array(scaled.series()["gradient_norm"]), norms, rtol=1e-5)
    assert len(scaled.heads) == len(dims) and not torch.allclose(
        scaled.share, torch.ones(len(dims))
    )


def test_eq15_eq22_a_step_of_sgd_moves_encoders_by_mu_times_the_rate(toy: Toy) -> None:
    bundle = toy()
    balm, bare, batch = make(bundle, "d"), make(bundle, "fcm"), next(batches(bundle))
    before, gradient = (
        {k: p.detach().clone() for k, p in balm.named_parameters()},
        gradients(bare, batch),
    )
    train_step(
        balm,
        batch,
        make_optimizer(balm, Training(lr=0.1, weight_decay=0.0, optimizer="sgd")),
        clip=0.0,
    )
    mu = dict(zip(balm.modalities, array(1.4 * balm.share), strict=True))
    for name, p in balm.named_parameters():
        factor = mu[name.split(".")[2]] if name.startswith("backbone.encoders.") else 1.0
        if name in gradient:
            np.testing.assert_allclose(
                array(p), array(before[name]) - 0.1 * factor * array(gradient[name]), atol=1e-6
            )


def test_noise_has_the_modulated_gradients_own_deviation_and_is_absent_when_off(toy: Toy) -> None:
    bundle = toy(dims={"audio": 400, "text": 300, "vision": 200})
    quiet, loud, batch = make(bundle, "d"), make(bundle, "d", noise=True), next(batches(bundle))
    exact, noisy = gradients(quiet, batch), gradients(loud, batch)
    touched = unlike(exact, noisy)
    assert touched == {k for k in exact if k.startswith("backbone.encoders.")}
    for name in touched:
        n, noise = (
            exact[name].numel(),
            array(noisy[name] - exact[name]) / array(exact[name]).std(ddof=1),
        )
        assert abs(noise.mean()) < 5 / math.sqrt(n) and abs(noise.std() - 1) < 5 / math.sqrt(
            2 * n
        ), name
    assert not unlike(
        gradients(make(bundle, "s"), batch), gradients(make(bundle, "s", noise=True), batch)
    )


# Tasks, modalities, clipping, options.


def test_score_distribution_is_negative_and_positive_class_by_the_logistic_function(
    toy: Toy,
) -> None:
    score = torch.tensor([[-30.0], [-1.2], [0.0], [0.7], [30.0]])
    expected = np.stack([expit(-score[:, 0].numpy()), expit(score[:, 0].numpy())], axis=1)
    np.testing.assert_allclose(log_distribution(SCORE, score).exp().numpy(), expected, rtol=1e-5)
    bundle = toy(task=SCORE)
    balm, batch = make(bundle, "d"), next(batches(bundle))
    balm.keep_series = True
    balm.loss(batch)
    fused = balm(batch)

    def two(logits: Tensor) -> np.ndarray:
        return np.stack([expit(-array(logits[:, 0])), expit(array(logits[:, 0]))], axis=1)

    by_scipy = [
        entropy(two(balm.heads[m](fused.z[m])[1]), two(fused.logits), axis=1).mean()
        for m in balm.modalities
    ]
    np.testing.assert_allclose(array(balm.series()["kl"]), by_scipy, rtol=1e-4, atol=1e-7)


def test_binary_distributions_are_one_per_pair_of_logits() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = [softmax(array(row[k : k + 2])) for row in logits for k in (0, 2)]
    np.testing.assert_allclose(log_distribution(PAIRS, logits).exp().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize(
    "dims, task", [({"audio": 6, "text": 5}, SCORE), (FOUR, PAIRS)], ids=["two", "four"]
)
def test_every_variant_trains_with_two_or_four_modalities_and_other_tasks(
    toy: Toy, variant: str, dims: dict[str, int], task: Task
) -> None:
    bundle = toy(dims=dims, task=task)
    balm, source = make(bundle, variant, dropout=0.4), batches(bundle)
    optimizer = make_optimizer(balm, Training())
    balm.keep_series = True
    for _ in range(3):
        assert torch.isfinite(train_step(balm, next(source), optimizer, clip=2.0))
        assert {k: tuple(v.shape) for k, v in balm.series().items()} == dict.fromkeys(
            ("kl", "cosine", "mu", "gradient_norm"), (len(dims),)
        )
    assert all(torch.isfinite(p).all() for p in balm.parameters())


def test_keeping_the_series_changes_no_training(toy: Toy) -> None:
    bundle, ends = toy(), []
    for keep in (False, True):
        balm, source = make(bundle, "released", dropout=0.4), batches(bundle)
        balm.keep_series, optimizer = keep, make_optimizer(balm, Training())
        for _ in range(4):
            train_step(balm, next(source), optimizer, clip=2.0)
        ends.append(dict(balm.named_parameters()))
    assert not unlike(*ends)


def test_clipping_measures_and_scales_all_but_the_heads(toy: Toy) -> None:
    bundle, limit = toy(), 0.05
    free, cut, batch = make(bundle), make(bundle), next(batches(bundle))
    expected = gradients(free, batch)
    train_step(cut, batch, make_optimizer(cut, Training()), clip=limit)
    norm = math.sqrt(
        sum(
            float(g.double().square().sum())
            for k, g in expected.items()
            if not k.startswith("heads.")
        )
    )
    assert norm > limit and any(k.startswith("fcm.") for k in expected)
    for name, p in cut.named_parameters():
        factor = 1.0 if name.startswith("heads.") else limit / norm
        torch.testing.assert_close(p.grad, expected[name] * factor, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "bad",
    [
        {"gate": "triple"},
        {"descriptor": "data"},
        {"discrepancy": "js"},
        {"coefficients": "none"},
        {"spatial": "weight"},
        {"reduction": "sum"},
        {"pairing": "none"},
        {"tau": -0.1},
        {"rho": math.nan},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_raises(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        BalmConfig(**bad)


def test_unknown_methods_variants_and_options_raise_and_name_the_nearest(toy: Toy) -> None:
    for arguments in ({"method": "blam"}, {"variant": "papers"}, {"taus": 0.3}):
        with pytest.raises(InputError, match="Did you mean"):
            make(toy(), **arguments)
