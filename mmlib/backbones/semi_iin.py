"""Semi-IIN: a tower that looks within modalities and one that looks across them, and a gate (BASELINES_MM2 23).

A learned token stands before the modalities' tokens. In both towers it sees all of these, and never itself; a
modality's token sees it, and those of its own modality (intra) or those of the others (inter). A tower is one layer
that is passed several times. G f_inter + (1 - G) f_intra of the learned token, G a sigmoid of both, is predicted from.
With one pass the learned token reads tokens that have seen nothing yet; in the second the intra tower's tokens see what
it has gathered of all modalities, and it would read that in a third. So two is the number at which towers differ as
they should. A vector is one token. Predictions of emotions beside the score, and learning from unlabelled rows, are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import CrossLayer, positions
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import FrameConv, as_frames, mean_over, real_frames


@dataclass(frozen=True)
class SemiIINConfig:
    """hidden: width. kernel: frames that a token is made of, 3 as published. passes: of a tower's one layer.

    dropout: in the layer. entering: dropout of the features. A missing modality's tokens are no keys; a row with one
    modality, which has nothing across, takes what the intra tower gives for both.
    """

    hidden: int = 64
    heads: int = 4
    kernel: int = 1
    passes: int = 2
    dropout: float = 0.2
    entering: float = 0.5

    def __post_init__(self) -> None:
        check_counts("semi_iin", self, ("hidden", "heads", "passes"))
        check_heads("semi_iin", self.hidden, self.heads)
        check_shares("semi_iin", self, ("dropout", "entering"))


class Parts(NamedTuple):
    """The prediction; the tokens of both towers, intra first, (2, n, 1 + k, hidden); the gate, (n, hidden)."""

    fused: Fused
    towers: Tensor
    gate: Tensor


class SemiIIN(Backbone):
    """The network over vectors (n, d), or frames (n, t, d), whose numbers may differ by modality.

    z^m is the mean of a modality's tokens as they enter.
    """

    Config = SemiIINConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: SemiIINConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width = self.embedding_dim = config.hidden
        self.encoders = nn.ModuleDict(
            {m: FrameConv(dims[m], width, config.kernel) for m in self.modalities}
        )
        self.kind = nn.Parameter(torch.randn(len(dims), width) * width**-0.5)
        self.asking = nn.Parameter(torch.randn(width) * width**-0.5)
        self.layer = CrossLayer(2, width, config.heads, config.dropout)
        self.of_inter, self.of_intra = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.lift = nn.Linear(width, width)  # no activation follows, as in the source
        self.prediction = nn.Linear(width, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Make tokens, pass both towers, gate, predict."""
        frames = {m: as_frames(features[m]) for m in self.modalities}
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        frames = {m: torch.where(seen[m][:, None, None], x, 0) for m, x in frames.items()}
        real = {m: real_frames(x) for m, x in frames.items()}
        tokens = {m: self.tokens(i, frames[m]) for i, m in enumerate(self.modalities)}
        asking = self.asking.expand(len(batch), 1, -1)
        given = torch.cat([asking, *tokens.values()], dim=1).expand(2, -1, -1, -1)
        there = torch.cat([real[m] & seen[m][:, None] for m in self.modalities], dim=1)
        allowed = visible([x.shape[1] for x in tokens.values()], there)
        towers = given
        for _ in range(self.config.passes):
            towers = self.layer(towers, towers, allowed)
        intra, inter = towers[:, :, 0]
        inter = torch.where(batch.observed.sum(dim=1, keepdim=True) > 1, inter, intra)
        gate = torch.sigmoid(self.of_inter(inter) + self.of_intra(intra))
        hidden = self.lift(gate * inter + (1 - gate) * intra)
        z = {m: mean_over(x, real[m]) for m, x in tokens.items()}
        return Parts(Fused(z, hidden, self.prediction(hidden)), towers, gate)

    def tokens(self, index: int, frames: Tensor) -> Tensor:
        """A modality's tokens, (n, t, d) -> (n, t, hidden); several have positions."""
        given = dropout(frames, self.config.entering, self.training)
        made: Tensor = self.encoders[self.modalities[index]](given) + self.kind[index]
        return made + positions(made.shape[1], made.shape[2], made) if made.shape[1] > 1 else made

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused


def visible(counts: list[int], there: Tensor) -> Tensor:
    """What each token may see in the towers, intra first: (2, n, 1 + k, 1 + k) bool.

    counts: tokens of each modality, k in all. there: (n, k) bool.
    """
    of = torch.cat(
        [torch.full((c,), i, device=there.device) for i, c in enumerate([1, *counts])]
    )  # 0 is the learned token
    same, asking = of[:, None] == of, of == 0
    modal = ~asking[:, None] & ~asking
    either = asking[:, None] ^ asking
    allowed = torch.stack([modal & same, modal & ~same]) | either
    return allowed[:, None] & torch.cat([there[:, :1] | True, there], dim=1)[:, None]
