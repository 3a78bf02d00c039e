"""What the test clusters of a run count: enough to find its metrics again over other clusters than these.

A cluster is what other test data would have others of: a dialogue, a speaker, or an utterance by itself. Each metric is
a function of sums over clusters, so that the metric over clusters drawn again is found without the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Bundle, Task
from mmlib.data.groups import ENOUGH
from mmlib.masks import Mask
from mmlib.metrics import decisions, has_decisions
from mmlib.runs.expected import NAME as EXPECTED

PREFIX = "clusters."
CONFUSED = ("accuracy", "weighted_f1")  # functions of how often a class is answered to each
MEAN_F1 = "mean_f1"  # of binary labels: the mean of the labels' weighted F1


@dataclass(frozen=True)
class Clusters:
    """What groups some test utterances of a bundle."""

    kind: str
    """Dialogues, speakers, or utterances by themselves."""

    numbers: np.ndarray
    """(n,) of each utterance the number of its cluster, from 0."""

    count: int
    """How many clusters the test split has."""

    def under(self, mask: Mask) -> Clusters:
        """Those of the utterances that play a part under a mask; some of the clusters may have none."""
        return Clusters(self.kind, mask.of(self.numbers), self.count)


def of_test(bundle: Bundle) -> Clusters:
    """The clusters of a bundle's test utterances: dialogues where there are some, else speakers, else utterances."""
    rows = bundle.rows("test")
    for kind, names in (("dialogues", bundle.dialogue[rows]), ("speakers", bundle.speaker[rows])):
        known, numbers = np.unique(names, return_inverse=True)
        if ENOUGH <= len(known) < len(rows):
            return Clusters(kind, numbers, len(known))
    return Clusters("utterances", np.arange(len(rows)), len(rows))


def array_name(metric: str, mask: str) -> str:
    """What a run's counts for a metric under a test mask are called among its arrays."""
    return f"{PREFIX}{metric}.{mask}"


def counted(task: Task) -> dict[str, str]:
    """The metrics of a task that its clusters count for, each with the metric whose epoch it is read at."""
    if not has_decisions(task):
        return {}
    of_labels = {MEAN_F1: f"f1_{task.names[0]}"} if task.kind == "binaries" else {}
    return {metric: metric for metric in CONFUSED} | of_labels


def of_outputs(
    metric: str, task: Task, outputs: Sequence[np.ndarray], labels: np.ndarray, clusters: Clusters
) -> np.ndarray:
    """(G, C, C) how often utterances of a cluster and class are answered with a class, over several outputs.

    outputs: each (n, outputs), of the same utterances; labels (n,), or (n, K) of binary labels. Of scores the two
    classes are the signs, without neutral labels. Binary labels count together, but for their mean F1, for which the
    result is (G, K, 2, 2).
    """
    numbers = clusters.numbers[labels != 0] if task.kind == "score" else clusters.numbers
    pairs = [decisions(task, x, labels) for x in outputs]
    if task.kind != "binaries":
        classes = len(task.names) or 2
        return _confusions(pairs, numbers, clusters.count, classes)
    shaped = [[part.reshape(labels.shape) for part in pair] for pair in pairs]
    of_label = [
        _confusions([(t[:, k], g[:, k]) for t, g in shaped], numbers, clusters.count, 2)
        for k in range(labels.shape[1])
    ]
    stacked = np.stack(of_label, axis=1)
    return stacked if metric == MEAN_F1 else stacked.sum(axis=1, dtype=stacked.dtype)


def _confusions(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], numbers: np.ndarray, groups: int, classes: int
) -> np.ndarray:
    """(G, C, C) of pairs of truth and guess, each (n,) class numbers; numbers: (n,) of their clusters."""
    total = np.zeros(groups * classes**2, dtype=np.int64)
    for truth, guess in pairs:
        places = (numbers * classes + truth) * classes + guess
        total += np.bincount(places, minlength=len(total))
    return total.reshape(groups, classes, classes).astype(np.uint32)


def of_chances(chances: Sequence[np.ndarray], clusters: Clusters) -> np.ndarray:
    """(G, 2) float32: the chances that a cluster's answers are right, summed, and how much the answers count.

    chances: each (answers, 2), what a draw gives for every answer, which are equally many for each utterance.
    """
    counts = np.zeros((clusters.count, 2))
    for of in chances:
        answers = len(of) // len(clusters.numbers)
        np.add.at(counts, np.repeat(clusters.numbers, answers), of)
    return counts.astype(np.float32)


def value(metric: str, sums: np.ndarray) -> np.ndarray:
    """A metric in percent of sums over clusters, (..., and the axes of one cluster's) to (...,)."""
    if metric == EXPECTED:
        return np.asarray(100 * sums[..., 0] / sums[..., 1])
    if metric == MEAN_F1:
        return np.asarray(value("weighted_f1", sums).mean(axis=-1))
    right = np.einsum("...cc->...c", sums)
    actual, answered = sums.sum(-1), sums.sum(-2)
    total = actual.sum(-1)
    if metric == "accuracy":
        return np.asarray(100 * right.sum(-1) / total)
    f1 = 2 * right / np.maximum(actual + answered, 1)
    return np.asarray(100 * (f1 * actual).sum(-1) / total)
