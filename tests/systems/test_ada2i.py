"""Ada2I: weighing by the others, heads of unit norm, and gradients of stronger encoders that are held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, TASKS, batch_of, built, peek

from mmlib.backbones import build_backbone
from mmlib.backbones.ada2i import Ada2I, Ada2IConfig, Weighing, of_others
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods import ada2i, build_method
from mmlib.methods.ada2i import Ada2i, surety
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import hide, make_layout

Toy = Callable[..., Bundle]
STAGE = Stage("ada2i", "ada2i")


def method_of(
    bundle: Bundle, variant: str = "paper", network: tuple[tuple[str, object], ...] = ()
) -> Ada2i:
    method = built(dataclasses.replace(STAGE, variant=variant, network=network), bundle)
    assert isinstance(method, Ada2i)
    return method


def net_of(method: Ada2i) -> Ada2I:
    assert isinstance(method.backbone, Ada2I)
    return method.backbone


def test_the_weighing_contracts_two_tensors_of_rank_r() -> None:
    torch.manual_seed(0)
    layer = Weighing(4, 3, 0.25).double()
    x, others = torch.randn(2, 5, 4, dtype=torch.float64)
    own = layer.own.weight.detach().numpy().reshape(3, 4, 4)
    other = layer.other.weight.detach().numpy().reshape(3, 4, 4)
    att = np.einsum("rij,nj,rik,nk->ni", own, x.numpy(), other, others.numpy())
    direct = x.numpy() @ layer.direct.weight.detach().numpy().T + layer.direct.bias.detach().numpy()
    made, gap = layer(x, others)
    np.testing.assert_allclose(made.detach(), x.numpy() * att + 0.25 * x.numpy())
    np.testing.assert_allclose(gap.detach(), np.abs(att - direct).mean(axis=1))


def test_the_others_mean_is_over_what_the_dialogue_has_of_the_other_modalities() -> None:
    torch.manual_seed(0)
    sizes = [2, 1, 3]
    x, seen = torch.randn(6, 3, 2), torch.rand(6, 3) < 0.5
    seen[2] = torch.tensor([True, False, False])  # a dialogue with one modality alone
    means, there = of_others(x * seen[..., None], seen, make_layout(sizes))
    start = 0
    for size in sizes:
        rows = range(start, start + size)
        for m in range(3):
            values = [x[i, o] for i in rows for o in range(3) if o != m and seen[i, o]]
            for i in rows:
                assert bool(there[i, m]) == bool(values)
                mean = torch.stack(values).mean(dim=0) if values else torch.zeros(2)
                torch.testing.assert_close(means[i, m], mean)
        start += size


def test_without_others_a_modality_stays_as_it_is(toy: Toy) -> None:
    bundle = toy(lengths=[1] * 16, dims=DIMS[3])
    method = method_of(bundle).eval()
    batch = hide(batch_of(bundle), torch.tensor([False, True, False]))
    parts = net_of(method).parts(batch, batch.features)
    encoder = net_of(method).encoders["text"]
    encoded = encoder(batch.features["text"], batch.observed[:, 1], batch.layout)
    torch.testing.assert_close(parts.fused.z["text"], encoded)
    assert parts.gap.item() == 0


def test_only_present_modalities_add_their_logits(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    net = net_of(method)
    fused = method(batch)
    weight = (
        net.prediction.weight.detach().numpy().reshape(3, 3, -1)
    )  # (classes, modalities, width)
    weight = weight / np.linalg.norm(weight, axis=2, keepdims=True)
    z = np.stack([fused.z[m].detach().numpy() for m in sorted(fused.z)], axis=1)
    z = z * batch.observed.numpy()[:, :, None]
    expected = np.einsum("nmd,cmd->nc", z, weight) + net.prediction.bias.detach().numpy()
    np.testing.assert_allclose(fused.logits.detach(), expected, atol=1e-5)


@pytest.mark.parametrize(("normalised", "axis"), [("features", 2), ("classes", 0)])
def test_a_heads_weights_have_unit_norm_over_features_or_as_released_over_classes(
    normalised: str, axis: int, toy: Toy
) -> None:
    net = net_of(method_of(toy(dims=DIMS[3]), network=(("normalised", normalised),)))
    width = net.embedding_dim
    rows = net.alone({m: torch.eye(width) for m in net.modalities})
    weight = np.stack([rows[m].detach().numpy().T for m in net.modalities], axis=1)
    np.testing.assert_allclose(np.linalg.norm(weight, axis=axis), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", [*TASKS, "binaries"])
def test_the_surety_is_the_probability_of_the_true_answer(kind: str) -> None:
    torch.manual_seed(0)
    task = Task("binaries", ("happy", "sad")) if kind == "binaries" else TASKS[kind]
    logits = torch.randn(4, task.outputs)
    x = logits.numpy()
    if kind == "score":
        labels = torch.randn(4)
        expected = np.exp(-np.abs(x[:, 0] - labels.numpy()))
    elif kind == "classes":
        labels = torch.tensor([0, 2, 1, 1])
        expected = (np.exp(x) / np.exp(x).sum(1, keepdims=True))[np.arange(4), labels.numpy()]
    else:
        labels = torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]])
        pairs = np.exp(x.reshape(4, 2, 2))
        chances = pairs / pairs.sum(2, keepdims=True)
        expected = np.array(
            [np.mean([chances[i, q, labels[i, q]] for q in range(2)]) for i in range(4)]
        )
    np.testing.assert_allclose(surety(task, logits, labels), expected, rtol=1e-5)


def measured(method: Ada2i, bundle: Bundle, logits: dict[str, float]) -> dict[str, torch.Tensor]:
    """What the method finds where each modality gives the true class this logit, and the others 0."""
    batch = batch_of(bundle)
    truth = torch.nn.functional.one_hot(batch.labels, 3).float()
    net = net_of(method)
    alone = {m: truth * logit for m, logit in logits.items()}
    net.unimodal = lambda fused: alone  # type: ignore[method-assign]
    method.measure(batch, Fused({}, truth, truth))
    return method.series()


def test_the_weakest_modality_keeps_its_gradient_and_others_lose_what_their_ratio_says(
    toy: Toy,
) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle)
    method.start_epoch(peek(bundle, epoch=4))
    found = measured(method, bundle, {"audio": 2.0, "text": 1.0, "vision": 3.0})
    sure = np.array([np.exp(x) / (np.exp(x) + 2) for x in (2.0, 1.0, 3.0)])
    ratio = sure / sure.min()
    np.testing.assert_allclose(found["ratio"], ratio, rtol=1e-5)
    by_hand = np.where(ratio > 1, 1 - np.tanh(0.037 * ratio), 1)
    np.testing.assert_allclose(found["k"], by_hand, rtol=1e-5)
    assert found["k"][1] == 1


def test_before_its_first_epoch_and_where_it_is_off_nothing_is_held_back(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    for variant, epoch in (("paper", 3), ("no_modulation", 9)):
        method = method_of(bundle, variant)
        method.start_epoch(peek(bundle, epoch=epoch))
        assert (
            measured(method, bundle, {"audio": 2.0, "text": 1.0, "vision": 3.0})["k"] == 1
        ).all()


def test_gradients_of_encoders_alone_are_scaled(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle, "no_noise").eval(), batch_of(bundle)
    method.start_epoch(peek(bundle, epoch=4))
    method.loss(batch).backward()
    before = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    method.after_backward()
    k = dict(zip(method.modalities, method.series()["k"], strict=True))
    assert min(k.values()) < 1
    for name, p in method.named_parameters():
        if p.grad is not None:
            factor = k[name.split(".")[2]] if "encoders" in name else 1.0
            torch.testing.assert_close(p.grad, before[name] * factor)


def test_noise_has_the_gradients_own_deviation(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    method.start_epoch(peek(bundle, epoch=4))
    method.loss(batch).backward()
    weight = net_of(method).get_parameter("encoders.text.blocks.0.widen.weight")
    assert weight.grad is not None
    before, k = weight.grad.clone(), method.series()["k"][1]
    torch.manual_seed(0)
    method.after_backward()
    noise = weight.grad - before * k
    assert noise.std().item() == pytest.approx(before.std().item(), rel=0.05)
    assert abs(noise.mean().item()) < 4 * before.std().item() / weight.numel() ** 0.5


def test_a_modality_that_no_row_has_is_neither_weakest_nor_noisy(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle)
    batch = hide(batch_of(bundle), torch.tensor([True, True, False]))
    method.start_epoch(peek(bundle, epoch=4))
    method.loss(batch).backward()
    method.after_backward()
    assert method.series()["ratio"].isfinite().all() and method.series()["k"][2] == 1
    assert all(not g.any() for g in method.backbone.encoder_gradients("vision"))
    assert any(g.any() for g in method.backbone.encoder_gradients("text"))


def test_the_auxiliary_loss_is_weighed(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle).eval(), batch_of(toy(dims=DIMS[3], task=SCORE))
    parts = net_of(method).parts(batch, batch.features)
    task = np.abs(parts.fused.logits[:, 0].detach().numpy() - batch.labels.numpy()).mean()
    method.config = dataclasses.replace(method.config, auxiliary=3.0)
    assert method.loss(batch).item() == pytest.approx(task + 3 * parts.gap.item(), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"hidden": 30}, {"rank": 0}, {"beta": -1.0}, {"dropout": 1.0}, {"normalised": "rows"}],
)
def test_sizes_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Ada2IConfig(**options)  # type: ignore[arg-type]


def test_other_networks_and_strengths_are_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="MLP"):
        build_method(
            "ada2i", "paper", (), build_backbone("mlp", bundle.dims, 3, 1), bundle.task, bundle.dims
        )
    with pytest.raises(InputError, match="alpha"):
        ada2i.Ada2iConfig(alpha=-0.1)
