"""Runs of a few epochs on small sets, and their models, for the tests of exports and predictions."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmlib import masks
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.data.standardise import standardised
from mmlib.runs.execute import mask_of, prepare
from mmlib.runs.export import export_run
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import data_fingerprint, sweep

Toy = Callable[..., Bundle]
LAW = masks.imbalanced({"audio": 0.3, "text": 0.5, "vision": 0.6})
TESTS = (("all", masks.complete()), ("some", LAW), ("text", masks.subset(["text"])))
QUICK = Training(epochs=3, batch=4, lr=0.02)
PERCEPTRON = (("encoder", "mlp"), ("hidden", 7))
GRAPH = (("hidden", 8), ("graph", 6), ("layers", 2))
EXPERTS = (("hidden", 12), ("depth", 1), ("heads", 2))
SCORE, BINARIES = Task("score", range=(-3.0, 3.0)), Task("binaries", ("joy", "fear"))


def raw(toy: Toy, **more: Any) -> Bundle:
    """A small set whose features have means near 5 and sds near 3, and some modalities missing by nature."""
    bundle = toy(lacking=0.1, **more)
    features = {m: np.nan_to_num(3 * x + 5, nan=0.0) for m, x in bundle.features.items()}
    return dataclasses.replace(bundle, features=features)


def saved(bundle: Bundle, folder: Path, scaled: bool = True) -> str:
    """Save a bundle, standardised or as it is; its reference."""
    save_bundle(standardised(bundle) if scaled else bundle, folder)
    return str(folder)


def spec(data: str, **more: Any) -> RunSpec:
    """A run of MMGCN at a small size, or of what is given instead."""
    usual = {
        "backbone_options": GRAPH if more.get("backbone", "mmgcn") == "mmgcn" else (),
        "train_mask": LAW,
        "eval_masks": TESTS,
        "training": QUICK,
    }
    return RunSpec(data, 1, **{**usual, **more})


def made(one: RunSpec, store: Store) -> str:
    """Make a run and its parents; its id."""
    sweep([one], store, jobs=1, progress=False).raise_if_failed()
    return one.run_id(data_fingerprint(one.data))


def exported(one: RunSpec, folder: Path) -> tuple[Path, Mapping[str, np.ndarray]]:
    """A run's model in ``folder / "model"``, and the arrays that the run has stored."""
    store = Store(folder / "store")
    run_id = made(one, store)
    export_run(run_id, folder / "model", store, say=lambda _: None)
    return folder / "model", store.arrays(run_id)


def rows_of_test(one: RunSpec) -> tuple[Bundle, np.ndarray]:
    """A run's bundle, and the rows of its test split in the order of stored predictions."""
    whole = prepare(one)
    return whole, whole.rows("test")


def write_test_folder(
    folder: Path, one: RunSpec, features: Mapping[str, np.ndarray], law: masks.Law
) -> Path:
    """The test split as a folder of features, with a run's mask of it; no labels, rows in another order than ids.

    features: by modality, raw, a row for each utterance of the run's bundle.
    """
    whole, rows = rows_of_test(one)
    mask = mask_of(dataclasses.replace(one, modalities=()), law, whole, "test")
    order = np.random.default_rng(7).permutation(len(rows))
    folder.mkdir()
    with (folder / "utterances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "dialogue", "position", "speaker"])
        for row in rows[order]:
            writer.writerow(
                [whole.ids[row], whole.dialogue[row], whole.position[row], whole.speaker[row]]
            )
    for index, modality in enumerate(whole.modalities):
        np.save(folder / f"{modality}.npy", features[modality][rows[order]])
        np.save(folder / f"{modality}_observed.npy", mask.utterance[order, index])
        if modality in whole.lengths:
            np.save(folder / f"{modality}_lengths.npy", whole.lengths[modality][rows[order]])
    return folder
