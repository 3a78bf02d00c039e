"""``mmlib bench dream``: what the contributions of a frozen network cost an epoch of DREAM, kept and made anew."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlib.backbones import build_backbone
from mmlib.bench.command import EPOCHS
from mmlib.bench.common import check_size, device_of, machine, refuse
from mmlib.bench.page import contribution_findings, stage_table
from mmlib.bench.step import list_products, replay, sync_of, timed
from mmlib.data.bundle import Bundle, Task
from mmlib.data.catalog import open_bundle
from mmlib.fit import evaluation_batches, make_optimizer, train_epoch
from mmlib.masks import draw, patterns
from mmlib.methods import build_method
from mmlib.methods.contribution import Memory
from mmlib.methods.dream import VARIANTS, Dream, Told
from mmlib.methods.plain import Peek
from mmlib.nn import shapley
from mmlib.nn.batch import Batch, Resident, to_device
from mmlib.runs.spec import Training

# reference, d, samples a step: the paper's for IEMOCAP, or those of the profile quick
SIZES = {
    "iemocap": ("twin:iemocap4-frames@full", 200, 32),
    "quick": ("twin:iemocap4-frames@quick", 32, 32),
}
# Whole epochs, then work on contributions by itself: what epochs differ by is lost in the noise of a busy machine.
CASES = (
    "without contributions",
    "decisions kept",
    "decisions made at every step",
    "filling the memory",
    "contributions alone, kept",
    "contributions alone, made at every step",
)
KEPT, FILL = (CASES[1], CASES[4]), CASES[3]


class Without(Dream):
    """The network and its task loss alone, with the PSS of the training rows put in, one after the other."""

    fixed: Tensor
    at: int = 0

    def told(self, batch: Batch) -> Told:
        """The prediction, with PSS of which none is asked from P."""
        pss = self.fixed[self.at : self.at + len(batch)]
        self.at = (self.at + len(batch)) % len(self.fixed)
        fused, raw = self.net.run(batch, batch.features, pss, pss == 0, self.config.fusion)
        return Told(fused, raw, pss, pss)

    def loss(self, batch: Batch) -> Tensor:
        """L_task."""
        return self.fused_loss(batch, self(batch))


def training_rows(bundle: Bundle, device: torch.device) -> Resident:
    """The training data, each sample in one of the combinations of modalities."""
    return to_device(bundle, "train", draw(patterns(resampled=False), bundle, "train", 0), device)


def pretrained(bundle: Bundle, train: Resident, schedule: Training) -> dict[str, Tensor]:
    """The weights of a run that trained P for an epoch: what decides how many modalities are enhanced."""
    torch.manual_seed(0)
    network = build_backbone("corrkd", bundle.dims, bundle.task.outputs, bundle.speakers)
    method = build_method("reference", "paper", (), network, bundle.task, bundle.dims).to(
        train.labels.device
    )
    train_epoch(method, train, make_optimizer(method, schedule), schedule, 0, 0, [])
    return dict(method.state_dict())


def epoch_of(
    case: str, bundle: Bundle, size: str, device: torch.device
) -> tuple[Dream, Callable[[], object]]:
    """A model, and the function that does the work of a case once."""
    _, width, step = SIZES[size]
    train = training_rows(bundle, device)
    schedule = Training(epochs=1, batch=step, lr=1e-3, weight_decay=0.0)
    model = model_of(case, bundle, train, width, schedule)
    optimizer = make_optimizer(model, schedule)
    if case in KEPT:
        _look(model, train)

    def fill() -> None:
        model.memory = Memory()
        _look(model, train)

    def epoch() -> None:
        if case in KEPT:
            _look(model, train)
        train_epoch(model, train, optimizer, schedule, 0, 0, [])

    def contribute() -> None:
        if case in KEPT:
            _look(model, train)
        _contribute(model, train, step, bundle.task)

    return model, fill if case == FILL else contribute if case in CASES[4:] else epoch


def model_of(case: str, bundle: Bundle, train: Resident, width: int, schedule: Training) -> Dream:
    """The model of a case, from the weights of a run that trained P; without contributions PSS is put in here."""
    before = pretrained(bundle, train, schedule)
    torch.manual_seed(0)
    network = build_backbone(
        "dream", bundle.dims, bundle.task.outputs, bundle.speakers, [("hidden", width)]
    )
    kind = Without if case == CASES[0] else Dream
    model = kind(network, bundle.task, VARIANTS["paper"], bundle.dims).to(train.labels.device)
    model.load_state_dict(before)
    if isinstance(model, Without):
        model.fixed = torch.cat(
            [shapley.pss(model.plan, model.look(b)) for b in evaluation_batches(train)]
        )
    return model


def _look(model: Dream, train: Resident) -> None:
    """What the model does before an epoch: ask the frozen network of what the memory lacks."""
    model.start_epoch(Peek(0, 1, lambda: evaluation_batches(train), list, list, lambda *_: None))


def _contribute(model: Dream, train: Resident, step: int, task: Task) -> None:
    """The contributions of an epoch by themselves, step after step."""
    model.train()
    starts = np.arange(step, train.dialogues, step)
    for dialogues in np.split(np.arange(train.dialogues), starts):
        batch = train.batch(dialogues)
        decisions = model.decided(batch)
        shapley.pss(model.plan, decisions)
        shapley.pas(model.plan, decisions, shapley.truths(task, batch.labels))


def measure(size: str, device: torch.device, epochs: int) -> list[dict[str, Any]]:
    """Median seconds of each of ``CASES`` and of its matrix products alone; all take turns, after once to warm up."""
    bundle, sync = open_bundle(SIZES[size][0]), sync_of(device)
    models, works, products = {}, {}, {}
    for case in CASES:
        print(f"preparing {case} ...", file=sys.stderr, flush=True)
        models[case], works[case] = epoch_of(case, bundle, size, device)
        products[case] = list_products(epoch_of(case, bundle, size, torch.device("cpu"))[1])
    alone = {case: replay(products[case], device) for case in CASES}
    seconds: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for turn in range(1 + epochs):
        print(f"measuring, {turn} of {epochs} ...", file=sys.stderr, flush=True)
        for case in CASES:
            seconds[case].append((timed(works[case], sync), timed(alone[case], sync)))
    rows = []
    for case in CASES:
        pairs, model = seconds[case][1:], models[case]
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rows.append(
            {
                "case": case,
                "threads": torch.get_num_threads(),
                "utterances": len(bundle.rows("train")),
                "epoch_seconds": statistics.median(a for a, _ in pairs),
                "product_seconds": statistics.median(b for _, b in pairs),
                "ratio": statistics.median(a / b for a, b in pairs),
                "gflop": sum(p.flops for p in products[case]) / 1e9,
                "trained_parameters": trained,
                "frozen_parameters": sum(p.numel() for p in model.parameters()) - trained,
            }
        )
    return rows


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases, print a table and what the contributions cost.

    Raises:
        InputError: an unknown size, a device that is not here, a number out of range, or an option of another bench.
    """
    check_size(args, SIZES)
    refuse(
        args, "lengths", "write_shapes", why="Leave it out: it is an option of mmlib bench balm."
    )
    device, epochs, threads = device_of(args), args.epochs or EPOCHS, args.threads or [1]
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        rows += measure(args.size, device, epochs)
    torch.set_num_threads(threads[0])
    report: dict[str, Any] = {
        "machine": machine(args.device),
        "contributions": args.size,
        "rows": rows,
    }
    print(stage_table([report]), contribution_findings([report]), sep="\n\n")
    return report
