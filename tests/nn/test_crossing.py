"""Frames, attention over several modalities' frames, and finding the rows of a split again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.methods.contribution import repeated
from mmlib.nn.batch import Batch, Resident, hide, make_layout
from mmlib.nn.crossing import Crossing
from mmlib.nn.frames import FrameConv, as_frames, time_mean
from mmlib.nn.rows import RowIndex, checksums


def array(values: Tensor) -> np.ndarray:
    return values.detach().double().numpy()


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ array(layer.weight).T + array(layer.bias))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_frame_convolution_is_torchs_with_zeros_around(kernel: int) -> None:
    mine, torchs = FrameConv(6, 4, kernel), nn.Conv1d(6, 4, kernel, padding=kernel // 2)
    torchs.weight.data = mine.linear.weight.data.unflatten(1, (kernel, 6)).transpose(1, 2)
    torchs.bias.data = mine.linear.bias.data  # type: ignore[union-attr]
    for steps in (1, 2, 7):
        x = torch.randn(3, steps, 6)
        torch.testing.assert_close(
            mine(x), torchs(x.transpose(1, 2)).transpose(1, 2), rtol=1e-5, atol=1e-6
        )
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in torchs.parameters())


@pytest.mark.parametrize("kernel", [0, 2, -1])
def test_a_kernel_has_a_frame_in_its_middle(kernel: int) -> None:
    with pytest.raises(InputError):
        FrameConv(3, 3, kernel)


def test_vectors_are_sequences_of_one_frame_and_pictures_are_refused() -> None:
    x = torch.randn(4, 5)
    assert torch.equal(as_frames(x)[:, 0], x) and as_frames(x).shape == (4, 1, 5)
    assert torch.equal(time_mean(x), x)
    frames = torch.randn(4, 3, 5)
    assert as_frames(frames) is frames
    torch.testing.assert_close(time_mean(frames), (frames[:, 0] + frames[:, 1] + frames[:, 2]) / 3)
    with pytest.raises(InputError):
        as_frames(torch.randn(2, 3, 4, 4))


def crossed_by_hand(
    layer: Crossing, asks: np.ndarray, told: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """One sample: each group and head by itself, every query by itself."""
    width = asks.shape[1]
    size = width // layer.heads
    query, (key, value) = linear(layer.query, asks), np.split(linear(layer.told, told), 2, axis=1)
    found = np.zeros((len(asks), layer.groups * width))
    for group in range(layer.groups):
        keys = np.flatnonzero(seen[group])
        for head in range(layer.heads):
            at = slice(group * width + head * size, group * width + (head + 1) * size)
            for t in range(len(asks)):
                if len(keys):
                    shares = softmax(key[keys, at] @ query[t, at] / size**0.5)
                    found[t, at] = shares @ value[keys, at]
    return linear(layer.out, found)


@pytest.mark.parametrize("heads, groups", [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_crossing_is_every_head_of_every_group_by_hand(heads: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = Crossing(6, heads, groups).double()
    asks, told = (
        torch.randn(5, 4, 6, dtype=torch.float64),
        torch.randn(5, 7, 6, dtype=torch.float64),
    )
    seen = torch.rand(5, groups, 7) < 0.5
    seen[0], seen[1, 0] = False, False
    found = layer(asks, told, seen)
    for n in range(5):
        np.testing.assert_allclose(
            array(found[n]),
            crossed_by_hand(layer, array(asks[n]), array(told[n]), seen[n].numpy()),
            atol=1e-12,
        )
    torch.testing.assert_close(found[0], layer.out.bias.expand(4, 6))


def test_a_key_that_is_not_seen_has_no_gradient_and_no_effect() -> None:
    layer, asks, told = (
        Crossing(4, 2, 2),
        torch.randn(1, 3, 4),
        torch.randn(1, 5, 4, requires_grad=True),
    )
    seen = torch.tensor([[[True, True, False, False, False], [True, False, False, True, False]]])
    found = layer(asks, told, seen)
    (gradient,) = torch.autograd.grad(found.square().sum(), told)
    assert (gradient[0, [2, 4]] == 0).all() and (gradient[0, [0, 1, 3]] != 0).any(dim=1).all()


def test_groups_see_apart_what_a_sum_of_attentions_would() -> None:
    """I_g + I_1 + I_2 of Eq. 9 as three layers with the same maps."""
    torch.manual_seed(1)
    layer = Crossing(6, 2, 3).double()
    asks, told = (
        torch.randn(2, 4, 6, dtype=torch.float64),
        torch.randn(2, 9, 6, dtype=torch.float64),
    )
    seen = torch.rand(2, 3, 9) < 0.7
    total = layer.out.bias
    for g in range(3):
        one = Crossing(6, 2, 1).double()
        mine = slice(6 * g, 6 * g + 6)
        one.query.weight.data, one.query.bias.data = (
            layer.query.weight[mine],
            layer.query.bias[mine],
        )
        both = [*range(6 * g, 6 * g + 6), *range(18 + 6 * g, 24 + 6 * g)]
        one.told.weight.data, one.told.bias.data = layer.told.weight[both], layer.told.bias[both]
        one.out.weight.data, one.out.bias.data = (
            layer.out.weight[:, mine],
            torch.zeros(6, dtype=torch.float64),
        )
        total = total + one(asks, told, seen[:, g : g + 1])
    torch.testing.assert_close(layer(asks, told, seen), total)


def some_batch(n: int = 12, dtype: torch.dtype = torch.float32) -> Batch:
    features = {"audio": torch.randn(n, 3, 5, dtype=dtype), "text": torch.randn(n, 4, dtype=dtype)}
    return Batch(
        features,
        torch.ones(n, 2, dtype=torch.bool),
        torch.arange(n) % 3,
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def split(n: int = 12, dtype: torch.dtype = torch.float32) -> Resident:
    """Twelve dialogues of one utterance."""
    batch = some_batch(n, dtype)
    starts = np.arange(n + 1)
    return Resident(batch.features, batch.observed, batch.labels, batch.speaker, starts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_rows_are_found_in_whichever_batch_they_stand(dtype: torch.dtype) -> None:
    whole = split(dtype=dtype)
    index = RowIndex([whole.batch([6, 7, 8, 9, 10, 11]), whole.batch([0, 1, 2, 3, 4])])
    found = index.find(whole.batch([11, 3, 0, 7]))
    assert found is not None and found.tolist() == [5, 9, 6, 1]
    every = checksums(whole.batch(range(12)))
    assert torch.equal(checksums(whole.batch([11, 3, 0, 7])), every[[11, 3, 0, 7]])


def test_rows_of_longer_dialogues_are_found_one_by_one() -> None:
    whole = dataclasses.replace(split(), starts=np.array([0, 3, 4, 9, 12]))
    index = RowIndex([whole.batch([0, 1]), whole.batch([2, 3])])
    found = index.find(whole.batch([3, 1]))
    assert found is not None and found.tolist() == [9, 10, 11, 3]


def test_rows_of_another_split_and_changed_ones_are_not_known() -> None:
    whole = split()
    index = RowIndex([whole.batch(range(12))])
    assert index.find(whole.batch([4, 5])) is not None
    assert index.find(dataclasses.replace(whole).batch([4, 5])) is None
    assert index.find(hide(whole.batch([4, 5]), torch.tensor([True, False]))) is None
    assert index.find(repeated(whole.batch([4, 5]), torch.tensor([[True, True]]))) is None
    assert index.find(some_batch()) is None


def test_batches_without_one_split_have_no_numbers() -> None:
    for batches in ([some_batch()], [split().batch([0]), split().batch([1])]):
        with pytest.raises(InputError, match="one split"):
            RowIndex(batches)


@pytest.mark.parametrize("place", ["audio", "text", "label", "order"])
def test_a_row_that_differs_in_anything_has_another_checksum(place: str) -> None:
    whole = split()
    before = checksums(whole.batch([4, 5]))
    if place == "label":
        whole.labels[5] += 1
    elif place == "order":
        whole.features["audio"][5] = whole.features["audio"][5].flip(0)
    else:
        flat = whole.features[place][5].flatten()
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
        whole.features[place][5] = flat.reshape(whole.features[place][5].shape)
    after = checksums(whole.batch([4, 5]))
    assert after[0] == before[0] and after[1] != before[1]


def test_checksums_of_many_rows_of_small_whole_numbers_do_not_meet() -> None:
    """Such rows differ in few bits: the hardest case for a sum of products."""
    n = 20000
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 4, indexing="ij"), dim=-1).reshape(
        -1, 4
    )[:n]
    batch = Batch(
        {"text": grid},
        torch.ones(n, 1, dtype=torch.bool),
        torch.zeros(n, dtype=torch.long),
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )
    assert len(checksums(batch).unique()) == n == len(grid)
