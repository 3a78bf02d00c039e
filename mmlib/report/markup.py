"""Tables and words as Markdown and LaTeX: nothing in them has a meaning for either."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

NOTHING = "–"
WIDEST = 90  # characters of a line on a page in LaTeX
NOT_BUILT = "not built yet"
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "−": "$-$",
    "→": r"$\to$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "τ": r"$\tau$",
    "ρ": r"$\rho$",
    "η": r"$\eta$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "ζ": r"$\zeta$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
}
_MARKS = "<&`*~[]()!$\\_#>+-.:"
_CODE = re.compile(r"((?<!`)`[A-Za-z0-9 ._/=:,@+-]+`(?!`))")
_MEANS = re.compile(
    r"<(?=[A-Za-z/!?])"  # a tag
    r"|&(?=#?\w+;)"  # an entity
    r"|[`$\\]|[*](?=\S)|(?<=\S)[*]|~(?=~)|(?<=~)~"
    r"|!(?=\[)|\](?=[(\[:])"  # a picture, a link
)
_EDGE = re.compile(
    r"(?<![^\W_])_+|_+(?![^\W_])"
)  # inside a word Markdown leaves it alone, as it does a single one
_BLOCK = re.compile(r"^(?:[#>*+-]|\d+[.)])(?=\s|$)|^>")  # a heading, a quotation, a list
_SIGNED = re.compile(r"(?<![\w.])-(?=\d)")


def to_markdown(
    frame: pd.DataFrame, caption: str, notes: Sequence[str] = (), own: bool = False
) -> str:
    """A table as Markdown: caption, table, notes as a list.

    own: the table's cells are Markdown of ours, such as formulas; elsewhere whatever is in a cell is shown as it is.
    """
    return markdown_page([frame], caption, notes, own)


def markdown_page(
    frames: Sequence[pd.DataFrame], caption: str, notes: Sequence[str] = (), own: bool = False
) -> str:
    """Several tables under one caption, and their notes."""
    parts = [f"**{escape_words(caption)}**"] if caption else []
    parts += [markdown_table(frame.map(_own) if own else frame, escaped=own) for frame in frames]
    if notes:
        parts.append("\n".join(f"- {escape_words(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(frame: pd.DataFrame, escaped: bool = False) -> str:
    """The table alone, without its index.

    escaped: cells and heads are Markdown already.
    """
    cell = _cell_text if escaped else escape_markdown
    shown = frame.map(cell).set_axis([cell(head) for head in frame.columns], axis=1)
    text: str = shown.to_markdown(index=False, tablefmt="github", disable_numparse=True)
    return text


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A table as LaTeX with booktabs; wide ones shrink to the page (needs booktabs and graphicx)."""
    shown = frame.map(escape_latex).set_axis([escape_latex(c) for c in frame.columns], axis=1)
    text: str = shown.style.hide(axis="index").to_latex(
        environment="table*",
        position="t",
        position_float="centering",
        hrules=True,
        column_format="l" * len(frame.columns),
        caption=escape_latex(caption),
        label=f"tab:{re.sub('[^A-Za-z0-9:-]', '-', label)}",
    )
    longest = [max(map(len, (c, *frame[c].map(_cell_text)))) for c in frame.columns]
    if sum(longest) > WIDEST:
        text = text.replace(r"\begin{tabular}", "\\resizebox{\\textwidth}{!}{%\n\\begin{tabular}")
        text = text.replace(r"\end{tabular}", "\\end{tabular}%\n}")
    return text


def escape_latex(text: object) -> str:
    """Text in which no character has a meaning for LaTeX; a hyphen before a number becomes a minus."""
    minus = _SIGNED.sub("−", _cell_text(text))
    return "".join(_LATEX.get(character, character) for character in minus)


def escape_markdown(text: object, code: bool = False) -> str:
    """Text in which nothing has a meaning for Markdown, HTML or the formulas of notebooks, on one line.

    Only what would have a meaning where it stands is written otherwise, as an entity: a lone ``_`` or ``<`` stays.
    Dollars and backslashes stand in elements of their own, since notebooks look for formulas in the finished page.

    Args:
        code: leave code spans of plain words as they are, for captions and notes of our own.
    """
    parts = _CODE.split(_cell_text(text)) if code else [_cell_text(text)]
    escaped = [part if place % 2 else _escaped(part) for place, part in enumerate(parts)]
    return "".join(escaped).replace("|", r"\|")


def _escaped(text: str) -> str:
    text = _MEANS.sub(_entity, text)
    return _EDGE.sub(_entity, text) if len("".join(_EDGE.findall(text))) > 1 else text


def _entity(match: re.Match[str]) -> str:
    return "".join(
        f"<span>&#{ord(c)};</span>" if c in "$\\" else f"&#{ord(c)};" if c in _MARKS else c
        for c in match.group()
    )


def escape_words(text: object) -> str:
    """A caption or a note: code spans stay, and nothing at its beginning makes it a heading or a list."""
    return _BLOCK.sub(_entity, escape_markdown(text, code=True))


def _own(value: object) -> str:
    """A cell of a table that is wholly ours, with its own markup."""
    return _cell_text(value).replace("|", r"\|")


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return NOTHING if pd.isna(value) else f"{value:.2f}"
    return NOTHING if value is None or value is pd.NA else " ".join(str(value).split())
