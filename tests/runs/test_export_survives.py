"""An export that is killed, that fails or that others read: the old model or the new one opens at every moment."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from small_models import Toy, exported, raw, saved, spec

import mmlib
from mmlib import files
from mmlib.errors import InputError
from mmlib.runs import export

STEPS = ("replace", "rename", "fsync", "unlink", "open", "mkdir")  # of ``os``: when files change
Contents = Mapping[str, bytes]
FILES = ("model.json", "weights.safetensors")


@pytest.fixture(scope="module")
def models(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Contents]]:
    """Two models: the id of each run, and the content of its files."""
    made: list[tuple[str, Contents]] = []
    for name in ("mlp", "linear"):
        folder = tmp_path_factory.mktemp(name)
        method = "linear" if name == "linear" else "plain"
        data = saved(raw(toy), folder / "toy")
        model, _ = exported(spec(data, backbone=name, method=method, keep=("weights",)), folder)
        run = json.loads((model / "model.json").read_text())["run"]["id"]
        made.append((run, {file: (model / file).read_bytes() for file in FILES}))
    return made


def opened(folder: Path) -> str | None:
    """The run of the model that opens; None where there is none. A damaged one raises."""
    try:
        return str(mmlib.load_model(folder).card.run_id)
    except InputError as error:
        if "no model.json" in str(error):
            return None
        raise


def killed_at(step: int, call: Callable[[], None]) -> bool:
    """Whether a call in a child was killed just before its change of a file of this number."""
    child = os.fork()
    if child == 0:
        left = [step]

        def deadly(change: Callable[..., object]) -> Callable[..., object]:
            def instead(*given: object, **named: object) -> object:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return change(*given, **named)

            return instead

        try:
            for name in STEPS:
                setattr(os, name, deadly(getattr(os, name)))
            call()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_a_kill_at_each_step_leaves_the_old_model_or_the_new(
    models: list[tuple[str, Contents]], tmp_path: Path, replacing: bool
) -> None:
    (first, old), (second, new) = models
    states = []
    for step in range(100):
        out = tmp_path / f"out{step}" / "model"
        if replacing:
            export._write(out, old)
        killed = killed_at(step, lambda to=out: export._write(to, new))  # type: ignore[misc]
        state = opened(out)
        assert state in (first if replacing else None, second)
        export._refuse_other_files(out)
        export._write(out, new)
        assert opened(out) == second and sorted(os.listdir(out)) == sorted(FILES)
        assert os.listdir(out.parent) == ["model"], "nothing is left beside it"
        if not killed:
            break
        states.append(state == second)
    assert len(states) > 6 and not states[0] and states[-1] and states == sorted(states)


@pytest.mark.parametrize("file", ["weights.new.safetensors", "model.json"])
def test_a_full_disk_leaves_what_was_there(
    models: list[tuple[str, Contents]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
) -> None:
    (first, old), (_, new) = models
    out, absent = tmp_path / "model", tmp_path / "no" / "folder"
    export._write(out, old)
    write = files.write

    def full(path: Path, data: bytes, *_: object) -> None:
        if path.name == file:
            raise OSError("no space left")
        write(path, data)

    monkeypatch.setattr(files, "write", full)
    for place in (out, absent):
        with pytest.raises(InputError, match="no space left"):
            export._write(place, new)
    assert opened(out) == first and sorted(os.listdir(out)) == sorted(FILES)
    assert not (tmp_path / "no").exists()


def test_a_model_that_is_replaced_again_and_again_opens_every_time(
    models: list[tuple[str, Contents]], tmp_path: Path
) -> None:
    out, stop = tmp_path / "model", threading.Event()
    export._write(out, models[0][1])

    def replace() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            export._write(out, models[number % 2][1])

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = {opened(out) for _ in range(40)}
    finally:
        stop.set()
        writer.join()
    assert seen <= {run for run, _ in models} and None not in seen


def test_a_folder_with_weights_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="other files"):
        export._refuse_other_files(tmp_path)
