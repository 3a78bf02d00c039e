"""Every missingness protocol. Nothing else decides what is missing.

A ``Law`` says how modalities go missing; ``draw`` applies it to one split with a seed. ``KINDS`` is the one list of
kinds. A family of kinds is a file, and the version of a run counts the families that the run names, no others.

Sources: BALM section 3.1, Eqs 1-4 and 36-39 (ledger A1-A3, D1, D2); DREAM appendix A.4; MCULoRA's and EBMC's fixed and
random missing protocols, and EBMC's frames dropped in training (E23).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.data.missing import completeness
from mmlib.errors import unknown_name
from mmlib.masks import (
    fixed,
    frame_dropping,
    mechanism,
    missing_rates,
    modality_patterns,
    pattern_laws,
    segments,
)
from mmlib.masks.audit import audited, rate_lines
from mmlib.masks.dependence import dependence, information
from mmlib.masks.draw import Kind, drawn
from mmlib.masks.fixed import complete, subset
from mmlib.masks.frame_dropping import frames, largest_remainder, mix, random_frames
from mmlib.masks.law import Law, Layout, Mask, check_rate
from mmlib.masks.mechanism import (
    fitted,
    mar_anchor,
    mar_candidates,
    mcar,
    mnar_cross,
    mnar_label,
    mnar_quality,
    mnar_self,
    restored,
)
from mmlib.masks.missing_rates import (
    equivalent_shared_rate,
    imbalance,
    imbalanced,
    pattern_counts,
    pattern_distribution,
    rate_bound,
    shared,
)
from mmlib.masks.modality_patterns import combinations, patterns, random_missing
from mmlib.masks.pattern_laws import coins, fixed_subsets, keep_one
from mmlib.masks.segments import segment

KINDS: dict[str, Kind] = {
    "complete": fixed.COMPLETE,
    "subset": fixed.SUBSET,
    "random": modality_patterns.RANDOM,
    "shared": missing_rates.SHARED,
    "imbalanced": missing_rates.IMBALANCED,
    "frames": frame_dropping.FRAMES,
    "mix": frame_dropping.MIX,
    "patterns": modality_patterns.PATTERNS,
    "random_frames": frame_dropping.RANDOM_FRAMES,
    "keep_one": pattern_laws.KEEP_ONE,
    "coins": pattern_laws.COINS,
    "fixed_subsets": pattern_laws.FIXED_SUBSETS,
    "segment": segments.SEGMENT,
    **dict.fromkeys(mechanism.NAMES, mechanism.MECHANISM),
}

__all__ = [
    "KINDS",
    "Kind",
    "Law",
    "Layout",
    "Mask",
    "audit",
    "audit_lines",
    "coins",
    "combinations",
    "complete",
    "completeness",
    "dependence",
    "describe",
    "draw",
    "equivalent_shared_rate",
    "family",
    "fitted",
    "fixed_subsets",
    "frames",
    "imbalance",
    "imbalanced",
    "information",
    "is_random",
    "keep_one",
    "largest_remainder",
    "law_from_json",
    "mar_anchor",
    "mar_candidates",
    "mcar",
    "mix",
    "mnar_cross",
    "mnar_label",
    "mnar_quality",
    "mnar_self",
    "nominal_rates",
    "pattern_counts",
    "pattern_distribution",
    "patterns",
    "random_frames",
    "random_missing",
    "rate_bound",
    "restored",
    "segment",
    "shared",
    "subset",
]


def kind_of(law: Law) -> Kind:
    """What a law's kind is.

    Raises:
        InputError: an unknown kind.
    """
    if law.kind not in KINDS:
        raise unknown_name("mask law", law.kind, KINDS)
    return KINDS[law.kind]


def is_random(law: Law) -> bool:
    """Whether a law's masks differ from seed to seed."""
    return kind_of(law) not in (fixed.COMPLETE, fixed.SUBSET)


def describe(law: Law) -> str:
    """A law in a few words, those of its parameters included."""
    return ", ".join([str(law), *(f"{name} {value:g}" for name, value in law.parameters)])


def family(law: Law) -> str:
    """The module, under mmlib, whose code draws a law."""
    return kind_of(law).draw.__module__.removeprefix("mmlib.")


def draw(
    law: Law,
    bundle: Bundle,
    split: str,
    seed: int,
    step: int = 0,
    shares: np.ndarray | None = None,
) -> Mask:
    """The mask of a split under a law and a seed; ``step`` counts the draws (epochs) of a resampled law.

    shares: (2^M - 1,) of the combinations in the order of ``combinations``, for ``patterns``; equal where None. Draws
    of different shares come from the same uniform numbers, so that they differ no more than their shares do.

    Raises:
        InputError: modalities that the bundle lacks, or frames asked of a bundle without any.
    """
    return drawn(kind_of(law), law, bundle, split, seed, step, shares)


def audit(law: Law, bundle: Bundle, split: str, mask: Mask) -> pd.DataFrame:
    """Nominal, expected and realised missing rate of each modality, one row each.

    expected includes the redistribution of all-missing utterances (A2): r_m - prod(r)/M.
    For frame protocols the rates are those of frames among the frames that exist.
    """
    return audited(kind_of(law), law, bundle, split, mask)


def audit_lines(law: Law, bundle: Bundle, split: str, mask: Mask) -> list[dict[str, Any]]:
    """The rows of ``audit`` as a run's record has them."""
    return rate_lines(kind_of(law), law, bundle, split, mask)


def nominal_rates(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    """The missing rate that a law names for each modality (of frames, where its kind counts those)."""
    return kind_of(law).nominal(law, modalities)


def law_from_json(data: Mapping[str, object]) -> Law:
    """A law from its ``dataclasses.asdict`` form, as records hold it.

    Raises:
        InputError: an unknown field or kind, or a rate that makes no sense.
    """
    known = {f.name for f in dataclasses.fields(Law)}
    for key in data:
        if key not in known:
            raise unknown_name("mask law field", key, known)
    fields = dict(data)
    for name in ("rates", "parameters"):
        pairs = fields.get(name, ())
        fields[name] = tuple((str(m), float(r)) for m, r in pairs)  # type: ignore[attr-defined]
    fields["modalities"] = tuple(fields.get("modalities", ()))  # type: ignore[arg-type]
    law = Law(**fields)  # type: ignore[arg-type]
    kind = kind_of(law)
    for name, rate in (*law.rates, ("the rate", law.rate)):
        check_rate(law.kind, name, rate, kind.most)
    return law
