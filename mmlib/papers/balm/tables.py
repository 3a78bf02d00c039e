"""BALM's tables, and those of ours that have their form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mmlib.experiments import comparison, failures, own, systems
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.tables import Printed, Table, fixed, main_data_set
from mmlib.papers.balm import rows
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.markup import NOT_BUILT

METRICS = ("accuracy", "weighted_f1")
PAPER_RUNS = 5  # A19: stated for the shared rates only
COMPLETE_IS_OURS = "We added the setting 'complete': nothing is missing in training or test."
MOMKE = (
    "MoMKE trains in two stages, first its experts and then its routing (E22). They share the epochs of one stage and "
    "see the same masks as the other rows (F21), at the size and learning rate of the other papers' tables."
)
ALONE = "With one modality there is nothing to rebalance (Eq. 21 gives 0), so +BALM is FCM alone."
CONTROLLED = (
    "'L_mod as a constant' is the literal reading of Eq. 26; it trains exactly as "
    "BALM-D does (A12).",
    "'whole gradient scaled': mu scales the part of L_mod in an encoder's gradient too, which Eq. 22 does not (A9).",
    "With Adam a constant gradient scale has no effect; with SGD it has (ledger 0.1, 6).",
)
SPREAD = (
    "The standard deviation between the seeds of a cell is {:.2f} on average; "
    "smaller differences are not meaningful."
)
FORMED = (
    "A version without BALM is compared with the backbone of the tables, a version "
    "with BALM with the same version without it.",
    "official: 64 layers, speaker embeddings added to text alone, class weights (D13, "
    "D16, D17). gated: with the LSTM gate that BALM's scripts leave out (D15). "
    "linear encoders: reading A17 (ii) instead of (i). reconstruction: GCNet's loss on the "
    "missing features, which needs complete training features. unpacked: recurrent "
    "layers read padding, as released (ledger 6).",
)


def columns(context: Context) -> str:
    """What the columns of Tables 8 and 9 are."""
    count = own.count(len(context.bundle(context.main).modalities))
    return (
        f"Columns: the modalities in use. Masks are drawn over all {count}, so an utterance "
        "may have none left. Better and worse refer to the same backbone without BALM; "
        "the intervals are in the numbers file."
    )


def notes_on_data(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    """What to say where the data are not the paper's, or have no dialogues."""
    lacking = [d for d in datasets if not context.has_dialogues(d)]
    alone = (
        f"{shown(context, d)} has no dialogues: FCM averages over the batch (A4)." for d in lacking
    )
    rates = dict.fromkeys(note for d in datasets for note in rows.assignment(context, d))
    return (*rates, *data_notes(context, datasets), *alone)


Kept = Callable[[Context], Collection[str]]  # the names of the settings that the profile has


def printed(
    table: str, of: Callable[[pd.DataFrame], pd.DataFrame] | None = None, kept: Kept | None = None
) -> Printed:
    """A printed table's cells; of: takes those that are meant, and names their settings.

    kept: the settings that are made at all; a setting's name comes first where a combination follows it.
    """

    def cells(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
        frame = comparison.published_cells(context, table, dataset, metrics)
        frame = frame if of is None else of(frame)
        if kept is not None:
            frame = frame[frame["setting"].str.split(" ").str[0].isin(kept(context))]
        frame = frame.assign(runs=np.where(frame["sd"].notna(), PAPER_RUNS, 1))
        return frame[["row", "setting", "metric", "value", "sd", "note", "runs"]]

    return cells


def _imbalanced(settings: Sequence[rows.Rates]) -> Kept:
    """Those of some imbalanced settings that the profile has."""
    return lambda context: {rows.setting_of(context, r) for r in rows.kept(context, settings)}


def _rates(context: Context) -> set[str]:
    """The shared rates of Tables 11 and 12."""
    return {f"{rate:.1f}" for rate in context.profile.shared_rates}


def _few(context: Context) -> set[str]:
    """The settings of Tables 8 and 9."""
    return {rows.setting_of(context, rates) for rates in rows.combined(context)}


SIX = _imbalanced(rows.SETTINGS)


def _by_condition(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["condition"] != "average"]
    return frame.assign(setting=frame["condition"])


def _joined(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["setting"] != "average"]
    return frame.assign(setting=frame["setting"] + " " + frame["condition"])


_table = partial(
    Table, protocol=None, baseline="", metrics=fixed(METRICS), data_notes=notes_on_data
)


def _main(table: str, dataset: str) -> Table:
    """The six imbalanced settings, and complete data beside them (ours)."""
    return _table(
        rows=rows.table_rows,
        places=rows.SIX_AND_COMPLETE,
        datasets=rows.some(dataset),
        printed=printed(table, kept=SIX),
        notes=(COMPLETE_IS_OURS, MOMKE, systems.noted),
    )


def _shared(table: str, dataset: str) -> Table:
    """One missing rate for all modalities."""
    return _table(
        rows=rows.shared_rows,
        places=rows.at_shared,
        datasets=rows.some(dataset),
        printed=printed(table, kept=_rates),
        notes=(systems.noted,),
    )


def _combined(table: str, metric: str) -> Table:
    """Trained and tested with some modalities alone, in six settings."""
    return _table(
        rows=rows.combination_rows,
        places=rows.at_combinations,
        metrics=fixed((metric,)),
        datasets=rows.some("iemocap"),
        printed=printed(table, _joined, _few),
        notes=(columns, ALONE),
    )


MAIN = _table(rows=rows.compared_rows, places=rows.compared, datasets=main_data_set)
TABLE1, TABLE2 = _main("table1", "iemocap"), _main("table2", "mosei")
TABLE4 = _table(
    rows=rows.severe_rows,
    places=rows.in_settings(rows.SEVERE),
    printed=printed("table4", kept=_imbalanced(rows.SEVERE)),
)
TABLE8, TABLE9 = _combined("table8", "accuracy"), _combined("table9", "weighted_f1")
TABLE10 = _table(
    rows=rows.fcm_rows, places=rows.at_subsets, printed=printed("table10", _by_condition)
)
TABLE11, TABLE12 = _shared("table11", "iemocap"), _shared("table12", "mosei")
TABLE13 = _table(rows=rows.halves, places=rows.SIX, printed=printed("table13", kept=SIX))
TABLE14 = _table(
    rows=rows.squared,
    places=rows.SIX,
    datasets=rows.some("iemocap"),
    printed=printed("table14", kept=SIX),
)
TABLE15 = dataclasses.replace(
    TABLE14, datasets=rows.some("mosei"), printed=printed("table15", kept=SIX)
)
CONTROLS = _table(
    rows=rows.control_rows, places=rows.AT_FOCUS, datasets=main_data_set, notes=CONTROLLED
)
FORMS = _table(rows=rows.form_rows, places=rows.at_form, datasets=main_data_set, notes=FORMED)


def average(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 3: the mean over the seven subsets, taken within each run before any interval."""
    # Where there are several data sets, the comparison puts their names before a setting's.
    name = "" if len(context.datasets) > 1 else shown(context, context.main)
    table = dataclasses.replace(
        TABLE10,
        printed=printed("table3", lambda frame: frame.assign(setting=name, note="")),
        averages=lambda context, dataset: {name: [n for n, _ in rows.groups(context, dataset)]},
        settings=(name,),
        best=lambda cells: None,
    )
    return table.draw(context, cells)


def combinations(table: Table, context: Context, cells: Sequence[Cell]) -> Output:
    """Tables 8 and 9: laid out by setting and method, since their columns would be many."""
    made = table.draw(context, cells)
    assert made.numbers is not None
    laid_out = combination_layout(made.numbers, rows.order(context))
    return dataclasses.replace(made, table=laid_out, comparison=False)


def combination_layout(numbers: pd.DataFrame, head: str = "r_A/r_L/r_V") -> pd.DataFrame:
    """One line per setting and method, one column per combination: mean ± sd (n), what is known beside it.

    head: of the settings' column.
    """
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for number in numbers.to_dict("records"):
        rates, _, combination = str(number["setting"]).rpartition(" ")
        line = lines.setdefault((rates, str(number["row"])), {})
        line[combination] = _combination({str(k): v for k, v in number.items()})
    order = [rates for rates, _ in lines]
    ordered = sorted(lines.items(), key=lambda item: order.index(item[0][0]))
    return pd.DataFrame([{head: rates, "method": row, **cells} for (rates, row), cells in ordered])


def _combination(number: dict[str, Any]) -> str:
    text = str(number.get("failed") or NOT_BUILT)
    if number["n"]:
        spread = f" ± {number['sd']:.1f}" if number["n"] > 1 else ""
        text = f"{number['mean']:.1f}{spread} ({number['n']})"
        text += f", {number['verdict']}" if number["verdict"] in ("better", "worse") else ""
    paper = number.get("paper", np.nan)
    return text if np.isnan(paper) else f"{text}; paper {paper:.2f}"


def grid_cells(context: Context) -> list[Cell]:
    """Table 7 and Fig 7: both configurations."""
    return [
        cell
        for rates in rows.configurations(context).values()
        for cell in rows.tuned(context, rates)
    ]


def grid_frames(context: Context, cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """Mean weighted F1 over tau (rows) and rho (columns), per configuration of Table 7."""
    taus, rhos = context.profile.taus, context.profile.rhos
    frames = {}
    for name, of_name in _by_configuration(context, cells).items():
        means = _weighted_f1(context, of_name).groupby("setting")["value"].mean()
        grid = [[means.get(f"tau={t:g} rho={r:g}", np.nan) for r in rhos] for t in taus]
        index, columns = ([f"{value:g}" for value in values] for values in (taus, rhos))
        frames[name] = pd.DataFrame(grid, index=index, columns=columns)
    return frames


def _by_configuration(context: Context, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    parts = {}
    for name, rates in rows.configurations(context).items():
        law = context.rates(context.main, rates)
        parts[f"{name} {rows.setting_of(context, rates)}"] = [
            c for c in cells if c.spec.train_mask == law
        ]
    return parts


def _weighted_f1(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    results = context.results(cells)
    return results[(results["metric"] == "weighted_f1") & (results["selection"] == "valid")]


def _spread(context: Context, parts: Iterable[Sequence[Cell]]) -> float:
    """Standard deviation between the seeds of a cell, mean over cells; folds are averaged. NaN with one seed.

    parts: the cells of each configuration, whose settings have the same names.
    """
    deviations = [
        stats.average_folds(_weighted_f1(context, cells)).groupby(["row", "setting"])["value"].std()
        for cells in parts
    ]
    return float(pd.concat(deviations).mean())


def grid_table(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 7 as text: one row per configuration and tau, one column per rho."""
    chosen = _weighted_f1(context, cells)
    parts = _by_configuration(context, cells)
    lines = []
    for name, frame in grid_frames(context, cells).items():
        for tau, values in frame.iterrows():
            line: dict[str, Any] = {f"configuration ({rows.order(context)})": name, "tau": tau}
            for rho, value in values.items():
                of_value = [c for c in parts[name] if c.setting == f"tau={tau} rho={rho}"]
                undone = np.isnan(value)
                line[f"rho {rho}"] = (
                    failures.lacking(context, of_value) if undone else f"{value:.2f}"
                )
            lines.append(line)
    spread = _spread(context, parts.values())
    settings = max(1, chosen["setting"].nunique())
    per_cell = chosen.groupby(["setting", "seed"]).ngroups // settings
    notes = (
        f"Weighted F1 on {shown(context, context.main)}, mean of {seeds_in_words([per_cell])} a cell.",
        *([] if np.isnan(spread) else [SPREAD.format(spread)]),
        *notes_on_data(context, [context.main]),
    )
    run_ids = tuple(chosen["run_id"].unique())
    return Output(pd.DataFrame(lines), None, chosen, len(lines), notes, run_ids)
