"""`mmlib recipes`: search the recipes of some data, and write the page that shows all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.experiments import recipes, search
from mmlib.experiments.profiles import Profile, profile
from mmlib.experiments.rows import with_parents
from mmlib.experiments.search import NETWORKS, OF_SYSTEMS, Key, Network
from mmlib.pipeline import trials
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store
from mmlib.runs.sweep import estimate
from mmlib.runs.timing import Range

PAGE = "recipes.md"
BELOW = 1.0  # points under the linear model, on validation, from which a network is marked
SETTINGS = "\n".join(
    f"| {name} | "
    + "; ".join(f"{lr:g}, {decay:g}" for lr, decay in settings)
    + f" | {', '.join(map(str, search.STEPS[name]))} |"
    for name, settings in search.SETTINGS.items()
)
TITLE = f"""# Recipes

How each network is trained at the profiles `quick` and `laptop`, found by a search on validation. On each data set
every network has the same trials, with {search.SEEDS} seeds each (for each fold, where the data have folds), on
complete data, in steps of about {recipes.UTTERANCES} utterances in whole dialogues:

| profile | learning rate, weight decay | steps, at least |
|:--|:--|:--|
{SETTINGS}

Chosen is the setting with the best weighted F1 on validation, with the fewest steps that lack at most
{recipes.WITHIN:g} points of it. Training takes whole epochs, so it has at least so many steps. On data with folds,
each fold chooses its learning rate on its own validation; all folds have as many steps. Test results take no part in
any choice.

A method over a network has as many trials of its learning rate and weight decay, trained and validated under mixed
combinations of modalities; the last table shows what they chose. Each stage of a trial has as many steps as the
network, as in the papers' tables. Where the last table shows fewer, the trials are of an earlier search, which
halved the stages of two-stage methods; few steps favour large rates. A network keeps the setting that is best on
complete data. Where modalities are missing this favours the method, by at most what its trials gained over the
network's setting on validation: read a small advantage of a method with that in mind.

The best mean on validation decides, also between settings that the seeds do not separate, and a difference of less
than a point can hang on such a choice. The claims "(ours) at its network's learning rate" show how much: there a
method is trained by its network's recipe.

*Linear* is logistic regression, or ridge regression of a score, on the standardised features, its strength chosen on
validation too. A network that stays more than {BELOW:g} point below it on validation is marked: *still gaining* where
the last steps brought more than {recipes.WITHIN:g} points, so that more steps would bring more; else *levelled off*: it
does not suit so few data at these settings. Comparisons on a marked network say little about methods.
*Best possible* is known of twins alone. All numbers are weighted F1 in %, means over seeds and folds.

`mmlib recipes DATA --profile PROFILE` repeats a search; every trial is in `mmlib/experiments/recipes.csv`, those
on your own data in `runs/recipes.csv`. Data that were not searched use the recipes of the searched data with the same
task and the most similar number of training utterances. A method without trials on the data that its network's recipe
is from is trained by the network's recipe.
"""


@dataclass(frozen=True)
class Wanted:
    """What is searched: everything that takes the data where both are empty."""

    networks: tuple[str, ...] = ()
    """Names of networks."""

    methods: tuple[str, ...] = ()
    """Names of methods."""

    systems: bool = False
    """Whether the comparison systems of the papers' tables are among the networks."""


def search_all(
    data: Sequence[str],
    profile_name: str,
    wanted: Wanted,
    jobs: int | None,
    max_minutes: float | None,
    quiet: bool = False,
) -> int:
    """Search on each of some data in turn; 0 when all trials are made, 1 where time ran out.

    quiet: do not print the recipes at the end.
    """
    chosen = _searched_profile(profile_name)
    groups = {reference: _parts(chosen, reference, wanted) for reference in data}
    store = Store(paths.runs())
    end = time.monotonic() + 60 * max_minutes if max_minutes is not None else None
    whole = True
    for reference, part in ((r, part) for r, parts in groups.items() for part in parts):
        left = None if end is None else (end - time.monotonic()) / 60
        if left is not None and left <= 0:
            whole = False
            break
        whole &= search.search(chosen, reference, part(), store, jobs, left)
        write_page()
    if not quiet:
        print(shown(data))
    if not whole:
        print("Some trials are not made yet: the same command goes on.", file=sys.stderr)
    return int(not whole)


def expected(profile_name: str, reference: str, wanted: Wanted, jobs: int | None) -> Range:
    """How long the trials on some data that are not made yet will take.

    Methods' trials are counted with their networks' present recipes.
    """
    chosen = _searched_profile(profile_name)
    groups = [part() for part in _parts(chosen, reference, wanted)]
    every = with_parents(spec for group in groups for runs in group.values() for spec in runs)
    return estimate(every, Store(paths.runs()), jobs=jobs).time


def lacking(profile_name: str, reference: str, systems: bool = False) -> set[Key]:
    """The networks and methods that take some data and have no trials on them yet."""
    chosen, bundle = _searched_profile(profile_name), open_bundle(reference)
    wanted = {(network.backbone, "") for network in search.networks(bundle, systems)}
    wanted |= set(trials.of_methods(chosen, reference))
    done = {method: recipes.searched(profile_name, bundle, method) for _, method in wanted}
    return {(network, method) for network, method in wanted if network not in done[method]}


def _searched_profile(name: str) -> Profile:
    chosen = profile(name)
    if not chosen.searched:
        raise InputError("--profile", name, "quick or laptop", "Other profiles have fixed budgets.")
    return chosen


def _parts(
    chosen: Profile, reference: str, wanted: Wanted
) -> list[Callable[[], Mapping[Key, Sequence[RunSpec]]]]:
    """The trials on some data, to be made in turn: those of methods start from what networks' trials chose."""
    parts: list[Callable[[], Mapping[Key, Sequence[RunSpec]]]] = []
    if wanted.networks or not wanted.methods:
        networks = _networks(reference, wanted)
        parts.append(partial(search.of_networks, chosen, reference, networks))
    if wanted.methods or not wanted.networks:
        parts.append(partial(_methods, chosen, reference, wanted.methods))
    return parts


def _methods(
    chosen: Profile, reference: str, wanted: Sequence[str]
) -> Mapping[Key, Sequence[RunSpec]]:
    """The trials of methods that take some data, or of those of them that are wanted."""
    every = trials.of_methods(chosen, reference)
    known = dict.fromkeys(method for _, method in every)
    for name in wanted:
        if name not in known:
            raise unknown_name("--method", name, known)
    return {key: runs for key, runs in every.items() if not wanted or key[1] in wanted}


def _networks(reference: str, wanted: Wanted) -> list[Network]:
    """The networks that take some data, or those of them that are wanted; systems where they are named or asked for."""
    names = wanted.networks
    known = [network.backbone for network in (*NETWORKS, *OF_SYSTEMS)]
    for name in names:
        if name not in known:
            raise unknown_name("--network", name, known)
    fitting = search.networks(open_bundle(reference), systems=bool(names) or wanted.systems)
    chosen = [n for n in fitting if not names or n.backbone in names]
    if not chosen:
        raise InputError(
            reference, "data that none of these networks takes", "others", "Choose other networks."
        )
    return chosen


def shown(data: Sequence[str] = ()) -> str:
    """The recipes as text: on some data, or all that there are."""
    tried = recipes.every_trial()
    if data:
        tried = tried[tried["data"].isin(list(data))]
    if tried.empty:
        return "no recipes yet"
    parts = [rounded(search.summary(tried)), rounded_methods(search.methods_summary(tried))]
    return "\n\n".join(part.to_string(index=False) for part in parts if len(part))


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The summary with readable numbers, and a mark where a network stays below the linear model."""
    percent = ["validation", "linear, validation", "test", "linear, test", "best possible"]
    texts = {name: table[name].map(_one_decimal) for name in percent}
    below = table["validation"] < table["linear, validation"] - BELOW
    gaining = table["last steps"] > recipes.WITHIN
    marks = np.where(gaining, "below, still gaining", "below, levelled off")
    shown = table.assign(**texts, **{"against linear": np.where(below, marks, "")})
    return shown.drop(columns="last steps")


def _one_decimal(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"


def rounded_methods(table: pd.DataFrame) -> pd.DataFrame:
    """The summary of methods with readable numbers."""
    if table.empty:
        return table
    percent = ["validation", search.AT_NETWORKS, "test"]
    return table.assign(**{name: table[name].map(_one_decimal) for name in percent})


def write_page() -> None:
    """Write ``docs/recipes.md``: the recipes of the project's data."""
    folder = paths.root() / "docs"
    summary = search.summary(recipes.trials())
    if summary.empty or not folder.is_dir():
        return
    table = rounded(summary)
    parts = [TITLE]
    methods = rounded_methods(search.methods_summary(recipes.trials()))
    for name, group in table.groupby("profile", sort=False):
        parts.append(f"## {name}\n\n{_markdown(group)}\n")
        if len(methods) and (methods["profile"] == name).any():
            of_profile = methods[methods["profile"] == name]
            parts.append(f"### {name}: methods\n\n{_markdown(of_profile)}\n")
    (folder / PAGE).write_text("\n".join(parts), encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    """A profile's part of a table."""
    return str(table.drop(columns="profile").to_markdown(index=False, disable_numparse=True))
