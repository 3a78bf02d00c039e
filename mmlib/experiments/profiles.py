"""The four profiles, that is computing budgets: smoke, quick, laptop, paper."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from mmlib.errors import unknown_name
from mmlib.runs.spec import Options, Training


@dataclass(frozen=True)
class Profile:
    """A budget."""

    name: str
    """Its name for ``--profile``."""

    size: str
    """The size of the twins."""

    seeds: int
    """Paired seeds of a table."""

    grid_seeds: int
    """Seeds of a cell of a hyperparameter grid, or of a control experiment."""

    fold_seeds: int
    """Seeds of a table on data with folds."""

    other_seeds: int
    """The largest number of seeds of all backbones except the main one."""

    training: dict[str, Training] = field(hash=False)
    """The schedule by data set name, ``default`` for others."""

    network: dict[str, Options] = field(default_factory=dict, hash=False)
    """By backbone, options that reduce its size; empty for the paper's network."""

    taus: tuple[float, ...] = (0.1, 0.4, 0.7, 1.0, 1.3)
    """Of BALM's grid (Table 7)."""

    rhos: tuple[float, ...] = (1.0, 1.2, 1.4, 1.6, 1.8)
    """Of BALM's grid (Table 7)."""

    shared_rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """Missing rates of BALM's Tables 11 and 12."""

    combined: int = 6
    """Settings of BALM's Tables 8 and 9."""

    reduced: str = ""
    """The sentence on the reduced budget in captions."""

    recipes: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    """By backbone, the fields of its schedule that differ."""

    def training_for(self, dataset: str, backbone: str = "") -> Training:
        """The schedule of a data set and backbone."""
        schedule = self.training.get(dataset, self.training["default"])
        return dataclasses.replace(schedule, **self.recipes.get(backbone, {}))


_SMALL = Training(epochs=6, batch=8, lr=1e-2)
_GRID = ((0.1, 0.7, 1.3), (1.0, 1.4, 1.8))
_LAPTOP = Training(epochs=25, batch=4, lr=1e-3)


def _widths(encoder: int, graph: int, layers: int = 16, depth: int = 1) -> dict[str, Options]:
    """Every backbone at one width of its encoders' outputs (GCNet's ``hidden`` is one direction of two).

    layers: of MM-DFN's graph. depth: blocks of MoMKE's experts.
    """
    blocks: Options = (("depth", depth), ("dropout", 0.3), ("hidden", encoder))
    sizes: Options = (("graph", graph), ("hidden", encoder))
    deep: Options = () if layers == 16 else (("layers", layers),)
    return {
        "mmgcn": sizes,
        "gcnet": (("hidden", encoder // 2),),
        "mmdfn": (*sizes, *deep),
        "momke": blocks,
    }


def _momke(lr: float) -> dict[str, Any]:
    """MoMKE's schedule, with the learning rate that it has in the other papers' tables."""
    return {"lr": lr, "weight_decay": 1e-5}


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        "smoke",
        "smoke",
        2,
        1,
        2,
        2,
        {"default": dataclasses.replace(_SMALL, epochs=2)},
        _widths(16, 8, 2),
        (0.4,),
        (1.4, 1.8),
        (0.0, 0.5),
        1,
        recipes={"momke": _momke(3e-3)},
        reduced="Smoke run: 2 epochs, 2 seeds, width 16, on the smallest twins; it shows only that everything runs.",
    ),
    "quick": Profile(
        "quick",
        "quick",
        3,
        2,
        2,
        2,
        {"default": _SMALL},
        _widths(32, 16, 4),
        *_GRID,
        recipes={"momke": _momke(3e-3)},
        reduced="Reduced (quick): width 32, 4 layers in MM-DFN, 6 epochs, batches of 8 dialogues, learning rate "
        "0.01, 3 seeds (2 in grids and of all backbones but the main one), a 3 x 3 grid.",
    ),
    "laptop": Profile(
        "laptop",
        "quick",
        10,
        5,
        10,
        5,
        {"default": _LAPTOP},
        _widths(64, 32, depth=2),
        *_GRID,
        (0.0, 0.5),
        recipes={
            # of 0.001, 0.003 and 0.01 the plain network's best on validation
            "gcnet": {"lr": 3e-3},
            "momke": _momke(1e-3),
        },
        reduced="Reduced (laptop): width 64, 25 epochs, batches of 4 dialogues, learning rate 0.001 (GCNet 0.003); of "
        "the shared rates 0 and 0.5; 10 seeds, 5 of all backbones but the main one.",
    ),
    "paper": Profile(
        "paper",
        "full",
        10,
        5,
        10,
        10,
        {
            "iemocap": Training(epochs=80, batch=16, lr=3e-4),
            "mosei": Training(epochs=25, batch=32, lr=1e-3),
            "default": Training(epochs=80, batch=16, lr=3e-4),
        },
        recipes={
            "gcnet": {"lr": 1e-3, "weight_decay": 1e-5},
            "mmdfn": {"weight_decay": 1e-4},
            "momke": _momke(1e-4),
        },
    ),
}


def profile(name: str) -> Profile:
    """A profile by name."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    return PROFILES[name]
