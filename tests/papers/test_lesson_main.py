"""A notebook without decided claims opens with its main comparison, and shows real tables of any kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib.papers import dream
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import findings, lesson
from mmlib.report import tables
from mmlib.report.artifact import Output

CALLED = {name: paper.called for name, paper in PAPERS.items()}
FIGURES = Path(__file__).resolve().parents[2] / "figures"


def compared(metric: str = "accuracy", seeds: int = 10) -> pd.DataFrame:
    """A comparison in which the method is worse with all modalities by 3 to 5 points, and nothing else differs."""
    draw = np.random.default_rng(0)
    plain = draw.normal(80, 0.1, seeds)
    worse = plain - np.resize([3.0, 5.0], seeds)
    values = {("plain", "all"): plain, ("ours", "all"): worse}
    values |= {("plain", "none"): plain, ("ours", "none"): plain + draw.normal(0, 5, seeds)}
    lines = [
        {"row": row, "setting": setting, "seed": seed, "metric": metric, "value": value}
        for (row, setting), of in values.items()
        for seed, value in enumerate(of)
    ]
    frame = pd.DataFrame(lines).assign(selection="valid", fold=None, run_id="", stale=False)
    return tables.compare(frame, collection="twins", baselines={"ours": "plain"})


def test_the_opening_names_every_difference_with_its_interval_seeds_and_verdict() -> None:
    numbers = compared()
    told = findings.of_main(numbers, "some data")
    line = numbers[(numbers["row"] == "ours") & (numbers["setting"] == "all")].iloc[0]
    assert "On some data, **ours minus plain** in accuracy:" in told
    assert (
        f"all, -4.00 [{line['difference_low']:.2f}, {line['difference_high']:.2f}] over 10" in told
    )
    assert "10 seeds, **worse**" in told and "10 seeds, **undecided**" in told


def test_a_planted_difference_changes_the_opening() -> None:
    numbers = compared()
    planted = numbers.assign(difference=numbers["difference"] + 1)
    assert findings.of_main(planted, "x") != findings.of_main(numbers, "x")


@pytest.mark.parametrize("numbers", [pd.DataFrame(), compared(seeds=2)])
def test_nothing_is_said_where_nothing_is_decided(numbers: pd.DataFrame) -> None:
    assert findings.of_main(numbers, "x") == ""
    assert findings.main_lines(numbers, "dream").empty


def test_the_picture_has_a_line_per_difference_at_its_place() -> None:
    lines = findings.main_lines(compared(), "dream")
    figure = findings.picture(lines, CALLED, "Main comparison", "points")
    axis = figure.axes[0]
    assert axis.get_title("left") == "Main comparison" and axis.get_xlabel() == "points"
    assert len(axis.get_yticklabels()) == 2
    points = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert points[0] == pytest.approx(-4)
    assert [text.get_text() for text in axis.texts] == ["worse, 10 seeds", "undecided, 10 seeds"]


def test_the_overview_has_a_name_per_claim_and_a_line_per_data_set() -> None:
    one = findings.main_lines(compared(), "dream").iloc[0].to_dict() | {"claim": "it helps"}
    lines = pd.DataFrame(
        [
            {**one, "data": "real", "made of": "real data", "difference": -4.0},
            {**one, "data": "some twin", "made of": "twins", "difference": 3.0},
            {**one, "paper": "ebmc", "data": "real", "made of": "real data", "difference": 1.0},
        ]
    )
    axis = findings.picture(lines, {"dream": "DREAM", "ebmc": "EBMC"}).axes[0]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [point.get_xdata()[0] for point in points] == [-4, 3, 1]
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True, False]
    first, second, third = (point.get_ydata()[0] for point in points)
    names = dict(
        zip([t.get_text() for t in axis.get_yticklabels()], axis.get_yticks(), strict=True)
    )
    assert names == {"DREAM: it helps": (first + second) / 2, "EBMC: it helps": third}
    assert third - second > second - first
    assert [text.get_text() for text in axis.texts] == [
        "real: worse, 10 seeds",
        "some twin: worse, 10 seeds",
        "real: worse, 10 seeds",
    ]


def test_an_error_that_is_not_in_points_has_no_picture_in_points() -> None:
    assert findings.main_lines(compared("mae"), "dream").empty
    assert findings.of_main(compared("mae"), "x")


def test_the_main_comparison_is_said_to_be_on_its_own_data() -> None:
    """DREAM's main data are CMU-MOSI, and its main comparison is on IEMOCAP."""
    context = dream.context("smoke")
    assert context.main == "mosi"
    assert lesson.Lesson(context)._data() == "IEMOCAP twin"


def test_a_notebook_without_decided_claims_opens_with_the_main_comparison(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(lesson.paths, "figures", lambda: tmp_path)
    folder = tmp_path / "twins" / "dream"
    folder.mkdir(parents=True)
    opened = lesson.Lesson(dream.context("smoke"))
    opened.found()
    assert capsys.readouterr().out.strip() == findings.NOTHING.strip()
    compared().to_csv(folder / "main-numbers.csv", index=False)
    opened.found()
    assert "**ours minus plain** in accuracy: all, -4.00" in capsys.readouterr().out


def test_committed_tables_are_read_as_what_they_are() -> None:
    compared_rows = lesson.committed_table(FIGURES / "mosi-unseen" / "ebmc", "table1")
    assert compared_rows.comparison and compared_rows.numbers is not None
    folder = FIGURES / "mosi-unseen" / "ebmc"
    other = lesson.committed_table(folder, "selection")
    assert other.table is not None and not other.comparison
    written = (folder / "selection.csv").read_text(encoding="utf-8")
    assert other.table.iloc[0, -1] in written and list(other.table) == written.splitlines()[
        0
    ].split(",")


def test_a_picture_may_be_shown_with_a_link_in_place_of_its_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Output(pd.DataFrame({"orders": ["2", "4"]}), local=pd.DataFrame({"seconds": ["9"]}))
    monkeypatch.setattr(lesson.regenerate, "draw", lambda context, name: drawn)
    opened = lesson.Lesson(dream.context("smoke"))
    opened.show("monte-carlo")
    told = capsys.readouterr().out
    assert "| orders" in told and "seconds" in told
    opened.show("monte-carlo", table=False)
    told = capsys.readouterr().out
    assert "[The table](../figures/twins/dream/monte-carlo.md)" in told
    assert "| orders" not in told and "seconds" not in told
