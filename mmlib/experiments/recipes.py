"""Recipes: the learning rate, weight decay and number of steps that a search on validation chose for each network.

``recipes.csv`` holds every trial on the project's own data (``search.py`` makes it); what is used is read from it,
never typed. Trials on a reader's own data stand in a file beside the runs, and are used for those data alone, so that
nobody's data change the recipes of others. A budget counts optimizer steps, since an epoch of 19 dialogues is five
steps and one of 6,000 clips is sixty.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.data import embedded
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_twin
from mmlib.experiments.profiles import Profile
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
REAL = ("mosi-unseen", "mosi-bclstm", "mmmo-standardised")
"""Real data whose results are committed; they cannot be embedded."""


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
    itself. valid, test: means over runs of weighted F1 (%) at the epoch that validation picks within so many steps.
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
    return _joined(trials(), _read(paths.runs() / FILE.name))


def _known(fingerprint: str) -> pd.DataFrame:
    """The trials on data of a fingerprint, and on the project's."""
    own = _read(paths.runs() / FILE.name)
    return _joined(own[own["fingerprint"] == fingerprint], trials())


def _joined(*parts: pd.DataFrame) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def whole_dialogues(utterances: int, bundle: Bundle) -> int:
    """Dialogues a step that hold about so many utterances, since steps take whole ones."""
    return max(1, round(utterances * len(np.unique(bundle.dialogue)) / len(bundle.dialogue)))


def steps_per_epoch(bundle: Bundle, batch: int) -> int:
    """Optimizer steps of one pass over the training dialogues."""
    return math.ceil(len(np.unique(bundle.dialogue[bundle.rows("train")])) / batch)


def schedule(
    profile: Profile, bundle: Bundle, network: str, fold: int | None = None, method: str = ""
) -> Training:
    """A network's schedule on some data: its recipe where profiles are searched, else the profile's own.

    Epochs hold at least the recipe's steps; all folds of a bundle have as many. A method over the network has as many,
    with the learning rate and weight decay of its own trials, or the network's where it had none.
    """
    default = profile.training_for("default", network)
    recipe = find(profile.name, bundle, network, fold) if profile.searched else None
    if recipe is None:
        return default
    whole = bundle if bundle.fold is None else bundle.with_fold(0)
    batch = whole_dialogues(UTTERANCES, bundle)
    epochs = math.ceil(recipe.steps / steps_per_epoch(whole, batch))
    tried = of_method(profile.name, bundle, network, method, fold) if method else None
    setting = tried or recipe
    return dataclasses.replace(
        default, epochs=epochs, batch=batch, lr=setting.lr, weight_decay=setting.weight_decay
    )


@lru_cache(maxsize=4096)
def _found(
    runs: Path, profile: str, fingerprint: str, task: str, train: int, network: str, fold: int
) -> Recipe | None:
    """runs: the folder of ``paths.runs``, which the trials on own data are read from."""
    table = _known(fingerprint)
    table = table[(table["profile"] == profile) & (table["method"] == "")]
    known = table["network"] == network
    table = table[known if known.any() else table["network"] != "linear"]
    own = table[table["fingerprint"] == fingerprint]
    if not len(own):
        own, fold = _nearest(table, task, train), NO_FOLD
    if not len(own):
        return None
    chosen = choose(own[own["fold"] == fold] if (own["fold"] == fold).any() else own)
    steps = max(choose(of_fold).steps for _, of_fold in own.groupby("fold"))
    return dataclasses.replace(chosen, steps=steps)


def find(profile: str, bundle: Bundle, network: str, fold: int | None = None) -> Recipe | None:
    """A network's recipe on some data; that of the most similar searched data where these were not searched.

    Similar are data of the same task, by the number of training utterances. On data with folds each fold's
    learning rate is chosen on its own validation alone, since what one fold validates on another tests on. A network
    that was never searched has the setting that is best for the others on average; None before any search.
    """
    train = len(bundle.rows("train"))
    number = NO_FOLD if fold is None else fold
    return _found(
        paths.runs(), profile, bundle.fingerprint, bundle.task.kind, train, network, number
    )


@lru_cache(maxsize=4096)
def _tried(
    runs: Path,
    profile: str,
    fingerprint: str,
    task: str,
    train: int,
    network: str,
    method: str,
    fold: int,
) -> Recipe | None:
    """runs: as for ``_found``."""
    table = _known(fingerprint)
    same = (table["profile"] == profile) & (table["network"] == network)
    table = table[same & (table["method"] == method)]
    own = table[table["fingerprint"] == fingerprint]
    if not len(own):
        own, fold = _nearest(table, task, train), NO_FOLD
    if not len(own):
        return None
    return choose(own[own["fold"] == fold] if (own["fold"] == fold).any() else own)


def of_method(
    profile: str, bundle: Bundle, network: str, method: str, fold: int | None = None
) -> Recipe | None:
    """What a method's own trials over a network chose, on these data or the most similar; None without any."""
    train = len(bundle.rows("train"))
    number = NO_FOLD if fold is None else fold
    kind = bundle.task.kind
    return _tried(paths.runs(), profile, bundle.fingerprint, kind, train, network, method, number)


def forget() -> None:
    """Read the files again when they are next needed."""
    _read.cache_clear()
    _found.cache_clear()
    _tried.cache_clear()


def is_own(profile: str, bundle: Bundle) -> bool:
    """Whether recipes were searched on these very data."""
    table = _known(bundle.fingerprint)
    return bool(
        ((table["profile"] == profile) & (table["fingerprint"] == bundle.fingerprint)).any()
    )


def _nearest(table: pd.DataFrame, task: str, train: int) -> pd.DataFrame:
    """The trials on the data of the same task whose number of training utterances is nearest in ratio."""
    alike = table[table["task"] == task]
    alike = alike if len(alike) else table
    if not len(alike):
        return alike
    distance = np.abs(np.log(alike["train"].to_numpy(float) / max(1, train)))
    nearest = alike.iloc[int(np.argmin(distance))]["fingerprint"]
    return alike[alike["fingerprint"] == nearest]


def choose(tried: pd.DataFrame) -> Recipe:
    """The setting that is best on validation, with the fewest steps that lack at most ``WITHIN`` points of it.

    tried: trials of one network on some data; folds are averaged. A setting of which a run diverged has no value and
    is not chosen.
    """
    setting = ["lr", "weight_decay"]
    columns = [*setting, "steps", "valid"]
    known = tried[columns].fillna(-np.inf)
    means = known.groupby([*setting, "steps"], as_index=False).mean()
    best = means.iloc[int(means["valid"].to_numpy().argmax())]
    same = means[(means[setting] == best[setting]).all(axis=1)]
    enough = same[same["valid"] >= best["valid"] - WITHIN]
    names = tried["data"].iloc[0]
    return Recipe(
        float(best["lr"]), float(best["weight_decay"]), int(enough["steps"].min()), str(names)
    )
