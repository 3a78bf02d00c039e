"""Codes of ``docs/ledger.md``, such as A13 or D3, as links to their rows.

Every page that shows a caption, a note or a table passes through here once: Markdown files, what notebooks display,
replication reports and the dashboard.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator

LEDGER = "docs/ledger.md"
FROM_ARTIFACTS = "../../../docs/ledger.md"
"""From a file of ``figures/<collection>/<paper>/``."""
FROM_NOTEBOOKS = "../docs/ledger.md"
"""From ``notebooks/``."""

CODE = r"[A-H][1-9]\d?"
# A code, or the two ends of a range ("A1-A3", "H1 to H19"), that is no part of a word, a number,
# a path, a colour or a formula.
_CITED = re.compile(
    rf"(?<![\w.#$/\\{{-])({CODE})(?:(?:\s*[-–]\s*|\s+to\s+)({CODE}))?(?!\w|[./-]\w)"
)
# A paper's own numbering: "Table A1", "appendix A4".
_NUMBERED = re.compile(
    r"\b(?:Tables?|Figs?\.?|Figures?|Eqs?\.?|Sections?|Appendix|Algorithm)\s+$", re.IGNORECASE
)
# F1 is a metric unless these words stand before it, or codes beside it in the same parentheses.
_BEFORE_F1 = re.compile(r"\b(?:ledger|rows?|read in)\s+$", re.IGNORECASE)
# On a finished page a code is linked in parentheses, after these words, or after a code that is linked: anywhere
# else it may be a name in a reader's own data, such as a class A1 or an electrode C3.
_SAID = re.compile(
    r"\b(?:ledger|rows?|codes?|readings?|read)(?:\s+(?:of|in|as))?\s+$", re.IGNORECASE
)
_IN_PARENTHESES = re.compile(r"\([^()\n|]*\)")
_AND = re.compile(r"\s*(?:,|and|or)\s*")
_LONGEST_BEFORE = 20  # characters that those words take
_CODES_ALONE = re.compile(rf"\((?:ledger )?{CODE}(?:, {CODE})+\)")
_IMAGE = re.compile(r"data:image/[^\"')\s]+")
# Markdown in which a code is no text: code, formulas, links, tags.
_NO_TEXT = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]\n]*\]\([^)\n]*\)|<[A-Za-z/!][^>\n]*>",
    re.DOTALL,
)


def citations(text: str) -> Iterator[tuple[str, str | None, tuple[int, int]]]:
    """The citations of a text in order: first code, last code of a range or None, place of both."""
    text = _IMAGE.sub(lambda match: " " * len(match.group()), text)
    listed = [match.span() for match in _CODES_ALONE.finditer(text)]
    for match in _CITED.finditer(text):
        first, last = match.groups()
        start = match.start()
        before = text[max(0, start - _LONGEST_BEFORE) : start]
        beside_others = last is not None or any(a < start < b for a, b in listed)
        metric = first == "F1" and not beside_others and not _BEFORE_F1.search(before)
        if not metric and not _NUMBERED.search(before):
            yield first, last, match.span()


def link_markdown(text: str, ledger: str) -> str:
    """Markdown in which every code that is cited links to its row; code, formulas and links stay as they are.

    ledger: the path of ``docs/ledger.md`` from where the text will stand.
    """
    hidden = _NO_TEXT.sub(lambda match: "\0" * len(match.group()), text)
    return _linked(text, hidden, lambda code: f"[{code}]({ledger}#{code.lower()})")


def link_html(text: object, ledger: str) -> str:
    """Plain text as HTML in which every code that is cited links to its row."""
    escaped = html.escape(str(text))
    return _linked(escaped, escaped, lambda code: f'<a href="{ledger}#{code.lower()}">{code}</a>')


def link_rows(rows: str, ledger: str) -> str:
    """A list of ledger rows, ``"F1, G2"``, as Markdown links; here F1 is never the metric."""
    return re.sub(
        rf"\b{CODE}\b", lambda match: f"[{match.group()}]({ledger}#{match.group().lower()})", rows
    )


def _linked(text: str, searched: str, link: Callable[[str], str]) -> str:
    """The text with a link in place of each code that the searched text, of the same length, cites."""
    parts, end = [], 0
    enclosed = [match.span() for match in _IN_PARENTHESES.finditer(searched)]
    for first, last, (start, stop) in citations(searched):
        inside = any(a < start < b for a, b in enclosed)
        follows = end > 0 and _AND.fullmatch(searched[end:start])
        before = searched[max(0, start - _LONGEST_BEFORE) : start]
        if not inside and not follows and not _SAID.search(before):
            continue
        cited = text[start:stop].replace(first, link(first), 1)
        if last is not None:
            cited = cited.removesuffix(last) + link(last)
        parts += [text[end:start], cited]
        end = stop
    return "".join([*parts, text[end:]])
