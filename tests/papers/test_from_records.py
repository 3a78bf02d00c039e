"""Verdicts are those of the committed records: nothing else of the runs is in the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import run_keys

from mmlib import paths
from mmlib.names import STUDY
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import regenerate

VOTES, UNSEEN = "crema-d-votes", "mosi-unseen"
DATA = [
    ("balm", "iemocap6", VOTES),
    ("dream", "iemocap4-frames", VOTES),
    ("ebmc", "iemocap4", VOTES),
    ("mculora", "crema-d", VOTES),
    ("gmm_loss", "crema-d", VOTES),
    ("ebmc", "mosi", "twin:mosi@study"),
    ("mculora", "mosei", "twin:mosei@study"),
    ("balm", "mosei", UNSEEN),
    ("ebmc", "mosi", UNSEEN),
    ("mculora", "mosei", UNSEEN),
]
FROM_ARRAYS = ("distinctly bimodal", "a single peak", "the overall gap")  # the gaps of every clip


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported bundle."""
    if not paths.real_data().exists():
        pytest.skip(f"no real data at {paths.real_data()}")
    folder = tmp_path_factory.mktemp("bundles") / UNSEEN
    run_keys.import_unseen(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("paper,role,data", DATA)
def test_claims_are_drawn_again_from_committed_records_alone(
    paper: str,
    role: str,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    collection = data if data in (VOTES, UNSEEN) else STUDY
    data = str(request.getfixturevalue("unseen")) if data == UNSEEN else data
    committed = paths.figures() / collection / paper
    made = tmp_path / "figures" / collection / paper
    made.mkdir(parents=True)
    for records in committed.glob("records-*.jsonl.xz"):
        shutil.copy(records, made)
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    regenerate.draw(PAPERS[paper].context("laptop", {role: data}), "claims")

    def claims(folder: Path) -> pd.DataFrame:
        read = pd.read_csv(folder / "claims.csv", dtype=str, keep_default_na=False)
        return read[~read["claim"].str.contains("|".join(FROM_ARRAYS))].reset_index(drop=True)

    pd.testing.assert_frame_equal(claims(made), claims(committed))
    assert (claims(made)["verdict"] != "not run").any()
