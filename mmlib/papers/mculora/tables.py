"""MCULoRA's tables, and those of ours that have their form: what the leak buys, and departures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from mmlib.experiments import comparison as compared
from mmlib.experiments import stages
from mmlib.experiments.comparison import best_possible, data_notes
from mmlib.experiments.context import Context
from mmlib.papers.mculora import runs
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

PAPER_RUNS = {"mosei": 5, "iemocap": 1}  # five repeats; five folds, which are one run here too
EQUAL = ("All rows of a seed and fold start from one pre-training under mixed combinations; 'joint training' goes on "
         "with the whole network for as long as the adapters train, and MoMKE has its own two stages of that length.")
FOLDS = ("One model serves every condition, and one epoch is chosen for all of them, on validation under mixed "
         "combinations. The released protocol trains one model for each condition and chooses on test (G2, G7).")


def paper_numbers(context: Context, table: str, dataset: str) -> pd.DataFrame:
    """The printed cells; the printed average goes to the average that it is (F16), or to the one over six."""
    frame = compared.published_cells(context, table, dataset, runs.METRICS[dataset])
    mean = frame["note"].astype(str).str.startswith("mean of 7")
    average = frame["setting"] == "average"
    setting = frame["setting"].mask(average & mean, runs.MEAN_ALL).mask(average & ~mean, runs.MEAN_MISSING)
    return frame.assign(setting=setting, runs=PAPER_RUNS[dataset])


def specs_of(rows: Sequence[runs.Row], grid: bool = False, main: bool = False) -> Callable[[Context], list[RunSpec]]:
    """The runs behind some rows, on every data set or the main one."""
    return lambda context: stages.specs_of(
        c for d in (context.datasets[:1] if main else context.datasets) for c in runs.cells(context, d, rows, grid))


def comparison(table: str, rows: Sequence[runs.Row], baseline: str,
               notes: Sequence[str] = ()) -> Callable[[Context], Output]:
    """A table over the seven conditions and both averages, every row against one of them."""
    def make(context: Context) -> Output:
        parts: list[compared.Part] = [(d, runs.cells(context, d, rows), paper_numbers(context, table, d))
                                      for d in context.datasets]
        return compared.compare(context, parts, _against(rows, baseline), (
            *notes, EQUAL, FOLDS, *data_notes(context, context.datasets)), runs.METRICS, best_possible,
            runs.averages(context, context.main))
    return make


def random_missing(context: Context) -> Output:
    """The random-missing protocol: one or two modalities missing in each utterance."""
    parts: list[compared.Part] = [(d, runs.cells(context, d, runs.main_rows(), settings=[runs.RANDOM]), None)
                                  for d in context.datasets]
    return compared.compare(context, parts, _against(runs.main_rows(), runs.JOINT.name), (
        "The paper reports this protocol in a supplement that is not to be had, so there are no numbers to compare "
        "with. It fixes the seed to 66; here every run has its own mask, the same for all rows.", EQUAL,
        *data_notes(context, context.datasets)), runs.METRICS, best_possible)


def leak(context: Context) -> Output:
    """What a rule that looks at test buys: equal shares, and rules on train, validation, test inputs, test labels."""
    return _readings(context, runs.leak_rows(), runs.WITHOUT_DPFT.name, grid=False, notes=(
        "Rows whose name begins with LEAKS look at test data while they train: the printed rule at its features (F9), "
        "the released one at its labels (G1). They are no results to compare with.",))


def departures(context: Context) -> Output:
    """Readings of unclear rows and departures of the released code, each against the method as recommended."""
    return _readings(context, runs.departure_rows(), runs.OURS.name, grid=True, notes=(
        "Rows whose name begins with LEAKS look at test data while they train.",
        "The released code trains everything from the start (G4), with no L_ort in effect (G9), adds the two "
        "predictions (G10) and takes the shares from test accuracies (G1); here it starts from the same pre-training."))


def _readings(context: Context, rows: Sequence[runs.Row], baseline: str, grid: bool, notes: Sequence[str]) -> Output:
    every = runs.averages(context, context.main)
    return compared.compare(context, [(context.main, runs.cells(context, context.main, rows, grid), None)],
                            _against(rows, baseline), (*notes, *data_notes(context, [context.main])), ("accuracy",),
                            averages=every, settings=list(every))


def _against(rows: Sequence[runs.Row], baseline: str) -> dict[str, str]:
    return {row.name: baseline for row in rows if row.name != baseline}
