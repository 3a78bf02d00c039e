"""What a lesson says on a reader's own data: why there is no verdict, how to get one, and their values alone."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.experiments.context import NO_ROLE, Context
from mmlib.papers.catalog import PAPERS
from mmlib.papers.side_by_side import tables
from mmlib.pipeline import job, regenerate
from mmlib.pipeline.lesson import Lesson, own_command
from mmlib.report import figures
from mmlib.report.artifact import Made, missing, update_manifest

LACKING = "do not lie on both sides of 0"


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown as text."""
    texts: list[str] = []
    monkeypatch.setattr(figures, "show_text", texts.append)
    return texts


def put(folder: Path, task: Task) -> str:
    """The folder of data without dialogues: vectors of two modalities."""
    r, n = np.random.default_rng(0), 60
    names = ("gsr", "acc")
    features = {m: r.normal(size=(n, 3)).astype(np.float32) for m in names}
    split = ["train"] * 30 + ["valid"] * 10 + ["test"] * 20
    labels = np.arange(n) % 3 if task.kind == "classes" else 1 + 6 * r.random(n)
    ids = [f"u{i:02}" for i in range(n)]
    save_bundle(make_bundle("mine", task, features, labels, split, ids), folder / "my data")
    return str(folder / "my data")


@pytest.fixture
def scores(tmp_path: Path) -> str:
    """Scores from 1 to 7, none of which is neutral."""
    return put(tmp_path, Task("score", range=(1.0, 7.0)))


@pytest.fixture
def classes(tmp_path: Path) -> str:
    """Three classes."""
    return put(tmp_path, Task("classes", ("a", "b", "c")))


def of(paper: str, data: str) -> Context:
    return PAPERS[paper].context("smoke", {NO_ROLE: data})


def test_data_that_the_claims_cannot_use_are_said_to_be_so_once_and_nothing_is_linked(
    scores: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    context = of("ebmc", scores)
    regenerate.draw(context, "claims")
    Lesson(context).found()
    assert told[0].startswith("The claims cannot be tested on these data.") and LACKING in told[0]
    assert "decide" not in told[0]
    lesson = Lesson(context)
    lesson._drawn["main"] = figures.Output()
    lesson.take_home()
    assert "claims.md" not in told[-1] and LACKING not in told[-1]
    path = context.folder / "main-numbers.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame(columns=["metric", "row", "verdict"]).to_csv(path, index=False)
    (main_table,) = regenerate.artifacts(context, ["main"])
    entry = missing(main_table, Made(context.collection, "smoke"), "regenerated")
    update_manifest(paths.figures() / "mine" / "manifest.json", [entry], figures=paths.figures())
    capsys.readouterr()
    job.found([context], ())
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(LACKING) == 1 and said.count("In this run: No difference") == 1


@pytest.mark.parametrize("paper", ["ebmc", "side_by_side"])
def test_where_seeds_are_lacking_the_command_that_makes_them_can_be_typed(
    paper: str, classes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = of(paper, classes)
    command = own_command("decide", context)
    assert f"`{command}` makes the runs" in Lesson(context).opening()
    contexts: list[Context] = []

    def decide(chosen: list[Context], *_: object) -> int:
        contexts.extend(chosen)
        return 0

    monkeypatch.setattr("mmlib.pipeline.decide.decide", decide)
    assert main(shlex.split(command)[1:]) == 0
    assert {(c.collection, c.profile.name) for c in contexts} == {("mine", "smoke")}
    assert paper not in ("ebmc",) or [c.paper for c in contexts] == ["ebmc"]


def test_values_of_own_data_take_the_place_of_committed_ones(
    classes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = of("side_by_side", classes)
    lesson = Lesson(context)
    assert lesson.grids("crema-d-votes") == {}
    assert capsys.readouterr().out == "mine: this takes 1 seed; done so far: 0.\n"
    values = pd.DataFrame(
        {"row": "a", "training": "complete", "setting": "s", "seed": [0, 1], "value": [50.0, 60.0]}
    )
    monkeypatch.setattr(
        tables, "values", lambda context, cells: {g: values for g in [*tables.by_ground(cells)][:1]}
    )
    assert lesson.grids("crema-d-votes")["mine"].equals(values)
    assert lesson.grids("crema-d-votes", seeds=3) == {}
    assert capsys.readouterr().out == "mine: this takes 3 seeds; done so far: 2.\n"


def test_committed_values_are_those_of_their_file() -> None:
    context = PAPERS["side_by_side"].context("smoke")
    (name, grid), *more = Lesson(context).grids("crema-d-votes").items()
    stored = pd.read_csv(paths.root() / "figures" / name / "side_by_side" / "grid.csv")
    assert name == "crema-d-votes" and not more
    wide = stored.drop(columns=tables.RUN).to_numpy()
    assert len(grid) == np.isfinite(wide).sum()
    assert grid["value"].sum() == pytest.approx(np.nansum(wide))


def test_of_larger_twins_nothing_is_said_on_own_data(classes: str, told: list[str]) -> None:
    lesson = Lesson(of("side_by_side", classes))
    lesson.real("matrix", collection="twins-study")
    assert told == []
    lesson.real("matrix")
    assert len(told) == 1
