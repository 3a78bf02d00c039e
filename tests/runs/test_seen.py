"""A run whose files have not changed since they were found whole is not read again; the list decides nothing."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import outcome, run, run_id, specs, surround

from mmlib.runs import integrity
from mmlib.runs import seen as seen_module
from mmlib.runs import store as store_module
from mmlib.runs.check_store import check_store
from mmlib.runs.seen import Seen
from mmlib.runs.store import Store, StoreError, canonical

DONE = specs(3)
IDS = [run_id(spec) for spec in DONE]


@pytest.fixture(autouse=True)
def _surround(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surround(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three finished runs."""
    made = Store(tmp_path / "s")
    for spec in DONE:
        made.put(outcome(spec))
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The runs that are read."""
    names: list[str] = []
    real = Store._read
    monkeypatch.setattr(
        Store, "_read", lambda self, name: (names.append(name), real(self, name))[1]
    )
    yield names


def kept(store: Store) -> Seen:
    """Every run seen, and the list written."""
    seen = Seen(store)
    assert all(map(seen.whole, IDS))
    seen.keep()
    return seen


def test_a_second_process_reads_no_run(store: Store, reads: list[str]) -> None:
    first = kept(store)
    assert set(reads) == set(IDS)
    reads.clear()
    second = Seen(store)
    assert [second.whole(name) for name in IDS] == [True] * 3
    assert [second.digest(name) for name in IDS] == [first.digest(name) for name in IDS]
    assert run(DONE, store).reused == 3 and reads == []
    assert len({second.digest(name) for name in IDS}) == 3


def test_a_sweep_without_the_list_reads_every_run_and_writes_none(
    store: Store, reads: list[str]
) -> None:
    assert run(DONE, store).reused == 3 and set(reads) == set(IDS)
    assert not (store.folder / "whole.json").exists()


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".time.json"])
def test_a_file_that_was_written_since_is_read_again(
    suffix: str, store: Store, reads: list[str]
) -> None:
    digest = kept(store).digest(IDS[0])
    path = store.path(IDS[0], suffix)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))
    reads.clear()
    seen = Seen(store)
    assert all(map(seen.whole, IDS)) and set(reads) == {IDS[0]}
    assert seen.digest(IDS[0]) == digest, "the same content"


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".time.json"])
def test_a_file_that_is_damaged_or_gone_is_noticed(suffix: str, store: Store) -> None:
    kept(store)
    path = store.path(IDS[0], suffix)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not Seen(store).whole(IDS[0]) and Seen(store).digest(IDS[0]) == ""
    path.unlink()
    assert not Seen(store).whole(IDS[0])
    assert run(DONE, store).done == 1 and Seen(store).whole(IDS[0])


def test_another_content_has_another_digest(store: Store) -> None:
    digest = kept(store).digest(IDS[0])
    made = outcome(DONE[0])
    store.keep({**made.record, "more": 1}, made.arrays, made.sidecar)
    other = Seen(store).digest(IDS[0])
    store.keep(made.record, made.arrays, {**made.sidecar, "seconds": 7.0})
    assert len({digest, other, Seen(store).digest(IDS[0])}) == 3


def test_damage_that_leaves_no_trace_ends_the_list_when_a_run_is_read(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(store)
    path = store.path(IDS[0], ".safetensors")
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("rb+") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Seen(store).whole(IDS[0]), "a plan does not read it"
    for read_once in (store_module._read, integrity.file_sum):  # as another process would
        read_once.cache_clear()
    assert set(check_store(store).damaged) == {IDS[0]}
    assert not (store.folder / "whole.json").exists()
    assert run(DONE, store).done == 1 and "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_list_is_none(seed: int, store: Store) -> None:
    kept(store)
    path, draw = store.folder / "whole.json", random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    seen = Seen(store)
    assert [seen.whole(name) for name in IDS] == [store.whole(name) for name in IDS]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b'{"x": 1}', b'{"x": [[], true, ""]}', b"\xff"]
)
def test_a_list_of_another_form_is_none(content: bytes, store: Store) -> None:
    (store.folder / "whole.json").write_bytes(content)
    assert all(map(kept(store).whole, IDS))


def test_a_copied_store_is_read_and_has_the_same_digests(store: Store, reads: list[str]) -> None:
    digests = [kept(store).digest(name) for name in IDS]
    moved = Store(Path(shutil.copytree(store.folder, store.folder.with_name("moved"))))
    reads.clear()
    seen = Seen(moved)
    assert [seen.digest(name) for name in IDS] == digests and set(reads) == set(IDS)


def test_a_store_that_may_only_be_read_has_no_list(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise StoreError(str(path), "read-only", "a place that can be written", "")

    monkeypatch.setattr(seen_module, "write", refuse)
    kept(store)
    assert not (store.folder / "whole.json").exists()


def test_an_older_record_without_a_sidecar_has_a_digest_too(store: Store) -> None:
    made = outcome(specs(5)[4])
    path = store.path(made.record["id"])
    store.keep(made.record, made.arrays, made.sidecar)
    path.write_bytes(canonical(made.record))
    path.with_name(path.name.replace(".json", ".time.json")).unlink()
    name = made.record["id"]
    seen = Seen(store)
    assert seen.whole(name) and len({seen.digest(name), *map(seen.digest, IDS)}) == 4


def test_what_is_not_there_is_not_whole(store: Store) -> None:
    seen = Seen(store)
    other = run_id(specs(9)[8])
    assert not seen.whole(other) and seen.digest(other) == ""
