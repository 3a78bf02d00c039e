"""Modalities that the data themselves lack: notes, and the number of utterances that a condition is evaluated on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments.context import Cell, Context

RANDOM = (
    "random",
    "shared",
    "imbalanced",
    "mix",
    "patterns",
)  # laws that give an utterance something back


def tested(bundle: Bundle) -> np.ndarray:
    """The rows that tables test: those of the test split, or with folds all, each in the fold that it is in."""
    return bundle.rows("test") if bundle.fold is None else np.arange(len(bundle))


def lacking(bundle: Bundle) -> dict[str, int]:
    """Modality to the number of tested utterances whose data lack it; only modalities that some lack."""
    absent = (~bundle.observed[tested(bundle)]).sum(axis=0)
    return {m: int(n) for m, n in zip(bundle.modalities, absent, strict=True) if n}


def note(name: str, bundle: Bundle) -> tuple[str, ...]:
    """A note on a data set that lacks modalities; empty for others."""
    counts = lacking(bundle)
    if not counts:
        return ()
    total = len(tested(bundle))
    what = (
        "test utterances"
        if bundle.fold is None
        else "utterances, each of which is tested in its fold,"
    )
    listed = ", ".join(f"{modality} in {count}" for modality, count in counts.items())
    return (
        f"{name}: some of {total} {what} lack a modality in the data themselves: {listed}. "
        "A condition with fixed modalities is evaluated on the utterances that have any of them; "
        "with random missing rates an utterance that would lose all modalities keeps one that it has.",
    )


def utterances(context: Context, cells: Iterable[Cell]) -> dict[str, str]:
    """Setting to ``(n = 50)``, the utterances that it is evaluated on, where it leaves some out.

    The number is that of a run; of runs on different folds, the least and the most.
    """
    counts: dict[str, set[int]] = {}
    for cell in _of_incomplete_data(cells):
        record, _ = context.store.find(cell.spec, context.bundle_fingerprint(cell.spec.data))
        evaluated = record.content.get("utterances", {}) if record else {}
        if cell.mask in evaluated:
            counts.setdefault(cell.setting, set()).add(evaluated[cell.mask])
    return {setting: f"(n = {_span(of)})" for setting, of in counts.items()}


def with_utterances(settings: pd.Series, counts: Mapping[str, str]) -> pd.Series:
    """Names of settings with the number of utterances behind those that leave some out."""
    return settings.map(
        lambda setting: f"{setting} {counts[setting]}" if setting in counts else setting
    )


def realised(context: Context, cells: Sequence[Cell]) -> tuple[str, ...]:
    """The missing rates that random laws came to, by setting, where nature adds its own; else nothing."""
    rates: dict[str, dict[str, list[float]]] = {}
    for cell in _of_incomplete_data(cells):
        if dict(cell.spec.eval_masks)[cell.mask].kind not in RANDOM:
            continue
        record, _ = context.store.find(cell.spec, context.bundle_fingerprint(cell.spec.data))
        for row in record["rates"] if record else ():
            if row["mask"] == cell.mask:
                by_modality = rates.setdefault(cell.setting, {})
                by_modality.setdefault(row["modality"], []).append(row["realised"])
    return tuple(
        f"{setting}: realised missing rates, including what the data lack: "
        + ", ".join(f"{modality} {100 * np.mean(values):.0f} %" for modality, values in of.items())
        + "."
        for setting, of in rates.items()
    )


def _of_incomplete_data(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if lacking(open_bundle(cell.spec.data))]


def _span(counts: set[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"
