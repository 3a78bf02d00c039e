"""``mmlib bench gmm_loss``: clips per second of a ResNet-18 training on made clips of CREMA-D's true size."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmlib.backbones import build_backbone
from mmlib.bench.command import EPOCHS
from mmlib.bench.common import device_of, machine, markdown
from mmlib.bench.step import idle_percent
from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.errors import unknown_name
from mmlib.fit import Schedule, make_optimizer, train_epoch
from mmlib.masks import complete, draw
from mmlib.methods import build_method
from mmlib.methods.gmm_loss import GmmLoss, Mixture
from mmlib.methods.plain import Plain
from mmlib.nn.batch import to_device
from mmlib.runs.spec import Training


@dataclass(frozen=True)
class Size:
    """How large the clips and the network are."""

    audio: tuple[int, int]
    """(bins, steps) of the sound."""

    side: int
    """Pixels of the frame's side."""

    width: int
    """Width of the network."""

    clips: int
    """How many clips an epoch has."""


SIZES = {"crema-d": Size((257, 188), 224, 64, 256), "quick": Size((32, 32), 32, 8, 512)}
METHODS = ("plain", "gmm_loss")
SCHEDULE: Schedule = Training(
    epochs=1, batch=64, lr=2e-3, weight_decay=1e-4, optimizer="momentum", clip=0.0
)


def made_clips(size: Size) -> Bundle:
    """Clips of noise, all of them for training but one each of validation and test."""
    generator, n = np.random.default_rng(0), size.clips + 2
    audio = generator.standard_normal((n, 1, *size.audio), dtype=np.float32)
    vision = generator.integers(0, 256, (n, 1, 3, size.side, size.side), dtype=np.uint8)
    split = ["train"] * size.clips + ["valid", "test"]
    return make_bundle(
        "made-clips",
        Task("classes", tuple("abcdef")),
        {"audio": audio, "vision": vision},
        np.arange(n) % 6,
        split,
        [f"c{i:05}" for i in range(n)],
        position=[0] * n,
    )


def measure(method: str, size: Size, device: torch.device, epochs: int) -> dict[str, Any]:
    """Median clips per second of some epochs after one for warming up, and on CUDA memory and the idle share.

    gmm_loss: its adaptive phase, under a mixture as in the paper's Fig 2. The clips are on the device throughout, so
    that idle time is not data's but the host's.
    """
    bundle = made_clips(size)
    model = model_of(method, bundle, size.width, device)
    train = to_device(bundle, "train", draw(complete(), bundle, "train", 0), device)
    optimizer = make_optimizer(model, SCHEDULE)

    def epoch() -> None:
        train_epoch(model, train, optimizer, SCHEDULE, 0, 0, [])
        if device.type == "cuda":
            torch.cuda.synchronize()

    epoch()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    taken = statistics.median(seconds)
    on_cuda = device.type == "cuda"
    return {
        "method": method,
        "clips": size.clips,
        "clips_per_second": size.clips / taken,
        "epoch_seconds": taken,
        "cuda_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if on_cuda else None,
        "idle_percent": idle_percent(epoch, taken) if on_cuda else None,
    }


def model_of(method: str, bundle: Bundle, width: int, device: torch.device) -> Plain:
    """The model that is measured, from fixed random weights; of gmm_loss with a mixture as in the paper's Fig 2."""
    torch.manual_seed(0)
    network = build_backbone("concat", bundle.dims, 6, 1, [("encoder", "resnet"), ("width", width)])
    model = build_method(method, "paper", (), network, bundle.task, bundle.dims).to(device)
    if isinstance(model, GmmLoss):
        fields = ((0.857, 0.143), (0.0056, 0.6966), (0.01, 0.01))
        model.mixture = Mixture(*(torch.tensor(values, device=device) for values in fields))
    return model


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure plain training and the adaptive phase, and print a table.

    Raises:
        InputError: an unknown size, a device that is not here, or a number out of range.
    """
    # The common default is of other cases.
    name = "crema-d" if args.size == "iemocap" else args.size
    if name not in SIZES:
        raise unknown_name("--size", name, SIZES)
    device, epochs = device_of(args), args.epochs or EPOCHS
    if args.threads:
        torch.set_num_threads(args.threads[0])
    rows = []
    for method in METHODS:
        print(f"measuring {method} on made clips of size {name} ...", file=sys.stderr, flush=True)
        rows.append(measure(method, SIZES[name], device, epochs))
    head = ["method", "clips/s", "s/epoch", "CUDA memory MB", "idle %"]
    lines = [
        [
            row["method"],
            f"{row['clips_per_second']:,.1f}",
            f"{row['epoch_seconds']:.2f}",
            *(
                "-" if row[key] is None else f"{row[key]:.0f}"
                for key in ("cuda_memory_mb", "idle_percent")
            ),
        ]
        for row in rows
    ]
    print(markdown([head, ["---"] * len(head), *lines]))
    return {"machine": machine(args.device), "clips": name, "rows": rows}
