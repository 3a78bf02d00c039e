"""A choice that a paper leaves open: what stands in the way, the reading that is taken, and its ledger rows."""

from __future__ import annotations

from typing import NamedTuple


class Choice(NamedTuple):
    """What a paper does not say or says in two ways, what is done here, and the rows of the ledger, or ``ours``."""

    obstacle: str
    reading: str
    ledger: str
