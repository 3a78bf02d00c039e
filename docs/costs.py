"""Fit what runs cost: ``python docs/costs.py [FOLDER]`` writes ``mmlib/runs/costs.csv`` from a store's run times.

FOLDER: a store; by default the project's own. Run it after a full ``./run_all.sh`` on an idle machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mmlib import paths
from mmlib.runs import timing
from mmlib.runs.store import Store


def main(folder: Path) -> None:
    """Write the costs that fit a store's runs."""
    store = Store(folder)
    timed = (
        (record["spec"], store.sidecar(record.id).get("seconds")) for record in store.records()
    )
    runs = [(spec, seconds) for spec, seconds in timed if seconds]
    timing.fitted(runs).to_csv(timing.FILE, index=False, lineterminator="\n")
    print(f"{timing.FILE}: from {len(runs)} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else paths.runs())
