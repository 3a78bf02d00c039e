"""Holding a mask to the rates that its law names."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.masks import mechanism
from mmlib.masks.draw import Kind
from mmlib.masks.frame_dropping import existing_frames
from mmlib.masks.law import Law, Mask


def audited(kind: Kind, law: Law, bundle: Bundle, split: str, mask: Mask) -> pd.DataFrame:
    """Nominal, expected and realised missing rates; see ``masks.audit``."""
    return pd.DataFrame(rate_lines(kind, law, bundle, split, mask))


def rate_lines(
    kind: Kind, law: Law, bundle: Bundle, split: str, mask: Mask
) -> list[dict[str, Any]]:
    """The lines of ``audited``, which every run writes down for each of its masks."""
    nominal = kind.nominal(law, bundle.modalities)
    given_back = math.prod(nominal.values()) / len(nominal) if kind.redistributes else 0.0
    expected = {m: rate - given_back for m, rate in nominal.items()}
    if law.kind in mechanism.NAMES:
        expected = mechanism.expected_rates(law, bundle, split)
    rows = bundle.rows(split)
    lines = []
    for index, modality in enumerate(bundle.modalities):
        realised = 1 - mask.of(mask.utterance)[:, index].mean()
        if kind.rates_of_frames:
            exists = existing_frames(bundle, modality, rows)
            realised = 1 - (mask.frames[modality] & exists).sum() / exists.sum()
        lines.append(
            {
                "split": split,
                "modality": modality,
                "nominal": nominal[modality],
                "expected": expected[modality],
                "realised": float(realised),
            }
        )
    return lines
