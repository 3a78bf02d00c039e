"""``mmlib data check``: what a bundle holds, and what each notebook does with it."""

from __future__ import annotations

from shlex import quote

from mmlib.data import check as checking
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.data.check import Section
from mmlib.experiments import takes
from mmlib.experiments.takes import DataRefused
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
        try:
            role = paper.role_for(bundle)
            told = f"as {role}: mmlib run --paper {name} --data {quote(reference)}"
        except DataRefused as refusal:
            told = f"not taken; it takes {refusal.expected}"
        lines.append(f"{paper.notebook}, {paper.called}: {told}")
    return Section("Notebooks", tuple(lines))
