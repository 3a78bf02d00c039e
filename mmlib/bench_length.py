"""``mmlib bench balm --lengths``: what a training step costs as dialogues get longer, and which part of it.

Every step has about as many utterances, at IEMOCAP's dims and full width on one thread, so that per utterance
only the length of the dialogues changes.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent

from mmlib.backbones import build_backbone
from mmlib.bench import SIZES, apart, case_name, machine
from mmlib.bench_step import RATES, SCHEDULE
from mmlib.data.twins import MODALITIES, ROLES
from mmlib.fit import make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.nn.batch import Batch, make_layout

METHODS = (("plain", "paper"), ("balm", "paper"))
PER_STEP = 600
STEPS = 5
ROLE = ROLES["iemocap6"]
# Parts of a step's time, in the order of the table.
PARTS = ("recurrences", "products", "pairs", "update", "rest")
RECURRENT = {"aten::lstm", "aten::gru"}
PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot")}
BACKWARD = "autograd::engine::evaluate_function: "
UPDATE = ("Optimizer.", "aten::_foreach", "aten::_fused_adam")


@dataclass(frozen=True)
class LengthCase:
    """One measurement: ``per_step // length`` dialogues (at least one) of ``length`` utterances each."""

    backbone: str
    method: str
    variant: str
    size: str
    length: int
    per_step: int = PER_STEP

    @property
    def dialogues(self) -> int:
        """How many dialogues a step has."""
        return max(1, self.per_step // self.length)


def report_of(backbones: Sequence[str], size: str, lengths: Sequence[int]) -> dict[str, Any]:
    """Measure each backbone, alone and with BALM, at each length; what ``--json`` writes."""
    rows = []
    for backbone, (method, variant), length in itertools.product(backbones, METHODS, lengths):
        print(f"measuring {case_name(backbone, method, variant)}, {length} utterances ...", file=sys.stderr, flush=True)
        rows.append(apart(measure, LengthCase(backbone, method, variant, size, length)))
    return {"machine": machine("cpu"), "lengths": list(lengths), "rows": rows}


def measure(case: LengthCase) -> dict[str, Any]:
    """Seconds of a training step (median of ``STEPS`` after one for warming up) and its parts' shares."""
    torch.set_num_threads(1)
    step = step_of(case)
    step()
    seconds = statistics.median(_timed(step) for _ in range(STEPS))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        profiled = _timed(step)
    spent = spend(list(profile.events()), case.dialogues * len(MODALITIES), case.length, profiled - seconds)
    utterances = case.dialogues * case.length
    return {**asdict(case), "name": case_name(case.backbone, case.method, case.variant), "dialogues": case.dialogues,
            "utterances": utterances, "step_seconds": seconds, "profiled_seconds": profiled,
            "utterances_per_second": utterances / seconds,
            "shares": {part: spent[part] / sum(spent.values()) for part in PARTS}}


def step_of(case: LengthCase) -> Callable[[], object]:
    """A training of full width at the paper's focus rates, and the function that does one step of it."""
    torch.manual_seed(0)
    count, dims = case.dialogues * case.length, dict(zip(MODALITIES, ROLE.shapes[SIZES[case.size]].dims, strict=True))
    observed = torch.rand(count, len(MODALITIES)) >= torch.tensor([RATES[m] for m in MODALITIES])
    features = {m: torch.randn(count, dims[m]) * observed[:, i:i + 1] for i, m in enumerate(MODALITIES)}
    batch = Batch(features, observed, torch.randint(ROLE.task.outputs, (count,)),
                  torch.randint(ROLE.speakers, (count,)), make_layout([case.length] * case.dialogues))
    backbone = build_backbone(case.backbone, dims, ROLE.task.outputs, ROLE.speakers)
    method = build_method(case.method, case.variant, (), backbone, ROLE.task, dims).train()
    optimizer = make_optimizer(method, SCHEDULE)
    return lambda: train_step(method, batch, optimizer, SCHEDULE.clip)


def spend(events: Sequence[FunctionEvent], grids: int, length: int, overhead: float) -> dict[str, float]:
    """Seconds by part: the operations' own times, less an equal piece of the profiler's ``overhead`` (seconds) each.

    Python between operations is not seen, and that each operation costs the profiler the same is a guess.
    """
    spent = Counter(dict.fromkeys(PARTS, 0.0))
    for event, part in zip(events, parts(events, grids, length), strict=True):
        spent[part] += event.self_cpu_time_total / 1e6 - max(0.0, overhead) / len(events)
    return {part: max(0.0, seconds) for part, seconds in spent.items()}


def parts(events: Sequence[FunctionEvent], grids: int, length: int) -> list[str]:
    """The part of each profiled operation.

    recurrences: what runs inside ``lstm`` and ``gru`` and backward of it, products included; a backward operation
    is told by the sequence number of the forward one that caused it. pairs: what is done outside of them to the
    graph's blocks of all pairs of utterances, told by their shape, (``grids``, length, length), and products
    that make such a block. products: other matrix products, of linear and graph layers alike. update: optimiser,
    clipping and BALM's scaling of gradients. rest: other elementwise work and moving of data; operations on nodes
    cannot be told apart by layer. Where the length is a graph layer's width, its padded nodes count as pairs.
    """
    caused: dict[int, bool] = {}
    above = {id(event): _above(event) for event in events}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0 and not any(e.name.startswith(BACKWARD) for e in above[id(event)]):
            caused[event.sequence_nr] = any(e.name in RECURRENT for e in above[id(event)])
    return [_part(event, above[id(event)], caused, (grids, length, length)) for event in events]


def _part(event: FunctionEvent, above: list[FunctionEvent], caused: dict[int, bool], block: tuple[int, ...]) -> str:
    node = next((e.sequence_nr for e in above if e.name.startswith(BACKWARD)), -1)
    if caused.get(node, False) or any(e.name in RECURRENT for e in above):
        return "recurrences"
    if any(e.name.startswith(UPDATE) for e in above):
        return "update"
    shapes = [tuple(shape) for shape in event.input_shapes or ()]
    if block in shapes or (event.name == "aten::bmm" and (shapes[0][:2], shapes[1][::2]) == (block[:2], block[::2])):
        return "pairs"
    return "products" if event.name in PRODUCTS else "rest"


def _above(event: FunctionEvent) -> list[FunctionEvent]:
    found: list[FunctionEvent] = []
    here: FunctionEvent | None = event
    while here is not None:
        found.append(here)
        here = here.cpu_parent
    return found


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def growth(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float:
    """Time per utterance over that of the same method at the first length."""
    first = next(r for r in rows if r["name"] == row["name"])
    return float(first["utterances_per_second"] / row["utterances_per_second"])


def table(report: dict[str, Any]) -> list[list[str]]:
    """Header and one line per measurement."""
    lines = [["method", "utterances a dialogue", "ms a step", "utterances/s", "growth", *(f"{p} %" for p in PARTS)]]
    return lines + [[row["name"], str(row["length"]), f"{1e3 * row['step_seconds']:.0f}",
                     f"{row['utterances_per_second']:,.0f}", f"{growth(row, report['rows']):.2f}",
                     *(f"{100 * row['shares'][part]:.0f}" for part in PARTS)] for row in report["rows"]]
