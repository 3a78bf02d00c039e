"""The colour and marker that each method has in all notebooks; the network under it has them hollow and dashed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmlib.report.colours import PALETTE, Look

METHODS: dict[str, tuple[str, str]] = {  # colour and marker
    "BALM": (PALETTE[0], "o"),
    "DREAM": (PALETTE[1], "s"),
    "EBMC": (PALETTE[2], "^"),
    "MCULoRA": (PALETTE[3], "D"),
    "GMM-loss": (PALETTE[4], "v"),
    "linear model": (PALETTE[5], "P"),
    "MoMKE": (PALETTE[7], "*"),
    "MMPareto": (PALETTE[0], "X"),
    "LFM": (PALETTE[1], "<"),
    "MMCosine": (PALETTE[2], "h"),
    "ReconBoost": (PALETTE[6], ">"),
}
# Networks without a method, by their names in tables: those of BALM's notebook have colours that other methods have
# elsewhere, since there are no more that everybody can tell apart.
NETWORKS: dict[str, tuple[str, str]] = {
    "MMGCN": METHODS["BALM"],
    "GCNet": (PALETTE[7], "^"),
    "MMDFN": (PALETTE[5], "D"),
    "DREAM's network": METHODS["DREAM"],
    "EBMC's network": METHODS["EBMC"],
    "MCULoRA's network": METHODS["MCULoRA"],
    "joint training": METHODS["MCULoRA"],
    "concatenation": METHODS["GMM-loss"],
}
METHOD_ON = {"BALM on MMGCN": "MMGCN"} | {
    f"{name}+BALM": name for name in ("MMGCN", "GCNet", "MMDFN")
}  # a method's rows that are named after their network


def looks(names: Iterable[str], networks: Mapping[str, str] | None = None) -> dict[str, Look]:
    """The looks of the rows that have their own; networks: by a notebook's name, of which method more are the networks.

    Rows without are left to ``colours.looks_of``: by their place, and of no look that is taken.
    """
    own = {name: METHODS[method] for name, method in (networks or {}).items()}
    made: dict[str, Look] = {}
    for name in names:
        if name in METHODS or name in METHOD_ON:
            made[name] = _look(*(METHODS.get(name) or NETWORKS[METHOD_ON[name]]), hollow=False)
        elif name in NETWORKS or name in own:
            made[name] = _look(*(NETWORKS.get(name) or own[name]), hollow=True)
    return made


def _look(color: str, marker: str, hollow: bool) -> Look:
    return {
        "color": color,
        "marker": marker,
        "linestyle": "--" if hollow else "-",
        "markerfacecolor": "white" if hollow else color,
    }
