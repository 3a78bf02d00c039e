"""LFM: the divergence against SciPy's, the loss by NumPy, and when it is late fusion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from separate_tools import (
    TWO,
    array,
    cross_entropies,
    first_batch,
    fitted,
    gradients,
    make,
    peek,
)

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.methods.lfm import VARIANTS, alpha_at, divergence

Toy = Callable[..., Bundle]
THREE = {"audio": 6, "text": 5, "vision": 4}


@pytest.fixture(params=[TWO, THREE], ids=["two", "three"])
def bundle(request: pytest.FixtureRequest, toy: Toy) -> Bundle:
    return toy((1,) * 80, request.param)


def test_the_divergence_of_two_is_scipys_between_0_and_ln_2_and_0_for_equal_posteriors() -> None:
    logits = 6 * torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0)).double()
    found = divergence(logits).numpy()
    p, q = softmax(logits.numpy(), axis=2)
    np.testing.assert_allclose(found, jensenshannon(p, q, axis=1) ** 2, rtol=1e-6)
    assert (found > 0).all() and (found < np.log(2)).all() and found.max() > 0.6
    torch.testing.assert_close(divergence(logits.flip(0)), divergence(logits))
    shifted = torch.stack([logits[0], logits[0] + torch.arange(40.0)[:, None]])
    np.testing.assert_allclose(divergence(shifted), 0, atol=1e-12)
    apart = 100 * torch.eye(2).double()[:, None]
    np.testing.assert_allclose(divergence(apart), np.log(2))


def test_the_divergence_of_three_is_the_entropy_of_the_mean_above_the_mean_entropy() -> None:
    logits = 3 * torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(1)).double()
    p = softmax(logits.numpy(), axis=2)
    expected = entropy(p.mean(axis=0), axis=1) - entropy(p, axis=2).mean(axis=0)
    np.testing.assert_allclose(divergence(logits), expected, rtol=1e-9)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_loss_by_hand_in_the_middle_of_a_training(bundle: Bundle, variant: str) -> None:
    method, batch = make(bundle, "lfm", variant), first_batch(bundle)
    method.start_epoch(peek(80, 200))
    z = method.backbone(batch, batch.features).z
    own = np.stack(
        [
            array(z[m]) @ array(method.heads[m].weight).T + array(method.heads[m].bias)
            for m in bundle.modalities
        ]
    )
    right = log_softmax(own.mean(axis=0), axis=1)[np.arange(12), batch.labels.numpy()]
    p = softmax(own, axis=2)
    apart = (entropy(p.mean(axis=0), axis=1) - entropy(p, axis=2).mean(axis=0)).mean()
    shares = {"paper": (0.5, 0.5), "late_fusion": (1, 0), "no_divergence": (0.5, 0)}[variant]
    expected = -2 * shares[0] * right.mean() + 2 * shares[1] * apart
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(array(method(batch).logits), own.mean(axis=0), atol=1e-6)
    names = set(gradients(method, batch))
    lacking = {"backbone.prediction.weight", "backbone.prediction.bias"}
    assert {name for name, _ in method.named_parameters()} - names == lacking


def test_the_schedule_has_the_shipped_values_at_200_epochs_and_its_ends_at_any_number() -> None:
    shipped = {0: 0.205, 20: 0.30, 40: 0.40, 80: 0.50, 100: 0.54, 199: 0.92}
    assert {e: round(alpha_at(e, 200), 9) for e in shipped} == shipped
    assert alpha_at(10, 200) == pytest.approx(0.2525)
    for epochs in (2, 9, 31):
        alphas = [alpha_at(epoch, epochs) for epoch in range(epochs)]
        assert (alphas[0], alphas[-1]) == (0.205, 0.92) and (np.diff(alphas) > 0).all()
    assert alpha_at(0, 1) == 0.205


def test_swapping_the_modalities_changes_neither_loss_nor_prediction(toy: Toy) -> None:
    bundle = toy((1,) * 48, {"audio": 6, "vision": 6})
    one, other, batch = make(bundle, "lfm"), make(bundle, "lfm"), first_batch(bundle)
    for kept, swapped in (("audio", "vision"), ("vision", "audio")):
        other.heads[kept].load_state_dict(one.heads[swapped].state_dict())
        encoders = other.backbone.encoders, one.backbone.encoders
        encoders[0][kept].load_state_dict(encoders[1][swapped].state_dict())
    loss, logits = one.loss(batch), one(batch).logits
    batch.features.update(audio=batch.features["vision"], vision=batch.features["audio"])  # type: ignore[attr-defined]
    torch.testing.assert_close(other.loss(batch), loss)
    torch.testing.assert_close(other(batch).logits, logits)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains_and_records_its_schedule(bundle: Bundle, variant: str) -> None:
    found = fitted(make(bundle, "lfm", variant), bundle)
    assert np.diff(cross_entropies(bundle, found.valid)[[0, -1]]) < -0.2
    expected = [1.0] * 8 if variant == "late_fusion" else [alpha_at(e, 8) for e in range(8)]
    np.testing.assert_allclose(found.recorded["alpha"][:, 0], expected, rtol=1e-6)


def test_other_tasks_and_backbones_are_refused(toy: Toy) -> None:
    scores = toy((1,) * 48, TWO, task=Task("score", range=(-3.0, 3.0)))
    with pytest.raises(InputError, match="classification"):
        make(scores, "lfm")
    with pytest.raises(InputError, match="Use concat"):
        make(toy((1,) * 48, TWO), "lfm", kind="mmtm")
