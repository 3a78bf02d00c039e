"""What the paper does not show: what the protocol buys, paper or released, and the share of the best possible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.experiments import comparison
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import on
from mmlib.papers.balm import rows
from mmlib.papers.balm.tables import notes_on_data
from mmlib.report import colours, figures, grouped, stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.spec import SELECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FACTORS = ("masks", "spatial loss", "gradient noise")


def protocol_cells(context: Context) -> list[Cell]:
    """The main table's runs: every setting of the first data set that has data."""
    main = [r for r in rows.main_rows(context) if r.stages[-1].backbone == context.backbone]
    return rows.of_rows(context, context.main, main, rows.SIX_AND_COMPLETE)


def protocol(context: Context, cells: Sequence[Cell]) -> Output:
    """What choosing the epoch on test, or taking the last, does to results and to the method's lead.

    Each run is read three times. Settings are averaged within a seed before any interval.
    """
    results = context.results(cells)
    results = stats.average_folds(results[results["metric"] == "weighted_f1"])
    name = rows.NAMES[context.backbone]
    focus = rows.setting_of(context, rows.FOCUS)
    scopes = {
        focus: results[results["setting"] == focus],
        rows.mean_of_settings(context): results[results["setting"] != "complete"],
    }
    if len(rows.kept(context, rows.SETTINGS)) == 1:
        del scopes[rows.mean_of_settings(context)]
    family = len(scopes) * (results["row"].nunique() - 1) * len(SELECTIONS)
    lines: list[dict[str, object]] = []
    comparisons: dict[str, stats.Comparison] = {}
    for scope, chosen in scopes.items():
        table = chosen.groupby(["row", "selection", "seed"])["value"].mean()
        for row in dict.fromkeys(chosen["row"]):
            leads = _leads(table[row], table[name], family) if row != name else {}
            words = {
                f"lead over {name} ({selection})": f"{lead.difference:+.2f} {lead.verdict}"
                for selection, lead in leads.items()
            }
            lines.append({"setting": scope, "method": row, **_read_thrice(table[row]), **words})
            for selection, lead in leads.items():
                comparisons[f"{row}, {scope.split()[0]}, {selection}"] = lead
    notes = (
        f"{shown(context, context.main)}, weighted F1. Selecting on test can only raise "
        "a result: 'test - valid' is by how much, and the lead shows whether the "
        "comparison changes.",
        f"The {family} leads are paired by seed, with simultaneous intervals. {_of_leads(comparisons)}",
        *notes_on_data(context, [context.main]),
    )
    made, figure = pd.DataFrame(lines).fillna("-"), _draw_leads(comparisons, name)
    return Output(made, figure, results, len(lines), notes, tuple(results["run_id"].unique()))


def _draw_leads(leads: Mapping[str, stats.Comparison], baseline: str) -> figures.Figure:
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=0.6 + 0.26 * len(leads))
    figures.forest(
        axes[0],
        leads,
        xlabel="difference in weighted F1 (points)",
        title=f"Lead over {baseline}, by selection",
    )
    return figure


def _of_leads(comparisons: Mapping[str, stats.Comparison]) -> str:
    """How the picture of differences is read, and what it lacks."""
    counts = sorted({comparison.n for comparison in comparisons.values()})
    seeds = seeds_in_words(counts)
    if counts[-1] < stats.FEWEST:
        return f"Figure: mean differences of {seeds}, too few for an interval."
    return (
        f"Figure: mean differences of {seeds}, with 95 % intervals (thin) and 90 % intervals (thick) over seeds; grey: "
        f"up to {stats.MARGIN:g} point, which does not matter."
    )


def _leads(row: pd.Series, baseline: pd.Series, family: int) -> dict[str, stats.Comparison]:
    """A row against the baseline, by selection; both: by (selection, seed)."""
    return {
        selection: stats.paired(row[selection], baseline[selection], comparisons=family)
        for selection in SELECTIONS
    }


def _read_thrice(table: pd.Series) -> dict[str, object]:
    """A row's values by selection, and what selecting on test adds; table: by (selection, seed)."""
    names = {s: "last epoch" if s == "last" else f"selected on {s}" for s in SELECTIONS}
    return {
        **{name: mean_sd(table[selection]) for selection, name in names.items()},
        "test - valid": str(stats.paired(table["test"], table["valid"])),
    }


def factors(context: Context, cells: Sequence[Cell]) -> Output:
    """A 2 x 2 x 2 of masks, spatial loss and gradient noise (ledger 7.2), everything else as printed."""
    results = context.results(cells)
    selected = (results["metric"] == "weighted_f1") & (results["selection"] == "valid")
    chosen = stats.average_folds(results[selected])
    by_seed = chosen.pivot_table(index="seed", columns="row", values="value")
    levels = itertools.product(*rows.LEVELS)
    lines = [_factor_line(by_seed, *of) for of in levels]
    lines += [
        {
            "masks": layout,
            "spatial loss": "plain backbone",
            "gradient noise": "-",
            "weighted F1": mean_sd(by_seed[f"plain|{layout}"]),
            "lead over plain, same masks": "-",
            "verdict": "-",
        }
        for layout in rows.LEVELS[0]
    ]
    effects = factor_effects(by_seed)
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=0.6 + 0.28 * len(effects))
    figures.forest(
        axes[0],
        effects,
        xlabel="effect on weighted F1 (points): released minus paper",
        title="Effect of each departure of the released code",
    )
    notes = (
        f"{shown(context, context.main)} at {rows.setting_of(context, rows.FOCUS)}, {seeds_in_words([len(by_seed)])}, "
        "epoch chosen on validation.",
        "Each effect is averaged over the other factors within a seed; the intervals "
        f"are simultaneous. {_of_leads(effects)}",
        *(f"{name}: {effect}, {effect.verdict}." for name, effect in effects.items()),
        *notes_on_data(context, [context.main]),
    )
    run_ids = tuple(results["run_id"].unique())
    return Output(pd.DataFrame(lines), figure, chosen, len(lines), notes, run_ids)


def _factor_line(by_seed: pd.DataFrame, layout: str, spatial: str, noise: str) -> dict[str, str]:
    values = by_seed[f"{layout}|{spatial}|{noise}"]
    lead = stats.paired(values, by_seed[f"plain|{layout}"], comparisons=8)
    return {
        "masks": layout,
        "spatial loss": spatial,
        "gradient noise": noise,
        "weighted F1": mean_sd(values),
        "lead over plain, same masks": str(lead),
        "verdict": lead.verdict,
    }


def factor_effects(by_seed: pd.DataFrame) -> dict[str, stats.Comparison]:
    """Main effects and two-way interactions, paired by seed; by_seed: a column per ``layout|spatial|noise``.

    A main effect is the mean over the four cells with the released level minus the mean over the other four.
    """
    signs = {"|".join(cell): _signs(cell) for cell in itertools.product(*rows.LEVELS)}
    contrasts: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(FACTORS)}
    for i, j in itertools.combinations(range(3), 2):
        contrasts[f"{FACTORS[i]} x {FACTORS[j]}"] = (i, j)
    effects = {}
    for name, which in contrasts.items():
        weights = {cell: np.prod(sign[list(which)]) for cell, sign in signs.items()}
        high = by_seed[[c for c, weight in weights.items() if weight > 0]].mean(axis=1)
        low = by_seed[[c for c, weight in weights.items() if weight < 0]].mean(axis=1)
        effects[name] = stats.paired(high, low, comparisons=len(contrasts))
    return effects


def _signs(cell: Sequence[str]) -> np.ndarray:
    """(3,): -1 where a factor is as printed, 1 where it is as released."""
    return np.array(
        [1 if level == of[1] else -1 for level, of in zip(cell, rows.LEVELS, strict=True)]
    )


def best_cells(context: Context) -> list[Cell]:
    """Runs at the focus setting, under the seven subsets."""
    return [
        cell
        for dataset in context.datasets
        for cell in rows.of_rows(context, dataset, rows.best_rows(context), rows.at_subsets)
    ]


def of_the_best(context: Context, cells: Sequence[Cell]) -> Output:
    """Accuracy over the Bayes accuracy of each modality subset: where a network loses what the data hold."""
    figure, axes = figures.panel_grid(
        len(context.datasets), columns=2, width=figures.DOUBLE, height=2.6
    )
    frames: list[pd.DataFrame] = []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        shares = _shares(context, on(cells, dataset))
        title = shown(context, dataset)
        names = [name for name, _ in rows.groups(context, dataset)]
        series = {
            str(row): [list(group[group["setting"] == name]["share"]) for name in names]
            for row, group in shares.groupby("row", sort=False)
        }
        _of_best_panel(axis, names, series, title, first=not frames)
        frames.append(shares.assign(dataset=title))
    figures.one_scale(axes)
    figures.shared_legend(figure, axes[0])
    everything = pd.concat(frames, ignore_index=True)
    pivoted = partial(everything.pivot_table, columns="setting", sort=False)
    of_rows = pivoted(index=["dataset", "row"], values="share")
    best = pivoted(index="dataset", values="best")
    of_rows, best = (table.map(lambda v: f"{v:.1f}").reset_index() for table in (of_rows, best))
    table = pd.concat([of_rows, best.assign(row="best possible accuracy (%)")])
    notes = (
        f"Trained at {rows.setting_of(context, rows.FOCUS)}, tested on complete data restricted to "
        "each subset. 100 is the accuracy of the Bayes decision on the same test "
        "utterances, which uses the whole dialogue. The panels share their scale. "
        + figures.told(figures.seeds_of(everything, "dataset", "row", "setting"), "points"),
    )
    run_ids = tuple(everything["run_id"].unique())
    return Output(table[list(of_rows.columns)], figure, everything, len(of_rows), notes, run_ids)


def _of_best_panel(
    axis: Axes,
    names: Sequence[str],
    series: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    first: bool,
) -> None:
    """Shares of the best possible by modality subset, and the line at all of it."""
    grouped.points(
        axis,
        names,
        series,
        ylabel="accuracy, % of the best possible" if first else "",
        title=title,
        legend=False,
        looks=looks(series),
        within=(0.0, math.inf),
    )
    form = colours.look(colours.BEST)
    axis.axhline(100, color=form["color"], linestyle=form["linestyle"], label=colours.BEST)


def _shares(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """Results in accuracy, and their shares (%) of the best possible."""
    results = context.results(cells)
    results = results[(results["metric"] == "accuracy") & (results["selection"] == "valid")]
    bound = comparison.best_possible(cells)
    assert bound is not None  # on twins it is known
    best = bound[bound["metric"] == "accuracy"].set_index("setting")["value"]
    by_result = results["setting"].map(best).to_numpy()
    return results.assign(share=100 * results["value"] / by_result, best=by_result)
