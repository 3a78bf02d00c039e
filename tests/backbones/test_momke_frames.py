"""MoMKE on sequences against loops over utterances and frames in NumPy, against MoMKE, and what it must not see."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformer_tools import Toy, array, double, expert, gelu, linear, tail, weights_of, whole

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.backbones.momke import ROUTINGS, MoMKE
from mmlib.backbones.momke_frames import FrameMoMKE
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.methods import build_method
from mmlib.methods.ebmc import Ebmc
from mmlib.methods.enhance import Enhance
from mmlib.nn.batch import Batch

SIZES: dict[str, Any] = {"hidden": 8, "depth": 2, "heads": 2, "dropout": 0.5}
STEPS = {"audio": 6, "gaze": 2, "text": 4, "vision": 5}
LENGTHS = (3, 2, 4, 5)
SCORE = Task("score", range=(-3.0, 3.0))


def network(bundle: Bundle, name: str = "momke_frames", **options: Any) -> MoMKE:
    torch.manual_seed(0)
    found = build_backbone(name, bundle.dims, bundle.task.outputs, 1, {**SIZES, **options}.items())
    assert isinstance(found, MoMKE)
    return found.eval()


def uneven(bundle: Bundle) -> Batch:
    """Modalities of different numbers of frames, some dropped, some beyond the length; row 0 has no frame of text."""
    found = double(whole(bundle, law=masks.random_frames()))
    features = {m: x[:, : STEPS[m]].clone() for m, x in found.features.items()}
    features["text"][0] = 0
    observed = found.observed.clone()
    observed[0] = True
    assert not observed.all()
    return dataclasses.replace(found, features=features, observed=observed)


def outputs(model: MoMKE, batch: Batch) -> list[torch.Tensor]:
    fused = model(batch, batch.features)
    return [*(fused.z[m] for m in model.modalities), fused.hidden, fused.logits]


def by_loop(model: MoMKE, batch: Batch) -> list[np.ndarray]:
    """z, the prediction's input and the logits: utterance by utterance, from the frames that are seen alone."""
    w, names, c = weights_of(model), sorted(batch.features), model.config
    z = {m: np.zeros((len(batch), c.hidden)) for m in names}
    for row in range(len(batch)):
        for index, m in enumerate(names):
            frames = [frame for frame in array(batch.features[m][row]) if np.abs(frame).max() > 0]
            if not frames or not batch.observed[row, index]:
                continue
            entered = linear(np.stack(frames), w, f"encoders.{m}.enter")
            scores = linear(
                gelu(linear(entered, w, f"routers.{m}.first")), w, f"routers.{m}.second"
            )
            shares = softmax(scores, axis=1) if c.routing == "softmax" else scores
            if c.routing == "own":
                shares = np.tile([float(k == m) for k in names], (len(frames), 1))
            made = [
                expert(
                    entered, np.full(len(frames), True), w, f"encoders.{k}.expert", c.depth, c.heads
                )
                for k in names
            ]
            for place in range(len(frames)):
                for number in range(len(names)):
                    z[m][row] += shares[place, number] * made[number][place] / len(frames)
    hidden = tail(np.hstack([z[m] for m in names]), w)
    return [*(z[m] for m in names), hidden, linear(hidden, w, "prediction")]


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize(
    "dims", [{"audio": 3, "text": 4}, {"audio": 6, "gaze": 3, "text": 5, "vision": 4}], ids=len
)
def test_equals_the_loop_over_the_frames_that_are_seen(
    toy: Toy, dims: dict[str, int], routing: str
) -> None:
    bundle = toy(LENGTHS, dims, frames=6, lacking=0.3)
    model, batch = network(bundle, routing=routing).double(), uneven(bundle)
    for found, expected in zip(outputs(model, batch), by_loop(model, batch), strict=True):
        np.testing.assert_allclose(array(found), expected, atol=1e-12, rtol=0)
    assert not outputs(model, batch)[sorted(dims).index("text")][
        0
    ].any()  # observed, but no frame seen


@pytest.mark.parametrize("routing", ROUTINGS)
def test_with_one_frame_an_utterance_is_a_dialogue_of_one_to_momke(toy: Toy, routing: str) -> None:
    bundle = toy((1,) * 24)
    batch = double(whole(bundle, law=masks.shared(0.4)))
    vectors, frames = (
        network(bundle, name, routing=routing).double() for name in ("momke", "momke_frames")
    )
    frames.load_state_dict(vectors.state_dict())
    single = dataclasses.replace(batch, features={m: x[:, None] for m, x in batch.features.items()})
    for one, other in zip(outputs(frames, single), outputs(vectors, batch), strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=0)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_an_utterance_does_not_depend_on_others_on_padding_or_on_the_order_of_frames(
    toy: Toy, routing: str
) -> None:
    bundle = toy(LENGTHS, frames=6, lacking=0.3)
    model, batch = network(bundle, routing=routing).double(), uneven(bundle)
    before = outputs(model, batch)
    alone = dataclasses.replace(
        batch, features={m: x[2:4] for m, x in batch.features.items()}, observed=batch.observed[2:4]
    )
    wider = dataclasses.replace(
        batch,
        features={
            m: torch.cat([x[:, :1] * 0, x, torch.zeros(len(x), 7, x.shape[2])], 1)
            for m, x in batch.features.items()
        },
    )
    turned = dataclasses.replace(batch, features={m: x.flip(1) for m, x in batch.features.items()})
    for changed, rows in ((alone, slice(2, 4)), (wider, slice(None)), (turned, slice(None))):
        for found, expected in zip(outputs(model, changed), before, strict=True):
            torch.testing.assert_close(found, expected[rows], atol=1e-13, rtol=0)


def test_what_is_missing_reaches_no_output_and_what_is_dropped_no_gradient(toy: Toy) -> None:
    bundle = toy(LENGTHS, frames=6, lacking=0.3)
    model, batch = network(bundle), whole(bundle, law=masks.random_frames())
    features = {m: x.clone().requires_grad_() for m, x in batch.features.items()}
    model(batch, features).logits.square().sum().backward()
    for index, x in enumerate(features[m] for m in sorted(features)):
        seen = (x != 0).any(dim=2) & batch.observed[:, index, None]
        assert x.grad is not None and torch.equal((x.grad != 0).any(dim=2), seen)
    loud = {
        m: torch.where(batch.observed[:, i, None, None], x, torch.full_like(x, 1e3))
        for i, (m, x) in enumerate(sorted(batch.features.items()))
    }
    assert any(not torch.equal(loud[m], batch.features[m]) for m in loud)
    for found, expected in zip(
        outputs(model, dataclasses.replace(batch, features=loud)),
        outputs(model, batch),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_parameters_are_momkes_and_vectors_are_refused(toy: Toy) -> None:
    bundle = toy(LENGTHS)
    sizes = [
        {k: p.shape for k, p in network(bundle, name).named_parameters()}
        for name in ("momke", "momke_frames")
    ]
    assert sizes[0] == sizes[1]
    batch = whole(bundle)
    with pytest.raises(InputError, match="momke_frames, audio"):
        network(bundle)(batch, batch.features)


@pytest.mark.parametrize(("first", "second"), [("enhance", "ebmc"), ("unimodal", "plain")])
def test_both_stages_train_on_it_and_the_second_starts_from_the_first(
    toy: Toy, first: str, second: str
) -> None:
    bundle = toy(LENGTHS, task=SCORE, frames=6)
    batch = whole(bundle, law=masks.random_frames())
    before, after = (
        build_method(name, "paper", (), network(bundle, routing=routing), SCORE, bundle.dims)
        for name, routing in ((first, "own"), (second, "unnormalised"))
    )
    assert isinstance(before.backbone, FrameMoMKE)
    for p in before.parameters():
        p.data += 0.01
    after.load_state_dict(before.state_dict(), strict=False)
    for method, trained in (
        (before, {"encoders"}),
        (after, {"encoders", "routers", "tail", "prediction"}),
    ):
        loss = method.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        found = {
            k.split(".")[1]
            for k, p in method.backbone.named_parameters(prefix="x")
            if p.grad is not None
        }
        assert torch.isfinite(loss) and trained <= found
    if isinstance(before, Enhance) and isinstance(after, Ebmc):
        logits = before.eval().parts(before(batch).z).logits
        torch.testing.assert_close(after.teacher(batch).parts, torch.stack(list(logits.values())))
