"""A linear probe of each modality: whether it says anything of the labels, and whether it has seen them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second
from tabulate import tabulate

from mmlib.data.bundle import Bundle
from mmlib.data.groups import groups_of, known_to_train, speaker_kind
from mmlib.data.scales import is_constant

GAP = 0.10
HARDLY = 1e-3  # of the spread elsewhere
NAMED = 5  # dimensions that a sentence lists
CV_FOLDS = 5
MOST = 10_000  # utterances that are asked: an error of half a point, and a gigabyte at 2,560 dimensions
ALL = "all"
PROBE = [
    "inputs",
    "cv",
    "cv_se",
    "known",
    "known_se",
    "held_out",
    "held_out_se",
    "majority",
    "leak",
    "unexplained",
]


@dataclass(frozen=True)
class _Sides:
    """What the probe keeps apart, for the rows of a bundle."""

    train: np.ndarray
    """(n,) bool: rows of train; the others are held out."""

    group: np.ndarray
    """(n,) dialogues, joined where a person speaks in several; joined within train and within what is held out."""

    dialogue: np.ndarray
    """(n,) dialogues alone."""

    new: np.ndarray
    """(n,) bool: rows held out that no person of train speaks near; their groups and train's are disjoint."""

    people: bool
    """Whether groups are larger than dialogues, since speakers are people."""

    def of(self, rows: np.ndarray) -> _Sides:
        """Those of some rows; groups stay what they are among all."""
        return _Sides(
            self.train[rows], self.group[rows], self.dialogue[rows], self.new[rows], self.people
        )


@dataclass(frozen=True)
class Steady:
    """A dimension that hardly varies in train beside what it does elsewhere: no fit on train knows its scale."""

    modality: str
    """Whose."""

    number: int
    """Its place in the modality's vectors, from 0."""

    sd: float
    """Over the utterances of train that have the modality, in the unit of the source; frames are averaged."""

    apart: float
    """What the others are away from the mean of train, likewise: root mean square, or median where ``sd`` is 0."""


def steady(bundle: Bundle) -> list[Steady]:
    """The dimensions of a bundle that hardly vary in train and do elsewhere."""
    found = []
    for index, modality in enumerate(bundle.modalities):
        array, has = _pool(bundle, modality), bundle.observed[:, index]
        train, rest = has & (bundle.split == 0), has & (bundle.split != 0)
        if array is None or not train.any() or not rest.any():
            continue
        sd = array[train].std(axis=0)
        away = np.abs(array[rest] - array[train].mean(axis=0))
        # What train never has and few others have, such as a rare word, has no scale and drowns nothing.
        apart = np.where(sd > 0, np.sqrt((away**2).mean(axis=0)), np.median(away, axis=0))
        unit = np.asarray(bundle.scaling[modality]["sd"]) if modality in bundle.scaling else 1.0
        in_source = np.stack([sd * unit, apart * unit], axis=1)
        for number in np.flatnonzero(sd < HARDLY * apart):
            found.append(Steady(modality, int(number), *map(float, in_source[number])))
    return found


def probe(bundle: Bundle, without: Sequence[Steady] = ()) -> pd.DataFrame:
    """Accuracy of a linear probe on each modality and on all joined, one row each.

    inputs: modality, on the utterances that have it, or ``all``. cv, cv_se: 5-fold cross-validation inside train,
    whole groups in one fold (dialogues, joined where a person speaks in several), and its standard error (clustered
    by group, at least the binomial one). known, known_se: the same with whole dialogues alone in one fold, so that
    other folds have the speaker too; NaN where speakers are no people. held_out, held_out_se: fitted on train, scored
    on valid and test together. majority: the largest class there. leak: cv is above what is right held out, in groups
    that train has nothing of, by more than 10 points, and above train's largest class, both with 95 % confidence
    (one-sided, t). unexplained: known is so above what is right held out of speakers that train has, and above train's
    largest class. Frames are averaged over their lengths; scores count as positive or negative, zeros left out, or as
    above or below the median of train where they have no sign; several binaries are averaged. All numbers are NaN where
    train has one dialogue or one class. The dimensions ``without`` are left out. Of more than ``MOST`` utterances
    so many are asked, drawn at random from all groups and always the same.
    """
    sides = _sides(bundle)
    if len(bundle) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(len(bundle))[:MOST])
        bundle, sides = _some(bundle, rows), sides.of(rows)
    pooled = [(m, _pool(bundle, m)) for m in bundle.modalities]
    inputs = {m: array for m, array in pooled if array is not None}
    for dimension in without:
        inputs[dimension.modality][:, dimension.number] = 0
    has = {m: bundle.observed[:, bundle.modalities.index(m)] for m in inputs}
    if len(inputs) > 1:
        inputs[ALL] = np.concatenate(list(inputs.values()), axis=1)
        has[ALL] = np.ones(len(bundle), dtype=bool)
    results = [
        {"inputs": name, **_row(bundle, array, has[name], sides)} for name, array in inputs.items()
    ]
    return pd.DataFrame(results, columns=PROBE)


def clustered_error(right: np.ndarray, groups: np.ndarray) -> float:
    """Standard error of an accuracy whose examples come in groups (linearised ratio estimator)."""
    index = np.unique(groups, return_inverse=True)[1]
    excess = np.bincount(index, weights=right - right.mean())
    count = len(excess)
    return float(np.sqrt((excess**2).sum() * count / max(count - 1, 1)) / len(right))


def _sides(bundle: Bundle) -> _Sides:
    train, known = bundle.split == 0, known_to_train(bundle)
    group, people = bundle.dialogue.copy(), False
    if speaker_kind(bundle) == "people":
        joined = groups_of(bundle.dialogue[train], bundle.speaker[train])
        people = len(np.unique(joined)) > 1  # else there are no speakers to hold out inside train
        if people:
            group[train] = joined
            group[~train] = groups_of(bundle.dialogue[~train], bundle.speaker[~train])
        else:
            known = np.ones(len(bundle), dtype=bool)
    return _Sides(train, group, bundle.dialogue, ~train & ~known, people)


def _some(bundle: Bundle, rows: np.ndarray) -> Bundle:
    """Some rows of a bundle, by number in their order."""
    return dataclasses.replace(
        bundle,
        features={m: array[rows] for m, array in bundle.features.items()},
        lengths={m: array[rows] for m, array in bundle.lengths.items()},
        labels=bundle.labels[rows],
        split=bundle.split[rows],
        dialogue=bundle.dialogue[rows],
        position=bundle.position[rows],
        speaker=bundle.speaker[rows],
        observed=bundle.observed[rows],
        ids=tuple(bundle.ids[row] for row in rows),
        fold=None if bundle.fold is None else bundle.fold[rows],
    )


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


def _row(
    bundle: Bundle, array: np.ndarray, has: np.ndarray, sides: _Sides
) -> dict[str, float | bool]:
    """The columns of ``probe`` for one input, averaged over what is asked; has: (n,) bool, the rows that count."""
    asked = [
        _probe_one(array, rows[has[rows]], labels[has[rows]], sides)
        for rows, labels in _targets(bundle)
    ]
    answered = [part for part in asked if part is not None]
    if not answered:
        return dict.fromkeys(PROBE[1:], np.nan) | {"leak": False, "unexplained": False}
    mean = {name: float(np.mean([part[name] for part in answered])) for name in answered[0]}
    # An accuracy is NaN where there is nothing of its kind, and what is compared with it is then False.
    leak = _is_above(mean, "cv", "new", _groups(sides.group, sides.train, sides.new))
    rest = ~sides.train & ~sides.new
    inside = "known" if sides.people else "cv"
    unexplained = _is_above(mean, inside, "rest", _groups(sides.dialogue, sides.train, rest))
    shown = {name: mean[name] for name in PROBE[1:-2]}
    return shown | {"leak": leak, "unexplained": unexplained}


def _groups(group: np.ndarray, *parts: np.ndarray) -> int:
    """The number of groups in that part which has the fewest."""
    return min(len(np.unique(group[part])) for part in parts)


def _is_above(mean: dict[str, float], inside: str, outside: str, groups: int) -> bool:
    """Whether accuracy in train is far above that elsewhere, and above one answer for all of train.

    On noise it may be far above elsewhere by the shares of the classes alone.
    """
    quantile = scipy.stats.t.ppf(0.95, max(groups - 1, 1))
    error = np.hypot(mean[f"{inside}_se"], mean[f"{outside}_se"])
    far = mean[inside] - mean[outside] - quantile * error > GAP
    knows = mean[inside] - mean["usual"] > quantile * mean[f"{inside}_se"]
    return bool(far and knows)


def _probe_one(
    array: np.ndarray, rows: np.ndarray, labels: np.ndarray, sides: _Sides
) -> dict[str, float] | None:
    """Accuracies and their standard errors on one question; None where train has one class or one dialogue."""
    train = sides.train[rows]
    group, dialogue = sides.group[rows], sides.dialogue[rows]
    x, y = array[rows], labels
    if len(np.unique(y[train])) < 2 or train.all() or len(np.unique(group[train])) < 2:
        return None
    held = _predict(x[train], y[train], x[~train]) == y[~train]
    inside = _crossed(x[train], y[train], group[train])
    values = _accuracy("cv", inside, group[train]) | _accuracy("held_out", held, group[~train])
    nothing = np.zeros(0, dtype=bool)
    known = _crossed(x[train], y[train], dialogue[train]) if sides.people else nothing
    values |= _accuracy("known", known, dialogue[train])
    new = sides.new[rows][~train]
    values |= _accuracy("new", held[new], group[~train][new])
    values |= _accuracy("rest", held[~new], dialogue[~train][~new])
    return values | {"majority": _largest(y[~train]), "usual": _largest(y[train])}


def _largest(labels: np.ndarray) -> float:
    """The share of the most frequent label."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def _crossed(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) bool: rows that are right when their whole groups are held out of the fit."""
    from sklearn.model_selection import GroupKFold

    right = np.zeros(len(y), dtype=bool)
    folds = GroupKFold(min(CV_FOLDS, len(np.unique(groups))))
    for fit, score in folds.split(x, y, groups):
        right[score] = _predict(x[fit], y[fit], x[score]) == y[score]
    return right


def _accuracy(name: str, right: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """An accuracy and its error, the clustered or, where few groups happen to agree, the binomial one."""
    if not len(right):
        return {name: np.nan, f"{name}_se": np.nan}
    errors = [clustered_error(right, part) for part in (groups, np.arange(len(right)))]
    return {name: float(right.mean()), f"{name}_se": max(errors)}


def _predict(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    if len(np.unique(y)) < 2:
        return np.full(len(query), y[0])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted: np.ndarray = model.fit(x, y).predict(query)
    return predicted


def probe_lines(table: pd.DataFrame, asked: int = 0) -> list[str]:
    """One line for each input; asked: the bundle's utterances, of which it is said where not all are asked."""
    if len(table) and table["cv"].isna().all():
        return [
            "linear probe: none, since it needs two dialogues and two classes in train, and others held out"
        ]
    if not len(table):
        return ["linear probe: none, of pictures"]
    people = bool(table["known"].notna().any())
    inside = ["train, new speakers", "train, known speakers"] if people else ["train"]
    head = ["linear probe", *inside, "held out", "most frequent"]
    rows = [_cells(row, people) for row in _rows(table)]
    aligned = ("left", *["right"] * (len(head) - 2), "left")
    text = tabulate(rows, head, tablefmt="plain", colalign=aligned, disable_numparse=True)
    part = [f"{MOST:,} of the {asked:,} utterances, drawn at random"] if asked > MOST else []
    return [*text.splitlines(), *_explained(people), *part]


def asked_lines(bundle: Bundle, table: pd.DataFrame) -> list[str]:
    """What the probe is asked of scores, which are no classes; nothing of other tasks, or where there is no probe."""
    if bundle.task.kind != "score" or not len(table) or table["cv"].isna().all():
        return []
    asked = (
        "positive or negative, zeros left out"
        if bundle.task.signed
        else "above or below the median of train, which says whether a modality knows anything of the score"
    )
    return [f"asked: {asked}"]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _cells(row: dict[str, Any], people: bool) -> list[str]:
    """What a line of the table says of one input."""
    if np.isnan(row["cv"]):
        return [row["inputs"], "none: too few", *[""] * (2 + people)]
    pairs = ["cv", "known", "held_out"] if people else ["cv", "held_out"]
    cells = [f"{row[name]:.1%} ± {row[f'{name}_se']:.1%}" for name in pairs]
    above = row["held_out"] - row["majority"]
    weak = 0 < above < scipy.stats.norm.ppf(0.95) * row["held_out_se"]
    most_frequent = f"{row['majority']:.1%}{' (within the error)' if weak else ''}"
    return [row["inputs"], *cells, most_frequent]


def _explained(people: bool) -> list[str]:
    """How the table is read."""
    units = "dialogues and speakers" if people else "dialogues"
    lines = [
        f"accuracy ± standard error of a logistic regression. train: cross-validated, whole {units} left out;",
        "held out: fitted on train, asked of valid and test; most frequent: one answer for all of these",
    ]
    return [*lines, "known speakers: whole dialogues left out, others of the same people kept"][
        : 2 + people
    ]


def dead_warnings(bundle: Bundle, table: pd.DataFrame) -> list[str]:
    """Modalities on which a linear probe is no better than one answer for all; constant ones are named already."""
    below = _rows(table[(table["inputs"] != ALL) & (table["held_out"] <= table["majority"])])
    dead = [row for row in below if not is_constant(bundle, row["inputs"])]
    if not dead:
        return []
    listed = [
        f"{row['inputs']} ({row['held_out']:.1%} of held-out utterances, the most frequent label {row['majority']:.1%})"
        for row in dead
    ]
    return [
        f"WARNING: in {bundle.name}, a linear probe is right no more often than the most frequent label alone on "
        f"{', '.join(listed)}. Where a modality says nothing of the labels, to lose it costs nothing, and no method "
        "can be better at it. Check that its rows are those of the labels; if they are, say so."
    ]


def steady_warnings(bundle: Bundle, found: Sequence[Steady]) -> list[str]:
    """That dimensions hardly vary in train and do elsewhere, which explains a probe that fails there."""
    if not found:
        return []
    listed = ", ".join(
        f"dimension {d.number} of {d.modality} (sd {d.sd:.2g} in train, elsewhere {d.apart:.2g} from the mean of train)"
        for d in found[:NAMED]
    )
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [
        f"WARNING: features of {bundle.name} hardly vary in train and do elsewhere: {listed}{more}, counted from 0. No "
        "network can learn their scale from train, and where they are standardised they drown all others in valid and "
        "test. Leave these dimensions out, or correct them, and import again. What is said of a linear probe in these "
        "warnings is of one without them."
    ]


def leak_warnings(bundle: Bundle, table: pd.DataFrame) -> list[str]:
    """That the features behave as if they had seen the labels of train."""
    leaks = table[table["leak"]]
    if not len(leaks):
        return []
    apart = "dialogues and speakers" if table["known"].notna().any() else "dialogues"
    return [
        f"WARNING: in {bundle.name}, a linear probe is far better inside train than on held-out {apart}: "
        f"{_against(leaks, 'cv')}. Those of train predict each other, and new ones they do not. The usual cause: the "
        "feature extractor was trained with the labels of the train split, so train features carry their labels. "
        "Then accuracy inside train says nothing; never validate, tune or cross-validate there, nor on a random "
        "split of all rows. Validate and test on dialogues that the extractor has not seen, and say so."
    ]


def unexplained_warnings(bundle: Bundle, table: pd.DataFrame) -> list[str]:
    """That train and what is held out differ, where shared speakers leave the cause open."""
    gaps = table[table["unexplained"] & ~table["leak"]]
    if not len(gaps):
        return []
    gaps = gaps.assign(known=gaps["known"].fillna(gaps["cv"]))
    return [
        f"WARNING: in {bundle.name}, a linear probe is far better on speakers that it knows inside train than on "
        f"those held out: {_against(gaps, 'known')}. Speakers are in several splits, so the cause cannot be told from "
        "these splits: recordings of one session in one split, other conditions in test, or features that have seen "
        "the labels of train. Test with a split by speaker."
    ]


def _against(table: pd.DataFrame, inside: str) -> str:
    return ", ".join(
        f"{row['inputs']} ({row[inside]:.1%} against {row['held_out']:.1%})" for row in _rows(table)
    )
