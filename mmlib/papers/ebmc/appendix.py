"""EBMC's appendix B as an artifact: the table of ``theory``, and four pictures of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from mmlib.experiments.context import Cell, Context
from mmlib.papers.ebmc.theory import (
    DELTAS,
    EDGES,
    LINES,
    MODALITIES,
    OWN,
    chains,
    gibbs,
    landscape,
    minima,
    path,
    rest,
    shares,
    theory_table,
)
from mmlib.report import figures
from mmlib.report.artifact import Output


def curves(seed: int = 0) -> pd.DataFrame:
    """What the panels show, columns panel, series, x, y."""
    land, middle, wells = landscape(seed), (EDGES[1:] + EDGES[:-1]) / 2, minima(landscape(seed))
    series_of_panels = [
        (name, series, middle, mass / np.diff(EDGES))
        for name in LINES
        for series, mass in (
            ("chains of Eq. 24", shares(chains(name, 1.0, seed))),
            ("exp(-E), Eq. 23", gibbs(name, 1.0)),
            ("exp(-2 E)", gibbs(name, 0.5)),
        )
    ]
    steps, ends = (
        path(land, seed),
        torch.stack([rest(land, delta, wells, seed) for delta in DELTAS]),
    )
    for panel, z, x in (
        ("path", steps, np.arange(float(len(steps)))),
        ("rest", ends, np.array(DELTAS)),
    ):
        series_of_panels += [(panel, m, x, land(z)[:, i].numpy()) for i, m in enumerate(MODALITIES)]
    return pd.concat(
        [
            pd.DataFrame({"panel": panel, "series": series, "x": x, "y": y.round(6)})
            for panel, series, x, y in series_of_panels
        ]
    )


def draw(axes: Sequence[Axes], drawn: pd.DataFrame) -> None:
    """The four panels of ``curves``."""
    words = {
        "quadratic": ("z", "density", "What Eq. 24 samples: quadratic"),
        "double well": ("z", "density", "What Eq. 24 samples: double well"),
        "path": ("step", "energy E(m)", "Eq. 11, then descent on L_gap"),
        "rest": ("delta of Eq. 12", "energy E(m) at rest", "Where descent on L_EMC ends"),
    }
    for axis, (panel, (xlabel, ylabel, title)) in zip(axes, words.items(), strict=True):
        part = drawn[drawn["panel"] == panel]
        series = {
            str(name): group["y"].to_numpy() for name, group in part.groupby("series", sort=False)
        }
        figures.lines(axis, part["x"].unique(), series, xlabel=xlabel, ylabel=ylabel, title=title)
        axis.set_ylim(bottom=0)
    axes[2].axvline(OWN[0], color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    axes[3].set_xscale("log")


def theory(context: Context, cells: Sequence[Cell]) -> Output:
    """Appendix B, Eqs 20 to 40: each statement with the claimed and the measured value, and four pictures."""
    table, drawn = theory_table(), curves()
    figure, axes = figures.panel_grid(4, columns=2, width=figures.DOUBLE, height=2.5)
    draw(axes, drawn)
    printed, held = table["equation"] != "ours", table["holds"] == "yes"
    notes = (
        f"{(held & printed).sum()} of {printed.sum()} measured values agree with the appendix, and "
        f"{(held & ~printed).sum()} of {(~printed).sum()} with our correction ('ours'). "
        "Three modalities with two features each, in double precision, with a fixed "
        "seed; derivatives are compared with autograd.",
        "Derivatives: Eqs 28-30 and 35-40 are correct if L_gap counts each pair once "
        "(as Eqs 27 and 39 do, and Eq. 10 does not: C7) and if the teacher reads z_m, "
        "which the method's frozen teacher does not (C6). Eq. 33 has g g^T in place "
        "of |g|^2 and other factors, and attributes a term of the gap to the penalty.",
        "Sampling: with noise of variance lambda, Eq. 24 samples from exp(-2 E); to "
        "sample from exp(-E), as Eq. 23 says, the variance must be 2 lambda. Eq. 25 "
        "has no noise and does not sample.",
        "Suppression (C8): descent on L_gap raises the energy of a modality that is "
        "below the mean, contrary to Eq. 11. Third panel: up to the dashed line Eq. "
        "11 lowers all energies; after it L_gap raises the lowest towards the "
        "highest.",
        "Stationary point: the minima of the modalities' energies have different "
        "values, so no point satisfies Eq. 34. With a small delta (0.01, C4) the "
        "energies become equal but their gradients do not vanish; with a large delta "
        "(fourth panel, right) every modality stays in its own minimum, with unequal "
        "energies.",
    )
    numbers = pd.concat([table, drawn], ignore_index=True)
    return Output(
        table=table.drop(columns="slack").map(
            lambda v: f"{v:.3g}" if isinstance(v, float) else str(v)
        ),
        figure=figure,
        numbers=numbers,
        rows_built=len(table),
        notes=notes,
    )
