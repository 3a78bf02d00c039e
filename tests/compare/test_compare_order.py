"""Which seeds a comparison makes when minutes are few: the cheapest first, nothing lost, the best go on."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmlib.compare import command, order, results
from mmlib.compare.plan import Contender, Plan, planned
from mmlib.compare.results import Results
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store
from mmlib.runs.timing import Range

TWIN = "twin:iemocap6@smoke"
# Job-seconds of a seed by the shipped costs, on 600 rows with four modalities at quick.
COSTS = {
    "linear model": 0.7,
    "concatenation": 1.4,
    "CorrKD's network": 2.9,
    "MCULoRA's network": 7.1,
    "MCULoRA": 7.1,
    "EBMC's network": 10.6,
    "DREAM's network": 11.4,
    "MMGCN": 15.6,
    "MM-DFN": 20.2,
    "EBMC": 21.0,
    "DREAM": 22.2,
    "BALM on MMGCN": 24.6,
    "GCNet": 36.4,
}
LEADER = "GCNet, complete"  # the dearest, and by far the best


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    store = Store(tmp_path_factory.mktemp("runs"))
    context = side_by_side.context("smoke", {"iemocap6": TWIN}, store=store)
    return planned(context, Ground("iemocap"))


def cost_of(plan: Plan) -> dict[str, float]:
    return {c.name: COSTS[c.row.name] for c in plan.contenders}


def known(plan: Plan, seeds: dict[str, int]) -> Results:
    """Results in which each contender has so many seeds; the leader is ahead of all, the others by chance."""
    chance = np.random.default_rng(0)
    level = {c.name: 50 + 20 * (c.name == LEADER) + chance.normal() for c in plan.contenders}
    noise = {name: chance.normal(size=plan.looks[-1]) for name in level}
    lines = [
        {"contender": n, "condition": q, "seed": s, "value": level[n] + noise[n][s]}
        for n, count in seeds.items()
        for q, _ in plan.tests
        for s in range(count)
    ]
    most = range(max(seeds.values(), default=0))
    lines += [
        {"contender": results.MAJORITY, "condition": q, "seed": s, "value": 3.0}
        for q, _ in plan.tests
        for s in most
    ]
    frame = pd.DataFrame(lines, columns=["contender", "condition", "seed", "value"])
    specs = {c.name: plan.specs(c, range(seeds.get(c.name, 0))) for c in plan.contenders}
    return Results(plan, frame, specs, {})


def names(plan: Plan, specs: Iterable[RunSpec]) -> list[tuple[str, int]]:
    """Contender and seed of the runs, without the stages that they start from."""
    specs = list(specs)
    parents = {s.parent for s in specs}
    found = {
        spec: (c.name, seed)
        for c in plan.contenders
        for seed in range(plan.looks[0])
        for spec in plan.specs(c, [seed])
    }
    return [found[s] for s in specs if s not in parents and s in found]


def test_first_seeds_are_made_the_cheapest_first_and_as_many_as_fit(plan: Plan) -> None:
    costs, made = cost_of(plan), known(plan, {})
    first = names(plan, order.first_seeds(made, costs, 1e6))
    assert [costs[name] for name, _ in first] == sorted(costs.values())
    assert first[0][0].startswith("linear") and first[-1][0].startswith("GCNet")
    few = names(plan, order.first_seeds(made, costs, 10.0))
    spent = sum(costs[name] for name, _ in few)
    assert spent <= 10.0 < spent + costs[first[len(few)][0]]
    assert not order.first_seeds(made, costs, 0.1)
    assert len(names(plan, order.first_seeds(made, costs, 0.1, least=1))) == 1


def test_first_look_is_for_the_linear_model_and_those_with_the_best_first_seeds_that_fit(
    plan: Plan,
) -> None:
    costs, made = cost_of(plan), known(plan, dict.fromkeys(cost_of(plan), 1))
    linear = {c.name for c in plan.contenders if c.row.name == "linear model"}
    assert {c.name for c in order.affordable(made, costs, 0.0)} == linear
    assert {c.name for c in order.affordable(made, costs, 1e6)} == {*costs}
    means = {q.name: made.of(q).iloc[0].drop(results.MAJORITY) for q in plan.questions}
    by_rank = pd.DataFrame(means).rank(ascending=False).mean(axis=1).sort_values()
    better = [name for name in by_rank.index if name not in linear][:12]
    left = 500.0
    kept = [c.name for c in order.affordable(made, costs, left)]
    assert 4 * sum(costs[name] for name in kept) <= left
    assert LEADER in kept and min(better, key=lambda name: costs[name]) in kept
    made_runs = names(plan, order.first_look(made, costs, left))
    assert [s for c, s in made_runs if c == LEADER] == [1, 2, 3, 4]
    in_turn = list(dict.fromkeys(c for c, _ in made_runs))
    assert [costs[c] for c in in_turn] == sorted(costs[c] for c in in_turn)
    assert [c for c, _ in made_runs] == [c for c in in_turn for _ in range(4)], "whole contenders"


def test_a_leader_that_is_too_dear_for_the_first_look_gets_the_seeds_that_fit(plan: Plan) -> None:
    costs = cost_of(plan)
    have = {name: 5 if cost < 3 else 1 for name, cost in costs.items()}
    runs = names(plan, order.further_seeds(known(plan, have), costs, 2.5 * costs[LEADER]))
    assert runs[:2] == [(LEADER, 1), (LEADER, 2)]
    assert sum(costs[name] for name, _ in runs) <= 2.5 * costs[LEADER]


def test_further_looks_are_for_those_that_may_be_the_best(plan: Plan) -> None:
    costs = cost_of(plan)
    everyone = known(plan, dict.fromkeys(costs, 5))
    assert all(s.open == (LEADER,) for s in everyone.standings.values())
    assert everyone.decided and not order.next_look(everyone, costs, 1e6)
    close = known(plan, {name: 5 for name in costs if name != LEADER})
    still = {c.name for c in close.still_in}
    assert 1 < len(still) and not close.decided, "the leader waits, so nothing is decided"
    wanted = {s.seed for s in order.next_look(close, costs, 1e6)}
    assert wanted == {5, 6, 7, 8, 9}


def test_who_waits_counts_as_a_rival_and_has_no_star(plan: Plan) -> None:
    some = [n for n in cost_of(plan) if n != LEADER]
    made = known(plan, {**dict.fromkeys(some, 5), LEADER: 1})
    assert [c.name for c in made.waiting] == [LEADER]
    for question, standing in made.standings.items():
        assert LEADER not in standing.open and LEADER not in standing.out
        assert not made.may_be_best(question, LEADER)


class Machine:
    """Two workers that take exactly the costs, on a clock of their own; time ends a sweep between two runs."""

    def __init__(self, plan: Plan, slower: float) -> None:
        self.plan, self.clock, self.slower = plan, 0.0, slower
        self.done: set[RunSpec] = set()
        self.by_spec = {
            spec: (contender, len(self.line(spec)))
            for contender in plan.contenders
            for last in plan.specs(contender, range(plan.looks[-1]))
            for spec in self.line(last)
        }

    @staticmethod
    def line(spec: RunSpec) -> list[RunSpec]:
        return [spec] if spec.parent is None else [*Machine.line(spec.parent), spec]

    def seconds(self, spec: RunSpec) -> float:
        contender, _ = self.by_spec[spec]
        stages = len(self.line(self.plan.specs(contender, [spec.seed])[0]))
        return self.slower * COSTS[contender.row.name] / stages

    def sweep(self, wanted: list[RunSpec], store: Store, **given: object) -> SimpleNamespace:
        assert given["in_order"]
        end = math.inf if given["max_minutes"] is None else self.clock + 60 * given["max_minutes"]
        left = [s for s in wanted if s not in self.done]
        while left and self.clock < end:
            spec = left.pop(0)
            self.clock += self.seconds(spec) / 2
            self.done.add(spec)
        return SimpleNamespace(left=len(left), errors=())

    def read(self, plan: Plan, tried: object = None) -> Results:
        return known(plan, {c.name: self.seeds(c) for c in plan.contenders})

    def seeds(self, contender: Contender) -> int:
        every = self.plan.specs(contender, range(self.plan.looks[-1]))
        return next((i for i, s in enumerate(every) if s not in self.done), len(every))


@pytest.fixture
def machine(plan: Plan, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    made = Machine(dataclasses.replace(plan, looks=(5, 10)), request.param)
    monkeypatch.setattr(command, "sweep", made.sweep)
    monkeypatch.setattr(command.results, "read", made.read)
    monkeypatch.setattr(command.order, "seconds", lambda of: cost_of(of.plan))
    monkeypatch.setattr(command, "_say_time", lambda *given: None)
    monkeypatch.setattr(command, "shower", lambda: lambda of: None)
    monkeypatch.setattr(command.time, "monotonic", lambda: made.clock)
    return made


def called(machine: Machine, minutes: float) -> dict[str, int]:
    """The seeds of each contender after a call of so many minutes."""
    made = command.spend(machine.plan, machine.clock + 60 * minutes, 2)
    return {c.name: made.seeds(c.name) for c in machine.plan.contenders}


@pytest.mark.parametrize("machine", [1.0], indirect=True)
def test_five_minutes_give_most_a_seed_and_the_cheap_ones_five(machine: Machine) -> None:
    seeds = called(machine, 5)
    five = {name for name, count in seeds.items() if count >= 5}
    assert {name for name in seeds if name.startswith("linear model")} <= five
    first = machine.read(machine.plan).of(machine.plan.questions[0]).iloc[0]
    cheap = [n for n in seeds if cost_of(machine.plan)[n] < 3 and first[n] > first.median()]
    assert cheap and five >= set(cheap)
    assert len(five) >= 6
    assert sum(count > 0 for count in seeds.values()) >= 0.8 * len(seeds)
    assert machine.clock <= 5 * 60 + 40


@pytest.mark.parametrize("machine", [0.3, 1.0, 4.0], indirect=True)
def test_the_same_call_again_loses_no_seed_and_the_leader_goes_on(machine: Machine) -> None:
    before = called(machine, 2)
    for _ in range(40):
        after = called(machine, 2)
        assert all(after[name] >= before[name] for name in after)
        if before[LEADER] in range(1, 5):
            assert sum(after.values()) > sum(before.values())
        if min(after.values()) >= 5:
            break
        before = after
    assert min(after.values()) >= 5 and machine.read(machine.plan).decided


@pytest.mark.parametrize("machine", [1.0], indirect=True)
def test_without_minutes_all_get_the_first_look_and_the_race_ends_it(machine: Machine) -> None:
    made = command.spend(machine.plan, None, 2)
    assert made.decided and {made.seeds(c.name) for c in machine.plan.contenders} == {5}


@pytest.mark.parametrize(
    ("minutes", "seeds", "searches"),
    [(5, 0, False), (60, 0, True), (None, 0, True), (60, 1, False)],
)
def test_recipes_are_searched_before_the_first_seed_and_where_a_third_of_the_minutes_is_enough(
    plan: Plan,
    minutes: float | None,
    seeds: int,
    searches: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    have = {"linear model, complete": 3, "MMGCN, complete": seeds}
    monkeypatch.setattr(command.results, "read", lambda of: known(of, have))
    monkeypatch.setattr(command.recipes, "expected", lambda *given: Range(300.0, 1200.0))
    assert command._searches(plan, TWIN, minutes, 2, False) is searches
    told = capsys.readouterr().out
    if not searches:
        assert f"mmlib recipes {TWIN} --profile smoke" in told
    assert ("a third of 5 minutes" in told) == (minutes == 5)


def test_a_request_to_end_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), command._stopping("mmlib compare mine --minutes 5"):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)  # until it arrives
    assert "To go on: mmlib compare mine --minutes 5" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_line_waits_for_no_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name in ('numpy', 'pandas', 'torch'):\n"
        "            print('IMPORTS', name, flush=True)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from mmlib.cli import main\n"
        "main(['compare', 'no-such-data', '--minutes', '5'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MMLIB_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    first = done.stdout.splitlines()[0]
    assert first.startswith("Comparing the methods and networks that take no-such-data, about 5")
    assert "IMPORTS" in done.stdout
