"""DREAM's Tables 2 and 3: what P and its predictions from every subset cost here, and how many parameters there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.experiments import own
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.published import published
from mmlib.experiments.rows import on
from mmlib.fit import evaluation_batches, make_optimizer, predict, train_epoch
from mmlib.masks import draw
from mmlib.methods.dream import Dream
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, Resident, to_device
from mmlib.papers.dream import rows
from mmlib.papers.dream.analyses import guided
from mmlib.papers.dream.tables import TIMED, TIMED_SYSTEMS
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec

REPEATS = 3
DIMS = {
    "mosi": (5, 300, 20),
    "mosei": (74, 300, 35),
    "iemocap": (74, 300, 35),
}  # audio, text, vision (ledger 2.1)
OUTPUTS = {"mosi": 1, "mosei": 1, "iemocap": 8}
MODULE = "of which: P's predictions from every subset"
TIME_NOTES = (
    "P is frozen. If the training masks are fixed, its predictions are computed once "
    "('once'); if they are drawn anew in each epoch, before every epoch ('every "
    "epoch', as in Table 1 and in DREAM's time here). At test they cannot be cached. "
    "Computing them in each training step costs about as much as 'every epoch'.",
    "Without the module: the same network without enhancement. The paper gives no "
    "unit; its 'pre-trained' is the total time of P.",
)

OF_SYSTEMS = (
    "The other systems are short readings of ours (docs/systems.md), GCNet of the mean over an utterance's frames; "
    "their times say nothing about the published ones."
)


def times(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 2: seconds of the whole training and of one test pass, of each part by itself."""
    lines = []
    for dataset in context.datasets:
        by_row = {cell.row: cell.spec for cell in on(cells, dataset)}
        measured = _measure(context, by_row)
        if not measured:
            return NOT_BUILT
        name = shown(context, dataset)
        lines += [
            {"data": name, "method": part, "source": "here", "train (s)": train, "test (s)": test}
            for part, (train, test) in measured.items()
        ]
        lines += _printed_times(context, dataset)
    numbers = pd.DataFrame(lines)
    spent = rows.budget(context, context.main)
    notes = (
        f"Medians of {REPEATS} passes on one thread at this profile: {spent.of('corrkd').epochs} epochs of P and "
        f"{spent.of('dream').epochs} of the network in training (on {shown(context, context.main)}), evaluation "
        "left out; one pass over all test utterances at test. DREAM's times include P's own training.",
        *TIME_NOTES,
        *own.of_the_paper(context, OF_SYSTEMS),
        *data_notes(context, context.datasets),
    )
    text = {column: numbers[column].map("{:.3f}".format) for column in ("train (s)", "test (s)")}
    built = len({*TIMED, *TIMED_SYSTEMS} & set(numbers["method"]))
    return Output(numbers.assign(**text), None, numbers, built, notes)


def _printed_times(context: Context, dataset: str) -> list[dict[str, object]]:
    """The printed times, where the data are the paper's."""
    if not context.is_papers(dataset):
        return []
    frame = published(context.paper, "table2")
    mine = frame[frame["dataset"] == dataset]
    table = mine.pivot(index="row", columns="metric", values="value")
    source = {"data": shown(context, dataset), "source": "paper (no unit)"}
    return [
        {
            **source,
            "method": row,
            "train (s)": table.loc[row, "train_time"],
            "test (s)": table.loc[row, "test_time"],
        }
        for row in mine["row"].unique()
    ]


def _measure(context: Context, by_row: Mapping[str, RunSpec]) -> dict[str, tuple[float, float]]:
    """Part to seconds of training and of test; empty where P has not been trained."""
    spec = by_row[rows.OURS]
    method = guided(context, spec)
    if method is None:
        return {}
    bundle, law = prepare(spec), spec.train_mask
    train = to_device(bundle, "train", draw(law, bundle, "train", 0), "cpu")
    test = evaluation_batches(to_device(bundle, "test", draw(law, bundle, "test", 0), "cpu"))
    whole = evaluation_batches(train)
    own = _epoch(method, train, spec, whole)
    p, plain = (build(by_row[row], bundle) for row in (rows.P, rows.PLAIN))
    epoch_of_p, epoch_of_plain = (
        _epoch(other, train, by_row[row], whole)
        for other, row in ((p, rows.P), (plain, rows.PLAIN))
    )
    fill, at_test = (_median(partial(_looked, method, batches)) for batches in (whole, test))
    tested, tested_p, tested_plain = (
        _median(partial(predict, other, test)) for other in (method, p, plain)
    )
    first = by_row[rows.P].training.epochs * epoch_of_p
    epochs = spec.training.epochs
    others = {name: by_row[name] for name in TIMED_SYSTEMS if name in by_row}
    return {
        "DREAM": (first + epochs * (own + fill), tested),
        "pre-trained": (first, tested_p),
        f"{MODULE}, every epoch": (epochs * fill, at_test),
        f"{MODULE}, once": (fill, at_test),
        "without the module": (epochs * epoch_of_plain, tested_plain),
        **{name: _of_a_system(other, bundle) for name, other in others.items()},
    }


def _of_a_system(spec: RunSpec, bundle: Bundle) -> tuple[float, float]:
    """Seconds of training and of test, of a system that is trained in one stage."""
    law, system = spec.train_mask, build(spec, bundle)
    train = to_device(
        bundle, "train", draw(law, bundle, "train", 0), "cpu", system.backbone.needs_complete
    )
    test = evaluation_batches(to_device(bundle, "test", draw(law, bundle, "test", 0), "cpu"))
    epoch = _epoch(system, train, spec, evaluation_batches(train))
    return spec.training.epochs * epoch, _median(partial(predict, system, test))


def _looked(method: Dream, batches: list[Batch]) -> list[torch.Tensor]:
    return [method.look(batch) for batch in batches]


def _epoch(method: Plain, train: Resident, spec: RunSpec, whole: list[Batch]) -> float:
    """Seconds of a training epoch, with what P says of it already known."""
    optimizer = make_optimizer(method, spec.training)
    if isinstance(method, Dream):
        method.start_epoch(Peek(0, 1, lambda: whole, list, list, lambda *_: None))
    seconds = _median(lambda: train_epoch(method, train, optimizer, spec.training, 0, 0, []))
    if isinstance(method, Dream):
        method.end_training(Peek(1, 1, lambda: whole, list, list, lambda *_: None))
        method.eval()
    return seconds


def _median(act: Callable[[], object]) -> float:
    """Seconds of an act, after one to warm up."""
    took = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return float(np.median(took[1:]))


@cache
def sizes(dataset: str) -> dict[str, int]:
    """Parameters at the paper's size and dims: of P, of the network, and of both."""
    dims = dict(zip(("audio", "text", "vision"), DIMS[dataset], strict=True))
    counted = {}
    with torch.device("meta"):
        for name, backbone in (("pre-trained", "corrkd"), ("DREAM", "dream")):
            network = build_backbone(backbone, dims, OUTPUTS[dataset], 1)
            counted[name] = sum(p.numel() for p in network.parameters())
    return {**counted, "total": sum(counted.values())}


def parameters(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 3: parameters at the paper's size beside the printed ones, and how they differ between data sets."""
    frame = published(context.paper, "table3")
    places = zip(frame["row"], frame["dataset"], frame["value"], strict=True)
    paper = {(row, dataset): int(value) for row, dataset, value in places}
    ours = {(name, dataset): value for dataset in DIMS for name, value in sizes(dataset).items()}
    lines = []
    for name in sizes("mosi"):
        line = {"component": name}
        for dataset in DIMS:
            line[f"{dataset} paper"] = f"{paper[name, dataset]:,}"
            line[f"{dataset} ours"] = f"{ours[name, dataset]:,}"
        lines.append(line)
    for first, second in (("mosi", "mosei"), ("mosei", "iemocap")):
        for name in ("pre-trained", "DREAM"):
            printed, counted = (of[name, second] - of[name, first] for of in (paper, ours))
            lines.append(
                {
                    "component": f"{name}: {second} minus {first}",
                    f"{second} paper": f"{printed:,}",
                    f"{second} ours": f"{counted:,}",
                }
            )
    table = pd.DataFrame(lines).fillna("")
    dims = "; ".join(
        f"{d}: audio {a}, text {t}, vision {v}, {OUTPUTS[d]} outputs"
        for d, (a, t, v) in DIMS.items()
    )
    notes = (
        f"Counted from the networks at the paper's size, of no data: {dims} (ledger 2.1, from the differences of "
        "the printed counts).",
        "The layout of P matches its three printed parameter counts; other layouts "
        "do, too (B16). The differences of the network's counts between data sets "
        "match the printed ones, which fixes its input layers and its head. The paper "
        "does not describe the layers between them, so the totals differ.",
        f"P has this size in every profile; the network is {rows.width(context)} wide in this one.",
    )
    return Output(table, None, table, len(sizes("mosi")), notes)
