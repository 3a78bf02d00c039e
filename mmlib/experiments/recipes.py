"""Recipes: the learning rate, weight decay and number of steps that a search on validation chose for each network.

``recipes.csv`` holds every trial on the project's own data (``search.py`` makes it); what is used is read from it,
never typed. Trials on a reader's own data stand in a file beside the runs, and are used for those data alone, so that
nobody's data change the recipes of others. A budget counts optimizer steps, since an epoch of 19 dialogues is five
steps and one of 6,000 clips is sixty.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.data import embedded
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_twin
from mmlib.experiments.profiles import Profile
from mmlib.names import REAL
from mmlib.runs.spec import Training

FILE = Path(__file__).with_name("recipes.csv")
UTTERANCES = 128  # of a step, in whole dialogues or about as many
WITHIN = 0.5  # points of the best that a smaller number of steps may lack
COLUMNS = {
    "profile": str,
    "data": str,
    "fingerprint": str,
    "task": str,
    "train": int,
    "network": str,
    "method": str,
    "fold": int,
    "lr": float,
    "weight_decay": float,
    "steps": int,
    "runs": int,
    "valid": float,
    "valid_sd": float,
    "test": float,
    "test_sd": float,
}
NO_FOLD = -1


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on some data."""

    lr: float
    """The learning rate."""

    weight_decay: float
    """The optimizer's penalty."""

    steps: int
    """Optimizer steps."""

    data: str
    """The data on which it was searched."""


@lru_cache(maxsize=8)
def _read(file: Path) -> pd.DataFrame:
    if not file.exists():
        return pd.DataFrame(columns=[*COLUMNS])
    return pd.read_csv(file, dtype=COLUMNS).fillna({"method": ""})


def trials() -> pd.DataFrame:
    """Every trial on the project's data.

    One line for each data set, fold, network, method, setting and number of steps. method: empty for a network by
    itself. valid, test: means over runs of weighted F1 (%) at the epoch that validation picks within so many steps; of
    scores without a sign, of the part of a constant answer's error that is gone (%).
    """
    return _read(FILE)


def is_committed(reference: str) -> bool:
    """Whether some data are the project's, so that their trials are committed."""
    return is_twin(reference) or reference in (*embedded.KINDS, *REAL)


def file_of(reference: str) -> Path:
    """Where the trials on some data stand: in the package, or beside the runs."""
    return FILE if is_committed(reference) else paths.runs() / FILE.name


def trials_of(reference: str) -> pd.DataFrame:
    """What ``trials`` gives, of the file that some data's trials stand in."""
    return _read(file_of(reference))


def every_trial() -> pd.DataFrame:
    """The trials on the project's data and on own data."""
    parts = [trials(), _read(paths.runs() / FILE.name)]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


class _Trial(NamedTuple):
    """What of a line of the table decides a choice."""

    fingerprint: str
    task: str
    train: int
    network: str
    fold: int
    lr: float
    weight_decay: float
    steps: int
    valid: float
    data: str


def _as_trials(table: pd.DataFrame) -> list[_Trial]:
    return [_Trial(*line) for line in table[list(_Trial._fields)].itertuples(index=False)]


@lru_cache(maxsize=8)
def _listed(file: Path) -> dict[tuple[str, str], list[_Trial]]:
    """The trials of a file by profile and method, in its order."""
    groups = _read(file).groupby(["profile", "method"], sort=False)
    return {(str(profile), str(method)): _as_trials(of) for (profile, method), of in groups}


_DIALOGUES: dict[str, int] = {}  # by fingerprint, like the sizes below


def dialogues(bundle: Bundle) -> int:
    """How many dialogues a bundle has, which is counted once."""
    if bundle.fingerprint not in _DIALOGUES:
        _DIALOGUES[bundle.fingerprint] = len(np.unique(bundle.dialogue))
    return _DIALOGUES[bundle.fingerprint]


def whole_dialogues(utterances: int, bundle: Bundle) -> int:
    """Dialogues a step that hold about so many utterances, since steps take whole ones."""
    return max(1, round(utterances * dialogues(bundle) / len(bundle.dialogue)))


def steps_per_epoch(bundle: Bundle, batch: int) -> int:
    """Optimizer steps of one pass over the training dialogues."""
    return math.ceil(len(np.unique(bundle.dialogue[bundle.rows("train")])) / batch)


@dataclass(frozen=True)
class _Size:
    """What of a bundle decides its schedules."""

    fingerprint: str
    """The bundle's."""

    task: str
    """The kind of its task."""

    train: int
    """Training utterances; of a bundle with folds, of its first."""

    batch: int
    """Dialogues of a step."""

    steps: int
    """Optimizer steps of an epoch; of a bundle with folds, of its first."""


_SIZES: dict[str, _Size] = {}  # by fingerprint: thousands of runs ask for those of a few bundles


def _size(bundle: Bundle) -> _Size:
    """The size of a bundle, which is counted once."""
    if bundle.fingerprint not in _SIZES:
        whole = bundle if bundle.fold is None else bundle.with_fold(0)
        batch = whole_dialogues(UTTERANCES, bundle)
        _SIZES[bundle.fingerprint] = _Size(
            bundle.fingerprint,
            bundle.task.kind,
            len(whole.rows("train")),
            batch,
            steps_per_epoch(whole, batch),
        )
    return _SIZES[bundle.fingerprint]


def schedule(
    profile: Profile,
    bundle: Bundle,
    network: str,
    fold: int | None = None,
    method: str = "",
    runs: Path | None = None,
) -> Training:
    """A network's schedule on some data: its recipe where profiles are searched, else the profile's own.

    Epochs hold at least the recipe's steps; all folds of a bundle have as many. A method over the network has as many,
    with the learning rate and weight decay of its own trials on the data that the network's recipe is from, or the
    network's where it had none there: of two data sets, their difference would be one of rates.

    runs: ``paths.runs()``, where it is known.
    """
    if not profile.searched:
        return profile.training_for("default", network)
    number = NO_FOLD if fold is None else fold
    return _scheduled(runs or paths.runs(), profile, _size(bundle), network, number, method)


@lru_cache(maxsize=4096)
def _scheduled(
    runs: Path, profile: Profile, size: _Size, network: str, fold: int, method: str
) -> Training:
    """runs: the folder of ``paths.runs``, which the trials on own data are read from."""
    default = profile.training_for("default", network)
    recipe = _found(runs, profile.name, size, network, fold)
    if recipe is None:
        return default
    epochs = math.ceil(recipe.steps / size.steps)
    tried = _tried(runs, profile.name, size, recipe.data, network, method, fold) if method else None
    setting = tried or recipe
    return dataclasses.replace(
        default, epochs=epochs, batch=size.batch, lr=setting.lr, weight_decay=setting.weight_decay
    )


@lru_cache(maxsize=4096)
def _found(runs: Path, profile: str, size: _Size, network: str, fold: int) -> Recipe | None:
    """runs: as for ``_scheduled``."""
    tried = _of(runs, size.fingerprint, profile, "")
    known = [trial for trial in tried if trial.network == network]
    known = known or [trial for trial in tried if trial.network != "linear"]
    own = [trial for trial in known if trial.fingerprint == size.fingerprint]
    if not own:
        own, fold = _nearest(known, size), NO_FOLD
    if not own:
        return None
    by_fold = _by_fold(own)
    steps = max(_chosen(of_fold).steps for of_fold in by_fold.values())
    return dataclasses.replace(_chosen(by_fold.get(fold, own)), steps=steps)


def find(profile: str, bundle: Bundle, network: str, fold: int | None = None) -> Recipe | None:
    """A network's recipe on some data; that of the most similar searched data where these were not searched.

    Similar are data of the same task, by the number of training utterances. On data with folds each fold's
    learning rate is chosen on its own validation alone, since what one fold validates on another tests on. A network
    that was never searched has the setting that is best for the others on average; None before any search.
    """
    number = NO_FOLD if fold is None else fold
    return _found(paths.runs(), profile, _size(bundle), network, number)


@lru_cache(maxsize=4096)
def _tried(
    runs: Path, profile: str, size: _Size, data: str, network: str, method: str, fold: int
) -> Recipe | None:
    """What a method's own trials over a network chose on the data that the network's recipe is from; None without any.

    runs: as for ``_scheduled``.
    """
    tried = _of(runs, size.fingerprint, profile, method)
    known = [trial for trial in tried if trial.network == network and trial.data == data]
    own = [trial for trial in known if trial.fingerprint == size.fingerprint]
    chosen = _by_fold(own).get(fold, own) or known
    return _chosen(chosen) if chosen else None


def _of(runs: Path, fingerprint: str, profile: str, method: str) -> list[_Trial]:
    """A profile's and method's trials on data of a fingerprint that stand beside the runs, and on the project's."""
    beside = _listed(runs / FILE.name).get((profile, method), [])
    own = [trial for trial in beside if trial.fingerprint == fingerprint]
    return own + _listed(FILE).get((profile, method), [])


def _by_fold(tried: Iterable[_Trial]) -> dict[int, list[_Trial]]:
    by_fold: dict[int, list[_Trial]] = {}
    for trial in tried:
        by_fold.setdefault(trial.fold, []).append(trial)
    return by_fold


def forget() -> None:
    """Read the files again when they are next needed."""
    _read.cache_clear()
    _listed.cache_clear()
    _scheduled.cache_clear()
    _found.cache_clear()
    _tried.cache_clear()


def is_own(profile: str, bundle: Bundle) -> bool:
    """Whether recipes were searched on these very data, be it for some networks alone."""
    return bool(searched(profile, bundle))


def searched(profile: str, bundle: Bundle, method: str = "") -> set[str]:
    """The networks that were searched on these very data, by themselves or with a method."""
    tried = _of(paths.runs(), bundle.fingerprint, profile, method)
    return {trial.network for trial in tried if trial.fingerprint == bundle.fingerprint}


def _nearest(tried: Sequence[_Trial], size: _Size) -> list[_Trial]:
    """The trials on the data of the same task whose number of training utterances is nearest in ratio."""
    alike = [trial for trial in tried if trial.task == size.task] or tried
    if not alike:
        return []
    nearest = min(alike, key=lambda trial: abs(math.log(trial.train / max(1, size.train))))
    return [trial for trial in alike if trial.fingerprint == nearest.fingerprint]


def choose(tried: pd.DataFrame) -> Recipe:
    """The setting that is best on validation, with the fewest steps that lack at most ``WITHIN`` points of it.

    tried: trials of one network on some data; folds are averaged. A setting of which a run diverged has no value and
    is not chosen.
    """
    return _chosen(_as_trials(tried))


def _chosen(tried: Sequence[_Trial]) -> Recipe:
    """``choose`` of trials as plain values: frames would take a second over all networks and data."""
    values: dict[tuple[float, float, int], list[float]] = {}
    for trial in tried:
        value = -math.inf if math.isnan(trial.valid) else trial.valid
        values.setdefault((trial.lr, trial.weight_decay, trial.steps), []).append(value)
    means = {key: math.fsum(values[key]) / len(values[key]) for key in sorted(values)}
    best = max(means, key=lambda key: means[key])
    enough = [
        key[2]
        for key, mean in means.items()
        if key[:2] == best[:2] and mean >= means[best] - WITHIN
    ]
    return Recipe(best[0], best[1], min(enough), tried[0].data)
