"""``mmlib bench ebmc``: an epoch of each of the two stages beside its matrix products, and how a step's cost grows.

The growth tests what the paper says of its cost (A.3): linear in the length and the width, EMC and IMTD negligible.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmlib import files
from mmlib.backbones import build_backbone
from mmlib.bench.command import EPOCHS
from mmlib.bench.common import SMALL_PARTS, check_size, device_of, machine, refuse
from mmlib.bench.page import exponent, scaling_findings, scaling_table, stage_table
from mmlib.bench.step import list_products, replay, sync_of, timed
from mmlib.data.bundle import SPLITS, Bundle, Task
from mmlib.data.catalog import open_bundle
from mmlib.fit import make_optimizer, train_epoch, train_step
from mmlib.masks import complete, draw, patterns
from mmlib.methods import build_method
from mmlib.methods.disentangle import Components
from mmlib.methods.ebmc import VARIANTS, Ebmc
from mmlib.methods.plain import Plain
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch, make_layout, to_device
from mmlib.nn.objectives import each_loss
from mmlib.report import figures
from mmlib.report.artifact import figure_bytes
from mmlib.runs.spec import Training


@dataclass(frozen=True)
class Size:
    """What is measured at."""

    data: str
    """A reference of a twin."""

    width: int
    """Width of the experts."""

    depth: int
    """Blocks of the experts."""

    batch: int
    """Dialogues a step of the epochs, and of the steps at growing width."""

    few: int
    """Dialogues a step at growing length."""

    length: int
    """Utterances of a dialogue in the steps at growing width."""

    lengths: tuple[int, ...]
    """Utterances of a dialogue in the steps at growing length, which have the experts' ``width``."""

    widths: tuple[int, ...]
    """Widths of the experts in the steps at growing width."""


SIZES = {
    "iemocap": Size(
        "twin:iemocap4@full", 256, 4, 16, 4, 36, (10, 30, 100, 300), (64, 128, 256, 512)
    ),
    "quick": Size("twin:iemocap4@quick", 32, 1, 8, 2, 6, (4, 8), (16, 32)),
}
SECOND = "stage II, penalty by a second backward pass"
CASES = {
    "stage I": ("enhance", "paper"),
    "stage II": ("ebmc", "paper"),
    "stage II, no penalty": ("ebmc", "no_penalty"),
    SECOND: ("ebmc", "paper"),
}
STEPS = 5  # timed after one for warming up, in turn with the components


class SecondPass(Ebmc):
    """Eq. 12's penalty by autograd of the task losses, for comparison: the same number, by another way."""

    def pulled(self, batch: Batch, fused: Fused, parts: Components, predicted: Tensor) -> Tensor:
        """(M, n, d): the gradients, through which the penalty's own backward pass goes."""
        losses = torch.stack([each_loss(self.task, x, batch.labels) for x in predicted])
        entered = [fused.z[m] for m in self.modalities]
        return torch.stack(torch.autograd.grad(losses.sum(), entered, create_graph=True))


def training_bundle(reference: str) -> Bundle:
    """A twin with its validation among the training data, as the released code trains (ledger 0.1): the true size."""
    bundle = open_bundle(reference)
    held = bundle.split == SPLITS.index("valid")
    return dataclasses.replace(
        bundle, split=np.where(held, SPLITS.index("train"), bundle.split).astype(np.int8)
    )


def build(
    case: str, dims: dict[str, int], task: Task, speakers: int, width: int, depth: int
) -> Plain:
    """The model of a case, from fixed random weights."""
    torch.manual_seed(0)
    method, variant = CASES[case]
    routing = "own" if method == "enhance" else "unnormalised"
    network = build_backbone(
        "momke",
        dims,
        task.outputs,
        speakers,
        [("hidden", width), ("depth", depth), ("routing", routing)],
    )
    model = (
        SecondPass(network, task, VARIANTS[variant], dims)
        if case == SECOND
        else build_method(method, variant, (), network, task, dims)
    )
    model.load_state_dict(model.state_dict())  # as from a first stage
    return model


def epoch_of(
    case: str, bundle: Bundle, size: Size, device: torch.device
) -> tuple[Plain, Callable[[], None]]:
    """A model, and the function that trains it for an epoch: on all modalities first, then on any combination."""
    schedule = Training(epochs=1, batch=size.batch, lr=1e-4, weight_decay=1e-5)
    law = complete() if case == "stage I" else patterns()
    train = to_device(bundle, "train", draw(law, bundle, "train", 0), device)
    model = build(case, bundle.dims, bundle.task, bundle.speakers, size.width, size.depth).to(
        device
    )
    optimizer = make_optimizer(model, schedule)

    def epoch() -> None:
        train_epoch(model, train, optimizer, schedule, 0, 0, [])

    return model, epoch


def measure(size: Size, device: torch.device, epochs: int) -> list[dict[str, Any]]:
    """Median seconds of an epoch in each of ``CASES`` and of its matrix products alone, taking turns."""
    bundle, sync, rows = training_bundle(size.data), sync_of(device), []
    for case in CASES:
        print(f"measuring {case} ...", file=sys.stderr, flush=True)
        model, epoch = epoch_of(case, bundle, size, device)
        products = list_products(epoch_of(case, bundle, size, torch.device("cpu"))[1])
        alone = replay(products, device)
        epoch()
        alone()
        pairs = [(timed(epoch, sync), timed(alone, sync)) for _ in range(epochs)]
        seconds, product_seconds = (
            statistics.median(column) for column in zip(*pairs, strict=True)
        )
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rows.append(
            {
                "case": case,
                "threads": torch.get_num_threads(),
                "utterances": len(bundle.rows("train")),
                "dialogues": len(bundle.dialogues("train")),
                "epoch_seconds": seconds,
                "product_seconds": product_seconds,
                "ratio": statistics.median(a / b for a, b in pairs),
                "gflop": sum(p.flops for p in products) / 1e9,
                "trained_parameters": trained,
                "frozen_parameters": sum(p.numel() for p in model.parameters()) - trained,
            }
        )
    return rows


def made_batch(dims: Mapping[str, int], task: Task, dialogues: int, length: int) -> Batch:
    """Random dialogues of one length, every utterance with a random combination of modalities."""
    count, names = dialogues * length, sorted(dims)
    observed = torch.rand(count, len(names)) < 0.6
    observed[torch.arange(count), torch.randint(len(names), (count,))] = True
    features = {
        m: torch.randn(count, dims[m]) * observed[:, i : i + 1] for i, m in enumerate(names)
    }
    return Batch(
        features,
        observed,
        torch.randint(task.outputs, (count,)),
        torch.zeros(count, dtype=torch.long),
        make_layout([length] * dialogues),
    )


def pieces(model: Ebmc, batch: Batch) -> dict[str, Callable[[], object]]:
    """The components of a step in the second stage, each with its backward pass down to what it reads.

    MSD has the shared and specific parts and the predictors; the others are given them.
    """
    c = model.config
    with torch.no_grad():
        fused = model(batch)
        given, taught = model.parts(fused.z), model.teacher(batch)
    z = _leaves(fused.z)
    parts = Components(*(_leaves(each) for each in given))
    read = Fused(z, fused.hidden, fused.logits.requires_grad_())

    @torch.no_grad()
    def teach() -> None:
        model.teacher(batch)

    losses: dict[str, Callable[[], Tensor]] = {
        "MSD": lambda: c.zeta * model.msd(batch, model.parts(z)),
        "CCE": lambda: c.beta * model.cce(batch, read, parts),
        "EMC": lambda: c.gamma * model.emc(batch, read, parts, taught),
        "IMTD": lambda: c.eta * model.imtd(batch, read, taught),
    }
    works: dict[str, Callable[[], object]] = {"teacher": teach}
    for name, loss in losses.items():
        works[name] = lambda loss=loss: loss().backward()  # type: ignore[misc, no-untyped-call]
    return works


def _leaves(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {m: x.detach().clone().requires_grad_() for m, x in values.items()}


def measure_step(
    size: Size, length: int, width: int, dialogues: int, device: torch.device
) -> dict[str, Any]:
    """Seconds of a step of the second stage, and of its components by themselves; ``rest`` is what they leave.

    That is the backbone both ways, the task loss and the update.
    """
    bundle, sync = open_bundle(size.data), sync_of(device)
    batch = _moved(made_batch(bundle.dims, bundle.task, dialogues, length), device)
    model = (
        build("stage II", bundle.dims, bundle.task, bundle.speakers, width, size.depth)
        .to(device)
        .train()
    )
    assert isinstance(model, Ebmc)
    optimizer = make_optimizer(model, Training(lr=1e-4))
    works = {"step": lambda: train_step(model, batch, optimizer, 1.0), **pieces(model, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + STEPS):
        for name, work in works.items():
            model.zero_grad(set_to_none=True)
            seconds[name].append(timed(work, sync))
    parts = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    whole = parts.pop("step")
    parts["rest"] = whole - sum(parts.values())
    return {
        "length": length,
        "width": width,
        "dialogues": dialogues,
        "utterances": len(batch),
        "step_seconds": whole,
        "parts": {name: parts[name] for name in SMALL_PARTS},
    }


def _moved(batch: Batch, device: torch.device) -> Batch:
    layout = batch.layout
    placed = {
        f.name: getattr(layout, f.name).to(device)
        for f in dataclasses.fields(layout)
        if isinstance(getattr(layout, f.name), Tensor)
    }
    return Batch(
        {m: x.to(device) for m, x in batch.features.items()},
        batch.observed.to(device),
        batch.labels.to(device),
        batch.speaker.to(device),
        dataclasses.replace(layout, **placed),
    )


def growth(size: Size, device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """Steps of a few dialogues of growing length at the paper's width, and of its batch at growing width."""
    steps: dict[str, list[dict[str, Any]]] = {"length": [], "width": []}
    for length in size.lengths:
        print(f"measuring a step at {length} utterances ...", file=sys.stderr, flush=True)
        steps["length"].append(measure_step(size, length, size.width, size.few, device))
    for width in size.widths:
        print(f"measuring a step at width {width} ...", file=sys.stderr, flush=True)
        steps["width"].append(measure_step(size, size.length, width, size.batch, device))
    return steps


def scaling_figure(report: Mapping[str, Any]) -> Figure:
    """Time of a step and of its components against length and width, and the components' shares."""
    figure, axes = figures.panel_grid(4, columns=2, width=figures.DOUBLE, height=2.4)
    named = (("length", "T", "utterances of a dialogue, T"), ("width", "d", "width, d"))
    for column, (axis, letter, xlabel) in enumerate(named):
        rows = report["scaling"][axis]
        x = np.array([row[axis] for row in rows], dtype=float)
        whole = np.array([row["step_seconds"] for row in rows])
        parts = {part: np.array([row["parts"][part] for row in rows]) for part in SMALL_PARTS}
        times = {"whole step": 1e3 * whole, **{part: 1e3 * t for part, t in parts.items()}}
        figures.lines(
            axes[column],
            x,
            times,
            xlabel=xlabel,
            ylabel="time (ms)",
            legend=False,
            title=f"At the end a step grows as {letter}^{exponent(rows, axis, ''):.2f}",
        )
        axes[column].plot(
            x, times["whole step"][0] * x / x[0], color="#888888", linewidth=0.8, label="linear"
        )
        axes[column].set_xscale("log")
        axes[column].set_yscale("log")
        shares = {
            "whole step": np.full(len(x), np.nan),
            **{part: 100 * t / whole for part, t in parts.items()},
        }
        figures.lines(
            axes[2 + column], x, shares, xlabel=xlabel, ylabel="share of a step (%)", legend=False
        )
        axes[2 + column].set_xscale("log")
        for panel in (axes[column], axes[2 + column]):
            panel.set_xticks(x, [f"{v:g}" for v in x])
            panel.minorticks_off()
    figures.shared_legend(figure, axes[0], columns=8)
    return figure


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure both stages and the growth of a step, print tables, and draw the growth beside the JSON file.

    Raises:
        InputError: an unknown size, a device that is not here, a number out of range, or an option of another bench.
    """
    check_size(args, SIZES)
    refuse(args, "lengths", "write_shapes", why="Leave it out: lengths are measured anyway.")
    size, device, epochs, threads = (
        SIZES[args.size],
        device_of(args),
        args.epochs or EPOCHS,
        args.threads or [1],
    )
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        rows += measure(size, device, epochs)
    torch.set_num_threads(threads[0])
    report: dict[str, Any] = {
        "machine": machine(args.device),
        "stages": args.size,
        "threads": threads[0],
        "depth": size.depth,
        "rows": rows,
        "scaling": growth(size, device),
    }
    print(stage_table([report]), scaling_table([report]), scaling_findings([report]), sep="\n\n")
    if args.json:
        picture = Path(args.json).with_suffix(".png")
        files.write(picture, figure_bytes(scaling_figure(report), "png", "ebmc-scaling"))
        report["figure"] = picture.name
    return report
