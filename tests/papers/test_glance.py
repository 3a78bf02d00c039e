"""The table of the primary claims: one line for each, the most seeds, nothing that says nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmlib.pipeline import glance
from mmlib.report.dashboard import write_dashboard

CALLED = {"balm": "BALM", "dream": "DREAM"}
ROOT = Path(__file__).resolve().parents[2]


def line(**given: str) -> dict[str, str]:
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
        "unit": "points",
        "seeds": "10",
        "measured": "+1.00 [0.50, 1.50]",
        "verdict": "supported",
        "scope": "on these test data only",
        "other test data": "[-0.50, 2.50], 26 dialogues",
        **given,
    }


def frame(*lines: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(lines)


def test_a_line_has_the_difference_both_intervals_seeds_verdict_scope_and_a_link() -> None:
    (row,) = glance.lines(frame(line()), CALLED).to_dict("records")
    assert row == {
        "paper": "BALM",
        "claim": "it helps",
        "data": "MOSI",
        "measured": "ours minus plain",
        "difference [interval over seeds]": "+1.00 [0.50, 1.50] points",
        "interval for other test data": "[-0.50, 2.50], 26 dialogues",
        "seeds": "10",
        "verdict": "[supported](real/balm/claims.md) (on these test data only)",
    }


def test_the_collection_with_the_most_seeds_stands_for_a_claim_and_real_data_come_first() -> None:
    made = glance.lines(
        frame(
            line(paper="dream"),
            line(data="twin", **{"made of": "twins"}),
            line(),
            line(collection="more", seeds="20", verdict="contradicted", scope=""),
        ),
        CALLED,
    )
    assert made["paper"].tolist() == ["BALM", "BALM", "DREAM"]
    assert made["seeds"].tolist() == ["20", "10", "10"]
    assert made["verdict"].tolist()[:2] == [
        "[contradicted](more/balm/claims.md)",
        "[supported](real/balm/claims.md) (on these test data only), on twins",
    ]
    assert glance.lines(frame(line(), line(paper="dream")), CALLED, "dream")["paper"].tolist() == [
        "DREAM"
    ]


def test_the_larger_twins_stand_for_a_claim_where_they_have_a_verdict() -> None:
    on_twins = {"made of": "twins", "data": "MOSI twin"}
    small = line(collection="twins", seeds="20", verdict="undecided", **on_twins)
    large = line(collection="twins-study", seeds="10", **on_twins)
    (row,) = glance.lines(frame(small, large), CALLED).to_dict("records")
    assert row["verdict"].startswith("[supported](twins-study/") and row["seeds"] == "10"
    assert row["data"] == "larger MOSI twin"
    too_few = line(collection="twins-study", seeds="4", verdict="too few seeds", **on_twins)
    (row,) = glance.lines(frame(small, too_few), CALLED).to_dict("records")
    assert row["verdict"].startswith("[undecided](twins/") and row["seeds"] == "20"
    assert row["data"] == "MOSI twin"


def test_what_has_no_verdict_is_counted_below_and_exploratory_claims_are_summed_up() -> None:
    claims = frame(
        line(),
        line(seeds="1", verdict="too few seeds", claim="another"),
        line(seeds="1", verdict="too few seeds", collection="few"),
        line(kind="exploratory", verdict="undecided"),
        line(kind="exploratory", verdict="not run", claim="third"),
    )
    text = glance.markdown(claims, CALLED, folder="figures/")
    assert text.count("it helps") == 1 and "another" not in text
    assert "(figures/real/balm/claims.md)" in text
    assert "1 further primary claim has too few seeds" in text
    assert "Exploratory claims with a verdict: 1 undecided." in text


def test_what_else_is_decided_on_real_data_has_a_line_for_each_sentence() -> None:
    other = {"kind": "exploratory", "claim": "text alone is best", "difference": "2.5"}
    claims = frame(
        line(),
        line(**other),
        line(**{**other, "difference": "4.25", "test (above 0 supports)": "text minus audio"}),
        line(**{**other, "difference": "-0.5", "verdict": "undecided"}),
        line(**{**other, "data": "twin", "made of": "twins"}),
        line(kind="exploratory", claim="it is even", verdict="undecided"),
        line(kind="exploratory", claim="it falls", verdict="contradicted", paper="dream"),
        line(kind="exploratory", claim="it rises", verdict="too few seeds"),
    )
    made = glance.also(claims, CALLED)
    assert made.to_dict("records") == [
        {
            "paper": "BALM",
            "claim": "text alone is best",
            "data": "MOSI",
            "measured": "-0.50 to +4.25 points",
            "verdict": "[supported in 2 of 3, undecided in 1 of 3](real/balm/claims.md)",
        },
        {
            "paper": "DREAM",
            "claim": "it falls",
            "data": "MOSI",
            "measured": "+1.00 [0.50, 1.50] points",
            "verdict": "[contradicted](real/dream/claims.md)",
        },
    ]
    text = glance.page(claims, CALLED)
    assert text.index("it helps") < text.index("What else") < text.index("text alone is best")
    assert glance.page(claims[:1], CALLED) == glance.markdown(claims[:1], CALLED)


def test_without_any_verdict_it_says_how_to_get_one(tmp_path: Path) -> None:
    assert glance.markdown(frame(line(verdict="not run")), CALLED) == glance.EMPTY
    assert glance.markdown(glance.read(tmp_path), CALLED) == glance.EMPTY


@pytest.mark.parametrize("claim", ["a|b <b>c</b>", "[x](y)", "`code` *em*"])
def test_words_of_claims_have_no_meaning_for_markdown(claim: str) -> None:
    text = glance.markdown(frame(line(claim=claim)), CALLED)
    assert "<b>" not in text and "[x](y)" not in text and "`code`" not in text
    assert len({row.replace("\\|", "").count("|") for row in text.splitlines()[:3]}) == 1


def test_the_dashboard_opens_with_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    made = glance.lines(frame(line(claim="<b>")), CALLED)
    page = write_dashboard(tmp_path / "manifest.json", tmp_path / "index.html", glance=made)
    text = page.read_text()
    assert '<a href="real/balm/claims.md">supported</a> (on these test data only)' in text
    assert "&lt;b&gt;" in text
    write_dashboard(tmp_path / "manifest.json", tmp_path / "index.html", glance=made.iloc[:0])
    assert "primary claims" not in page.read_text()


def test_the_readme_has_the_table_of_the_committed_claims() -> None:
    spec = importlib.util.spec_from_file_location("glance_page", ROOT / "docs" / "glance.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0, "run: python docs/glance.py"


def test_claims_stand_in_the_order_of_their_numbers() -> None:
    later, first = line(no="25", claim="later"), line(no="7", claim="first")
    assert glance.lines(frame(later, first), CALLED)["claim"].tolist() == ["first", "later"]
