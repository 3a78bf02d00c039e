"""What becomes of damaged and failed runs: made again by the next call, once, and the other seeds stay on the page."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib.compare import command, facts, failed, order, page, results
from mmlib.compare.plan import Contender, Plan, planned
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs import execute
from mmlib.runs.execute import Outcome
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store

TWIN = "twin:iemocap6@smoke"
NAME = "concatenation, complete"
LOST = ".json", ".safetensors", ".time.json"
CHANGED = "RuntimeError: code or data have changed since the sweep began. Start it again."


def plan_on(folder: Path) -> Plan:
    """The linear model and a network, with looks of two and three seeds."""
    context = side_by_side.context("smoke", {"iemocap6": TWIN}, store=Store(folder))
    every = planned(context, Ground("iemocap"))
    few = tuple(c for c in every.contenders if c.row.name in ("linear model", "concatenation"))
    return dataclasses.replace(every, contenders=few, looks=(2, 3))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three seeds of the contender, whatever the race says, and two of the others or more."""
    folder = tmp_path_factory.mktemp("runs")
    plan = plan_on(folder)
    command.spend(plan, None, 1)
    command.sweep(plan.specs(contender(plan), [0, 1, 2]), plan.context.store, jobs=1)
    return folder


@pytest.fixture
def plan(finished: Path, tmp_path: Path) -> Plan:
    """The comparison on a copy of the store."""
    shutil.copytree(finished, tmp_path / "runs")
    return plan_on(tmp_path / "runs")


def contender(plan: Plan) -> Contender:
    (found,) = [c for c in plan.contenders if c.name == NAME]
    return found


def run_of(plan: Plan, seed: int) -> tuple[RunSpec, str]:
    (spec,) = plan.specs(contender(plan), [seed])
    return spec, spec.run_id(plan.bundle.fingerprint)


def fail(plan: Plan, seed: int, kind: str, error: str) -> str:
    """Let a finished run be one that has failed."""
    spec, run_id = run_of(plan, seed)
    for ending in LOST:
        plan.context.store.path(run_id, ending).unlink()
    plan.context.store.fail(run_id, spec, f"Traceback ...\n{error}", kind)
    return run_id


def seeds_of(made: results.Results) -> set[int]:
    return set(made.values[made.values["contender"] == NAME]["seed"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each backbone and seed was run."""
    counted: Counter[tuple[str, int]] = Counter()
    real = execute.execute

    def run(spec: RunSpec, parent: dict[str, np.ndarray] | None) -> Outcome:
        counted[spec.backbone, spec.seed] += 1
        return real(spec, parent)

    monkeypatch.setattr(execute, "execute", run)
    return counted


def test_a_damaged_run_counts_as_lacking_and_is_made_again(plan: Plan) -> None:
    _, run_id = run_of(plan, 1)
    arrays = plan.context.store.path(run_id, ".safetensors")
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:200])
    lacking = results.read(plan)
    assert not lacking.failed and not lacking.failures
    assert lacking.again[NAME] == [1] and lacking.lacking(NAME, 3) == [1]
    assert seeds_of(lacking) == {0, 2}, "the seeds after it stay"
    assert NAME in [c.name for c in lacking.waiting] and not lacking.decided
    made = command.spend(plan, None, 1)
    assert arrays.read_bytes() == whole
    assert seeds_of(made) == {0, 1, 2} and not made.failures and NAME in made.field


@pytest.mark.parametrize(
    ("kind", "error"),
    [("killed", "its worker process ended"), ("", CHANGED), ("out of memory", "MemoryError")],
)
@pytest.mark.parametrize("minutes", [None, 5])
def test_a_fault_that_passes_is_tried_again_by_the_next_call(
    plan: Plan, kind: str, error: str, minutes: float | None, calls: Counter[tuple[str, int]]
) -> None:
    before = results.read(plan)
    for seed in (0, 1, 2):
        fail(plan, seed, kind, error)
    lost = results.read(plan)
    assert set(lost.failed) == {NAME} and len(lost.failures[NAME]) == 3
    end = None if minutes is None else time.monotonic() + 60 * minutes
    made = command.spend(plan, end, 1)
    assert not made.failed and not made.failures
    assert calls["concat", 0] == calls["concat", 1] == 1
    shown = made.values["seed"] < 2
    pd.testing.assert_frame_equal(
        made.values[shown].reset_index(drop=True),
        before.values[before.values["seed"] < 2].reset_index(drop=True),
    )


def test_a_run_that_fails_again_was_tried_once_and_the_others_go_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(plan, 1, "killed", "its worker process ended")
    tries: list[int] = []

    def run(spec: RunSpec, parent: object) -> Outcome:
        tries.append(spec.seed)
        raise RuntimeError("no such luck")

    monkeypatch.setattr(execute, "execute", run)
    made = command.spend(plan, None, 1)
    assert tries == [1]
    assert set(made.failed) == {NAME} and NAME not in made.field
    assert all(NAME not in (*s.open, *s.out) for s in made.standings.values())
    assert seeds_of(made) == {0, 2}
    command.spend(plan, None, 1)
    assert tries == [1, 1], "once more by the next call"


def test_what_diverged_is_not_tried_again(plan: Plan, calls: Counter[tuple[str, int]]) -> None:
    fail(plan, 1, "diverged", "Diverged: training diverged")
    fail(plan, 2, "killed", "its worker process ended")
    made = command.spend(plan, None, 1)
    assert not any(backbone == "concat" for backbone, _ in calls)
    assert made.failed[NAME] == "failed (diverged)" and NAME not in made.field
    assert [run.seed for run, _ in made.failures[NAME]] == [1, 2]


def test_the_page_shows_the_seeds_that_there_are_and_which_failed_and_why(
    plan: Plan, tmp_path: Path
) -> None:
    before = results.read(plan)
    run_id = fail(plan, 1, "", CHANGED)
    made = results.read(plan)
    page.write_report(made, tmp_path, facts.Notes("again"))
    text = (tmp_path / "compare.md").read_text(encoding="utf-8")
    line = page.contenders_table(made).set_index("contender").loc[NAME]
    assert line["seeds"] == "2, failed"
    question = made.plan.questions[0]
    mean = before.of(question)[NAME].drop(index=1).mean()
    assert line["complete data"].startswith(f"{mean:.1f} ±") and "*" not in line["complete data"]
    (told,) = failed.table(made).to_dict("records")
    assert told == {
        "contender": NAME,
        "seeds": "1",
        "what": "failed",
        "reason": CHANGED,
        "next": "is tried again",
    }
    assert "## Failed runs" in text and CHANGED in text
    ids = page.run_ids(made)[NAME]
    assert [run_of(plan, seed)[1] for seed in (0, 2)] == ids[:2] and run_id in ids[2]
    assert "1 of 4 contenders take no part, since a run of theirs failed" in text
    assert failed.lines(made, "compare")[-1] == failed.AGAIN
    numbers = pd.read_csv(tmp_path / "numbers.csv")
    assert set(numbers[numbers["contender"] == NAME]["seed"]) == {0, 2}


def test_a_failed_contender_with_a_better_mean_is_named_in_the_answer(plan: Plan) -> None:
    fail(plan, 1, "killed", "its worker process ended")
    made = results.read(plan)
    values = made.values.copy()
    values.loc[values["contender"] == NAME, "value"] = 99.5
    told = page.sentence(dataclasses.replace(made, values=values), made.plan.questions[0])
    assert f"; of these {NAME} has a better mean (weighted F1 99.5 %) by 2 seeds." in told


def test_made_again_are_the_cheapest_first_and_as_many_as_fit(plan: Plan) -> None:
    linear = next(c for c in plan.contenders if order.is_linear(c))
    costs = {c.name: 1.0 if order.is_linear(c) else 5.0 for c in plan.contenders}
    again = {NAME: [1, 2], linear.name: [0]}
    made = dataclasses.replace(results.read(plan), again=again)

    def seeds(of: results.Results, left: float) -> list[tuple[str, int]]:
        return [(spec.backbone, spec.seed) for spec in order.made_again(of, costs, left)]

    assert seeds(made, 100) == [("linear", 0), ("concat", 1), ("concat", 2)]
    assert seeds(made, 6) == [("linear", 0), ("concat", 1)] and seeds(made, 0.5) == []
    assert order.steps(plan, True)[0] == (order.made_again, order.FOR_FIRST)
    none = dataclasses.replace(made, values=made.values[made.values["contender"] != NAME])
    assert seeds(none, 100) == [("linear", 0)], "first seeds wait in the order of all"


def test_networks_whose_runs_failed_keep_their_recipes(plan: Plan) -> None:
    for other in plan.contenders:
        for spec in plan.specs(other, [0, 1, 2]) if not order.is_linear(other) else []:
            run_id = spec.run_id(plan.bundle.fingerprint)
            if spec.seed and plan.context.store.has(run_id):
                for ending in LOST:
                    plan.context.store.path(run_id, ending).unlink()
                plan.context.store.fail(run_id, spec, CHANGED)
    assert command.settled(results.read(plan))
