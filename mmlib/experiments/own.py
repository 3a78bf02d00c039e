"""What is shown of a reader's own data: captions about them, and no count of the paper's rows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from mmlib.experiments.context import Context
from mmlib.report.artifact import Artifact


def worded(context: Context, artifact: Artifact) -> Artifact:
    """An artifact as it is shown: its caption about these data, and no count of rows that are not shown."""
    rows = artifact.rows_in_paper
    if not all(map(context.shows_printed, context.datasets)):
        rows = None
    return dataclasses.replace(
        artifact, caption=said(context, artifact.caption), rows_in_paper=rows
    )


def said(context: Context, text: str) -> str:
    """A caption or a note with what its paper says in the place of some words, where these stand by themselves."""
    words = context.declared.words(context)
    if not words:
        return text
    longest_first = sorted(words, key=len, reverse=True)
    anyone = "|".join(re.escape(part) for part in longest_first)
    return re.sub(rf"(?<![\w/])(?:{anyone})(?![\w/])", lambda match: words[match[0]], text)


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
