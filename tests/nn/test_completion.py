"""What completing systems share: divisions of a batch, kinds of labels, and means over what is seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.nn.batch import Batch, make_layout
from mmlib.nn.completion import known
from mmlib.nn.kinds import kinds
from mmlib.nn.latents import Refiner, check_sizes, mean_seen

NAMES = ("audio", "text", "vision")


def batch_of(n: int = 400, frames: int = 0) -> Batch:
    """Random rows; every second one has all modalities, the others one or two; the features are never zero."""
    torch.manual_seed(0)
    observed = torch.rand(n, 3) < 0.5
    observed[:, 0] |= ~observed.any(dim=1)
    observed[::2] = True
    shape = (n, frames, 2) if frames else (n, 2)
    whole = {m: 1 + torch.rand(shape) for m in NAMES}
    features = {
        m: x * observed[:, i].reshape(-1, *[1] * (x.ndim - 1))
        for i, (m, x) in enumerate(whole.items())
    }
    labels = torch.zeros(n, dtype=torch.long)
    return Batch(features, observed, labels, labels, make_layout([n]), whole)


@pytest.mark.parametrize("frames", [0, 3])
def test_self_drop_shows_less_and_asks_for_the_rest_of_what_is_there(frames: int) -> None:
    batch = batch_of(frames=frames)
    division = known(batch, "selfdrop", 0.5)
    shown, asked = division.given.observed, division.wanted
    assert torch.equal(shown | asked, batch.observed) and not (shown & asked).any()
    assert torch.equal(division.seen, batch.observed) and shown.any(dim=1).all()
    for i, m in enumerate(NAMES):
        assert torch.equal(division.given.features[m].flatten(1).any(dim=1), shown[:, i])
        assert torch.equal(division.whole.features[m], batch.features[m])
    several = batch.observed.sum(dim=1) > 1
    assert asked.any(dim=1)[several].float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not asked.any(dim=1)[~several].any()


def test_no_row_is_dropped_at_a_share_of_zero_and_each_that_can_be_at_one() -> None:
    batch = batch_of()
    assert not known(batch, "selfdrop", 0.0).wanted.any()
    several = batch.observed.sum(dim=1) > 1
    assert torch.equal(known(batch, "selfdrop", 1.0).wanted.any(dim=1), several)


def test_complete_targets_are_what_the_mask_hides_where_its_truth_is_known() -> None:
    batch = batch_of()
    assert batch.complete is not None
    batch.complete["text"][7] = torch.nan
    batch.observed[7], batch.observed[8] = torch.tensor([1, 0, 0]), torch.tensor([1, 0, 1])
    division = known(batch, "complete", 0.5)
    assert division.given is batch
    assert division.wanted[7].tolist() == [False, False, True]
    assert division.wanted[8].tolist() == [False, True, False]
    assert all(x.isfinite().all() for x in division.whole.features.values())
    with pytest.raises(InputError):
        known(dataclasses.replace(batch, complete=None), "complete", 0.5)


def test_the_mean_of_what_is_seen() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    values[0, 1] = torch.nan
    seen = torch.tensor([[True, False, True], [False, False, False]])
    assert mean_seen(values, seen).tolist() == [[2.0, 3.0], [0.0, 0.0]]


def test_every_modality_is_refined_by_its_own_weights() -> None:
    torch.manual_seed(0)
    refiner, values = Refiner(2, 4).double(), torch.randn(3, 2, 4, dtype=torch.float64)
    found = refiner(values).detach().numpy()
    for m in range(2):
        first, second = (
            (layer.weight[m].detach().numpy(), layer.bias[m].detach().numpy())
            for layer in (refiner.first, refiner.second)
        )
        x = values[:, m].numpy()
        inner = np.maximum(x @ first[0] + first[1], 0)
        np.testing.assert_allclose(found[:, m], x + inner @ second[0] + second[1])


@pytest.mark.parametrize("hidden, counts, rate", [(6, {}, 0.0), (8, {"wide": 0}, 0.0), (8, {}, 1)])
def test_sizes_that_make_no_sense_are_refused(
    hidden: int, counts: dict[str, int], rate: float
) -> None:
    check_sizes("toy", 8, {"wide": 1}, 0.5)
    with pytest.raises(InputError):
        check_sizes("toy", hidden, counts, rate)


def test_scores_are_of_the_nearest_of_seven_levels_or_of_two_signs() -> None:
    task = Task("score", range=(-3.0, 3.0))
    labels = torch.tensor([-3.0, -1.4, -0.2, 0.0, 0.6, 2.8])
    assert (kinds(task, labels, 7).argmax(dim=1) - 3).tolist() == [-3, -1, 0, 0, 1, 3]
    assert kinds(task, labels)[:, 1].tolist() == [0, 0, 0, 1, 1, 1]


def test_classes_and_answers_are_kinds() -> None:
    found = kinds(Task("classes", ("a", "b", "c")), torch.tensor([2, 0]))
    assert found.tolist() == [[0, 0, 1], [1, 0, 0]]
    answers = kinds(Task("binaries", ("x", "y")), torch.tensor([[1, 0], [0, 0]]))
    assert answers.tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
