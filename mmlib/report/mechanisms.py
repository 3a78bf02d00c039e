"""Pictures and numbers of the mechanisms of missingness: what decides, what is lost, what the mask says of the class.

Each is shown for the audio of a twin, whose text is the source where a mechanism has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_av_twin, open_bundle, open_twin
from mmlib.data.twins import Twin
from mmlib.masks import Law, scores
from mmlib.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOPES = (0.0, 0.5, 1.0, 2.0, math.inf)
SLOPE = 2.0
TARGET, SOURCE = "audio", "text"
VECTORS, CLIPS = "twin:iemocap6@study", "twin:crema-d@quick"
RATE = 0.5
FAR = 3.0


@dataclass(frozen=True)
class Shown:
    """A mechanism as the page shows it."""

    name: str
    """Of its section and of its picture's file."""

    make: Callable[[float], Law]
    """From a slope to the law."""

    decides: str
    """What its score is."""

    data: str = VECTORS
    """The twin that it is drawn on."""


SHOWN = (
    Shown("mcar", lambda slope: masks.mcar(RATE), "nothing"),
    Shown("mar_anchor", lambda a: masks.mar_anchor(RATE, a, SOURCE), f"content of {SOURCE}"),
    Shown("mar_candidates", lambda a: masks.mar_candidates(RATE / 2, a), "content of the others"),
    Shown("mnar_self", lambda a: masks.mnar_self(RATE, a), "its own content"),
    Shown("mnar_self_nuisance", lambda a: masks.mnar_self(RATE, a, "nuisance"), "its own noise"),
    Shown(
        "mnar_quality", lambda a: masks.mnar_quality(RATE, a), "its own quality, reversed", CLIPS
    ),
    Shown("mnar_label", lambda a: masks.mnar_label(RATE, a), "contrast of the label"),
    Shown("mnar_cross", lambda a: masks.mnar_cross(RATE, a, SOURCE), f"content of {SOURCE}"),
)


def picture(shown: Shown) -> Figure:
    """Three panels: the chance to be missing against what decides, what is lost at one slope, and where by class."""
    bundle = open_bundle(shown.data)
    split = "train" if is_av_twin(shown.data) else "test"
    rows, index = bundle.rows(split), bundle.modalities.index(TARGET)
    law = shown.make(SLOPE)
    missing = ~masks.draw(law, bundle, split, 0).utterance[:, index]
    own = scores.content(bundle).values[rows, index]
    figure, axes = figures.panel_grid(3, height=2.3)
    z = np.linspace(-FAR, FAR, 241)
    curves = {told(a): masks.fitted(shown.make(a), bundle).curves[index](z) for a in SLOPES}
    if shown.name == "mcar":
        curves = {"any slope": curves[told(0.0)]}
    figures.lines(
        axes[0],
        z,
        curves,
        markers=False,
        within=(0, 1),
        xlabel=f"score: {shown.decides}",
        ylabel=f"P({TARGET} missing)",
        title="What decides",
    )
    axes[0].set_ylim(-0.03, 1.03)
    figures.histogram(
        axes[1],
        {"observed": own[~missing], "missing": own[missing]},
        xlabel=f"content of {TARGET}",
        ylabel="utterances",
        title="What is lost",
    )
    _by_class(axes[2], bundle, scores.classes_of(bundle)[rows], missing)
    return figure


def _by_class(ax: Any, bundle: Bundle, labels: np.ndarray, missing: np.ndarray) -> None:
    """Bars: the share of each class's utterances that lack the modality, and that of all."""
    names = bundle.task.names
    shares = [missing[labels == k].mean() for k in range(len(names))]
    with figures.style():
        ax.barh(range(len(names)), shares, color=figures.PALETTE[0], alpha=0.75)
        ax.axvline(missing.mean(), color="black", linewidth=0.9, linestyle=(0, (4, 2)))
        ax.set_yticks(range(len(names)), names)
        ax.set_xlim(0, 1)
        ax.invert_yaxis()
        figures.finish(ax, f"share without {TARGET}", "", "What the mask says", "x")


def told(slope: float) -> str:
    """A slope in words."""
    return "threshold" if math.isinf(slope) else f"slope {slope:g}"


def overview(slope: float = SLOPE, which: Sequence[Shown] = SHOWN) -> pd.DataFrame:
    """A line for each mechanism on the vectors' twin: rates, areas, information, and the best possible accuracies."""
    lines = []
    for shown in which:
        if shown.data != VECTORS:
            continue
        twin, law = open_twin(shown.data), shown.make(slope)
        mask = masks.draw(law, twin.bundle, "test", 0)
        rates = masks.audit(law, twin.bundle, "test", mask).set_index("modality").loc[TARGET]
        found = masks.dependence(law, twin.bundle, "test", mask)
        areas = found[found["modality"] == TARGET].set_index("against")
        known = masks.information(twin.bundle, "test", mask).set_index("modality").loc["pattern"]
        blind, aware = accuracies(twin, law, mask.utterance)
        lines.append(
            {
                "mechanism": shown.name,
                "rate asked": rates["nominal"],
                "expected": rates["expected"],
                "realised": rates["realised"],
                "own content": areas.loc["own content", "auc"],
                f"content of {SOURCE}": areas.loc[f"content of {SOURCE}", "auc"],
                "label": areas.loc["label", "auc"],
                "own content, within": areas.loc["own content", "within"],
                "bits": max(known["bits"] - known["by_chance"], 0.0),
                "best, mask not read": blind,
                "best, law known": aware,
            }
        )
    return pd.DataFrame(lines)


def accuracies(twin: Twin, law: Law, observed: np.ndarray) -> tuple[float, float]:
    """Expected accuracies, in percent, of the best prediction from content alone and of the one that knows the law.

    Both under the law, so that the second is never below the first; each utterance by itself.
    """
    known = masks.fitted(law, twin.bundle).missingness
    mass = twin.bayes("test", observed, context=False, law=known)
    blind = twin.bayes("test", observed, context=False).argmax(axis=1)
    rows = np.arange(len(mass))
    return 100 * float(mass[rows, blind].mean()), 100 * float(mass.max(axis=1).mean())


def effects(kinds: Mapping[str, Callable[[float], Law]]) -> pd.DataFrame:
    """By slope, the best possible accuracy with and without knowing the law."""
    twin = open_twin(VECTORS)
    lines = []
    for slope in SLOPES:
        line: dict[str, Any] = {"slope": told(slope).removeprefix("slope ")}
        for name, make in kinds.items():
            law = make(slope)
            observed = masks.draw(law, twin.bundle, "test", 0).utterance
            blind, aware = accuracies(twin, law, observed)
            line |= {f"{name}: mask not read": blind, f"{name}: law known": aware}
        lines.append(line)
    return pd.DataFrame(lines)


def completeness(laws: Mapping[str, Law], reference: str = VECTORS) -> pd.DataFrame:
    """Of laws, the mean missing rate that they name, the shares of complete rows and pairs, and the entropy."""
    bundle, lines = open_bundle(reference), []
    for name, law in laws.items():
        mask = masks.draw(law, bundle, "test", 0).utterance
        found = masks.completeness(mask, bundle.modalities)
        pairs = {pair: share for pair, share in found.items() if "+" in pair}
        lines.append(
            {
                "law": name,
                "mean rate asked": float(
                    np.mean(list(masks.nominal_rates(law, bundle.modalities).values()))
                ),
                "mean rate realised": float(1 - mask.mean()),
                "complete rows": found["complete"],
                **pairs,
                "entropy (bits)": found["entropy"],
            }
        )
    return pd.DataFrame(lines)
