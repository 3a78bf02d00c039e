"""The GMM-loss paper's tables, and three of ours: tuning, recommended readings beside departures, further methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import comparison, failures
from mmlib.experiments.comparison import shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, of_row
from mmlib.experiments.tables import Printed, Table, fixed, main_data_set
from mmlib.papers.gmm_loss import rows
from mmlib.report import figures, grouped, tables
from mmlib.report.artifact import Output
from mmlib.report.stats import summarise

METRICS = ("accuracy",)
OF_THE_PAPER = (  # what is not said of own data
    "Not documented, and therefore our choice: all hyperparameters on AVE except "
    "PMR's; all settings of Greedy and G-Blending; PMR's momentum and entropy window; "
    "the sign in AGM; whether MLA's published accuracy used its projection. The "
    "paper does not print its own alpha, beta, gamma and epochs either.",
    "In the paper's CREMA-D column the accuracies of Greedy and OPM&OGM are not "
    "multiples of 1/744, and in its AVE column no baseline is a multiple of 1/402: "
    "their test sets or number of runs differ from those of 'Ours'.",
)
SHARED_WARMUP = (
    "All rows of a seed start from the same warm-up. With alpha = 0 there is no "
    "classification loss after it (H10).",
)
OPTIMIZERS = (
    "All rows of a seed and optimizer start from the same warm-up; 'Same State' keeps "
    "the optimizer's state.",
)
TAKEN_APART = (
    "Every variant is compared with the recommended reading of its method, at that "
    "method's tuned values. The released D&R trains without augmentation and compares "
    "with a baseline that uses it; these rows separate the two.",
)
CONTROLLED = (
    "Methods are compared with Concat, and the rows in parentheses with their method, at its "
    "tuned values: they are what is left without the method's idea. 'MMPareto (sum of the "
    "losses, larger rate)' adds up the same three losses and enlarges the encoders' gradients by "
    "the same factor; 'LFM (late fusion)' has no divergence and no schedule, 'LFM (schedule "
    "alone)' no divergence; 'ReconBoost (alternation alone)' has the same phases and head, and "
    "plain cross-entropy in them.",
)
TUNED = (
    "test data were not used. Learning rates are factors of the common one. The "
    "values were chosen once, on the twin with the profile quick, and are used "
    "everywhere."
)
BY_CHANCE = (
    "Differences within a method that are smaller than the spread between "
    "seeds are not meaningful, including that of the 'best' value."
)


def tuned(context: Context) -> str:
    """What all rows have in common."""
    where = "a twin's" if context.own else "the twin's"
    table = "" if context.own else " (table 'Hyperparameter tuning')"
    return (
        "All rows have the same protocol and tuning budget: encoders, batches, SGD with momentum 0.9, total epochs, "
        f"and number of trials on {where} validation split{table}."
    )


def _of_the_paper(text: str) -> Callable[[Context], str]:
    return lambda context: "" if context.own else text


def setting(context: Context, dataset: str) -> str:
    """Nothing where the data set's name stands before it anyway."""
    return "" if len(context.datasets) > 1 else shown(context, dataset)


def places(context: Context, dataset: str, row: Row) -> list[Cell]:
    """A row's cells in a table of every data set."""
    return rows.cells(context, dataset, [row], setting=setting(context, dataset))


def main_places(context: Context, dataset: str, row: Row) -> list[Cell]:
    """A row's cells in the main comparison."""
    return rows.cells(context, dataset, [row], setting=shown(context, dataset), main=True)


def departure_places(context: Context, dataset: str, row: Row) -> list[Cell]:
    """A row's cells in the table of departures."""
    return rows.cells(context, dataset, [row], grid=True, setting=shown(context, dataset))


def printed(table: str) -> Printed:
    """A printed table's cells."""

    def cells(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
        frame = comparison.published_cells(context, table, dataset, metrics)
        return frame.assign(setting=setting(context, dataset), runs=1)

    return cells


def unbounded(cells: Sequence[Cell]) -> None:
    """No best possible result: none is known of clips."""


TABLE1 = Table(
    rows.main_rows,
    None,
    rows.NAMES["plain"],
    fixed(METRICS),
    printed=printed("table1"),
    best=unbounded,
    notes=(tuned, *map(_of_the_paper, OF_THE_PAPER)),
    places=places,
)
MAIN = Table(
    rows.compared_rows,
    None,
    rows.NAMES["plain"],
    fixed(("accuracy", "weighted_f1")),
    main_data_set,
    best=unbounded,
    places=main_places,
)
TABLE2 = Table(
    rows.ablation_rows,
    None,
    rows.OURS,
    fixed(METRICS),
    printed=printed("table2"),
    best=unbounded,
    notes=SHARED_WARMUP,
    places=places,
)
TABLE3 = Table(
    rows.optimizer_rows,
    None,
    "SGD (Reset State)",
    fixed(METRICS),
    printed=printed("table3"),
    best=unbounded,
    notes=OPTIMIZERS,
    places=places,
)
DEPARTURES = Table(  # each is compared with the recommended reading of its own method
    rows.departure_rows,
    None,
    "",
    fixed(METRICS),
    main_data_set,
    best=unbounded,
    notes=TAKEN_APART,
    places=departure_places,
)
BEYOND = Table(
    rows.further_rows,
    None,
    rows.NAMES["plain"],
    fixed(METRICS),
    best=unbounded,
    notes=(tuned, *CONTROLLED),
    places=places,
)


def lacks_trials(context: Context) -> str:
    """Why the trials cannot be made, which the twin's validation decides; empty where they can."""
    if is_twin(context.reference(context.main)):
        return ""
    return "Made on the twin: give --data crema-d=twin:crema-d@quick."


def tuning(context: Context, cells: Sequence[Cell]) -> Output:
    """The trials of each method by validation accuracy at its best epoch, and which one the tables use."""
    by_trial = _best_epochs(context, cells)
    lines, groups = [], {}
    for method, trials in rows.TRIALS.items():
        values = groups[rows.ALL_NAMES[method]] = [_of_trial(by_trial, method, of) for of in trials]
        means = [summarise(of).mean if of else float("-inf") for of in values]
        best = means.index(max(means))
        for place, options in enumerate(trials):
            tried = of_row(cells, rows.trial_row(method, options))
            lacking = failures.lacking(context, tried)
            lines.append(
                {
                    "method": rows.ALL_NAMES[method],
                    "trial": rows.trial_name(options),
                    "validation accuracy (%)": tables.mean_sd(values[place])
                    if values[place]
                    else lacking,
                    "best here": "best" if place == best and values[place] else "",
                    "in the tables": "used" if options == rows.CHOSEN[method] else "",
                }
            )
    count = max(map(len, groups.values()))
    name = shown(context, context.main)
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=3.0)
    grouped.points(
        axes[0],
        list(groups),
        {
            f"trial {i + 1}": [of[i] if i < len(of) else [] for of in groups.values()]
            for i in range(count)
        },
        ylabel="validation accuracy (%)",
        title=f"Trials on {name}",
    )
    seeds = context.seed_count or rows.TRIAL_SEEDS
    all_trials = f"{count} trials for each method, {seeds} seeds each, on {name}"
    notes = (f"{all_trials}; {TUNED} Figure: {figures.told([seeds], 'points')}", BY_CHANCE)
    table, numbers = pd.DataFrame(lines), by_trial.drop(columns="run")
    return Output(table, figure, numbers, len(lines), notes, tuple(by_trial["run"]))


def _best_epochs(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """Columns trial, seed, validation accuracy (%) and run, of the trials that are done."""
    lines = []
    for cell in cells:
        record = context.record(cell.spec)
        if record is not None:
            value = max(record["curves"]["valid"]["accuracy"])
            lines.append((cell.row, cell.spec.seed, value, record.id))
    return pd.DataFrame(lines, columns=["trial", "seed", "validation accuracy", "run"])


def _of_trial(by_trial: pd.DataFrame, method: str, options: rows.Options) -> list[float]:
    of_trial = by_trial["trial"] == rows.trial_row(method, options)
    return list(by_trial[of_trial]["validation accuracy"])
