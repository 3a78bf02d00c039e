"""Laws of patterns at a share of incomplete rows, under names that say what they do.

They are the four mechanisms of a public toolbox (iMML's ``Amputer``), which there bear the names of Rubin's classes.
None looks at content or label: all are missing completely at random, and differ in their patterns alone. Three are
here; the fourth fixes one pattern for a whole data set, as ``subset`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmlib.errors import InputError
from mmlib.masks.draw import Drawing, Kind
from mmlib.masks.law import Law, Mask, check_rate


def keep_one(share: float) -> Law:
    """A share of the rows keeps one modality alone, each as often (there: mutually exclusive missing)."""
    check_rate("keep_one", "the share", share, most=1.0)
    return Law("keep_one", rate=share)


def coins(share: float) -> Law:
    """A share of the rows loses each modality by the throw of a coin (there: MCAR).

    A row that would lose nothing, or everything, has one modality turned, at random.
    """
    check_rate("coins", "the share", share, most=1.0)
    return Law("coins", rate=share)


def fixed_subsets(share: float, order: Sequence[str] = ()) -> Law:
    """A share of the rows loses the first 1, 2, ... or M - 1 modalities of an order, each as often (there: MNAR).

    order: all modalities; the bundle's where empty. There it is drawn at random for each data set, so that rates are
    unequal in a way that nobody chose; here it is part of the law, the same for all seeds and splits.
    """
    check_rate("fixed_subsets", "the share", share, most=1.0)
    return Law("fixed_subsets", rate=share, modalities=tuple(order))


def _incomplete(law: Law, drawing: Drawing) -> np.ndarray:
    """(n,) bool: which rows are incomplete; their number is the share's, rounded."""
    n = drawing.shape[0]
    return np.asarray(drawing.joint.permutation(n) < round(law.rate * n))


def _keep_one(law: Law, drawing: Drawing) -> Mask:
    n, count = drawing.shape
    incomplete = _incomplete(law, drawing)
    keeps = drawing.joint.integers(0, count, n)[:, None] == np.arange(count)
    return Mask(keeps | ~incomplete[:, None])


def _coins(law: Law, drawing: Drawing) -> Mask:
    n, count = drawing.shape
    incomplete = _incomplete(law, drawing)
    kept = np.stack([g.random(n) < 1 / 2 for g in drawing.per_modality], axis=1)
    turned = drawing.joint.integers(0, count, n)[:, None] == np.arange(count)
    alike = np.asarray(kept.all(axis=1) | ~kept.any(axis=1))
    kept ^= turned & alike[:, None]
    return Mask(kept | ~incomplete[:, None])


def _fixed_subsets(law: Law, drawing: Drawing) -> Mask:
    n, count = drawing.shape
    place = _places(law, drawing.bundle.modalities)
    incomplete = _incomplete(law, drawing)
    number = drawing.joint.integers(1, max(count, 2), n)
    return Mask((place >= number[:, None]) | ~incomplete[:, None])


def _places(law: Law, modalities: Sequence[str]) -> np.ndarray:
    """(M,) each modality's place in the order in which they go missing.

    Raises:
        InputError: an order that leaves some out.
    """
    order = law.modalities or tuple(modalities)
    if sorted(order) != sorted(modalities):
        raise InputError(
            "mask law fixed_subsets, order",
            ", ".join(order),
            "all of " + ", ".join(modalities),
            "Name each modality once.",
        )
    return np.array([order.index(m) for m in modalities])


def _of_keep_one(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, law.rate * (1 - 1 / len(modalities)))


def _of_coins(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    # Turning one modality of the rows that are all or nothing changes no rate: they are as many of each.
    return dict.fromkeys(modalities, law.rate / 2)


def _of_fixed_subsets(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    count = len(modalities)
    lost = law.rate * (1 - _places(law, modalities) / max(count - 1, 1))
    return dict(zip(modalities, map(float, lost), strict=True))


KEEP_ONE = Kind(9, _keep_one, _of_keep_one, most=1.0)
COINS = Kind(10, _coins, _of_coins, most=1.0)
FIXED_SUBSETS = Kind(11, _fixed_subsets, _of_fixed_subsets, most=1.0)
