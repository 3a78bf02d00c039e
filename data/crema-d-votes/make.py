"""Make ``votes.csv.xz`` from the public tables of CREMA-D: ``python data/crema-d-votes/make.py FOLDER``.

FOLDER holds ``tabulatedVotes.csv`` of the CREMA-D repository (``processedResults``) and the lists ``split_train.csv``
and ``split_test.csv`` of the OGM-GE release. The same tables give the same bytes.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Sequence
from pathlib import Path

from mmlib import files
from mmlib.data.embedded import FILE, packed
from mmlib.data.readers.crema_d_votes import tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("tables", type=Path, metavar="FOLDER", help="folder of the public tables")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent / FILE,
        help="file to write (default: the one beside this script)",
    )
    asked = parser.parse_args(arguments)
    files.write(asked.out, lzma.compress(packed(tables(asked.tables)), preset=9))


if __name__ == "__main__":
    main()
