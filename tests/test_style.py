"""The house rules that a machine can hold: layers, lengths, docstrings."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "mmlib"
MODULES = sorted(ROOT.rglob("*.py"))
# Imports run only upward in this list; a folder's files may import one another.
LAYERS = (
    "errors",
    "names",
    "files",
    "options",
    "paths",
    "data",
    "masks",
    "metrics",
    "nn",
    "backbones",
    "methods",
    "fit",
    "runs",
    "report",
    "experiments",
    "papers",
    "parameters",
    "exercises",
    "teach",
    "pipeline",
    "compare",
    "bench",
    "check",
    "doctor",
    "store_commands",
    "cli",
    "__main__",
)


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[0]) if module != "__init__" else 0


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_only_upward(path: Path) -> None:
    here = layer(name_of(path))
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "mmlib"
        ):
            names = (
                [node.module.removeprefix("mmlib.")]
                if node.module != "mmlib"
                else [a.name for a in node.names]
            )
            for name in names:
                assert layer(name) <= here, f"{name_of(path)} imports {name}"


def test_every_module_has_a_layer() -> None:
    tops = {name_of(path).split(".")[0] for path in MODULES} - {"__init__"}
    assert tops == set(LAYERS)


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules that one imports, anywhere in it but for its type annotations alone."""
    for_types = {
        inner
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
    }
    lines = {node.lineno for node in for_types}
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ImportFrom) or not node.module or node.lineno in lines:
            continue
        base = node.module.removeprefix("mmlib").removeprefix(".")
        if node.module.split(".")[0] == "mmlib":
            members = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            names |= {member if member in known else base for member in members}
    return names & known


def test_no_modules_import_each_other_in_a_circle() -> None:
    places = {name_of(path).removesuffix(".__init__"): path for path in MODULES}
    graph = {name: imported(path, set(places)) - {name} for name, path in places.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 40, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_has_a_docstring_and_types(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), path
    classes = [n for n in module.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    scopes: list[ast.Module | ast.ClassDef] = [module, *classes]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                stub = isinstance(scope, ast.ClassDef) and any(
                    getattr(b, "id", "") == "Protocol" for b in scope.bases
                )
                assert stub or ast.get_docstring(node), f"{path.name}: {node.name}"
                given = [a for a in node.args.args if a.arg not in ("self", "cls")]
                assert node.returns is not None and all(a.annotation for a in given), (
                    f"{path.name}: {node.name}"
                )
