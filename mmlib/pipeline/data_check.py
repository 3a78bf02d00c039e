"""``mmlib data check``: what a bundle holds, and what each notebook does with it."""

from __future__ import annotations

from shlex import quote

from mmlib.data import check as checking
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.data.check import Section, agrees
from mmlib.data.manifest import load_manifest
from mmlib.experiments import takes
from mmlib.experiments.context import Paper
from mmlib.papers.catalog import PAPERS


def run(reference: str, role: str | None) -> int:
    """Print the report on a bundle: 0, or 1 where results on it would be false.

    Raises:
        InputError: no such bundle, or no such role.
    """
    bundle = open_bundle(reference)
    report = checking.check(bundle, role).with_section(notebooks(bundle, reference))
    print(report)
    return 0 if report.ok else 1


def notebooks(bundle: Bundle, reference: str) -> Section:
    """What each notebook does with a bundle: the role in which it takes it, or why it does not."""
    lines = [f"these data: {takes.described(bundle)}"]
    for name, paper in PAPERS.items():
        role = role_of(paper, bundle)
        command = f"mmlib run --paper {name} --data {quote(f'{role}={reference}')}"
        told = f"as {role}: {command}" if role else f"not taken; it takes {wanted(paper)}"
        lines.append(f"{paper.notebook}, {paper.called}: {told}")
    return Section("Notebooks", tuple(lines))


def role_of(paper: Paper, bundle: Bundle) -> str | None:
    """The role of a paper whose own data a bundle is most like, of those that take it; None where none does."""
    taking = [role for data, role in paper.roles.items() if _takes(paper, data).fits(bundle)]
    return min(taking, key=lambda role: _unlike(paper, role, bundle), default=None)


def wanted(paper: Paper) -> str:
    """The data that a paper takes."""
    return "; or ".join(dict.fromkeys(str(_takes(paper, data)) for data in paper.roles))


def _takes(paper: Paper, data: str) -> takes.Takes:
    return paper.accepts.get(data, paper.accepts[""])


def _unlike(paper: Paper, role: str, bundle: Bundle) -> tuple[int, ...]:
    """How data differ from those of a role, what weighs most first."""
    entry = load_manifest()["role"][role]
    framed = all(array.ndim == 3 for array in bundle.features.values())
    modalities = max(len(data.get("dims", {})) for data in entry["paper"])
    return (
        bundle.notes.get("twin") != role,
        not agrees(bundle, role, paper.name),
        framed != entry["frames"],
        (bundle.task.kind == "score") != (entry["task"] == "score"),
        bundle.task.kind != entry["task"],
        abs(len(bundle.modalities) - modalities),
    )
