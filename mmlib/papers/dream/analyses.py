"""What the paper does not show: what P says of each modality, what the twins' exact posterior says, what is enhanced.

How well PSS = 0 detects missing and useless modalities, what PSS and PAS measure, and the accuracy by enhancement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.data import posterior
from mmlib.data.catalog import open_twin
from mmlib.data.twins import Twin
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import on
from mmlib.fit import evaluation_batches
from mmlib.masks import Law, Mask, complete, draw
from mmlib.methods.dream import Dream
from mmlib.nn import shapley
from mmlib.nn.batch import to_device
from mmlib.nn.shapley import Plan
from mmlib.papers.dream import rows
from mmlib.papers.dream.figures import NETWORKS
from mmlib.papers.dream.tables import PREDICTIONS
from mmlib.report import figures, grouped
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.colours import PALETTE, Look
from mmlib.report.tables import mean_sd
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec

PS = {"incomplete data": rows.DROPPING, "complete data": complete()}  # what P learned from (B15)
BINS = {
    "0": (-1.0, 0.0),
    "≤ 1/3": (0.0, 1 / 3),
    "≤ 2/3": (1 / 3, 2 / 3),
    "≤ 1": (2 / 3, 1.0),
}
SCORES: dict[str, Look] = {
    "PSS": {"color": PALETTE[0], "marker": "o", "linestyle": "-"},
    "PAS": {"color": PALETTE[1], "marker": "s", "linestyle": "--"},
    "true value": {"color": "black", "marker": "^", "linestyle": "-"},
}
DRAWN = 20  # how many utterances, or modalities of utterances, a mean in a picture needs: of fewer it is noise
SPLITS: dict[str, Look] = {  # neither is a method
    "training": {"color": "#444444", "marker": "o", "linestyle": "-"},
    "test": {"color": "#aaaaaa", "marker": "s", "linestyle": "--"},
}
LEVELS = np.array([-1 / 6, 0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])

DETECTOR_NOTES = (
    "Test utterances with the training mask of Table 1: each modality is missing with "
    "probability 0.5. The recall of 'missing' is 100 % by construction, because a "
    "modality of zeros never changes P's decision (B1).",
    "An observed modality is useless if the best possible decision from all observed "
    "modalities stays the same without it. It is never decisive if adding it changes "
    "the best decision of no subset (the PSS of the best decisions is 0). Both are "
    "exact on twins.",
    "Figure: among all modalities with such a PSS, the shares that are missing, and "
    "that are observed but useless; P trained on incomplete data. A range of PSS that "
    f"fewer than {DRAWN} modalities of a seed have is left out. {{}}",
)
VALUES_NOTES = (
    "Spearman correlations over test utterances with all modalities. The value of a "
    "modality in an utterance is the Shapley value of the exact posterior probability "
    "of the correct label (in points); 'its size' is its magnitude, since PSS "
    "ignores the sign. 'Within' is the correlation over the utterances of one "
    "modality, averaged over modalities; the other correlations mostly reflect that "
    "text is the best modality. PAS uses the label, and so does the value.",
    "Figure, top: share of each modality in the sum over modalities. Bottom: mean "
    "true value of the modalities whose PSS or PAS (divided by M) is in each range; P "
    f"trained on incomplete data. A range that fewer than {DRAWN} modalities of a seed have is "
    "left out; the panels of a line share their axes. {}",
)
ENHANCED_NOTES = (
    "A modality is enhanced if its PSS by P is 0, and only enhanced modalities pass "
    "the LayerNorm of Eqs 5-9. Training: the masks of one epoch, with each modality "
    "dropped with probability 0.5. Test: with all modalities. Accuracy: at the epoch "
    "that the main metric picks on validation{}. Figure: no bar where fewer than "
    f"{DRAWN} clips of a seed have so many enhanced modalities. {{}}",
    "A missing modality never changes P's prediction, so it counts as enhanced. A "
    "clip without enhanced modalities enters the fusion without LayerNorm; the "
    "training share shows how often training saw such clips.",
)


@dataclass(frozen=True)
class Known:
    """Of n test utterances of a twin under a mask; arrays are (n, M)."""

    observed: np.ndarray
    """What is there."""

    pss: np.ndarray
    """Of P."""

    pas: np.ndarray
    """Of P."""

    best_pss: np.ndarray
    """Of the best possible decisions."""

    useless: np.ndarray
    """There, and without it the best possible decision is the same."""

    value: np.ndarray
    """The Shapley value of the posterior probability of the right answer, in points; NaN of scores that are 0."""


def guided(context: Context, spec: RunSpec) -> Dream | None:
    """The method of a run with its trained P; the rest of it is as it begins. None where P has not been trained."""
    record = context.record(spec.parent) if spec.parent else None
    arrays = context.store.arrays(record.id) if record else {}
    weights = {
        name.removeprefix("weights."): torch.from_numpy(values)
        for name, values in arrays.items()
        if name.startswith("weights.")
    }
    if not weights:
        return None
    method = build(spec, prepare(spec))
    assert isinstance(method, Dream)
    method.load_state_dict(weights, strict=False)
    method.eval()
    return method


def decided(method: Dream, spec: RunSpec, law: Law, split: str = "test") -> tuple[Tensor, Mask]:
    """P's decisions on a split under a law, (S, n, K), and the mask."""
    bundle = prepare(spec)
    mask = draw(law, bundle, split, spec.seed)
    batches = evaluation_batches(to_device(bundle, split, mask, "cpu"))
    return torch.cat([method.look(batch) for batch in batches], dim=1), mask


def truths(spec: RunSpec) -> Tensor:
    """(n, K) the right decisions of the test utterances."""
    bundle = prepare(spec)
    return shapley.truths(bundle.task, torch.from_numpy(bundle.labels[bundle.rows("test")]))


def known(context: Context, spec: RunSpec, law: Law) -> Known | None:
    """All of it, of a run on a twin; None where P has not been trained."""
    method = guided(context, spec)
    if method is None:
        return None
    plan = method.plan
    made, mask = decided(method, spec, law)
    twin = open_twin(spec.data) if spec.fold is None else open_twin(spec.data).with_fold(spec.fold)
    best = best_decisions(twin, plan, mask)
    return Known(
        mask.utterance,
        shapley.pss(plan, made).numpy(),
        shapley.pas(plan, made, truths(spec)).numpy(),
        shapley.pss(plan, best).numpy(),
        useless(plan, best, mask.utterance),
        shapley.shapley(plan, 100 * certainty(twin, plan, mask)).numpy(),
    )


def best_decisions(twin: Twin, plan: Plan, mask: Mask) -> Tensor:
    """(S, n, K) as P's: the decisions that the exact posterior makes of each subset of what is observed."""
    made = [
        twin.decisions("test", mask.utterance & some, "accuracy", False, mask.frames)
        for some in plan.subsets.numpy()
    ]
    stacked = np.stack(made).reshape(len(made), len(mask.utterance), -1)
    return torch.from_numpy(stacked.astype(np.int64))


def useless(plan: Plan, best: Tensor, observed: np.ndarray) -> np.ndarray:
    """(n, M): a modality is there, and the decision on all that is observed stays the same without it."""
    places = {tuple(subset): place for place, subset in enumerate(plan.subsets.tolist())}
    modalities = range(plan.subsets.shape[1])
    without = [places[tuple(other != m for other in modalities)] for m in modalities]
    same = (best[without] == best[-1]).all(dim=2).t().numpy()
    return np.asarray(same & observed)


def certainty(twin: Twin, plan: Plan, mask: Mask) -> Tensor:
    """(S, n): the posterior probability of the right answer under each subset; of several questions the mean."""
    labels = twin.bundle.labels[twin.bundle.rows("test")]
    probabilities = []
    for some in plan.subsets.numpy():
        mass = twin.bayes("test", mask.utterance & some, False, mask.frames)
        probabilities.append(_of_right_answer(twin, mass, labels))
    return torch.from_numpy(np.stack(probabilities))


def _of_right_answer(twin: Twin, mass: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) its probability; NaN of scores that are 0, which have no sign."""
    kind = twin.role.task.kind
    if kind == "classes":
        return np.asarray(mass[np.arange(len(labels)), labels])
    if kind == "binaries":
        return np.asarray(np.where(labels == 1, mass, 1 - mass).mean(axis=1))
    sides = posterior.signs(mass, twin.role.levels)
    right = np.where(labels > 0, sides[:, 1], sides[:, 0]) / sides.sum(axis=1)
    return np.where(labels == 0, np.nan, right)


def looked(context: Context, cells: Sequence[Cell], trained: Law, law: Law) -> dict[int, Known]:
    """By seed: what P, trained under a law, and the posterior say of the test utterances under another."""
    parts: dict[int, list[Known]] = {}
    for spec in dict.fromkeys(cell.spec for cell in cells if cell.spec.train_mask == trained):
        facts = known(context, spec, law)
        if facts is not None:
            parts.setdefault(spec.seed, []).append(facts)
    return {seed: together(of_folds) for seed, of_folds in parts.items()}


def together(parts: Sequence[Known]) -> Known:
    """The utterances of several folds as one."""
    names = [field.name for field in dataclasses.fields(Known)]
    return Known(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def targets(facts: Known) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Target to (whether it is one, whether PSS = 0 says so), each over the modalities that it is asked of."""
    flagged, there = facts.pss == 0, facts.observed
    return {
        "missing": (~there.ravel(), flagged.ravel()),
        "useless if there": (facts.useless[there], flagged[there]),
        "missing or useless": ((~there | facts.useless).ravel(), flagged.ravel()),
        "never decisive, if there": (facts.best_pss[there] == 0, flagged[there]),
    }


def scores(truth: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Base rate, precision and recall in percent; NaN where nothing is flagged, or to be found."""
    hits = float((truth & flagged).sum())
    return {
        "base rate": 100 * float(truth.mean()),
        "precision": 100 * hits / flagged.sum() if flagged.any() else float("nan"),
        "recall": 100 * hits / truth.sum() if truth.any() else float("nan"),
    }


def detected(by_seed: dict[int, Known]) -> pd.DataFrame:
    """One line per seed and target: base rate, precision and recall of PSS = 0."""
    lines = [
        {"seed": seed, "target": target, **scores(*pair)}
        for seed, facts in by_seed.items()
        for target, pair in targets(facts).items()
    ]
    return pd.DataFrame(lines, columns=["seed", "target", "base rate", "precision", "recall"])


def detector(context: Context, cells: Sequence[Cell]) -> Output:
    """Precision and recall of PSS = 0, and what modalities are at each PSS."""
    figure, axes = figures.panel_grid(len(context.datasets), width=figures.DOUBLE, height=2.2)
    lines, numbers, counts = [], [], []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        mine, name = on(cells, dataset), shown(context, dataset)
        by_law = {words: looked(context, mine, law, rows.DROPPING) for words, law in PS.items()}
        for words, by_seed in by_law.items():
            if not by_seed:
                return NOT_BUILT
            frame = detected(by_seed)
            numbers.append(frame.assign(data=name, P=words))
            for target, group in frame.groupby("target", sort=False):
                rates = {
                    f"{rate} (%)": _mean(group[rate])
                    for rate in ("base rate", "precision", "recall")
                }
                lines.append({"data": name, "P trained on": words, "target": str(target), **rates})
        bars = _by_pss(by_law["incomplete data"])
        ylabel = "share of modalities (%)" if axis is axes[0] else ""
        counts.append(len(by_law["incomplete data"]))
        grouped.bars(
            axis, list(BINS), bars, ylabel=ylabel, title=name, legend=False, within=(0.0, 100.0)
        )
        axis.set(xlabel="PSS of P", ylim=(0, 102))
    figures.shared_legend(figure, axes[0])
    seeds = figures.told(counts, "bars")
    notes = (
        *(note.format(seeds) for note in DETECTOR_NOTES),
        *data_notes(context, context.datasets),
    )
    return Output(
        pd.DataFrame(lines), figure, pd.concat(numbers, ignore_index=True), len(lines), notes
    )


def _mean(values: pd.Series) -> str:
    return mean_sd(values.dropna(), 1) if values.notna().any() else "-"


def _by_pss(by_seed: dict[int, Known]) -> dict[str, list[list[float]]]:
    """Series to, for each of ``BINS``, one share (%) per seed; none of a seed with too few of such modalities."""
    bars: dict[str, list[list[float]]] = {"missing": [], "there, but useless": []}
    for low, high in BINS.values():
        for name, groups in bars.items():
            shares = []
            for facts in by_seed.values():
                inside = (facts.pss > low + 1e-6) & (facts.pss <= high + 1e-6)
                hits = ~facts.observed if name == "missing" else facts.useless
                if inside.sum() >= DRAWN:
                    shares.append(100 * float(hits[inside].mean()))
            groups.append(shares)
    return bars


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, over the pairs that have a value."""
    ranks = pd.DataFrame({"a": first.ravel(), "b": second.ravel()}).dropna().rank()
    if ranks["a"].nunique() < 2 or ranks["b"].nunique() < 2:
        return float("nan")
    return float(np.corrcoef(ranks["a"], ranks["b"])[0, 1])


def correlations(facts: Known) -> dict[str, float]:
    """Rank correlations with the true value, over all utterances and modalities, and the mean within a modality."""
    pairs = {
        "PSS and value": (facts.pss, facts.value),
        "PSS and its size": (facts.pss, np.abs(facts.value)),
        "PAS and value": (facts.pas, facts.value),
        "PSS and PAS": (facts.pss, facts.pas),
    }
    made = {}
    for name, (first, second) in pairs.items():
        within = [rank_correlation(*columns) for columns in zip(first.T, second.T, strict=True)]
        made[name] = rank_correlation(first, second)
        made[f"{name}, within"] = float(np.mean(within))
    return made


def values(context: Context, cells: Sequence[Cell]) -> Output:
    """PSS and PAS against what the exact posterior says that each modality is worth."""
    count = len(context.datasets)
    figure, axes = figures.panel_grid(2 * count, columns=count, width=figures.DOUBLE, height=2.1)
    lines, numbers, counts = [], [], []
    for place, dataset in enumerate(context.datasets):
        mine, name = on(cells, dataset), shown(context, dataset)
        by_law = {words: looked(context, mine, law, complete()) for words, law in PS.items()}
        for words, by_seed in by_law.items():
            if not by_seed:
                return NOT_BUILT
            frame = pd.DataFrame(
                [{"seed": s, **correlations(facts)} for s, facts in by_seed.items()]
            )
            means = {kind: _over_seeds(frame[kind]) for kind in frame if kind != "seed"}
            lines.append({"data": name, "P trained on": words, **means})
            numbers.append(frame.assign(data=name, P=words))
        facts = list(by_law["incomplete data"].values())
        _shares(axes[place], list(context.bundle(dataset).modalities), facts, name, place == 0)
        _levels(axes[count + place], facts, place == 0)
        counts.append(len(facts))
    for alike in (axes[:count], axes[count:]):
        figures.one_scale(alike)
    figures.shared_legend(figure, axes[0])
    seeds = figures.told(counts)
    notes = (*(n.format(seeds) for n in VALUES_NOTES), *data_notes(context, context.datasets))
    return Output(
        pd.DataFrame(lines), figure, pd.concat(numbers, ignore_index=True), len(lines), notes
    )


def _over_seeds(correlations: pd.Series[float]) -> str:
    """Mean and spread over the seeds that have a correlation: what never varies has none."""
    known = correlations.dropna()
    return mean_sd(known, 2) if len(known) else "no variation"


def _shares(
    axis: Axes, modalities: Sequence[str], known: Sequence[Known], title: str, first: bool
) -> None:
    """Bars: each modality's part of the mean PSS, PAS and true value."""
    bars = {}
    for name, kind in (("PSS", "pss"), ("PAS", "pas"), ("true value", "value")):
        means = [np.nanmean(getattr(facts, kind), axis=0) for facts in known]
        bars[name] = np.transpose([100 * mean / mean.sum() for mean in means]).tolist()
    ylabel = "part of the sum (%)" if first else ""
    grouped.bars(axis, modalities, bars, title=title, ylabel=ylabel, legend=False, looks=SCORES)


def _levels(axis: Axes, known: Sequence[Known], first: bool) -> None:
    """Lines: the mean true value at each level of PSS, and of PAS over the number of modalities."""
    count = known[0].pas.shape[1]
    series = {
        "PSS": np.array([_by_level(facts.pss, facts.value) for facts in known]),
        "PAS": np.array([_by_level(facts.pas / count, facts.value) for facts in known]),
    }
    ylabel = "true value (points)" if first else ""
    figures.lines(
        axis,
        LEVELS.tolist(),
        series,
        xlabel="PSS, or PAS / M",
        legend=False,
        ylabel=ylabel,
        looks=SCORES,
    )
    axis.set_xlim(LEVELS[0] - 0.05, 1.05)
    axis.axhline(0, color="black", linewidth=0.8)


def _by_level(score: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The mean value of those whose score is up to each of ``LEVELS`` and above the one before; nan of too few."""
    level = np.searchsorted(LEVELS + 1e-6, score.ravel())
    frame = pd.DataFrame({"level": level, "value": value.ravel()}).dropna()
    by_level = frame.groupby("level")["value"]
    means = by_level.mean()[by_level.size() >= DRAWN]
    return means.reindex(range(len(LEVELS))).to_numpy(dtype=float)


def counts(method: Dream, spec: RunSpec, law: Law, split: str) -> np.ndarray:
    """(n,) how many modalities of each utterance are enhanced under a law (Eqs 1-2)."""
    made, _ = decided(method, spec, law, split)
    return np.asarray((shapley.pss(method.plan, made) == 0).sum(dim=1))


def right(context: Context, spec: RunSpec) -> np.ndarray | None:
    """(n,) the share of right decisions of each test utterance with all modalities; None where it has not run."""
    record = context.record(spec)
    outputs = context.store.arrays(record.id).get(PREDICTIONS) if record else None
    if outputs is None:
        return None
    made = shapley.decisions(prepare(spec).task, torch.from_numpy(outputs))
    return np.asarray((made == truths(spec)).double().mean(dim=1))


def counted(context: Context, cells: Sequence[Cell]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training utterances with seed and count; those of test with what is right of each row too. Empty if not run."""
    by_place: dict[tuple[int, int | None], dict[str, RunSpec]] = {}
    for cell in cells:
        by_place.setdefault((cell.spec.seed, cell.spec.fold), {})[cell.row] = cell.spec
    train, test = [pd.DataFrame()], [pd.DataFrame()]
    for (seed, _), by_row in by_place.items():
        spec = by_row[rows.OURS]
        method = guided(context, spec)
        hits = {row: right(context, of_row) for row, of_row in by_row.items()}
        if method is None or any(of_row is None for of_row in hits.values()):
            continue
        seen = counts(method, spec, rows.DROPPING, "train")
        tested = counts(method, spec, complete(), "test")
        train.append(pd.DataFrame({"seed": seed, "enhanced": seen}))
        test.append(pd.DataFrame({"seed": seed, "enhanced": tested, **hits}))
    return pd.concat(train, ignore_index=True), pd.concat(test, ignore_index=True)


def enhanced(context: Context, cells: Sequence[Cell]) -> Output:
    """By the number of enhanced modalities: the shares of training and of the complete test, and who is right."""
    count = len(context.datasets)
    figure, axes = figures.panel_grid(2 * count, columns=count, width=figures.DOUBLE, height=2.0)
    lines, numbers, counts = [], [], []
    for place, dataset in enumerate(context.datasets):
        train, test = counted(context, on(cells, dataset))
        if test.empty:
            return NOT_BUILT
        name, groups = shown(context, dataset), range(1 + len(context.bundle(dataset).modalities))
        shares = {"training": _share_of(train, groups), "test": _share_of(test, groups)}
        hits = {row: _right_of(test, row, groups) for row in (rows.OURS, *rows.RIVALS)}
        for group in groups:
            measured = {f"{kind} (%)": mean_sd(by[group], 1) for kind, by in shares.items()}
            measured |= {f"{row}, right (%)": _mean(by[group]) for row, by in hits.items()}
            lines.append({"data": name, "enhanced": group, **measured})
            numbers += [
                {"data": name, "enhanced": group, "quantity": kind, "seed": seed, "value": value}
                for kind, by in {**shares, **hits}.items()
                for seed, value in by[group].items()
            ]
        seen = [(test["enhanced"] == g).groupby(test["seed"]).sum() for g in groups]
        drawn = {
            row: [by[seen[g].reindex(by.index) >= DRAWN] for g, by in zip(groups, of, strict=True)]
            for row, of in hits.items()
        }
        counts.append(test["seed"].nunique())
        _enhanced_bars(axes[place], axes[count + place], shares, drawn, name, place == 0)
    figures.shared_legend(figure, [axes[0], axes[count]], columns=5)
    labels = "" if context.own else ", averaged over the four labels of IEMOCAP"
    seeds = figures.told(counts, "bars")
    told = (note.format(labels, seeds) for note in ENHANCED_NOTES)
    notes = (*told, *data_notes(context, context.datasets))
    return Output(pd.DataFrame(lines), figure, pd.DataFrame(numbers), len(lines), notes)


def _enhanced_bars(
    above: Axes,
    below: Axes,
    shares: dict[str, list[pd.Series]],
    hits: dict[str, list[pd.Series]],
    title: str,
    first: bool,
) -> None:
    """Bars by how many modalities are enhanced: shares of clips above, what is right below."""
    names = [str(group) for group in range(len(shares["test"]))]
    of_shares, of_hits = (
        {name: [by.tolist() for by in groups] for name, groups in of.items()}
        for of in (shares, hits)
    )
    ylabel = "share of clips (%)" if first else ""
    form: dict[str, Any] = {"legend": False}
    grouped.bars(above, names, of_shares, ylabel=ylabel, title=title, looks=SPLITS, **form)
    ylabel = "right, all modalities (%)" if first else ""
    own = looks(of_hits, NETWORKS)
    grouped.bars(below, names, of_hits, ylabel=ylabel, looks=own, **form)
    above.set_ylim(0, 102)
    below.set(xlabel="enhanced modalities", ylim=(0, 102))


def _share_of(frame: pd.DataFrame, groups: Sequence[int]) -> list[pd.Series]:
    """By number of enhanced modalities and seed, the share (%) of the utterances with so many."""
    return [100 * (frame["enhanced"] == g).groupby(frame["seed"]).mean() for g in groups]


def _right_of(frame: pd.DataFrame, row: str, groups: Sequence[int]) -> list[pd.Series]:
    """Likewise, what a row has right (%) of those utterances; nothing of a seed without any."""
    return [100 * frame[frame["enhanced"] == g].groupby("seed")[row].mean() for g in groups]
