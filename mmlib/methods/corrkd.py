"""CorrKD: Correlation-decoupled Knowledge Distillation for Multimodal Sentiment Analysis (BASELINES_MM 2.1).

A frozen teacher sees what a row has, a student of the same architecture sees less of it and follows the teacher in
three ways, each of weight 1: its representations stay near the teacher's of the same sample and off those of others
(SCD), they lie to the classes' prototypes as the teacher's do (CPD), and its responses share information with the
teacher's, target and remaining classes apart (RCD). No code was released; squares, norms, means for sums and the
bound's network are readings. The network is of P's size (2.2): the published encoders' depth is unknown. The teacher
is a parent run of the method ``reference`` on the same network, trained on the rows that the train law gives; the
student starts anew.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.completion import Completion, CompletionConfig
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch, hide
from mmlib.nn.completion import Known
from mmlib.nn.kinds import kinds
from mmlib.nn.objectives import log_distribution

SMALL = 1e-12
WIDE = 32  # of the network that bounds mutual information


@dataclass(frozen=True)
class CorrkdConfig(CompletionConfig):
    """scd, cpd, rcd: whether each loss is there. margin: eta of SCD (published: 1.2, 1.0 and 1.4 by data set).

    targets: ``selfdrop`` shows the teacher what the row has and the student less; ``complete`` shows the teacher all
    and the student what the row has, as published. unit: SCD on representations of length 1, where its margin
    matters; as specified it is on them as they are.
    """

    dropped: float = 0.5
    weight: float = 1.0
    scd: bool = True
    cpd: bool = True
    rcd: bool = True
    margin: float = 1.2
    unit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin < float("inf"):
            raise InputError("corrkd margin", str(self.margin), "0 or more", "Correct it.")


VARIANTS: dict[str, CorrkdConfig] = {
    "paper": CorrkdConfig(),
    "no_scd": CorrkdConfig(scd=False),
    "no_cpd": CorrkdConfig(cpd=False),
    "no_rcd": CorrkdConfig(rcd=False),
    "unit": CorrkdConfig(unit=True),
    "complete": CorrkdConfig(targets="complete"),
}


class Corrkd(Completion):
    """The student over a backbone, started from a run that trained the teacher."""

    Config = CorrkdConfig
    config: CorrkdConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False).eval()
        self.taught = False
        width = 2 if self.task.kind != "classes" else self.task.outputs
        self.of_target, self.of_others = Bound(1), Bound(width - 1)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A parent's backbone becomes the teacher, and the student stays as it is; a run's own weights come back whole.

        Raises:
            InputError: a parent on another network.
        """
        if any(name.startswith("teacher.") for name in state_dict):
            self.taught = True
            return super().load_state_dict(state_dict, strict, assign)
        given = {
            name.removeprefix("backbone."): value
            for name, value in state_dict.items()
            if name.startswith("backbone.")
        }
        own = {name: value.shape for name, value in self.teacher.state_dict().items()}
        if own != {name: value.shape for name, value in given.items()}:
            raise InputError(
                "corrkd, parent",
                "weights of another network",
                "those of this run's backbone on the same modalities",
                "Train the teacher on the same network.",
            )
        self.taught = True
        return self.teacher.load_state_dict(given, assign=assign)

    def train(self, mode: bool = True) -> Corrkd:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Fused:
        """The student's view of a batch; the network itself does not tell a missing modality from zeros."""
        everything = torch.ones_like(batch.observed[0])
        fused: Fused = self.backbone(batch, hide(batch, everything).features)
        return fused

    def divided_loss(self, division: Known) -> Tensor:
        """L_task + L_SCD + L_CPD + L_RCD.

        Raises:
            InputError: without a teacher's weights.
        """
        if not self.taught:
            raise InputError(
                "corrkd",
                "no teacher",
                "a run of the method reference on the same backbone to start from",
                "Give that run as the parent, or load its weights.",
            )
        c, batch, student = self.config, division.given, self(division.given)
        with torch.no_grad():
            teacher: Fused = self.teacher(batch, division.whole.features)
        further = student.hidden.new_zeros(())
        if c.scd:
            further = further + samples(student.hidden, teacher.hidden, c.margin, c.unit)
        if c.cpd:
            of_kind = kinds(self.task, batch.labels)
            further = further + prototypes(student.hidden, teacher.hidden, of_kind)
        if c.rcd:
            further = further + self.responses(student.logits, teacher.logits, batch.labels)
        return self.fused_loss(batch, student) + c.weight * further

    def responses(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """L_RCD: minus both bounds; logits (n, C)."""
        truth = answers(self.task, labels)
        first, second = (
            split(log_distribution(self.task, x).exp(), truth) for x in (student, teacher)
        )
        order = torch.randperm(len(truth), device=truth.device)
        target = self.of_target(first[0], second[0], order)
        return -(target + self.of_others(first[1], second[1], order))


class Bound(nn.Module):
    """A lower bound, up to a constant, of the Jensen-Shannon mutual information of two responses.

    mean -softplus(-T(s_i, t_i)) - mean softplus(T(s_i, t_j)), j another sample; T is a perceptron.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * width, WIDE), nn.Linear(WIDE, 1)

    def forward(self, student: Tensor, teacher: Tensor, order: Tensor) -> Tensor:
        """student and teacher (n, width), order (n,) which sample stands for another -> a number."""
        joint = self.statistic(student, teacher)
        apart = self.statistic(student, teacher.index_select(0, order))
        return -F.softplus(-joint).mean() - F.softplus(apart).mean()

    def statistic(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T, (n, 1)."""
        made: Tensor = self.second(F.relu(self.first(torch.cat([student, teacher], dim=1))))
        return made


def samples(student: Tensor, teacher: Tensor, margin: float, unit: bool = False) -> Tensor:
    """L_SCD of (n, d) each: mean_i D(s_i, t_i)^2 + mean over i != j of max(0, margin - D(s_i, t_j))^2, D Euclidean."""
    if unit:
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    near = (student - teacher).square().sum(dim=1).mean()
    lengths = student.square().sum(dim=1)[:, None] + teacher.square().sum(dim=1)
    distance = (lengths - 2 * student @ teacher.t()).clamp(min=SMALL).sqrt()  # (n, n)
    other = 1 - torch.eye(len(student), device=student.device)
    far = (margin - distance).clamp(min=0).square() * other
    return near + far.sum() / other.sum().clamp(min=1)


def prototypes(student: Tensor, teacher: Tensor, of_kind: Tensor) -> Tensor:
    """L_CPD of (n, d) each: the mean absolute difference of cosines to the prototypes, each view's own class means.

    of_kind: (n, K) ones and zeros; classes without a sample in the batch are left out.
    """
    counts = of_kind.sum(dim=0)  # (K,)
    cosines = []
    for hidden in (student, teacher):
        means = (of_kind.t() @ hidden) / counts.clamp(min=1)[:, None]
        cosines.append(F.normalize(hidden, dim=1) @ F.normalize(means, dim=1).t())  # (n, K)
    there = (counts > 0).float()
    gaps = ((cosines[0] - cosines[1]).abs() * there).sum(dim=1) / there.sum()
    return gaps.mean()


def answers(task: Task, labels: Tensor) -> Tensor:
    """The right class of each response of ``log_distribution``: of a score its half, of binaries each answer."""
    if task.kind == "score":
        return kinds(task, labels)[:, 1].long()
    return labels.flatten()


def split(responses: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """responses (n, C), truth (n,) -> the response to the right class, (n, 1), and those to the others, (n, C - 1)."""
    places = torch.arange(responses.shape[1], device=truth.device)
    target = torch.where(places == truth[:, None], responses, 0).sum(dim=1, keepdim=True)
    after = places[:-1] >= truth[:, None]  # the places from the right class on hold the next one
    return target, torch.where(after, responses[:, 1:], responses[:, :-1])
