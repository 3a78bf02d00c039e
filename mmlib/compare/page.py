"""The report of a comparison: ``index.html``, one page that needs no other file, and ``compare.md``."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from mmlib.compare import facts, failed, picture, scored
from mmlib.compare.plan import MAJORITY, Question
from mmlib.compare.race import Standing
from mmlib.compare.results import Results, over_clusters
from mmlib.data.groups import few_in_words
from mmlib.experiments import failures
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.conditions import ALL
from mmlib.files import write
from mmlib.papers.side_by_side import tables as costs
from mmlib.papers.side_by_side.equity import FLAGS
from mmlib.report import stats
from mmlib.report.artifact import figure_bytes
from mmlib.report.markup import escape_markdown, escape_words, markdown_table
from mmlib.runs.spec import RunSpec

NAMED = 3  # contenders that a sentence names
BELOW = "▽"  # marks those that are no better than always the same answer
RIVALS = 5  # of those that are still in, that the table of pairs shows for each question
LABELS = {
    "weighted_f1": "weighted F1 (%)",
    "mae": "mean absolute error, in the unit of the score (lower is better)",
}
SHORT = {"weighted_f1": "weighted F1", "mae": "mean absolute error"}
LEADS = {
    "weighted_f1": "over seeds in points of weighted F1, over clusters in points of accuracy",
    "mae": "by how much its mean absolute error is smaller, in the unit of the score",
}


@dataclass(frozen=True)
class Section:
    """A table of the report."""

    title: str
    """Its heading."""

    text: str
    """What is to be known when reading it."""

    table: pd.DataFrame
    """Text cells."""


def headline(made: Results) -> str:
    """The answer to each question, a line each."""
    return "\n".join(f"* {sentence(made, q)}" for q in made.plan.questions)


def sentence(made: Results, question: Question) -> str:
    """The answer to one question in words and numbers."""
    standing = made.standings[question.name]
    name = question.name.capitalize()
    best = standing.best
    if not made.seeds(best) or best == MAJORITY and not made.field:
        return f"{name}: too few seeds for an answer; the same command goes on."
    told = f"{best} ({_with_unit(made, _means(made, question)[best])})"
    out = _no_part(made, question, best)
    if not made.field:
        return (
            f"{name}: too few seeds for an answer; so far {told} has the best mean, by "
            f"{seeds_in_words([made.seeds(best)])}. The same command goes on.{out}"
        )
    waits = _waits(made, question, best) + out
    if len(standing.open) == 1:
        return f"{name}: {_alone(made, question, told)}{waits}"
    others = [other for other in standing.open if other != best]
    more = f"; and {len(others) - NAMED} more" if len(others) > NAMED else ""
    every = len({*standing.open, *standing.out} - {MAJORITY})
    enough = f" that have {_first_look(made)}" if made.waiting else ""
    return (
        f"{name}: the best of {every} contenders{enough} is one of {len(standing.open)}; {told} has the best mean. "
        f"Against the next, {others[0]}: {_lead(made, question, best, others[0])}. "
        f"Not decided against: {'; '.join(others[:NAMED])}{more}.{waits}"
    )


def _alone(made: Results, question: Question, told: str) -> str:
    """The answer where one contender is left, with its lead over the next one.

    told: the contender with its mean. It is the best only where other clusters would say so, too; of others than the
    few dialogues or speakers of the test split, nobody knows what they would say.
    """
    standing = made.standings[question.name]
    means = _means(made, question)
    if not standing.out:
        return f"{told} is the only one."
    second = max(standing.out, key=lambda other: means[other])
    of_seeds = _differences(made, question, standing.best, second)
    of_clusters = over_clusters(made, question, standing.best, second)
    doubts = [] if stats.summarise(of_seeds).low > 0 else ["seeds"]
    if of_clusters:
        doubts += list(made.few) if of_clusters[1].low > 0 else [of_clusters[0]]
    verb = f"leads, not decided over other {' and '.join(doubts)}" if doubts else "is the best"
    verb = f"{verb} so far" if made.waiting else verb
    return f"{told} {verb}. Against the next, {second}: {_lead(made, question, standing.best, second)}."


def _lead(made: Results, question: Question, best: str, other: str) -> str:
    """How far one is ahead of another, with the intervals over seeds and over clusters and their units."""
    seeds = _interval(made, _differences(made, question, best, other))
    of_clusters = over_clusters(made, question, best, other)
    kind, ends = (
        ("", "") if of_clusters is None else (of_clusters[0], _with_ends(of_clusters[1], made))
    )
    if made.metric == "mae":
        more = f", {ends} over {kind}" if kind else ""
        return f"its error smaller by {seeds} over seeds{more}, in the unit of the score"
    more = f", {ends} points of accuracy over {kind}" if kind else ""
    return f"{seeds} points of {SHORT[made.metric]} over seeds{more}"


def _waits(made: Results, question: Question, best: str) -> str:
    """How many lack the first look's seeds, and which of them is ahead so far."""
    if not made.waiting:
        return ""
    every = len(made.field) + len(made.waiting)
    text = f" {len(made.waiting)} of {every} contenders have fewer than {_first_look(made)}"
    text += _ahead(made, question, best, [c.name for c in made.waiting])
    return f"{text}. The same command goes on with them."


def _no_part(made: Results, question: Question, best: str) -> str:
    """How many take no part since a run failed, and which of them is ahead so far."""
    if not made.failed:
        return ""
    every = len(made.plan.contenders)
    text = f" {len(made.failed)} of {every} contenders take no part, since a run of theirs failed"
    return f"{text}{_ahead(made, question, best, list(made.failed))}."


def _ahead(made: Results, question: Question, best: str, names: Sequence[str]) -> str:
    """Which of some contenders has a better mean than the best one, where there is such."""
    means = _means(made, question)
    ahead = [name for name in names if made.seeds(name) and means[name] > means[best]]
    if not ahead:
        return ""
    first = max(ahead, key=lambda name: means[name])
    told = f"; of these {first} has a better mean ({_with_unit(made, means[first])}) by "
    return told + seeds_in_words([made.seeds(first)])


def live(made: Results) -> pd.DataFrame:
    """The table that is shown after each look."""
    lines = []
    for question in made.plan.questions:
        standing = made.standings[question.name]
        means = _means(made, question)
        begun = any(map(made.seeds, made.specs))
        best = f"{standing.best}, {_number(made, means[standing.best])}"
        lines.append(
            {
                "question": question.name,
                "best mean": best if begun else "no seed has ended",
                "still in": len({*standing.open} - {MAJORITY}) if begun else "-",
                "out": len({*standing.out} - {MAJORITY}),
                "fewer seeds": len(made.waiting),
            }
        )
    return pd.DataFrame(lines)


def sections(made: Results) -> list[Section]:
    """The report's tables, without those that have no line."""
    label = LABELS[made.metric]
    every = [
        Section(
            "All contenders",
            f"{label}, mean ± sd over seeds. A contender is a method or network and what it was trained on. "
            f"*: may be the best, by {_first_look(made)} or more, whose spread may be large; {BELOW}: no better than "
            f"always the same answer (majority). Seeds: who is out gets no more.{_no_time(made)} "
            f"{FLAGS}",
            contenders_table(made),
        ),
        Section(
            "The best against the others",
            f"The lead of the contender with the best mean: {LEADS[made.metric]}. Over seeds: 95 % interval for other "
            f"seeds on these test utterances; over clusters: 95 % interval for other "
            f"{_others(made)}. Decided: by the rule at the end of the page, which asks for more than an "
            "interval without zero, since every contender has many rivals and is looked at often; “behind” names "
            "who put a contender out, where that is not the one with the best mean. Shown are the "
            f"next {RIVALS} of those that are still in, the next one that is out, and the linear "
            "model."
            f"{_unshown(made)}",
            against_table(made),
        ),
        *_by_condition(made, label),
        Section(
            "What missing modalities cost",
            f"The difference to the same networks on complete data, paired by seed, with 95 % intervals, in {label}.",
            missing_table(made),
        ),
        Section(failed.TITLE, failed.TEXT, failed.table(made)),
        Section(
            "Cost",
            "Seconds: median training time of a model over all its stages, on one thread. Epochs: passes over the "
            "training data; with a +, of its stages one after the other. Parameters: trained in the last stage, and "
            "those that it keeps frozen from the stage before; the linear model's are solved for, without epochs.",
            cost_table(made),
        ),
    ]
    return [part for part in every if len(part.table)]


def _others(made: Results) -> str:
    """For what other test data the intervals over clusters are."""
    if not made.few:
        return f"{made.kind} like these"
    where = "the test split" if made.plan.bundle.fold is None else "the test split of a fold"
    return (
        f"{made.kind} only, since {where} has {few_in_words(made.few)}; it says nothing of other "
        f"{' and '.join(made.few)}"
    )


def _by_condition(made: Results, label: str) -> list[Section]:
    """The results under each test condition, and scores over all of them; label: of the metric."""
    return [
        Section(
            "By test condition",
            f"{label}, mean over seeds, of all that {_who_is_in(made)}.",
            conditions_table(made),
        ),
        Section(
            "Scores over all test conditions",
            scored.told(made, label),
            scored.table(made, _in_order(made)),
        ),
    ]


def _first_look(made: Results) -> str:
    return seeds_in_words([made.plan.looks[0]])


def _unshown(made: Results) -> str:
    """Which undecided pairs the table leaves out, where there are such."""
    counts = {q: len(s.open) - 1 - RIVALS for q, s in made.standings.items() if made.field}
    more = [f"{count} on {question}" for question, count in counts.items() if count > 0]
    return f" Not decided either, and further behind: {', '.join(more)}." if more else ""


def _who_is_in(made: Results) -> str:
    """Who stands in the tables of conditions."""
    if made.field:
        return "may be the best in some question"
    return f"have a seed; nobody has {_first_look(made)} yet"


def _no_time(made: Results) -> str:
    """What is said of contenders that lack seeds for want of time, where there are such."""
    told = ""
    none = [c.name for c in made.waiting if not made.seeds(c.name)]
    if len(none) < len(made.waiting):
        told += (
            f" Those with fewer than {_first_look(made)} are neither in nor out: the minutes ended before the others. "
            "The same command goes on with them."
        )
    if none:
        told += (
            f" Not shown, since the minutes ended before the first seed: {'; '.join(none)}. "
            "The same command goes on with them, the cheapest first."
        )
    return told


def contenders_table(made: Results) -> pd.DataFrame:
    """A line for each contender, a column for each question."""
    frames = {q.name: made.of(q) for q in made.plan.questions}
    order = _in_order(made)
    lines = []
    for name in [*order, MAJORITY] if order else []:
        why = made.failed.get(name, "")
        count = f"{made.seeds(name)}, {why}" if why else made.seeds(name)
        line: dict[str, object] = {"contender": name, "seeds": count}
        line |= scored.flags(made, name)
        for question, frame in frames.items():
            mark = " *" if made.may_be_best(question, name) else ""
            below = f" {BELOW}" if _below_majority(frame, name) else ""
            line[question] = _text(made, frame.get(name)) + mark + below
        lines.append(line)
    for name, why in made.failed.items():
        if not made.seeds(name):
            lines.append({"contender": name, "seeds": why, **dict.fromkeys(frames, "")})
    return pd.DataFrame(lines).fillna("")


def _below_majority(frame: pd.DataFrame, name: str) -> bool:
    """Whether a contender's mean is no better than always the same answer."""
    return name != MAJORITY and name in frame and _mean(frame, name) <= _mean(frame, MAJORITY)


def _in_order(made: Results) -> list[str]:
    """The contenders that have a seed, by their mean in the first question; after the others those of few seeds."""
    first = made.of(made.plan.questions[0])
    names = [name for name in made.specs if made.seeds(name)]
    return sorted(names, key=lambda name: (name not in made.field, -_mean(first, name)))


def against_table(made: Results) -> pd.DataFrame:
    """The contender with the best mean against those that matter, for each question."""
    lines = []
    for question in made.plan.questions:
        standing = made.standings[question.name]
        for other in _rivals(made, question, standing):
            of_clusters = over_clusters(made, question, standing.best, other)
            lines.append(
                {
                    "question": question.name,
                    "best mean": standing.best,
                    "other": other,
                    "over seeds": _interval(
                        made, _differences(made, question, standing.best, other)
                    ),
                    "over clusters": _clustered(made, of_clusters),
                    "decided": _decided(standing, other),
                }
            )
    return pd.DataFrame(lines)


def _decided(standing: Standing, other: str) -> str:
    """Whether a contender is out, and where it is another one than the best that beat it, which."""
    if other in standing.open:
        return "no"
    by = standing.out[other][1]
    return "yes" if by == standing.best else f"out, behind {by}"


def conditions_table(made: Results) -> pd.DataFrame:
    """A line for each contender that is not out of every question, a column for each test condition."""
    names = _still_in(made)
    chosen = made.values[made.values["contender"].isin(list(names))]
    table = chosen.pivot_table(
        index="contender", columns="condition", values="value", aggfunc="mean", sort=False
    )
    columns = [condition for condition, _ in made.plan.tests]
    text = table.reindex(index=names, columns=columns).map(lambda v: _number(made, v, "-"))
    known = [scored.flags(made, name) for name in names]
    for place, flag in enumerate(("prior", "one model")):
        text.insert(place, flag, [of[flag] for of in known])
    return text.reset_index().rename_axis(columns=None)


def missing_table(made: Results) -> pd.DataFrame:
    """What each contender that may be the best somewhere loses under each condition; of a few seeds, nothing."""
    lines = []
    for name in _still_in(made) if made.field else []:
        if name == MAJORITY:
            continue
        of_name = made.values[made.values["contender"] == name]
        table = of_name.pivot_table(index="seed", columns="condition", values="value")
        line: dict[str, object] = {"contender": name, **scored.flags(made, name)}
        for condition, _ in made.plan.tests:
            if condition != ALL:
                line[condition] = _interval(made, table[condition] - table[ALL])
        lines.append(line)
    return pd.DataFrame(lines)


def _still_in(made: Results) -> list[str]:
    """Those that may be the best in some question; before anyone has the first look's seeds, all with a seed."""
    names = dict.fromkeys(name for s in made.standings.values() for name in s.open)
    return [name for name in names if made.seeds(name)]


def cost_table(made: Results) -> pd.DataFrame:
    """Training time and parameters of each contender."""
    lines = []
    for name, specs in made.specs.items():
        if specs:
            seconds = costs.seconds(made.plan.context, specs)
            given = costs.given(made.plan.context, specs)
            lines.append(
                {
                    "contender": name,
                    **scored.flags(made, name),
                    "seconds": f"{np.median(seconds):.1f}" if seconds else "-",
                    "learning rate": "-" if is_linear(specs) else given["learning rate"],
                    "epochs": "-" if is_linear(specs) else given["epochs"],
                    "parameters": given["frozen" if is_linear(specs) else "parameters, trained"],
                    "frozen": "-" if is_linear(specs) else given["frozen"],
                }
            )
    return pd.DataFrame(lines)


def is_linear(specs: Sequence[RunSpec]) -> bool:
    """Whether runs fit the linear model, which has no steps."""
    return specs[0].method == "linear"


def run_ids(made: Results) -> Mapping[str, Sequence[str]]:
    """The runs of each contender that has some, and why those failed that did."""
    ids = {name: [made.run_id(s) for s in specs] for name, specs in made.specs.items()}
    for name, runs in made.failures.items():
        ids.setdefault(name, []).extend(
            f"{run.what}: {failures.place(run)}, run {run.run_id}: {failures.reason(error)}"
            for run, error in runs
        )
    return {name: of for name, of in ids.items() if of}


def write_report(made: Results, folder: Path, notes: facts.Notes) -> None:
    """Write ``index.html`` and ``compare.md``, the numbers as ``numbers.csv``, and the picture.

    Raises:
        InputError: a folder that cannot be written.
    """
    parts = sections(made)
    drawn = picture.draw(made)
    image = figure_bytes(drawn, "png")
    title = f"Which method for {made.plan.bundle.name}?"
    answers = [sentence(made, q) for q in made.plan.questions]
    known = facts.listed(made, notes)
    ids = run_ids(made)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages = resources.files("mmlib.report") / "page"
    html = page.from_string((pages / "compare.html").read_text(encoding="utf-8")).render(
        style=(pages / "dashboard.css").read_text(encoding="utf-8"),
        title=title,
        answers=answers,
        facts=known,
        image=base64.b64encode(image).decode(),
        sections=parts,
        ids=ids,
    )
    write(folder / "index.html", html.encode())
    write(folder / "compare.png", image)
    write(folder / "compare.md", _markdown(title, answers, known, parts, ids).encode())
    numbers = made.values.sort_values(["condition", "contender", "seed"])
    write(folder / "numbers.csv", numbers.to_csv(index=False, lineterminator="\n").encode())


def _markdown(
    title: str,
    answers: Sequence[str],
    known: Sequence[tuple[str, str]],
    parts: Sequence[Section],
    ids: Mapping[str, Sequence[str]],
) -> str:
    """The page as Markdown; nothing in the data's names or in error texts has a meaning for it."""
    plain = escape_markdown
    lines = [f"# {plain(title)}", "", *(f"* {plain(answer)}" for answer in answers), ""]
    lines += ["![All contenders by question](compare.png)", ""]
    for part in parts:
        lines += [
            f"## {part.title}",
            "",
            escape_words(part.text),
            "",
            markdown_table(part.table),
            "",
        ]
    lines += ["## How it was made", "", *(f"* {plain(n)}: {plain(text)}" for n, text in known), ""]
    lines += ["## Run ids", "", *(f"* {plain(n)}: {plain(', '.join(of))}" for n, of in ids.items())]
    return "\n".join([*lines, ""])


def _means(made: Results, question: Question) -> Mapping[str, float]:
    return {str(name): float(mean) for name, mean in made.of(question).mean().items()}


def _mean(frame: pd.DataFrame, name: str) -> float:
    mean = float(frame[name].mean()) if name in frame else np.nan
    return -np.inf if np.isnan(mean) else mean


def _rivals(made: Results, question: Question, standing: Standing) -> list[str]:
    """Those still in, the best of those that are out, and the linear model, of those with the first look's seeds."""
    if not made.field:
        return []
    means = _means(made, question)
    others = [name for name in standing.open if name != standing.best][:RIVALS]
    gone = sorted(standing.out, key=lambda name: -means[name])
    linear = [name for name in made.field if name.startswith("linear model")]
    best_linear = sorted(linear, key=lambda name: -means[name])[:1]
    chosen = dict.fromkeys([*others, *gone[:1], *best_linear])
    return [name for name in chosen if name != standing.best]


def _differences(made: Results, question: Question, best: str, other: str) -> pd.Series:
    """The lead over the seeds that both have; positive where the first is better."""
    pair = made.of(question)[[best, other]].dropna()
    return pair[best] - pair[other]


def _interval(made: Results, differences: pd.Series) -> str:
    values = differences.dropna()
    if values.empty:
        return "-"
    digits = _digits(made)
    if len(values) < max(made.plan.looks[0], stats.FEWEST):
        return f"{values.mean():+.{digits}f}, {seeds_in_words([len(values)])}"
    summary = stats.summarise(values)
    return f"{summary.mean:+.{digits}f} [{summary.low:+.{digits}f}, {summary.high:+.{digits}f}]"


def _clustered(made: Results, found: tuple[str, stats.Interval] | None) -> str:
    return "-" if found is None else f"{_with_ends(found[1], made)}, {found[1].clusters} {found[0]}"


def _with_ends(interval: stats.Interval, made: Results) -> str:
    digits = _digits(made)
    ends = f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
    return f"{interval.difference:+.{digits}f} {ends}"


def _digits(made: Results) -> int:
    """Decimals of the metric: errors are small numbers, percentages large ones."""
    return 3 if made.metric == "mae" else 1


def _text(made: Results, values: pd.Series | None) -> str:
    known = pd.Series(dtype=float) if values is None else values.dropna()
    if known.empty:
        return "-"
    mean = _number(made, float(known.mean()))
    digits = _digits(made)
    return mean if len(known) < 2 else f"{mean} ± {known.std(ddof=1):.{digits}f}"


def _number(made: Results, value: float, lacking: str = "-") -> str:
    """A mean as readers see it: errors with their own sign."""
    if not np.isfinite(value):
        return lacking
    return f"{abs(value):.3f}" if made.metric == "mae" else f"{value:.1f}"


def _with_unit(made: Results, value: float) -> str:
    """A mean with what it is of."""
    unit = " %" if made.metric == "weighted_f1" else ""
    return f"{SHORT[made.metric]} {_number(made, value)}{unit}"
