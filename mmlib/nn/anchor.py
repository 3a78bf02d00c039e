"""The modality around which text-centred systems are built (R6)."""

from __future__ import annotations

from collections.abc import Sequence

from mmlib.errors import unknown_name

ANCHOR = "text"


def anchor_of(called: str, wanted: str, modalities: Sequence[str]) -> str:
    """The modality that is wanted, or the first where the data have no text.

    Raises:
        InputError: another one that the data have not.
    """
    if wanted not in (*modalities, ANCHOR):
        raise unknown_name(f"{called} anchor", wanted, modalities)
    return wanted if wanted in modalities else modalities[0]
