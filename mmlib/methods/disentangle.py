"""EBMC's first half: shared and specific parts of each modality, and what is made of one modality from the others.

Eqs 1-7 of the paper as read in ledger 3.2 (C1-C3); the released code's are in ``ebmc_released``. Everywhere
``observed`` is (n, M) bool, modalities in alphabetical order, and a missing modality counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where


class Mlp(nn.Module):
    """Linear, ReLU, linear; with the product of its Jacobian in closed form."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., width)."""
        output: Tensor = self.second(F.relu(self.first(x)))
        return output

    def pullback(self, x: Tensor, upstream: Tensor) -> Tensor:
        """upstream (..., width) times the Jacobian at x: (..., inputs), differentiable once more."""
        return ((upstream @ self.second.weight) * (self.first(x) > 0)) @ self.first.weight


class Components(NamedTuple):
    """common, specific: modality to (n, d), z^c and z^s of Eq. 1; logits: modality to (n, outputs), T_m(z^s).

    raw: the specific part before its layer norm, (n, d).
    """

    common: dict[str, Tensor]
    specific: dict[str, Tensor]
    logits: dict[str, Tensor]
    raw: dict[str, Tensor]


class Parts(nn.Module):
    """D^c and D^s (Eq. 1) and a layer norm behind both, the predictors T_m (Eq. 4), the generators G_m (Eq. 6).

    gaussian: T_m gives a mean and a log-variance, for scores (C9). shared_generator: one for all, from another
    modality's shared part and the own specific one, as released (E16).
    divided: without it there are no parts and T_m reads z_m (the paper's "w/o MSD").
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        outputs: int,
        *,
        gaussian: bool,
        shared_generator: bool,
        divided: bool,
    ) -> None:
        super().__init__()
        self.modalities, self.divided, self.shared = tuple(modalities), divided, shared_generator
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in modalities})
        self.common = nn.ModuleDict({m: Mlp(width, width) for m in modalities if divided})
        self.specific = nn.ModuleDict({m: Mlp(width, width) for m in modalities if divided})
        self.heads = nn.ModuleDict(
            {m: nn.Linear(width, 2 * outputs if gaussian else outputs) for m in modalities}
        )
        inputs = 2 * width if shared_generator else 2 * len(modalities) * width
        self.generators = nn.ModuleDict(
            {m: Mlp(inputs, width) for m in (("all",) if shared_generator else modalities)}
        )

    def forward(self, z: Mapping[str, Tensor]) -> Components:
        """Eq. 1 and the predictors; z[m] is (n, d)."""
        raw = {m: self.specific[m](z[m]) if self.divided else z[m] for m in self.modalities}
        specific = {m: self.norms[m](x) for m, x in raw.items()}
        common = (
            {m: self.norms[m](self.common[m](z[m])) for m in self.modalities}
            if self.divided
            else specific
        )
        return Components(common, specific, {m: self.heads[m](x) for m, x in specific.items()}, raw)

    def pullback(self, modality: str, z: Tensor, raw: Tensor, upstream: Tensor) -> Tensor:
        """The gradient with respect to z (n, d) of a function of T_m's logits, given that for the logits (n, outputs).

        raw (n, d) is what ``forward`` made of z. By hand through the predictor, the layer norm and the specific part,
        so that a penalty on it needs no second pass through the graph (Eq. 12).
        """
        norm, head = self.norms[modality], self.heads[modality]
        assert isinstance(norm, nn.LayerNorm) and isinstance(head, nn.Linear)
        back = _norm_pullback(norm, raw, upstream @ head.weight)
        if not self.divided:
            return back
        specific = self.specific[modality]
        assert isinstance(specific, Mlp)
        return specific.pullback(z, back)

    def generate(self, parts: Components, observed: Tensor, noise: float) -> dict[str, Tensor]:
        """z~_m of Eq. 6 from all parts that are there, with noise of that standard deviation; modality to (n, d)."""
        seen = {m: observed[:, i, None] for i, m in enumerate(self.modalities)}
        common = {m: parts.common[m] * seen[m] for m in self.modalities}
        specific = {m: parts.specific[m] * seen[m] for m in self.modalities}
        made = {}
        for m in self.modalities:
            if self.shared:
                available = torch.cat([common[_helper(m, self.modalities)], specific[m]], dim=1)
            else:
                others = [o for o in self.modalities if o != m]
                parts_there = [
                    common[m],
                    *(common[o] for o in others),
                    specific[m],
                    *(specific[o] for o in others),
                ]
                available = torch.cat(parts_there, dim=1)
            if noise and self.training:
                available = available + noise * torch.randn_like(available)
            made[m] = self.generators["all" if self.shared else m](available)
        return made


def _norm_pullback(norm: nn.LayerNorm, x: Tensor, upstream: Tensor) -> Tensor:
    """upstream (n, d) times a layer norm's Jacobian at x (n, d): (n, d), differentiable once more."""
    back = upstream * norm.weight
    centred = x - x.mean(dim=1, keepdim=True)
    scale = (centred.square().mean(dim=1, keepdim=True) + norm.eps).rsqrt()
    unit = centred * scale
    return scale * (
        back - back.mean(dim=1, keepdim=True) - unit * (back * unit).mean(dim=1, keepdim=True)
    )


def _helper(modality: str, modalities: Sequence[str]) -> str:
    """The other modality that helps as released: text; audio for text (E16)."""
    wanted = "audio" if modality == "text" else "text"
    return (
        wanted
        if wanted in modalities
        else next(m for m in modalities if m != modality or len(modalities) == 1)
    )


def alignment(common: Tensor, observed: Tensor, temperature: float) -> Tensor:
    """L_inv, Eq. 2 as read in C1: a log-softmax over the batch that includes its positive.

    common (M, n, d). Each anchor z^c_mi should be nearer to the mean of its own utterance's shared parts than to the
    means of others. Missing modalities, and utterances with one alone, are no anchors (ledger 8).
    """
    seen = observed.t()[:, :, None]
    mean = (common * seen).sum(0) / seen.sum(0).clamp(min=1)
    logits = F.normalize(common, dim=2) @ F.normalize(mean, dim=1).t() / temperature
    logits = logits.masked_fill(~observed.any(dim=1), torch.finfo(logits.dtype).min)
    own = logits.diagonal(dim1=1, dim2=2) - logits.logsumexp(dim=2)
    return -mean_where(
        own.flatten(), (observed & (observed.sum(1, keepdim=True) > 1)).t().flatten()
    )


def overlap(specific: Tensor, observed: Tensor, signed: bool = False) -> Tensor:
    """L_dis, Eq. 3: the mean over pairs of modalities of the squared cosine of z^s (C2).

    signed: as printed, the sum of the cosines over ordered pairs, each a mean over the utterances that have both.
    """
    unit = F.normalize(specific, dim=2)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    cosines = (unit[first] * unit[second]).sum(dim=2)
    both = (observed[:, first] & observed[:, second]).t()
    if signed:  # each pair stands in Eq. 3 twice, as (i, j) and (j, i)
        return 2 * mean_where(cosines, both).sum()
    return mean_where(mean_where(cosines.square(), both), both.any(dim=1))


def predictors_loss(
    task: Task, logits: Mapping[str, Tensor], labels: Tensor, observed: Tensor, gaussian: bool
) -> Tensor:
    """L_uni, Eq. 4: each modality's mean over the utterances that have it, then the mean over modalities."""
    each = torch.stack(
        [likelihood(x, labels) if gaussian else each_loss(task, x, labels) for x in logits.values()]
    )
    return mean_where(each, observed.t()).mean()


def likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,): the negative log-likelihood of a score under a Gaussian of the given mean and log-variance (C9)."""
    return 0.5 * ((labels - logits[:, 0]).square() * torch.exp(-logits[:, 1]) + logits[:, 1])


def reconstruction(z: Tensor, made: Tensor, observed: Tensor) -> Tensor:
    """The first term of Eq. 7, E ||z~ - z||^2, divided by d: a mean over dimensions too (C23), so that weights do not
    depend on the width. z and made are (M, n, d), the target without gradient.
    """
    return mean_where((made - z.detach()).square().mean(dim=2), observed.t()).mean()
