"""mmlib: missing- and imbalanced-modality learning, reproduced.

Five papers (BALM, DREAM, EBMC, MCULoRA, GMM-loss) as printed and as released, on embedded data
whose best possible answer is known, or on real features.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load_model(folder: str | Path) -> Any:
    """The model in a folder that ``mmlib export`` wrote, an ``mmlib.runs.model.Model``: ``predict`` takes features.

    Raises:
        InputError: no model there, or a damaged one.
    """
    return importlib.import_module("mmlib.runs.model").load_model(
        folder
    )  # torch takes seconds to import
