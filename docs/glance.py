"""The table that opens the README: ``python docs/glance.py`` writes it anew from ``figures/claims.csv``.

``--check`` writes nothing and ends with 1 where the table is not that of the present claims.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import glance

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=<!-- primary claims -->\n).*?(?=<!-- end -->)", flags=re.S)


def table() -> str:
    """The table of the committed claims, with links from the repository's top."""
    called = {name: paper.called for name, paper in PAPERS.items()}
    return glance.markdown(glance.read(ROOT / "figures"), called, folder="figures/")


def main(arguments: Sequence[str]) -> int:
    """Write the table, or with ``--check`` say whether it is current."""
    page = README.read_text(encoding="utf-8")
    made = BLOCK.sub(lambda _: f"\n{table()}\n", page)
    if "--check" in arguments:
        return int(made != page)
    README.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
