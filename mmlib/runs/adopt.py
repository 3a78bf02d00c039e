"""Take over results of an older version of the code, once it is shown that the present one computes the same.

A change that cannot alter a number (a layer moved to another file, an option added) changes the numerics
version all the same, and would make every stored run stale. ``adopt`` groups the stale runs by all that
selects code (method, variant, options, network, optimizer, ...), runs at least one of each group again, and only
where every one of them gives the same bytes, curves and predictions included, are the group's others copied
under the present version. Each copy says from which version it came and which run stood witness. Runs that start from
others follow once those are there under the present version, and only where their starting point is the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.runs.compact import to_lines
from mmlib.runs.execute import Outcome, execute
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record, Store, canonical, pack

Execute = Callable[[RunSpec, dict[str, np.ndarray] | None], Outcome]
OF_A_VERSION = ("id", "numerics", "adopted", "imported")


@dataclass(frozen=True)
class Group:
    """What became of the stale runs of one group."""

    name: str
    """All that selects code, and the version that the runs are of."""

    stale: int
    """How many runs there are."""

    equal: bool
    """Whether the witnesses agreed."""

    adopted: int
    """How many runs were copied under the present version."""


def adopt(
    store: Store,
    witnesses: int = 1,
    *,
    fingerprint: Callable[[str], str] = lambda r: open_bundle(r).fingerprint,
    run: Execute = execute,
    say: Callable[[str], object] = print,
) -> list[Group]:
    """Adopt what can be adopted, parents before children; runs of data that is not here are left stale.

    Args:
        witnesses: runs of each group that are run again, spread over the group.

    Raises:
        InputError: fewer than one witness.
    """
    if witnesses < 1:
        raise InputError("witnesses", str(witnesses), "1 or more", "Raise it.")
    groups: list[Group] = []
    for generation in range(1 + max((_depth(r.spec) for r in store.records()), default=0)):
        for name, records in sorted(stale_groups(store, fingerprint, generation).items()):
            group = _adopt_group(store, name, records, witnesses, run)
            groups.append(group)
            say(
                f"{name}: {group.stale} stale, {min(witnesses, group.stale)} run again, "
                + (
                    f"the same bytes, {group.adopted} adopted"
                    if group.equal
                    else "NOT the same: left stale"
                )
            )
    return groups


def _adopt_group(
    store: Store, name: str, records: list[Record], witnesses: int, run: Execute
) -> Group:
    places = np.unique(np.linspace(0, len(records) - 1, witnesses).round().astype(int))
    fresh = [run(records[place].spec, _start(store, records[place])) for place in places]
    equal = all(
        same(records[place], store, outcome) for place, outcome in zip(places, fresh, strict=True)
    )
    for outcome in fresh:
        store.put(outcome)
    keys = [str(outcome.record["key"]) for outcome in fresh]
    copied = (
        sum(copy_under(store, record, fresh[0].record["numerics"], keys) for record in records)
        if equal
        else 0
    )
    return Group(name, len(records), equal, copied)


def _depth(spec: RunSpec) -> int:
    return 0 if spec.parent is None else 1 + _depth(spec.parent)


def _start(store: Store, record: Record) -> dict[str, np.ndarray] | None:
    """What a run starts from, of the present version."""
    parent = record.spec.parent
    return None if parent is None else store.arrays(parent.run_id(record["fingerprint"]))


def _same_start(store: Store, record: Record) -> bool:
    """Whether a run's parent is there under the present version, with the bytes that every stored version has.

    Which of the older versions the run started from is not on record, so all of them must agree.
    """
    parent = record.spec.parent
    if parent is None:
        return True
    now = parent.run_id(record["fingerprint"])
    if not store.has(now):
        return False
    arrays, older = store.arrays(now), store.versions(parent.key(record["fingerprint"]))
    return len(older) > 1 and all(_equal(arrays, store.arrays(run_id)) for run_id in older)


def _equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and pack(dict(sorted(first.items()))) == pack(
        dict(sorted(second.items()))
    )


def stale_groups(
    store: Store, fingerprint: Callable[[str], str], generation: int = 0
) -> dict[str, list[Record]]:
    """Stale runs whose present version is not in the store, by what selects code and by their own version.

    generation: how many runs theirs start from, one after the other; 0 for those that start from none.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in store.records():
        spec = record.spec
        if _depth(spec) != generation or record["numerics"] == spec.numerics:
            continue
        try:
            known = fingerprint(spec.data) == record["fingerprint"]
        except InputError:
            continue
        if (
            known
            and not store.has(f"{record['key']}-{spec.numerics}")
            and _same_start(store, record)
        ):
            groups[f"{group_name(spec)} ({record['numerics']})"].append(record)
    return {name: sorted(records, key=lambda r: r.id) for name, records in groups.items()}


def group_name(spec: RunSpec) -> str:
    """All of a spec that selects code, its parent's too; seeds, folds, rates and sizes do not."""
    pairs = [*spec.options, *spec.backbone_options]
    law = spec.train_mask
    parts = [
        spec.data,
        spec.method,
        spec.variant,
        spec.backbone,
        *(f"{k}={v}" for k, v in pairs),
        spec.training.optimizer,
        law.kind,
        law.layout,
        f"{len(spec.eval_masks)} tests",
        *(f"keep {k}" for k in spec.keep),
        *spec.modalities,
        *(["after", group_name(spec.parent)] if spec.parent else []),
    ]
    return " ".join(str(part) for part in parts if part != "")


def same(record: Record, store: Store, outcome: Outcome) -> bool:
    """Whether a stored run and a new one agree in every byte but their version; imported ones as far as they go."""
    kept = store.arrays(record.id)
    arrays = {name: array for name, array in outcome.arrays.items() if name in kept}
    form = _carried if record.imported else _whole
    return set(arrays) == set(kept) and form(record, kept) == form(Record(outcome.record), arrays)


def _whole(record: Record, arrays: dict[str, np.ndarray]) -> bytes:
    return canonical(_of_any_version(record.content)) + pack(dict(sorted(arrays.items())))


def _carried(record: Record, arrays: dict[str, np.ndarray]) -> bytes:
    line, packed = to_lines(record, arrays, ("",))
    return canonical({"record": _of_any_version(line["record"]), "arrays": packed})


def _of_any_version(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in OF_A_VERSION}


def copy_under(store: Store, record: Record, numerics: str, witnesses: list[str]) -> bool:
    """Keep a run under another version of the code too; False where there is one."""
    run_id = f"{record['key']}-{numerics}"
    if store.has(run_id):
        return False
    content: dict[str, Any] = {
        **record.content,
        "id": run_id,
        "numerics": numerics,
        "adopted": {"from": record["numerics"], "witnesses": witnesses},
    }
    store.put(Outcome(content, store.arrays(record.id), store.sidecar(record.id)))
    return True
