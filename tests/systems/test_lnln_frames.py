"""LNLN on frames: noise takes whole frames of the text alone, and completeness is the share that is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from laws import batch_of, built

from mmlib.backbones.lnln_frames import FrameLNLN
from mmlib.data.bundle import Bundle
from mmlib.experiments.rows import Stage
from mmlib.methods.lnln import Lnln

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 8), ("heads", 2), ("layers", 1), ("depth", 1), ("tokens", 3))
STAGE = Stage("lnln", "lnln_frames", "noise", network=SIZE)


def method_of(bundle: Bundle) -> Lnln:
    method = built(STAGE, bundle)
    assert isinstance(method, Lnln) and isinstance(method.backbone, FrameLNLN)
    return method


def test_noise_takes_whole_frames_of_the_text(toy: Toy) -> None:
    bundle = toy(dims={"audio": 6, "text": 5}, frames=4)
    method, batch = method_of(bundle), batch_of(bundle)
    features = {
        "audio": torch.randn(len(batch), 4, 6),
        "text": torch.randn(len(batch), 300, 5),
    }
    whole = torch.ones_like(batch.observed)
    batch = dataclasses.replace(batch, features=features, observed=whole)
    noised, complete = method.noised(batch)
    torch.testing.assert_close(noised.features["audio"], features["audio"])
    left = (noised.features["text"] != 0).float()
    assert torch.equal(left.amin(dim=2), left.amax(dim=2))  # a frame goes whole
    assert (left[:, :, 0].mean(dim=1) - complete).abs().max() < 0.12
    assert (complete == 1).any() and (complete < 0.9).any()


def test_every_stage_of_a_step_takes_frames_of_different_numbers(toy: Toy) -> None:
    bundle = toy(dims={"audio": 6, "text": 5}, frames=4)
    method, batch = method_of(bundle).train(), batch_of(bundle)
    features = {"audio": batch.features["audio"][:, :2], "text": batch.features["text"]}
    loss = method.loss(dataclasses.replace(batch, features=features))
    loss.backward()
    assert loss.isfinite()
    for m in ("audio", "text"):
        gradient = method.backbone.encoders[m].enter.weight.grad
        assert gradient is not None and gradient.isfinite().all() and gradient.any()
