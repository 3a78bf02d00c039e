"""Moving code changes no run: every artifact still needs exactly the runs that ``run_keys.csv`` lists.

These are the profiles that results are committed for; ``python tests/run_keys.py --check`` compares all of them, in
some minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import run_keys

from mmlib import paths
from mmlib.data.catalog import open_bundle
from mmlib.experiments.profiles import PROFILES

WRITTEN = pd.read_csv(run_keys.FILE, keep_default_na=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own, with no results, so that no committed record is read."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_REAL_DATA", str(paths.real_data()))
        patch.setenv("MMLIB_HOME", str(folder))
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        yield folder
    open_bundle.cache_clear()


@pytest.fixture(scope="module")
def real(home: Path) -> Path:
    """That home with the real bundles."""
    if not paths.real_data().exists():
        pytest.skip(f"no real data at {paths.real_data()}")
    run_keys.import_real(paths.bundles())
    return home


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_every_artifact_on_twins_needs_the_runs_that_were_written_down(
    home: Path, profile: str
) -> None:
    same_as_written(run_keys.TWINS, profile)


def test_every_artifact_on_the_embedded_data_needs_the_runs_that_were_written_down(
    home: Path,
) -> None:
    same_as_written(run_keys.EMBEDDED, "quick")


@pytest.mark.parametrize("collection", run_keys.REAL)
def test_every_artifact_on_real_data_needs_the_runs_that_were_written_down(
    real: Path, collection: str
) -> None:
    same_as_written(collection, "laptop")


def test_every_profile_is_written_down() -> None:
    assert set(WRITTEN["profile"]) == set(PROFILES)
    assert set(WRITTEN["collection"]) == {run_keys.TWINS, run_keys.EMBEDDED, *run_keys.REAL}


def same_as_written(collection: str, profile: str) -> None:
    listed = WRITTEN[(WRITTEN["collection"] == collection) & (WRITTEN["profile"] == profile)]
    assert len(listed)
    made = run_keys.table(collection, profile)
    pd.testing.assert_frame_equal(made, listed.reset_index(drop=True))
