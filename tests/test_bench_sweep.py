"""The bench of sweeps measures real sweeps, leaves their start out, and shows what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_bench import arguments

from mmlib.bench import command, page
from mmlib.bench import sweep as sweep_case
from mmlib.bench.sweep import between, seconds_a_run
from mmlib.errors import InputError
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import sweep

ROWS = [
    {
        "kind": kind,
        "workers": workers,
        "runs": 24,
        "empty_runs": 200,
        "runs_per_minute": rate,
        "engine_ms": cost,
    }
    for kind, workers, rate, cost in (
        ("local", 1, 50.0, 4.25),
        ("local", 2, 90.0, 2.5),
        ("dask", 2, 85.0, 8.0),
    )
]
REPORT = {
    "machine": {"device": "cpu", "device_name": "any", "cores": 2, "torch": "2.0"},
    "sweeps": {},
    "rows": ROWS,
}


def test_the_start_of_the_workers_is_left_out() -> None:
    # Two workers take ten seconds to start; then a run ends every second.
    assert between([10.0, 10.0, 11.0, 12.0, 13.0], 2) == pytest.approx(1.0)
    assert between([10.0, 12.0, 14.0], 1) == pytest.approx(2.0)


def test_a_run_of_almost_no_work_is_a_run_to_the_store(tmp_path: Path) -> None:
    store, todo = Store(tmp_path), [RunSpec(data="none", seed=seed) for seed in range(3)]
    report = sweep(
        todo,
        store,
        jobs=1,
        execute=sweep_case.nothing,
        fingerprint=sweep_case.no_data,
        progress=False,
    )
    assert (report.done, report.failed) == (3, 0)
    assert {record.spec for record in store.records()} == set(todo)


def test_real_and_empty_sweeps_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_case, "RUNS", 1)
    monkeypatch.setattr(sweep_case, "EMPTY_RUNS", 4)
    made: list[tuple[str, int]] = []

    def counted(specs: Any, address: str | None, workers: int) -> float:
        assert address is None and all(
            s.training == Training(epochs=1) for s in specs if s.data != "none"
        )
        made.append((specs[0].data, len(specs)))
        return seconds_a_run(specs, address, workers)

    monkeypatch.setattr(sweep_case, "seconds_a_run", counted)
    row = sweep_case.measure("local", 1, "twin:iemocap6@tiny", 1)
    assert made == [("twin:iemocap6@tiny", 2), ("none", 5)]
    assert row["runs_per_minute"] > 0 and row["engine_ms"] > 0


@pytest.mark.slow
def test_the_bench_starts_a_scheduler_and_sweeps_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    todo = [RunSpec(data="none", seed=seed) for seed in range(6)]
    with sweep_case.cluster("dask", 2) as address:
        assert address is not None and address.startswith("tcp://127.0.0.1:")
        assert seconds_a_run(todo, address, 2) > 0


def test_every_place_is_measured_written_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sweep_case,
        "measure",
        lambda kind, workers, data, epochs: {
            **ROWS[0],
            "kind": kind,
            "workers": workers,
            "data": data,
            "epochs": epochs,
        },
    )
    target = tmp_path / "sweep.json"
    assert command.run(arguments("sweep", "--epochs", "3", "--json", str(target))) == 0
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [(r["kind"], r["workers"]) for r in written["rows"]] == list(sweep_case.PLACES)
    assert {(r["data"], r["epochs"]) for r in written["rows"]} == {("twin:iemocap6@quick", 3)}
    assert "| 3 dask | 50.0 | 1.00 | 4.2 |" in capsys.readouterr().out
    assert page.speed_table([written]) == page.speed_table([])  # no row of another kind


def test_the_page_shows_sweeps_beside_the_first() -> None:
    cells = [line.strip("| ").split(" | ") for line in page.sweep_table([REPORT]).splitlines()[2:]]
    assert [line[1:] for line in cells] == [
        ["1 local", "50.0", "1.00", "4.2"],
        ["2 local", "90.0", "1.80", "2.5"],
        ["2 dask", "85.0", "1.70", "8.0"],
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "huge"),
        ("--threads", "1"),
        ("--lengths", "5"),
        ("--write-shapes",),
        ("--device", "cuda"),
        ("--epochs", "0"),
        ("--json", "nowhere/at/all.json"),
    ],
)
def test_options_that_it_has_not_are_refused(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sweep_case, "measure")
    with pytest.raises(InputError):
        command.run(arguments("sweep", *words))
