"""EBMC's components as its code has them (ledger 3.3, E11-E20; section 8): all on the means of dialogues.

Where the paper's losses look at utterances, the code first averages over a dialogue. Its energies, its distillation
and CCE's second term follow the first stage's own heads; MSD's predictors serve L_uni alone. What padding adds to the
code's means (E11) is not imitated: a dialogue's mean here is over its utterances.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.methods import disentangle, energy
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import task_loss


def dialogue_mean(batch: Batch, values: Tensor) -> Tensor:
    """(..., n, d) -> (..., dialogues, d): the mean over a dialogue's utterances."""
    members = batch.layout.membership.to(values.dtype)
    return members @ values / members.sum(dim=1, keepdim=True)


def msd(
    batch: Batch, common: Tensor, specific: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """L_inv (E11) and L_dis (E12) of the parts, (M, n, d), zeros for what a batch lacks."""
    seen = batch.observed.t()[:, :, None]
    specific = dialogue_mean(batch, specific * seen)
    everything = batch.observed.new_ones(specific.shape[1], len(specific))
    return (
        alignment(dialogue_mean(batch, common * seen), temperature),
        disentangle.overlap(specific, everything),
    )


def alignment(means: Tensor, temperature: float) -> Tensor:
    """L_inv as released (E11), of dialogues' means (M, B, d).

    One positive for all: the mean cosine to the mean of the unit vectors. The negatives are sums of three
    similarities, over all pairs of dialogues, a dialogue with itself included.
    """
    unit = F.normalize(means, dim=2)
    positive = (unit * F.normalize(unit.mean(dim=0), dim=1)).sum(dim=2).mean()
    first, second = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    negatives = (unit[first] @ unit[second].transpose(1, 2)).sum(dim=0)
    return torch.logsumexp(negatives.flatten() / temperature, dim=0) - positive / temperature


def predictors_loss(batch: Batch, task: Task, logits: Tensor) -> Tensor:
    """L_uni as released: of dialogues' means for scores (E14), 0 for emotions (E13); logits (M, n, C)."""
    if task.kind != "score":
        return logits.new_zeros(())
    truth = dialogue_mean(batch, batch.labels[:, None])[:, 0]
    return torch.stack([task_loss(task, x, truth) for x in dialogue_mean(batch, logits)]).mean()


def energies(
    batch: Batch,
    task: Task,
    z: Tensor,
    predicted: Tensor,
    teachers: Tensor,
    weights: tuple[float, float, float],
) -> Tensor:
    """Eq. 8's terms as released, (3, M), already weighed; z (M, n, d), predicted and teachers (M, n, C).

    For scores l_m is against the mean label (E14), for emotions against the mean class index, cut to an integer
    (E17). u_m is the spread of a teacher's answers over the batch (E18), 0 where that is one dialogue.
    """
    z, predicted, teachers = (dialogue_mean(batch, x) for x in (z, predicted, teachers))
    truth = dialogue_mean(batch, batch.labels.reshape(len(batch), -1)[:, :1].float())[:, 0]
    truth = truth if task.kind == "score" else truth.long()
    losses = torch.stack([task_loss(task, x, truth) for x in predicted])
    if task.kind == "score":
        uncertain = teachers[:, :, 0].var(dim=1, correction=min(1, teachers.shape[1] - 1))
    else:
        uncertain = torch.stack([energy.entropy(task, t).mean() for t in teachers])
    return (
        torch.stack([z.square().mean(dim=(1, 2)), losses, uncertain])
        * z.new_tensor(weights)[:, None]
    )


def steepness(batch: Batch, z: Tensor, norm: float) -> Tensor:
    """The penalty as released: on the norm term alone, a mean of squares (E19, ledger 8); z (M, n, d)."""
    return (2 * norm / z.shape[2] * dialogue_mean(batch, z)).square().mean(dim=(1, 2)).sum()


def uncertainty(task: Task, teachers: Tensor) -> Tensor:
    """sigma as released, (M, B): distance of a teacher from the teachers' mean for scores, else entropy (E20)."""
    if task.kind == "score":
        return (teachers[:, :, 0] - teachers[:, :, 0].mean(dim=0)).abs()
    return torch.stack([energy.entropy(task, t) for t in teachers])


def distillation(
    batch: Batch, task: Task, student: Tensor, teachers: Tensor, temperature: float
) -> Tensor:
    """L_IMTD as released (E20): sigma squared in Eq. 14, and once more divided by M (ledger 8).

    student (n, C), teachers (M, n, C); every modality teaches, also where it is missing.
    """
    student, teachers = dialogue_mean(batch, student), dialogue_mean(batch, teachers)
    everything = batch.observed.new_ones(len(student), len(teachers))
    weights = energy.trust(uncertainty(task, teachers), everything, squared=True)
    return energy.distillation(task, student, teachers, weights, temperature) / len(teachers)
