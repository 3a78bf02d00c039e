"""Metrics of all five papers: pure functions of predictions and labels.

Accuracies, recalls and F1 scores are in percent; MAE and Pearson correlation in the label's unit
and in [-1, 1]. "Without zero" drops utterances whose label is exactly 0 and asks for the sign
(BALM, GCNet); "with zero" asks for negative against non-negative. Scores that do not lie on both
sides of 0 have MAE and correlation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmlib.data.bundle import Task

SELECTION_METRIC = "weighted_f1"
SINGLE = "f1_"  # begins the names of the F1 scores of single classes or emotions
UNSIGNED = ("mae", "pearson")  # all that scores without a sign have


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of right guesses; truth and guess (n,) class numbers. WA of the IEMOCAP papers."""
    return 100 * float(np.mean(truth == guess))


def weighted_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 per class, averaged with the classes' shares of the truth; truth and guess (n,) class numbers.

    As scikit-learn has it, bit for bit, without its checks of the input: it is called after every epoch for every mask.
    """
    classes = 1 + max(truth.max(), guess.max())
    truth_counts = np.bincount(truth, minlength=classes)
    guess_counts = np.bincount(guess, minlength=classes)
    right_counts = np.bincount(truth[truth == guess], minlength=classes)
    both = truth_counts + guess_counts
    present = both > 0
    scores = 2 * right_counts[present] / both[present]
    return 100 * float(np.average(scores, weights=truth_counts[present]))


def macro_recall(truth: np.ndarray, guess: np.ndarray) -> float:
    """Recall averaged over the classes that occur in the truth (UA)."""
    counts = np.bincount(truth)
    right = np.bincount(truth[truth == guess], minlength=len(counts))
    present = counts > 0
    return 100 * float(np.mean(right[present] / counts[present]))


def per_class_f1(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """F1 of each class against the rest, (classes,); 0 of one that is neither in the truth nor guessed."""
    both = np.bincount(truth, minlength=classes) + np.bincount(guess, minlength=classes)
    right = np.bincount(truth[truth == guess], minlength=classes)
    return np.asarray(100 * 2 * right / np.maximum(both, 1))


def binary_f1(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Weighted F1 of each emotion as its own binary problem; truth and guess (n, K) -> (K,)."""
    return np.array([weighted_f1(truth[:, k], guess[:, k]) for k in range(truth.shape[1])])


def acc7(truth: np.ndarray, score: np.ndarray) -> float:
    """Accuracy of the score clipped to [-3, 3] and rounded to a whole number."""
    return accuracy(_rounded(truth), _rounded(score))


def mae(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean absolute error, in the label's unit."""
    return float(np.abs(truth - score).mean())


def pearson(truth: np.ndarray, score: np.ndarray) -> float:
    """Pearson correlation; 0 where either side is constant (it has none)."""
    if np.ptp(truth) == 0 or np.ptp(score) == 0:
        return 0.0
    return float(np.corrcoef(truth.astype(float), score.astype(float))[0, 1])


def sign_labels(
    truth: np.ndarray, score: np.ndarray, with_zero: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as two classes: (n,) truth and guess, without the zero labels unless ``with_zero``."""
    if with_zero:
        return (truth >= 0).astype(int), (score >= 0).astype(int)
    keep = truth != 0
    return (truth[keep] > 0).astype(int), (score[keep] > 0).astype(int)


def has_decisions(task: Task) -> bool:
    """Whether answers are right or wrong: classes, binary labels, and scores on both sides of 0."""
    return task.kind != "score" or task.signed


def to_maximise(curve: Mapping[str, Any]) -> np.ndarray:
    """What the choice of an epoch maximises: weighted F1, or minus the MAE where scores have no sign.

    curve: metric to its value, or to one value per epoch, as ``curve_metrics`` has them.
    """
    if SELECTION_METRIC in curve:
        return np.asarray(curve[SELECTION_METRIC])
    return -np.asarray(curve["mae"])


def merits(metrics: Mapping[str, float]) -> dict[str, float]:
    """What each metric's choice of an epoch maximises: its own value, minus the MAE.

    F1 scores of single classes or emotions are chosen together, by their mean, which tables show beside them.

    metrics: as ``all_metrics`` has them.
    """
    own = {name: -value if name == "mae" else value for name, value in metrics.items()}
    single = [name for name in metrics if name.startswith(SINGLE)]
    if not single:
        return own
    return own | dict.fromkeys(single, float(np.mean([own[name] for name in single])))


def own_epochs(epochs: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Metric to the first epoch at which it is best; epochs: ``all_metrics`` of each."""
    of_epoch = [merits(metrics) for metrics in epochs]
    return {name: int(np.argmax([values[name] for values in of_epoch])) for name in of_epoch[0]}


def curve_metrics(task: Task, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The two metrics that are followed during training: accuracy and weighted F1, or those of ``UNSIGNED``."""
    if not has_decisions(task):
        score = outputs[:, 0]
        return {"mae": mae(labels, score), "pearson": pearson(labels, score)}
    truth, guess = decisions(task, outputs, labels)
    return {"accuracy": accuracy(truth, guess), "weighted_f1": weighted_f1(truth, guess)}


def all_metrics(task: Task, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric of a task; outputs (n, C) logits or (n, 1) scores, labels as the bundle has them.

    For a score task ``accuracy`` and ``weighted_f1`` are those without zero.
    """
    metrics = curve_metrics(task, outputs, labels)
    if not has_decisions(task):
        return metrics
    truth, guess = decisions(task, outputs, labels)
    if task.kind == "score":
        score = outputs[:, 0]
        signs: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
            "accuracy": accuracy,
            "weighted_f1": weighted_f1,
        }
        for name, function in signs.items():
            metrics[f"{name}_with_zero"] = function(*sign_labels(labels, score, with_zero=True))
        metrics |= {
            "acc7": acc7(labels, score),
            "mae": mae(labels, score),
            "pearson": pearson(labels, score),
        }
    else:
        metrics["macro_recall"] = macro_recall(truth, guess)
    if task.kind == "classes":
        scores = per_class_f1(truth, guess, len(task.names))
        metrics |= {
            f"f1_{name}": float(score) for name, score in zip(task.names, scores, strict=True)
        }
    if task.kind == "binaries":
        scores = binary_f1(labels, _binaries(outputs))
        metrics |= {
            f"f1_{name}": float(score) for name, score in zip(task.names, scores, strict=True)
        }
    return metrics


def decisions(task: Task, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth and guess as class numbers; for scores the signs without zero, for binaries raveled."""
    if task.kind == "score":
        return sign_labels(labels, outputs[:, 0], with_zero=False)
    if task.kind == "binaries":
        return labels.ravel(), _binaries(outputs).ravel()
    return labels, outputs.argmax(axis=1)


def _binaries(outputs: np.ndarray) -> np.ndarray:
    guess: np.ndarray = outputs.reshape(len(outputs), -1, 2).argmax(axis=2)
    return guess


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, -3, 3)).astype(int)
