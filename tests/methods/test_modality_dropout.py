"""Modality dropout: what it hides, how often, and that tests are left alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.masks import complete, draw
from mmlib.methods import build_method
from mmlib.methods.modality_dropout import kept
from mmlib.nn.batch import to_device

Toy = Callable[..., Bundle]


def test_only_what_is_there_is_hidden_and_something_is_left() -> None:
    torch.manual_seed(0)
    observed = torch.rand(4000, 3) < 0.6
    observed[~observed.any(dim=1), 0] = True
    stays = kept(observed, 0.7)
    assert not (stays & ~observed).any() and stays.any(dim=1).all()
    assert torch.equal(kept(observed, 0.0), observed)


@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_patterns_are_independent_coins_of_which_the_empty_one_goes_to_single_modalities(
    rate: float,
) -> None:
    torch.manual_seed(1)
    n = 60_000
    found = kept(torch.ones(n, 3, dtype=torch.bool), rate).numpy()
    for pattern in itertools.product((False, True), repeat=3):
        count = sum(pattern)
        chance = 0.0 if not count else (1 - rate) ** count * rate ** (3 - count)
        chance += rate**3 / 3 * (count == 1)
        share = (found == np.array(pattern)).all(axis=1).mean()
        assert abs(share - chance) <= 4 * np.sqrt(chance * (1 - chance) / n) + 1e-12


def test_training_hides_and_prediction_does_not(toy: Toy) -> None:
    bundle = toy()
    batch = to_device(bundle, "train", draw(complete(), bundle, "train", 0), "cpu").batch([0, 1, 2])
    made = []
    for name in ("plain", "modality_dropout"):
        torch.manual_seed(0)
        network = build_backbone("concat", bundle.dims, 3, 2, [("encoder", "mlp")])
        made.append(build_method(name, "paper", (), network, bundle.task, bundle.dims))
    plain, dropped = made
    assert torch.equal(plain(batch).logits, dropped(batch).logits)
    losses = {dropped.loss(batch).item() for _ in range(5)}
    assert len(losses) > 1 and {plain.loss(batch).item() for _ in range(5)} != losses


def test_without_a_rate_it_is_the_network_alone_and_a_rate_of_one_is_refused(toy: Toy) -> None:
    bundle = toy()
    batch = to_device(bundle, "train", draw(complete(), bundle, "train", 0), "cpu").batch([0, 1])
    network = build_backbone("concat", bundle.dims, 3, 2, [("encoder", "mlp")])
    options = [("rate", 0.0)]
    method = build_method("modality_dropout", "paper", options, network, bundle.task, bundle.dims)
    plain = build_method("plain", "paper", (), network, bundle.task, bundle.dims)
    assert method.loss(batch).item() == plain.loss(batch).item()
    with pytest.raises(InputError, match="modality dropout"):
        build_method(
            "modality_dropout", "paper", [("rate", 1.0)], network, bundle.task, bundle.dims
        )
