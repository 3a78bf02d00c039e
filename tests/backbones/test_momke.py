"""MoMKE against loops over modalities and experts in NumPy, its laws and sizes, and its first stage's loss by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from transformer_tools import (
    FOUR,
    TWO,
    UNEVEN,
    Toy,
    array,
    double,
    expert,
    gelu,
    linear,
    spans,
    tail,
    weights_of,
    whole,
)

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.backbones.momke import ROUTINGS, MoMKE, MoMKEConfig
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.methods import build_method
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import masked_task_loss, task_loss

SIZES: dict[str, Any] = {"hidden": 8, "depth": 2, "heads": 2, "dropout": 0.5}
LETTERS, SCORE, PAIRS = (
    Task("classes", ("a", "b", "c")),
    Task("score", range=(-3.0, 3.0)),
    Task("binaries", ("j", "f")),
)


def network(bundle: Bundle, seed: int = 0, **options: Any) -> MoMKE:
    torch.manual_seed(seed)
    found = build_backbone(
        "momke", bundle.dims, bundle.task.outputs, 1, {**SIZES, **options}.items()
    )
    assert isinstance(found, MoMKE)
    return found.eval()


def by_loop(model: MoMKE, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """z, the prediction's input and the logits: dialogue by dialogue, modality by modality, expert by expert."""
    w, names, c = weights_of(model), sorted(batch.features), model.config
    z = {m: np.zeros((len(batch), c.hidden)) for m in names}
    for rows in spans(batch):
        for index, m in enumerate(names):
            observed = batch.observed[rows, index].numpy()
            entered = linear(array(batch.features[m][rows]), w, f"encoders.{m}.enter")
            scores = linear(
                gelu(linear(entered, w, f"routers.{m}.first")), w, f"routers.{m}.second"
            )
            shares = softmax(scores, axis=1) if c.routing == "softmax" else scores
            if c.routing == "own":
                shares = np.tile([float(k == m) for k in names], (len(rows), 1))
            for number, k in enumerate(names):
                made = expert(entered, observed, w, f"encoders.{k}.expert", c.depth, c.heads)
                for place, row in enumerate(rows):
                    z[m][row] += observed[place] * shares[place, number] * made[place]
    hidden = tail(np.hstack([z[m] for m in names]), w)
    return z, hidden, linear(hidden, w, "prediction")


def outputs(model: MoMKE, batch: Batch) -> list[torch.Tensor]:
    fused = model(batch, batch.features)
    return [*(fused.z[m] for m in model.modalities), fused.hidden, fused.logits]


def compare(model: MoMKE, batch: Batch, tolerance: float) -> None:
    z, hidden, logits = by_loop(model, batch)
    for found, expected in zip(
        outputs(model, batch), [*(z[m] for m in sorted(z)), hidden, logits], strict=True
    ):
        np.testing.assert_allclose(array(found), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_equals_the_loop_over_modalities_and_experts_in_single_and_double_precision(
    toy: Toy, routing: str
) -> None:
    bundle = toy(UNEVEN)
    model, batch = network(bundle, routing=routing), whole(bundle)
    compare(model, batch, 1e-5)
    compare(model.double(), double(batch), 1e-12)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("dims", [TWO, FOUR], ids=len)
def test_equals_the_loop_with_two_and_with_four_modalities(
    toy: Toy, dims: dict[str, int], routing: str
) -> None:
    bundle = toy(UNEVEN, dims, lacking=0.2)
    model = network(bundle, routing=routing, depth=1, heads=4).double()
    compare(model, double(whole(bundle, law=masks.patterns())), 1e-12)


@pytest.mark.parametrize(("outputs", "count"), [(1, 5_395_469), (4, 5_400_089)])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_the_parameters_are_as_many_as_the_released_codes(
    outputs: int, count: int, routing: str
) -> None:
    model = MoMKE(
        {"audio": 512, "text": 1024, "vision": 1024}, outputs, 2, MoMKEConfig(routing=routing)
    )
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("routing", ROUTINGS)
def test_law_i_with_audio_alone_the_outputs_do_not_depend_on_text_and_vision(
    toy: Toy, routing: str
) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle, law=masks.subset(["audio"])), network(bundle, routing=routing)
    changed = {
        m: x if m == "audio" else 1e3 * torch.randn_like(x) for m, x in batch.features.items()
    }
    for before, after in zip(
        outputs(model, batch),
        outputs(model, dataclasses.replace(batch, features=changed)),
        strict=True,
    ):
        assert torch.equal(before, after)
    louder = dict(batch.features, audio=batch.features["audio"] + 1)
    assert not torch.equal(
        outputs(model, dataclasses.replace(batch, features=louder))[-1], outputs(model, batch)[-1]
    )


@pytest.mark.parametrize("routing", ROUTINGS)
def test_law_ii_permuting_the_utterances_of_a_dialogue_permutes_the_outputs(
    toy: Toy, routing: str
) -> None:
    bundle = toy(UNEVEN)
    batch, model = double(whole(bundle)), network(bundle, routing=routing).double()
    r = np.random.default_rng(0)
    order = torch.from_numpy(np.concatenate([r.permutation(rows) for rows in spans(batch)]))
    moved = dataclasses.replace(
        batch,
        features={m: x[order] for m, x in batch.features.items()},
        observed=batch.observed[order],
    )
    assert not torch.equal(order, torch.arange(len(batch)))
    for x, y in zip(outputs(model, batch), outputs(model, moved), strict=True):
        torch.testing.assert_close(x[order], y, atol=1e-13, rtol=0)


def test_tokens_of_a_modality_attend_to_their_own_dialogues_and_to_no_other_modality(
    toy: Toy,
) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle, law=masks.complete()), network(bundle)
    rows = spans(batch)[1]
    features = {m: x.clone() for m, x in batch.features.items()}
    features["text"][rows[0]] += 3
    before = model(batch, batch.features)
    after = model(dataclasses.replace(batch, features=features), features)
    assert torch.equal(before.z["audio"], after.z["audio"]) and torch.equal(
        before.z["vision"], after.z["vision"]
    )
    assert [
        u for u in range(len(batch)) if not torch.equal(before.z["text"][u], after.z["text"][u])
    ] == rows


def test_own_asks_the_own_expert_alone_and_its_weights_load_into_the_second_stage(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, first = whole(bundle), network(bundle, routing="own")
    before = {m: array(x) for m, x in first(batch, batch.features).z.items()}
    second = network(bundle, seed=1)
    second.load_state_dict(first.state_dict())
    for name, p in first.encoders["vision"].expert.named_parameters():
        p.data += 1
        assert not torch.equal(second.encoder("vision").expert.get_parameter(name), p)
    after = {m: array(x) for m, x in first(batch, batch.features).z.items()}
    assert [np.array_equal(before[m], after[m]) for m in ("audio", "text", "vision")] == [
        True,
        True,
        False,
    ]
    compare(second, batch, 1e-5)
    for m in (
        bundle.modalities
    ):  # a router that is sure of the own expert makes the first stage of the second
        own = bundle.modalities.index(m)
        second.routers[m].second.weight.data.zero_()
        second.routers[m].second.bias.data = torch.where(torch.arange(3) == own, 100.0, 0.0)
        np.testing.assert_allclose(array(second(batch, batch.features).z[m]), before[m], atol=1e-6)


def test_softmax_weights_add_up_to_one_and_the_unnormalised_do_not(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    entered = torch.randn(50, 8)
    for routing, normal in (("softmax", True), ("unnormalised", False)):
        shares = network(bundle, routing=routing).routers["text"](entered).sum(dim=1)
        assert torch.allclose(shares, torch.ones(50)) == normal


def test_dropout_falls_on_the_routers_scores_too(toy: Toy) -> None:
    """BASELINES_MM section 3: also on the three scores; their zeros leave equal shares now and then."""
    bundle = toy(UNEVEN)
    model = network(bundle, dropout=0.5).train()
    shares = model.routers["text"](torch.randn(4000, 8))
    equal = ((shares - 1 / 3).abs() < 1e-6).all(dim=1).float().mean().item()
    assert equal == pytest.approx(1 / 8, abs=0.03)


def test_an_unknown_routing_is_an_error() -> None:
    with pytest.raises(InputError, match="momke routing"):
        MoMKEConfig(routing="softmx")


# The first stage: the method ``unimodal``.


def each_loss(task: Task, logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """The loss of each utterance, by hand."""
    if task.kind == "score":
        return [(logits[u, 0] - labels[u]) ** 2 for u in range(len(labels))]
    if task.kind == "binaries":
        pairs = log_softmax(logits.reshape(len(labels), -1, 2), axis=2)
        return [
            -np.mean([pairs[u, k, y] for k, y in enumerate(labels[u])]) for u in range(len(labels))
        ]
    return [-log_softmax(logits[u])[labels[u]] for u in range(len(labels))]


@pytest.mark.parametrize("task", [LETTERS, SCORE, PAIRS], ids=lambda task: task.kind)
def test_the_loss_is_the_sum_over_modalities_of_the_mean_loss_where_they_are_observed(
    toy: Toy, task: Task
) -> None:
    bundle = toy(UNEVEN, task=task, lacking=0.2)
    backbone = network(bundle, routing="own").double()
    batch = double(whole(bundle))
    if task.kind == "score":
        batch = dataclasses.replace(batch, labels=batch.labels.double())
    method = build_method("unimodal", "paper", (), backbone, task, bundle.dims)
    z, w = by_loop(backbone, batch)[0], weights_of(backbone)
    expected = 0.0
    for index, m in enumerate(bundle.modalities):
        losses = each_loss(task, linear(z[m], w, f"heads.{m}"), batch.labels.numpy())
        expected += np.mean([losses[u] for u in range(len(batch)) if batch.observed[u, index]])
        assert 0 < int(batch.observed[:, index].sum()) < len(batch)
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("task", [LETTERS, SCORE, PAIRS], ids=lambda task: task.kind)
def test_the_masked_loss_is_the_task_loss_of_those_that_count_and_zero_where_none_does(
    task: Task,
) -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, task.outputs, dtype=torch.float64, requires_grad=True)
    labels = {
        "classes": torch.arange(9) % 3,
        "score": torch.randn(9, dtype=torch.float64),
        "binaries": torch.randint(2, (9, 2)),
    }[task.kind]
    counts = torch.tensor([True, False, True] * 3)
    found, expected = (
        masked_task_loss(task, logits, labels, counts),
        task_loss(task, logits[counts], labels[counts]),
    )
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)
    (gradient,) = torch.autograd.grad(found, [logits])
    assert not gradient[~counts].any() and gradient[counts].any()
    nothing = masked_task_loss(task, logits, labels, torch.zeros(9, dtype=torch.bool))
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, [logits])[0].any()


def test_an_utterance_without_a_modality_counts_nothing_in_that_modalitys_loss(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch = whole(bundle, law=masks.shared(0.5))
    method = build_method(
        "unimodal", "paper", (), network(bundle, routing="own"), bundle.task, bundle.dims
    )
    lacks = ~batch.observed[:, 1]
    labels = torch.where(lacks, (batch.labels + 1) % 3, batch.labels)
    for m, same in (("text", True), ("audio", False)):
        grads = []
        for truth in (batch.labels, labels):
            method.zero_grad()
            method.loss(dataclasses.replace(batch, labels=truth)).backward()  # type: ignore[no-untyped-call]
            grads.append(
                {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
            )
        mine = [k for k in grads[0] if f".{m}." in k]
        assert lacks.any() and any("expert" in k for k in mine) and any("heads" in k for k in mine)
        assert all(torch.equal(grads[0][k], grads[1][k]) == same for k in mine if "weight" in k)


def test_the_first_stage_trains_encoders_and_heads_and_needs_a_prediction_for_each_modality(
    toy: Toy,
) -> None:
    bundle = toy(UNEVEN)
    batch = whole(bundle)
    method = build_method(
        "unimodal", "paper", (), network(bundle, routing="own"), bundle.task, bundle.dims
    )
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    trained = {k.split(".")[1] for k, p in method.named_parameters() if p.grad is not None}
    assert trained == {"encoders", "heads"}
    assert set(method.views(method(batch))) == set(bundle.modalities)
    second = build_method("unimodal", "paper", (), network(bundle), bundle.task, bundle.dims)
    assert second.views(second(batch)) == {}
    with pytest.raises(InputError, match="routing own"):
        second.loss(batch)


def test_on_concat_the_first_stage_is_the_loss_of_its_split_prediction(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch = whole(bundle)
    torch.manual_seed(0)
    backbone = build_backbone("concat", bundle.dims, 3, 1, [("encoder", "mlp"), ("hidden", 7)])
    method = build_method("unimodal", "paper", (), backbone, bundle.task, bundle.dims)
    alone = method.views(method(batch))
    expected = sum(
        np.mean(
            [
                loss
                for loss, seen in zip(
                    each_loss(LETTERS, array(alone[m]), batch.labels.numpy()),
                    batch.observed[:, i].tolist(),
                    strict=True,
                )
                if seen
            ]
        )
        for i, m in enumerate(bundle.modalities)
    )
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)
