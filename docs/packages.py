"""Draw which package imports which: ``python docs/packages.py`` writes the picture in ``docs/architecture.md`` anew.

An arrow runs from a package to one that it imports. Arrows that follow from others are left out. ``--check`` writes
nothing and ends with 1 where the picture is not that of the present imports.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).with_name("architecture.md")
PACKAGE = PAGE.parent.parent / "mmlib"
BLOCK = re.compile(r"```mermaid\n.*?```\n", flags=re.S)
# What everything may use, and what only starts other parts: arrows from and to these say nothing.
EVERYWHERE = ("errors", "files", "names", "paths", "__init__", "__main__")

Graph = Mapping[str, set[str]]


def imports(folder: Path = PACKAGE) -> dict[str, set[str]]:
    """Part of the package (a folder or a file at its top) to the parts that it imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        part = path.relative_to(folder).with_suffix("").parts[0]
        graph.setdefault(part, set()).update(_imported(path))
    used = {part: {other for other in others if other in graph} for part, others in graph.items()}
    return {
        part: others - {part, *EVERYWHERE}
        for part, others in used.items()
        if part not in EVERYWHERE
    }


def _imported(path: Path) -> set[str]:
    """The parts of mmlib that a file imports, anywhere in it."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module == "mmlib":
            parts |= {alias.name for alias in node.names}
        elif node.module.startswith("mmlib."):
            parts.add(node.module.split(".")[1])
    return parts


def reduced(graph: Graph) -> dict[str, list[str]]:
    """A graph without the arrows that follow from others; parts in an order in which arrows run down.

    Raises:
        graphlib.CycleError: parts that import each other.
    """
    order = list(graphlib.TopologicalSorter(graph).static_order())
    reached: dict[str, set[str]] = {}
    kept: dict[str, list[str]] = {}
    for part in order:
        beyond = {further for other in graph[part] for further in reached[other]}
        kept[part] = sorted(graph[part] - beyond, key=order.index)
        reached[part] = graph[part] | beyond
    return {part: kept[part] for part in reversed(order)}


def picture(graph: Graph) -> str:
    """The graph as a Mermaid block."""
    lines = ["```mermaid", "flowchart TD"]
    lines += [
        f"    {part} --> {other}" for part, others in reduced(graph).items() for other in others
    ]
    return "\n".join([*lines, "```", ""])


def main(arguments: list[str]) -> int:
    """Write the picture, or compare it."""
    text = PAGE.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda _: picture(imports()), text, count=1)
    if arguments == ["--check"]:
        return int(new != text)
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
