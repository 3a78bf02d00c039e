"""GCNII and its gate against LSTM cells and layers written out in NumPy; test_mmgcn.py checks the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor

from mmlib.nn.batch import Layout, make_layout
from mmlib.nn.graph import GCNII, graph_edges, propagate

LENGTHS = (3, 5, 1, 4)
N, MODALITIES, INPUTS, WIDTH = sum(LENGTHS), 3, 7, 6


def gcnii(
    gated: bool, layers: int = 4, alpha: float = 0.2, dropout: float = 0.0, seed: int = 0
) -> GCNII:
    torch.manual_seed(seed)
    return GCNII(INPUTS, WIDTH, layers, dropout, alpha, 0.5, gated).double()


@pytest.fixture()
def nodes() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(N, MODALITIES, INPUTS)))


@pytest.fixture()
def layout() -> Layout:
    return make_layout(LENGTHS)


def dense(nodes: Tensor, layout: Layout) -> np.ndarray:
    """The normalised adjacency, (M n, M n), a column for each unit state that is passed on."""
    edges = graph_edges(nodes, layout)
    units = torch.eye(N * MODALITIES, dtype=torch.float64).view(-1, N, MODALITIES, 1)
    return np.stack([propagate(edges, unit, layout).flatten().numpy() for unit in units], axis=1)


def by_hand(model: GCNII, nodes: Tensor, layout: Layout) -> np.ndarray:
    """Ledger 6.3 layer by layer, the gate's cell written out (Hochreiter and Schmidhuber, 1997)."""
    w = {k: p.detach().numpy() for k, p in model.named_parameters()}
    adjacency = dense(nodes, layout)
    first = np.maximum(nodes.flatten(0, 1).numpy() @ w["enter.weight"].T + w["enter.bias"], 0)
    state, h, c = first, np.zeros_like(first), np.zeros_like(first)
    for depth in range(1, len(model.weights) + 1):
        if "gate.weight_ih" in w:
            gates = (
                state @ w["gate.weight_ih"].T
                + w["gate.bias_ih"]
                + h @ w["gate.weight_hh"].T
                + w["gate.bias_hh"]
            )
            enter, forget, new, leave = np.split(gates, 4, axis=1)
            c = expit(forget) * c + expit(enter) * np.tanh(new)
            h = expit(leave) * np.tanh(c)
            state = h
        theta = math.log(model.lam / depth + 1)
        message = adjacency @ state
        mixed = (1 - model.alpha) * message + model.alpha * first
        made = np.maximum(
            theta * np.hstack([message, first]) @ w[f"weights.{depth - 1}"] + (1 - theta) * mixed, 0
        )
        state = made + state if "gate.weight_ih" in w else made
    return state.reshape(N, MODALITIES, WIDTH)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("layers, alpha", [(1, 0.2), (2, 0.2), (16, 0.2), (5, 0.7)])
def test_layers_and_their_gate_equal_the_formulas_in_numpy(
    nodes: Tensor, layout: Layout, gated: bool, layers: int, alpha: float
) -> None:
    model = gcnii(gated, layers, alpha)
    found = model(nodes, graph_edges(nodes, layout), layout).detach().numpy()
    np.testing.assert_allclose(found, by_hand(model, nodes, layout), atol=1e-12, rtol=0)


def test_edges_stay_within_a_dialogue_and_modality_or_within_an_utterance(
    nodes: Tensor, layout: Layout
) -> None:
    adjacency, home = dense(nodes, layout), layout.dialogue.numpy()
    row, modality = np.divmod(np.arange(N * MODALITIES), MODALITIES)
    same_modality = modality[:, None] == modality
    same_dialogue, same_utterance = home[row][:, None] == home[row], row[:, None] == row
    np.testing.assert_array_equal(adjacency > 0, (same_modality & same_dialogue) | same_utterance)
    np.testing.assert_allclose(adjacency, adjacency.T, atol=1e-15, rtol=0)


def test_the_gate_is_one_cell_for_all_layers_and_absent_where_it_is_off() -> None:
    sizes = {
        (gated, layers): sum(p.numel() for p in gcnii(gated, layers).parameters())
        for gated in (True, False)
        for layers in (2, 9)
    }
    cell = 4 * WIDTH * (2 * WIDTH + 2)
    assert sizes[True, 2] - sizes[False, 2] == sizes[True, 9] - sizes[False, 9] == cell
    assert not any(isinstance(part, torch.nn.LSTMCell) for part in gcnii(False).modules())


def test_the_gate_learns_and_its_gradient_is_that_of_finite_differences(
    nodes: Tensor, layout: Layout
) -> None:
    model, edges = gcnii(True, layers=3), graph_edges(nodes, layout)
    assert model.gate is not None
    mix = torch.from_numpy(np.random.default_rng(1).normal(size=(N, MODALITIES, WIDTH)))
    (model(nodes, edges, layout) * mix).sum().backward()
    for parameter in model.gate.parameters():
        assert parameter.grad is not None
        place = tuple(np.unravel_index(int(parameter.grad.abs().argmax()), parameter.shape))
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter[place] += step
                values.append(float((model(nodes, edges, layout) * mix).sum()))
        with torch.no_grad():
            parameter[place] += 1e-6
        slope = float(parameter.grad[place])
        assert abs(slope) > 1e-4 and (values[0] - values[1]) / 2e-6 == pytest.approx(
            slope, rel=1e-5
        )


def test_the_gates_memory_does_not_outlive_a_call(nodes: Tensor, layout: Layout) -> None:
    model, edges = gcnii(True), graph_edges(nodes, layout)
    before = model(nodes, edges, layout)
    model(nodes + 1, graph_edges(nodes + 1, layout), layout)
    assert torch.equal(model(nodes, edges, layout), before)


@pytest.mark.parametrize("gated", [True, False])
def test_dropout_acts_in_training_only(nodes: Tensor, layout: Layout, gated: bool) -> None:
    model, edges = gcnii(gated, dropout=0.5), graph_edges(nodes, layout)
    assert not torch.equal(model(nodes, edges, layout), model(nodes, edges, layout))
    model.eval()
    found = model(nodes, edges, layout).detach().numpy()
    np.testing.assert_allclose(found, by_hand(model, nodes, layout), atol=1e-12, rtol=0)
