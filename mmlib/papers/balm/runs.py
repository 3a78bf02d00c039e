"""Which runs make which of BALM's tables and figures (ledger 1.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlib.data.catalog import is_twin
from mmlib.experiments.context import Cell, Context
from mmlib.masks import Law, complete, subset
from mmlib.runs.spec import Options, RunSpec

Rates = tuple[float, float, float]
SETTINGS: tuple[Rates, ...] = (
    (0.3, 0.5, 0.7), (0.3, 0.7, 0.5), (0.5, 0.3, 0.7), (0.5, 0.7, 0.3), (0.7, 0.3, 0.5), (0.7, 0.5, 0.3),
)
SEVERE: tuple[Rates, ...] = (
    (0.1, 0.1, 0.9), (0.1, 0.9, 0.1), (0.9, 0.1, 0.1), (0.6, 0.6, 0.9), (0.6, 0.9, 0.6), (0.9, 0.6, 0.6),
)
COMBINED: tuple[Rates, ...] = (  # Tables 8 and 9
    (0.5, 0.5, 0.7), (0.5, 0.7, 0.5), (0.7, 0.5, 0.5), (0.3, 0.5, 0.7), (0.5, 0.3, 0.7), (0.7, 0.5, 0.3),
)
FOCUS: Rates = (0.5, 0.7, 0.3)
CONFIG_A: Rates = (0.5, 0.3, 0.7)
COMPLETE: Rates = (0.0, 0.0, 0.0)
ROLES = {"iemocap": "iemocap6", "mosei": "mosei"}
BACKBONES = ("mmgcn", "gcnet", "mmdfn")  # the first is that of the figures and controls drawn for one backbone
NAMES = {"mmgcn": "MMGCN", "gcnet": "GCNet", "mmdfn": "MMDFN"}  # as the paper writes them
TAU_RHO: Options = (("rho", 1.4), ("tau", 0.4))
FOCAL: Options = (("class_weights", "unnormalised"), ("focal", 0.5))  # MM-DFN's own loss for classes (D14)
# SGD is a control of ours; a squared error's gradients are larger than a cross-entropy's and diverge at 0.1.
SGD_RATES = {"classes": 0.1, "binaries": 0.1, "score": 0.01}
LETTERS = {"audio": "A", "vision": "V", "text": "L"}


@dataclass(frozen=True)
class Row:
    """One row of a table: a name, a backbone, a method's variant, and what differs from their defaults."""

    name: str
    backbone: str
    method: str = "plain"
    variant: str = "paper"
    options: Options = ()
    network: Options = ()
    optimizer: str = "adam"


def plain(backbone: str) -> Row:
    """The backbone alone."""
    return Row(NAMES.get(backbone, backbone), backbone)


def balm(backbone: str, variant: str = "paper", suffix: str = "BALM") -> Row:
    """A variant of BALM over a backbone."""
    return Row(f"{NAMES.get(backbone, backbone)}+{suffix}", backbone, "balm", variant)


def label(rates: Rates) -> str:
    """A setting as the published numbers write it: r_A/r_L/r_V."""
    return "complete" if rates == COMPLETE else "/".join(f"{r:g}" for r in rates)


def backbone_name(context: Context) -> str:
    """The main backbone as the paper writes it."""
    return NAMES.get(context.backbone, context.backbone)


def groups(context: Context, dataset: str) -> list[tuple[str, tuple[str, ...]]]:
    """The paper's seven conditions A, V, L, AV, AL, LV, ALV, as (name, modalities)."""
    modalities = context.bundle(dataset).modalities
    letters = {m: LETTERS.get(m, m) for m in modalities}
    order = sorted(modalities, key=lambda m: ("AVL".find(letters[m]), m))
    found = [[m for i, m in enumerate(order) if bits >> i & 1] for bits in range(1, 2 ** len(order))]
    found.sort(key=lambda group: (len(group), [order.index(m) for m in group]))
    named = set(modalities) <= set(LETTERS)
    return [("".join(sorted(letters[m] for m in group)) if named else "+".join(group), tuple(sorted(group)))
            for group in found]


def subsets(context: Context, dataset: str) -> list[tuple[str, Law]]:
    """The seven conditions on complete data, as (name, law)."""
    return [(name, subset(list(group))) for name, group in groups(context, dataset)]


def tests(context: Context, dataset: str, law: Law, rates: Rates) -> list[tuple[str, Law]]:
    """The test masks of a run: the training law, and at the focus setting the seven subsets as well."""
    same = ("same", law)
    return [same, *subsets(context, dataset)] if rates == FOCUS else [same]


def cells(context: Context, dataset: str, row: Row, rates: Rates, *, layout: str = "paper", grid: bool = False,
          setting: str = "", series: bool = False, modalities: tuple[str, ...] = (),
          keep: tuple[str, ...] = ()) -> list[Cell]:
    """The cells of one row in one setting; the same runs serve every artifact that asks for them.

    Series along training are kept where they are asked for, and on twins in the six settings always, so that
    tables and curves share their runs; real runs stay small enough to be committed. Where each utterance is its
    own dialogue, FCM averages over the batch instead (A4).
    """
    law = complete() if rates == COMPLETE else context.rates(dataset, rates, layout)
    kind = context.bundle(dataset).task.kind
    watched = is_twin(context.reference(dataset)) and rates in SETTINGS and not modalities
    options: dict[str, Any] = dict(FOCAL) if row.backbone == "mmdfn" and kind == "classes" else {}
    if row.method == "balm":
        options |= dict(TAU_RHO)
        options |= {} if context.has_dialogues(dataset) else {"descriptor": "batch"}
        keep = (*keep, "series") if series or watched else keep
    options |= dict(row.options)
    if kind != "classes":
        options.pop("class_weights", None)
    schedule: dict[str, Any] = {"optimizer": "sgd", "lr": SGD_RATES[kind]} if row.optimizer == "sgd" else {}
    wanted = [("same", law)] if modalities else tests(context, dataset, law, rates)
    specs = context.specs(dataset, row.method, row.variant, law, wanted, backbone=row.backbone, keep=keep, grid=grid,
                          options=tuple(options.items()), network=row.network, modalities=modalities, **schedule)
    return [Cell(row.name, setting or label(rates), spec, "same") for spec in specs]


def grid_of(context: Context, dataset: str, rows: Iterable[Row], settings: Iterable[Rates]) -> list[Cell]:
    """Every row in every setting."""
    wanted = list(settings)
    return [cell for row in rows for rates in wanted for cell in cells(context, dataset, row, rates)]


def main_rows(context: Context) -> list[Row]:
    """Each backbone plain and with BALM as printed; the main one also with BALM as released."""
    rows = [make(b) for b in context.backbones for make in (plain, balm)]
    return [*rows, balm(context.backbone, "released", "BALM (released)")]


def severe_rows(context: Context) -> list[Row]:
    """Table 4: GCNet, and the main backbone with and without BALM."""
    main = [plain(context.backbone), balm(context.backbone)]
    return [plain("gcnet"), *main] if "gcnet" in context.backbones[1:] else main


def own_plain(rows: Iterable[Row]) -> dict[str, str]:
    """Which plain row every row with a method is compared with (A22, A24: the own backbone)."""
    return {row.name: plain(row.backbone).name for row in rows if row.method != "plain" and not row.network}


def variant_rows(context: Context, variants: Sequence[tuple[str, str]], backbones: Sequence[str]) -> list[Row]:
    """For each backbone: plain, +BALM, and variants given as (suffix, BALM variant)."""
    return [row for b in backbones for row in
            (plain(b), balm(b), *(balm(b, variant, suffix) for suffix, variant in variants))]


def subset_cells(context: Context, dataset: str, rows: Sequence[Row]) -> list[Cell]:
    """Runs trained at the focus setting, read under each of the seven test subsets."""
    return [Cell(cell.row, name, cell.spec, name) for row in rows
            for cell in cells(context, dataset, row, FOCUS) for name, _ in subsets(context, dataset)]


def grid_cells(context: Context, dataset: str, rates: Rates) -> list[Cell]:
    """Table 7: BALM over tau and rho."""
    base = balm(context.backbone)
    return [cell for tau in context.profile.taus for rho in context.profile.rhos
            for cell in cells(context, dataset, dataclasses.replace(base, options=(("rho", rho), ("tau", tau))), rates,
                              grid=True, setting=f"tau={tau:g} rho={rho:g}")]


def combination_rows(context: Context) -> list[Row]:
    """Tables 8 and 9: GCNet and the main backbone, with and without BALM; plain MMGCN is ours (A24)."""
    backbones = [b for b in ("gcnet", context.backbone) if b in context.backbones]
    return [make(b) for b in dict.fromkeys(backbones) for make in (plain, balm)]


def combination_cells(context: Context, dataset: str) -> list[Cell]:
    """Tables 8 and 9: training and test with the listed modalities alone, in six settings.

    The masks are those of all modalities, so that a modality is missing as often as its rate says; an utterance
    may then have nothing. GRM has nothing to balance in one modality (Eq. 21 would be 0 throughout and freeze its
    encoder), so +BALM is FCM alone there.
    """
    found = []
    everything = context.bundle(dataset).modalities
    for row in combination_rows(context):
        for rates in COMBINED[-context.profile.combined:]:
            for name, group in groups(context, dataset):
                alone = len(group) == 1 and row.method == "balm"
                used = dataclasses.replace(row, variant="fcm") if alone else row
                only = () if len(group) == len(everything) else group
                found += cells(context, dataset, used, rates, grid=True, modalities=only,
                               setting=f"{label(rates)} {name}")
    return found


def shared_rows(context: Context) -> list[Row]:
    """Tables 11 and 12, Fig 4: each backbone plain (ours, but for GCNet) and with BALM (ours for GCNet)."""
    return [make(b) for b in context.backbones for make in (plain, balm)]


def shared_cells(context: Context, dataset: str) -> list[Cell]:
    """Tables 11 and 12: one rate for all modalities, by the same operator as the imbalanced rates."""
    return [cell for row in shared_rows(context) for rate in context.profile.shared_rates
            for cell in cells(context, dataset, row, (rate, rate, rate), setting=f"{rate:.1f}",
                              grid=is_twin(context.reference(dataset)))]


def factor_cells(context: Context, dataset: str) -> list[Cell]:
    """The 2 x 2 x 2 of ledger 7.2 at the focus setting, and the plain backbone under both mask layouts."""
    found = []
    for layout in ("paper", "released"):
        base = dataclasses.replace(plain(context.backbone), name=f"plain|{layout}")
        found += cells(context, dataset, base, FOCUS, layout=layout)
        for spatial in ("gradients", "weights"):
            for noise in (False, True):
                # Where nothing differs from the printed method, the run is that of the tables.
                changed: dict[str, Any] = {"spatial": spatial} if spatial != "gradients" else {}
                changed |= {"noise": True} if noise else {}
                row = Row(f"{layout}|{spatial}|{'noise' if noise else 'no noise'}", context.backbone, "balm",
                          options=tuple(changed.items()))
                found += cells(context, dataset, row, FOCUS, layout=layout)
    return found


def control_rows(context: Context) -> list[Row]:
    """Controls at the focus setting (A8, A10, A12, A13; ledger 7.2)."""
    b = context.backbone
    controls = [("guarded coefficients", "guarded"), ("smoothed coefficients", "ema"),
                ("L_mod as a constant", "constant"), ("aligned sign", "aligned")]
    named = [Row(name, b, "balm", variant) for name, variant in controls]
    by_sgd = [dataclasses.replace(row, name=f"{row.name} (SGD)", optimizer="sgd") for row in (plain(b), balm(b))]
    return [plain(b), balm(b), *named, *by_sgd]


FORMS: dict[str, tuple[tuple[str, Options, Options], ...]] = {  # form, backbone options, method options
    "mmgcn": (("official", (("layers", 64), ("speaker", "text")), (("class_weights", "normalised"),)),
              ("unpacked", (("packed", False),), ())),
    "gcnet": (("linear encoders", (("encoder", "linear"),), ()), ("reconstruction", (("reconstruct", 1.0),), ()),
              ("unpacked", (("packed", False),), ())),
    "mmdfn": (("gated", (("gated", True),), ()), ("unpacked", (("packed", False),), ())),
}


def form_rows(context: Context) -> list[Row]:
    """Other forms of each backbone (A17, D13-D17), plain and with BALM, each beside the form of the tables."""
    rows = []
    for b in context.backbones:
        rows += [plain(b), balm(b)]
        for form, network, options in FORMS.get(b, ()):
            for row in (plain(b), balm(b)):
                name = row.name.replace(NAMES[b], f"{NAMES[b]} ({form})")
                rows.append(dataclasses.replace(row, name=name, network=network, options=options))
    return rows


def specs_of(found: Iterable[Cell]) -> list[RunSpec]:
    """The runs behind some cells."""
    return [cell.spec for cell in found]
