"""Testable claims of the GMM-loss paper, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_av_twin, open_av_twin
from mmlib.experiments import printed
from mmlib.experiments.claims import Claim, Claims, Source, of_metric, with_validation
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Lead, Values
from mmlib.experiments.rows import Row
from mmlib.papers.gmm_loss import figures, rows
from mmlib.papers.gmm_loss.figures import Round
from mmlib.papers.gmm_loss.untested import UNTESTED

POINTS = "points of accuracy"
CONCAT = rows.NAMES["plain"]
RIVALS = tuple(name for method, name in rows.NAMES.items() if method != "gmm_loss")
NEAR = 0.1  # of probability: a component's mean that is near zero; ours, since the paper gives no number
Paths = Sequence[Sequence[Round]]
ByView = dict[str, np.ndarray]
"""Validation accuracy by epoch of each modality's own prediction, of one run."""


def declared(context: Context) -> list[Claim]:
    """Data set by data set: results, the mixtures along training, each modality by itself."""
    return [
        claim
        for dataset in context.datasets
        for of in (_results, _rounds, _unimodal)
        for claim in of(context, dataset)
    ]


CLAIMS = Claims(declared, POINTS, "concat", untested=UNTESTED)


def _accuracy(context: Context, dataset: str) -> Source:
    compared = [
        rows.row(context, dataset, "plain"),
        *rows.ablation_rows(context, dataset),
        *rows.optimizer_rows(context, dataset),
        *rows.single_rows(context, dataset),
    ]
    cells = rows.cells(context, dataset, compared)
    return of_metric(dataset, cells, "accuracy", printed=_printed(dataset))


def _printed(dataset: str) -> Values:
    """What Tables 1 to 3 print."""
    return printed.values("gmm_loss", ("table1", "table2", "table3"), dataset, "accuracy")


def _results(context: Context, dataset: str) -> list[Claim]:
    accuracy, singles = _accuracy(context, dataset), rows.single_rows(context, dataset)
    return [
        Claim(
            "the adaptive loss improves on concatenation",
            "4.3, Table 1",
            "Ours minus Concat",
            accuracy,
            Lead(rows.OURS, CONCAT),
            primary=dataset == context.main,
        ),
        *_rivals(context, dataset),
        *(
            Claim(
                f"each part of the loss is needed: {part}",
                "4.4, Table 2",
                "full model minus the ablation",
                accuracy,
                Lead(rows.OURS, f"{rows.OURS} {part}"),
            )
            for part in rows.ABLATIONS.values()
        ),
        *(
            Claim(
                "resetting the optimizer's state is crucial",
                "4.5, Table 3",
                f"{name}: reset minus same state",
                accuracy,
                Lead(f"{name} (Reset State)", f"{name} (Same State)"),
            )
            for name in ("SGD", "Adam")
        ),
        Claim(
            "joint training can be worse than its unimodal counterparts",
            "1",
            "the better network of one modality minus Concat",
            accuracy,
            lambda accuracies: _better_alone(accuracies, singles),
            exists=True,
        ),
    ]


def _rivals(context: Context, dataset: str) -> list[Claim]:
    """Table 1: against the best of the other methods, which validation picks, and against each."""
    compared = [rows.row(context, dataset, method) for method in rows.NAMES]
    cells = rows.cells(context, dataset, compared)
    source = with_validation(dataset, cells, "accuracy", _printed(dataset))
    best = BestLead(rows.OURS, RIVALS)

    return [
        Claim(
            "the adaptive loss is better than every other method",
            "4.3, Table 1",
            "Ours minus the one of its nine rivals that validation picks",
            source,
            best,
            detail=best.name,
            primary=dataset == context.main,
        ),
        *(
            Claim(
                f"the adaptive loss is better than {other}",
                "4.3, Table 1",
                f"Ours minus {other}",
                source,
                Lead(rows.OURS, other),
            )
            for other in RIVALS
            if other != CONCAT
        ),
    ]


def _better_alone(accuracies: Values, singles: Sequence[Row]) -> pd.Series:
    """By seed: the better network of one modality minus the plain one."""
    leads = [Lead(row.name, CONCAT)(accuracies) for row in singles]
    return pd.concat(leads, axis=1).max(axis=1, skipna=False)


def _ours(context: Context, dataset: str) -> list[Cell]:
    return rows.cells(context, dataset, [rows.row(context, dataset, "gmm_loss")])


def _rounds(context: Context, dataset: str) -> list[Claim]:
    """What the mixture is after the warm-up, and what becomes of it."""

    def paths(context: Context, cells: Sequence[Cell]) -> Paths:
        return figures.paths(context, cells, dataset)

    mixtures = Source(dataset, _ours(context, dataset), paths)
    return [
        Claim(
            "the gap is distinctly bimodal",
            "2.2, 3.2",
            "log10(0.05 / p) of the dip test after the warm-up",
            mixtures,
            lambda paths: [_dip(path[0].gaps) for path in paths if path[0].gaps is not None],
            "log10",
        ),
        Claim(
            "the balanced component is centred near zero",
            "3.2, Fig 2",
            f"{NEAR:g} minus |mean| of the balanced component, after the warm-up",
            mixtures,
            _each(lambda first, _: NEAR - abs(first.means[0])),
            "probability",
        ),
        Claim(
            "the imbalanced component is not centred near zero",
            "3.2, Fig 2",
            f"|mean| of the imbalanced component minus {NEAR:g}, after the warm-up",
            mixtures,
            _each(lambda first, _: abs(first.means[1]) - NEAR),
            "probability",
        ),
        *_audio_stronger(context, mixtures),
        *_shifts(mixtures),
        *_quality(context, dataset, mixtures),
    ]


def _audio_stronger(context: Context, mixtures: Source) -> list[Claim]:
    """Which modality the imbalanced component is for: said of CREMA-D, where the gap is audio's minus vision's."""
    if mixtures.dataset != "crema-d" or context.bundle(mixtures.dataset).modalities[0] != "audio":
        return []
    return [
        Claim(
            "in the imbalanced component audio is the stronger modality",
            "3.2, Fig 2",
            "mean of the imbalanced component, audio minus vision, after the warm-up",
            mixtures,
            _each(lambda first, _: first.means[1]),
            "probability",
        )
    ]


def _quality(context: Context, dataset: str, mixtures: Source) -> list[Claim]:
    """Twins know which clips were made with almost no signal in one modality."""
    if not is_av_twin(context.reference(dataset)):
        return []

    def above_chance(paths: Paths) -> pd.Series:
        truth = open_av_twin(context.reference(dataset))
        poor = truth.imbalanced[truth.bundle.rows("train")]
        first = [path[0] for path in paths if path[0].gaps is not None]
        return pd.Series({of.seed: _area(poor, of) - 0.5 for of in first}, dtype=float)

    return [
        Claim(
            "the imbalanced samples are those of poor quality in one modality",
            "1, 5",
            "area under the ROC curve of |gap| for clips made so, after the warm-up, minus 0.5",
            mixtures,
            above_chance,
            "area",
        )
    ]


def _area(poor: np.ndarray, mixture: Round) -> float:
    from sklearn.metrics import roc_auc_score

    assert mixture.gaps is not None
    return float(roc_auc_score(poor, np.abs(mixture.gaps)))


def _shifts(mixtures: Source) -> list[Claim]:
    """From after the warm-up to after the last round."""
    return [
        Claim(
            "the share of imbalanced samples decreases",
            "4.5, Fig 3",
            "share after the warm-up minus after the last round",
            mixtures,
            _each(lambda first, last: first.shares[1] - last.shares[1]),
            "share",
        ),
        Claim(
            "the imbalanced component's mean shifts to zero",
            "4.5, Fig 3",
            "|mean| after the warm-up minus after the last round",
            mixtures,
            _each(lambda first, last: abs(first.means[1]) - abs(last.means[1])),
            "probability",
        ),
        Claim(
            "the density at the origin rises",
            "4.5, Fig 3",
            "log ratio of the mixture's density at 0, last round over warm-up",
            mixtures,
            _each(lambda first, last: np.log(_at_zero(last) / _at_zero(first))),
            "log ratio",
        ),
        *_of_gaps(mixtures),
    ]


def _of_gaps(mixtures: Source) -> list[Claim]:
    """What becomes of the gaps themselves, where the store has these."""
    return [
        Claim(
            "the distribution of the gap becomes a single peak",
            "4.5, Fig 3",
            "log10(p / 0.05) of the dip test after the last round",
            mixtures,
            lambda paths: [-_dip(path[-1].gaps) for path in paths if path[-1].gaps is not None],
            "log10",
        ),
        Claim(
            "the loss makes the overall gap smaller",
            "abstract, 3.3",
            "mean |gap| after the warm-up minus after the last round",
            mixtures,
            lambda paths: [
                float(np.abs(path[0].gaps).mean() - np.abs(path[-1].gaps).mean())
                for path in paths
                if path[0].gaps is not None and path[-1].gaps is not None
            ],
            "probability",
        ),
    ]


def _each(of: Callable[[Round, Round], float]) -> Callable[[Paths], list[float]]:
    """From the first and the last mixture of each run."""
    return lambda paths: [of(path[0], path[-1]) for path in paths]


def _dip(gaps: np.ndarray) -> float:
    import diptest

    return float(np.log10(0.05 / max(1e-4, diptest.diptest(gaps.astype(np.float64))[1])))


def _at_zero(mixture: Round) -> float:
    return float(mixture.density(np.zeros(1)).sum())


def _unimodal(context: Context, dataset: str) -> list[Claim]:
    """What each modality predicts by itself along training."""
    spent = rows.BUDGETS[context.profile.name]
    end = rows.phases(spent.epochs, spent.rounds)[0] - 1  # the warm-up's last epoch
    first, second = context.bundle(dataset).modalities

    def views(context: Context, cells: Sequence[Cell]) -> list[ByView]:
        of_runs = [figures.views(context, cell.spec) for cell in cells]
        return [by_view for by_view in of_runs if by_view is not None]

    def closer(by_view: ByView) -> float:
        apart = abs(by_view[first] - by_view[second])
        return float(apart[end] - apart[-1])

    def better(curves: list[ByView], modality: str) -> list[float]:
        return [by_view[modality][-1] - by_view[modality][end] for by_view in curves]

    source = Source(dataset, _ours(context, dataset), views)
    return [
        Claim(
            "the accuracies of the modalities converge",
            "4.5, Fig 4",
            "distance between them on validation, end of the warm-up minus end of training",
            source,
            lambda curves: [closer(by_view) for by_view in curves],
        ),
        *(
            Claim(
                "both modalities' accuracies improve in the adaptive phase",
                "4.5, Fig 4",
                f"{modality} on validation, end of training minus end of the warm-up",
                source,
                partial(better, modality=modality),
            )
            for modality in (first, second)
        ),
    ]
