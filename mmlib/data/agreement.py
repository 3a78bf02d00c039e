"""Whether a bundle has the counts and dims that a paper states of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmlib.data.bundle import SPLITS, Bundle
from mmlib.data.manifest import load_manifest


def agrees(bundle: Bundle, role: str, paper: str) -> bool:
    """Whether a bundle has every count and dimension that a paper states of its data for a role."""
    entries = load_manifest()["role"].get(role, {}).get("paper", [])
    mine = [entry for entry in entries if entry["name"].lower() == paper.replace("_", "-").lower()]
    return bool(mine) and all(not compare(bundle, entry)[1] for entry in mine)


def compare(bundle: Bundle, paper: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The counts and dims of a paper's entry in the manifest that a bundle has, and those that differ."""
    same: list[str] = []
    differ: list[str] = []
    rows = {s: bundle.rows(s) for s in SPLITS}
    here = {
        "dialogues": {s: len(np.unique(bundle.dialogue[of])) for s, of in rows.items()},
        "utterances": {s: len(of) for s, of in rows.items()},
        "dims": bundle.dims,
    }
    for key, counts in here.items():
        for part, expected in paper.get(key, {}).items():
            summands = [counts.get(p) for p in (SPLITS if part == "total" else part.split("+"))]
            total = None if None in summands else sum(c for c in summands if c is not None)
            label = f"{part} {key}"
            if total == expected:
                same.append(label)
            else:
                differ.append(
                    f"{label} ({'none' if total is None else total}, the paper has {expected})"
                )
    return same, differ
