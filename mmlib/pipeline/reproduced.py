"""Whether what a run wrote equals what is committed, which git knows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from mmlib.pipeline.troubles import shown


def lines(figures: Path, collections: Iterable[str]) -> list[str]:
    """A sentence for each collection that is committed; none where git or a checkout is lacking.

    figures: the folder of all collections. What git ignores (pictures as SVG, what differs by machine) plays no part.
    """
    said = []
    for name in sorted(set(collections)):
        folder = shown(figures / name)
        committed = _git(figures, "ls-files", "-z", "--", name)
        if not committed:
            continue
        changed = _git(figures, "status", "--porcelain", "-z", "--untracked-files=all", "--", name)
        if not changed:
            said.append(f"{folder}: all {len(committed)} files equal what is committed")
        else:
            said.append(
                f"{folder}: {len(changed)} files differ from what is committed "
                f"({len(committed)} files), as they may where another kind of processor made them "
                f"(docs/running.md); look at them with: git diff --stat -- {folder}"
            )
    return said


def _git(folder: Path, *arguments: str) -> list[str]:
    """What git lists, of the checkout that a folder is in; nothing where there is no git, checkout or folder."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [name for name in answer.stdout.split("\0") if name] if answer.returncode == 0 else []
