"""Seeds are spent on primary claims until each is decided, and no longer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmlib.errors import InputError
from mmlib.experiments.claims import Claim, Source, rows_read
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Lead, Mean
from mmlib.papers import catalog
from mmlib.pipeline import decide as module
from mmlib.report import looks
from mmlib.report.stats import Comparison
from mmlib.runs.spec import RunSpec

# By claim, what each seed measures: an effect, none, and one that no number of seeds decides.
NOISE = np.tile([-1.0, -0.5, 0.0, 0.5, 1.0], 16)
VALUES = {
    "effect": 1.5 + 0.5 * NOISE,
    "null": 0.5 * NOISE,
    "open": 0.4 + 4 * NOISE,
}


class Made:
    """Claims about runs that exist in name only: a run is its claim and seed."""

    def __init__(self) -> None:
        self.done: set[RunSpec] = set()
        self.asked: list[int] = []

    def spec(self, name: str, seed: int) -> RunSpec:
        return RunSpec(f"twin:{name}", seed)

    def primary(self, context: Context, seeds: int = 80) -> list[Claim]:
        def cells(name: str) -> list[Cell]:
            every = [self.spec(name, seed) for seed in range(seeds)]
            return [Cell("ours", "a", spec, "same", context.main) for spec in every]

        return [
            Claim(name, "1", name, Source(context.main, cells(name), lambda *_: None), len)
            for name in VALUES
        ]

    def standing(self, context: Context) -> list[Comparison | None]:
        seen = {
            name: sum(self.spec(name, seed) in self.done for seed in range(80)) for name in VALUES
        }
        values = [values[: seen[name]] for name, values in VALUES.items()]
        return looks.primary(values, [1.0] * len(values))

    def sweep(self, specs: Sequence[RunSpec], *_: Any, **named: Any) -> Any:
        self.asked.append(len(specs))
        self.done |= set(specs)
        return SimpleNamespace(failed=0, left=0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    fake = Made()
    monkeypatch.setitem(module.CLAIMS, "balm", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "sweep", fake.sweep)
    monkeypatch.setattr(module, "estimate", lambda *_, **__: "runs")
    monkeypatch.setattr(module.job, "report", lambda *_: 0)
    monkeypatch.setattr(Context, "record", lambda self, spec: True if spec in fake.done else None)
    return fake


@pytest.fixture
def context() -> Context:
    return catalog.PAPERS["balm"].context("smoke")


def test_a_claim_gets_no_more_seeds_once_it_is_decided(
    made: Made, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.decide([context], jobs=1) == 0
    # Three claims of ten seeds each; then the one that is open, to 20, 40 and 80.
    assert made.asked == [10, 10, 10, 10, 20, 40]
    last = capsys.readouterr().out.strip().splitlines()[-3:]
    assert [line.split()[-1] for line in last] == ["supported", "matters", "undecided"]
    assert [line.split("effect")[0] != line for line in last] == [True, False, False]


def test_a_second_call_makes_nothing(made: Made, context: Context) -> None:
    module.decide([context], jobs=1)
    made.asked.clear()
    assert module.decide([context], jobs=1) == 0 and made.asked == []


def test_it_goes_on_where_it_was_stopped(made: Made, context: Context) -> None:
    made.done |= {made.spec("open", seed) for seed in range(15)}
    made.done |= {made.spec("effect", seed) for seed in range(4)}
    module.decide([context], jobs=1)
    assert made.asked[:2] == [6, 10]  # what lacks fewest runs comes first
    assert made.asked[2:] == [5, 20, 40]


def test_out_of_time_it_stops_and_says_so(made: Made, context: Context) -> None:
    assert module.decide([context], jobs=1, minutes=0.0) == 1 and made.asked == []


def test_a_paper_without_claims_is_refused() -> None:
    with pytest.raises(InputError, match="without claims"):
        module.decide([catalog.PAPERS["side_by_side"].context("smoke")], jobs=1)


@pytest.mark.parametrize(
    ("measure", "rows"),
    [
        (Lead("a", "b"), {"a", "b"}),
        (Mean([Lead("a", "b"), Lead("a", "c", "x")]), {"a", "b", "c"}),
        (BestLead("a", ["b", "c"]), {"a", "b", "c"}),
        (len, None),
    ],
)
def test_only_the_rows_that_a_measure_reads_are_run(
    measure: Callable[..., Any], rows: set[str] | None
) -> None:
    assert rows_read(measure) == rows
    spec = RunSpec("twin:x", 0)
    cells = [Cell(row, "s", spec, "same", "d") for row in "abcd"]
    claim = Claim("", "", "", Source("d", cells, lambda *_: None), measure)
    assert {cell.row for cell in claim.cells()} == (rows or set("abcd"))


def test_primary_claims_are_measured_on_further_seeds_up_to_those_of_the_last_look() -> None:
    context = catalog.PAPERS["gmm_loss"].context("smoke")
    claims = catalog.CLAIMS["gmm_loss"]
    wide = claims.primary(context)
    narrow = [claim for claim in claims.declared(context) if claim.primary]
    assert [claim.test for claim in wide] == [claim.test for claim in narrow]
    for few, many in zip(narrow, wide, strict=True):
        seeds = {cell.spec.seed for cell in many.cells()}
        assert seeds == set(range(80)) > {cell.spec.seed for cell in few.cells()}
        assert {dataclasses.replace(c.spec, seed=0) for c in few.cells() if not c.spec.parent} <= {
            dataclasses.replace(c.spec, seed=0) for c in many.cells()
        }
