"""EBMC's energies (Eqs 8-12) and trust (Eqs 13-16): how far apart modalities are, and which teacher to believe.

Ledger 3.2, C4-C12; section 8. What the released code does in their place is in ``ebmc_released``. Energies are means
over the utterances that have the modality.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.nn.sums import mean_where

STABLE = 0.1  # epsilon of rho (C10)


def energies(
    z: Tensor,
    losses: Tensor,
    uncertain: Tensor,
    observed: Tensor,
    weights: tuple[float, float, float],
) -> Tensor:
    """The three terms of Eq. 8, (3, M), already weighed: mean square of z (C5), task loss, uncertainty (Eq. 9).

    z (M, n, d); losses and uncertain (M, n); E(m) is the sum over the first axis.
    """
    terms = torch.stack([z.square().mean(dim=2), losses, uncertain])
    return mean_where(terms, observed.t().expand_as(terms)) * terms.new_tensor(weights)[:, None]


def gap(energy: Tensor, exists: Tensor) -> Tensor:
    """L_gap, Eq. 10 over unordered pairs (C7) of the modalities (M,) that the batch has at all; exists (M,) bool."""
    first, second = torch.triu_indices(len(energy), len(energy), offset=1, device=energy.device)
    squares = (energy[first] - energy[second]).square()
    return torch.where(exists[first] & exists[second], squares, 0).sum()


def steepness(z: Tensor, pulled: Tensor, observed: Tensor, norm: float, loss: float) -> Tensor:
    """The second term of Eq. 12: over modalities, the mean squared norm of an utterance's energy gradient.

    pulled (M, n, d): the gradients of the task losses with respect to z. The uncertainty is the frozen teacher's
    and has none (C6). Mean over samples of the per-sample gradient's squared norm (ledger 8).
    """
    gradient = 2 * norm / z.shape[2] * z + loss * pulled
    return mean_where(gradient.square().sum(dim=2), observed.t()).sum()


def entropy(task: Task, logits: Tensor, gaussian: bool = False) -> Tensor:
    """(n,): of the predictive distribution, Eq. 9; of a Gaussian with the given log-variance for scores (C6, C9).

    Of binary labels the mean; 0 for scores without a variance.
    """
    if gaussian:
        return 0.5 * (1 + math.log(2 * math.pi) + logits[:, 1])
    if task.kind == "score":
        return torch.zeros_like(logits[:, 0])
    log_p = _by_question(task, logits).log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1).flatten(1).mean(dim=1)


def spread(task: Task, logits: Tensor, gaussian: bool = False) -> Tensor:
    """(n,): sigma of Eq. 13 as read in C9: the trace of the categorical covariance, or the Gaussian's variance."""
    if gaussian:
        return logits[:, 1].exp()
    p = _by_question(task, logits).softmax(dim=-1)
    return (p * (1 - p)).sum(dim=-1).flatten(1).mean(dim=1)


def trust(sigma: Tensor, observed: Tensor, squared: bool = False) -> Tensor:
    """alpha of Eqs 13-15, (M, n): sums to one over the modalities that an utterance has, falls with sigma (M, n)."""
    rho = 1 / (torch.log1p(sigma.square() if squared else sigma) + STABLE)
    scores = (rho.log() - sigma).masked_fill(~observed.t(), torch.finfo(sigma.dtype).min)
    return scores.softmax(dim=0) * observed.t()  # c rho over their sum, however small they are


def distillation(
    task: Task,
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    temperature: float,
    printed: bool = False,
) -> Tensor:
    """L_IMTD, Eq. 16, a mean over utterances; student (n, C), teachers (M, n, C), weights (M, n).

    KL(teacher || student) times the squared temperature (C11), or as printed the other way round and without it.
    The squared error for scores, whose softmax would be 1 (C12).
    """
    if task.kind == "score":
        each = (student[None, :, 0] - teachers[:, :, 0]).square()
    else:
        ours = _by_question(task, student / temperature).log_softmax(dim=-1)
        theirs = torch.stack(
            [_by_question(task, t / temperature).log_softmax(dim=-1) for t in teachers]
        )
        p, q = (ours.expand_as(theirs), theirs) if printed else (theirs, ours.expand_as(theirs))
        each = (p.exp() * (p - q)).sum(dim=-1).flatten(2).mean(dim=2)
        each = each if printed else each * temperature**2
    return (weights * each).sum(dim=0).mean()


def _by_question(task: Task, logits: Tensor) -> Tensor:
    """(n, C) -> (n, 1, C), or (n, Q, 2) for binary labels."""
    return logits.unflatten(1, (-1, 2)) if task.kind == "binaries" else logits[:, None]
