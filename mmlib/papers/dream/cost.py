"""DREAM's Tables 2 and 3: what P and its predictions from every subset cost here, and how many parameters there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pandas as pd
import torch

from mmlib.backbones import build_backbone
from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.fit import evaluation_batches, make_optimizer, predict, train_epoch
from mmlib.masks import draw
from mmlib.methods.dream import Dream
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, Resident, to_device
from mmlib.papers.dream import runs
from mmlib.papers.dream.contributions import guided
from mmlib.report.artifact import Output
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec

REPEATS = 3
DIMS = {"mosi": (5, 300, 20), "mosei": (74, 300, 35), "iemocap": (74, 300, 35)}  # audio, text, vision (ledger 2.1)
OUTPUTS = {"mosi": 1, "mosei": 1, "iemocap": 8}
MODULE = "of which: P's predictions from every subset"


def time_specs(context: Context) -> list[RunSpec]:
    """The first seed's runs of Table 1: P's weights are needed."""
    return stages.specs_of(c for d in context.datasets for c in runs.dropped(context, d, runs.main_rows())
                           if c.spec.seed == 0 and not c.spec.fold)


def times(context: Context) -> Output:
    """Table 2: seconds of the whole training and of one test pass, of each part by itself."""
    lines = []
    for dataset in context.datasets:
        found = _measure(context, dataset)
        if not found:
            return Output(notes=("Not built yet.",))
        lines += [{"data": shown(context, dataset), "method": name, "source": "here", "train (s)": train,
                   "test (s)": test} for name, (train, test) in found.items()]
        lines += _printed_times(context, dataset)
    numbers = pd.DataFrame(lines)
    spent = runs.BUDGETS[context.profile.name]
    notes = (f"Medians of {REPEATS} passes on one thread at this profile: {spent.first} epochs of P and {spent.epochs} "
             "of the network in training, evaluation left out; one pass over all test utterances at test. DREAM's "
             "times include P's own training.",
             "P is frozen. Where training masks are fixed its predictions are made once ('once'); where they are drawn "
             "anew each epoch, before every epoch ('every epoch', as in Table 1 and in DREAM's time here); at test "
             "they cannot be kept. Made within each training step they cost about as much as 'every epoch'.",
             "Without the module: the same network with nothing enhanced. The paper gives no unit; its 'pre-trained' "
             "is the total of P. CubeMLP, TransM and GCNet (on frames) are not built yet.",
             *data_notes(context, context.datasets))
    built = len({"DREAM", "pre-trained"} & set(published(context.paper, "table2")["row"]))
    text = numbers.assign(**{c: numbers[c].map("{:.3f}".format) for c in ("train (s)", "test (s)")})
    return Output(table=text, numbers=numbers, rows_built=built, notes=notes)


def _printed_times(context: Context, dataset: str) -> list[dict[str, object]]:
    """The printed times, where the data are the paper's."""
    if not context.is_papers(dataset):
        return []
    frame = published(context.paper, "table2")
    mine = frame[frame["dataset"] == dataset]
    told = {(r, m): v for r, m, v in zip(mine["row"], mine["metric"], mine["value"], strict=True)}
    return [{"data": shown(context, dataset), "method": row, "source": "paper (no unit)",
             "train (s)": told[row, "train_time"], "test (s)": told[row, "test_time"]} for row in mine["row"].unique()]


def _measure(context: Context, dataset: str) -> dict[str, tuple[float, float]]:
    """Part to seconds of training and of test; empty where P has not been trained."""
    chosen = {row.kind: next(c.spec for c in runs.dropped(context, dataset, [row]) if c.spec.seed == 0)
              for row in runs.main_rows()}
    method = guided(context, chosen["dream"])
    if method is None:
        return {}
    spec = chosen["dream"]
    bundle, law = prepare(spec), spec.train_mask
    train = to_device(bundle, "train", draw(law, bundle, "train", 0), "cpu")
    test = evaluation_batches(to_device(bundle, "test", draw(law, bundle, "test", 0), "cpu"))
    whole = evaluation_batches(train)
    spent = runs.budget(context, dataset)
    own = _epoch(method, train, spec, whole)
    alone = {kind: build(chosen[kind], bundle) for kind in ("plain", "reference")}
    epoch = {kind: _epoch(other, train, chosen[kind], whole) for kind, other in alone.items()}
    tested = {kind: _median(partial(predict, other, test)) for kind, other in alone.items()}
    fill, at_test = (_median(partial(_looked, method, batches)) for batches in (whole, test))
    first = spent.first * epoch["reference"]
    return {"DREAM": (first + spent.epochs * (own + fill), _median(partial(predict, method, test))),
            "pre-trained": (first, tested["reference"]),
            f"{MODULE}, every epoch": (spent.epochs * fill, at_test), f"{MODULE}, once": (fill, at_test),
            "without the module": (spent.epochs * epoch["plain"], tested["plain"])}


def _looked(method: Dream, batches: list[Batch]) -> list[torch.Tensor]:
    return [method.look(batch) for batch in batches]


def _epoch(method: Plain, train: Resident, spec: RunSpec, whole: list[Batch]) -> float:
    """Seconds of a training epoch, with what P says of it already known."""
    optimizer = make_optimizer(method, spec.training)
    if isinstance(method, Dream):
        method.start_epoch(Peek(0, 1, lambda: whole, list, list, lambda *_: None))
    found = _median(lambda: train_epoch(method, train, optimizer, spec.training, 0, 0, []))
    if isinstance(method, Dream):
        method.end_training(Peek(1, 1, lambda: whole, list, list, lambda *_: None))
        method.eval()
    return found


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
    with torch.device("meta"):
        found = {name: sum(p.numel() for p in build_backbone(backbone, dims, OUTPUTS[dataset], 1).parameters())
                 for name, backbone in (("pre-trained", "corrkd"), ("DREAM", "dream"))}
    return {**found, "total": sum(found.values())}


def parameter_specs(context: Context) -> list[RunSpec]:
    """No runs: the networks are built, not trained."""
    return []


def parameters(context: Context) -> Output:
    """Table 3: parameters at the paper's size beside the printed ones, and how they differ between data sets."""
    frame = published(context.paper, "table3")
    printed = {(r, d): int(v) for r, d, v in zip(frame["row"], frame["dataset"], frame["value"], strict=True)}
    lines = [{"component": name, **{part: f"{value:,}" for d in DIMS for part, value in (
        (f"{d} paper", printed[name, d]), (f"{d} ours", sizes(d)[name]))}} for name in sizes("mosi")]
    for first, second in (("mosi", "mosei"), ("mosei", "iemocap")):
        for name in ("pre-trained", "DREAM"):
            told, made = (printed[name, second] - printed[name, first], sizes(second)[name] - sizes(first)[name])
            lines.append({"component": f"{name}: {second} minus {first}", f"{second} paper": f"{told:,}",
                          f"{second} ours": f"{made:,}"})
    table = pd.DataFrame(lines).fillna("")
    dims = "; ".join(f"{d}: audio {a}, text {t}, vision {v}, {OUTPUTS[d]} outputs" for d, (a, t, v) in DIMS.items())
    notes = (f"Counted from the networks at the paper's size, of no data: {dims} (ledger 2.1, from the differences of "
             "the printed counts).", "P's layout is one that meets its three printed counts; others do too (B16). "
             "The network's differences between data sets are the printed ones, which fixes its input maps and its "
             "head; what is between them the paper does not give, so that its total differs.",
             f"P has this size in every profile; the network is {runs.BUDGETS[context.profile.name].hidden} wide in "
             "this one.")
    return Output(table=table, numbers=table, rows_built=len(sizes("mosi")), notes=notes)
