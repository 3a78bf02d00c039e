"""No damage to a stored run is silent, no kill looks like damage, and a sweep makes again what is damaged."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FINGERPRINT, log, outcome, run_id, specs

from mmlib import cli
from mmlib.errors import InputError
from mmlib.runs import store as store_module
from mmlib.runs.check_store import check_store
from mmlib.runs.compact import export_records, import_records
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store
from mmlib.runs.sweep import sweep

DAMAGES = 240
(PARENT,) = specs(1, keep=("weights",))
DONE = [*specs(2), PARENT, *specs(1, parent=PARENT)]
(OLD,) = specs(1, variant="released")
(FAILS,) = specs(1, options=(("do", "raise"),))
Damage = Callable[[random.Random, Path, Path], None]


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.surround(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def as_older_code_wrote_it(store: Store, spec: RunSpec) -> None:
    """A finished run without any sum."""
    made = outcome(spec)
    store.put(made)
    store.path(run_id(spec)).write_text(
        json.dumps(made.record, sort_keys=True, separators=(",", ":"))
    )
    store.path(run_id(spec), ".time.json").write_text(json.dumps(made.sidecar))


def filled(folder: Path) -> Store:
    """Runs with and without weights, a child, one that older code wrote and was read since, and one that failed."""
    store = Store(folder)
    for spec in DONE:
        parent = None if spec.parent is None else outcome(spec.parent).arrays
        store.put(outcome(spec, parent))
    as_older_code_wrote_it(store, OLD)
    store.fail(run_id(FAILS), FAILS, "ValueError: told to raise 12345", "ValueError")
    assert len(store.ids()) == len(DONE) + 1
    return store


def run(store: Store, todo: list[RunSpec]) -> tuple[int, int, int]:
    report = sweep(
        todo,
        store,
        jobs=1,
        execute=fake_runs.execute,
        fingerprint=fake_runs.fingerprint,
        progress=False,
    )
    return report.reused, report.done, report.failed


def flip(draw: random.Random, path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def another_digit(draw: random.Random, path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    place = draw.choice([i for i, byte in enumerate(data) if chr(byte).isdigit()])
    data[place] = ord(draw.choice([d for d in "0123456789" if d != chr(data[place])]))
    path.write_bytes(data)


def truncate(draw: random.Random, path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def append(draw: random.Random, path: Path, other: Path) -> None:
    path.write_bytes(
        path.read_bytes() + draw.choice([b"\0", b" ", b"}", b'{"seconds":9}', b"\xff" * 64])
    )


def zeros(draw: random.Random, path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(draw: random.Random, path: Path, other: Path) -> None:
    path.unlink()


def swap(draw: random.Random, path: Path, other: Path) -> None:
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


KINDS: list[Damage] = [flip, another_digit, truncate, append, zeros, delete, swap]


def suffix_of(path: Path) -> str:
    return path.name.partition(".")[2]


def damage(store: Store, seed: int) -> tuple[str, set[str]]:
    """Damage one file, or swap two of a kind; what was done, and the runs whose files they are."""
    draw = random.Random(seed)
    paths = sorted(p for p in store.folder.glob("??/*") if p.is_file())
    path = draw.choice(paths)
    others = [p for p in paths if suffix_of(p) == suffix_of(path) and p != path]
    kind = draw.choice(KINDS if others else KINDS[:-1])
    other = draw.choice(others) if others else path
    kind(draw, path, other)
    hit = {path, other} if kind is swap else {path}
    return f"{seed}: {kind.__name__} {path.name}", {p.name.partition(".")[0] for p in hit}


def test_no_random_damage_to_a_store_is_silent_and_a_sweep_heals_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """About ten seconds."""
    base, everything = filled(tmp_path / "base"), [*DONE, OLD]
    wanted = {run_id(spec): base.get(run_id(spec)) for spec in everything}
    arrays = {name: base.arrays(name) for name in wanted}
    (failed,) = base.failures()
    noticed = 0
    for seed in range(DAMAGES):
        folder = tmp_path / str(seed)
        shutil.copytree(base.folder, folder)
        store = Store(folder)
        what, hit = damage(store, seed)
        capsys.readouterr()
        for name, record in wanted.items():
            got = store.get(name)
            if got is None:
                assert name in hit, what
                said = capsys.readouterr().err
                assert f"run {name}: " in said or not store.path(name).exists(), what
                noticed += 1
                continue
            assert record is not None and got.content == record.content, what
            assert store.sidecar(name) in ({}, base.sidecar(name)), what
            assert all(
                np.array_equal(a, store.arrays(name)[key]) for key, a in arrays[name].items()
            ), what
        told = [f for f in store.failures() if f.id == failed.id]
        if told != [failed]:
            assert failed.id in hit and (not told or "damaged" in told[0].error), what
            noticed += 1
        run(store, everything)
        assert check_store(store).damaged == {}, what
        for name, record in wanted.items():
            healed = store.get(name)
            assert healed is not None and record is not None and healed.content == record.content, (
                what
            )
            assert all(
                np.array_equal(a, store.arrays(name)[key]) for key, a in arrays[name].items()
            ), what
    assert noticed > 0.8 * DAMAGES, "most damage is no harmless one"


def test_a_changed_digit_is_named_counts_as_not_done_and_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, name = filled(tmp_path / "s"), run_id(DONE[0])
    path = store.path(name)
    text = path.read_text()
    digit = text.index('"acc":0.') + len('"acc":0.')
    path.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    assert json.loads(path.read_text())["id"] == name, "still a record"
    assert store.get(name) is None and store.find(DONE[0], FINGERPRINT) == (None, False)
    assert (
        f"run {name}: its record does not have the recorded sum: damaged" in capsys.readouterr().err
    )
    with pytest.raises(InputError, match="does not have the recorded sum"):
        store.arrays(name)
    assert run(store, DONE) == (len(DONE) - 1, 1, 0) and path.read_text() == text


def test_a_parent_with_damaged_weights_runs_again_before_its_child(tmp_path: Path) -> None:
    store, child = filled(tmp_path / "s"), DONE[-1]
    arrays = store.path(run_id(PARENT), ".safetensors")
    data = bytearray(arrays.read_bytes())
    data[-1] ^= 1
    arrays.write_bytes(data)
    store.path(run_id(child)).unlink()
    assert run(store, [child]) == (0, 2, 0)
    assert [name for name, _ in log(tmp_path)] == [run_id(PARENT), run_id(child)]
    made = store.get(run_id(child))
    assert made is not None and made.content == outcome(child, outcome(PARENT).arrays).record


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("before", ["another", "older", "the same"])
def test_a_kill_between_any_two_files_leaves_a_run_whole_or_absent_and_never_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, before: str
) -> None:
    store, spec = Store(tmp_path), DONE[0]
    first = outcome(spec)
    if before == "another":
        first.arrays["predictions.last.test"] += 1
        first.record["curves"] = {}
    if before == "older":
        as_older_code_wrote_it(store, spec)
    else:
        store.put(first)
    real, count = store_module.write, 0

    def write(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "write", write)
        with contextlib.suppress(KeyboardInterrupt):
            store.put(outcome(spec))
    left = Store(tmp_path)
    assert left.read(run_id(spec)).damage == ""
    record = left.get(run_id(spec))
    assert record is None or record.content in (first.record, outcome(spec).record)
    assert (record is not None) >= (steps == 3)


def test_runs_without_sums_are_found_get_theirs_once_and_are_checked_from_then_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "s")
    as_older_code_wrote_it(store, OLD)
    record, name = store.path(run_id(OLD)).read_bytes(), run_id(OLD)
    assert cli.main(["store", "check", str(store.folder)]) == 0
    assert "sound: 1, of which 1 had no sums until now" in capsys.readouterr().out
    assert cli.main(["store", "check", str(store.folder)]) == 0
    assert "sound: 1, of which 0 had no sums until now" in capsys.readouterr().out
    assert store.path(name).read_bytes() == record, "the record itself is left as it is"
    assert store.sidecar(name) == outcome(OLD).sidecar
    store.path(name, ".safetensors").write_bytes(
        store.path(name, ".safetensors").read_bytes()[:-1] + b"\1"
    )
    assert cli.main(["store", "check", str(store.folder)]) == 1
    out = capsys.readouterr().out
    assert f"{name}: its arrays do not have the recorded sum" in out and "damaged: 1" in out


def test_a_store_that_may_only_be_read_serves_runs_without_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s")
    as_older_code_wrote_it(store, OLD)

    def refuse(path: Path, data: bytes) -> None:
        raise store_module.StoreError(str(path), "read-only", "a place that can be written", "")

    monkeypatch.setattr(store_module, "write", refuse)
    assert store.has(run_id(OLD)) and store.arrays(run_id(OLD))


def test_check_counts_failed_stale_and_left_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path / "s")
    store.path(run_id(DONE[0])).unlink()
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: "0dd0ddba")
    checked = check_store(store)
    assert (checked.sound, checked.stale, checked.damaged, checked.leftovers) == (
        len(DONE),
        len(DONE),
        {},
        2,
    )
    assert [failure.id for failure in checked.failed] == [run_id(FAILS)]
    assert cli.main(["store", "check", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.txt").write_text("sand")
    assert cli.main(["store", "check", str(tmp_path / "holiday")]) == 2
    told = capsys.readouterr().err
    assert "no folder at" in told and "files, but no run" in told


def test_merge_and_import_leave_damage_behind_and_replace_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs, name = filled(tmp_path / "a"), filled(tmp_path / "b"), run_id(DONE[0])
    export_records(theirs, tmp_path / "r.xz", ids=[name])
    arrays = theirs.path(name, ".safetensors")
    arrays.write_bytes(arrays.read_bytes()[::-1])
    empty = Store(tmp_path / "c")
    assert empty.merge(theirs) == len(DONE) and not empty.has(name)
    assert f"run {name}: its arrays do not have the recorded sum" in capsys.readouterr().err
    with pytest.raises(InputError, match="no finished run"):
        export_records(theirs, tmp_path / "again.xz", ids=[name])
    assert theirs.merge(ours) == 1 and theirs.has(name)
    arrays.unlink()
    assert import_records(theirs, tmp_path / "r.xz") == 1 and theirs.has(name)


def test_sums_stay_out_of_a_records_content_and_of_the_compact_form(tmp_path: Path) -> None:
    store, old = filled(tmp_path / "a"), Store(tmp_path / "b")
    for spec in DONE[:2]:
        as_older_code_wrote_it(old, spec)
    names = old.ids()
    export_records(store, tmp_path / "new.xz", ids=names)
    export_records(old, tmp_path / "old.xz")
    assert (tmp_path / "new.xz").read_bytes() == (tmp_path / "old.xz").read_bytes()
    found = store.get(names[0])
    assert found is not None and not {"arrays_sha256", "record_sha256"} & found.content.keys()


def test_a_sidecar_whose_own_sum_differs_is_damage(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    name = run_id(DONE[0])
    sidecar = store.path(name, ".time.json")
    sidecar.write_text(sidecar.read_text().replace('"seconds":', '"seconds":9'))
    found = check_store(Store(tmp_path / "store")).damaged
    assert set(found) == {name} and "sidecar does not have its own sum" in found[name]


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_arrays_that_are_no_file_are_damage_and_nobody_waits_for_them(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    store = filled(tmp_path / "store")
    name = run_id(DONE[0])
    arrays = store.path(name, ".safetensors")
    arrays.unlink()
    put(arrays)
    assert set(check_store(Store(tmp_path / "store")).damaged) == {name}
    into = Store(tmp_path / "other")
    assert into.merge(Store(tmp_path / "store")) == len(DONE)


def test_a_folder_of_other_things_is_not_merged(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    call = ["store", "merge", str(tmp_path / "store"), str(tmp_path / "photos")]
    assert cli.main(call) == 2
