"""Help and lists import no library that takes seconds, and what is written down in the place of an import is right."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from mmlib import names, paths
from mmlib.data.bundle import Bundle
from mmlib.experiments import recipes
from mmlib.experiments.declare import Later
from mmlib.experiments.profiles import PROFILES
from mmlib.methods import METHODS, enhance
from mmlib.papers.catalog import PAPERS
from mmlib.papers.ebmc.rows import OF_STAGE_ONE
from mmlib.papers.gmm_loss.rows import CHOSEN, DEFINED_BY
from mmlib.runs.spec import Training

HEAVY = ("torch", "scipy.stats", "scipy.special", "sklearn", "matplotlib", "papermill", "h5py")
LATER = [
    (f"{name}-{artifact.id}", artifact.draw)
    for name, paper in PAPERS.items()
    for artifact in paper.artifacts
    if isinstance(artifact.draw, Later)
]


def imported_by(command: list[str], folder: Path) -> set[str]:
    """The modules that a process of its own has imported when a command has ended, with the data that are embedded."""
    data = paths.root() / "data"
    (folder / "data").mkdir()
    for part in data.iterdir():
        if part != paths.bundles():  # imported bundles are mapped into memory by torch
            (folder / "data" / part.name).symlink_to(part)
    code = f"import sys\nfrom mmlib.cli import main\nassert main({command!r}) == 0\nprint('imported', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "MMLIB_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["data", "import", "--help"]])
def test_help_imports_no_library_of_numbers(command: list[str], tmp_path: Path) -> None:
    assert not imported_by(command, tmp_path) & {*HEAVY, "numpy", "pandas"}


def test_the_list_of_artifacts_imports_nothing_that_trains_or_draws(tmp_path: Path) -> None:
    modules = imported_by(["run", "--list", "--profile", "quick"], tmp_path)
    assert not modules & set(HEAVY)
    assert "mmlib.papers.balm.rows" in modules, "the papers' runs are counted all the same"


@pytest.mark.parametrize(("name", "draw"), LATER, ids=[name for name, _ in LATER])
def test_what_is_imported_when_it_draws_is_there(name: str, draw: Later) -> None:
    assert callable(getattr(import_module(draw.module), draw.name))


def test_the_variants_of_ebmcs_first_stage_are_those_of_its_method() -> None:
    assert tuple(enhance.VARIANTS) == OF_STAGE_ONE


def test_what_a_variant_is_defined_by_is_what_it_differs_in_from_the_paper() -> None:
    differing = {}
    for method in CHOSEN:
        configs = {name: dataclasses.asdict(config) for name, config in METHODS[method][1].items()}
        for name in configs.keys() - {"paper"}:
            of_paper, own = configs["paper"], configs[name]
            differing[method, name] = {field for field in own if own[field] != of_paper[field]}
    assert {key: set(fields) for key, fields in DEFINED_BY.items()} == differing


def test_the_modalities_of_the_embedded_data_are_no_names_of_torchs() -> None:
    assert not any(map(names._is_torchs, names.KNOWN_MODALITIES))
    assert names._is_torchs("type"), "which the check would find"


def test_a_schedule_that_is_kept_is_that_of_its_own_bundle(toy: Callable[..., Bundle]) -> None:
    quick = PROFILES["quick"]
    small, large = toy([3] * 8), toy([3] * 800)
    first = [recipes.schedule(quick, bundle, "mmgcn") for bundle in (small, large)]
    again = [recipes.schedule(quick, bundle, "mmgcn") for bundle in (small, large)]
    assert first == again
    assert first[0].epochs > first[1].epochs, "fewer dialogues make fewer steps of an epoch"
    assert isinstance(first[0], Training)
