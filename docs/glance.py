"""What the README says of results: ``python docs/glance.py`` writes it anew from ``figures/claims.csv``.

That is the table of primary claims, and beside each notebook what its paper's claims came to. ``--check`` writes
nothing and ends with 1 where the README is not that of the present claims.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.pipeline import findings, glance

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
QUESTIONS = {
    "balm": "Does slowing down the fastest modality help where missing rates differ?",
    "dream": "Does it help to ask each modality what it contributes before fusing?",
    "ebmc": "Should modalities first be enhanced, and then be balanced?",
    "mculora": "Does each combination of modalities need weights of its own?",
    "gmm_loss": "Can the gap between two modalities' confidence steer the loss?",
    "side_by_side": "Which of the five methods is best where all have the same data, masks and budget?",
}


def table() -> str:
    """The table of the committed claims, with links from the repository's top."""
    called = {name: paper.called for name, paper in PAPERS.items()}
    return glance.markdown(glance.read(ROOT / "figures"), called, folder="figures/")


def notebooks() -> str:
    """One line per notebook: its paper, its question, and what the primary claims came to."""
    called = {name: paper.called for name, paper in PAPERS.items()}
    kept = glance.tested(glance.read(ROOT / "figures"), called)
    lines = ["| notebook | question | primary claims, over all data |", "|---|---|---|"]
    for name, paper in PAPERS.items():
        mine = kept[kept["paper"] == name] if name in CLAIMS else kept
        told = findings.counted(mine["verdict"]) if len(mine) else "not decided yet"
        link = f"[`{paper.notebook}`](notebooks/{paper.notebook})"
        lines.append(f"| {link} | {QUESTIONS[name]} | {told} |")
    return "\n".join(lines)


BLOCKS = {"primary claims": table, "notebooks": notebooks}


def filled(page: str) -> str:
    """The README with its generated blocks made again."""
    for name, made in BLOCKS.items():
        before, rest = page.split(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n\n{made().strip()}\n\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return page


def main(arguments: Sequence[str]) -> int:
    """Write the README, or with ``--check`` say whether it is current."""
    page = README.read_text(encoding="utf-8")
    made = filled(page)
    if "--check" in arguments:
        return int(made != page)
    README.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
