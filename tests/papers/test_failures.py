"""A failed run is named wherever a reader looks for its result; where nothing failed, nothing says so."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmlib.experiments.context import Context
from mmlib.papers import catalog
from mmlib.pipeline import job, regenerate
from mmlib.runs import execute as execute_module
from mmlib.runs.divergence import Diverged
from mmlib.runs.execute import Outcome
from mmlib.runs.spec import SELECTIONS, RunSpec
from mmlib.runs.store import ARRAYS, Store

TABLE = "table4"
METRICS = ("accuracy", "weighted_f1")


def made(spec: RunSpec, parent: dict[str, np.ndarray] | None = None) -> Outcome:
    """A result that follows from the seed alone."""
    fingerprint = Context.bundle_fingerprint(spec.data)
    values = {name: {metric: 60.0 + spec.seed for metric in METRICS} for name, _ in spec.eval_masks}
    epochs = {name: 0 for name, _ in spec.eval_masks}
    record = {
        "id": spec.run_id(fingerprint),
        "key": spec.key(fingerprint),
        "numerics": spec.numerics,
        "fingerprint": fingerprint,
        "spec": spec.to_json(),
        "status": "done",
        "selected": {s: {"epoch": epochs, "metrics": values} for s in SELECTIONS},
    }
    return Outcome(
        record, {"predictions.valid.same": np.zeros((2, 2), np.float32)}, {"seconds": 1.0}
    )


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("MMLIB_HEADLESS", "1")
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    paper: Any = catalog.PAPERS["balm"]
    yield paper.context("smoke", seeds=2)


def files(context: Context) -> dict[str, str]:
    return {
        ending: (context.folder / f"{TABLE}{ending}").read_text()
        for ending in (".md", ".csv", "-numbers.csv")
    }


def entry(context: Context) -> dict[str, Any]:
    entries = json.loads((context.folder.parents[1] / "manifest.json").read_text())
    return {str(e["id"]): e for e in entries}[TABLE]


def cells(context: Context) -> list[RunSpec]:
    (artifact,) = regenerate.artifacts(context, [TABLE])
    return regenerate.runs_of(context, artifact)


def sweep_with(context: Context, lost: set[RunSpec], monkeypatch: pytest.MonkeyPatch) -> int:
    """The console's sweep of the table; the lost runs diverge."""

    def execute(spec: RunSpec, parent: dict[str, np.ndarray] | None = None) -> Outcome:
        if spec in lost:
            raise Diverged("the mean loss of the last epoch is above 1e+06 in magnitude", 1, 8e12)
        return made(spec, parent)

    monkeypatch.setattr(execute_module, "execute", execute)
    return job.sweep_all([context], [TABLE], jobs=1)


def test_diverged_runs_are_named_in_table_report_dashboard_and_console(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = cells(context)
    balm = [s for s in specs if s.method == "balm"]
    whole = [s for s in balm if (s.data, s.train_mask) == (balm[0].data, balm[0].train_mask)]
    (one,) = [s for s in balm if s not in whole and s.seed == 0][:1]
    lost = {*whole, one}
    assert len(whole) > 1 and sweep_with(context, lost, monkeypatch) == 1
    told = capsys.readouterr().err
    ids = {s.run_id(context.bundle_fingerprint(s.data)) for s in lost}
    for name in ids:
        (line,) = [line for line in told.splitlines() if name in line]
        assert (
            line.startswith("failed (diverged): balm table4: ")
            and "+BALM" in line
            and "seed" in line
        )
        assert line.endswith("epoch 1, value 8e+12")
    assert told.count("--standardise") == 1

    regenerate.draw(context, TABLE)
    regenerate.finish(context)
    text, frame = files(context)[".md"], files(context)["-numbers.csv"]
    assert "| failed (diverged)" in text and "failed (diverged)" in files(context)[".csv"]
    assert all(name in text for name in ids) and "smaller learning rate" in text
    assert frame.splitlines()[0].endswith(",failed") or ",failed," in frame.splitlines()[0]
    seeds = len({s.seed for s in balm})
    assert f"({seeds - 1})" in text, "the cell with a failed seed shows the others and their number"
    listed = entry(context)
    assert listed["status"] == "regenerated" and {run["run_id"] for run in listed["failed"]} == ids
    report = (context.folder / "replication.md").read_text()
    page = (context.folder.parents[1] / "index.html").read_text()
    for shown in (report, page):
        assert (
            all(name in shown for name in ids)
            and "failed (diverged)" in shown
            and "--standardise" in shown
        )
    assert f"{len(ids)} runs failed" in report and f"{len(ids)} runs failed (diverged)" in page

    assert sweep_with(context, set(), monkeypatch) == 0
    regenerate.draw(context, TABLE)
    assert not any(
        "failed" in content for content in files(context).values()
    ) and "failed" not in entry(context)


def test_a_table_of_failures_alone_has_the_status_failed(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_with(context, set(cells(context)), monkeypatch) == 1
    output = regenerate.draw(context, TABLE)
    regenerate.finish(context)
    assert output.table is None and entry(context)["status"] == "failed"
    assert (
        "not built yet" not in " ".join(output.notes).lower()
        and "failed (diverged)" in output.notes[1]
    )
    job.summary([context])
    assert re.search(r"table4 +failed ", capsys.readouterr().out)
    page = (context.folder.parents[1] / "index.html").read_text()
    assert (
        '<span class="badge data">failed</span>' in page
        and '<p class="none">failed (diverged)</p>' in page
    )
    report = (context.folder / "replication.md").read_text()
    assert "not made since their runs failed: Table 4" in report


def test_other_failures_point_at_their_traceback_and_damage_is_named(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *others = cells(context)
    for spec in (second, *others):
        context.store.put(made(spec))
    ids = [s.run_id(context.bundle_fingerprint(s.data)) for s in (first, second)]
    context.store.fail(ids[0], first, "Traceback ...\nKeyError: 'x'", "KeyError")
    arrays = context.store.path(ids[1], ARRAYS)
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"\7")
    notes = " ".join(regenerate.draw(context, TABLE).notes)
    assert "1 run failed: " in notes and f"(run {ids[0]})" in notes
    assert f"Look at the traceback in `runs/{ids[0][:2]}/{ids[0]}.failed.json`" in notes
    assert (
        "1 run damaged" in notes and ids[1] in notes and "The next sweep makes it again." in notes
    )
    assert (
        f"run {ids[1]}: its arrays do not have the recorded sum: damaged" in capsys.readouterr().err
    )


def test_without_failures_the_files_are_those_of_a_store_that_never_heard_of_any(
    context: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(context, store=Store(tmp_path / "other"))
    for spec in cells(context):
        context.store.put(made(spec))
        other.store.put(made(spec))
        other.store.path(
            spec.run_id(context.bundle_fingerprint(spec.data)), ".failed.json"
        ).write_text("{}")
    seen = []
    for each in (context, other):
        regenerate.draw(each, TABLE)
        seen.append(files(each))
    assert seen[0] == seen[1] and not any("failed" in content for content in seen[0].values())
