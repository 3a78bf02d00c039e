"""Test conditions, that is which modalities are observed, as names and as mask laws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from mmlib.experiments.context import Context
from mmlib.experiments.profiles import FEW
from mmlib.experiments.rows import Tests
from mmlib.masks import Law, complete, subset

ALL = "all modalities"
TRIMODAL = ("audio", "text", "vision")
WHOLE = 3  # modalities whose combinations pictures have room to name in whole words
ROOM = 20  # letters of all their names together, likewise
BEGINNING = 8  # letters of a beginning that pictures have room for


def combinations(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """The combinations of modalities that are tested, smaller ones first, all of them last.

    Every one of up to ``FEW``; of more, each alone, all but each, and all.
    """
    count = len(modalities)
    sizes = range(1, count + 1) if count <= FEW else (1, count - 1, count)
    return [names for size in sizes for names in itertools.combinations(modalities, size)]


def all_tested(modalities: Sequence[str]) -> bool:
    """Whether every combination of modalities is tested."""
    return len(modalities) <= FEW


def untested(modalities: Sequence[str]) -> str:
    """Which combinations of many modalities are left out, as captions say it; empty of few."""
    if all_tested(modalities):
        return ""
    count, tested = 2 ** len(modalities) - 1, len(combinations(modalities))
    return (
        f"Of the {count} combinations of {len(modalities)} modalities {tested} are tested: each modality alone, each "
        f"missing, and all; the other {count - tested} are left out."
    )


def conditions(modalities: Sequence[str], trimodal: Sequence[str]) -> list[str]:
    """Test conditions: combinations of some modalities, smaller ones first, then all of them.

    trimodal: the paper's order of those of audio, text and vision in which something is missing.
    """
    if tuple(modalities) == TRIMODAL:
        return [*trimodal, ALL]
    return ["+".join(names) for names in combinations(modalities)[:-1]] + [ALL]


def law(condition: str) -> Law:
    """The mask of a test condition."""
    return complete() if condition == ALL else subset(condition.split("+"))


def short(condition: str) -> str:
    """``{a,t}`` as papers write a combination of the usual modalities; else with whole names."""
    letters = {"audio": "a", "text": "t", "vision": "v"}
    return "{" + ", ".join(letters.get(m, m) for m in condition.split("+")) + "}"


def initials(modalities: Sequence[str]) -> dict[str, str]:
    """How pictures name modalities: where there is no room for words, by the first letters that no other begins with.

    Where those of one are too many, all have numbers: m1, m2 and so on.
    """
    if len(modalities) <= WHOLE and sum(map(len, modalities)) <= ROOM:
        return {name: name for name in modalities}
    letters = {name: _beginning(name, modalities) for name in modalities}
    if max(map(len, letters.values())) > BEGINNING:
        return {name: f"m{place}" for place, name in enumerate(modalities, start=1)}
    return letters


def _beginning(name: str, modalities: Sequence[str]) -> str:
    others = [other for other in modalities if other != name]
    beginnings = (name[:length] for length in range(1, len(name)))
    alone = (part for part in beginnings if not any(other.startswith(part) for other in others))
    return next(alone, name)


def in_picture(condition: str, modalities: Sequence[str]) -> str:
    """A test condition as pictures name it; one that names no modalities stays as it is."""
    letters = initials(modalities)
    return "+".join(letters.get(name, name) for name in condition.split("+"))


def initials_note(modalities: Sequence[str]) -> tuple[str, ...]:
    """What the letters in a picture stand for; nothing where it has whole words."""
    letters = {short: name for name, short in initials(modalities).items() if short != name}
    if not letters:
        return ()
    return ("In the picture " + ", ".join(f"{a} is {b}" for a, b in letters.items()) + ".",)


def tests(names: Sequence[str]) -> Tests:
    """Test conditions as test masks."""
    return tuple((name, law(name)) for name in names)


def framed(context: Context, dataset: str) -> bool:
    """Whether utterances are sequences of frames, all modalities of them."""
    return all(x.ndim == 3 for x in context.bundle(dataset).features.values())


def of_kind(kind: str) -> Callable[[Context], list[str]]:
    """The data sets whose task is of a kind."""
    return lambda context: [d for d in context.datasets if context.bundle(d).task.kind == kind]
