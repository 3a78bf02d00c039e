"""Expected accuracy: on a twin, the exact posterior probability of what a model answers, averaged.

Its mean over draws of the labels is that of accuracy, and its variance is smaller, since labels that chance has drawn
play no part (design, section 7).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmlib.data import posterior
from mmlib.data.bundle import Bundle, Task
from mmlib.data.catalog import is_av_twin, is_twin, open_twin
from mmlib.data.evidence import Missingness
from mmlib.masks import Law, draw, fitted, mechanism
from mmlib.runs.spec import RunSpec

NAME = "expected_accuracy"
KEPT = 512  # posteriors of masks: runs of one seed are made one after the other, and share them


def answers(spec: RunSpec, law: Law, seed: int) -> np.ndarray | None:
    """(answers, K) the posterior of a run's answers on test under a law's mask; None where none is known.

    seed: that the mask is drawn with.
    """
    if not is_twin(spec.data) or is_av_twin(spec.data):
        return None
    if law.kind == "patterns" and spec.modalities:  # drawn over these modalities alone
        return None
    if law.kind in mechanism.NAMES and spec.modalities:  # what is left of the pattern says less
        return None
    return _answers(spec.data, spec.fold, law, seed, spec.modalities)


def known(law: Law, bundle: Bundle) -> Missingness | None:
    """What the true posterior has to know of a law beside what is observed; None where that is nothing."""
    return fitted(law, bundle).missingness if law.kind in mechanism.NAMES else None


def expected_accuracy(mass: np.ndarray, task: Task, outputs: np.ndarray) -> float:
    """Of outputs (n, C), in percent; mass: (answers, K) as ``answers`` gives it."""
    return posterior.class_score(mass, answered(task, outputs), "accuracy")


def chances(mass: np.ndarray, task: Task, outputs: np.ndarray) -> np.ndarray:
    """(answers, 2) of outputs (n, C): the chance that each answer is right, and how much it counts."""
    given = answered(task, outputs)
    return np.stack([mass[np.arange(len(given)), given], mass.sum(axis=1)], axis=1)


def answered(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What outputs (n, C) answer: a class (n,), a sign as 0 or 1 (n,), or no and yes to every question (n K,)."""
    if task.kind == "score":
        return np.asarray(outputs[:, 0] > 0).astype(int)
    if task.kind == "binaries":
        return outputs.reshape(-1, 2).argmax(axis=1)
    return outputs.argmax(axis=1)


@lru_cache(maxsize=KEPT)
def _answers(
    reference: str, fold: int | None, law: Law, seed: int, modalities: tuple[str, ...]
) -> np.ndarray:
    """The posterior of the answers given what a run's mask leaves; runs of one seed and law share it.

    Under a mechanism the pattern itself is evidence, so that the posterior knows the law.
    """
    twin = open_twin(reference) if fold is None else open_twin(reference).with_fold(fold)
    used = np.array([not modalities or m in modalities for m in twin.bundle.modalities])
    mask = draw(law, twin.bundle, "test", seed)
    return twin.answers("test", mask.utterance & used, mask.frames, known(law, twin.bundle))
