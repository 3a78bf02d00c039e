"""MMPareto: where it is the summed losses at a larger rate, and where both losses fall; by SciPy and by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from separate_tools import TWO, cross_entropies, first_batch, fitted, gradients, make
from torch import Tensor

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.methods.mmpareto import VARIANTS, enlarged, weigh
from mmlib.nn.batch import Batch

Toy = Callable[..., Bundle]
THREE = {"audio": 6, "text": 5, "vision": 4}


@pytest.fixture(params=[TWO, THREE], ids=["two", "three"])
def bundle(request: pytest.FixtureRequest, toy: Toy) -> Bundle:
    return toy((1,) * 80, request.param)


def facing(bundle: Bundle, sign: float, variant: str = "paper", **options: Any) -> Any:
    """Each modality's head is its part of the joint one, or that part turned round."""
    method = make(bundle, "mmpareto", variant, **options)
    parts = method.backbone.prediction.weight.detach().split(8, dim=1)
    for head, part in zip(method.heads.values(), parts, strict=True):
        head.weight.data = sign * part.clone()
    return method


def parts(method: Any, batch: Batch, modality: str) -> list[list[Tensor]]:
    """The gradients of the joint loss and of a modality's on its encoder, each in a pass of its own."""
    own = list(method.backbone.encoders[modality].parameters())
    found = []
    for alone in (False, True):
        fused = method.backbone(batch, batch.features)
        logits = method.heads[modality](fused.z[modality]) if alone else fused.logits
        found.append(list(torch.autograd.grad(F.cross_entropy(logits, batch.labels), own)))
    return found


def flat(gradients: list[Tensor]) -> np.ndarray:
    return torch.cat([g.flatten() for g in gradients]).double().numpy()


def test_without_conflict_it_is_the_sum_of_the_losses_with_gamma_times_the_encoders_gradients(
    bundle: Bundle,
) -> None:
    method, batch = facing(bundle, 1.0), first_batch(bundle)
    found = gradients(method, batch)
    assert (method.series()["cosine"] > 0).all() and (method.series()["c"] == 0.5).all()
    fused = method.backbone(batch, batch.features)
    every = [fused.logits, *(method.heads[m](fused.z[m]) for m in method.modalities)]
    names, parameters = zip(*method.named_parameters(), strict=True)
    total = torch.stack([F.cross_entropy(logits, batch.labels) for logits in every]).sum()
    assert method.loss(batch).item() == pytest.approx(total.item(), rel=1e-6)
    control = gradients(facing(bundle, 1.0, "sum"), batch)
    for name, plain in zip(names, torch.autograd.grad(total, parameters), strict=True):
        expected = plain * (1.5 if name.startswith("backbone.encoders.") else 1)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(control[name], expected, rtol=1e-4, atol=1e-7)


def test_in_conflict_the_weighed_sum_is_the_shortest_and_falls_along_both_alike(
    bundle: Bundle,
) -> None:
    method, batch = facing(bundle, -1.0), first_batch(bundle)
    gradients(method, batch)
    for place, modality in enumerate(method.modalities):
        joint, alone = parts(method, batch, modality)
        a, b = flat(joint), flat(alone)
        assert a @ b < 0

        def length(c: float, a: np.ndarray = a, b: np.ndarray = b) -> float:
            return float(np.linalg.norm(c * a + (1 - c) * b))

        shortest = minimize_scalar(length, bounds=(0, 1), method="bounded").x
        c = weigh(joint, alone)[0].item()
        assert c == pytest.approx(shortest, abs=1e-4) and 0.001 < c < 0.999
        h = 2 * (c * a + (1 - c) * b)
        assert h @ a == pytest.approx(h @ b, rel=1e-3) and h @ a >= 0
        assert method.series()["c"][place].item() == pytest.approx(c, rel=1e-4)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert method.series()["cosine"][place].item() == pytest.approx(cosine, rel=1e-4)


def test_every_tensor_of_an_encoder_is_gamma_times_as_long_as_the_sum_or_longer(
    bundle: Bundle,
) -> None:
    method, batch, longer = facing(bundle, -1.0, gamma=1.2), first_batch(bundle), 0
    found = gradients(method, batch)
    for modality in method.modalities:
        joint, alone = parts(method, batch, modality)
        names = [n for n in found if n.startswith(f"backbone.encoders.{modality}.")]
        for name, a, b in zip(names, joint, alone, strict=True):
            c = weigh(joint, alone)[0]
            h = 2 * (c * a + (1 - c) * b)
            least = (a + b).norm()
            expected = 1.2 * max(h.norm().item(), least.item())
            assert found[name].norm().item() == pytest.approx(expected, rel=1e-4)
            longer += bool(h.norm() < least)
            torch.testing.assert_close(
                F.cosine_similarity(found[name].flatten(), h.flatten(), 0), torch.tensor(1.0)
            )
    assert longer, "none was too short, so that the test shows nothing"


def test_a_conflict_of_very_unequal_gradients_leaves_either_a_thousandth() -> None:
    long, short = [torch.tensor([1000.0, 0.0])], [torch.tensor([-0.001, 0.001])]
    assert weigh(long, short)[0].item() == pytest.approx(0.001)
    assert weigh(short, long)[0].item() == pytest.approx(0.999)
    nothing = [torch.zeros(2)]
    assert torch.isfinite(
        torch.stack(enlarged(nothing, nothing, weigh(nothing, nothing)[0], 1.5))
    ).all()


def test_heads_have_the_gradients_of_the_summed_losses_in_a_conflict_too(bundle: Bundle) -> None:
    batch = first_batch(bundle)
    ours, control = (gradients(facing(bundle, -1.0, v), batch) for v in ("paper", "sum"))
    assert set(ours) == set(control)
    for name in ours:
        assert torch.equal(ours[name], control[name]) != name.startswith("backbone.encoders.")


def test_predictions_are_the_joint_heads_and_views_the_modalities(bundle: Bundle) -> None:
    method, batch = make(bundle, "mmpareto"), first_batch(bundle)
    fused = method(batch)
    assert torch.equal(fused.logits, method.backbone(batch, batch.features).logits)
    assert list(method.views(fused)) == list(bundle.modalities)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains(bundle: Bundle, variant: str) -> None:
    found = fitted(make(bundle, "mmpareto", variant), bundle, keep_series=variant == "paper")
    assert found.loss[-1] < 0.7 * found.loss[0]
    assert np.diff(cross_entropies(bundle, found.valid)[[0, -1]]) < 0
    if variant == "paper":
        steps = 8 * 5
        assert found.series["c"].shape == (steps, len(bundle.modalities))
        assert ((found.series["c"] == 0.5) == (found.series["cosine"] > 0)).all()


def test_other_backbones_and_senseless_options_are_refused_and_scores_are_not(toy: Toy) -> None:
    bundle = toy((1,) * 48, TWO)
    for kind in ("mmgcn", "mmtm"):
        with pytest.raises(InputError, match="Use concat"):
            make(bundle, "mmpareto", kind=kind)
    for gamma in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="gamma"):
            make(bundle, "mmpareto", gamma=gamma)
    scores = toy((1,) * 48, TWO, task=Task("score", range=(-3.0, 3.0)))
    assert np.isfinite(fitted(make(scores, "mmpareto"), scores, 2).loss).all()
