"""What the lesson without claims of its own says: every method against its own network, counted from records."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from mmlib.papers import gmm_loss, side_by_side
from mmlib.pipeline import findings, own_network
from mmlib.pipeline.lesson import Lesson
from mmlib.report import figures
from mmlib.report.artifact import Made, missing, read_manifest, update_manifest

ROOT = Path(__file__).resolve().parents[2]
VERDICTS = next(a for a in side_by_side.ARTIFACTS if a.id == "verdicts")


def lines(data: str, method: str, verdicts: list[str], n: int = 10) -> list[dict[str, Any]]:
    """Comparisons of a method on some data; the difference is the number of the line."""
    return [
        {
            "data": data,
            "method": method,
            "training": "complete",
            "test": f"test {place}",
            "difference": float(place),
            "n": n,
            "verdict": verdict,
        }
        for place, verdict in enumerate(verdicts)
    ]


def written(folder: Path, collection: str, of: list[dict[str, Any]], *notes: str) -> None:
    """A side by side's numbers with their entry in the manifest."""
    path = folder / collection / "side_by_side" / "verdicts-numbers.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame(of).to_csv(path, index=False)
    entry = missing(VERDICTS, Made(collection, "laptop"), "regenerated", notes)
    update_manifest(folder / "manifest.json", [entry])


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Figures of three collections of real data and of the embedded ones."""
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path))
    leaky = lines("b", "DREAM", ["better", "undecided"])
    written(tmp_path, "b", leaky, "b: leaky training: the extractors saw the labels.")
    written(tmp_path, "a", lines("a", "DREAM", ["worse", "worse", "equivalent"]))
    new = lines("z-unseen", "EBMC", ["undecided"], 5) + lines("z-unseen", "DREAM", ["better"], 5)
    written(tmp_path, "z-unseen", [*new, *lines("z-unseen", "EBMC", ["too few seeds"], 2)])
    written(tmp_path, "embedded", lines("twin", "EBMC", ["worse"]))
    return tmp_path


def test_sentences_count_the_verdicts_of_real_data_with_enough_seeds(planted: Path) -> None:
    assert own_network.sentences(own_network.read()).splitlines() == [
        "- **EBMC**, 1 comparison with its own network: undecided in 1.",
        "- **DREAM**, 6 comparisons with its own network: better in 2 (z-unseen, b (leaky training)), "
        "worse in 2 (a), equivalent in 1 (a), undecided in 1.",
        "",
        "Compared on z-unseen with 5 seeds, a with 10 seeds, b (leaky training) with 10 seeds.",
    ]
    assert own_network.read("a")["verdict"].tolist() == ["worse", "worse", "equivalent"]
    assert own_network.read("embedded").empty and own_network.read("other").empty


def test_without_such_data_the_sentences_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path))
    assert own_network.sentences(own_network.read()) == own_network.TOO_FEW
    Lesson(side_by_side.context("smoke")).against_own_networks()


def test_the_committed_counts_are_those_of_the_files() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for path in (ROOT / "figures").glob("*/side_by_side/verdicts-numbers.csv"):
        if path.parts[-3] not in ("twins", "embedded"):
            with path.open(encoding="utf-8", newline="") as file:
                counts.update((line["method"], line["verdict"]) for line in csv.DictReader(file))
    told = own_network.sentences(own_network.read())
    assert {method for method, _ in counts} == set(re.findall(r"\*\*(.+?)\*\*", told))
    for (method, verdict), count in counts.items():
        (sentence,) = [line for line in told.splitlines() if line.startswith(f"- **{method}**")]
        assert f"{verdict} in {count}" in sentence


def test_the_picture_has_a_dot_for_every_comparison_in_its_verdicts_colour(planted: Path) -> None:
    verdicts = own_network.read()
    (axis,) = own_network.picture(verdicts).axes
    dots = [
        (float(x), float(y), str(line.get_color()))
        for line in axis.lines
        if line.get_marker() == "o"
        for x, y in np.asarray(line.get_xydata(), dtype=float)
    ]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["EBMC, z-unseen", "DREAM, z-unseen", "DREAM, a", "DREAM, b (leaky training)"]
    assert sorted((x, names[int(y)]) for x, y, _ in dots) == sorted(
        (line["difference"], f"{line['method']}, {line['data']}")
        for line in verdicts.to_dict("records")
    )
    on_a = {x: color for x, y, color in dots if names[int(y)] == "DREAM, a"}
    assert same_color(on_a[0.0], figures.VERDICTS["worse"])
    assert same_color(on_a[2.0], figures.VERDICTS["equivalent"])
    assert [t.get_text() for t in axis.texts][2] == "0 better, 2 worse of 3"


def test_the_lesson_opens_with_all_papers_and_every_method_and_another_with_its_own() -> None:
    told = Lesson(side_by_side.context("smoke")).opening()
    for called in ("BALM", "DREAM", "EBMC", "MCULoRA", "GMM-loss"):
        assert f"- **{called}**" in told
    assert told.endswith(own_network.sentences(own_network.read()))
    assert "own network" not in Lesson(gmm_loss.context("smoke")).opening()


def test_a_paper_without_tested_claims_is_named_as_such() -> None:
    claims = pd.DataFrame([{"paper": "ebmc", "kind": "primary", "verdict": "too few seeds"}])
    kept = claims[:0]
    told = findings._of_papers(claims, kept, {"balm": "BALM", "ebmc": "EBMC"})
    assert told == ["- **EBMC**: no primary claim has enough seeds for a verdict yet."]


def test_what_to_take_home_counts_this_run_or_says_what_it_lacks(planted: Path) -> None:
    lesson = Lesson(side_by_side.context("smoke"))
    assert lesson.flagship == "verdicts" and Lesson(gmm_loss.context("smoke")).flagship == "main"
    one = pd.DataFrame(lines("twin", "EBMC", ["too few seeds"] * 3, 1)).drop(columns="training")
    few, real = lesson.closing(one).splitlines()
    assert few == "- This run makes 3 comparisons; for a verdict each needs 5 seeds (`--seeds`)."
    assert real == (
        "- Of the 7 comparisons on real data: 2 better, 2 worse, 1 equivalent, 2 undecided."
    )
    enough = lesson.closing(pd.DataFrame(lines("twin", "EBMC", ["worse", "worse"])))
    assert enough.startswith("- **EBMC**, 2 comparisons with its own network: worse in 2 (twin).")
    assert read_manifest(planted / "manifest.json")[0]["status"] == "regenerated"
