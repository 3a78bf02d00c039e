"""``mmlib bench mculora``: an epoch of adapters for mixed combinations, against one pass for each combination."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlib.backbones import build_backbone
from mmlib.bench.command import EPOCHS
from mmlib.bench.common import check_size, device_of, machine
from mmlib.bench.page import adapter_table
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.fit import evaluation_batches, make_optimizer
from mmlib.masks import combinations, complete, draw, patterns
from mmlib.methods import build_method
from mmlib.methods.mculora import McuLora
from mmlib.methods.plain import Peek
from mmlib.nn.batch import Resident, to_device
from mmlib.runs.spec import Training

# role, its size, and hidden, depth, dialogues a step: the paper's for IEMOCAP, or those of the profile quick
SIZES = {"iemocap": ("twin:iemocap4@full", 256, 4, 16), "quick": ("twin:iemocap4@quick", 32, 1, 8)}
CASES = (
    "adapters, mixed combinations",
    "adapters, a pass for each combination",
    "joint training",
    "DPFT's measure",
)


def measure(size: str, device: torch.device, epochs: int) -> list[dict[str, Any]]:
    """Median seconds of an epoch in each of ``CASES``, after one for warming up."""
    reference, hidden, depth, step = SIZES[size]
    bundle = open_bundle(reference)
    train = to_device(bundle, "train", draw(patterns(), bundle, "train", 0), device)
    whole = to_device(bundle, "train", draw(complete(), bundle, "train", 0), device)
    schedule = Training(epochs=1, batch=step, lr=1e-4, weight_decay=1e-5)
    rows = []
    for case in CASES:
        print(f"measuring {case} ...", file=sys.stderr, flush=True)
        model = model_of(case, bundle, hidden, depth).to(device)
        groups = by_combination(train) if case == CASES[1] else [np.arange(train.dialogues)]
        optimizer = make_optimizer(model, schedule)

        def epoch(
            model: McuLora = model,
            groups: list[np.ndarray] = groups,
            optimizer: torch.optim.Optimizer = optimizer,
            case: str = case,
        ) -> None:
            if case == CASES[3]:
                batches = evaluation_batches(whole)
                model.separation(Peek(0, 1, list, list, list, lambda *_: None, lambda _: batches))
            else:
                one_epoch(model, train, groups, step, optimizer)
            if device.type == "cuda":
                torch.cuda.synchronize()

        seconds = _median(epoch, epochs)
        rows.append(
            {
                "case": case,
                "epoch_seconds": seconds,
                "utterances": len(train.labels),
                "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
        )
    return rows


def model_of(case: str, bundle: Bundle, hidden: int, depth: int) -> McuLora:
    """The model of a case, from fixed random weights."""
    torch.manual_seed(0)
    network = build_backbone(
        "crossmodal",
        bundle.dims,
        bundle.task.outputs,
        bundle.speakers,
        [("hidden", hidden), ("depth", depth)],
    )
    variant = "neither" if case == "joint training" else "paper"
    model = build_method("mculora", variant, (), network, bundle.task, bundle.dims)
    assert isinstance(model, McuLora)
    return model


def one_epoch(
    model: McuLora,
    train: Resident,
    groups: list[np.ndarray],
    step: int,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Steps over all dialogues; a step's dialogues go through the model at once, or in one pass for each group."""
    model.train()
    order = np.random.default_rng(0).permutation(train.dialogues)
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        optimizer.zero_grad(set_to_none=True)
        for loss in _losses(model, train, chosen, groups):
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _losses(
    model: McuLora, train: Resident, chosen: np.ndarray, groups: list[np.ndarray]
) -> Iterator[Tensor]:
    sizes = np.diff(train.starts)
    for group in groups:
        mine = chosen[np.isin(chosen, group)]
        if len(mine):
            yield model.loss(train.batch(mine)) * (sizes[mine].sum() / sizes[chosen].sum())


def by_combination(train: Resident) -> list[np.ndarray]:
    """The dialogues of each combination of modalities."""
    given = train.observed.cpu().numpy()[train.starts[:-1]]
    return [
        np.flatnonzero((given == pattern).all(axis=1)) for pattern in combinations(given.shape[1])
    ]


def _median(call: Callable[[], None], epochs: int) -> float:
    call()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases and print a table.

    Raises:
        InputError: an unknown size, a device that is not here, or a number out of range.
    """
    check_size(args, SIZES)
    device = device_of(args)
    torch.set_num_threads(args.threads[0] if args.threads else 1)
    rows = measure(args.size, device, args.epochs or EPOCHS)
    report = {
        "machine": machine(args.device),
        "adapters": args.size,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    print(adapter_table([report]))
    return report
