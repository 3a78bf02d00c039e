"""What BALM costs beside its bare backbone, at the paper's dims: parameters, and seconds of a step and a prediction."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Task
from mmlib.experiments.context import Cell, Context
from mmlib.fit import make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, make_layout
from mmlib.papers.balm import theory
from mmlib.report.artifact import Output
from mmlib.runs.spec import Training

# Feature dims (Table 6), the task, and a batch of about the paper's size: dialogues and utterances in each.
PAPER_SIZES: dict[str, tuple[dict[str, int], Task, int, int]] = {
    "iemocap": (
        {"audio": 1582, "text": 1024, "vision": 342},
        Task("classes", ("happy", "sad", "neutral", "angry", "excited", "frustrated")),
        16,
        48,
    ),
    "mosei": (
        {"audio": 512, "text": 1024, "vision": 1024},
        Task("score", range=(-3.0, 3.0)),
        32,
        7,
    ),
}


def cost(context: Context, cells: Sequence[Cell]) -> Output:
    """Parameters at the paper's dims, and the time of a training step, with and without BALM."""
    backbone = context.backbone
    table = theory.kept(context, f"cost-{backbone}", lambda: lightweight(backbone), ("cost",))
    timed = table["source"] == "measured"
    counts = table[~timed].drop(columns="spread")
    notes = (
        "The times of a training step and of a prediction depend on the machine; they are written to a separate "
        "file: medians of interleaved repeats on one thread.",
    )
    return Output(
        theory.text(counts), None, counts, len(counts), notes, local=theory.text(table[timed])
    )


def lightweight(
    backbone: str = "mmgcn",
    options: Sequence[tuple[str, Any]] = (),
    seed: int = 0,
    repeats: int = 5,
) -> pd.DataFrame:
    """What BALM adds to its bare backbone at the paper's dims: parameters, and the time of a step and a prediction.

    Columns dataset, quantity, value, unit, of_backbone, spread, at_test, source (``counted`` or ``measured``).
    Times are medians of turns taken by both on the same random batch with one thread; of_backbone is the
    median of the paired ratios, spread half the range between their quartiles.

    Raises:
        InputError: an unknown backbone or option.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    try:
        with torch.random.fork_rng(devices=[]):
            for name, (dims, task, dialogues, length) in PAPER_SIZES.items():
                torch.manual_seed(seed)
                networks = [
                    build_backbone(backbone, dims, task.outputs, 2, options) for _ in range(2)
                ]
                bare = build_method("plain", "paper", (), networks[0], task, dims)
                full = build_method("balm", "paper", (), networks[1], task, dims)
                batch = _random_batch(dims, task, dialogues, length)
                of_both = [*_parameter_lines(full), *_time_lines(bare, full, batch, repeats)]
                lines += [{"dataset": name, **line} for line in of_both]
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(lines)


def _parameter_lines(method: Plain) -> list[dict[str, Any]]:
    parts = dict(method.named_children())
    counts = {
        name: sum(p.numel() for p in parts[name].parameters())
        for name in ("backbone", "fcm", "heads")
    }
    lines = [
        ("parameters of backbone", counts["backbone"], "kept"),
        ("parameters of fcm", counts["fcm"], "kept"),
        ("parameters of heads", counts["heads"], "training only"),
        ("parameters BALM adds in training", counts["fcm"] + counts["heads"], "training only"),
        ("parameters BALM adds at test", counts["fcm"], "kept"),
    ]
    return [
        {
            "quantity": name,
            "value": float(value),
            "unit": "parameters",
            "of_backbone": value / counts["backbone"],
            "spread": 0.0,
            "at_test": use,
            "source": "counted",
        }
        for name, value, use in lines
    ]


def _time_lines(bare: Plain, full: Plain, batch: Batch, repeats: int) -> list[dict[str, Any]]:
    schedule = Training()
    optimizers = {id(m): make_optimizer(m, schedule) for m in (bare, full)}

    @torch.no_grad()
    def predict(method: Plain) -> None:
        method.eval()
        method(batch)

    def step(method: Plain) -> None:
        method.train()
        train_step(method, batch, optimizers[id(method)], schedule.clip)

    lines = []
    for name, work, use in (
        ("training step", step, "training only"),
        ("prediction", predict, "kept"),
    ):
        for method in (bare, full):
            work(method)
        pairs = np.array([[_seconds(work, bare), _seconds(work, full)] for _ in range(repeats)])
        ratios = pairs[:, 1] / pairs[:, 0]
        low, high = np.quantile(ratios, [0.25, 0.75])
        times = [statistics.median(column) for column in pairs.T]
        common = {"unit": "seconds", "at_test": use, "source": "measured"}
        own = {"of_backbone": 1.0, "spread": 0.0}
        both = {"of_backbone": statistics.median(ratios), "spread": (high - low) / 2}
        lines.append({"quantity": f"{name}, backbone", "value": times[0], **own, **common})
        lines.append({"quantity": f"{name}, backbone + BALM", "value": times[1], **both, **common})
    return lines


def _seconds(work: Callable[[Plain], None], method: Plain) -> float:
    start = time.perf_counter()
    work(method)
    return time.perf_counter() - start


def _random_batch(dims: dict[str, int], task: Task, dialogues: int, length: int) -> Batch:
    count = dialogues * length
    observed = torch.rand(count, len(dims)) < torch.tensor(
        [1 - theory.RATES[m] for m in sorted(dims)]
    )
    features = {
        m: torch.randn(count, dims[m]) * observed[:, [i]] for i, m in enumerate(sorted(dims))
    }
    labels = torch.randint(task.outputs, (count,)) if task.kind == "classes" else torch.randn(count)
    speakers = torch.randint(2, (count,))
    return Batch(features, observed, labels, speakers, make_layout([length] * dialogues))
