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

    main_seeds: int
    """Seeds of each paper's main comparison, which is not reduced below what decides it."""

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

    settings: int = 6
    """Settings of BALM's other tables: all six, or the three in which each modality has each rate once."""

    others_everywhere: bool = True
    """Whether BALM's other backbones are trained on every data set, or on the main one alone."""

    reduced: str = ""
    """The sentence on the reduced budget in captions."""

    by_backbone: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    """By backbone, the fields of its schedule that differ."""

    primary_seeds: int = 0
    """Seeds of primary claims on the data of the repository, where they are more than those of tables."""

    draws: int = 1
    """How often each random test mask is drawn for a trained model."""

    searched: bool = False
    """Whether networks are trained by the recipes that a search on validation chose (``recipes.py``)."""

    def training_for(self, dataset: str, backbone: str = "") -> Training:
        """The schedule of a data set and backbone."""
        schedule = self.training.get(dataset, self.training["default"])
        return dataclasses.replace(schedule, **self.by_backbone.get(backbone, {}))


FEW = 4  # modalities of which every combination is tested: more have 2^M - 1, far from the papers' seven
_DEFAULT = Training(epochs=2, batch=8, lr=3e-3, weight_decay=1e-5)
_UNSEARCHED = Training(epochs=25, batch=4, lr=1e-3, weight_decay=1e-5)
WIDER = ("mmin_teacher", "mmin", "if_mmin_teacher", "if_mmin", "redcore")
"""Comparison systems whose own width is larger than that of the other networks."""

DIFFUSION_STEPS = 20  # of IMDer, whose sampler is most of its time
DEEP = ("mult", "mult_frames", "lnln_frames", "tfr_net_frames")
"""Comparison systems whose transformers over frames or over pairs of modalities are most of their time."""

_GRID = ((0.1, 0.7, 1.3), (1.0, 1.4, 1.8))
BY_RECIPE = (
    "each network's learning rate, weight decay and number of steps as its search on validation chose them "
    "(docs/recipes.md), steps of about 128 utterances"
)


def _widths(
    width: int, depth: int, dropout: float, graphs: Options = (), layers: int = 16
) -> dict[str, Options]:
    """Every network at one width of its encoders' outputs (GCNet's ``hidden`` is one direction of two).

    depth: blocks or repeats, where a network has them. dropout: of the blocks. graphs: options of the graph networks
    beside their size. layers: of MM-DFN's graph.
    """
    blocks: Options = (("depth", depth), ("dropout", dropout), ("hidden", width))
    sizes: Options = (*graphs, ("graph", width // 2), ("hidden", width))
    deep: Options = () if layers == 16 else (("layers", layers),)
    return {
        "mmgcn": sizes,
        **dict.fromkeys(("gcnet", "gcnet_frames"), (*graphs, ("hidden", width // 2))),
        "mmdfn": (*sizes, *deep),
        **dict.fromkeys(("momke", "momke_frames", "crossmodal"), blocks),
        "dream": (("hidden", width), ("repeats", depth)),
        "concat": (("encoder", "mlp"), ("hidden", width)),
        **dict.fromkeys(WIDER, (("hidden", width),)),
        **dict.fromkeys(DEEP, (("layers", depth),)),
        "imder": (("steps", DIFFUSION_STEPS),),
    }


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        "smoke",
        "smoke",
        seeds=1,
        grid_seeds=1,
        fold_seeds=1,
        other_seeds=1,
        main_seeds=2,
        training={"default": _DEFAULT},
        network=_widths(16, 1, 0.3, layers=2),
        taus=(0.4,),
        rhos=(1.4, 1.8),
        shared_rates=(0.0, 0.5),
        combined=1,
        settings=3,
        reduced="Smoke run: 2 epochs, 1 seed (2 in the main comparison), width 16, on the smallest twins; it shows "
        "only that everything runs.",
    ),
    "quick": Profile(
        "quick",
        "quick",
        seeds=1,
        grid_seeds=1,
        fold_seeds=1,
        other_seeds=1,
        main_seeds=10,
        training={"default": _DEFAULT},
        network=_widths(64, 1, 0.2, (("dropout", 0.2),), layers=4),
        taus=_GRID[0],
        rhos=_GRID[1],
        shared_rates=(0.0, 0.3, 0.6),
        combined=1,
        settings=3,
        others_everywhere=False,
        primary_seeds=10,
        searched=True,
        reduced=f"Reduced (quick): width 64, dropout 0.2, 4 layers in MM-DFN, {BY_RECIPE}, 1 seed (10 in the main "
        "comparison), three of six imbalanced settings (one in Tables 8 and 9), three shared rates, a 3 x 3 grid, "
        "other backbones on the main data set alone.",
    ),
    "laptop": Profile(
        "laptop",
        "study",
        seeds=10,
        grid_seeds=5,
        fold_seeds=10,
        other_seeds=5,
        main_seeds=10,
        training={"default": _UNSEARCHED},
        network=_widths(64, 2, 0.3),
        taus=_GRID[0],
        rhos=_GRID[1],
        shared_rates=(0.0, 0.5),
        draws=20,
        searched=True,
        reduced=f"Reduced (laptop): width 64, {BY_RECIPE}; of the shared rates 0 and 0.5; 10 seeds, 5 of all "
        "backbones but the main one; random test masks drawn 20 times, their results averaged.",
    ),
    "paper": Profile(
        "paper",
        "full",
        seeds=10,
        grid_seeds=5,
        fold_seeds=10,
        other_seeds=10,
        main_seeds=10,
        training={
            "iemocap": Training(epochs=80, batch=16, lr=3e-4),
            "mosei": Training(epochs=25, batch=32, lr=1e-3),
            "default": Training(epochs=80, batch=16, lr=3e-4),
        },
        by_backbone={
            "gcnet": {"lr": 1e-3, "weight_decay": 1e-5},
            "mmdfn": {"weight_decay": 1e-4},
            "momke": {"lr": 1e-4, "weight_decay": 1e-5},
        },
    ),
}


def in_short(profile: Profile) -> str:
    """What a profile spends, whatever the paper and the data: the sentence of captions about a reader's own data."""
    if profile.name == "paper":
        return ""
    width = dict(profile.network["momke"])["hidden"]
    epochs = profile.training["default"].epochs
    spent = f"width {width}, {BY_RECIPE if profile.searched else f'{epochs} epochs'}"
    if profile.name == "smoke":
        return f"Smoke run: {spent}; it shows only that everything runs."
    return f"Reduced ({profile.name}): {spent}."


def of_many_modalities(profile: Profile) -> Profile:
    """A profile for data with more modalities than the papers': at smoke one seed, and half of BALM's settings.

    Each run takes longer there, and what smoke shows, that everything runs, one seed shows too.
    """
    if profile.name != "smoke":
        return profile
    return dataclasses.replace(
        profile,
        seeds=1,
        grid_seeds=1,
        fold_seeds=1,
        other_seeds=1,
        main_seeds=1,
        settings=3,
        reduced=f"{in_short(profile)} 1 seed and half of BALM's settings, since there are many modalities.",
    )


def profile(name: str) -> Profile:
    """A profile by name."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    return PROFILES[name]
