"""Self-MM's network over vectors (BASELINES_MM 1): a fused score, and one of every modality by itself.

Text enters as it is, where Self-MM has BERT's first token; audio, vision and any other modality through one linear map,
where Self-MM has an LSTM's last state. Frames enter as their mean over the real ones. The method ``selfmm`` trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import time_mean


@dataclass(frozen=True)
class SelfMMConfig:
    """Widths and dropout of the heads, as for CMU-MOSI.

    fusion, text, audio, vision: a head's width; audio and vision are also that of the modality's own map, and other
    modalities are as vision. dropout: of text and audio before their heads (the other heads have none).
    """

    fusion: int = 128
    text: int = 32
    audio: int = 16
    vision: int = 32
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("fusion", "text", "audio", "vision"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"selfmm {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "selfmm dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )

    def width(self, modality: str) -> int:
        """Of a modality's head."""
        return int(getattr(self, modality if modality in ("text", "audio") else "vision"))


class SelfMM(Backbone):
    """The network. z^m is F*_m, the feature in the middle of a modality's head, and ``hidden`` the fused F*."""

    Config = SelfMMConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: SelfMMConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        widths = {m: dims[m] if m == "text" else config.width(m) for m in self.modalities}
        self.encoders = nn.ModuleDict(
            {
                m: nn.Identity() if m == "text" else nn.Linear(dims[m], widths[m])
                for m in self.modalities
            }
        )
        self.fusion = Head(sum(widths.values()), config.fusion, outputs, 0.0)
        self.heads = nn.ModuleDict(
            {
                m: Head(
                    widths[m],
                    config.width(m),
                    outputs,
                    config.dropout if m in ("text", "audio") else 0.0,
                )
                for m in self.modalities
            }
        )
        self.embedding_dim = config.vision
        self.prediction = self.fusion.last

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        entered = {m: self.encoders[m](time_mean(features[m])) for m in self.modalities}
        hidden = self.fusion.feature(torch.cat([entered[m] for m in self.modalities], dim=1))
        z = {m: self.head(m).feature(entered[m]) for m in self.modalities}
        return Fused(z, hidden, self.fusion.score(hidden))

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own score, modality to (n, outputs)."""
        return {m: self.head(m).score(fused.z[m]) for m in self.modalities}

    def head(self, modality: str) -> Head:
        """A modality's own."""
        head = self.heads[modality]
        assert isinstance(head, Head)
        return head


class Head(nn.Module):
    """dropout, linear, ReLU: the feature F*; then linear, ReLU, linear: the score."""

    def __init__(self, dim: int, width: int, outputs: int, rate: float) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(dim, width),
            nn.Linear(width, width),
            nn.Linear(width, outputs),
        )
        self.rate = rate

    def feature(self, entered: Tensor) -> Tensor:
        """(n, dim) -> (n, width)."""
        return F.relu(self.first(dropout(entered, self.rate, self.training)))

    def score(self, feature: Tensor) -> Tensor:
        """(n, width) -> (n, outputs)."""
        score: Tensor = self.last(F.relu(self.second(feature)))
        return score
