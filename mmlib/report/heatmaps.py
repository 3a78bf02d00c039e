"""Annotated grids of colours, plain or about 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.report import fitting
from mmlib.report.colours import FADED
from mmlib.report.figures import finish, style, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heatmap(
    ax: Axes,
    values: np.ndarray | pd.DataFrame,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    label: str = "",
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    decimals: int = 1,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    faded: np.ndarray | None = None,
) -> None:
    """An annotated grid: values (rows, columns), nan left blank; ``label`` names the colour bar with its unit.

    Cells too narrow for their numbers have colours alone. signed: on a diverging scale about 0, as far to either side.
    faded: (rows, columns), True of cells whose number stands in grey, without colour.
    """
    if isinstance(values, pd.DataFrame):
        rows = rows or [str(r) for r in values.index]
        columns = columns or [str(c) for c in values.columns]
    grid = np.asarray(values, dtype=float)
    written_as = np.round(grid, decimals) + 0.0  # 0 has no sign of its own
    low, high = limits or (float(np.nanmin(grid)), float(np.nanmax(grid)))
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    # Inches of a number below 100, with point and sign.
    written = (decimals + 3) * fitting.CHARACTER
    numbered, form = bool(written <= width_of(ax) / grid.shape[1]), f"{'+' * signed}.{decimals}f"
    hidden = np.isnan(grid) | (np.zeros(grid.shape, dtype=bool) if faded is None else faded)
    import seaborn  # slow to import, and only heat maps need it

    with style():
        seaborn.heatmap(
            grid,
            vmin=low,
            vmax=high,
            cmap="RdBu" if signed else "cividis",
            annot=written_as if numbered else False,
            fmt=form,
            annot_kws={"fontsize": 7},
            cbar_kws={"label": label, "extend": beyond(grid, low, high)},
            ax=ax,
            mask=hidden,
            xticklabels=columns or "auto",
            yticklabels=rows or "auto",
        )
        if numbered and faded is not None:
            _in_grey(ax, written_as, faded & np.isfinite(grid), form)
        finish(ax, xlabel, ylabel, title, None)
        ax.tick_params(length=0, rotation=0)
        if columns:
            fitting.turn_labels(ax, columns, 0.8 * width_of(ax))


def beyond(grid: np.ndarray, low: float, high: float) -> str:
    """At which ends of its colour bar a grid has values beyond."""
    below, above = bool(np.nanmin(grid) < low), bool(np.nanmax(grid) > high)
    return {(False, False): "neither", (True, True): "both", (True, False): "min"}.get(
        (below, above), "max"
    )


def _in_grey(ax: Axes, grid: np.ndarray, where: np.ndarray, form: str) -> None:
    """Numbers of cells without colour."""
    for line, column in zip(*np.nonzero(where), strict=True):
        place = (column + 0.5, line + 0.5)
        ax.text(
            *place,
            f"{grid[line, column]:{form}}",
            color=FADED,
            fontsize=6,
            ha="center",
            va="center",
        )
