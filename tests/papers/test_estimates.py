"""What a command says at its start of the time that it will take."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from mmlib.experiments.context import Context
from mmlib.papers import gmm_loss
from mmlib.pipeline import executed, job, regenerate
from mmlib.runs.sweep import Estimate
from mmlib.runs.timing import Range, notebook


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    return gmm_loss.context("smoke")


def executed_before(context: Context, seconds: object) -> None:
    note = executed.copy_of(context).with_suffix(".json")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"seconds": seconds}))


def test_a_notebooks_time_is_read_from_the_notes_of_its_executions(context: Context) -> None:
    assert executed.seconds(context) == []
    executed_before(context, 55.5)
    assert executed.seconds(context) == [55.5]
    for wrong in (None, "long", -1.0):
        executed_before(context, wrong)
        assert executed.seconds(context) == []


def test_named_tables_cost_their_share_of_the_notebook_and_due_notebooks_the_whole(
    context: Context,
) -> None:
    (paper,), none = [context], [[]]
    every = len(regenerate.artifacts(paper))
    assert job.drawing([paper], ["table1", "main"], none) == [(notebook("gmm_loss", 2 / every), [])]
    assert job.drawing([paper], [], none) == [(notebook("gmm_loss"), [])]


def test_the_whole_is_the_runs_the_notebooks_and_the_start_of_the_command(
    context: Context, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, costs = context.store, [(notebook("gmm_loss"), [100.0] * 6)]
    said = job.expected([], store, 1, costs, seconds=600.0)
    assert said.startswith("0 runs, 0 still to do with 1 at a time; in all with 1 notebook ")
    minutes = [float(number) for number in re.findall(r"[\d.]+", said.rpartition("notebook")[2])]
    assert minutes[0] - 0.5 <= (600 + 100) / 60 <= minutes[-1] + 0.5 and "minutes" in said
    assert job.expected([], store, 1) == "0 runs, 0 still to do with 1 at a time"
    nothing = Estimate(0, 0, 0, Range(0.0, 0.0))
    monkeypatch.setattr(job, "estimate", lambda *_, **__: nothing)  # it makes pilot runs
    assert job.dry_run([context], ["planted"], 1, draws=False, began=time.monotonic()) == 0
    assert "in all" in capsys.readouterr().out
