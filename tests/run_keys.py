"""What every artifact runs: the memory of the project, written down before code is moved.

``python tests/run_keys.py --write`` writes ``tests/run_keys.csv``: of every collection, profile, paper and artifact,
how many runs it needs, those that others start from included, and a hash of their sorted keys. A key is a run's id
without the version of the code, so the file stays as it is while code moves, and changes when a specification, its
data or a list of runs does. ``--check`` compares instead, and ends with 1 where something differs.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mmlib import paths
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import PROFILES
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import regenerate

FILE = Path(__file__).with_suffix(".csv")
COLUMNS = ["collection", "profile", "paper", "artifact", "runs", "keys"]
TWINS, EMBEDDED = "twins", "embedded"
# What a profile's twins fill, of the papers whose defaults have embedded real data too.
TWIN_ROLES = {
    "mculora": ("mosei", "iemocap4"),
    "gmm_loss": ("crema-d", "ave"),
    "side_by_side": ("iemocap6", "mosei-frames"),
}
# Collection to what `--data` says, for each paper that has committed results there.
REAL: dict[str, dict[str, dict[str, str]]] = {
    "crema-d-votes": {
        "balm": {"iemocap6": "crema-d-votes"},
        "dream": {"iemocap4-frames": "crema-d-votes"},
        "ebmc": {"iemocap4": "crema-d-votes"},
        "mculora": {"crema-d": "crema-d-votes"},
        "gmm_loss": {"crema-d": "crema-d-votes"},
        "side_by_side": {"crema-d": "crema-d-votes"},
    },
    "mmmo-standardised": {
        "dream": {"mosi-frames": "mmmo-standardised"},
        "ebmc": {"mosi-frames": "mmmo-standardised"},
        "side_by_side": {"mosei-frames": "mmmo-standardised"},
    },
    **{
        name: {
            "balm": {"mosei": name},
            "dream": {"mosi-frames": name},
            "ebmc": {"mosi": name},
            "mculora": {"mosei": name},
            "side_by_side": {"mosei": name},
        }
        for name in ("mosi-bclstm", "mosi-unseen")
    },
}


def import_real(folder: Path) -> None:
    """Import the real bundles that results are committed for into a home of their own."""
    files = paths.real_data()
    import_unseen(folder / "mosi-unseen")
    _import([*_mosi("leaky"), "--out", str(folder / "mosi-bclstm")])
    _import(["crema-d-votes", str(files / "crema-d-votes"), "--out", str(folder / "crema-d-votes")])
    mmmo = ["mmmo", str(files / "mmmo-frames"), "--standardise"]
    _import([*mmmo, "--out", str(folder / "mmmo-standardised")])


def import_unseen(folder: Path) -> None:
    """Import CMU-MOSI, trained on the utterances that the features' extractor has not seen."""
    _import([*_mosi("unseen"), "--out", str(folder)])


def _mosi(split: str) -> list[str]:
    files = paths.real_data()
    index = files / "gcnet-layout" / "CMUMOSI" / "CMUMOSI_features_raw_2way.pkl"
    return ["bclstm-mosi", str(files / "mosi-bclstm"), str(index), "--option", f"split={split}"]


def _import(arguments: list[str]) -> None:
    from mmlib.cli import main

    if main(["data", "import", *arguments]) != 0:
        raise RuntimeError(f"could not import {arguments}")


def contexts(collection: str, profile: str) -> Iterator[Context]:
    """Every paper's context on a collection."""
    real = REAL.get(collection, {})
    for paper in TWIN_ROLES if collection == EMBEDDED else real or PAPERS:
        data = real.get(paper, {})
        if collection == TWINS and paper in TWIN_ROLES:
            size = PROFILES[profile].size
            data = {role: f"twin:{role}@{size}" for role in TWIN_ROLES[paper]}
        yield PAPERS[paper].context(profile=profile, data=data)


def table(collection: str, profile: str) -> pd.DataFrame:
    """The rows of one collection under a profile."""
    rows = []
    for context in contexts(collection, profile):
        for artifact in PAPERS[context.paper].artifacts:
            if regenerate.lacks(context, artifact):
                continue
            needed = regenerate.runs_of(context, artifact)
            keys = sorted(spec.key(context.bundle_fingerprint(spec.data)) for spec in needed)
            digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
            rows.append((collection, profile, context.paper, artifact.id, len(keys), digest))
    return pd.DataFrame(rows, columns=COLUMNS)


def everything() -> pd.DataFrame:
    """All collections under all profiles, in a home of its own; the real data must be there."""
    os.environ["MMLIB_REAL_DATA"] = str(paths.real_data())
    with tempfile.TemporaryDirectory() as home:
        os.environ["MMLIB_HOME"] = os.environ["MMLIB_RUNS"] = home
        import_real(paths.bundles())
        places = [(name, profile) for name in (TWINS, EMBEDDED, *REAL) for profile in PROFILES]
        return pd.concat([table(*place) for place in places if place != (EMBEDDED, "smoke")])


def main(arguments: list[str]) -> int:
    """Write the file, or compare with it."""
    if arguments not in (["--write"], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    now = everything().to_csv(index=False, lineterminator="\n")
    if arguments == ["--write"]:
        FILE.write_text(now, encoding="utf-8")
        return 0
    differing = set(now.splitlines()) ^ set(FILE.read_text(encoding="utf-8").splitlines())
    print("\n".join(sorted(differing)) or "every artifact needs the runs that were written down")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
