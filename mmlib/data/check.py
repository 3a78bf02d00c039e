"""What a bundle holds, whether it is what a paper used, and whether its features have seen its labels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmlib.data.agreement import compare
from mmlib.data.bounded import regular_file
from mmlib.data.bundle import Bundle
from mmlib.data.codes import code_warnings
from mmlib.data.copies import copies, copy_lines, copy_warnings
from mmlib.data.described import (
    count_lines,
    few_warnings,
    formula_warnings,
    group_lines,
    head_lines,
    label_lines,
    modality_lines,
    speaker_warnings,
)
from mmlib.data.labels import absent_warnings, constant_warnings, offset_warnings, sign_warnings
from mmlib.data.manifest import load_manifest
from mmlib.data.missing import missing_lines, missing_warnings, never_warnings
from mmlib.data.probe import (
    asked_lines,
    dead_warnings,
    leak_warnings,
    probe,
    probe_lines,
    steady,
    steady_warnings,
    unexplained_warnings,
)
from mmlib.data.scales import (
    outside_warnings,
    scale_warnings,
    swamped_warnings,
    zero_warnings,
)
from mmlib.errors import unknown_name


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    heading: str
    """What it is about; empty for the first."""

    lines: tuple[str, ...]
    """Its text, line by line."""


@dataclass(frozen=True)
class Report:
    """What ``check`` has to say of a bundle."""

    sections: tuple[Section, ...]
    """The description, part by part."""

    false: tuple[str, ...]
    """Warnings of what would make results false."""

    stated: tuple[str, ...]
    """Warnings of what must be said beside results, which are then true."""

    probe: pd.DataFrame
    """The results of the linear probe, as ``probe`` returns them."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every warning, those of false results first."""
        return (*self.false, *self.stated)

    @property
    def lines(self) -> tuple[str, ...]:
        """The text without headings, line by line."""
        return (*(line for part in self.sections for line in part.lines), *self.warnings)

    @property
    def ok(self) -> bool:
        """Whether results on these data would be true."""
        return not self.false

    def with_section(self, section: Section) -> Report:
        """The same report with a section more."""
        return dataclasses.replace(self, sections=(*self.sections, section))

    def __str__(self) -> str:
        parts = [*self.sections, *_verdict(self.false, self.stated)]
        return "\n\n".join(_as_text(part) for part in parts if part.lines)


def check(bundle: Bundle, role: str | None = None) -> Report:
    """Describe a bundle, hold it against the papers' data, and look for what a reviewer would ask about.

    role: compare with this role's papers and warn where the task differs; else with every role
        of the same task.

    Raises:
        InputError: a role that is not in ``data/manifest.toml``.
    """
    manifest = load_manifest()
    if role is not None and role not in manifest["role"]:
        raise unknown_name("role", role, manifest["role"])
    table, twice = probe(bundle), copies(bundle)
    still = steady(bundle) if any(_of_probe(bundle, table)) else []
    judged = probe(bundle, still) if still else table
    sections = (
        Section("", tuple(head_lines(bundle, _task_text(_as_role(bundle))))),
        Section("Counts", tuple(count_lines(bundle))),
        Section("Scores", tuple(label_lines(bundle))),
        Section("Modalities", tuple(modality_lines(bundle))),
        Section("Missing in the data", tuple(missing_lines(bundle))),
        Section(
            "Leaks and signal",
            (
                *group_lines(bundle),
                *copy_lines(bundle, twice),
                *probe_lines(table, len(bundle)),
                *asked_lines(bundle, table),
            ),
        ),
        Section(
            "The papers' data",
            (*_recorded(bundle, manifest), *_papers(bundle, manifest, role)),
        ),
    )
    false = [
        *false_findings(bundle),
        *steady_warnings(bundle, still),
        *leak_warnings(bundle, judged),
        *copy_warnings(bundle, twice),
        *_role_warnings(bundle, manifest, role),
    ]
    stated = [
        *stated_findings(bundle),
        *few_warnings(bundle),
        *dead_warnings(bundle, judged),
        *unexplained_warnings(bundle, judged),
    ]
    return Report(sections, tuple(false), tuple(stated), table)


def _of_probe(bundle: Bundle, table: pd.DataFrame) -> Iterator[str]:
    """Every warning that a linear probe gives rise to."""
    for warnings in (leak_warnings, dead_warnings, unexplained_warnings):
        yield from warnings(bundle, table)


def findings(bundle: Bundle) -> list[str]:
    """Warnings about labels, speakers, scales and missing rows, which are quick to find: an import prints them too."""
    return [*false_findings(bundle), *stated_findings(bundle)]


def false_findings(bundle: Bundle) -> list[str]:
    """Those of ``findings`` with which results would be false."""
    return [*constant_warnings(bundle), *scale_warnings(bundle), *never_warnings(bundle)]


def stated_findings(bundle: Bundle) -> list[str]:
    """Those of ``findings`` that must be said beside results."""
    return [
        *sign_warnings(bundle),
        *code_warnings(bundle),
        *offset_warnings(bundle),
        *absent_warnings(bundle),
        *speaker_warnings(bundle),
        *missing_warnings(bundle),
        *outside_warnings(bundle),
        *swamped_warnings(bundle),
        *zero_warnings(bundle),
        *formula_warnings(bundle),
    ]


def _verdict(false: Sequence[str], stated: Sequence[str]) -> list[Section]:
    """The warnings by what they mean, or that there are none."""
    if not false and not stated:
        return [Section("Warnings", ("none",))]
    return [
        Section("Warnings: results would be false", tuple(false)),
        Section("Warnings: say so beside the results", tuple(stated)),
    ]


def _as_text(section: Section) -> str:
    """The heading, and the lines below it."""
    if not section.heading:
        return "\n".join(section.lines)
    return "\n".join([section.heading, *(f"  {line}" for line in section.lines)])


def _role_warnings(bundle: Bundle, manifest: Mapping[str, Any], role: str | None) -> list[str]:
    if role is None or _same_task(bundle, role, manifest["role"][role]):
        return []
    return [
        f"WARNING: the role {role} asks for {_task_text(manifest['role'][role])}; "
        f"this bundle has {_task_text(_as_role(bundle))}."
    ]


def sha256(files: Sequence[Path]) -> dict[str, str]:
    """File name to SHA-256; a folder gives its files, named relative to it.

    Raises:
        InputError: a path that does not exist.
    """
    sums = {}
    for path in files:
        inside = (
            sorted(p for p in path.rglob("*") if p.is_file())
            if path.is_dir()
            else [regular_file(path)]
        )
        for file in inside:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            with file.open("rb") as stream:
                sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums


def compare_files(name: str, files: Sequence[Path]) -> list[str]:
    """One line: whether source files have the checksums recorded for the bundle ``name``; none where none are."""
    recorded = load_manifest()["bundle"].get(name, {}).get("sha256", {})
    if not recorded:
        return []
    sums = sha256(files)
    differ = sorted(f for f, digest in recorded.items() if sums.get(f) != digest)
    text = (
        f"source files: {len(recorded) - len(differ)} of {len(recorded)} have the recorded sha256"
    )
    return [text + (f"; not {', '.join(differ)}" if differ else "")]


def _recorded(bundle: Bundle, manifest: Mapping[str, Any]) -> list[str]:
    for name, entry in manifest["bundle"].items():
        if entry["fingerprint"] == bundle.fingerprint:
            return [f"manifest: the recorded bundle {name}, fills {', '.join(entry['roles'])}"]
    if bundle.name in manifest["bundle"]:
        return [
            f"manifest: not the recorded {bundle.name}, whose fingerprint is "
            f"{manifest['bundle'][bundle.name]['fingerprint']}"
        ]
    return ["manifest: not one of the recorded bundles"]


def _papers(bundle: Bundle, manifest: Mapping[str, Any], role: str | None) -> list[str]:
    """One line per role and paper: what agrees with the paper's data and what differs.

    Papers of whose data nothing agrees share a line, unless the role is asked for.
    """
    lines, others = [], []
    for name, entry in manifest["role"].items():
        if name != role and (role is not None or not _same_task(bundle, name, entry)):
            continue
        for paper in entry["paper"]:
            same, differ = compare(bundle, paper)
            if role is None and not same and differ:
                others.append(f"{paper['name']} ({name})")
                continue
            verdict = _papers_verdict(same, differ)
            lines.append(
                f"{name}, {paper['name']} ({paper['where']}; ledger {paper['ledger']}): {verdict}"
            )
    if others:
        lines.append(f"no count of: {', '.join(others)}; --role ROLE lists them")
    return lines


def _papers_verdict(same: Sequence[str], differ: Sequence[str]) -> str:
    parts = [f"agrees in {', '.join(same)}"] if same else []
    parts += [f"differs in {', '.join(differ)}"] if differ else []
    return "; ".join(parts) or "the paper states no counts"


def _same_task(bundle: Bundle, name: str, role: Mapping[str, Any]) -> bool:
    """A small twin has some of its role's classes alone, and is meant to."""
    return bundle.notes.get("twin") == name or all(
        role[key] == value for key, value in _as_role(bundle).items()
    )


def _as_role(bundle: Bundle) -> dict[str, Any]:
    frames = all(array.ndim == 3 for array in bundle.features.values())
    return {"task": bundle.task.kind, "classes": len(bundle.task.names), "frames": frames}


def _task_text(role: Mapping[str, Any]) -> str:
    kind = {
        "classes": f"{role['classes']} classes",
        "score": "a score",
        "binaries": f"{role['classes']} binaries",
    }
    return kind[role["task"]] + (" by frames" if role["frames"] else "")
