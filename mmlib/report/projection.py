"""Embeddings in two dimensions (t-SNE), with a number beside the picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mmlib.data.bundle import Task
from mmlib.report import colours, figures, fitting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERPLEXITY = 30
FEWEST = 3  # rows that have a picture
NO_STRUCTURE = (
    0.25  # silhouettes below it are of no substantial structure (Kaufman and Rousseeuw 1990)
)
TOO_FEW = f"t-SNE needs {FEWEST} test utterances or more"
SMALL, LARGE = (
    7,
    16,
)  # areas of markers; large where colours recur, so that only the shape tells two labels apart


def words(task: Task) -> list[str]:
    """The labels' names, in the order of their looks: classes, or the signs of scores."""
    return list(task.names) if task.kind == "classes" else ["negative", "neutral", "positive"]


def in_legend(labels: Sequence[str]) -> dict[str, str]:
    """Labels as a legend can show them: with a number where the font lacks a letter.

    Dollars are no formula, and a space keeps matplotlib from hiding what begins with an underscore.
    """
    named = {}
    for place, label in enumerate(labels, start=1):
        text = label.replace("$", r"\$") if _has_glyphs(label) else f"class {place}"
        named[label] = f" {text}" if text.startswith("_") else text
    return named


@cache
def _has_glyphs(text: str) -> bool:
    """Whether the figures' font has every letter of a text."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(figures.FONT))
    return all(font.get_char_index(ord(letter)) for letter in text)


def notes(labels: Sequence[str]) -> tuple[str, ...]:
    """What labels have numbers in the legend, and whether looks recur; nothing where neither is so."""
    numbered = [
        f"{n} is {label}" for label, n in in_legend(labels).items() if not _has_glyphs(label)
    ]
    said = (
        ["The font of the picture lacks letters: " + ", ".join(numbered) + "."] if numbered else []
    )
    if len(labels) > colours.LOOKS_IN_ALL:
        said.append(f"Beyond {colours.LOOKS_IN_ALL} labels looks recur.")
    elif len(labels) > len(colours.PALETTE):
        said.append("Colours recur; no two labels have both colour and shape in common.")
    return tuple(said)


def project(values: np.ndarray, labels: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Rows (n, d) in two dimensions by t-SNE, with the silhouette of the labels before it; n is ``FEWEST`` or more."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    with threadpool_limits(
        1
    ):  # the same picture on any machine, and no waiting where others compute
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    several = 1 < len(np.unique(labels)) < len(labels)
    score = silhouette_score(values, labels) if several else np.nan
    return pd.DataFrame(
        {"x": places[:, 0], "y": places[:, 1], "label": labels, "silhouette": score}
    )


def seen(silhouettes: Sequence[float]) -> str:
    """What may be read off pictures whose labels have these silhouettes before projection; empty if none is known."""
    known = [value for value in silhouettes if np.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = " to ".join(dict.fromkeys(f"{end:+.2f}" for end in (low, high)))
    if high < NO_STRUCTURE:
        return (
            f"At silhouettes of {span} the labels overlap in the embedding: pictures of it show no separate groups of "
            "them."
        )
    return f"Silhouettes are {span}; below {NO_STRUCTURE:g} labels are not separated."


def scatter(axis: Axes, frame: pd.DataFrame, title: str, words: Sequence[str]) -> None:
    """What ``project`` gives, coloured by label, in the order of ``words``; the silhouette is in the title."""
    forms, names = colours.looks_of(words), in_legend(words)
    with figures.style():
        for label, form in forms.items():
            group = frame[frame["label"] == label]
            if group.empty:
                continue
            axis.scatter(
                group["x"],
                group["y"],
                s=SMALL if len(words) <= len(colours.PALETTE) else LARGE,
                color=form["color"],
                marker=form["marker"],
                label=names[label],
                linewidths=0,
                alpha=0.8,
            )
        axis.set_title(f"{title} ({frame['silhouette'].iloc[0]:+.2f})")
        axis.set(xticks=[], yticks=[])


def legend(figure: Figure, axes: Sequence[Axes], words: Sequence[str]) -> None:
    """One legend above all panels, of the labels that any of them has, in the order of ``words``."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, names = axis.get_legend_handles_labels()
        found.update(zip(names, handles, strict=True))
    ordered = [found[name] for name in in_legend(words).values() if name in found]
    with figures.style():
        fitting.legend_columns(figure, ordered, 6, loc="outside upper center", handlelength=2.8)


def panel(
    axis: Axes, values: np.ndarray, labels: np.ndarray, title: str, words: Sequence[str]
) -> pd.DataFrame | None:
    """Draw rows (n, d) as ``scatter`` does, and return what ``project`` gives.

    Of fewer than ``FEWEST`` rows the panel is empty and says so; returns None then.
    """
    if len(values) >= FEWEST:
        frame = project(values, labels)
        scatter(axis, frame, title, words)
        return frame
    with figures.style():
        axis.set_title(f"{title} (too few utterances)")
        axis.set(xticks=[], yticks=[])
    return None
