"""What follows from declared claims; which a figure has room for, and what it says of the others."""

from __future__ import annotations

import dataclasses
import importlib
import re

import numpy as np
import pandas as pd
import pytest

from mmlib.experiments import verdicts
from mmlib.experiments.claims import Claim, Claims, Source
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Lead, Mean, Validated
from mmlib.experiments.verdicts import Measured
from mmlib.papers import catalog, ebmc
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.claim_figure import Line
from mmlib.report.crossed import Interval

POINTS = "points"


def claim(number: int, mean: float, spread: float) -> Measured:
    return Measured(
        f"claim {number}",
        "1",
        "data",
        "net",
        "a minus b",
        POINTS,
        mean + spread * np.array([-1.0, 0, 0, 0, 1]),
    )


def lines(*of: Measured) -> dict[int, Line]:
    return {
        number: verdicts._drawn(number, c, stats.paired(c.values, np.zeros(5), stats.MARGIN), ())
        for number, c in enumerate(of, start=1)
    }


def test_a_crowded_figure_keeps_primary_claims_and_what_is_decided_most_clearly() -> None:
    found = lines(
        claim(1, 0.1, 9.0),
        claim(2, 5.0, 0.4),
        claim(3, 5.0, 0.1),
        dataclasses.replace(claim(4, 0.2, 9.0), primary=True),
        claim(5, 5.0, 0.2),
    )
    assert [line.test.verdict for line in found.values()] == [
        *("undecided", "better", "better", "undecided", "better")
    ]
    assert list(verdicts.most_telling(found, 3)) == [3, 4, 5]
    assert list(verdicts.most_telling(found, 4)) == [2, 3, 4, 5]  # never what is undecided
    assert verdicts.most_telling(found, 5) == found
    open_ones = {number: found[number] for number in (1,)} | {6: found[1], 7: found[1]}
    assert len(verdicts.most_telling(open_ones, 2)) == 2  # nothing else to show


def sentences(output: Output) -> list[str]:
    assert output.figure is not None
    texts = [text.get_text() for text in output.figure.axes[0].texts]
    return [text for text in texts if re.match(r"\d+\. ", text)]


def test_the_table_has_every_claim_and_the_figure_says_how_many_it_shows() -> None:
    found = [claim(n, 5 + 0.1 * n, 0.1) for n in range(verdicts.DRAWN + 5)]
    output = verdicts.table(None, found, POINTS, (), ())  # type: ignore[arg-type]
    assert output.table is not None and len(output.table) == verdicts.DRAWN + 5
    shown = [text.split(".")[0] for text in sentences(output)]
    assert shown == [str(n) for n in range(6, verdicts.DRAWN + 6)]
    assert f"{verdicts.DRAWN} of {verdicts.DRAWN + 5} claims" in " ".join(output.notes)
    few = verdicts.table(None, found[:5], POINTS, (), ())  # type: ignore[arg-type]
    assert "Figure: 5 of 5 claims." in few.notes


def test_a_figure_has_the_sentence_its_test_its_place_and_n_by_verdict() -> None:
    found = [
        dataclasses.replace(claim(1, -4.0, 0.1), text="worse than it says"),
        dataclasses.replace(claim(2, 4.0, 0.1), text="as it says", printed=3.0),
        dataclasses.replace(claim(3, 4.0, 0.1), text="as named before", primary=True),
    ]
    found[2] = dataclasses.replace(found[2], values=np.tile(found[2].values, 2))  # its first look
    output = verdicts.table(None, found, POINTS, (), ())  # type: ignore[arg-type]
    assert sentences(output) == ["3. As named before", "2. As it says", "1. Worse than it says"]
    texts = [text.get_text() for text in output.figure.axes[0].texts]  # type: ignore[union-attr]
    assert "Supported (2)" in texts and "Contradicted (1)" in texts
    assert texts.count("a minus b\N{NO-BREAK SPACE}· 1") == 3  # all are of one data set and network
    assert "\N{MINUS SIGN}4.00  (n = 5)" in texts
    assert output.numbers is not None and list(output.numbers["printed"].fillna(0)) == [0, 3, 0]
    assert "Ticks are the gains" in " ".join(output.notes)
    assert not any("no." in text or "net" in text.split() for text in texts)


def measured(values: list[float], **change: object) -> Measured:
    return dataclasses.replace(claim(0, 0, 0), values=np.array(values), **change)  # type: ignore[arg-type]


def lines_of(*of: Measured) -> pd.DataFrame:
    numbers = verdicts.table(None, of, POINTS, (), ()).numbers  # type: ignore[arg-type]
    assert numbers is not None
    return numbers.set_index("no")


def test_primary_claims_have_their_own_rule_and_every_line_says_which_it_is() -> None:
    """Ten seeds at p = 0.02: decided by itself, and not where one of four looks is taken."""
    noise = np.array([-1.5, -1, -0.5, -0.25, 0, 0, 0.25, 0.5, 1, 1.5])
    mean = 2.82 * noise.std(ddof=1) / np.sqrt(10)  # t of 2.82 at 9 degrees of freedom
    values = list(mean + noise)
    made = lines_of(measured(values), measured(values, primary=True))
    assert list(made["kind"]) == ["exploratory", "primary"]
    assert list(made["verdict"]) == ["supported", "undecided"]
    assert made.loc[1, "low"] > 0 > made.loc[2, "low"]


def test_few_seeds_have_a_mean_and_no_verdict_and_none_are_not_run() -> None:
    made = lines_of(measured([1.0, 2.0, 3.0, 4.0]), measured([]))
    assert list(made["verdict"]) == ["too few seeds", "not run"]
    assert made.loc[1, "measured"] == "+2.50 (4)" and np.isnan(made.loc[1, "low"])


def test_a_picture_has_the_claims_with_enough_seeds_and_there_is_none_without_any() -> None:
    few, enough = measured([1.0, 2.0, 3.0]), measured([1.0, 2.0, 3.0, 2.0, 1.0])
    assert verdicts.table(None, [few, few], POINTS, (), ()).figure is None  # type: ignore[arg-type]
    figure = verdicts.table(None, [few, enough], POINTS, (), ()).figure  # type: ignore[arg-type]
    assert figure is not None
    (sentence,) = [t.get_text() for t in figure.axes[0].texts if t.get_text().startswith("2")]
    assert sentence == "2. Claim 0"


def test_what_can_happen_is_shown_or_not_shown_and_never_contradicted() -> None:
    up = [1.0, 1.1, 0.9, 1.2, 0.8]
    made = lines_of(measured(up, exists=True), measured([-v for v in up], exists=True))
    assert list(made["verdict"]) == ["supported", "not shown here"]


def test_no_interval_of_a_correlation_leaves_what_is_possible() -> None:
    made = lines_of(measured([1.0, 1.0, 1.0, 1.0, -0.9], unit="correlation"))
    assert made.loc[1, "high"] == 1.0 and made.loc[1, "low"] >= -1.0


def test_the_best_rival_is_the_one_that_validation_picks() -> None:
    values = {(row, ""): pd.Series([mean] * 3) for row, mean in zip("abc", (5, 3, 4), strict=True)}
    lead = BestLead("a", ["b", "c", "never run"])
    of_b, of_c = pd.Series([80.0, 81.0]), pd.Series([70.0, 71.0, 99.0])  # c has a seed more
    read = Validated(values, {"b": of_b, "c": of_c})  # and c is better on test
    assert list(lead(read)) == [2, 2, 2] and lead.name(read) == "the best on validation: b"
    assert lead(Validated({}, {})).empty and lead.name(Validated({}, {})) == ""


BY_PLACE = {
    ("ours", "a"): pd.Series({0: 5.0, 1: 6.0, 2: 7.0}),
    ("other", "a"): pd.Series({0: 4.0, 1: 4.0, 2: 4.0}),
    ("ours", "b"): pd.Series({0: 5.0, 1: 6.0, 2: 7.0}),
    ("other", "b"): pd.Series({0: 2.0, 1: 4.0}),
}


def test_a_lead_and_a_mean_of_leads_are_of_the_seeds_that_all_rows_have() -> None:
    leads = [Lead("ours", "other", setting) for setting in "ab"]
    assert leads[0](BY_PLACE).to_dict() == {0: 1.0, 1: 2.0, 2: 3.0}
    assert leads[1](BY_PLACE).to_dict() == {0: 3.0, 1: 2.0}
    assert Mean(leads)(BY_PLACE).dropna().to_dict() == {0: 2.0, 1: 2.0}
    assert Lead("ours", "unmade", "a")(BY_PLACE).empty and Mean([])(BY_PLACE).empty


def test_each_source_is_read_once_and_a_claims_runs_are_those_of_its_source() -> None:
    context, read = ebmc.context("smoke"), []
    cells = ebmc.claims.CLAIMS.cells(context)[:2]

    def source(mine: list[Cell]) -> Source:
        def reading(context: Context, cells: list[Cell]) -> object:
            read.append(cells)
            return BY_PLACE

        return Source(context.main, mine, reading)

    first, second = source(cells[:1]), source(cells)
    declared = [
        Claim("by more", "1", "ours minus other", first, Lead("ours", "other", "a")),
        Claim("in points", "1", "a list", first, lambda by_place: [1.0, 2.0], "units", "net"),
        Claim("by less", "2", "the reverse", second, Lead("other", "ours", "b")),
    ]
    every = Claims(lambda context: declared, POINTS, "network")
    assert every.cells(context) == cells
    measured = every.measured(context)
    assert read == [cells[:1], cells]
    assert [list(m.values) for m in measured] == [[1, 2, 3], [1, 2], [-3, -2]]
    assert [(m.unit, m.backbone) for m in measured] == [
        (POINTS, "network"),
        ("units", "net"),
        (POINTS, "network"),
    ]


@pytest.mark.parametrize(
    "paper,primary",
    [
        (
            "balm",
            [
                "+BALM minus plain, mean of the three settings",
                "+BALM minus plain, mean of 3 backbones, mean of the three settings",
                "+BALM minus +FCM, mean of 3 settings",
            ],
        ),
        (
            "dream",
            [
                "DREAM minus same network, task loss alone",
                "DREAM's loss from 0 % to 60 % minus that of same network, task loss alone, as a gain",
            ],
        ),
        ("ebmc", ["EBMC minus same network, task loss alone"] * 2),
        (
            "mculora",
            [
                "MCULoRA minus joint training",
                "MCULoRA minus w/o MCLA",
                "MCULoRA minus w/o DPFT",
            ],
        ),
        (
            "gmm_loss",
            ["Ours minus Concat", "Ours minus the one of its nine rivals that validation picks"],
        ),
    ],
)
def test_each_paper_names_one_to_three_primary_claims_on_its_main_data(
    paper: str, primary: list[str]
) -> None:
    context = catalog.PAPERS[paper].context("smoke")
    declared = importlib.import_module(f"mmlib.papers.{paper}.claims").CLAIMS.declared(context)
    marked = [claim for claim in declared if claim.primary]
    assert [claim.test for claim in marked] == primary
    assert {claim.source.dataset for claim in marked} == {context.main}


def elsewhere(low: float, high: float) -> Interval:
    return Interval(low, high, low + 0.1, high - 0.1, 26)


@pytest.mark.parametrize(
    ("mean", "other", "scope"),
    [
        (3.0, elsewhere(0.5, 5.5), "other dialogues too"),
        (3.0, elsewhere(-0.5, 6.5), "on these test data only"),
        (-3.0, elsewhere(-5.5, -0.5), "other dialogues too"),
        (-3.0, elsewhere(-5.5, 0.5), "on these test data only"),
        (0.0, elsewhere(-0.9, 0.9), "other dialogues too"),
        (0.0, elsewhere(-1.2, 0.9), "on these test data only"),
    ],
)
def test_a_verdict_says_whether_it_is_that_of_other_test_data_too(
    mean: float, other: Interval, scope: str
) -> None:
    values = mean + 0.2 * np.array([-1.0, 1.0] * 5)
    asked = []

    def of_seeds(seeds: int) -> Interval:
        asked.append(seeds)
        return other

    line = dataclasses.replace(
        claim(1, 0, 1), values=values, primary=True, elsewhere=of_seeds, clusters="dialogues"
    )
    output = verdicts.table(None, [line], POINTS, (), ())  # type: ignore[arg-type]
    (row,) = output.table.to_dict("records")
    assert row["scope"] == scope and asked == [10]
    assert row["other test data"] == f"[{other.low:.2f}, {other.high:.2f}], 26 dialogues"
    assert any(note.startswith("Other test data") for note in output.notes)


def test_a_claim_without_an_interval_for_other_test_data_says_nothing_of_them() -> None:
    output = verdicts.table(None, [claim(1, 3.0, 0.1)], POINTS, (), ())  # type: ignore[arg-type]
    assert output.table["scope"].item() == output.table["other test data"].item() == ""
    assert not any(note.startswith("Other test data") for note in output.notes)
