"""Findings in sentences, from claims and comparisons as they were measured, and the picture of the primary claims."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmlib.experiments.verdicts import EXPLORATORY, OPEN, PRIMARY, VERDICTS
from mmlib.pipeline import glance
from mmlib.report import figures as draw
from mmlib.report.markup import escape_markdown
from mmlib.report.stats import FEWEST, MARGIN
from mmlib.report.tables import metric


def untested(command: str = "mmlib decide") -> str:
    """What is said where no primary claim has a verdict; command: the one that makes the runs."""
    return (
        "No primary claim has been run with enough seeds for a verdict yet; "
        f"`{command}` makes the runs.\n"
    )


NOTHING = untested()
TOO_FEW = (
    f"No difference of this run's main comparison has {FEWEST} seeds, as many as a verdict needs "
    "(`--seeds`).\n"
)
BY_WORD = {word: name for name, word in VERDICTS.items()}
WORDS = {"better": "better", "worse": "worse", "equivalent": "no difference that matters"}
WIDE = 100  # characters of a line in a terminal
MARKS = re.compile(r"\*\*|</?span>|\\(?=\|)")  # of Markdown, as ``escape_markdown`` writes it
BELOW = 0.24  # lines of the picture, at which the interval for other test data stands
MOST = 33  # characters of a line's name in the picture of one paper
LONGEST = 75  # in that of several
GAP = 0.5  # lines between two claims in the picture of several papers
OVERVIEW = 10.0  # inches, the width of that picture
SUPPORTS = "points (above 0 supports the claim)"


def opening(
    claims: pd.DataFrame, called: Mapping[str, str], paper: str, nothing: str = NOTHING
) -> str:
    """What the committed claims say, as Markdown: one sentence per primary claim; per paper where none is named.

    claims: ``figures/claims.csv`` as text. called: the papers by name, in their order. nothing: what is said where no
    primary claim has a verdict.
    """
    kept = glance.tested(claims, called, paper)
    if kept.empty:
        return nothing
    if not paper:
        return "\n".join(_of_papers(claims, kept, called))
    lines = [_of_claim(str(text), of) for text, of in _groups(kept, "claim")]
    return "\n".join([*lines, "", _of_the_others(claims[claims["paper"] == paper])])


def _of_papers(claims: pd.DataFrame, kept: pd.DataFrame, called: Mapping[str, str]) -> list[str]:
    """One sentence per paper that has primary claims, tested or not."""
    named = set(claims.loc[claims["kind"] == PRIMARY, "paper"])
    return [
        _of_paper(word, kept[kept["paper"] == name])
        for name, word in called.items()
        if name in named
    ]


def _groups(lines: pd.DataFrame, column: str) -> list[tuple[Any, pd.DataFrame]]:
    """Lines by a column, in the order in which its values first stand."""
    return [(name, of) for name, of in lines.groupby(column, sort=False)]


def _of_claim(text: str, lines: pd.DataFrame) -> str:
    """A claim with its verdict on each data set and what was measured; the test is named where it changes."""
    tests = [str(test) for test in lines["test (above 0 supports)"]]
    told = [
        _measured(line, "" if test == before else test)
        for line, test, before in zip(lines.to_dict("records"), tests, ["", *tests], strict=False)
    ]
    return f"- {escape_markdown(_capital(text))}? {' '.join(told)}"


def _measured(line: Mapping[Any, Any], test: str) -> str:
    """One data set's verdict with the difference, its interval and seeds; test: empty where it was said before."""
    scope = f" ({line['scope']})" if line["scope"] else ""
    return (
        f"**{_capital(str(line['verdict']))}** on {escape_markdown(line['data'])}{scope}: "
        f"{escape_markdown(str(line['measured']))} {line['unit']} over {line['seeds']} seeds"
        f"{f', {escape_markdown(test)}' if test else ''}."
    )


def _of_paper(called: str, lines: pd.DataFrame) -> str:
    """How many of a paper's primary claims have which verdict."""
    if lines.empty:
        return f"- **{called}**: no primary claim has enough seeds for a verdict yet."
    tests = "test of a primary claim" if len(lines) == 1 else "tests of primary claims"
    return f"- **{called}**, {len(lines)} {tests}: {counted(lines['verdict'])}."


def _of_the_others(claims: pd.DataFrame) -> str:
    """How many exploratory claims have which verdict."""
    known = claims[(claims["kind"] == EXPLORATORY) & ~claims["verdict"].isin(OPEN)]
    if known.empty:
        return "No exploratory claim has enough seeds for a verdict."
    return f"Exploratory claims with a verdict: {counted(known['verdict'])}."


def counted(verdicts: pd.Series) -> str:
    """How often each verdict stands, the most frequent first."""
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.value_counts().items())


def of_main(numbers: pd.DataFrame, data: str) -> str:
    """What a main comparison says, as Markdown; empty where nothing in it is compared.

    numbers: of ``tables.compare``.
    """
    told = "\n".join(compared(numbers, data))
    return f"The main comparison has more seeds:\n\n{told}" if told else ""


def main_lines(numbers: pd.DataFrame, paper: str) -> pd.DataFrame:
    """A main comparison as lines for ``picture``: each difference in its first metric; none of one not in points.

    numbers: of ``tables.compare``.
    """
    if numbers.empty or metric(str(numbers["metric"].iloc[0])).margin != MARGIN:
        return pd.DataFrame()
    first = numbers[numbers["metric"] == numbers["metric"].iloc[0]]
    told = first[first["verdict"].isin([*WORDS, "undecided"])]
    return pd.DataFrame(
        {
            "paper": paper,
            "test (above 0 supports)": told["row"] + " minus " + told["plain"],
            "data": told["setting"],
            "difference": told["difference"],
            "low": told["difference_low"],
            "high": told["difference_high"],
            "low elsewhere": "",
            "high elsewhere": "",
            "verdict": told["verdict"],
            "seeds": told["n"],
        }
    )


def closing(numbers: pd.DataFrame, claims: pd.DataFrame, data: str) -> str:
    """What one run says, as Markdown: its main comparison, and how its claims stand.

    numbers: of ``tables.compare``, or empty. claims: lines of ``figures/claims.csv`` of this paper and collection.
    """
    lines = compared(numbers, data)
    if len(claims):
        seeds = f"{len(claims)} tests with the seeds of this run"
        lines.append(f"- The paper's claims in {seeds}: {counted(claims['verdict'])}.")
    return "\n".join(lines) if lines else TOO_FEW


def compared(numbers: pd.DataFrame, data: str) -> list[str]:
    """One list entry per row that is compared: its differences in the first metric, by setting.

    numbers: of ``tables.compare``, or empty. data: the name of the data set.
    """
    if numbers.empty:
        return []
    first = numbers[numbers["metric"] == numbers["metric"].iloc[0]]
    told = first[first["verdict"].isin(WORDS) | (first["verdict"] == "undecided")]
    label = metric(str(first["metric"].iloc[0])).label
    made = []
    for row, of in told.groupby("row", sort=False):
        plain = of["plain"].iloc[0]
        named = of["setting"].nunique() > 1
        each = "; ".join(_difference(line, named) for line in of.to_dict("records"))
        made.append(f"- On {escape_markdown(data)}, **{row} minus {plain}** in {label}: {each}.")
    return made


def _difference(line: Mapping[Any, Any], named: bool) -> str:
    """One difference with its interval, seeds and verdict; named: with its setting, where there are several."""
    verdict = f"**{WORDS.get(line['verdict'], 'undecided')}**"
    if line["verdict"] == "undecided" and line["detectable"] > 0:
        verdict += f" (a difference of {line['detectable']:.1f} would have shown)"
    span = f"[{line['difference_low']:.2f}, {line['difference_high']:.2f}]"
    where = f"{line['setting']}, " if named else ""
    return f"{where}{line['difference']:+.2f} {span} over {line['n']} seeds, {verdict}"


def plain(markdown: str) -> list[str]:
    """Findings as lines for a terminal: no marks of Markdown, at most ``WIDE`` characters, points indented."""
    told = []
    for line in filter(None, markdown.splitlines()):
        words = html.unescape(MARKS.sub("", line.removeprefix("- ")))
        told += textwrap.wrap(
            words, WIDE, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    return told


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def picture(
    lines: pd.DataFrame,
    called: Mapping[str, str],
    title: str = "Primary claims",
    axis_label: str = SUPPORTS,
) -> draw.Figure:
    """Differences with both intervals, one line each, and the verdict at the right.

    lines: what ``glance.tested`` or ``main_lines`` gives, of one paper; those of several make an ``overview``. Thick:
    the interval over seeds; thin, below: other test data.
    """
    if lines["paper"].nunique() > 1:
        return overview(lines, called)
    each = lines.to_dict("records")
    return _drawn(
        [(line, float(place)) for place, line in enumerate(each)],
        {float(place): _name(line) for place, line in enumerate(each)},
        0.38,
        title,
        axis_label,
    )


def overview(lines: pd.DataFrame, called: Mapping[str, str]) -> draw.Figure:
    """The claims of several papers: one name per claim, beside it a line for each data set; twins are hollow.

    lines: what ``glance.tested`` gives. called: the papers by name.
    """
    placed: list[tuple[Mapping[Any, Any], float]] = []
    names = {}
    last = -1 - GAP
    for (paper, claim), of in lines.groupby(["paper", "claim"], sort=False):
        places = [last + 1 + GAP + number for number in range(len(of))]
        last = places[-1]
        for line, place in zip(of.to_dict("records"), places, strict=True):
            hollow = line["made of"] == "twins"
            placed.append(
                (
                    {
                        **line,
                        "hollow": hollow,
                        "size": 4,
                        "said of": f"{line['data']}: ",
                    },
                    place,
                )
            )
        folded = textwrap.wrap(
            f"{called[str(paper)]}: {claim}", LONGEST, max_lines=2, placeholder="…"
        )
        names[sum(places) / len(places)] = "\n".join(folded)
    return _drawn(placed, names, 0.105, "", SUPPORTS, OVERVIEW)


def _drawn(
    placed: Sequence[tuple[Mapping[Any, Any], float]],
    names: Mapping[float, str],
    each: float,
    title: str,
    axis_label: str,
    width: float = draw.DOUBLE,
) -> draw.Figure:
    """Lines at their places; names: what stands at the left, by place; each: inches that a line takes."""
    last = max(place for _, place in placed)
    height = (0.8 if title else 0.6) + each * (last + 1)
    figure, (axis,) = draw.panel_grid(1, width=width, height=height)
    with draw.style():
        draw.no_difference(axis)
        for line, place in placed:
            _draw_line(axis, place, line)
        axis.set_yticks([*names], [*names.values()])
        axis.set_ylim(last + 0.6, -0.6)
        draw.finish(axis, axis_label, "", title, "x")
    return figure


def _draw_line(axis: Any, place: float, line: Mapping[Any, Any]) -> None:
    """One claim on one data set: both intervals, the difference, the verdict with its seeds."""
    name = BY_WORD.get(line["verdict"], line["verdict"])
    color = draw.VERDICTS.get(name, draw.VERDICTS["undecided"])
    spans = (
        ("low elsewhere", "high elsewhere", draw.THIN, BELOW),
        ("low", "high", draw.THICK, 0.0),
    )
    for low, high, width, down in spans:
        ends = [float(line[name]) if line[name] else math.nan for name in (low, high)]
        draw.interval(axis, place + down, ends, color, width)
    inside, edge = ("white", color) if line.get("hollow") else (color, "white")
    difference = float(line["difference"])
    axis.plot(
        difference, place, "o", color=inside, markeredgecolor=edge, markersize=line.get("size", 6)
    )
    word = WORDS.get(line["verdict"], line["verdict"])
    axis.annotate(
        f"{line.get('said of', '')}{word}, {line['seeds']} seeds",
        (1.01, place),
        xycoords=("axes fraction", "data"),
        color=color,
        fontsize=7,
        va="center",
        annotation_clip=False,
    )


def _name(line: Mapping[Any, Any]) -> str:
    """A line's name: the claim, or what is compared, and below it the data."""
    test = str(line.get("claim") or line["test (above 0 supports)"])
    folded = textwrap.wrap(test, MOST, max_lines=2, placeholder="…")
    return "\n".join([*folded, str(line["data"])])
