"""No step of any method on any network waits for the device: on a GPU each wait empties the queue of its work.

A step is run where torch shows every operation; those whose outcome the host must know before it can go on are
counted. Batches are cut and put on the device outside the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmlib import fit
from mmlib.backbones import BACKBONES, dream
from mmlib.experiments import search
from mmlib.experiments.profiles import profile
from mmlib.experiments.rows import with_parents
from mmlib.experiments.systems import SYSTEMS
from mmlib.methods import METHODS
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import regenerate
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training

aten = torch.ops.aten
# Operations that give a number to the host, or whose result has as many rows as the data say.
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.bincount,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.repeat_interleave,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
TWIN = "twin:iemocap6@smoke"
TO_HOST = ("cpu", "numpy", "tolist", "item", "__array__")


class Watch(TorchDispatchMode):
    """Notes the operations that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kind = func.overloadpacket
        by_mask = kind in INDEXING and any(
            isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1]
        )
        if by_mask or kind in WAITING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def specs() -> dict[str, RunSpec]:
    """A run of every method, variant and network that the papers run, with its reading of what they leave open.

    The comparison systems, too, whether a table has them or not.
    """
    found: dict[str, RunSpec] = {}
    for paper in PAPERS.values():
        context = paper.context("smoke")
        for spec in with_parents(regenerate.specs(context, regenerate.artifacts(context))):
            found.setdefault(f"{spec.method} {spec.variant} on {spec.backbone}", spec)
    for system in SYSTEMS:
        short = Training(epochs=2, batch=4)
        last = search.of_stages(profile("smoke"), TWIN, system.stages, short, fold=None, seed=0)
        for spec in with_parents([last]):
            found.setdefault(f"{spec.method} {spec.variant} on {spec.backbone}", spec)
    return found


def small(spec: RunSpec) -> RunSpec:
    """The run on the smallest twin, one step an epoch, tested under one mask: its steps do what they did."""
    return dataclasses.replace(
        spec,
        data=spec.data.replace("@smoke", "@tiny"),
        training=dataclasses.replace(spec.training, batch=128),
        eval_masks=spec.eval_masks[:1],
        parent=small(spec.parent) if spec.parent else None,
    )


SPECS = {name: small(spec) for name, spec in specs().items()}


@cache
def arrays(spec: RunSpec | None) -> dict[str, np.ndarray] | None:
    """What a parent leaves to its children."""
    return None if spec is None else execute(spec, arrays(spec.parent)).arrays


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """As torch's, which asks for the smallest and the largest label on a CPU, and on a GPU does not."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).long()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The operations of training steps that wait, noted while the test runs."""
    watch, inside, step = Watch(), [False], fit.train_step

    def watched(*given: Any) -> Any:
        inside[0] = True
        with watch:
            loss = step(*given)
        inside[0] = False
        return loss

    def told(name: str, method: Any) -> Any:
        def call(self: torch.Tensor, *given: Any, **named: Any) -> Any:
            if inside[0]:
                watch.found.append(f"Tensor.{name}")
            return method(self, *given, **named)

        return call

    monkeypatch.setattr(fit, "train_step", watched)
    monkeypatch.setattr(F, "one_hot", one_hot)
    monkeypatch.setattr(dream, "free_to_ask", lambda values: False)  # as on a GPU
    for name in TO_HOST:
        monkeypatch.setattr(torch.Tensor, name, told(name, getattr(torch.Tensor, name)))
    yield watch.found


def test_every_method_and_network_is_looked_at() -> None:
    assert {spec.method for spec in SPECS.values()} == set(METHODS)
    assert {spec.backbone for spec in SPECS.values()} == set(BACKBONES)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_no_step_waits(name: str, waits: list[str]) -> None:
    parent = arrays(SPECS[name].parent)
    waits.clear()
    execute(SPECS[name], parent)
    assert not waits


@pytest.mark.parametrize("kind", ["item", "mask", "rows", "host"])
def test_a_planted_wait_is_found(
    kind: str, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Plain.loss

    def slow(self: Plain, batch: Batch) -> torch.Tensor:
        value = loss(self, batch)
        {
            "item": lambda: float(value.detach()),
            "mask": lambda: batch.labels[batch.labels > 0],
            "rows": lambda: batch.observed.nonzero(),
            "host": lambda: value.detach().cpu(),
        }[kind]()
        return value

    monkeypatch.setattr(Plain, "loss", slow)
    spec = next(s for s in SPECS.values() if (s.method, s.backbone) == ("plain", "mmgcn"))
    execute(spec)
    assert waits
