"""BALM's Table 7 says what seeds differ by: within a cell, which two configurations and folds share by name alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib.experiments.context import Cell, Context
from mmlib.papers import balm
from mmlib.papers.balm import rows, tables

FOLDS = (-10.0, 10.0)  # what each adds to its seed's value
SEEDS = {"A": (50.0, 52.0), "B": (20.0, 24.0)}  # weighted F1 by configuration


def told(seeds: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The notes of a Table 7 whose runs all have those values."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    context = balm.context("smoke", seeds=seeds)
    laws = {
        name: context.rates(context.main, of) for name, of in rows.configurations(context).items()
    }

    def read(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
        places = dict.fromkeys((c.row, c.setting, c.spec.train_mask) for c in cells)
        lines = [
            {"row": row, "setting": setting, "seed": seed, "fold": fold, "value": value + more}
            for row, setting, law in places
            for name, values in SEEDS.items()
            if laws[name] == law
            for seed, value in enumerate(values[:seeds])
            for fold, more in enumerate(FOLDS)
        ]
        return pd.DataFrame(lines).assign(run_id="run", stale=False)

    monkeypatch.setattr(tables, "_weighted_f1", read)
    output = tables.grid_table(context, tables.grid_cells(context))
    assert output.table is not None
    assert set(output.table.filter(like="rho").to_numpy().ravel()) == (
        {"50.00", "20.00"} if seeds == 1 else {"51.00", "22.00"}
    )
    return list(output.notes)


def test_the_deviation_is_of_seeds_within_a_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes = told(2, monkeypatch, tmp_path)
    mean = (np.std([50, 52], ddof=1) + np.std([20, 24], ddof=1)) / 2  # sqrt 2 and 2 sqrt 2
    assert f"{mean:.2f}" == "2.12"
    (sentence,) = [note for note in notes if "standard deviation" in note]
    assert "of a cell is 2.12 on average" in sentence


def test_one_seed_has_no_deviation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not [note for note in told(1, monkeypatch, tmp_path) if "standard deviation" in note]
