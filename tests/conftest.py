"""Small bundles that many tests build upon."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch

from mmlib.data.bundle import Bundle, Task, make_bundle

THREE = {"audio": 6, "text": 5, "vision": 4}
LETTERS = Task("classes", ("a", "b", "c"))


def toy_bundle(
    lengths: Sequence[int] = (3, 5, 1, 4) * 4,
    dims: Mapping[str, int] = THREE,
    *,
    task: Task = LETTERS,
    seed: int = 0,
    speakers: int = 2,
    frames: int = 0,
    lacking: float = 0.0,
    order: np.ndarray | None = None,
) -> Bundle:
    """Dialogues of the given lengths, half of them train, a quarter valid, a quarter test.

    frames: steps per utterance, 0 for one vector. lacking: share of modalities missing by nature,
    whose features are NaN. order: a permutation of the rows as a file might hold them.
    """
    r, n = np.random.default_rng(seed), sum(lengths)
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    split = np.array(["train", "valid", "train", "test"])[dialogue % 4]
    classes = np.arange(n) % 3
    labels: np.ndarray = classes
    if task.kind == "score":
        labels = np.clip(classes - 1 + 0.1 * r.normal(size=n), -3, 3)
    if task.kind == "binaries":
        labels = (classes[:, None] == np.arange(len(task.names))).astype(int)
    observed = r.random((n, len(dims))) >= lacking
    observed[np.arange(n), r.integers(0, len(dims), n)] = True
    features = {}
    for index, (modality, dim) in enumerate(sorted(dims.items())):
        shape = (n, frames, dim) if frames else (n, dim)
        signal = r.normal(size=(3, dim))[classes].reshape(n, *[1] * (len(shape) - 2), dim)
        features[modality] = (0.7 * signal + r.normal(size=shape)).astype(np.float32)
        features[modality][~observed[:, index]] = np.nan
    sizes = {m: r.integers(1, frames + 1, n) for m in dims} if frames else {}
    speaker = r.integers(0, speakers, n)
    rows = np.arange(n) if order is None else order
    ids = np.array([f"d{d:03d}u{p:03d}" for d, p in zip(dialogue, position, strict=True)])
    return make_bundle(
        "toy",
        task,
        {m: x[rows] for m, x in features.items()},
        labels[rows],
        split[rows],
        list(ids[rows]),
        dialogue=list(dialogue[rows]),
        position=list(position[rows]),
        speaker=list(speaker[rows]),
        observed=observed[rows],
        lengths={m: v[rows] for m, v in sizes.items()},
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow modules come first; xdist's ``loadfile`` keeps a module's tests together, for they share fixtures."""
    module = {item: item.nodeid.split("::")[0] for item in items}
    slow = {module[item] for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: module[item] not in slow)


@pytest.fixture(scope="session")
def toy() -> Callable[..., Bundle]:
    """The builder ``toy_bundle``."""
    return toy_bundle


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test takes the power away, so none waits some milliseconds at each file until the disk has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
