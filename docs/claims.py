"""The page of the papers' testable sentences: ``python docs/claims.py`` writes ``docs/claims.md`` anew.

``--check`` writes nothing and ends with 1 where the page is not that of the declared claims.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from mmlib.experiments.claims import Claim, Claims
from mmlib.experiments.profiles import profile
from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.report.citations import link_markdown
from mmlib.report.markup import escape_markdown, markdown_table

PAGE = Path(__file__).with_name("claims.md")
HEAD = """# The papers' testable sentences

Every sentence of the five papers that a run could show to be right or wrong, in our words, with where it stands.
Beside it stand its tests, each a difference that is above 0 where the sentence holds, or the reason why there is none.
The tests are those of the papers' full grids; a smaller profile has fewer settings. What they gave is in
`figures/claims.csv`, and how a verdict follows is under [primary](glossary.md#primary). `python docs/claims.py` writes
this page from the declarations.
"""
LETTERS = re.compile(r"([A-Z])(?:\.(\d+))?")
NUMBERS = re.compile(r"(\d+)(?:\.(\d+))?")


def place(where: str) -> tuple[int, str, int, int, str]:
    """Where a sentence stands, to sort by: abstract, sections, appendices, what is not the paper's."""
    first = where.split(",")[0].split()[0]
    if first == "abstract":
        return 0, "", 0, 0, where
    if number := NUMBERS.fullmatch(first):
        return 1, "", int(number[1]), int(number[2] or 0), where
    if letter := LETTERS.fullmatch(first):
        return 2, letter[1], int(letter[2] or 0), 0, where
    return 3, "", 0, 0, where


def declared(name: str) -> list[Claim]:
    """A paper's claims at its full grids; the smallest twins stand in for its data."""
    paper = PAPERS[name]
    context = paper.context("paper", data=paper.defaults(profile("smoke")))
    return list(CLAIMS[name].declared(context))


def table(claims: Sequence[Claim], paper: Claims) -> pd.DataFrame:
    """The sentences of a paper in its order: where, sentence, tested by."""
    tests: dict[tuple[str, str], list[str]] = {}
    for claim in claims:
        tests.setdefault((claim.where, claim.text), []).append(claim.test)
    primary = {(claim.where, claim.text) for claim in claims if claim.primary}
    lines = [
        (where, text + (" (primary)" if (where, text) in primary else ""), _listed(of))
        for (where, text), of in tests.items()
    ]
    lines += [(of.where, of.text, f"not tested: {of.why}") for of in paper.untested]
    ordered = sorted(lines, key=lambda line: place(line[0]))
    cells = [[escape_markdown(text, code=True) for text in line] for line in ordered]
    return pd.DataFrame(cells, columns=["where", "sentence", "tested by"])


def _listed(tests: Iterable[str]) -> str:
    """Each test once."""
    return "; ".join(dict.fromkeys(tests))


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name, paper in CLAIMS.items():
        frame = table(declared(name), paper)
        left, all_of = len(paper.untested), len(frame)
        counted = f"{all_of} sentences, of which {all_of - left} are tested."
        text = markdown_table(frame, escaped=True)
        parts.append(f"## {PAPERS[name].called}\n\n{counted}\n\n{link_markdown(text, 'ledger.md')}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with ``--check`` say whether it is current."""
    made = page()
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
