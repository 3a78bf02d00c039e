"""Analyses that the GMM-loss paper lacks: bimodality of the gap, detection of imbalanced clips, human raters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_av_twin, open_av_twin
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.papers.gmm_loss import figures as own
from mmlib.papers.gmm_loss import rows
from mmlib.report import colours, figures
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import mean_sd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.mixture import GaussianMixture

COUNTS = (1, 2, 3)
AREA = "area under the curve of |gap|"
PLANTED = (
    "Imbalanced clips are those made with almost no signal in one modality. A clip is "
    "detected if the posterior of the imbalanced component is above 0.5 (Eq. 9). "
    "Recall is also given by the stronger modality, audio or vision: a signed gap "
    "with one imbalanced component can detect only one side (H2).",
    "A balanced accuracy of 50 % and an area of 0.5 are chance. Precision is over the "
    "seeds that detect any clip.",
)
BIC = (
    "BIC compares mixtures of one, two and three Gaussians; lower is better. That two "
    "Gaussians fit better than one does not make a sample bimodal: they also fit a "
    "skewed or peaked sample better. The dip test tests for more than one peak; its p "
    "value is for unimodality."
)
JUDGES = (
    "The paper explains the second mode of the gap by imbalanced optimisation. Human "
    "raters or the observer, who judge one modality at a time and are not trained "
    "with the model, also have a wide gap on the same clips; that part of the gap "
    "comes from the clips."
)
VOTES = 6  # vote shares come first among the features of crema-d-votes


def twins(context: Context) -> list[str]:
    """The data sets of which it is known which clips were made imbalanced."""
    return [d for d in context.datasets if is_av_twin(context.reference(d))]


def lacks_planted(context: Context) -> str:
    """Why the verdict cannot be held against the truth; empty where it can."""
    return "" if twins(context) else "Known of twins only."


def planted_cells(context: Context) -> list[Cell]:
    """The full method on the twins."""
    return [cell for cell in rows.our_cells(context) if cell.dataset in twins(context)]


def planted(context: Context, cells: Sequence[Cell]) -> Output:
    """How well the mixture's verdict finds the clips whose modalities were made unequal, by round."""
    lines, ids = [], []
    datasets = twins(context)
    counts: list[int] = []
    figure, axes = figures.panel_grid(len(datasets), columns=2, height=2.4)
    for axis, dataset in zip(axes, datasets, strict=True):
        name = shown(context, dataset)
        twin = open_av_twin(context.reference(dataset))
        rows = twin.bundle.rows("train")
        truth, dominant = twin.imbalanced[rows], twin.dominant[rows]
        areas = []
        for path in own.paths(context, cells, dataset):
            ids.append(path[0].run_id)
            judged = {r.number: agreement(r, truth, dominant) for r in path if r.gaps is not None}
            for number, facts in judged.items():
                lines.append({"data": name, "seed": path[0].seed, "round": number, **facts})
            if judged:
                areas.append([facts[AREA] for facts in judged.values()])
        if areas:
            counts.append(len(areas))
            _areas_panel(axis, np.array(areas), name)
    frame = pd.DataFrame(lines)
    if frame.empty:
        return NOT_BUILT
    by_round = frame.drop(columns="seed").groupby(["data", "round"], sort=False)
    table = by_round.agg(_of_some).reset_index()
    seen = (
        f"Figure: how well |gap| ranks the training clips; dashed: chance. {figures.told(counts)}"
    )
    notes = (*PLANTED, *([seen] if counts else []))
    return Output(table, figure, frame, len(table), notes, tuple(ids))


def _areas_panel(axis: Axes, areas: np.ndarray, name: str) -> None:
    """The area under the curve by round, from below chance to all found; areas: (seeds, rounds)."""
    figures.lines(
        axis,
        np.arange(areas.shape[1]),
        {"|gap|": areas},
        xlabel="round (0: after the warm-up)",
        ylabel="area under the ROC curve",
        title=name,
        legend=False,
        within=(0.0, 1.0),
    )
    axis.axhline(0.5, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    axis.set_ylim(min(0.4, axis.get_ylim()[0]), 1.0)


def _of_some(values: pd.Series) -> str:
    return mean_sd(values.dropna()) if values.notna().any() else "-"


def agreement(mixture: own.Round, truth: np.ndarray, dominant: np.ndarray) -> dict[str, float]:
    """The verdict against the planted truth, in percent; dominant (n,) is 0 for audio, 1 for vision, -1 for neither."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    assert mixture.gaps is not None
    balanced, imbalanced = mixture.density(mixture.gaps)
    verdict = imbalanced > balanced
    return {
        "called imbalanced": 100 * verdict.mean(),
        "precision": 100 * truth[verdict].mean() if verdict.any() else float("nan"),
        "recall": 100 * verdict[truth].mean(),
        "recall, audio stronger": 100 * verdict[dominant == 0].mean(),
        "recall, vision stronger": 100 * verdict[dominant == 1].mean(),
        "balanced accuracy": 100 * balanced_accuracy_score(truth, verdict),
        AREA: float(roc_auc_score(truth, np.abs(mixture.gaps))),
    }


def modes(context: Context, cells: Sequence[Cell]) -> Output:
    """Bimodality of the gap after the warm-up: one, two and three Gaussians by BIC, and the dip test."""
    lines, ids = [], []
    datasets = context.datasets
    seen = []
    wide = figures.DOUBLE if len(datasets) > 1 else None
    figure, axes = figures.panel_grid(len(datasets), columns=2, width=wide, height=2.6)
    for axis, dataset in zip(axes, datasets, strict=True):
        name = shown(context, dataset)
        model = own.after_warmups(context, cells, dataset)
        for mixture, gaps in model:
            lines.append({"data": name, "seed": mixture.seed, **shape(gaps)})
            ids.append(mixture.run_id)
        if model:
            components_panel(axis, model[0][1], name)
            first, gaps = model[0]
            seen.append(f"{name}, one run (seed {first.seed}), {len(gaps):,} training clips")
    frame = pd.DataFrame(lines)
    if frame.empty:
        return NOT_BUILT
    figures.shared_legend(figure, axes[0])
    by_seed = ["components by BIC", "dip p value"]
    table = frame.drop(columns=["seed", *by_seed]).groupby("data", sort=False).agg(mean_sd)
    groups = frame.groupby("data", sort=False)
    table["components by BIC, by seed"] = groups["components by BIC"].agg(_listed("{}"))
    table["dip p value, by seed"] = groups["dip p value"].agg(_listed("{:.3f}"))
    notes = (BIC, f"Figure: {'; '.join(seen)}.", *data_notes(context, datasets))
    return Output(table.reset_index(), figure, frame, len(frame), notes, tuple(ids))


def _listed(form: str) -> Callable[[pd.Series], str]:
    return lambda values: ", ".join(form.format(value) for value in values)


def shape(gaps: np.ndarray) -> dict[str, float]:
    """BIC of one, two and three Gaussians, which is least, the dip and its p value."""
    import diptest

    scores = {k: gaussians(gaps, k).bic(gaps[:, None]) for k in COUNTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dip, p = diptest.diptest(gaps.astype(np.float64))
    return {
        **{f"BIC of {k}": float(v) for k, v in scores.items()},
        "components by BIC": min(scores, key=lambda k: scores[k]),
        "dip": float(dip),
        "dip p value": float(p),
    }


def gaussians(gaps: np.ndarray, components: int) -> GaussianMixture:
    """A mixture of some Gaussians, several starts: for description, not the method's own fit (H18)."""
    from sklearn.mixture import GaussianMixture

    model: GaussianMixture = GaussianMixture(
        components, n_init=3, reg_covar=1e-4, random_state=0
    ).fit(gaps[:, None])
    return model


def components_panel(axis: Axes, gaps: np.ndarray, title: str) -> None:
    """A histogram of gaps with mixtures of one to three Gaussians."""
    at = np.linspace(-1, 1, 400)
    with figures.style():
        own.histogram(axis, gaps, 50)
        for place, k in enumerate(COUNTS):
            form = colours.look(str(k), place)
            axis.plot(
                at,
                np.exp(gaussians(gaps, k).score_samples(at[:, None])),
                color=form["color"],
                linestyle=form["linestyle"],
                label=f"{k} Gaussian{'s' * (k > 1)}",
            )
        axis.set_title(title)
        axis.set_xlabel(own.GAP)
        axis.set_ylabel("density")


def lacks_judges(context: Context) -> str:
    """Why the judges' gap cannot be shown; empty where it can."""
    if is_av_twin(context.reference(context.main)) or _has_votes(context):
        return ""
    return "Needs people's judgements of each modality: give --data crema-d=crema-d-votes."


def _has_votes(context: Context) -> bool:
    return "vote shares" in context.bundle(context.main).notes.get("features", "")


def human_gap(context: Context, cells: Sequence[Cell]) -> Output:
    """The gap of judges who were not trained with the model: people on CREMA-D's votes, on a twin an observer.

    People: the share who named the intended emotion from the voice minus that from the face. The observer knows the
    templates that a twin's clips were made from, and judges each modality by itself.
    """
    from mmlib.methods.gmm_loss import fit_mixture

    judges, gap, smooth, words = _votes(context) if _has_votes(context) else _observer(context)
    theirs = own.Round("", -1, 0, *fit_mixture(smooth), smooth)
    model = own.after_warmups(context, cells, context.main)
    count = 1 + bool(model)
    figure, axes = figures.panel_grid(count, columns=2, width=figures.DOUBLE, height=2.7)
    own.mixture_panel(axes[0], theirs, f"{judges}: audio minus vision", legend=True)
    axes[0].set_ylabel("density")
    if model:
        own.mixture_panel(axes[1], model[0][0], "model, after the warm-up", legend=True)
        figures.one_scale(axes)
        for axis in axes:
            axis.set_ylim(bottom=0)
    lines = [{"gap": judges, **_described(theirs, smooth)}]
    for mixture, gaps in model:
        together = {"correlation with the judges'": float(np.corrcoef(gaps, gap)[0, 1])}
        lines.append(
            {"gap": f"model, seed {mixture.seed}", **_described(mixture, gaps), **together}
        )
    frame = pd.DataFrame(lines)
    table = frame.map(lambda v: f"{v:.3f}" if isinstance(v, float) else v).replace("nan", "-")
    name = context.bundle(context.main).name
    seen = (
        f" The panels share their scale; the model's is of seed {model[0][0].seed}."
        if model
        else ""
    )
    clips = f"{name}, {len(gap)} training clips.{seen}"
    notes = (f"{clips} {words} Its mean is {gap.mean():+.3f}.", JUDGES)
    run_ids = tuple(mixture.run_id for mixture, _ in model)
    return Output(table, figure, frame, len(frame), notes, run_ids)


def _votes(context: Context) -> tuple[str, np.ndarray, np.ndarray, str]:
    """Name, gaps, gaps to fit, and what they are. Shares lie on a lattice, hence a jitter below one rater's share."""
    bundle = context.bundle(context.main)
    rows, labels = bundle.rows("train"), bundle.labels
    voice, face = (bundle.features[m][rows, labels[rows]].astype(float) for m in bundle.modalities)
    step = one_vote(bundle.features[bundle.modalities[0]][rows][:, :VOTES])
    smooth = voice - face + np.random.default_rng(0).uniform(-0.5, 0.5, len(rows)) * step
    words = (
        "People's gap is the share of raters who named the intended emotion from the voice alone minus "
        f"that from the face alone; its jitter is up to half of one rater's share, {step.mean():.3f} on average."
    )
    return "people", voice - face, smooth, words


def _observer(context: Context) -> tuple[str, np.ndarray, np.ndarray, str]:
    """The same of an observer who knows a twin's templates."""
    from scipy.special import softmax

    twin = open_av_twin(context.reference(context.main))
    labels = twin.bundle.labels[twin.bundle.rows("train")]
    scores = twin.scores("train")
    first, second = (
        softmax(scores[m], axis=1)[np.arange(len(labels)), labels] for m in twin.bundle.modalities
    )
    words = (
        "A twin has no raters. Instead an observer who knows the templates of the "
        "clips computes the probability of the true class from the audio alone and "
        "from the frame alone."
    )
    return "observer", first - second, first - second, words


def one_vote(shares: np.ndarray) -> np.ndarray:
    """One rater's share in each clip, (n,), from vote shares (n, C): the least step between any two of them."""
    ordered = np.sort(np.concatenate([np.zeros((len(shares), 1)), shares], axis=1), axis=1)
    steps = np.diff(ordered, axis=1)
    return np.asarray(np.where(steps > 1e-4, steps, 1.0).min(axis=1))


def _described(mixture: own.Round, gaps: np.ndarray) -> dict[str, float]:
    facts = shape(gaps)
    return {
        "share imbalanced": float(mixture.shares[1]),
        "mean balanced": float(mixture.means[0]),
        "mean imbalanced": float(mixture.means[1]),
        "sd balanced": float(np.sqrt(mixture.variances[0])),
        "sd imbalanced": float(np.sqrt(mixture.variances[1])),
        "mean": float(gaps.mean()),
        "sd": float(gaps.std()),
        **{name: facts[name] for name in ("components by BIC", "dip", "dip p value")},
    }
