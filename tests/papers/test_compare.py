"""What the papers' comparison tables share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmlib.experiments import committed
from mmlib.experiments import comparison as compare
from mmlib.experiments.published import published
from mmlib.papers import ebmc


def test_a_table_without_our_data_says_which_rows_it_has_and_no_value() -> None:
    alone = ebmc.context("smoke", {"mosi": "twin:mosi"})
    both = ebmc.context("smoke", {"mosi": "twin:mosi", "mosei": "twin:mosei"})
    cells = compare.published_cells(alone, "table7", "mosi", ["weighted_f1"])
    assert (
        set(cells["row"]) == set(published("ebmc", "table7")["row"]) and cells["value"].isna().all()
    )
    assert compare.published_cells(both, "table7", "mosi", ["weighted_f1"]).empty
    assert len(compare.published_cells(both, "table7", "mosei", ["weighted_f1"])) == len(cells)


def test_a_collection_without_a_table_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path))
    assert committed.count_verdicts("balm", "mine", "table2") == "mine: no results of table2"
    assert committed.verdicts("balm", "mine", "table2").empty
