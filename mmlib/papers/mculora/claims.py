"""MCULoRA's sentences, each with its test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mmlib.experiments import stages
from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.papers.mculora import ours, runs
from mmlib.papers.mculora.figures import averaged, curves, short
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

POINTS = "points of accuracy"
NETWORK = "crossmodal"
COMPARED = (*runs.main_rows(), *runs.ablation_rows())


def claim_specs(context: Context) -> list[RunSpec]:
    """Every run that a claim reads."""
    found = [c for d in context.datasets for c in runs.cells(context, d, dict.fromkeys(COMPARED))]
    found += runs.cells(context, context.main, [runs.rank_rows(context)[0], runs.rank_rows(context)[-1]], grid=True)
    leak = runs.cells(context, context.main, runs.leak_rows())
    return list(dict.fromkeys([*stages.specs_of([*found, *leak]), *ours.probed_specs(context)]))


def claims(context: Context) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    found = [c for d in context.datasets for c in _results(context, d)] + _rank(context) + _leak(context)
    found += _conflict(context)
    ids = tuple(s.run_id(context.bundle_fingerprint(s.data)) for s in claim_specs(context))
    return table(found, POINTS, (
        "Where the paper compares with other networks, this compares with MoMKE and with joint training of the same "
        "network, both trained for as long.", *data_notes(context, context.datasets)), ids)


def _minus(found: Values, first: str, second: str, setting: str) -> np.ndarray:
    return minus(found, first, second, setting).to_numpy()


def _results(context: Context, dataset: str) -> list[Claim]:
    name, measured = shown(context, dataset), values(averaged(context, dataset, list(dict.fromkeys(COMPARED))))
    conditions, full = runs.conditions(context, dataset), runs.OURS.name
    found = []
    pairs = [(runs.MOMKE.name, setting) for setting in (*conditions, runs.MEAN_ALL)]
    for other, setting in (*pairs, (runs.JOINT.name, runs.MEAN_ALL)):
        label = f"under {short(setting)}" if setting in conditions else "on average"
        found.append(Claim(f"better {label}", "4.3, Table 1", name, NETWORK, f"MCULoRA minus {other}", POINTS,
                           _minus(measured, full, other, setting)))
    weak = [c for c in conditions if "text" not in c.split("+")]
    strong = [c for c in conditions[:-1] if c not in weak]
    if weak and strong:
        gains = pd.DataFrame({c: minus(measured, full, runs.MOMKE.name, c) for c in (*weak, *strong)}).dropna()
        found.append(Claim("weak combinations gain most", "4.3", name, NETWORK,
                           "gain over MoMKE without text minus gain with text", POINTS,
                           (gains[weak].mean(axis=1) - gains[strong].mean(axis=1)).to_numpy()))
    for row, part in ((runs.WITHOUT_MCLA, "MCLA"), (runs.WITHOUT_DPFT, "DPFT")):
        found.append(Claim(f"{part} is needed", "4.4, Table 2", name, NETWORK, f"MCULoRA minus {row.name}", POINTS,
                           _minus(measured, full, row.name, runs.MEAN_ALL)))
    found.append(Claim("without DPFT the decline is more pronounced than without MCLA (Table 2 says the reverse, F17)",
                       "4.4", name, NETWORK, "w/o MCLA minus w/o DPFT", POINTS,
                       _minus(measured, runs.WITHOUT_MCLA.name, runs.WITHOUT_DPFT.name, runs.MEAN_ALL)))
    rough = {row.name: _roughness(curves(context, dataset, row)) for row in (runs.OURS, runs.MOMKE, runs.JOINT)}
    for other in (runs.MOMKE.name, runs.JOINT.name):
        found.append(Claim("training progresses more smoothly", "4.4, Fig 4", name, NETWORK,
                           f"mean absolute step between epochs, {other} minus MCULoRA", POINTS,
                           (rough[other] - rough[full]).dropna().to_numpy()))
    return found


def _roughness(found: Mapping[str, pd.DataFrame]) -> pd.Series:
    """By seed: the mean absolute change of test accuracy from epoch to epoch, over the seven combinations."""
    parts = [values.diff(axis=1).abs().mean(axis=1) for name, values in found.items() if name != runs.RANDOM]
    return pd.concat(parts, axis=1).mean(axis=1, skipna=False) if parts else pd.Series(dtype=float)


def _rank(context: Context) -> list[Claim]:
    rows = [runs.rank_rows(context)[0], runs.rank_rows(context)[-1]]
    measured = values(averaged(context, context.main, rows, grid=True))
    full = runs.conditions(context, context.main)[-1]
    low, high = rows[0].name, rows[-1].name
    gain, whole = (_minus(measured, high, low, s) for s in (runs.MEAN_MISSING, full))
    name = shown(context, context.main)
    return [Claim("a higher rank helps where modalities are missing", "4.4, Fig 3", name, NETWORK,
                  f"{high} minus {low}, missing conditions", POINTS, gain),
            Claim("... and little where all are present", "4.4, Fig 3", name, NETWORK,
                  f"{high} minus {low}: gain with missing minus gain with all", POINTS, gain - whole)]


def _leak(context: Context) -> list[Claim]:
    measured = values(averaged(context, context.main, runs.leak_rows()))
    name, rows = shown(context, context.main), runs.leak_rows()
    return [Claim(f"(ours) {row.name}: looking at test pays", "ledger F9, G1", name, NETWORK,
                  f"against {runs.OURS.name}, whose rule sees train alone", POINTS,
                  _minus(measured, row.name, runs.OURS.name, runs.MEAN_ALL)) for row in rows[3:]]


def _conflict(context: Context) -> list[Claim]:
    name = shown(context, context.main)
    joint, adapted = (ours.conflicts(context, ours.PROBED[n]) for n in (ours.WITHOUT, ours.WITH))
    means = [pd.Series({seed: np.nanmean(ours.off_diagonal(c)) for seed, c in found.items()}, dtype=float)
             for found in (joint, adapted)]
    return [Claim("gradients of different combinations conflict", "abstract, 1", name, NETWORK,
                  "minus the mean cosine on shared weights, joint training", "cosine", -means[0].to_numpy()),
            Claim("MCLA removes conflict", "abstract, 1", name, NETWORK,
                  "mean cosine on shared weights, with MCLA minus joint training", "cosine",
                  (means[1] - means[0]).dropna().to_numpy())]
