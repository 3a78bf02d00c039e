"""What is shown of a reader's own data: captions about them, and no count of the paper's rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mmlib.experiments.context import Context
from mmlib.metrics import has_decisions
from mmlib.report.artifact import Artifact, said

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def worded(context: Context, artifact: Artifact) -> Artifact:
    """An artifact as it is shown: its caption about these data, and no count of rows that are not shown."""
    printed = all(map(context.shows_printed, context.datasets))
    return dataclasses.replace(
        artifact,
        caption=said(context, artifact.caption),
        rows_in_paper=artifact.rows_in_paper if printed else None,
    )


def count(number: int) -> str:
    """A whole number as a sentence has it: in words up to seven, the subsets of three modalities."""
    return WORDS[number] if number < len(WORDS) else str(number)


def of_the_paper(context: Context, *notes: str) -> tuple[str, ...]:
    """Notes on the paper's data or on what it prints of them; none of own data."""
    return () if context.own else notes


def measured(text: str, by: str) -> Callable[[Context], str]:
    """A caption with what its table measures in the place of ``{}``: ``by``, or what scores without a sign have."""

    def caption(context: Context) -> str:
        return text.format(metrics(context, by))

    return caption


def metrics(context: Context, of_decisions: str) -> str:
    """The metrics of right and wrong answers, as a caption names them, or those that scores without a sign have."""
    known = has_decisions(context.bundle(context.main).task)
    return of_decisions if known else "mean absolute error and correlation"


def described(context: Context, seeds: Sequence[int]) -> str:
    """What a caption says of own data: their size, and the seeds that ran."""
    bundle = context.bundle(context.main)
    size = f"{len(bundle)} utterances"
    if context.has_dialogues(context.main):
        size += f" in {len(np.unique(bundle.dialogue))} dialogues"
    parts = [size, f"{len(bundle.modalities)} modalities"]
    if seeds:
        parts.append(f"{len(seeds)} seed{'s' * (len(seeds) > 1)}")
    return ", ".join(parts)
