"""Scores that do not lie on both sides of 0: MAE and correlation alone, and a reason for the rest (about 20 s)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.experiments.context import Context
from mmlib.papers import catalog
from mmlib.papers.mculora import analyses as mculora_analyses
from mmlib.pipeline import regenerate
from mmlib.report.artifact import read_all
from mmlib.runs.execute import execute

ROLES = {"balm": "mosei", "dream": "mosi-frames", "ebmc": "mosi", "mculora": "mosei"}


def context(paper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Ratings of 1 to 7 in 12 dialogues of 4, in a store and a folder of figures of their own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    generator = np.random.default_rng(4)
    ratings, dialogue = generator.integers(1, 8, 48), np.arange(48) // 4
    features = {
        m: ratings[:, None] + generator.normal(size=(48, 3)) for m in ("audio", "text", "vision")
    }
    bundle = make_bundle(
        "ratings",
        Task("score", range=(1, 7)),
        features,
        ratings,
        np.where(dialogue < 8, 0, np.where(dialogue < 10, 1, 2)),
        [f"u{i:02d}" for i in range(48)],
        dialogue=dialogue.tolist(),
    )
    save_bundle(bundle, tmp_path / "ratings")
    return catalog.PAPERS[paper].context(
        "smoke", {ROLES[paper]: str(tmp_path / "ratings")}, seeds=1
    )


@pytest.mark.parametrize("paper", ROLES)
def test_artifacts_about_right_and_wrong_answers_say_that_scores_of_one_sign_have_none(
    paper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = context(paper, tmp_path, monkeypatch)
    module = catalog.PAPERS[paper]
    names = {artifact.id for artifact in module.artifacts}
    any_score = {artifact.id for artifact in module.artifacts if artifact.any_score}
    why = {artifact.id: regenerate.lacks(here, artifact) for artifact in module.artifacts}
    asked = {name for name, text in why.items() if "neutral" in text and "ratings" in text}
    assert any_score and "claims" in asked and not asked & any_score
    unasked = [a for a in module.artifacts if a.id in names - asked - any_score]
    assert all(why[a.id] or not a.cells(here) for a in unasked)


@pytest.mark.parametrize("paper", ROLES)
def test_no_caption_names_a_metric_that_they_have_not(
    paper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = context(paper, tmp_path, monkeypatch)
    drawn = [a for a in regenerate.every(here) if not regenerate.lacks(here, a) and a.cells(here)]
    captions = {artifact.id: str(artifact.caption) for artifact in drawn}
    assert any("mean absolute error" in caption for caption in captions.values())
    rates = "60 %"  # of what is missing
    assert not [c for c in captions.values() if re.search(r"F1|accuracy|%", c.replace(rates, ""))]


def test_a_comparison_shows_mae_and_correlation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = context("mculora", tmp_path, monkeypatch)
    assert regenerate.run(here, ["random"], jobs=1).failed == 0
    output = regenerate.draw(here, "random")
    assert output.numbers is not None and output.numbers["n"].min() == 1
    assert (
        set(output.numbers["metric"]) == {"mae", "pearson"}
        and output.numbers["mean"].abs().max() < 7
    )
    assert any("neutral" in note for note in output.notes)
    assert not any("F1 scores of" in note for note in output.notes)
    regenerate.draw(here, "claims")
    entries = {e["id"]: e for e in read_all(tmp_path / "figures")}
    assert (
        entries["claims"]["status"] == "needs data" and "neutral" in entries["claims"]["notes"][0]
    )


def test_the_selected_epoch_is_that_of_the_smallest_validation_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = context("ebmc", tmp_path, monkeypatch)
    spec = regenerate.specs(here, regenerate.artifacts(here, ["table4"]))[0]
    record = execute(spec).record
    curve = record["curves"]["valid"]
    chosen = record["selected"]["valid"]
    assert set(curve) == {"mae", "pearson"}
    for mask, metrics in chosen["metrics"].items():
        assert chosen["epoch"][mask] == min(range(len(curve["mae"])), key=curve["mae"].__getitem__)
        assert set(metrics) == {"mae", "pearson"}


def test_a_column_without_any_value_is_no_column_of_mculoras_tables() -> None:
    lines = pd.DataFrame({"model": ["a", "b"], "accuracy": ["-", "71.0"], "mean": ["-", "-"]})
    assert list(mculora_analyses._known(lines)) == ["model", "accuracy"]
