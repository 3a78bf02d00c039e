"""Words of our own: private ones stay out of prose, those of the glossary are linked on first use."""

from __future__ import annotations

import dataclasses
import html.parser
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mmlib.experiments import published
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import regenerate, replication
from mmlib.report.artifact import LOCAL, Made, Output, read_manifest, render
from mmlib.report.citations import citations
from mmlib.report.dashboard import write_dashboard

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
LEDGER = ROOT / "docs" / "ledger.md"
FIGURES = ROOT / "figures"

# Phrases that only their authors understand, each with what the field says instead.
PRIVATE = {
    r"(leak|protocol|selection|condition|what that) buys": "effect of ...",
    r"common ground": "equal conditions",
    r"(hold|holds) (together|for all)\b": "simultaneous intervals",
    r"(row|one) to beat": "baseline",
    r"not to be had": "not available",
    r"missing by nature|nature's included": "the data lack it",
    r"sentence by sentence": "claims",
    r"yes-or-no questions?": "binary labels",
    r"(network|backbone) under (it|them)\b": "own network",
    r"along training": "during training",
    r"look(s|ing)? at test": "use test data",
    r"reads? off": "computes",
    r"seeds cannot tell": "more seeds are needed",
    r"people's (own )?(votes|gap|judgements)": "human raters",
    r"who (contributes|moves|teaches|decides)\b\?": "which modality ...",
    r"never feels?": "gradients do not reach it",
    r"the MOSI trap": "label leakage",
    r"drawn (heavily|lightly)": "bold lines, light lines",
    r"(pool|plug)s? (of runs serves|into)": "wraps, trains",
    r"twins of": "twins",
}
WORDS = re.compile("|".join(f"(?:{pattern})" for pattern in PRIVATE), re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINKED = re.compile(r"\[[A-H]\d+\]\(([^)\s]*ledger\.md)#([a-h]\d+)\)")


def documents() -> list[Path]:
    """The pages that are written by hand."""
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "data" / "README.md"]
    return sorted(pages)


def artifact_texts() -> Iterator[tuple[str, str]]:
    """(Where, text) of what is said of every artifact."""
    for paper in PAPERS.values():
        yield paper.name, f"{paper.title}. {paper.left_out} {paper.guesses}"
        for artifact in regenerate.every(paper.context("smoke")):
            yield f"{paper.name}, {artifact.id}", f"{artifact.title}. {artifact.caption}"


def prose() -> Iterator[tuple[str, str]]:
    """(Where, text) of all prose that a reader meets."""
    for path in documents():
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield path.name, cell.source
    yield from artifact_texts()


def private(text: str) -> list[str]:
    """The private words of a text, code left out, however its lines are broken."""
    flat = " ".join(CODE.sub(" ", text).split())
    return [match.group() for match in WORDS.finditer(flat)]


def test_prose_has_no_private_words() -> None:
    texts = list(prose())
    assert len(texts) > 200, "the scan sees less than it should"
    assert {where: words for where, text in texts if (words := private(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "What the leak buys",
        "intervals that hold\ntogether",
        "This is the row to beat.",
        "**Sentence by sentence**, with a test each",
    ],
)
def test_a_planted_word_is_seen(text: str) -> None:
    assert len(private(text)) == 1


def test_code_may_use_any_word() -> None:
    assert private("`--option what the leak buys`\n```\nyes-or-no questions\n```") == []


def glossary() -> dict[str, str]:
    """The glossary's words and what they mean."""
    rows = re.findall(
        r'^\| <a id="([a-z]+)"></a>([a-z]+) \| (.+) \|$', GLOSSARY.read_text("utf-8"), re.MULTILINE
    )
    assert all(anchor == word for anchor, word, _ in rows)
    return {word: meaning for _, word, meaning in rows}


def unlinked(text: str, words: dict[str, str]) -> list[str]:
    """The words whose first use in a text is no link to the glossary or, the ledger, to itself."""
    text = CODE.sub(lambda match: " " * len(match.group()), text)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    lacking = []
    for word in words:
        first = re.search(rf"(?<![\w/#.-])(\[)?{word}s?\b(?!\.md)", text, re.IGNORECASE)
        link = rf"\[{word}s?\]\(docs/(?:glossary\.md#{word}|{word}\.md)\)"
        if first and not re.match(link, text[first.start() :], re.IGNORECASE):
            lacking.append(word)
    return lacking


def test_every_word_of_the_glossary_has_a_sentence() -> None:
    words = glossary()
    assert {"twin", "bundle", "role", "ledger"} <= set(words)
    assert all(meaning.endswith(".") and len(meaning.split()) > 5 for meaning in words.values())


def test_the_readme_links_a_word_of_the_glossary_where_it_first_uses_it() -> None:
    assert unlinked((ROOT / "README.md").read_text("utf-8"), glossary()) == []


def test_a_word_without_its_link_is_seen() -> None:
    words = {"twin": ""}
    assert unlinked("A [twin](docs/glossary.md#twin) and twins.", words) == []
    assert unlinked("Twins and a [twin](docs/glossary.md#twin).", words) == ["twin"]
    assert unlinked("`twin` and nothing else", words) == []


def test_documents_link_only_words_that_the_glossary_has() -> None:
    anchors = [a for _, text in prose() for a in re.findall(r"glossary\.md#(\w+)", text)]
    assert len(anchors) > 10 and set(anchors) <= set(glossary())


def unresolved(page: str, folder: Path) -> list[str]:
    """The codes of a Markdown page in a folder that are no link, or a link that leads nowhere."""
    rows = set(re.findall(r'<a id="([a-h]\d+)"></a>', LEDGER.read_text("utf-8")))
    dead = [
        match.group()
        for match in LINKED.finditer(page)
        if (folder / match.group(1)).resolve() != LEDGER or match.group(2) not in rows
    ]
    bare = re.sub(r"\$[^$\n]*\$", "", CODE.sub("", LINKED.sub("", page)))
    return dead + [first for first, *_ in citations(bare)]


def test_every_code_in_the_documents_and_notebooks_is_a_link_that_resolves() -> None:
    for path in documents():
        if path != LEDGER:
            assert unresolved(path.read_text("utf-8"), path.parent) == [], path
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert unresolved(cell.source, path.parent) == [], path


def test_a_bare_code_and_a_dead_link_are_seen() -> None:
    docs = ROOT / "docs"
    assert unresolved("as printed (A13)", docs) == ["A13"]
    assert unresolved("[A13](ledger.md#a13)", docs) == []
    assert unresolved("[A99](ledger.md#a99)", docs) == ["[A99](ledger.md#a99)"]
    assert unresolved("[A13](../ledger.md#a13)", docs) == ["[A13](../ledger.md#a13)"]


def test_every_code_in_a_written_table_is_a_link_that_resolves() -> None:
    """The tables and notes of the committed results, written again."""
    artifacts = {
        (a.paper, a.id): dataclasses.replace(a, caption="")  # the entry has it
        for paper in PAPERS.values()
        for a in paper.artifacts
    }
    linked = 0
    listed = read_manifest(FIGURES / "manifest.json")
    for entry in (e for e in listed if e["collection"] in ("twins", "embedded")):
        folder = FIGURES / entry["collection"] / entry["paper"]
        table = folder / f"{entry['id']}.csv"
        artifact = artifacts[entry["paper"], entry["id"]]
        if artifact.kind == "figure" or not table.is_file():
            continue
        output = Output(pd.read_csv(table, dtype=str), notes=tuple(entry["notes"]))
        made = Made(entry["collection"], entry["profile"], reduced=entry["caption"])
        page = render(artifact, output, made)[LOCAL * artifact.varies + ".md"].decode()
        assert unresolved(page, folder) == [], (entry["collection"], artifact.paper, artifact.id)
        linked += len(LINKED.findall(page))
    assert linked > 100


def test_every_code_in_a_replication_report_is_a_link_that_resolves() -> None:
    entries = read_manifest(FIGURES / "manifest.json")
    for paper in (paper for paper in PAPERS.values() if paper.name in published.papers()):
        collection = next(
            e["collection"] for e in entries if e["paper"] == paper.name and e["id"] == "table1"
        )
        mine = [e for e in entries if (e["paper"], e["collection"]) == (paper.name, collection)]
        page = replication.report(paper, mine, ROOT)
        assert unresolved(page, FIGURES / collection / paper.name) == [], paper.name
        assert LINKED.search(page), paper.name


class Page(html.parser.HTMLParser):
    """What a page shows: its links, and its text outside of links, scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("a", "script", "style"):
            self.inside.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("a", "script", "style"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.texts.append(data)


def test_every_code_on_the_dashboard_is_a_link_that_resolves(tmp_path: Path) -> None:
    page = Page()
    out = write_dashboard(FIGURES / "manifest.json", tmp_path / "figures" / "index.html")
    page.feed(out.read_text("utf-8"))
    ledger = [link for link in page.links if "ledger.md" in link]
    rows = set(re.findall(r'<a id="([a-h]\d+)"></a>', LEDGER.read_text("utf-8")))
    assert len(ledger) > 100
    assert {link.partition("#")[0] for link in ledger} == {
        Path(os.path.relpath(LEDGER, out.parent)).as_posix()
    }
    assert {link.partition("#")[2] for link in ledger} <= rows
    assert [first for text in page.texts for first, *_ in citations(text)] == []
