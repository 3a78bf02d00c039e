"""Names from outside are text in Markdown, whatever they are made of."""

from __future__ import annotations

import html
import re
from pathlib import Path

import mistune
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlib.papers.ebmc import OBSTACLES
from mmlib.report import layout, markup, tables
from mmlib.report.markup import escape_markdown

ROOT = Path(__file__).resolve().parents[2]
RENDER = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url", "math"])
NAMES = (
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b",
    "[x](y)",
    "![x](y)",
    "[x][y]",
    "$x$",
    "$$x$$",
    "\\(x\\)",
    "a\nb",
    "`code`",
    "``a`b``",
    "**bold**",
    "*x*",
    "_x_",
    "__init__",
    "_a b_",
    "&lt;b&gt;",
    "~~no~~",
    "# head",
    "1. x",
    "- x",
    "> x",
    "<!-- x -->",
    "\\begin{x}",
    "a\\",
    "<br>",
    "|",
    "``",
    "*",
    "$",
)
MARKUP = st.text(alphabet="ab1 <>&|[]()!$\\`*_~#-./;:\n", max_size=14).filter(str.strip)


def cell(markdown: str) -> str:
    """The first cell of the body of a rendered table, as HTML."""
    found = re.findall(r"<td>(.*?)</td>", RENDER(markdown), re.S)
    assert len(found) == 2, found
    return str(found[0])


def shown(markup: str) -> str:
    """What a reader sees of HTML whose only tags are spans; formulas would be looked for in each part of it."""
    parts = re.split(r"</?span>", markup)
    assert not any("<" in part for part in parts), markup
    assert not any(re.search(r"\$.*\$|\\[(\[b]", html.unescape(part)) for part in parts), markup
    return html.unescape("".join(parts))


def one_cell(name: str) -> str:
    return markup.to_markdown(pd.DataFrame({"class": [name], "n": [1]}), "")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_cell_is_shown_as_it_is(name: str) -> None:
    assert shown(cell(one_cell(name))) == " ".join(name.split())


@settings(max_examples=500, deadline=None, derandomize=True)
@given(MARKUP)
def test_any_name_in_a_cell_is_shown_as_it_is(name: str) -> None:
    assert shown(cell(one_cell(name))) == " ".join(name.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_note_or_caption_has_no_markup_but_code(name: str) -> None:
    text = RENDER(markup.to_markdown(pd.DataFrame({"a": [1]}), name, [name]))
    tags = set(re.findall(r"</?([a-z0-9]+)", text))
    code = {"code"} if name == "`code`" else set()
    assert tags - code <= {
        "p",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "span",
    }
    assert text.count("<ul>") == 1 and text.count("<strong>") == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_reading_form_has_no_markup(name: str) -> None:
    by_seed = [
        (row, seed, value + seed)
        for row, value in ((name, 63.0), ("plain", 60.0))
        for seed in range(5)
    ]
    results = pd.DataFrame(by_seed, columns=["row", "seed", "value"]).assign(
        run_id="r", setting=name, fold=None, selection="valid", metric="accuracy", stale=False
    )
    numbers = tables.compare(results, collection="mine", baselines={name: "plain"})
    page = RENDER(layout.reading(numbers, ""))
    heads, cells = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S) for tag in ("th", "td"))
    assert heads[0] == "setting" and shown(heads[1]) == " ".join(name.split())
    assert shown(cells[0]) == " ".join(name.split())
    assert cells[1] == "65.00 ± 1.58 (5)<br>+3.00 [3.00, 3.00] <strong>undecided</strong>"


def test_what_is_committed_is_written_as_before() -> None:
    """Cells of every committed table but the obstacles, whose formulas are ours, need no escape.

    Links of ledger codes and of verdicts are added after the cells are escaped.
    """
    ours = {str(value) for line in OBSTACLES for value in line}
    count = 0
    for path in sorted((ROOT / "figures").rglob("*.md")):
        page = re.sub(
            r"\[([^\]]+)\]\([^)\s]*(?:ledger\.md#\w+|/claims\.md)\)",
            r"\1",
            path.read_text(encoding="utf-8"),
        )
        for line in page.splitlines():
            for text in re.split(r"(?<!\\)\|", line)[1:-1] if line.startswith("| ") else []:
                plain = text.strip().replace(r"\|", "|")
                if not re.fullmatch("-{3,}", plain) and plain not in ours:
                    count += 1
                    assert escape_markdown(plain) == text.strip()
    assert count > 10_000
