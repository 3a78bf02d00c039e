"""Real data that come with the repository: CREMA-D's votes, in ``data/crema-d-votes``, under a licence of their own.

The file holds integers alone: counts of votes, and mean intensities in units that give the float32 features exactly.
``data/crema-d-votes/make.py`` makes it from the public tables.
"""

from __future__ import annotations

import lzma
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from mmlib import paths
from mmlib.data.bounded import unfolded_lines
from mmlib.data.bundle import Bundle
from mmlib.data.readers.crema_d_votes import CLASSES, VIEWS, Votes, bundle_of
from mmlib.errors import InputError

VOTES = "crema-d-votes"
KINDS = {
    VOTES: "real: how people judged the clips of CREMA-D from voice alone and from face alone; ODbL 1.0"
}
FILE = "votes.csv.xz"
UNIT = 10**10  # intensities of 1 are so many; no shorter decimal unit gives every float32 back
COLUMNS = (
    "clip",
    "split",
    *(f"{m} votes {name}" for m in VIEWS for name in CLASSES),
    *(f"{m} intensity {name}" for m in VIEWS for name in CLASSES),
)


def folder() -> Path:
    """The folder of the data."""
    place = paths.root() / "data" / VOTES
    if not (place / FILE).exists():  # MMLIB_HOME may point at a folder for results alone
        place = Path(__file__).resolve().parents[2] / "data" / VOTES
    return place


@cache
def open_votes() -> Bundle:
    """The bundle of the votes, the same as ``mmlib data import crema-d-votes`` makes of the public tables.

    Raises:
        InputError: the file is not there, or damaged.
    """
    path = folder() / FILE
    try:
        return bundle_of(str(path), unpacked(b"\n".join(unfolded_lines(path))))
    except (EOFError, OSError, ValueError, lzma.LZMAError) as error:
        raise InputError(
            str(path),
            f"no readable votes ({error})",
            "the file of this repository",
            f"Restore it: git checkout -- data/{VOTES}",
        ) from error


def packed(votes: Votes) -> bytes:
    """Votes as a table of integers, in UTF-8."""
    counts = np.concatenate([votes.counts[m] for m in VIEWS], axis=1).astype(int)
    means = np.concatenate([votes.means[m] for m in VIEWS], axis=1).astype(np.float32)
    lines = [",".join(COLUMNS)]
    for (name, split), count, mean in zip(votes.split.items(), counts, means, strict=True):
        units = [_units(value) for value in mean]
        lines.append(",".join([name, split, *map(str, count), *map(str, units)]))
    return ("\n".join(lines) + "\n").encode()


def unpacked(table: bytes) -> Votes:
    """The votes of a table that ``packed`` wrote.

    Raises:
        ValueError: another table.
    """
    head, *lines = table.decode().splitlines()
    if tuple(head.split(",")) != COLUMNS:
        raise ValueError(f"columns {head[:80]!r}")
    cells = [line.split(",") for line in lines]
    if {len(line) for line in cells} != {len(COLUMNS)}:
        raise ValueError(f"a line without {len(COLUMNS)} cells")
    numbers = np.array([line[2:] for line in cells], dtype=np.int64)
    counts, units = np.split(numbers, 2, axis=1)
    return Votes(
        {line[0]: line[1] for line in cells},
        dict(zip(VIEWS, np.split(counts.astype(np.float64), len(VIEWS), axis=1), strict=True)),
        dict(zip(VIEWS, np.split(units / UNIT, len(VIEWS), axis=1), strict=True)),
    )


def _units(value: np.float32) -> int:
    """The shortest decimal number that gives a float32 back, in units of ``UNIT``."""
    scaled = Decimal(str(value)) * UNIT
    if scaled != int(scaled):
        raise ValueError(f"{value} is no multiple of 1 / {UNIT:,}")
    return int(scaled)
