"""Declaring a paper's artifacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from mmlib.experiments import own
from mmlib.experiments.claims import Claims
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.tables import Table
from mmlib.report.artifact import Artifact, Output, Text

Cells = Callable[[Context], Sequence[Cell]]
Draw = Callable[[Context, Sequence[Cell]], Output]
OURS = "ours"  # an artifact that the paper does not have


def no_runs(context: Context) -> list[Cell]:
    """The cells of an artifact that needs no runs."""
    return []


@dataclass(frozen=True)
class Later:
    """A function that draws an artifact; its module is imported when it is called, since torch takes seconds."""

    module: str
    """The module's full name."""

    name: str
    """The function's."""

    def __call__(self, context: Context, cells: Sequence[Cell]) -> Output:
        """What the function draws."""
        output: Output = getattr(import_module(self.module), self.name)(context, cells)
        return output


def _seen(table: Table, context: Context) -> str:
    """The sentence on what the rows of a comparison see in training; empty where each column has its own."""
    if table.protocol is None:
        return ""
    law = table.protocol(context, table.datasets(context)[0]).train
    seen = {
        "complete": "Nothing is missing in training. ",
        "patterns": "Training sees every combination of modalities. ",
        "shared": f"In training each modality is dropped at a rate of {law.rate:g}. ",
    }
    return seen.get(law.kind, "")


@dataclass(frozen=True)
class Declare:
    """What declares the artifacts of one paper."""

    paper: str
    """Its name in commands and folders."""

    called: str
    """Its name for readers."""

    def artifact(
        self,
        id: str,
        kind: Literal["table", "figure"],
        title: str,
        caption: Text,
        cells: Cells,
        draw: Draw,
        rows: int | None = None,
        source: str = "",
        **other: Any,
    ) -> Artifact:
        """A table or figure, whose source is its title in the paper unless another is given.

        rows: rows of the paper's table, or curves or bars of its figure. other: further fields of ``Artifact``.
        """
        source = source or f"{self.called} {title}"
        return Artifact(id, self.paper, kind, title, caption, cells, draw, rows, source, **other)

    def table(
        self,
        id: str,
        title: str,
        caption: Text,
        table: Table,
        rows: int | None = None,
        source: str = "",
        any_score: bool = True,
        **other: Any,
    ) -> Artifact:
        """A comparison of rows. Where it answers no printed table it is ours, unless ``source`` says otherwise."""
        source = source or ("" if table.printed else OURS)
        return self.artifact(
            id,
            "table",
            title,
            caption,
            table.cells,
            table.draw,
            rows,
            source,
            left_out=table.left_out,
            any_score=any_score,
            **other,
        )

    def main(self, table: Table, **other: Any) -> Artifact:
        """The paper's main comparison, the one that is not reduced. other: further fields of ``Artifact``."""

        def caption(context: Context) -> str:
            count = len(context.seeds(context.main, main=True))
            return _seen(table, context) + (
                "The method, its network trained with the task loss alone, and the linear model, with "
                f"{own.count(count)} seed{'s' * (count > 1)} each. "
                "The method has had as many trials of its learning rate as its network."
            )

        return self.table("main", "Main comparison", caption, table, **other)

    def claims(self, claims: Claims, source: str = "ours, on the paper's text") -> Artifact:
        """The paper's sentences with their tests."""
        caption = "Testable claims of the paper, each with its test and the measured value."
        return self.artifact(
            "claims", "table", "Claims", caption, claims.cells, claims.draw, source=source
        )
