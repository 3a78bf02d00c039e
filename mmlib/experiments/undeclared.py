"""What of a paper is left out: the rows that its tables print and that nothing here declares."""

from __future__ import annotations

from collections.abc import Collection

from mmlib import paths
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.profiles import profile
from mmlib.experiments.published import published
from mmlib.runs.store import Store

PRINTED = "printed rows shown as *not built yet*"


def rows_left_out(paper: Paper) -> dict[str, list[str]]:
    """Printed row to the titles of the paper's tables that print it and that declare no such row.

    Nothing is run and no record is read: the tables are asked what they declare on all of the paper's data sets.
    """
    own = [artifact for artifact in paper.artifacts if not artifact.is_ours]
    if not paper.roles:
        return {}
    context = _on_embedded(paper)
    titles: dict[str, list[str]] = {}
    for artifact in own:
        for name in artifact.left_out(context):
            titles.setdefault(name, []).append(artifact.title)
    return titles


def left_out(paper: Paper) -> str:
    """What of a paper is left out, as a reader is told; empty where nothing is."""
    names = [f"{name} ({', '.join(titles)})" for name, titles in rows_left_out(paper).items()]
    printed = [f"{PRINTED}: {', '.join(names)}."] if names else []
    return " ".join([*printed, *([paper.left_out] if paper.left_out else [])])


def printed_rows(paper: str, table: str, built: Collection[str]) -> list[str]:
    """The rows of a printed table but those that are built here, in the printed order."""
    return [name for name in dict.fromkeys(published(paper, table)["row"]) if name not in built]


def _on_embedded(paper: Paper) -> Context:
    """A paper's context in which every role that embedded data fill is filled."""
    smoke = profile("smoke")
    store = Store(paths.runs())
    return Context(paper, smoke, paper.defaults(smoke), store, paper.backbones)
