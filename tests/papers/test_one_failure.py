"""One notebook, table or figure that fails ends nothing else, and the user's own settings play no part.

About half a minute: a kernel takes some seconds to start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pandas as pd
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from matplotlib.figure import Figure

from mmlib.cli import main
from mmlib.errors import InputError
from mmlib.experiments.context import Context, Paper
from mmlib.papers import gmm_loss, mculora
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import job, jupyter, notebooks, regenerate
from mmlib.report import artifact as artifact_module
from mmlib.report.artifact import Artifact, Output, figure_bytes, read_manifest
from mmlib.runs.store import StoreError

PARAMETERS = "profile = ''\ndata = ''\nbackbone = ''\nlabel = ''\nseeds = 0"
DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
FINE = "print('fine')"
# What a notebook must find in every home: none of the user's names and settings, and this very Python.
CLEAN = f"""import sys, matplotlib
assert not {{'PROJECT', 'debug', 'started'}} & set(globals()), 'start-up files were run'
assert sys.executable == {sys.executable!r}, sys.executable
assert not matplotlib.rcParams['text.usetex'] and matplotlib.rcParams['font.family'] == ['sans-serif']
1
2"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's folder of the test's own, with runs, figures and notebooks; no run is made."""
    for name in ("MMLIB_RUNS", "MMLIB_FIGURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(job, "sweep_all", lambda *_, **__: 0)
    (tmp_path / "home" / "notebooks").mkdir(parents=True)
    return tmp_path / "home"


def put(home: Path, paper: str, code: str) -> Path:
    """A notebook of a paper with the parameters and one cell."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, id="first"),
        nbformat.v4.new_code_cell(code, id="second"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = home / "notebooks" / PAPERS[paper].notebook
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def outputs(home: Path, paper: str) -> list[Any]:
    """What the last cell of a paper's executed copy shows."""
    copy = home / "runs" / "notebooks" / "twins" / PAPERS[paper].notebook
    shown: list[Any] = nbformat.read(copy, as_version=4).cells[-1].outputs
    return shown


def test_a_kernel_that_dies_is_named_and_the_other_notebook_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Context] = []
    monkeypatch.setattr(notebooks, "draw_all", lambda contexts, wanted: drawn.extend(contexts))
    put(home, "mculora", DIES)
    put(home, "gmm_loss", FINE)
    contexts = [mculora.context("smoke"), gmm_loss.context("smoke")]
    assert job.run(contexts, (), jobs=1) == 1
    assert outputs(home, "gmm_loss")[0].text == "fine\n" and drawn == contexts[:1]
    told = capfd.readouterr()
    _, failed = told.out.split("1 failed, the rest is done:\n")
    details = home / "runs" / "troubles" / "twins" / "mculora" / "04_mculora.ipynb.txt"
    line = failed.splitlines()[0]
    assert (
        line.split()[:4] == ["mculora", "04_mculora.ipynb", "on", "twins:"] and str(details) in line
    )
    assert "DeadKernelError" in line and "Traceback" in details.read_text(encoding="utf-8")
    assert "Traceback" not in told.out + told.err


def test_a_home_without_notebooks_is_named_before_any_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "sweep_all", lambda *_, **__: pytest.fail("a run was made"))
    for command in (["run", "--profile", "smoke"], ["teach", "--out", str(home / "copies")]):
        assert main([*command, "--paper", "balm"]) == 2
        told = capsys.readouterr().err
        assert str(home / "notebooks") in told and "checkout" in told and "Traceback" not in told
    assert not (home / "copies").exists()


def killed(context: Context) -> None:
    """As if the system took the process that runs mculora's notebook."""
    if context.paper == "mculora":
        os.kill(os.getpid(), signal.SIGKILL)


def drawn_apart(contexts: list[Context], _: object) -> None:
    """Leaves a file, since it runs in a process of its own."""
    (contexts[0].store.folder.parent / f"drawn-{contexts[0].paper}").touch()


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_and_its_figures_are_drawn_apart(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebooks, "execute", killed)
    monkeypatch.setattr(notebooks, "draw_all", drawn_apart)
    contexts = [mculora.context("smoke"), gmm_loss.context("smoke")]
    failed = notebooks.execute_all(contexts, jobs=2)
    assert [(t.paper, t.reason.split(":")[0]) for t in failed] == [("mculora", "BrokenProcessPool")]
    assert job.conclude(contexts, (), failed) == 1
    assert [path.name for path in home.glob("drawn-*")] == ["drawn-mculora"]


@pytest.mark.parametrize(
    ("content", "argv", "reason"),
    [
        (None, None, "FileNotFoundError"),
        ("{'not': JSON", None, "NotJSONError"),
        ("[]", None, ""),
        ("", ("/bin/false",), "RuntimeError: Kernel died"),
        ("", ("/no/such/python",), "FileNotFoundError"),
    ],
)
def test_a_notebook_that_cannot_be_read_or_started_is_named(
    content: str | None,
    argv: tuple[str, ...] | None,
    reason: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Context] = []
    monkeypatch.setattr(notebooks, "draw_all", lambda contexts, wanted: drawn.extend(contexts))
    monkeypatch.setattr(jupyter, "ARGV", argv or jupyter.ARGV)
    path = put(home, "mculora", FINE)
    if content is None:
        path.unlink()
    elif content:
        path.write_text(content, encoding="utf-8")
    context = mculora.context("smoke")
    trouble = notebooks.execute(context)
    assert trouble is not None and trouble.what == path.name and trouble.reason.startswith(reason)
    assert "\n" not in str(trouble) and trouble.details.is_file() and drawn == [context]


def users_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a user's settings can do to a notebook, at once."""
    profile = folder / ".ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00-mine.py").write_text(
        "import math as m\nPROJECT = '/data'\n", encoding="utf-8"
    )
    config = [
        "c = get_config()",
        "c.InteractiveShellApp.exec_lines = ['debug = True']",
        "c.InteractiveShell.ast_node_interactivity = 'all'",
    ]
    (profile / "ipython_config.py").write_text("\n".join(config) + "\n", encoding="utf-8")
    spec = {
        "argv": ["/bin/false", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    for kernels in (folder / ".local/share/jupyter/kernels", folder / "jp/kernels"):
        (kernels / "python3").mkdir(parents=True)
        (kernels / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    matplotlibrc = folder / ".config" / "matplotlib" / "matplotlibrc"
    matplotlibrc.parent.mkdir(parents=True)
    matplotlibrc.write_text(
        "backend: TkAgg\ntext.usetex: True\nfont.family: serif\n", encoding="utf-8"
    )
    (folder / "started.py").write_text("started = True\n", encoding="utf-8")
    for variable in (
        "IPYTHONDIR",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "JUPYTER_DATA_DIR",
        "MPLCONFIGDIR",
    ):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in (
        ("HOME", folder),
        ("JUPYTER_PATH", folder / "jp"),
        ("MATPLOTLIBRC", matplotlibrc),
        ("MPLBACKEND", "TkAgg"),
        ("PYTHONSTARTUP", folder / "started.py"),
    ):
        monkeypatch.setenv(variable, str(value))


def test_the_users_settings_play_no_part(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users_home(tmp_path / "user", monkeypatch)
    before = dict(os.environ)
    assert (
        KernelSpecManager().get_kernel_spec("python3").argv[0] == "/bin/false"
    )  # so this home is a foreign one
    path = put(home, "mculora", CLEAN)
    context = mculora.context("smoke")
    assert notebooks.execute(context) is None
    shown = outputs(home, "mculora")
    assert [o.data["text/plain"] for o in shown] == [
        "2"
    ]  # the last expression alone, as in an empty home
    monkeypatch.setattr(notebooks, "PAPERS", {"mculora": mculora.PAPER})
    assert main(["run", "--update-notebooks"]) == 0
    updated = nbformat.read(path, as_version=4)
    assert updated.cells[-1].outputs[0].data["text/plain"] == "2"
    assert updated.metadata.kernelspec.name == "python3"  # so that it opens anywhere
    monkeypatch.delenv("MMLIB_HEADLESS", raising=False)
    before.pop("MMLIB_HEADLESS", None)
    assert {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} == {
        k: v for k, v in before.items() if k != "OMP_NUM_THREADS"
    }


def test_updating_leaves_a_notebook_that_fails_as_it_was_and_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails, runs = put(home, "mculora", "raise ValueError('no')"), put(home, "gmm_loss", FINE)
    before = fails.read_bytes()
    monkeypatch.setattr(notebooks, "PAPERS", {"mculora": mculora.PAPER, "gmm_loss": gmm_loss.PAPER})
    assert main(["run", "--update-notebooks"]) == 1
    assert fails.read_bytes() == before and "mmlib" in nbformat.read(runs, as_version=4).metadata
    assert f"left as it was: mculora {fails.name}" in capsys.readouterr().err


def table(id_: str, draw: Any, cells: Any = lambda _: []) -> Artifact:
    return Artifact(id_, "mculora", "table", id_, "A caption.", cells, draw)


def with_artifacts(*artifacts: Artifact) -> Paper:
    return dataclasses.replace(mculora.PAPER, artifacts=artifacts)


def fails_with(error: Exception) -> Any:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def unreadable_figure(*_: Any) -> Output:
    """A figure whose text matplotlib cannot set, which shows only when it is rendered."""
    figure = Figure()
    figure.text(0.5, 0.5, r"$\nosuchcommand$")
    return Output(figure=figure)


def test_a_table_that_cannot_be_drawn_is_named_and_the_rest_is_drawn(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = table("good", lambda *_: Output(table=pd.DataFrame({"a": ["1"]})))
    bad = [
        table("raises", fails_with(ValueError("one\npoint"))),
        table("renders", unreadable_figure),
        table("refuses", fails_with(InputError("split test", "one point", "four", "Give more."))),
        table("specifies", lambda *_: Output(), fails_with(IndexError("no class"))),
    ]
    monkeypatch.setitem(PAPERS, "mculora", with_artifacts(*bad, good))
    assert (
        main(
            [
                "run",
                "--paper",
                "mculora",
                "--profile",
                "smoke",
                "--artifact",
                "raises,renders,refuses,specifies,good",
            ]
        )
        == 1
    )
    entries = {e["id"]: e for e in read_manifest(home / "figures" / "manifest.json")}
    assert {name: e["status"] for name, e in entries.items()} == {
        "good": "regenerated",
        **dict.fromkeys(("raises", "renders", "refuses", "specifies"), "could not be drawn"),
    }
    assert entries["raises"]["notes"] == ["Could not be drawn: ValueError: one point"]
    assert entries["refuses"]["notes"] == [
        "Could not be drawn: split test: found one point; expected four. Give more."
    ]
    told = capsys.readouterr().out
    assert "4 failed, the rest is done:" in told
    for artifact in bad:
        assert f"  mculora {artifact.id} on twins: Could not be drawn: " in told
        details = home / "runs" / "troubles" / "twins" / "mculora" / f"{artifact.id}.txt"
        assert "Traceback" in details.read_text(encoding="utf-8")
    assert "could not be drawn" in (home / "figures" / "index.html").read_text(encoding="utf-8")
    monkeypatch.setitem(PAPERS, "mculora", with_artifacts(good))
    assert main(["report", "--paper", "mculora", "--profile", "smoke", "--artifact", "good"]) == 0


def test_a_cell_that_draws_shows_the_reason_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = with_artifacts(table("raises", fails_with(ValueError("one point"))))
    output = regenerate.draw(paper.context("smoke"), "raises")
    assert output.notes == ("Could not be drawn: ValueError: one point",)
    assert output.table is None and output.figure is None


def test_a_store_that_cannot_be_read_ends_the_run_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = StoreError("runs", "PermissionError", "a folder that can be read", "Change its rights.")
    monkeypatch.setitem(PAPERS, "mculora", with_artifacts(table("raises", fails_with(error))))
    assert main(["report", "--paper", "mculora", "--profile", "smoke"]) == 2
    assert "Change its rights" in capsys.readouterr().err


def test_a_users_matplotlibrc_changes_no_byte_of_a_picture() -> None:
    def picture() -> Figure:
        figure = Figure()
        figure.subplots().plot([0, 1], [1, 0])
        return figure

    plain, foreign = picture(), picture()
    kinds = ("png", "svg")
    expected = [figure_bytes(plain, kind) for kind in kinds]
    with matplotlib.rc_context(
        {
            "text.usetex": True,
            "font.family": "serif",
            "savefig.bbox": "tight",
            "savefig.transparent": True,
            "svg.fonttype": "none",
            "xtick.labelsize": 30,
        }
    ):
        assert [figure_bytes(foreign, kind) for kind in kinds] == expected
        with artifact_module.plain_settings():
            assert not matplotlib.rcParams["text.usetex"]
        assert matplotlib.rcParams["text.usetex"]
