"""What the finished runs of a comparison say: values by contender, condition and seed, and how questions stand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from mmlib.compare.plan import MAJORITY, Contender, Plan, Question
from mmlib.compare.race import Standing, standing
from mmlib.data.bundle import Bundle, Task
from mmlib.experiments import failures
from mmlib.masks import draw
from mmlib.metrics import SELECTION_METRIC, all_metrics, decisions, has_decisions
from mmlib.report import stats
from mmlib.report.artifact import FailedRun
from mmlib.runs import clusters
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record


@dataclass(frozen=True)
class Results:
    """The finished runs of a comparison."""

    plan: Plan
    """What was to be run."""

    values: pd.DataFrame
    """Columns contender, condition, seed, value in the metric's unit; folds averaged. The majority's are among them."""

    specs: Mapping[str, list[RunSpec]]
    """By contender, its finished runs."""

    failed: Mapping[str, str]
    """By contender, why its first failed run failed; it takes no part."""

    failures: Mapping[str, Sequence[tuple[FailedRun, str]]] = field(default_factory=dict)
    """Of those, the failed runs of the first seed that has some, each with its error text."""

    ids: Mapping[RunSpec, str] = field(default_factory=dict)
    """The ids of the finished runs' records, which an older version of the code may have made."""

    @property
    def metric(self) -> str:
        """What is compared: weighted F1, or the mean absolute error of scores without a sign."""
        return metric_of(self.plan.bundle.task)

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """Where each question stands among those that have the first look's seeds, by its name.

        Before anyone has, among all that have a seed; then nobody is out. Those that wait count as rivals.
        """
        names = self.field or [c.name for c in self.waiting if self.seeds(c.name)]
        rivals = len(self.field) + len(self.waiting)  # of one of them: the others, and the majority
        return {
            q.name: standing(self.of(q)[[*names, MAJORITY]], self.plan.looks, rivals)
            for q in self.plan.questions
        }

    def of(self, question: Question) -> pd.DataFrame:
        """One row for each seed and one column for each contender: means over a question's conditions.

        Larger is better: an error has its sign changed. NaN where a contender has no runs.
        """
        conditions = [name for name, _ in question.tests]
        frame = self.values[self.values["condition"].isin(conditions)]
        table = frame.pivot_table(index="seed", columns="contender", values="value", sort=False)
        names = [c.name for c in self.plan.contenders if c.name not in self.failed]
        table = table.sort_index().reindex(columns=[*names, MAJORITY])
        return -table if self.metric == "mae" else table

    @cached_property
    def field(self) -> list[str]:
        """The names of the contenders that have the first look's seeds."""
        return [name for name in self.specs if self.seeds(name) >= self.plan.looks[0]]

    @cached_property
    def waiting(self) -> list[Contender]:
        """The contenders that lack some of the first look's seeds; a later call goes on with them."""
        known = {*self.field, *self.failed}
        return [c for c in self.plan.contenders if c.name not in known]

    @property
    def still_in(self) -> list[Contender]:
        """The contenders that may still be the best in a question, of those that have the first look's seeds."""
        still = {name for s in self.standings.values() for name in s.open}
        return [c for c in self.plan.contenders if c.name in still and c.name in self.field]

    @property
    def decided(self) -> bool:
        """Whether each question has one contender left, and nobody waits."""
        return not self.waiting and all(len(s.open) == 1 for s in self.standings.values())

    def may_be_best(self, question: str, contender: str) -> bool:
        """Whether a contender has the first look's seeds and is still in."""
        return contender in self.field and contender in self.standings[question].open

    def run_id(self, spec: RunSpec) -> str:
        """Under which a run's record stands."""
        return self.ids.get(spec) or spec.run_id(self.plan.bundle.fingerprint)

    @cached_property
    def stale(self) -> int:
        """How many of the runs were made by an older version of the code."""
        fingerprint = self.plan.bundle.fingerprint
        return sum(spec.run_id(fingerprint) != made for spec, made in self.ids.items())

    def seeds(self, contender: str) -> int:
        """How many seeds a contender has."""
        return self._counts.get(contender, 0)

    @cached_property
    def _counts(self) -> dict[str, int]:
        """How many seeds each has that has some."""
        counts = self.values.groupby("contender")["seed"].nunique()
        return {str(name): int(count) for name, count in counts.items()}


def metric_of(task: Task) -> str:
    """The metric that data are compared in."""
    return SELECTION_METRIC if has_decisions(task) else "mae"


def read(plan: Plan) -> Results:
    """All finished runs of a plan, from its store."""
    lines: list[dict[str, object]] = []
    specs: dict[str, list[RunSpec]] = {}
    failed: dict[str, list[tuple[FailedRun, str]]] = {}
    ids: dict[RunSpec, str] = {}
    for contender in plan.contenders:
        done: list[RunSpec] = []
        made: list[dict[str, object]] = []
        for seed in range(plan.looks[-1]):
            of_seed = plan.specs(contender, [seed])
            records = [plan.context.record(spec) for spec in of_seed]
            whole = [record for record in records if record is not None]
            if len(whole) < len(of_seed):
                lost = _failures(plan, contender, of_seed, records)
                if lost:
                    failed[contender.name] = lost
                break
            done += of_seed
            ids |= {spec: record.id for spec, record in zip(of_seed, whole, strict=True)}
            made += _lines(plan, contender.name, seed, whole)
        if contender.name not in failed:
            specs[contender.name] = done
            lines += made
    seeds = sorted({int(str(line["seed"])) for line in lines})
    lines += [line for seed in seeds for line in _majority(plan, seed)]
    frame = pd.DataFrame(lines, columns=["contender", "condition", "seed", "value"])
    why = {name: runs[0][0].what for name, runs in failed.items()}
    return Results(plan, frame, specs, why, failed, ids)


def _failures(
    plan: Plan, contender: Contender, specs: Sequence[RunSpec], records: Sequence[Record | None]
) -> list[tuple[FailedRun, str]]:
    """The runs of a contender that failed, with their error texts; empty where those not done were not tried."""
    lost = []
    for spec, record in zip(specs, records, strict=True):
        failure = None if record is not None else failures.of_run(plan.context, spec)
        if failure is not None:
            row, training = contender.row.name, contender.training
            run = failures.named(plan.context.store, spec, failure, row, training)
            lost.append((run, failure.error))
    return lost


def _lines(
    plan: Plan, contender: str, seed: int, records: Sequence[Record]
) -> list[dict[str, object]]:
    """A contender's values with one seed, folds averaged."""
    metric = metric_of(plan.bundle.task)
    return [
        {
            "contender": contender,
            "condition": condition,
            "seed": seed,
            "value": float(
                np.mean([r["selected"]["valid"]["metrics"][condition][metric] for r in records])
            ),
        }
        for condition, _ in plan.tests
    ]


def _majority(plan: Plan, seed: int) -> list[dict[str, object]]:
    """What always giving training's most frequent answer reaches on the utterances of each condition."""
    metric = metric_of(plan.bundle.task)
    lines = []
    for condition, law in plan.tests:
        values = []
        for fold in plan.context.folds(plan.ground.dataset):
            bundle = plan.bundle if fold is None else plan.bundle.with_fold(fold)
            mask = draw(law, bundle, "test", seed)
            labels = mask.of(bundle.labels[bundle.rows("test")])
            outputs = np.repeat(constant(bundle)[None], len(labels), axis=0)
            values.append(all_metrics(bundle.task, outputs, labels)[metric])
        line = {"contender": MAJORITY, "condition": condition, "seed": seed}
        lines.append({**line, "value": float(np.mean(values))})
    return lines


def constant(bundle: Bundle) -> np.ndarray:
    """(C,) outputs that give training's most frequent class, each label's more frequent value, or the median score."""
    labels = bundle.labels[bundle.rows("train")]
    if bundle.task.kind == "score":
        return np.array([np.median(labels)])
    if bundle.task.kind == "classes":
        return np.bincount(labels, minlength=bundle.task.outputs).astype(float)
    positive = labels.mean(axis=0)
    return np.stack([1 - positive, positive], axis=1).ravel()


def over_clusters(
    results: Results, question: Question, first: str, second: str
) -> tuple[str, stats.Interval] | None:
    """The difference of two contenders with an interval over other dialogues, speakers or utterances like the test's.

    In accuracy (points), or in minus the absolute error, averaged over the seeds that both have and the question's
    conditions; folds follow each other. None for the majority, which has no predictions, or without both.
    """
    pair = [results.specs.get(name, []) for name in (first, second)]
    count = min(map(len, pair))
    if not count:
        return None
    folds = results.plan.context.folds(results.plan.ground.dataset)
    groups: list[np.ndarray] = []
    scores: list[list[np.ndarray]] = [[], []]
    kind = ""
    for place, fold in enumerate(folds):
        bundle = results.plan.bundle if fold is None else results.plan.bundle.with_fold(fold)
        grouped = clusters.of_test(bundle)
        kind = grouped.kind
        groups.append(np.array([f"{place}.{number}" for number in grouped.numbers]))
        for which, specs in enumerate(pair):
            of_fold = specs[:count][place :: len(folds)]
            scores[which].append(_mean_score(results, bundle, of_fold, question))
    a, b = (np.concatenate(parts) for parts in scores)
    there = np.isfinite(a) & np.isfinite(b)
    if not there.any():
        return None
    return kind, stats.cluster_bootstrap(a[there], b[there], np.concatenate(groups)[there])


def _mean_score(
    results: Results, bundle: Bundle, specs: Sequence[RunSpec], question: Question
) -> np.ndarray:
    """(n_test,) mean score of each utterance over runs and conditions; NaN where it plays no part in any."""
    labels = bundle.labels[bundle.rows("test")]
    store = results.plan.context.store
    total = np.zeros(len(labels))
    times = np.zeros(len(labels))
    for spec, (condition, _) in itertools.product(specs, question.tests):
        arrays = store.arrays(results.run_id(spec))
        values = score(bundle.task, arrays[f"predictions.valid.{condition}"], labels)
        known = np.isfinite(values)
        total[known] += values[known]
        times += known
    with np.errstate(invalid="ignore"):
        return np.asarray(total / times)


def score(task: Task, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) 100 where an answer is right, else 0; minus the error of scores without a sign; NaN without an answer."""
    known = np.isfinite(outputs).all(axis=1)
    values = np.full(len(labels), np.nan)
    if task.kind == "score" and not task.signed:
        values[known] = -np.abs(outputs[known, 0] - labels[known])
        return values
    if task.kind == "score":
        known &= labels != 0
    truth, guess = decisions(task, outputs[known], labels[known])
    right = 100.0 * (truth == guess)
    if task.kind == "binaries":
        right = right.reshape(int(known.sum()), -1).mean(axis=1)
    values[known] = right
    return values
