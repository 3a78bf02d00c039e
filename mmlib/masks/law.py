"""A law of missingness, and what one draw of it gives.

Masks are True where a modality (or a frame of it) is observed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from mmlib.errors import InputError, unknown_name

Layout = Literal["paper", "released"]


@dataclass(frozen=True)
class Law:
    """How modalities go missing; build one with the function of the same name as its kind."""

    kind: str
    """One of ``masks.KINDS``."""

    rates: tuple[tuple[str, float], ...] = ()
    """The missing rate of each modality, where they differ (``imbalanced``)."""

    modalities: tuple[str, ...] = ()
    """Those that stay observed (``subset``)."""

    rate: float = 0.0
    """The one missing rate, rate of dropped frames, or share of affected utterances."""

    layout: Layout = "paper"
    """``paper`` shuffles the patterns over utterances (A3); ``released`` deals contiguous blocks of one
    pattern to dialogues in order and ignores the seed (D1)."""

    resampled: bool = False
    """Drawn anew at every training epoch instead of once."""

    parameters: tuple[tuple[str, float], ...] = ()
    """What a kind needs beside all this, by name."""

    def __post_init__(self) -> None:
        if self.layout not in ("paper", "released"):
            raise unknown_name("mask layout", self.layout, ("paper", "released"))
        for name, rate in (*self.rates, ("the rate", self.rate)):
            check_rate(self.kind, name, rate, most=1.0)

    def __str__(self) -> str:
        detail = "+".join(self.modalities) or ", ".join(f"{m} {r:g}" for m, r in self.rates)
        if self.rate:
            detail = f"{self.rate:g}"
        text = f"{self.kind}({detail})" if detail else self.kind
        return text + (", blocks as released" if self.layout == "released" else "")


def check_rate(kind: str, name: str, rate: float, most: float | None = None) -> None:
    """Hold a missing rate to [0, 1), or to [0, most].

    Raises:
        InputError: a rate outside, or one that is no number.
    """
    inside = 0 <= rate and (rate < 1 if most is None else rate <= most)
    if not inside:
        raise InputError(
            f"mask law {kind}, {name}",
            str(rate),
            "a missing rate in [0, 1)",
            "Give the share of utterances that lack the modality.",
        )


@dataclass(frozen=True)
class Mask:
    """What is observed in one split."""

    utterance: np.ndarray
    """(n, M) bool, rows in the order of ``bundle.rows(split)``."""

    frames: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Modality to (n, t) bool; empty where no frame is dropped."""

    kept: np.ndarray | None = None
    """(n,) bool, False for utterances left out, which by nature lack all of a fixed subset; None where none is."""

    def of(self, values: np.ndarray) -> np.ndarray:
        """Of (n, ...) values, one for each utterance of the split, those of the utterances that play a part."""
        return values if self.kept is None else values[self.kept]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the mask: 16 hexadecimal digits."""
        digest = hashlib.sha256(np.packbits(self.utterance).tobytes())
        for modality, array in sorted(self.frames.items()):
            digest.update(modality.encode() + np.packbits(array).tobytes())
        return digest.hexdigest()[:16]
