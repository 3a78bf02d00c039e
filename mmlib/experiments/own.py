"""What is shown of a reader's own data: captions about them, and no count of the paper's rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mmlib.experiments import conditions
from mmlib.experiments.context import Context
from mmlib.metrics import has_decisions
from mmlib.report.artifact import Artifact, said
from mmlib.runs.spec import RunSpec

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


def about_the_paper(
    what: str, lacks: Callable[[Context], str] = lambda context: ""
) -> Callable[[Context], str]:
    """For the ``needs`` of an artifact that is the same on any data: why own data have none.

    what: what it is about. lacks: why else it may be lacking.
    """

    def needs(context: Context) -> str:
        if any(map(context.shows_printed, context.datasets)):
            return lacks(context)
        return f"Left out, since nothing in it is about these data: {what}."

    return needs


def measured(text: str, by: str) -> Callable[[Context], str]:
    """A caption with what its table measures in the place of ``{}``: ``by``, or what scores without a sign have.

    ``{combinations}`` gives way to the combinations of modalities that are tested.
    """

    def caption(context: Context) -> str:
        tested = combinations(context)
        return text.format(
            metrics(context, by), combinations=f"{tested[0].upper()}{tested[1:]} of modalities"
        )

    return caption


def combinations(context: Context) -> str:
    """How many combinations of the main data's modalities are tested: every one of few, of many a number."""
    modalities = context.bundle(context.main).modalities
    if conditions.all_tested(modalities):
        return "every combination"
    return f"{len(conditions.combinations(modalities))} combinations"


def metrics(context: Context, of_decisions: str) -> str:
    """The metrics of right and wrong answers, as a caption names them, or those that scores without a sign have."""
    known = has_decisions(context.bundle(context.main).task)
    return of_decisions if known else "mean absolute error and correlation"


def untested(context: Context, specs: Sequence[RunSpec]) -> str:
    """Which combinations of many modalities some runs leave out; empty of few, or where the runs test none."""
    laws = [law for spec in specs for _, law in spec.eval_masks]
    if not any(law.kind == "subset" for law in laws) and not any(spec.modalities for spec in specs):
        return ""
    notes = (conditions.untested(context.bundle(d).modalities) for d in context.datasets)
    return " ".join(dict.fromkeys(filter(None, notes)))


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
