"""MMIM: Improving Multimodal Fusion with Hierarchical Mutual Information Maximization (BASELINES_MM 16, MM2 B).

In every step q(h_m | h_anchor) first learns from embeddings as they are; then all but q learns from
L = L_task + 0.1 L_CPC - 0.1 (lld + H). lld + H bounds from below what the anchor shares with another modality: the
mean log q over the rows that have both, and the entropy of h_m, from the covariance within each kind of utterance
(class, or sign of a score), over the batch and rows remembered from the steps before. L_CPC bounds what the fused
embedding shares with each modality's. As published q goes through all data before every epoch instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from mmlib.backbones.mmim import MMIM, Parts
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.kinds import kinds
from mmlib.nn.sums import mean_where

RIDGE = 1e-3  # of the covariances: directions without spread count no more than these


@dataclass(frozen=True)
class MmimConfig(ReferenceConfig):
    """contrast, bound: the weights of L_CPC and of lld + H. ahead: whether q learns before every step."""

    contrast: float = 0.1
    bound: float = 0.1
    ahead: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("mmim", self, ("contrast", "bound"))


VARIANTS: dict[str, MmimConfig] = {
    "paper": MmimConfig(),
    "no_contrast": MmimConfig(contrast=0.0),
    "no_bound": MmimConfig(bound=0.0, ahead=False),
}


class Mmim(Reference):
    """The method over the backbone ``mmim``.

    past: (rows, M, hidden) embeddings of the last rows, 2 hidden of them for every kind. past_seen: (rows, M) which
    of them are of a modality that was there. past_kinds: (rows, K) ones and zeros, all 0 where nothing is remembered.
    """

    Config = MmimConfig
    config: MmimConfig
    backbone: MMIM
    past: Tensor
    past_seen: Tensor
    past_kinds: Tensor

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "mmim", MMIM)
        width, count = self.backbone.embedding_dim, len(self.modalities)
        number = {"score": 2, "binaries": self.task.outputs, "classes": self.task.outputs}
        of = number[self.task.kind]
        rows = 2 * width * of
        self.register_buffer("past", torch.zeros(rows, count, width), persistent=False)
        self.register_buffer("past_seen", torch.zeros(rows, count).bool(), persistent=False)
        self.register_buffer("past_kinds", torch.zeros(rows, of), persistent=False)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Forget: embeddings of an epoch ago are no longer those of the network."""
        self.past_kinds = torch.zeros_like(self.past_kinds)
        return {}

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """That of q alone, then that of all but q; then the batch is remembered."""
        c = self.config
        if c.ahead:
            with torch.no_grad():
                embedded = self.backbone.parts(batch, batch.features).embedded
            yield -self.likelihood(embedded, batch.observed, learns=True)
        parts = self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        if c.contrast:
            loss = loss + c.contrast * self.contrast(parts, batch.observed)
        of_kind = kinds(self.task, batch.labels)
        if c.bound:
            shared = self.likelihood(parts.embedded, batch.observed, learns=False)
            entropy = self.entropy(parts.embedded, batch.observed, of_kind)
            loss = loss - c.bound * (shared + entropy)
        yield loss
        self.remember(parts.embedded.detach(), batch.observed, of_kind)

    def loss(self, batch: Batch) -> Tensor:
        """The last of the losses of a step, which is that of the network."""
        *_, last = self.losses(batch)
        return last

    def likelihood(self, embedded: Tensor, observed: Tensor, learns: bool) -> Tensor:
        """lld: sum over modalities of mean log q(h_m | h_anchor), over the rows that have both.

        embedded: (n, M, hidden). learns: q, or what is given to it.
        """
        net, total = self.backbone, embedded.new_zeros(())
        values = dict(zip(net.modalities, embedded.unbind(dim=1), strict=True))
        seen = dict(zip(net.modalities, observed.unbind(dim=1), strict=True))
        for m, q in net.conditional.items():
            weights = {k: p if learns else p.detach() for k, p in q.named_parameters()}
            each = functional_call(q, weights, (values[net.anchor], values[m]))
            total = total + mean_where(each, seen[m] & seen[net.anchor])
        return total

    def entropy(self, embedded: Tensor, observed: Tensor, of_kind: Tensor) -> Tensor:
        """H: sum over modalities but the anchor of half the mean over kinds of log |covariance|.

        of_kind: (n, K). A kind counts where rows of it are remembered.
        """
        values = torch.cat([embedded, self.past])
        seen, of = torch.cat([observed, self.past_seen]), torch.cat([of_kind, self.past_kinds])
        total = embedded.new_zeros(())
        for index, m in enumerate(self.backbone.modalities):
            if m == self.backbone.anchor:
                continue
            counts = of * seen[:, index, None]  # (rows, K)
            known = (self.past_kinds * self.past_seen[:, index, None]).any(dim=0)
            each = log_determinants(values[:, index], counts, RIDGE)
            total = total + mean_where(each, known) / 2
        return total

    def contrast(self, parts: Parts, observed: Tensor) -> Tensor:
        """L_CPC: sum over modalities of mean_i [log sum_j exp(u_i v_j) - u_i v_i], over the rows that have the one.

        u: h_m at length 1. v: what the fused embedding predicts of it, at length 1.
        """
        total = parts.embedded.new_zeros(())
        for index, to in enumerate(self.backbone.maps):
            own = F.normalize(parts.embedded[:, index], dim=1)
            scores = own @ F.normalize(to(parts.fused.hidden), dim=1).t()  # (n, n)
            total = total + contrast(scores, observed[:, index])
        return total

    def remember(self, embedded: Tensor, observed: Tensor, of_kind: Tensor) -> None:
        """Put a batch before what is remembered, and drop the oldest rows."""
        rows = len(self.past)
        self.past = torch.cat([embedded, self.past])[:rows]
        self.past_seen = torch.cat([observed, self.past_seen])[:rows]
        self.past_kinds = torch.cat([of_kind, self.past_kinds])[:rows]


def log_determinants(values: Tensor, counts: Tensor, ridge: float) -> Tensor:
    """(K,): log |covariance + ridge I| of values (n, d) over the rows of each kind, counts (n, K) ones and zeros."""
    shares = counts / counts.sum(dim=0).clamp(min=1)
    centred = values - (shares.t() @ values)[:, None]  # (K, n, d)
    covariance = torch.einsum("nk,knd,kne->kde", shares, centred, centred)
    even = ridge * torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    logs: Tensor = torch.linalg.slogdet(covariance + even)[1]
    return logs


def contrast(scores: Tensor, counts: Tensor) -> Tensor:
    """Mean over rows of log sum_j exp(s_ij) - s_ii, rows and columns that count alone; 0 or more, 0 where none does.

    scores: (n, n). counts: (n,) bool.
    """
    among = counts[None, :] | torch.eye(len(counts), dtype=torch.bool, device=counts.device)
    rivals = torch.where(among, scores, -torch.inf).logsumexp(dim=1)
    return mean_where(rivals - scores.diagonal(), counts)
