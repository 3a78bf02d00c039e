"""What LNLN and ALMT share: tokens of every modality, and a hyper-modality that text gathers from the others.

(BASELINES_MM 9 and 16.) A modality is several tokens. The text's tokens, as they are and after every layer of its
encoder, ask the other modalities' tokens; what they find is added up in hyper tokens, layer by layer. Last the text's
tokens look at the hyper ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.nn.attention import attend
from mmlib.nn.crossings import CrossLayer, positions
from mmlib.nn.encoder import Encoder
from mmlib.nn.frames import as_frames
from mmlib.nn.tokens import TokenBlock


@dataclass(frozen=True)
class HyperSizes:
    """count, width: of the tokens. heads, rate: of all attentions, dropout. depth: of the last layers.

    levels: how often the text asks, once of its tokens as they are and once after each layer of its encoder.
    """

    count: int
    width: int
    heads: int
    depth: int
    rate: float
    levels: int = 3


class Tokens(nn.Module):
    """K tokens from one embedding K times as wide, of frames by their mean; learned ones where it is missing."""

    def __init__(self, dim: int, count: int, width: int) -> None:
        super().__init__()
        self.encoder, self.count = Encoder(dim, count * width), count
        self.absent = nn.Parameter(torch.randn(count, width) * width**-0.5)

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """values (n, dim) or (n, t, dim), seen (n,) bool -> (n, K, width)."""
        made = self.encoder(values).unflatten(1, (self.count, -1))
        return torch.where(seen[:, None, None], made, self.absent)


class Stack(nn.Module):
    """Transformer layers over learned tokens put before what is given."""

    def __init__(self, count: int, width: int, heads: int, layers: int, rate: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(count, width) * width**-0.5)
        self.blocks = nn.ModuleList(
            [TokenBlock(width, heads, 2 * width, rate) for _ in range(layers)]
        )

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """tokens (n, k, width), seen (n, k) bool -> (n, count, width): what becomes of the learned ones."""
        own = self.first.expand(len(tokens), -1, -1)
        values = torch.cat([own, tokens], dim=1)
        there = torch.cat([torch.ones_like(own[:, :, 0], dtype=torch.bool), seen], dim=1)
        for block in self.blocks:
            values = block(values, there)
        return values[:, : len(self.first)]


class FrameTokens(nn.Module):
    """K tokens that stand before an utterance's frames in transformer layers; learned ones where it is missing.

    Frames have sinusoidal positions, where the source has learned ones. Padding and dropped frames are no keys.
    """

    def __init__(self, dim: int, sizes: HyperSizes, layers: int) -> None:
        super().__init__()
        width = sizes.width
        self.enter = nn.Linear(dim, width)
        self.stack = Stack(sizes.count, width, sizes.heads, layers, sizes.rate)
        self.absent = nn.Parameter(torch.randn(sizes.count, width) * width**-0.5)

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """values (n, t, dim), seen (n,) bool -> (n, K, width)."""
        frames = as_frames(values)
        entered = self.enter(frames)
        entered = entered + positions(entered.shape[1], entered.shape[2], entered)
        real = (frames != 0).any(dim=2) & seen[:, None]
        return torch.where(seen[:, None, None], self.stack(entered, real), self.absent)


class Ask(nn.Module):
    """hyper + W_o sum over other modalities of attention of LN(text) over their tokens, each with its own maps."""

    def __init__(self, others: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)
        self.told = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(others)])
        self.out = nn.Linear(width, width)

    def forward(
        self, hyper: Tensor, text: Tensor, others: Sequence[Tensor], seen: Sequence[Tensor]
    ) -> Tensor:
        """hyper and text (n, K, width); others (n, K, width) each, seen (n,) bool each -> (n, K, width)."""
        query = self.query(self.norm(text))
        found = torch.zeros_like(hyper)
        for told, tokens, there in zip(self.told, others, seen, strict=True):
            key, value = told(tokens).chunk(2, dim=2)
            keys = there[:, None].expand(-1, tokens.shape[1])
            found = found + attend(query, key, value, keys, self.heads)
        made: Tensor = hyper + self.out(found)
        return made


class Hyper(nn.Module):
    """The text's encoder, the hyper tokens, and the layers in which the text looks at them.

    others: how many other modalities there are.
    """

    def __init__(self, others: int, sizes: HyperSizes) -> None:
        super().__init__()
        width, heads, rate = sizes.width, sizes.heads, sizes.rate
        self.text = nn.ModuleList(
            [TokenBlock(width, heads, 2 * width, rate) for _ in range(sizes.levels - 1)]
        )
        self.asks = nn.ModuleList([Ask(others, width, heads) for _ in range(sizes.levels)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(sizes.levels)])
        self.start = nn.Parameter(torch.ones(sizes.count, width))
        self.extra = nn.Parameter(torch.randn(2, 1, width) * width**-0.5)  # before text and hyper
        self.cross = nn.ModuleList([CrossLayer(1, width, heads, rate) for _ in range(sizes.depth)])
        self.norm = nn.LayerNorm(width)

    def forward(
        self, text: Tensor, others: Sequence[Tensor], seen: Sequence[Tensor], normed: bool
    ) -> Tensor:
        """text and others (n, K, width) each, seen (n,) bool of each other -> (n, 1 + K, width), the extra token first.

        normed: the hyper tokens are normed before what is found is added, as in LNLN.
        """
        n, k = text.shape[:2]
        all_seen = torch.ones_like(text[:, :, 0], dtype=torch.bool)
        hyper = self.start.expand(n, -1, -1)
        for level, (ask, norm) in enumerate(zip(self.asks, self.norms, strict=True)):
            if level:
                text = self.text[level - 1](text, all_seen)
            hyper = ask(norm(hyper) if normed else hyper, text, others, seen)
        target, source = (
            torch.cat([first.expand(n, -1, -1), x], dim=1)[None]
            for first, x in zip(self.extra, (text, hyper), strict=True)
        )
        allowed = torch.ones(1, n, 1 + k, 1 + k, dtype=torch.bool, device=text.device)
        for layer in self.cross:
            target = layer(target, source, allowed)
        made: Tensor = self.norm(target[0])
        return made


def split_off(values: Mapping[str, Tensor], anchor: str) -> tuple[Tensor, list[Tensor]]:
    """The anchor's, and the others' in order."""
    return values[anchor], [x for m, x in values.items() if m != anchor]
