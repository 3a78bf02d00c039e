"""A small good data folder, for tests to change one thing in."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np


def write_folder(
    folder: Path, rows: list[dict[str, Any]] | None = None, **arrays: np.ndarray | None
) -> Path:
    """Write a folder of 24 utterances in 12 dialogues with audio (24, 4) and text (24, 3).

    rows replaces the table; an array replaces or adds ``<name>.npy``, and None leaves it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = good_rows() if rows is None else rows
    with (folder / "utterances.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    generator = np.random.default_rng(3)
    files = {
        "audio": generator.normal(size=(24, 4)),
        "text": generator.normal(size=(24, 3)),
    } | arrays
    for name, array in files.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    return folder


def good_rows() -> list[dict[str, Any]]:
    """Dialogues d00 to d11 of two utterances: eight train, two valid, two test; labels no and yes."""
    return [
        {
            "id": f"d{d:02d}_{p}",
            "split": "train" if d < 8 else "valid" if d < 10 else "test",
            "label": ("no", "yes")[p],
            "dialogue": f"d{d:02d}",
            "position": p,
            "speaker": f"s{p}",
        }
        for d in range(12)
        for p in range(2)
    ]
