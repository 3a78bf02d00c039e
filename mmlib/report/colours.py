"""The look of every series: a modality's own, that of the best possible, one that is given, or that of its place.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every series also has a marker and a line style
of its own, so a grayscale print reads as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo")
LOOKS: dict[str, Sequence[Any]] = {"color": PALETTE, "marker": MARKERS, "linestyle": STYLES}
# By how many places each is shifted in every further round of the colours, so that other ones meet.
SHIFTS = {"color": 0, "marker": 3, "linestyle": 5, "hatch": 3}
LOOKS_IN_ALL = len(PALETTE) * len(MARKERS)
BEST = "best possible"  # what the law of a twin allows: one look in all pictures
FADED = "#777777"  # of what is there to compare with
Look = Mapping[str, Any]
OWN: dict[str, Look] = {
    "audio": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "text": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "vision": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "fused": {"color": "#000000", "marker": "D", "linestyle": ":"},
    BEST: {"color": "#000000", "marker": "_", "linestyle": (0, (1, 1))},
}


def look(name: str, place: int = 0) -> dict[str, Any]:
    """Colour, marker and line style of a series: its own, else those of its place among the series."""
    if name in OWN:
        return dict(OWN[name])
    return {what: turned(what, values, place) for what, values in LOOKS.items()}


def turned(what: str, values: Sequence[Any], place: int) -> Any:
    """The value at a place, shifted in every further round."""
    return values[(place + SHIFTS[what] * (place // len(values))) % len(values)]


def looks_of(
    names: Sequence[str], given: Mapping[str, Look] | None = None
) -> dict[str, dict[str, Any]]:
    """The look of every series of a picture: no two of up to eight share a colour, a marker or a line style.

    A series whose look is given, or that has its own, keeps it; every other one has that of its place, or the next that
    is free. Of more than eight, no two share both colour and marker, as long as there are such looks.
    """
    chosen = dict(given or {})
    own = {n: dict(chosen.get(n) or look(n)) for n in names if n in chosen or n in OWN}
    made: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        others = [*own.values(), *(made[other] for other in made if other not in own)]
        made[name] = own.get(name) or _free(place, others)
    return made


def _free(place: int, taken: Sequence[Look]) -> dict[str, Any]:
    """The look at a place, or the next of which nothing is taken, else the next that is not taken as a whole."""
    form = {}
    for what, values in LOOKS.items():
        rotated = [values[(place + step) % len(values)] for step in range(len(values))]
        form[what] = next((v for v in rotated if v not in [of[what] for of in taken]), None)
    if None not in form.values():
        return form
    pairs = {(of["color"], of["marker"]) for of in taken}
    every = [look("", place + step) for step in range(LOOKS_IN_ALL)]
    return next((of for of in every if (of["color"], of["marker"]) not in pairs), every[0])
