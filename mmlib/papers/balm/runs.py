"""Which runs make which of BALM's tables and figures (ledger 1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmlib.data.catalog import is_twin
from mmlib.masks import Law, complete, subset
from mmlib.papers.context import Cell, Context
from mmlib.runs.spec import Options

Rates = tuple[float, float, float]
SETTINGS: tuple[Rates, ...] = (
    (0.3, 0.5, 0.7), (0.3, 0.7, 0.5), (0.5, 0.3, 0.7), (0.5, 0.7, 0.3), (0.7, 0.3, 0.5), (0.7, 0.5, 0.3),
)
SEVERE: tuple[Rates, ...] = (
    (0.1, 0.1, 0.9), (0.1, 0.9, 0.1), (0.9, 0.1, 0.1), (0.6, 0.6, 0.9), (0.6, 0.9, 0.6), (0.9, 0.6, 0.6),
)
FOCUS: Rates = (0.5, 0.7, 0.3)
CONFIG_A: Rates = (0.5, 0.3, 0.7)
COMPLETE: Rates = (0.0, 0.0, 0.0)
ROLES = {"iemocap": "iemocap6", "mosei": "mosei"}
TAU_RHO: Options = (("rho", 1.4), ("tau", 0.4))
# SGD is a control of ours; a squared error's gradients are larger than a cross-entropy's and diverge at 0.1.
SGD_RATES = {"classes": 0.1, "binaries": 0.1, "score": 0.01}
LETTERS = {"audio": "A", "vision": "V", "text": "L"}


def label(rates: Rates) -> str:
    """A setting as the published numbers write it: r_A/r_L/r_V."""
    return "complete" if rates == COMPLETE else "/".join(f"{r:g}" for r in rates)


def backbone_name(context: Context) -> str:
    """The backbone as the paper writes it."""
    return {"mmgcn": "MMGCN", "gcnet": "GCNet", "mmdfn": "MMDFN"}.get(context.backbone, context.backbone)


def subsets(context: Context, dataset: str) -> list[tuple[str, Law]]:
    """The paper's seven conditions A, V, L, AV, AL, LV, ALV on complete data, as (name, law)."""
    modalities = context.bundle(dataset).modalities
    letters = {m: LETTERS.get(m, m) for m in modalities}
    order = sorted(modalities, key=lambda m: ("AVL".find(letters[m]), m))
    groups = [[m for i, m in enumerate(order) if bits >> i & 1] for bits in range(1, 2 ** len(order))]
    groups.sort(key=lambda group: (len(group), [order.index(m) for m in group]))
    names = ["".join(sorted(letters[m] for m in group)) if set(modalities) <= set(LETTERS) else "+".join(group)
             for group in groups]
    return [(name, subset(group)) for name, group in zip(names, groups, strict=True)]


def tests(context: Context, dataset: str, law: Law, rates: Rates) -> list[tuple[str, Law]]:
    """The test masks of a run: the training law, and at the focus setting the seven subsets as well."""
    same = ("same", complete() if rates == COMPLETE else law)
    return [same, *subsets(context, dataset)] if rates == FOCUS else [same]


def cells(context: Context, dataset: str, row: str, method: str, variant: str, rates: Rates, *, options: Options = (),
          layout: str = "paper", grid: bool = False, setting: str = "", optimizer: str = "adam",
          series: bool = False) -> list[Cell]:
    """The cells of one row in one setting; the same runs serve every artifact that asks for them.

    Series along training are kept where they are asked for, and on twins at the focus setting always, so that
    tables and curves share their runs; real runs stay small enough to be committed. Where each utterance is its
    own dialogue, FCM averages over the batch instead (A4).
    """
    law = complete() if rates == COMPLETE else context.rates(dataset, rates, layout)
    wanted = series or is_twin(context.reference(dataset))
    keep = ("series",) if wanted and rates == FOCUS and method == "balm" else ()
    batch = {} if context.has_dialogues(dataset) else {"descriptor": "batch"}
    chosen = tuple(sorted({**dict(TAU_RHO), **batch, **dict(options)}.items())) if method == "balm" else ()
    rate = SGD_RATES[context.bundle(dataset).task.kind]
    schedule: dict[str, Any] = {"optimizer": optimizer, "lr": rate} if optimizer == "sgd" else {}
    specs = context.specs(dataset, method, variant, law, tests(context, dataset, law, rates), options=chosen,
                          keep=keep, grid=grid, **schedule)
    return [Cell(row, setting or label(rates), spec, "same") for spec in specs]


def main_cells(context: Context, dataset: str, settings: Sequence[Rates], released: bool = True) -> list[Cell]:
    """Plain backbone, +BALM as printed and as released, in each setting."""
    name = backbone_name(context)
    rows = [(name, "plain", "paper"), (f"{name}+BALM", "balm", "paper")]
    rows += [(f"{name}+BALM (released)", "balm", "released")] if released else []
    return [cell for row, method, variant in rows for rates in settings
            for cell in cells(context, dataset, row, method, variant, rates)]


def variant_cells(context: Context, dataset: str, variants: Sequence[tuple[str, str]],
                  settings: Sequence[Rates]) -> list[Cell]:
    """Rows (name after the backbone's, BALM variant), beside the plain backbone and +BALM."""
    name = backbone_name(context)
    found = main_cells(context, dataset, settings, released=False)
    return found + [cell for suffix, variant in variants for rates in settings
                    for cell in cells(context, dataset, f"{name}+{suffix}", "balm", variant, rates)]


def subset_cells(context: Context, dataset: str, rows: Sequence[tuple[str, str, str]]) -> list[Cell]:
    """Runs trained at the focus setting, read under each of the seven test subsets."""
    return [Cell(cell.row, name, cell.spec, name) for row, method, variant in rows
            for cell in cells(context, dataset, row, method, variant, FOCUS) for name, _ in subsets(context, dataset)]


def grid_cells(context: Context, dataset: str, rates: Rates) -> list[Cell]:
    """Table 7: BALM over tau and rho."""
    row = f"{backbone_name(context)}+BALM"
    return [cell for tau in context.profile.taus for rho in context.profile.rhos
            for cell in cells(context, dataset, row, "balm", "paper", rates, options=(("rho", rho), ("tau", tau)),
                              grid=True, setting=f"tau={tau:g} rho={rho:g}")]


def factor_cells(context: Context, dataset: str) -> list[Cell]:
    """The 2 x 2 x 2 of ledger 7.2 at the focus setting, and the plain backbone under both mask layouts."""
    found = []
    for layout in ("paper", "released"):
        found += cells(context, dataset, f"plain|{layout}", "plain", "paper", FOCUS, layout=layout)
        for spatial in ("gradients", "weights"):
            for noise in (False, True):
                # Where nothing differs from the printed method, the run is that of the tables.
                changed: dict[str, Any] = {"spatial": spatial} if spatial != "gradients" else {}
                changed |= {"noise": True} if noise else {}
                found += cells(context, dataset, f"{layout}|{spatial}|{'noise' if noise else 'no noise'}", "balm",
                               "paper", FOCUS, options=tuple(changed.items()), layout=layout)
    return found


def control_rows(context: Context) -> list[tuple[str, str, str, str]]:
    """Controls at the focus setting: (row, method, variant, optimizer)."""
    name = backbone_name(context)
    return [(name, "plain", "paper", "adam"), (f"{name}+BALM", "balm", "paper", "adam"),
            ("guarded coefficients", "balm", "guarded", "adam"), ("smoothed coefficients", "balm", "ema", "adam"),
            ("L_mod as a constant", "balm", "constant", "adam"), ("aligned sign", "balm", "aligned", "adam"),
            (f"{name} (SGD)", "plain", "paper", "sgd"), (f"{name}+BALM (SGD)", "balm", "paper", "sgd")]


def control_cells(context: Context, dataset: str) -> list[Cell]:
    """The controls that the ledger asks for (A8, A10, A12, A13; 7.2)."""
    return [cell for row, method, variant, optimizer in control_rows(context)
            for cell in cells(context, dataset, row, method, variant, FOCUS, optimizer=optimizer)]
