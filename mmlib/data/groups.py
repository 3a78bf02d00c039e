"""What belongs together in a bundle: dialogues, and the people who speak in them where the data say who."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from mmlib.data.bundle import SPLITS, Bundle

NAMES = "speakers"  # the note of a bundle that has their names, in the order of their numbers
FEW = 5  # names that a sentence lists
ENOUGH = 5  # dialogues or speakers of a test split; fewer say nothing of others


def speaker_kind(bundle: Bundle) -> Literal["not stated", "parts", "people"]:
    """What the speaker numbers stand for.

    One number for all utterances: the data do not say who speaks. Numbers that most dialogues have all of, such as
    IEMOCAP's F and M, name the parts in a dialogue, which are other people in the next.
    """
    count = len(np.unique(bundle.speaker))
    if count == 1:
        return "not stated"
    in_dialogue = pd.Series(bundle.speaker).groupby(bundle.dialogue).nunique()
    return "parts" if in_dialogue.median() == count else "people"


def groups_of(dialogue: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """(n,) the number of each row's group: dialogues that share a speaker are one group. Both arguments are (n,)."""
    from scipy.sparse import (
        coo_matrix,
    )  # takes a while, and an import of data needs the name above alone
    from scipy.sparse.csgraph import connected_components

    dialogues, row_dialogue = np.unique(dialogue, return_inverse=True)
    speakers, row_speaker = np.unique(speaker, return_inverse=True)
    nodes = len(dialogues) + len(speakers)
    edges = (row_dialogue, len(dialogues) + row_speaker)
    graph = coo_matrix((np.ones(len(dialogue)), edges), shape=(nodes, nodes))
    component: np.ndarray = connected_components(graph, directed=False)[1]
    return component[row_dialogue]


def known_to_train(bundle: Bundle) -> np.ndarray:
    """(n,) bool: rows of dialogues in which a person speaks whom train has too; none where speakers are no people."""
    if speaker_kind(bundle) != "people":
        return np.zeros(len(bundle), dtype=bool)
    in_train = np.isin(bundle.speaker, bundle.speaker[bundle.split == 0])
    return np.isin(bundle.dialogue, bundle.dialogue[in_train])


def shared_speakers(bundle: Bundle) -> dict[tuple[str, str], np.ndarray]:
    """Two splits to the numbers of the people who speak in both; pairs that share nobody are left out."""
    if speaker_kind(bundle) != "people":
        return {}
    speaking = [np.unique(bundle.speaker[bundle.split == number]) for number in range(len(SPLITS))]
    pairs = combinations(zip(SPLITS, speaking, strict=True), 2)
    both = {(a, b): np.intersect1d(of_a, of_b) for (a, of_a), (b, of_b) in pairs}
    return {pair: numbers for pair, numbers in both.items() if len(numbers)}


def speakers_of_several_folds(bundle: Bundle) -> np.ndarray:
    """The numbers of the people who speak in more than one fold; empty without folds."""
    if bundle.fold is None or speaker_kind(bundle) != "people":
        return np.array([], dtype=np.int64)
    folds = pd.Series(bundle.fold).groupby(bundle.speaker).nunique()
    return folds.index[folds > 1].to_numpy()


def few_tested(bundle: Bundle) -> dict[str, int]:
    """How many dialogues and speakers the test split has, where neither are ``ENOUGH``; of folds, the first such one.

    Empty where one of both are enough, or the data state neither.
    """
    if bundle.fold is None:
        return _few_of(bundle, bundle.rows("test"))
    folds = (np.flatnonzero(bundle.fold == number) for number in np.unique(bundle.fold))
    return next(filter(None, (_few_of(bundle, rows) for rows in folds)), {})


def _few_of(bundle: Bundle, rows: np.ndarray) -> dict[str, int]:
    """``few_tested`` of the rows that are tested at once."""
    counts = {
        "dialogues": len(np.unique(bundle.dialogue[rows])),
        "speakers": len(np.unique(bundle.speaker[rows])),
    }
    if any(ENOUGH <= count < len(rows) for count in counts.values()):
        return {}
    if speaker_kind(bundle) != "people" and NAMES not in bundle.notes:
        del counts["speakers"]
    return {kind: count for kind, count in counts.items() if count < min(ENOUGH, len(rows))}


def few_in_words(few: Mapping[str, int]) -> str:
    """``2 dialogues and 1 speaker``."""
    return " and ".join(
        f"{count} {kind.removesuffix('s') if count == 1 else kind}" for kind, count in few.items()
    )


def named(bundle: Bundle, numbers: Iterable[int]) -> str:
    """Speakers by their names, or where the bundle has none by an utterance of theirs; ``FEW`` of them."""
    listed = [int(number) for number in numbers]
    names = bundle.notes.get(NAMES)
    more = f" and {len(listed) - FEW} more" if len(listed) > FEW else ""
    if isinstance(names, list) and len(names) == bundle.speakers:
        return ", ".join(str(names[number]) for number in listed[:FEW]) + more
    first = [int(np.flatnonzero(bundle.speaker == number)[0]) for number in listed[:FEW]]
    return "those of " + ", ".join(bundle.ids[row] for row in first) + more
