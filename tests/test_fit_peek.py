"""What a method sees of the training data before an epoch whose masks are drawn anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.fit import fit
from mmlib.masks import Mask
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
QUICK = Training(epochs=4, batch=20, lr=0.01)


class Watching(Plain):
    """Notes the mask of the training data that it sees before each epoch, and of each epoch's only step."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.seen: list[np.ndarray] = []
        self.stepped: list[np.ndarray] = []

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        self.seen.append(torch.cat([batch.observed for batch in peek.train()]).numpy())
        return {}

    def loss(self, batch: Batch) -> Tensor:
        if self.training:
            self.stepped.append(np.sort(batch.observed.numpy(), axis=0))
        return super().loss(batch)


class Sharing(Watching):
    """Asks for one combination after the other."""

    def shares(self) -> np.ndarray:
        return np.eye(7)[len(self.seen) - 1]


def trained(kind: type[Watching], bundle: Bundle, law: masks.Law, asked: list[Mask]) -> Watching:
    torch.manual_seed(0)
    backbone = build_backbone("concat", bundle.dims, 3, 1, [("encoder", "mlp"), ("hidden", 4)])
    method = kind(backbone, bundle.task, None, bundle.dims)

    def train_mask(epoch: int, shares: np.ndarray | None = None) -> Mask:
        asked.append(masks.draw(law, bundle, "train", 0, epoch, shares))
        return asked[-1]

    full = {split: masks.draw(masks.complete(), bundle, split, 0) for split in ("valid", "test")}
    fit(
        method,
        bundle,
        train_mask,
        full["valid"],
        {"full": full["test"]},
        QUICK,
        5,
        resampled=law.resampled,
        device=torch.device("cpu"),
    )
    return method


@pytest.mark.parametrize(
    "law",
    [
        masks.shared(0.5, resampled=True),
        masks.random_missing(resampled=True),
        masks.patterns(),
        masks.shared(0.5),
    ],
    ids=str,
)
def test_a_method_without_shares_of_its_own_sees_the_epoch_to_come(
    toy: Toy, law: masks.Law
) -> None:
    asked: list[Mask] = []
    method = trained(Watching, toy((3, 5, 1, 4) * 4), law, asked)
    expected = asked if law.resampled else asked * 4
    assert len(method.seen) == len(expected) == 4
    for seen, mask, stepped in zip(method.seen, expected, method.stepped, strict=True):
        assert np.array_equal(np.sort(mask.utterance, axis=0), stepped)
        assert np.array_equal(seen, mask.utterance)


def test_shares_decide_the_masks_of_the_epoch_before_which_they_were_set(toy: Toy) -> None:
    method = trained(Sharing, toy((3, 5, 1, 4) * 4), masks.patterns(), [])
    for epoch, stepped in enumerate(method.stepped):
        assert (stepped == masks.combinations(3)[epoch]).all()
