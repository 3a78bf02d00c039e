"""What the tests of the transformers share: their parts by loops in NumPy, dialogue by dialogue, and batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import softmax
from scipy.stats import norm
from torch import Tensor, nn

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.nn.batch import Batch, to_device

Toy = Callable[..., Bundle]
Arrays = Mapping[str, np.ndarray]
UNEVEN = (3, 5, 12, 4, 6, 1, 1, 4)  # training dialogues of 3, 12, 6 and 1
FOUR = {"audio": 6, "gaze": 3, "text": 5, "vision": 4}
TWO = {"gaze": 3, "text": 5}


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def whole(
    bundle: Bundle,
    split: str = "train",
    law: masks.Law | None = None,
    dialogues: Sequence[int] | None = None,
) -> Batch:
    resident = to_device(
        bundle, split, masks.draw(law or masks.shared(0.4), bundle, split, 0), "cpu"
    )
    return resident.batch(np.arange(resident.dialogues) if dialogues is None else dialogues)


def double(batch: Batch) -> Batch:
    return dataclasses.replace(batch, features={m: x.double() for m, x in batch.features.items()})


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {k: array(p) for k, p in model.named_parameters()}


def spans(batch: Batch) -> list[list[int]]:
    """Rows of each dialogue."""
    numbers = batch.layout.dialogue.tolist()
    return [
        [row for row, number in enumerate(numbers) if number == dialogue]
        for dialogue in sorted(set(numbers))
    ]


def linear(x: np.ndarray, w: Arrays, name: str) -> np.ndarray:
    return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * norm.cdf(x))


def attention(asks: np.ndarray, told: np.ndarray, w: Arrays, name: str, heads: int) -> np.ndarray:
    """Of each row of ``asks`` (q, d) to the rows of ``told`` (k, d), all of which are there; zeros without any."""
    query, key, value = (
        linear(x, w, f"{name}.{part}")
        for x, part in ((asks, "query"), (told, "key"), (told, "value"))
    )
    found, size = np.zeros_like(query), query.shape[1] // heads
    for place in range(len(asks) if len(told) else 0):
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            found[place, own] = (
                softmax(key[:, own] @ query[place, own] / math.sqrt(size)) @ value[:, own]
            )
    return found


def expert(
    x: np.ndarray, observed: np.ndarray, w: Arrays, name: str, depth: int, heads: int
) -> np.ndarray:
    """The blocks (BASELINES_MM section 3) over one dialogue's utterances (T, d), attending to the observed ones."""
    for block in range(depth):
        here = f"{name}.blocks.{block}"
        told = attention(x, x[observed], w, f"{here}.attention", heads)
        x = x + told + linear(gelu(linear(told, w, f"{here}.first")), w, f"{here}.second")
    return x


def tail(joined: np.ndarray, w: Arrays) -> np.ndarray:
    return np.asarray(joined + np.maximum(linear(joined, w, "tail.linear"), 0))
