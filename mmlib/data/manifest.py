"""``data/manifest.toml``: what data the papers used, and the real bundles that were recorded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mmlib import paths
from mmlib.data.bounded import read_toml
from mmlib.data.forms import check_form, flag, listed, named, table, text, whole
from mmlib.errors import InputError
from mmlib.files import stamp

ROLE = {
    "task": lambda value: value in ("classes", "score", "binaries"),
    "classes": whole,
    "frames": flag,
    "paper": listed(table),
}
PAPER = {"name": text, "where": text, "ledger": text}
COUNTS = {"dialogues": named(whole), "utterances": named(whole), "dims": named(whole)}
BUNDLE = {"fingerprint": text, "roles": listed(text), "source": text, "licence": text}


def load_manifest() -> dict[str, Any]:
    """``data/manifest.toml``: ``role`` (the papers' data) and ``bundle`` (the real ones recorded).

    Raises:
        InputError: no readable manifest, or one of another form.
    """
    path = paths.root() / "data" / "manifest.toml"
    if not path.exists():  # MMLIB_HOME may point at a folder for results alone
        path = Path(__file__).resolve().parents[2] / "data" / "manifest.toml"
    return _loaded(path, stamp(path))


@lru_cache(maxsize=1)  # every caption of real data asks for it
def _loaded(path: Path, stamped: object) -> dict[str, Any]:
    expected, do = "the file of this repository", "Restore it, or correct MMLIB_HOME."
    manifest = {"role": {}, "bundle": {}} | read_toml(path, expected, do)
    try:
        _check(manifest)
    except ValueError as error:
        raise InputError(str(path), f"no readable manifest ({error})", expected, do) from error
    return manifest


def _check(manifest: dict[str, Any]) -> None:
    check_form("the manifest", manifest, {"role": table, "bundle": table}, {})
    for name, role in manifest["role"].items():
        check_form(f"role.{name}", role, ROLE, {})
        for paper in role["paper"]:
            check_form(f"role.{name}.paper", paper, PAPER, COUNTS)
    for name, bundle in manifest["bundle"].items():
        check_form(f"bundle.{name}", bundle, BUNDLE, {"sha256": named(text)})
