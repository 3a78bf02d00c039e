"""Labels that may stand for something else: codes for missing ones, numbers of classes that are read as scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmlib.data.labels import CLASSES, FEW

if TYPE_CHECKING:
    from mmlib.data.bundle import Bundle

RARE = 0.1  # of the rows at most have a code
LEAVE_OUT = "leave these utterances out of the table and import again"


def code_warnings(bundle: Bundle) -> list[str]:
    """Labels that look like codes, and whole numbers that may be classes; each warning names the first row."""
    if bundle.task.kind == "score":
        return [*_far(bundle), *_whole(bundle)]
    return _negative_class(bundle) if bundle.task.kind == "classes" else []


def _far(bundle: Bundle) -> list[str]:
    """Few scores that are farther from all others than those are from each other, such as 99 among -3 to 3."""
    labels = bundle.labels.astype(np.float64)
    values = np.unique(labels)
    if len(values) < 3:
        return []
    widest = int(np.argmax(np.diff(values)))
    low, high = labels <= values[widest], labels > values[widest]
    far = low if low.sum() < high.sum() else high
    rest = labels[~far]
    gap = float(values[widest + 1] - values[widest])
    if far.mean() > RARE or gap <= np.ptp(rest):
        return []
    row = int(np.flatnonzero(far)[0])
    return [
        f"WARNING: {_times(int(far.sum()), 'score')} of {bundle.name} {'is' if far.sum() == 1 else 'are'} far from all "
        f"others, which lie from {rest.min():g} to {rest.max():g}: {labels[row]:g} for the utterance "
        f"{bundle.ids[row]!r} first. If it is a code for a missing label, {LEAVE_OUT}."
    ]


def _whole(bundle: Bundle) -> list[str]:
    """Few whole numbers on both sides of 0; on one side, ``sign_warnings`` says it."""
    labels = bundle.labels
    values = np.unique(labels)
    whole = bool((values == np.floor(values)).all())
    if not whole or len(values) > FEW or values[0] >= 0 or values[-1] <= 0:
        return []
    negative = labels < 0
    code = ""
    if values[0] == -1 and values[-1] > 1:
        code = f" If -1, the label of {int(negative.sum())}, stands for none, {LEAVE_OUT}."
    return [
        f"WARNING: the scores of {bundle.name} are whole numbers, {len(values)} different ones from {values[0]:g} to "
        f"{values[-1]:g}, and are read as scores of which 0 is neutral. If they are classes, {CLASSES}.{code}"
    ]


def _negative_class(bundle: Bundle) -> list[str]:
    """One class with a number below 0 among classes that are called by numbers from 0 on."""
    numbers = [_number(name) for name in bundle.task.names]
    below = [k for k, number in enumerate(numbers) if number is not None and number < 0]
    if None in numbers or len(below) != 1:
        return []
    count = int((bundle.labels == below[0]).sum())
    return [
        f"WARNING: {_times(count, 'utterance')} of {bundle.name} {'has' if count == 1 else 'have'} the class "
        f"{bundle.task.names[below[0]]}, the only one below 0. If it stands for no label, {LEAVE_OUT}."
    ]


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
