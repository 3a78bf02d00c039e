"""The concatenation network with indicators: what an indicator adds, and what is left without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.masks import complete, draw
from mmlib.nn.batch import to_device

SIZE = [("encoder", "mlp"), ("hidden", 7)]


def test_an_indicator_adds_its_column_of_the_head_and_nothing_else(
    toy: Callable[..., Bundle],
) -> None:
    bundle = toy()
    batch = to_device(bundle, "train", draw(complete(), bundle, "train", 0), "cpu").batch([0, 1, 2])
    torch.manual_seed(0)
    network = build_backbone("concat_indicators", bundle.dims, 3, 2, SIZE).eval()
    without = batch.observed.clone()
    without[:, 1] = False  # the same features, said to be missing
    told = network(batch, batch.features)
    other = network(dataclasses.replace(batch, observed=without), batch.features)
    column = network.prediction.weight[:, 8 + 7]  # that of the second modality's indicator
    torch.testing.assert_close(told.logits - other.logits, column.expand(len(batch), -1))
    assert told.z["audio"].shape[1] == network.embedding_dim == 8
    parts = network.unimodal(told)
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(dim=0), told.logits)


def test_with_indicators_of_weight_0_it_is_the_concatenation(toy: Callable[..., Bundle]) -> None:
    bundle = toy()
    batch = to_device(bundle, "train", draw(complete(), bundle, "train", 0), "cpu").batch([0, 1])
    plain = build_backbone("concat", bundle.dims, 3, 2, SIZE).eval()
    network = build_backbone("concat_indicators", bundle.dims, 3, 2, SIZE).eval()
    network.encoders.load_state_dict(plain.encoders.state_dict())
    features = [place for place in range(24) if place % 8 != 7]
    with torch.no_grad():
        network.prediction.weight.zero_()
        network.prediction.weight[:, features] = plain.prediction.weight
        network.prediction.bias.copy_(plain.prediction.bias)
    expected = plain(batch, batch.features).logits
    torch.testing.assert_close(network(batch, batch.features).logits, expected)
