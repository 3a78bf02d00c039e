"""How much is run: the four profiles of the design's section 5."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from mmlib.errors import unknown_name
from mmlib.runs.spec import Options, Training


@dataclass(frozen=True)
class Profile:
    """A budget.

    size: of the twins. seeds: paired seeds of a table; grid_seeds: of a grid's cell or a control.
    fold_seeds: of a table on data with folds. training: per dataset name, ``default`` for others.
    network: backbone options that reduce it; empty is the paper's network.
    taus, rhos: BALM's grid (Table 7). reduced: what a caption says of all this.
    """

    name: str
    size: str
    seeds: int
    grid_seeds: int
    fold_seeds: int
    training: dict[str, Training] = field(hash=False)
    network: Options = ()
    taus: tuple[float, ...] = (0.1, 0.4, 0.7, 1.0, 1.3)
    rhos: tuple[float, ...] = (1.0, 1.2, 1.4, 1.6, 1.8)
    reduced: str = ""

    def training_for(self, dataset: str) -> Training:
        """The schedule of a data set."""
        return self.training.get(dataset, self.training["default"])


_SMALL = Training(epochs=12, batch=4, lr=1e-2)
_GRID = ((0.1, 0.7, 1.3), (1.0, 1.4, 1.8))
_LAPTOP = Training(epochs=25, batch=4, lr=1e-3)

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        "smoke", "smoke", 2, 2, 2, {"default": dataclasses.replace(_SMALL, epochs=2, batch=8)},
        (("graph", 8), ("hidden", 16)), (0.4,), (1.4, 1.8),
        "Smoke run: 2 epochs, 2 seeds, width 16, on the smallest twins; it shows only that everything runs."),
    "quick": Profile(
        "quick", "quick", 3, 2, 2, {"default": _SMALL}, (("graph", 16), ("hidden", 32)), *_GRID,
        "Reduced (quick): width 32, 12 epochs, batches of 4 dialogues, learning rate 0.01, 3 seeds (2 in grids), "
        "a 3 x 3 grid."),
    "laptop": Profile(
        "laptop", "quick", 10, 5, 5, {"default": _LAPTOP}, (("graph", 32), ("hidden", 64)), *_GRID,
        "Reduced (laptop): width 64, 25 epochs, batches of 4 dialogues, learning rate 0.001."),
    "paper": Profile(
        "paper", "full", 10, 5, 10, {
            "iemocap": Training(epochs=80, batch=16, lr=3e-4), "mosei": Training(epochs=25, batch=32, lr=1e-3),
            "default": Training(epochs=80, batch=16, lr=3e-4)}),
}


def profile(name: str) -> Profile:
    """A profile by name."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    return PROFILES[name]
