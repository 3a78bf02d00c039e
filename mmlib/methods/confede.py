"""ConFEDE: the task loss, one of every projection alone, a contrast with rows that are looked up (BASELINES_MM2 22).

L = L_task + 0.1 contrast + 0.01 L_alone. Every training row has six others: two of its label that are like it, two of
other labels that are unlike it, two of other labels that are like it. Rows are as alike as the cosine of their
standardised features, over the modalities that both have. The contrast draws s_m to that of the first two and away from
that of the rest, and in all seven rows the text's s to the other modalities' s and away from all d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.confede import ConFEDE, Images
from mmlib.errors import InputError
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import ReferenceConfig
from mmlib.methods.second_stage import SecondStage
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_choice, check_weights
from mmlib.nn.frames import time_mean
from mmlib.nn.kinds import kinds
from mmlib.nn.objectives import each_loss
from mmlib.nn.rows import RowIndex
from mmlib.nn.sums import mean_where

LEVELS = 7  # of a score that count as one label
TEMPERATURE = 0.5
NEAR, AT_ONCE = 2, 512
NOTHING = -1e4  # the logarithm of no rival
FOUND = ("rows", "ranks")


@dataclass(frozen=True)
class ConfedeConfig(ReferenceConfig):
    """contrast, alone: weights. A score has the squared error.

    found: the ``rows`` that are looked up; or, as released, rows whose number is the ``rank`` that each of them has
    among all rows by likeness, so that they are always the first and the last rows of the file.
    """

    absolute: bool = False
    contrast: float = 0.1
    alone: float = 0.01
    found: str = "rows"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("confede", self, ("contrast", "alone"))
        check_choice("confede", self, "found", FOUND)


VARIANTS: dict[str, ConfedeConfig] = {
    "paper": ConfedeConfig(),
    "released": ConfedeConfig(found="ranks"),
    "no_contrast": ConfedeConfig(contrast=0.0),
    "no_alone": ConfedeConfig(alone=0.0),
}


class Stored(NamedTuple):
    """The training rows, and (rows, 6) each: the numbers of the six others, and whether there are such rows."""

    features: dict[str, Tensor]
    observed: Tensor
    others: Tensor
    there: Tensor


class Confede(SecondStage):
    """The second stage, over the backbone ``confede`` whose encoders a run of ``unimodal`` has trained."""

    Config = ConfedeConfig
    config: ConfedeConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.index: RowIndex | None = None
        self.stored: Stored | None = None

    @property
    def net(self) -> ConFEDE:
        """The backbone."""
        return own_network(self, "confede", ConFEDE)

    def prepare(self) -> None:
        """Refuse another network."""
        own_network(self, "confede", ConFEDE)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Look up every row's six others, where the rows are not those of the epoch before."""
        batches = peek.train()
        if self.index is None or batches[0].source is not self.index.source:
            self.index = RowIndex(batches)
            self.stored = self.looked_up(batches)
        return {}

    @torch.no_grad()
    def looked_up(self, batches: list[Batch]) -> Stored:
        """All rows of some batches, with each one's others."""
        features = {m: torch.cat([b.features[m] for b in batches]) for m in self.modalities}
        seen = torch.cat([b.observed for b in batches])
        labels = torch.cat([b.labels for b in batches])
        values = [standard(time_mean(features[m]), seen[:, i]) for i, m in enumerate(features)]
        of_kind = F.normalize(kinds(self.task, labels, LEVELS), dim=1)
        others, there = retrieved(values, seen, of_kind, self.config.found == "ranks")
        return Stored(features, seen, others, there)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        self.check_given()
        c, parts, seen = self.config, self.net.parts(batch, batch.features), batch.observed
        loss = self.fused_loss(batch, parts.fused)
        if c.alone:
            each = [each_loss(self.task, x, batch.labels) for x in parts.alone.unbind(dim=1)]
            alone = mean_where(torch.stack(each).flatten(), seen.repeat(1, 2).t().flatten())
            loss = loss + c.alone * alone
        if c.contrast:
            images, there = self.with_others(batch, parts.images)
            place = self.modalities.index(self.net.anchor)
            loss = loss + c.contrast * contrast(images, there, place)
        return loss

    def with_others(self, batch: Batch, own: Images) -> tuple[Images, Tensor]:
        """The projections of a batch and of its others, (n, 7, M, half) each, and which there are, (n, 7, M) bool.

        Raises:
            InputError: rows that ``start_epoch`` has not seen.
        """
        rows = self.index.find(batch) if self.index is not None else None
        if rows is None or self.stored is None:
            raise InputError(
                "confede",
                "utterances that it has looked up nothing for",
                "those of the epoch",
                "Train it by fit.",
            )
        others = self.stored.others.index_select(0, rows)  # (n, 6)
        features = {m: x.index_select(0, others.flatten()) for m, x in self.stored.features.items()}
        further = self.net.images(self.net.embed(features))
        seen = self.stored.observed.index_select(0, others.flatten()).unflatten(0, others.shape)
        seen = seen & self.stored.there.index_select(0, rows)[:, :, None]
        alike, apart = (
            torch.cat([x[:, None], y.unflatten(0, others.shape)], dim=1)
            for x, y in zip(own, further, strict=True)
        )
        return Images(alike, apart), torch.cat([batch.observed[:, None], seen], dim=1)


def standard(values: Tensor, seen: Tensor) -> Tensor:
    """Every coordinate at mean 0 and variance 1 over the rows that are there, zeros elsewhere: (n, d), seen (n,)."""
    counts, total = seen[:, None], seen.sum().clamp(min=1)
    values = torch.where(counts, values, 0)
    centred = torch.where(counts, values - values.sum(dim=0) / total, 0)
    return centred / (centred.square().sum(dim=0) / total).sqrt().clamp(min=1e-6)


def retrieved(
    values: list[Tensor], seen: Tensor, of_kind: Tensor, ranks: bool
) -> tuple[Tensor, Tensor]:
    """Every row's six others, and whether there are such rows: (rows, 6) each.

    values: (rows, d_m) of each modality, zeros where missing. seen (rows, M) bool. of_kind (rows, K), of length 1.
    """
    joined, there = torch.cat(values, dim=1), seen.float()
    squares = torch.stack([x.square().sum(dim=1) for x in values], dim=1)  # (rows, M)
    number = torch.arange(len(joined), device=joined.device)
    found = []
    for rows in number.split(AT_ONCE):
        lengths = (squares[rows] @ there.t()) * (there[rows] @ squares.t())
        cosine = joined[rows] @ joined.t() / lengths.sqrt().clamp(min=1e-6)
        other = (there[rows] @ there.t() > 0) & (rows[:, None] != number)
        same = of_kind[rows] @ of_kind.t() > 0.99
        best = [
            torch.where(counts & other, score, -torch.inf).topk(NEAR, dim=1)
            for counts, score in ((same, cosine), (~same, -cosine), (~same, cosine))
        ]
        numbers = torch.cat([x.indices for x in best], dim=1)
        if ranks:
            alone = torch.where(rows[:, None] == number, torch.inf, cosine)  # it is the first
            order = alone.argsort(dim=1, descending=True)
            numbers = order.argsort(dim=1).gather(1, numbers)
        found.append((numbers, torch.cat([x.values for x in best], dim=1).isfinite()))
    return torch.cat([x for x, _ in found]), torch.cat([x for _, x in found])


def contrast(images: Images, there: Tensor, anchor: int) -> Tensor:
    """Mean over positive pairs of -log [exp(p) / (exp(p) + sum exp(rivals of its first part))], of cosines over 0.5.

    images: (n, 7, M, half) each, the row itself first. there: (n, 7, M) bool. anchor: the place of the text.
    """
    alike, apart = (F.normalize(x, dim=3) for x in images)
    text, text_there = alike[:, :, anchor], there[:, :, anchor, None]
    own = torch.einsum("nmw,nkmw->nmk", alike[:, 0], alike[:, 1:]) / TEMPERATURE  # (n, M, 6)
    own_there = there[:, 0, :, None] & there[:, 1:].transpose(1, 2)
    across, against = (
        torch.einsum("nkw,nkmw->nkm", text, x) / TEMPERATURE for x in (alike, apart)
    )  # (n, 7, M) each
    other = torch.arange(there.shape[2], device=there.device) != anchor
    own_rivals = added(own[:, :, NEAR:], own_there[:, :, NEAR:])  # (n, M)
    text_rivals = added(against, text_there & there)  # (n, 7)
    both = torch.logaddexp(own_rivals[:, anchor], text_rivals[:, 0])[:, None]
    own_rivals = torch.where(other, own_rivals, both)
    text_rivals = torch.cat([both, text_rivals[:, 1:]], dim=1)
    first = F.softplus(own_rivals[:, :, None] - own[:, :, :NEAR]).flatten()
    second = F.softplus(text_rivals[:, :, None] - across).flatten()
    counts = torch.cat([own_there[:, :, :NEAR].flatten(), (text_there & there & other).flatten()])
    return mean_where(torch.cat([first, second]), counts)


def added(scores: Tensor, counts: Tensor) -> Tensor:
    """log sum exp over the last axis of what counts; next to nothing where nothing does."""
    return torch.where(counts, scores, NOTHING).logsumexp(dim=-1)
