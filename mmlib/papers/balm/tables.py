"""BALM's tables: from finished runs to rows of the paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmlib.experiments import comparison as compared
from mmlib.experiments import failures
from mmlib.experiments.comparison import shown
from mmlib.experiments.context import Cell, Context
from mmlib.papers.balm import runs
from mmlib.report import tables
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

METRICS = ("accuracy", "weighted_f1")
PAPER_RUNS = 5  # A19: stated for the shared rates only


Cells = Callable[[Context], list[Cell]]
Draw = Callable[[Context], Output]


def specs_of(cells: Cells) -> Callable[[Context], list[RunSpec]]:
    """The runs behind some cells."""
    return lambda context: runs.specs_of(cells(context))


def paper_numbers(context: Context, table: str, dataset: str, condition: str | None = None,
                  joined: bool = False) -> pd.DataFrame:
    """The paper's cells for a table and data set; values only where our data are the paper's own.

    condition: take the table's condition for the setting. joined: setting and condition together.
    """
    frame = compared.published_cells(context, table, dataset, METRICS)
    if condition is not None:
        frame = frame.assign(setting=frame["condition"])[frame["condition"] != "average"]
    if joined:
        frame = frame[frame["setting"] != "average"]
        frame = frame.assign(setting=frame["setting"] + " " + frame["condition"])
    frame = frame.assign(runs=np.where(frame["sd"].notna(), PAPER_RUNS, 1))
    return frame[["row", "setting", "metric", "value", "sd", "note", "runs"]]


def compare(context: Context, parts: Sequence[compared.Part], baselines: Mapping[str, str],
            extra_notes: Sequence[str] = (), metrics: Sequence[str] = METRICS) -> Output:
    """A comparison table over one or more data sets; each part is (data set, cells, the paper's numbers)."""
    notes = (*extra_notes, *foreign_data_note(context, [p[0] for p in parts]))
    return compared.compare(context, parts, baselines, notes, metrics, compared.best_possible)


def foreign_data_note(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    """What to say where the data are not the paper's, or have no dialogues."""
    return (*compared.data_notes(context, datasets),
            *(f"{shown(context, d)} has no dialogues: FCM averages over the batch (A4)." for d in datasets
              if not context.has_dialogues(d)))


def main_table(table: str, dataset: str) -> tuple[Cells, Draw]:
    """Tables 1 and 2: the six imbalanced settings, and complete data beside them (ours)."""
    def cells(context: Context) -> list[Cell]:
        return runs.grid_of(context, dataset, runs.main_rows(context), [*runs.SETTINGS, runs.COMPLETE])

    def make(context: Context) -> Output:
        note = "The setting 'complete' is ours: nothing missing in training or test."
        return compare(context, [(dataset, cells(context), paper_numbers(context, table, dataset))],
                       runs.own_plain(runs.main_rows(context)), [note])
    return cells, make


def severe_cells(context: Context, dataset: str) -> list[Cell]:
    """Table 4."""
    return runs.grid_of(context, dataset, runs.severe_rows(context), runs.SEVERE)


def severe(context: Context) -> Output:
    """Table 4: one modality missing in nine of ten utterances."""
    parts = [(d, severe_cells(context, d), paper_numbers(context, "table4", d)) for d in context.datasets]
    return compare(context, parts, runs.own_plain(runs.severe_rows(context)))


def fcm_rows(context: Context) -> list[runs.Row]:
    """Rows of Tables 3 and 10."""
    return [runs.plain(context.backbone), runs.balm(context.backbone, "fcm", "FCM")]


def fcm_cells(context: Context, dataset: str) -> list[Cell]:
    """Tables 3 and 10: trained at the focus setting, tested on complete data cut to each subset."""
    return runs.subset_cells(context, dataset, fcm_rows(context))


def subset_table(context: Context) -> Output:
    """Table 10, one column per data set and subset."""
    parts = [(d, fcm_cells(context, d), paper_numbers(context, "table10", d, "condition")) for d in context.datasets]
    return compare(context, parts, runs.own_plain(fcm_rows(context)))


def subset_average(context: Context) -> Output:
    """Table 3: the mean over the seven subsets, taken within each run before any interval."""
    parts, known = [], []
    failed: dict[tuple[str, str, str], str] = {}
    for dataset in context.datasets:
        results = context.results(fcm_cells(context, dataset))
        shown_metrics = compared.available(context, dataset, METRICS)
        told = failures.of_cells(context, fcm_cells(context, dataset))
        failed |= {(row, shown(context, dataset), name): text for (row, _), text in told.items()
                   for name in shown_metrics}
        results = results[results["metric"].isin(shown_metrics)]
        keys = ["row", "seed", "fold", "selection", "metric", "stale", "run_id", "data"]
        mean = results.groupby(keys, dropna=False, as_index=False)["value"].mean()
        parts.append(mean.assign(setting=shown(context, dataset)))
        paper = paper_numbers(context, "table3", dataset)
        paper = paper if shown_metrics == METRICS else compared.under(shown_metrics, paper)
        known.append(paper.assign(setting=shown(context, dataset)))
    everything = pd.concat(parts, ignore_index=True)
    numbers = tables.compare(everything, pd.concat(known), collection=context.collection,
                             baselines=runs.own_plain(fcm_rows(context)), failed=failed)
    return Output(table=tables.layout(numbers), numbers=numbers, rows_built=tables.rows_built(numbers),
                  notes=(*tables.remarks(numbers), *foreign_data_note(context, context.datasets)),
                  run_ids=tuple(everything["run_id"].unique()))


def variants(table: str, datasets: Sequence[str], names: Sequence[tuple[str, str]],
             every_backbone: bool) -> tuple[Cells, Draw]:
    """Tables 13 (BALM-D, BALM-S), 14 and 15 (BALM-M), each beside the plain backbone and +BALM."""
    def rows(context: Context) -> list[runs.Row]:
        return runs.variant_rows(context, names, context.backbones if every_backbone else context.backbones[:1])

    def here(context: Context, dataset: str) -> list[Cell]:
        return runs.grid_of(context, dataset, rows(context), runs.SETTINGS)

    def cells(context: Context) -> list[Cell]:
        return [c for d in datasets if d in context.datasets for c in here(context, d)]

    def make(context: Context) -> Output:
        parts = [(d, here(context, d), paper_numbers(context, table, d)) for d in datasets if d in context.datasets]
        return compare(context, parts, runs.own_plain(rows(context)))
    return cells, make


def combinations(table: str, metric: str) -> tuple[Cells, Draw]:
    """Tables 8 (accuracy) and 9 (weighted F1): trained and tested with some modalities alone, in six settings."""
    def cells(context: Context) -> list[Cell]:
        return runs.combination_cells(context, "iemocap")

    def make(context: Context) -> Output:
        paper = paper_numbers(context, table, "iemocap", joined=True)
        notes = ["Columns: the modalities in use. Masks are drawn over all three, so an utterance may have nothing "
                 "left. Better, worse: than the own backbone without BALM; intervals stand in the file of numbers.",
                 "With one modality there is nothing to rebalance (Eq. 21 gives 0): +BALM is FCM alone there."]
        made = compare(context, [("iemocap", cells(context), paper)],
                       runs.own_plain(runs.combination_rows(context)), notes, [metric])
        assert made.numbers is not None
        return dataclasses.replace(made, table=combination_layout(made.numbers))
    return cells, make


def combination_layout(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line per setting and method, one column per combination: mean ± sd (n), what is known beside it."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for number in numbers.to_dict("records"):
        rates, _, combination = str(number["setting"]).rpartition(" ")
        text = str(number.get("failed") or tables.NOT_BUILT)
        if number["n"]:
            text = f"{number['mean']:.1f}" + (f" ± {number['sd']:.1f}" if number["n"] > 1 else "") + f" ({number['n']})"
            text += f", {number['verdict']}" if number["verdict"] in ("better", "worse") else ""
        paper = number.get("paper", np.nan)
        text += f"; paper {paper:.2f}" if paper == paper else ""  # not NaN
        lines.setdefault((rates, str(number["row"])), {})[combination] = text
    ordered = sorted(lines.items(), key=lambda item: [r for r, _ in lines].index(item[0][0]))
    return pd.DataFrame([{"r_A/r_L/r_V": rates, "method": row, **cells} for (rates, row), cells in ordered])


def shared_table(table: str, dataset: str) -> tuple[Cells, Draw]:
    """Tables 11 and 12: one missing rate for all modalities."""
    def cells(context: Context) -> list[Cell]:
        return runs.shared_cells(context, dataset)

    def make(context: Context) -> Output:
        return compare(context, [(dataset, cells(context), paper_numbers(context, table, dataset))],
                       runs.own_plain(runs.shared_rows(context)))
    return cells, make


def grid_frames(context: Context) -> dict[str, pd.DataFrame]:
    """Mean weighted F1 over tau (rows) and rho (columns), per configuration of Table 7."""
    found = {}
    for name, rates in (("A", runs.CONFIG_A), ("B", runs.FOCUS)):
        results = context.results(runs.grid_cells(context, context.main, rates))
        chosen = results[(results["metric"] == "weighted_f1") & (results["selection"] == "valid")]
        means = chosen.groupby("setting")["value"].mean()
        taus, rhos = context.profile.taus, context.profile.rhos
        grid = [[means.get(f"tau={t:g} rho={r:g}", np.nan) for r in rhos] for t in taus]
        found[f"{name} {runs.label(rates)}"] = pd.DataFrame(grid, index=[f"{t:g}" for t in taus],
                                                            columns=[f"{r:g}" for r in rhos])
    return found


def grid_cells(context: Context) -> list[Cell]:
    """Table 7 and Fig 7: both configurations."""
    return [c for rates in (runs.CONFIG_A, runs.FOCUS) for c in runs.grid_cells(context, context.main, rates)]


def grid_table(context: Context) -> Output:
    """Table 7 as text: one row per configuration and tau, one column per rho."""
    cells = grid_cells(context)
    results = context.results(cells)
    chosen = results[(results["metric"] == "weighted_f1") & (results["selection"] == "valid")]
    configurations = {"A": runs.CONFIG_A, "B": runs.FOCUS}

    def undone(name: str, setting: str) -> str:
        mine = runs.grid_cells(context, context.main, configurations[name.split()[0]])
        return failures.lacking(context, [cell for cell in mine if cell.setting == setting])

    lines = []
    for name, frame in grid_frames(context).items():
        for tau, values in frame.iterrows():
            line: dict[str, Any] = {"configuration (r_A/r_L/r_V)": name, "tau": tau}
            lines.append(line | {f"rho {r}": f"{v:.2f}" for r, v in values.items()}
                         | {f"rho {r}": undone(name, f"tau={tau} rho={r}") for r, v in values.items() if np.isnan(v)})
    spread = chosen.groupby(["setting"])["value"].std(ddof=1).mean()
    per_cell = chosen.groupby(["setting", "seed"]).ngroups // max(1, chosen["setting"].nunique())
    notes = (f"Weighted F1 on {shown(context, context.main)}, mean of {per_cell} seeds a cell.",
             f"Between seeds of one cell the sd is {spread:.2f} on average: smaller differences say nothing.",
             *foreign_data_note(context, [context.main]))
    return Output(table=pd.DataFrame(lines), numbers=chosen, rows_built=len(lines), notes=notes,
                  run_ids=tuple(chosen["run_id"].unique()))
