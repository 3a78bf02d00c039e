"""Stale runs are adopted only where the present code gives the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_runs import FINGERPRINT, NUMERICS, fingerprint, outcome, specs

from mmlib.errors import InputError
from mmlib.runs.adopt import Group, adopt, group_name, stale_groups
from mmlib.runs.compact import export_records, import_records
from mmlib.runs.execute import Outcome
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store

NEW = "0dd0ddba"
Run = Callable[[RunSpec, dict[str, np.ndarray] | None], Outcome]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Five runs of one kind and two of another, all of an older version."""
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    made = Store(tmp_path / "s")
    for spec in [*specs(5), *specs(2, variant="released")]:
        made.put(outcome(spec))
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NEW)
    return made


def rerun(change: Callable[[RunSpec], bool] = lambda spec: False) -> Run:
    """The runs again under the new version; those that ``change`` picks have other predictions."""

    def run(spec: RunSpec, parent_arrays: dict[str, np.ndarray] | None = None) -> Outcome:
        made = outcome(spec, parent_arrays)
        arrays = {k: v + np.float32(1e-6) * change(spec) for k, v in made.arrays.items()}
        record = {**made.record, "id": spec.run_id(FINGERPRINT), "numerics": spec.numerics}
        return Outcome(record, arrays, made.sidecar)

    return run


def quietly(store: Store, run: Run, witnesses: int = 1) -> list[Group]:
    return adopt(store, witnesses, fingerprint=fingerprint, run=run, say=lambda line: None)


def test_runs_whose_witness_gives_the_same_bytes_are_adopted_and_say_so(store: Store) -> None:
    assert [(g.stale, g.equal, g.adopted) for g in quietly(store, rerun(), witnesses=2)] == [
        (5, True, 3),
        (2, True, 0),
    ]
    for spec in specs(5):
        record, stale = store.find(spec, FINGERPRINT)
        assert (
            record is not None
            and not stale
            and record["selected"] == outcome(spec).record["selected"]
        )
        arrays = store.arrays(record.id)
        assert all(
            np.array_equal(arrays[name], value) for name, value in outcome(spec).arrays.items()
        )
    adopted = [r for r in store.records() if "adopted" in r.content]
    assert {r["adopted"]["from"] for r in adopted} == {NUMERICS} and all(
        r["adopted"]["witnesses"] for r in adopted
    )
    assert quietly(store, rerun()) == []


def test_one_witness_that_differs_in_one_bit_leaves_its_whole_group_stale(store: Store) -> None:
    groups = quietly(store, rerun(lambda spec: spec.variant == "released"))
    assert [(g.stale, g.equal, g.adopted) for g in groups] == [(5, True, 4), (2, False, 0)]
    released = [store.find(spec, FINGERPRINT) for spec in specs(2, variant="released")]
    assert sorted(stale for _, stale in released) == [False, True]  # the witness itself is fresh


def test_imported_runs_are_compared_as_far_as_they_were_carried(
    store: Store, tmp_path: Path
) -> None:
    export_records(store, tmp_path / "records.jsonl.xz")
    other = Store(tmp_path / "other")
    import_records(other, tmp_path / "records.jsonl.xz")
    assert all(g.equal for g in quietly(other, rerun()))


def test_data_that_changed_or_is_gone_is_not_touched(store: Store) -> None:
    def gone(reference: str) -> str:
        raise InputError("bundle", reference, "one that is here", "Import it.")

    assert (
        stale_groups(store, gone) == {} and stale_groups(store, lambda reference: "another") == {}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"method": "m"},
        {"variant": "v"},
        {"options": (("a", 1),)},
        {"backbone": "b"},
        {"backbone_options": (("a", 1),)},
        {"keep": ("series",)},
        {"modalities": ("x",)},
    ],
)
def test_what_selects_code_makes_a_group_of_its_own(change: dict[str, object]) -> None:
    (spec,) = specs(1)
    assert group_name(dataclasses.replace(spec, **change)) != group_name(spec)  # type: ignore[arg-type]
    assert group_name(dataclasses.replace(spec, seed=7, fold=2)) == group_name(spec)


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three parents and a child of each, of an older version."""
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    made = Store(tmp_path / "s")
    for parent in specs(3, keep=("weights",)):
        first = outcome(parent)
        made.put(first)
        made.put(outcome(child(parent), first.arrays))
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NEW)
    return made


def child(parent: RunSpec) -> RunSpec:
    return dataclasses.replace(parent, variant="released", keep=(), parent=parent)


def test_runs_that_start_from_others_follow_them(family: Store) -> None:
    assert [(g.stale, g.equal, g.adopted) for g in quietly(family, rerun())] == [
        (3, True, 2),
        (3, True, 2),
    ]
    for parent in specs(3, keep=("weights",)):
        record, stale = family.find(child(parent), FINGERPRINT)
        assert record is not None and not stale
        expected = outcome(child(parent), outcome(parent).arrays).arrays
        assert all(
            np.array_equal(family.arrays(record.id)[name], value)
            for name, value in expected.items()
        )


def test_runs_that_start_from_others_wait_where_their_start_is_lacking_or_another(
    family: Store,
) -> None:
    groups = quietly(family, rerun(lambda spec: spec.parent is None))
    assert [(g.stale, g.equal, g.adopted) for g in groups] == [(3, False, 0)]
    there = [family.has(parent.run_id(FINGERPRINT)) for parent in specs(3, keep=("weights",))]
    assert sorted(there) == [
        False,
        False,
        True,
    ]  # the witness alone is there, changed; the other two are lacking
    assert all(family.find(child(parent), FINGERPRINT)[1] for parent in specs(3, keep=("weights",)))


def test_a_child_of_other_bytes_stays_stale(family: Store) -> None:
    groups = quietly(family, rerun(lambda spec: spec.parent is not None))
    assert [(g.equal, g.adopted) for g in groups] == [(True, 2), (False, 0)]


def test_no_witness_is_refused(store: Store) -> None:
    with pytest.raises(InputError):
        quietly(store, rerun(), witnesses=0)
