"""Any command line ends with an exit code and a message, any notebook parameter is taken or refused in words.

The command lines follow the parser's own grammar, with good, bad and odd values for every option. What would take long
(runs, notebooks, measurements) is stubbed: the checks before it are what is tested. About half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlib import doctor
from mmlib.bench import adapters, balm, clips, dream, ebmc, length
from mmlib.bench import sweep as sweep_case
from mmlib.cli import build_parser, main
from mmlib.compare import command as comparing
from mmlib.data import catalog
from mmlib.data import check as check_module
from mmlib.errors import InputError
from mmlib.experiments import search
from mmlib.experiments.profiles import PROFILES
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import decide as deciding
from mmlib.pipeline import job, notebooks

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LINES, PARAMETER_SETS = 600, 200
LONG, UNREADABLE = (
    "x" * 5000,
    "\udcff",
)  # longer than any file's name; bytes of the shell that are no text
ODD = [
    "",
    ",",
    " ",
    "-",
    "../x",
    "x" * 65,
    "x" * 300,
    LONG,
    "é",
    UNREADABLE,
    "a\nb",
    "balm,balm",
    "CON",
    "%s{}",
]
NUMBERS = [
    "1",
    "2",
    "0",
    "-1",
    "1.5",
    "nan",
    "inf",
    "1e400",
    "two",
    "9" * 30,
    "9" * 5000,
    "",
    "None",
]
# By option, without its dashes, or by positional: values that are right somewhere, and wrong ones of its own.
VALUES: dict[str, list[str]] = {
    "paper": [
        "balm",
        "ebmc",
        "dream,side_by_side",
        "gmm_loss",
        "sweep",
        "mculora",
        "balms",
        "balm,",
    ],
    "profile": ["smoke", "quick", "laptop", "paper", "quik"],
    "data": [
        "mosei=twin:mosei@smoke",
        "iemocap6=twin:iemocap6@smoke",
        "crema-d=twin:crema-d@smoke",
        "mosei=mine",
        "mosei-frames=mine",
        "mine",
        "twin:iemocap6@smoke",
        "ave=mine",
        "mosei",
        "=x",
        "mosey=x",
        "mosei=nowhere",
        f"mosei={LONG}",
        f"mosei={UNREADABLE}",
        "mosei=twin:mosei@huge",
        "twin:mosei@tiny",
        "nowhere",
    ],
    "rates": ["audio=0.7,text=0.3,vision=0.5", "audio=0.7", "audio=1", "audio", "=0.3", "eeg=x"],
    "artifact": ["table1", "fig2", "table1,claims", "tabel1", "table1,table1", "tuning"],
    "backbone": ["mmgcn", "gcnet,mmgcn", "momke", "mmgnc", "mmgcn,mmgcn", "concat"],
    "method": ["balm", "ebmc,dream", "gmm_loss", "blam"],
    "network": ["mmgcn", "gcnet,mmgcn", "concat", "mmgnc", "linear"],
    "against": ["there", "nowhere", "file"],
    "seeds": NUMBERS,
    "jobs": NUMBERS,
    "max_minutes": NUMBERS,
    "minutes": NUMBERS,
    "witnesses": NUMBERS,
    "threads": NUMBERS,
    "epochs": NUMBERS,
    "lengths": NUMBERS,
    "executor": ["local", "dask:", "dask:tcp://127.0.0.1:1", "dusk"],
    "label": ["mine", "twins", "a-b.c"],
    "out": ["new", "there", "file", "file/inside", "nowhere/new", "new.csv"],
    "repository": ["someone/mmlib", "mmlib", "a/b/c"],
    "solutions": ["new", "there", "file", "file/inside"],
    "action": ["compare", "merge", "adopt", "burn"],
    "run_id": ["0123456789abcdef-01234567", "nothing", "0"],
    "store": ["store1", "nowhere", "file"],
    "model": ["there", "nowhere", "file"],
    "input": ["mine", "mine-folder", "twin:iemocap6@smoke", "nowhere", "file"],
    "first": ["store1", "store2", "nowhere", "file"],
    "second": ["store1", "store2", "nowhere", "file"],
    "device": ["cpu", "cuda", "mps", "tpu"],
    "size": ["iemocap", "quick", "tiny", "crema-d", "smoke", "huge"],
    "json": ["report.json", "there", "nowhere/report.json"],
    "format": ["folder", "gcnet", "mmsa", "foldr"],
    "paths": ["mine-folder", "file", "nowhere", "there"],
    "name": ["mine", "other"],
    "option": ["split=leaky", "zeros=missing", "split", "=x", "x="],
    "bundle": ["twin:iemocap6@smoke", "mine", "nowhere", "twin:iemocap7", "file"],
    "role": ["iemocap6", "mosi", "iemocap7"],
}
# The first so many of an option's values are the right ones.
RIGHT = {"first": 2, "second": 2, "paths": 1, "format": 1, "action": 3, "bundle": 2, "role": 1}
# Only of the parser itself: they print and stop.
PRINTS = {"help", "version"}


def leaves(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], list[Any]]:
    """The actions of every command, by its words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = {}
            for name, child in action.choices.items():
                found |= leaves(child, (*path, name))
            return found
    return {path: [action for action in parser._actions if action.dest not in PRINTS]}


COMMANDS = leaves(build_parser())


def value_of(action: Any) -> st.SearchStrategy[str]:
    """A value for an option or positional: mostly one that is meant for it, and mostly a right one of those."""
    own = [*map(str, action.choices or ()), *VALUES[action.dest]]
    return st.one_of(
        *[st.sampled_from(own[: RIGHT.get(action.dest, len(own))])] * 5,
        st.sampled_from(own),
        st.sampled_from(ODD),
    )


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with its positionals, and some of its options, each with a value."""
    words = draw(st.sampled_from(sorted(COMMANDS)))
    line: list[str] = []
    for action in COMMANDS[words]:
        flag = bool(action.option_strings)
        if flag and not action.required and draw(st.integers(0, 3)):
            continue
        if not flag and not draw(st.integers(0, 9)):
            continue
        line += [action.option_strings[-1]] if flag else []
        if action.nargs != 0:
            count = draw(st.integers(1, 2)) if action.nargs in ("+", "*") else 1
            line += [draw(value_of(action)) for _ in range(count)]
    extra = draw(st.sampled_from([[]] * 20 + [["--no-such-option"], ["surplus"]]))
    return [*words, *line, *extra]


def small_folder(folder: Path) -> None:
    """Nine utterances for ``data import folder``."""
    folder.mkdir()
    rows = [
        f"u{i},{split},{'ab'[i % 2]}"
        for i, split in enumerate(["train"] * 5 + ["valid"] * 2 + ["test"] * 2)
    ]
    (folder / "utterances.csv").write_text(
        "\n".join(["id,split,label", *rows]) + "\n", encoding="utf-8"
    )
    for modality in ("eeg", "voice"):
        np.save(
            folder / f"{modality}.npy",
            np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a bundle, two stores, a file and small notebooks, in which nothing takes long."""
    home, patch = tmp_path_factory.mktemp("home"), pytest.MonkeyPatch()
    for name in ("there", "store1", "store2", "notebooks", "data"):
        (home / name).mkdir()
    (home / "file").write_text("a file\n", encoding="utf-8")
    shutil.copyfile(ROOT / "data" / "manifest.toml", home / "data" / "manifest.toml")
    for name in [paper.notebook for paper in PAPERS.values()]:
        cell = nbformat.v4.new_markdown_cell("A lesson.", id="lesson")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), home / "notebooks" / name)
    small_folder(home / "mine-folder")
    for variable, value in (
        ("MMLIB_HOME", home),
        ("MMLIB_RUNS", home / "runs"),
        ("MMLIB_FIGURES", home / "figures"),
    ):
        patch.setenv(variable, str(value))
    patch.chdir(home)
    for name, profile in PROFILES.items():
        patch.setitem(PROFILES, name, dataclasses.replace(profile, size="smoke"))
    for name in ("make_twin", "make_av_twin"):
        patch.setattr(catalog, name, functools.cache(getattr(catalog, name)))
    patch.setattr(check_module, "check", once(check_module.check))
    for name in ("run", "sweep_all", "report", "dry_run", "list_artifacts"):
        patch.setattr(job, name, lambda *_, **__: 0)
    patch.setattr(notebooks, "update_notebooks", lambda: 0)
    patch.setattr(search, "search", lambda *_, **__: True)
    patch.setattr(comparing, "spend", measured)
    patch.setattr(deciding, "decide", lambda *_, **__: 0)
    patch.setattr(doctor, "main", lambda: 0)
    for module, name in (
        (balm, "measure_apart"),
        (length, "report_of"),
        (sweep_case, "measure"),
        *((part, "measure") for part in (adapters, clips, dream, ebmc)),
    ):
        patch.setattr(module, name, measured)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["data", "import", "folder", "mine-folder", "--name", "mine"]) == 0
    yield home
    patch.undo()


def once(check: Any) -> Any:
    """A check of bundles that looks at each one once."""
    reports: dict[tuple[str, str | None], Any] = {}

    def cached(bundle: Any, role: str | None = None) -> Any:
        key = (bundle.fingerprint, role)
        if key not in reports:
            reports[key] = check(bundle, role)
        return reports[key]

    return cached


def measured(*_: object, **__: object) -> None:
    """A bench that has passed its checks."""
    raise SystemExit(0)


def snapshot(home: Path) -> list[tuple[str, int, int]]:
    """Every file and folder with its size and time."""
    stats = ((path, path.lstat()) for path in sorted(home.rglob("*")))
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def ended(line: list[str]) -> tuple[int, str]:
    """The exit code of a command line and what it wrote to standard error, with streams as strict as a terminal's."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
        out.flush()
        err.flush()
    return code, err.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]


def test_any_command_line_ends_with_a_code_and_a_message_and_writes_nothing_where_it_is_refused(
    world: Path,
) -> None:
    codes: list[int] = []

    @settings(
        max_examples=COMMAND_LINES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def holds(line: list[str]) -> None:
        before = snapshot(world)
        code, err = ended(line)
        codes.append(code)
        assert "Traceback" not in err
        partly = "left out: " in err or line[:2] == ["data", "check"]
        assert code in ((0, 1, 2) if partly else (0, 2)), err
        if code == 2:
            assert err.strip() and snapshot(world) == before

    holds()
    assert len(codes) >= COMMAND_LINES and min(codes.count(0), codes.count(2)) > COMMAND_LINES // 10


GOOD: dict[str, list[Any]] = {
    "profile": ["smoke", "quick"],
    "data": [""],
    "backbone": [""],
    "label": ["", "mine", "a-b.c"],
    "seeds": [0, 1, 3, np.int64(2)],
    "own_rates": [""],
}
BAD: dict[str, list[Any]] = {
    "profile": [3, None, "", "quik", ["smoke"], b"smoke"],
    "data": [
        ["x"],
        None,
        3,
        "mosei",
        "=x",
        ",",
        {"mosei": "x"},
        "nobody=x",
        f"mosei={LONG}",
        "mosei=\x00",
    ],
    "backbone": [None, 3, ["mmgcn"], "mmgnc", ",", "mmgcn,mmgcn,"],
    "label": ["../x", "a/b", None, 3, "x" * 65, LONG, ".", "a b", "\x00"],
    "own_rates": [None, 0.3, "eeg", "eeg=2", "eeg=0.1,eeg=0.2", ",", {"eeg": 0.1}, LONG],
    "seeds": [1.5, math.inf, math.nan, "two", "3", True, None, -1, 10**30, [1], 3 + 0j],
}


def code_cells(name: str) -> list[str]:
    """The code of a notebook's first two cells: the parameters, and what checks them."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"][:2]


def test_all_six_notebooks_take_right_parameters_and_refuse_wrong_ones_in_words(
    world: Path,
) -> None:
    cells = {name: code_cells(paper.notebook) for name, paper in PAPERS.items()}
    refused: list[bool] = []
    one = st.fixed_dictionaries(
        {
            name: st.one_of(
                *[st.tuples(st.just(False), st.sampled_from(GOOD[name]))] * 3,
                st.tuples(st.just(True), st.sampled_from(BAD[name])),
            )
            for name in GOOD
        }
    )

    @settings(
        max_examples=PARAMETER_SETS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(one)
    def holds(chosen: dict[str, tuple[bool, Any]]) -> None:
        for paper, (first, second) in cells.items():
            space: dict[str, Any] = {}
            exec(first, space)
            own = {name: pair for name, pair in chosen.items() if name in space}
            assert set(chosen) - set(own) == ({"own_rates"} - set(space))
            refused.append(any(bad for bad, _ in own.values()))
            space |= {name: value for name, (_, value) in own.items()}
            with contextlib.redirect_stdout(io.StringIO()):
                if refused[-1]:
                    with pytest.raises(InputError, match="expected"):
                        exec(second, space)
                else:
                    exec(second, space)
                    assert space["context"].paper == paper

    holds()
    assert len(refused) >= PARAMETER_SETS and 0 < sum(refused) < len(refused)
