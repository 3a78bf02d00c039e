"""Random test masks that are drawn several times for one trained model, and what test clusters count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from mmlib.data.catalog import open_bundle, open_twin
from mmlib.errors import InputError
from mmlib.experiments.profiles import PROFILES
from mmlib.fit import evaluation_batches, predict
from mmlib.masks import Law, complete, draw, frames, imbalanced, patterns, random_missing, subset
from mmlib.metrics import all_metrics, decisions
from mmlib.nn.batch import to_device
from mmlib.papers.catalog import PAPERS
from mmlib.runs import clusters
from mmlib.runs.clusters import Clusters
from mmlib.runs.execute import build, execute
from mmlib.runs.expected import NAME
from mmlib.runs.results import draw_seed
from mmlib.runs.spec import RunSpec, Training, spec_from_json

DRAWS = 5
SHARED: Law = random_missing(0.5)
FIXED: Law = subset(["text"])
RATES = imbalanced({"audio": 0.5, "text": 0.7, "vision": 0.3})
NOTHING = imbalanced({"audio": 0.0, "text": 0.0, "vision": 0.0})
TESTS = (("same", RATES), ("random", SHARED), ("text", FIXED), ("none", NOTHING))


def run(data: str = "twin:iemocap6@smoke", draws: int = DRAWS, **fields: object) -> RunSpec:
    given = {"eval_masks": TESTS, "training": Training(3, 8, 1e-2), **fields}
    return RunSpec(data, 3, backbone="mlp", draws=draws, **given)  # type: ignore[arg-type]


def under(spec: RunSpec, weights: dict[str, np.ndarray], law: Law, number: int) -> np.ndarray:
    """The outputs of a trained model on a test mask drawn by hand."""
    bundle = open_bundle(spec.data)
    method = build(spec, bundle)
    method.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    mask = draw(law, bundle, "test", 3 + number * 2**32)
    return predict(method, evaluation_batches(to_device(bundle, "test", mask, "cpu")))[""].numpy()


@pytest.mark.parametrize("data", ["twin:iemocap6@smoke", "twin:mosei@smoke"])
@pytest.mark.parametrize("keep", [("last",), ("last", "picked")], ids=["followed", "picked"])
def test_a_metric_is_the_mean_over_the_draws_of_its_mask(data: str, keep: tuple[str, ...]) -> None:
    spec = run(data, keep=keep)
    outcome = execute(spec)
    prefix = "weights."
    weights = {n.removeprefix(prefix): x for n, x in outcome.arrays.items() if n.startswith(prefix)}
    bundle = open_bundle(data)
    labels = bundle.labels[bundle.rows("test")]
    selected = outcome.record["selected"]["last"]["metrics"]
    for name, law in TESTS:
        numbers = range(DRAWS) if name in ("same", "random") else range(1)
        each = [
            all_metrics(bundle.task, under(spec, weights, law, number), labels)
            for number in numbers
        ]
        if len(each) > 1:
            assert len({metrics["accuracy"] for metrics in each}) > 1
        for metric in each[0]:
            wanted = np.mean([metrics[metric] for metrics in each])
            assert selected[name][metric] == pytest.approx(wanted, rel=1e-5), (name, metric)


def test_further_draws_change_neither_the_training_nor_what_is_of_the_first_draw() -> None:
    one, several = execute(run(draws=1)), execute(run())
    assert one.record["curves"] == several.record["curves"]
    for part in ("epoch", "epochs"):
        assert one.record["selected"]["valid"][part] == several.record["selected"]["valid"][part]
    assert one.record["selected"]["test"] == several.record["selected"]["test"]
    for name in one.arrays:
        if not name.startswith("clusters."):
            assert np.array_equal(one.arrays[name], several.arrays[name]), name
    first, mean = (x.record["selected"]["valid"]["metrics"] for x in (one, several))
    assert first["text"] == mean["text"] and first["none"] == mean["none"]
    assert first["same"] != mean["same"] and first["random"] != mean["random"]


def test_expected_accuracy_is_the_mean_over_draws_too() -> None:
    outcome = execute(run(training=Training(1, 8, 1e-2), keep=("last",)))
    prefix = "weights."
    weights = {n.removeprefix(prefix): x for n, x in outcome.arrays.items() if n.startswith(prefix)}
    twin = open_twin("twin:iemocap6@smoke")
    each = []
    for number in range(DRAWS):
        mask = draw(RATES, twin.bundle, "test", 3 + number * 2**32)
        mass = twin.bayes("test", mask.utterance)
        given = under(run(), weights, RATES, number).argmax(axis=1)
        each.append(100 * mass[np.arange(len(given)), given].mean())
    measured = outcome.record["selected"]["valid"]["metrics"]["same"][NAME]
    assert measured == pytest.approx(np.mean(each))
    sums = outcome.arrays[clusters.array_name(NAME, "same")].astype(float)
    assert clusters.value(NAME, sums.sum(axis=0)) == pytest.approx(measured, rel=1e-5)


def test_one_draw_is_the_run_of_before_and_several_are_another() -> None:
    assert "draws" not in run(draws=1).to_json()
    assert run(draws=2).to_json()["draws"] == 2
    for spec in (run(draws=1), run(draws=2)):
        assert spec_from_json(spec.to_json()) == spec
    assert len({run(draws=n).key("print") for n in (1, 2, 20)}) == 3
    with pytest.raises(InputError, match="draws"):
        run(draws=0)


def test_draws_have_seeds_of_their_own() -> None:
    seeds = [draw_seed(RunSpec("x", seed), n) for seed in range(100) for n in range(20)]
    assert len(set(seeds)) == len(seeds) and draw_seed(RunSpec("x", 7), 0) == 7


def test_only_runs_with_random_test_masks_are_drawn_often() -> None:
    context = PAPERS["balm"].context("laptop")
    wanted = PROFILES["laptop"].draws
    assert wanted == 20 and PROFILES["quick"].draws == PROFILES["paper"].draws == 1
    laws = {"random": [SHARED, RATES, frames(0.3), patterns()], "fixed": [FIXED, complete()]}
    assert {context.draws([("t", law)]) for law in laws["random"]} == {wanted}
    assert {context.draws([("t", law)]) for law in laws["fixed"]} == {1}


@pytest.mark.parametrize(
    "data",
    [
        "twin:iemocap6@smoke",
        "twin:mosei@smoke",
        "twin:iemocap4-frames@smoke",
        "twin:iemocap4@smoke",
    ],
)
def test_what_clusters_count_gives_the_metrics_again(data: str) -> None:
    tests = (("test", complete()),)
    network = {"backbone": "momke_frames" if "frames" in data else "mlp"}
    spec = RunSpec(data, 0, eval_masks=tests, training=Training(2, 8, 1e-2), **network)  # type: ignore[arg-type]
    if "iemocap4@" in data:
        spec = RunSpec(**{**spec.__dict__, "fold": 1})
    outcome = execute(spec)
    metrics = outcome.record["selected"]["valid"]["metrics"]["test"]
    single = [value for name, value in metrics.items() if name.startswith("f1_")]
    wanted = metrics | {clusters.MEAN_F1: np.mean(single or [0.0])}
    counted = clusters.counted(open_bundle(data).task)
    assert (clusters.MEAN_F1 in counted) == ("frames" in data)
    for metric in counted:
        sums = outcome.arrays[clusters.array_name(metric, "test")]
        whole = sums.sum(axis=0, dtype=float)
        assert clusters.value(metric, whole) == pytest.approx(wanted[metric])


def test_confusions_and_their_metrics_equal_scikit_learn_s() -> None:
    """Two outputs of sixty utterances in seven clusters, of which one class does not occur in every cluster."""
    bundle = open_bundle("twin:iemocap6@smoke")
    task, random = bundle.task, np.random.default_rng(0)
    labels, groups = random.integers(0, 6, 60), random.integers(0, 7, 60)
    outputs = [random.normal(size=(60, 6)) for _ in range(2)]
    counts = clusters.of_outputs(
        "accuracy", task, outputs, labels, Clusters("dialogues", groups, 8)
    )
    assert len(counts) == 8 and not counts[7].any()
    truth = np.concatenate([decisions(task, x, labels)[0] for x in outputs])
    guess = np.concatenate([decisions(task, x, labels)[1] for x in outputs])
    twice = np.concatenate([groups, groups])
    for group in range(7):
        here = twice == group
        wanted = confusion_matrix(truth[here], guess[here], labels=range(6))
        assert np.array_equal(counts[group], wanted)
    whole = counts.sum(axis=0, dtype=float)
    assert clusters.value("accuracy", whole) == pytest.approx(100 * accuracy_score(truth, guess))
    wanted_f1 = 100 * f1_score(truth, guess, average="weighted")
    assert clusters.value("weighted_f1", whole) == pytest.approx(wanted_f1)


def test_test_clusters_are_dialogues_else_speakers_else_utterances() -> None:
    assert clusters.of_test(open_bundle("twin:iemocap6@smoke")).kind == "dialogues"
    assert clusters.of_test(open_bundle("crema-d-votes")).kind == "speakers"
    assert clusters.of_test(open_bundle("twin:ave@smoke")).kind == "utterances"
