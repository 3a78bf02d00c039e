"""Data with modalities missing by nature: tables say how many utterances a condition is evaluated on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mmlib.data.bundle import Bundle, save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments import nature
from mmlib.papers import balm, mculora
from mmlib.papers.balm import figures
from mmlib.papers.balm.tables import TABLE10
from mmlib.papers.mculora import rows as mculora_rows
from mmlib.pipeline import regenerate


def lacking_vision(twin: str, share: float) -> Bundle:
    """A twin of whose utterances a share has no vision."""
    bundle = open_bundle(twin)
    observed = bundle.observed.copy()
    lost = np.random.default_rng(0).random(len(bundle)) < share
    observed[lost, bundle.modalities.index("vision")] = False
    features = {
        **bundle.features,
        "vision": np.where(lost[:, None], np.float32(0), bundle.features["vision"]),
    }
    return dataclasses.replace(bundle, name="gaps", observed=observed, features=features)


def test_complete_data_have_no_note() -> None:
    assert nature.note("x", open_bundle("twin:mosei@smoke")) == ()


def test_the_note_counts_the_utterances_of_test_that_lack_a_modality() -> None:
    bundle = lacking_vision("twin:mosei@smoke", 0.5)
    lost = sum(not bundle.observed[row, 2] for row in bundle.rows("test"))
    (sentence,) = nature.note("gaps", bundle)
    assert (
        f"of {len(bundle.rows('test'))} test utterances" in sentence
        and f"vision in {lost}." in sentence
    )


def test_with_folds_all_are_tested_and_counted() -> None:
    bundle = lacking_vision("twin:mosei@smoke", 0.5)
    fold = np.unique(bundle.dialogue, return_inverse=True)[1].astype(np.int64) % 3
    folded = dataclasses.replace(bundle, fold=fold)
    lost = int((~bundle.observed[:, 2]).sum())
    (sentence,) = nature.note("gaps", folded)
    assert f"of {len(bundle)} utterances, each of which is tested in its fold, lack" in sentence
    assert f"vision in {lost}." in sentence and "test utterances" not in sentence


@dataclasses.dataclass(frozen=True)
class Gaps:
    """A bundle that lacks vision in three of five utterances, and where it is saved."""

    bundle: Bundle
    folder: Path


@pytest.fixture
def gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gaps:
    """With runs and figures in folders of the test's own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    made = Gaps(lacking_vision("twin:mosei@smoke", 0.6), tmp_path / "gaps")
    save_bundle(made.bundle, made.folder)
    return made


@pytest.mark.slow
def test_a_table_shows_the_utterances_of_each_fixed_subset_and_the_rates_that_were_realised(
    gaps: Gaps,
) -> None:
    context = mculora.context("smoke", {"mosei": str(gaps.folder)}, seeds=1)
    regenerate.run(context, ["table1"], jobs=1).raise_if_failed()
    output = regenerate.draw(context, "table1")
    assert output.numbers is not None
    has = int(
        gaps.bundle.observed[gaps.bundle.rows("test"), gaps.bundle.modalities.index("vision")].sum()
    )
    settings = set(output.numbers["setting"])
    assert f"vision (n = {has})" in settings
    assert "text" in settings and "text+vision" in settings  # all utterances have text
    cells = mculora_rows.cells(context, "mosei", mculora_rows.MAIN, settings=[mculora_rows.RANDOM])
    (sentence,) = nature.realised(context, cells)
    record, _ = context.store.find(cells[0].spec, gaps.bundle.fingerprint)
    assert record is not None
    told = {
        row["modality"]: row["realised"] for row in record["rates"] if row["mask"] == cells[0].mask
    }
    assert told["vision"] > 0.6 and f"vision {100 * told['vision']:.0f} %" in sentence


@pytest.mark.slow
def test_balms_average_over_subsets_is_that_of_the_utterances_that_have_them(gaps: Gaps) -> None:
    context = balm.context("smoke", {"mosei": str(gaps.folder)}, seeds=1, backbone="mmgcn")
    regenerate.run(context, ["table10"], jobs=1).raise_if_failed()
    notes = " ".join(regenerate.draw(context, "table10").notes)
    assert "vision in" in notes and "evaluated on the utterances that have any of them" in notes
    alone = [cell for cell in TABLE10.cells(context) if cell.mask == "V"]
    record, _ = context.store.find(alone[0].spec, gaps.bundle.fingerprint)
    assert record is not None and set(record["utterances"]) == {"V"}


def test_fig_1_is_of_the_training_utterances_of_the_first_fold(tmp_path: Path) -> None:
    bundle = open_bundle("twin:mosei@smoke")
    fold = np.unique(bundle.dialogue, return_inverse=True)[1].astype(np.int64) % 3
    save_bundle(dataclasses.replace(bundle, name="folds", fold=fold), tmp_path / "folds")
    context = balm.context("smoke", {"mosei": str(tmp_path / "folds")})
    (note,) = figures.missing_rates(context, ()).notes
    count = len(bundle.rows("train"))
    first = len(context.bundle("mosei").with_fold(0).rows("train"))
    assert first != count and f", {first} training utterances of the first fold." in note
