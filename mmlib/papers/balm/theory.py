"""BALM's supplement B, measured: Lemma 1, Corollary 1, Proposition 1, and what follows under Adam.

Each function holds printed claims against numbers, one row per claim. Where expectations over masks can
be enumerated they are exact; elsewhere they are Monte Carlo estimates with a standard error. A claim
holds where the number is within four standard errors of it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from scipy.stats import rankdata, spearmanr

from mmlib import files
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments.context import Cell, Context
from mmlib.fit import make_optimizer, train_epoch
from mmlib.masks import complete, draw, imbalanced, pattern_distribution, rate_bound, shared
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import to_device
from mmlib.nn.objectives import task_loss
from mmlib.papers.balm import gradients
from mmlib.report import figures
from mmlib.report.artifact import Output, csv_bytes
from mmlib.runs.spec import Training, code_without_words, numerics_version

COLUMNS = (
    "claim",
    "where",
    "condition",
    "modality",
    "claimed",
    "measured",
    "error",
    "cosine",
    "holds",
    "note",
)
DATA, LARGER_DATA = "twin:iemocap6@quick", "twin:iemocap6@study"
CHECKED = "text"  # the modality of Corollary 1
RATES = {"audio": 0.5, "text": 0.7, "vision": 0.3}
EVEN = 0.5
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
OPTIONS = (("graph", 16), ("hidden", 32))
SCHEDULE = Training(epochs=12, batch=4, lr=3e-3)
STATES = ("at the start", "at the minimum")  # of a linear classifier
SLOPE = "E[gradient] = factor x complete-data gradient"
SCALES = (0.5, 1.5)
CLIP = 6.0
Line = dict[str, Any]


def theory_table(series: pd.DataFrame, seed: int = 0, draws: int = 100) -> pd.DataFrame:
    """Every claim of supplement B with what is measured, one row each, columns ``COLUMNS``.

    series: trainings as ``modulation_series`` gives them. draws: of the Monte Carlo estimates of Lemma 1 over a
    backbone; the cheaper ones take multiples of it. Seconds on one thread.
    """
    parts = [
        lemma_holds(seed),
        lemma_masks(seed, 2 * draws),
        lemma_inputs(seed),
        lemma_backbone(seed, draws),
        corollary(seed, 10 * draws),
        scaling(seed),
        proposition(series),
    ]
    return pd.concat(parts, ignore_index=True)


def lemma_holds(seed: int = 0) -> pd.DataFrame:
    """Eq. 32 under its assumptions: independent masks, one separate loss per observed modality; exact."""
    case = gradients.small_case("separable", DATA, seed)
    return _frame(
        [
            _slope_row(
                "Eqs 28-32", "independent masks, separate losses", m, 1 - RATES[m], slope, "exact"
            )
            for m, slope in _exact(case, gradients.bernoulli(list(RATES.values()))).items()
        ]
    )


def _exact(
    case: gradients.Case, patterns: gradients.Patterns, part: str = "all"
) -> dict[str, tuple[float, float]]:
    """Modality to slope and cosine of its encoder's expected gradient and that of complete data."""
    whole, expected = (
        gradients.complete_gradients(*case),
        gradients.expected_gradients(*case, patterns),
    )
    return {m: gradients.slope_cosine(expected[m][part], whole[m][part]) for m in whole}


def lemma_masks(seed: int = 0, draws: int = 200) -> pd.DataFrame:
    """Eq. 32 with separate losses under the masks that the paper draws: availability is not 1 - r_m (A2).

    It is 1 - r_m + prod(r)/M under the operator, which gives all-missing utterances one modality, as under a
    shared rate with restoration; under the law of Eqs 1 and 3 it is (1 - r_m)/(1 - prod(r)).
    """
    case = gradients.small_case("separable", DATA, seed)
    whole, bundle = gradients.complete_gradients(*case), open_bundle(DATA)
    utterances = len(bundle.rows("train"))
    slack = rate_bound(utterances, list(RATES.values())) - math.prod(RATES.values()) / len(RATES)
    restored = f"shared rate {EVEN:g}, one modality restored"
    even = dict.fromkeys(RATES, EVEN)
    lines = []
    for name, where, rates, law, rounding in (
        ("quota operator", "Eq. 36 (A1)", RATES, imbalanced(RATES), slack),
        (restored, "Eqs 1-2", even, shared(EVEN), 0.0),
    ):
        seeds = range(seed * draws, (seed + 1) * draws)
        masks = (draw(law, bundle, "train", k).utterance for k in seeds)
        sampled = gradients.mask_gradients(*case, masks)
        for m in whole:
            slope = gradients.sampled_slope_cosine(sampled[m], whole[m]["all"])
            available = 1 - rates[m] + math.prod(rates.values()) / len(rates)
            how = f"{draws} draws"
            lines += _both(where, name, m, (1 - rates[m], available), slope, how, rounding)
    name, cut = "all-missing cut off (Eq. 3)", pattern_distribution(list(RATES.values()))
    for m, exact in _exact(case, cut).items():
        available = (1 - RATES[m]) / (1 - math.prod(RATES.values()))
        lines += _both("Eqs 2-3", name, m, (1 - RATES[m], available), exact, "exact")
    return _frame(lines)


def _both(
    where: str,
    condition: str,
    modality: str,
    factors: tuple[float, float],
    slope: Sequence[float],
    how: str,
    slack: float = 0.0,
) -> list[Line]:
    """One slope beside the printed factor and beside the modality's availability."""
    texts = ("factor 1 - r", "factor = availability")
    return [
        _slope_row(where, condition, modality, factor, slope, f"{text}; {how}", slack)
        for factor, text in zip(factors, texts, strict=True)
    ]


def lemma_inputs(seed: int = 0) -> pd.DataFrame:
    """Eq. 32 where a missing input is a zero that stays in the batch, with separate and with a joint loss; exact.

    A zero input silences an encoder's weights but not its bias. Behind a joint loss, an encoder's gradient
    depends on what else is missing.
    """
    lines = []
    for kind, where, condition in (
        ("zeros", "Eqs 16-18 (D22)", "separate losses, missing inputs as zeros"),
        ("fused", "Eqs 11-14", "one loss on joined encoders, missing inputs as zeros"),
    ):
        case = gradients.small_case(kind, DATA, seed)
        patterns = gradients.bernoulli(list(RATES.values()))
        weight, bias = (_exact(case, patterns, part) for part in ("weight", "bias"))
        for m in weight:
            for part, slope in (("weight", weight[m]), ("bias", bias[m])):
                note = f"the encoder's {part}; exact"
                lines.append(_slope_row(where, condition, m, 1 - RATES[m], slope, note))
    return _frame(lines)


def lemma_backbone(seed: int = 0, draws: int = 100) -> pd.DataFrame:
    """Eq. 32 for the encoders of MMGCN under independent masks, before and after a training; Monte Carlo."""
    bundle = open_bundle(DATA)
    everything = draw(complete(), bundle, "train", 0)
    whole_batch = to_device(bundle, "train", everything, "cpu").batch(range(8))
    generator = np.random.default_rng(seed)
    keep = 1 - np.array([RATES[m] for m in bundle.modalities])
    lines = []
    with torch.random.fork_rng(devices=[]):
        method = _method("plain", bundle, seed)
        for state in ("at the start", "after training"):
            if state == "after training":
                _train(method, bundle, seed)
            method.eval()
            loss = task_loss(bundle.task, method(whole_batch).logits, whole_batch.labels)
            whole = gradients.encoder_gradients(method.backbone, loss)
            masks = (generator.random((len(whole_batch), len(keep))) < keep for _ in range(draws))
            sampled = gradients.backbone_gradients(method, whole_batch, masks)
            for m in method.modalities:
                slope = gradients.sampled_slope_cosine(sampled[m], whole[m]["all"])
                condition, note = f"MMGCN {state}, independent masks", f"{draws} draws"
                lines.append(_slope_row("Eqs 11-14", condition, m, 1 - RATES[m], slope, note))
    return _frame(lines)


def norm_ratios(seed: int = 0, draws: int = 1000, modality: str = CHECKED) -> pd.DataFrame:
    """Corollary 1's ratio against the batch size, for a linear classifier at its start and at its minimum.

    Columns modality, state, batch, ratio, error, square_ratio (closed form), keep (1 - r), root (sqrt(1 - r)).
    """
    rate = RATES[modality]
    lines = []
    for state in STATES:
        each = gradients.per_sample_gradients(LARGER_DATA, modality, state == STATES[1])
        for batch in BATCHES:
            ratio, error = gradients.norm_ratio(each, rate, batch, draws, seed)
            square = gradients.square_ratio(each, rate, batch)
            lines.append(
                (modality, state, batch, ratio, error, square, 1 - rate, math.sqrt(1 - rate))
            )
    columns = ["modality", "state", "batch", "ratio", "error", "square_ratio", "keep", "root"]
    return pd.DataFrame(lines, columns=columns)


def corollary(seed: int = 0, draws: int = 1000, modality: str = CHECKED) -> pd.DataFrame:
    """Eq. 33 against the batch size, and the step to it from Eq. 32.

    It holds for single utterances. A batch's noise shrinks by sqrt(1 - r), as its mean does by 1 - r, and the
    norm of the expectation (what Eq. 32 gives) is below the expectation of the norm (what Eq. 33 says).
    """

    def row(claim: str, where: str, line: dict[Any, Any], note: str) -> Line:
        condition = f"classifier {line['state']}, batch of {line['batch']}"
        numbers = line["claimed"], line["measured"], line["error"]
        return _row(claim, where, condition, modality, *numbers, note=note)

    ratios = norm_ratios(seed, draws, modality).rename(columns={"ratio": "measured"})
    lines = [
        row("E||gradient|| ratio = 1 - r", "Eq. 33", line, f"{draws} batches")
        for line in ratios.assign(claimed=ratios["keep"]).to_dict("records")
    ]
    last = ratios.iloc[-1].to_dict()
    last["claimed"] = last["root"]
    claim, note = "E||gradient|| ratio = sqrt(1 - r)", "the limit where noise dominates"
    lines.append(row(claim, "ours", last, note))
    claim, note = "||E gradient|| / E||gradient|| = 1", "'taking the L2 norm' needs it"
    for state in STATES:
        each = gradients.per_sample_gradients(LARGER_DATA, modality, state == STATES[1])
        share, error = gradients.norm_of_mean(each, RATES[modality], 16, draws, seed)
        line = {"state": state, "batch": 16, "claimed": 1.0, "measured": share, "error": error}
        lines.append(row(claim, "Eq. 32 to Eq. 33", line, note))
    return _frame(lines)


def scaling(seed: int = 0, steps: int = 8) -> pd.DataFrame:
    """A constant factor on an encoder's gradient: Eq. 22's step under SGD, and under Adam as in the experiments (A10).

    MMGCN trained from one state on the same batches with the audio encoder's gradient scaled; the ratio of the
    encoder's mean step to that without the factor.
    """
    lines = []
    for name, optimizer, lr, decay, note in (
        ("SGD", "sgd", 1e-3, 0.0, ""),
        ("Adam", "adam", 3e-4, 0.0, "eps 1e-8"),
        ("Adam", "adam", 3e-4, 3e-5, "eps 1e-8, weight decay 3e-5"),
    ):
        schedule = Training(epochs=1, batch=4, lr=lr, weight_decay=decay, optimizer=optimizer)
        norms = {scale: _step_norms(scale, schedule, seed, steps) for scale in (1.0, *SCALES)}
        condition = f"{name}, {steps} steps of MMGCN"
        for scale in SCALES:
            ratio = norms[scale] / norms[1.0]
            measured = float(ratio.mean()), float(ratio.std(ddof=1) / math.sqrt(steps))
            for where, claimed, text in (
                ("Eq. 22", scale, "scales the step by mu"),
                ("ours (A10)", 1.0, "leaves the step as it is"),
            ):
                claim = f"a constant mu = {scale:g} {text}"
                lines.append(
                    _row(
                        claim, where, condition, "audio", claimed, *measured, note=note, slack=0.01
                    )
                )
    return _frame(lines)


def modulation_series(seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """BALM as printed on MMGCN, step by step.

    Columns seed, step, modality, rate, mu, norm: the coefficient (with rho) and the encoder's gradient norm
    before it is modulated. The first step's coefficient is of another kind (Eq. 20) and left out.
    """
    bundle = open_bundle(DATA)
    lines = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            method = _method("balm", bundle, seed)
            steps = _train(method, bundle, seed)
        for step, series in enumerate(steps[1:], start=1):
            for i, m in enumerate(method.modalities):
                mu, norm = float(series["mu"][i]), float(series["gradient_norm"][i])
                lines.append((seed, step, m, RATES[m], mu, norm))
    return pd.DataFrame(lines, columns=["seed", "step", "modality", "rate", "mu", "norm"])


PROPOSED = (  # claim, where, claimed value, what of a step says it, note, and how steps become one value
    (
        "c sums to M - 1 (deviation 0)",
        "Eq. 21 (A8)",
        0.0,
        "sum",
        "relative to the largest c",
        "mean",
    ),
    (
        "no c is negative (share 0)",
        "Eqs 21, 34 (A8)",
        0.0,
        "negative",
        "turns descent into ascent",
        "mean",
    ),
    (
        "no |c| exceeds 10 (share 0)",
        "Eqs 21, 34 (A8)",
        0.0,
        "large",
        "share of all coefficients",
        "mean",
    ),
    (
        "mu rises with 1/(1 - r) (rank correlation 1)",
        "B.1",
        1.0,
        "inverse",
        "mean over steps; 0 by chance",
        "mean",
    ),
    ("mu is ordered as 1/(1 - r) (share of steps 1)", "B.1", 1.0, "order", "1/6 by chance", "mean"),
    (
        "gradient norms fall with r (rank correlation 1)",
        "Eq. 33",
        1.0,
        "availability",
        "mean over steps",
        "mean",
    ),
    ("largest / smallest norm = 1 after", "Eq. 35", 1.0, "after", "median over steps", "median"),
    (
        "largest / smallest norm = 1 before",
        "to compare",
        1.0,
        "before",
        "median over steps",
        "median",
    ),
)
EVERY_STEP = {
    "sum": 1e-3,
    "negative": 0.0,
    "large": 0.0,
}  # one step further off than this falsifies the claim


def proposition(series: pd.DataFrame, rho: float = 1.4) -> pd.DataFrame:
    """Eqs 21, 34 and 35 over a training: what the coefficients are, and whether they even the gradients out.

    series: from ``modulation_series``. Errors are standard errors over its seeds.
    """
    steps = _of_steps(series, rho)
    seeds = series["seed"].nunique()
    condition = f"MMGCN + BALM, {seeds} trainings, {len(steps)} steps"
    lines = []
    for claim, where, claimed, name, note, how in PROPOSED:
        per_seed = steps.groupby(level="seed")[name].agg(how)
        error = float(per_seed.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan
        measured = float(per_seed.mean())
        line = _row(claim, where, condition, "all", claimed, measured, error, note=note)
        if name in EVERY_STEP:
            line["holds"] = "yes" if steps[name].max() <= claimed + EVERY_STEP[name] else "no"
        lines.append(line)
    return _frame(lines)


def _of_steps(series: pd.DataFrame, rho: float) -> pd.DataFrame:
    """By (seed, step): what ``PROPOSED`` asks of the coefficients and of the gradients' norms."""
    wide = series.pivot(index=["seed", "step"], columns="modality", values=["mu", "norm"])
    c, before = wide["mu"].to_numpy() / rho, wide["norm"].to_numpy()
    rates = series.groupby("modality")["rate"].first().to_numpy()
    rank = rankdata(1 / (1 - rates))
    largest = np.abs(c).max(axis=1)
    steps = {
        "sum": np.abs(c.sum(axis=1) - (len(rates) - 1)) / np.maximum(1, largest),
        "negative": (c < 0).mean(axis=1),
        "large": (np.abs(c) > 10).mean(axis=1),
        "inverse": [spearmanr(mu, rank).statistic for mu in c],
        "order": (rankdata(c, axis=1) == rank).all(axis=1),
        "availability": [spearmanr(norm, -rank).statistic for norm in before],
        "before": _max_over_min(before),
        "after": _max_over_min(np.abs(c) * before),
    }
    return pd.DataFrame(steps, index=wide.index)


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


def _slope_row(
    where: str,
    condition: str,
    modality: str,
    factor: float,
    slope: Sequence[float],
    note: str,
    slack: float = 0.0,
) -> Line:
    """A row of Lemma 1; slope: (slope, cosine), or (slope, error, cosine, error). Both must fit."""
    value, error, cosine, doubt = slope if len(slope) == 4 else (slope[0], 0.0, slope[1], 0.0)
    place = f"Lemma 1; {where}"
    row = _row(SLOPE, place, condition, modality, factor, value, error, cosine, note, slack)
    if not 1 - cosine <= 4 * doubt + 1e-9:
        row["holds"] = "no"
    return row


def _row(
    claim: str,
    where: str,
    condition: str,
    modality: str,
    claimed: float,
    measured: float,
    error: float,
    cosine: float = math.nan,
    note: str = "",
    slack: float = 0.0,
) -> Line:
    within = 4 * (0.0 if math.isnan(error) else error) + slack + 1e-9
    holds = "yes" if abs(measured - claimed) <= within else "no"
    values = (claim, where, condition, modality, claimed, measured, error, cosine, holds, note)
    return dict(zip(COLUMNS, values, strict=True))


def _frame(rows: Sequence[Line]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def theory(context: Context, cells: Sequence[Cell]) -> Output:
    """Lemma 1, Corollary 1 and Proposition 1: each claim, its condition, the claimed and the measured value."""
    trained = functools.cache(modulation_series)  # both frames are about these trainings
    table = kept(context, "theory", lambda: theory_table(trained()))
    ratios = kept(context, "ratio", norm_ratios)
    coefficients = kept(context, "coefficients", trained)
    figure, axes = figures.panel_grid(2, columns=2, height=2.6)
    draw_norm_ratio(axes[0], ratios)
    draw_coefficients(axes[1], coefficients)
    meant = table["modality"].isin(["text", "all"]) | table["claim"].str.startswith("a constant")
    few = ~table["condition"].str.contains("batch of (?:2|4|8|32|64)$")
    held = int(table["holds"].eq("yes").sum())
    notes = (
        f"{held} of {len(table)} measured values agree with the supplement within four "
        "standard errors. Each row names its condition.",
        "Measured on twins and small networks with fixed seeds. 'error' is the standard error of 'measured'.",
        "Only the rows of text and three batch sizes are shown; the numbers file has all.",
        f"Right panel: coefficients larger than {CLIP} in magnitude are counted in the outermost bars.",
    )
    return Output(text(table[meant & few]), figure, table, len(table), notes)


def draw_norm_ratio(axis: Axes, ratios: pd.DataFrame) -> None:
    """Corollary 1 (Eq. 33): E||gradient|| over its complete-data value, against the batch size."""
    batches = sorted(ratios["batch"].unique())
    curves = {
        str(state): group.set_index("batch")["ratio"].loc[batches].to_numpy()
        for state, group in ratios.groupby("state", sort=False)
    }
    figures.lines(
        axis,
        range(len(batches)),
        curves,
        xlabel="utterances in a batch",
        ylabel="ratio of expected norms",
        title=f"Corollary 1, {CHECKED} missing in {100 * RATES[CHECKED]:.0f} %",
    )
    axis.set_xticks(range(len(batches)), [str(b) for b in batches])
    first, last = axis.get_xlim()
    beside = {"right": (-2, 2), "left": (3, -3)}  # points
    for column, name, x, sides in (
        ("keep", "1 - r (Eq. 33)", last, ("right", "bottom")),
        ("root", "sqrt(1 - r), pure noise", first, ("left", "top")),
    ):
        value = ratios[column].iloc[0]
        axis.axhline(value, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        axis.annotate(
            name,
            (x, value),
            beside[sides[0]],
            textcoords="offset points",
            fontsize=7,
            ha=sides[0],
            va=sides[1],
        )


def draw_coefficients(axis: Axes, series: pd.DataFrame) -> None:
    """mu of Eq. 21 over a training, per modality."""
    clipped = {
        str(m): group["mu"].clip(-CLIP, CLIP).to_numpy() for m, group in series.groupby("modality")
    }
    figures.histogram(
        axis,
        clipped,
        bins=40,
        xlabel="coefficient mu (with rho)",
        ylabel="steps",
        title="Coefficients in training",
    )
    axis.axvline(0, color="black", linewidth=0.8)


def kept(
    context: Context,
    name: str,
    make: Callable[[], pd.DataFrame],
    modules: Sequence[str] = ("theory", "gradients"),
) -> pd.DataFrame:
    """A frame that takes seconds to make, kept beside the runs under the hash of the code that makes it."""
    folder = Path(__file__).parent
    code = "".join(code_without_words((folder / f"{m}.py").read_text("utf-8")) for m in modules)
    version = numerics_version("balm", context.backbone)
    digest = hashlib.sha256((code + version).encode()).hexdigest()[:16]
    path = context.store.folder / "frames" / f"{name}-{digest}.csv"
    if not path.exists():
        files.write(path, csv_bytes(make()))
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def text(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers with four significant digits, counts in full; an empty cell where there is none."""

    def cell(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "" if math.isnan(value) else f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"

    return table.map(cell)
