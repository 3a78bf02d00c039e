"""The real data that come with the repository: what is in them, under which name, and how they were made."""

from __future__ import annotations

import dataclasses
import importlib.util
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib import cli, paths
from mmlib.data import catalog, embedded
from mmlib.data.bundle import save_bundle
from mmlib.data.manifest import load_manifest
from mmlib.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "data" / "crema-d-votes"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without imported bundles."""
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    catalog.open_bundle.cache_clear()
    yield tmp_path
    catalog.open_bundle.cache_clear()


def raw() -> pd.DataFrame:
    return pd.read_csv(FOLDER / embedded.FILE)


def test_the_votes_are_the_bundle_that_an_import_makes(home: Path) -> None:
    entry = load_manifest()["bundle"]["crema-d-votes"]
    bundle = catalog.open_bundle("crema-d-votes")
    assert bundle.fingerprint == entry["fingerprint"]
    assert (bundle.name, bundle.source, bundle.licence) == (
        "crema-d-votes",
        entry["source"],
        entry["licence"],
    )
    assert [len(bundle.rows(s)) for s in ("train", "valid", "test")] == [6028, 670, 744]


def test_shares_are_counts_over_their_sum_and_labels_the_names_third_part(home: Path) -> None:
    bundle, table = catalog.open_bundle("crema-d-votes"), raw().set_index("clip")
    assert len(table) == 7442 and (table.drop(columns="split").dtypes == np.int64).all()
    names = bundle.task.names
    for at in (0, 1234, 7441):
        clip = table.loc[bundle.ids[at]]
        assert bundle.task.names[bundle.labels[at]] == bundle.ids[at].split("_")[2]
        for modality in ("audio", "vision"):
            votes = clip[[f"{modality} votes {name}" for name in names]].to_numpy(float)
            units = clip[[f"{modality} intensity {name}" for name in names]].to_numpy(float)
            expected = np.r_[votes / votes.sum(), units * 1e-10]
            np.testing.assert_allclose(bundle.features[modality][at], expected, rtol=1e-6)


def test_the_file_holds_integers_alone_and_is_small() -> None:
    cells = raw().drop(columns=["clip", "split"])
    assert cells.to_numpy().dtype == np.int64 and (cells >= 0).all(axis=None)
    assert (FOLDER / embedded.FILE).stat().st_size < 250_000


def test_the_script_makes_the_same_bytes_from_the_public_tables(tmp_path: Path) -> None:
    tables = paths.real_data() / "crema-d-votes"
    if not tables.exists():
        pytest.skip(f"no public tables at {tables}")
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    make.main([str(tables), "--out", str(tmp_path / "votes")])
    assert (tmp_path / "votes").read_bytes() == (FOLDER / embedded.FILE).read_bytes()


def test_an_imported_bundle_of_the_name_goes_first_and_is_embedded_only_if_it_holds_the_same(
    home: Path,
) -> None:
    assert catalog.is_embedded("crema-d-votes") and not catalog.is_twin("crema-d-votes")
    same = embedded.open_votes()
    save_bundle(same, paths.bundles() / "crema-d-votes")
    catalog.open_bundle.cache_clear()
    assert catalog.open_bundle("crema-d-votes") is not same
    assert catalog.is_embedded("crema-d-votes")
    other = {m: x + 1 for m, x in same.features.items()}
    save_bundle(dataclasses.replace(same, features=other), paths.bundles() / "crema-d-votes")
    catalog.open_bundle.cache_clear()
    assert (catalog.open_bundle("crema-d-votes").features["audio"] >= 1).all()
    assert not catalog.is_embedded("crema-d-votes")


def test_embedded_is_what_comes_with_the_repository(home: Path) -> None:
    save_bundle(catalog.open_bundle("twin:mosi@tiny"), paths.bundles() / "mine")
    assert catalog.is_embedded("twin:mosi@tiny") and not catalog.is_embedded("mine")


def test_data_list_says_what_the_votes_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("  crema-d-votes:")]
    assert all(word in line for word in ("real", "voice alone", "face alone", "ODbL"))


@pytest.mark.parametrize("damage", ["cut", "columns", "cell", "clip"])
def test_a_damaged_file_is_named(damage: str, home: Path) -> None:
    content = (FOLDER / embedded.FILE).read_bytes()
    text = lzma.decompress(content).decode()
    changed = {
        "cut": content[:1000],
        "columns": lzma.compress(text.replace("split", "part", 1).encode()),
        "cell": lzma.compress(text.replace(",train,6", ",train,six", 1).encode()),
        "clip": lzma.compress(text.replace("1001_DFA_ANG_XX", "1001_DFA_ANGER_XX", 1).encode()),
    }
    folder = home / "data" / "crema-d-votes"
    folder.mkdir(parents=True)
    (folder / embedded.FILE).write_bytes(changed[damage])
    embedded.open_votes.cache_clear()
    with pytest.raises(InputError, match=r"votes\.csv\.xz"):
        embedded.open_votes()
    embedded.open_votes.cache_clear()


def test_the_folder_names_its_licences_and_the_attribution() -> None:
    text = (FOLDER / "LICENSE").read_text()
    for name in ("odbl/1-0", "dbcl/1-0", "Cao", "Affective Computing", "Cheyney", "not under"):
        assert name in text
    for page in (
        FOLDER / "README.md",
        FOLDER.parents[1] / "README.md",
        FOLDER.parent / "README.md",
    ):
        assert "not MIT" in page.read_text(), page
