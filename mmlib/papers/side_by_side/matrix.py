"""Train law by test law: what happens to methods where missingness depends on content, on quality or on the label.

Every law has the same missing rates: vision is always there, of the others half is missing. So the laws differ in what
decides alone, and vision can be what decides under MAR. A method that reads the mask gains where training and test have
one law, and may lose where they have not. On a twin all is held against the best possible; on real data whose quality
is known, which is the raters' agreement, a law of quality is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib import masks
from mmlib.data import posterior
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_av_twin, is_twin, open_twin
from mmlib.errors import InputError
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import selected
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, Stage
from mmlib.masks import Law, scores
from mmlib.papers.side_by_side import figures as grids
from mmlib.papers.side_by_side import robust, rows
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.papers.side_by_side.tables import F1, data_notes, ids, title
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
    "mnar_quality": "MNAR quality",
}
ZEROS, INDICATORS, DROPOUT = "zeros", "with indicators", "with modality dropout"
NAMED = {ZEROS: "without indicators", INDICATORS: INDICATORS, DROPOUT: DROPOUT}
IN_A_SENTENCE = {
    **{row: f"the network {words}" for row, words in NAMED.items()},
    LINEAR.name: f"the {LINEAR.name}",
}
BLIND = "best that does not read the mask"
AWARE_SHARE, BLIND_SHARE = "of best, law known", "of best, mask not read"
UNITS = {AWARE_SHARE: "percent of the best that knows the law", F1: "points of weighted F1"}
LINE, HEAD = 0.165, 1.2  # inches of a line of the picture, and of what is around it
MEANING = (
    "Expected accuracy in percent of that of two best predictions under the same masks. Left: of the one that knows by "
    "which law modalities go missing, than which none is better. Right: of the one that looks at what is observed "
    "and not at which modalities are; more than 100 % of it takes the mask. A line is a row under one law of "
    "training and validation, a column the law of the test."
)
AGREEMENT = (
    "Quality is the share of the raters who agree on the most frequent answer: where they agree less, the modality "
    "is likelier to be missing. "
)
NETWORKS = (
    "The first three rows are one network, a perceptron for each modality and a linear layer over them. "
    f"“{ZEROS}”: what is missing is zero. “{INDICATORS}”: the layer is also told what is observed. “{DROPOUT}”: told "
    "so, and at every step half of what each utterance has is hidden. They have the concatenation's learning rate. "
    "The linear model has indicators."
)
WITHOUT_GMM = "GMM-loss takes two modalities, and is left out."
PLAIN_MEANING = (
    f"{F1}, of real data, of which the best possible is not known: where another law hides other utterances' "
    "modalities, another value may be the best that anybody could have. So columns are to be compared within "
    "themselves. A line is a row under one law of training and validation, a column the law of the test."
)


def laws(modalities: Sequence[str], quality: bool = False) -> dict[str, Law]:
    """The laws of training and test by name, all of one rate for each modality; quality: whether it decides in one."""
    rates = {m: 0.0 if m == ANCHOR else RATE for m in modalities}
    made = {
        "mcar": masks.mcar(rates),
        "mar": masks.mar_anchor(rates, SLOPE, ANCHOR),
        "mnar_self": masks.mnar_self(rates, SLOPE),
        "mnar_label": masks.mnar_label(rates, SLOPE),
    }
    return made | {"mnar_quality": masks.mnar_quality(rates, SLOPE)} if quality else made


def ground(context: Context) -> Ground | None:
    """The first twin of vectors whose exact answers under such laws are known, else real classes of known quality.

    None without either.
    """
    vectors = grids.vectors(context)
    exact = [one for one in vectors if _is_exact(context, one)]
    real = [one for one in vectors if _has_quality(context, one)]
    return next(iter([*exact, *real]), None)


def _is_exact(context: Context, one: Ground) -> bool:
    """Whether the best possible under such laws is known."""
    reference = context.reference(one.dataset)
    return is_twin(reference) and not is_av_twin(reference)


def _has_quality(context: Context, one: Ground) -> bool:
    """Whether these are real classes, with the anchor, and it is known how good each modality is."""
    bundle = context.bundle(one.dataset)
    if is_twin(context.reference(one.dataset)) or bundle.task.kind != "classes":
        return False
    try:
        scores.badness(bundle)
    except InputError:
        return False
    return ANCHOR in bundle.modalities


def lacks(context: Context) -> str:
    """Why there is no matrix; empty where there is one."""
    if ground(context) is None:
        return (
            "The best possible under such laws is known of twins of vectors only, and of other data it has to be "
            "known how good each modality is."
        )
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
    """Every row under every law of training, tested under every law.

    Networks and the linear model, which cost little, have all seeds of a table; methods as many of them as an interval
    needs, or all that were asked for. At ``quick`` that is one: larger twins and real data decide at ``laptop``.
    """
    on = ground(context)
    if on is None:
        return []
    every = _laws_of(context)
    tests = tuple(every.items())
    plain = context.seeds(on.dataset)
    methods = plain if context.seed_count else plain[: stats.FEWEST]
    return [
        Cell(row.name, name, spec, name, on.dataset)
        for law in every.values()
        for row in matrix_rows(context, on)
        for spec in rows.of_seeds(context, on, row, law, tests, methods if row.against else plain)
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


def reached(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """Row, training, setting (of test), seed, value and run_id; where the best possible is known, as ``shares``."""
    on = ground(context)
    if on is not None and _is_exact(context, on):
        return shares(context, cells)
    parts = []
    for training, law in _laws_of(context).items():
        of = [cell for cell in cells if cell.spec.train_mask == law]
        parts.append(selected(context, of, rows.METRIC).assign(training=training))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[["row", "training", "setting", "seed", "value", "run_id"]]
    return frame.assign(**{F1: frame["value"]})


def measure(frame: pd.DataFrame) -> str:
    """The column that rows are compared in: the share of the best that knows the law, or weighted F1."""
    return AWARE_SHARE if AWARE_SHARE in frame else F1


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
    if on is None:
        return {}
    return laws(context.bundle(on.dataset).modalities, quality=not _is_exact(context, on))


def draw(context: Context, cells: Sequence[Cell]) -> Output:
    """The matrix as grids of colours, and what it says in words."""
    on = ground(context)
    if on is None:
        return NOT_BUILT
    frame = reached(context, cells)
    if frame.empty:
        return NOT_BUILT
    every = matrix_rows(context, on)
    order = [row.name for row in every if row.name in set(frame["row"])]
    figure = _picture(frame, order, title(context, on))
    left_out = "" if any(row.name == "GMM-loss" for row in every) else f" {WITHOUT_GMM}"
    exact = measure(frame) == AWARE_SHARE
    notes = (
        *robust.told(frame.replace({"row": IN_A_SENTENCE}), measure(frame), UNITS[measure(frame)]),
        *((finding(frame), *_decided(frame)) if exact else ()),
        MEANING if exact else PLAIN_MEANING,
        NETWORKS + left_out,
        _of_laws(context.bundle(on.dataset), _laws_of(context)),
        _seeds(frame, order),
        *data_notes(context, [on.dataset]),
    )
    return Output(None, figure, frame, len(order), notes, ids(frame))


def _grid(frame: pd.DataFrame, order: Sequence[str], share: str) -> pd.DataFrame:
    """Means over seeds: lines (row, training), columns the laws of test; the blind prediction's line comes first."""
    means = frame.pivot_table(index=["row", "training"], columns="setting", values=share)
    tested = [law for law in CALLED if law in means]
    lines = [(row, law) for row in order for law in CALLED if (row, law) in means.index]
    means = means.reindex(index=pd.MultiIndex.from_tuples(lines), columns=tested)
    if share == F1:
        return means
    blind = 100 * frame["blind"] / frame["aware" if share == AWARE_SHARE else "blind"]
    top = blind.groupby(frame["setting"]).mean().reindex(tested)
    first = pd.DataFrame([top.to_numpy()], columns=means.columns)
    first.index = pd.MultiIndex.from_tuples([(BLIND, "")])
    return pd.concat([first, means])


def _picture(frame: pd.DataFrame, order: Sequence[str], name: str) -> Figure:
    """A panel for each share of the best, or one of weighted F1 where that is not known."""
    drawn = [share for share in (AWARE_SHARE, BLIND_SHARE, F1) if share in frame]
    made = {share: _grid(frame, order, share) for share in drawn}
    lines = list(made[drawn[0]].index)
    figure, axes = figures.panel_grid(
        len(drawn), columns=len(drawn), width=figures.DOUBLE, height=len(lines) * LINE + HEAD
    )
    words = [f"{row}, {CALLED[law]}" if law else row for row, law in lines]
    everything = np.concatenate([grid.to_numpy() for grid in made.values()])
    limits = float(np.nanmin(everything)), float(np.nanmax(everything))
    for axis, (share, grid) in zip(axes, made.items(), strict=True):
        first = share == drawn[0]
        heatmaps.heatmap(
            axis,
            grid.to_numpy(),
            words if first else [""] * len(words),
            [CALLED[law] for law in grid.columns],
            label="%" if share != F1 else F1,
            xlabel="law of the test",
            ylabel="row and law of training" if first else "",
            title=f"{name}\n% {share}" if share != F1 else name,
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


def _of_laws(bundle: Bundle, every: Mapping[str, Law]) -> str:
    """The laws' rates and how complete the first seed's test rows are under each."""
    parts = []
    for name, law in every.items():
        mask = masks.draw(law, bundle, "test", 0).utterance
        found = masks.completeness(mask, bundle.modalities)
        pairs = ", ".join(
            f"{pair} {100 * share:.0f} %" for pair, share in found.items() if "+" in pair
        )
        parts.append(
            f"{CALLED[name]}: complete {100 * found['complete']:.0f} %, {pairs}, {found['entropy']:.2f} bits"
        )
    quality = AGREEMENT if "mnar_quality" in every else ""
    return (
        f"Missing rate {RATE:g} of each modality but {ANCHOR}, which is always there and decides under MAR; slope "
        f"{SLOPE:g} (docs/mechanisms.md). {quality}Test rows of one draw that are complete, that have both of a pair, "
        f"and the entropy of the patterns: {'; '.join(parts)}."
    )


def _seeds(frame: pd.DataFrame, order: Sequence[str]) -> str:
    """How many seeds which rows have, and that few have no interval."""
    counts = frame.groupby("row")["seed"].nunique()
    kinds = {count: [row for row in order if counts[row] == count] for count in sorted(set(counts))}
    if len(kinds) == 1:
        told = f"Means over {seeds_in_words(kinds)}."
    else:
        parts = [f"{seeds_in_words([count])} of {', '.join(of)}" for count, of in kinds.items()]
        told = f"Means over {'; '.join(parts)}."
    if min(kinds) < stats.FEWEST:
        told += " So few have no interval: small differences may be chance."
    return told
