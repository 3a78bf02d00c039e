"""The declaration of a paper, and the context of its runs: profile, data for its roles, store, results folder."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mmlib import paths
from mmlib.data.agreement import agrees
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_embedded, is_twin, open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.experiments import takes
from mmlib.experiments.profiles import FEW, Profile, in_short, of_many_modalities
from mmlib.experiments.profiles import profile as profile_of
from mmlib.experiments.roles import role_for
from mmlib.masks import Law, imbalanced, is_random
from mmlib.names import EMBEDDED, STUDY, TWINS, check_collection
from mmlib.report.artifact import Artifact
from mmlib.runs.compact import import_records
from mmlib.runs.spec import SELECTIONS, Options, RunSpec
from mmlib.runs.store import Record, Store

MOST_SEEDS = 1000
NO_ROLE = ""  # stands in data by role for data whose role a paper is to find itself
REAL = {
    "crema-d": "crema-d-votes"
}  # role to the embedded real data that fill it; twins fill the others
RESULTS = [
    "row",
    "setting",
    "seed",
    "fold",
    "selection",
    "metric",
    "value",
    "stale",
    "run_id",
    "data",
]


class Choice(NamedTuple):
    """A point that a paper leaves open, the reading taken here, and its rows of the ledger, or ``ours``."""

    obstacle: str
    reading: str
    ledger: str


@dataclass(frozen=True)
class Cell:
    """One run's place in a table or figure."""

    row: str
    """The row's name."""

    setting: str
    """The column, or the point of a curve; several runs of a row may share it."""

    spec: RunSpec
    """The run."""

    mask: str
    """Which of the run's test masks is meant."""

    dataset: str = ""
    """The data set as the published numbers have it."""


@dataclass(frozen=True)
class Paper:
    """A paper: its tables and figures, the data that they accept, and the text of its reports."""

    name: str
    """Its name in commands and folders."""

    called: str
    """Its name for readers."""

    title: str
    """The title of its notebook and reports."""

    notebook: str
    """Its notebook's file name."""

    roles: Mapping[str, str]
    """Data set name of the published numbers to role, in the paper's order."""

    accepts: Mapping[str, takes.Takes]
    """The data that it accepts, by data set; ``""`` is for all others."""

    backbones: tuple[str, ...]
    """Its backbones; figures that show a single backbone use the first."""

    artifacts: tuple[Artifact, ...]
    """Tables and figures, in the paper's order."""

    obstacles: tuple[Choice, ...]
    """What it leaves open, with the readings taken here."""

    left_out: str = ""
    """What of the paper is not reproduced, beside the printed rows that nothing declares."""

    guesses: str = ""
    """What we guessed because the paper does not say it."""

    offered: tuple[str, ...] | None = None
    """The values that ``--backbone`` accepts; None for any of its backbones."""

    only: str = ""
    """The only backbone, for the error message of a paper without a choice."""

    embedded: tuple[str, ...] = ()
    """The roles that embedded data fill; all if empty."""

    only_real: tuple[str, ...] = ()
    """Of these, the roles that embedded real data fill and no twin: the paper does not accept what the twin has."""

    carried: tuple[str, ...] = ()
    """Arrays that its committed records contain besides the predictions under the main mask."""

    rated: bool = False
    """Whether its settings have a missing rate for each modality, so that others can be given."""

    prepare: Callable[[Context], Context] = field(default=lambda context: context)
    """Changes a context for this paper: seeds on data with folds, captions about the profile."""

    def __reduce__(self) -> tuple[Callable[[str], Paper], tuple[str]]:
        """A paper is pickled by its name, because the functions that it declares cannot be pickled."""
        return paper_named, (self.name,)

    def defaults(self, profile: Profile) -> dict[str, str]:
        """Role to the embedded data that are used where none are given: real ones where there are, else a twin.

        A smoke run has small twins alone, since the real data would take minutes more.
        """
        real = {} if profile.name == "smoke" else REAL
        roles = self.embedded or tuple(self.roles.values())
        return {
            role: real.get(role, f"twin:{role}@{profile.size}")
            for role in roles
            if role in real or role not in self.only_real
        }

    def context(
        self,
        profile: str = "quick",
        data: Mapping[str, str] | None = None,
        backbone: str = "",
        label: str = "",
        seeds: int = 0,
        store: Store | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> Context:
        """A checked context of this paper.

        Args:
            profile: how much is run; one of ``PROFILES``.
            data: role to bundle. Where it names none, ``defaults`` fill them. A bundle under ``NO_ROLE`` fills the role
                of which this paper's own data are most like it.
            backbone: names with commas between, the main one first; all where empty.
            label: the collection's name, where that is not to follow from the data.
            seeds: of a table, 0 for the profile's.
            rates: missing rates by modality in the place of the paper's imbalanced ones.

        Raises:
            InputError: unknown profile, role, bundle or backbone; a seed count below 0 or above any use; a label that
                is no name; rates of other modalities than the data have, or of a paper without such rates.
            DataRefused: data that this paper does not take.
        """
        chosen = profile_of(profile)
        backbones = self._chosen(backbone)
        _check_seeds(seeds)
        own = set(data or {}) == {NO_ROLE}
        filled = self._filled(self._placed(dict(data or {})) or self.defaults(chosen))
        if label:
            check_collection("--label", label)
        runs = store or Store(paths.runs())
        own = own and not any(map(is_twin, filled.values()))
        given = tuple(sorted((rates or {}).items()))
        if any(len(open_bundle(d).modalities) > FEW for d in filled.values()):
            chosen = of_many_modalities(chosen)
        context = Context(self, chosen, filled, runs, backbones, label, seeds, own, given)
        self._check_data(context)
        self._check_rates(context)
        for part in sorted(context.folder.glob("records-*.jsonl.xz")):
            import_records(context.store, part)
        return _in_short(self.prepare(context)) if own else self.prepare(context)

    def _check_rates(self, context: Context) -> None:
        """Check that rates are given for a paper that has some, and for every modality of its data."""
        if not context.given_rates:
            return
        if not self.rated:
            raise InputError(
                "--rates",
                f"rates for {self.called}",
                "a paper with a missing rate for each modality",
                "Leave them out.",
            )
        for dataset in context.datasets:
            names = set(context.bundle(dataset).modalities)
            if names != set(dict(context.given_rates)):
                raise InputError(
                    "--rates",
                    f"rates of {', '.join(dict(context.given_rates))}",
                    f"one for each modality of {context.reference(dataset)}: {', '.join(sorted(names))}",
                    "Correct them; 0 for what is never missing.",
                )

    def _check_data(self, context: Context) -> None:
        """Check that the paper accepts a context's data, and that the collection's name fits them."""
        check_collection("the results' folder", context.collection)
        bundles = {name: context.bundle(name) for name in context.datasets}
        takes.check(self.called, self.roles, bundles, self.accepts)
        kept = {
            TWINS: (is_twin, "Only embedded synthetic data may be called twins."),
            STUDY: (is_twin, "Only embedded synthetic data may be called twins."),
            EMBEDDED: (is_embedded, "Only data that come with the repository may be called so."),
        }
        if context.label in kept:
            belongs, do = kept[context.label]
            if not all(map(belongs, context.data.values())):
                raise InputError("--label", context.label, "another name", do)

    def _chosen(self, backbone: str) -> tuple[str, ...]:
        """The backbones that ``--backbone`` names; all if it is empty."""
        everything = self.backbones
        if backbone in ("", ",".join(everything)):
            return everything
        if self.only:
            raise InputError("--backbone", backbone, self.only, "Leave it out.")
        names = tuple(backbone.split(","))
        for name in names:
            if name not in everything:
                raise unknown_name(f"--backbone of {self.name}", name, everything)
        if len(set(names)) < len(names):
            raise InputError("--backbone", ",".join(names), "one or more, each once", "Correct it.")
        return names

    def role_for(self, bundle: Bundle) -> str:
        """The role that data fill where none is named.

        Raises:
            DataRefused: none takes them.
        """
        return role_for(self.called, self.name, self.roles, self.accepts, bundle)

    def _placed(self, data: dict[str, str]) -> dict[str, str]:
        """Data by role, where they were given without one."""
        if set(data) != {NO_ROLE}:
            return data
        return {self.role_for(open_bundle(data[NO_ROLE])): data[NO_ROLE]}

    def _filled(self, data: dict[str, str]) -> dict[str, str]:
        """Data by role, checked."""
        for role, reference in data.items():
            if role not in self.roles.values():
                raise unknown_name("data role", role, self.roles.values())
            open_bundle(reference)
        return data


def _in_short(context: Context) -> Context:
    """The context with captions that say of the profile what holds of any data."""
    profile = dataclasses.replace(context.profile, reduced=in_short(context.profile))
    return dataclasses.replace(context, profile=profile)


def _check_seeds(count: int) -> None:
    if not 0 <= count <= MOST_SEEDS:
        raise InputError(
            "--seeds",
            str(count)[:40],
            f"1 to {MOST_SEEDS}, or 0 for the profile's",
            "Correct it.",
        )


def paper_named(name: str) -> Paper:
    """The paper that the package ``mmlib.papers.NAME`` declares."""
    declared: Paper = importlib.import_module(f"mmlib.papers.{name}").PAPER
    return declared


@dataclass(frozen=True)
class Context:
    """Everything that determines a paper's artifacts."""

    declared: Paper
    """The paper."""

    profile: Profile
    """The computing budget."""

    data: Mapping[str, str]
    """Role to bundle reference; roles without data are absent."""

    store: Store
    """The store of runs."""

    backbones: tuple[str, ...] = ("mmgcn",)
    """The backbones of the tables; figures that show a single backbone use the first."""

    label: str = ""
    """The collection's name, if it is not to follow from the data."""

    seed_count: int = 0
    """Seeds of a table; 0 for the profile's."""

    own: bool = False
    """Whether real data were given without a role: what is shown is then about these data, not about the paper's."""

    given_rates: tuple[tuple[str, float], ...] = ()
    """Missing rates by modality in the place of the paper's imbalanced ones; empty where none were given."""

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.declared.name

    @property
    def roles(self) -> Mapping[str, str]:
        """Data set as the published numbers have it, to the role that fills it."""
        return self.declared.roles

    @property
    def backbone(self) -> str:
        """The main backbone."""
        return self.backbones[0]

    @property
    def collection(self) -> str:
        """Name of the results' folder: the label, ``twins``, ``twins-study``, ``embedded`` or the bundle's name.

        Twins beside embedded real data are ``embedded``.
        """
        if self.label:
            return self.label
        references = list(self.data.values())
        real = sorted({open_bundle(d).name for d in references if not is_twin(d)})
        if not real:
            return STUDY if all(of.endswith("@study") for of in references) else TWINS
        mixed = any(map(is_twin, references)) and all(map(is_embedded, references))
        return EMBEDDED if mixed else "_".join(real)

    @property
    def datasets(self) -> list[str]:
        """Data set names that have data, in the paper's order."""
        return [name for name, role in self.roles.items() if role in self.data]

    @property
    def main(self) -> str:
        """The data set of the figures that the paper draws for one only: its first that has data."""
        return self.datasets[0]

    def reference(self, dataset: str) -> str:
        """The bundle reference of a data set."""
        return self.data[self.roles[dataset]]

    def bundle(self, dataset: str) -> Bundle:
        """The bundle of a data set."""
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
        return not is_twin(self.reference(dataset)) and agrees(
            self.bundle(dataset), self.roles[dataset], self.paper
        )

    def shows_printed(self, dataset: str) -> bool:
        """Whether tables have the rows that the paper prints; own data are shown by themselves."""
        return not self.own or self.is_papers(dataset)

    def seeds(
        self, dataset: str, grid: bool = False, backbone: str = "", main: bool = False
    ) -> range:
        """The seeds of a cell of a table, of a hyperparameter grid, or of the paper's main comparison."""
        if main:
            return range(self.seed_count or self.profile.main_seeds)
        most = self.profile.seeds if self.bundle(dataset).fold is None else self.profile.fold_seeds
        if backbone not in ("", self.backbone):
            most = min(most, self.profile.other_seeds)
        count = self.seed_count or most
        return range(min(count, self.profile.grid_seeds) if grid else count)

    def folds(self, dataset: str) -> Sequence[int | None]:
        """Fold numbers of a bundle with folds, else one None."""
        fold = self.bundle(dataset).fold
        return [None] if fold is None else list(range(int(fold.max()) + 1))

    def draws(self, tests: Iterable[tuple[str, Law]]) -> int:
        """How often the test masks of a run are drawn: once where none is random."""
        return self.profile.draws if any(is_random(law) for _, law in tests) else 1

    def specs(
        self,
        dataset: str,
        method: str,
        variant: str,
        train: Law,
        tests: Sequence[tuple[str, Law]],
        *,
        options: Options = (),
        keep: tuple[str, ...] = (),
        grid: bool = False,
        backbone: str = "",
        network: Options = (),
        modalities: tuple[str, ...] = (),
        **training: Any,
    ) -> list[RunSpec]:
        """One spec per seed and fold, at this profile's size and schedule."""
        chosen = backbone or self.backbone
        sizes = self._sizes(chosen, network)
        schedule = dataclasses.replace(self.profile.training_for(dataset, chosen), **training)
        return [
            RunSpec(
                self.reference(dataset),
                seed,
                method,
                variant,
                tuple(sorted(options)),
                chosen,
                sizes,
                modalities=modalities,
                fold=fold,
                train_mask=train,
                eval_masks=tuple(tests),
                training=schedule,
                keep=keep,
                draws=self.draws(tests),
            )
            for seed in self.seeds(dataset, grid, chosen)
            for fold in self.folds(dataset)
        ]

    def _sizes(self, backbone: str, network: Options) -> Options:
        """A backbone's options: those that give its size at this profile, and ``network``, which goes before them."""
        return tuple(
            sorted({**dict(self.profile.network.get(backbone, ())), **dict(network)}.items())
        )

    def stored(self, spec: RunSpec) -> tuple[Record | None, bool]:
        """A run's record, and whether other code made it."""
        return self.store.find(spec, self.bundle_fingerprint(spec.data))

    def record(self, spec: RunSpec) -> Record | None:
        """A run's record; None where it is not done."""
        return self.stored(spec)[0]

    def found(self, specs: Iterable[RunSpec]) -> dict[int, tuple[Record | None, bool]]:
        """``stored`` of some specs by their ``id``: cells of one run share its spec, and the store is asked once."""
        return {key: self.stored(spec) for key, spec in {id(s): s for s in specs}.items()}

    def rates(self, dataset: str, rates: Sequence[float], layout: str = "paper") -> Law:
        """BALM's operator at (r_A, r_L, r_V), given to this bundle's modalities.

        Modalities of other names get them in turn, in their order. Rates that were given by name take the place of
        any three that differ.
        """
        modalities = self.bundle(dataset).modalities
        named = dict(zip(("audio", "text", "vision"), rates, strict=True))
        if self.given_rates and len(set(rates)) == len(rates):
            named = dict(self.given_rates)
        elif not set(modalities) <= set(named):
            named = {m: rates[i % len(rates)] for i, m in enumerate(modalities)}
        return imbalanced({m: named[m] for m in modalities}, layout)  # type: ignore[arg-type]

    @property
    def folder(self) -> Path:
        """The folder of this paper's results in this collection."""
        return paths.figures() / self.collection / self.paper

    def results(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """Long results: row, setting, seed, fold, selection, metric, value, stale, run_id, data.

        Each metric's value is that of the epoch that the metric itself picks (``runs.execute``); of records that are
        older than that, of the epoch that weighted F1 picks.
        Runs that the store lacks are left out; the tables call them not built yet, or say how they failed
        (``failures.of_cells``).
        """
        lines = []
        wanted = list(cells)
        found = self.found(cell.spec for cell in wanted)
        for cell in wanted:
            record, stale = found[id(cell.spec)]
            if record is None:
                continue
            for selection in SELECTIONS:
                for metric, value in (
                    record["selected"][selection]["metrics"].get(cell.mask, {}).items()
                ):
                    lines.append(
                        {
                            "row": cell.row,
                            "setting": cell.setting,
                            "seed": cell.spec.seed,
                            "fold": cell.spec.fold,
                            "selection": selection,
                            "metric": metric,
                            "value": value,
                            "stale": stale,
                            "run_id": record.id,
                            "data": cell.spec.data,
                        }
                    )
        return pd.DataFrame(lines, columns=RESULTS)
