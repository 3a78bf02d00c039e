"""What holds for the labels of every bundle, whatever reader made them.

A score's neutral value is 0. Accuracy and F1 of its sign mean something only where the labels lie on both sides of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmlib.errors import InputError

if TYPE_CHECKING:
    from mmlib.data.bundle import Bundle, Task

FEW = 20  # different whole numbers, at most, that may well be classes
MOSEI_MOST = 10 / 3 + 0.01
NEUTRAL = "write for example neutral = 4 in bundle.toml (format folder) and import again: that value becomes 0"
OFFSET = 1.5  # sds from 0 that the mean of scores may be before networks, which begin at 0, have far to go
MOST_SD = 100.0  # of scores; as of features
CLASSES = 'write task = "classes" in bundle.toml (format folder) and import again'


def with_sign(
    task: Task, labels: np.ndarray, split: np.ndarray, fold: np.ndarray | None = None
) -> Task:
    """The task, with a note of whether its scores have a sign: some labels below 0 and some above.

    Validation and test each need both, since a guess of one sign is right everywhere else; with folds the whole does.
    labels: (n,) scores; another task is returned as it is. split: (n,) 0 for train, 1 for valid, 2 for test.
    fold: (n,) or None.
    """
    if task.kind != "score":
        return task
    parts = [labels] if fold is not None else [labels[split == number] for number in (1, 2)]
    return dataclasses.replace(
        task, signed=all((part < 0).any() and (part > 0).any() for part in parts)
    )


def seven_classes(task: Task, labels: np.ndarray) -> bool:
    """Whether scores have seven classes, -3 to 3: an accuracy of scores that are clipped to them says nothing else.

    Old labels of CMU-MOSEI reach 10/3, and a range that is read off them is a whole number above.
    """
    if task.kind != "score" or task.range is None:
        return False
    low, high = task.range
    on_scale = -4 <= low <= -3 and 3 <= high <= 4
    return on_scale and bool(np.abs(labels).max(initial=0.0) <= MOSEI_MOST)


def stored(where: str, task: Task, labels: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Labels as a bundle keeps them: float32 scores, or int64 numbers of classes and answers.

    Raises:
        InputError: a class number that is no whole number, such as NaN.
    """
    if task.kind == "score":
        # What float32 cannot hold becomes infinite, which ``check_labels`` refuses.
        with np.errstate(over="ignore"):
            return labels.astype(np.float32)
    if labels.dtype.kind == "f":
        wrong = (labels != np.floor(labels)).reshape(len(labels), -1).any(axis=1)  # NaN too
        wrong |= np.isinf(labels).reshape(len(labels), -1).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{where}, labels",
                f"{labels[row]} for the utterance {ids[row]!r}; "
                f"{int((~wrong).sum())} of {len(labels)} utterances have whole numbers",
                "a class number for every utterance",
                "Correct the label, or leave the utterance out.",
            )
    return labels.astype(np.int64)


def check_labels(where: str, bundle: Bundle) -> None:
    """Hold the labels to the task.

    Raises:
        InputError: scores out of range or not finite, class numbers that no name has, a class that train lacks.
    """
    labels, task = bundle.labels, bundle.task
    if task.kind == "score":
        _check_range(where, bundle)
        return
    top = len(task.names) if task.kind == "classes" else 2
    if labels.min() < 0 or labels.max() >= top:
        raise InputError(
            f"{where}, labels",
            f"labels from {labels.min()} to {labels.max()}",
            f"0 to {top - 1}",
            "Correct the labels, or the class names.",
        )
    if task.kind == "classes":
        lacking = sorted(set(np.unique(labels)) - set(np.unique(labels[bundle.split == 0])))
        if lacking:
            raise InputError(
                f"{where}, labels",
                f"no {task.names[lacking[0]]!r} in train",
                "every class of the data in train",
                "Move some of its utterances into train.",
            )


def check_varied(where: str, bundle: Bundle) -> None:
    """Refuse labels that any constant guess has right.

    Raises:
        InputError: a constant score, or a list of one class.
    """
    constant = bundle.task.kind == "score" and np.ptp(bundle.labels) == 0
    if constant or bundle.task.kind == "classes" and len(bundle.task.names) == 1:
        only = f"score {bundle.labels[0]:g}" if constant else f"class {bundle.task.names[0]!r}"
        raise InputError(
            f"{where}, labels",
            f"the {only} for all {len(bundle)} utterances",
            "labels that differ",
            "Look for the right column of the source: there is nothing to learn here.",
        )


def constant_warnings(bundle: Bundle) -> list[str]:
    """Splits whose labels are all the same: any result on them says nothing."""
    lines = []
    for number, split in enumerate(("train", "valid", "test")):
        part = bundle.labels[bundle.split == number]
        if bundle.task.kind != "binaries" and len(part) and np.ptp(part) == 0:
            score, refused = bundle.task.kind == "score", part[0] == 0 and number > 0
            only = (
                f"have the score {part[0]:g}"
                if score
                else f"are {bundle.task.names[int(part[0])]!r}"
            )
            follows = (
                ("A run refuses it." if refused else "Correlation has no meaning there.")
                if score
                else ("A guess of that class is always right there.")
            )
            lines.append(
                f"WARNING: in {bundle.name}, all {len(part)} utterances of {split} {only}. {follows} "
                "Split the data otherwise."
            )
    return lines


def sign_warnings(bundle: Bundle) -> list[str]:
    """Scores without a sign: tables then show less."""
    return _one_sign(bundle) if bundle.task.kind == "score" and not bundle.task.signed else []


def offset_warnings(bundle: Bundle) -> list[str]:
    """Scores whose mean is far from 0 for their spread, or whose spread is large: training spends its steps on that."""
    if bundle.task.kind != "score":
        return []
    labels = bundle.labels[bundle.split == 0].astype(np.float64)
    mean, sd = float(labels.mean()), float(labels.std())
    if sd == 0 or (abs(mean) <= OFFSET * sd and sd <= MOST_SD):
        return []
    return [
        f"WARNING: the scores of {bundle.name} have mean {mean:.4g} and sd {sd:.3g} in train, and networks begin at 0. "
        "Expect long training and large errors before its end, or bring them nearer to 0 and import again: by a "
        "neutral value where they have one, else by subtracting their mean and dividing them by their sd."
    ]


def absent_warnings(bundle: Bundle) -> list[str]:
    """Classes, or answers of binary labels, that a split or a fold lacks."""
    if bundle.task.kind == "score":
        return []
    lines = []
    for part, rows in parts_of(bundle).items():
        counts = class_counts(bundle, rows)
        absent = [name for name, count in counts.items() if count == 0]
        if bundle.task.kind == "binaries":
            absent += [f"other than {name}" for name, count in counts.items() if count == len(rows)]
        if absent and len(absent) < len(counts):
            lines.append(
                f"WARNING: {part} of {bundle.name} has no utterance of {', '.join(absent)}. Results on it say nothing "
                f"of {'that class' if len(absent) == 1 else 'those classes'}, and means over classes leave "
                f"{'it' if len(absent) == 1 else 'them'} out. Split the data otherwise, or say so."
            )
    return lines


def parts_of(bundle: Bundle) -> dict[str, np.ndarray]:
    """The splits, and where runs take folds these instead of them as ``fold 0`` and so on, to their row numbers."""
    if bundle.fold is not None:
        return {f"fold {k}": np.flatnonzero(bundle.fold == k) for k in np.unique(bundle.fold)}
    names = ("train", "valid", "test")
    return {name: np.flatnonzero(bundle.split == k) for k, name in enumerate(names)}


def class_counts(bundle: Bundle, rows: np.ndarray) -> dict[str, int]:
    """Class, or binary label, to its number of utterances among some rows."""
    labels = bundle.labels[rows]
    if bundle.task.kind == "binaries":
        return {name: int(labels[:, k].sum()) for k, name in enumerate(bundle.task.names)}
    return {name: int((labels == k).sum()) for k, name in enumerate(bundle.task.names)}


def _one_sign(bundle: Bundle) -> list[str]:
    """Why scores have no sign, what follows, and what to do."""
    labels, name = bundle.labels, bundle.name
    follows = "Tables show the mean absolute error and Pearson's correlation alone, no accuracy and no F1."
    if not ((labels < 0).any() and (labels > 0).any()):
        classes = (
            f" They are whole numbers, {len(np.unique(labels))} different ones: if they are classes, {CLASSES}."
            if looks_like_classes(labels)
            else ""
        )
        return [
            f"WARNING: the scores of {name}, {labels.min():g} to {labels.max():g}, are not on both sides of 0, "
            f"which stands for neutral. {follows} If another value is neutral, {NEUTRAL}.{classes}"
        ]
    lines = []
    for number, split in ((1, "valid"), (2, "test")):
        part = labels[bundle.split == number]
        if part.any() and not ((part < 0).any() and (part > 0).any()):
            lines.append(
                f"WARNING: in {name}, the scores of {split} that are not 0 all have one sign, so that a guess "
                f"of that sign is always right. {follows} Split the data otherwise to have them."
            )
    return lines  # empty where a split has scores of 0 alone, which is said already


def looks_like_classes(values: np.ndarray) -> bool:
    """Whether numbers may well stand for classes: whole, none below 0, few different ones."""
    return bool(
        (values == np.floor(values)).all() and values.min() >= 0 and len(np.unique(values)) <= FEW
    )


def _check_range(where: str, bundle: Bundle) -> None:
    labels = bundle.labels
    low, high = bundle.task.range or (-np.inf, np.inf)
    wrong = ~(np.isfinite(labels) & (labels >= low) & (labels <= high))
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    count = int(wrong.sum())
    others = f", and {count - 1} others outside" if count > 1 else ""
    raise InputError(
        f"{where}, labels",
        f"scores from {labels.min()} to {labels.max()}: {labels[row]} for the "
        f"utterance {bundle.ids[row]!r}{others}; {len(labels) - count} of {len(labels)} are inside",
        f"{low} to {high}",
        "Correct the labels, or the task's range; clip them in the source, or leave "
        "these utterances out, if the release is known to have such scores.",
    )
