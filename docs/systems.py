"""The page of the comparison systems: ``python docs/systems.py`` writes ``docs/systems.md`` anew.

``--check`` writes nothing and ends with 1 where the page is not that of the declared systems.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from mmlib.backbones import build_backbone
from mmlib.compare.command import plan_for
from mmlib.experiments.context import Paper
from mmlib.experiments.published import papers, published, tables
from mmlib.experiments.systems import PRINTED_AS, SYSTEMS, System
from mmlib.experiments.undeclared import rows_left_out
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import regenerate
from mmlib.report.markup import markdown_table
from mmlib.runs.prior import most, serves_all
from mmlib.runs.spec import RunSpec

PAGE = Path(__file__).with_name("systems.md")
TESTS = PAGE.parent.parent / "tests" / "systems"
DIMS = {"audio": 512, "text": 1024, "vision": 1024}
CLASSES, SPEAKERS = 4, 2
PROFILE, DATA = "quick", "twin:iemocap6@quick"  # of what is declared
SIZES = ", ".join(map(str, DIMS.values()))
HEAD = f"""# Comparison systems

The systems that the papers' tables compare with, as short code of ours over features that are given. Each is a
reading of a published system on utterance vectors: its text encoder is no language model but a layer over the text's
vector, and what the papers leave open is decided in its configuration. A name with *-style* is a system of which only
the abstract is known. Parameters are counted with {len(DIMS)} modalities of {SIZES} dimensions and {CLASSES} classes,
at the default sizes. `mmlib recipes DATA --network NAME` trains one of them alone at every learning rate;
`mmlib compare DATA --systems` takes all of them into a comparison. `python docs/systems.py` writes this page from
`mmlib/experiments/systems.py`. *Read from* names the section of the specification that the code was written from (it is
not part of this repository) and the commit of the public code that the section describes, where there is one.

Every system keeps these laws, whatever the number of modalities: what is missing is never read, a dialogue's prediction
does not depend on the rest of its batch, and rows with a single modality give finite losses and gradients
(`tests/systems/test_laws.py`). Laws of a single system stand below it.
"""

KNOWN = """What training and validation know of the missingness of the tests, computed from the runs that each place
declares (after two rules of MissMAC-Bench): *none*, they see complete data alone; *generic*, something is missing, but
by no test's law or rates; *matched*, a test's law or rates. What a system hides by itself (the last column above) is no
knowledge of a test. One model: whether one run answers all conditions.
"""

NAMED = """The rows that the papers' tables name, each counted once a paper, the paper's own method and networks among
them. One runs here where a table that prints it has it:
"""


def overview() -> pd.DataFrame:
    """A line for each system."""
    lines = [
        (
            f"[{system.called}](#{anchor(system)})",
            system.line,
            f"`{system.backbone}`",
            f"{parameters(system):,}",
            system.complete,
        )
        for system in SYSTEMS
    ]
    columns = ["system", "what it is", "name", "parameters", "needs complete training rows"]
    return pd.DataFrame(lines, columns=columns)


def anchor(system: System) -> str:
    """Of its section."""
    return system.called.lower().replace(" ", "-")


def parameters(system: System) -> int:
    """Of its network, in the last stage."""
    stage = system.stages[-1]
    network = build_backbone(stage.backbone, DIMS, CLASSES, SPEAKERS, stage.network)
    return sum(p.numel() for p in network.parameters())


def section(system: System) -> str:
    """What is said of one system."""
    stages = ", then ".join(
        f"method `{stage.method}`" + f" (`{stage.variant}`)" * (stage.variant != "paper")
        for stage in system.stages
    )
    lines = [
        f"## {system.called}",
        f"{system.line} {system.paper}.",
        f"* Trained by: {stages}, over the network `{system.backbone}`.",
        f"* Left out: {system.left_out}",
        f"* Read from: {system.source}.",
        f"* Tested beside the laws of all: {laws(system)}",
    ]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def laws(system: System) -> str:
    """What its own tests are about, as their file says, and how many there are."""
    path = TESTS / f"test_{system.test or system.backbone}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    about = (ast.get_docstring(tree) or "").removeprefix(f"{system.called}: ").rstrip(".")
    tests = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"]
    return f"{about} ({len(tests)} tests in `tests/systems/{path.name}`)."


def known() -> pd.DataFrame:
    """Where systems run, and by what their training knows of the tests there: tables, systems, prior, one model."""
    lines: dict[tuple[str, str, bool], tuple[dict[str, None], dict[str, None]]] = {}
    for place, table, system, specs, modalities in (*in_tables(), *in_comparisons()):
        key = place, most(specs, modalities), serves_all(specs)
        titles, systems = lines.setdefault(key, ({}, {}))
        titles[table], systems[system] = None, None
    frame = [
        (place, ", ".join(titles), told(systems), grade, "yes" if one else "no")
        for (place, grade, one), (titles, systems) in lines.items()
    ]
    return pd.DataFrame(frame, columns=["where", "of it", "systems", "prior", "one model"])


def told(systems: Iterable[str]) -> str:
    """Their names, or that these are all."""
    names = list(systems)
    return "all that take the data" if len(names) > len(SYSTEMS) / 2 else ", ".join(names)


Known = tuple[str, str, str, list[RunSpec], Sequence[str]]
"""A place, its table, a system, the runs behind all conditions there, and the data's modalities."""


def in_tables() -> Iterator[Known]:
    """The systems of every table of the papers on the embedded data, at the quick profile."""
    called = {system.called for system in SYSTEMS}
    for paper in map(PAPERS.__getitem__, papers()):
        context = paper.context(PROFILE)
        for artifact in paper.artifacts:
            if artifact.kind != "table" or regenerate.lacks(context, artifact):
                continue
            of: dict[tuple[str, str], list[RunSpec]] = {}
            for cell in artifact.cells(context):
                if cell.row in called:
                    of.setdefault((cell.row, cell.dataset), []).append(cell.spec)
            for (row, dataset), specs in of.items():
                modalities = context.bundle(dataset).modalities
                yield paper.called, artifact.title, row, specs, modalities


def in_comparisons() -> Iterator[Known]:
    """The systems in ``mmlib compare --systems``, by what they are trained on."""
    plan = plan_for(DATA, PROFILE, {}, systems=True)
    rows = {system.row.name for system in SYSTEMS}
    for contender in plan.contenders:
        if contender.row.name in rows:
            specs = plan.specs(contender, [0])
            trained = f"trained on {contender.training}"
            yield "`mmlib compare`", trained, contender.row.name, specs, plan.bundle.modalities


def named() -> pd.DataFrame:
    """Paper by paper, how many rows its comparison tables name, and how many of them run here."""
    styles = {system.called for system in SYSTEMS if system.called.endswith("-style")}
    lines = []
    for paper in map(PAPERS.__getitem__, papers()):
        titles = {artifact.id: artifact.title for artifact in paper.artifacts}
        by_table = {titles[t]: _printed(paper, t) for t in set(tables(paper.name)) & set(titles)}
        rows = set().union(*by_table.values())
        absent = rows_left_out(paper)
        run = {
            n for title, names in by_table.items() for n in names if title not in absent.get(n, ())
        }
        left = rows - run
        if rows:
            style = len((rows - left) & styles)
            lines.append(
                (paper.called, len(rows), len(rows - left), style, ", ".join(sorted(left)))
            )
    columns = ["paper", "rows named", "run here", "of these style readings", "not run"]
    return pd.DataFrame(lines, columns=columns)


def _printed(paper: Paper, table: str) -> set[str]:
    """The rows of a printed table, under our names of systems."""
    return set(published(paper.name, table)["row"].replace(PRINTED_AS).astype(str))


def page() -> str:
    """The page as Markdown."""
    frames = (overview(), known(), named())
    systems, knowledge, count = (markdown_table(frame, escaped=True) for frame in frames)
    parts = (HEAD, systems, KNOWN, knowledge, NAMED, count, *map(section, SYSTEMS))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with ``--check`` say whether it is current."""
    made = page()
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
