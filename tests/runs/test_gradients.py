"""What a run notes of its modalities' gradients: autograd's own, before clipping, without changing the training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mmlib.errors import InputError
from mmlib.masks import complete
from mmlib.nn.batch import to_device
from mmlib.runs.execute import build, execute, mask_of, prepare
from mmlib.runs.gradients import own_parameters, watch
from mmlib.runs.spec import RunSpec, Training

SPEC = RunSpec(
    "twin:iemocap6@smoke",
    0,
    backbone="concat",
    backbone_options=(("encoder", "mlp"), ("hidden", 8)),
    eval_masks=(("all", complete()),),
    training=Training(epochs=2, batch=4, lr=0.1, optimizer="sgd", weight_decay=0.0, clip=0.0),
    keep=("gradients",),
)


def test_own_gradients_are_those_of_autograd_and_updates_the_step_over_the_parameters() -> None:
    bundle = prepare(SPEC)
    mask = mask_of(SPEC, SPEC.train_mask, bundle, "train")
    batch = to_device(bundle, "train", mask, "cpu").batch([0, 1, 2])
    method = watch(build(SPEC, bundle))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    encoders = [list(method.backbone.encoders[m].parameters()) for m in bundle.modalities]
    expected = []
    for of in encoders:
        parts = torch.autograd.grad(method.loss(batch), of)
        expected.append(torch.cat([g.flatten() for g in parts]).norm().item())
    sizes = [torch.cat([p.detach().flatten() for p in of]).norm().item() for of in encoders]
    method.loss(batch).backward()
    method.after_backward()
    optimizer.step()
    found = method.series()
    assert found["own_gradient"].tolist() == pytest.approx(expected, rel=1e-5)
    ratios = [0.1 * g / size for g, size in zip(expected, sizes, strict=True)]
    assert found["own_update"].tolist() == pytest.approx(ratios, rel=1e-3)


def test_a_frozen_encoder_learns_nothing() -> None:
    bundle = prepare(SPEC)
    method = build(SPEC, bundle)
    method.backbone.encoders["audio"].requires_grad_(False)
    assert not own_parameters(method, bundle.modalities)["audio"]
    mask = mask_of(SPEC, SPEC.train_mask, bundle, "train")
    batch = to_device(bundle, "train", mask, "cpu").batch([0, 1])
    watched = watch(method)
    watched.loss(batch).backward()
    watched.after_backward()
    found = watched.series()
    assert found["own_gradient"][0] == found["own_update"][0] == 0
    assert (found["own_gradient"][1:] > 0).all()


def test_keeping_gradients_changes_neither_the_training_nor_the_key_of_other_runs() -> None:
    plain = dataclasses.replace(SPEC, keep=())
    kept, bare = execute(SPEC), execute(plain)
    assert kept.record["curves"]["loss"] == bare.record["curves"]["loss"]
    for name, values in bare.arrays.items():
        assert np.array_equal(values, kept.arrays[name]), name
    steps = len(kept.arrays["series.own_gradient"])
    assert kept.arrays["series.own_update"].shape == (steps, 3) and steps >= 2
    assert "keep" in plain.to_json() and plain.to_json()["keep"] == []


def test_what_has_no_parameters_of_single_modalities_is_refused() -> None:
    bundle = prepare(SPEC)
    linear = dataclasses.replace(SPEC, method="linear", backbone="linear", backbone_options=())
    with pytest.raises(InputError, match="one modality alone"):
        watch(build(linear, bundle))
