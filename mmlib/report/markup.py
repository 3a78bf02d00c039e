"""Tables as Markdown and LaTeX.

A frame is either flat (one level of columns, its index a plain range) or a comparison table of
``tables.layout`` (columns setting, metric, what; index the methods). The latter is too wide for a page, so it is
written as an overview followed by one block per setting and metric.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

NOTHING = "–"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$", "−": "$-$", "→": r"$\to$",
    "–": "--", "—": "---", "…": r"\ldots{}", "τ": r"$\tau$", "ρ": r"$\rho$", "η": r"$\eta$", "β": r"$\beta$",
    "γ": r"$\gamma$", "ζ": r"$\zeta$", "Δ": r"$\Delta$", "λ": r"$\lambda$", "α": r"$\alpha$",
}
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


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with one level of columns, as CSV files have it: ``setting | metric | what``."""
    if not is_comparison(frame):
        return frame
    result = frame.copy()
    result.columns = pd.Index([" | ".join(str(part) for part in column) for column in frame.columns])
    return result.reset_index(names="method")


def to_markdown(frame: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """The table as Markdown: caption, table (or overview and blocks), notes as a list."""
    parts = [f"**{_cell(caption)}**"] if caption else []
    if not is_comparison(frame):
        parts.append(_markdown(frame))
    else:
        blocks = _blocks(frame)
        if len(blocks) > 1:
            parts.append(_markdown(overview(frame)))
        for title, block in blocks:
            parts += [f"*{_cell(title)}*", _markdown(block.reset_index(names="method"))]
    if notes:
        parts.append("\n".join(f"- {_cell(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """The table as LaTeX with booktabs; wide ones shrink to the page (needs booktabs and graphicx).

    A comparison table gives one float per block, the overview first; their labels are ``label``, ``label-1``, ...
    """
    if not is_comparison(frame):
        return _float(frame, caption, label)
    blocks = _blocks(frame)
    parts = [_float(overview(frame), caption, label)] if len(blocks) > 1 else []
    for number, (title, block) in enumerate(blocks, start=1):
        here = f"{label}-{number}" if parts else label
        detail = f"{caption} Details: {title}." if len(blocks) > 1 else caption
        parts.append(_float(block.reset_index(names="method"), detail, here))
    return "\n".join(parts)


def escape_latex(text: object) -> str:
    """Text in which no character has a meaning for LaTeX; a hyphen before a number becomes a minus."""
    minus = _SIGNED.sub("−", _cell_text(text))
    return "".join(_LATEX.get(character, character) for character in minus)


def _blocks(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    keys = list(dict.fromkeys((column[0], column[1]) for column in frame.columns))
    return [(", ".join(str(part) for part in key if part), frame[key]) for key in keys]


def _markdown(frame: pd.DataFrame) -> str:
    lines = [[_cell(c) for c in frame.columns], *([_cell(v) for v in line] for line in frame.itertuples(index=False))]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(frame.columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _float(frame: pd.DataFrame, caption: str, label: str) -> str:
    head = " & ".join(escape_latex(c) for c in frame.columns)
    body = [" & ".join(escape_latex(v) for v in line) + r" \\" for line in frame.itertuples(index=False)]
    columns = "l" * len(frame.columns)
    tabular = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head + r" \\", r"\midrule", *body, r"\bottomrule",
               r"\end{tabular}"]
    longest = sum(max([len(str(c)), *(len(_cell_text(v)) for v in frame[c])]) for c in frame.columns)
    if longest > 90:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular[:-1], tabular[-1] + "%", "}"]
    return "\n".join([r"\begin{table*}[t]", r"\centering", rf"\caption{{{escape_latex(caption)}}}",
                      rf"\label{{tab:{re.sub('[^A-Za-z0-9:-]', '-', label)}}}", *tabular, r"\end{table*}", ""])


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return NOTHING if pd.isna(value) else f"{value:.2f}"
    return NOTHING if value is None or value is pd.NA else " ".join(str(value).split())


def _cell(value: object) -> str:
    return _cell_text(value).replace("|", r"\|")
