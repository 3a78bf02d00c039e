"""MISA: when its images count as different, what they share, and which rows each of its losses is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built
from torch import nn

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.misa import Misa, difference, reconstruction
from mmlib.nn.batch import hide
from mmlib.nn.moments import discrepancy
from mmlib.nn.post_norm import PostBlock

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 12), ("wide", 16))
STAGE = Stage("misa", "misa", network=SIZE)


def method_of(bundle: Bundle, **options: object) -> Misa:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Misa)
    return method.eval()


def by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """DIFF of two (rows, d), sample by sample."""
    if len(first) < 2:
        return 0.0
    total = np.zeros((first.shape[1], second.shape[1]))
    for x, y in zip(first - first.mean(0), second - second.mean(0), strict=True):
        total += np.outer(x / (np.linalg.norm(x) + 1e-6), y / (np.linalg.norm(y) + 1e-6))
    return float((total**2).mean())


def test_a_constant_image_differs_from_all() -> None:
    values, counts = torch.rand(9, 4).double(), torch.ones(9, dtype=torch.bool)
    constant = torch.rand(4).double().expand(9, 4)
    for pair in ((values, constant), (constant, values)):
        assert difference(*pair, counts) < 1e-12
    assert difference(values, values, counts) > 0.01
    assert difference(values, values, counts & (torch.arange(9) == 3)) == 0


def test_the_norm_of_a_row_has_no_gradient() -> None:
    first, second = torch.rand(7, 3).double().requires_grad_(), torch.rand(7, 3).double()
    counts = torch.ones(7, dtype=torch.bool)
    difference(first, second, counts).backward()
    x = (first - first.mean(0)).detach().numpy()
    y = (second - second.mean(0)).numpy()
    x_norm, y_norm = (np.linalg.norm(v, axis=1, keepdims=True) + 1e-6 for v in (x, y))
    product = (x / x_norm).T @ (y / y_norm)
    gradient = 2 * (y / y_norm) @ product.T / product.size / x_norm
    gradient -= gradient.mean(0)
    assert first.grad is not None
    np.testing.assert_allclose(first.grad.numpy(), gradient, atol=1e-12)


def test_the_discrepancy_is_none_of_the_same_and_a_common_shift_leaves_it() -> None:
    values = torch.rand(30, 3, 5).double()
    seen = torch.ones(30, 3, dtype=torch.bool)
    assert discrepancy(values[:, :1].expand(-1, 3, -1), seen) < 1e-12
    shift = torch.rand(5).double()
    torch.testing.assert_close(discrepancy(values + shift, seen), discrepancy(values, seen))
    assert discrepancy(values, seen) > 0.01


def test_the_loss_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method = method_of(bundle, difference=0.5, similarity=0.0, reconstruction=2.0)
    batch = batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    h, p, c, made = (x.detach().numpy() for x in parts[1:])
    seen = batch.observed.numpy()
    apart = sum(by_hand(p[seen[:, m], m], c[seen[:, m], m]) for m in range(3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = seen[:, i] & seen[:, j]
        apart += by_hand(p[both, i], p[both, j])
    back = np.mean([((made - h)[seen[:, m], m] ** 2).mean() for m in range(3)])
    task = ((parts.fused.logits[:, 0] - batch.labels) ** 2).mean().item()
    assert np.isclose(method.loss(batch).item(), task + 0.5 * apart + 2 * back, rtol=1e-4)


def test_the_target_of_a_reconstruction_learns_too_where_it_is_there(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, difference=0.0, similarity=0.0)
    batch = batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    attached = reconstruction(parts, batch.observed)
    detached = reconstruction(parts._replace(embedded=parts.embedded.detach()), batch.observed)
    weight = method.backbone.encoders["text"].conv.linear.weight
    pulls = [torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (attached, detached)]
    assert not torch.allclose(*pulls)
    weight = method.backbone.back[1].weight
    method.loss(hide(batch, torch.tensor([True, False, True]))).backward()
    assert weight.grad is not None and not weight.grad.any()


def test_the_layer_is_pytorchs() -> None:
    mine = PostBlock(8, 2, 16)
    theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    names = {
        "told": "self_attn.in_proj_",
        "out": "self_attn.out_proj.",
        "first": "norm1.",
        "second": "norm2.",
        "widen": "linear1.",
        "narrow": "linear2.",
    }
    state = mine.state_dict()
    theirs.load_state_dict(
        {f"{names[k.split('.')[0]]}{k.split('.')[1]}": v for k, v in state.items()}
    )
    tokens, seen = torch.randn(5, 4, 8), torch.rand(5, 4) < 0.6
    seen[:, 0] = True
    torch.testing.assert_close(mine(tokens, seen), theirs(tokens, src_key_padding_mask=~seen))


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, difference=-1.0)
    for network in ((("hidden", 3),), (("wide", 0),), (("dropout", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
