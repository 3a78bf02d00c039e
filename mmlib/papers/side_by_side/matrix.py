"""Train law by test law: what happens to methods where missingness depends on content or label, on a twin.

Every law has the same missing rates: vision is always there, of the others half is missing. So the laws differ in what
decides alone, and vision can be what decides under MAR. A method that reads the mask gains where training and test have
one law, and may lose where they have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib import masks
from mmlib.data import posterior
from mmlib.data.catalog import is_av_twin, is_twin, open_twin
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import few, seeds_in_words
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, Stage
from mmlib.masks import Law
from mmlib.papers.side_by_side import figures as grids
from mmlib.papers.side_by_side import rows
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.papers.side_by_side.tables import data_notes, ids, title
from mmlib.report import figures, heatmaps, stats
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.expected import NAME as EXPECTED
from mmlib.runs.expected import known
from mmlib.runs.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANCHOR, RATE, SLOPE = "vision", 0.5, 2.0
CALLED = {
    "mcar": "MCAR",
    "mar": "MAR",
    "mnar_self": "MNAR content",
    "mnar_label": "MNAR label",
}
ZEROS, INDICATORS, DROPOUT = "zeros", "with indicators", "with modality dropout"
NAMED = {ZEROS: "without indicators", INDICATORS: INDICATORS, DROPOUT: DROPOUT}
BLIND = "best that does not read the mask"
AWARE_SHARE, BLIND_SHARE = "of best, law known", "of best, mask not read"
LINE, HEAD = 0.165, 1.2  # inches of a line of the picture, and of what is around it
MEANING = (
    "Expected accuracy in percent of that of two best predictions under the same masks. Left: of the one that knows by "
    "which law modalities go missing, than which none is better. Right: of the one that looks at what is observed "
    "and not at which modalities are; more than 100 % of it takes the mask. A line is a row under one law of "
    "training and validation, a column the law of the test."
)
NETWORKS = (
    "The first three rows are one network, a perceptron for each modality and a linear layer over them. "
    f"“{ZEROS}”: what is missing is zero. “{INDICATORS}”: the layer is also told what is observed. “{DROPOUT}”: told "
    "so, and at every step half of what each utterance has is hidden. They have the concatenation's learning rate. "
    "The linear model has indicators. GMM-loss takes two modalities, and is left out."
)


def laws(modalities: Sequence[str]) -> dict[str, Law]:
    """The laws of training and test by name, all of one rate for each modality."""
    rates = {m: 0.0 if m == ANCHOR else RATE for m in modalities}
    return {
        "mcar": masks.mcar(rates),
        "mar": masks.mar_anchor(rates, SLOPE, ANCHOR),
        "mnar_self": masks.mnar_self(rates, SLOPE),
        "mnar_label": masks.mnar_label(rates, SLOPE),
    }


def ground(context: Context) -> Ground | None:
    """The first twin of vectors whose exact answers under such laws are known; None without one."""
    for one in grids.vectors(context):
        reference = context.reference(one.dataset)
        if is_twin(reference) and not is_av_twin(reference):
            return one
    return None


def lacks(context: Context) -> str:
    """Why there is no matrix; empty where there is one."""
    if ground(context) is None:
        return "The best possible under such laws is known of twins of vectors only."
    return ""


def matrix_rows(context: Context, on: Ground) -> list[Row]:
    """Networks that get zeros, with indicators, and with modality dropout; the linear model; the methods."""
    paper = context.profile.name == "paper"
    size = (rows.FULL if paper else context.profile.network)["concat"]
    told = Stage("plain", "concat_indicators", network=size, searched_as="concat")
    dropped = Stage(
        "modality_dropout", "concat_indicators", network=size, searched_as="concat", recipe="plain"
    )
    methods = [row for row in rows.rows(context, on) if row.against]
    return [
        Row(ZEROS, (Stage("plain", "concat"),), against=None),
        Row(INDICATORS, (told,), against=None),
        Row(DROPOUT, (dropped,), against=None),
        LINEAR,
        *methods,
    ]


def cells(context: Context) -> list[Cell]:
    """Every row under every law of training, tested under every law."""
    on = ground(context)
    if on is None:
        return []
    every = laws(context.bundle(on.dataset).modalities)
    tests = tuple(every.items())
    seeds = context.seeds(on.dataset, few(context))
    return [
        Cell(row.name, name, spec, name, on.dataset)
        for law in every.values()
        for row in matrix_rows(context, on)
        for spec in rows.of_seeds(context, on, row, law, tests, seeds)
        for name, _ in tests
    ]


@lru_cache(maxsize=4096)
def best(reference: str, law: Law, seed: int) -> tuple[float, float]:
    """Expected accuracy (%) on test of the best prediction that knows the law, and of the one that does not.

    seed: that the mask is drawn with. Both are judged by the posterior that knows the law, which is the true one.
    """
    twin = open_twin(reference)
    mask = masks.draw(law, twin.bundle, "test", seed).utterance
    aware = twin.answers("test", mask, law=known(law, twin.bundle))
    blind = twin.answers("test", mask)
    return (
        posterior.class_score(aware, aware.argmax(axis=1), "accuracy"),
        posterior.class_score(aware, blind.argmax(axis=1), "accuracy"),
    )


def _bests(spec: RunSpec, test: str) -> tuple[float, float]:
    """``best`` over all draws of a run's test mask, of which its results are means."""
    from mmlib.runs.results import draw_seed

    law = dict(spec.eval_masks)[test]
    drawn = [best(spec.data, law, draw_seed(spec, number)) for number in range(spec.draws)]
    aware, blind = np.mean(drawn, axis=0)
    return float(aware), float(blind)


def shares(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """Row, training, setting (of test), seed, value, the best two, and the shares of them, in percent."""
    parts = []
    for training, law in _laws_of(context).items():
        of = [cell for cell in cells if cell.spec.train_mask == law]
        found = context.results(of)
        kept = found[(found["metric"] == EXPECTED) & (found["selection"] == "valid")]
        specs = {(cell.row, cell.spec.seed): cell.spec for cell in of}
        places = zip(kept["row"], kept["seed"], kept["setting"], strict=True)
        bests = [_bests(specs[row, seed], test) for row, seed, test in places]
        aware, blind = np.array(bests).reshape(-1, 2).T
        kept = kept.assign(training=training, aware=aware, blind=blind)
        parts.append(
            kept[["row", "training", "setting", "seed", "value", "aware", "blind", "run_id"]]
        )
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(
        **{
            AWARE_SHARE: 100 * frame["value"] / frame["aware"],
            BLIND_SHARE: 100 * frame["value"] / frame["blind"],
        }
    )


def _laws_of(context: Context) -> dict[str, Law]:
    on = ground(context)
    return {} if on is None else laws(context.bundle(on.dataset).modalities)


def draw(context: Context, cells: Sequence[Cell]) -> Output:
    """The matrix as two grids of colours, and what it says in words."""
    on = ground(context)
    if on is None:
        return NOT_BUILT
    frame = shares(context, cells)
    if frame.empty:
        return NOT_BUILT
    order = [row.name for row in matrix_rows(context, on) if row.name in set(frame["row"])]
    figure = _picture(frame, order, title(context, on))
    notes = (
        finding(frame),
        *_decided(frame),
        MEANING,
        NETWORKS,
        _of_laws(context, on),
        _seeds(frame),
        *data_notes(context, [on.dataset]),
    )
    return Output(None, figure, frame, len(order), notes, ids(frame))


def _grid(frame: pd.DataFrame, order: Sequence[str], share: str) -> pd.DataFrame:
    """Means over seeds: lines (row, training), columns the laws of test; the blind prediction's line comes first."""
    means = frame.pivot_table(index=["row", "training"], columns="setting", values=share)
    lines = [(row, law) for row in order for law in CALLED if (row, law) in means.index]
    means = means.reindex(index=pd.MultiIndex.from_tuples(lines), columns=list(CALLED))
    blind = 100 * frame["blind"] / frame["aware" if share == AWARE_SHARE else "blind"]
    top = blind.groupby(frame["setting"]).mean().reindex(list(CALLED))
    first = pd.DataFrame([top.to_numpy()], columns=means.columns)
    first.index = pd.MultiIndex.from_tuples([(BLIND, "")])
    return pd.concat([first, means])


def _picture(frame: pd.DataFrame, order: Sequence[str], name: str) -> Figure:
    made = {share: _grid(frame, order, share) for share in (AWARE_SHARE, BLIND_SHARE)}
    lines = list(made[AWARE_SHARE].index)
    figure, axes = figures.panel_grid(
        2, columns=2, width=figures.DOUBLE, height=len(lines) * LINE + HEAD
    )
    words = [f"{row}, {CALLED[law]}" if law else row for row, law in lines]
    columns = list(CALLED.values())
    everything = np.concatenate([grid.to_numpy() for grid in made.values()])
    limits = float(np.nanmin(everything)), float(np.nanmax(everything))
    for axis, (share, grid) in zip(axes, made.items(), strict=True):
        first = share == AWARE_SHARE
        heatmaps.heatmap(
            axis,
            grid.to_numpy(),
            words if first else [""] * len(words),
            columns,
            label="%",
            xlabel="law of the test",
            ylabel="row and law of training" if first else "",
            title=f"{name}\n% {share}",
            decimals=0,
            limits=limits,
        )
        for place in range(1, len(lines)):
            if lines[place][0] != lines[place - 1][0]:
                axis.axhline(place, color="black", linewidth=0.6)
    return figure


def finding(frame: pd.DataFrame) -> str:
    """What the matrix says, in sentences made of its numbers. frame: of ``shares``."""
    means = frame.groupby(["row", "training", "setting"])[AWARE_SHARE].mean()
    blind = (100 * frame["blind"] / frame["aware"]).groupby(frame["setting"]).mean()
    told = str(blind.idxmin())
    parts = [
        f"The mask says most under {CALLED[told]}, where the best prediction that does not read it reaches "
        f"{blind[told]:.1f} % of the best that knows the law."
    ]
    for row in (ZEROS, INDICATORS, DROPOUT):
        places = [
            (row, told, told),
            (row, "mcar", told),
            (row, told, "mcar"),
            (row, "mcar", "mcar"),
        ]
        if set(places) <= set(means.index):
            same, shifted, back, at_random = (means[place] for place in places)
            parts.append(
                f"The network {NAMED[row]} reaches {same:.1f} % there if it is trained under that law, {shifted:.1f} % "
                f"if it is trained under MCAR; tested under MCAR, {back:.1f} and {at_random:.1f} %."
            )
    beyond = frame.groupby(["row", "training", "setting"])[BLIND_SHARE].mean() > 100
    where = f", {_where(beyond)}" if beyond.any() else ""
    parts.append(
        f"{int(beyond.sum())} of {len(beyond)} cells lie beyond the best that does not read the mask{where}."
    )
    return " ".join(parts)


def _where(beyond: pd.Series) -> str:
    """How many of the cells beyond stand where training and test have one law."""
    index = beyond[beyond].index
    same = sum(training == test for _, training, test in index)
    return f"{same} of them with one law in training and test"


def _decided(frame: pd.DataFrame) -> tuple[str, ...]:
    """Indicators against none, and same law against MCAR in training, paired by seed, with simultaneous intervals."""
    wide = frame.pivot_table(
        index="seed", columns=["row", "training", "setting"], values=AWARE_SHARE
    )
    if len(wide) < stats.FEWEST:
        return ()
    pairs: dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {}
    for law, called in CALLED.items():
        pairs[f"indicators minus none, both laws {called}"] = (
            (INDICATORS, law, law),
            (ZEROS, law, law),
        )
        if law != "mcar":
            pairs[f"indicators, tested under {called}, trained under it minus under MCAR"] = (
                (INDICATORS, law, law),
                (INDICATORS, "mcar", law),
            )
    there = {name: pair for name, pair in pairs.items() if set(pair) <= set(wide.columns)}
    tests = {
        name: stats.paired(wide[one], wide[other], comparisons=len(there))
        for name, (one, other) in there.items()
    }
    told = "; ".join(f"{name}: {test} {test.verdict}" for name, test in tests.items())
    return (
        f"Points of the share of the best that knows the law, with simultaneous 95 % intervals for {len(tests)} "
        f"comparisons: {told}.",
    )


def _of_laws(context: Context, on: Ground) -> str:
    """The laws' rates and how complete the first seed's test rows are under each."""
    bundle = context.bundle(on.dataset)
    parts = []
    for name, law in _laws_of(context).items():
        mask = masks.draw(law, bundle, "test", 0).utterance
        found = masks.completeness(mask, bundle.modalities)
        pairs = ", ".join(
            f"{pair} {100 * share:.0f} %" for pair, share in found.items() if "+" in pair
        )
        parts.append(
            f"{CALLED[name]}: complete {100 * found['complete']:.0f} %, {pairs}, {found['entropy']:.2f} bits"
        )
    return (
        f"Missing rate {RATE:g} of each modality but {ANCHOR}, which is always there and decides under MAR; slope "
        f"{SLOPE:g} (docs/mechanisms.md). Test rows of one draw that are complete, that have both of a pair, and the "
        f"entropy of the patterns: {'; '.join(parts)}."
    )


def _seeds(frame: pd.DataFrame) -> str:
    counts = frame.groupby(["row", "training"])["seed"].nunique()
    few_seeds = counts.max() < stats.FEWEST
    alone = " So few have no interval: small differences may be chance." if few_seeds else ""
    return f"Means over {seeds_in_words(counts)}.{alone}"
