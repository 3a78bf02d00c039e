"""Laws of the store: whole or absent, the same bytes for the same run, nothing lost on the way out and in."""

from __future__ import annotations

import dataclasses
import json
import lzma
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_runs
import numpy as np
import pytest
from fake_runs import FINGERPRINT, NUMERICS, outcome, run_id, specs

from mmlib.errors import InputError
from mmlib.pipeline import regenerate
from mmlib.runs.compact import export_records, import_records
from mmlib.runs.compare import compare
from mmlib.runs.store import Store, StoreError


@pytest.fixture(autouse=True)
def _fixed_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)


def filled(folder: Path, count: int, **fields: object) -> Store:
    store = Store(folder)
    for spec in specs(count, **fields):
        store.put(outcome(spec))
    return store


def files(folder: Path, *skip: str) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(skip or (" ",))
    }


def test_a_put_run_comes_back_equal(tmp_path: Path) -> None:
    store, (spec,) = filled(tmp_path, 1), specs(1)
    want, found = outcome(spec), store.get(run_id(spec))
    assert found is not None and found.content == want.record and found.spec == spec
    assert store.ids() == [run_id(spec)] and store.sidecar(run_id(spec))["seconds"] == 0.25
    arrays = store.arrays(run_id(spec))
    assert arrays.keys() == want.arrays.keys()
    for name, array in want.arrays.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_a_spec_run_twice_gives_the_same_bytes_whatever_the_order_and_memory_layout(
    tmp_path: Path,
) -> None:
    spec = specs(1, keep=("weights",))[0]
    first, second = outcome(spec), outcome(spec)
    arrays = {name: np.asfortranarray(second.arrays[name]) for name in reversed(second.arrays)}
    turned = dataclasses.replace(
        second, record=dict(reversed(second.record.items())), arrays=arrays
    )
    Store(tmp_path / "a").put(first)
    Store(tmp_path / "b").put(turned)
    assert files(tmp_path / "a", ".time.json") == files(tmp_path / "b", ".time.json") != {}
    np.testing.assert_array_equal(
        Store(tmp_path / "b").arrays(run_id(spec))["weights.w"], first.arrays["weights.w"]
    )


@pytest.mark.parametrize(
    "damage",
    ["truncated json", "json of another run", "json list", "truncated arrays", "no arrays"],
)
def test_a_damaged_run_counts_as_not_done(tmp_path: Path, damage: str) -> None:
    store, (good, bad) = filled(tmp_path, 2), specs(2)
    path = store.path(run_id(bad))
    arrays = path.with_suffix(".safetensors")
    if damage == "truncated json":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "json of another run":
        path.write_bytes(store.path(run_id(good)).read_bytes())
    elif damage == "json list":
        path.write_text("[]")
    elif damage == "truncated arrays":
        arrays.write_bytes(arrays.read_bytes()[:-4])
    else:
        arrays.unlink()
    assert (
        store.get(run_id(bad)) is None
        and not store.has(run_id(bad))
        and store.ids() == [run_id(good)]
    )
    assert store.find(bad, FINGERPRINT) == (None, False)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_full_disk_at_any_file_leaves_the_run_absent_and_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    store, (spec,) = Store(tmp_path), specs(1)
    with pytest.raises(StoreError, match="No space left"):
        store.put(outcome(spec))
    assert not store.has(run_id(spec)) and len(files(tmp_path)) == fails_at - 1
    assert not [name for name in files(tmp_path) if "partial" in name]


def test_leftover_temporary_files_are_ignored_and_only_old_ones_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    folder = store.path(store.ids()[0]).parent
    young, old = folder / ".x.json.1-aa.partial", folder / ".x.json.2-bb.partial"
    for path, age in ((young, 60), (old, 3700)):
        path.write_text('{"id": ')
        os.utime(path, (time.time() - age,) * 2)
    assert len(store.ids()) == 1
    store.prepare()
    assert young.exists() and not old.exists() and len(store.ids()) == 1


def test_a_failure_is_kept_until_the_run_is_done(tmp_path: Path) -> None:
    store, (spec,) = Store(tmp_path), specs(1)
    store.fail(run_id(spec), spec, "first")
    store.fail(run_id(spec), spec, "second")
    (failure,) = store.failures()
    assert (failure.id, failure.error, failure.spec) == (run_id(spec), "second", spec.to_json())
    assert not store.has(run_id(spec)) and store.ids() == []
    store.put(outcome(spec))
    assert store.failures() == [] and store.has(run_id(spec))


def test_a_record_of_older_numerics_is_found_as_stale_and_the_exact_one_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (spec, other) = Store(tmp_path), specs(2)
    for number, version in enumerate(("aaaaaaaa", "11111111")):
        monkeypatch.setattr(fake_runs, "NUMERICS", version)
        store.put(outcome(spec))
        os.utime(store.path(run_id(spec)), (1000 + number,) * 2)
    found, stale = store.find(spec, FINGERPRINT)
    assert found is not None and stale and found.id.endswith("-11111111"), (
        "the newest of the stale ones"
    )
    assert store.find(other, FINGERPRINT) == (None, False)
    monkeypatch.setattr(fake_runs, "NUMERICS", NUMERICS)
    store.put(outcome(spec))
    found, stale = store.find(spec, FINGERPRINT)
    assert found is not None and not stale and found.id == run_id(spec)


def test_export_and_import_keep_metrics_exactly_and_predictions_to_half_precision(
    tmp_path: Path,
) -> None:
    store, packed, back = (
        filled(tmp_path / "a", 3),
        tmp_path / "records.jsonl.xz",
        Store(tmp_path / "b"),
    )
    assert export_records(store, packed) == 3
    assert import_records(back, packed) == 3 and import_records(back, packed) == 0
    assert back.ids() == store.ids()
    for name in store.ids():
        ours, theirs = store.get(name), back.get(name)
        assert ours is not None and theirs is not None and theirs.imported and not ours.imported
        assert {k: ours[k] for k in ours.content if k != "curves"} == {
            k: theirs[k] for k in theirs.content if k not in ("curves", "imported")
        }
        np.testing.assert_allclose(
            theirs["curves"]["valid"]["acc"], ours["curves"]["valid"]["acc"], rtol=5e-4
        )
        exact, half = store.arrays(name), back.arrays(name)
        assert exact.keys() == half.keys()
        for key, array in exact.items():
            assert half[key].dtype == np.float32
            np.testing.assert_allclose(half[key], array, rtol=2**-11, atol=1e-7)


def test_an_export_has_the_same_bytes_again_and_after_a_round_trip(tmp_path: Path) -> None:
    store, back = filled(tmp_path / "a", 3, keep=("weights",)), Store(tmp_path / "b")
    paths = [tmp_path / f"{i}.xz" for i in range(3)]
    export_records(store, paths[0])
    export_records(store, paths[1], ids=list(reversed(store.ids())))
    import_records(back, paths[0])
    export_records(back, paths[2])
    assert paths[0].read_bytes() == paths[1].read_bytes() == paths[2].read_bytes()


def test_predictions_of_chosen_runs_travel_as_their_class(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    chance = np.random.default_rng(0)
    logits = {spec.seed: chance.normal(size=(7, 3)).astype(np.float32) for spec in specs(3)}
    logits[1][4] = np.nan  # an utterance without a prediction
    for spec in specs(3):
        made = outcome(spec)
        made.arrays["predictions.valid.test"] = logits[spec.seed]
        made.arrays["clusters.accuracy.test"] = np.arange(6, dtype=np.uint32).reshape(2, 3)
        store.put(made)
    chosen, path, back = (
        [run_id(specs(3)[1]), run_id(specs(3)[2])],
        tmp_path / "r.xz",
        Store(tmp_path / "b"),
    )
    arrays = ("predictions.", "clusters.")
    export_records(store, path, arrays=arrays, decided=chosen)
    import_records(back, path)
    for spec in specs(3):
        found, sent = back.arrays(run_id(spec)), logits[spec.seed]
        assert np.array_equal(found["clusters.accuracy.test"], [[0, 1, 2], [3, 4, 5]])
        answers = found["predictions.valid.test"]
        if run_id(spec) not in chosen:
            np.testing.assert_allclose(answers, sent, rtol=2**-11, atol=1e-7)
            continue
        for answer, row in zip(answers, sent, strict=True):
            expected = [float(x == max(row)) for x in row] if row[0] == row[0] else [np.nan] * 3
            np.testing.assert_array_equal(answer, expected)
    content = path.read_bytes()
    export_records(back, tmp_path / "again.xz", arrays=arrays, decided=chosen)
    assert (tmp_path / "again.xz").read_bytes() == content
    export_records(store, path, arrays=arrays)
    assert path.read_bytes() != content, "the same file with logits is another file"


@pytest.mark.parametrize("shape", [[2, 3], [3, 10**12], [3, 1], [3], [3, 2, 2], ["3", "x"]])
def test_a_file_with_classes_that_cannot_be_is_refused(tmp_path: Path, shape: list[Any]) -> None:
    store, path = filled(tmp_path / "a", 1), tmp_path / "r.xz"
    export_records(store, path)
    head, record, arrays = map(json.loads, lzma.decompress(path.read_bytes()).splitlines())
    # Class 2 of three utterances.
    packed = {"dtype": "class", "shape": shape, "data": "AAEC"}
    lines = [head, record, {**arrays, "predictions.valid.test": packed}]
    path.write_bytes(lzma.compress(b"\n".join(json.dumps(x).encode() for x in lines) + b"\n"))
    with pytest.raises(InputError):
        import_records(Store(tmp_path / "b"), path)


def test_an_export_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    store, path = filled(tmp_path / "a", 3), tmp_path / "r.xz"
    export_records(store, path)
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    export_records(store, path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(content[:-30])  # its head still reads
    export_records(store, path)
    assert path.read_bytes() == content
    export_records(store, path, arrays=())
    assert len(path.read_bytes()) < len(content)
    export_records(store, path, ids=store.ids()[:2])
    assert import_records(Store(tmp_path / "b"), path) == 2


def test_parts_that_are_no_longer_needed_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regenerate, "PART", 2)
    context: Any = SimpleNamespace(folder=tmp_path / "figures", store=filled(tmp_path / "a", 5))
    for count, names in ((5, ["01", "02", "03"]), (2, ["01"])):
        regenerate._write_parts(context, context.store.ids()[:count], ("predictions.",), {}, ())
        parts = sorted(context.folder.glob("*"))
        assert [part.name for part in parts] == [f"records-{name}.jsonl.xz" for name in names]
        back = Store(tmp_path / str(count))
        assert sum(import_records(back, part) for part in parts) == count


def test_an_export_follows_a_run_that_was_made_again_with_another_result(tmp_path: Path) -> None:
    """As on another processor: the id is the same, the last digits are not."""
    store, path = filled(tmp_path / "a", 2), tmp_path / "r.xz"
    export_records(store, path)
    before = path.read_bytes()
    again = outcome(specs(1)[0])
    again.record["selected"]["valid"]["acc"] += 2**-40
    other = Store(tmp_path / "b")
    other.put(again)
    other.put(outcome(specs(2)[1]))
    assert other.ids() == store.ids()
    export_records(other, path)
    assert path.read_bytes() != before
    back = Store(tmp_path / "c")
    import_records(back, path)
    record = back.get(run_id(specs(1)[0]))
    assert record is not None
    assert record["selected"]["valid"]["acc"] == again.record["selected"]["valid"]["acc"]


def test_equal_predictions_are_stored_once_and_weights_stay_behind(tmp_path: Path) -> None:
    store, packed, back = (
        filled(tmp_path / "a", 1, keep=("weights",)),
        tmp_path / "r.xz",
        Store(tmp_path / "b"),
    )
    export_records(store, packed)
    _, text, carried = map(json.loads, lzma.decompress(packed.read_bytes()).splitlines())
    assert carried["predictions.valid.test"] == "predictions.test.test" and text["left_out"] == [
        "weights.w"
    ]
    import_records(back, packed)
    (name,) = back.ids()
    assert back.has(name) and not back.whole(name) and store.whole(name)
    export_records(store, packed, arrays=("predictions.", "weights."))
    carried = Store(tmp_path / "c")
    import_records(carried, packed)
    assert carried.whole(name)


def test_numbers_beyond_half_precision_travel_as_they_are(tmp_path: Path) -> None:
    made = outcome(specs(1)[0])
    made.arrays["predictions.last.test"][:3, 0] = 1e6, np.nan, np.inf
    store, back = Store(tmp_path / "a"), Store(tmp_path / "b")
    store.put(made)
    export_records(store, tmp_path / "r.xz")
    import_records(back, tmp_path / "r.xz")
    (name,) = back.ids()
    np.testing.assert_array_equal(
        back.arrays(name)["predictions.last.test"], made.arrays["predictions.last.test"]
    )


@pytest.mark.parametrize(
    "content",
    [
        b"no xz",
        lzma.compress(b"{"),
        lzma.compress(b""),
        lzma.compress(b'{"format":99}\n'),
        lzma.compress(b'{"format":2,"content":"","runs":1}\n{"record":{}}\n{}\n'),
        lzma.compress(b'{"format":2,"content":"","runs":1}\n{}\n'),
        lzma.compress(b'{"format":2,"content":"","runs":0}\n' * 9)[:-9],
    ],
    ids=range(7),
)
def test_a_file_that_no_export_wrote_is_refused_and_nothing_written(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "r.xz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.xz"):
        import_records(Store(tmp_path / "s"), path)
    assert not (tmp_path / "s").exists()


def test_an_id_that_is_a_path_is_refused(tmp_path: Path) -> None:
    record = outcome(specs(1)[0]).record | {"id": "../../outside"}
    lines = [{"format": 2, "content": "", "runs": 1}, {"record": record, "left_out": []}, {}]
    path = tmp_path / "r.xz"
    path.write_bytes(lzma.compress("\n".join(json.dumps(line) for line in lines).encode()))
    with pytest.raises(InputError, match="run id"):
        import_records(Store(tmp_path / "a" / "s"), path)


def test_merge_copies_what_is_missing_byte_for_byte_and_prefers_full_records(
    tmp_path: Path,
) -> None:
    a, b = filled(tmp_path / "a", 4), filled(tmp_path / "b", 2)
    assert b.merge(a) == 2 and b.merge(a) == 0
    assert files(tmp_path / "a", ".time.json") == files(tmp_path / "b", ".time.json")
    export_records(a, tmp_path / "r.xz")
    c = Store(tmp_path / "c")
    import_records(c, tmp_path / "r.xz")
    assert a.merge(c) == 0 and c.merge(a) == 4
    assert files(tmp_path / "c") == files(tmp_path / "a")


def test_compare_names_the_largest_difference_and_the_runs_of_one_store(tmp_path: Path) -> None:
    a, b = filled(tmp_path / "a", 3), filled(tmp_path / "b", 2)
    same, changed, alone = (run_id(spec) for spec in specs(3))
    made = outcome(specs(2)[1])
    made.record["selected"]["valid"]["acc"] += 0.125
    made.record["curves"]["valid"]["acc"][0] += 0.0625
    b.put(made)
    table = compare(a, b).set_index("id")
    assert sorted(table.index) == list(table.index) and len(table) == 3
    assert tuple(table.loc[same]) == ("both", True, 0.0, "")
    assert table.loc[changed, "found"] == "both" and not table.loc[changed, "same_bytes"]
    assert table.loc[changed, "at"] == "selected.valid.acc"
    assert table.loc[changed, "largest_difference"] == pytest.approx(0.125)
    assert table.loc[alone, "found"] == "only a"
    made.record["selected"]["valid"]["acc"] = float("nan")
    b.put(made)
    assert compare(a, b).set_index("id").loc[changed, "largest_difference"] == np.inf


def test_a_place_that_cannot_be_a_store_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "file")
    assert store.ids() == [] and store.get(run_id(specs(1)[0])) is None
    with pytest.raises(InputError, match="file"):
        store.prepare()
    with pytest.raises(InputError, match="file"):
        store.put(outcome(specs(1)[0]))
    with pytest.raises(InputError, match="nowhere"):
        filled(tmp_path / "a", 1).merge(Store(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        compare(Store(tmp_path / "a"), Store(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        import_records(store, tmp_path / "nowhere.xz")
    with pytest.raises(InputError, match="no arrays"):
        store.arrays(run_id(specs(1)[0]))


def test_a_record_that_may_not_be_read_is_an_error_and_not_a_missing_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, 1)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        store.has(run_id(specs(1)[0]))
