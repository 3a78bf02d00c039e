"""What ``mmlib bench`` measures: epochs, the matrix products of an epoch traced and replayed, memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlib.backbones import build_backbone
from mmlib.bench.common import SIZES, case_name
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.fit import make_optimizer, train_epoch
from mmlib.masks import draw, imbalanced
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Resident, to_device
from mmlib.runs.spec import Training

RATES = {"audio": 0.5, "text": 0.7, "vision": 0.3}
SCHEDULE = Training(batch=16)
# Where the two factors stand among the arguments of each operation that is a matrix product.
FACTORS = {
    "mm": (0, 1),
    "addmm": (1, 2),
    "bmm": (0, 1),
    "baddbmm": (1, 2),
    "mv": (0, 1),
    "addmv": (1, 2),
}


@dataclass(frozen=True)
class Case:
    """One measurement."""

    backbone: str
    """A name in ``BACKBONES``."""

    method: str
    """A name in ``METHODS`` of ``mmlib.methods``."""

    variant: str
    """A variant of the method."""

    size: str
    """A key of ``common.SIZES``."""

    threads: int
    """Of torch."""

    epochs: int
    """How many are timed, after one for warming up."""

    device: str
    """``cpu``, ``cuda`` or ``mps``."""

    @property
    def name(self) -> str:
        """As the table shows it."""
        return case_name(self.backbone, self.method, self.variant)


@dataclass(frozen=True, order=True)
class Product:
    """A matrix product and how often it occurs."""

    op: str
    """``mm`` or ``bmm``."""

    left: str
    """``ROWSxCOLUMNS``, for ``bmm`` after the batch, with a final ``t`` where the matrix is stored column by column."""

    right: str
    """As ``left``."""

    count: int
    """How often it occurs."""

    @property
    def flops(self) -> int:
        """Floating-point operations of all occurrences, a multiplication and an addition being two."""
        left, right = _shape(self.left)[0], _shape(self.right)[0]
        total = 2 * self.count * right[-1]
        for size in left:
            total *= size
        return total


class _Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the products of everything that runs under it, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in FACTORS:
            left, right = (args[i] for i in FACTORS[name])
            self.counts["bmm" if left.ndim == 3 else "mm", _text(left), _text(right)] += 1
        elif name == "mkldnn_rnn_layer":
            self._recurrent(*(tuple(t.shape) for t in args[:3]))
        elif name == "mkldnn_rnn_layer_backward":
            self._recurrent_backward(*(tuple(t.shape) for t in args[:3]))
        return func(*args, **(kwargs or {}))

    def _recurrent(
        self, x: tuple[int, ...], inner: tuple[int, ...], hidden: tuple[int, ...]
    ) -> None:
        """The fused recurrent layer names no products: one for all inputs, one per step for the state.

        x: (steps, dialogues, inputs); inner: (gates, inputs); hidden: (gates, width).
        """
        steps, rows = x[:2]
        self.counts["mm", f"{steps * rows}x{inner[1]}", f"{inner[1]}x{inner[0]}t"] += 1
        self.counts["mm", f"{rows}x{hidden[1]}", f"{hidden[1]}x{hidden[0]}t"] += steps

    def _recurrent_backward(
        self, x: tuple[int, ...], inner: tuple[int, ...], hidden: tuple[int, ...]
    ) -> None:
        steps, rows = x[:2]
        gates, inputs, width = *inner, hidden[1]
        self.counts["mm", f"{rows}x{gates}", f"{gates}x{width}"] += steps
        self.counts["mm", f"{steps * rows}x{gates}", f"{gates}x{inputs}"] += 1
        self.counts["mm", f"{gates}x{steps * rows}t", f"{steps * rows}x{inputs}"] += 1
        self.counts["mm", f"{gates}x{steps * rows}t", f"{steps * rows}x{width}"] += 1


def list_products(work: Callable[[], object]) -> list[Product]:
    """The matrix products that a piece of work on the CPU does, sorted."""
    with _Listener() as listener:
        work()
    return [
        Product(op, left, right, count)
        for (op, left, right), count in sorted(listener.counts.items())
    ]


def replay(products: Iterable[Product], device: torch.device | str) -> Callable[[], None]:
    """A function that does these products, and nothing else, on operands made beforehand.

    Equal products follow each other on the same operands, so their time is what the products need
    at the least.
    """
    prepared: list[tuple[Callable[..., Tensor], Tensor, Tensor, Tensor, int]] = []
    for product in products:
        left, right = _operand(product.left, device), _operand(product.right, device)
        multiply = torch.bmm if product.op == "bmm" else torch.mm
        prepared.append((multiply, left, right, multiply(left, right), product.count))

    def work() -> None:
        for multiply, left, right, out, count in prepared:
            for _ in range(count):
                multiply(left, right, out=out)

    return work


def measure(case: Case) -> dict[str, Any]:
    """Seconds per epoch and of its products alone, memory and set-up, in plain containers.

    Every epoch has the same batches, those that are traced. Epochs and replays take turns, so that what
    else the machine does slows both. The trace is made on the CPU, also for other devices.
    """
    torch.set_num_threads(case.threads)
    bundle = open_bundle(f"twin:iemocap6@{SIZES[case.size]}")
    device = torch.device(case.device)
    sync = sync_of(device)
    epoch, first = _first_epoch(case, bundle, device)
    products = list_products(epoch_of(case, bundle, torch.device("cpu")))
    alone = replay(products, device)
    alone()
    pairs = [(timed(epoch, sync), timed(alone, sync)) for _ in range(case.epochs)]
    seconds, product_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    utterances = len(bundle.rows("train"))
    return {
        **asdict(case),
        "name": case.name,
        "utterances": utterances,
        "dialogues": len(bundle.dialogues("train")),
        "dims": bundle.dims,
        "utterances_per_second": utterances / seconds,
        "epoch_seconds": seconds,
        "product_seconds": product_seconds,
        "ratio": statistics.median(a / b for a, b in pairs),
        "gflop": sum(p.flops for p in products) / 1e9,
        **first,
        "idle_percent": idle_percent(epoch, seconds) if device.type == "cuda" else None,
        "products": [astuple(p) for p in products],
    }


def _first_epoch(
    case: Case, bundle: Bundle, device: torch.device
) -> tuple[Callable[[], None], dict[str, float | None]]:
    """What trains an epoch, once it has warmed up; and the memory and the set-up that this took."""
    sync = sync_of(device)
    before = _peak_mb()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    epoch = epoch_of(case, bundle, device)
    sync()
    setup = time.perf_counter() - start
    epoch()
    sync()
    return epoch, {
        "memory_mb": _peak_mb() - before,
        "setup_seconds": setup,
        "cuda_memory_mb": torch.cuda.max_memory_allocated() / 2**20
        if device.type == "cuda"
        else None,
    }


def epoch_of(case: Case, bundle: Bundle, device: torch.device) -> Callable[[], None]:
    """A training of full width at the paper's focus rates, and the function that trains one epoch of it."""
    mask = draw(imbalanced(RATES), bundle, "train", 0)
    train: Resident = to_device(bundle, "train", mask, device)
    torch.manual_seed(0)
    backbone = build_backbone(case.backbone, bundle.dims, bundle.task.outputs, bundle.speakers)
    method: Plain = build_method(
        case.method, case.variant, (), backbone, bundle.task, bundle.dims
    ).to(device)
    optimizer = make_optimizer(method, SCHEDULE)
    return lambda: _discard(train_epoch(method, train, optimizer, SCHEDULE, 0, 0, []))


def _discard(loss: Tensor) -> None:
    """Nothing is read from the device inside a measurement."""


def _nothing() -> None:
    """The CPU needs no waiting."""


def sync_of(device: torch.device) -> Callable[[], None]:
    """What waits until a device has done its work."""
    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, _nothing)


def timed(work: Callable[[], object], sync: Callable[[], None]) -> float:
    """Seconds of some work, what it left to the device included."""
    sync()
    start = time.perf_counter()
    work()
    sync()
    return time.perf_counter() - start


def idle_percent(epoch: Callable[[], None], seconds: float) -> float:
    """Share of an unprofiled epoch on CUDA in which no kernel runs; the kernels' time comes from a profiled one."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        epoch()
        torch.cuda.synchronize()
    kernels = sum(e.self_device_time_total for e in profile.key_averages()) / 1e6
    return float(100 * max(0.0, 1 - kernels / seconds))


def _peak_mb() -> float:
    """The largest resident size of this process so far; macOS counts bytes, Linux kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def _text(matrix: Tensor) -> str:
    if matrix.ndim == 1:
        return f"{len(matrix)}x1"
    by_column = matrix.stride(-1) != 1 and matrix.stride(-2) == 1
    return "x".join(map(str, matrix.shape)) + "t" * by_column


def _shape(text: str) -> tuple[tuple[int, ...], bool]:
    return tuple(int(size) for size in text.rstrip("t").split("x")), text.endswith("t")


def _operand(text: str, device: torch.device | str) -> Tensor:
    shape, by_column = _shape(text)
    if not by_column:
        return torch.randn(shape, device=device)
    return torch.randn(*shape[:-2], shape[-1], shape[-2], device=device).transpose(-1, -2)
