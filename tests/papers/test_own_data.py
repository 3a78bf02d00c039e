"""Every notebook on a reader's own data: dialogues in folds, with numbers of another scale than the embedded data's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nbformat
import numpy as np
import pytest
from shared_runs import shared_folder

from mmlib import paths
from mmlib.data.bundle import Bundle, save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments.context import NO_ROLE, Context
from mmlib.papers import catalog, mculora
from mmlib.pipeline import job, notebooks
from mmlib.report.artifact import read_all


def every_other_dialogue(bundle: Bundle) -> Bundle:
    """Half of a bundle's dialogues, of every split: of tiny twins seven a fold, one step of a training."""
    kept = np.flatnonzero(np.isin(bundle.dialogue, np.unique(bundle.dialogue)[::2]))
    names = ("labels", "split", "dialogue", "position", "speaker", "observed")
    return dataclasses.replace(
        bundle,
        features={m: x[kept] for m, x in bundle.features.items()},
        lengths={m: x[kept] for m, x in bundle.lengths.items()},
        ids=tuple(bundle.ids[row] for row in kept),
        **{name: getattr(bundle, name)[kept] for name in names},
    )


def in_folds(paper: str, twin: str, scale: float, tmp_path: Path) -> Context:
    """A paper's context on a twin whose dialogues are dealt to three folds and whose features are multiplied."""
    if twin == "iemocap6":  # of tiny, a fold lacks an emotion
        bundle = open_bundle(f"twin:{twin}@smoke")
    else:
        bundle = every_other_dialogue(open_bundle(f"twin:{twin}@tiny"))
    if paper == "gmm_loss":
        bundle = bundle.only(("audio", "text"))
    fold = np.unique(bundle.dialogue, return_inverse=True)[1].astype(np.int64) % 3
    features = {name: (scale * x).astype(x.dtype) for name, x in bundle.features.items()}
    save_bundle(
        dataclasses.replace(bundle, name="mine", features=features, fold=fold), tmp_path / "mine"
    )
    data = {NO_ROLE: str(tmp_path / "mine")}
    one = "mmgcn" if paper == "balm" else ""  # its other backbones run in tests of their own
    return catalog.PAPERS[paper].context("smoke", data, backbone=one, seeds=1)


@pytest.fixture
def _apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Runs and figures of a test's own. What is computed on twins whatever the data, BALM's theory, is shared."""
    runs, frames = tmp_path / "runs", shared_folder(tmp_path_factory) / "frames"
    runs.mkdir()
    frames.mkdir(parents=True, exist_ok=True)
    (runs / "frames").symlink_to(frames)
    monkeypatch.setenv("MMLIB_RUNS", str(runs))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))


@pytest.mark.slow
@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize(
    ("paper", "twin", "scale"),
    [
        ("balm", "mosei", 3.0),
        ("dream", "mosi-frames", 30.0),
        ("ebmc", "mosi", 3.0),
        ("mculora", "mosei", 30.0),
        ("gmm_loss", "iemocap6", 30.0),
        ("side_by_side", "mosei", 3.0),
    ],
)
def test_a_notebook_runs_on_folds_of_another_scale(
    paper: str, twin: str, scale: float, tmp_path: Path
) -> None:
    assert job.run([in_folds(paper, twin, scale, tmp_path)], (), jobs=1) == 0
    entries = read_all(tmp_path / "figures")
    assert any(
        e["paper"] == paper and e["collection"] == "mine" and e["status"] == "regenerated"
        for e in entries
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_apart")
def test_where_runs_diverge_the_notebook_ends_all_the_same_and_every_failure_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = in_folds("ebmc", "mosi", 3000.0, tmp_path)
    assert job.run([context], (), jobs=1) == 1
    said = capsys.readouterr()
    failed = context.store.failures()
    assert failed and all(failure.kind == "diverged" for failure in failed)
    assert all(said.err.count(failure.id) for failure in failed)
    assert "failed in cell" not in said.err  # the notebook itself came to its end
    table = (tmp_path / "figures/mine/ebmc/table1.md").read_text(encoding="utf-8")
    assert "failed (diverged)" in table and "--standardise" in table


def test_a_notebook_that_fails_is_reported_and_its_figures_are_drawn_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "notebooks", lambda: tmp_path)
    drawn: list[Context] = []
    monkeypatch.setattr(notebooks, "draw_all", lambda contexts, wanted: drawn.extend(contexts))
    cells = [
        nbformat.v4.new_code_cell("profile = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("raise ValueError(profile)"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, tmp_path / mculora.PAPER.notebook)
    context = mculora.context("smoke")
    trouble = notebooks.execute(context)
    assert trouble is not None and (trouble.paper, trouble.what) == ("mculora", "04_mculora.ipynb")
    assert drawn == [context]
    said = capsys.readouterr().err
    assert (
        "failed in cell 3: ValueError: smoke" in said
        and "04_mculora.ipynb" in said
        and "drawn without it" in said
    )
    assert (
        "04_mculora.ipynb: its cell with the tag 'parameters' does not name backbone, data" in said
    )
    assert "Passed unknown parameter" not in said
