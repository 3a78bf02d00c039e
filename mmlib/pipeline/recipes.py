"""`mmlib recipes`: search the recipes of some data, and write the page that shows all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.experiments import recipes, search
from mmlib.experiments.profiles import Profile, profile
from mmlib.experiments.search import NETWORKS, Network
from mmlib.runs.store import Store

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
any choice. A method over a network has that network's recipe.

*Linear* is logistic regression, or ridge regression of a score, on the standardised features, its strength chosen on
validation too. A network that stays more than {BELOW:g} point below it on validation is marked: *still gaining* where
the last steps brought more than {recipes.WITHIN:g} points, so that more steps would bring more; else *levelled off*: it
does not suit so few data at these settings. Comparisons on a marked network say little about methods.
*Best possible* is known of twins alone. All numbers are weighted F1 in %, means over seeds and folds.

`mmlib recipes DATA --profile PROFILE` repeats a search; every trial is in `mmlib/experiments/recipes.csv`. Other data
use the recipes of the searched data with the same task and the most similar number of training utterances.
"""


def search_all(
    data: Sequence[str],
    profile_name: str,
    wanted: Sequence[str],
    jobs: int | None,
    max_minutes: float | None,
) -> int:
    """Search on each of some data in turn; 0 when all trials are made, 1 where time ran out."""
    chosen = _searched_profile(profile_name)
    groups = {reference: _networks(reference, wanted) for reference in data}
    store = Store(paths.runs())
    end = time.monotonic() + 60 * max_minutes if max_minutes is not None else None
    whole = True
    for reference, networks in groups.items():
        left = None if end is None else (end - time.monotonic()) / 60
        if left is not None and left <= 0:
            whole = False
            break
        whole &= search.search(chosen, reference, networks, store, jobs, left)
        write_page()
    print(shown())
    if not whole:
        print("Some trials are not made yet: the same command goes on.", file=sys.stderr)
    return int(not whole)


def _searched_profile(name: str) -> Profile:
    chosen = profile(name)
    if not chosen.searched:
        raise InputError("--profile", name, "quick or laptop", "Other profiles have fixed budgets.")
    return chosen


def _networks(reference: str, wanted: Sequence[str]) -> list[Network]:
    """The networks that take some data, or those of them that are wanted."""
    known = [network.backbone for network in NETWORKS]
    for name in wanted:
        if name not in known:
            raise unknown_name("--network", name, known)
    fitting = search.networks(open_bundle(reference))
    chosen = [n for n in fitting if not wanted or n.backbone in wanted]
    if not chosen:
        raise InputError(
            reference, "data that none of these networks takes", "others", "Choose other networks."
        )
    return chosen


def shown() -> str:
    """All recipes as text."""
    table = search.summary()
    return "no recipes yet" if table.empty else rounded(table).to_string(index=False)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The summary with readable numbers, and a mark where a network stays below the linear model."""
    percent = ["validation", "linear, validation", "test", "linear, test", "best possible"]
    texts = {
        name: table[name].map(lambda value: "" if pd.isna(value) else f"{value:.1f}")
        for name in percent
    }
    below = table["validation"] < table["linear, validation"] - BELOW
    gaining = table["last steps"] > recipes.WITHIN
    marks = np.where(gaining, "below, still gaining", "below, levelled off")
    shown = table.assign(**texts, **{"against linear": np.where(below, marks, "")})
    return shown.drop(columns="last steps")


def write_page() -> None:
    """Write ``docs/recipes.md``."""
    folder = paths.root() / "docs"
    summary = search.summary()
    if summary.empty or not folder.is_dir():
        return
    table = rounded(summary)
    parts = [TITLE]
    for name, group in table.groupby("profile", sort=False):
        parts.append(
            f"## {name}\n\n{group.drop(columns='profile').to_markdown(index=False, disable_numparse=True)}\n"
        )
    (folder / PAGE).write_text("\n".join(parts), encoding="utf-8")
