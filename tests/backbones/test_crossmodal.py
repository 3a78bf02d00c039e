"""MCULoRA's network against loops over dialogues in NumPy, and what its masks promise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from transformer_tools import (
    FOUR,
    TWO,
    UNEVEN,
    Toy,
    array,
    attention,
    double,
    expert,
    linear,
    spans,
    tail,
    weights_of,
    whole,
)

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.backbones.crossmodal import Crossmodal, TransformerConfig
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.nn.batch import Batch, to_device

SIZES: dict[str, Any] = {"hidden": 8, "depth": 2, "heads": 2, "dropout": 0.5}


def network(bundle: Bundle, seed: int = 0, **options: Any) -> Crossmodal:
    torch.manual_seed(seed)
    found = build_backbone(
        "crossmodal", bundle.dims, bundle.task.outputs, 1, {**SIZES, **options}.items()
    )
    assert isinstance(found, Crossmodal)
    return found.eval()


def by_loop(
    model: Crossmodal, batch: Batch
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """z, the prediction's input and the logits, dialogue by dialogue."""
    w, names, c = weights_of(model), sorted(batch.features), model.config
    z = {m: np.zeros((len(batch), c.hidden)) for m in names}
    for rows in spans(batch):
        observed = {m: batch.observed[rows, i].numpy() for i, m in enumerate(names)}
        mapped = {}
        for m in names:
            entered = linear(array(batch.features[m][rows]), w, f"encoders.{m}.enter")
            encoded = expert(entered, observed[m], w, f"encoders.{m}.expert", c.depth, c.heads)
            mapped[m] = linear(encoded, w, f"outputs.{m}")
        for m in names:
            others = [mapped[o][observed[o]] for o in names if o != m]
            if others:
                told = attention(mapped[m], np.concatenate(others), w, f"crossings.{m}", c.heads)
            for place, row in enumerate(rows):
                if observed[m][place]:
                    z[m][row] = mapped[m][place] + (told[place] if others else 0)
    hidden = tail(np.hstack([z[m] for m in names]), w)
    return z, hidden, linear(hidden, w, "prediction")


def outputs(model: Crossmodal, batch: Batch) -> list[torch.Tensor]:
    fused = model(batch, batch.features)
    return [*(fused.z[m] for m in model.modalities), fused.hidden, fused.logits]


def compare(model: Crossmodal, batch: Batch, tolerance: float) -> None:
    z, hidden, logits = by_loop(model, batch)
    for found, expected in zip(
        outputs(model, batch), [*(z[m] for m in sorted(z)), hidden, logits], strict=True
    ):
        np.testing.assert_allclose(array(found), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "options", [{}, {"heads": 1}, {"heads": 8, "depth": 1}, {"hidden": 12, "heads": 3}], ids=str
)
def test_equals_the_loop_over_dialogues_in_single_and_double_precision(
    toy: Toy, options: dict[str, int]
) -> None:
    bundle = toy(UNEVEN)
    model, batch = network(bundle, **options), whole(bundle)
    compare(model, batch, 1e-5)
    compare(model.double(), double(batch), 1e-12)


@pytest.mark.parametrize("dims", [TWO, FOUR], ids=len)
@pytest.mark.parametrize("law", [masks.complete(), masks.shared(0.8), masks.patterns()], ids=str)
def test_equals_the_loop_with_other_modalities_and_under_other_laws(
    toy: Toy, dims: dict[str, int], law: masks.Law
) -> None:
    bundle = toy(UNEVEN, dims)
    compare(network(bundle).double(), double(whole(bundle, law=law)), 1e-12)


def test_a_single_modality_has_nothing_to_cross_to(toy: Toy) -> None:
    bundle = toy(UNEVEN).only(["text"])
    model, batch = network(bundle).double(), double(whole(bundle, law=masks.complete()))
    compare(model, batch, 1e-12)


def test_shapes_and_widths_are_those_of_the_ledger(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle), network(bundle)
    fused = model(batch, batch.features)
    assert {m: tuple(x.shape) for m, x in fused.z.items()} == {
        m: (22, 8) for m in bundle.modalities
    }
    assert (
        fused.hidden.shape == (22, 24)
        and fused.logits.shape == (22, 3)
        and model.embedding_dim == 8
    )
    published = TransformerConfig()
    assert (published.hidden, published.depth, published.heads, published.dropout) == (
        256,
        4,
        2,
        0.5,
    )
    big = Crossmodal({"audio": 512, "text": 1024, "vision": 1024}, 1, 1, published)
    square = 256 * 256 + 256
    each = 4 * 5 * square + square + 3 * square  # blocks, W^m, cross-attention
    assert (
        sum(p.numel() for p in big.parameters())
        == 2560 * 256 + 3 * (256 + each) + (768 * 768 + 768) + 769
    )


def test_the_three_stages_make_the_whole_and_the_first_looks_at_one_modality_alone(
    toy: Toy,
) -> None:
    bundle = toy(UNEVEN)
    batch, model = double(whole(bundle)), network(bundle).double()
    encoded = model.represent(batch, batch.features)
    z, hidden = model.fuse(batch, {m: model.outputs[m](encoded[m]) for m in bundle.modalities})
    for found, again in zip(
        outputs(model, batch),
        [*(z[m] for m in sorted(z)), hidden, model.prediction(hidden)],
        strict=True,
    ):
        assert torch.equal(found, again)
    changed = dict(batch.features, vision=torch.randn_like(batch.features["vision"]))
    observed = batch.observed.clone()
    observed[:, 2] = ~observed[:, 2]
    other = model.represent(dataclasses.replace(batch, observed=observed), changed)
    assert [torch.equal(encoded[m], other[m]) for m in ("audio", "text", "vision")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("huge", [1.0, 1e4])
def test_features_of_what_is_missing_change_nothing(toy: Toy, huge: float) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle), network(bundle)
    features = {
        m: torch.where(batch.observed[:, i, None], x, huge * torch.randn_like(x))
        for i, (m, x) in enumerate(batch.features.items())
    }
    assert (~batch.observed).any(dim=0).all()
    for before, after in zip(
        outputs(model, batch),
        outputs(model, dataclasses.replace(batch, features=features)),
        strict=True,
    ):
        assert torch.equal(before, after)


def test_features_of_one_dialogue_reach_all_of_it_and_no_other(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle, law=masks.complete()), network(bundle)
    for rows in spans(batch):
        for m in bundle.modalities:
            features = {k: x.clone() for k, x in batch.features.items()}
            features[m][rows[-1]] += 3
            before, after = (
                outputs(model, batch),
                outputs(model, dataclasses.replace(batch, features=features)),
            )
            for x, y in zip(before, after, strict=True):
                assert [u for u in range(len(batch)) if not torch.equal(x[u], y[u])] == rows


def test_a_dialogue_alone_is_the_same_dialogue_beside_longer_ones(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle), network(bundle)
    together = outputs(model, batch)
    for number, rows in enumerate(spans(batch)):
        alone = whole(bundle, dialogues=[number])
        assert len(alone) == len(rows)
        for x, y in zip(together, outputs(model, alone), strict=True):
            torch.testing.assert_close(x[rows], y, atol=1e-6, rtol=0)


def test_permuting_the_utterances_of_a_dialogue_permutes_the_outputs(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = double(whole(bundle)), network(bundle).double()
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


def test_a_missing_modality_has_a_zero_embedding_and_every_gradient_stays_finite(toy: Toy) -> None:
    bundle = toy(UNEVEN, lacking=0.3)
    model = network(bundle)
    resident = to_device(bundle, "train", masks.draw(masks.patterns(), bundle, "train", 0), "cpu")
    batch = resident.batch(np.arange(resident.dialogues))
    fused = model(batch, batch.features)
    for index, m in enumerate(bundle.modalities):
        assert (
            not fused.z[m][~batch.observed[:, index]].any()
            and fused.z[m][batch.observed[:, index]].any()
        )
    fused.logits.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_nothing_at_hand_gives_the_prediction_of_zeros(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle), network(bundle)
    fused = model(
        dataclasses.replace(batch, observed=torch.zeros_like(batch.observed)), batch.features
    )
    expected = linear(tail(np.zeros((1, 24)), weights_of(model)), weights_of(model), "prediction")
    np.testing.assert_allclose(array(fused.logits), np.tile(expected, (len(batch), 1)), atol=1e-6)


def test_dropout_acts_in_training_alone(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch, model = whole(bundle), network(bundle)
    assert torch.equal(model(batch, batch.features).logits, model(batch, batch.features).logits)
    model.train()
    assert not torch.equal(model(batch, batch.features).logits, model(batch, batch.features).logits)


@pytest.mark.parametrize("name", ["crossmodal", "momke"])
def test_dropout_falls_on_what_enters_a_modality(toy: Toy, name: str) -> None:
    """p_m = dropout(Linear x_m) (BASELINES_MM section 3): with blocks that add nothing, that is what comes out."""
    bundle = toy(UNEVEN, {"audio": 400, "text": 300})
    torch.manual_seed(0)
    options = [
        ("hidden", 60),
        ("dropout", 0.25),
        *([("routing", "own")] if name == "momke" else []),
    ]
    model = build_backbone(name, bundle.dims, 3, 1, options)
    batch = whole(bundle, law=masks.complete())
    for m in bundle.modalities:
        encoder: Any = model.encoders[m]
        for p in encoder.expert.parameters():
            p.data.zero_()
        entered = linear(array(batch.features[m]), weights_of(model), f"encoders.{m}.enter")
        if isinstance(model, Crossmodal):
            found = array(model.represent(batch, batch.features)[m])
        else:
            found = array(model(batch, batch.features).z[m])
        on = found != 0
        np.testing.assert_allclose(found[on], entered[on] / 0.75, atol=1e-5)
        low, high = binom(on.size, 0.75).interval(1 - 1e-9)
        assert low <= on.sum() <= high


@pytest.mark.parametrize("name", ["crossmodal", "momke"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden", 0),
        ("depth", 0),
        ("heads", 0),
        ("heads", 3),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("depht", 2),
    ],
)
def test_sizes_out_of_range_are_errors_that_name_them(name: str, option: str, value: float) -> None:
    with pytest.raises(InputError, match=option if option != "heads" or value == 0 else "hidden"):
        build_backbone(name, {"audio": 2, "text": 3}, 3, 1, [("hidden", 8), (option, value)])
