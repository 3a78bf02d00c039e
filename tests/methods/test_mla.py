"""MLA: steps that touch one encoder each, the projector by matrix inversion, fusion by SciPy's entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import fit, make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.methods.mla import VARIANTS, fuse, next_projector
from mmlib.methods.plain import Peek
from mmlib.nn.batch import Batch, make_layout
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
TASK = Task("classes", ("a", "b", "c"))
SCHEDULE = Training(epochs=3, batch=8, lr=0.05, weight_decay=1e-2, optimizer="momentum", clip=0.0)


def make(variant: str = "paper", kind: str = "concat", task: Task = TASK, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 5} if kind == "concat" else {}
    backbone = build_backbone(kind, {"audio": 6, "vision": 4}, task.outputs, 1, sizes.items())
    return build_method("mla", variant, options.items(), backbone, task, {"audio": 6, "vision": 4})


def batch_of(seed: int = 0, n: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    features = {
        "audio": torch.randn(n, 6, generator=generator),
        "vision": torch.randn(n, 4, generator=generator),
    }
    return Batch(
        features,
        torch.ones(n, 2, dtype=torch.bool),
        torch.arange(n) % 3,
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def copies(method: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in method.named_parameters()}


def head_by_hand(method: Any, z: Tensor, labels: Tensor) -> tuple[float, np.ndarray, np.ndarray]:
    """The head's loss and its gradients for weight and bias."""
    x = z.detach().numpy()
    logits = x @ method.head.weight.detach().numpy().T + method.head.bias.detach().numpy()
    residual = (softmax(logits, axis=1) - np.eye(3)[labels]) / len(x)
    return (
        -log_softmax(logits, axis=1)[np.arange(len(x)), labels].mean(),
        residual.T @ x,
        residual.sum(axis=0),
    )


def test_each_step_moves_one_encoder_and_the_shared_head_and_leaves_the_other_bit_for_bit() -> None:
    method = make()
    optimizer = make_optimizer(method, SCHEDULE)
    for seed in range(3):  # Momentum and weight decay are at work from the second batch on.
        for modality, loss in zip(("audio", "vision"), method.losses(batch_of(seed)), strict=True):
            before = copies(method)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            method.after_backward()
            optimizer.step()
            moved = {
                name for name, p in method.named_parameters() if not torch.equal(p, before[name])
            }
            assert moved == {
                n for n in before if n.startswith((f"backbone.encoders.{modality}.", "head."))
            }
            assert all(
                (p.grad is None) == (name not in moved) for name, p in method.named_parameters()
            )


def test_the_second_loss_is_that_of_the_head_which_the_first_step_left() -> None:
    method, batch = make(), batch_of()
    optimizer, z = make_optimizer(method, SCHEDULE), method(batch).z
    losses, stale = method.losses(batch), head_by_hand(method, z["vision"], batch.labels)[0]
    optimizer.zero_grad()
    next(losses).backward()
    method.after_backward()
    optimizer.step()
    found = next(losses).item()
    assert found == pytest.approx(head_by_hand(method, z["vision"], batch.labels)[0], rel=1e-5)
    assert abs(found - stale) > 1e-4


@pytest.mark.parametrize("projection", ["scalar", "outer", "none"])
def test_the_first_step_of_training_is_not_projected_and_the_next_ones_are(projection: str) -> None:
    method = make(projection=projection)
    projector, optimizer, first = np.eye(5), make_optimizer(method, SCHEDULE), True
    method.examples = 24
    for step in range(2):
        batch = batch_of(step)
        for modality, loss in zip(("audio", "vision"), method.losses(batch), strict=True):
            z = method.backbone(batch, batch.features).z[modality]
            _, weight, bias = head_by_hand(method, z, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            method.after_backward()
            if projection != "none" and not first:
                r = z.detach().numpy().mean(axis=0).astype(np.float64)
                k, below = projector @ r, 0.1 ** (1 + step / 2)
                divisor = (
                    below + np.array([[a * b for b in r] for a in k])
                    if projection == "outer"
                    else below + r @ k
                )
                projector = projector - np.array([[a * b for b in k] for a in k]) / divisor
                projector /= np.sqrt((projector**2).sum())
                weight = weight @ projector.T
            first = False
            np.testing.assert_allclose(method.projector, projector, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(method.head.weight.grad, weight, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(method.head.bias.grad, bias, rtol=1e-4, atol=1e-6)
            optimizer.step()


def test_the_scalar_projector_is_the_inverse_of_what_was_seen_of_norm_one_symmetric_and_positive() -> (
    None
):
    generator = torch.Generator().manual_seed(0)
    projector = torch.eye(4, dtype=torch.float64)
    for strength in (0.1, 0.05, 0.02, 0.01, 0.01, 0.01):
        r = torch.randn(4, generator=generator, dtype=torch.float64)
        expected = np.linalg.inv(np.linalg.inv(projector.numpy()) + np.outer(r, r) / strength)
        projector = next_projector(projector, r, strength, outer=False)
        np.testing.assert_allclose(
            projector, expected / np.linalg.norm(expected), rtol=1e-7, atol=1e-12
        )
        assert projector.square().sum().item() == pytest.approx(1)
        assert np.linalg.eigvalsh(projector.numpy()).min() > -1e-12
        assert torch.allclose(projector, projector.T)


def test_lambda_falls_with_the_share_of_the_epoch_and_begins_anew() -> None:
    method, found = make(), []
    for epoch in range(2):
        method.start_epoch(
            Peek(epoch, 2, lambda: [batch_of(n=25), batch_of(n=5)], list, list, lambda *_: None)
        )
        for size in (15, 15):
            list(method.losses(batch_of(n=size)))
            found.append(method.strength)
    np.testing.assert_allclose(found, [0.1, 0.1**1.5] * 2)


def test_fusion_by_each_samples_entropy_is_scipys_and_ignores_the_other_samples() -> None:
    logits = 2 * torch.randn(
        2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    own = entropy(softmax(logits.numpy(), axis=2), axis=2)  # (2, 7)
    u = np.exp(own.max(axis=0) - own)
    u /= u.sum(axis=0)
    np.testing.assert_allclose(fuse(logits, "sample"), (u[..., None] * logits.numpy()).sum(axis=0))
    torch.testing.assert_close(fuse(logits[:, :2], "sample"), fuse(logits, "sample")[:2])


def test_fusion_by_the_batchs_entropy_has_one_weight_for_all_and_depends_on_the_batch() -> None:
    logits = 2 * torch.randn(
        2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    own = entropy(softmax(logits.numpy(), axis=1), axis=1).sum(axis=1)  # (2,)
    u = np.exp(own.max() - own) / np.exp(own.max() - own).sum()
    np.testing.assert_allclose(
        fuse(logits, "batch"), u[0] * logits[0].numpy() + u[1] * logits[1].numpy()
    )
    assert not torch.allclose(fuse(logits[:, :2], "batch"), fuse(logits, "batch")[:2])


@pytest.mark.parametrize("kind", ["sample", "batch", "fixed"])
def test_equal_entropies_weigh_one_half_each(kind: str) -> None:
    one = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    other = one.roll(1, dims=2)  # the same numbers for other classes: the same entropies
    torch.testing.assert_close(fuse(torch.cat([one, other]), kind), (one + other)[0] / 2)


def test_evaluation_is_the_fusion_of_the_shared_heads_views() -> None:
    method, batch = make().eval(), batch_of()
    fused = method(batch)
    views = method.views(fused)
    for modality, logits in views.items():
        by_hand = fused.z[modality] @ method.head.weight.T + method.head.bias
        torch.testing.assert_close(logits, by_hand)
    torch.testing.assert_close(
        fused.logits, fuse(torch.stack([views["audio"], views["vision"]]), "sample")
    )
    assert (
        torch.autograd.grad(
            views["vision"].sum(),
            list(method.backbone.encoders["audio"].parameters()),
            allow_unused=True,
        )
        == (None,) * 4
    )
    assert not method.head.bias.any() and method.loss(batch).item() == pytest.approx(
        sum(head_by_hand(method, fused.z[m], batch.labels)[0] for m in views), rel=1e-5
    )


@pytest.mark.parametrize(
    "variant, options", [(v, {}) for v in VARIANTS] + [("paper", {"fusion": "fixed"})]
)
def test_it_learns_and_the_backbones_own_prediction_layer_never_moves(
    toy: Toy, variant: str, options: dict[str, Any]
) -> None:
    bundle, method = toy((1,) * 48, {"audio": 6, "vision": 4}), make(variant, **options)
    mask = {s: masks.draw(masks.complete(), bundle, s, 0) for s in ("train", "valid", "test")}
    before = copies(method)
    found = fit(
        method, bundle, lambda _: mask["train"], mask["valid"], {"test": mask["test"]}, SCHEDULE, 5
    )
    assert set(found.views) == {"valid.audio", "valid.vision", "test.audio", "test.vision"}
    assert found.loss[-1] < found.loss[0] and np.isfinite(found.tests["test"]).all()
    still = {name for name, p in method.named_parameters() if torch.equal(p, before[name])}
    assert still == {"backbone.prediction.weight", "backbone.prediction.bias"}


def test_released_has_no_projection_and_clipping_measures_the_head_too() -> None:
    assert VARIANTS["released"].projection == "none" and VARIANTS["released"].fusion == "batch"
    method, batch = make("released"), batch_of()
    train_step(method, batch, make_optimizer(method, SCHEDULE), clip=1e-3)
    squares = [p.grad.square().sum() for p in method.parameters() if p.grad is not None]
    assert torch.stack(squares).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"projection": "inner"},
        {"fusion": "mean"},
        {"kind": "mmgcn"},
        {"alpha": 1.0},
        {"task": Task("score", range=(-1.0, 1.0))},
    ],
    ids=str,
)
def test_wrong_options_tasks_and_backbones_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make(**bad)
