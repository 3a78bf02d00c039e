"""The networks that DREAM's P may be: their parameter counts, their equations by hand, what zeros mean to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmlib.backbones import build_backbone
from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch, make_layout

THREE = {"audio": 4, "text": 3, "vision": 5}
MOSI, MOSEI = {"audio": 5, "text": 300, "vision": 20}, {"audio": 74, "text": 300, "vision": 35}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def made(name: str, outputs: int = 2, **options: Any) -> Backbone:
    torch.manual_seed(0)
    found = build_backbone(name, THREE, outputs, 1, options.items()).double().eval()
    for p in found.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return found


def batch_of(n: int = 6, steps: int = 4) -> Batch:
    shape = (n, steps) if steps else (n,)
    features = {m: torch.randn(*shape, d, dtype=torch.float64) for m, d in THREE.items()}
    return Batch(
        features,
        torch.ones(n, 3, dtype=torch.bool),
        torch.zeros(n),
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().double().numpy())


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ array(layer.weight).T + array(layer.bias))


@pytest.mark.parametrize(
    "dims, outputs, printed", [(MOSI, 1, 77_762), (MOSEI, 1, 93_890), (MOSEI, 8, 95_472)]
)
def test_p_has_the_parameters_of_table_3(dims: dict[str, int], outputs: int, printed: int) -> None:
    assert count(build_backbone("corrkd", dims, outputs, 1)) == printed


def test_p_by_hand() -> None:
    """BASELINES_MM 2.2, one frame and one sample after the other."""
    net, batch = made("corrkd", hidden=6, narrow=4), batch_of()
    found: Any = net
    for row in range(6):
        h = []
        for m in net.modalities:  # type: ignore[union-attr]
            encoder: Any = net.encoders[m]
            x = np.pad(array(batch.features[m][row]), ((1, 1), (0, 0)))
            taps = np.split(array(encoder.conv.linear.weight), 3, axis=1)
            frames = []
            for t in range(4):
                u = np.maximum(
                    sum(tap @ x[t + k] for k, tap in enumerate(taps))
                    + array(encoder.conv.linear.bias),
                    0,
                )
                s = u + linear(encoder.linear, u)
                s = (s - s.mean()) / np.sqrt(s.var() + encoder.norm.eps)
                frames.append(s * array(encoder.norm.weight) + array(encoder.norm.bias))
            h.append(np.mean(frames, axis=0))
        narrow = np.maximum(linear(found.narrow, sum(h)), 0)
        expected = linear(net.prediction, np.concatenate(h)) + linear(found.second, narrow)
        np.testing.assert_allclose(
            array(net(batch, batch.features).logits[row]), expected, atol=1e-12
        )


def test_the_perceptron_by_hand() -> None:
    net, batch = made("mlp", hidden=7), batch_of()
    found: Any = net
    means = [array(batch.features[m].mean(dim=1)) for m in sorted(THREE)]
    first = np.concatenate([array(net.encoders[m].weight) for m in sorted(THREE)], axis=1)
    hidden = np.maximum(np.concatenate(means, axis=1) @ first.T + array(found.bias), 0)
    np.testing.assert_allclose(
        array(net(batch, batch.features).logits), linear(net.prediction, hidden), atol=1e-12
    )
    assert count(net) == sum(THREE.values()) * 7 + 7 + 7 * 2 + 2


def test_self_mm_by_hand_with_the_ledgers_heads() -> None:
    net, batch = made("selfmm", 1, fusion=8, text=5, audio=4, vision=6), batch_of(steps=0)
    found: Any = net
    entered = {
        "text": array(batch.features["text"]),
        **{m: linear(net.encoders[m], array(batch.features[m])) for m in ("audio", "vision")},
    }

    def head(layer: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feature = np.maximum(linear(layer.first, x), 0)
        return feature, linear(layer.last, np.maximum(linear(layer.second, feature), 0))

    fused = net(batch, batch.features)
    feature, score = head(found.fusion, np.concatenate([entered[m] for m in sorted(THREE)], axis=1))
    np.testing.assert_allclose(array(fused.hidden), feature, atol=1e-12)
    np.testing.assert_allclose(array(fused.logits), score, atol=1e-12)
    alone = net.unimodal(fused)
    for m in THREE:
        feature, score = head(found.heads[m], entered[m])
        np.testing.assert_allclose(array(fused.z[m]), feature, atol=1e-12)
        np.testing.assert_allclose(array(alone[m]), score, atol=1e-12)


def test_self_mms_heads_have_the_parameters_that_its_code_has_on_mosi() -> None:
    """All 159,332 but BERT's, less what the two LSTMs and their maps have of them (1,472 + 272 + 6,912 + 1,056)."""
    net: Any = build_backbone("selfmm", {"audio": 5, "text": 768, "vision": 20}, 1, 1)
    assert count(net.fusion) + count(net.heads) == 159_332 - 1_472 - 272 - 6_912 - 1_056


@pytest.mark.parametrize("name", ["corrkd", "mlp", "selfmm"])
def test_they_tell_nothing_by_what_is_said_to_be_missing_and_no_sample_by_another(
    name: str,
) -> None:
    net, batch = made(name), batch_of()
    batch.features["audio"][2:4] = 0
    marked = Batch(**{**vars(batch), "observed": batch.observed.clone()})
    marked.observed[2:4, 0] = False
    assert torch.equal(net(batch, batch.features).logits, net(marked, marked.features).logits)
    features = {m: x.clone().requires_grad_() for m, x in batch.features.items()}
    gradients = torch.autograd.grad(
        net(batch, features).logits[1].square().sum(), list(features.values())
    )
    for gradient in gradients:
        assert (gradient[[0, 2, 3, 4, 5]] == 0).all() and (gradient[1] != 0).any()


@pytest.mark.parametrize("name", ["corrkd", "mlp", "selfmm"])
def test_forty_appended_frames_of_padding_change_nothing(name: str) -> None:
    net, batch = made(name), batch_of()
    batch.features["audio"][0] = 0  # missing
    batch.features["text"][1, 2:] = 0  # shorter than the others
    batch.features["vision"][2, 1] = 0  # a dropped frame
    padded = {
        m: torch.cat([x, x.new_zeros(6, 40, x.shape[2])], dim=1) for m, x in batch.features.items()
    }
    before, after = net(batch, batch.features), net(batch, padded)
    torch.testing.assert_close(after.logits, before.logits, rtol=0, atol=1e-12)
    for m in THREE:
        torch.testing.assert_close(after.z[m], before.z[m], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["corrkd", "mlp", "selfmm"])
def test_an_utterance_is_to_them_what_it_is_without_its_padding(name: str) -> None:
    net, batch = made(name), batch_of()
    cut = {m: x[:, :3] for m, x in batch.features.items()}
    padded = {m: torch.cat([x, torch.zeros_like(x[:, :1])], dim=1) for m, x in cut.items()}
    torch.testing.assert_close(
        net(batch, padded).logits, net(batch, cut).logits, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", ["corrkd", "mlp", "selfmm"])
def test_vectors_are_one_frame(name: str) -> None:
    net, batch = made(name), batch_of(steps=0)
    frames = {m: x[:, None] for m, x in batch.features.items()}
    torch.testing.assert_close(
        net(batch, frames).logits, net(batch, batch.features).logits, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "name, options",
    [
        ("corrkd", {"hidden": 0}),
        ("corrkd", {"narrow": 0}),
        ("corrkd", {"kernel": 4}),
        ("mlp", {"hidden": 0}),
        ("selfmm", {"fusion": 0}),
        ("selfmm", {"dropout": 1}),
        ("mlp", {"width": 3}),
    ],
    ids=str,
)
def test_options_that_make_no_sense_raise(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build_backbone(name, THREE, 2, 1, options.items())
