"""A notebook is executed again where anything that it shows or writes may have changed, and only then.

The notebooks are tiny and a stub stands for the kernel, but for one test at the end.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.errors import InputError
from mmlib.experiments import own
from mmlib.experiments.context import Context
from mmlib.papers import gmm_loss, mculora, side_by_side
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import executed, job, notebooks, regenerate
from mmlib.pipeline.troubles import Trouble
from mmlib.report.artifact import NOT_DRAWN, Made, missing, update_manifest
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store

PARAMETERS = "profile = ''\ndata = ''\nbackbone = ''\nlabel = ''\nseeds = 0"
SPEC = RunSpec("twin:crema-d@smoke", 0, backbone="concat")
SPARE = dataclasses.replace(SPEC, seed=7)  # a run that no notebook needs
Change = Callable[[Path, Context, pytest.MonkeyPatch], object]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's folder of the test's own."""
    for name in ("MMLIB_RUNS", "MMLIB_FIGURES"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("MMLIB_HOME", str(folder))
    (folder / "notebooks").mkdir(parents=True)
    shutil.copytree(executed.PACKAGE / "runs", tmp_path / "package" / "runs")
    monkeypatch.setattr(executed, "PACKAGE", tmp_path / "package")
    return folder


@dataclasses.dataclass
class Kernel:
    """What stands for the execution of notebooks."""

    ran: list[str] = dataclasses.field(default_factory=list)
    """Papers, in the order of their executions."""

    claims: str = "claims\n"
    """What it writes to the file on all papers' claims, as the gathering of what was drawn does."""

    status: str = "regenerated"
    """Of the table that it draws."""

    ends: BaseException | Trouble | None = None
    """How it ends."""

    def __call__(self, context: Context) -> Trouble | None:
        self.ran.append(context.paper)
        note = executed.copy_of(context).with_suffix(".json")
        assert not note.exists(), "who is killed now leaves none"
        folder = context.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table1.md").write_text("a table\n")
        (folder / "records.csv").write_text("records\n")
        first = own.worded(context, context.declared.artifacts[0])
        made = Made(context.collection, context.profile.name)
        name = f"figures/{context.collection}/{context.paper}/table1.md"
        entry = missing(first, made, self.status) | {"files": [name]}
        update_manifest(paths.figures() / "manifest.json", [entry])
        (paths.figures() / "claims.csv").write_text(self.claims)
        time.sleep(0.02)  # file systems count in such steps
        copy(context)
        if isinstance(self.ends, BaseException):
            raise self.ends
        return self.ends


def copy(context: Context) -> None:
    """The executed copy, in which each cell began just now."""
    notebook = nbformat.read(paths.notebooks() / context.declared.notebook, as_version=4)
    for cell in notebook.cells:
        cell.metadata["papermill"] = {"start_time": datetime.now(UTC).isoformat()}
    out = executed.copy_of(context)
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    stub = Kernel()
    monkeypatch.setattr(notebooks, "execute", stub)
    monkeypatch.setattr(regenerate, "gather_all", lambda: None)
    return stub


def put(paper: str, code: str = "print('fine')", output: str = "", finish: str = "pass") -> Path:
    """A notebook of a paper with the parameters, a cell and another one."""
    last = nbformat.v4.new_code_cell(code, id="second")
    last.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)] if output else []
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, id="first")
    middle = nbformat.v4.new_code_cell(finish, id="middle")
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = paths.notebooks() / PAPERS[paper].notebook
    nbformat.write(nbformat.v4.new_notebook(cells=[first, middle, last], metadata=metadata), path)
    return path


def keep_run(context: Context, spec: RunSpec = SPEC, value: float = 0.5) -> None:
    """A finished run in the store."""
    run_id = spec.run_id(context.bundle_fingerprint(spec.data))
    content = {"id": run_id, "spec": spec.to_json(), "status": "done", "value": value}
    context.store.keep(content, {"predictions.valid.test": np.zeros(3)}, {"seconds": 1.0})


def call(*contexts: Context, force: bool = False) -> list[Trouble]:
    """One call of ``mmlib run``, when the runs are made."""
    needed = [[SPEC]] * len(contexts)
    return notebooks.execute_all(contexts, 1, needed, force)


@pytest.fixture
def context(kernel: Kernel) -> Context:
    """A paper whose notebook has been executed once."""
    put("gmm_loss")
    made = gmm_loss.context("smoke")
    keep_run(made)
    assert call(made) == [] and kernel.ran == ["gmm_loss"]
    return made


def test_a_second_call_executes_nothing_and_says_so(
    context: Context, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert call(context) == [] and kernel.ran == ["gmm_loss"]
    assert capsys.readouterr().out == "05_gmm_loss.ipynb on twins: up to date\n"
    assert call(context, force=True) == [] and kernel.ran == ["gmm_loss"] * 2


def test_each_execution_says_that_it_runs_why_it_does_so_again_and_how_long_it_took(
    context: Context, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "05_gmm_loss.ipynb on twins"
    executed.forget(context)
    capsys.readouterr()
    call(context)
    first, ended = capsys.readouterr().out.splitlines()
    assert first == f"{name}: running" and re.fullmatch(rf"{name}: executed in \d+ s", ended)
    put("gmm_loss", "print('another')")
    call(context)
    assert capsys.readouterr().out.splitlines()[0] == f"{name}: running (changed: cells)"
    kernel.ends = Trouble("twins", "gmm_loss", "05_gmm_loss.ipynb", "failed", Path())
    call(context, force=True)
    assert "executed in" not in capsys.readouterr().out


def cell(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    put("gmm_loss", "print('another')")


def record(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    keep_run(context, value=0.25)


def seconds(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    run_id = SPEC.run_id(context.bundle_fingerprint(SPEC.data))
    record = context.store.get(run_id)
    assert record is not None
    arrays = context.store.arrays(run_id)
    context.store.keep(record.content, arrays, {"seconds": 2.0})


def no_run(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    context.store.path(SPEC.run_id(context.bundle_fingerprint(SPEC.data))).unlink()


def failed_run(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    no_run(home, context, patch)
    call(context)
    context.store.fail(SPEC.run_id(context.bundle_fingerprint(SPEC.data)), SPEC, "diverged")


def package_file(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    with (executed.PACKAGE / "runs" / "spec.py").open("a") as file:
        file.write("# another comment\n")


def new_file(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (executed.PACKAGE / "runs" / "numbers.csv").write_text("1\n")


def library(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(executed, "version", lambda name: "99" if name == "torch" else "1")


def data(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    made = dataclasses.replace(executed.open_bundle(SPEC.data), notes={"split": "another"})
    patch.setattr(executed, "open_bundle", lambda reference: made)


def deleted(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (context.folder / "table1.md").unlink()


def edited(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (context.folder / "table1.md").write_text("a tablE\n")


def no_copy(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    executed.copy_of(context).unlink()


def no_manifest(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (home / "figures" / "manifest.json").unlink()


def trials(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (home / "runs" / "recipes.csv").write_text("trials on own data\n")


def committed(home: Path, context: Context, patch: pytest.MonkeyPatch) -> None:
    (home / "figures" / "real" / "gmm_loss").mkdir(parents=True)
    (home / "figures" / "real" / "gmm_loss" / "claims.md").write_text("of real data\n")


CHANGES: list[Change] = [
    cell,
    record,
    seconds,
    no_run,
    failed_run,
    package_file,
    new_file,
    library,
    data,
    deleted,
    edited,
    no_copy,
    no_manifest,
    trials,
    committed,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_changes_leads_to_one_execution(
    change: Change, home: Path, context: Context, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(home, context, monkeypatch)
    kernel.ran.clear()
    assert call(context) == [] and kernel.ran == ["gmm_loss"]
    assert call(context) == [] and kernel.ran == ["gmm_loss"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"inputs": 1}',
        b"\xff",
        b'{"inputs": {}, "wrote": {"../x": ""}}',
    ],
)
def test_a_damaged_note_counts_as_none(content: bytes, context: Context, kernel: Kernel) -> None:
    executed.copy_of(context).with_suffix(".json").write_bytes(content)
    assert call(context) == [] and kernel.ran == ["gmm_loss"] * 2


def test_parameters_that_differ_are_another_execution(context: Context, kernel: Kernel) -> None:
    more = gmm_loss.context("smoke", seeds=1)
    assert call(more) == [] and call(more) == [] and kernel.ran == ["gmm_loss"] * 2
    assert call(context) == [] and kernel.ran == ["gmm_loss"] * 3, "whose figures were replaced"


def no_change(home: Path, context: Context) -> None:
    pass


def outputs(home: Path, context: Context) -> None:
    put("gmm_loss", output="fine\n")


def other_run(home: Path, context: Context) -> None:
    keep_run(context, SPARE)


def same_bytes(home: Path, context: Context) -> None:
    for path in (context.folder / "table1.md", *context.store.folder.glob("??/*")):
        path.write_bytes(path.read_bytes())


def other_paper(home: Path, context: Context) -> None:
    (home / "figures" / "twins" / "balm").mkdir()
    (home / "figures" / "twins" / "balm" / "table1.md").write_text("another paper's\n")


def no_list_of_runs(home: Path, context: Context) -> None:
    (context.store.folder / "whole.json").unlink()


def cache(home: Path, context: Context) -> None:
    (executed.PACKAGE / "runs" / "__pycache__").mkdir(exist_ok=True)
    (executed.PACKAGE / "runs" / "__pycache__" / "spec.cpython-399.pyc").write_bytes(b"compiled")


@pytest.mark.parametrize(
    "change",
    [no_change, outputs, other_run, same_bytes, other_paper, no_list_of_runs, cache],
    ids=lambda change: change.__name__,
)
def test_what_a_notebook_does_not_read_leads_to_none(
    change: Callable[[Path, Context], None], home: Path, context: Context, kernel: Kernel
) -> None:
    change(home, context)
    assert call(context) == [] and kernel.ran == ["gmm_loss"]


@pytest.mark.parametrize(
    "ends", [KeyboardInterrupt(), SystemExit(1), InputError("a", "b", "c", "d")]
)
def test_an_execution_that_is_interrupted_is_done_again(
    ends: BaseException, context: Context, kernel: Kernel
) -> None:
    put("gmm_loss", "print('another')")
    kernel.ends = ends
    with pytest.raises(type(ends)):
        call(context)
    put("gmm_loss")  # as it was when it ended well
    kernel.ends = None
    assert call(context) == [] and kernel.ran == ["gmm_loss"] * 3


def test_a_notebook_that_failed_is_executed_again(context: Context, kernel: Kernel) -> None:
    put("gmm_loss", "print('another')")
    trouble = Trouble("twins", "gmm_loss", "05_gmm_loss.ipynb", "failed", Path("x"))
    kernel.ends = trouble
    assert call(context) == [trouble]
    kernel.ends = None
    assert call(context) == [] and call(context) == [] and kernel.ran == ["gmm_loss"] * 3


def test_a_table_that_could_not_be_drawn_is_tried_again(context: Context, kernel: Kernel) -> None:
    kernel.status = NOT_DRAWN
    assert call(context, force=True) == [] and call(context) == []
    assert kernel.ran == ["gmm_loss"] * 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": 1}', '{"cells": [1]}'])
def test_a_file_that_is_no_notebook_is_left_to_the_kernel_to_refuse(
    content: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (paths.notebooks() / "05_gmm_loss.ipynb").write_text(content)
    trouble = Trouble("twins", "gmm_loss", "05_gmm_loss.ipynb", "no notebook", Path("x"))
    monkeypatch.setattr(notebooks, "execute", lambda _: trouble)
    assert call(context) == [trouble]


READS = "pd.read_csv(paths.figures() / 'claims.csv')"


def test_what_counts_the_others_is_executed_after_them_where_they_found_something_else(
    kernel: Kernel,
) -> None:
    put("mculora")
    put("side_by_side", READS)
    contexts = [mculora.context("smoke"), side_by_side.context("smoke")]
    assert call(*contexts) == [] and kernel.ran == ["mculora", "side_by_side"]
    assert call(*contexts) == [] and kernel.ran == ["mculora", "side_by_side"]
    kernel.ran.clear()
    put("mculora", "print('another text')")
    assert call(*contexts) == [] and kernel.ran == ["mculora"], "they found the same"
    kernel.ran.clear()
    put("mculora", "print('another result')")
    kernel.claims = "other claims\n"
    assert call(*contexts) == [] and kernel.ran == ["mculora", "side_by_side"]
    assert call(*contexts) == [] and kernel.ran == ["mculora", "side_by_side"]


def test_what_counts_the_others_waits_for_all_of_them(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mculora")
    put("gmm_loss")
    put("side_by_side", READS)
    rounds: list[list[str]] = []

    def note_the_round(due: Sequence[Any], jobs: int | None) -> list[Trouble]:
        rounds.append([of.context.paper for of in due])
        return [trouble for of in due if (trouble := notebooks._execute_one(of, kernel))]

    monkeypatch.setattr(notebooks, "_execute_those", note_the_round)
    papers = (side_by_side, mculora, gmm_loss)
    contexts = [paper.context("smoke") for paper in papers]
    assert call(*contexts) == [] and call(*contexts) == []
    assert rounds == [["mculora", "gmm_loss"], ["side_by_side"]]


def test_what_another_wrote_while_it_was_counted_is_counted_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("side_by_side", READS)
    context = side_by_side.context("smoke")

    def execute(of: Context) -> None:
        kernel(of)
        time.sleep(0.02)
        if len(kernel.ran) == 1:  # another process ends after this one has read
            (paths.figures() / "claims.csv").write_text("more claims\n")
            kernel.claims = "more claims\n"

    monkeypatch.setattr(notebooks, "execute", execute)
    assert call(context) == [] and call(context) == [] and call(context) == []
    assert kernel.ran == ["side_by_side"] * 2


@pytest.mark.parametrize("beside", [["--artifact", "table1"], ["--list"], ["--dry-run"]])
def test_force_is_refused_where_no_notebook_is_executed(
    beside: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--force", "--profile", "smoke", *beside]) == 2
    assert f"--force: found {beside[0]}" in capsys.readouterr().err


def test_with_a_kernel_the_second_call_starts_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "sweep_all", lambda *_, **__: 0)
    gathers = (
        "from mmlib import paths\nfrom mmlib.pipeline import regenerate\nregenerate.gather_all()"
    )
    put("gmm_loss", "assert (paths.figures() / 'claims.csv').exists()", finish=gathers)
    context = gmm_loss.context("smoke", store=Store(home / "runs"))
    assert job.run([context], (), jobs=1) == 0
    note = json.loads(executed.copy_of(context).with_suffix(".json").read_text())
    assert set(note["inputs"]) == {f.name for f in dataclasses.fields(executed.Inputs)}
    before = executed.copy_of(context).stat().st_mtime_ns
    capsys.readouterr()
    assert job.run([context], (), jobs=1) == 0
    assert "05_gmm_loss.ipynb on twins: up to date" in capsys.readouterr().out
    assert executed.copy_of(context).stat().st_mtime_ns == before


def test_the_files_on_all_papers_are_made_again_where_they_are_not_those_that_were_made(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = regenerate.gather_all, []
    monkeypatch.setattr(regenerate, "gather_all", lambda: (made.append(0), real()))
    figures, shared = home / "figures", executed.shared()
    executed.gather(shared)
    before = {path: path.read_bytes() for path in figures.glob("*.*")}
    assert {path.name for path in before} >= {"index.html", "claims.csv", "arithmetic.csv"}
    executed.gather(shared)
    assert len(made) == 1
    (figures / "index.html").unlink()
    executed.gather(shared)
    (figures / "claims.csv").write_text("edited\n")
    executed.gather(shared)
    assert len(made) == 3 and all(path.read_bytes() == before[path] for path in before)
    (home / "runs" / "notebooks" / "gathered.json").write_text("[")
    executed.gather(shared)
    executed.gather(shared._replace(code="another"))
    executed.gather(shared)
    assert len(made) == 6
    entry = missing(PAPERS["balm"].artifacts[0], Made("twins", "smoke"), "needs data")
    update_manifest(figures / "manifest.json", [entry])
    executed.gather(shared)
    executed.gather(shared)
    assert len(made) == 7 and b"needs data" in (figures / "index.html").read_bytes()


def test_a_page_of_own_data_gets_its_links_when_what_they_lead_to_is_there(home: Path) -> None:
    figures, shared = home / "figures", executed.shared()
    entry = missing(PAPERS["balm"].artifacts[0], Made("mine", "smoke"), "needs data")
    page = figures / "mine" / "index.html"
    page.parent.mkdir(parents=True)
    update_manifest(page.with_name("manifest.json"), [entry], figures=figures)
    executed.gather(shared)
    assert ".ipynb" not in page.read_text() and "compare/index.html" not in page.read_text()
    copy = home / "runs" / "notebooks" / "mine" / "01_balm.ipynb"
    for path in (copy, figures / "mine" / "compare" / "index.html"):
        path.parent.mkdir(parents=True)
        path.touch()
        executed.gather(shared)
    text = page.read_text()
    assert 'href="../../runs/notebooks/mine/01_balm.ipynb"' in text
    assert 'href="compare/index.html"' in text
    assert ".ipynb" not in (figures / "index.html").read_text()
