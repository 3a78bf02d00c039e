"""The linear row against scikit-learn's own pipeline, under masks, on frames, and with its strength on validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.errors import InputError
from mmlib.methods import build_method
from mmlib.methods.linear import solve
from mmlib.nn.frames import time_mean
from mmlib.runs.execute import Outcome, execute
from mmlib.runs.spec import RunSpec, Training

Toy = Callable[..., Bundle]
EPOCHS = 7
STRENGTHS = [10.0**power for power in range(-4, 3)]
RATE = {"audio": 0.5, "text": 0.3, "vision": 0.6}


def run(bundle: Bundle, folder: Path, law: masks.Law | None = None) -> Outcome:
    save_bundle(bundle, folder / "mine")
    law = law or masks.complete()
    spec = RunSpec(
        str(folder / "mine"),
        0,
        "linear",
        "paper",
        backbone="linear",
        train_mask=law,
        eval_masks=(("same", law),),
        training=Training(EPOCHS, 10**6, lr=0.1, weight_decay=0.1),
    )
    return execute(spec)


def inputs(bundle: Bundle, law: masks.Law) -> dict[str, np.ndarray]:
    """By split, standardised over the observed rows of train, zeros and an indicator where missing."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    rows = {split: bundle.rows(split) for split in parts}
    seen = {split: masks.draw(law, bundle, split, 0).utterance for split in parts}
    for index, m in enumerate(bundle.modalities):
        features = bundle.features[m].astype(float)
        scaler = StandardScaler().fit(features[rows["train"]][seen["train"][:, index]])
        for split, of_split in parts.items():
            there = seen[split][:, [index]]
            scaled = scaler.transform(features[rows[split]])
            of_split.append(np.hstack([np.where(there, scaled, 0.0), there]))
    return {split: np.hstack(of_split) for split, of_split in parts.items()}


@pytest.mark.parametrize("law", [masks.complete(), masks.imbalanced(RATE)])
def test_classes_are_those_of_logistic_regression_with_the_strength_that_validation_picks(
    toy: Toy, tmp_path: Path, law: masks.Law
) -> None:
    bundle = toy()
    outcome = run(bundle, tmp_path, law)
    found = inputs(bundle, law)
    labels = {split: bundle.labels[bundle.rows(split)] for split in found}
    models = [
        LogisticRegression(C=c, max_iter=5000).fit(found["train"], labels["train"])
        for c in STRENGTHS
    ]
    picked = outcome.record["selected"]["valid"]["epoch"]["same"]
    curve = outcome.record["curves"]["valid"]["weighted_f1"]
    assert picked == int(np.argmax(curve))
    accuracies = [100 * m.score(found["valid"], labels["valid"]) for m in models]
    assert outcome.record["curves"]["valid"]["accuracy"] == pytest.approx(accuracies)
    logits = torch.as_tensor(outcome.arrays["predictions.valid.same"]).softmax(dim=1)
    assert logits.numpy() == pytest.approx(models[picked].predict_proba(found["test"]), abs=1e-4)


def test_scores_are_those_of_ridge_regression(toy: Toy, tmp_path: Path) -> None:
    bundle = toy(task=Task("score", range=(-3.0, 3.0)))
    outcome = run(bundle, tmp_path)
    found = inputs(bundle, masks.complete())
    weakest = Ridge(alpha=1 / STRENGTHS[-1]).fit(
        found["train"], bundle.labels[bundle.rows("train")]
    )
    expected = weakest.predict(found["test"])
    assert outcome.arrays["predictions.last.same"][:, 0] == pytest.approx(expected, abs=1e-4)


def test_each_of_several_questions_has_a_model_of_its_own(toy: Toy, tmp_path: Path) -> None:
    bundle = toy(task=Task("binaries", ("a", "b", "c")))
    outcome = run(bundle, tmp_path)
    found = inputs(bundle, masks.complete())
    answers = bundle.labels[bundle.rows("train")]
    model = LogisticRegression(C=STRENGTHS[-1], max_iter=5000).fit(found["train"], answers[:, 1])
    logits = outcome.arrays["predictions.last.same"]
    odds = logits[:, 3] - logits[:, 2]
    assert odds == pytest.approx(model.decision_function(found["test"]), rel=2e-2, abs=2e-2)


def test_frames_count_by_the_mean_of_those_that_are_there() -> None:
    values = torch.tensor([[[2.0, 4.0], [4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]] * 3])
    assert time_mean(values).tolist() == [[3.0, 2.0], [0.0, 0.0]]


def test_a_class_that_training_lacks_is_never_given() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(40, 3))
    for answers in ([0, 3], [0, 1, 3], [2]):
        labels = random.choice(answers, 40)
        weight, bias = solve("classes", rows, labels, 1.0, 4)
        given = (10 * rows @ weight.T + bias).argmax(axis=1)
        assert set(given) <= set(answers)


def test_another_network_is_refused(toy: Toy) -> None:
    bundle = toy()
    net = build_backbone("mlp", bundle.dims, 3, 1)
    with pytest.raises(InputError, match="backbone MLP"):
        build_method("linear", "paper", (), net, bundle.task, bundle.dims)
