"""DREAM's network: Eqs 5-11 by hand, one sample after the other; what may reach what; parameter counts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from mmlib.backbones import build_backbone, dream
from mmlib.backbones.dream import DreamNet, Enhancement, fusion_weights
from mmlib.errors import InputError
from mmlib.nn.batch import Batch, make_layout
from mmlib.nn.crossing import Crossing

THREE, STEPS = {"audio": 4, "text": 3, "vision": 5}, {"audio": 5, "text": 4, "vision": 3}
FOUR = {"a": 2, "b": 3, "c": 2, "d": 4}
SMALL: dict[str, Any] = {"hidden": 6, "heads": 2}


def net_of(dims: Mapping[str, int] = THREE, outputs: int = 3, **options: Any) -> DreamNet:
    torch.manual_seed(0)
    found = build_backbone("dream", dims, outputs, 1, {**SMALL, **options}.items())
    assert isinstance(found, DreamNet)
    return found.double().eval()


def batch_of(
    dims: Mapping[str, int] = THREE, n: int = 7, steps: Mapping[str, int] = STEPS, seed: int = 1
) -> Batch:
    """Frames of uneven lengths with some dropped in the middle; modalities missing at random, never all."""
    r = torch.Generator().manual_seed(seed)
    observed = torch.rand(n, len(dims), generator=r) < 0.7
    observed[torch.arange(n), torch.arange(n) % len(dims)] = True
    features = {}
    for index, (m, d) in enumerate(sorted(dims.items())):
        t = steps.get(m, 4)
        x = torch.randn(n, t, d, generator=r, dtype=torch.float64)
        length = torch.randint(1, t + 1, (n,), generator=r)
        x[torch.arange(t) >= length[:, None]] = 0
        x[:, t // 2][torch.rand(n, generator=r) < 0.4] = 0
        features[m] = x * observed[:, index, None, None]
    return Batch(
        features,
        observed,
        torch.zeros(n, dtype=torch.long),
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().double().numpy())


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ array(layer.weight).T + array(layer.bias))


def attention(layer: Crossing, group: int, asks: np.ndarray, told: np.ndarray) -> np.ndarray:
    """CA of one group over the keys at hand, without the output's bias: (t, d)."""
    d = asks.shape[1]
    size, mine = d // layer.heads, slice(group * d, group * d + d)
    query, (key, value) = (
        linear(layer.query, asks)[:, mine],
        np.split(linear(layer.told, told), 2, axis=1),
    )
    joined = np.zeros_like(asks)
    if len(told):
        for head in range(layer.heads):
            at = slice(head * size, head * size + size)
            shares = softmax(query[:, at] @ key[:, mine][:, at].T / size**0.5, axis=1)
            joined[:, at] = shares @ value[:, mine][:, at]
    return np.asarray(joined @ array(layer.out.weight)[:, mine].T)


def normed(layer: Any, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + layer.eps)
    return np.asarray(scaled * array(layer.weight) + array(layer.bias))


def enhanced_by_hand(
    step: Enhancement, x: dict[str, np.ndarray], seen: dict[str, np.ndarray], m: str
) -> np.ndarray:
    """Eqs 5-9 of one sample and one target."""
    others, layer = [o for o in step.modalities if o != m], step.crossings[m]
    assert isinstance(layer, Crossing)
    told = {o: x[o][seen[o]] for o in x}
    total = x[m] + array(layer.out.bias)
    total = total + attention(
        layer, 0, x[m], np.concatenate([told[m], *(told[o] for o in others)])
    )  # Eqs 5 and 7
    for k, other in enumerate(others):
        total = total + attention(
            layer, 1 + k, x[m], np.concatenate([told[m], told[other]])
        )  # Eqs 6 and 8
    return normed(step.norms[m], total)


def run_by_hand(
    net: DreamNet, batch: Batch, row: int, pss: np.ndarray, targets: np.ndarray | None, fusion: str
) -> dict[str, np.ndarray]:
    """The whole network for one sample."""
    names = net.modalities
    x, seen = {}, {}
    for i, m in enumerate(names):
        raw = (
            array(batch.features[m][row])
            if batch.observed[row, i]
            else np.zeros(batch.features[m].shape[1:])
        )
        x[m], seen[m] = linear(net.encoders[m].linear, raw), (raw != 0).any(axis=1)
    most = max(1, *(s.sum() for s in seen.values()))
    for repeat in range(net.config.repeats if targets is not None else 0):
        step = net.enhancing[repeat % len(net.enhancing)]
        before, seen_before = dict(x), dict(seen)
        for i, m in enumerate(names):
            if targets is not None and targets[i]:
                source = (x, seen) if net.config.sequential else (before, seen_before)
                made = enhanced_by_hand(step, *source, m)  # type: ignore[arg-type]
                x[m], seen[m] = made, seen[m] if seen[m].any() else np.arange(len(seen[m])) < most
    h = []
    for m in names:
        told = np.concatenate([x[o][seen[o]] for o in names if o != m])
        layer = net.crossings[m]
        assert isinstance(layer, Crossing)
        crossed = x[m] + attention(layer, 0, x[m], told) + array(layer.out.bias)
        h.append(crossed[seen[m]].mean(axis=0) if seen[m].any() else crossed.mean(axis=0))
    raw = linear(net.weigh, np.concatenate(h))
    w = raw if fusion == "literal" else softmax(raw)
    shares = w if fusion == "none" else softmax(w * (pss + 1))  # Eq. 10
    fused = sum(share * each for share, each in zip(shares, h, strict=True))  # Eq. 11
    return {"z": np.stack(h), "raw": raw, "hidden": fused, "logits": linear(net.prediction, fused)}


@pytest.mark.parametrize("fusion", ["simplex", "literal", "none"])
@pytest.mark.parametrize(
    "options",
    [{}, {"shared_repeats": True}, {"sequential": True}, {"repeats": 1}, {"repeats": 3}],
    ids=str,
)
def test_the_network_is_equations_5_to_11_by_hand(options: dict[str, Any], fusion: str) -> None:
    net, batch = net_of(**options), batch_of()
    pss = torch.rand(7, 3, dtype=torch.float64)
    targets = torch.rand(7, 3) < 0.6
    assert len({tuple(row) for row in targets.tolist()}) > 3
    fused, raw = net.run(batch, batch.features, pss, targets, fusion)
    for row in range(7):
        expected = run_by_hand(net, batch, row, array(pss[row]), targets[row].numpy(), fusion)
        np.testing.assert_allclose(
            np.stack([array(fused.z[m][row]) for m in net.modalities]), expected["z"], atol=1e-9
        )
        np.testing.assert_allclose(array(raw[row]), expected["raw"], atol=1e-9)
        np.testing.assert_allclose(array(fused.hidden[row]), expected["hidden"], atol=1e-9)
        np.testing.assert_allclose(array(fused.logits[row]), expected["logits"], atol=1e-9)


@pytest.mark.parametrize("dims", [{"text": 3}, {"audio": 4, "text": 3}, FOUR], ids=len)
def test_any_number_of_modalities(dims: dict[str, int]) -> None:
    net, batch = net_of(dims), batch_of(dims)
    pss, targets = torch.rand(7, len(dims), dtype=torch.float64), torch.rand(7, len(dims)) < 0.5
    fused, _ = net.run(batch, batch.features, pss, targets, "simplex")
    assert fused.logits.shape == (7, 3) and fused.logits.isfinite().all()
    if len(dims) > 1:
        for row in range(7):
            expected = run_by_hand(
                net, batch, row, array(pss[row]), targets[row].numpy(), "simplex"
            )
            np.testing.assert_allclose(array(fused.logits[row]), expected["logits"], atol=1e-9)


def test_nothing_enhanced_is_what_no_targets_give_and_some_targets_change_it() -> None:
    net, batch = net_of(), batch_of()
    pss = torch.zeros(7, 3, dtype=torch.float64)
    none = net.run(batch, batch.features, pss, None, "simplex")[0].logits
    empty = net.run(batch, batch.features, pss, torch.zeros(7, 3, dtype=torch.bool), "simplex")[
        0
    ].logits
    torch.testing.assert_close(none, empty, rtol=0, atol=0)
    targets = torch.zeros(7, 3, dtype=torch.bool)
    targets[2, 1] = True
    some = net.run(batch, batch.features, pss, targets, "simplex")[0].logits
    changed = (some - none).abs().amax(dim=1) > 1e-9
    assert changed.tolist() == [False, False, True, False, False, False, False]


def test_enhancing_a_sample_never_changes_another_of_the_batch() -> None:
    net, batch = net_of(), batch_of(n=6)
    pss = torch.zeros(6, 3, dtype=torch.float64)
    alone = []
    for row in range(6):
        one = dataclasses.replace(
            batch,
            features={m: x[row : row + 1] for m, x in batch.features.items()},
            observed=batch.observed[row : row + 1],
            layout=make_layout([1]),
        )
        alone.append(
            [
                net.run(one, one.features, pss[:1], torch.tensor([t]), "simplex")[0].logits
                for t in itertools.product((False, True), repeat=3)
            ]
        )
    for seed in range(5):
        chosen = torch.randint(8, (6,), generator=torch.Generator().manual_seed(seed))
        targets = torch.tensor(list(itertools.product((False, True), repeat=3)))[chosen]
        found = net.run(batch, batch.features, pss, targets, "simplex")[0].logits
        expected = torch.cat([alone[row][chosen[row]] for row in range(6)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_no_gradient_runs_from_one_samples_prediction_to_another_sample() -> None:
    net, batch = net_of(), batch_of(n=5)
    features = {m: x.clone().requires_grad_() for m, x in batch.features.items()}
    fused, _ = net.run(
        batch,
        features,
        torch.zeros(5, 3, dtype=torch.float64),
        torch.ones(5, 3, dtype=torch.bool),
        "simplex",
    )
    for m, gradient in zip(
        features,
        torch.autograd.grad(fused.logits[3].square().sum(), list(features.values())),
        strict=True,
    ):
        assert (gradient[[0, 1, 2, 4]] == 0).all(), m
        if batch.observed[3, sorted(features).index(m)]:
            assert (gradient[3] != 0).any(), m


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e30])
def test_nothing_of_a_missing_modality_reaches_the_output_or_a_gradient(spoilt: float) -> None:
    net, batch = net_of(), batch_of()
    filled = {
        m: torch.where(batch.observed[:, i, None, None], x, spoilt)
        for i, (m, x) in enumerate(sorted(batch.features.items()))
    }
    assert any((x == spoilt).any() or x.isnan().any() for x in filled.values())
    targets = torch.rand(7, 3) < 0.6
    results = []
    for features in (batch.features, filled):
        net.zero_grad()
        fused, raw = net.run(
            batch, features, torch.zeros(7, 3, dtype=torch.float64), targets, "simplex"
        )
        fused.logits.square().sum().backward()
        results.append(
            [
                fused.logits,
                raw,
                *(fused.z[m] for m in net.modalities),
                *(p.grad for p in net.parameters() if p.grad is not None),
            ]
        )
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other) and other.isfinite().all()


def test_frames_of_zeros_are_as_if_they_were_not_there() -> None:
    """Padding, wherever it stands; and so dropped frames leave no trace but their absence."""
    net, batch = net_of(), batch_of(steps=dict.fromkeys(THREE, 5))
    longer = {}
    for m, x in batch.features.items():
        wide = x.new_zeros(len(x), 2 * x.shape[1], x.shape[2])
        wide[:, 1::2] = x
        longer[m] = wide
    targets, pss = torch.rand(7, 3) < 0.6, torch.rand(7, 3, dtype=torch.float64)
    one, other = (
        net.run(batch, features, pss, targets, "simplex")[0].logits
        for features in (batch.features, longer)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_vectors_are_one_frame() -> None:
    net, batch = net_of(), batch_of(steps=dict.fromkeys(THREE, 1))
    flat = {m: x[:, 0] for m, x in batch.features.items()}
    targets, pss = torch.rand(7, 3) < 0.6, torch.rand(7, 3, dtype=torch.float64)
    one, other = (
        net.run(batch, features, pss, targets, "simplex")[0].logits
        for features in (batch.features, flat)
    )
    assert torch.equal(one, other)


def test_a_sample_without_anything_gives_something_finite() -> None:
    net, batch = net_of(), batch_of()
    batch = dataclasses.replace(batch, observed=torch.zeros(7, 3, dtype=torch.bool))
    for targets in (torch.ones(7, 3, dtype=torch.bool), None):
        fused, _ = net.run(
            batch, batch.features, torch.zeros(7, 3, dtype=torch.float64), targets, "simplex"
        )
        assert fused.logits.isfinite().all() and torch.equal(fused.logits[0], fused.logits[5])


def test_a_larger_pss_never_lowers_a_weight_on_the_simplex_but_does_so_literally() -> None:
    raw, low = torch.randn(500, 3), torch.rand(500, 3)
    high = low.clone()
    high[:, 0] += 0.5
    change = {
        f: (fusion_weights(raw, high, f) - fusion_weights(raw, low, f))[:, 0]
        for f in ("simplex", "literal", "none")
    }
    assert (change["simplex"] > 0).all()
    assert (change["literal"][raw[:, 0] < 0] < 0).all() and (
        change["literal"][raw[:, 0] > 0] > 0
    ).all()
    assert (change["none"] == 0).all()
    simplex = fusion_weights(20 * raw, torch.randint(0, 2, (500, 3)).float(), "simplex")
    assert (simplex.max(dim=1).values / simplex.min(dim=1).values).max() <= np.exp(2) * (
        1 + 1e-5
    )  # B6's range
    with pytest.raises(InputError):
        fusion_weights(raw, low, "softmax")


MOSI, MOSEI = {"audio": 5, "text": 300, "vision": 20}, {"audio": 74, "text": 300, "vision": 35}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_differ_between_data_sets_as_in_table_3() -> None:
    mosi, mosei, iemocap = (
        count(build_backbone("dream", dims, outputs, 1))
        for dims, outputs in ((MOSI, 1), (MOSEI, 1), (MOSEI, 8))
    )
    assert mosei - mosi == 3_070_916 - 3_054_116 == 84 * 200
    assert iemocap - mosei == 3_072_323 - 3_070_916 == 7 * 201
    wider = count(build_backbone("dream", MOSEI, 1, 1, [("kernel", 3)]))
    assert wider - mosei == 2 * 200 * sum(MOSEI.values())
    assert count(build_backbone("dream", MOSI, 1, 1, [("heads", 8)])) == mosi


def test_the_parameters_by_hand() -> None:
    d, m = 200, 3
    attention_of = {g: 3 * g * (d * d + d) + g * d * d + d for g in (1, 3)}
    repeat = m * (attention_of[3] + 2 * d)
    shared = 409 * d + m * d + repeat + m * attention_of[1] + (m * d * m + m) + (d * 8 + 8)
    assert count(build_backbone("dream", MOSEI, 8, 1, [("shared_repeats", True)])) == shared
    assert count(build_backbone("dream", MOSEI, 8, 1)) == shared + repeat


def test_alone_it_fuses_by_its_weights_and_under_the_method_it_refuses() -> None:
    net, batch = net_of(), batch_of()
    alone = net(batch, batch.features)
    expected = net.run(batch, batch.features, torch.rand(7, 3, dtype=torch.float64), None, "none")[
        0
    ]
    assert torch.equal(alone.logits, expected.logits)
    net.alone = False
    with pytest.raises(InputError, match="contributions"):
        net(batch, batch.features)


def test_dropout_is_off_by_default_and_acts_in_training_alone() -> None:
    batch = batch_of()
    for rate, same in ((0.0, True), (0.5, False)):
        net = net_of(dropout=rate)
        quiet = net(batch, batch.features).logits
        assert torch.equal(net.train()(batch, batch.features).logits, quiet) is same


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 0},
        {"repeats": 0},
        {"heads": 0},
        {"hidden": 10, "heads": 3},
        {"kernel": 2},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"width": 3},
    ],
    ids=str,
)
def test_options_that_make_no_sense_raise(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build_backbone("dream", THREE, 3, 1, options.items())


@pytest.mark.parametrize("options", [{}, {"shared_repeats": True}, {"sequential": True}], ids=str)
def test_enhancing_all_and_keeping_targets_is_enhancing_targets(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU does and what a CPU does: the same outputs and gradients."""
    net, batch = net_of(**options), batch_of()
    pss, targets = torch.rand(7, 3, dtype=torch.float64), torch.rand(7, 3) < 0.5
    assert targets.any() and not targets.all()
    results = []
    for free in (True, False):
        monkeypatch.setattr(dream, "free_to_ask", lambda values, free=free: free)
        net.zero_grad()
        fused, raw = net.run(batch, batch.features, pss, targets, "simplex")
        (fused.logits.sum() + raw.square().sum()).backward()
        gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        results.append([fused.logits.detach(), raw.detach(), *gradients])
    assert len(results[0]) == len(results[1]) > 10
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)
