"""What a notebook shows: findings as they were measured, short tables, and links to all that it leaves out.

Claims and numbers are planted here, so every sentence is known before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from mmlib import paths
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.experiments import committed
from mmlib.experiments.context import Context
from mmlib.experiments.undeclared import rows_left_out
from mmlib.papers import balm
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import findings, regenerate
from mmlib.pipeline.lesson import ELSEWHERE, ROWS, WIDE, Lesson, noted, shortened
from mmlib.report import figures
from mmlib.report.artifact import Output

CALLED = {"balm": "BALM", "dream": "DREAM"}
LINK = "../figures/twins/balm/x.md"


def claim(**given: str) -> dict[str, str]:
    """A line of ``claims.csv``."""
    return {
        "paper": "balm",
        "collection": "real",
        "made of": "real data",
        "no": "1",
        "claim": "it helps",
        "data": "MOSI",
        "backbone": "mmgcn",
        "kind": "primary",
        "test (above 0 supports)": "ours minus plain",
        "unit": "points of F1",
        "seeds": "10",
        "measured": "+1.00 [0.50, 1.50]",
        "verdict": "supported",
        "scope": "",
        "other test data": "",
        **given,
    }


def frame(*lines: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(lines)


def difference(
    setting: str, low: float, high: float, verdict: str, **given: Any
) -> list[dict[str, Any]]:
    """Two lines of a comparison: the plain network, and ours with its difference from it."""
    same = {"setting": setting, "metric": "accuracy", "n": 10, "sd": 1.0, **given}
    plain = {**same, "row": "plain", "plain": "", "verdict": "", "difference": np.nan}
    middle = (low + high) / 2
    ours = {**same, "row": "ours", "plain": "plain", "verdict": verdict, "difference": middle}
    ends = {"difference_low": low, "difference_high": high, "detectable": 2.5}
    return [{**plain, "mean": 60.0}, {**ours, **ends, "mean": 60.0 + middle}]


def settings(count: int, decided: Sequence[int] = (), metric: str = "accuracy") -> pd.DataFrame:
    """A comparison in so many settings, of which some are decided."""
    lines = []
    for number in range(count):
        span = (1.0, 3.0, "better") if number in decided else (-1.0, 3.0, "undecided")
        lines += difference(f"rate {number}", *span, metric=metric)
    return frame(*lines)


# What the claims say.


def test_a_planted_claim_comes_out_with_its_difference_interval_seeds_and_verdict() -> None:
    planted = claim(measured="-7.31 [-9.20, -5.42]", seeds="23", verdict="contradicted")
    text = findings.opening(frame(planted), CALLED, "balm")
    sentence = next(line for line in text.splitlines() if line.startswith("- "))
    said = re.sub(r"[*\\]", "", sentence)
    assert said == (
        "- It helps? Contradicted on MOSI: -7.31 [-9.20, -5.42] points of F1 over 23 seeds, ours minus plain."
    )


def test_a_claim_has_one_line_however_many_data_sets_tested_it() -> None:
    lines = frame(
        claim(measured="+1.11 [0.01, 2.21]"),
        claim(measured="-2.22 [-3.33, -1.11]", data="a twin", **{"made of": "twins"}),
        claim(claim="both parts matter", measured="+4.44 [4.00, 4.88]", scope="on these alone"),
        claim(claim="no seeds yet", seeds="1", verdict="too few seeds"),
        claim(claim="of another paper", paper="dream"),
    )
    text = findings.opening(lines, CALLED, "balm")
    bullets = [line for line in text.splitlines() if line.startswith("- ")]
    assert [line.split("?")[0] for line in bullets] == ["- It helps", "- Both parts matter"]
    assert "1.11" in bullets[0] and "-2.22" in bullets[0] and "4.44" not in bullets[0]
    assert bullets[0].count("ours minus plain") == 1  # the same test on both
    assert "? **Supported** on MOSI (on these alone): +4.44" in bullets[1]


def test_a_claim_whose_test_differs_between_data_sets_names_both() -> None:
    lines = frame(
        claim(),
        claim(data="a twin", **{"made of": "twins", "test (above 0 supports)": "ours minus none"}),
    )
    told = findings.opening(lines, CALLED, "balm").splitlines()[0]
    assert "MOSI: +1.00 [0.50, 1.50] points of F1 over 10 seeds, ours minus plain. **" in told
    assert told.endswith("over 10 seeds, ours minus none.")


def test_the_same_claim_in_several_collections_is_told_once_with_the_most_seeds() -> None:
    lines = frame(
        claim(measured="+1.11 [0.01, 2.21]"),
        claim(measured="+3.33 [3.00, 3.66]", seeds="80", collection="more"),
    )
    text = findings.opening(lines, CALLED, "balm")
    assert "3.33" in text and "1.11" not in text


def test_exploratory_claims_are_counted_below() -> None:
    lines = frame(
        claim(),
        *[claim(kind="exploratory", claim=f"e{n}", verdict="undecided") for n in range(3)],
        claim(kind="exploratory", claim="e4", verdict="contradicted"),
        claim(kind="exploratory", claim="e5", verdict="not run"),
        claim(kind="exploratory", claim="e6", paper="dream"),
    )
    text = findings.opening(lines, CALLED, "balm")
    assert text.endswith("Exploratory claims with a verdict: 3 undecided, 1 contradicted.")
    assert findings.opening(lines[:1], CALLED, "balm").endswith("enough seeds for a verdict.")


def test_without_a_paper_there_is_a_line_for_each_with_counts_of_verdicts() -> None:
    lines = frame(
        claim(paper="dream"),
        claim(),
        claim(claim="b", verdict="undecided"),
        claim(claim="c", verdict="undecided"),
    )
    assert findings.opening(lines, CALLED, "").splitlines() == [
        "- **BALM**, 3 tests of primary claims: 2 undecided, 1 supported.",
        "- **DREAM**, 1 test of a primary claim: 1 supported.",
    ]


def test_without_a_verdict_it_says_how_to_get_one() -> None:
    waiting = frame(claim(seeds="1", verdict="too few seeds"))
    assert findings.opening(waiting, CALLED, "balm") == findings.NOTHING
    assert "`mmlib decide`" in findings.NOTHING


@pytest.mark.parametrize("text", ["*a* [b](c)", "<b>", "a_b_ `c`"])
def test_words_of_claims_have_no_meaning_for_markdown(text: str) -> None:
    told = findings.opening(frame(claim(claim=text, data=text)), CALLED, "balm")
    assert text not in told


# What a run says.


def test_a_planted_comparison_comes_out_setting_by_setting() -> None:
    lines = [*difference("complete", -8.0, -2.0, "worse"), *difference("rate", -1.0, 3.0, "better")]
    other = difference("complete", 50.0, 60.0, "better", metric="weighted_f1")
    text = findings.closing(frame(*lines, *other), frame(claim()).iloc[:0], "MOSI")
    said = text.replace("*", "")
    assert said == (
        "- On MOSI, ours minus plain in accuracy: complete, -5.00 [-8.00, -2.00] over 10 seeds, worse; "
        "rate, +1.00 [-1.00, 3.00] over 10 seeds, better."
    )


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("equivalent", "no difference that matters"),
        ("undecided", "undecided (a difference of 2.5 would have shown)"),
    ],
)
def test_an_open_difference_says_what_would_have_been_shown(verdict: str, told: str) -> None:
    text = findings.closing(frame(*difference("s", -1, 1, verdict)), frame(claim()).iloc[:0], "d")
    assert text.replace("*", "").endswith(f"over 10 seeds, {told}.")


def test_rows_with_too_few_seeds_say_nothing_and_claims_are_counted() -> None:
    few = frame(*difference("s", -1, 1, "too few seeds"))
    claims = frame(claim(), claim(verdict="undecided"), claim(verdict="undecided"))
    told = findings.closing(few, claims, "MOSI")
    assert told == (
        "- The paper's claims in 3 tests with the seeds of this run: 2 undecided, 1 supported."
    )
    assert findings.closing(few, claims.iloc[:0], "MOSI") == findings.TOO_FEW
    assert findings.closing(pd.DataFrame(), claims.iloc[:0], "MOSI") == findings.TOO_FEW


# How much of a table a notebook shows.


def numbered(count: int) -> pd.DataFrame:
    return pd.DataFrame({"a": range(count)})


def test_a_table_of_few_lines_is_shown_whole_and_a_longer_one_is_linked() -> None:
    short = Output(table=numbered(ROWS))
    assert shortened(short, LINK) == (short, "")
    output, more = shortened(Output(table=numbered(ROWS + 1), notes=("a note",)), LINK)
    assert output.table is None and output.notes == ("a note",)
    assert f"]({LINK})" in more and str(ROWS + 1) in more


def test_of_many_claims_the_primary_and_the_decided_ones_stay() -> None:
    lines = [claim(claim="named in advance", verdict="too few seeds")]
    lines += [claim(kind="exploratory", claim=f"open {n}", verdict="undecided") for n in range(20)]
    lines += [claim(kind="exploratory", claim="not run", verdict="not run")]
    lines += [claim(kind="exploratory", claim=f"decided {n}", verdict="worse") for n in range(2)]
    output, more = shortened(Output(table=frame(*lines)), LINK)
    assert output.table is not None
    assert output.table["claim"].tolist() == ["named in advance", "decided 0", "decided 1"]
    counts = ("24 claims", "20 undecided", "2 worse", "1 too few seeds", "1 not run", f"]({LINK})")
    assert all(part in more for part in counts)


def test_of_very_many_decided_claims_no_more_than_a_table_of_few_lines_stay() -> None:
    lines = [claim(claim="primary")]
    lines += [claim(kind="exploratory", claim=f"decided {n}") for n in range(40)]
    output, _ = shortened(Output(table=frame(*lines)), LINK)
    assert output.table is not None and len(output.table) == ROWS
    assert output.table["claim"].iloc[0] == "primary"


def compared(*parts: pd.DataFrame) -> Output:
    return Output(numbers=pd.concat(parts, ignore_index=True), comparison=True)


def test_a_comparison_of_few_settings_is_shown_whole() -> None:
    output = compared(settings(3))
    assert shortened(output, LINK) == (output, "")


def test_of_several_metrics_the_first_is_shown() -> None:
    output, more = shortened(compared(settings(9), settings(9, metric="weighted_f1")), LINK)
    assert output.numbers is not None and output.comparison
    assert set(output.numbers["metric"]) == {"accuracy"}
    assert output.numbers["setting"].nunique() == 9 and f"]({LINK})" in more


def many() -> pd.DataFrame:
    """Forty settings with six methods beside the plain one, two of them decided in two settings."""
    lines = settings(40, decided=(7, 30))
    wide = [lines.assign(row=lines["row"].where(lines["row"] == "plain", f"o{n}")) for n in "abc"]
    return pd.concat(wide, ignore_index=True).drop_duplicates(["row", "setting"])


def test_of_many_settings_those_with_a_decided_difference_stay_with_all_their_rows() -> None:
    numbers = many()
    output, more = shortened(Output(numbers=numbers, comparison=True), LINK)
    assert output.numbers is not None
    kept = numbers[numbers["setting"].isin(["rate 7", "rate 30"])]
    assert output.numbers.equals(kept)
    assert more.startswith("6 of 120 differences in accuracy are decided.") and f"]({LINK})" in more


def test_where_nothing_is_decided_the_table_is_a_sentence() -> None:
    output, more = shortened(compared(settings(40)), LINK)
    assert output.numbers is None and not output.comparison
    assert more.startswith("0 of 40 differences") and f"]({LINK})" in more


# What a lesson reads.


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown as text; pictures are left out."""
    texts: list[str] = []
    monkeypatch.setattr(figures, "show_text", texts.append)
    monkeypatch.setattr(figures, "show", lambda output, *words: texts.append(" ".join(words)))
    return texts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with claims of two collections: one on shared data, one on a reader's own."""
    monkeypatch.setattr(paths, "figures", lambda: tmp_path / "figures")
    monkeypatch.setattr(paths, "runs", lambda: tmp_path / "runs")
    (tmp_path / "figures" / "mine").mkdir(parents=True)
    spans = {"difference": "1", "low": "0", "high": "2", "low elsewhere": "", "high elsewhere": ""}
    project = claim(measured="+1.11 [0.01, 2.21]", collection="mosi-unseen", **spans)
    own = claim(measured="+9.99 [9.00, 10.98]", collection="mine", data="mine", **spans)
    frame(project).to_csv(tmp_path / "figures" / "claims.csv", index=False)
    frame(own).to_csv(tmp_path / "figures" / "mine" / "claims.csv", index=False)
    return tmp_path


def own_context(folder: Path) -> Context:
    """Of a reader's own data, called mine."""
    random = np.random.default_rng(0)
    labels, split = np.arange(60) % 3, np.repeat([0, 1, 2], 20)
    features = {m: random.normal(size=(60, 3)) for m in ("eeg", "gait", "voice")}
    task, ids = Task("classes", ("a", "b", "c")), [f"u{number:02d}" for number in range(60)]
    save_bundle(make_bundle("mine", task, features, labels, split, ids), folder / "mine")
    return balm.context("smoke", {"": str(folder / "mine")})


def test_without_own_data_the_claims_of_the_project_are_told(home: Path, told: list[str]) -> None:
    Lesson(balm.context("smoke")).found()
    assert "1.11" in told[0] and "9.99" not in told[0]


def test_results_on_other_real_data_are_not_shown_among_those_on_own(
    home: Path, told: list[str]
) -> None:
    Lesson(own_context(home)).real("premise")
    assert told == [ELSEWHERE]


def test_own_data_see_the_claims_of_their_collection_alone(home: Path, told: list[str]) -> None:
    context = own_context(home)
    assert context.own and context.collection == "mine"
    Lesson(context).found()
    assert "9.99" in told[0] and "1.11" not in told[0]


def test_a_label_sees_the_claims_of_its_collection_alone(home: Path, told: list[str]) -> None:
    Lesson(balm.context("smoke", label="mine")).found()
    assert "9.99" in told[0] and "1.11" not in told[0]
    Lesson(balm.context("smoke", label="another")).found()
    command = "`mmlib decide --paper balm --label another --profile smoke`"
    assert told[-1] == findings.NOTHING.replace("`mmlib decide`", command)


def test_while_no_claim_has_a_verdict_the_main_comparison_is_told(
    home: Path, told: list[str]
) -> None:
    frame(claim(seeds="1", verdict="too few seeds")).to_csv(
        paths.figures() / "claims.csv", index=False
    )
    lesson = Lesson(balm.context("smoke"))
    lesson.found()
    assert told == [findings.NOTHING]
    folder = paths.figures() / lesson.context.collection / "balm"
    folder.mkdir(parents=True)
    frame(*difference("complete", -8.0, -2.0, "worse")).to_csv(
        folder / "main-numbers.csv", index=False
    )
    lesson.found()
    assert told[1] == findings.NOTHING
    assert "-5.00 [-8.00, -2.00] over 10 seeds, **worse**" in told[2]


def test_a_committed_comparison_can_be_shown_in_one_metric(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paths.figures() / "real" / "balm"
    folder.mkdir(parents=True)
    both = [*difference("s", 0, 2, "better"), *difference("s", 0, 4, "better", metric="mae")]
    both.append({**both[0], "row": "never run", "n": 0})
    frame(*both).to_csv(folder / "table2-numbers.csv", index=False)
    shown: list[Output] = []
    monkeypatch.setattr(committed, "collections", lambda paper: ["real"])
    monkeypatch.setattr(figures, "show", lambda output, *words: shown.append(output))
    lesson = Lesson(balm.context("smoke"))
    lesson.real("table2")
    lesson.real("table2", metric="mae")
    lesson.real("table2", metric="mae", rows=["ours"])
    numbers = [output.numbers for output in shown if output.numbers is not None]
    assert [set(of["metric"]) for of in numbers] == [{"accuracy"}, {"mae"}, {"mae"}]
    assert [of["row"].tolist() for of in numbers] == [
        ["plain", "ours"],
        ["plain", "ours"],
        ["ours"],
    ]
    assert numbers[1]["difference"].dropna().tolist() == [2.0]


def test_of_many_notes_the_first_stays_and_the_others_are_folded() -> None:
    few = Output(notes=("a", "b"))
    assert noted(few) == (few, "")
    output, more = noted(Output(notes=("first", "second", "# third")))
    assert output.notes == ("first",)
    assert more.startswith("<details><summary>2 more notes</summary>")
    assert "- second\n" in more and "\n# third" not in more and "first" not in more


@pytest.mark.parametrize("paper", PAPERS)
def test_every_obstacle_is_shown_with_a_link_to_its_row_of_the_ledger(
    paper: str, told: list[str]
) -> None:
    declared = PAPERS[paper]
    Lesson(declared.context("smoke")).obstacles()
    (text,) = told
    for choice in declared.obstacles:
        assert choice.obstacle in text and choice.reading in text
        for code in re.findall(r"[A-H]\d+", choice.ledger):
            assert f"[{code}](../docs/ledger.md#{code.lower()})" in text
    assert text.startswith(f"<details><summary>{len(declared.obstacles)} points")
    assert ("**Guesses:**" in text) == bool(declared.guesses)
    assert all(name in text for name in rows_left_out(declared))


def test_the_words_on_the_profile_are_wrapped_between_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = balm.context("quick")
    Lesson(context).introduce()
    first, *lines = capsys.readouterr().out.splitlines()
    assert "quick" in first and f"figures/{context.collection}/balm" in first
    assert " ".join(lines) == context.profile.reduced and max(map(len, lines)) <= WIDE


def test_what_a_notebook_does_not_show_is_drawn_and_listed_with_links_in_a_fold(
    home: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    outputs = {"fig1": Output(figure=figures.panel_grid(1)[0]), "table1": Output(table=numbered(1))}
    lesson = Lesson(balm.context("smoke"))
    known = {a.id: a for a in regenerate.artifacts(lesson.context, ["main", *outputs])}
    both = {**outputs, "main": Output(table=numbered(1))}

    def draw(context: Context, name: str) -> Output:
        drawn.append(name)
        return both[name]

    monkeypatch.setattr(
        regenerate, "artifacts", lambda _, names=(): [known[n] for n in names or known]
    )
    monkeypatch.setattr(regenerate, "draw", draw)
    monkeypatch.setattr(regenerate, "finish", lambda context: drawn.append("records"))
    lesson.show("main")
    lesson.rest()
    assert drawn == ["main", "fig1", "table1", "records"]
    head, *lines, end = told[-1].split("\n\n")
    assert head.startswith("<details><summary>2 tables and figures") and end == "</details>"
    first, second = "".join(lines).splitlines()
    assert "[picture](../figures/twins/balm/fig1.png)" in first and "fig1.md" not in first
    assert "[table](../figures/twins/balm/table1.md)" in second and "table1.png" not in second


# Where links lead.


@pytest.mark.parametrize("path", sorted(paths.notebooks().glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_file_that_a_notebook_links_is_there(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    typed = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((\.\./[^)#\s]+)", f"{shown}\n{typed}")
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []
