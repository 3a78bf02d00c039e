"""What P and the twins' exact posterior say of each modality of each test utterance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmlib.data import posterior
from mmlib.data.catalog import open_twin
from mmlib.data.twins import Twin
from mmlib.experiments.context import Context
from mmlib.fit import evaluation_batches
from mmlib.masks import Law, Mask, draw
from mmlib.methods.dream import Dream
from mmlib.nn import shapley
from mmlib.nn.batch import to_device
from mmlib.nn.shapley import Plan
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec


@dataclass(frozen=True)
class Known:
    """Of n test utterances of a twin under a mask; arrays are (n, M).

    observed: what is there. pss, pas: of P. best_pss: the same of the best possible decisions.
    useless: there, and without it the best possible decision is the same. value: the Shapley value of the posterior
    probability of the right answer, in points; of scores that are 0, which have no sign, NaN.
    """

    observed: np.ndarray
    pss: np.ndarray
    pas: np.ndarray
    best_pss: np.ndarray
    useless: np.ndarray
    value: np.ndarray


def guided(context: Context, spec: RunSpec) -> Dream | None:
    """The method of a run with its trained P; the rest of it is as it begins. None where P has not been trained."""
    if spec.parent is None:
        return None
    record, _ = context.store.find(spec.parent, context.bundle_fingerprint(spec.data))
    if record is None:
        return None
    method = build(spec, prepare(spec))
    assert isinstance(method, Dream)
    kept = {name.removeprefix("weights."): torch.from_numpy(values)
            for name, values in context.store.arrays(record.id).items() if name.startswith("weights.")}
    if not kept:
        return None
    method.load_state_dict(kept, strict=False)
    method.eval()
    return method


def decided(method: Dream, spec: RunSpec, law: Law, split: str = "test") -> tuple[Tensor, Mask]:
    """P's decisions on a split under a law, (S, n, K), and the mask."""
    bundle = prepare(spec)
    mask = draw(law, bundle, split, spec.seed)
    batches = evaluation_batches(to_device(bundle, split, mask, "cpu"))
    return torch.cat([method.look(batch) for batch in batches], dim=1), mask


def known(context: Context, spec: RunSpec, law: Law) -> Known | None:
    """All of it, of a run on a twin; None where P has not been trained."""
    method = guided(context, spec)
    if method is None:
        return None
    plan, (found, mask) = method.plan, decided(method, spec, law)
    bundle = prepare(spec)
    truth = shapley.truths(bundle.task, torch.from_numpy(bundle.labels[bundle.rows("test")]))
    twin = open_twin(spec.data) if spec.fold is None else open_twin(spec.data).with_fold(spec.fold)
    best = best_decisions(twin, plan, mask)
    value = shapley.shapley(plan, 100 * certainty(twin, plan, mask)).numpy()
    return Known(mask.utterance, shapley.pss(plan, found).numpy(), shapley.pas(plan, found, truth).numpy(),
                 shapley.pss(plan, best).numpy(), useless(plan, best, mask.utterance), value)


def best_decisions(twin: Twin, plan: Plan, mask: Mask) -> Tensor:
    """(S, n, K) as P's: the decisions that the exact posterior makes of each subset of what is observed."""
    made = [np.asarray(twin.decisions("test", mask.utterance & some, "accuracy", False, mask.frames))
            for some in plan.subsets.numpy()]
    return torch.from_numpy(np.stack(made).reshape(len(made), len(mask.utterance), -1).astype(np.int64))


def useless(plan: Plan, best: Tensor, observed: np.ndarray) -> np.ndarray:
    """(n, M): a modality is there, and the decision on all that is observed stays the same without it."""
    count = plan.subsets.shape[1]
    numbers = {tuple(row): number for number, row in enumerate(plan.subsets.tolist())}
    without = [numbers[tuple(i != m for i in range(count))] for m in range(count)]
    same = (best[without] == best[-1]).all(dim=2).t().numpy()
    return np.asarray(same & observed)


def certainty(twin: Twin, plan: Plan, mask: Mask) -> Tensor:
    """(S, n): the posterior probability of the right answer under each subset; of several questions the mean."""
    task, labels = twin.role.task, twin.bundle.labels[twin.bundle.rows("test")]
    found = []
    for some in plan.subsets.numpy():
        mass = twin.bayes("test", mask.utterance & some, False, mask.frames)
        if task.kind == "score":
            sides = posterior.signs(mass, twin.role.levels)
            right = np.where(labels > 0, sides[:, 1], sides[:, 0]) / sides.sum(axis=1)
            found.append(np.where(labels == 0, np.nan, right))
        elif task.kind == "classes":
            found.append(mass[np.arange(len(labels)), labels])
        else:
            found.append(np.where(labels == 1, mass, 1 - mass).mean(axis=1))
    return torch.from_numpy(np.stack(found))


def together(parts: Sequence[Known]) -> Known:
    """The utterances of several folds as one."""
    return Known(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Known)))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, over the pairs that have a value."""
    frame = pd.DataFrame({"a": first.ravel(), "b": second.ravel()}).dropna().rank()
    if frame["a"].nunique() < 2 or frame["b"].nunique() < 2:
        return float("nan")
    return float(np.corrcoef(frame["a"], frame["b"])[0, 1])
