"""Results on real data that are committed with the repository, for notebooks to show."""

from __future__ import annotations

import pandas as pd
from IPython.display import Image, Markdown, display

from mmlib import paths
from mmlib.names import EMBEDDED, STUDY, TWINS
from mmlib.report.artifact import Entry, read_manifest
from mmlib.report.citations import FROM_ARTIFACTS, FROM_NOTEBOOKS, link_markdown
from mmlib.report.markup import escape_words


def collections(paper: str) -> list[str]:
    """Collections of real data that hold a paper's results; the primary ones first."""
    names = {
        str(e["collection"])
        for e in read_manifest(paths.figures() / "manifest.json")
        if e["paper"] == paper
        and e["status"] == "regenerated"
        and e["collection"] not in (TWINS, STUDY, EMBEDDED)
    }
    return sorted(names, key=lambda name: ("unseen" not in name, name))


def verdicts(
    paper: str, collection: str, artifact: str, metric: str = "weighted_f1"
) -> pd.DataFrame:
    """A committed comparison: row, setting, mean, sd, n, difference, interval, verdict; empty if there is none."""
    path = paths.figures() / collection / paper / f"{artifact}-numbers.csv"
    if not path.exists():  # the data fill another role of the paper
        return pd.DataFrame(columns=["setting", "row", "verdict", "difference"])
    numbers = pd.read_csv(path)
    numbers = numbers[(numbers["metric"] == metric) & (numbers["n"] > 0)]
    columns = [
        "setting",
        "row",
        "mean",
        "sd",
        "n",
        "difference",
        "difference_low",
        "difference_high",
        "verdict",
    ]
    return numbers[columns].fillna({"verdict": ""}).round(2).reset_index(drop=True)


def count_verdicts(paper: str, collection: str, artifact: str) -> str:
    """One sentence per row: in how many settings it was better, worse, equivalent or undecided."""
    table = verdicts(paper, collection, artifact)
    if table.empty:
        return f"{collection}: no results of {artifact}"
    lines = []
    for row, group in table[table["verdict"] != ""].groupby("row", sort=False):
        counts = group["verdict"].value_counts()
        text = ", ".join(f"{verdict} in {counts[verdict]}" for verdict in counts.index)
        lines.append(
            f"{collection}: {row} against its plain backbone, {len(group)} settings: {text}; "
            f"mean difference {group['difference'].mean():+.2f} points of weighted F1"
        )
    return "\n".join(lines)


def _entry(paper: str, collection: str, artifact: str) -> Entry | None:
    """The manifest's entry of an artifact; None where it has none."""
    wanted = (collection, paper, artifact)
    listed = read_manifest(paths.figures() / "manifest.json")
    return next((e for e in listed if (e["collection"], e["paper"], e["id"]) == wanted), None)


def caption(paper: str, collection: str, artifact: str) -> tuple[str, str]:
    """The title and the caption of a committed artifact; empty where the manifest does not know it."""
    entry = _entry(paper, collection, artifact)
    return (f"{entry['title']}.", str(entry["caption"])) if entry else ("", "")


def notes(paper: str, collection: str, artifact: str) -> tuple[str, ...]:
    """The notes of a committed artifact; none where the manifest does not know it."""
    entry = _entry(paper, collection, artifact)
    return tuple(entry["notes"]) if entry else ()


def show_picture(
    paper: str, collection: str, artifact: str, finding: bool = False, linked: bool = False
) -> None:
    """Show a committed picture with its caption, and with its first note where that is its finding.

    linked: a link to the picture in its place.
    """
    path = paths.figures() / collection / paper / f"{artifact}.png"
    if not linked:
        display(Image(filename=str(path), width=760))  # type: ignore[no-untyped-call]
    title, words = (escape_words(text) for text in caption(paper, collection, artifact))
    said = (
        [escape_words(note) for note in notes(paper, collection, artifact)[:1]] if finding else []
    )
    link = f"[Picture](../figures/{collection}/{paper}/{artifact}.png)." if linked else ""
    told = " ".join(filter(None, (f"**{title}**", words, link)))
    lines = [told if title else "", *(f"- {note}" for note in said)]
    text = link_markdown("\n\n".join(lines), FROM_NOTEBOOKS)
    display(Markdown(text))  # type: ignore[no-untyped-call]


def show(paper: str, collection: str, artifact: str) -> None:
    """Show a committed table, and its picture where it has one, as they stand in ``figures/``."""
    folder = paths.figures() / collection / paper
    picture, table = (folder / f"{artifact}{ending}" for ending in (".png", ".md"))
    if picture.exists():
        display(Image(filename=str(picture), width=760))  # type: ignore[no-untyped-call]
    if table.exists():
        text = table.read_text(encoding="utf-8").replace(
            f"]({FROM_ARTIFACTS}#", f"]({FROM_NOTEBOOKS}#"
        )
        display(Markdown(text))  # type: ignore[no-untyped-call]
