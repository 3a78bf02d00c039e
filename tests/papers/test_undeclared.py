"""What of a paper is left out is computed: the printed rows minus the declared ones."""

from __future__ import annotations

import dataclasses

import pytest

from mmlib.experiments import systems
from mmlib.experiments.published import published
from mmlib.experiments.systems import PRINTED_AS
from mmlib.experiments.tables import of_rows
from mmlib.experiments.undeclared import left_out, rows_left_out
from mmlib.papers import ebmc
from mmlib.papers.catalog import PAPERS
from mmlib.papers.ebmc import rows, tables

# Read off the tables of numbers that the smoke tests make, by hand: what is ours of the printed rows.
BUILT = {
    ("balm", "table1"): set(published("balm", "table1")["row"]),
    ("balm", "table2"): set(published("balm", "table2")["row"]),
    ("dream", "table1"): set(published("dream", "table1")["row"]),
    ("ebmc", "table1"): set(published("ebmc", "table1")["row"]),
    ("ebmc", "table2"): set(published("ebmc", "table2")["row"]),
    ("ebmc", "table3"): set(published("ebmc", "table3")["row"]),
    ("ebmc", "table6"): set(published("ebmc", "table6")["row"]),
    ("mculora", "table1"): set(published("mculora", "table1")["row"]),
    ("gmm_loss", "table1"): set(published("gmm_loss", "table1")["row"]),
}


@pytest.mark.parametrize(("paper", "table"), BUILT)
def test_left_out_are_the_printed_rows_that_nothing_declares(paper: str, table: str) -> None:
    title = next(a.title for a in PAPERS[paper].artifacts if a.id == table)
    computed = {name for name, titles in rows_left_out(PAPERS[paper]).items() if title in titles}
    printed = set(published(paper, table)["row"]) - BUILT[paper, table]
    assert computed == {PRINTED_AS.get(name, name) for name in printed}


def test_a_table_that_declares_some_rows_leaves_out_the_others() -> None:
    some = (*rows.MAIN, *systems.rows("CLGSI", "DEVA-style", "MulT"))
    table = dataclasses.replace(tables.TABLE1, rows=of_rows(some))
    assert table.left_out(ebmc.context("smoke")) == [
        "Self-MM",
        "ConKI-style",
        "ConFEDE",
        "MFON",
        "EUAR",
        "GLoMo",
        "Semi-IIN",
    ]


def test_a_table_without_a_row_leaves_it_out_and_the_reader_is_told() -> None:
    paper = PAPERS["mculora"]
    assert "MoMKE" not in left_out(paper)
    without = dataclasses.replace(
        paper.artifacts[0], left_out=lambda context: ["MoMKE", "IMDer"], title="Table 1"
    )
    fewer = dataclasses.replace(paper, artifacts=(without, *paper.artifacts[1:]))
    assert "MoMKE (Table 1), IMDer (Table 1)" in left_out(fewer)
    ours = dataclasses.replace(without, source="ours")
    assert "MoMKE" not in left_out(dataclasses.replace(paper, artifacts=(ours,)))


def test_what_is_no_row_is_said_by_the_paper_itself() -> None:
    for name in ("gmm_loss", "side_by_side"):
        assert left_out(PAPERS[name]) == PAPERS[name].left_out != ""
