"""The picture of the packages is that of their imports, and the page that it stands on names every package."""

from __future__ import annotations

import graphlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def packages() -> ModuleType:
    """docs/packages.py as a module."""
    spec = importlib.util.spec_from_file_location("packages", DOCS / "packages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_that_of_the_present_imports(packages: ModuleType) -> None:
    assert packages.main(["--check"]) == 0, "run: python docs/packages.py"


def test_arrows_that_follow_from_others_are_left_out(packages: ModuleType) -> None:
    kept = packages.reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert kept == {"a": ["b"], "b": ["c"], "c": []}


def test_parts_that_import_each_other_have_no_picture(packages: ModuleType) -> None:
    with pytest.raises(graphlib.CycleError):
        packages.reduced({"a": {"b"}, "b": {"a"}})


def test_the_page_says_what_every_package_knows(packages: ModuleType) -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    described = set(
        re.findall(
            r"`(\w+)`",
            "".join(line.split("|")[1] for line in text.splitlines() if line[:3] == "| `"),
        )
    )
    folders = {path.parent.name for path in packages.PACKAGE.glob("*/__init__.py")}
    assert described >= folders - {"bench"}
