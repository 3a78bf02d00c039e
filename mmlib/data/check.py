"""What a bundle holds, whether it is what a paper used, and whether its features have seen its labels."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmlib.data.bounded import regular_file
from mmlib.data.bundle import SPLITS, Bundle
from mmlib.data.labels import label_warnings
from mmlib.data.manifest import load_manifest
from mmlib.data.scales import scale_lines, scale_warnings, zero_warnings
from mmlib.errors import unknown_name

GAP = 0.10
CV_FOLDS = 5
PROBE = ["inputs", "cv", "cv_se", "held_out", "held_out_se", "majority", "leak"]


@dataclass(frozen=True)
class Report:
    """What ``check`` has to say of a bundle."""

    lines: tuple[str, ...]
    """The text, line by line."""

    warnings: tuple[str, ...]
    """Those of the lines that ask for action."""

    probe: pd.DataFrame
    """The results of the linear probe, as ``probe`` returns them."""

    @property
    def ok(self) -> bool:
        """Whether there is no warning."""
        return not self.warnings

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check(bundle: Bundle, role: str | None = None) -> Report:
    """Describe a bundle, hold it against the papers' data, and probe it for label leaks.

    role: compare with this role's papers and warn where the task differs; else with every role
        of the same task.

    Raises:
        InputError: a role that is not in ``data/manifest.toml``.
    """
    manifest = load_manifest()
    if role is not None and role not in manifest["role"]:
        raise unknown_name("role", role, manifest["role"])
    table = probe(bundle)
    urgent = [*findings(bundle), *_leak_warnings(bundle, table)]
    if role is not None and not _same_task(bundle, role, manifest["role"][role]):
        urgent.append(
            f"WARNING: the role {role} asks for {_task_text(manifest['role'][role])}; "
            f"this bundle has {_task_text(_as_role(bundle))}."
        )
    lines = [
        *_describe(bundle),
        *scale_lines(bundle),
        *_recorded(bundle, manifest),
        *_papers(bundle, manifest, role),
        *_probe_lines(table),
    ]
    return Report((*lines, *urgent), tuple(urgent), table)


def findings(bundle: Bundle) -> list[str]:
    """Warnings about labels, scales and rows of zeros, which are quick to find: an import prints them too."""
    return [*label_warnings(bundle), *scale_warnings(bundle), *zero_warnings(bundle)]


def agrees(bundle: Bundle, role: str, paper: str) -> bool:
    """Whether a bundle has every count and dimension that a paper states of its data for a role."""
    entries = load_manifest()["role"].get(role, {}).get("paper", [])
    mine = [entry for entry in entries if entry["name"].lower() == paper.replace("_", "-").lower()]
    return bool(mine) and all(not _compare(bundle, entry)[1] for entry in mine)


def sha256(files: Sequence[Path]) -> dict[str, str]:
    """File name to SHA-256; a folder gives its files, named relative to it.

    Raises:
        InputError: a path that does not exist.
    """
    sums = {}
    for path in files:
        inside = (
            sorted(p for p in path.rglob("*") if p.is_file())
            if path.is_dir()
            else [regular_file(path)]
        )
        for file in inside:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            with file.open("rb") as stream:
                sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums


def compare_files(name: str, files: Sequence[Path]) -> list[str]:
    """One line: whether source files have the checksums recorded for the bundle ``name``; none where none are."""
    recorded = load_manifest()["bundle"].get(name, {}).get("sha256", {})
    if not recorded:
        return []
    sums = sha256(files)
    differ = sorted(f for f, digest in recorded.items() if sums.get(f) != digest)
    text = (
        f"source files: {len(recorded) - len(differ)} of {len(recorded)} have the recorded sha256"
    )
    return [text + (f"; not {', '.join(differ)}" if differ else "")]


def probe(bundle: Bundle) -> pd.DataFrame:
    """Accuracy of a linear probe on each modality and on all joined, one row each.

    inputs: modality or ``all``. cv, cv_se: 5-fold cross-validation inside train, whole dialogues
    in one fold, and its standard error (clustered by dialogue, at least the binomial one).
    held_out, held_out_se: fitted on train, scored on valid and test together. majority: the
    largest class there. leak: cv is above held_out by more than 10 points, with 95 % confidence
    (one-sided, t). Frames are averaged over their lengths; scores count as positive or negative,
    zeros left out, or as above or below the median of train where they have no sign; several
    binaries are averaged. All numbers are NaN where train has one dialogue or one class.
    """
    pooled = [(m, _pool(bundle, m)) for m in bundle.modalities]
    inputs = {m: array for m, array in pooled if array is not None}
    if len(inputs) > 1:
        inputs["all"] = np.concatenate(list(inputs.values()), axis=1)
    groups = [
        len(np.unique(bundle.dialogue[part])) for part in (bundle.split == 0, bundle.split > 0)
    ]
    quantile = stats.t.ppf(0.95, max(min(groups) - 1, 1))
    results = []
    for name, array in inputs.items():
        parts = [_probe_one(bundle, array, rows, labels) for rows, labels in _targets(bundle)]
        cv, cv_se, held, held_se, majority = np.mean(
            [p for p in parts if p is not None] or [[np.nan] * 5], axis=0
        )
        leak = bool(cv - held - quantile * np.hypot(cv_se, held_se) > GAP)
        results.append(
            dict(zip(PROBE, (name, cv, cv_se, held, held_se, majority, leak), strict=True))
        )
    return pd.DataFrame(results, columns=PROBE)


def _targets(bundle: Bundle) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows, labels) of each classification that the probe is asked."""
    everything = np.arange(len(bundle))
    if bundle.task.kind == "classes":
        return [(everything, bundle.labels)]
    if bundle.task.kind == "binaries":
        return [(everything, bundle.labels[:, k]) for k in range(len(bundle.task.names))]
    middle = 0.0 if bundle.task.signed else float(np.median(bundle.labels[bundle.split == 0]))
    rows = np.flatnonzero(bundle.labels != middle)
    return [(rows, (bundle.labels[rows] > middle).astype(np.int64))]


def _pool(bundle: Bundle, modality: str) -> np.ndarray | None:
    """(n, d) of a modality, frames averaged; None for images, which a linear probe says little about."""
    array = bundle.features[modality]
    if array.ndim > 3 or array.dtype == np.uint8:
        return None
    if array.ndim == 3:
        lengths = bundle.lengths.get(modality, np.full(len(array), array.shape[1]))
        exists = (np.arange(array.shape[1]) < lengths[:, None])[..., None]
        array = np.where(exists, array, 0).sum(axis=1) / lengths[:, None]
    return np.where(bundle.observed[:, [bundle.modalities.index(modality)]], array, 0).astype(
        np.float64
    )


def _probe_one(
    bundle: Bundle, array: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> list[float] | None:
    """cv, its standard error, held-out, its standard error, majority; None where train has one class."""
    train = bundle.split[rows] == 0
    groups = bundle.dialogue[rows]
    x, y = array[rows], labels
    if len(np.unique(y[train])) < 2 or train.all() or len(np.unique(groups[train])) < 2:
        return None
    right = np.zeros(int(train.sum()), dtype=bool)
    folds = GroupKFold(min(CV_FOLDS, len(np.unique(groups[train]))))
    for fit, score in folds.split(x[train], y[train], groups[train]):
        right[score] = _predict(x[train][fit], y[train][fit], x[train][score]) == y[train][score]
    held = _predict(x[train], y[train], x[~train]) == y[~train]
    majority = np.unique(y[~train], return_counts=True)[1].max() / len(held)
    return [
        float(right.mean()),
        _error(right, groups[train]),
        float(held.mean()),
        _error(held, groups[~train]),
        float(majority),
    ]


def _error(right: np.ndarray, groups: np.ndarray) -> float:
    """The clustered error, or the binomial one where few dialogues happen to agree."""
    return max(clustered_error(right, groups), clustered_error(right, np.arange(len(right))))


def _predict(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    if len(np.unique(y)) < 2:
        return np.full(len(query), y[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted: np.ndarray = model.fit(x, y).predict(query)
    return predicted


def clustered_error(right: np.ndarray, groups: np.ndarray) -> float:
    """Standard error of an accuracy whose examples come in groups (linearised ratio estimator)."""
    index = np.unique(groups, return_inverse=True)[1]
    excess = np.bincount(index, weights=right - right.mean())
    count = len(excess)
    return float(np.sqrt((excess**2).sum() * count / max(count - 1, 1)) / len(right))


def _describe(bundle: Bundle) -> list[str]:
    task = _task_text(_as_role(bundle))
    lines = [
        f"{bundle.name}: {len(bundle)} utterances, {task}, fingerprint {bundle.fingerprint}",
        f"source: {bundle.source or 'not stated'}",
        f"licence: {bundle.licence or 'not stated'}",
    ]
    lines += [f"note, {key}: {value}" for key, value in bundle.notes.items()]
    if bundle.fold is not None:
        lines.append(
            f"folds: {', '.join(str(int(c)) for c in np.bincount(bundle.fold))} utterances"
        )
    for split in SPLITS:
        rows = bundle.rows(split)
        lines.append(
            f"{split}: {len(rows)} utterances in {len(bundle.dialogues(split))} dialogues; "
            f"{_label_text(bundle, rows)}"
        )
    for index, modality in enumerate(bundle.modalities):
        missing = [f"{s} {int((~bundle.observed[bundle.rows(s), index]).sum())}" for s in SPLITS]
        lines.append(
            f"{modality}: {_shape_text(bundle.features[modality])}; missing by nature: {', '.join(missing)}"
        )
    return lines


def _shape_text(array: np.ndarray) -> str:
    """The shape of a sample, and how many of its dims are the same everywhere; pictures have no dims of that kind."""
    shape = " x ".join(map(str, array.shape[1:]))
    if array.ndim > 3:
        return f"{shape}, pictures"
    return (
        f"{shape} ({int((np.ptp(array.reshape(-1, array.shape[-1]), axis=0) == 0).sum())} constant)"
    )


def _label_text(bundle: Bundle, rows: np.ndarray) -> str:
    labels = bundle.labels[rows]
    if bundle.task.kind == "classes":
        return ", ".join(
            f"{name} {int((labels == k).sum())}" for k, name in enumerate(bundle.task.names)
        )
    if bundle.task.kind == "binaries":
        return ", ".join(
            f"{name} {int(labels[:, k].sum())}" for k, name in enumerate(bundle.task.names)
        )
    if not bundle.task.signed:
        return (
            f"{labels.min():g} to {labels.max():g}, mean {labels.mean():.2f}, "
            f"sd {labels.std(ddof=min(1, len(labels) - 1)):.2f}"
        )
    return (
        f"{int((labels < 0).sum())} negative, {int((labels == 0).sum())} zero, {int((labels > 0).sum())} positive, "
        f"mean {labels.mean():.2f}, sd {labels.std(ddof=min(1, len(labels) - 1)):.2f}"
    )


def _recorded(bundle: Bundle, manifest: Mapping[str, Any]) -> list[str]:
    for name, entry in manifest["bundle"].items():
        if entry["fingerprint"] == bundle.fingerprint:
            return [f"manifest: the recorded bundle {name}, fills {', '.join(entry['roles'])}"]
    if bundle.name in manifest["bundle"]:
        return [
            f"manifest: not the recorded {bundle.name}, whose fingerprint is "
            f"{manifest['bundle'][bundle.name]['fingerprint']}"
        ]
    return ["manifest: not one of the recorded bundles"]


def _papers(bundle: Bundle, manifest: Mapping[str, Any], role: str | None) -> list[str]:
    """One line per role and paper: what agrees with the paper's data and what differs."""
    lines = []
    for name, entry in manifest["role"].items():
        if name != role and (role is not None or not _same_task(bundle, name, entry)):
            continue
        for paper in entry["paper"]:
            same, differ = _compare(bundle, paper)
            verdict = "; ".join(
                filter(
                    None,
                    [
                        f"agrees in {', '.join(same)}" if same else "",
                        f"differs in {', '.join(differ)}" if differ else "",
                    ],
                )
            )
            lines.append(
                f"{name}, {paper['name']} ({paper['where']}; ledger {paper['ledger']}): "
                f"{verdict or 'the paper states no counts'}"
            )
    return lines


def _compare(bundle: Bundle, paper: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    same: list[str] = []
    differ: list[str] = []
    here = {
        "dialogues": {s: len(bundle.dialogues(s)) for s in SPLITS},
        "utterances": {s: len(bundle.rows(s)) for s in SPLITS},
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


def _same_task(bundle: Bundle, name: str, role: Mapping[str, Any]) -> bool:
    """A small twin has some of its role's classes alone, and is meant to."""
    return bundle.notes.get("twin") == name or all(
        role[key] == value for key, value in _as_role(bundle).items()
    )


def _as_role(bundle: Bundle) -> dict[str, Any]:
    frames = all(array.ndim == 3 for array in bundle.features.values())
    return {"task": bundle.task.kind, "classes": len(bundle.task.names), "frames": frames}


def _task_text(role: Mapping[str, Any]) -> str:
    kind = {
        "classes": f"{role['classes']} classes",
        "score": "a score",
        "binaries": f"{role['classes']} binaries",
    }
    return kind[role["task"]] + (" by frames" if role["frames"] else "")


def _probe_lines(table: pd.DataFrame) -> list[str]:
    if len(table) and table["cv"].isna().all():
        return [
            "linear probe: none, since it needs two dialogues and two classes in train, and others held out"
        ]
    return [
        f"linear probe, {row.inputs}: {row.cv:.1%} cross-validated inside train, {row.held_out:.1%} held out "
        f"(standard errors {row.cv_se:.1%}, {row.held_out_se:.1%}; majority {row.majority:.1%})"
        for row in table.itertuples()
    ]


def _leak_warnings(bundle: Bundle, table: pd.DataFrame) -> list[str]:
    leaks = table[table["leak"]]
    if not len(leaks):
        return []
    named = ", ".join(
        f"{row.inputs} ({row.cv:.1%} against {row.held_out:.1%})" for row in leaks.itertuples()
    )
    return [
        f"WARNING: in {bundle.name}, a linear probe is far better inside train than on held-out dialogues: "
        f"{named}. Dialogues of train predict each other, and new ones they do not. The usual cause: the feature "
        "extractor was trained with the labels of the train split, so train features carry their labels. "
        "Then accuracy inside train says nothing; never validate, tune or cross-validate there, nor on a random "
        "split of all rows. Validate and test on dialogues that the extractor has not seen, and say so."
    ]
