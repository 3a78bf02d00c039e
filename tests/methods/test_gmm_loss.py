"""GMM-loss, equations 3-10 computed a second way by NumPy and SciPy, and its schedule over warm-up and rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import Fitted, fit
from mmlib.methods import build_method
from mmlib.methods.gmm_loss import (
    VARIANTS,
    GmmLoss,
    GmmLossConfig,
    Mixture,
    fit_mixture,
    modality_gap,
    posteriors,
)
from mmlib.methods.plain import Peek
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 4}
FLOOR = 1e-4  # added to every variance
MIXTURE = Mixture(
    *(torch.tensor(v, dtype=torch.float64) for v in ((0.7, 0.3), (0.02, 0.4), (0.02, 0.05)))
)
QUICK = Training(epochs=7, batch=3, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def make(
    bundle: Bundle, variant: str = "paper", kind: type[GmmLoss] = GmmLoss, **options: Any
) -> GmmLoss:
    torch.manual_seed(0)
    backbone = build_backbone(
        "concat", bundle.dims, bundle.task.outputs, 1, [("encoder", "mlp"), ("hidden", 7)]
    )
    torch.nn.init.normal_(backbone.prediction.bias)
    return kind(
        backbone, bundle.task, dataclasses.replace(VARIANTS[variant], **options), bundle.dims
    )


@pytest.fixture(scope="module")
def bundle(toy: Toy) -> Bundle:
    return toy(dims=DIMS)


@pytest.fixture
def batch(bundle: Bundle) -> Batch:
    """16 clips in double precision."""
    found = to_device(
        bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu"
    ).batch(range(8))
    return dataclasses.replace(found, features={m: x.double() for m, x in found.features.items()})


def by_hand(method: GmmLoss, batch: Batch) -> dict[str, np.ndarray]:
    """Eqs 1, 3, 4 and 6 from the weights: logits f, l^a, l^v, and the gap g."""
    head, hidden = method.backbone.prediction, {}
    for m in ("audio", "vision"):
        encoder: Any = method.backbone.encoders[m]
        inner = np.maximum(
            array(batch.features[m]) @ array(encoder.first.weight).T + array(encoder.first.bias), 0
        )
        hidden[m] = np.maximum(
            inner @ array(encoder.second.weight).T + array(encoder.second.bias), 0
        )
    weight, bias, rows = array(head.weight), array(head.bias), np.arange(len(batch))
    audio = hidden["audio"] @ weight[:, :7].T + bias / 2
    vision = hidden["vision"] @ weight[:, 7:].T + bias / 2
    labels = batch.labels.numpy()
    gap = softmax(audio, axis=1)[rows, labels] - softmax(vision, axis=1)[rows, labels]
    both = np.concatenate([hidden["audio"], hidden["vision"]], axis=1)
    return {"fused": both @ weight.T + bias, "audio": audio, "vision": vision, "gap": gap}


def cross_entropy(logits: np.ndarray, batch: Batch) -> np.ndarray:
    found: np.ndarray = -log_softmax(logits, axis=1)[np.arange(len(batch)), batch.labels.numpy()]
    return found


def weights_by_scipy(gap: np.ndarray, mixture: Mixture) -> np.ndarray:
    """Eq. 9, (n, 2), from normal densities."""
    shares, means, deviations = (
        array(mixture.shares),
        array(mixture.means),
        np.sqrt(array(mixture.variances)),
    )
    joint = shares * norm.pdf(gap[:, None], means, deviations)
    found: np.ndarray = joint / joint.sum(axis=1, keepdims=True)
    return found


# The equations.


def test_eq3_unimodal_logits_by_numpy_add_up_to_eq1(bundle: Bundle, batch: Batch) -> None:
    method = make(bundle).double()
    fused, expected = method(batch), by_hand(method, batch)
    alone = method.unimodal(fused)
    for m in ("audio", "vision"):
        np.testing.assert_allclose(array(alone[m]), expected[m], rtol=1e-12, atol=1e-14)
        assert torch.equal(method.views(fused)[m], alone[m])
    np.testing.assert_allclose(
        array(alone["audio"] + alone["vision"]), array(fused.logits), rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(array(fused.logits), expected["fused"], rtol=1e-12, atol=1e-14)


def test_eq4_eq6_gap_is_the_difference_of_true_class_probabilities(
    bundle: Bundle, batch: Batch
) -> None:
    method = make(bundle).double()
    alone, gap = method.unimodal(method(batch)), by_hand(method, batch)["gap"]
    found = {
        kind: array(modality_gap(alone, method.modalities, batch.labels, kind))
        for kind in ("signed", "absolute")
    }
    np.testing.assert_allclose(found["signed"], gap, atol=1e-14)
    np.testing.assert_allclose(found["absolute"], np.abs(gap), atol=1e-14)
    assert method.modalities == ("audio", "vision") and gap.min() < 0 < gap.max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_eq5_eq7_warm_up_is_three_cross_entropies_whatever_the_variant(
    bundle: Bundle, batch: Batch, variant: str
) -> None:
    method = make(bundle, variant, warmup=3).double()
    found = by_hand(method, batch)
    expected = sum(
        cross_entropy(found[name], batch).mean() for name in ("fused", "audio", "vision")
    )
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-12)


def test_eq9_posteriors_by_scipy_add_up_to_one_and_survive_the_far_ends() -> None:
    gap = np.linspace(-1, 1, 101)
    found = array(posteriors(torch.from_numpy(gap), MIXTURE))
    np.testing.assert_allclose(found, weights_by_scipy(gap, MIXTURE), atol=1e-12)
    narrow = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.7]), torch.tensor([1e-3, 1e-3]))
    ends = posteriors(
        torch.tensor([-1.0, 1.0]), narrow
    )  # in single precision both densities are 0 here
    torch.testing.assert_close(ends, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    alone = posteriors(
        torch.tensor([-1.0, 0.0, 1.0]), narrow._replace(shares=torch.tensor([1.0, 0.0]))
    )
    assert alone.tolist() == [[1.0, 0.0]] * 3


SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "alpha0": {},
    "beta0": {},
    "gamma0": {},
    "unweighted": {},
    "absolute": {},
    "same_state": {"alpha": 0.5, "beta": 3.0, "gamma": 0.2},
}


@pytest.mark.parametrize("variant", SETTINGS)
def test_eq10_by_numpy_for_every_ablation_of_table_2(
    bundle: Bundle, batch: Batch, variant: str
) -> None:
    method = make(bundle, variant, **SETTINGS[variant]).double()
    method.mixture, method.scale, config = MIXTURE, 0.96**3, method.config
    found = by_hand(method, batch)
    gap = np.abs(found["gap"]) if variant == "absolute" else found["gap"]
    w = np.ones((len(gap), 2)) if variant == "unweighted" else weights_by_scipy(gap, MIXTURE)  # H12
    ours = w[:, 0] * cross_entropy(found["fused"], batch)
    expected = config.alpha * ours + 0.96**3 * (
        config.beta * gap**2 + config.gamma * w[:, 1] * (gap - 0.02) ** 2
    )
    assert method.loss(batch).item() == pytest.approx(expected.mean(), rel=1e-12)
    off = {"alpha0": "alpha", "beta0": "beta", "gamma0": "gamma"}
    assert all(getattr(config, name) == 0 for key, name in off.items() if key == variant)


def test_the_gradient_is_that_of_the_loss_with_the_posteriors_as_constants(
    bundle: Bundle, batch: Batch
) -> None:
    """H4: by central differences of Eq. 10 with w frozen; those with w moving differ."""
    method = make(bundle).double()
    method.mixture = MIXTURE
    frozen = weights_by_scipy(by_hand(method, batch)["gap"], MIXTURE)

    def value(w: np.ndarray | None) -> float:
        found = by_hand(method, batch)
        gap = found["gap"]
        now = weights_by_scipy(gap, MIXTURE) if w is None else w
        losses = (
            now[:, 0] * cross_entropy(found["fused"], batch)
            + gap**2
            + now[:, 1] * (gap - 0.02) ** 2
        )
        return float(losses.mean())

    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    encoder: Any = method.backbone.encoders["audio"]
    apart = []
    for weight in (
        method.backbone.prediction.weight,
        method.backbone.prediction.bias,
        encoder.first.weight,
    ):
        assert weight.grad is not None
        for place in range(0, weight.numel(), 5):
            slopes = []
            for w in (frozen, None):
                ends = []
                for step in (1e-5, -1e-5):
                    weight.data.view(-1)[place] += step
                    ends.append(value(w))
                    weight.data.view(-1)[place] -= step
                slopes.append((ends[0] - ends[1]) / 2e-5)
            assert weight.grad.flatten()[place].item() == pytest.approx(slopes[0], abs=1e-8)
            apart.append(abs(slopes[0] - slopes[1]))
    assert max(apart) > 1e-2


def test_without_alpha_labels_and_fused_logits_count_through_the_gap_alone(
    bundle: Bundle, batch: Batch
) -> None:
    method = make(bundle, "alpha0").double()
    fused, gap = (
        method(batch),
        torch.linspace(-0.5, 0.9, len(batch), dtype=torch.float64, requires_grad=True),
    )
    first = method.adaptive_loss(fused, batch.labels, gap, MIXTURE)
    other = Fused(fused.z, fused.hidden, torch.randn_like(fused.logits) * 50)
    assert torch.equal(first, method.adaptive_loss(other, (batch.labels + 1) % 3, gap, MIXTURE))
    first.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.parameters())
    w = weights_by_scipy(array(gap), MIXTURE)
    assert gap.grad is not None
    np.testing.assert_allclose(
        array(gap.grad), (2 * array(gap) + 2 * w[:, 1] * (array(gap) - 0.02)) / len(gap)
    )


# The mixture.


def two_heaps(
    first: float, second: float, share: float, spread: float = 0.1, n: int = 2000
) -> np.ndarray:
    generator = np.random.default_rng(3)
    middle = np.where(np.arange(n) < share * n, first, second)
    return np.clip(middle + spread * generator.standard_normal(n), -1, 1)


def by_expectation_maximisation(
    gaps: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Eq. 8 by hand, from k-means that starts at {0, max} (H18); and the mean log-likelihood of each round."""
    centres = np.array([0.0, gaps.max()])
    for _ in range(100):
        near = np.abs(gaps[:, None] - centres).argmin(axis=1)
        centres = np.array([gaps[near == k].mean() for k in (0, 1)])
    responsibility, likelihood = np.eye(2)[near], [-np.inf]
    while len(likelihood) < 3 or abs(likelihood[-1] - likelihood[-2]) >= 1e-7:
        shares = responsibility.mean(axis=0)
        means = responsibility.T @ gaps / responsibility.sum(axis=0)
        variances = (responsibility * (gaps[:, None] - means) ** 2).sum(
            axis=0
        ) / responsibility.sum(axis=0) + FLOOR
        joint = shares * norm.pdf(gaps[:, None], means, np.sqrt(variances))
        likelihood.append(float(np.log(joint.sum(axis=1)).mean()))
        responsibility = joint / joint.sum(axis=1, keepdims=True)
    shares, means = (
        responsibility.mean(axis=0),
        responsibility.T @ gaps / responsibility.sum(axis=0),
    )
    variances = (responsibility * (gaps[:, None] - means) ** 2).sum(axis=0) / responsibility.sum(
        axis=0
    ) + FLOOR
    return shares, means, variances, likelihood


@pytest.mark.parametrize(
    "heaps", [(0.0056, 0.6966, 0.857, 0.1), (0.05, 0.6, 0.6, 0.12), (0.0, -0.7, 0.8, 0.1)]
)
def test_eq8_mixture_equals_expectation_maximisation_by_hand_and_gains_likelihood(
    heaps: tuple[float, float, float, float],
) -> None:
    first, second, share, spread = heaps
    gaps = two_heaps(first, second, share, spread)
    *expected, likelihood = by_expectation_maximisation(gaps)
    found, order = fit_mixture(gaps), np.argsort(np.abs(expected[1]))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs[order], rtol=1e-4)
    np.testing.assert_allclose(found[0], (share, 1 - share), atol=0.05)
    np.testing.assert_allclose(found[1], (first, second), atol=0.03)
    density = (found[0] * norm.pdf(gaps[:, None], found[1], np.sqrt(found[2]))).sum(axis=1)
    assert np.log(density).mean() == pytest.approx(likelihood[-1], abs=1e-4)
    assert np.log(density).mean() > np.log(norm.pdf(gaps, gaps.mean(), gaps.std())).mean() + 0.1


@pytest.mark.parametrize(
    ("gaps", "balanced", "share"),
    [
        (two_heaps(0.0, 0.7, 0.8), 0.0, 0.8),
        (two_heaps(0.0, 0.7, 0.2), 0.0, 0.2),
        (two_heaps(-0.6, 0.15, 0.7), 0.15, 0.3),
        (two_heaps(0.45, -0.1, 0.7), -0.1, 0.3),  # the mean nearest to zero
        (two_heaps(-0.4, 0.4, 0.3), 0.4, 0.7),
        (two_heaps(-0.4, 0.4, 0.7), -0.4, 0.7),  # a tie: the larger share
        (two_heaps(-0.4, 0.41, 0.3), 0.41, 0.7),
    ],
)
def test_h1_the_balanced_component_comes_first(
    gaps: np.ndarray, balanced: float, share: float
) -> None:
    shares, means, variances = fit_mixture(gaps)
    assert means[0] == pytest.approx(balanced, abs=0.015) and shares[0] == pytest.approx(
        share, abs=0.02
    )
    np.testing.assert_allclose(variances, 0.01 + FLOOR, rtol=0.15)
    assert shares.sum() == pytest.approx(1)


def test_h1_a_collapsed_mixture_calls_everything_balanced() -> None:
    gaps = two_heaps(-0.02, 0.02, 0.5, spread=0.01)
    mixture = Mixture(*(torch.from_numpy(v) for v in fit_mixture(gaps)))
    assert mixture.shares.tolist() == [1, 0] and mixture.variances.min() >= FLOOR
    assert torch.equal(
        posteriors(torch.from_numpy(gaps), mixture),
        torch.tensor([[1.0, 0.0]]).expand(2000, 2).double(),
    )
    assert (
        fit_mixture(two_heaps(-0.02, 0.2, 0.5, spread=0.01))[0].min() > 0.4
    )  # one mean is not near 0


@pytest.mark.parametrize(
    "gaps", [np.full(9, 0.0), np.full(9, 0.6), np.full(9, -0.6), np.array([0.3])]
)
def test_gaps_that_cannot_be_told_apart_are_balanced(gaps: np.ndarray) -> None:
    shares, means, variances = fit_mixture(gaps)
    assert shares.tolist() == [1, 0] and (means == gaps[0]).all() and (variances == FLOOR).all()


def test_gaps_that_are_not_finite_end_the_training(bundle: Bundle) -> None:
    method = make(bundle, warmup=2)
    method.backbone.prediction.weight.data[:, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="before epoch 2"):
        trained(method, bundle)


# The schedule.


class Watched(GmmLoss):
    """Notes the mixture and lambda_t of every step."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[float, Mixture | None]] = []

    def loss(self, batch: Batch) -> Tensor:
        self.seen.append((self.scale, self.mixture))
        assert self.training
        return super().loss(batch)


def trained(method: GmmLoss, bundle: Bundle, training: Training = QUICK) -> Fitted:
    drawn = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    return fit(
        method,
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        training,
        5,
        device=torch.device("cpu"),
    )


def test_the_mixture_is_fitted_anew_each_round_and_lambda_falls_through_all_of_them(
    bundle: Bundle,
) -> None:
    method = make(bundle, kind=Watched, warmup=2, round_epochs=2)
    assert isinstance(method, Watched)
    found = trained(method, bundle)
    epochs = [
        method.seen[start : start + 3] for start in range(0, 21, 3)
    ]  # eight dialogues, three at a time
    assert all(mixture is None for steps in epochs[:2] for _, mixture in steps)
    assert [[scale for scale, _ in steps] for steps in epochs[2:]] == [
        [0.96**t] * 3 for t in range(5)
    ]  # H6
    rounds = [{id(mixture) for _, mixture in steps} for steps in epochs]
    assert rounds[2] == rounds[3] != rounds[4] == rounds[5] != rounds[6] and all(
        len(r) == 1 for r in rounds
    )
    assert found.recorded_at == (2, 4, 6, 7) and found.recorded["gap"].shape == (4, 16)
    for gap, shares, means in zip(
        *(found.recorded[name] for name in ("gap", "shares", "means")), strict=True
    ):
        expected = fit_mixture(gap.astype(np.float64))
        np.testing.assert_allclose([shares, means], expected[:2], atol=1e-5)
    batch = to_device(
        bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu"
    ).batch(range(8))
    np.testing.assert_allclose(found.recorded["gap"][-1], by_hand(method, batch)["gap"], atol=1e-5)


def test_the_optimizer_forgets_where_the_adaptive_phase_starts_and_only_there(
    bundle: Bundle,
) -> None:
    """H19: before that both variants are alike; with the same gradients then, momentum alone tells them apart."""
    ends = {v: trained(make(bundle, v, warmup=2), bundle) for v in ("paper", "same_state")}
    paper, same = (ends[v].valid for v in ("paper", "same_state"))
    assert np.array_equal(paper[:2], same[:2]) and not np.allclose(paper[2], same[2], atol=1e-4)
    plain = dataclasses.replace(QUICK, optimizer="sgd")  # has no state to forget
    ends = {v: trained(make(bundle, v, warmup=2), bundle, plain) for v in ("paper", "same_state")}
    assert np.array_equal(ends["paper"].valid, ends["same_state"].valid)
    method = make(bundle, warmup=2)
    assert [epoch for epoch in range(9) if method.resets(epoch)] == [2] and not method.continues
    assert (
        not any(make(bundle, warmup=0).resets(epoch) for epoch in range(9))
        and make(bundle, "same_state").continues
    )


def test_training_narrows_the_gaps_and_the_classes_are_learnt(bundle: Bundle) -> None:
    found = trained(make(bundle, warmup=20), bundle, dataclasses.replace(QUICK, epochs=40))
    start, end = (np.abs(found.recorded["gap"][k]).mean() for k in (0, -1))
    assert end < 0.7 * start and found.loss[-1] < 0.5 * found.loss[20]
    assert set(found.views) == {f"{split}.{m}" for split in ("valid", "test") for m in DIMS}


def test_gaps_are_taken_without_dropout_from_training_clips_in_order(
    bundle: Bundle, batch: Batch
) -> None:
    method = make(bundle).double()
    encoder: Any = method.backbone.encoders["audio"]
    encoder.rate = 0.9
    resident = to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu")
    halves = [
        dataclasses.replace(b, features={m: x.double() for m, x in b.features.items()})
        for b in (resident.batch(range(3)), resident.batch(range(3, 8)))
    ]
    peek = Peek(0, 1, lambda: halves, lambda: [], lambda: [], lambda *_: None)
    np.testing.assert_allclose(
        array(method.train().fit_mixture(peek)["gap"]), by_hand(method, batch)["gap"]
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"gap": "squared"},
        {"warmup": -1},
        {"round_epochs": 0},
        {"alpha": -1.0},
        {"gamma": float("inf")},
        {"decay": -0.1},
        {"focal": 0.5},
        {"class_weights": "normalised"},
    ],
)
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        GmmLossConfig(**bad)


def test_other_data_and_networks_whose_logits_do_not_split_are_refused(
    toy: Toy, bundle: Bundle
) -> None:
    for other in (toy(), toy(dims=DIMS, task=Task("score", range=(-3, 3)))):
        with pytest.raises(InputError, match="two modalities"):
            make(other)
    backbone = build_backbone(
        "mmgcn", bundle.dims, 3, 2, [("hidden", 8), ("graph", 6), ("layers", 2)]
    )
    method = build_method("gmm_loss", "paper", (), backbone, bundle.task, bundle.dims)
    resident = to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu")
    with pytest.raises(InputError, match="Use concat"):
        method.loss(resident.batch([0, 1]))
