"""What the finished runs of a comparison say: values by contender, condition and seed, and how questions stand."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from mmlib.compare.plan import MAJORITY, Contender, Plan, Question
from mmlib.compare.race import Standing, standing
from mmlib.data.bundle import Bundle, Task
from mmlib.data.groups import few_in_words, few_tested
from mmlib.experiments import failures
from mmlib.masks import draw
from mmlib.metrics import SELECTION_METRIC, all_metrics, decisions, has_decisions
from mmlib.report import stats
from mmlib.report.artifact import FailedRun
from mmlib.runs import clusters
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Failure, Record

DIVERGED = "diverged"  # the kind of failure that every further try would repeat


@dataclass(frozen=True)
class Results:
    """The finished runs of a comparison."""

    plan: Plan
    """What was to be run."""

    values: pd.DataFrame
    """Columns contender, condition, seed, value in the metric's unit; folds averaged. The majority's are among them."""

    specs: Mapping[str, list[RunSpec]]
    """By contender, the runs of its finished seeds, in the order of seeds and folds."""

    failed: Mapping[str, str]
    """By contender, why its first failed run failed; it takes no part, and its finished seeds are shown."""

    failures: Mapping[str, Sequence[tuple[FailedRun, str]]] = field(default_factory=dict)
    """By contender, its failed runs by seed, each with its error text; of contenders that go on, too."""

    ids: Mapping[RunSpec, str] = field(default_factory=dict)
    """The ids of the finished runs' records, which an older version of the code may have made."""

    again: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """By contender, the seeds that lack since a run is damaged or failed in an earlier call; they are made again."""

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
        names = [c.name for c in self.plan.contenders]
        table = table.sort_index().reindex(columns=[*names, MAJORITY])
        return -table if self.metric == "mae" else table

    @cached_property
    def field(self) -> list[str]:
        """The names of the contenders that have the first look's seeds, without those that failed."""
        look = self.plan.looks[0]
        return [n for n in self.specs if n not in self.failed and not self.lacking(n, look)]

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
        """Whether each question has one contender left, nobody waits, and nothing is to be made again."""
        left = self.waiting or any(self.again.values())
        return not left and all(len(s.open) == 1 for s in self.standings.values())

    def may_be_best(self, question: str, contender: str) -> bool:
        """Whether a contender has the first look's seeds and is still in."""
        return contender in self.field and contender in self.standings[question].open

    def run_id(self, spec: RunSpec) -> str:
        """Under which a run's record stands."""
        return self.ids.get(spec) or spec.run_id(self.plan.bundle.fingerprint)

    @cached_property
    def few(self) -> dict[str, int]:
        """How many dialogues and speakers the test split has, where they are too few to say anything of others."""
        return few_tested(self.plan.bundle)

    @property
    def kind(self) -> str:
        """Of what others the intervals over clusters are: dialogues, speakers, or utterances, of whom if of few."""
        if self.few:
            return f"utterances of the same {few_in_words(self.few).removeprefix('1 ')}"
        bundle = self.plan.bundle
        return clusters.of_test(bundle if bundle.fold is None else bundle.with_fold(0)).kind

    @cached_property
    def stale(self) -> int:
        """How many of the runs were made by an older version of the code."""
        fingerprint = self.plan.bundle.fingerprint
        return sum(spec.run_id(fingerprint) != made for spec, made in self.ids.items())

    def seeds(self, contender: str) -> int:
        """How many seeds a contender has."""
        return len(self._seeds.get(contender, ()))

    def lacking(self, contender: str, look: int) -> list[int]:
        """The seeds that a contender lacks of the first so many."""
        have = self._seeds.get(contender, frozenset())
        return [seed for seed in range(look) if seed not in have]

    @cached_property
    def _seeds(self) -> dict[str, frozenset[int]]:
        """The seeds of each that has some."""
        seeds = self.values.groupby("contender")["seed"]
        return {str(name): frozenset(map(int, of)) for name, of in seeds}


def metric_of(task: Task) -> str:
    """The metric that data are compared in."""
    return SELECTION_METRIC if has_decisions(task) else "mae"


@dataclass(frozen=True)
class _Seed:
    """What a store has of one seed of a contender."""

    number: int
    """The seed."""

    specs: Sequence[RunSpec]
    """Its runs, one for each fold."""

    records: Sequence[Record]
    """Of those that are finished."""

    lost: Sequence[tuple[RunSpec, Failure]]
    """Those that failed or are damaged."""

    @property
    def whole(self) -> bool:
        """Whether every run is finished."""
        return len(self.records) == len(self.specs)

    @property
    def done(self) -> list[tuple[RunSpec, Record]]:
        """The runs with their records, of a whole seed."""
        return list(zip(self.specs, self.records, strict=True))

    @property
    def failed(self) -> list[tuple[RunSpec, Failure]]:
        """Those that failed."""
        return [(spec, why) for spec, why in self.lost if why.kind != failures.DAMAGED]


def read(plan: Plan, tried: Collection[str] | None = None) -> Results:
    """All finished runs of a plan, from its store.

    tried: the ids of the runs that failed in this call. A run that failed before is to be made again, but for one that
    diverged, which would diverge again. None: nothing will be tried again, and whoever has a failed run takes no part.
    """
    seeds = {c.name: _seeds_of(plan, c) for c in plan.contenders}
    whole = {name: [seed for seed in of if seed.whole] for name, of in seeds.items()}
    lines = [x for name, of in whole.items() for seed in of for x in _lines(plan, name, seed)]
    last = max((seed.number for of in whole.values() for seed in of), default=-1)
    lines += [line for seed in range(last + 1) for line in _majority(plan, seed)]
    lost = {name: [pair for seed in of for pair in seed.failed] for name, of in seeds.items()}
    failed = {name: why for name, runs in lost.items() if (why := _why_out(runs, tried))}
    return Results(
        plan,
        pd.DataFrame(lines, columns=["contender", "condition", "seed", "value"]),
        {name: [spec for seed in of for spec in seed.specs] for name, of in whole.items()},
        failed,
        {c.name: _named(plan, c, lost[c.name]) for c in plan.contenders if lost[c.name]},
        {spec: run.id for of in whole.values() for seed in of for spec, run in seed.done},
        {name: _again(of, name in failed) for name, of in seeds.items()},
    )


def _seeds_of(plan: Plan, contender: Contender) -> list[_Seed]:
    """The seeds of a contender, look by look, up to a look of which nothing was ever begun."""
    seeds: list[_Seed] = []
    for start, stop in itertools.pairwise((0, *plan.looks)):
        of_look = [_seed(plan, contender, number) for number in range(start, stop)]
        if not any(seed.records or seed.lost for seed in of_look):
            break
        seeds += of_look
    return seeds


def _seed(plan: Plan, contender: Contender, number: int) -> _Seed:
    """What the store has of one seed."""
    specs = plan.specs(contender, [number])
    records = {spec: plan.context.record(spec) for spec in specs}
    lost = {s: failures.of_run(plan.context, s) for s, record in records.items() if record is None}
    return _Seed(
        number,
        specs,
        [record for record in records.values() if record is not None],
        [(spec, why) for spec, why in lost.items() if why is not None],
    )


def _why_out(
    failed: Sequence[tuple[RunSpec, Failure]], tried: Collection[str] | None
) -> str | None:
    """Why a contender takes no part: what its first failed run that is not tried again says; None without such."""
    for _, why in failed:
        if tried is None or why.id in tried or why.kind == DIVERGED:
            return failures.what(why.kind)
    return None


def _again(seeds: Sequence[_Seed], out: bool) -> list[int]:
    """The seeds that lack for a damaged run, or for a failed one of a contender that is not out for it."""
    return [
        seed.number
        for seed in seeds
        if len(seed.failed) < len(seed.lost) or (seed.failed and not out)
    ]


def _named(
    plan: Plan, contender: Contender, failed: Sequence[tuple[RunSpec, Failure]]
) -> list[tuple[FailedRun, str]]:
    """The failed runs of a contender under its name, with their error texts."""
    store, row, training = plan.context.store, contender.row.name, contender.training
    return [(failures.named(store, spec, why, row, training), why.error) for spec, why in failed]


def _lines(plan: Plan, contender: str, seed: _Seed) -> list[dict[str, object]]:
    """A contender's values with one finished seed, folds averaged."""
    metric = metric_of(plan.bundle.task)
    return [
        {
            "contender": contender,
            "condition": condition,
            "seed": seed.number,
            "value": float(
                np.mean(
                    [r["selected"]["valid"]["metrics"][condition][metric] for r in seed.records]
                )
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
    """The difference of two contenders with an interval over others like the test's, and of what kind these are.

    In accuracy (points), or in minus the absolute error, averaged over the seeds that both have and the question's
    conditions; folds follow each other. None for the majority, which has no predictions, or without both.
    """
    pair = _paired(results, first, second)
    if not pair[0]:
        return None
    folds = results.plan.context.folds(results.plan.ground.dataset)
    groups: list[np.ndarray] = []
    scores: list[list[np.ndarray]] = [[], []]
    for place, fold in enumerate(folds):
        bundle = results.plan.bundle if fold is None else results.plan.bundle.with_fold(fold)
        numbers = clusters.of_test(bundle).numbers
        groups.append(np.array([f"{place}.{number}" for number in numbers]))
        for which, specs in enumerate(pair):
            of_fold = specs[place :: len(folds)]
            scores[which].append(_mean_score(results, bundle, of_fold, question))
    a, b = (np.concatenate(parts) for parts in scores)
    there = np.isfinite(a) & np.isfinite(b)
    if not there.any():
        return None
    interval = stats.cluster_bootstrap(a[there], b[there], np.concatenate(groups)[there])
    return results.kind, interval


def _paired(results: Results, first: str, second: str) -> list[list[RunSpec]]:
    """The runs of two contenders with the seeds that both have."""
    runs = [results.specs.get(name, []) for name in (first, second)]
    both = set.intersection(*({spec.seed for spec in of} for of in runs))
    return [[spec for spec in of if spec.seed in both] for of in runs]


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
