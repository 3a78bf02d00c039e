"""What the papers' comparison tables share."""

from __future__ import annotations

from mmlib.papers import compare, ebmc
from mmlib.papers.published import published


def test_a_table_without_our_data_says_which_rows_it_has_and_no_value() -> None:
    alone = ebmc.context("smoke", {"mosi": "twin:mosi"})
    both = ebmc.context("smoke", {"mosi": "twin:mosi", "mosei": "twin:mosei"})
    cells = compare.published_cells(alone, "table7", "mosi", ["weighted_f1"])
    assert set(cells["row"]) == set(published("ebmc", "table7")["row"]) and cells["value"].isna().all()
    assert compare.published_cells(both, "table7", "mosi", ["weighted_f1"]).empty
    assert len(compare.published_cells(both, "table7", "mosei", ["weighted_f1"])) == len(cells)
