"""What the paper does not show: is PSS = 0 a good detector, and do PSS and PAS measure what a modality is worth?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.masks import Law, complete
from mmlib.papers.dream import runs
from mmlib.papers.dream.contributions import Known, known, rank_correlation, together
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.spec import RunSpec

PS = {"incomplete data": runs.dropped, "complete data": runs.whole}  # what P learned from (B15)
TARGETS = ("missing", "useless if there", "missing or useless", "never decisive, if there")
BINS = {"0": (-1.0, 0.0), "up to 1/3": (0.0, 1 / 3), "up to 2/3": (1 / 3, 2 / 3), "up to 1": (2 / 3, 1.0)}
USELESS = ("A modality that is there is useless where the best possible decision on all that is observed stays the "
           "same without it, and never decisive where no subset's best decision changes when it joins (the best "
           "decisions' own PSS is 0); both are exact on twins.")


def looked_specs(context: Context) -> list[RunSpec]:
    """The runs whose P is looked at: DREAM's of both readings of Table 1."""
    return stages.specs_of(c for d in context.datasets for cells in PS.values() for c in cells(context, d, [runs.OURS]))


def looked(context: Context, dataset: str, trained: str, law: Law) -> dict[int, Known]:
    """By seed: what P, and the posterior, say of the test utterances under a law."""
    specs = list(dict.fromkeys(c.spec for c in PS[trained](context, dataset, [runs.OURS])))
    found: dict[int, list[Known]] = {}
    for spec in specs:
        if (facts := known(context, spec, law)) is not None:
            found.setdefault(spec.seed, []).append(facts)
    return {seed: together(parts) for seed, parts in found.items()}


def targets(facts: Known) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Target to (whether it is one, whether PSS = 0 says so), each over the modalities that it is asked of."""
    flagged, there = facts.pss == 0, facts.observed
    return {"missing": (~there.ravel(), flagged.ravel()),
            "useless if there": (facts.useless[there], flagged[there]),
            "missing or useless": ((~there | facts.useless).ravel(), flagged.ravel()),
            "never decisive, if there": (facts.best_pss[there] == 0, flagged[there])}


def scores(truth: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Base rate, precision and recall in percent; NaN where nothing is flagged, or to be found."""
    hits = float((truth & flagged).sum())
    return {"base rate": 100 * float(truth.mean()),
            "precision": 100 * hits / flagged.sum() if flagged.any() else float("nan"),
            "recall": 100 * hits / truth.sum() if truth.any() else float("nan")}


def detected(context: Context, dataset: str, trained: str) -> pd.DataFrame:
    """One line per seed and target: base rate, precision and recall of PSS = 0."""
    return pd.DataFrame([{"seed": seed, "target": target, **scores(*pair)}
                         for seed, facts in looked(context, dataset, trained, runs.dropping()).items()
                         for target, pair in targets(facts).items()])


def detector(context: Context) -> Output:
    """Precision and recall of PSS = 0, and what modalities are at each PSS."""
    figure, axes = figures.panel_grid(len(context.datasets), width=figures.DOUBLE, height=2.5)
    lines, numbers = [], []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        for trained in PS:
            frame = detected(context, dataset, trained)
            if frame.empty:
                return Output(notes=("Not built yet.",))
            numbers.append(frame.assign(data=shown(context, dataset), P=trained))
            lines += [{"data": shown(context, dataset), "P trained on": trained, "target": str(target), **{
                f"{name} (%)": mean_sd(group[name].dropna(), 1) if group[name].notna().any() else "-"
                for name in ("base rate", "precision", "recall")}}
                for target, group in frame.groupby("target", sort=False)]
        bars = _by_pss(looked(context, dataset, "incomplete data", runs.dropping()))
        figures.grouped_bars(axis, list(BINS), bars, ylabel="share of modalities (%)" if axis is axes[0] else "",
                             title=shown(context, dataset), legend=False)
        axis.set(xlabel="PSS of P", ylim=(0, 100))
    figures.shared_legend(figure, axes[0])
    notes = ("Test utterances under the law that training sees of Table 1: each modality is missing with probability "
             "0.5. 'Missing' is recalled by construction: a modality of zeros never changes P's decision (B1).",
             USELESS,
             "Figure: of all modalities with such a PSS, the shares that are missing, and there but useless; P of "
             "incomplete data. Points are seeds, whiskers 95 % intervals.", *data_notes(context, context.datasets))
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=pd.concat(numbers, ignore_index=True),
                  rows_built=len(lines), notes=notes)


def _by_pss(found: dict[int, Known]) -> dict[str, list[list[float]]]:
    """Series to, for each of ``BINS``, one share (%) per seed; none of a seed without any such modality."""
    bars: dict[str, list[list[float]]] = {"missing": [], "there, but useless": []}
    for low, high in BINS.values():
        for name, groups in bars.items():
            shares = []
            for facts in found.values():
                inside = (facts.pss > low + 1e-6) & (facts.pss <= high + 1e-6)
                hits = ~facts.observed if name == "missing" else facts.useless
                if inside.any():
                    shares.append(100 * float(hits[inside].mean()))
            groups.append(shares)
    return bars


def correlations(facts: Known) -> dict[str, float]:
    """Rank correlations with the true value, over all utterances and modalities, and the mean within a modality."""
    pairs = {"PSS and value": (facts.pss, facts.value), "PSS and its size": (facts.pss, np.abs(facts.value)),
             "PAS and value": (facts.pas, facts.value), "PSS and PAS": (facts.pss, facts.pas)}
    made = {}
    for name, (first, second) in pairs.items():
        within = [rank_correlation(first[:, m], second[:, m]) for m in range(first.shape[1])]
        made[name] = rank_correlation(first, second)
        made[f"{name}, within"] = float(np.mean(within))
    return made


def values(context: Context) -> Output:
    """PSS and PAS against what the exact posterior says that each modality is worth."""
    figure, axes = figures.panel_grid(2 * len(context.datasets), columns=len(context.datasets),
                                      width=figures.DOUBLE, height=2.4)
    lines, numbers = [], []
    for place, dataset in enumerate(context.datasets):
        for trained in PS:
            found = looked(context, dataset, trained, complete())
            if not found:
                return Output(notes=("Not built yet.",))
            frame = pd.DataFrame([{"seed": seed, **correlations(facts)} for seed, facts in found.items()])
            numbers.append(frame.assign(data=shown(context, dataset), P=trained))
            lines.append({"data": shown(context, dataset), "P trained on": trained,
                          **{name: mean_sd(frame[name].dropna(), 2) for name in frame if name != "seed"}})
        found = looked(context, dataset, "incomplete data", complete())
        _shares(axes[place], context, dataset, list(found.values()), place == 0)
        _levels(axes[len(context.datasets) + place], list(found.values()), place == 0)
    figures.shared_legend(figure, axes[0])
    notes = ("Spearman's correlations over test utterances with all modalities. The value of a modality in an "
             "utterance is the Shapley value of the exact posterior probability of the right answer (points); "
             "'its size' takes both signs alike, as PSS does. 'Within' is the mean over modalities of the "
             "correlation among one modality's utterances: without it, that text is the best is most of what "
             "correlates. PAS reads the label, and so does the value.",
             "Figure, above: each modality's part of the sum over modalities. Below: the mean true value of the "
             "modalities with a PSS or PAS (over M) up to a level; P of incomplete data.",
             *data_notes(context, context.datasets))
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=pd.concat(numbers, ignore_index=True),
                  rows_built=len(lines), notes=notes)


def _shares(axis: Axes, context: Context, dataset: str, found: Sequence[Known], first: bool) -> None:
    """Bars: each modality's part of the mean PSS, PAS and true value."""
    reads: dict[str, Callable[[Known], np.ndarray]] = {
        "PSS": lambda k: k.pss, "PAS": lambda k: k.pas, "true value": lambda k: k.value}
    bars = {}
    for name, read in reads.items():
        means = [np.nanmean(read(facts), axis=0) for facts in found]
        bars[name] = [list(part) for part in np.transpose([100 * m / m.sum() for m in means])]
    figures.grouped_bars(axis, list(context.bundle(dataset).modalities), bars, title=shown(context, dataset),
                         ylabel="part of the sum (%)" if first else "", legend=False)
    lowest = min(value for groups in bars.values() for runs_of in groups for value in runs_of)
    axis.set_ylim(min(0.0, lowest - 5), 100)  # intervals of few seeds reach beyond


def _levels(axis: Axes, found: Sequence[Known], first: bool) -> None:
    """Lines: the mean true value at each level of PSS, and of PAS over the number of modalities."""
    edges = np.array([-1 / 6, 0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])
    series = {}
    for name in ("PSS", "PAS"):
        rows = []
        for facts in found:
            level = facts.pss if name == "PSS" else facts.pas / facts.pas.shape[1]
            place = np.searchsorted(edges + 1e-6, level.ravel())
            frame = pd.DataFrame({"place": place, "value": facts.value.ravel()}).dropna()
            rows.append(frame.groupby("place")["value"].mean().reindex(range(len(edges))).to_numpy())
        series[name] = np.array(rows, dtype=float)
    figures.lines(axis, [float(e) for e in edges], series, xlabel="PSS, or PAS / M", legend=False,
                  ylabel="true value (points)" if first else "")
    axis.axhline(0, color="black", linewidth=0.8)
