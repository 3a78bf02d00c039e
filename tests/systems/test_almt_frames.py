"""ALMT on frames: which frames its tokens see, and that their order counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from laws import DIMS, batch_of, built

from mmlib.backbones.almt_frames import FrameALMT
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.crossings import positions
from mmlib.nn.hyper import FrameTokens, HyperSizes

Toy = Callable[..., Bundle]
SIZE = {"dropout": 0.0, "hidden": 8, "heads": 2, "tokens": 3}


def test_tokens_see_the_frames_that_are_there_and_not_those_that_were_dropped() -> None:
    module = FrameTokens(5, HyperSizes(3, 8, 2, 1, 0.0), 1)
    values, seen = torch.randn(4, 6, 5), torch.tensor([True, True, True, False])
    values[0, 3:] = 0  # padding
    values[1, 2] = 0  # a dropped frame
    made = module(values, seen)
    torch.testing.assert_close(made[:1], module(values[:1, :3], seen[:1]))
    torch.testing.assert_close(made[3], module.absent)
    entered = module.enter(values) + positions(6, 8, values)
    kept = entered[1:2, [0, 1, 3, 4, 5]]  # as if the dropped frame did not exist
    torch.testing.assert_close(made[1:2], module.stack(kept, torch.ones(1, 5) > 0))
    moved = values.clone()
    moved[2, 4] += 1
    changed = (module(moved, seen) - made).abs().amax(dim=(1, 2))
    assert changed[2] > 1e-4 and not changed[[0, 1, 3]].any()


def test_the_order_of_frames_counts(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=4)
    network = built(Stage("reference", "almt_frames", network=tuple(SIZE.items())), bundle).backbone
    assert isinstance(network, FrameALMT)
    batch = batch_of(bundle)
    batch = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    features = {m: torch.randn_like(x) for m, x in batch.features.items()}
    turned = {m: x.flip(1) for m, x in features.items()}
    network.eval()
    apart = network(batch, features).logits - network(batch, turned).logits
    assert apart.abs().max() > 1e-4
    with pytest.raises(InputError):
        built(Stage("reference", "almt_frames", network=(("embedding", 0),)), bundle)
