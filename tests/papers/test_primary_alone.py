"""Where the runs of primary claims alone are done, as `mmlib decide` leaves them, the table of claims is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_runs import shared_folder

from mmlib.experiments.rows import with_parents
from mmlib.experiments.verdicts import NOT_RUN
from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.pipeline import regenerate
from mmlib.runs.store import Store
from mmlib.runs.sweep import sweep


@pytest.mark.parametrize("paper", CLAIMS)
def test_a_store_with_the_runs_of_primary_claims_alone_gives_the_table(
    paper: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    context = PAPERS[paper].context("smoke")
    cells = [cell for claim in CLAIMS[paper].primary(context, 1) for cell in claim.cells()]
    specs = list(with_parents(cell.spec for cell in cells))
    shared = Store(shared_folder(tmp_path_factory), quiet=True)
    assert sweep(specs, shared, jobs=1).failed == 0
    for spec in specs:
        run_id = spec.run_id(context.bundle_fingerprint(spec.data))
        context.store.take(run_id, shared.files(run_id))
    output = regenerate.draw(context, "claims")
    assert output.table is not None
    verdicts = output.table["verdict"]
    assert (verdicts == NOT_RUN).any() and (verdicts != NOT_RUN).any()
