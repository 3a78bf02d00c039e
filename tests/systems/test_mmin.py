"""MMIN: what its imagination is held against, what its prediction reads, and where it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built, chain

from mmlib.backbones import build_backbone
from mmlib.backbones.mmin import MMIN
from mmlib.backbones.mmin_teacher import embed
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.mmin import Mmin
from mmlib.nn.batch import Batch, hide
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]
SIZE = (("hidden", 12),)
TEACHER = Stage("reference", "mmin_teacher", network=SIZE)
STUDENT = Stage("mmin", "mmin", network=(*SIZE, ("dropout", 0.0)))


def student(bundle: Bundle, **options: object) -> Mmin:
    stage = dataclasses.replace(STUDENT, options=tuple(options.items()))
    method = chain([TEACHER, stage], bundle)[-1]
    assert isinstance(method, Mmin)
    with torch.no_grad():  # so that the network's embeddings are not the teacher's
        for p in method.backbone.encoders.parameters():
            p += 0.1 * torch.randn_like(p)
    return method.train()


def forth_alone(bundle: Bundle, batch: Batch, **options: object) -> float:
    """MSE(h', g): what the loss gains by a weight of 1, under the same draws."""
    found = []
    for weight in (0.0, 1.0):
        torch.manual_seed(7)
        method = student(bundle, imagined=weight, recalled=0.0, **options)
        torch.manual_seed(8)
        found.append(method.loss(batch).item())
    return found[1] - found[0]


def test_the_networks_have_the_published_size_but_for_their_encoders() -> None:
    network = build_backbone("mmin", {"a": 130, "l": 1024, "v": 342}, 4, 1)
    convolutions = sum(128 * (k * 1024 + 1) for k in (3, 4, 5)) + 385 * 128
    recurrent = sum(4 * 128 * (d + 128 + 2) for d in (130, 342))
    own = sum(p.numel() for p in network.encoders.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert total - own + convolutions + recurrent == 5_444_228


def test_the_prediction_reads_the_codes_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = student(bundle).eval(), batch_of(bundle)
    before = method(batch).logits
    network = method.backbone
    assert isinstance(network, MMIN)
    with torch.no_grad():
        for part in (network.recall, network.imagine.first, network.imagine.last):
            for p in part.parameters():
                p.normal_()
        torch.testing.assert_close(method(batch).logits, before, rtol=0, atol=0)
        network.imagine.blocks[-1].encode[-1].bias += 1
    assert (method(batch).logits - before).abs().max() > 1e-4


@pytest.mark.parametrize("slots", ["all", "wanted"])
def test_complete_targets_are_the_teachers_embeddings_of_the_reversed_input(
    slots: str, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3], lacking=0.2)
    batch = batch_of(bundle)
    options = {"targets": "complete", "slots": slots}
    torch.manual_seed(7)
    method = student(bundle, **options)
    assert method.backbone.needs_complete
    made = method.backbone.parts(batch, batch.features).imagined.made.detach().numpy()
    gaps = []
    for i in range(len(batch)):
        known = [bool(batch.complete[m][i].isfinite().all()) for m in method.modalities]
        wanted = [k and not bool(batch.observed[i, j]) for j, k in enumerate(known)]
        if not any(wanted):
            continue
        for j, m in enumerate(method.modalities):
            if not known[j] or (slots == "wanted" and not wanted[j]):
                continue
            layer = method.teacher["encoders"][m].conv.linear
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            x = batch.complete[m][i].numpy() if wanted[j] else 0 * batch.features[m][i].numpy()
            target = np.maximum(weight @ x + bias, 0)
            gaps.append(((made[i, 12 * j : 12 * j + 12] - target) ** 2).mean())
    assert np.isclose(forth_alone(bundle, batch, **options), np.mean(gaps), atol=1e-4)


def test_given_modalities_share_one_target(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = student(bundle, targets="complete")
    alone = hide(batch_of(bundle), torch.tensor([True, False, False]))
    reverse = known(alone, "complete").reverse
    rows = alone.observed[:, 0].nonzero()[:, 0]
    truth = embed(method.encoders, reverse, reverse.features)
    audio = method.teacher["encoders"]["audio"].conv.linear
    torch.testing.assert_close(truth["audio"][rows], audio.bias.relu().expand(len(rows), -1))
    assert truth["text"][rows].std(dim=0).max() > 0.01


def test_rows_with_one_modality_imagine_nothing_under_self_drop(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    alone = hide(batch_of(bundle), torch.tensor([False, True, False]))
    assert forth_alone(bundle, alone) == 0
    assert forth_alone(bundle, batch_of(bundle)) > 0


def test_the_task_may_read_all_that_is_available(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    batch = batch_of(bundle)
    values = {}
    for reads in ("dropped", "available"):
        method = student(bundle, imagined=0.0, recalled=0.0, reads=reads)
        values[reads] = method.loss(batch).item(), method.fused_loss(batch, method(batch)).item()
    assert np.isclose(*values["available"]) and not np.isclose(*values["dropped"], atol=1e-4)


def test_the_way_back_is_held_against_embeddings_that_it_does_not_train(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    batch = batch_of(bundle)
    method = student(bundle, imagined=0.0, recalled=0.5, targets="complete")
    parts = method.backbone.parts(batch, batch.features)
    fixed = parts.joined.detach().clone()
    back = (method.backbone.recall(parts.imagined.made).made - fixed).square().mean()
    absolute = (parts.fused.logits[:, 0] - batch.labels).abs().mean()
    expected = absolute + 0.5 * back
    encoder = method.backbone.encoders["text"].conv.linear.weight
    gradients = [torch.autograd.grad(x, encoder)[0] for x in (method.loss(batch), expected)]
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(*gradients)


def test_it_starts_from_the_teachers_encoders_which_stay(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    teacher, method = chain([TEACHER, STUDENT], bundle)
    assert isinstance(method, Mmin)
    for name, values in teacher.backbone.encoders.state_dict().items():
        for mine in (method.backbone.encoders, method.teacher["encoders"]):
            torch.testing.assert_close(mine.state_dict()[name], values, rtol=0, atol=0)
    method.train().loss(batch_of(bundle)).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    again = built(STUDENT, bundle, 5)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.state_dict(), method.state_dict(), rtol=0, atol=0)
    assert again.train().loss(batch_of(bundle)).isfinite()


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    alone = built(STUDENT, bundle)
    assert alone.eval()(batch_of(bundle)).logits.isfinite().all()
    with pytest.raises(InputError, match="no teacher"):
        alone.loss(batch_of(bundle))
    wide = built(dataclasses.replace(TEACHER, network=(("hidden", 8),)), bundle)
    with pytest.raises(InputError, match="12 wide"):
        alone.load_state_dict(wide.state_dict(), strict=False)
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(TEACHER, method="mmin"), bundle)
    for options in ({"targets": "x"}, {"reads": "x"}, {"slots": "x"}, {"imagined": -1.0}):
        with pytest.raises(InputError):
            built(dataclasses.replace(STUDENT, options=tuple(options.items())), bundle)
    for network in ((("hidden", 0),), (("dropout", 1.0),), (("blocks", 0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STUDENT, network=network), bundle)
