"""Comparison tables: data set names, published cells, and the comparison itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin, open_twin
from mmlib.data.labels import seven_classes
from mmlib.data.twins import EXACT
from mmlib.experiments import failures, nature
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.published import papers, published
from mmlib.experiments.systems import PRINTED_AS
from mmlib.masks import Law, draw
from mmlib.metrics import UNSIGNED, has_decisions
from mmlib.report import stats, tables
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.expected import known
from mmlib.runs.spec import SELECTIONS

NAMES = {
    "iemocap": "IEMOCAP",
    "mosi": "CMU-MOSI",
    "mosei": "CMU-MOSEI",
    "crema-d": "CREMA-D",
    "ave": "AVE",
    "mosi_frames": "CMU-MOSI frames",
    "mosei_frames": "CMU-MOSEI frames",
}
SYNTHETIC, STANDS_IN = "synthetic data whose law is known", "stands in for the paper's data set"
OWN = "is not the paper's data set"
NOT_BESIDE = ", so the paper's numbers are not shown beside it"
BOUND = "best possible"
OWN_EPOCHS = "Each metric is read at the epoch at which it is best on validation"
MEAN_EPOCHS = "F1 scores of single classes or emotions where their mean is"
Part = tuple[str, list[Cell], pd.DataFrame | None]
Averages = Mapping[str, Sequence[str]]
K = TypeVar("K")
SEVEN = "acc7"
BEST = ("accuracy", "weighted_f1", "macro_recall")
Best = Callable[[Sequence[Cell]], pd.DataFrame | None]
WITHOUT_SIGN = (
    "its scores do not lie on both sides of 0 in validation and test, so there is no accuracy and no F1; "
    "the mean absolute error and the correlation are shown. If another score is neutral, give neutral in "
    "bundle.toml and import again"
)


def shown(context: Context, dataset: str) -> str:
    """The name of a data set for readers: twins are called twins, other data have their own name."""
    if is_twin(context.reference(dataset)):
        return f"{NAMES[dataset]} twin"
    return NAMES[dataset] if context.is_papers(dataset) else context.bundle(dataset).name


def available(context: Context, dataset: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """The metrics to show of a data set: the wanted ones that it has, or all that scores without a sign have."""
    if not has_decisions(context.bundle(dataset).task):
        return UNSIGNED
    return tuple(m for m in wanted if m != SEVEN or has_seven(context, dataset))


def has_seven(context: Context, dataset: str) -> bool:
    """Whether a data set's scores have seven classes; of others, records hold an accuracy that means nothing."""
    bundle = context.bundle(dataset)
    return seven_classes(bundle.task, bundle.labels)


def under(names: Sequence[str], cells: pd.DataFrame) -> pd.DataFrame:
    """A printed table's rows and settings under other metrics, without values: they say which rows it has."""
    places = cells.drop_duplicates(["row", "setting"])
    return pd.concat(
        [places.assign(metric=name, value=np.nan, sd=np.nan) for name in names], ignore_index=True
    )


def published_cells(
    context: Context, table: str, dataset: str, metrics: Sequence[str], printed: str = ""
) -> pd.DataFrame:
    """A printed table's cells of a data set, all its columns; values only where our data are the paper's own.

    printed: the data set's name in the table, where that is another. A table with none of our data sets gives the cells
    of its first one, without values: they say which rows it has.
    """
    frame = published(context.paper, table).replace({"row": PRINTED_AS})
    if not context.shows_printed(dataset):
        return frame.iloc[:0]
    has, name = set(frame["dataset"]), printed or dataset
    other = not has & {name, *context.datasets}
    frame = frame[
        (frame["dataset"] == (frame["dataset"].iloc[0] if other else name))
        & frame["metric"].isin(metrics)
    ]
    return (
        frame.assign(value=np.nan, sd=np.nan) if other or not context.is_papers(dataset) else frame
    )


def data_notes(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    """Notes for data that are not the paper's, beside which its numbers are not shown."""
    notes = []
    for dataset in datasets:
        name = shown(context, dataset)
        if is_twin(context.reference(dataset)):
            notes.append(f"{name}: {SYNTHETIC}; not the paper's data set.")
        elif not context.is_papers(dataset) and (not context.own or context.paper in papers()):
            what = OWN if context.own else STANDS_IN
            notes.append(f"{name} {what}{NOT_BESIDE}.")
        if not has_decisions(context.bundle(dataset).task):
            notes.append(f"{name}: {WITHOUT_SIGN}.")
        split = context.bundle(dataset).notes.get("split")
        if split:
            notes.append(f"{name}: {split}.")
        notes += nature.note(name, context.bundle(dataset))
    return tuple(notes)


def _own_epochs(context: Context, datasets: Iterable[str]) -> str:
    """At which epoch a table's metrics are read; of F1 scores of single classes only where its data have classes."""
    single = any(context.bundle(dataset).task.kind != "score" for dataset in datasets)
    return f"{OWN_EPOCHS}, {MEAN_EPOCHS}." if single else f"{OWN_EPOCHS}."


def best_possible(
    cells: Sequence[Cell], metrics: Sequence[str] = BEST, context: bool = True
) -> pd.DataFrame | None:
    """On twins, the best possible result of each setting, averaged over the masks and folds of its runs.

    Columns setting, metric, value, approximate. context: use the speaker's other utterances too.
    """
    lines = []
    for setting, spec, law in dict.fromkeys(
        (c.setting, c.spec, dict(c.spec.eval_masks)[c.mask]) for c in cells
    ):
        if not is_twin(spec.data):
            return None
        for metric in (m for m in metrics if m in open_twin(spec.data).metrics):
            value, exact = _bayes(
                spec.data, law, spec.seed, metric, spec.modalities, spec.fold, context
            )
            lines.append(
                {"setting": setting, "metric": metric, "value": value, "approximate": not exact}
            )
    grouped = pd.DataFrame(lines).groupby(["setting", "metric"], as_index=False)
    return grouped.agg({"value": "mean", "approximate": "max"})


@lru_cache(maxsize=4096)
def _bayes(
    reference: str,
    law: Law,
    seed: int,
    metric: str,
    modalities: tuple[str, ...],
    fold: int | None,
    context: bool,
) -> tuple[float, bool]:
    twin = open_twin(reference) if fold is None else open_twin(reference).with_fold(fold)
    used = [not modalities or m in modalities for m in twin.bundle.modalities]
    mask = draw(law, twin.bundle, "test", seed)
    told = known(law, twin.bundle) if all(used) else None
    best = twin.best(
        "test", mask.utterance & np.array(used), metric, context, mask.frames, law=told
    )
    return best[1], metric in EXACT


def by_setting(
    results: pd.DataFrame, bound: pd.DataFrame, settings: Sequence[str]
) -> dict[str, np.ndarray]:
    """Row to (seeds, settings), and the best possible (settings,) where it is known, for curves."""
    series: dict[str, np.ndarray] = {}
    for row, group in results.groupby("row", sort=False):
        by = group.pivot_table(index="seed", columns="setting", values="value")
        series[str(row)] = by.reindex(columns=list(settings)).to_numpy()
    if len(bound):
        series[BOUND] = np.asarray(
            bound.set_index("setting")["value"].reindex(list(settings)), dtype=float
        )
    return series


def selected(context: Context, cells: Sequence[Cell], metric: str) -> pd.DataFrame:
    """Results at the epoch that validation picks, folds averaged within a seed."""
    results = context.results(cells)
    return stats.average_folds(
        results[(results["metric"] == metric) & (results["selection"] == "valid")]
    )


def with_averages(
    frame: pd.DataFrame,
    averages: Mapping[str, Sequence[str]],
    by: Sequence[str],
    over: str = "setting",
) -> pd.DataFrame:
    """A frame of values by setting (or metric), and one more for each average: the mean of a group, where complete."""
    made = []
    for name, parts in averages.items():
        groups = frame[frame[over].isin(parts)].groupby(list(by), dropna=False, sort=False)
        rest = {c: "first" for c in frame.columns if c not in (*by, over, "value")}
        mean = groups.agg({"value": "mean", over: "nunique", **rest}).reset_index()
        made.append(mean[mean[over] == len(parts)].assign(**{over: name}))
    return pd.concat([frame, *made], ignore_index=True)[list(frame.columns)] if made else frame


def difference(table: pd.DataFrame, first: str, second: str) -> str:
    """The paired difference of two columns (seeds down) with its 95 % interval; a dash for a single seed."""
    if len(table) < 2:
        return "-"
    return str(stats.paired(table[first].to_numpy(), table[second].to_numpy()))


def every_selection(results: pd.DataFrame) -> pd.DataFrame:
    """Results for each way of choosing the epoch, folds averaged within a seed."""
    parts = [results[results["selection"] == selection] for selection in SELECTIONS]
    return pd.concat([stats.average_folds(part) for part in parts], ignore_index=True)


def selections_beside(results: pd.DataFrame, decimals: int = 2) -> dict[str, str]:
    """Columns of one row's results by way of choosing the epoch, and what choosing it on test adds."""
    table = results.pivot_table(index="seed", columns="selection", values="value")
    means = {f"epoch by {s}": tables.mean_sd(table[s], decimals) for s in SELECTIONS}
    return {**means, "test minus valid": difference(table, "test", "valid")}


def failed_cells(
    context: Context, cells: Sequence[Cell], averages: Averages
) -> dict[tuple[str, str], str]:
    """What cells say of which a run failed, by row and setting, and the averages over such a setting."""
    texts = failures.of_cells(context, cells)
    above = {
        (row, name): text
        for name, parts in averages.items()
        for (row, setting), text in texts.items()
        if setting in parts
    }
    return {**above, **texts}


@dataclass(frozen=True)
class _View:
    """What a comparison shows of each of its data sets."""

    metrics: Sequence[str] | Mapping[str, Sequence[str]]
    """Of all, or by data set."""

    best: Best
    """On twins, the best that can be had."""

    averages: Averages | Callable[[str], Averages]
    """Settings that are means of others, within each run, of all data sets or by data set."""

    settings: Sequence[str]
    """Those to show; all where empty."""

    means: Averages
    """Metrics that are means of others."""

    parts_too: bool
    """Whether the metrics that ``means`` are made of are shown as well."""

    def asked(self, dataset: str) -> Sequence[str]:
        """The metrics that are asked for."""
        return self.metrics[dataset] if isinstance(self.metrics, Mapping) else self.metrics

    def groups(self, dataset: str) -> Averages:
        """A data set's averages over settings."""
        return self.averages(dataset) if callable(self.averages) else self.averages

    @property
    def hidden(self) -> list[str]:
        """Metrics that are read but not shown."""
        return [] if self.parts_too else [name for names in self.means.values() for name in names]

    def results(self, frame: pd.DataFrame, wanted: Sequence[str], groups: Averages) -> pd.DataFrame:
        """The results that are shown, with their averages; wanted: the metrics that these data have."""
        by_run = ("row", "seed", "fold", "selection")
        frame = with_averages(frame[frame["metric"].isin(wanted)], groups, (*by_run, "metric"))
        frame = with_averages(frame, self.means, ("row", "setting", *by_run[1:]), "metric")
        frame = frame[frame["setting"].isin(self.settings)] if self.settings else frame
        return frame[~frame["metric"].isin(self.hidden)]


@dataclass(frozen=True)
class _PartRead:
    """What one data set brings to a comparison, under the comparison's names of its settings."""

    results: pd.DataFrame
    """Of its runs, with averages."""

    printed: pd.DataFrame | None
    """The paper's numbers."""

    bound: pd.DataFrame | None
    """The best possible."""

    failed: dict[tuple[str, str, str], str]
    """By row, setting and metric, what a cell says of which a run failed."""

    evaluated: dict[str, str]
    """By setting, the utterances that it is evaluated on, where it leaves some out."""

    rates: list[str]
    """Sentences on the missing rates that its masks have."""


def _read_part(context: Context, view: _View, part: Part, one_of_many: bool) -> _PartRead:
    """What a data set brings; one_of_many: its settings' names begin with its own."""
    dataset, cells, printed = part
    prefix = f"{shown(context, dataset)} " if one_of_many else ""
    asked, groups = view.asked(dataset), view.groups(dataset)
    wanted = available(context, dataset, asked)
    results = view.results(context.results(cells), wanted, groups)
    if printed is not None:
        printed = under(wanted, printed) if wanted != tuple(asked) else printed
        printed = printed.assign(setting=(prefix + printed["setting"]).str.strip())
    bound = view.best(cells)
    if bound is not None:
        bound = with_averages(bound[bound["metric"].isin(wanted)], groups, ("metric",))
        bound = bound.assign(setting=prefix + bound["setting"])
    shown_metrics = list(results["metric"].unique())
    names = shown_metrics or [name for name in wanted if name not in view.hidden]
    return _PartRead(
        results.assign(setting=(prefix + results["setting"]).str.strip()),
        printed,
        bound,
        {
            (row, (prefix + setting).strip(), name): text
            for (row, setting), text in failed_cells(context, cells, groups).items()
            if not view.settings or setting in view.settings
            for name in names
        },
        {
            (prefix + setting).strip(): count
            for setting, count in nature.utterances(context, cells).items()
        },
        [prefix + sentence for sentence in nature.realised(context, cells)],
    )


def _joined(frames: Iterable[pd.DataFrame | None]) -> pd.DataFrame | None:
    """Those that are there, one below the other; None where none is."""
    there = [frame for frame in frames if frame is not None]
    return pd.concat(there) if there else None


def _merged(texts: Iterable[Mapping[K, str]]) -> dict[K, str]:
    """All in one."""
    return {key: text for by_key in texts for key, text in by_key.items()}


def compare(
    context: Context,
    parts: Sequence[Part],
    baselines: Mapping[str, str],
    notes: Sequence[str],
    metrics: Sequence[str] | Mapping[str, Sequence[str]],
    best: Best = lambda _: None,
    averages: Averages | Callable[[str], Averages] | None = None,
    settings: Sequence[str] = (),
    means: Mapping[str, Sequence[str]] | None = None,
    parts_too: bool = True,
) -> Output:
    """A comparison table over one or more data sets; each part is (data set, cells, the paper's numbers).

    With more than one part, settings carry the data set's name. metrics: of all, or by data set. averages, means:
    settings and metrics that are means of others, within each run; parts_too: show the metrics that these are made
    of as well. settings: those to show, all where empty. best: on twins, the best that can be had.
    """
    view = _View(metrics, best, averages or {}, settings, means or {}, parts_too)
    read = [_read_part(context, view, part, len(parts) > 1) for part in parts]
    everything = pd.concat([part.results for part in read], ignore_index=True)
    paper_cells = _joined(part.printed for part in read)
    numbers = tables.compare(
        everything,
        paper_cells,
        collection=context.collection,
        baselines=baselines,
        best=_joined(part.bound for part in read),
        failed=_merged(part.failed for part in read),
    )
    if numbers.empty:
        return NOT_BUILT
    evaluated = _merged(part.evaluated for part in read)
    numbers["setting"] = nature.with_utterances(numbers["setting"], evaluated)
    rates = [sentence for part in read for sentence in part.rates]
    epochs = _own_epochs(context, [dataset for dataset, *_ in parts])
    return Output(
        numbers=numbers,
        comparison=True,
        rows_built=tables.rows_built(numbers),
        notes=(*tables.remarks(numbers, paper_cells), *rates, epochs, *notes),
        run_ids=tuple(everything["run_id"].unique()),
    )
