"""What the GMM-loss paper does not show: whether the gap is bimodal, the verdict right, and what people's gaps are."""

from __future__ import annotations

import warnings

import diptest
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.mixture import GaussianMixture

from mmlib.data.catalog import is_av_twin, open_av_twin
from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.methods.gmm_loss import fit_mixture
from mmlib.papers.gmm_loss import figures as own
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.spec import RunSpec

COUNTS = (1, 2, 3)
AREA = "area under the curve of |gap|"
VOTES = 6  # vote shares come first among the features of crema-d-votes


def every_round(context: Context) -> list[RunSpec]:
    """The method's runs on every data set."""
    return stages.with_parents([s for d in context.datasets for s in own.ours(context, d)])


def planted(context: Context) -> Output:
    """How well the mixture's verdict finds the clips whose modalities were made unequal, by round."""
    lines, ids = [], []
    figure, axes = figures.panel_grid(len(context.datasets), columns=2, width=figures.DOUBLE, height=2.5)
    for axis, dataset in zip(axes, context.datasets, strict=True):
        twin = open_av_twin(context.reference(dataset))
        rows = twin.bundle.rows("train")
        truth, dominant = twin.imbalanced[rows], twin.dominant[rows]
        scores: list[list[float]] = []
        for spec in own.ours(context, dataset):
            found = own.rounds(context, spec)
            scores.append([])
            for r in found:
                if r.gaps is None:
                    continue
                found_here = agreement(r, truth, dominant)
                lines.append({"data": shown(context, dataset), "seed": r.seed, "round": r.number, **found_here})
                scores[-1].append(found_here[AREA])
            ids += [found[0].run_id] if found else []
        scores = [s for s in scores if s]
        if scores:
            figures.lines(axis, np.arange(len(scores[0])), {"|gap|": np.array(scores)}, xlabel="round (0: after the "
                          "warm-up)", ylabel="area under the ROC curve", title=shown(context, dataset), legend=False)
            axis.axhline(0.5, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    frame = pd.DataFrame(lines)
    if frame.empty:
        return Output(notes=("Not built yet.",))
    table = frame.drop(columns="seed").groupby(["data", "round"], sort=False).agg(_of_some).reset_index()
    notes = ("Planted: clips in which one modality's signal is almost absent. The verdict is a posterior of the "
             "imbalanced component above 0.5 (Eq. 9). Recall is also given for clips whose stronger modality is audio "
             "or vision: a signed gap with one imbalanced component can hold one side only (H2).",
             "Balanced accuracy 50 % and area 0.5 are chance. Precision: of the seeds that call any clip imbalanced.")
    return Output(table=table, figure=figure, numbers=frame, rows_built=len(table), notes=notes, run_ids=tuple(ids))


def _of_some(values: pd.Series) -> str:
    return mean_sd(values.dropna()) if values.notna().any() else "-"


def agreement(found: own.Round, truth: np.ndarray, dominant: np.ndarray) -> dict[str, float]:
    """The verdict against the planted truth, in percent; dominant (n,) is 0 for audio, 1 for vision, -1 for neither."""
    assert found.gaps is not None
    parts = np.stack([found.density(found.gaps)[k] for k in (0, 1)])
    verdict = parts[1] > parts[0]
    precision = 100 * truth[verdict].mean() if verdict.any() else float("nan")
    return {"called imbalanced": 100 * verdict.mean(), "precision": precision, "recall": 100 * verdict[truth].mean(),
            "recall, audio stronger": 100 * verdict[dominant == 0].mean(),
            "recall, vision stronger": 100 * verdict[dominant == 1].mean(),
            "balanced accuracy": 100 * balanced_accuracy_score(truth, verdict),
            AREA: float(roc_auc_score(truth, np.abs(found.gaps)))}


def modes(context: Context) -> Output:
    """Is the gap bimodal: one, two and three Gaussians by BIC, and the dip test, after the warm-up."""
    lines, ids = [], []
    datasets = context.datasets
    figure, axes = figures.panel_grid(len(datasets), columns=2, width=figures.DOUBLE, height=2.6)
    for axis, dataset in zip(axes, datasets, strict=True):
        drawn = False
        for spec in own.ours(context, dataset):
            found = own.rounds(context, spec)
            if not found or found[0].gaps is None:
                continue
            lines.append({"data": shown(context, dataset), "seed": spec.seed, **shape(found[0].gaps)})
            ids.append(found[0].run_id)
            if not drawn:
                components_panel(axis, found[0].gaps, shown(context, dataset))
                drawn = True
    frame = pd.DataFrame(lines)
    if frame.empty:
        return Output(notes=("Not built yet.",))
    figures.shared_legend(figure, axes[0])
    table = frame.drop(columns=["seed", "components by BIC", "dip p value"]).groupby("data", sort=False).agg(mean_sd)
    groups = frame.groupby("data", sort=False)
    table["components by BIC, by seed"] = groups["components by BIC"].agg(lambda v: ", ".join(map(str, v)))
    table["dip p value, by seed"] = groups["dip p value"].agg(lambda v: ", ".join(f"{p:.3f}" for p in v))
    notes = ("BIC compares mixtures of one, two and three Gaussians; a lower one is better. That two Gaussians fit "
             "better than one does not make a sample bimodal: a skewed or peaked one takes two as well. The dip test "
             "asks for two peaks; its p value is for unimodality.", *data_notes(context, datasets))
    return Output(table=table.reset_index(), figure=figure, numbers=frame, rows_built=len(frame), notes=notes,
                  run_ids=tuple(ids))


def shape(gaps: np.ndarray) -> dict[str, float]:
    """BIC of one, two and three Gaussians, which is least, the dip and its p value."""
    scores = {k: gaussians(gaps, k).bic(gaps[:, None]) for k in COUNTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dip, p = diptest.diptest(gaps.astype(np.float64))
    return {**{f"BIC of {k}": float(v) for k, v in scores.items()},
            "components by BIC": min(scores, key=lambda k: scores[k]), "dip": float(dip), "dip p value": float(p)}


def gaussians(gaps: np.ndarray, components: int) -> GaussianMixture:
    """A mixture of some Gaussians, several starts: for description, not the method's own fit (H18)."""
    model: GaussianMixture = GaussianMixture(components, n_init=3, reg_covar=1e-4, random_state=0).fit(gaps[:, None])
    return model


def components_panel(axis: figures.Axes, gaps: np.ndarray, title: str) -> None:
    """A histogram of gaps with mixtures of one to three Gaussians."""
    at = np.linspace(-1, 1, 400)
    with figures.style():
        axis.hist(gaps, bins=50, range=(-1, 1), density=True, color="#bbbbbb", label="training clips")
        for place, k in enumerate(COUNTS):
            form = figures.look(str(k), place)
            axis.plot(at, np.exp(gaussians(gaps, k).score_samples(at[:, None])), color=form["color"],
                      linestyle=form["linestyle"], label=f"{k} Gaussian{'s' * (k > 1)}")
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


def human_gap(context: Context) -> Output:
    """The gap of judges who were not trained with the model: people on CREMA-D's votes, on a twin an observer.

    People: the share who named the intended emotion from the voice minus that from the face. The observer knows the
    templates that a twin's clips were made from, and judges each modality by itself.
    """
    judges, gap, smooth, told_of = _votes(context) if _has_votes(context) else _observer(context)
    shares, means, variances = fit_mixture(smooth)
    told = own.Round("", -1, 0, shares, means, variances, smooth)
    model = [r for spec in own.ours(context, context.main) for r in own.rounds(context, spec)[:1] if r.gaps is not None]
    figure, axes = figures.panel_grid(1 + bool(model), columns=2, width=figures.DOUBLE, height=2.7)
    own.mixture_panel(axes[0], told, f"{judges}: audio minus vision", legend=True)
    axes[0].set_ylabel("density")
    lines = [{"gap": judges, **_described(told, smooth)}]
    if model:
        own.mixture_panel(axes[1], model[0], "model, after the warm-up", legend=True)
        lines += [{"gap": f"model, seed {r.seed}", **_described(r, r.gaps),
                   "correlation with the judges'": float(np.corrcoef(r.gaps, gap)[0, 1])}
                  for r in model if r.gaps is not None]
    frame = pd.DataFrame(lines)
    table = frame.map(lambda v: f"{v:.3f}" if isinstance(v, float) else v).replace("nan", "-")
    name = context.bundle(context.main).name
    notes = (f"{name}, {len(gap)} training clips. {told_of} Its mean is {gap.mean():+.3f}.",
             "The paper reads the gap's second mode as an imbalance of optimisation. Judges who were never optimised "
             "with the model, one modality at a time, have a wide gap of their own on the same clips: so much of it "
             "is in the clips.")
    return Output(table=table, figure=figure, numbers=frame, rows_built=len(frame), notes=notes,
                  run_ids=tuple(r.run_id for r in model))


def _votes(context: Context) -> tuple[str, np.ndarray, np.ndarray, str]:
    """Name, gaps, gaps to fit, and what they are. Shares lie on a lattice, hence a jitter below one rater's share."""
    bundle = context.bundle(context.main)
    rows, labels = bundle.rows("train"), bundle.labels
    voice, face = (bundle.features[m][rows, labels[rows]].astype(float) for m in bundle.modalities)
    step = one_vote(bundle.features[bundle.modalities[0]][rows][:, :VOTES])
    smooth = voice - face + np.random.default_rng(0).uniform(-0.5, 0.5, len(rows)) * step
    return "people", voice - face, smooth, (
        "People's gap is the share of raters who named the intended emotion from the voice alone minus that from the "
        f"face alone; its jitter is up to half of one rater's share, {step.mean():.3f} on average.")


def _observer(context: Context) -> tuple[str, np.ndarray, np.ndarray, str]:
    """The same of an observer who knows a twin's templates."""
    twin = open_av_twin(context.reference(context.main))
    labels = twin.bundle.labels[twin.bundle.rows("train")]
    scores = twin.scores("train")
    first, second = (softmax(scores[m], axis=1)[np.arange(len(labels)), labels] for m in twin.bundle.modalities)
    return "observer", first - second, first - second, (
        "A twin has no raters: the observer knows the templates that its clips were made from, and gives the true "
        "class a probability from the sound alone and from the frame alone.")


def one_vote(shares: np.ndarray) -> np.ndarray:
    """One rater's share in each clip, (n,), from vote shares (n, C): the least step between any two of them."""
    ordered = np.sort(np.concatenate([np.zeros((len(shares), 1)), shares], axis=1), axis=1)
    steps = np.diff(ordered, axis=1)
    return np.asarray(np.where(steps > 1e-4, steps, 1.0).min(axis=1))


def _described(found: own.Round, gaps: np.ndarray) -> dict[str, float]:
    facts = shape(gaps)
    return {"share imbalanced": float(found.shares[1]), "mean balanced": float(found.means[0]),
            "mean imbalanced": float(found.means[1]), "sd balanced": float(np.sqrt(found.variances[0])),
            "sd imbalanced": float(np.sqrt(found.variances[1])), "mean": float(gaps.mean()), "sd": float(gaps.std()),
            "components by BIC": facts["components by BIC"], "dip": facts["dip"], "dip p value": facts["dip p value"]}
