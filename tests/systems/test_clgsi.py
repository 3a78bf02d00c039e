"""CLGSI: a function of single coordinates, and a contrast that follows the distance of labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built

from mmlib.backbones.clgsi import Shared
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.clgsi import Clgsi, distances, pulled, weights

Toy = Callable[..., Bundle]
STAGE = Stage("clgsi", "clgsi", network=(("hidden", 8), ("fusion", 6)))


def method_of(bundle: Bundle, **options: object) -> Clgsi:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Clgsi)
    return method


def by_hand(x: np.ndarray, z: np.ndarray, apart: np.ndarray, whole: bool) -> float:
    """l(x, z) of (rows, d), pair by pair."""
    x, z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, z))
    losses = []
    for i in range(len(x)):
        near = far = 0.0
        for other, inner in ((z, False), (x, True)):
            for j in range(len(x)):
                if inner and i == j and not whole:
                    continue
                s, d = x[i] @ other[j], apart[i, j]
                if d <= 0.4:
                    near += math.exp(1.5 * math.tanh(0.8 - d) * s / 0.03)
                    far += whole
                else:
                    far += math.exp(1.5 * math.tanh(d) * 0.8 * s / 0.03)
                    near += whole
        losses.append(-math.log(near / (near + far)))
    return float(np.mean(losses))


def test_fusion_treats_every_coordinate_alike() -> None:
    shared, table, order = Shared(3), torch.randn(4, 9, 3), torch.randperm(9)
    torch.testing.assert_close(shared(table[:, order]), shared(table)[:, order])


def test_weights_fall_with_distance_among_near_pairs_and_rise_among_the_others() -> None:
    apart = torch.linspace(0, 2, 201).double()
    pull, push = weights(apart)
    np.testing.assert_allclose([pull[0], pull[40]], [0.996, 0.570], atol=5e-4)
    np.testing.assert_allclose([push[41], push[200]], [1.5 * math.tanh(0.41), 1.446], atol=5e-4)
    assert (pull[:41].diff() < 0).all() and (push[41:].diff() > 0).all()
    assert not pull[41:].any() and not push[:41].any()


@pytest.mark.parametrize("whole", [False, True])
def test_the_contrast_by_hand(whole: bool) -> None:
    x, z = torch.rand(7, 5).double(), torch.rand(7, 5).double()
    y = torch.rand(7).double() * 2 - 1
    apart, counts = (y[:, None] - y).abs(), torch.tensor([True] * 5 + [False] * 2)
    made = pulled(x, z, apart, counts, whole).item()
    expected = by_hand(x[:5].numpy(), z[:5].numpy(), apart[:5, :5].numpy(), whole)
    assert made > 0 and np.isclose(made, expected, rtol=1e-5, atol=1e-9)
    assert pulled(x, z, apart, counts & False, whole) == 0


def test_the_released_contrast_is_next_to_nothing() -> None:
    x, z = torch.rand(64, 64).sub(0.5).relu(), torch.rand(64, 64).sub(0.5).relu()
    y = torch.rand(64) * 2 - 1
    apart, counts = (y[:, None] - y).abs(), torch.ones(64, dtype=torch.bool)
    assert pulled(x, z, apart, counts, True) < 1e-3 < 0.1 < pulled(x, z, apart, counts, False)


@pytest.mark.parametrize(
    "task", [CLASSES, SCORE, Task("binaries", ("p", "q"))], ids=lambda t: t.kind
)
def test_labels_apart(task: Task, toy: Toy) -> None:
    labels = torch.from_numpy(toy(dims=DIMS[2], task=task).labels)[:20]
    apart = distances(task, labels)
    for i in range(20):
        for j in range(20):
            if task.kind == "score":
                expected = abs(labels[i] / 3 - labels[j] / 3).item()
            else:
                expected = 0.0 if bool((labels[i] == labels[j]).all()) else 2.0
            assert math.isclose(apart[i, j].item(), expected, abs_tol=1e-6)


def test_the_loss_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle, contrast=2.0).eval(), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    h, seen = parts.embedded.detach().double().numpy(), batch.observed.numpy()
    y = batch.labels.numpy() / 3
    apart = np.abs(y[:, None] - y)
    total = 0.0
    for i, j in combinations(range(3), 2):
        rows = seen[:, i] & seen[:, j]
        x, z, d = h[rows, i], h[rows, j], apart[np.ix_(rows, rows)]
        total += (by_hand(x, z, d, False) + by_hand(z, x, d, False)) / 2
    task = (parts.fused.logits[:, 0] - batch.labels).abs().mean().item()
    assert np.isclose(method.loss(batch).item(), task + 2 * total / 3, rtol=1e-4)


def test_a_step_of_a_single_row(toy: Toy) -> None:
    bundle = toy(lengths=(1,) * 8, dims=DIMS[3])
    method = method_of(bundle).train()
    batch = batch_of(bundle)
    assert batch.source is not None
    loss = method.loss(batch.source.batch([0]))
    loss.backward()
    assert loss.isfinite()


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, contrast=-1.0)
    with pytest.raises(InputError):
        built(dataclasses.replace(STAGE, network=(("fusion", 0),)), bundle)
