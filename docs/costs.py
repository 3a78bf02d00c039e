"""Fit what runs cost: ``python docs/costs.py [FOLDER]`` writes ``mmlib/runs/costs.csv`` from a store's run times.

FOLDER: a store, and the executed notebooks in it; by default the project's own. Run it after a full ``./run_all.sh`` on
an idle machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmlib import paths
from mmlib.papers.catalog import PAPERS
from mmlib.runs import timing
from mmlib.runs.store import Store


def main(folder: Path) -> None:
    """Write the costs that fit a store's runs."""
    store = Store(folder)
    timed = (
        (record["spec"], store.sidecar(record.id).get("seconds")) for record in store.records()
    )
    runs = [(spec, seconds) for spec, seconds in timed if seconds]
    for paper in PAPERS.values():
        notes = folder.glob(f"notebooks/*/{Path(paper.notebook).with_suffix('.json')}")
        took = [json.loads(note.read_bytes()).get("seconds") for note in notes]
        runs += [(timing.notebook(paper.name), seconds) for seconds in took if seconds]
    timing.fitted(runs).to_csv(timing.FILE, index=False, lineterminator="\n")
    print(f"{timing.FILE}: from {len(runs)} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else paths.runs())
