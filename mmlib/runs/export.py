"""From a finished run to a folder with its model: the weights of the epoch that validation picks.

A run that kept no weights is trained again, as a run of the same spec that keeps them, which the store then has too.
Before anything is written, the model predicts the test split under every test mask of the run, and these predictions
must be those that the run has stored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmlib
from mmlib import files
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.fit import pick_device
from mmlib.metrics import all_metrics
from mmlib.runs.card import CARD, Card, make_card, read_card, to_text
from mmlib.runs.execute import mask_of, prepare, train_counts
from mmlib.runs.model import FAULTS, NEW_WEIGHTS, WEIGHTS, Model, build, weights_file
from mmlib.runs.store import Record, Store, pack
from mmlib.runs.sweep import estimate, sweep

PREDICTIONS = "predictions.valid."
# Of predictions p, in units of 1 + |p|: on one kind of processor, and where another one or a compact record rounded.
SAME, ROUNDED = 1e-6, 1e-3


def export_run(
    run_id: str, folder: Path, store: Store, say: Callable[[str], object] = print
) -> Card:
    """Write a run's model into a folder, or in the place of an export that is there.

    say: is told what takes time.

    Raises:
        InputError: no such run, data that have changed, a folder of other files, or a model whose predictions are
            not the run's; nothing is written into the folder then.
    """
    _refuse_other_files(folder)
    record = _record(store, run_id)
    spec, whole = record.spec, _data(record)
    stored = store.arrays(run_id)
    source, weights = run_id, _weights(stored)
    if not _has_weights(record, stored):
        source = _trained_again(record, store, say)
        weights = _weights(store.arrays(source))
    bundle = whole.only(spec.modalities) if spec.modalities else whole
    packed = pack(weights)
    card = make_card(
        record.content,
        bundle,
        tuple(m for m in whole.modalities if m not in bundle.modalities),
        train_counts(bundle) if bundle.task.kind == "classes" else [],
        {},
        mmlib.__version__,
        hashlib.sha256(packed).hexdigest(),
    )
    model = _model(card, weights)
    tests = _tests(model, record, stored, whole, bundle, _tolerance(record, store), source)
    card = dataclasses.replace(card, content={**card.content, "tests": tests})
    _write(folder, {WEIGHTS: packed, CARD: to_text(card)})
    return card


def _record(store: Store, run_id: str) -> Record:
    record = store.get(run_id)
    if record is None:
        raise InputError(
            "run id",
            f"no finished run {run_id!r} in {store.folder}",
            "the id of one",
            f"`mmlib store table {store.folder} --out runs.csv` lists them.",
        )
    return record


def _data(record: Record) -> Bundle:
    """What the run was made on, with its fold."""
    fingerprint = open_bundle(record.spec.data).fingerprint
    if fingerprint != record["fingerprint"]:
        raise InputError(
            f"bundle {record.spec.data}",
            f"the fingerprint {fingerprint}",
            f"{record['fingerprint']}, of the data that the run was made on",
            "Import those data again, or choose a run on the present ones.",
        )
    return prepare(record.spec)


def _has_weights(record: Record, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a run has kept the weights of the epoch that validation picks."""
    spec = record.spec
    picked = record["selected"]["valid"]["epoch"][spec.eval_masks[0][0]]
    is_last = picked == spec.training.epochs - 1
    return bool(_weights(arrays)) and ("weights" in spec.keep or is_last)


def _weights(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "weights."
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def _trained_again(record: Record, store: Store, say: Callable[[str], object]) -> str:
    """The id of a run of the same spec that keeps its weights, which is made where the store lacks it."""
    spec = record.spec
    keep = ("weights", *(name for name in spec.keep if name == "picked"))
    again = dataclasses.replace(spec, keep=keep)
    run_id = again.run_id(record["fingerprint"])
    expected = estimate([again], store, jobs=1)
    if expected.lacking:
        parents = f", and {expected.parents} that it starts from" if expected.parents else ""
        say(
            f"{record.id} has not kept these weights: training it again, with weights, as {run_id}{parents} "
            f"({expected.time})"
        )
    report = sweep([again], store, jobs=1, progress=False)
    if report.errors:
        raise InputError(
            f"run {run_id}",
            f"a training that failed ({report.errors[0][1].strip().splitlines()[-1][:200]})",
            "one that ends, as it did before",
            "`mmlib store check` names the file with the whole error.",
        )
    return run_id


def _model(card: Card, weights: Mapping[str, np.ndarray]) -> Model:
    try:
        method = build(card, {name: array.shape for name, array in weights.items()})
        method.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except FAULTS as error:
        raise InputError(
            f"run {card.run_id}",
            f"weights that do not fit the network ({str(error)[:200]})",
            "those of the present code",
            "An older version of the code made the run: make it again, and export that.",
        ) from error
    return Model(card, method.to(pick_device()).eval())


def _tolerance(record: Record, store: Store) -> float:
    device = store.sidecar(record.id).get("device", "cpu")
    return ROUNDED if record.imported or device != pick_device().type else SAME


def _tests(
    model: Model,
    record: Record,
    stored: Mapping[str, np.ndarray],
    whole: Bundle,
    bundle: Bundle,
    tolerance: float,
    source: str,
) -> dict[str, Any]:
    """What the card says of each test mask, once the model's predictions are known to be the run's.

    ``metrics`` are those of the exported weights. ``metrics_of_run`` are the record's, of which each may be of another
    epoch, the one that it picks itself on validation.
    """
    tests = {}
    of_run = record["selected"]["valid"]["metrics"]
    rows = bundle.rows("test")
    for name, law in record.spec.eval_masks:
        mask = mask_of(record.spec, law, whole, "test")
        outputs = model.outputs(bundle, {"test": mask}, ("test",))[rows]
        _compare(record, stored, name, outputs, tolerance, source)
        truth = bundle.labels[mask.of(rows)]
        tests[name] = {
            "law": str(law),
            "metrics": all_metrics(bundle.task, mask.of(outputs), truth),
            "metrics_of_run": of_run[name],
        }
    return tests


def _compare(
    record: Record,
    stored: Mapping[str, np.ndarray],
    name: str,
    outputs: np.ndarray,
    tolerance: float,
    source: str,
) -> None:
    wanted = stored.get(f"{PREDICTIONS}{name}")
    if wanted is None or wanted.shape != outputs.shape:
        raise InputError(
            f"run {record.id}",
            f"no stored predictions under the test mask {name!r}",
            "some to hold the model to",
            "Make the run again, and export that.",
        )
    difference = np.abs(outputs - wanted) / (1 + np.abs(wanted))
    absent = np.isnan(wanted)
    worst = float(np.max(difference[~absent], initial=0.0))
    if worst <= tolerance and (np.isnan(outputs) == absent).all():
        return
    trained = source != record.id
    raise InputError(
        f"run {record.id}",
        f"a model whose predictions differ by up to {worst:.2g} from those that the run has stored, under the test "
        f"mask {name!r}",
        f"at most {tolerance:g}",
        f"Another version of the code, another machine or a GPU made this run. The one that was trained now is in the "
        f"store: export {source}."
        if trained
        else "Other code or another machine made this run: make it again here, and export that.",
    )


def _refuse_other_files(folder: Path) -> None:
    """Refuse a place that holds anything but an export, what a killed one left, or nothing.

    Raises:
        InputError: a file, or a folder of other files.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    if all(map(_is_ours, names)) and (CARD in names or WEIGHTS not in names):
        return
    raise InputError(
        str(folder),
        "a folder that holds other files" if folder.is_dir() else "a file",
        "a new or empty folder, or an earlier export, which is replaced",
        "Choose another --out.",
    )


def _is_ours(name: str) -> bool:
    """Whether exports make files of this name: the model's, their lock, and what killed ones leave."""
    return name in (CARD, WEIGHTS, NEW_WEIGHTS, f".{CARD}.lock") or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    begins = tuple(f".{of}." for of in (CARD, WEIGHTS, NEW_WEIGHTS))
    return name.startswith(begins) and name.endswith(files.TEMPORARY)


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of an export, or replace those of another.

    The new weights are put beside the old ones, then ``model.json``, which names its weights by their sum, takes the
    place of the old one: the moment of change. Killed at any time, the old model or the new one opens, and the next
    export removes what is left.
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with files.locked(folder / CARD) as held, files.explained(folder):
            _refuse_other_files(folder)
            _settle(folder, held)
            try:
                files.write(folder / NEW_WEIGHTS, contents[WEIGHTS])
                files.write(folder / CARD, contents[CARD])
            finally:
                _settle(folder, held)
    except BaseException:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
        raise


def _settle(folder: Path, held: bool) -> None:
    """Give new weights their place if the card names them, else remove them; remove what killed exports left.

    held: whether no other export can be writing.
    """
    new = folder / NEW_WEIGHTS
    if new.exists():
        if _named(folder) == new:
            new.replace(folder / WEIGHTS)
        elif held or _is_old(new):
            new.unlink()
    for path in list(folder.iterdir()):
        if _is_temporary(path.name) and (held or _is_old(path)):
            path.unlink(missing_ok=True)


def _named(folder: Path) -> Path | None:
    """The file of the weights that the card names; None where no model is whole."""
    try:
        return weights_file(folder, read_card(folder))
    except InputError:
        return None


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > files.LEFTOVER_SECONDS
