"""MRAN-style: what tells a missing modality from zeros, what is reconstructed, and the words of the classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.mran import Mran, words_of
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
BINARIES = Task("binaries", ("a", "b", "c"))
STAGE = Stage("mran", "mran", "style", network=(("dropout", 0.0), ("heads", 2), ("hidden", 12)))


def method_of(bundle: Bundle, **options: object) -> Mran:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Mran)
    return method


def without_task(method: Mran, batch: object) -> float:
    """The loss, and the same draws' with both weights at 0, apart."""
    torch.manual_seed(3)
    whole = method.loss(batch).item()
    method.config = dataclasses.replace(method.config, reconstruction=0.0, alignment=0.0)
    torch.manual_seed(3)
    return whole - method.loss(batch).item()


def test_only_the_index_tells_zeros_from_what_is_missing(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network = method_of(bundle).eval().backbone
    batch = batch_of(bundle)
    with torch.no_grad():
        for m in network.modalities:
            network.encoders[m].conv.linear.bias.zero_()  # zeros have the embedding 0
    features = {m: torch.zeros_like(x) for m, x in batch.features.items()}
    there = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    gone = dataclasses.replace(batch, observed=torch.zeros_like(batch.observed))
    apart = network(there, features).logits - network(gone, features).logits
    assert apart.abs().max() > 1e-3
    with torch.no_grad():
        network.there[1] = network.there[0]
    torch.testing.assert_close(network(there, features).logits, network(gone, features).logits)


@pytest.mark.parametrize("targets", ["complete", "selfdrop"])
def test_the_reconstruction_is_over_what_is_known_and_was_not_given(targets: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], lacking=0.2)
    batch = batch_of(bundle)
    method = method_of(bundle, targets=targets, alignment=0.0)
    network, kept = method.backbone, []
    parts = network.parts

    def noted(given, features):  # type: ignore[no-untyped-def]
        made = parts(given, features)
        kept.extend([given.observed, made.made.detach()])
        return made

    network.parts = noted
    found = without_task(method, batch)
    given, made = kept[:2]
    values = batch.complete if targets == "complete" else batch.features
    assert values is not None
    gaps = []
    for i in range(len(batch)):
        for j, m in enumerate(method.modalities):
            x = values[m][[i]]
            if x.isfinite().all() and x.any() and not given[i, j]:
                gaps.append((made[i, j] - network.encoders[m](x)[0]).square().mean().item())
    assert len(gaps) > 5 and np.isclose(found, np.mean(gaps), atol=1e-5)


def test_the_target_does_not_learn(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2])
    method = method_of(bundle, targets="complete")
    batch = hide(batch_of(bundle), torch.tensor([True, False]))
    method.loss(batch).backward()
    assert method.backbone.encoders["text"].conv.linear.weight.grad.abs().max() == 0
    assert method.backbone.encoders["audio"].conv.linear.weight.grad.abs().max() > 0


def test_rows_with_one_modality_reconstruct_nothing_under_self_drop(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    alone = hide(batch_of(bundle), torch.tensor([False, True, False]))
    assert without_task(method_of(bundle, alignment=0.0), alone) == 0
    assert without_task(method_of(bundle, alignment=0.0), batch_of(bundle)) > 0


def test_the_alignment_is_0_where_all_point_to_their_word_and_2_where_away(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle)
    with torch.no_grad():
        method.project.weight.copy_(torch.eye(12))
        method.project.bias.zero_()
    labels = torch.tensor([0, 1, 2, 1])
    toward = method.words[labels][:, None] * torch.tensor([0.1, 1.0, 7.0])[:, None]
    other = method.words[(labels + 1) % 3][:, None].expand(-1, 3, -1)
    for made, expected in ((toward, 0.0), (-toward, 2.0), (other, 1.0)):
        assert np.isclose(method.apart(made, labels).item(), expected, atol=1e-6)


@pytest.mark.parametrize("task", [CLASSES, SCORE, BINARIES], ids=lambda t: t.kind)
def test_words_are_of_unit_length_and_stay(task: Task, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method, batch = method_of(bundle), batch_of(bundle)
    words = method.words.clone()
    torch.testing.assert_close(words @ words.t(), torch.eye(len(words)))
    lengths = (words_of(task, batch.labels) @ words).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(len(batch)))
    method.train().loss(batch).backward()
    assert "words" not in dict(method.named_parameters()) and "words" in method.state_dict()
    assert method.project.weight.grad.abs().max() > 0
    assert {id(p) for p in method.clipped()} >= {id(p) for p in method.project.parameters()}


def test_which_words_a_label_has() -> None:
    thirds = words_of(Task("score", range=(-3.0, 3.0)), torch.tensor([-3, -1.1, -0.9, 0.9, 1.1, 3]))
    assert thirds.argmax(dim=1).tolist() == [0, 0, 1, 1, 2, 2]
    assert words_of(CLASSES, torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    two = words_of(Task("binaries", ("a", "b")), torch.tensor([[1, 0], [1, 1]]))
    torch.testing.assert_close(two * 2**0.5, torch.tensor([[0.0, 1, 1, 0], [0, 1, 0, 1]]))


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    for options in ({"targets": "x"}, {"alignment": -1.0}, {"reconstruction": -1.0}):
        with pytest.raises(InputError):
            method_of(bundle, **options)
    for network in (
        (("hidden", 2), ("heads", 1)),  # three words
        (("heads", 3), ("hidden", 16)),
        (("layers", 0),),
        (("dropout", 1.0),),
    ):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
