"""Mi-CGA-style: its graph attention by loops, and which utterances and modalities its attentions see."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built
from scipy.special import softmax

from mmlib.backbones.gcnet import neighbours
from mmlib.backbones.mi_cga import HEADS, GraphAttention, MiCGA
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import Batch, make_layout

Toy = Callable[..., Bundle]
LENGTHS = (4, 1, 6)
LAYOUT = make_layout(LENGTHS)
WIDTH = 8


def net(toy: Toy, count: int = 3, **options: Any) -> tuple[MiCGA, Batch]:
    bundle = toy(dims=DIMS[count])
    method = built(Stage("reference", "mi_cga", network=tuple(options.items())), bundle)
    assert isinstance(method.backbone, MiCGA)
    return method.backbone.eval(), batch_of(bundle)


def given() -> tuple[GraphAttention, torch.Tensor, torch.Tensor]:
    """A graph attention, states, and which utterances have the modality; one of them sees nobody."""
    torch.manual_seed(0)
    seen = torch.tensor([True, False, False, False, False, *[True] * 6])
    return GraphAttention(WIDTH).double(), torch.randn(11, WIDTH, dtype=torch.float64), seen


def test_graph_attention_by_loops() -> None:
    graph, states, seen = given()
    found = graph(states, neighbours(LAYOUT, 1, 1), seen).detach().numpy()
    values = states.numpy() @ graph.linear.weight.detach().numpy().T
    places = [(d, t) for d, length in enumerate(LENGTHS) for t in range(length)]
    half = WIDTH // HEADS
    for i, (dialogue, turn) in enumerate(places):
        near = [
            j for j, (d, t) in enumerate(places) if d == dialogue and abs(t - turn) <= 1 and seen[j]
        ]
        message = np.zeros(WIDTH)
        for head in range(HEADS if near else 0):
            part = values[:, head * half : (head + 1) * half]
            mine = part[i] @ graph.mine[head].detach().numpy()
            raw = mine + part[near] @ graph.theirs[head].detach().numpy()
            shares = softmax(np.where(raw > 0, raw, 0.2 * raw))
            message[head * half : (head + 1) * half] = shares @ part[near]
        expected = states[i].numpy() + np.where(message > 0, message, np.expm1(message))
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


def test_with_a_window_of_zero_utterances_go_their_own_way_in_the_graph() -> None:
    graph, states, seen = given()
    found = graph(states, neighbours(LAYOUT, 0, 0), seen)
    own = states + torch.nn.functional.elu(graph.linear(states))
    torch.testing.assert_close(found, torch.where(seen[:, None], own, states))


def test_every_modality_attends_to_every_other_one(toy: Toy) -> None:
    for count in (2, 3, 4):
        made, _ = net(toy, count)
        ordered = {(i, j) for i in range(count) for j in range(count) if i != j}
        assert set(made.pairs) == ordered and len(made.crossings) == len(made.pairs)
        assert made.prediction.in_features == count * count * 64


def test_a_dialogue_in_which_nobody_has_a_modality_gets_nothing_from_it(toy: Toy) -> None:
    made, batch = net(toy)
    observed = torch.ones_like(batch.observed)
    dialogue = batch.layout.dialogue
    observed[dialogue == 1, 2] = False
    assert batch.complete is not None
    batch = dataclasses.replace(batch, observed=observed, features=batch.complete)
    hidden = made(batch, batch.features).hidden
    for number, (_, source) in enumerate(made.pairs):
        part = hidden[:, (3 + number) * 64 : (4 + number) * 64]
        empty = ~part.any(dim=1)
        assert torch.equal(empty, (dialogue == 1) if source == 2 else torch.zeros_like(empty))


@pytest.mark.parametrize("options", [{"hidden": 6}, {"window": -1}, {"dropout": 1}], ids=str)
def test_options_that_make_no_sense_raise(options: dict[str, Any], toy: Toy) -> None:
    with pytest.raises(InputError):
        net(toy, **options)
