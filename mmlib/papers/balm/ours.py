"""Artifacts that the paper does not have: what the protocol buys, paper or released, of the best possible, controls."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from mmlib.experiments import comparison as compare
from mmlib.experiments.context import Cell, Context
from mmlib.papers.balm import runs, tables
from mmlib.report import figures, stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.execute import SELECTIONS

FACTORS = ("masks", "spatial loss", "gradient noise")
LEVELS = (("paper", "released"), ("gradients", "weights"), ("no noise", "noise"))


def protocol_cells(context: Context) -> list[Cell]:
    """The main table's runs: every setting of the first data set that has data."""
    rows = [r for r in runs.main_rows(context) if r.backbone == context.backbone]
    return runs.grid_of(context, context.main, rows, [*runs.SETTINGS, runs.COMPLETE])


def protocol(context: Context) -> Output:
    """What choosing the epoch on test, or taking the last, does to results and to the method's lead.

    Each run is read three times. Settings are averaged within a seed before any interval.
    """
    results = context.results(protocol_cells(context))
    results = stats.average_folds(results[results["metric"] == "weighted_f1"])
    name = runs.backbone_name(context)
    lines, comparisons = [], {}
    family = 2 * (results["row"].nunique() - 1) * len(SELECTIONS)
    for scope, chosen in ((runs.label(runs.FOCUS), results[results["setting"] == runs.label(runs.FOCUS)]),
                          ("mean of the six settings", results[results["setting"] != "complete"])):
        table = chosen.groupby(["row", "selection", "seed"])["value"].mean()
        for row in dict.fromkeys(chosen["row"]):
            line: dict[str, object] = {"setting": scope, "method": row}
            for selection in SELECTIONS:
                name_of = f"selected on {selection}" if selection != "last" else "last epoch"
                line[name_of] = mean_sd(table[row][selection])
            gap = stats.paired(table[row]["test"], table[row]["valid"])
            line["test - valid"] = f"{gap.difference:+.2f} [{gap.low:.2f}, {gap.high:.2f}]"
            for selection in SELECTIONS:
                if row != name:
                    lead = stats.paired(table[row][selection], table[name][selection], comparisons=family)
                    line[f"lead over {name} ({selection})"] = f"{lead.difference:+.2f} {lead.verdict}"
                    comparisons[f"{row}, {scope.split()[0]}, {selection}"] = lead
            lines.append(line)
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=0.6 + 0.26 * len(comparisons))
    figures.forest(axes[0], comparisons, xlabel="difference in weighted F1 (points)",
                   title=f"Lead over {name}, by selection")
    notes = (f"{tables.shown(context, context.main)}, weighted F1. Selecting on test can only raise a number; what it "
             "adds is shown as 'test - valid', and whether it changes the comparison as the lead.",
             f"The {family} leads are paired by seed and their intervals hold together.",
             *tables.foreign_data_note(context, [context.main]))
    return Output(table=pd.DataFrame(lines).fillna("-"), figure=figure, numbers=results, rows_built=len(lines),
                  notes=notes, run_ids=tuple(results["run_id"].unique()))


def factors(context: Context) -> Output:
    """A 2 x 2 x 2 of masks, spatial loss and gradient noise (ledger 7.2), everything else as printed."""
    results = context.results(runs.factor_cells(context, context.main))
    chosen = stats.average_folds(results[(results["metric"] == "weighted_f1") & (results["selection"] == "valid")])
    cells = chosen.pivot_table(index="seed", columns="row", values="value")
    lines = []
    for layout, spatial, noise in itertools.product(*LEVELS):
        values, plain = cells[f"{layout}|{spatial}|{noise}"], cells[f"plain|{layout}"]
        lead = stats.paired(values, plain, comparisons=8)
        lines.append({"masks": layout, "spatial loss": spatial, "gradient noise": noise, "weighted F1": mean_sd(values),
                      "lead over plain, same masks": f"{lead.difference:+.2f} [{lead.low:.2f}, {lead.high:.2f}]",
                      "verdict": lead.verdict})
    for layout in ("paper", "released"):
        lines.append({"masks": layout, "spatial loss": "plain backbone", "gradient noise": "-",
                      "weighted F1": mean_sd(cells[f"plain|{layout}"]), "lead over plain, same masks": "-",
                      "verdict": "-"})
    effects = factor_effects(cells)
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=0.6 + 0.28 * len(effects))
    figures.forest(axes[0], effects, xlabel="effect on weighted F1 (points): released minus paper",
                   title="What each departure of the released code does")
    notes = tuple(f"{name}: {e.difference:+.2f} [{e.low:.2f}, {e.high:.2f}], {e.verdict}."
                  for name, e in effects.items())
    where = (f"{tables.shown(context, context.main)} at {runs.label(runs.FOCUS)}, {len(cells)} seeds, "
             "epoch chosen on validation.")
    hold = "Effects average over the other factors within a seed; their intervals hold together."
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=chosen, rows_built=len(lines),
                  notes=(where, hold, *notes, *tables.foreign_data_note(context, [context.main])),
                  run_ids=tuple(results["run_id"].unique()))


def factor_effects(cells: pd.DataFrame) -> dict[str, stats.Comparison]:
    """Main effects and two-way interactions, paired by seed; cells has one column per ``layout|spatial|noise``.

    A main effect is the mean over the four cells with the released level minus the mean over the other four.
    """
    signs = {"|".join(level[i] for level, i in zip(LEVELS, bits, strict=True)): np.array(bits) * 2 - 1
             for bits in itertools.product((0, 1), repeat=3)}
    contrasts: dict[str, tuple[int, ...]] = {FACTORS[i]: (i,) for i in range(3)}
    contrasts |= {f"{FACTORS[i]} x {FACTORS[j]}": (i, j) for i, j in itertools.combinations(range(3), 2)}
    found = {}
    for name, which in contrasts.items():
        weights = {cell: np.prod(sign[list(which)]) for cell, sign in signs.items()}
        high = cells[[c for c, w in weights.items() if w > 0]].mean(axis=1)
        low = cells[[c for c, w in weights.items() if w < 0]].mean(axis=1)
        found[name] = stats.paired(high, low, comparisons=len(contrasts))
    return found


def best_rows(context: Context) -> list[runs.Row]:
    """Rows of the comparison with the best possible."""
    b = context.backbone
    return [runs.plain(b), runs.balm(b, "fcm", "FCM"), runs.balm(b), runs.balm(b, "released", "BALM (released)")]


def best_cells(context: Context) -> list[Cell]:
    """Runs at the focus setting, under the seven subsets."""
    return [c for d in context.datasets for c in runs.subset_cells(context, d, best_rows(context))]


def of_the_best(context: Context) -> Output:
    """Accuracy over the Bayes accuracy of each modality subset: where a network loses what the data hold."""
    frames, ids = [], []
    figure, axes = figures.panel_grid(len(context.datasets), columns=2, width=figures.DOUBLE, height=2.6)
    for axis, dataset in zip(axes, context.datasets, strict=True):
        cells = runs.subset_cells(context, dataset, best_rows(context))
        results = context.results(cells)
        results = results[(results["metric"] == "accuracy") & (results["selection"] == "valid")]
        bound = compare.best_possible(cells)
        assert bound is not None
        best = bound[bound["metric"] == "accuracy"].set_index("setting")["value"]
        results = results.assign(share=100 * results["value"] / results["setting"].map(best).to_numpy(),
                                 best=results["setting"].map(best).to_numpy())
        names = [name for name, _ in runs.subsets(context, dataset)]
        series = {str(row): [list(group[group["setting"] == s]["share"]) for s in names]
                  for row, group in results.groupby("row", sort=False)}
        figures.grouped_bars(axis, names, series, ylabel="accuracy, % of the best possible",
                             title=tables.shown(context, dataset), legend=False)
        axis.axhline(100, color="black", linewidth=0.8)
        frames.append(results.assign(dataset=tables.shown(context, dataset)))
        ids += list(results["run_id"].unique())
    figures.shared_legend(figure, axes[0])
    everything = pd.concat(frames, ignore_index=True)
    table = everything.pivot_table(index=["dataset", "row"], columns="setting", values="share", sort=False)
    best_line = everything.pivot_table(index="dataset", columns="setting", values="best", sort=False)
    shown = table.map(lambda v: f"{v:.1f}").reset_index()
    bottom = best_line.map(lambda v: f"{v:.1f}").reset_index().assign(row="best possible accuracy (%)")
    notes = (f"Trained at {runs.label(runs.FOCUS)}, tested on complete data cut to each subset. 100 is the Bayes "
             "decision on the same test utterances, which uses the whole dialogue.",)
    return Output(table=pd.concat([shown, bottom])[list(shown.columns)], figure=figure, numbers=everything,
                  rows_built=len(shown), notes=notes, run_ids=tuple(ids))


def control_cells(context: Context) -> list[Cell]:
    """The controls on the main data set, at the focus setting."""
    return runs.grid_of(context, context.main, runs.control_rows(context), [runs.FOCUS])


def controls(context: Context) -> Output:
    """Controls at the focus setting, each against its own plain backbone under the same optimizer."""
    rows = runs.control_rows(context)
    name = runs.backbone_name(context)
    baselines = {r.name: f"{name} (SGD)" if r.optimizer == "sgd" else name for r in rows if r.method != "plain"}
    return tables.compare(context, [(context.main, control_cells(context), None)], baselines, (
        "'L_mod as a constant' is Eq. 26 read literally; it trains exactly as BALM-D does (A12).",
        "Under Adam a constant gradient scale changes nothing; SGD is where scaling can act (ledger 0.1, 6)."))


def form_cells(context: Context) -> list[Cell]:
    """Other forms of the backbones on the main data set, at the focus setting."""
    return [c for row in runs.form_rows(context)
            for c in runs.cells(context, context.main, row, runs.FOCUS, grid=bool(row.network))]


def forms(context: Context) -> Output:
    """Other forms of each backbone: every plain form against the form of the tables, every +BALM against its own."""
    rows = runs.form_rows(context)
    baselines = {r.name: r.name.replace("+BALM", "") for r in rows if r.method == "balm"}
    baselines |= {r.name: runs.plain(r.backbone).name for r in rows if r.method == "plain" and r.network}
    return tables.compare(context, [(context.main, form_cells(context), None)], baselines, (
        "A plain form is compared with the backbone of the tables, a form with BALM with the same form without.",
        "official: 64 layers, speakers added to text alone, class weights (D13, D16, D17). gated: the LSTM gate that "
        "BALM's scripts leave out (D15). linear encoders: A17 (ii) instead of (i). reconstruction: GCNet's own loss on "
        "what is missing, which needs the complete training features. unpacked: recurrences run over padding, as "
        "released (ledger 6)."))
