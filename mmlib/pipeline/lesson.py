"""What a notebook shows of its results: findings in sentences with their picture, a few tables, links to all others.

A notebook that pastes every table buries its finding. So a long table is shown by its decided lines and a link to the
file, and whatever a notebook does not show is drawn all the same and listed once at the end.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mmlib import paths
from mmlib.experiments import committed, undeclared
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import shown
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS
from mmlib.experiments.verdicts import OPEN, PRIMARY
from mmlib.papers import catalog
from mmlib.papers.catalog import PAPERS
from mmlib.papers.side_by_side import tables
from mmlib.pipeline import findings, glance, own_network, regenerate
from mmlib.report import figures
from mmlib.report.artifact import Artifact, Output, is_local
from mmlib.report.citations import FROM_NOTEBOOKS, link_rows
from mmlib.report.layout import ACROSS
from mmlib.report.markup import escape_words, markdown_table
from mmlib.report.stats import DECIDED
from mmlib.report.tables import metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 120  # characters of a line of plain text
ROWS = 15  # lines of a table that a notebook shows whole
NOTES = 2  # notes below a table that it shows; of more, the first one
SENTENCE = re.compile(r"(?<!Eq)(?<!Eqs)(?<!Fig)(?<!Figs)\.\s")
CLAIMS_TABLE = "claims"  # its id
CLAIMS = ["claim", "data", "test (above 0 supports)", "measured", "seeds", "verdict"]

ELSEWHERE = "*What the repository has on other real data is not repeated among results on yours: the end lists it.*"


class Lesson:
    """A notebook's view of one context: it draws artifacts, and remembers those that it has shown."""

    def __init__(self, context: Context) -> None:
        """Of a paper on some data at some profile."""
        self.context = context
        self._drawn: dict[str, Output] = {}

    def introduce(self) -> None:
        """Say where the results go and how the profile reduces the paper's budget."""
        profile = self.context.profile
        print(
            f"profile {profile.name}; results go to figures/{self.context.collection}/{self._paper}"
        )
        print(textwrap.fill(profile.reduced, WIDE, break_on_hyphens=False))

    def found(self) -> None:
        """Show what the committed claims say, in a few sentences and a picture.

        Where no primary claim has a verdict, the committed main comparison takes their place. The picture of a paper
        without claims of its own is that of ``against_own_networks``.
        """
        figures.show_text(self.opening())
        if not self._of and len(self._verdicts()):
            self.against_own_networks()
            return
        kept = glance.tested(self._claims(), self._called, self._of)
        if len(kept):
            figures.show(Output(figure=findings.picture(kept, self._called)))
        else:
            self._main_found()

    def opening(self) -> str:
        """What the committed claims of the paper say, as Markdown.

        Where it has none of its own: those of all papers, and how each method stands against its own network.
        """
        nothing = self._untested() if self._own else findings.NOTHING
        told = findings.opening(self._claims(), self._called, self._of, nothing)
        if self._of:
            return told
        own = own_network.sentences(self._verdicts())
        return f"Each paper's claims:\n\n{told}\n\nEach method against its own network:\n\n{own}"

    def against_own_networks(self) -> None:
        """Show all committed comparisons of each method with its own network in one picture."""
        verdicts = self._verdicts()
        if verdicts.empty:
            figures.show_text(own_network.TOO_FEW)
        else:
            figures.show(Output(figure=own_network.picture(verdicts)))

    def picture(self, figure: Figure) -> None:
        """Show a figure that a cell has drawn, in the house style and at the size of the others."""
        figures.show(Output(figure=figure))

    def train(self) -> None:
        """Make the runs that are missing, and say how many failed."""
        report = regenerate.run(self.context)
        if report.failed or report.left:
            print(f"{report.wanted} runs: {report.failed} failed, {report.left} left")
        for run_id, text in report.errors:
            print(run_id, text.strip().splitlines()[-1])

    def show(self, name: str, table: bool = True) -> None:
        """Draw an artifact and show its picture, and its table as far as a reader wants to see it here.

        table: else the picture and a link stand for the table.
        """
        artifact = regenerate.artifacts(self.context, [name])[0]
        link = self._link(artifact, ".md")
        self._drawn[name] = regenerate.draw(self.context, name)
        output, more = shortened(self._drawn[name], link)
        if not table and output.table is not None:
            output, more = replace(output, table=None, local=None), f"[The table]({link})."
        first, folded_notes = noted(output)
        figures.show(first, f"{artifact.title}.", str(artifact.caption))
        for text in filter(None, (folded_notes, more)):
            figures.show_text(text)

    def real(
        self,
        name: str,
        metric: str = "",
        rows: Sequence[str] = (),
        finding: bool = False,
        collection: str = "",
        linked: bool = False,
    ) -> None:
        """Show an artifact of the first collection of real data that has it: its picture, or its table in short.

        metric: the only one to be shown of a comparison of several; the first where empty. rows: likewise; all where
        empty. finding: show the first note of a picture, which says what is found. collection: the one to look in, such
        as that of the larger twins. linked: a link to the picture in its place. With a reader's own data nothing of
        other data is shown, and of real ones a line says so.
        """
        if self._own:
            if not collection:
                figures.show_text(ELSEWHERE)
            return
        for at in [collection] if collection else committed.collections(self._paper):
            folder = paths.figures() / at / self._paper
            numbers = folder / f"{name}-numbers.csv"
            if (folder / f"{name}.png").exists():
                committed.show_picture(self._paper, at, name, finding, linked)
                return
            if numbers.exists():
                self._show_committed(at, name, folder, metric, rows)
                return

    def grids(self, *real: str, seeds: int = 1) -> dict[str, pd.DataFrame]:
        """The side by side's values of committed collections of real data; of a reader's own data those in its place.

        Row, training, setting, seed and value, one line per run and test condition; weighted F1 in percent. Where own
        data have no values, or fewer seeds than ``seeds``, a line says so.
        """
        if self._own:
            return self._own_grids(seeds)
        root = paths.root() / "figures"
        files = {name: root / name / "side_by_side" / "grid.csv" for name in real}
        return {name: tables.by_condition(pd.read_csv(path)) for name, path in files.items()}

    def _own_grids(self, seeds: int) -> dict[str, pd.DataFrame]:
        """The values of a reader's own data that are there, by data as tables call them."""
        (verdicts,) = regenerate.artifacts(self.context, [own_network.ARTIFACT])
        kept = {}
        for ground, values in tables.values(self.context, verdicts.cells(self.context)).items():
            name, count = tables.title(self.context, ground), values["seed"].nunique()
            if count >= seeds:
                kept[name] = values
            else:
                print(f"{name}: this takes {seeds_in_words([seeds])}; done so far: {count}.")
        return kept

    def all_real(self) -> None:
        """List the tables and pictures on real data that are part of the repository, of both the table."""
        lines = []
        for collection in committed.collections(self._paper):
            folder = paths.figures() / collection / self._paper
            pages = {
                path.stem: path
                for ending in ("png", "md")
                for path in folder.glob(f"*.{ending}")
                if not is_local(path.name)
            }
            links = [
                f"[{name}](../figures/{collection}/{self._paper}/{path.name})"
                for name, path in sorted(pages.items())
            ]
            lines.append(f"- `{collection}`: {', '.join(links)}")
        figures.show_text("\n".join(lines))

    def _show_committed(
        self, collection: str, name: str, folder: Path, only: str, rows: Sequence[str]
    ) -> None:
        """Show a committed table in short; only: of this metric, where there is one; rows: those."""
        output = committed_table(folder, name, only, rows)
        link = f"../figures/{collection}/{self._paper}/{name}.md"
        short, more = shortened(output, link)
        figures.show(short, *committed.caption(self._paper, collection, name))
        figures.show_text(more or f"[More of it]({link}).")

    def rest(self) -> None:
        """Draw what was not shown, list it folded, with links, and write the records and reports of the paper."""
        lines = []
        for artifact in regenerate.artifacts(self.context):
            if artifact.id in self._drawn:
                continue
            output = regenerate.draw(self.context, artifact.id)
            lines.append(f"- {self._listed(artifact, output)}")
        regenerate.finish(self.context)
        folder = f"figures/{self.context.collection}/{self._paper}"
        head = f"{len(lines)} tables and figures in <code>{folder}</code>: open the list"
        figures.show_text(folded(head, lines))

    def take_home(self) -> None:
        """Show what this run says: the main comparison and the claims, in sentences."""
        numbers = self._output(self.flagship).numbers
        told = self.closing(pd.DataFrame() if numbers is None else numbers)
        claims = [a for a in regenerate.artifacts(self.context) if a.id == CLAIMS_TABLE]
        drawn = [claim for claim in claims if not why_untestable(self.context)]
        links = [f"- [Each of these tests]({self._link(claim, '.md')})." for claim in drawn]
        figures.show_text("\n".join([told, *links]))

    def obstacles(self) -> None:
        """Show what the paper leaves open with the reading taken, folded, and what is left out or guessed."""
        declared = self.context.declared
        choices = pd.DataFrame(declared.obstacles, columns=["obstacle", "reading taken", "ledger"])
        choices["ledger"] = [link_rows(rows, FROM_NOTEBOOKS) for rows in choices["ledger"]]
        if set(choices["ledger"]) == {OURS}:
            choices = choices.drop(columns="ledger")
        parts = {"Left out": _left_out(declared), "Guesses": declared.guesses}
        told = [f"**{name}:** {text}" for name, text in parts.items() if text]
        head = f"{len(choices)} points that needed a choice: open the list"
        table = folded(head, [markdown_table(choices, escaped=True)])
        figures.show_text("\n\n".join([table, " ".join(told)]))

    def _output(self, name: str) -> Output:
        """What an artifact is, as it was shown, or drawn now."""
        if name not in self._drawn:
            self._drawn[name] = regenerate.draw(self.context, name)
        return self._drawn[name]

    @property
    def flagship(self) -> str:
        """The artifact that ``closing`` speaks of."""
        return "main" if self._of else own_network.ARTIFACT

    def closing(self, numbers: pd.DataFrame) -> str:
        """What this run says, as Markdown; numbers: those of the flagship."""
        if self._of:
            data = self._data() if len(numbers) else ""
            return findings.closing(numbers, self._here(), data)
        return own_network.closing(numbers.reindex(columns=own_network.COLUMNS), self._verdicts())

    def _main_found(self) -> None:
        """Show what the committed main comparison says, in a sentence and a picture; nothing where there is none."""
        path = paths.figures() / self.context.collection / self._paper / "main-numbers.csv"
        if not path.exists():
            return
        numbers = pd.read_csv(path).fillna({"verdict": ""})
        figures.show_text(findings.of_main(numbers, self._data()))
        lines = findings.main_lines(numbers, self._paper)
        if len(lines):
            title, axis = "Main comparison", "points (above 0: the method is better)"
            drawn = findings.picture(lines, self._called, title, axis)
            figures.show(Output(figure=drawn))

    @property
    def _called(self) -> Mapping[str, str]:
        return {name: paper.called for name, paper in PAPERS.items()}

    @property
    def _paper(self) -> str:
        return self.context.paper

    @property
    def _of(self) -> str:
        """The paper whose claims are told; empty, which means all of them, where it has none."""
        return self._paper if self._paper in catalog.CLAIMS else ""

    @property
    def _own(self) -> str:
        """The collection of a reader's own data, which alone is told of then; else empty."""
        return self.context.collection if self.context.own or self.context.label else ""

    def _claims(self) -> pd.DataFrame:
        """The committed claims; with a reader's own data those on these data alone."""
        return glance.read(paths.figures(), self._own)

    def _verdicts(self) -> pd.DataFrame:
        """The committed comparisons with own networks; with a reader's own data those on these data alone."""
        return own_network.read(self._own)

    def _untested(self) -> str:
        """Why no primary claim has a verdict on a reader's own data, or how they get one."""
        why = why_untestable(self.context)
        if why:
            return f"The claims cannot be tested on these data. {why}\n"
        return findings.untested(own_command("decide", self.context))

    def _here(self) -> pd.DataFrame:
        """The claims of this paper in this collection."""
        claims = glance.read(paths.figures(), self.context.collection)
        mine = claims["collection"] == self.context.collection
        return claims[mine & (claims["paper"] == self._paper)]

    def _data(self) -> str:
        """The data of the main comparison, as tables call them."""
        cells = regenerate.artifacts(self.context, ["main"])[0].cells(self.context)
        datasets = dict.fromkeys(cell.dataset for cell in cells)
        return " and ".join(shown(self.context, dataset) for dataset in datasets)

    def _link(self, artifact: Artifact, ending: str) -> str:
        return f"../figures/{self.context.collection}/{self._paper}/{artifact.id}{ending}"

    def _listed(self, artifact: Artifact, output: Output) -> str:
        """An artifact's title with its links and the first sentence of its caption, or why there is none."""
        links = [
            f"[{word}]({self._link(artifact, ending)})"
            for word, ending, there in (
                ("picture", ".png", output.figure is not None),
                ("table", ".md", output.table is not None or output.comparison),
                ("numbers", ".csv", output.table is None and not output.comparison),
            )
            if there and not artifact.varies
        ]
        told = SENTENCE.split(str(artifact.caption))[0].rstrip(".")
        empty = output.table is None and output.figure is None and not output.comparison
        if empty:
            return f"{artifact.title}: {' '.join(output.notes)}"
        return f"{artifact.title} ({', '.join(links) or 'on this machine only'}): {told}."


def _left_out(paper: Paper) -> str:
    """What of a paper is left out, in a sentence."""
    names = ", ".join(undeclared.rows_left_out(paper))
    printed = f"rows that the paper prints, of {names}." if names else ""
    return " ".join(filter(None, (printed, paper.left_out)))


def committed_table(folder: Path, name: str, only: str = "", rows: Sequence[str] = ()) -> Output:
    """A committed table: the numbers of a comparison, or any other as text.

    Of a comparison what was run: of one metric, if ``only`` names it, and of some rows, if ``rows`` names them.
    """
    numbers = pd.read_csv(folder / f"{name}-numbers.csv")
    if "difference" not in numbers:
        return Output(pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False))
    texts = [column for column in ("plain", "verdict", "failed") if column in numbers]
    numbers = numbers.fillna(dict.fromkeys(texts, ""))
    kept = (numbers["n"] > 0) | (numbers["failed"] != "" if "failed" in numbers else False)
    for column, wanted in (("metric", [only] if only else []), ("row", rows)):
        kept &= numbers[column].isin(wanted) if wanted else True
    return Output(numbers=numbers[kept], comparison=True)


def why_untestable(context: Context) -> str:
    """Why a paper's claims cannot be tested on some data; empty where they can, or where nobody knows yet."""
    for artifact in regenerate.artifacts(context):
        if artifact.id == CLAIMS_TABLE:
            with contextlib.suppress(
                Exception
            ):  # one that cannot name its runs says so when it is drawn
                return regenerate.lacks(context, artifact)
    return ""


def own_command(name: str, context: Context) -> str:
    """A command of mmlib for a context of a reader's own data, with the options that this one was made with."""
    given = [
        reference if context.own else f"{role}={reference}"
        for role, reference in context.data.items()
    ]
    default = dict(context.data) == context.declared.defaults(context.profile)
    options = {
        "--paper": context.paper if context.paper in catalog.CLAIMS else "",
        "--data": "" if default else " --data ".join(map(shlex.quote, given)),
        "--label": context.label,
        "--profile": context.profile.name,
    }
    told = [f"{option} {value}" for option, value in options.items() if value]
    return " ".join([f"mmlib {name}", *told])


def folded(head: str, lines: Sequence[str]) -> str:
    """Markdown lines that a reader opens by a click on their head; head: HTML."""
    return "\n".join([f"<details><summary>{head}</summary>", "", *lines, "", "</details>"])


def noted(output: Output) -> tuple[Output, str]:
    """An output with at most ``NOTES`` notes, or with the first of them, and the others folded, as Markdown."""
    if len(output.notes) <= NOTES:
        return output, ""
    first, *others = output.notes
    lines = [f"- {escape_words(note)}" for note in others]
    return replace(output, notes=(first,)), folded(f"{len(lines)} more notes", lines)


def shortened(output: Output, link: str) -> tuple[Output, str]:
    """An output whose table has at most ``ROWS`` lines, and what is left out and where it stands, as Markdown."""
    if output.comparison and output.numbers is not None:
        return _short_comparison(output, output.numbers, link)
    if output.table is None or len(output.table) <= ROWS:
        return output, ""
    if {"kind", *CLAIMS} <= set(output.table):
        return _short_claims(output, output.table, link)
    return replace(output, table=None), f"[The table]({link}) has {len(output.table)} lines."


def _short_claims(output: Output, table: pd.DataFrame, link: str) -> tuple[Output, str]:
    """The primary claims and the decided ones, and how many have which verdict."""
    decided = ~table["verdict"].isin([*OPEN, "undecided"])
    primary = table["kind"] == PRIMARY
    kept = pd.concat([table[primary], table[decided & ~primary]])[CLAIMS].head(ROWS)
    told = f"{len(table)} claims: {findings.counted(table['verdict'])}. [All of them]({link})."
    return replace(output, table=kept if len(kept) else None, numbers=None, notes=()), told


def _short_comparison(output: Output, numbers: pd.DataFrame, link: str) -> tuple[Output, str]:
    """One metric, and of many settings those with a decided difference."""
    first = numbers[numbers["metric"] == numbers["metric"].iloc[0]]
    if len(first) == len(numbers) and _lines(numbers) <= ROWS:
        return output, ""
    more = f"[All settings and metrics]({link})."
    if _lines(first) <= ROWS:
        return replace(output, numbers=first), more
    compared = first[first["verdict"].fillna("") != ""]
    decided = first[first["verdict"].isin(DECIDED)]
    kept = first[first["setting"].isin(decided["setting"].unique())]
    told = (
        f"{len(decided)} of {len(compared)} differences in {metric(str(first['metric'].iloc[0])).label} "
        f"are decided. {more}"
    )
    if 0 < _lines(kept) <= ROWS:
        return replace(output, numbers=kept), told
    return replace(output, numbers=None, comparison=False, notes=()), told


def _lines(numbers: pd.DataFrame) -> int:
    """How many lines the tables of a comparison have in a notebook: per metric, settings or rows, the fewer."""
    run = numbers[numbers["n"] > 0]
    counts = [(of["setting"].nunique(), of["row"].nunique()) for _, of in run.groupby("metric")]
    return sum(rows if settings < rows > ACROSS else settings for settings, rows in counts)
