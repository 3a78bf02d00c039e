"""A run ends with what was found, in the terminal: each paper's claims, and what this run adds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mmlib.papers import gmm_loss, side_by_side
from mmlib.pipeline import findings, job, regenerate
from mmlib.report.artifact import Made, missing, update_manifest
from mmlib.report.markup import escape_markdown

CLAIM = {
    "paper": "gmm_loss",
    "collection": "real",
    "made of": "real data",
    "no": "1",
    "claim": "the loss *improves*",
    "data": "votes",
    "backbone": "concat",
    "kind": "primary",
    "test (above 0 supports)": "Ours minus Concat",
    "unit": "points of accuracy",
    "seeds": "20",
    "measured": "+1.25 [0.24, 2.26]",
    "verdict": "supported",
    "scope": "",
    "other test data": "",
}
MAIN = {
    "setting": "twin-crema-d-smoke",
    "metric": "accuracy",
    "row": "Ours",
    "plain": "Concat",
    "n": 10,
    "difference": -3.0,
    "difference_low": -4.0,
    "difference_high": -2.0,
    "detectable": 1.0,
    "verdict": "worse",
}


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of figures with one claim; no run is made."""
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    pd.DataFrame([CLAIM]).to_csv(tmp_path / "claims.csv", index=False)
    return tmp_path


def put_main(figures: Path, status: str) -> None:
    """The main comparison of GMM-loss at smoke, as a run writes it, with its line in the manifest."""
    context = gmm_loss.context("smoke")
    main = regenerate.artifacts(context, ["main"])[0]
    context.folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([MAIN]).to_csv(context.folder / "main-numbers.csv", index=False)
    entry = missing(main, Made(context.collection, "smoke"), status)
    update_manifest(figures / "manifest.json", [entry])


def test_the_finding_stands_after_the_summary_and_before_the_last_lines(
    figures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_main(figures, "regenerated")
    job.conclude([gmm_loss.context("smoke")], ("main",), ())
    told = capsys.readouterr().out
    summary, finding = told.split("\nGMM-loss: what was found\n")
    assert "status" in summary and "+1.25" not in summary
    flat = " ".join(finding.split())
    assert (
        "The loss *improves*? Supported on votes: +1.25 [0.24, 2.26] points of accuracy over "
        "20 seeds, Ours minus Concat." in flat
    )
    this_run = flat.split("In this run: ")[1]
    assert "Ours minus Concat in accuracy: -3.00 [-4.00, -2.00]" in this_run
    assert this_run.split("over 10 seeds, ")[1].startswith("worse.")


def test_a_main_comparison_that_was_not_drawn_or_not_asked_for_is_not_told(
    figures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contexts = [gmm_loss.context("smoke")]
    put_main(figures, "could not be drawn")
    job.found(contexts, ())
    put_main(figures, "regenerated")
    job.found(contexts, ("table1",))
    told = capsys.readouterr().out
    assert told.count("+1.25") == 2 and "In this run" not in told
    job.found(contexts, ("no such table of this paper",))
    assert capsys.readouterr().out == ""


def test_each_paper_has_a_heading_and_without_any_record_says_so(
    figures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (figures / "claims.csv").unlink()
    job.found([gmm_loss.context("smoke"), side_by_side.context("smoke")], ())
    told = capsys.readouterr().out
    assert told.index("GMM-loss: what was found") < told.index("Side by side: what was found")
    assert told.count("No primary claim has been run with enough seeds") == 2


def test_plain_text_has_no_marks_is_indented_and_fits_the_terminal() -> None:
    words = "a*b? $c$ | d\\e on crema-d-votes"
    told = findings.plain(f"- **{escape_markdown(words)}**\n\n" + "word " * 60)
    assert told[0] == f"  {words}"
    assert len(told) > 3 and max(map(len, told)) <= 100
    assert [line[:4].isspace() for line in told] == [False, False, *[True] * (len(told) - 2)]
