"""``mmlib bench balm --lengths``: what a training step costs as dialogues get longer, and which part of it.

Every step has about as many utterances, at IEMOCAP's dims and full width on one thread, so that per utterance
only the length of the dialogues changes.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent

from mmlib.backbones import build_backbone
from mmlib.bench.common import PARTS, SIZES, apart, case_name, machine
from mmlib.bench.page import by_name, cost
from mmlib.bench.step import RATES, SCHEDULE
from mmlib.data.twins import MODALITIES, ROLES
from mmlib.fit import make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.nn.batch import Batch, make_layout
from mmlib.nn.gru import Recurrence

METHODS = (("plain", "paper"), ("balm", "paper"))
PER_STEP = 600
STEPS = 5
ROLE = ROLES["iemocap6"]
RECURRENT = {"aten::lstm", "aten::gru", Recurrence.__name__}
PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot")}
BACKWARD = "autograd::engine::evaluate_function: "
UPDATE = ("Optimizer.", "aten::_foreach", "aten::_fused_adam")


@dataclass(frozen=True)
class LengthCase:
    """One measurement."""

    backbone: str
    """A name in ``BACKBONES``."""

    method: str
    """A name in ``METHODS`` of ``mmlib.methods``."""

    variant: str
    """A variant of the method."""

    size: str
    """A key of ``common.SIZES``."""

    length: int
    """Utterances of each dialogue."""

    per_step: int = PER_STEP
    """Utterances of a step; there are ``per_step // length`` dialogues, at least one."""

    @property
    def dialogues(self) -> int:
        """How many dialogues a step has."""
        return max(1, self.per_step // self.length)


def report_of(backbones: Sequence[str], size: str, lengths: Sequence[int]) -> dict[str, Any]:
    """Measure each backbone, alone and with BALM, at each length; what ``--json`` writes."""
    rows = []
    for backbone, (method, variant), length in itertools.product(backbones, METHODS, lengths):
        print(
            f"measuring {case_name(backbone, method, variant)}, {length} utterances ...",
            file=sys.stderr,
            flush=True,
        )
        rows.append(apart(measure, LengthCase(backbone, method, variant, size, length)))
    return {"machine": machine("cpu"), "lengths": list(lengths), "rows": rows}


def measure(case: LengthCase) -> dict[str, Any]:
    """Seconds of a training step (median of ``STEPS`` after one for warming up) and its parts' shares.

    The shares are those of the operations' own times in one more step under torch's profiler: Python between
    operations is not seen, and what the profiler adds to each operation weighs most on parts made of many small
    ones, the recurrences above all. ``profiled_seconds`` is what that step took.
    """
    torch.set_num_threads(1)
    step = step_of(case)
    step()
    seconds = statistics.median(_timed(step) for _ in range(STEPS))
    events, profiled = _profile(step)
    spent = dict.fromkeys(PARTS, 0.0)
    for event, part in zip(
        events, parts(events, case.dialogues * len(MODALITIES), case.length), strict=True
    ):
        spent[part] += event.self_cpu_time_total
    utterances = case.dialogues * case.length
    return {
        **asdict(case),
        "name": case_name(case.backbone, case.method, case.variant),
        "dialogues": case.dialogues,
        "utterances": utterances,
        "step_seconds": seconds,
        "profiled_seconds": profiled,
        "utterances_per_second": utterances / seconds,
        "shares": {part: time_spent / sum(spent.values()) for part, time_spent in spent.items()},
    }


def _profile(step: Callable[[], object]) -> tuple[list[FunctionEvent], float]:
    """The operations of a step, and its seconds; the profiler has warmed up in a step of its own."""
    once = torch.profiler.schedule(wait=0, warmup=1, active=1)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, schedule=once
    ) as profile:
        step()
        profile.step()
        seconds = _timed(step)
    events = profile.events()
    return [event for event in events or () if not event.name.startswith("ProfilerStep")], seconds


def step_of(case: LengthCase) -> Callable[[], object]:
    """A training of full width at the paper's focus rates, and the function that does one step of it."""
    torch.manual_seed(0)
    count = case.dialogues * case.length
    dims = dict(zip(MODALITIES, ROLE.shapes[SIZES[case.size]].dims, strict=True))
    observed = torch.rand(count, len(MODALITIES)) >= torch.tensor([RATES[m] for m in MODALITIES])
    features = {
        m: torch.randn(count, dims[m]) * observed[:, i : i + 1] for i, m in enumerate(MODALITIES)
    }
    batch = Batch(
        features,
        observed,
        torch.randint(ROLE.task.outputs, (count,)),
        torch.randint(ROLE.speakers, (count,)),
        make_layout([case.length] * case.dialogues),
    )
    backbone = build_backbone(case.backbone, dims, ROLE.task.outputs, ROLE.speakers)
    method = build_method(case.method, case.variant, (), backbone, ROLE.task, dims).train()
    optimizer = make_optimizer(method, SCHEDULE)
    return lambda: train_step(method, batch, optimizer, SCHEDULE.clip)


def parts(events: Sequence[FunctionEvent], grids: int, length: int) -> list[str]:
    """The part of each profiled operation.

    recurrences: what runs inside ``lstm``, ``gru`` and ``nn.gru.Recurrence`` and backward of it, products included
    (but a ``Recurrence`` is given its inputs' products ready made); a backward operation is told by the sequence
    number of the forward one that caused it. pairs: what is done outside of them to the graph's blocks of all
    pairs of utterances, told by their shape, (``grids``, length, length), and products that make such a block.
    products: other matrix products, of linear and graph layers alike. update: optimiser, clipping and BALM's
    scaling of gradients. rest: other elementwise work and moving of data, which cannot be told apart by layer.
    Where the length equals the width of a layer, that layer's padded nodes count as pairs.
    """
    caused: dict[int, bool] = {}
    above = {id(event): _above(event) for event in events}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0 and not any(
            e.name.startswith(BACKWARD) for e in above[id(event)]
        ):
            caused[event.sequence_nr] = any(e.name in RECURRENT for e in above[id(event)])
    return [_part(event, above[id(event)], caused, (grids, length, length)) for event in events]


def _part(
    event: FunctionEvent,
    above: list[FunctionEvent],
    caused: dict[int, bool],
    block: tuple[int, ...],
) -> str:
    node = next((e.sequence_nr for e in above if e.name.startswith(BACKWARD)), -1)
    if caused.get(node, False) or any(e.name in RECURRENT for e in above):
        return "recurrences"
    if any(e.name.startswith(UPDATE) for e in above):
        return "update"
    given: Any = event.input_shapes or ()
    shapes = [tuple(shape) for shape in given]
    if block in shapes or (
        event.name == "aten::bmm" and (shapes[0][:2], shapes[1][::2]) == (block[:2], block[::2])
    ):
        return "pairs"
    return "products" if event.name in PRODUCTS else "rest"


def _above(event: FunctionEvent) -> list[FunctionEvent]:
    events: list[FunctionEvent] = []
    here: FunctionEvent | None = event
    while here is not None:
        events.append(here)
        here = here.cpu_parent
    return events


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def render(report: dict[str, Any]) -> str:
    """The table as the terminal shows it, with what it was measured on."""
    lines, here = table(report), report["machine"]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        [
            f"cpu ({here['device_name']}), {here['cores']} cores, one thread, torch {here['torch']}; about "
            f"{report['rows'][0]['per_step']} utterances a step; median of {STEPS} steps after one for warming up",
            "",
            *(
                "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
                for line in lines
            ),
            "",
            "growth: time per utterance over that at the first length; the rest: shares of the operations' own times",
        ]
    )


def table(report: dict[str, Any]) -> list[list[str]]:
    """Header and one line per measurement of ``--lengths``; growth is time per utterance over the first length's."""
    lines = [
        [
            "method",
            "utterances a dialogue",
            "ms a step",
            "utterances/s",
            "growth",
            *(f"{p} %" for p in PARTS),
        ]
    ]
    for rows in by_name(report["rows"]).values():
        lines += [
            [
                row["name"],
                str(row["length"]),
                f"{1e3 * row['step_seconds']:.0f}",
                f"{row['utterances_per_second']:,.0f}",
                f"{cost(row) / cost(rows[0]):.2f}",
                *(f"{100 * row['shares'][part]:.0f}" for part in PARTS),
            ]
            for row in rows
        ]
    return lines
