"""BALM's supplement B, measured: Lemma 1, Corollary 1, Proposition 1, what follows under Adam, and the cost.

Each function holds printed claims against numbers, one row per claim. Where expectations over masks can
be enumerated they are exact; elsewhere they are Monte Carlo estimates with a standard error. A claim
holds where the number is within four standard errors of it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata, spearmanr

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.data.catalog import open_bundle
from mmlib.fit import make_optimizer, train_epoch, train_step
from mmlib.masks import complete, draw, imbalanced, pattern_distribution, rate_bound, shared
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, make_layout, to_device
from mmlib.nn.objectives import task_loss
from mmlib.papers.balm import theory_gradients as tg
from mmlib.runs.spec import Training

COLUMNS = ("claim", "where", "condition", "modality", "claimed", "measured", "error", "cosine", "holds", "note")
DATA, LARGER_DATA = "twin:iemocap6@quick", "twin:iemocap6@study"
RATES = {"audio": 0.5, "text": 0.7, "vision": 0.3}
EVEN = 0.5
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
OPTIONS = (("graph", 16), ("hidden", 32))
SCHEDULE = Training(epochs=12, batch=4, lr=3e-3)
SLOPE = "E[gradient] = factor x complete-data gradient"
SCALES = (0.5, 1.5)
# Feature dims (Table 6), the task, and a batch of about the paper's size: dialogues and utterances in each.
PAPER_SIZES: dict[str, tuple[dict[str, int], Task, int, int]] = {
    "iemocap": ({"audio": 1582, "text": 1024, "vision": 342},
                Task("classes", ("happy", "sad", "neutral", "angry", "excited", "frustrated")), 16, 48),
    "mosei": ({"audio": 512, "text": 1024, "vision": 1024}, Task("score", range=(-3.0, 3.0)), 32, 7),
}


def theory_table(seed: int = 0, quick: bool = True) -> pd.DataFrame:
    """Every claim of supplement B with what is measured, one row each, columns ``COLUMNS``.

    ``quick`` takes fewer Monte Carlo draws and trainings; seconds on one thread.
    """
    draws, seeds = (100, range(seed, seed + 3)) if quick else (400, range(seed, seed + 10))
    parts = [lemma_holds(seed), lemma_masks(seed, 2 * draws), lemma_inputs(seed), lemma_backbone(seed, draws),
             corollary(seed, 10 * draws), scaling(seed), proposition(modulation_series(seeds))]
    return pd.concat(parts, ignore_index=True)


def lemma_holds(seed: int = 0) -> pd.DataFrame:
    """Eq. 32 under its assumptions: independent masks, one separate loss per observed modality; exact."""
    model, features, labels = tg.small_case("separable", DATA, seed)
    whole = tg.complete_gradients(model, features, labels)
    expected = tg.expected_gradients(model, features, labels, tg.bernoulli(list(RATES.values())))
    return _frame([_slope_row("Eqs 28-32", "independent masks, separate losses", m, 1 - RATES[m],
                              tg.slope_cosine(expected[m]["all"], whole[m]["all"]), "exact") for m in model.modalities])


def lemma_masks(seed: int = 0, draws: int = 200) -> pd.DataFrame:
    """Eq. 32 with separate losses under the masks that the paper draws: availability is not 1 - r_m (A2).

    It is 1 - r_m + prod(r)/M under the operator, which gives all-missing utterances one modality, as under a
    shared rate with restoration; under the law of Eqs 1 and 3 it is (1 - r_m)/(1 - prod(r)).
    """
    model, features, labels = tg.small_case("separable", DATA, seed)
    whole, bundle = tg.complete_gradients(model, features, labels), open_bundle(DATA)
    found = []
    slack = rate_bound(len(labels), list(RATES.values())) - math.prod(RATES.values()) / len(RATES)
    for name, where, rates, law, rounding in (
            ("quota operator", "Eq. 36 (A1)", RATES, imbalanced(RATES), slack),
            (f"shared rate {EVEN:g}, one modality restored", "Eqs 1-2", dict.fromkeys(RATES, EVEN), shared(EVEN), 0.0)):
        masks = (draw(law, bundle, "train", seed * draws + k).utterance for k in range(draws))
        sampled = tg.mask_gradients(model, features, labels, masks)
        for m in model.modalities:
            result = tg.sampled_slope_cosine(sampled[m], whole[m]["all"])
            available = 1 - rates[m] + math.prod(rates.values()) / len(rates)
            found += [_slope_row(where, name, m, factor, result, f"{text}; {draws} draws", rounding)
                      for factor, text in ((1 - rates[m], "factor 1 - r"), (available, "factor = availability"))]
    expected = tg.expected_gradients(model, features, labels, pattern_distribution(list(RATES.values())))
    for m in model.modalities:
        exact = tg.slope_cosine(expected[m]["all"], whole[m]["all"])
        available = (1 - RATES[m]) / (1 - math.prod(RATES.values()))
        found += [_slope_row("Eqs 2-3", "all-missing cut off (Eq. 3)", m, factor, exact, f"{text}; exact")
                  for factor, text in ((1 - RATES[m], "factor 1 - r"), (available, "factor = availability"))]
    return _frame(found)


def lemma_inputs(seed: int = 0) -> pd.DataFrame:
    """Eq. 32 where a missing input is a zero that stays in the batch, with separate and with a joint loss; exact.

    A zero input silences an encoder's weights but not its bias. Behind a joint loss, an encoder's gradient
    depends on what else is missing.
    """
    found = []
    for kind, where, condition in (("zeros", "Eqs 16-18 (D22)", "separate losses, missing inputs as zeros"),
                                   ("fused", "Eqs 11-14", "one loss on joined encoders, missing inputs as zeros")):
        model, features, labels = tg.small_case(kind, DATA, seed)
        whole = tg.complete_gradients(model, features, labels)
        expected = tg.expected_gradients(model, features, labels, tg.bernoulli(list(RATES.values())))
        found += [_slope_row(where, condition, m, 1 - RATES[m], tg.slope_cosine(expected[m][part], whole[m][part]),
                             f"the encoder's {part}; exact") for m in model.modalities for part in ("weight", "bias")]
    return _frame(found)


def lemma_backbone(seed: int = 0, draws: int = 100) -> pd.DataFrame:
    """Eq. 32 for the encoders of MMGCN under independent masks, before and after a training; Monte Carlo."""
    bundle, found = open_bundle(DATA), []
    whole_batch = to_device(bundle, "train", draw(complete(), bundle, "train", 0), "cpu").batch(range(8))
    generator = np.random.default_rng(seed)
    keep = 1 - np.array([RATES[m] for m in bundle.modalities])
    with torch.random.fork_rng(devices=[]):
        method = _method("plain", bundle, seed)
        for state in ("at the start", "after training"):
            if state == "after training":
                _train(method, bundle, seed)
            method.eval()
            loss = task_loss(bundle.task, method(whole_batch).logits, whole_batch.labels)
            whole = tg.encoder_gradients(method.backbone, loss)
            masks = (generator.random((len(whole_batch), len(keep))) < keep for _ in range(draws))
            sampled = tg.backbone_gradients(method, whole_batch, masks)
            found += [_slope_row("Eqs 11-14", f"MMGCN {state}, independent masks", m, 1 - RATES[m],
                                 tg.sampled_slope_cosine(sampled[m], whole[m]["all"]), f"{draws} draws")
                      for m in method.modalities]
    return _frame(found)


def norm_ratios(seed: int = 0, draws: int = 1000, modality: str = "text") -> pd.DataFrame:
    """Corollary 1's ratio against the batch size, for a linear classifier at its start and at its minimum.

    Columns modality, state, batch, ratio, error, square_ratio (closed form), keep (1 - r), root (sqrt(1 - r)).
    """
    rate, found = RATES[modality], []
    for state in ("at the start", "at the minimum"):
        gradients = tg.per_sample_gradients(LARGER_DATA, modality, state == "at the minimum")
        for batch in BATCHES:
            ratio, error = tg.norm_ratio(gradients, rate, batch, draws, seed)
            found.append({"modality": modality, "state": state, "batch": batch, "ratio": ratio, "error": error,
                          "square_ratio": tg.square_ratio(gradients, rate, batch), "keep": 1 - rate,
                          "root": math.sqrt(1 - rate)})
    return pd.DataFrame(found)


def corollary(seed: int = 0, draws: int = 1000, modality: str = "text") -> pd.DataFrame:
    """Eq. 33 against the batch size, and the step to it from Eq. 32.

    It holds for single utterances. A batch's noise shrinks by sqrt(1 - r), as its mean does by 1 - r, and the
    norm of the expectation (what Eq. 32 gives) is below the expectation of the norm (what Eq. 33 says).
    """
    ratios, where = norm_ratios(seed, draws, modality), "Eq. 33"
    found = [_row("E||gradient|| ratio = 1 - r", where, f"classifier {r['state']}, batch of {r['batch']}", modality,
                  r["keep"], r["ratio"], r["error"], note=f"{draws} batches") for r in ratios.to_dict("records")]
    last = ratios.iloc[-1]
    found.append(_row("E||gradient|| ratio = sqrt(1 - r)", "ours", f"classifier {last.state}, batch of {last.batch}",
                      modality, last.root, last.ratio, last.error, note="the limit where noise dominates"))
    for state, batch in (("at the start", 16), ("at the minimum", 16)):
        gradients = tg.per_sample_gradients(LARGER_DATA, modality, state == "at the minimum")
        share, error = tg.norm_of_mean(gradients, RATES[modality], batch, draws, seed)
        found.append(_row("||E gradient|| / E||gradient|| = 1", "Eq. 32 to Eq. 33",
                          f"classifier {state}, batch of {batch}", modality, 1.0, share, error,
                          note="'taking the L2 norm' needs it"))
    return _frame(found)


def scaling(seed: int = 0, steps: int = 8) -> pd.DataFrame:
    """A constant factor on an encoder's gradient: Eq. 22's step under SGD, and under Adam as in the experiments (A10).

    MMGCN trained from one state on the same batches with the audio encoder's gradient scaled; the ratio of the
    encoder's mean step to that without the factor.
    """
    found = []
    for name, lr, decay, note in (("sgd", 1e-3, 0.0, ""), ("adam", 3e-4, 0.0, "eps 1e-8"),
                                  ("adam", 3e-4, 3e-5, "eps 1e-8, weight decay 3e-5")):
        schedule = Training(epochs=1, batch=4, lr=lr, weight_decay=decay, optimizer=name)
        norms = {scale: _step_norms(scale, schedule, seed, steps) for scale in (1.0, *SCALES)}
        for scale in SCALES:
            ratio = norms[scale] / norms[1.0]
            spread = float(ratio.std(ddof=1) / math.sqrt(steps))
            for claimed, text in ((scale, "scales the step by mu"), (1.0, "leaves the step as it is")):
                found.append(_row(f"a constant mu = {scale:g} {text}", "Eq. 22" if claimed == scale else "ours (A10)",
                                  f"{name.upper() if name == 'sgd' else 'Adam'}, {steps} steps of MMGCN", "audio",
                                  claimed, float(ratio.mean()), spread, note=note, slack=0.01))
    return _frame(found)


def modulation_series(seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """BALM as printed on MMGCN, step by step.

    Columns seed, step, modality, rate, mu, norm: the coefficient (with rho) and the encoder's gradient norm
    before it is modulated. The first step's coefficient is of another kind (Eq. 20) and left out.
    """
    bundle, found = open_bundle(DATA), []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            method = _method("balm", bundle, seed)
            steps = _train(method, bundle, seed)
        for step, series in enumerate(steps[1:], start=1):
            found += [{"seed": seed, "step": step, "modality": m, "rate": RATES[m], "mu": float(series["mu"][i]),
                       "norm": float(series["gradient_norm"][i])} for i, m in enumerate(method.modalities)]
    return pd.DataFrame(found)


def proposition(series: pd.DataFrame, rho: float = 1.4) -> pd.DataFrame:
    """Eqs 21, 34 and 35 over a training: what the coefficients are, and whether they even the gradients out.

    series: from ``modulation_series``. Errors are standard errors over its seeds.
    """
    seeds, count = series["seed"].nunique(), series["modality"].nunique()
    wide = {name: series.pivot(index=["seed", "step"], columns="modality", values=name) for name in ("mu", "norm")}
    c, rates = wide["mu"].to_numpy() / rho, series.groupby("modality")["rate"].first()
    steps = pd.DataFrame(index=wide["mu"].index)
    steps["sum"] = np.abs(c.sum(axis=1) - (count - 1)) / np.maximum(1, np.abs(c).max(axis=1))
    steps["negative"], steps["large"] = (c < 0).mean(axis=1), (np.abs(c) > 10).mean(axis=1)
    rank = rankdata(1 / (1 - rates.to_numpy()))
    steps["inverse"] = [spearmanr(mu, rank).statistic for mu in c]
    steps["order"] = (rankdata(c, axis=1) == rank).all(axis=1)
    steps["availability"] = [spearmanr(norm, -rank).statistic for norm in wide["norm"].to_numpy()]
    before = wide["norm"].to_numpy()
    steps["before"], steps["after"] = _max_over_min(before), _max_over_min(np.abs(c) * before)
    condition = f"MMGCN + BALM, {seeds} trainings, {len(steps)} steps"

    def line(claim: str, where: str, claimed: float, name: str, note: str, how: str = "mean",
             slack: float | None = None) -> dict[str, Any]:
        per_seed = steps.groupby(level="seed")[name].agg(how)
        error = float(per_seed.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan
        row = _row(claim, where, condition, "all", claimed, float(per_seed.mean()), error, note=note)
        if slack is not None:  # a claim about every step: one step outside falsifies it
            row["holds"] = "yes" if steps[name].max() <= claimed + slack else "no"
        return row

    return _frame([
        line("c sums to M - 1 (deviation 0)", "Eq. 21 (A8)", 0.0, "sum", "relative to the largest c", slack=1e-3),
        line("no c is negative (share 0)", "Eqs 21, 34 (A8)", 0.0, "negative", "turns descent into ascent", slack=0.0),
        line("no |c| exceeds 10 (share 0)", "Eqs 21, 34 (A8)", 0.0, "large", "share of all coefficients", slack=0.0),
        line("mu rises with 1/(1 - r) (rank correlation 1)", "B.1", 1.0, "inverse", "mean over steps; 0 by chance"),
        line("mu is ordered as 1/(1 - r) (share of steps 1)", "B.1", 1.0, "order", "1/6 by chance"),
        line("gradient norms fall with r (rank correlation 1)", "Eq. 33", 1.0, "availability", "mean over steps"),
        line("largest / smallest norm = 1 after", "Eq. 35", 1.0, "after", "median over steps", "median"),
        line("largest / smallest norm = 1 before", "to compare", 1.0, "before", "median over steps", "median"),
    ])


def lightweight(backbone: str = "mmgcn", options: Sequence[tuple[str, Any]] = (), seed: int = 0,
                repeats: int = 5) -> pd.DataFrame:
    """What BALM adds to its bare backbone at the paper's dims: parameters, and the time of a step and a prediction.

    Columns dataset, quantity, value, unit, of_backbone, spread, at_test, source (``counted`` or ``measured``).
    Times are medians of turns taken by both on the same random batch with one thread; of_backbone is the
    median of the paired ratios, spread half the range between their quartiles.

    Raises:
        InputError: an unknown backbone or option.
    """
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            for name, (dims, task, dialogues, length) in PAPER_SIZES.items():
                torch.manual_seed(seed)
                networks = (build_backbone(backbone, dims, task.outputs, 2, options) for _ in range(2))
                bare, full = (build_method(method, "paper", (), network, task, dims)
                              for method, network in zip(("plain", "balm"), networks, strict=True))
                batch = _random_batch(dims, task, dialogues, length)
                lines = [*_parameter_lines(full), *_time_lines(bare, full, batch, repeats)]
                found += [{"dataset": name, **line} for line in lines]
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(found)


def _parameter_lines(method: Plain) -> list[dict[str, Any]]:
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    uses = {"backbone": "kept", "fcm": "kept", "heads": "training only"}
    lines = [(f"parameters of {name}", counts[name], uses[name]) for name in uses]
    lines.append(("parameters BALM adds in training", counts["fcm"] + counts["heads"], "training only"))
    lines.append(("parameters BALM adds at test", counts["fcm"], "kept"))
    return [{"quantity": name, "value": float(value), "unit": "parameters", "of_backbone": value / counts["backbone"],
             "spread": 0.0, "at_test": use, "source": "counted"} for name, value, use in lines]


def _time_lines(bare: Plain, full: Plain, batch: Batch, repeats: int) -> list[dict[str, Any]]:
    schedule = Training()
    optimizers = {id(m): make_optimizer(m, schedule) for m in (bare, full)}

    @torch.no_grad()
    def predict(method: Plain) -> None:
        method.eval()
        method(batch)

    def step(method: Plain) -> None:
        method.train()
        train_step(method, batch, optimizers[id(method)], schedule.clip)

    lines = []
    for name, work, use in (("training step", step, "training only"), ("prediction", predict, "kept")):
        for method in (bare, full):
            work(method)
        pairs = np.array([[_seconds(work, bare), _seconds(work, full)] for _ in range(repeats)])
        ratios = pairs[:, 1] / pairs[:, 0]
        low, high = np.quantile(ratios, [0.25, 0.75])
        for index, who in enumerate(("backbone", "backbone + BALM")):
            lines.append({"quantity": f"{name}, {who}", "value": statistics.median(pairs[:, index]), "unit": "seconds",
                          "of_backbone": statistics.median(ratios) if index else 1.0,
                          "spread": (high - low) / 2 if index else 0.0, "at_test": use, "source": "measured"})
    return lines


def _seconds(work: Callable[[Plain], None], method: Plain) -> float:
    start = time.perf_counter()
    work(method)
    return time.perf_counter() - start


def _random_batch(dims: dict[str, int], task: Task, dialogues: int, length: int) -> Batch:
    count = dialogues * length
    observed = torch.rand(count, len(dims)) < torch.tensor([1 - RATES[m] for m in sorted(dims)])
    features = {m: torch.randn(count, dims[m]) * observed[:, [i]] for i, m in enumerate(sorted(dims))}
    labels = torch.randint(task.outputs, (count,)) if task.kind == "classes" else torch.randn(count)
    return Batch(features, observed, labels, torch.randint(2, (count,)), make_layout([length] * dialogues))


def _method(name: str, bundle: Bundle, seed: int) -> Plain:
    torch.manual_seed(seed)
    backbone = build_backbone("mmgcn", bundle.dims, bundle.task.outputs, bundle.speakers, OPTIONS)
    return build_method(name, "paper", (), backbone, bundle.task, bundle.dims)


def _train(method: Plain, bundle: Bundle, seed: int) -> list[dict[str, torch.Tensor]]:
    """A training under the operator's masks; the series of its steps."""
    train = to_device(bundle, "train", draw(imbalanced(RATES), bundle, "train", seed), "cpu")
    optimizer = make_optimizer(method, SCHEDULE)
    steps: list[dict[str, torch.Tensor]] = []
    method.keep_series = True
    for epoch in range(SCHEDULE.epochs):
        train_epoch(method, train, optimizer, SCHEDULE, seed, epoch, steps)
    return steps


def _step_norms(scale: float, schedule: Training, seed: int, steps: int) -> np.ndarray:
    """(steps,): how far each step moves the audio encoder when its gradient is multiplied by ``scale``."""
    bundle = open_bundle(DATA)
    train = to_device(bundle, "train", draw(imbalanced(RATES), bundle, "train", seed), "cpu")
    norms = []
    with torch.random.fork_rng(devices=[]):
        method = _method("plain", bundle, seed)
        optimizer = make_optimizer(method, schedule)
        encoder = list(method.backbone.encoders["audio"].parameters())
        for step in range(steps):
            first = (step * schedule.batch) % (train.dialogues - schedule.batch)
            batch = train.batch(range(first, first + schedule.batch))
            before = [p.detach().clone() for p in encoder]
            optimizer.zero_grad()
            method.loss(batch).backward()  # type: ignore[no-untyped-call]
            torch._foreach_mul_([p.grad for p in encoder if p.grad is not None], scale)
            optimizer.step()
            moved = [(p.detach() - b).norm() for p, b in zip(encoder, before, strict=True)]
            norms.append(float(torch.stack(moved).norm()))
    return np.array(norms)


def _max_over_min(norms: np.ndarray) -> np.ndarray:
    result: np.ndarray = norms.max(axis=1) / norms.min(axis=1)
    return result


def _slope_row(where: str, condition: str, modality: str, factor: float, found: Sequence[float], note: str,
               slack: float = 0.0) -> dict[str, Any]:
    """A row of Lemma 1; found: (slope, cosine), or (slope, error, cosine, error). Both must fit."""
    slope, error, cosine, doubt = found if len(found) == 4 else (found[0], 0.0, found[1], 0.0)
    row = _row(SLOPE, f"Lemma 1; {where}", condition, modality, factor, slope, error, cosine, note, slack)
    if not 1 - cosine <= 4 * doubt + 1e-9:
        row["holds"] = "no"
    return row


def _row(claim: str, where: str, condition: str, modality: str, claimed: float, measured: float, error: float,
         cosine: float = math.nan, note: str = "", slack: float = 0.0) -> dict[str, Any]:
    holds = abs(measured - claimed) <= 4 * (0.0 if math.isnan(error) else error) + slack + 1e-9
    return dict(zip(COLUMNS, (claim, where, condition, modality, claimed, measured, error, cosine,
                              "yes" if holds else "no", note), strict=True))


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))
