"""Tables as Markdown and LaTeX.

A frame is either flat (one level of columns, its index a plain range) or a comparison table of
``tables.layout`` (columns setting, metric, what; index the methods). The latter is too wide for a page, so it is
written as an overview in the paper's shape, followed by the details in long form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

NOTHING = "–"
ACROSS = 5  # methods side by side in a notebook
WIDE = 16  # columns of an overview
NOT_BUILT = "not built yet"
UNITS = {"MAE": ", in the labels' unit", "correlation": ""}  # of metrics that are no percentages
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


def is_comparison(frame: pd.DataFrame) -> bool:
    """Whether a frame is a comparison table of ``tables.layout``."""
    return frame.columns.nlevels == 3


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A comparison table in the paper's shape: methods by (setting, metric), ours (and the paper's) in each cell."""
    columns = {}
    for title, block in _blocks(frame):
        text = block["ours"]
        if "paper" in block:
            text = text + " (paper: " + block["paper"] + ")"
            text = text.where(block["paper"] != NOTHING, block["ours"])
        columns[title] = text
    return pd.DataFrame(columns).reset_index(names="method")


def details(frame: pd.DataFrame) -> pd.DataFrame:
    """A comparison table in long form: one line per method, setting and metric that was run, with all that is known.

    A table of one setting keeps the methods that were not built, which then have no overview to stand in.
    """
    blocks = _blocks(frame)
    lines = []
    for title, block in blocks:
        built = block if len(blocks) == 1 else block[~block["ours"].isin([NOTHING, NOT_BUILT])]
        shown = built.reset_index(names="method")
        shown.insert(0, "setting, metric", title)
        lines.append(shown)
    return pd.concat(lines, ignore_index=True).fillna(NOTHING)


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with one level of columns, as CSV files have it: ``setting | metric | what``."""
    if not is_comparison(frame):
        return frame
    result = frame.copy()
    result.columns = pd.Index(
        [" | ".join(str(part) for part in column) for column in frame.columns]
    )
    return result.reset_index(names="method")


def to_markdown(
    frame: pd.DataFrame, caption: str, notes: Sequence[str] = (), own: bool = False
) -> str:
    """The table as Markdown: caption, table (or overview and details), notes as a list.

    own: the table's cells are Markdown of ours, such as formulas; elsewhere whatever is in a cell is shown as it is.
    """
    parts = [f"**{_words(caption)}**"] if caption else []
    if not is_comparison(frame):
        parts.append(_markdown(frame, _own if own else _cell))
    else:
        if len(_blocks(frame)) > 1:
            whole = overview(frame)
            if WIDE < len(whole.columns) - 1 > len(whole):  # settings then are lines
                whole = whole.set_index("method").T.rename_axis("setting, metric").reset_index()
            parts.append(_markdown(whole))
        parts.append(_markdown(details(frame)))
    if notes:
        parts.append("\n".join(f"- {_words(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def for_reading(frame: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """The table as a notebook shows it: per metric one line per setting and one column per method that was run.

    With more methods than settings, and more than ``ACROSS``, methods are lines and settings columns.
    A cell has the result, the paper's beside it where the data are the paper's, and below the difference to the own
    plain network with its verdict. Intervals and all else are in the files of the artifact.
    """
    if not is_comparison(frame):
        return to_markdown(frame, caption, notes)
    parts = [f"**{_words(caption)}**"] if caption else []
    columns = [tuple(str(part) for part in column) for column in frame.columns]
    for name in dict.fromkeys(column[1] for column in columns):
        lines = [
            {"setting": _cell(setting), **_cells_of(frame, setting, name)}
            for setting in dict.fromkeys(column[0] for column in columns if column[1] == name)
        ]
        shown = pd.DataFrame(lines).fillna(NOTHING)
        if len(lines) < len(shown.columns) - 1 > ACROSS:
            shown = (
                shown.set_index("setting")
                .T.rename_axis("method")
                .rename_axis(None, axis=1)
                .reset_index()
            )
        parts += [f"*{_cell(name)}{UNITS.get(name, ' (%)')}*", _markdown(shown, _cell_text)]
    built = {
        method
        for setting, name in dict.fromkeys(column[:2] for column in columns)
        for method in _cells_of(frame, setting, name)
    }
    lacking = [str(method) for method in frame.index if _cell(method) not in built]
    more = [f"{NOT_BUILT.capitalize()}: {', '.join(lacking)}."] if lacking else []
    parts.append("\n".join(f"- {_words(note)}" for note in (*more, *notes)))
    return "\n\n".join(parts) + "\n"


def _cells_of(frame: pd.DataFrame, setting: str, name: str) -> dict[str, str]:
    """Method to text, both as Markdown, of those that were run in a setting."""
    texts = {}
    block = frame.xs((setting, name), axis=1, level=(0, 1))
    for method, line in block.iterrows():
        if line["ours"] in (NOTHING, NOT_BUILT):
            continue
        text = _cell(line["ours"])
        if line.get("paper", NOTHING) != NOTHING:
            text += f" (paper: {_cell(line['paper'])})"
        if line.get("verdict", NOTHING) != NOTHING:
            text += f"<br>{_cell(line['against plain'])} **{_cell(str(line['verdict']).split(' (')[0])}**"
        texts[_cell(method)] = text
    return texts


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """The table as LaTeX with booktabs; wide ones shrink to the page (needs booktabs and graphicx).

    A comparison table gives two floats, the overview and the details; their labels are ``label``, ``label-details``.
    """
    if not is_comparison(frame):
        return _float(frame, caption, label)
    if len(_blocks(frame)) == 1:
        return _float(details(frame), caption, label)
    return "\n".join(
        [
            _float(overview(frame), caption, label),
            _float(details(frame), f"{caption} Details.", f"{label}-details"),
        ]
    )


def escape_latex(text: object) -> str:
    """Text in which no character has a meaning for LaTeX; a hyphen before a number becomes a minus."""
    minus = _SIGNED.sub("−", _cell_text(text))
    return "".join(_LATEX.get(character, character) for character in minus)


def _blocks(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    blocks = []
    columns = [tuple(str(part) for part in column) for column in frame.columns]
    for setting, name in dict.fromkeys(column[:2] for column in columns):
        places = [i for i, column in enumerate(columns) if column[:2] == (setting, name)]
        block = frame.iloc[:, places].set_axis([columns[i][2] for i in places], axis=1)
        blocks.append((", ".join(part for part in (setting, name) if part), block))
    return blocks


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


def _cell(value: object) -> str:
    return escape_markdown(value)


def _words(text: object) -> str:
    """A caption or a note: code spans stay, and nothing at its beginning makes it a heading or a list."""
    return _BLOCK.sub(_entity, escape_markdown(text, code=True))


def _own(value: object) -> str:
    """A cell of a table that is wholly ours, with its own markup."""
    return _cell_text(value).replace("|", r"\|")


def _markdown(frame: pd.DataFrame, cell: Callable[[object], str] = _cell) -> str:
    rows = frame.itertuples(index=False)
    lines = [[cell(c) for c in frame.columns], *([cell(value) for value in row] for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(frame.columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _float(frame: pd.DataFrame, caption: str, label: str) -> str:
    head = " & ".join(escape_latex(c) for c in frame.columns)
    body = [
        " & ".join(escape_latex(v) for v in line) + r" \\" for line in frame.itertuples(index=False)
    ]
    columns = "l" * len(frame.columns)
    tabular = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    longest = sum(
        max([len(str(c)), *(len(_cell_text(v)) for v in frame[c])]) for c in frame.columns
    )
    if longest > 90:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular[:-1], tabular[-1] + "%", "}"]
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{tab:{re.sub('[^A-Za-z0-9:-]', '-', label)}}}",
            *tabular,
            r"\end{table*}",
            "",
        ]
    )


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return NOTHING if pd.isna(value) else f"{value:.2f}"
    return NOTHING if value is None or value is pd.NA else " ".join(str(value).split())
