"""What the README says of results: ``python docs/glance.py`` writes it anew from ``figures/claims.csv``.

That is the table of primary claims, and beside each notebook what its paper's claims came to. ``--check`` writes
nothing and ends with 1 where the README is not that of the present claims.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmlib.names import LEAKY
from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.pipeline import findings, glance

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
QUESTIONS = {
    "balm": "Does slowing the fastest modality help?",
    "dream": "Does asking what each adds help?",
    "ebmc": "Should one enhance, and then balance?",
    "mculora": "Own weights per combination?",
    "gmm_loss": "Can the gap in confidence steer the loss?",
    "side_by_side": "Which of the five is best?",
}
CVF = "https://openaccess.thecvf.com/content/CVPR2026/papers"
EBMC = "He_Enhance-then-Balance_Modality_Collaboration_for_Robust_Multimodal_Sentiment_Analysis"
SOURCES = {
    "balm": "Nguyen and others, CVPR 2026",
    "dream": "Bi and others, EMNLP Findings 2025",
    "ebmc": f"[He and others, CVPR 2026]({CVF}/{EBMC}_CVPR_2026_paper.pdf)",
    "mculora": "[Zhao and others, ACM MM 2025](https://arxiv.org/abs/2507.11202)",
    "gmm_loss": "[Liu and others, 2025](https://arxiv.org/abs/2510.21797)",
    "side_by_side": "the five on the same data, masks and budget",
}


def table() -> str:
    """The table of the committed claims, with links from the repository's top."""
    called = {name: paper.called for name, paper in PAPERS.items()}
    return glance.markdown(glance.read(ROOT / "figures"), called, folder="figures/")


def notebooks() -> str:
    """One line per notebook: its paper, its question, and what its primary claims came to."""
    called = {name: paper.called for name, paper in PAPERS.items()}
    kept = glance.tested(glance.read(ROOT / "figures"), called)
    lines = []
    for name, paper in PAPERS.items():
        mine = kept[(kept["paper"] == name) & ~kept["collection"].isin(LEAKY)]
        told = findings.counted(mine["verdict"]) if len(mine) else "not decided yet"
        told = told.replace("no difference that matters", "no difference")  # one line each
        told = f" *{told}*" if name in CLAIMS else ""
        link = f"[{paper.notebook}](notebooks/{paper.notebook})"
        lines.append(f"* {link} ({SOURCES[name]}): {QUESTIONS[name]}{told}")
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
