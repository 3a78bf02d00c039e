"""SDR-GNN: its graph steps as matrices and loops, and its reconstruction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built
from torch import Tensor

from mmlib.backbones.gcnet import neighbours
from mmlib.backbones.sdr_gnn import SDRGNN, Graph, SDRGNNConfig, hyperedges
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import Batch, make_layout

Toy = Callable[..., Bundle]
LENGTHS, WINDOW = (4, 1, 7), 2
PLACES = [(d, t) for d, length in enumerate(LENGTHS) for t in range(length)]


def joined(i: int, j: int) -> bool:
    return PLACES[i][0] == PLACES[j][0] and abs(PLACES[i][1] - PLACES[j][1]) <= WINDOW


N = len(PLACES)
WINDOWS = np.array([[joined(i, j) for j in range(N)] for i in range(N)], dtype=float)
NEAR = neighbours(make_layout(LENGTHS), WINDOW, WINDOW)


def states(width: int = 4) -> Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def net(toy: Toy, **options: Any) -> tuple[SDRGNN, Batch]:
    bundle = toy(dims=DIMS[3])
    method = built(Stage("reference", "sdr_gnn", network=tuple(options.items())), bundle)
    assert isinstance(method.backbone, SDRGNN)
    return method.backbone.eval(), batch_of(bundle)


def test_hyperedges_are_the_product_of_incidence_and_degree_matrices() -> None:
    incidence = WINDOWS.T  # of an utterance in the window around each
    edges, nodes = np.diag(1 / incidence.sum(axis=0)), np.diag(1 / incidence.sum(axis=1))
    expected = nodes @ incidence @ edges @ incidence.T @ states().numpy()
    np.testing.assert_allclose(hyperedges(states(), NEAR).numpy(), expected, rtol=1e-6)


def test_signed_messages_by_a_loop() -> None:
    torch.manual_seed(0)
    graph = Graph(3, SDRGNNConfig(hidden=4)).double()
    found, x = graph.signed(states(), NEAR).detach().numpy(), states().numpy()
    weight = np.concatenate(
        [graph.mine.weight.detach().numpy()[0], graph.theirs.weight.detach().numpy()[0]]
    )
    bias, degree = graph.mine.bias.item(), WINDOWS.sum(axis=1)
    for i in range(N):
        expected = x[i].copy()
        for j in np.flatnonzero(WINDOWS[i]):
            gate = np.tanh(weight @ np.concatenate([x[i], x[j]]) + bias)
            expected += gate * x[j] / np.sqrt(degree[i] * degree[j])
        np.testing.assert_allclose(found[i], expected)


def test_without_reconstruction_there_is_no_attention_and_with_it_it_learns(toy: Toy) -> None:
    plain, _ = net(toy)
    assert plain.rebuild is None and not plain.needs_complete
    full, batch = net(toy, reconstruct=0.5)
    assert full.needs_complete
    fused = full(batch, batch.features)
    fused.logits.sum().backward(retain_graph=True)
    assert full.rebuild is not None
    assert all(p.grad is None for p in full.rebuild.parameters())  # the prediction is before it
    loss = full.extra_loss(batch, fused)
    assert loss is not None
    loss.backward()
    trained = [p.grad for p in full.rebuild.parameters()]
    assert all(g is not None for g in trained)


def test_the_reconstruction_is_asked_for_missing_entries_of_known_truth(toy: Toy) -> None:
    full, batch = net(toy, reconstruct=0.2)
    assert batch.complete is not None and full.rebuild is not None
    first = int((~batch.observed[:, 1]).nonzero()[0])
    batch.complete["text"][first] = torch.nan  # the data lack it
    fused = full(batch, batch.features)
    made = full.rebuild(fused.hidden, batch.layout).detach().numpy()
    total, count, start = 0.0, 0, 0
    for number, m in enumerate(sorted(batch.complete)):
        truth = batch.complete[m].numpy()
        for row in range(len(batch)):
            if not batch.observed[row, number] and np.isfinite(truth[row]).all():
                gap = made[row, start : start + truth.shape[1]] - truth[row]
                total, count = total + float((gap**2).mean()), count + 1
        start += truth.shape[1]
    found = full.extra_loss(batch, fused)
    assert found is not None
    assert found.item() == pytest.approx(0.25 * total / count, rel=1e-4)  # w / (1 - w)

    other = dict(batch.complete)
    other["audio"] = torch.where(batch.observed[:, :1], 99.0, other["audio"])
    again = full.extra_loss(dataclasses.replace(batch, complete=other), fused)
    assert again is not None and again.item() == found.item()
    everything = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    nothing = full.extra_loss(everything, fused)
    assert nothing is not None and nothing.item() == 0
    assert full.extra_loss(dataclasses.replace(batch, complete=None), fused) is None


@pytest.mark.parametrize("attends", ["time", "dialogues"])
def test_the_reconstruction_attends_over_time_or_as_released_over_dialogues(
    attends: str, toy: Toy
) -> None:
    full, _ = net(toy, reconstruct=0.5, attends=attends)
    assert full.rebuild is not None
    hidden = torch.randn(N, 64, requires_grad=True)
    made = full.rebuild(hidden, make_layout(LENGTHS))
    at = PLACES.index((2, 0))  # the first utterance of the last dialogue
    (slope,) = torch.autograd.grad(made[at].sum(), hidden)
    reached = {PLACES[i] for i in range(N) if slope[i].any()}
    over_time = {(2, t) for t in range(LENGTHS[2])}
    assert reached == (over_time if attends == "time" else {(d, 0) for d in range(3)})


def test_speakers_have_a_part_through_their_own_graph(toy: Toy) -> None:
    plain, batch = net(toy)
    other = dataclasses.replace(batch, speaker=1 - batch.speaker)
    before, after = (plain(b, batch.features).hidden for b in (batch, other))
    assert not torch.allclose(before, after)
    torch.nn.init.zeros_(plain.speaker.relational.weight)
    before, after = (plain(b, batch.features).hidden for b in (batch, other))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize(
    "options",
    [{"hidden": 6}, {"window": -1}, {"dropout": 1}, {"reconstruct": 1}, {"attends": "all"}],
    ids=str,
)
def test_options_that_make_no_sense_raise(options: dict[str, Any], toy: Toy) -> None:
    with pytest.raises(InputError):
        net(toy, **options)
