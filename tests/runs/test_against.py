"""Runs of older code are adopted where that code, run beside the present one, gives the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmlib.data.bundle import Bundle, save_bundle
from mmlib.errors import InputError
from mmlib.runs.against import adopt_against
from mmlib.runs.execute import Outcome
from mmlib.runs.execute import execute as execute_now
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store

PACKAGE = Path(__file__).resolve().parents[2] / "mmlib"
SMALL = (("graph", 4), ("hidden", 4))
ONE_EPOCH = Training(epochs=1, batch=4, lr=0.01)


def checkout(folder: Path, old: str, new: str) -> Path:
    """A copy of the package in which one line of the plain method's module reads otherwise."""
    shutil.copytree(PACKAGE, folder / "mmlib", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "mmlib" / "methods" / "plain.py"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def made_by(folder: Path, spec: RunSpec, data: str) -> Outcome:
    """The run as the code in a checkout leaves it, on a machine that rounds otherwise."""
    from mmlib.runs.against import Version

    version = Version(folder)
    try:
        version.ask(spec, runs=False)
        numerics, _ = version.answer()
    finally:
        version.close()
    outcome = execute_now(spec)
    arrays = {name: values * np.float32(1 + 1e-6) for name, values in outcome.arrays.items()}
    record = {**outcome.record, "id": f"{spec.key(data)}-{numerics}", "numerics": numerics}
    return Outcome(record, arrays, outcome.sidecar)


@pytest.fixture
def spec(toy: Callable[..., Bundle], tmp_path: Path) -> RunSpec:
    save_bundle(toy(), tmp_path / "toy")
    return RunSpec(str(tmp_path / "toy"), 0, backbone_options=SMALL, training=ONE_EPOCH)


def test_runs_of_equal_code_are_adopted_as_they_are_though_their_machine_rounded_otherwise(
    spec: RunSpec, tmp_path: Path, toy: Callable[..., Bundle]
) -> None:
    before = checkout(
        tmp_path / "before",
        "from __future__ import annotations",
        "from __future__ import annotations\n\nUNUSED = 1",
    )
    data = toy().fingerprint
    store = Store(tmp_path / "store")
    stored = made_by(before, spec, data)
    store.put(stored)
    (group,) = adopt_against(store, before, say=lambda line: None)
    assert (group.stale, group.equal, group.adopted) == (1, True, 1)
    record, stale = store.find(spec, data)
    assert (
        record is not None and not stale and record["adopted"]["from"] == stored.record["numerics"]
    )
    for name, values in store.arrays(record.id).items():
        np.testing.assert_array_equal(values, stored.arrays[name])  # not those of this machine
    assert adopt_against(store, before, say=lambda line: None) == []


def test_code_that_computes_otherwise_or_did_not_make_the_runs_adopts_none(
    spec: RunSpec, tmp_path: Path, toy: Callable[..., Bundle]
) -> None:
    other = checkout(
        tmp_path / "other",
        "class Plain(nn.Module):",
        "torch.manual_seed_ = torch.manual_seed\n"
        "torch.manual_seed = lambda seed: torch.manual_seed_(seed + 1)\n\n\nclass Plain(nn.Module):",
    )
    unlike = checkout(
        tmp_path / "unlike",
        "from __future__ import annotations",
        "from __future__ import annotations\n\nUNUSED = 2",
    )
    store = Store(tmp_path / "store")
    store.put(made_by(other, spec, toy().fingerprint))
    for folder in (other, unlike):
        (group,) = adopt_against(store, folder, say=lambda line: None)
        assert (group.equal, group.adopted) == (False, 0)
    assert store.find(spec, toy().fingerprint)[1]


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--against"):
        adopt_against(Store(tmp_path), tmp_path)
