"""MCULoRA's tables, and two of ours of the same form: effect of training on test data, and other readings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from mmlib.experiments import comparison, systems
from mmlib.experiments.baselines import GCNET, LINEAR
from mmlib.experiments.context import Context
from mmlib.experiments.tables import Printed, Table, fixed, fixed_data_set, main_data_set
from mmlib.papers.mculora import rows

PAPER_RUNS = {
    "mosei": 5,
    "iemocap": 1,
    rows.PAIR: 1,
}  # five repeats; five folds, which are one run here too
EQUAL = (
    "All rows of a seed and fold start from the same network, pre-trained with mixed "
    "combinations. 'Joint training' continues to train the whole network for as many "
    "epochs as the adapters are trained; MoMKE has its own two stages, each as "
    "long as its own schedule."
)
ONE_STAGE = (
    "GCNet, which the paper prints for CMU-MOSEI alone, starts from no pre-training and has one stage, of twice "
    "the epochs of its schedule, since the other rows have two stages."
)
ONE_MODEL = (
    "One model serves every condition, and one epoch is chosen for all of them, on "
    "validation with mixed combinations. The released protocol trains one model for "
    "each condition and chooses epochs on test (G2, G7)."
)
UNPRINTED = (
    "The paper reports this protocol in a supplement that is not available, so there "
    "are no published numbers. It fixes the seed to 66; here every seed has its own "
    "mask, the same for all rows."
)
TWO = "The paper has no data with two modalities; two have three combinations."
WITHOUT_MCLA = (
    "Without MCLA the whole network continues to be trained, at the learning rate of "
    "its own recipe, not at that of the adapters. DPFT then has no private "
    "and common features to compare; it compares the input of the prediction layer "
    "under a combination with its input under all modalities (our reading)."
)
LEAKING = (
    "Rows whose name begins with LEAKS use test data in training: the printed rule "
    "uses test features (F9), the released rule test labels (G1). Do not compare "
    "other results with them."
)
RELEASED = (
    "The released code trains all weights from the start (G4), without an active "
    "L_ort (G9), adds the two predictions (G10) and computes the shares from test "
    "accuracies (G1). Here it starts from the same pre-training."
)
OWN_RATE = (
    "Rows in which the network's own weights are trained have its learning rate, all others "
    "that of the adapters (docs/recipes.md)."
)


def averages(context: Context) -> str:
    """What the averages of Table 1 are over."""
    if context.own:
        count = len(rows.conditions(context, context.main))
        return f"Averages are over the {count - 1} conditions in which something is missing, or over all {count}."
    return "Averages are over six or over seven conditions; the printed column mixes the two (F16)."


def of_gcnet(note: str) -> Callable[[Context], str]:
    """A note on GCNet, of which own data have a row where CMU-MOSEI would."""
    return lambda context: "" if context.own and "mosei" not in context.datasets else note


def of_imder(context: Context) -> str:
    """What a profile reduces IMDer's sampler to."""
    size = dict(context.profile.network.get("imder", ()))
    return f"IMDer takes {size['steps']} steps of diffusion." if size and not context.own else ""


def printed(table: str) -> Printed:
    """A printed table's cells; its average goes to the average that it is (F16), or to the one over six."""

    def cells(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
        frame = comparison.published_cells(context, table, dataset, metrics)
        of_seven = frame["note"].astype(str).str.startswith("mean of 7")
        average = frame["setting"] == "average"
        setting = frame["setting"].mask(average & of_seven, rows.MEAN_ALL)
        setting = setting.mask(average & ~of_seven, rows.MEAN_MISSING)
        return frame.assign(setting=setting, runs=PAPER_RUNS[dataset])

    return cells


TABLE1 = Table(
    rows.table_rows,
    rows.protocol,
    rows.JOINT.name,
    lambda context, dataset: rows.METRICS[dataset],
    rows.own_data_sets,
    masks=rows.conditions,
    printed=printed("table1"),
    averages=rows.averages,
    notes=(
        averages,
        EQUAL,
        of_gcnet(ONE_STAGE),
        of_gcnet(GCNET),
        systems.noted,
        of_imder,
        ONE_MODEL,
    ),
)
MAIN = dataclasses.replace(
    TABLE1,
    rows=partial(rows.fitted, chosen=(rows.OURS, rows.JOINT, LINEAR)),
    protocol=rows.protocol_main,
    datasets=main_data_set,
    printed=None,
    averages=rows.compared_averages,
    settings=(rows.MEAN_MISSING, rows.WHOLE),
    notes=(EQUAL, ONE_MODEL),
)
TABLE2 = dataclasses.replace(
    TABLE1,
    rows=partial(rows.fitted, chosen=rows.ABLATION),
    baseline=rows.OURS.name,
    printed=printed("table2"),
    notes=(WITHOUT_MCLA, EQUAL, ONE_MODEL),
)
RANDOM_MISSING = Table(
    partial(rows.fitted, chosen=(*rows.MAIN, LINEAR)),
    rows.protocol,
    rows.JOINT.name,
    TABLE1.metrics,
    rows.own_data_sets,
    masks=fixed((rows.RANDOM,)),
    notes=(UNPRINTED, EQUAL),
)
PAIR = Table(
    partial(rows.fitted, chosen=(*rows.MAIN, LINEAR)),
    rows.protocol,
    rows.JOINT.name,
    TABLE1.metrics,
    fixed_data_set(rows.PAIR),
    masks=rows.conditions,
    averages=rows.averages,
    notes=(TWO, EQUAL, ONE_MODEL),
)
LEAK = Table(
    partial(rows.fitted, chosen=rows.LEAK),
    rows.protocol,
    rows.WITHOUT_DPFT.name,
    fixed(("accuracy",)),
    main_data_set,
    masks=rows.conditions,
    averages=rows.averages,
    settings=(rows.MEAN_MISSING, rows.MEAN_ALL),
    best=lambda cells: None,
    notes=(LEAKING,),
)
DEPARTURES = dataclasses.replace(
    LEAK,
    rows=partial(rows.fitted, chosen=rows.DEPARTURES),
    protocol=rows.protocol_grid,
    baseline=rows.OURS.name,
    notes=("Rows whose name begins with LEAKS use test data in training.", RELEASED, OWN_RATE),
)
