"""The search behind the recipes: as many trials for every network, on complete data, judged on validation.

``mmlib recipes`` runs it and writes ``recipes.csv`` and ``docs/recipes.md``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from mmlib import files
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_av_twin, is_twin, open_bundle, open_twin
from mmlib.experiments import recipes
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.profiles import Profile
from mmlib.experiments.recipes import COLUMNS, NO_FOLD
from mmlib.experiments.rows import Stage, with_parents
from mmlib.experiments.systems import SYSTEMS
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.masks import complete, draw
from mmlib.metrics import has_decisions
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Record, Store
from mmlib.runs.sweep import sweep

# Learning rate and weight decay: the trials of every network, by profile; few steps want larger rates.
SETTINGS = {
    "quick": ((3e-3, 1e-5), (1e-2, 1e-5), (2e-2, 1e-5), (1e-2, 1e-3)),
    "laptop": ((1e-3, 1e-5), (3e-3, 1e-5), (1e-2, 1e-5), (3e-3, 1e-3)),
}
STEPS = {"quick": (32, 64, 96), "laptop": (100, 200, 400)}
SEEDS = 3
METRIC = "weighted_f1"
SMALLEST = 1e-9  # of an error that others are divided by
MASK = "same"
AT_NETWORKS = "at its network's setting"
Key = tuple[str, str]  # a network and the method over it, empty for the network by itself


@dataclass(frozen=True)
class Network:
    """A network that is searched."""

    backbone: str
    """Its name."""

    takes: Takes
    """The data that it accepts."""

    method: str = "plain"
    """Whose task loss it is trained with."""

    stages: tuple[Stage, ...] = ()
    """How it is trained, where that is more than a task loss: each stage starts from the weights of the one before."""

    def stages_on(self, bundle: Bundle) -> tuple[Stage, ...]:
        """How it is trained on some data."""
        return self.stages or (Stage(self.method_on(bundle), self.backbone),)

    def method_on(self, bundle: Bundle) -> str:
        """Self-MM has a training of its own for scores."""
        if self.backbone == "selfmm" and bundle.task.kind == "score":
            return "selfmm"
        return self.method


_VECTORS, _FRAMES, _BOTH = Takes((VECTORS,)), Takes((SEQUENCES,)), Takes((VECTORS, SEQUENCES))
NETWORKS = (
    Network("mmgcn", _VECTORS),
    Network("gcnet", _VECTORS),
    Network("mmdfn", _VECTORS),
    Network("momke", _VECTORS),
    Network("crossmodal", _VECTORS),
    Network("concat", Takes((VECTORS,), tasks=("classes",))),
    Network("dream", _BOTH, "reference"),
    Network("corrkd", _BOTH, "reference"),
    Network("selfmm", _FRAMES, "reference"),
    Network("mlp", _FRAMES, "reference"),
    Network("momke_frames", _FRAMES),
    Network("gcnet_frames", _FRAMES, "reference"),
)
OF_SYSTEMS = tuple(Network(s.backbone, s.takes, stages=s.stages) for s in SYSTEMS)


def networks(bundle: Bundle, systems: bool = False) -> list[Network]:
    """The networks that take some data; with the comparison systems, where they are asked for.

    Self-MM on frames is both: a network of the papers, as which it is searched there, and a system.
    """
    chosen = (*NETWORKS, *OF_SYSTEMS) if systems else NETWORKS
    fitting = [network for network in chosen if network.takes.fits(bundle)]
    by_name = {network.backbone: network for network in reversed(fitting)}
    return [network for network in fitting if by_name[network.backbone] is network]


def folds(bundle: Bundle) -> Sequence[int | None]:
    """Fold numbers, or one None."""
    return [None] if bundle.fold is None else range(int(bundle.fold.max()) + 1)


def of_networks(
    profile: Profile, reference: str, chosen: Sequence[Network]
) -> dict[Key, list[RunSpec]]:
    """The trials of some networks, with the linear model's runs."""
    wanted = {(n.backbone, ""): specs(profile, reference, n) for n in chosen}
    return {**wanted, ("linear", ""): linear_specs(reference)}


def at_every_setting(profile: Profile, runs: Iterable[RunSpec], method: str) -> list[RunSpec]:
    """A method's runs with each learning rate and weight decay, in all of the stages that are its own."""
    return [_at(run, method, lr, decay) for lr, decay in SETTINGS[profile.name] for run in runs]


def _at(spec: RunSpec, method: str, lr: float, decay: float) -> RunSpec:
    parent = None if spec.parent is None else _at(spec.parent, method, lr, decay)
    training = spec.training
    if spec.method == method:
        training = dataclasses.replace(training, lr=lr, weight_decay=decay)
    return dataclasses.replace(spec, training=training, parent=parent)


def specs(profile: Profile, reference: str, network: Network) -> list[RunSpec]:
    """Every trial's runs, each long enough for the largest number of steps."""
    bundle = open_bundle(reference)
    whole = bundle if bundle.fold is None else bundle.with_fold(0)
    batch = recipes.whole_dialogues(recipes.UTTERANCES, bundle)
    epochs = math.ceil(max(STEPS[profile.name]) / recipes.steps_per_epoch(whole, batch))
    base = profile.training_for("default", network.backbone)
    return [
        of_stages(
            profile,
            reference,
            network.stages_on(bundle),
            dataclasses.replace(base, epochs=epochs, batch=batch, lr=lr, weight_decay=decay),
            fold,
            seed,
        )
        for lr, decay in SETTINGS[profile.name]
        for fold in folds(bundle)
        for seed in range(SEEDS)
    ]


def of_stages(
    profile: Profile,
    reference: str,
    stages: Sequence[Stage],
    training: Training,
    fold: int | None,
    seed: int,
) -> RunSpec:
    """The run of the last stage on complete data, which starts from those before."""
    first, *later = [
        RunSpec(
            reference,
            seed,
            stage.method,
            stage.variant,
            options=stage.options,
            backbone=stage.backbone,
            backbone_options=tuple(
                sorted((*profile.network.get(stage.backbone, ()), *stage.network))
            ),
            fold=fold,
            train_mask=complete(),
            eval_masks=((MASK, complete()),),
            training=training,
            keep=stage.keep,
        )
        for stage in stages
    ]
    for spec in later:
        first = dataclasses.replace(spec, parent=first)
    return first


def linear_specs(reference: str) -> list[RunSpec]:
    """The linear model's runs: one for each fold, since nothing in it is random."""
    bundle = open_bundle(reference)
    (stage,) = LINEAR.stages
    return [
        RunSpec(
            reference,
            0,
            stage.method,
            backbone=stage.backbone,
            fold=fold,
            train_mask=complete(),
            eval_masks=((MASK, complete()),),
            training=dataclasses.replace(Training(), **dict(stage.training)),
        )
        for fold in folds(bundle)
    ]


def lines(
    profile: Profile, store: Store, specs: Iterable[RunSpec], method: str = ""
) -> list[dict[str, object]]:
    """The trials of one network on some data, by itself or with a method, as lines of ``recipes.csv``."""
    groups: dict[tuple[int | None, float, float], list[RunSpec]] = {}
    for spec in specs:
        place = (spec.fold, spec.training.lr, spec.training.weight_decay)
        groups.setdefault(place, []).append(spec)
    return [
        line
        for (fold, lr, decay), runs in groups.items()
        for line in _of_setting(profile, store, fold, lr, decay, runs, method)
    ]


def _of_setting(
    profile: Profile,
    store: Store,
    fold: int | None,
    lr: float,
    decay: float,
    runs: Sequence[RunSpec],
    method: str,
) -> list[dict[str, object]]:
    bundle = open_bundle(runs[0].data)
    records = [store.find(spec, bundle.fingerprint)[0] for spec in runs]
    training = runs[0].training
    whole = bundle if bundle.fold is None else bundle.with_fold(0)
    per_epoch = recipes.steps_per_epoch(whole, training.batch)
    counts: tuple[int, ...] = STEPS[profile.name]
    if method:  # which has its network's number of steps, in so many epochs
        counts = (training.epochs * per_epoch,)
    elif runs[0].backbone == "linear":
        per_epoch, counts = 1, (training.epochs,)
    made = []
    of_fold = bundle if fold is None else bundle.with_fold(fold)
    for steps in counts:
        values = [_picked(of_fold, record, math.ceil(steps / per_epoch)) for record in records]
        valid, test = np.array(values, dtype=float).T
        made.append(
            {
                "profile": profile.name,
                "data": runs[0].data,
                "fingerprint": bundle.fingerprint,
                "task": bundle.task.kind,
                "train": len(bundle.rows("train")),
                "network": runs[0].backbone,
                "method": method,
                "fold": NO_FOLD if fold is None else fold,
                "lr": lr,
                "weight_decay": decay,
                "steps": steps,
                "runs": len(runs),
                "valid": round(float(valid.mean()), 3),
                "valid_sd": round(float(valid.std(ddof=1)), 3) if len(runs) > 1 else 0.0,
                "test": round(float(test.mean()), 3),
                "test_sd": round(float(test.std(ddof=1)), 3) if len(runs) > 1 else 0.0,
            }
        )
    return made


def _picked(bundle: Bundle, record: Record | None, epochs: int) -> tuple[float, float]:
    """Validation and test at the epoch that validation picks among the first ones; NaN where the run failed."""
    if record is None:
        return math.nan, math.nan
    valid = _reaches(bundle, "valid", record["curves"]["valid"])[:epochs]
    best = int(np.argmax(valid))
    (first, *_) = record["curves"]["test"]
    return float(valid[best]), float(
        _reaches(bundle, "test", record["curves"]["test"][first])[best]
    )


def _reaches(bundle: Bundle, split: str, curve: Mapping[str, Sequence[float]]) -> np.ndarray:
    """What trials are judged by, after each epoch, in percent.

    Weighted F1; of scores without a sign, by how much the error is smaller than that of always answering the median of
    training. curve: metric to its values, as a record has them.
    """
    if has_decisions(bundle.task):
        return np.asarray(curve[METRIC])
    median = np.median(bundle.labels[bundle.rows("train")])
    constant = np.abs(bundle.labels[bundle.rows(split)] - median).mean()
    return 100 * (1 - np.asarray(curve["mae"]) / max(float(constant), SMALLEST))


def search(
    profile: Profile,
    reference: str,
    wanted: Mapping[Key, Sequence[RunSpec]],
    store: Store,
    jobs: int | None = None,
    max_minutes: float | None = None,
) -> bool:
    """Make some trials on some data, and write those that are whole into ``recipes.csv``.

    wanted: by network and method. Returns whether all of them are; where time ran out, the same call goes on.
    """
    every = with_parents(spec for runs in wanted.values() for spec in runs)
    report = sweep(every, store, jobs=jobs, max_minutes=max_minutes, title=f"recipes, {reference}")
    failed = {failure.id for failure in store.failures()}
    fingerprint = open_bundle(reference).fingerprint
    whole = {
        key: runs
        for key, runs in wanted.items()
        if all(
            store.find(spec, fingerprint)[0] or spec.run_id(fingerprint) in failed for spec in runs
        )
    }
    made = [
        line for (_, method), runs in whole.items() for line in lines(profile, store, runs, method)
    ]
    if made:
        write(profile, reference, made)
    return report.left == 0 and len(whole) == len(wanted)


def write(profile: Profile, reference: str, made: Sequence[dict[str, object]]) -> None:
    """Put the trials on some data into their file, in the place of those that it has for the same networks.

    The file is read again first, since another process may have searched other data meanwhile.
    """
    file = recipes.file_of(reference)
    with files.locked(file):
        recipes.forget()
        text = _with_trials(recipes.trials_of(reference), profile, reference, made)
        files.write(file, text.encode())
    recipes.forget()


def _with_trials(
    table: pd.DataFrame, profile: Profile, reference: str, made: Sequence[dict[str, object]]
) -> str:
    """The file's text with new trials."""
    new = pd.DataFrame(made, columns=[*COLUMNS])
    pairs = pd.MultiIndex.from_frame(table[["network", "method"]])
    replaced = (
        (table["profile"] == profile.name)
        & (table["data"] == reference)
        & pairs.isin(pd.MultiIndex.from_frame(new[["network", "method"]]))
    )
    order = ["profile", "data", "method", "network", "fold", "lr", "weight_decay", "steps"]
    both = pd.concat([part for part in (table[~replaced], new) if len(part)], ignore_index=True)
    return both.sort_values(order).to_csv(index=False, lineterminator="\n")


def summary(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Of trials, a line for each network and data set: its recipe, and what it reaches beside the linear model.

    table: as ``recipes.trials`` gives it, which is taken where none is given, as in the last notebook.
    Columns profile, data, network, steps, learning rate, weight decay, validation, test, both of the linear model,
    best possible (of twins), and "last steps": what the largest number of steps gained over the second largest.
    """
    table = recipes.trials() if table is None else table
    table = table[table["method"] == ""]
    made = []
    for (profile, data), group in table.groupby(["profile", "data"], sort=False):
        linear = group[group["network"] == "linear"]
        for network, tried in group[group["network"] != "linear"].groupby("network", sort=False):
            made.append(_summary_line(str(profile), str(data), str(network), tried, linear))
    return pd.DataFrame(made)


def _summary_line(
    profile: str, data: str, network: str, tried: pd.DataFrame, linear: pd.DataFrame
) -> dict[str, object]:
    by_fold = {fold: recipes.choose(of_fold) for fold, of_fold in tried.groupby("fold")}
    steps = max(recipe.steps for recipe in by_fold.values())
    reached = [
        tried[
            (tried["fold"] == fold)
            & (tried["lr"] == recipe.lr)
            & (tried["weight_decay"] == recipe.weight_decay)
            & (tried["steps"] == steps)
        ]
        for fold, recipe in by_fold.items()
    ]
    chosen = pd.concat(reached)
    gains = [_last_gain(of_fold, by_fold[fold]) for fold, of_fold in tried.groupby("fold")]
    return {
        "profile": profile,
        "data": data,
        "network": network,
        "steps": steps,
        "learning rate": _listed(r.lr for r in by_fold.values()),
        "weight decay": _listed(r.weight_decay for r in by_fold.values()),
        "validation": chosen["valid"].mean(),
        "linear, validation": linear["valid"].mean(),
        "test": chosen["test"].mean(),
        "linear, test": linear["test"].mean(),
        "best possible": best_possible(data),
        "last steps": float(np.mean(gains)),
    }


def methods_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of trials, a line for each method: its setting, and what it reaches with it and with its network's.

    Columns profile, data, method, network, steps of the last stage, learning rate, weight decay, validation, that at
    its network's, test.
    """
    made = []
    groups = ["profile", "data", "method", "network"]
    for (profile, data, method, network), tried in table[table["method"] != ""].groupby(groups):
        alike = (table["profile"] == profile) & (table["data"] == data)
        alone = table[alike & (table["network"] == network) & (table["method"] == "")]
        chosen, own = [], []
        for fold, of_fold in tried.groupby("fold"):
            chosen.append(_reached(of_fold, recipes.choose(of_fold)))
            if len(alone):  # else the network was not searched on these data
                own.append(_reached(of_fold, recipes.choose(_of_fold(alone, fold))))
        best = pd.concat(chosen)
        made.append(
            {
                "profile": profile,
                "data": data,
                "method": method,
                "network": network,
                "steps": _listed(best["steps"]),
                "learning rate": _listed(best["lr"]),
                "weight decay": _listed(best["weight_decay"]),
                "validation": best["valid"].mean(),
                AT_NETWORKS: pd.concat(own)["valid"].mean() if own else math.nan,
                "test": best["test"].mean(),
            }
        )
    return pd.DataFrame(made)


def _listed(values: Iterable[float]) -> str:
    return " or ".join(dict.fromkeys(f"{value:g}" for value in values))


def _of_fold(tried: pd.DataFrame, fold: object) -> pd.DataFrame:
    return tried[tried["fold"] == fold] if (tried["fold"] == fold).any() else tried


def _reached(tried: pd.DataFrame, recipe: recipes.Recipe) -> pd.DataFrame:
    """The trials at a setting."""
    return tried[(tried["lr"] == recipe.lr) & (tried["weight_decay"] == recipe.weight_decay)]


def _last_gain(tried: pd.DataFrame, recipe: recipes.Recipe) -> float:
    """Points on validation between the two largest numbers of steps, at a recipe's setting."""
    same = (tried["lr"] == recipe.lr) & (tried["weight_decay"] == recipe.weight_decay)
    valid = tried[same].set_index("steps")["valid"].sort_index()
    return float(valid.iloc[-1] - valid.iloc[-2])


@lru_cache(maxsize=64)  # every network of a data set stands beside it
def best_possible(reference: str) -> float:
    """Of a twin, the best weighted F1 on complete test data, folds averaged; NaN for others."""
    if not is_twin(reference) or is_av_twin(reference):
        return math.nan
    twin = open_twin(reference)
    values = []
    for fold in folds(twin.bundle):
        of_fold = twin if fold is None else twin.with_fold(fold)
        mask = draw(complete(), of_fold.bundle, "test", 0)
        values.append(of_fold.best("test", mask.utterance, METRIC)[1])
    return float(np.mean(values))
