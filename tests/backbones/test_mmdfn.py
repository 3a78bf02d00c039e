"""MM-DFN against a dense reference in NumPy, and its speaker context against a loop over speakers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from mmlib import masks
from mmlib.backbones.mmdfn import MMDFN, MMDFNConfig, speaker_layout
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.methods import build_method
from mmlib.nn.batch import Batch, Layout, make_layout, to_device

Toy = Callable[..., Bundle]
LENGTHS = (3, 5, 1, 4) * 3
UNEVEN = (3, 5, 12, 4, 6, 1, 1, 4)  # training dialogues of 3, 12, 6 and 1
FOUR = {"audio": 6, "gaze": 3, "text": 5, "vision": 4}
EVERYWHERE = (("audio", 1.0), ("text", 0.5), ("vision", -2.0))
NOWHERE = (("audio", 0.0), ("text", 0.0), ("vision", 0.0))
LAW = masks.shared(0.4)
Arrays = Mapping[str, np.ndarray]


def network(bundle: Bundle, seed: int = 0, **options: Any) -> MMDFN:
    torch.manual_seed(seed)
    config = MMDFNConfig(**{"hidden": 8, "graph": 6, "layers": 3, "dropout": 0.0, **options})
    return MMDFN(bundle.dims, bundle.task.outputs, bundle.speakers, config)


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


def spans(batch: Batch, speakers: bool) -> list[list[int]]:
    """Rows of each dialogue, or of each dialogue's each speaker, in time; by a loop."""
    found: dict[tuple[int, int], list[int]] = {}
    pairs = zip(batch.layout.dialogue.tolist(), batch.speaker.tolist(), strict=True)
    for row, (dialogue, speaker) in enumerate(pairs):
        found.setdefault((dialogue, speaker if speakers else 0), []).append(row)
    return list(found.values())


def under(weights: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def gru(x: np.ndarray, w: Arrays) -> np.ndarray:
    """Two layers and two directions over (T, d), cell by cell (Cho et al., 2014, as torch documents nn.GRU)."""
    for layer in range(2):
        outputs = {}
        for way in ("ahead", "back"):
            own = under(w, f"{way}.{layer}.")
            h, states = np.zeros(own["weight_hh_l0"].shape[1]), {}
            for t in range(len(x)) if way == "ahead" else reversed(range(len(x))):
                inward = np.split(own["weight_ih_l0"] @ x[t] + own["bias_ih_l0"], 3)
                onward = np.split(own["weight_hh_l0"] @ h + own["bias_hh_l0"], 3)
                reset, keep = expit(inward[0] + onward[0]), expit(inward[1] + onward[1])
                h = (1 - keep) * np.tanh(inward[2] + reset * onward[2]) + keep * h
                states[t] = h
            outputs[way] = np.stack([states[t] for t in range(len(x))])
        x = np.hstack([outputs["ahead"], outputs["back"]])
    return x


def over(
    groups: list[list[int]], x: np.ndarray, w: Arrays, steps: int, filler: np.ndarray | None
) -> np.ndarray:
    """A BiGRU over each group's rows, ``filler`` appended up to ``steps`` rows where it is given."""
    result = np.full_like(x, np.nan)
    for rows in groups:
        own = x[rows]
        if filler is not None:
            own = np.vstack([own, np.tile(filler, (steps - len(rows), 1))])
        result[rows] = gru(own, w)[: len(rows)]
    return result


def dense(model: MMDFN, batch: Batch) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Ledger 6.3, table by table: z, the prediction layer's input and the logits, all float64."""
    config, names, n = model.config, sorted(batch.features), len(batch)
    w: Arrays = {k: p.detach().double().numpy() for k, p in model.named_parameters()}
    weights, z, steps = dict(config.speaker_weights), {}, batch.layout.steps
    for m in names:
        bias = w[f"encoders.{m}.linear.bias"]
        entered = z[m] = (
            batch.features[m].double().numpy() @ w[f"encoders.{m}.linear.weight"].T + bias
        )
        if m in config.recurrent:
            z[m] = over(
                spans(batch, False),
                entered,
                under(w, f"encoders.{m}.gru."),
                steps,
                None if config.packed else bias,
            )
        z[m] = z[m] + weights.get(m, 1.0) * over(
            spans(batch, True),
            entered,
            under(w, "parties."),
            steps,
            None if config.packed else 0 * bias,
        )
    x = np.vstack([z[m] for m in names])  # (M n, h), modality-major
    row, modality, home = (
        np.arange(len(x)) % n,
        np.arange(len(x)) // n,
        batch.layout.dialogue.numpy(),
    )
    linked = (modality[:, None] == modality) & (home[row][:, None] == home[row]) | (
        row[:, None] == row
    )
    norms = np.sqrt((x**2).sum(axis=1))
    adjacency = linked * (1 - np.arccos(0.99999 * (x @ x.T) / np.outer(norms, norms)) / math.pi)
    smooth = adjacency / np.sqrt(np.outer(adjacency.sum(axis=1), adjacency.sum(axis=1)))
    first = np.maximum(x @ w["graph.enter.weight"].T + w["graph.enter.bias"], 0)
    state, h, c = first, np.zeros_like(first), np.zeros_like(first)
    for depth in range(1, config.layers + 1):
        if config.gated:
            gates = state @ w["graph.gate.weight_ih"].T + h @ w["graph.gate.weight_hh"].T
            gates = gates + w["graph.gate.bias_ih"] + w["graph.gate.bias_hh"]
            enter, forget, new, leave = np.split(gates, 4, axis=1)
            c = expit(forget) * c + expit(enter) * np.tanh(new)
            state = h = expit(leave) * np.tanh(c)
        theta, message = math.log(0.5 / depth + 1), smooth @ state
        made = np.maximum(
            theta * np.hstack([message, first]) @ w[f"graph.weights.{depth - 1}"]
            + (1 - theta) * (0.8 * message + 0.2 * first),
            0,
        )
        state = made + state if config.gated else made
    parts = [
        part
        for k in range(len(names))
        for part in (x[k * n : (k + 1) * n], state[k * n : (k + 1) * n])
    ]
    hidden = np.maximum(np.hstack(parts), 0)
    return z, hidden, hidden @ w["prediction.weight"].T + w["prediction.bias"]


def compare(model: MMDFN, batch: Batch, tolerance: float) -> None:
    z, hidden, logits = dense(model, batch)
    fused = model(batch, batch.features)
    for found, expected in [
        *((fused.z[m], z[m]) for m in z),
        (fused.hidden, hidden),
        (fused.logits, logits),
    ]:
        np.testing.assert_allclose(
            found.detach().double().numpy(), expected, atol=tolerance, rtol=0
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gated": True},
        {"layers": 16},
        {"recurrent": ()},
        {"recurrent": ("audio", "vision")},
        {"packed": False},
        {"speaker_weights": EVERYWHERE},
        {"speaker_weights": NOWHERE},
        {"gated": True, "packed": False, "layers": 5},
    ],
    ids=str,
)
def test_equals_the_dense_graph_in_single_and_double_precision(
    toy: Toy, options: dict[str, Any]
) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle, **options), whole(bundle)
    compare(model, batch, 3e-6)
    compare(model.double(), double(batch), 1e-12)


@pytest.mark.parametrize(
    "dims", [{"audio": 6, "text": 5}, FOUR, {"gaze": 3, "touch": 4, "weather": 2}], ids=len
)
@pytest.mark.parametrize("speakers", [1, 2, 5])
def test_equals_the_dense_graph_with_other_modalities_and_speakers(
    toy: Toy, dims: dict[str, int], speakers: int
) -> None:
    bundle = toy(LENGTHS, dims, speakers=speakers)
    assert bundle.speakers == speakers
    compare(network(bundle).double(), double(whole(bundle)), 1e-12)


def test_equals_the_dense_graph_for_one_dialogue_of_one_utterance(toy: Toy) -> None:
    bundle = toy((1, 1, 1, 1) * 3)
    compare(network(bundle).double(), double(whole(bundle, dialogues=[0])), 1e-12)


@pytest.mark.parametrize("speakers", [1, 2, 5])
def test_speaker_context_and_its_gradients_equal_a_loop_over_dialogues_and_speakers(
    toy: Toy, speakers: int
) -> None:
    bundle = toy(UNEVEN, speakers=speakers)
    model, batch = network(bundle, speaker_weights=EVERYWHERE).double(), double(whole(bundle))
    groups = spans(batch, True)
    if speakers > 1:  # some speakers are absent from some dialogues, some dialogues have several
        assert batch.layout.dialogues < len(groups) < batch.layout.dialogues * speakers
    r = np.random.default_rng(0)
    found, expected, parameters = (
        torch.zeros(()),
        torch.zeros(()),
        dict(model.encoders.named_parameters()),
    )
    parameters |= dict(model.parties.named_parameters())
    fused = model(batch, batch.features)
    for m, weight in EVERYWHERE:
        entered, encoded = model.encoders[m](batch.features[m], batch.layout)
        context = torch.zeros_like(entered)
        for rows in groups:
            context = context.index_add(
                0, torch.tensor(rows), model.parties(entered[rows], make_layout([len(rows)]))
            )
        slow = encoded + weight * context
        torch.testing.assert_close(fused.z[m], slow, atol=1e-12, rtol=0)
        mix = torch.from_numpy(r.normal(size=slow.shape))
        found, expected = found + (fused.z[m] * mix).sum(), expected + (slow * mix).sum()
    ours, theirs = (
        torch.autograd.grad(total, list(parameters.values())) for total in (found, expected)
    )
    for name, own, other in zip(parameters, ours, theirs, strict=True):
        assert own.abs().max() > 0
        torch.testing.assert_close(own, other, atol=1e-10, rtol=0, msg=name)


@pytest.mark.parametrize(
    "lengths, speakers, copies",
    [
        ((3, 5, 1, 4), 2, 1),
        ((2, 2, 9), 5, 3),
        ((1,), 1, 2),
        ((1, 1, 1), 4, 2),
        ((6, 2), 1, 2),
        ((40, 3), 3, 2),
    ],
)
def test_speaker_layout_puts_every_speakers_utterances_in_a_row_of_their_own(
    lengths: Sequence[int], speakers: int, copies: int
) -> None:
    layout = make_layout(lengths)
    n = sum(lengths)
    speaker = torch.from_numpy(np.random.default_rng(n).integers(0, speakers, n))
    groups, order, back = speaker_layout(layout, speaker, speakers, copies)
    assert groups.steps == layout.steps and groups.dialogues == copies * min(
        len(lengths) * speakers, n
    )
    assert torch.equal(order[back], torch.arange(n)) and torch.equal(back[order], torch.arange(n))
    utterance = (torch.arange(n) + n * torch.arange(copies)[:, None])[
        :, order
    ].flatten()  # copy by copy
    grid = groups.pad(utterance + 1)
    rows = [[int(u) - 1 for u in row if u] for row in grid]
    wanted: dict[tuple[int, int, int], list[int]] = {}
    for copy in range(copies):
        for u in range(n):
            wanted.setdefault((copy, int(layout.dialogue[u]), int(speaker[u])), []).append(
                u + copy * n
            )
    assert sorted(row for row in rows if row) == sorted(wanted.values())
    for row, padded in zip(rows, grid.tolist(), strict=True):
        assert padded[len(row) :] == [0] * (layout.steps - len(row))
    assert torch.equal(groups.unpad(grid), utterance + 1)
    mirror = groups.pad(utterance[groups.turn] + 1)
    assert [[int(u) - 1 for u in row if u] for row in mirror] == [row[::-1] for row in rows]
    assert torch.equal(groups.dialogue, torch.div(groups.slot, groups.steps, rounding_mode="floor"))


def test_speaker_layout_never_asks_the_device_for_a_value() -> None:
    layout = make_layout((3, 5, 1, 4), "meta")  # tensors without values: reading one raises
    speaker = torch.zeros(13, dtype=torch.long, device="meta")
    with pytest.raises(RuntimeError):
        speaker[0].item()
    groups, order, back = speaker_layout(layout, speaker, 2, 3)
    assert (groups.dialogues, groups.steps) == (24, 5)
    assert (
        groups.slot.shape == groups.turn.shape == groups.dialogue.shape == (39,)
        and order.shape == back.shape
    )


def test_context_comes_from_the_speakers_own_utterances_in_the_dialogue_and_from_no_other(
    toy: Toy,
) -> None:
    bundle = toy((8, 4, 6, 4))
    batch, model = whole(bundle), network(bundle, recurrent=())
    for row in range(len(batch)):
        features = {m: x.clone() for m, x in batch.features.items()}
        features["audio"][row] += 1
        before, after = model(batch, batch.features).z["audio"], model(batch, features).z["audio"]
        moved = ((before - after).abs().amax(dim=1) > 1e-7).nonzero().flatten().tolist()
        assert moved == next(rows for rows in spans(batch, True) if row in rows)


def test_z_is_taken_after_three_times_the_context_on_audio_once_on_text_and_none_on_vision(
    toy: Toy,
) -> None:
    bundle = toy(LENGTHS)
    assert dict(MMDFNConfig().speaker_weights) == {"audio": 3.0, "text": 1.0, "vision": 0.0}
    batch, calls = whole(bundle), []
    model, bare = network(bundle), network(bundle, speaker_weights=NOWHERE)
    model.parties.register_forward_hook(lambda module, given, made: calls.append(made))
    fused = model(batch, batch.features)
    (context,) = calls  # one recurrent call for all modalities, vision not among them
    places = [
        u
        for rows in sorted(
            spans(batch, True),
            key=lambda rows: (int(batch.layout.dialogue[rows[0]]), int(batch.speaker[rows[0]])),
        )
        for u in rows
    ]
    assert len(context) == 2 * len(batch)
    audio, text = context[: len(batch)], context[len(batch) :]
    plain = bare(batch, batch.features).z
    torch.testing.assert_close(
        fused.z["audio"][places] - plain["audio"][places], 3 * audio, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        fused.z["text"][places] - plain["text"][places], text, atol=1e-6, rtol=0
    )
    assert torch.equal(fused.z["vision"], plain["vision"])
    stacked = torch.cat([fused.z[m] for m in bundle.modalities], dim=1).relu()
    own = torch.cat(
        [fused.hidden[:, k * 14 : k * 14 + 8] for k in range(3)], dim=1
    )  # the nodes, before the graph
    assert torch.equal(own, stacked)


def test_the_speaker_network_touches_a_modality_of_weight_zero_in_neither_direction(
    toy: Toy,
) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle), whole(bundle)
    fused = model(batch, batch.features)
    for modality, reached in (("audio", True), ("text", True), ("vision", False)):
        slopes = torch.autograd.grad(
            fused.z[modality].sum(),
            list(model.parties.parameters()),
            retain_graph=True,
            allow_unused=True,
        )
        assert [slope is not None for slope in slopes] == [reached] * len(slopes)
    for parameter in model.parties.parameters():
        nn.init.constant_(parameter, float("nan"))
    again = model(batch, batch.features)
    assert torch.equal(again.z["vision"], fused.z["vision"]) and again.z["audio"].isnan().all()
    silent = network(bundle, speaker_weights=NOWHERE)
    silent.parties.register_forward_hook(lambda *_: pytest.fail("called for nothing"))
    silent(batch, batch.features)


def test_permuting_the_dialogues_of_a_batch_permutes_the_outputs(toy: Toy) -> None:
    bundle = toy((3, 5, 7, 4, 6, 1, 2, 4), speakers=3)
    model, order = network(bundle), [2, 0, 3, 1]
    straight, turned = whole(bundle), whole(bundle, dialogues=order)
    rows = np.concatenate([np.flatnonzero(straight.layout.dialogue.numpy() == d) for d in order])
    outputs, moved = model(straight, straight.features), model(turned, turned.features)
    torch.testing.assert_close(moved.logits, outputs.logits[rows], atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.z["audio"], outputs.z["audio"][rows], atol=1e-6, rtol=0)


def longer(batch: Batch, extra: int) -> Batch:
    """The same batch on a grid of more steps."""
    old = batch.layout
    slot = old.dialogue * (old.steps + extra) + old.slot % old.steps
    layout = Layout(old.dialogues, old.steps + extra, old.dialogue, slot, old.turn)
    return dataclasses.replace(batch, layout=layout)


@pytest.mark.parametrize("gated", [True, False])
def test_padding_changes_nothing_when_packed_and_something_when_not(toy: Toy, gated: bool) -> None:
    bundle = toy(UNEVEN)
    batch = whole(bundle)
    wide = longer(batch, 7)
    for packed in (True, False):
        model = network(bundle, gated=gated, packed=packed)
        change = (
            (model(wide, wide.features).logits - model(batch, batch.features).logits).abs().max()
        )
        assert (change < 1e-6) if packed else (change > 1e-4)


def alone_against_batch(model: MMDFN, bundle: Bundle) -> dict[int, float]:
    """Length of each training dialogue to the largest change of its log-probabilities by company."""
    batch = whole(bundle)
    together, changes = model(batch, batch.features).logits.detach().log_softmax(dim=1), {}
    for number, rows in enumerate(spans(batch, False)):
        single = whole(bundle, dialogues=[number])
        own = model(single, single.features).logits.detach().log_softmax(dim=1)
        changes[len(rows)] = float((together[rows] - own).abs().max())
    return changes


def test_a_dialogue_alone_equals_the_same_dialogue_beside_longer_ones(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    changes = alone_against_batch(network(bundle), bundle)
    assert sorted(changes) == [1, 3, 6, 12] and max(changes.values()) < 1e-5


def test_without_packing_shorter_dialogues_depend_on_their_batch_and_the_longest_does_not(
    toy: Toy,
) -> None:
    bundle = toy(UNEVEN)
    changes = alone_against_batch(network(bundle, packed=False), bundle)
    assert min(changes[length] for length in (1, 3, 6)) > 1e-4 and changes[12] < 1e-5


def test_without_packing_the_speaker_network_alone_depends_on_the_batch(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    assert alone_against_batch(network(bundle, packed=False, recurrent=()), bundle)[3] > 1e-4
    assert alone_against_batch(network(bundle, packed=True, recurrent=()), bundle)[3] < 1e-5


@pytest.mark.parametrize("packed", [True, False])
def test_nan_in_missing_features_never_reaches_the_output(toy: Toy, packed: bool) -> None:
    bundle = toy(LENGTHS, lacking=0.4)
    assert np.isnan(bundle.features["audio"]).any()
    loud = dataclasses.replace(
        bundle, features={m: np.nan_to_num(x, nan=1e9) for m, x in bundle.features.items()}
    )
    model = network(bundle, packed=packed)
    quiet, noisy = whole(bundle), whole(loud)
    logits = model(quiet, quiet.features).logits
    assert torch.isfinite(logits).all() and torch.equal(logits, model(noisy, noisy.features).logits)


@pytest.mark.parametrize("law", [masks.shared(0.5), masks.subset(["text"])], ids=str)
def test_features_that_a_mask_hides_change_nothing(toy: Toy, law: masks.Law) -> None:
    bundle = toy(LENGTHS)
    model, mask, rows = network(bundle), masks.draw(law, bundle, "test", 0), bundle.rows("test")
    features = {m: x.copy() for m, x in bundle.features.items()}
    for index, modality in enumerate(bundle.modalities):
        features[modality][rows[~mask.utterance[:, index]]] = np.nan
    other = dataclasses.replace(bundle, features=features)
    one, two = (to_device(b, "test", mask, "cpu").batch([0, 2, 1]) for b in (bundle, other))
    assert torch.equal(model(one, one.features).logits, model(two, two.features).logits)


def test_sizes_are_those_of_the_ledger() -> None:
    model = MMDFN({"audio": 1582, "text": 1024, "vision": 342}, 6, 2, MMDFNConfig())
    shapes = {k: tuple(p.shape) for k, p in model.named_parameters()}
    assert shapes["prediction.weight"] == (6, 900) and model.embedding_dim == 200
    assert [shapes[f"graph.weights.{k}"] for k in range(16)] == [
        (200, 100)
    ] * 16 and "graph.weights.16" not in shapes
    assert shapes["graph.enter.weight"] == (100, 200) and (model.graph.alpha, model.graph.lam) == (
        0.2,
        0.5,
    )
    cells = (
        2 * 2 * (300 * 200 + 300 * 100 + 2 * 300)
    )  # two layers, two directions, 100 wide, inputs 200
    for modality, inputs, more in (("audio", 1582, 0), ("vision", 342, 0), ("text", 1024, cells)):
        assert (
            sum(p.numel() for p in model.encoders[modality].parameters())
            == inputs * 200 + 200 + more
        )
    assert sum(p.numel() for p in model.parties.parameters()) == cells


def test_no_lstm_cell_stands_idle_where_the_gate_is_off() -> None:
    plain, gated = (MMDFN(FOUR, 3, 2, MMDFNConfig(gated=on)) for on in (False, True))
    cells = [
        [k for k, part in model.named_modules() if isinstance(part, nn.LSTMCell)]
        for model in (plain, gated)
    ]
    assert cells == [[], ["graph.gate"]]  # D15: the released code keeps it, unused


def test_dropout_acts_in_training_and_not_in_evaluation(toy: Toy) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle, dropout=0.5), whole(bundle)
    assert not torch.equal(model(batch, batch.features).logits, model(batch, batch.features).logits)
    model.eval()
    assert torch.equal(
        model(batch, batch.features).logits, network(bundle)(batch, batch.features).logits
    )


@pytest.mark.parametrize(
    "dims", [{"audio": 6, "text": 5}, {"audio": 6, "text": 5, "vision": 4}, FOUR], ids=len
)
@pytest.mark.parametrize("gated", [True, False])
def test_balm_trains_it(toy: Toy, dims: dict[str, int], gated: bool) -> None:
    bundle = toy(LENGTHS, dims)
    method = build_method(
        "balm", "paper", (), network(bundle, gated=gated), bundle.task, bundle.dims
    )
    batch, steps = whole(bundle), torch.optim.SGD(method.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        steps.zero_grad()
        loss = method.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
        method.after_backward()
        nn.utils.clip_grad_norm_(method.clipped(), 1.0)
        steps.step()
        losses.append(method.task_loss(method(batch).logits, batch.labels).item())
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_gradients_that_balm_scales_are_those_of_linear_and_gru_and_not_of_the_speaker_network(
    toy: Toy,
) -> None:
    bundle = toy(LENGTHS)
    model, batch = network(bundle), whole(bundle)
    model(batch, batch.features).logits.square().sum().backward()  # type: ignore[no-untyped-call]
    names = {id(p.grad): k for k, p in model.named_parameters()}
    found = {m: {names[id(g)] for g in model.encoder_gradients(m)} for m in bundle.modalities}
    for modality in ("audio", "vision"):
        assert found[modality] == {f"encoders.{modality}.linear.{k}" for k in ("weight", "bias")}
    cells = {
        f"encoders.text.gru.{way}.{layer}.{kind}_{part}_l0"
        for way in ("ahead", "back")
        for layer in (0, 1)
        for kind in ("weight", "bias")
        for part in ("ih", "hh")
    }
    assert found["text"] == {"encoders.text.linear.weight", "encoders.text.linear.bias"} | cells
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parties.parameters())


@pytest.mark.parametrize(
    "bad",
    [
        {"hidden": 7},
        {"hidden": 0},
        {"graph": 0},
        {"layers": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"speaker_weights": (("audio", 1.0), ("audio", 2.0))},
        {"speaker_weights": (("audio", float("nan")),)},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_raises(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        MMDFNConfig(**bad)
