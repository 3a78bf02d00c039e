"""What an exported model makes of tables and folders that others have written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import GRAPH, Toy, exported, raw, rows_of_test, saved, spec

import mmlib
from mmlib.cli import main


@pytest.fixture(scope="module")
def context(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a model that uses dialogues, and what a user has: raw features, dialogues and speakers."""
    folder = tmp_path_factory.mktemp("context")
    bundle = raw(toy)
    one = spec(
        saved(bundle, folder / "toy"),
        backbone="mmgcn",
        backbone_options=GRAPH,
        keep=("weights",),
    )
    whole, rows = rows_of_test(one)
    own = {
        "features": {m: bundle.features[m][rows] for m in whole.modalities},
        "dialogue": [f"d{number}" for number in whole.dialogue[rows]],
        "speaker": [str(number) for number in whole.speaker[rows]],
    }
    return exported(one, folder)[0], own


def write_user_folder(folder: Path, own: dict[str, Any], **columns: list[str]) -> Path:
    """A folder of these features, whose ids as text are in another order than the rows, unless others are given."""
    n = len(own["dialogue"])
    table = {"id": [f"u{k}" for k in range(n)], "dialogue": own["dialogue"]}
    table = {**table, "speaker": own["speaker"], **columns}
    folder.mkdir()
    with (folder / "utterances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    for modality, values in own["features"].items():
        np.save(folder / f"{modality}.npy", values)
    return folder


def predicted(model: Path, folder: Path, out: Path) -> list[dict[str, str]]:
    """What ``mmlib predict`` writes."""
    assert main(["predict", str(model), str(folder), "--out", str(out)]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_without_positions_gives_what_python_gives_for_its_rows(
    context: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    model, own = context
    assert len(set(own["dialogue"])) < len(own["dialogue"]) > 10, "ids u10 and after"
    found = predicted(model, write_user_folder(tmp_path / "new", own), tmp_path / "p.csv")
    wanted = mmlib.load_model(model).predict(
        own["features"], dialogue=own["dialogue"], speaker=own["speaker"]
    )
    mine = [[float(row[f"p_{name}"]) for name in ("a", "b", "c")] for row in found]
    np.testing.assert_allclose(mine, wanted, atol=1e-6)
    turned = {**own, "features": {m: x[::-1] for m, x in own["features"].items()}}
    turned |= {name: own[name][::-1] for name in ("dialogue", "speaker")}
    other = predicted(model, write_user_folder(tmp_path / "back", turned), tmp_path / "b.csv")
    back = [[float(row[f"p_{name}"]) for name in ("a", "b", "c")] for row in other[::-1]]
    assert not np.allclose(back, wanted, atol=1e-4), "the order of the rows counts"
