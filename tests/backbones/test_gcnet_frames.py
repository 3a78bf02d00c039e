"""GCNet over frames: what the mean over the real ones makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmlib import masks
from mmlib.backbones.gcnet import GCNet, GCNetConfig
from mmlib.backbones.gcnet_frames import FrameGCNet
from mmlib.data.bundle import Bundle
from mmlib.nn.batch import Batch, to_device

DIMS = {"audio": 5, "text": 4, "vision": 3}
CONFIG = GCNetConfig(hidden=4, dropout=0.0, reconstruct=1.0)


def batches(toy: Callable[..., Bundle], rate: float = 0.4) -> tuple[Batch, Batch]:
    """The same dialogues as frames, the last of which are padding in some rows, and as their means by a loop."""
    bundle = toy((3, 2) * 6, DIMS, frames=4)
    generator = np.random.default_rng(0)
    lengths = {m: generator.integers(1, 5, len(bundle)) for m in DIMS}
    frames = {
        m: np.stack(
            [
                np.where(np.arange(4)[:, None] < k, x, 0)
                for x, k in zip(values, lengths[m], strict=True)
            ]
        )
        for m, values in bundle.features.items()
    }
    means = {
        m: np.stack([x[:k].mean(axis=0) for x, k in zip(values, lengths[m], strict=True)])
        for m, values in frames.items()
    }
    made = []
    for features in (frames, means):
        whole = type(bundle)(**{**vars(bundle), "features": features})
        mask = masks.draw(masks.shared(rate), whole, "train", 0)
        resident = to_device(whole, "train", mask, "cpu", complete=True)
        made.append(resident.batch(np.arange(resident.dialogues)))
    return made[0], made[1]


def network(kind: type[GCNet]) -> GCNet:
    torch.manual_seed(0)
    return kind(DIMS, 3, 2, CONFIG).eval()


def test_it_is_gcnet_of_the_means_and_so_is_what_it_reconstructs(
    toy: Callable[..., Bundle],
) -> None:
    sequences, vectors = batches(toy)
    ours, theirs = network(FrameGCNet), network(GCNet)
    made, expected = (
        ours(sequences, sequences.features),
        theirs(vectors, vectors.features),
    )
    torch.testing.assert_close(made.logits, expected.logits, rtol=1e-5, atol=1e-6)
    losses = ours.extra_loss(sequences, made), theirs.extra_loss(vectors, expected)
    assert losses[1] is not None and float(losses[1].detach()) > 0
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 7])
def test_padding_changes_nothing(toy: Callable[..., Bundle], count: int) -> None:
    sequences, _ = batches(toy)
    longer = {
        m: torch.cat([x, torch.zeros(len(x), count, x.shape[2])], dim=1)
        for m, x in sequences.features.items()
    }
    ours = network(FrameGCNet)
    made = ours(sequences, sequences.features).logits
    torch.testing.assert_close(made, ours(sequences, longer).logits, rtol=1e-5, atol=1e-6)
