"""A reading of DEVA: what its descriptions say of a feature, and what is left where nothing is taken in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built, peek
from torch import Tensor

from mmlib.backbones.deva import Description
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.deva import Deva
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
STAGE = Stage("deva", "deva", "style", network=(("hidden", 8),))


def method_of(bundle: Bundle) -> Deva:
    method = built(STAGE, bundle)
    assert isinstance(method, Deva)
    return method.eval()


def described(values: Tensor, seen: Tensor) -> Tensor:
    torch.manual_seed(3)
    description = Description(values.shape[1], 4)
    description.cut(values, seen)
    made: Tensor = description(values).detach()
    return made


def test_a_third_of_the_rows_is_low_a_third_normal_and_a_third_high() -> None:
    values, seen = torch.randn(45, 3), torch.rand(45) < 0.7
    description = Description(3, 4)
    description.cut(values, seen)
    made = description(values)
    words = description.words.detach().numpy()
    there = values[seen].numpy()
    for i in np.flatnonzero(seen.numpy()):
        total = np.zeros(4)
        for feature in range(3):
            lower = (there[:, feature] < values[i, feature].item()).sum()
            level = int(lower >= int(len(there) / 3)) + int(lower >= int(len(there) * 2 / 3))
            total += words[level, feature] / 3
        np.testing.assert_allclose(made[i].detach().numpy(), total, atol=1e-6)


def test_a_rescaling_that_keeps_the_order_leaves_a_description() -> None:
    values, seen = torch.randn(30, 3), torch.rand(30) < 0.8
    before = described(values, seen)
    assert torch.equal(described(5 * values.exp() - 2, seen), before)
    assert not torch.equal(described(-values, seen), before)


def test_without_weights_the_text_alone_predicts(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle), batch_of(bundle)
    rows = batch.observed[:, 1]
    alone = hide(batch, torch.tensor([False, True, False]))
    assert not torch.allclose(method(batch).logits[rows], method(alone).logits[rows])
    with torch.no_grad():
        method.backbone.weights.zero_()
    assert torch.equal(method(batch).logits, method(alone).logits)


def test_cuts_are_those_of_training_and_come_back_with_the_weights(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, looked = method_of(bundle), peek(bundle)
    method.start_epoch(looked)
    (batch,) = looked.train()
    values = batch.features["vision"][batch.observed[:, 2]].numpy()
    cuts = cast(Description, method.backbone.descriptions["vision"]).cuts.clone()
    for place, share in enumerate((1 / 3, 2 / 3)):
        below = (values < cuts[place].numpy()).sum(axis=0)
        assert (below == int(len(values) * share)).all()
    method.start_epoch(dataclasses.replace(peek(bundle, 1), train=looked.held_out))
    again = method_of(bundle)
    again.load_state_dict(method.state_dict())
    assert torch.equal(cast(Description, again.backbone.descriptions["vision"]).cuts, cuts)
    torch.testing.assert_close(again(batch).logits, method(batch).logits)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    for network in ((("levels", 0),), (("dropout", 1.0),), (("anchor", "smell"),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
