"""Supplement B beside what was measured, and what BALM costs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from mmlib import files
from mmlib.experiments.context import Context
from mmlib.papers.balm import theory as measured
from mmlib.report import figures
from mmlib.report.artifact import Output, csv_bytes
from mmlib.runs.spec import code_without_words, numerics_version

CLIP = 6.0


def theory(context: Context) -> Output:
    """Lemma 1, Corollary 1 and Proposition 1: each claim, its condition, the claimed and the measured value."""
    table = _kept(context, "theory", measured.theory_table)
    ratios = _kept(context, "ratio", measured.norm_ratios)
    coefficients = _kept(context, "coefficients", measured.modulation_series)
    figure, axes = figures.panel_grid(2, columns=2, height=2.6)
    draw_norm_ratio(axes[0], ratios)
    draw_coefficients(axes[1], coefficients)
    shown = table[table["modality"].isin(["text", "all"]) | table["claim"].str.startswith("a constant")]
    shown = shown[~shown["condition"].str.contains("batch of (?:2|4|8|32|64)$")]
    held = int(table["holds"].eq("yes").sum())
    notes = (f"{held} of {len(table)} measured values agree with what the supplement says, within four standard "
             "errors; each row names its condition.",
             "Measured on twins and small networks with fixed seeds. 'error' is the standard error of 'measured'.",
             "Shown are text's rows and three batch sizes; the rest stands in the file of numbers.",
             f"Right panel: coefficients beyond {CLIP} in size stand in the outermost bars.")
    return Output(table=_text(shown), figure=figure, numbers=table, rows_built=len(table), notes=notes)


def draw_norm_ratio(axis: Axes, ratios: pd.DataFrame) -> None:
    """Corollary 1 (Eq. 33): E||gradient|| over its complete-data value, against the batch size."""
    curves = {str(state): group.set_index("batch")["ratio"] for state, group in ratios.groupby("state", sort=False)}
    batches = sorted(ratios["batch"].unique())
    figures.lines(axis, range(len(batches)), {s: c.loc[batches].to_numpy() for s, c in curves.items()},
                  xlabel="utterances in a batch", ylabel="ratio of expected norms",
                  title="Corollary 1, text missing in 70 %")
    axis.set_xticks(range(len(batches)), [str(b) for b in batches])
    for column, name in (("keep", "1 - r (Eq. 33)"), ("root", "sqrt(1 - r), pure noise")):
        value = ratios[column].iloc[0]
        axis.axhline(value, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        axis.annotate(name, (len(batches) - 1, value), fontsize=7, ha="right", va="bottom")


def draw_coefficients(axis: Axes, series: pd.DataFrame) -> None:
    """mu of Eq. 21 over a training, per modality."""
    clipped = {str(m): group["mu"].clip(-CLIP, CLIP).to_numpy() for m, group in series.groupby("modality")}
    figures.histogram(axis, clipped, bins=40, xlabel="coefficient mu (with rho)", ylabel="steps",
                      title="Coefficients in training")
    axis.axvline(0, color="black", linewidth=0.8)


def cost(context: Context) -> Output:
    """Parameters at the paper's dims, and the time of a training step, with and without BALM."""
    table = _kept(context, f"cost-{context.backbone}", lambda: measured.lightweight(context.backbone))
    return Output(table=_text(table), numbers=table, rows_built=len(table),
                  notes=("Times are medians of interleaved repeats on one thread of the machine that drew this table; "
                         "they differ from machine to machine, the counts do not.",))


def _kept(context: Context, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A frame that takes seconds to make, kept beside the runs under the hash of the code that makes it."""
    folder = Path(measured.__file__).parent
    code = "".join(code_without_words((folder / f"{m}.py").read_text("utf-8")) for m in ("theory", "theory_gradients"))
    digest = hashlib.sha256((code + numerics_version("balm", context.backbone)).encode()).hexdigest()[:16]
    path = context.store.folder / "frames" / f"{name}-{digest}.csv"
    if not path.exists():
        files.write(path, csv_bytes(make()))
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _text(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers with four significant digits, counts in full; an empty cell where there is none."""
    def cell(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "" if math.isnan(value) else f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"

    return table.map(cell)
