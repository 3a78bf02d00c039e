"""A reading of UMDF: one network sees a row twice, and its two predictions learn from each other (BASELINES_MM2 30).

It sees what the row has, A, and less of it, S. L = [task(A) + task(S)] / 2 + [KL(p_A || p_S) + KL(p_S || p_A)] / 2,
where the first law of each KL carries no gradient. Of a score the squared difference stands for KL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmlib.backbones.umdf import UMDF
from mmlib.data.bundle import Task
from mmlib.methods.completion import Completion, CompletionConfig
from mmlib.methods.own_network import own_network
from mmlib.nn.completion import Known
from mmlib.nn.objectives import log_distribution


@dataclass(frozen=True)
class UmdfConfig(CompletionConfig):
    """weight: of both KL. targets: ``selfdrop`` hides more for S; ``complete`` gives S what is there and A the whole.

    dropped: the share of rows in which self-drop hides more.
    """

    dropped: float = 1.0
    weight: float = 0.5


VARIANTS: dict[str, UmdfConfig] = {
    "style": UmdfConfig(),
    "complete": UmdfConfig(targets="complete"),
    "no_distillation": UmdfConfig(weight=0.0),
}


class Umdf(Completion):
    """The method over the backbone ``umdf``."""

    Config = UmdfConfig
    config: UmdfConfig
    backbone: UMDF

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "umdf", UMDF)

    def divided_loss(self, division: Known) -> Tensor:
        """Scalar loss of a batch that is seen twice."""
        less, more = self(division.given), self(division.whole)
        task = (self.fused_loss(division.given, less) + self.fused_loss(division.whole, more)) / 2
        apart = learned(self.task, more.logits, less.logits)
        apart = apart + learned(self.task, less.logits, more.logits)
        return task + self.config.weight * apart


def learned(task: Task, teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student), mean over rows (and questions): only the student learns. Logits (n, C) each."""
    if task.kind == "score":
        return (teacher.detach() - student).square().mean()
    known, made = (log_distribution(task, x) for x in (teacher.detach(), student))
    return (known.exp() * (known - made)).sum(dim=1).mean()
