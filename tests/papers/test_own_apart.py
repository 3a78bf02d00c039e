"""What a reader's own data leave as it was, and what says nothing about them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.experiments import conditions, own
from mmlib.experiments.context import NO_ROLE
from mmlib.papers.catalog import PAPERS
from mmlib.papers.side_by_side import equity
from mmlib.pipeline import regenerate
from mmlib.pipeline.lesson import Lesson
from mmlib.report.artifact import read_all, read_manifest

FIGURES = paths.root() / "figures"
OF_A_PAPER = {"balm": ("theory", "cost"), "dream": ("monte-carlo",), "ebmc": ("theory", "table6")}
VIEWS = ("fourier", "karhunen", "morphology", "pixels", "profile", "zernike")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of a bundle of six views and ten classes, beside a store and figures of the test's own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    r, n = np.random.default_rng(0), 60
    features = {m: r.normal(size=(n, 3)).astype(np.float32) for m in VIEWS}
    split = ["train"] * 30 + ["valid"] * 10 + ["test"] * 20
    task = Task("classes", tuple(f"digit{k}" for k in range(10)))
    ids = [f"u{i:02}" for i in range(n)]
    save_bundle(
        make_bundle("mine", task, features, np.arange(n) % 10, split, ids), tmp_path / "mine"
    )
    yield str(tmp_path / "mine")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that version control may hold, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_own_data_change_no_file_that_is_committed(mine: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    shutil.copytree(FIGURES, figures)
    regenerate.gather_all()  # as this machine draws what the repository has
    before = contents(figures)
    arguments = ["--paper", "ebmc", "--artifact", "table1,theory", "--profile", "smoke"]
    assert main(["report", *arguments, "--data", mine]) == 0
    after = contents(figures)
    new = {name for name in after if after[name] != before.get(name)}
    assert {name.split("/")[0] for name in new} == {"mine"} and before.keys() <= after.keys()
    assert {"mine/manifest.json", "mine/index.html"} <= new
    lines = (paths.root() / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/figures/*/" in lines and "!/figures/mine/" not in lines


def test_own_data_have_a_manifest_and_a_page_of_their_own(mine: str, tmp_path: Path) -> None:
    arguments = ["--paper", "ebmc", "--artifact", "table1,theory", "--profile", "smoke"]
    assert main(["report", *arguments, "--data", mine]) == 0
    figures = tmp_path / "figures"
    entries = read_manifest(figures / "mine" / "manifest.json", figures)
    assert {e["id"]: e["status"] for e in entries} == {
        "table1": "not built yet",
        "theory": "needs data",
    }
    assert read_manifest(figures / "manifest.json") == []
    assert read_all(figures) == entries
    page = (figures / "mine" / "index.html").read_text(encoding="utf-8")
    assert "Statements of appendix B" in page
    assert "Statements of appendix B" not in (figures / "index.html").read_text(encoding="utf-8")
    context = PAPERS["ebmc"].context("smoke", {NO_ROLE: mine})
    assert regenerate.page_of(context) == figures / "mine" / "index.html"
    assert regenerate.page_of(PAPERS["ebmc"].context("smoke")) == figures / "index.html"


@pytest.mark.parametrize("paper", OF_A_PAPER)
def test_what_is_about_a_paper_alone_is_left_out_with_a_line(paper: str, mine: str) -> None:
    declared = PAPERS[paper]
    context, twins = declared.context("smoke", {NO_ROLE: mine}), declared.context("smoke")
    for artifact in regenerate.artifacts(context, OF_A_PAPER[paper]):
        why = regenerate.lacks(context, artifact)
        assert "nothing in it is about these data" in why and "\n" not in why
        assert regenerate.lacks(twins, artifact) == "", "the paper's own data have it"


def test_a_notebook_has_no_link_to_a_table_that_is_left_out(
    mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = Lesson(PAPERS["dream"].context("smoke", {NO_ROLE: mine}))
    lesson.show("monte-carlo", table=False)
    said = capsys.readouterr().out
    assert "monte-carlo.md" not in said
    assert lesson._drawn["monte-carlo"].table is None


def test_of_many_modalities_each_alone_each_missing_and_all_are_tested(mine: str) -> None:
    two, four = conditions.combinations(VIEWS[:2]), conditions.combinations(VIEWS[:4])
    assert (len(two), len(four), len(conditions.combinations(VIEWS))) == (3, 15, 13)
    assert [len(names) for names in conditions.combinations(VIEWS)] == [1] * 6 + [5] * 6 + [6]
    assert conditions.untested(VIEWS[:4]) == ""
    for name, paper in PAPERS.items():
        if name == "gmm_loss":  # takes two modalities
            continue
        context = paper.context("smoke", {NO_ROLE: mine})
        specs = regenerate.specs(context, regenerate.artifacts(context))
        assert max(len(spec.eval_masks) for spec in specs) < 24
        assert len(specs) < 200 and {spec.seed for spec in specs} == {0}
        tested = [s for s in specs if any(law.kind == "subset" for _, law in s.eval_masks)]
        assert "Of the 63 combinations of 6 modalities 13 are tested" in own.untested(
            context, tested
        )
        assert own.untested(context, []) == ""


def test_shapley_values_of_six_modalities_are_left_out_and_so_is_mei(mine: str) -> None:
    context = PAPERS["ebmc"].context("smoke", {NO_ROLE: mine})
    (fig4,) = regenerate.artifacts(context, ["fig4"])
    assert "every combination" in regenerate.lacks(context, fig4)
    assert regenerate.lacks(PAPERS["ebmc"].context("smoke"), fig4) == ""
    assert equity._worth({"all modalities": 1.0}, 0.0, VIEWS) is None
    whole = PAPERS["side_by_side"].context("smoke", {NO_ROLE: mine})
    some, none = (pd.DataFrame({"MEI": values}) for values in ([np.nan, 0.5], [np.nan, np.nan]))
    assert equity._without_mei(whole, some) == (equity.SOME_MEI,)
    assert equity._without_mei(whole, none) == ()
    assert equity._without_mei(PAPERS["side_by_side"].context("smoke"), some) == ()
