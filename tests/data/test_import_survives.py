"""An import that is killed, doubled or out of space: the old bundle or the new one opens at every moment.

Takes about half a minute. Imports run in forked children, which start at once, so that kills fall inside them.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_folder import write_folder

from mmlib import files
from mmlib.cli import main
from mmlib.data import keep
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError

KILLS = 40
LONGEST_WAIT = (
    60  # seconds; for the last kill, which waits for the new bundle however busy the CPUs
)
STEPS = (
    "replace",
    "fsync",
    "unlink",
    "open",
    "mkdir",
)  # of ``os``: the moments at which files change


def command(source: Path, out: Path) -> list[str]:
    return ["data", "import", "folder", str(source), "--raw", "--name", "mine", "--out", str(out)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Two input folders of equal shapes and different numbers, each with its bundle's fingerprint."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("source") / "in"
        frames = np.random.default_rng(seed).normal(size=(24, 50, 100))
        write_folder(folder, audio=frames, text=np.full((24, 3), float(seed)))
        assert main(command(folder, folder.parent / "whole")) == 0
        made.append((folder, load_bundle(folder.parent / "whole").fingerprint))
    return made


def forked(call: Callable[[], int]) -> int:
    """Start a call in a child process whose exit code is the call's; the child's number."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
            code = call()
        finally:
            os._exit(code)
    return child


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def opened(folder: Path) -> str | None:
    """The fingerprint of the bundle that opens; None where there is none. A damaged one raises."""
    try:
        return load_bundle(folder).fingerprint
    except InputError as error:
        if "no bundle.json" in str(error):
            return None
        raise


def only_a_bundle(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return len(names) == 2 and "bundle.json" in names and bool(names & set(keep.ARRAYS))


def seconds_of(call: Callable[[], int]) -> float:
    start = time.perf_counter()
    assert code_of(forked(call)) == 0
    return time.perf_counter() - start


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_an_import_killed_at_any_time_leaves_the_old_bundle_or_the_new_and_works_again(
    replacing: bool, sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    draw = random.Random(7)
    longest = max(
        seconds_of(lambda: main(command(sources[0][0], tmp_path / "timed"))) for _ in range(3)
    )
    seen: set[str | None] = set()
    old: str | None = None
    for number in range(KILLS):
        source, new = sources[number % 2]
        out = tmp_path / ("out" if replacing else f"out{number}")
        child = forked(partial(main, command(source, out)))
        start = time.perf_counter()
        wait = longest * (number + draw.random()) / KILLS
        while (passed := time.perf_counter() - start) < LONGEST_WAIT:
            state = opened(out)
            assert state in (old, new)
            if passed > wait and (number < KILLS - 1 or state == new):  # the last: after the change
                break
            time.sleep(0.005)  # else the looks take more of the CPU than what they look at
        os.kill(child, signal.SIGKILL)
        code_of(child)
        seen.add("new" if opened(out) == new else "old")
        assert opened(out) in (old, new)
        assert main(command(source, out)) == 0
        assert opened(out) == new and only_a_bundle(out)
        old = new if replacing else None
    assert seen == {"old", "new"}  # kills fell before and after the moment of change


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_a_kill_at_each_step_of_writing_leaves_the_old_bundle_or_the_new(
    replacing: bool, sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    states: list[bool] = []
    (first, old), (second, new) = sources
    while True:
        out = tmp_path / f"out{len(states)}"
        if replacing:
            assert main(command(first, out)) == 0
        code = code_of(forked(partial(die_at, len(states), command(second, out))))
        assert opened(out) in (old if replacing else None, new)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        states.append(opened(out) == new)
        assert main(command(second, out)) == 0
        assert opened(out) == new and only_a_bundle(out)
    assert len(states) > 6 and not states[0] and states[-1] and states == sorted(states)


def die_at(step: int, arguments: list[str]) -> int:
    """Run a command that kills itself just before its file operation of this number."""
    left = [step]

    def deadly(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*given: object, **named: object) -> object:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*given, **named)

        return instead

    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))
    return main(arguments)


def test_imports_of_one_name_at_once_all_succeed_and_leave_one_of_the_bundles(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for number in range(6):
        out = tmp_path / f"out{number // 2}"  # there already in every second round
        chosen = [sources[i % 2][0] for i in range(3)]
        children = [forked(partial(main, command(source, out))) for source in chosen]
        assert [code_of(child) for child in children] == [0] * 3
        assert opened(out) in {fingerprint for _, fingerprint in sources} and only_a_bundle(out)


def test_a_bundle_that_is_replaced_again_and_again_opens_every_time(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    bundles = [load_bundle(folder.parent / "whole") for folder, _ in sources]
    keep_one(bundles[0], tmp_path)

    def replace() -> int:
        for number in range(60):
            keep_one(bundles[number % 2], tmp_path)
        return 0

    child, seen = forked(replace), set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        seen.add(opened(tmp_path / "out"))
    assert seen == {fingerprint for _, fingerprint in sources}


def keep_one(bundle: Bundle, folder: Path) -> None:
    from mmlib.data.bundle import save_bundle

    save_bundle(bundle, folder / "out")


def test_who_has_the_old_bundle_open_keeps_its_numbers(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (first, old), (second, new) = sources
    assert main(command(first, tmp_path / "out")) == 0
    bundle = load_bundle(tmp_path / "out")
    for source in (second, first, second):
        assert main(command(source, tmp_path / "out")) == 0
    assert bundle.fingerprint == old and opened(tmp_path / "out") == new
    assert (bundle.features["text"] == 1).all()


def test_a_bundle_without_the_name_of_its_arrays_opens_and_is_replaced(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (first, old), (second, new) = sources
    assert main(command(first, tmp_path / "out")) == 0
    head = json.loads((tmp_path / "out/bundle.json").read_text())
    assert head.pop("arrays") == "bundle.safetensors"
    (tmp_path / "out/bundle.json").write_text(json.dumps(head))
    assert opened(tmp_path / "out") == old
    assert main(command(second, tmp_path / "out")) == 0
    assert opened(tmp_path / "out") == new and only_a_bundle(tmp_path / "out")


def test_arrays_are_read_from_the_bundle_s_own_files_alone(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    assert main(command(sources[0][0], tmp_path / "out")) == 0
    path = tmp_path / "out/bundle.json"
    os.link(tmp_path / "out/bundle.safetensors", tmp_path / "elsewhere.safetensors")
    elsewhere = tmp_path / "elsewhere.safetensors"
    for name in ("../elsewhere.safetensors", str(elsewhere), "", None, 3, ["bundle.safetensors"]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"arrays": name}))
        with pytest.raises(InputError, match="damaged"):
            load_bundle(tmp_path / "out")
        assert main(["data", "check", str(tmp_path / "out")]) == 2


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
@pytest.mark.parametrize("size", [0, 1000, 200_000], ids=str)
def test_a_full_disk_is_told_and_leaves_what_was_there(
    size: int,
    replacing: bool,
    sources: list[tuple[Path, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (first, old), (second, new) = sources
    out = tmp_path / "deep" / "out"
    if replacing:
        assert main(command(first, out)) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    with largest_file(size):
        assert main(command(second, out)) == 2
    message = capsys.readouterr().err
    assert "File too large" in message and str(out) in message and "free space" in message
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert out.parent.exists() == replacing
    assert opened(out) == (old if replacing else None)
    assert main(command(second, out)) == 0 and opened(out) == new


def test_a_head_that_cannot_be_written_leaves_the_old_bundle(
    sources: list[tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, old), (second, new) = sources
    assert main(command(first, tmp_path / "out")) == 0
    with monkeypatch.context() as patch:

        def full(path: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr(Path, "write_bytes", full)
        assert main(command(second, tmp_path / "out")) == 2
    assert opened(tmp_path / "out") == old
    assert main(command(second, tmp_path / "out")) == 0
    assert opened(tmp_path / "out") == new and only_a_bundle(tmp_path / "out")


@pytest.mark.parametrize("make", ["import", "twin"])
@pytest.mark.parametrize(
    "place", ["file", "below a file", "name too long", "dangling link", "read-only"]
)
def test_a_place_that_cannot_be_a_folder_is_told_and_nothing_is_written(
    place: str,
    make: str,
    sources: list[tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    out = {
        "file": tmp_path / "thesis.tex",
        "below a file": tmp_path / "thesis.tex" / "out",
        "name too long": tmp_path / ("x" * 300),
        "dangling link": tmp_path / "link",
        "read-only": tmp_path / "out",
    }[place]

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    if place == "read-only":
        monkeypatch.setattr(os, "mkdir", read_only)
    before = sorted(tmp_path.rglob("*"))
    arguments = (
        command(sources[0][0], out)
        if make == "import"
        else ["data", "twin", "mosei", "--size", "tiny", "--out", str(out)]
    )
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("mmlib: ") and str(out) in message and "Traceback" not in message
    assert (
        sorted(tmp_path.rglob("*")) == before
        and (tmp_path / "thesis.tex").read_text() == "precious"
    )


def test_what_killed_imports_left_is_removed_and_other_files_stay(
    sources: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for name in (
        "bundle.safetensors.partial",
        "bundle.json.partial",
        ".bundle.json.lock",
        "bundle-2.safetensors",
        ".bundle-2.safetensors.17-0a0b0c0d.partial",
    ):
        (tmp_path / name).write_text("left")
    (tmp_path / ".bundle.safetensors.18-0a0b0c0d.d.partial").mkdir()
    (tmp_path / ".bundle.safetensors.18-0a0b0c0d.d.partial" / "arrays").write_text("left")
    assert main(command(sources[0][0], tmp_path)) == 0
    assert opened(tmp_path) == sources[0][1] and only_a_bundle(tmp_path)
    modes = {path.stat().st_mode for path in (*tmp_path.iterdir(), sources[0][0] / "audio.npy")}
    assert len(modes) == 1  # whoever may read the input may read the bundle
    (tmp_path / "notes.txt").write_text("mine")
    assert main(command(sources[1][0], tmp_path)) == 0
    assert opened(tmp_path) == sources[1][1] and (tmp_path / "notes.txt").read_text() == "mine"


def test_a_reference_longer_than_a_path_is_an_unknown_bundle() -> None:
    with pytest.raises(InputError, match="bundle"):
        open_bundle("x" * 5000)


def test_without_locks_leftovers_that_are_young_stay(
    sources: list[tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", none)
    young, old = tmp_path / ".bundle.json.1-aa.partial", tmp_path / ".bundle.json.2-bb.partial"
    for path, age in ((young, 60), (old, 3700)):
        path.write_text("left")
        os.utime(path, (time.time() - age,) * 2)
    assert main(command(sources[0][0], tmp_path)) == 0
    assert opened(tmp_path) == sources[0][1] and young.exists() and not old.exists()
