"""How long runs will take, as a range: shipped costs, corrected by the runs that have ended on this machine.

The seconds of a run are modelled as

    epochs · (TESTS + test masks) ** slope · machine · data · (method and backbone) · (the two together) · noise

in logarithms a linear model, with normal priors around the costs in ``costs.csv`` (made by ``docs/costs.py`` from a
store) and updated in closed form by each run that ends: Bayesian linear regression with known noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

FILE = Path(__file__).with_name("costs.csv")
TESTS = 4  # what training costs, in test masks
NOTEBOOKS = "notebooks"  # what stands for the data of notebooks
PILOTS = 3
QUANTILES = (0.1, 0.9)
DRAWS = 400
# Standard deviations of logarithms: the noise of one run, and what is not known beforehand.
NOISE, FIRST_NOISE, TOGETHER = 0.2, 0.6, 0.25
MACHINE, KNOWN_DATA, OTHER_DATA, KNOWN_KIND, OTHER_KIND, SLOPE = 0.7, 0.25, 1.2, 0.3, 0.8, 0.1
START = {True: 6.0, False: 3.0}  # seconds of imports, in a worker or in the command's own process
START_NOISE = 0.3  # of their logarithm

Run = Mapping[str, Any]
"""A specification as JSON."""

Kind = tuple[str, str, int]
"""Data, method with backbone, and how many test masks."""

Name = tuple[str, str]
"""Of a coefficient: what it is of, and of which."""


@dataclass(frozen=True)
class Range:
    """Seconds that runs take: eight of ten estimates hold the truth."""

    low: float
    """Few."""

    high: float
    """Many."""

    def __add__(self, after: Range) -> Range:
        """What takes this time and then another; the ends add up, since what makes a machine slow makes all slow."""
        return Range(self.low + after.low, self.high + after.high)

    def __str__(self) -> str:
        unit, size = _unit(self.high)
        low, high = (_rounded(value / size) for value in (self.low, self.high))
        return f"about {high} {unit}" if low == high else f"{low} to {high} {unit}"


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 90:
        return "s", 1.0
    return ("minutes", 60.0) if seconds < 90 * 60 else ("hours", 3600.0)


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


@cache
def shipped() -> Mapping[str, Mapping[str, float]]:
    """By ``what`` (data, kind, slope) and name the logarithms of the costs in ``costs.csv``."""
    table = pd.read_csv(FILE)
    parts = table.groupby("what")
    return {str(what): dict(zip(part["name"], part["log"], strict=True)) for what, part in parts}


@dataclass
class Forecast:
    """What remains of some runs, as far as the ended ones tell."""

    jobs: int
    """Runs at a time."""

    ended: list[tuple[Run, float]] = field(default_factory=list)
    """Runs that have ended, with their seconds."""

    first: list[tuple[Run, float]] = field(default_factory=list)
    """The first of each process, which also opens the data and imports what it needs: they tell less, and nothing of
    kinds of which others have ended."""

    def learn(self, spec: Run, seconds: float | None, first: bool = False) -> None:
        """Take in a run that has ended; nothing where its seconds are not known. first: of its worker."""
        if seconds:
            (self.first if first else self.ended).append((spec, seconds))

    starts: list[float] = field(default_factory=list)
    """Seconds until processes like those that will make the runs could begin."""

    def start(self) -> Range:
        """The time until the first run begins: from the starts that were seen, around what is usual."""
        usual, known = math.log(START[self.jobs > 1]), np.log(np.maximum(self.starts, 1e-3))
        precision = MACHINE**-2 + len(known) * START_NOISE**-2
        mean = (usual * MACHINE**-2 + known.sum() * START_NOISE**-2) / precision
        deviation = math.sqrt(1 / precision + START_NOISE**2)
        low, high = (math.exp(mean + deviation * NormalDist().inv_cdf(q)) for q in QUANTILES)
        return Range(low, high)

    @property
    def seen(self) -> list[tuple[Run, float]]:
        """The runs that tell of times, those that tell less at the end."""
        known = {_kind(spec) for spec, _ in self.ended}
        return [*self.ended, *(run for run in self.first if _kind(run[0]) not in known)]

    def left(self, specs: Iterable[Run]) -> Range:
        """The time until these runs have ended, from when a worker is ready."""
        groups = Counter((*_kind(spec), _epochs(spec)) for spec in specs)
        if not groups:
            return Range(0.0, 0.0)
        kinds = list(groups)
        counts = np.array([groups[kind] for kind in kinds], dtype=float)
        epochs = np.array([kind[-1] for kind in kinds], dtype=float)
        draws = np.exp(self.draws([kind[:-1] for kind in kinds])) * epochs  # (draws, kinds)
        total = np.maximum(draws @ counts / self.jobs, draws.max(axis=1))
        low, high = np.quantile(total, QUANTILES)
        return Range(float(low), float(high))

    def draws(self, kinds: Sequence[Kind]) -> np.ndarray:
        """(draws, kinds) of the logarithm of the mean seconds an epoch, from the posterior."""
        names = _all_names([*kinds, *(_kind(spec) for spec, _ in self.seen)])
        mean, covariance = self._posterior(names)
        root = np.linalg.cholesky(covariance)
        normal = np.random.default_rng(0).standard_normal((DRAWS, len(names)))
        coefficients = mean + normal @ root.T
        return np.asarray(coefficients @ _design(kinds, names).T + NOISE**2 / 2)

    def _posterior(self, names: Sequence[Name]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the coefficients, given the runs that have ended."""
        prior = [_prior(name) for name in names]
        mean = np.array([middle for middle, _ in prior])
        precision = np.diag([deviation**-2.0 for _, deviation in prior])
        if not self.seen:
            return mean, np.linalg.inv(precision)
        design = _design([_kind(spec) for spec, _ in self.seen], names)
        logs = np.array([math.log(seconds / _epochs(spec)) for spec, seconds in self.seen])
        noise = np.full(len(logs), FIRST_NOISE)
        noise[: len(self.ended)] = NOISE
        weighted = design.T / noise**2
        covariance = np.linalg.inv(precision + weighted @ design)
        return mean + covariance @ weighted @ (logs - design @ mean), covariance


def notebook(paper: str, share: float = 1.0) -> Run:
    """What stands for the execution of a paper's notebook among the runs that are timed.

    share: of its tables and figures, where they are drawn without it.
    """
    return {
        "data": NOTEBOOKS,
        "method": "notebook",
        "backbone": paper,
        "eval_masks": (),
        "training": {"epochs": share},
        "parent": None,
    }


def pilots(specs: Sequence[Run], forecast: Forecast) -> list[int]:
    """The places of the runs to time first: of the dearest kinds one each, until three kinds are known.

    Runs without a parent are preferred, since they can start at once.
    """
    first: dict[Kind, int] = {}
    count = Counter[Kind]()
    for place, spec in enumerate(specs):
        count[_kind(spec)] += 1
        held = first.get(_kind(spec))
        if held is None or (specs[held]["parent"] and not spec["parent"]):
            first[_kind(spec)] = place
    kinds = list(first)
    if not kinds:
        return []
    each = np.exp(forecast.draws(kinds)).mean(axis=0)
    epochs = np.array([_epochs(specs[first[kind]]) for kind in kinds])
    dear = each * epochs * np.array([count[kind] for kind in kinds])
    ended = {_kind(spec) for spec, _ in forecast.seen}.intersection(kinds)
    dearest = [kinds[place] for place in np.argsort(-dear, kind="stable")]
    lacking = max(0, PILOTS - len(ended))
    return [first[kind] for kind in dearest if kind not in ended][:lacking]


def fitted(runs: Sequence[tuple[Run, float]]) -> pd.DataFrame:
    """The costs that fit runs and their seconds best, by least squares: what ``costs.csv`` holds.

    Columns what, name, log, runs. The data's costs have mean zero within their table.
    """
    kinds = [_kind(spec) for spec, _ in runs]
    logs = np.array([math.log(seconds / _epochs(spec)) for spec, seconds in runs])
    counts = Counter(name for kind in kinds for name in _names(kind) if name[0] in ("data", "kind"))
    names = [*sorted(counts), ("slope", "test masks")]
    design = _design(kinds, names)
    solution = np.linalg.lstsq(design, logs, rcond=None)[0]
    table = pd.DataFrame(names, columns=["what", "name"])
    table["log"] = solution
    table["runs"] = [counts.get(name, len(runs)) for name in names]
    level = table.loc[table["what"] == "data", "log"].mean()
    table.loc[table["what"] == "data", "log"] -= level
    table.loc[table["what"] == "kind", "log"] += level
    return table.round({"log": 3})


def _kind(spec: Run) -> Kind:
    return spec["data"], f"{spec['method']} {spec['backbone']}", len(spec["eval_masks"])


def _epochs(spec: Run) -> float:
    return float(spec["training"]["epochs"])


def _names(kind: Kind) -> tuple[Name, ...]:
    data, network, tests = kind
    together = f"{data} {network} {tests}"
    return (
        ("machine", ""),
        ("data", data),
        ("kind", network),
        ("together", together),
        ("slope", "test masks"),
    )


def _all_names(kinds: Iterable[Kind]) -> list[Name]:
    """The coefficients that some kinds have, each once."""
    return list(dict.fromkeys(name for kind in kinds for name in _names(kind)))


def _design(kinds: Sequence[Kind], names: Sequence[Name]) -> np.ndarray:
    """(kinds, coefficients): one for what a kind has, and the logarithm of its test masks for the slope."""
    place = {name: column for column, name in enumerate(names)}
    design = np.zeros((len(kinds), len(names)))
    for row, kind in enumerate(kinds):
        for name in _names(kind):
            value = math.log(TESTS + kind[-1]) if name[0] == "slope" else 1.0
            if name in place:  # a fit leaves some out
                design[row, place[name]] = value
    return design


def _prior(name: Name) -> tuple[float, float]:
    """Mean and standard deviation of a coefficient."""
    costs = shipped()
    if name[0] == "machine":
        return 0.0, MACHINE
    if name[0] == "together":
        return 0.0, TOGETHER
    if name[0] == "slope":
        return costs["slope"]["test masks"], SLOPE
    known, other = {"data": (KNOWN_DATA, OTHER_DATA), "kind": (KNOWN_KIND, OTHER_KIND)}[name[0]]
    if name[1] in costs[name[0]]:
        return costs[name[0]][name[1]], known
    of_runs = [log for known_name, log in costs[name[0]].items() if not _of_notebook(known_name)]
    return float(np.mean(of_runs)), other


def _of_notebook(name: str) -> bool:
    return name == NOTEBOOKS or name.startswith("notebook ")
