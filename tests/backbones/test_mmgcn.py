"""MMGCN against a dense reference: one (M n, M n) adjacency, LSTM cells in a loop, float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlib import masks
from mmlib.backbones.mmgcn import MMGCN, MMGCNConfig
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.nn.batch import Batch, to_device

Toy = Callable[..., Bundle]
LENGTHS = (3, 5, 1, 4) * 3
FOUR = {"audio": 6, "gaze": 3, "text": 5, "vision": 4}
LAW = masks.shared(0.4)
Weights = Mapping[str, Tensor]


def network(dims: Mapping[str, int], speakers: int = 2, seed: int = 0, **options: Any) -> MMGCN:
    torch.manual_seed(seed)
    config = MMGCNConfig(**{"hidden": 8, "graph": 6, "layers": 3, "dropout": 0.0, **options})
    return MMGCN(dims, 3, speakers, config)


def whole(
    bundle: Bundle,
    split: str = "train",
    law: masks.Law = LAW,
    dialogues: Sequence[int] | None = None,
) -> Batch:
    resident = to_device(bundle, split, masks.draw(law, bundle, split, 0), "cpu")
    return resident.batch(np.arange(resident.dialogues) if dialogues is None else dialogues)


def double(batch: Batch) -> Batch:
    return dataclasses.replace(batch, features={m: x.double() for m, x in batch.features.items()})


def lstm_pass(x: Tensor, w: Weights, backwards: bool) -> Tensor:
    """One direction of one layer over (T, d), cell by cell (Hochreiter and Schmidhuber, 1997)."""
    width = w["weight_hh_l0"].shape[1]
    h, c = x.new_zeros(width), x.new_zeros(width)
    outputs: list[Tensor] = [h] * len(x)
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        gates = w["weight_ih_l0"] @ x[t] + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
        enter, forget, new, leave = (gates[k * width : (k + 1) * width] for k in range(4))
        c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(new)
        h = torch.sigmoid(leave) * torch.tanh(c)
        outputs[t] = h
    return torch.stack(outputs)


def lstm(x: Tensor, w: Weights) -> Tensor:
    for k in range(2):
        ahead, back = (
            lstm_pass(x, under(w, f"ahead.{k}."), False),
            lstm_pass(x, under(w, f"back.{k}."), True),
        )
        x = torch.cat([ahead, back], dim=1)
    return x


def under(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def dialogue_lengths(batch: Batch) -> list[int]:
    return np.bincount(batch.layout.dialogue.numpy()).tolist()


def encode(batch: Batch, x: Tensor, w: Weights, recurrent: bool, padded: bool) -> Tensor:
    """phi^m; ``padded``: every dialogue is filled with zero features up to the longest one first."""
    rows, longest, start = [], max(dialogue_lengths(batch)), 0
    for length in dialogue_lengths(batch):
        own = x[start : start + length]
        if padded:
            own = torch.cat([own, own.new_zeros(longest - length, own.shape[1])])
        z = own @ w["linear.weight"].T + w["linear.bias"]
        rows.append((lstm(z, under(w, "lstm.")) if recurrent else z)[:length])
        start += length
    return torch.cat(rows)


def dense(model: MMGCN, batch: Batch, w: Weights) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Ledger 6.1, table by table: z, the prediction layer's input and the logits, all float64."""
    config, names, n = model.config, sorted(batch.features), len(batch)
    z = {
        m: encode(
            batch,
            batch.features[m].double(),
            under(w, f"encoders.{m}."),
            m in config.recurrent,
            padded=not config.packed,
        )
        for m in names
    }
    speaker = w["speaker.weight"][batch.speaker]
    x = torch.cat(
        [z[m] + speaker if config.speaker in ("all", m) else z[m] for m in names]
    )  # (M n, h), modality-major
    linked = torch.zeros(len(x), len(x), dtype=torch.float64)
    home = batch.layout.dialogue.tolist()
    for p in range(len(x)):
        for q in range(len(x)):
            same_modality, same_utterance = p // n == q // n, p % n == q % n
            linked[p, q] = (same_modality and home[p % n] == home[q % n]) or same_utterance
    norms = x.square().sum(dim=1).sqrt()
    cosine = (x @ x.T) / (norms[:, None] * norms[None, :])
    adjacency = linked * (1 - torch.acos(0.99999 * cosine) / math.pi)
    root = torch.diag(adjacency.sum(dim=1) ** -0.5)
    smooth = root @ adjacency @ root
    first = torch.relu(x @ w["graph.enter.weight"].T + w["graph.enter.bias"])
    state = first
    for depth in range(1, config.layers + 1):
        theta, message = math.log(0.5 / depth + 1), smooth @ state
        straight = 0.9 * message + 0.1 * first
        state = torch.relu(
            theta * torch.cat([message, first], dim=1) @ w[f"graph.weights.{depth - 1}"]
            + (1 - theta) * straight
        )
    parts = [
        torch.cat([x[k * n : (k + 1) * n], state[k * n : (k + 1) * n]], dim=1)
        for k in range(len(names))
    ]
    hidden = torch.relu(torch.cat(parts, dim=1))
    return z, hidden, hidden @ w["prediction.weight"].T + w["prediction.bias"]


def compare(model: MMGCN, batch: Batch, probability: float, gradient: float) -> None:
    weights = {k: p.detach().double().clone().requires_grad_() for k, p in model.named_parameters()}
    z, hidden, logits = dense(model, batch, weights)
    fused = model(batch, batch.features)
    ours = fused.logits.log_softmax(dim=1)
    reference = logits.log_softmax(dim=1)
    torch.testing.assert_close(ours.double(), reference, atol=probability, rtol=0)
    torch.testing.assert_close(fused.hidden.double(), hidden, atol=10 * probability, rtol=0)
    for modality in z:
        torch.testing.assert_close(
            fused.z[modality].double(), z[modality], atol=probability, rtol=0
        )
    rows = torch.arange(len(batch))
    expected, found = (
        torch.autograd.grad(
            -values[rows, batch.labels].mean(), list(parameters), materialize_grads=True
        )
        for values, parameters in ((reference, weights.values()), (ours, model.parameters()))
    )
    for name, theirs, own in zip(weights, expected, found, strict=True):
        torch.testing.assert_close(own.double(), theirs, atol=gradient, rtol=0, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"speaker": "text"},
        {"speaker": "none"},
        {"recurrent": ()},
        {"layers": 5},
        {"recurrent": ("audio", "vision")},
    ],
    ids=str,
)
def test_equals_the_dense_graph_in_single_and_double_precision(
    toy: Toy, options: dict[str, Any]
) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle.dims, **options), whole(bundle)
    compare(model, batch, probability=5e-7, gradient=1e-6)
    compare(model.double(), double(batch), probability=1e-12, gradient=1e-10)


@pytest.mark.parametrize("dims", [{"audio": 6, "text": 5}, FOUR], ids=len)
def test_equals_the_dense_graph_with_two_and_four_modalities(
    toy: Toy, dims: dict[str, int]
) -> None:
    bundle = toy(LENGTHS, dims)
    compare(network(dims).double(), double(whole(bundle)), probability=1e-12, gradient=1e-10)


def test_equals_the_dense_graph_for_one_dialogue_of_one_utterance_by_one_speaker(toy: Toy) -> None:
    bundle = toy((1, 1, 1, 1) * 3, speakers=1)
    model = network(bundle.dims, speakers=1)
    compare(model.double(), double(whole(bundle, dialogues=[0])), probability=1e-12, gradient=1e-10)


def test_unpacked_encoder_equals_a_bilstm_over_dialogues_filled_with_zero_features(
    toy: Toy,
) -> None:
    bundle = toy(
        LENGTHS
    )  # ledger 6.1: (T, B, d_m) goes through the linear layer, then the BiLSTM, unpacked
    compare(
        network(bundle.dims, packed=False).double(),
        double(whole(bundle)),
        probability=1e-12,
        gradient=1e-10,
    )


def test_permuting_the_dialogues_of_a_batch_permutes_the_outputs(toy: Toy) -> None:
    bundle = toy((3, 5, 7, 4, 6, 1, 2, 4))
    model, order = network(bundle.dims), [2, 0, 3, 1]
    straight, turned = whole(bundle), whole(bundle, dialogues=order)
    rows = np.concatenate([np.flatnonzero(straight.layout.dialogue.numpy() == d) for d in order])
    outputs, moved = model(straight, straight.features), model(turned, turned.features)
    torch.testing.assert_close(moved.logits, outputs.logits[rows], atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.hidden, outputs.hidden[rows], atol=1e-6, rtol=0)


def alone_against_batch(model: MMGCN, bundle: Bundle) -> dict[int, float]:
    """Length of each training dialogue to the largest change of its log-probabilities by company."""
    batch = whole(bundle)
    together = model(batch, batch.features).logits.detach().log_softmax(dim=1)
    changes = {}
    for number, length in enumerate(dialogue_lengths(batch)):
        single = whole(bundle, dialogues=[number])
        own = model(single, single.features).logits.detach().log_softmax(dim=1)
        changes[length] = float((together[batch.layout.dialogue == number] - own).abs().max())
    return changes


def test_a_dialogue_alone_equals_the_same_dialogue_beside_longer_ones(toy: Toy) -> None:
    bundle = toy((3, 5, 12, 4, 6, 1, 1, 4))
    changes = alone_against_batch(network(bundle.dims), bundle)
    assert sorted(changes) == [1, 3, 6, 12] and max(changes.values()) < 1e-5


def test_without_packing_shorter_dialogues_depend_on_their_batch_and_the_longest_does_not(
    toy: Toy,
) -> None:
    bundle = toy((3, 5, 12, 4, 6, 1, 1, 4))
    changes = alone_against_batch(network(bundle.dims, packed=False), bundle)
    assert min(changes[length] for length in (1, 3, 6)) > 1e-4 and changes[12] < 1e-5


@pytest.mark.parametrize("packed", [True, False])
def test_nan_in_missing_features_never_reaches_the_output(toy: Toy, packed: bool) -> None:
    bundle = toy(LENGTHS, lacking=0.4)
    assert np.isnan(bundle.features["audio"]).any()
    loud = dataclasses.replace(
        bundle, features={m: np.nan_to_num(x, nan=1e9) for m, x in bundle.features.items()}
    )
    model = network(bundle.dims, packed=packed)
    quiet, noisy = whole(bundle), whole(loud)
    logits = model(quiet, quiet.features).logits
    assert torch.isfinite(logits).all() and torch.equal(logits, model(noisy, noisy.features).logits)


@pytest.mark.parametrize("law", [masks.shared(0.5), masks.subset(["text"])], ids=str)
def test_features_that_a_mask_hides_change_nothing(toy: Toy, law: masks.Law) -> None:
    bundle, model = toy(LENGTHS), network({"audio": 6, "text": 5, "vision": 4})
    mask = masks.draw(law, bundle, "test", 0)
    features = {m: x.copy() for m, x in bundle.features.items()}
    rows = bundle.rows("test")
    for index, modality in enumerate(bundle.modalities):
        features[modality][rows[~mask.utterance[:, index]]] = np.nan
    other = dataclasses.replace(bundle, features=features)
    one, two = (to_device(b, "test", mask, "cpu").batch([0, 2, 1]) for b in (bundle, other))
    assert torch.equal(model(one, one.features).logits, model(two, two.features).logits)


@pytest.mark.parametrize(
    "speaker, moved", [("all", {"audio", "text", "vision"}), ("text", {"text"}), ("none", set())]
)
def test_speakers_reach_the_modalities_that_the_switch_names_never_z(
    toy: Toy, speaker: str, moved: set[str]
) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle.dims, speaker=speaker), whole(bundle)
    before = model(batch, batch.features)
    with torch.no_grad():
        model.speaker.weight.add_(1.0)
    after = model(batch, batch.features)
    width = 8 + 6
    for index, modality in enumerate(bundle.modalities):
        assert torch.equal(before.z[modality], after.z[modality])
        own = slice(index * width, index * width + 8)  # the nodes themselves, before the graph
        assert torch.equal(before.hidden[:, own], after.hidden[:, own]) == (modality not in moved)


def test_sizes_are_those_of_the_ledger() -> None:
    model = MMGCN({"audio": 1582, "text": 1024, "vision": 342}, 6, 2, MMGCNConfig())
    shapes = {k: tuple(p.shape) for k, p in model.named_parameters()}
    assert shapes["prediction.weight"] == (6, 900) and shapes["speaker.weight"] == (2, 200)
    assert [shapes[f"graph.weights.{k}"] for k in range(4)] == [
        (200, 100)
    ] * 4 and "graph.weights.4" not in shapes
    assert shapes["graph.enter.weight"] == (100, 200) and model.embedding_dim == 200
    cells = (
        2 * 2 * (400 * 200 + 400 * 100 + 2 * 400)
    )  # two layers, two directions, 100 wide, inputs 200
    for modality, inputs, more in (("audio", 1582, 0), ("vision", 342, 0), ("text", 1024, cells)):
        assert (
            sum(p.numel() for p in model.encoders[modality].parameters())
            == inputs * 200 + 200 + more
        )


def test_dropout_acts_in_training_and_not_in_evaluation(toy: Toy) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle.dims, dropout=0.5), whole(bundle)
    assert not torch.equal(model(batch, batch.features).logits, model(batch, batch.features).logits)
    model.eval()
    plain = network(bundle.dims)
    assert torch.equal(model(batch, batch.features).logits, plain(batch, batch.features).logits)


@pytest.mark.parametrize(
    "bad",
    [
        {"speaker": "some"},
        {"hidden": 7},
        {"hidden": 0},
        {"layers": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"graph": 0},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_raises(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        MMGCNConfig(**bad)
