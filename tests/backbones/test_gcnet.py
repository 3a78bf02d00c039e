"""GCNet against a slow reference: edges in a loop, torch's own bidirectional LSTM dialogue by dialogue, float64."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib import masks
from mmlib.backbones import gcnet
from mmlib.backbones.gcnet import GCNet, GCNetConfig, GraphNetwork
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.fit import fit, train_step
from mmlib.methods import build_method
from mmlib.nn.batch import Batch, Layout, make_layout, to_device
from mmlib.nn.recurrent import DialogueRNN
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
Edge = tuple[int, int]
LENGTHS = (3, 5, 1, 4) * 3
THREE = {"audio": 6, "text": 5, "vision": 4}
LAW = masks.shared(0.4)
WINDOWS = [(2, 2), (1, 3), (0, 0), (3, 0)]
BOTH = pytest.mark.parametrize("encoder", ["columns", "linear"])


def network(
    dims: Mapping[str, int] = THREE, speakers: int = 2, seed: int = 0, **options: Any
) -> GCNet:
    torch.manual_seed(seed)
    return GCNet(dims, 3, speakers, GCNetConfig(**{"hidden": 4, "dropout": 0.0, **options}))


def whole(
    bundle: Bundle,
    split: str = "train",
    law: masks.Law = LAW,
    dialogues: Sequence[int] | None = None,
    complete: bool = False,
) -> Batch:
    resident = to_device(bundle, split, masks.draw(law, bundle, split, 0), "cpu", complete)
    return resident.batch(np.arange(resident.dialogues) if dialogues is None else dialogues)


def double(batch: Batch) -> Batch:
    return dataclasses.replace(batch, features={m: x.double() for m, x in batch.features.items()})


def lengths_of(layout: Layout) -> list[int]:
    return np.bincount(layout.dialogue.numpy()).tolist()


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


# The reference.


def edges(lengths: Sequence[int], past: int, future: int) -> list[Edge]:
    """(j, i) for all i from j - past to j + future, dialogue by dialogue."""
    found, start = [], 0
    for length in lengths:
        for j in range(length):
            found += [(start + j, start + i) for i in range(length) if j - past <= i <= j + future]
        start += length
    return found


def time_kind(edge: Edge) -> int:
    return ("past", "now", "future").index(
        "now" if edge[0] == edge[1] else "past" if edge[1] < edge[0] else "future"
    )


def speaker_kind(edge: Edge, speaker: Sequence[int], speakers: int) -> int:
    pair = speaker[edge[0]], speaker[edge[1]]
    if speakers < 4:
        return list(itertools.product(range(speakers), repeat=2)).index(pair)
    return int(pair[0] != pair[1])


def relational_by_hand(
    graph: GraphNetwork, nodes: np.ndarray, kinds: Mapping[Edge, int]
) -> np.ndarray:
    weight = array(graph.relational.weight)  # (inputs, R, width)
    rows = []
    for j, node in enumerate(nodes):
        row = array(graph.relational.root.weight) @ node + array(graph.relational.root.bias)
        for r in range(weight.shape[1]):
            near = [
                nodes[i] @ weight[:, r] for (to, i), kind in kinds.items() if to == j and kind == r
            ]
            row = row + (np.mean(near, axis=0) if near else 0)
        rows.append(row)
    return np.stack(rows)


def convolve_by_hand(
    graph: GraphNetwork, nodes: np.ndarray, kinds: Mapping[Edge, int]
) -> np.ndarray:
    states = relational_by_hand(graph, nodes, kinds)
    out = states @ array(graph.root.weight).T + array(graph.root.bias)
    for j, i in kinds:
        out[j] += array(graph.message.weight) @ states[i]
    return out


def bilstm(rnn: DialogueRNN, x: np.ndarray) -> np.ndarray:
    """torch's two-layer bidirectional LSTM with the same weights, over one sequence (T, d)."""
    parts = {"": rnn.ahead, "_reverse": rnn.back}
    weights = {
        name.replace("l0", f"l{depth}") + suffix: values
        for suffix, layers in parts.items()
        for depth, layer in enumerate(layers)
        for name, values in layer.named_parameters()
    }
    one = nn.LSTM(
        x.shape[1], weights["weight_hh_l0"].shape[1], len(rnn.ahead), bidirectional=True
    ).double()
    one.load_state_dict(weights)
    return array(one(torch.from_numpy(x))[0])


def over_dialogues(
    rnn: DialogueRNN, x: np.ndarray, lengths: Sequence[int], filler: np.ndarray | None
) -> np.ndarray:
    """The BiLSTM dialogue by dialogue; each is first filled up to the longest one where there is a filler (d,)."""
    rows = []
    for own in np.split(x, np.cumsum(lengths)[:-1]):
        size = len(own)
        if filler is not None:
            own = np.concatenate([own, np.tile(filler, (max(lengths) - size, 1))])
        rows.append(bilstm(rnn, own)[:size])
    return np.concatenate(rows)


def by_hand(model: GCNet, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Ledger 6.2, row by row: hidden and logits."""
    config, names, lengths = model.config, sorted(batch.features), lengths_of(batch.layout)
    parts, blank = (
        [array(batch.features[m]) for m in names],
        [np.zeros(batch.features[m].shape[1]) for m in names],
    )
    if config.encoder == "linear":
        layers = [[array(p) for p in model.encoders[m].parameters()] for m in names]
        parts = [x @ w.T + b for x, (w, b) in zip(parts, layers, strict=True)]
        blank = [w @ x + b for x, (w, b) in zip(blank, layers, strict=True)]
    filler = None if config.packed else np.concatenate(blank)
    nodes = over_dialogues(model.sequence, np.concatenate(parts, axis=1), lengths, filler)
    speaker, hidden = batch.speaker.tolist(), np.zeros(())
    pairs = edges(lengths, config.window_past, config.window_future)
    for graph, kinds in (
        (model.temporal, {e: time_kind(e) for e in pairs}),
        (model.speaker, {e: speaker_kind(e, speaker, model.speakers) for e in pairs}),
    ):
        states = np.concatenate([nodes, convolve_by_hand(graph, nodes, kinds)], axis=1)
        read = over_dialogues(
            graph.sequence, states, lengths, None if config.packed else np.zeros(states.shape[1])
        )
        hidden = hidden + np.maximum(read @ array(graph.last.weight).T + array(graph.last.bias), 0)
    return hidden, hidden @ array(model.prediction.weight).T + array(model.prediction.bias)


def compare(model: GCNet, batch: Batch) -> None:
    """In double precision, then in single."""
    hidden, logits = by_hand(model.double(), double(batch))
    for kind, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        model = model.to(kind)
        fused = model(batch, {m: x.to(kind) for m, x in batch.features.items()})
        np.testing.assert_allclose(array(fused.hidden), hidden, atol=tolerance)
        np.testing.assert_allclose(array(fused.logits), logits, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "linear"},
        {"window_past": 1, "window_future": 3},
        {"hidden": 2},
        {"window_past": 0, "window_future": 0},
        {"packed": False},
        {"packed": False, "encoder": "linear"},
        {"reconstruct": 1.0},
    ],
    ids=str,
)
def test_equals_the_slow_network_in_double_and_single_precision(
    toy: Toy, options: dict[str, Any]
) -> None:
    compare(network(**options), whole(toy(LENGTHS)))


@pytest.mark.parametrize("speakers", [1, 2, 3, 4, 9])
def test_equals_the_slow_network_for_any_number_of_speakers(toy: Toy, speakers: int) -> None:
    model = network(speakers=speakers)
    assert model.speaker.relational.relations == {1: 1, 2: 4, 3: 9}.get(speakers, 2)
    compare(model, whole(toy(LENGTHS, speakers=speakers)))


@BOTH
@pytest.mark.parametrize(
    "dims",
    [
        {"x": 2, "a-b": 3},
        {"zeta": 3, "alpha": 6, "Mid": 1},
        {"audio": 6, "gaze": 3, "text": 5, "vision": 4},
    ],
    ids=len,
)
def test_takes_two_three_and_four_modalities_of_any_name(
    toy: Toy, dims: dict[str, int], encoder: str
) -> None:
    bundle = toy(LENGTHS, dims)
    model, batch = network(dims, encoder=encoder), whole(bundle)
    compare(model, batch)
    fused = model(batch, batch.features)
    assert list(fused.z) == sorted(dims) and {z.shape for z in fused.z.values()} == {
        (len(batch), 8)
    }


def test_equals_the_slow_network_for_one_utterance_alone(toy: Toy) -> None:
    compare(network(speakers=1), whole(toy((1, 1, 1, 1) * 3, speakers=1), dialogues=[0]))


# The graph layers.


def graph_case(lengths: Sequence[int], window: tuple[int, int], speakers: int) -> Any:
    """For each graph: the network in double precision, nodes, what it is given, and the edges' kinds by hand."""
    torch.manual_seed(1)
    near = gcnet.neighbours(make_layout(lengths), *window)
    nodes = torch.randn(sum(lengths), 8, dtype=torch.float64)
    speaker = torch.randint(speakers, (sum(lengths),))
    pairs, known = edges(lengths, *window), speaker.tolist()
    for count, relation, kinds in (
        (3, gcnet.time_relation(near), {e: time_kind(e) for e in pairs}),
        (
            min(speakers**2, 9) if speakers < 4 else 2,
            gcnet.speaker_relation(near, speaker, speakers),
            {e: speaker_kind(e, known, speakers) for e in pairs},
        ),
    ):
        graph = GraphNetwork(count, GCNetConfig(hidden=4)).double()
        nn.init.normal_(graph.relational.root.bias)
        yield graph, nodes, near, relation, kinds


@pytest.mark.parametrize("speakers", [1, 2, 4])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_both_convolutions_equal_a_loop_over_edges(window: tuple[int, int], speakers: int) -> None:
    for graph, nodes, near, relation, kinds in graph_case((4, 1, 6, 2), window, speakers):
        np.testing.assert_allclose(
            array(graph.relational(nodes, near, relation)),
            relational_by_hand(graph, nodes.numpy(), kinds),
            atol=1e-13,
        )
        np.testing.assert_allclose(
            array(graph.convolve(nodes, near, relation)),
            convolve_by_hand(graph, nodes.numpy(), kinds),
            atol=1e-13,
        )


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_an_utterance_is_heard_within_the_window_of_its_dialogue_and_nowhere_else(
    window: tuple[int, int],
) -> None:
    lengths = (4, 1, 8, 2)
    pairs = set(edges(lengths, *window))
    for graph, nodes, near, relation, _ in graph_case(lengths, window, 2):
        once, twice = graph.relational(nodes, near, relation), graph.convolve(nodes, near, relation)
        for moved in range(len(nodes)):
            other = nodes.clone()
            other[moved] += 1
            one = {j for j in range(len(nodes)) if (j, moved) in pairs}
            two = {k for k, j in pairs if j in one}
            for before, after, reached in (
                (once, graph.relational(other, near, relation), one),
                (twice, graph.convolve(other, near, relation), two),
            ):
                assert set((before != after).any(dim=1).nonzero().flatten().tolist()) == reached


def test_the_layout_of_copies_is_that_of_as_many_dialogues() -> None:
    lengths = (3, 5, 1, 4)
    found, expected = gcnet.repeated(make_layout(lengths), 3), make_layout(lengths * 3)
    assert (found.dialogues, found.steps) == (expected.dialogues, expected.steps)
    for name in ("dialogue", "slot", "turn"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


# Dialogues and padding.


@BOTH
def test_permuting_the_dialogues_of_a_batch_permutes_the_outputs(toy: Toy, encoder: str) -> None:
    bundle, order = toy((3, 5, 7, 4, 6, 1, 2, 4)), [2, 0, 3, 1]
    model = network(encoder=encoder)
    straight, turned = whole(bundle), whole(bundle, dialogues=order)
    rows = np.concatenate([np.flatnonzero(straight.layout.dialogue.numpy() == d) for d in order])
    outputs, moved = model(straight, straight.features), model(turned, turned.features)
    torch.testing.assert_close(moved.logits, outputs.logits[rows], atol=1e-6, rtol=0)
    for m in THREE:
        torch.testing.assert_close(moved.z[m], outputs.z[m][rows], atol=1e-6, rtol=0)


@pytest.mark.parametrize("packed", [True, False])
def test_only_without_packing_more_padding_changes_the_output(toy: Toy, packed: bool) -> None:
    batch, model = whole(toy(LENGTHS)), network(packed=packed)
    old = batch.layout
    time = old.slot - old.dialogue * old.steps
    longer = dataclasses.replace(
        old, steps=old.steps + 7, slot=old.dialogue * (old.steps + 7) + time
    )
    short, wide = (
        model(dataclasses.replace(batch, layout=x), batch.features) for x in (old, longer)
    )
    for change in (short.logits - wide.logits, short.z["text"] - wide.z["text"]):
        assert (change.abs().max() < 1e-6) == packed


def alone_against_batch(model: GCNet, bundle: Bundle) -> dict[int, float]:
    """Length of each training dialogue to the largest change of its logits and z by company."""
    batch = whole(bundle)
    together, changes = model(batch, batch.features), {}
    for number, length in enumerate(lengths_of(batch.layout)):
        single, own = whole(bundle, dialogues=[number]), batch.layout.dialogue == number
        alone = model(single, single.features)
        pairs = [
            (together.logits[own], alone.logits),
            *((together.z[m][own], alone.z[m]) for m in THREE),
        ]
        changes[length] = max(float((a - b).detach().abs().max()) for a, b in pairs)
    return changes


@BOTH
def test_a_dialogue_alone_equals_the_same_dialogue_beside_longer_ones(
    toy: Toy, encoder: str
) -> None:
    changes = alone_against_batch(network(encoder=encoder), toy((3, 5, 12, 4, 6, 1, 1, 4)))
    assert sorted(changes) == [1, 3, 6, 12] and max(changes.values()) < 1e-5


@BOTH
def test_without_packing_shorter_dialogues_depend_on_their_batch_and_the_longest_does_not(
    toy: Toy, encoder: str
) -> None:
    changes = alone_against_batch(
        network(encoder=encoder, packed=False), toy((3, 5, 12, 4, 6, 1, 1, 4))
    )
    assert min(changes[length] for length in (1, 3, 6)) > 1e-4 and changes[12] < 1e-5


# Missing modalities.


@BOTH
@pytest.mark.parametrize("law", [masks.shared(0.5), masks.subset(["text"])], ids=str)
def test_features_that_a_mask_hides_change_nothing(toy: Toy, law: masks.Law, encoder: str) -> None:
    bundle, model = toy(LENGTHS), network(encoder=encoder)
    mask = masks.draw(law, bundle, "test", 0)
    features = {m: x.copy() for m, x in bundle.features.items()}
    rows = bundle.rows("test")
    for index, modality in enumerate(bundle.modalities):
        features[modality][rows[~mask.utterance[:, index]]] = np.nan
    other = dataclasses.replace(bundle, features=features)
    one, two = (to_device(b, "test", mask, "cpu").batch([0, 2, 1]) for b in (bundle, other))
    quiet, loud = model(one, one.features), model(two, two.features)
    assert torch.isfinite(loud.logits).all() and torch.equal(quiet.logits, loud.logits)
    assert all(torch.equal(quiet.z[m], loud.z[m]) for m in THREE)


def test_features_missing_by_nature_never_reach_the_output(toy: Toy) -> None:
    bundle = toy(LENGTHS, lacking=0.4)
    assert np.isnan(bundle.features["audio"]).any()
    loud = dataclasses.replace(
        bundle, features={m: np.nan_to_num(x, nan=1e9) for m, x in bundle.features.items()}
    )
    model, quiet, noisy = network(), whole(bundle), whole(loud)
    logits = model(quiet, quiet.features).logits
    assert torch.isfinite(logits).all() and torch.equal(logits, model(noisy, noisy.features).logits)


# Construction (i): columns.


def after_backward(model: Any, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    F.cross_entropy(model(batch, batch.features).logits, batch.labels).backward()
    return {k: p.grad.clone() for k, p in model.named_parameters()}


FIRST = ("sequence.ahead.0.weight_ih_l0", "sequence.back.0.weight_ih_l0")
BLOCKS = {"audio": slice(0, 6), "text": slice(6, 11), "vision": slice(11, 15)}


def test_encoder_gradients_are_the_columns_of_the_first_input_weights(toy: Toy) -> None:
    model, batch = network(), whole(toy(LENGTHS))
    assert [model.encoder_gradients(m) for m in THREE] == [[], [], []]
    gradients = after_backward(model, batch)
    for modality, block in BLOCKS.items():
        found = model.encoder_gradients(modality)
        assert len(found) == 2 and all((g != 0).any() for g in found)
        assert all(
            torch.equal(g, gradients[name][:, block]) for g, name in zip(found, FIRST, strict=True)
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda g: torch._foreach_mul_(g, torch.tensor(3.0)),
        lambda g: [x.mul_(3.0) for x in g],
        lambda g: [x.add_(2 * x) for x in g],
    ],
)
def test_changing_encoder_gradients_in_place_changes_their_columns_and_nothing_else(
    toy: Toy, change: Callable[[list[Tensor]], Any]
) -> None:
    model, batch = network(), whole(toy(LENGTHS))
    before = after_backward(model, batch)
    change(model.encoder_gradients("text"))
    for name, parameter in model.named_parameters():
        expected = before[name].clone()
        if name in FIRST:
            expected[:, 6:11] = 3 * expected[:, 6:11]
        torch.testing.assert_close(parameter.grad, expected)
    assert all((before[name][:, 6:11] != 0).any() for name in FIRST)


def test_gradients_of_the_columns_equal_finite_differences(toy: Toy) -> None:
    model, batch = network().double(), double(whole(toy(LENGTHS)))
    after_backward(model, batch)

    def loss() -> float:
        with torch.no_grad():
            return float(F.cross_entropy(model(batch, batch.features).logits, batch.labels))

    for modality, block in BLOCKS.items():
        for gradient, name in zip(model.encoder_gradients(modality), FIRST, strict=True):
            way, columns, values = (
                torch.randn_like(gradient),
                model.get_parameter(name).data[:, block],
                [],
            )
            for step in (1e-5, -2e-5):
                columns.add_(way, alpha=step)
                values.append(loss())
            columns.add_(way, alpha=1e-5)
            assert float((gradient * way).sum()) == pytest.approx(
                (values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-9
            )


def test_a_modality_that_no_utterance_of_the_batch_has_gets_no_gradient(toy: Toy) -> None:
    model = network()
    after_backward(model, whole(toy(LENGTHS), law=masks.subset(["audio", "vision"])))
    sizes = {m: max(float(g.abs().max()) for g in model.encoder_gradients(m)) for m in THREE}
    assert sizes["text"] == 0 and sizes["audio"] > 0 and sizes["vision"] > 0


@pytest.mark.parametrize("packed", [True, False])
def test_z_is_the_bilstm_with_the_other_modalities_columns_zeroed(toy: Toy, packed: bool) -> None:
    model, batch = network(packed=packed).double(), double(whole(toy(LENGTHS)))
    z = model(batch, batch.features).z
    inputs = np.concatenate([array(batch.features[m]) for m in sorted(THREE)], axis=1)
    for modality, block in BLOCKS.items():
        only = np.zeros_like(inputs)
        only[:, block] = inputs[:, block]
        expected = over_dialogues(
            model.sequence, only, lengths_of(batch.layout), None if packed else np.zeros(15)
        )
        np.testing.assert_allclose(array(z[modality]), expected, atol=1e-12)
        assert (
            z[modality].shape == (len(batch), model.embedding_dim) and not z[modality].requires_grad
        )


def test_z_is_made_when_asked_for_in_one_pass_and_leaves_the_gradients_as_they_are(
    toy: Toy,
) -> None:
    model, batch = network(), whole(toy(LENGTHS))
    calls: list[int] = []
    model.sequence.register_forward_hook(lambda module, given, made: calls.append(len(made)))
    alone = after_backward(model, batch)
    assert calls == [len(batch)]
    model.zero_grad()
    fused = model(batch, batch.features)
    assert {*fused.z} == {*THREE} and len(fused.z) == 3 and calls == [len(batch)] * 2
    for m in THREE:
        fused.z[m].detach()
    assert calls == [len(batch)] * 2 + [3 * len(batch)]
    F.cross_entropy(fused.logits, batch.labels).backward()
    assert all(
        torch.equal(p.grad, alone[k]) for k, p in model.named_parameters() if p.grad is not None
    )


# Construction (ii): linear.


def test_linear_encoders_are_theta_phi_and_their_output_is_z(toy: Toy) -> None:
    model, batch = network(encoder="linear"), whole(toy(LENGTHS))
    z = model(batch, batch.features).z
    gradients = after_backward(model, batch)
    for index, modality in enumerate(sorted(THREE)):
        weight, bias = (array(p) for p in model.encoders[modality].parameters())
        np.testing.assert_allclose(
            array(z[modality]), array(batch.features[modality]) @ weight.T + bias, atol=1e-6
        )
        absent = array(z[modality])[~batch.observed.numpy()[:, index]]
        assert len(absent) and (absent == bias).all()
        assert z[modality].requires_grad
        found = model.encoder_gradients(modality)
        names = [f"encoders.{modality}.weight", f"encoders.{modality}.bias"]
        assert all(torch.equal(g, gradients[name]) for g, name in zip(found, names, strict=True))


# Sizes, dropout, configuration.


def test_sizes_are_those_of_the_ledger() -> None:
    dims = {"audio": 1582, "text": 1024, "vision": 342}
    model = GCNet(dims, 6, 2, GCNetConfig())
    shapes = {k: tuple(p.shape) for k, p in model.named_parameters()}
    assert (
        shapes["prediction.weight"] == (6, 500)
        and model.embedding_dim == 400
        and not model.encoders
    )
    assert not any("reconstruction" in k for k in shapes) and not model.needs_complete
    assert shapes[FIRST[0]] == shapes[FIRST[1]] == (800, sum(dims.values()))
    for prefix in ("", "temporal.", "speaker."):
        assert (
            sum(k.startswith(f"{prefix}sequence.") and k.endswith("weight_hh_l0") for k in shapes)
            == 4
        )
    for graph, relations in (("temporal", 3), ("speaker", 4)):
        assert shapes[f"{graph}.relational.weight"] == (400, relations, 100)
        assert shapes[f"{graph}.root.weight"] == shapes[f"{graph}.message.weight"] == (100, 100)
        assert shapes[f"{graph}.sequence.ahead.0.weight_ih_l0"] == (2000, 500)
        assert (
            shapes[f"{graph}.last.weight"] == (500, 1000) and f"{graph}.message.bias" not in shapes
        )
    linear = GCNet(dims, 6, 9, GCNetConfig(encoder="linear", reconstruct=1.0))
    for modality, dim in dims.items():
        assert tuple(linear.get_parameter(f"encoders.{modality}.weight").shape) == (400, dim)
    assert linear.sequence.ahead[0].input_size == 1200 and linear.speaker.relational.relations == 2
    assert tuple(linear.get_parameter("reconstruction.weight").shape) == (sum(dims.values()), 500)


def test_relational_weights_start_as_glorot_has_them() -> None:
    graph, bound = network(hidden=40).temporal.relational, (6 / (80 + 20)) ** 0.5
    for weight in (graph.root.weight, *graph.weight.unbind(1)):
        assert 0.98 * bound < weight.abs().max() <= bound
    assert (graph.root.bias == 0).all()


def on_meta(batch: Batch) -> Batch:
    """The batch without its values."""
    features = {m: x.to("meta") for m, x in batch.features.items()}
    old = batch.layout
    layout = Layout(
        old.dialogues, old.steps, old.dialogue.to("meta"), old.slot.to("meta"), old.turn.to("meta")
    )
    observed, labels, speaker = (
        x.to("meta") for x in (batch.observed, batch.labels, batch.speaker)
    )
    return Batch(features, observed, labels, speaker, layout, features)


@BOTH
def test_nothing_in_a_step_waits_for_the_device(toy: Toy, encoder: str) -> None:
    batch, model = (
        on_meta(whole(toy(LENGTHS))),
        network(reconstruct=1.0, encoder=encoder, dropout=0.1).to("meta"),
    )
    fused = model(batch, batch.features)  # tensors without values raise when the host asks for one
    F.cross_entropy(fused.logits, batch.labels).add(loss_of(model, batch)).backward()
    assert fused.z["text"].shape == (len(batch), 8) and len(model.encoder_gradients("text")) == 2


def test_dropout_acts_in_training_and_not_in_evaluation(toy: Toy) -> None:
    model, batch = network(dropout=0.5), whole(toy(LENGTHS))
    one, two = model(batch, batch.features), model(batch, batch.features)
    assert not torch.equal(one.logits, two.logits) and not torch.equal(one.z["text"], two.z["text"])
    quiet = model.eval()(batch, batch.features)
    plain = network()(batch, batch.features)
    assert torch.equal(quiet.logits, plain.logits) and torch.equal(quiet.z["text"], plain.z["text"])


@pytest.mark.parametrize(
    "bad",
    [
        {"encoder": "column"},
        {"hidden": 7},
        {"hidden": 0},
        {"hidden": -2},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"window_past": -1},
        {"window_future": -1},
        {"reconstruct": -1.0},
        {"reconstruct": float("nan")},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_raises_and_names_the_field(
    bad: dict[str, Any],
) -> None:
    with pytest.raises(InputError, match=f"gcnet {next(iter(bad))}"):
        GCNetConfig(**bad)


# Reconstruction.


def missing_entries(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Complete features side by side, (n, 15), and which of them are hidden."""
    assert batch.complete is not None
    names = sorted(THREE)
    truth = np.concatenate([batch.complete[m].numpy() for m in names], axis=1)
    hidden = np.concatenate(
        [np.repeat(~batch.observed.numpy()[:, [k]], THREE[m], axis=1) for k, m in enumerate(names)],
        axis=1,
    )
    return truth, hidden


def loss_of(model: GCNet, batch: Batch) -> Tensor:
    loss = model.extra_loss(batch, model(batch, batch.features))
    assert loss is not None
    return loss


def test_reconstruction_is_the_mean_squared_error_of_what_is_missing(toy: Toy) -> None:
    model, batch = network(reconstruct=0.7), whole(toy(LENGTHS), complete=True)
    assert model.needs_complete and model.reconstruction is not None
    truth, hidden = missing_entries(batch)
    made = array(model(batch, batch.features).hidden) @ array(model.reconstruction.weight).T
    error = (made + array(model.reconstruction.bias) - truth)[hidden]
    assert 0 < hidden.mean() < 1
    assert loss_of(model, batch).item() == pytest.approx(0.7 * np.mean(error**2), rel=1e-5)


def test_reconstruction_ignores_the_truth_of_observed_parts(toy: Toy) -> None:
    model, batch = network(reconstruct=1.0), whole(toy(LENGTHS), complete=True)
    seen = dict(zip(sorted(THREE), batch.observed.T[..., None], strict=True))

    def shifted(where: Mapping[str, Tensor]) -> Batch:
        assert batch.complete is not None
        return dataclasses.replace(
            batch, complete={m: x + 5.0 * where[m] for m, x in batch.complete.items()}
        )

    assert torch.equal(loss_of(model, batch), loss_of(model, shifted(seen)))
    assert not torch.equal(
        loss_of(model, batch), loss_of(model, shifted({m: ~s for m, s in seen.items()}))
    )


def test_reconstruction_leaves_out_what_was_never_measured(toy: Toy) -> None:
    model, batch = network(reconstruct=1.0), whole(toy(LENGTHS, lacking=0.3), complete=True)
    truth, hidden = missing_entries(batch)
    measured = hidden & np.isfinite(truth)
    assert 0 < measured.sum() < hidden.sum()
    assert model.reconstruction is not None
    made = array(model.reconstruction(model(batch, batch.features).hidden))
    loss = loss_of(model, batch)
    assert loss.item() == pytest.approx(np.mean((made - truth)[measured] ** 2), rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert (
        model.reconstruction.weight.grad is not None
        and (model.reconstruction.weight.grad != 0).any()
    )


def test_reconstruction_is_zero_when_nothing_is_missing(toy: Toy) -> None:
    model, batch = (
        network(reconstruct=1.0),
        whole(toy(LENGTHS), law=masks.complete(), complete=True),
    )
    loss = loss_of(model, batch)
    loss.backward()
    assert loss.item() == 0 and all(
        (p.grad == 0).all() for p in model.parameters() if p.grad is not None
    )


def test_reconstruction_is_off_by_default_and_without_complete_features(toy: Toy) -> None:
    bundle = toy(LENGTHS)
    for model, complete in ((network(), True), (network(reconstruct=1.0), False)):
        batch = whole(bundle, complete=complete)
        assert model.extra_loss(batch, model(batch, batch.features)) is None
    assert network().reconstruction is None


def test_reconstruction_joins_the_training_loss_through_fit(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 4) * 2)
    losses = []
    for weight in (0.0, 2.0):
        method = build_method(
            "plain", "paper", (), network(reconstruct=weight), bundle.task, bundle.dims
        )
        fitted = fit(
            method,
            bundle,
            lambda _: masks.draw(LAW, bundle, "train", 0),
            masks.draw(LAW, bundle, "valid", 0),
            {},
            Training(epochs=2, batch=4, lr=0.001),
            0,
            device=torch.device("cpu"),
        )
        losses.append(fitted.loss)
    assert np.isfinite(losses).all() and (losses[1] > losses[0] + 0.1).all()


# Under BALM.


def balm(bundle: Bundle, variant: str = "paper", **options: Any) -> Any:
    return build_method(
        "balm",
        variant,
        (),
        network(bundle.dims, **{"hidden": 8, **options}),
        bundle.task,
        bundle.dims,
    )


@BOTH
def test_balm_trains_on_it_and_the_loss_falls(toy: Toy, encoder: str) -> None:
    bundle = toy(LENGTHS)
    method = balm(bundle, encoder=encoder, dropout=0.2, hidden=32, seed=3).train()
    batch = whole(bundle)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses, task = [], []
    for _ in range(30):
        losses.append(float(train_step(method, batch, optimizer, clip=1.0)))
        with torch.no_grad():
            task.append(float(F.cross_entropy(method(batch).logits, batch.labels)))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]) and np.mean(task[-5:]) < 0.8 * np.mean(
        task[:5]
    )


def test_balm_scales_each_modalitys_columns_by_its_own_coefficient(toy: Toy) -> None:
    bundle = toy(LENGTHS)
    method, batch = balm(bundle, "d"), whole(bundle)
    method.keep_series = True
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    before = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    method.after_backward()
    mu = method.series()["mu"].tolist()
    assert len(set(mu)) == 3
    for name, parameter in method.named_parameters():
        expected = before[name].clone()
        if name.removeprefix("backbone.") in FIRST:
            for modality, scale in zip(sorted(THREE), mu, strict=True):
                expected[:, BLOCKS[modality]] *= scale
        torch.testing.assert_close(parameter.grad, expected)


@BOTH
def test_balm_adds_the_modulation_losss_gradient_unscaled(toy: Toy, encoder: str) -> None:
    """Eq. 22 in double precision, from the gradients of L_task and of tau L_mod, each by itself."""
    bundle = toy(LENGTHS)
    method, batch = balm(bundle, encoder=encoder).double(), double(whole(bundle))
    method.fcm = None
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    method.after_backward()
    mu = 1.4 * method.share
    fused, last = method(batch), method.backbone.prediction.weight

    def slope(logits: Tensor, weight: Tensor, graph: bool) -> Tensor:
        loss = F.cross_entropy(logits, batch.labels)
        return torch.autograd.grad(loss, weight, create_graph=graph, retain_graph=True)[0].flatten()

    main, own = slope(fused.logits, last, True), []
    for m, head in method.heads.items():
        own.append(slope(head(fused.z[m].detach())[1], head.prediction.weight, False))
    cosines = torch.stack([F.cosine_similarity(x, main, dim=0) for x in own])
    losses = F.cross_entropy(fused.logits, batch.labels), 0.4 * (cosines * mu).abs().sum()
    parameters = dict(method.backbone.named_parameters())
    of_task, of_modulation = (
        torch.autograd.grad(x, list(parameters.values()), retain_graph=True, materialize_grads=True)
        for x in losses
    )
    for name, first, second in zip(parameters, of_task, of_modulation, strict=True):
        scale = torch.ones_like(first)
        for place, m in enumerate(sorted(THREE)):
            if encoder == "columns" and name in FIRST:
                scale[:, BLOCKS[m]] = mu[place]
            elif name.startswith(f"encoders.{m}."):
                scale[:] = mu[place]
        expected = scale * first + second
        torch.testing.assert_close(parameters[name].grad, expected, atol=1e-12, rtol=1e-8, msg=name)
