"""Where things are: every path of the repository, in one place.

``MMLIB_HOME`` overrides the repository root (tests and read-only installs use it).
"""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The repository's root folder."""
    return Path(os.environ.get("MMLIB_HOME") or Path(__file__).resolve().parent.parent)


def bundles() -> Path:
    """Where imported bundles stand by default, one folder each."""
    return root() / "data" / "bundles"


def runs() -> Path:
    """The default store of finished runs."""
    return Path(os.environ.get("MMLIB_RUNS") or root() / "runs")


def figures() -> Path:
    """Where tables and figures are written."""
    return Path(os.environ.get("MMLIB_FIGURES") or root() / "figures")


def notebooks() -> Path:
    """The notebooks."""
    return root() / "notebooks"


def real_data() -> Path:
    """Real feature files that tests may read: ``MMLIB_REAL_DATA``, else ``../shared/realdata``."""
    return Path(os.environ.get("MMLIB_REAL_DATA") or root().parent / "shared" / "realdata")
