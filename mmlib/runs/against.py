"""Adopt stale runs by running the code that made them beside the present one, on this machine.

``adopt`` compares a run that is made again with the stored one. Stored runs of another machine may differ from
it in the last bit, though the code is the same: processors order sums differently. So here both versions of the code
run each witness, on one machine and from the same start, and where every byte agrees the stored runs are taken over as
they are. The older code stands in a checkout of its own, such as ``git worktree add ../before COMMIT``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.runs.adopt import Group, copy_under, group_name
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record, Store

# Run by each version with its own package: a spec in, the version of its code and, if asked, a hash of its outcome out.
ANSWERS = """
import hashlib, json, sys, warnings
import numpy as np
from mmlib.runs.spec import spec_from_json

warnings.simplefilter("ignore")

def outcome(spec):
    from mmlib.runs.execute import execute  # which takes seconds, and many a question asks for no run
    return execute(spec, outcome(spec.parent).arrays if spec.parent is not None else None)

for line in sys.stdin:
    plain, runs = json.loads(line)
    spec = spec_from_json(plain)
    if not runs:
        print(json.dumps([spec.numerics, ""]), flush=True)
        continue
    result = outcome(spec)
    content = {k: v for k, v in result.record.items() if k not in ("id", "numerics")}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, array in sorted(result.arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    print(json.dumps([spec.numerics, digest.hexdigest()]), flush=True)
"""


class Version:
    """A version of the code in a process of its own, which answers what a spec gives under it.

    The process starts with the first question.
    """

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.process: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            environment = {**os.environ, "PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"}
            environment.setdefault(
                "MMLIB_HOME", str(Path(__file__).resolve().parents[2])
            )  # whose bundles both read
            self.process = subprocess.Popen(
                [sys.executable, "-c", ANSWERS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=self.checkout,
            )
        return self.process

    def ask(self, spec: RunSpec, runs: bool) -> None:
        """Send a spec, to be run or only to be told the version of the code that would."""
        stdin = self._started().stdin
        assert stdin is not None
        stdin.write(json.dumps([spec.to_json(), runs]) + "\n")
        stdin.flush()

    def answer(self) -> tuple[str, str]:
        """The version of the code that decides a spec's numbers there, and the hash of what it gave, if it was run.

        Raises:
            InputError: the code there failed.
        """
        stdout = self._started().stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise InputError(
                str(self.checkout),
                "code that failed on a stored run",
                "a checkout of this repository",
                "Look at the traceback above.",
            )
        numerics, digest = json.loads(line)
        return numerics, digest

    def close(self) -> None:
        """End the process, if it was started."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()  # which closes its pipes as well


def adopt_against(
    store: Store,
    checkout: Path,
    witnesses: int = 1,
    *,
    fingerprint: Callable[[str], str] = lambda r: open_bundle(r).fingerprint,
    say: Callable[[str], object] = print,
) -> list[Group]:
    """Adopt the stale runs that the code in a checkout made, where it and the present code agree on witnesses.

    Args:
        checkout: the root folder of the older code.
        witnesses: runs of each group that both versions run, spread over the group.

    Raises:
        InputError: fewer than one witness, no package in the checkout, or code there that fails.
    """
    if witnesses < 1:
        raise InputError("witnesses", str(witnesses), "1 or more", "Raise it.")
    if not (checkout / "mmlib" / "runs").is_dir():
        raise InputError(
            "--against",
            str(checkout),
            "the root folder of a checkout of this repository",
            "Make one with git worktree add.",
        )
    groups: list[Group] = []
    with ExitStack() as stack:
        versions = [Version(root) for root in (checkout, Path(__file__).resolve().parents[2])]
        for version in versions:
            stack.callback(version.close)
        for name, records in sorted(_stale(store, fingerprint).items()):
            group = _adopt_group(store, name, records, versions, witnesses)
            groups.append(group)
            say(f"{name}: {group.stale} stale, {_outcome(group)}")
    return groups


def _adopt_group(
    store: Store, name: str, records: list[Record], versions: list[Version], witnesses: int
) -> Group:
    agree, copied = _agree(records, versions, witnesses), 0
    if agree:
        copied = sum(copy_under(store, record, record.spec.numerics, []) for record in records)
    return Group(name, len(records), agree, copied)


def _outcome(group: Group) -> str:
    """What became of a group, for the line that is printed of it."""
    if group.equal:
        return f"both versions agree, {group.adopted} adopted"
    return "NOT the same, or made by other code: left stale"


def _stale(store: Store, fingerprint: Callable[[str], str]) -> dict[str, list[Record]]:
    """Stale runs whose data are here, by what selects code and by their own version."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in store.records():
        spec = record.spec
        if record["numerics"] == spec.numerics or store.has(f"{record['key']}-{spec.numerics}"):
            continue
        try:
            known = fingerprint(spec.data) == record["fingerprint"]
        except InputError:
            continue
        if known:
            groups[f"{group_name(spec)} ({record['numerics']})"].append(record)
    return {name: sorted(records, key=lambda record: record.id) for name, records in groups.items()}


def _agree(records: list[Record], versions: list[Version], witnesses: int) -> bool:
    """Whether the older code is the one that made these runs, and gives what the present one does."""
    places = np.unique(np.linspace(0, len(records) - 1, witnesses).round().astype(int))
    for place in places:
        record = records[place]
        versions[0].ask(record.spec, runs=False)
        if versions[0].answer()[0] != record["numerics"]:
            return False
        for version in versions:  # both run at the same time
            version.ask(record.spec, runs=True)
        before, now = [version.answer()[1] for version in versions]
        if before != now:
            return False
    return True
