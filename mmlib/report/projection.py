"""Embeddings in two dimensions (t-SNE), with a number beside the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mmlib.report import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PERPLEXITY = 30
FEWEST = 3  # rows that have a picture
TOO_FEW = f"t-SNE needs {FEWEST} test utterances or more"


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


def scatter(axis: Axes, frame: pd.DataFrame, title: str, words: Sequence[str]) -> None:
    """What ``project`` gives, coloured by label, in the order of ``words``; the silhouette is in the title.

    Dollars in a label are no formula.
    """
    with figures.style():
        for place, label in enumerate(words):
            group, form = frame[frame["label"] == label], figures.look(label, place)
            axis.scatter(
                group["x"],
                group["y"],
                s=7,
                color=form["color"],
                marker=form["marker"],
                label=str(label).replace("$", r"\$"),
                linewidths=0,
                alpha=0.8,
            )
        axis.set_title(f"{title} ({frame['silhouette'].iloc[0]:+.2f})")
        axis.set(xticks=[], yticks=[])


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
