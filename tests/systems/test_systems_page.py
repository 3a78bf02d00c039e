"""The page of the comparison systems is that of their declarations, and each can be trained alone and compared."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mmlib.compare.plan import every_row
from mmlib.experiments import search
from mmlib.experiments.profiles import profile
from mmlib.experiments.published import papers, published, tables
from mmlib.experiments.systems import PRINTED_AS, SYSTEMS, System
from mmlib.papers import side_by_side
from mmlib.papers.catalog import PAPERS
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.pipeline import recipes

ROOT = Path(__file__).resolve().parents[2]
TWIN = "twin:iemocap6@smoke"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """docs/systems.py."""
    spec = importlib.util.spec_from_file_location("systems_page", ROOT / "docs" / "systems.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(page: ModuleType) -> None:
    assert page.main(["--check"]) == 0, "run: python docs/systems.py"


def test_the_page_says_what_training_knows_of_the_tests(page: ModuleType) -> None:
    known = page.known().set_index(["where", "of it"])
    assert known.loc[("`mmlib compare`", "trained on complete"), "prior"] == "none"
    assert known.loc[("`mmlib compare`", "trained on mixed combinations"), "prior"] == "generic"
    assert (known.loc["`mmlib compare`", "one model"] == "yes").all()
    # BALM trains a model for each setting, on that setting's rates.
    assert known.loc["BALM", ["prior", "one model"]].to_numpy().tolist() == [["matched", "no"]]
    balm = PAPERS["balm"].context("quick")
    (table,) = (a for a in balm.declared.artifacts if a.id == "table1")
    specs = [cell.spec for cell in table.cells(balm) if cell.row == "MMIN"]
    assert all(spec.train_mask == spec.eval_masks[0][1] for spec in specs) and len(specs) > 1


def test_every_system_has_laws_of_its_own_and_a_reading_that_says_where_it_is_from(
    page: ModuleType,
) -> None:
    for system in SYSTEMS:
        about, count = page.laws(system).rsplit(" (", 1)
        assert len(about) > 20 and int(count.split()[0]) >= 2, system.called
        assert "BASELINES" in system.source or "MM2" in system.source
        assert system.left_out and system.line.endswith(".")


def test_names_are_each_of_one_system() -> None:
    for names in (
        [s.called for s in SYSTEMS],
        [(s.backbone, s.stages[-1].method) for s in SYSTEMS],
    ):
        assert len(set(names)) == len(names)


def test_a_comparison_has_them_where_they_are_asked_for_and_only_there() -> None:
    context = side_by_side.context("smoke", {"iemocap6": TWIN})
    ground = Ground(context.main)
    without, with_them = every_row(context, ground), every_row(context, ground, systems=True)
    assert with_them[: len(without)] == without
    named = [row.name for row in with_them[len(without) :]]
    assert named == [s.called for s in SYSTEMS if s.takes.fits(context.bundle(context.main))]


def test_a_trial_of_a_system_has_all_of_its_stages_and_the_same_schedule_in_each() -> None:
    several = [s for s in SYSTEMS if len(s.stages) > 1]
    assert several
    for system in several:
        (network,) = [n for n in search.OF_SYSTEMS if n.stages == system.stages]
        spec = search.specs(profile("quick"), TWIN, network)[0]
        made = []
        while spec is not None:
            made.append((spec.method, spec.backbone, spec.training.lr, spec.training.epochs))
            spec = spec.parent  # type: ignore[assignment]
        assert [(m, b) for m, b, *_ in made][::-1] == [
            (s.method, s.backbone) for s in system.stages
        ]
        assert len({rest for _, _, *rest in map(tuple, made) for rest in [tuple(rest)]}) == 1


def test_a_named_system_is_searched_and_an_unnamed_one_is_not() -> None:
    chosen = recipes._networks(TWIN, recipes.Wanted(("cubemlp",)))
    assert [network.backbone for network in chosen] == ["cubemlp"]
    every = recipes._networks(TWIN, recipes.Wanted())
    assert not {n.backbone for n in every} & {s.backbone for s in SYSTEMS} - {"corrkd"}


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.called)
def test_every_stage_of_a_row_is_trained_as_the_search_trained_the_whole(system: System) -> None:
    assert {stage.schedule for stage in system.row.stages} == {system.backbone}
    assert [s.backbone for s in system.row.stages] == [s.backbone for s in system.stages]


def test_printed_names_are_those_of_the_papers_tables() -> None:
    tables_of = {paper: tables(paper) for paper in papers()}
    printed = {
        name
        for paper, names in tables_of.items()
        for table in names
        for name in published(paper, table)["row"]
    }
    assert set(PRINTED_AS) <= printed
    called = {s.called.removesuffix(" on frames") for s in SYSTEMS if not s.printed}
    assert called - {"MulT"} <= printed
