"""Expected accuracy: on a twin, the exact posterior probability of what a model answers, averaged.

Its mean over draws of the labels is that of accuracy, and its variance is smaller, since labels that chance has drawn
play no part (design, section 7).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmlib.data import posterior
from mmlib.data.bundle import Task
from mmlib.data.catalog import is_av_twin, is_twin, open_twin
from mmlib.masks import Law, draw
from mmlib.runs.spec import RunSpec

NAME = "expected_accuracy"


def expected_accuracy(spec: RunSpec, law: Law, task: Task, outputs: np.ndarray) -> float | None:
    """Of a run's outputs (n, C) on test under a law's mask, in percent; None where no posterior is known."""
    if not is_twin(spec.data) or is_av_twin(spec.data):
        return None
    mass = _answers(spec.data, spec.fold, law, spec.seed, spec.modalities)
    return posterior.class_score(mass, answered(task, outputs), "accuracy")


def answered(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What outputs (n, C) answer: a class (n,), a sign as 0 or 1 (n,), or no and yes to every question (n K,)."""
    if task.kind == "score":
        return np.asarray(outputs[:, 0] > 0).astype(int)
    if task.kind == "binaries":
        return outputs.reshape(-1, 2).argmax(axis=1)
    return outputs.argmax(axis=1)


@lru_cache(maxsize=256)
def _answers(
    reference: str, fold: int | None, law: Law, seed: int, modalities: tuple[str, ...]
) -> np.ndarray:
    """The posterior of the answers given what a run's mask leaves; runs of one seed and law share it."""
    twin = open_twin(reference) if fold is None else open_twin(reference).with_fold(fold)
    used = np.array([not modalities or m in modalities for m in twin.bundle.modalities])
    mask = draw(law, twin.bundle, "test", seed)
    return twin.answers("test", mask.utterance & used, mask.frames)
