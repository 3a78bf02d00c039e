"""Every artifact of every paper says so where none of its runs is done, instead of failing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmlib.papers import catalog
from mmlib.pipeline import regenerate


@pytest.mark.parametrize("paper", catalog.PAPERS)
def test_an_empty_store_draws_notes_and_no_table_of_results(
    paper: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    context = catalog.PAPERS[paper].context("smoke")
    waiting = [a for a in regenerate.artifacts(context) if a.cells(context)]
    assert len(waiting) > 3
    for artifact in waiting:
        output = regenerate.draw(context, artifact.id)
        assert (
            output.notes == ("Not built yet: no run is done.",)
            and output.table is None
            and output.figure is None
        )
    entries = {e["id"]: e for e in json.loads((tmp_path / "figures" / "manifest.json").read_text())}
    assert all("no run is done" in entries[a.id]["notes"][0] for a in waiting)
    assert "regenerated" not in {entries[a.id]["status"] for a in waiting}
