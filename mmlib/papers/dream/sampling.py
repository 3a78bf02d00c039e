"""How drawing orders of the modalities approaches Eq. 2, and what all subsets cost (the paper stops at four)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import cache

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Task
from mmlib.experiments.context import Cell, Context
from mmlib.methods.contribution import decided, predictions
from mmlib.nn import shapley
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch, make_layout
from mmlib.nn.shapley import Plan
from mmlib.report import figures
from mmlib.report.artifact import Output

MOST = 8  # modalities
UTTERANCES, FRAMES, DIM = 16, 6, 16
ORDERS = (2, 4, 8, 16, 32, 64, 128, 256)
DRAWS = 20  # plans of as many orders
DEFAULT = 64  # orders that the method draws
SCORE = Task("score", range=(-3.0, 3.0))


def game(count: int, seed: int = 0) -> tuple[Backbone, Batch]:
    """A network of P's kind with random weights, and utterances of noise; of all modalities half score above 0."""
    names = [f"m{i}" for i in range(count)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reference = build_backbone("corrkd", dict.fromkeys(names, DIM), 1, 1).eval()
        features = {m: torch.randn(UTTERANCES, FRAMES, DIM) for m in names}
    batch = Batch(
        features,
        torch.ones(UTTERANCES, count, dtype=torch.bool),
        torch.zeros(UTTERANCES),
        torch.zeros(UTTERANCES, dtype=torch.long),
        make_layout([1] * UTTERANCES),
    )
    with torch.no_grad():
        head = reference.prediction
        assert isinstance(head, torch.nn.Linear)
        head.bias.sub_(reference(batch, batch.features).logits.median())
    return reference, batch


@cache
def exact(count: int) -> tuple[Plan, Tensor, Tensor]:
    """The plan of all subsets, the decisions (S, n, 1), and PSS (n, M)."""
    plan = shapley.exact_plan(count, MOST)
    reference, batch = game(count)
    decisions = decided(reference, batch, plan, SCORE)
    return plan, decisions, shapley.pss(plan, decisions)


def convergence(count: int) -> pd.DataFrame:
    """By number of orders: root mean squared error of PSS and its standard error, coverage, subsets looked at.

    One line per draw; a plan's decisions are those already made, since a subset's number is its place.
    """
    _, decisions, truth = exact(count)
    places = 2 ** torch.arange(count - 1, -1, -1)
    lines = []
    for orders in ORDERS:
        for number in range(DRAWS):
            plan = shapley.sampled_plan(count, orders, 1000 + number)
            seen = decisions[(plan.subsets * places).sum(dim=1)]
            steps = shapley.shifts(plan, seen)
            error = shapley.average(plan, steps) - truth
            standard_error = shapley.standard_error(steps)
            covered = error.abs() <= 2 * standard_error + 1e-6
            lines.append(
                {
                    "orders": orders,
                    "draw": number,
                    "subsets": len(plan.subsets),
                    "error": error.square().mean().sqrt().item(),
                    "told": standard_error.square().mean().sqrt().item(),
                    "within two": 100 * covered.float().mean().item(),
                }
            )
    return pd.DataFrame(lines)


def costs() -> pd.DataFrame:
    """By number of modalities: subsets of all and of sampled orders, and seconds of P's predictions from them."""
    lines = []
    for count in range(2, MOST + 1):
        reference, batch = game(count)
        whole, some = shapley.exact_plan(count, MOST), shapley.sampled_plan(count, DEFAULT)
        lines.append(
            {
                "modalities": count,
                "subsets": len(whole.subsets),
                "subsets sampled": _mean_subsets(count),
                "seconds": _seconds(reference, batch, whole),
                "seconds sampled": _seconds(reference, batch, some),
                "seconds of one": _seconds(reference, batch, Plan(*(x[-1:] for x in whole))),
            }
        )
    return pd.DataFrame(lines)


def _mean_subsets(count: int) -> float:
    """How many subsets ``DEFAULT`` orders look at, over as many draws as the errors are."""
    drawn = (shapley.sampled_plan(count, DEFAULT, 1000 + number) for number in range(DRAWS))
    return statistics.fmean(len(plan.subsets) for plan in drawn)


def _seconds(reference: Backbone, batch: Batch, plan: Plan) -> float:
    """The least of three."""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        predictions(reference, batch, plan.subsets)
        took.append(time.perf_counter() - start)
    return min(took)


def monte_carlo(context: Context, cells: Sequence[Cell]) -> Output:
    """The estimate's error and the error it tells, by orders drawn; how many subsets are looked at, by modalities."""
    near, spent = convergence(MOST), costs()
    means = near.groupby("orders").mean()
    squares = near[["error", "told"]].pow(2).groupby(near["orders"]).mean().pow(0.5)
    table = pd.DataFrame(
        {
            "orders": list(ORDERS),
            "subsets looked at (mean)": means["subsets"].map("{:.0f}".format).tolist(),
            "error of PSS": squares["error"].map("{:.4f}".format).tolist(),
            "standard error told": squares["told"].map("{:.4f}".format).tolist(),
            "within two of them (%)": means["within two"].map("{:.1f}".format).tolist(),
        }
    )
    last = spent.iloc[-1]
    notes = (
        f"A network of P's kind with random weights on {UTTERANCES} utterances of noise, {FRAMES} frames of "
        f"{DIM} values. {figures.told([DRAWS], of='draw')} The error is the distance from "
        "the exact PSS. Two orders may agree by chance, and the estimated standard error "
        "is then zero.",
        f"On average {DEFAULT} orders look at {last['subsets sampled']:.0f} of all {last['subsets']:.0f} subsets of "
        f"{MOST} modalities. The paper calls more than four modalities infeasible (Q5); the method here is exact up to "
        f"{shapley.EXACT}. The time of P's predictions depends on the machine and is written to a separate file.",
    )
    times = ["seconds", "seconds sampled", "seconds of one"]
    numbers = pd.concat([near, spent.drop(columns=times)], ignore_index=True)
    picture = _curves(near, spent)
    return Output(table, picture, numbers, len(table), notes, local=spent[["modalities", *times]])


def _curves(near: pd.DataFrame, spent: pd.DataFrame) -> Figure:
    """Two panels: errors by orders drawn, and subsets looked at by modalities."""
    figure, (errors, counts) = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.7)
    by_draw = near.pivot(index="draw", columns="orders")
    figures.lines(
        errors,
        [float(orders) for orders in ORDERS],
        {
            "error of PSS": by_draw["error"].to_numpy(),
            "its estimated standard error": by_draw["told"].to_numpy(),
        },
        xlabel="orders drawn",
        ylabel="root mean squared, units of PSS",
        title=f"{MOST} modalities",
    )
    errors.set(xscale="log", yscale="log")
    errors.set_xticks(ORDERS, [str(orders) for orders in ORDERS])
    errors.set_xticks([], minor=True)
    figures.lines(
        counts,
        [float(count) for count in spent["modalities"]],
        {
            "all subsets": spent["subsets"].to_numpy(),
            f"{DEFAULT} orders": spent["subsets sampled"].to_numpy(),
        },
        xlabel="modalities",
        ylabel="predictions of P for an utterance",
        title="Subsets looked at",
    )
    counts.set_yscale("log")
    return figure
