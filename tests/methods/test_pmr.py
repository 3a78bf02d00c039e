"""PMR: prototypes, how far a modality lags, and what its encoder alone is given for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import array, gradients
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import fit
from mmlib.methods import build_method
from mmlib.methods.plain import Peek
from mmlib.methods.pmr import VARIANTS, PmrConfig, choose, imbalance, log_nearness
from mmlib.nn.batch import Batch, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 5}


def make(
    bundle: Bundle,
    variant: str = "paper",
    method: str = "pmr",
    dropout: float = 0.0,
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 8, "dropout": dropout}
    backbone = build_backbone(
        "concat", bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method(method, variant, options.items(), backbone, bundle.task, bundle.dims)


@pytest.fixture
def bundle(toy: Toy) -> Bundle:
    return toy((1,) * 160, DIMS)


def whole(bundle: Bundle) -> list[Batch]:
    resident = to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu")
    return [resident.batch(range(50)), resident.batch(range(50, 80))]


def peek(bundle: Bundle, epoch: int = 0, epochs: int = 10) -> Peek:
    return Peek(epoch, epochs, lambda: whole(bundle), list, list, lambda other, more: None)


def started(bundle: Bundle, variant: str = "paper", **options: Any) -> Any:
    """A method in its first epoch, in which audio lags: vision's embeddings lie wider apart."""
    method = make(bundle, variant, **options)
    with torch.no_grad():
        method.backbone.encoders["vision"].second.weight.mul_(9)
    method.start_epoch(peek(bundle))
    return method.train()


def test_a_prototype_is_the_exact_mean_of_its_classs_clips_in_evaluation_mode(
    bundle: Bundle,
) -> None:
    labels = bundle.labels[bundle.rows("train")]
    for share in (1.0, 0.1):
        method = make(bundle, dropout=0.5, subset=share)
        method.start_epoch(peek(bundle))
        method.eval()
        rows = choose(labels, 3, share)
        for k, m in enumerate(method.modalities):
            z = np.concatenate([array(method(batch).z[m]) for batch in whole(bundle)])
            means = [np.mean([z[i] for i in rows if labels[i] == c], axis=0) for c in range(3)]
            np.testing.assert_allclose(array(method.prototypes[k]), means, atol=1e-6)


def test_the_subset_is_a_fixed_share_of_every_class_and_one_clip_at_least() -> None:
    labels = np.array([0] * 100 + [1] * 40 + [2] * 3)
    rows = choose(labels, 3, 0.1)
    assert np.bincount(labels[rows]).tolist() == [10, 4, 1] and len(set(rows)) == 15
    assert (rows == choose(labels, 3, 0.1)).all() and not (rows == np.arange(15)).all()
    with pytest.raises(InputError, match="classes \\[3\\]"):
        choose(labels, 4, 0.1)


def test_eps_is_what_a_prototype_keeps_of_its_old_self(bundle: Bundle) -> None:
    method, fresh = started(bundle, eps=0.3), started(bundle)
    first = method.prototypes
    torch.testing.assert_close(first, fresh.prototypes)
    for other in (method, fresh):
        with torch.no_grad():
            other.backbone.encoders["audio"].first.weight.mul_(2)
        other.start_epoch(peek(bundle, 1))
    assert not torch.equal(first[0], fresh.prototypes[0])
    torch.testing.assert_close(method.prototypes, 0.3 * first + 0.7 * fresh.prototypes)


def test_p_is_a_softmax_over_plain_distances_and_has_a_gradient_even_at_a_prototype() -> None:
    z, c = torch.randn(9, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    np.testing.assert_allclose(
        array(log_nearness(z, c)), log_softmax(-cdist(z, c), axis=1), atol=1e-10
    )
    at = c[:1].clone().requires_grad_()
    log_nearness(at, c)[0, 0].backward()  # type: ignore[no-untyped-call]
    assert at.grad is not None and torch.isfinite(at.grad).all()


def test_only_the_modality_that_lags_is_weighted_by_how_far_clipped_at_1() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        p = random.dirichlet(np.ones(3) * 0.5, size=(2, 4)) ** random.uniform(0.1, 2)
        labels = random.integers(0, 3, 4)
        sure = [sum(p[k, i, y] for i, y in enumerate(labels)) for k in range(2)]
        rho = sure[0] / sure[1]
        expected = (min(1 / rho - 1, 1), 0) if rho < 1 else (0, min(rho - 1, 1))
        near = torch.from_numpy(np.log(p))
        found = imbalance(near, torch.from_numpy(labels))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert imbalance(near, torch.from_numpy(labels), switch=True).tolist() == [
            float(rho < 1),
            float(rho >= 1),
        ]
        seen.add((expected[0] > 0, max(expected) < 1))
    assert len(seen) == 4
    even = torch.zeros(2, 4, 3)
    assert imbalance(even, torch.zeros(4, dtype=torch.long)).tolist() == [0, 0]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_loss_by_numpy(bundle: Bundle, variant: str) -> None:
    method, batch = started(bundle, variant, mu=0.4), whole(bundle)[1]
    fused, y = method(batch), batch.labels.numpy()
    n = np.arange(len(y))
    log_p = [
        log_softmax(-cdist(array(fused.z[m]), array(method.prototypes[k])), axis=1)
        for k, m in enumerate(DIMS)
    ]
    rho = np.exp(log_p[0][n, y]).sum() / np.exp(log_p[1][n, y]).sum()
    assert 0.1 < 1 / rho - 1 < 1
    beta = 1.0 if variant == "switch" else 1 / rho - 1
    expected = (
        -log_softmax(array(fused.logits), axis=1)[n, y].mean()
        + VARIANTS[variant].alpha * beta * -log_p[0][n, y].mean()
    )
    if variant == "paper":
        expected -= 0.4 * beta * -(np.exp(log_p[1]) * log_p[1]).sum(axis=1).mean()
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_prototypical_loss_reaches_one_encoder_alone_and_nothing_without_imbalance(
    bundle: Bundle,
) -> None:
    batch, method = whole(bundle)[1], started(bundle, "no_per")
    bare = make(bundle, "paper", "plain")
    bare.backbone.load_state_dict(method.backbone.state_dict())
    plain = gradients(bare, batch)
    ours = gradients(method, batch)
    assert {k for k in plain if not torch.equal(ours[k], plain[k])} == {
        k for k in plain if "encoders.audio" in k
    }
    method.prototypes[:] = 0  # all alike: rho is 1
    assert all(torch.equal(g, plain[k]) for k, g in gradients(method, batch).items())


def test_descending_the_entropy_term_raises_the_leading_modalitys_entropy(bundle: Bundle) -> None:
    batch, found = whole(bundle)[1], []
    for mu in (0.0, 1.0):
        method = started(bundle, mu=mu)
        found.append(gradients(method, batch))
    changed = {k for k in found[0] if not torch.equal(found[0][k], found[1][k])}
    assert changed == {k for k in found[0] if "encoders.vision" in k}

    def entropy() -> float:
        p = method.near(method(batch).z)[1].exp()
        return -(p * p.log()).sum().item()

    before = entropy()
    with torch.no_grad():
        for name, p in method.named_parameters():
            p -= 0.05 * (found[1][name] - found[0][name])
    assert entropy() > before + 1e-4


def test_entropy_is_regularised_in_the_first_share_of_the_epochs(bundle: Bundle) -> None:
    for variant, expected in (("paper", [0, 1, 2]), ("no_per", []), ("switch", [])):
        method = make(bundle, variant)
        regularised = [
            epoch
            for epoch in range(10)
            if method.start_epoch(peek(bundle, epoch)) or method.regularised
        ]
        assert regularised == expected


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains(bundle: Bundle, variant: str) -> None:
    drawn = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    training = Training(
        epochs=3, batch=16, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0
    )
    fitted = fit(
        make(bundle, variant),
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        training,
        0,
        keep_series=True,
        device=torch.device("cpu"),
    )
    truth = np.eye(3)[bundle.labels[bundle.rows("valid")]]
    entropies = [
        -(log_softmax(outputs, axis=1) * truth).sum(axis=1).mean() for outputs in fitted.valid
    ]
    assert entropies[2] < 0.9 * entropies[0] and fitted.series["weight"].shape == (15, 2)
    assert (fitted.series["weight"].min(axis=1) == 0).all()


def test_options_and_tasks_that_make_no_sense_raise(toy: Toy) -> None:
    for bad in (
        {"subset": 0.0},
        {"eps": 1.5},
        {"mu": -1.0},
        {"per_until": 2.0},
        {"alpha": float("inf")},
    ):
        with pytest.raises(InputError):
            PmrConfig(**bad)  # type: ignore[arg-type]
    for options in (
        {"dims": {**DIMS, "text": 4}},
        {"dims": DIMS, "task": Task("score", range=(-3.0, 3.0))},
    ):
        with pytest.raises(InputError, match="two modalities and classes"):
            make(toy(**options))
