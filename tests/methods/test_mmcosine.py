"""MMCosine: its logits by NumPy, what they do not depend on, their bound, and the loss that they cannot go below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from separate_tools import TWO, array, cross_entropies, first_batch, fitted, gradients, make

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.methods.mmcosine import cosines

Toy = Callable[..., Bundle]
THREE = {"audio": 6, "text": 5, "vision": 4}


@pytest.fixture(params=[TWO, THREE], ids=["two", "three"])
def bundle(request: pytest.FixtureRequest, toy: Toy) -> Bundle:
    return toy((1,) * 80, request.param)


def test_logits_are_s_times_the_sum_of_the_cosines_and_within_s_m_of_0(bundle: Bundle) -> None:
    method, batch = make(bundle, "mmcosine", scale=7.0), first_batch(bundle, 20)
    fused = method(batch)
    parts = {
        m: 7 * (1 - cdist(array(fused.z[m]), array(method.heads[m].weight), "cosine"))
        for m in bundle.modalities
    }
    np.testing.assert_allclose(array(fused.logits), sum(parts.values()), atol=1e-5)
    for m, logits in method.views(fused).items():
        np.testing.assert_allclose(array(logits), parts[m], atol=1e-5)
    assert fused.logits.abs().max() <= 7 * len(parts)
    assert not [name for name, _ in method.heads.named_parameters() if name.endswith("bias")]


def test_neither_an_embeddings_length_nor_that_of_a_classs_weights_counts(bundle: Bundle) -> None:
    method, batch = make(bundle, "mmcosine"), first_batch(bundle)
    before = method(batch)
    with torch.no_grad():
        for values in method.backbone.encoders["audio"].second.parameters():
            values *= 30
        method.heads["vision"].weight *= torch.tensor([[0.2], [5.0], [70.0]])
    after = method(batch)
    torch.testing.assert_close(after.z["audio"], 30 * before.z["audio"])
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_orthogonal_to_every_embedding(bundle: Bundle) -> None:
    method, batch = make(bundle, "mmcosine"), first_batch(bundle)
    fused = method(batch)
    z = [fused.z[m] for m in bundle.modalities]
    loss = F.cross_entropy(fused.logits, batch.labels)
    assert method.loss(batch).item() == pytest.approx(loss.item())
    for values, gradient in zip(z, torch.autograd.grad(loss, z), strict=True):
        lengths = values.norm(dim=1) * gradient.norm(dim=1)
        assert (lengths > 0.01).any()
        assert ((values * gradient).sum(dim=1).abs() <= 1e-5 * lengths + 1e-9).all()


def test_the_floor_of_the_loss_is_reached_by_a_simplex_and_small_steps_from_it_only_raise_it() -> (
    None
):
    scale, classes, modalities = 2.0, 4, 3
    corners = torch.eye(classes) - 1 / classes  # as far apart as four directions can be
    labels = torch.arange(classes)

    def loss(z: torch.Tensor, weight: torch.Tensor) -> float:
        return F.cross_entropy(scale * modalities * cosines(z, weight), labels).item()

    spread = np.exp(-scale * modalities * classes / (classes - 1))
    floor = np.log1p((classes - 1) * spread)
    assert loss(corners, corners) == pytest.approx(floor, rel=1e-4)
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 1.0, 10.0):
        for _ in range(20):
            z, weight = size * torch.randn(2, classes, classes, generator=generator) + corners
            assert loss(z, weight) > floor


def test_an_embedding_of_zeros_has_cosine_0_and_a_gradient_that_is_finite() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    found = cosines(z, torch.eye(3))
    assert not found.any()
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None and torch.isfinite(z.grad).all()


def test_it_trains_and_leaves_the_backbones_own_prediction_alone(bundle: Bundle) -> None:
    method = make(bundle, "mmcosine")
    assert "backbone.prediction.weight" not in gradients(method, first_batch(bundle))
    found = fitted(method, bundle)
    assert found.loss[-1] < 0.7 * found.loss[0]
    assert np.diff(cross_entropies(bundle, found.valid)[[0, -1]]) < 0


def test_other_tasks_backbones_and_scales_are_refused(toy: Toy) -> None:
    bundle = toy((1,) * 48, TWO)
    with pytest.raises(InputError, match="classification"):
        make(toy((1,) * 48, TWO, task=Task("score", range=(-3.0, 3.0))), "mmcosine")
    with pytest.raises(InputError, match="Use concat"):
        make(bundle, "mmcosine", kind="mmtm")
    for scale in (0.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="scale"):
            make(bundle, "mmcosine", scale=scale)
