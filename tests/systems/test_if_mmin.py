"""IF-MMIN: what steers its cascade, what its invariants are held against, and its teacher's distance of moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, batch_of, built, chain

from mmlib.backbones import build_backbone
from mmlib.backbones.if_mmin import IFMMIN
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.if_mmin import IfMmin
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 12))
TEACHER = Stage("reference", "if_mmin_teacher", network=SIZE)
STUDENT = Stage("if_mmin", "if_mmin", network=SIZE)


def student(bundle: Bundle, **options: object) -> IfMmin:
    stage = dataclasses.replace(STUDENT, options=tuple(options.items()))
    method = chain([TEACHER, stage], bundle)[-1]
    assert isinstance(method, IfMmin)
    with torch.no_grad():  # so that the network's parts are not the teacher's
        for p in [*method.backbone.encoders.parameters(), *method.backbone.shared.parameters()]:
            p += 0.1 * torch.randn_like(p)
    return method.train()


def test_the_network_has_the_published_size_but_for_its_encoders() -> None:
    network = build_backbone("if_mmin", {"a": 130, "l": 1024, "v": 342}, 4, 1)
    convolutions = sum(128 * (k * 1024 + 1) for k in (3, 4, 5)) + 385 * 128
    recurrent = sum(4 * 128 * (d + 128 + 2) for d in (130, 342))
    own = sum(p.numel() for p in network.encoders.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert total - own + convolutions + recurrent == 3_782_852


def test_the_prediction_reads_the_codes_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = student(bundle).eval(), batch_of(bundle)
    before = method(batch).logits
    with torch.no_grad():
        for part in (method.backbone.imagine.first, method.backbone.imagine.last):
            for p in part.parameters():
                p.normal_()
    torch.testing.assert_close(method(batch).logits, before, rtol=0, atol=0)


def test_without_invariants_the_first_block_reads_the_embeddings(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = student(bundle).eval(), batch_of(bundle)
    network = method.backbone
    assert isinstance(network, IFMMIN)
    with torch.no_grad():
        network.shared.second.weight.zero_()
        network.shared.second.bias.zero_()
    parts = network.parts(batch, batch.features)
    output, codes = torch.cat(list(parts.fused.z.values()), dim=1), []
    for block in network.imagine.blocks:  # h, o_1, o_2, ...: nothing adds up, unlike MMIN's
        code, output = block(output)
        codes.append(code)
    torch.testing.assert_close(parts.imagined.codes, torch.cat(codes, dim=1))


@pytest.mark.parametrize("targets", ["complete", "selfdrop"])
def test_invariants_are_held_against_the_teachers_of_all_that_is_known(
    targets: str, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3], lacking=0.2)
    batch = batch_of(bundle)
    method = student(bundle, targets=targets, invariant=1.0, imagined=0.0)
    heavy = student(bundle, targets=targets, invariant=3.0, imagined=0.0)
    heavy.load_state_dict(method.state_dict())
    kept: list[torch.Tensor] = []
    parts = method.backbone.parts

    def noted(given, features):  # type: ignore[no-untyped-def]
        made = parts(given, features)
        kept.extend([given.observed, made.invariants.detach()])
        return made

    method.backbone.parts = noted
    torch.manual_seed(8)
    one = method.loss(batch).item()
    torch.manual_seed(8)
    found = (heavy.loss(batch).item() - one) / 2
    given, invariants = (x.numpy() for x in kept)
    values = batch.complete if targets == "complete" else batch.features
    gaps = []
    for i in range(len(batch)):
        known = [
            bool(values[m][i].isfinite().all()) and bool(values[m][i].any())
            for m in method.modalities
        ]
        if not any(k and not g for k, g in zip(known, given[i], strict=True)):
            continue
        for j, m in enumerate(method.modalities):
            if not known[j]:
                continue
            h = method.teacher["encoders"][m](values[m][i : i + 1])
            truth = method.teacher["shared"](h)[0].numpy()
            gaps.append(((invariants[i, 12 * j : 12 * j + 12] - truth) ** 2).mean())
    assert len(gaps) > 10 and np.isclose(found, np.mean(gaps), atol=1e-4)


def test_the_teacher_adds_the_distance_of_the_invariants(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2])
    batch = batch_of(bundle)
    method = built(dataclasses.replace(TEACHER, network=(*SIZE, ("apart", 2.0))), bundle).train()
    fused = method(batch)
    rows = []
    for i, m in enumerate(method.modalities):
        shared = method.backbone.shared(fused.z[m]).detach().double().numpy()
        rows.append(shared[batch.observed[:, i].numpy()])
    means = [x.mean(0) for x in rows]
    apart = np.linalg.norm(means[0] - means[1])
    for k in range(2, 6):
        x, y = (((r - mean) ** k).mean(0) for r, mean in zip(rows, means, strict=True))
        apart += np.linalg.norm(x - y)
    task = F.cross_entropy(fused.logits, batch.labels)
    assert np.isclose(method.loss(batch).item(), task.item() + 2 * apart, atol=1e-5)


def test_it_starts_from_the_teachers_encoders_and_invariants(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    teacher, method = chain([TEACHER, STUDENT], bundle)
    assert isinstance(method, IfMmin)
    for part in ("encoders", "shared"):
        wanted = getattr(teacher.backbone, part).state_dict()
        for mine in (getattr(method.backbone, part), method.teacher[part]):
            torch.testing.assert_close(mine.state_dict(), wanted, rtol=0, atol=0)
    method.train().loss(batch_of(bundle)).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.backbone.shared.parameters())
    alone = hide(batch_of(bundle), torch.tensor([False, True, False]))
    nothing = student(bundle, invariant=100.0, imagined=100.0)
    assert torch.isclose(nothing.loss(alone), nothing.fused_loss(alone, nothing(alone)))


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    mmin = built(Stage("reference", "mmin_teacher", network=SIZE), bundle)
    with pytest.raises(InputError, match="another network"):
        built(STUDENT, bundle).load_state_dict(mmin.state_dict(), strict=False)
    with pytest.raises(InputError, match="invariant"):
        built(dataclasses.replace(STUDENT, options=(("invariant", -1.0),)), bundle)
    with pytest.raises(InputError, match="apart"):
        built(dataclasses.replace(TEACHER, network=(("apart", -1.0),)), bundle)
