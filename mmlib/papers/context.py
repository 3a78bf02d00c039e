"""What a notebook works in: a paper, a profile, data for its roles, a store, and where results go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.backbones import BACKBONES
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_twin, open_bundle
from mmlib.data.check import agrees
from mmlib.errors import InputError, unknown_name
from mmlib.masks import Law, imbalanced
from mmlib.names import check_collection
from mmlib.papers import takes
from mmlib.papers.profiles import Profile, profile
from mmlib.report.tables import TWINS
from mmlib.runs.compact import import_records
from mmlib.runs.execute import SELECTIONS
from mmlib.runs.spec import Options, RunSpec
from mmlib.runs.store import Store

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Cell:
    """One run's place in a table or figure: its row, its setting, and which test mask is meant."""

    row: str
    setting: str
    spec: RunSpec
    mask: str

    def __post_init__(self) -> None:
        cells = _NAMED.get()
        if cells is not None:
            cells.append(self)


_NAMED: ContextVar[list[Cell] | None] = ContextVar("cells being named", default=None)


@contextmanager
def named_cells() -> Iterator[list[Cell]]:
    """The cells that are made inside: which rows and settings the runs stand for that a paper lists meanwhile."""
    cells: list[Cell] = []
    before = _NAMED.set(cells)
    try:
        yield cells
    finally:
        _NAMED.reset(before)


@dataclass(frozen=True)
class Context:
    """Everything that decides what a paper's artifacts are made of.

    backbones: those of the tables; the first is that of what is shown for one backbone.

    roles: data set name as the published numbers have it, to the role that fills it.
    data: role to bundle reference; a role without data is absent.
    """

    paper: str
    profile: Profile
    roles: Mapping[str, str]
    data: Mapping[str, str]
    store: Store
    backbones: tuple[str, ...] = ("mmgcn",)
    label: str = ""
    seed_count: int = 0

    @property
    def backbone(self) -> str:
        """The main backbone."""
        return self.backbones[0]

    @property
    def collection(self) -> str:
        """Name of the results' folder: ``twins``, the bundle's name, or the label."""
        if self.label:
            return self.label
        real = sorted({open_bundle(d).name for d in self.data.values() if not is_twin(d)})
        return "_".join(real) if real else TWINS

    @property
    def datasets(self) -> list[str]:
        """Data set names that have data, in the paper's order."""
        return [name for name, role in self.roles.items() if role in self.data]

    @property
    def main(self) -> str:
        """The data set of the figures that the paper draws for one only: its first that has data."""
        return self.datasets[0]

    def reference(self, dataset: str) -> str:
        """The bundle reference that stands for a data set."""
        return self.data[self.roles[dataset]]

    def bundle(self, dataset: str) -> Bundle:
        """The bundle that stands for a data set."""
        return open_bundle(self.reference(dataset))

    def has_dialogues(self, dataset: str) -> bool:
        """Whether any dialogue has two utterances."""
        bundle = self.bundle(dataset)
        return len(np.unique(bundle.dialogue)) < len(bundle)

    @staticmethod
    def bundle_fingerprint(reference: str) -> str:
        """The fingerprint of a reference's bundle."""
        return open_bundle(reference).fingerprint

    def is_papers(self, dataset: str) -> bool:
        """Whether a bundle has the counts and dims of the data that this paper used."""
        return not is_twin(self.reference(dataset)) and agrees(self.bundle(dataset), self.roles[dataset], self.paper)

    def seeds(self, dataset: str, grid: bool = False, backbone: str = "") -> range:
        """Seeds of a table's cell, or of a grid's."""
        most = self.profile.seeds if self.bundle(dataset).fold is None else self.profile.fold_seeds
        if backbone not in ("", self.backbone):
            most = min(most, self.profile.other_seeds)
        count = self.seed_count or most
        return range(min(count, self.profile.grid_seeds) if grid else count)

    def folds(self, dataset: str) -> Sequence[int | None]:
        """Fold numbers of a bundle with folds, else one None."""
        fold = self.bundle(dataset).fold
        return [None] if fold is None else list(range(int(fold.max()) + 1))

    def specs(self, dataset: str, method: str, variant: str, train: Law, tests: Iterable[tuple[str, Law]], *,
              options: Options = (), keep: tuple[str, ...] = (), grid: bool = False,
              backbone: str = "", network: Options = (), modalities: tuple[str, ...] = (),
              **training: Any) -> list[RunSpec]:
        """One spec per seed and fold, at this profile's size and schedule."""
        chosen = backbone or self.backbone
        sizes = tuple(sorted({**dict(self.profile.network.get(chosen, ())), **dict(network)}.items()))
        schedule = dataclasses.replace(self.profile.training_for(dataset, chosen), **training)
        return [
            RunSpec(self.reference(dataset), seed, method, variant, tuple(sorted(options)), chosen, sizes,
                    modalities=modalities, fold=fold, train_mask=train, eval_masks=tuple(tests), training=schedule,
                    keep=keep)
            for seed in self.seeds(dataset, grid, chosen) for fold in self.folds(dataset)
        ]

    def rates(self, dataset: str, rates: Sequence[float], layout: str = "paper") -> Law:
        """BALM's operator at (r_A, r_L, r_V), given to this bundle's modalities."""
        modalities = self.bundle(dataset).modalities
        named = dict(zip(("audio", "text", "vision"), rates, strict=True))
        if not set(modalities) <= set(named):
            named = {m: rates[i % len(rates)] for i, m in enumerate(modalities)}
        return imbalanced({m: named[m] for m in modalities}, layout)  # type: ignore[arg-type]

    @property
    def folder(self) -> Path:
        """Where this paper's results on this collection stand."""
        return paths.figures() / self.collection / self.paper

    def results(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """Long results: row, setting, seed, fold, selection, metric, value, stale, run_id, data.

        Runs that the store lacks are left out; the tables call them not built yet, or say how they failed
        (``failures.of_cells``).
        """
        lines = []
        for cell in cells:
            record, stale = self.store.find(cell.spec, open_bundle(cell.spec.data).fingerprint)
            if record is None:
                continue
            for selection in SELECTIONS:
                for metric, value in record["selected"][selection]["metrics"].get(cell.mask, {}).items():
                    lines.append({"row": cell.row, "setting": cell.setting, "seed": cell.spec.seed,
                                  "fold": cell.spec.fold, "selection": selection, "metric": metric, "value": value,
                                  "stale": stale, "run_id": record.id, "data": cell.spec.data})
        columns = ["row", "setting", "seed", "fold", "selection", "metric", "value", "stale", "run_id", "data"]
        return pd.DataFrame(lines, columns=columns)


def make_context(paper: str, roles: Mapping[str, str], *, profile_name: str = "quick",
                 data: Mapping[str, str] | None = None, backbones: Sequence[str] = ("mmgcn",), label: str = "",
                 seeds: int = 0, store: Store | None = None,
                 accepts: Mapping[str, takes.Takes] | None = None) -> Context:
    """A checked context. Roles that ``data`` does not name are filled by twins, unless it names any.

    accepts: what data the paper takes, by data set; ``""`` is that of the others.

    Raises:
        InputError: unknown profile, role, bundle or backbone; a seed count below 0 or above any use; a label that is
            no name.
        DataRefused: data that this paper does not take.
    """
    chosen = profile(profile_name)
    for name in backbones:
        if name not in BACKBONES:
            raise unknown_name("backbone", name, BACKBONES)
    if len(set(backbones)) < max(1, len(backbones)):
        raise InputError("--backbone", ",".join(backbones) or "none", "one or more, each once", "Correct it.")
    if not 0 <= seeds <= MOST_SEEDS:
        raise InputError("--seeds", str(seeds)[:40], f"1 to {MOST_SEEDS}, or 0 for the profile's", "Correct it.")
    given = dict(data or {})
    for role in given:
        if role not in roles.values():
            raise unknown_name("data role", role, roles.values())
    filled = given or {role: f"twin:{role}@{chosen.size}" for role in roles.values()}
    if label:
        check_collection("--label", label)
    for reference in filled.values():
        open_bundle(reference)
    context = Context(paper, chosen, roles, filled, store or Store(paths.runs()), tuple(backbones), label, seeds)
    check_collection("the results' folder", context.collection)
    if accepts:
        takes.check(paper, roles, {name: context.bundle(name) for name in context.datasets}, accepts)
    if label == TWINS and not all(is_twin(d) for d in filled.values()):
        raise InputError("--label", label, "another name", "Only embedded data may be called twins.")
    for part in sorted(context.folder.glob("records-*.jsonl.gz")):
        import_records(context.store, part)
    return context
