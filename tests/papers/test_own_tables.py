"""Tables of data that were given without a role are about these data; in a role they are as before."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments import comparison, own
from mmlib.experiments.context import NO_ROLE
from mmlib.experiments.profiles import PROFILES
from mmlib.experiments.published import published
from mmlib.experiments.systems import PRINTED_AS
from mmlib.experiments.tables import Table
from mmlib.experiments.undeclared import PRINTED
from mmlib.papers.balm.figures import missing_rates
from mmlib.papers.catalog import PAPERS
from mmlib.papers.ebmc import claims as ebmc_claims
from mmlib.papers.ebmc import frames
from mmlib.papers.mculora.analyses import ROOM
from mmlib.pipeline import regenerate
from mmlib.report.artifact import read_all, read_manifest, said
from mmlib.runs.results import FEW

CLASSES = tuple(f"c{k}" for k in range(8))
FOUR, SIX = ("eeg", "face", "gaze", "voice"), tuple(f"view{i}" for i in range(1, 7))


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What writes a bundle of 64 utterances in dialogues of four, and gives its folder."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))

    def save(name: str, modalities: tuple[str, ...], score: bool = False, most: float = 3) -> str:
        r, n = np.random.default_rng(0), 64
        features = {m: r.normal(size=(n, 3)).astype(np.float32) for m in modalities}
        ends = (-float(np.ceil(most)), float(np.ceil(most)))
        task = Task("score", range=ends) if score else Task("classes", CLASSES)
        labels = np.where(np.arange(n) == 1, most, r.uniform(-most, most, n))
        labels = labels if score else np.arange(n) % 8
        split = ["train"] * 32 + ["valid"] * 16 + ["test"] * 16
        ids, dialogue = [f"u{i:02}" for i in range(n)], [f"d{i // 4:02}" for i in range(n)]
        bundle = make_bundle(name, task, features, labels, split, ids, dialogue=dialogue)
        save_bundle(bundle, tmp_path / "bundles" / name)
        return str(tmp_path / "bundles" / name)

    return save


def made(arguments: list[str], collection: str, paper: str, tmp_path: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    """The manifest's entries of a command, by artifact."""
    assert main(["run", "--profile", "smoke", "--seeds", "1", "--jobs", "1", *arguments]) == 0
    listed = read_all(tmp_path / "figures")
    return {e["id"]: e for e in listed if (e["collection"], e["paper"]) == (collection, paper)}


@pytest.mark.parametrize(
    ("most", "seven"), [(3.0, True), (10 / 3, True), (4.0, False), (50.0, False), (1.0, False)]
)
def test_only_scores_of_3_either_way_have_an_accuracy_of_seven_classes(
    most: float, seven: bool, saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved("rated", FOUR[:2], True, most)
    context = PAPERS["ebmc"].context("smoke", {NO_ROLE: folder}, seeds=1)
    (dataset,) = context.datasets
    wanted = ("weighted_f1", "acc7", "mae")
    chosen = wanted if seven else ("weighted_f1", "mae")
    assert comparison.available(context, dataset, wanted) == chosen
    panels = frames._panels(context, dataset)
    assert list(panels.values())[1] == ("7-class accuracy (%)" if seven else "accuracy (%)")
    (measured, *_) = ebmc_claims._weights(context)
    assert ("acc7" in measured.test) == seven
    if most != 50:
        return
    made(
        ["--paper", "ebmc", "--artifact", "table7,fig6", "--data", folder],
        "rated",
        "ebmc",
        tmp_path,
    )
    figures = tmp_path / "figures/rated/ebmc"
    for name in ("table7-numbers.csv", "fig6.csv"):
        shown = set(pd.read_csv(figures / name)["metric"])
        assert "mae" in shown and "acc7" not in shown, name
    assert "7 classes" not in (figures / "table7.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "modalities", "score"), [("mine", FOUR, False), ("rating", FOUR[:2], True)]
)
def test_a_table_has_the_rows_that_ran_and_the_columns_of_these_data(
    name: str, modalities: tuple[str, ...], score: bool, saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved(name, modalities, score)
    arguments = ["--paper", "ebmc", "--artifact", "table1,table3", "--data", folder]
    entries = made(arguments, name, "ebmc", tmp_path)
    for id_ in ("table1", "table3"):
        numbers = pd.read_csv(tmp_path / "figures" / name / "ebmc" / f"{id_}-numbers.csv")
        assert numbers["n"].min() == 1, "no row, setting or metric stands there without a run"
        unsigned = {"mae", "pearson", "acc7", "accuracy_with_zero", "weighted_f1_with_zero"}
        assert bool(unsigned & set(numbers["metric"])) == (score and id_ == "table1")
        named = {m for setting in numbers["setting"] for m in str(setting).split("+")}
        assert named - {"all modalities", "average"} <= set(modalities)
        entry = entries[id_]
        assert entry["rows_in_paper"] is None
        assert (
            f"Data: {name} (64 utterances in 16 dialogues, {len(modalities)} modalities, 1 seed)"
            in (entry["caption"])
        )
        text = (tmp_path / "figures" / name / "ebmc" / f"{id_}.md").read_text(encoding="utf-8")
        assert "epoch at which it is best on validation" in text
        assert ("F1 scores of single classes" in text) == (not score), "scores have none"
        assert not any(words in text for words in ("not built yet", "cells are", "twin"))
    report = (tmp_path / "figures" / name / "ebmc" / "replication.md").read_text(encoding="utf-8")
    assert "the data are not the paper's" in report and PRINTED not in report


def test_data_in_a_role_have_the_papers_rows_as_before(
    saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved("mine", FOUR, score=True)
    arguments = ["--paper", "ebmc", "--artifact", "table1", "--data", f"mosi={folder}"]
    entry = made(arguments, "mine", "ebmc", tmp_path)["table1"]
    numbers = pd.read_csv(tmp_path / "figures" / "mine" / "ebmc" / "table1-numbers.csv")
    printed = set(published("ebmc", "table1")["row"].replace(PRINTED_AS))
    assert printed <= set(numbers[numbers["n"] > 0]["row"]) and numbers["in_paper"].any()
    declared = {a.id: a for a in PAPERS["ebmc"].artifacts}["table1"]
    assert entry["rows_in_paper"] == declared.rows_in_paper
    assert PROFILES["smoke"].reduced not in entry["caption"]
    assert "64 utterances" not in entry["caption"]


def test_no_claim_is_about_modalities_that_the_data_lack(saved: Callable[..., str]) -> None:
    context = PAPERS["ebmc"].context("smoke", {NO_ROLE: saved("mine", FOUR, score=True)})
    tests = [claim.test for claim in ebmc_claims.declared(context)]
    assert len(tests) > 20
    assert not [test for test in tests if re.search(r"\b(audio|text|vision)\b", test)]


def test_what_records_have_no_room_for_says_so(saved: Callable[..., str]) -> None:
    assert ROOM == FEW
    six, four = (
        PAPERS["mculora"].context("smoke", {NO_ROLE: saved(name, modalities)})
        for name, modalities in (("views", SIX), ("mine", FOUR))
    )
    of_combinations = [a for a in PAPERS["mculora"].artifacts if a.id in ("premise", "shares")]
    for artifact in of_combinations:
        assert "6 modalities have 63 combinations" in regenerate.lacks(six, artifact)
        assert not regenerate.lacks(four, artifact)


def captions(paper: str, folder: str) -> dict[str, str]:
    """The captions of the artifacts that can be made of own data."""
    context = PAPERS[paper].context("smoke", {NO_ROLE: folder})
    every = regenerate.every(context)
    return {a.id: str(a.caption) for a in every if not regenerate.lacks(context, a)}


def test_the_caption_of_random_masks_counts_what_the_data_lack_apart(
    saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved("whole", FOUR[:3])
    assert "besides" not in captions("mculora", folder)["random"]
    bundle = open_bundle(folder)
    observed = bundle.observed.copy()
    observed[1, 0] = False
    features = {
        m: np.where(observed[:, [i]], x, 0) for i, (m, x) in enumerate(bundle.features.items())
    }
    lacking = dataclasses.replace(bundle, name="lacking", observed=observed, features=features)
    save_bundle(lacking, tmp_path / "bundles" / "lacking")
    folder = str(tmp_path / "bundles" / "lacking")
    assert "besides what the data lack" in captions("mculora", folder)["random"]


def test_captions_are_about_these_data(saved: Callable[..., str]) -> None:
    four = saved("mine", FOUR)
    balm = captions("balm", four)
    assert not {"table2", "table12", "table15"} & set(balm), "those of scores"
    assert "(eeg/face/gaze/voice), 3 settings" in balm["table1"]
    assert "15 modality subsets, trained at 0.5/0.7/0.3/0.5" in balm["table3"]
    assert "at 0.3/0.7/0.5/0.3:" in balm["fig12"]
    assert captions("ebmc", four)["table2"] == "F1 of each class (%)."
    two = captions("mculora", saved("pair", FOUR[:2]))
    assert two["random"].startswith("One modality missing")


@pytest.mark.parametrize(
    ("modalities", "score"), [(FOUR, False), (FOUR[:2], False), (FOUR[:2], True)]
)
def test_no_caption_names_other_data(
    modalities: tuple[str, ...], score: bool, saved: Callable[..., str]
) -> None:
    """Nor modalities, a number of them, or frames, which these data do not have."""
    folder = saved("mine", modalities, score)
    other = r"IEMOCAP|MOSE?I|CREMA|AVE|role|twin|emotion|frames?|audio|text|vision|r_A|six|seven"
    pair_of_classes = len(modalities) == 2 and not score
    for paper in (name for name in PAPERS if name != "gmm_loss" or pair_of_classes):
        made = captions(paper, folder)
        assert len(made) > 5
        for id_, caption in made.items():
            assert re.search(rf"\b(?:{other})\b", caption) is None, (paper, id_, caption)


@pytest.mark.parametrize("paper", ["balm", "dream", "ebmc", "mculora"])
def test_notes_below_tables_are_about_these_data(paper: str, saved: Callable[..., str]) -> None:
    context = PAPERS[paper].context("smoke", {NO_ROLE: saved("views", SIX)})
    tables = [getattr(a.draw, "__self__", None) for a in PAPERS[paper].artifacts]
    notes = [said(context, n) for of in tables if isinstance(of, Table) for n in of.notes]
    told = " ".join(notes)
    assert re.search(r"IEMOCAP|MOSE?I|printed (?:column|numbers)|clips|seven", told) is None
    if paper == "mculora":
        assert "over the 12 conditions in which something is missing, or over all 13." in told


def test_notes_of_two_modalities_are_about_these_data(saved: Callable[..., str]) -> None:
    paper = PAPERS["gmm_loss"]
    pair = paper.context("smoke", {NO_ROLE: saved("pair", FOUR[:2])})
    tables = [getattr(a.draw, "__self__", None) for a in paper.artifacts]
    notes = [said(pair, n) for of in tables if isinstance(of, Table) for n in of.notes]
    told = " ".join(notes)
    assert "number of trials" in told
    assert re.search(r"AVE|CREMA|paper's .* column|Hyperparameter tuning", told) is None


def test_data_in_a_role_keep_the_papers_words_but_for_subsets_and_names_of_modalities(
    saved: Callable[..., str],
) -> None:
    folder = saved("mine", FOUR)
    names = "/".join(sorted(FOUR))
    other = {
        "seven modality subsets": "15 modality subsets",
        "r_A/r_L/r_V": names,
        "at six missing rates": f"by missing rates ({names})",
    }
    for paper in PAPERS.values():
        role = paper.role_for(regenerate.open_bundle(folder)) if paper.name != "gmm_loss" else ""
        twins, given = (
            paper.context("smoke"),
            paper.context("smoke", {role: folder} if role else {}),
        )
        for artifact in paper.artifacts:
            worded = own.worded(given, artifact)
            of_the_paper = own.worded(twins, artifact).caption
            for words, ours in other.items():
                of_the_paper = of_the_paper.replace(words, ours)
            # The rates of three modalities are given to four in turn.
            of_the_paper = re.sub(r"\b(0\.\d)((?:/0\.\d){2})\b", r"\1\2/\1", of_the_paper)
            assert worded.caption == of_the_paper
            assert worded.rows_in_paper == artifact.rows_in_paper


@pytest.mark.parametrize("paper", PAPERS)
def test_captions_of_the_papers_data_are_those_of_the_committed_results(paper: str) -> None:
    context = PAPERS[paper].context("quick")
    committed = {
        e["id"]: e["caption"].partition(" Data: ")[0]
        for e in read_manifest(paths.root() / "figures" / "manifest.json")
        if (e["collection"], e["paper"]) == (context.collection, paper)
    }
    made = {a.id: a.caption for a in regenerate.artifacts(context, committed)}
    assert len(made) > 8 and made == committed


def test_counts_for_the_papers_networks_are_not_shown_as_those_of_own_data(
    saved: Callable[..., str],
) -> None:
    folder = saved("mine", FOUR)
    assert "table3" not in captions("dream", folder)
    assert "table6" not in captions("ebmc", folder)


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "with one seed each."), (12, "with 12 seeds each.")]
)
def test_the_main_comparison_says_how_many_seeds_it_has(
    seeds: int, words: str, saved: Callable[..., str]
) -> None:
    data = {NO_ROLE: saved("mine", FOUR)}
    for paper in ("balm", "dream", "ebmc", "mculora"):
        context = PAPERS[paper].context("smoke", data, seeds=seeds)
        (main_one,) = (a for a in regenerate.every(context) if a.id == "main")
        assert words in str(main_one.caption)
        assert {cell.spec.seed for cell in main_one.cells(context)} == set(range(seeds))


def test_what_the_data_lack_does_not_count_as_missing_in_fig_1(
    saved: Callable[..., str], tmp_path: Path
) -> None:
    bundle = open_bundle(saved("whole", FOUR[:2]))
    observed = bundle.observed.copy()
    observed[::2, 0] = False  # half of the utterances have no eeg
    eeg = np.where(observed[:, :1], bundle.features["eeg"], np.float32(0))
    features = {**bundle.features, "eeg": eeg}
    gaps = dataclasses.replace(bundle, name="gaps", observed=observed, features=features)
    save_bundle(gaps, tmp_path / "gaps")
    drawn = missing_rates(PAPERS["balm"].context("smoke", {NO_ROLE: str(tmp_path / "gaps")}), [])
    assert drawn.numbers is not None
    # 1/2 for each of two, but 1/4 of those with both lose all and half of these get it back: 3/8.
    assert drawn.numbers["eeg"].mean() == pytest.approx(3 / 8, abs=0.02)
    assert "eeg in 16" in drawn.notes[0] and "Eq. 2 predicts" not in drawn.notes[0]
