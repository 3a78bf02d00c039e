"""The GMM-loss paper's sentences, each with its test."""

from __future__ import annotations

from collections.abc import Callable

import diptest
import numpy as np

from mmlib.experiments import stages
from mmlib.experiments.claims import Claim, table
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.papers.gmm_loss import figures as own
from mmlib.papers.gmm_loss import runs
from mmlib.papers.gmm_loss.figures import Round
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

POINTS = "points of accuracy"
NETWORK = "concat"


def rows(context: Context, dataset: str) -> list[runs.Row]:
    """Everything that a claim compares."""
    return list(dict.fromkeys([runs.row("plain"), *runs.ablation_rows(), *runs.optimizer_rows(),
                               *runs.single_rows(context, dataset)]))


def claim_specs(context: Context) -> list[RunSpec]:
    """Every run that a claim reads."""
    return stages.with_parents([c.spec for d in context.datasets for c in runs.cells(context, d, rows(context, d))])


def claims(context: Context) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    found = [c for d in context.datasets for c in (*_results(context, d), *_rounds(context, d), *_unimodal(context, d))]
    ids = tuple(s.run_id(context.bundle_fingerprint(s.data)) for s in claim_specs(context))
    return table(found, POINTS, data_notes(context, context.datasets), ids)


def accuracies(context: Context, dataset: str, row: runs.Row) -> dict[int, float]:
    """Test accuracy by seed, at the epoch that validation picks."""
    cells = [Cell(row.name, "", s, runs.MASK) for s in runs.specs(context, dataset, row, runs.seeds(context, dataset))]
    frame = context.results(cells)
    frame = frame[(frame["metric"] == "accuracy") & (frame["selection"] == "valid")]
    return dict(zip(frame["seed"], frame["value"], strict=True))


def _results(context: Context, dataset: str) -> list[Claim]:
    name = shown(context, dataset)
    full, plain = (accuracies(context, dataset, runs.row(m)) for m in ("gmm_loss", "plain"))
    found = [Claim("the adaptive loss improves on concatenation", "Table 1", name, NETWORK,
                   "Ours minus Concat", POINTS, _minus(full, plain))]
    for row in runs.ablation_rows()[1:]:
        part = row.name.removeprefix(runs.OURS).strip()
        found.append(Claim(f"each part of the loss is needed: {part}", "4.4, Table 2", name, NETWORK,
                           "full model minus the ablation", POINTS,
                           _minus(full, accuracies(context, dataset, row))))
    pairs = {r.name: accuracies(context, dataset, r) for r in runs.optimizer_rows()}
    for optimizer in ("SGD", "Adam"):
        found.append(Claim("resetting the optimizer's state is crucial", "4.5, Table 3", name, NETWORK,
                           f"{optimizer}: reset minus same state", POINTS,
                           _minus(pairs[f"{optimizer} (Reset State)"], pairs[f"{optimizer} (Same State)"])))
    alone = [accuracies(context, dataset, r) for r in runs.single_rows(context, dataset)]
    best = {s: max(a[s] for a in alone) for s in plain if all(s in a for a in alone)}
    found.append(Claim("joint training can be worse than its unimodal counterparts", "1", name, NETWORK,
                       "the better network of one modality minus Concat", POINTS, _minus(best, plain)))
    return found


def _rounds(context: Context, dataset: str) -> list[Claim]:
    name = shown(context, dataset)
    paths = [r for spec in own.ours(context, dataset) if (r := own.rounds(context, spec))]

    def each(of: Callable[[Round, Round], float]) -> np.ndarray:
        return np.array([of(path[0], path[-1]) for path in paths])

    gaps = [path[0].gaps for path in paths if path[0].gaps is not None]
    dips = np.array([np.log10(0.05 / max(1e-4, diptest.diptest(g.astype(np.float64))[1])) for g in gaps])
    zero = np.zeros(1)
    return [
        Claim("the gap is distinctly bimodal", "2.2, 3.2", name, NETWORK,
              "log10(0.05 / p) of the dip test after the warm-up", "log10", dips),
        Claim("the balanced component is centred near zero, the other is not", "3.2, Fig 2", name, NETWORK,
              "|mean| of the imbalanced minus that of the balanced component, after the warm-up", "probability",
              each(lambda first, _: abs(first.means[1]) - abs(first.means[0]))),
        Claim("the share of imbalanced samples decreases", "4.5, Fig 3", name, NETWORK,
              "share after the warm-up minus after the last round", "share",
              each(lambda first, last: first.shares[1] - last.shares[1])),
        Claim("the imbalanced component's mean shifts to zero", "4.5, Fig 3", name, NETWORK,
              "|mean| after the warm-up minus after the last round", "probability",
              each(lambda first, last: abs(first.means[1]) - abs(last.means[1]))),
        Claim("the density at the origin rises", "4.5, Fig 3", name, NETWORK,
              "log ratio of the mixture's density at 0, last round over warm-up", "log ratio",
              each(lambda first, last: float(np.log(last.density(zero).sum() / first.density(zero).sum())))),
    ]


def _unimodal(context: Context, dataset: str) -> list[Claim]:
    name, warmup = shown(context, dataset), runs.BUDGETS[context.profile.name].phases()[0]
    curves = [c for spec in own.ours(context, dataset) if (c := own.views(context, spec)) is not None]
    found = []
    first, second = context.bundle(dataset).modalities

    def apart(curve: dict[str, np.ndarray], epoch: int) -> float:
        return float(abs(curve[first][epoch] - curve[second][epoch]))

    found.append(Claim("the accuracies of the modalities converge", "4.5, Fig 4", name, NETWORK,
                       "distance between them on validation, end of the warm-up minus end of training", POINTS,
                       np.array([apart(c, warmup - 1) - apart(c, -1) for c in curves])))
    for modality in (first, second):
        found.append(Claim("both modalities' accuracies improve in the adaptive phase", "4.5, Fig 4", name, NETWORK,
                           f"{modality} on validation, end of training minus end of the warm-up", POINTS,
                           np.array([c[modality][-1] - c[modality][warmup - 1] for c in curves])))
    return found


def _minus(a: dict[int, float], b: dict[int, float]) -> np.ndarray:
    return np.array([a[s] - b[s] for s in a if s in b])


