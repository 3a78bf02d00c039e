"""The data of the first command: twins, and real data where they come with the repository."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shared_runs import make_runs

from mmlib.data.bundle import save_bundle
from mmlib.data.catalog import is_twin, open_bundle
from mmlib.errors import InputError
from mmlib.experiments.comparison import SYNTHETIC
from mmlib.experiments.profiles import PROFILES
from mmlib.papers import gmm_loss, mculora, side_by_side
from mmlib.papers.catalog import PAPERS
from mmlib.papers.gmm_loss import analyses
from mmlib.papers.side_by_side import tables
from mmlib.pipeline import gather, notebooks, regenerate
from mmlib.report.tables import shows_published

VOTES = {"crema-d": "crema-d-votes"}
PAIR = {"mosei": "twin:mosei@smoke", **VOTES}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", PAPERS)
def test_the_role_crema_d_is_filled_by_the_votes_and_every_other_by_its_twin(
    name: str, profile: str
) -> None:
    data = PAPERS[name].defaults(PROFILES[profile])
    real = {role: d for role, d in data.items() if not is_twin(d)}
    assert real == (
        VOTES if "crema-d" in PAPERS[name].roles.values() and profile != "smoke" else {}
    )
    size = PROFILES[profile].size
    assert all(d == f"twin:{role}@{size}" for role, d in data.items() if role not in real)


@pytest.mark.parametrize("name", ["mculora", "gmm_loss", "side_by_side"])
def test_a_paper_takes_its_defaults_and_they_have_their_collection(name: str) -> None:
    assert PAPERS[name].context("quick").collection == "embedded"
    assert PAPERS[name].context("smoke").collection == "twins"


def test_a_collections_name_follows_from_its_data() -> None:
    for data, collection in (
        (VOTES, "crema-d-votes"),
        ({"crema-d": "twin:crema-d@smoke"}, "twins"),
        ({**VOTES, "ave": "twin:ave@smoke"}, "embedded"),
    ):
        assert gmm_loss.context("smoke", data).collection == collection


def test_other_data_may_not_be_called_embedded(tmp_path: Path) -> None:
    save_bundle(open_bundle("twin:mosi@tiny"), tmp_path / "mine")
    own = {"mosei": str(tmp_path / "mine")}
    assert mculora.context("smoke", {**own, "iemocap4": "twin:iemocap4@tiny"}).collection == (
        "twin-mosi-tiny"
    )
    for label in ("embedded", "twins"):
        with pytest.raises(InputError, match="--label"):
            mculora.context("smoke", own, label=label)
    assert gmm_loss.context("smoke", VOTES, label="embedded").label == "embedded"
    with pytest.raises(InputError, match="synthetic"):
        gmm_loss.context("smoke", VOTES, label="twins")


@pytest.mark.parametrize(
    ("data", "given"),
    [
        ({}, ""),
        ({"crema-d": "twin:crema-d@smoke", "ave": "twin:ave@smoke"}, ""),
        ({"crema-d": "twin:crema-d@smoke"}, "crema-d=twin:crema-d@smoke"),
        (VOTES, "crema-d=crema-d-votes"),
    ],
)
def test_a_notebook_gets_the_data_that_are_not_its_defaults(
    data: dict[str, str], given: str
) -> None:
    assert notebooks._parameters(gmm_loss.context("smoke", data))["data"] == given


def test_what_only_a_twin_can_show_is_made_of_the_twins_among_the_data() -> None:
    both = gmm_loss.context("smoke", {**VOTES, "ave": "twin:ave@smoke"})
    artifacts = {a.id: a for a in gmm_loss.ARTIFACTS}
    assert not regenerate.lacks(both, artifacts["planted"])
    assert {c.dataset for c in artifacts["planted"].cells(both)} == {"ave"}
    votes = gmm_loss.context("smoke", VOTES)
    assert "twins" in regenerate.lacks(votes, artifacts["planted"])
    assert "twin:crema-d" in regenerate.lacks(votes, artifacts["tuning"])
    assert analyses.lacks_judges(both) == ""
    compared = side_by_side.context("smoke", {**VOTES, "mosei-frames": "twin:mosei-frames@smoke"})
    assert {c.dataset for c in tables.best_cells(compared)} == {"mosei_frames"}
    assert not tables.lacks_best(compared)


def test_no_printed_number_stands_beside_embedded_data() -> None:
    assert not shows_published("embedded", ["crema-d-votes"])
    assert shows_published("crema-d-votes", ["crema-d-votes"])


def test_only_the_table_of_two_modalities_is_made_of_the_pair_where_there_are_other_data() -> None:
    context = mculora.context("smoke", PAIR)
    for artifact in mculora.ARTIFACTS:
        used = {cell.dataset for cell in artifact.cells(context)}
        assert used == ({"crema-d"} if artifact.id == "two-modalities" else {"mosei"}), artifact.id
    alone = mculora.context("smoke", VOTES)
    assert all({c.dataset for c in a.cells(alone)} == {"crema-d"} for a in mculora.ARTIFACTS)


@pytest.mark.slow
def test_the_table_of_two_modalities_on_the_votes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    whole = mculora.context("smoke", PAIR, seeds=1)
    # Steps of many clips: the votes are fifty times as many as the twins' utterances.
    many = {"default": dataclasses.replace(whole.profile.training["default"], batch=512)}
    context = dataclasses.replace(whole, profile=dataclasses.replace(whole.profile, training=many))
    make_runs(context, tmp_path_factory, ["two-modalities"])
    output = regenerate.draw(context, "two-modalities")
    assert output.numbers is not None
    regenerate.finish(context)
    folder = tmp_path / "figures" / "embedded" / "mculora"
    cells = output.numbers.query("row == 'MCULoRA' and metric == 'accuracy'").set_index("setting")
    assert {"audio", "vision", "audio+vision"} < set(cells.index)
    kinds = {(r.spec.method, r.spec.variant): r for r in context.store.records()}
    metrics = kinds["mculora", "paper"]["selected"]["valid"]["metrics"]
    for setting in ("audio", "vision", "audio+vision"):
        assert cells.loc[setting, "mean"] == pytest.approx(metrics[setting]["accuracy"])
    text = (folder / "two-modalities.md").read_text()
    assert "crema-d-votes" in text and "twin" not in text and SYNTHETIC not in text
    assert not list(folder.glob("records-*")), "another machine makes them as quickly"
    (entry,) = json.loads((tmp_path / "figures" / "manifest.json").read_text())
    assert entry["collection"] == "embedded"


def test_a_claim_is_on_a_twin_or_on_real_data_line_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "figures" / "embedded" / "gmm_loss"
    folder.mkdir(parents=True)
    numbers = pd.DataFrame({"no": [1, 2], "data": ["crema-d-votes", "AVE twin"]})
    numbers.to_csv(folder / "claims-numbers.csv", index=False)
    entry = {
        "id": "claims",
        "paper": "gmm_loss",
        "collection": "embedded",
        "status": "regenerated",
        "profile": "quick",
        "fingerprint": "a+b",
        "notes": [f"AVE twin: {SYNTHETIC}", "crema-d-votes stands in for the paper's data set"],
        "files": ["figures/embedded/gmm_loss/claims-numbers.csv"],
    }
    found = gather.claims([entry], tmp_path)
    assert np.array_equal(found["made of"], ["real data", "twins"])
