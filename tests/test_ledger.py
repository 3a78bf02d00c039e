"""Every ledger code that code and prose cite has a row in ``docs/ledger.md``."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mmlib.report.citations import CODE, citations, link_html, link_markdown, link_rows

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "docs" / "ledger.md"

SECTION = re.compile(r"\bledger(?:'s)?,?(?: section)? (\d)(?:\.\d)?\b", re.IGNORECASE)

ROW = re.compile(rf'^\| <a id="([a-h]\d+)"></a>\*\*({CODE})\*\* \| (.+) \| (.+) \|$', re.MULTILINE)
HEADING = re.compile(r'^<a id="([a-h])"></a>$', re.MULTILINE)


def codes(text: str) -> list[str]:
    """The ledger codes that a text cites, in order, ranges written out."""
    return [
        code for first, last, _ in citations(text) for code in written_out(first, last or first)
    ]


def written_out(first: str, last: str) -> list[str]:
    """A range of codes of one letter; two letters are no range, but two codes."""
    if first[0] != last[0]:
        return [first, last]
    return [f"{first[0]}{number}" for number in range(int(first[1:]), int(last[1:]) + 1)]


def python_texts(source: str) -> Iterator[str]:
    """The strings and comments of Python code; its names are no prose.

    The last field of a Choice names rows.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Choice":
            yield f"ledger {ast.literal_eval(node.args[2])}"
    if not re.search(rf"#.*{CODE}", source):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def notebook_texts(source: str) -> Iterator[str]:
    """Prose, code and what the code printed, without pictures."""
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            yield from python_texts(re.sub(r"^[%!].*$", "", text, flags=re.MULTILINE))
        else:
            yield text
        for output in cell.get("outputs", []):
            yield "".join(output.get("text", []))
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield "".join(content)


def note_texts(source: str) -> Iterator[str]:
    """The notes beside the printed numbers of a table."""
    for row in csv.DictReader(io.StringIO(source)):
        yield row.get("note") or ""


TEXTS = {
    ".py": python_texts,
    ".ipynb": notebook_texts,
    ".csv": note_texts,
    ".md": lambda source: iter([source]),
}


def sources() -> list[Path]:
    """Where codes are cited."""
    return sorted(
        [
            *(ROOT / "mmlib").rglob("*.py"),
            *(ROOT / "mmlib").rglob("*.csv"),
            *(ROOT / "notebooks").glob("*.ipynb"),
            *(ROOT / "docs").rglob("*.md"),
            ROOT / "README.md",
            ROOT / "data" / "README.md",
        ]
    )


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Every text that may cite a code: (file, text)."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), text)
        for path in sources()
        for text in TEXTS[path.suffix](path.read_text(encoding="utf-8"))
    )


def rows() -> list[tuple[str, ...]]:
    """The ledger's rows: (anchor, code, question, reading)."""
    return ROW.findall(LEDGER.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("the scores of nothing (A13)", ["A13"]),
        ("shuffled (A3, D1); not dealt", ["A3", "D1"]),
        ("looking at test pays | ledger F9, G1 |", ["F9", "G1"]),
        ("Eqs 36-39 (ledger A1-A3, D2)", ["A1", "A2", "A3", "D2"]),
        ("rows H1 to H3", ["H1", "H2", "H3"]),
        ("MSD as released (E11-E13)", ["E11", "E12", "E13"]),
        ("Eq. 2 as read in F1 and F2", ["F1", "F2"]),
        ("order of A and B: ledger F1", ["F1"]),
        ("the order (F1, F2)", ["F1", "F2"]),
        ("# E15: lambda2 falls", ["E15"]),
        ("of G1's score", ["G1"]),
        ("[A13](docs/ledger.md#a13)", ["A13"]),
        ("<td>A13</td>", ["A13"]),
    ],
)
def test_a_free_standing_code_is_a_citation_and_a_range_cites_all_that_it_spans(
    text: str, cited: list[str]
) -> None:
    assert codes(text) == cited


@pytest.mark.parametrize(
    "text",
    [
        "an F1 score of 80, weighted F1 (%), (F1)",
        "F1 (ledger 2.1)",
        "one NVIDIA H100 or an A100",
        "the remainder is P + F0 + F1",
        "Table A1, Fig. B2, appendix A4 and A.4",
        "the colours #D55E00, #E69F00 and #A1",
        "MD5, C3D, 1E5 and D3.js/A1",
        "$E1$ and \\mathbf{B2}",
        '<img src="data:image/png;base64,iVB+A13/E2=">',
        "docs/a13, a13",
    ],
)
def test_metrics_devices_colours_and_a_papers_own_numbering_are_no_citations(text: str) -> None:
    assert codes(text) == []


def test_python_cites_in_strings_and_comments_and_not_by_its_names() -> None:
    source = (
        'A4 = "as released (D1)"  # a guess (A17)\n'
        "def f():\n"
        '    """Eq. 7 (C3)."""\n'
        '    return A4, f"of {A4} (E2)"\n'
    )
    assert sorted(code for text in python_texts(source) for code in codes(text)) == [
        "A17",
        "C3",
        "D1",
        "E2",
    ]


def test_the_row_that_a_choice_names_may_be_f1() -> None:
    source = 'a = Choice("order of A and B", "A first", "F1")\nb = Row("F1")\n'
    assert [code for text in python_texts(source) for code in codes(text)] == ["F1"]


def test_a_notebook_cites_in_prose_code_and_printed_text_and_not_in_pictures() -> None:
    output = {"data": {"text/markdown": ["(C9)"], "image/png": "(B3)"}}
    cells = [
        {"cell_type": "markdown", "source": ["see ", "(A1)"]},
        {
            "cell_type": "code",
            "source": ["%matplotlib inline\n", "A4 = 1  # (D2)"],
            "outputs": [output, {"text": ["(E5)"]}],
        },
    ]
    cited = [code for text in notebook_texts(json.dumps({"cells": cells})) for code in codes(text)]
    assert sorted(cited) == ["A1", "C9", "D2", "E5"]


def test_a_table_of_printed_numbers_cites_in_its_notes_alone() -> None:
    source = "table,row,note\ntable1,A1,wrong (ledger C18)\n"
    assert [code for text in note_texts(source) for code in codes(text)] == ["C18"]


def test_every_code_that_is_cited_has_a_row() -> None:
    known = {code for _, code, *_ in rows()}
    missing: dict[str, set[str]] = {}
    cited = set()
    for where, text in texts():
        for code in codes(text):
            cited.add(code)
            if code not in known:
                missing.setdefault(code, set()).add(where)
    assert {"A13", "B1", "C18", "D3", "E23", "F9", "G1", "H2"} <= cited, (
        "the scan sees less than it should"
    )
    assert missing == {}


def test_every_section_that_is_cited_has_an_anchor() -> None:
    anchors = set(re.findall(r'<a id="s(\d)"></a>', LEDGER.read_text(encoding="utf-8")))
    cited = {section for _, text in texts() for section in SECTION.findall(text)}
    assert {"2", "8"} <= cited <= anchors


def test_every_row_has_one_anchor_its_own_code_in_lower_case_and_says_something() -> None:
    for anchor, code, question, reading in rows():
        assert anchor == code.lower()
        assert len(question) > 10 and len(reading) > 2, code
    text = LEDGER.read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([^"]+)"', text)
    assert sorted(anchors) == sorted(set(anchors))
    unread = [
        line
        for line in text.splitlines()
        if re.match(r'\| <a id="[a-h]\d', line) and not ROW.match(line)
    ]
    assert unread == []


def test_rows_stand_in_order_under_their_letter() -> None:
    parts = HEADING.split(LEDGER.read_text(encoding="utf-8"))[1:]
    by_letter = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(by_letter) == list("abcdefgh")
    for letter, part in by_letter.items():
        numbers = [anchor for anchor, *_ in ROW.findall(part)]
        assert numbers == [f"{letter}{n}" for n in range(1, len(numbers) + 1)]


def test_links_inside_the_ledger_lead_to_its_anchors() -> None:
    text = LEDGER.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("as printed (A13).", "as printed ([A13](to.md#a13))."),
        ("rows H1 to H3", "rows [H1](to.md#h1) to [H3](to.md#h3)"),
        ("(A3, D1)", "([A3](to.md#a3), [D1](to.md#d1))"),
        ("| ledger F1 | F1 (%) |", "| ledger [F1](to.md#f1) | F1 (%) |"),
        ("`A13`, $A1$, [A2](a2.md), Table A1", "`A13`, $A1$, [A2](a2.md), Table A1"),
        ('<b title="A13">(A13)</b>', '<b title="A13">([A13](to.md#a13))</b>'),
        ("x < y (A1) > z", "x < y ([A1](to.md#a1)) > z"),
    ],
)
def test_a_code_in_markdown_becomes_a_link_and_code_formulas_and_links_stay(
    text: str, linked: str
) -> None:
    assert link_markdown(text, "to.md") == linked
    assert link_markdown(linked, "to.md") == linked


def test_a_code_in_a_page_becomes_a_link_and_all_else_is_escaped() -> None:
    linked = link_html("<b> & (E1)", "to.md")
    assert linked == '&lt;b&gt; &amp; (<a href="to.md#e1">E1</a>)'


def test_a_list_of_rows_names_f1_as_a_row() -> None:
    assert link_rows("F1, G2; ours", "x") == "[F1](x#f1), [G2](x#g2); ours"


@pytest.mark.parametrize(
    "text",
    [
        "| u1 | C3+A1 | B2 |",
        "# Replication of BALM, on B6",
        "| Data: B6 (240 utterances, 6 modalities)",
        "A1, A2 and B1 are classes",
        "without C3",
    ],
)
def test_names_of_a_readers_own_data_that_look_like_codes_are_no_links(text: str) -> None:
    assert link_markdown(text, "to.md") == text
    assert link_html(text, "to.md") == text
