"""Drawing: from a law, a split and a seed to a mask.

Two families: *fixed* masks are drawn once per law, split and seed; *resampled* ones are drawn anew
for each epoch by its number, so that any epoch's mask can be drawn again. Every draw starts from
the bundle's rows in (dialogue, position) order, which follow from sorted ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import SPLITS, Bundle
from mmlib.errors import InputError, unknown_name
from mmlib.masks.law import Law, Mask


@dataclass(frozen=True)
class Drawing:
    """What a kind of law draws over and with."""

    bundle: Bundle
    """The data, all splits of them."""

    rows: np.ndarray
    """(n,) the split's rows in the bundle."""

    joint: np.random.Generator
    """What is drawn for all modalities together."""

    per_modality: Sequence[np.random.Generator]
    """A generator for each modality."""

    shares: np.ndarray | None = None
    """(2^M - 1,) shares of the combinations of modalities, where they are not equal."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M)."""
        return len(self.rows), len(self.bundle.modalities)


@dataclass(frozen=True)
class Kind:
    """A kind of law: everything that depends on which one it is."""

    number: int
    """Enters the seed of every draw, so it is never changed or used again."""

    draw: Callable[[Law, Drawing], Mask]
    """What is observed where nothing is missing by nature."""

    nominal: Callable[[Law, Sequence[str]], dict[str, float]]
    """The missing rate that a law names for each modality; of frames where ``rates_of_frames``."""

    needs_frames: bool = False
    """Takes sequences alone."""

    rates_of_frames: bool = False
    """Whether its rates count frames instead of utterances."""

    redistributes: bool = False
    """Whether utterances that would lose everything get one modality back, which lowers the rates (A2)."""

    leaves_out: bool = False
    """Whether utterances that by nature have nothing of what stays are left out; else something is restored."""

    most: float | None = None
    """The largest rate, where that may be 1."""


def drawn(
    kind: Kind,
    law: Law,
    bundle: Bundle,
    split: str,
    seed: int,
    step: int = 0,
    shares: np.ndarray | None = None,
) -> Mask:
    """The mask of a split under a law of some kind; see ``masks.draw``."""
    check_fit(kind, law, bundle)
    rows, modalities = bundle.rows(split), bundle.modalities
    epoch = [1 + step] if law.resampled else []
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), kind.number, *epoch])
    generators = [np.random.default_rng(s) for s in sequence.spawn(len(modalities) + 1)]
    joint, per_modality = generators[-1], generators[:-1]
    mask = kind.draw(law, Drawing(bundle, rows, joint, per_modality, shares))
    observed = bundle.observed[rows]
    if observed.all():
        return mask
    if kind.leaves_out:
        return _those_that_have(law, mask.utterance & observed, bundle, split)
    return Mask(restore(mask.utterance & observed, observed, joint), mask.frames)


def check_fit(kind: Kind, law: Law, bundle: Bundle) -> None:
    """Hold a law to the data it is drawn over.

    Raises:
        InputError: modalities that the bundle lacks, or frames asked of a bundle without any.
    """
    for modality in [*(m for m, _ in law.rates), *law.modalities]:
        if modality not in bundle.modalities:
            raise unknown_name(f"mask law {law.kind}, modality", modality, bundle.modalities)
    if law.rates and len(law.rates) != len(bundle.modalities):
        raise InputError(
            f"mask law {law.kind}",
            f"rates for {len(law.rates)} modalities",
            f"one for each of {', '.join(bundle.modalities)}",
            "Name every modality's rate.",
        )
    if kind.needs_frames and any(bundle.features[m].ndim != 3 for m in bundle.modalities):
        raise InputError(
            f"mask law {law.kind}",
            f"bundle {bundle.name} without frames",
            "features of shape (n, t, d)",
            "Choose an utterance-level law, or a frame-level bundle.",
        )


def restore(mask: np.ndarray, available: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give each row that lost everything one of its available places, at random; (n, k) bool both."""
    draws = np.where(available, generator.random(mask.shape), -1.0)
    empty = ~mask.any(axis=1)
    mask = mask.copy()
    mask[empty, draws[empty].argmax(axis=1)] = True
    return mask


def _those_that_have(law: Law, mask: np.ndarray, bundle: Bundle, split: str) -> Mask:
    """A fixed subset's mask where some utterances lack all of it: nothing is restored, they are left out."""
    kept = np.asarray(mask.any(axis=1))
    if not kept.any():
        raise InputError(
            f"mask law {law}, bundle {bundle.name}",
            f"no {split} utterance with any of these",
            "one or more",
            "Leave the condition or the modality out, or move utterances that have it.",
        )
    return Mask(mask, kept=None if kept.all() else kept)
