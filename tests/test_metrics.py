"""Metrics against hand computation and the formulas written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mmlib import metrics
from mmlib.data.bundle import Task

TRUTH, GUESS = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
LETTERS = Task("classes", ("a", "b", "c"))
SCORE = Task("score", range=(-3.0, 3.0))


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    table = np.zeros((classes, classes))
    for t, g in zip(truth, guess, strict=True):
        table[t, g] += 1
    return table


def one_hot(guess: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[guess]


def test_accuracy_recall_and_f1_by_hand() -> None:
    # Class F1s: 4/5, 1/2, 2/3 with 3, 2 and 1 of the truth; recalls 2/3, 1/2, 1.
    assert metrics.accuracy(TRUTH, GUESS) == pytest.approx(100 * 4 / 6)
    assert metrics.per_class_f1(TRUTH, GUESS, 3) == pytest.approx([80, 50, 100 * 2 / 3])
    assert metrics.weighted_f1(TRUTH, GUESS) == pytest.approx(100 * (3 * 0.8 + 2 * 0.5 + 2 / 3) / 6)
    assert metrics.macro_recall(TRUTH, GUESS) == pytest.approx(100 * (2 / 3 + 1 / 2 + 1) / 3)


def test_class_metrics_equal_the_confusion_tables_formulas() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        classes, n = int(random.integers(2, 7)), int(random.integers(1, 40))
        truth, guess = random.integers(0, classes, n), random.integers(0, classes, n)
        table = confusion(truth, guess, classes)
        hits, support, guessed = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        f1 = np.divide(
            2 * hits, support + guessed, out=np.zeros(classes), where=support + guessed > 0
        )
        assert metrics.accuracy(truth, guess) == pytest.approx(100 * hits.sum() / n)
        assert metrics.per_class_f1(truth, guess, classes) == pytest.approx(100 * f1)
        assert metrics.weighted_f1(truth, guess) == pytest.approx(100 * (f1 * support).sum() / n)
        occurs = support > 0
        assert metrics.macro_recall(truth, guess) == pytest.approx(
            100 * (hits[occurs] / support[occurs]).mean()
        )


def test_accuracy_and_weighted_f1_are_scikit_learns_to_the_last_bit() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        classes, n = int(random.integers(1, 30)), int(random.integers(1, 300))
        truth = random.choice(classes, n, p=random.dirichlet(np.full(classes, 0.3)))
        guess = np.where(random.random(n) < random.random(), truth, random.integers(0, classes, n))
        assert metrics.accuracy(truth, guess) == 100 * float(accuracy_score(truth, guess))
        assert metrics.weighted_f1(truth, guess) == 100 * float(
            f1_score(truth, guess, average="weighted", zero_division=0.0)
        )


def test_a_class_that_only_guesses_name_costs_no_recall_of_its_own() -> None:
    assert metrics.macro_recall(np.array([0, 0, 1]), np.array([0, 2, 1])) == pytest.approx(
        100 * (1 / 2 + 1) / 2
    )


def test_binary_f1_weighs_yes_and_no_by_their_shares() -> None:
    truth, guess = (
        np.array([[1, 0], [0, 0], [0, 1], [0, 1]]),
        np.array([[1, 0], [1, 0], [0, 1], [0, 0]]),
    )
    # First column: yes 2/3 (one of four), no 4/5 (three of four). Second: yes 2/3, no 4/5, two of four each.
    assert metrics.binary_f1(truth, guess) == pytest.approx(
        [100 * (2 / 3 + 3 * 0.8) / 4, 100 * (2 / 3 + 0.8) / 2]
    )


def test_acc7_clips_and_rounds_both_sides() -> None:
    truth = np.array([-3.0, -1.4, 0.4, 2.6, 1.0, -0.6])
    score = np.array([-9.0, -0.6, -0.4, 5.7, 1.51, -0.4])
    assert metrics.acc7(truth, score) == pytest.approx(100 * 4 / 6)  # -3, -1, 0 and 3 agree


def test_mae_and_pearson_are_their_formulas() -> None:
    random = np.random.default_rng(1)
    truth, score = random.normal(size=50), random.normal(size=50)
    assert metrics.mae(truth, score) == pytest.approx(
        sum(abs(t - s) for t, s in zip(truth, score, strict=True)) / 50
    )
    t, s = truth - truth.mean(), score - score.mean()
    assert metrics.pearson(truth, score) == pytest.approx(
        (t * s).sum() / np.sqrt((t * t).sum() * (s * s).sum())
    )
    assert metrics.pearson(truth, 3 - 2 * truth) == pytest.approx(-1)
    assert metrics.pearson(truth, np.full(50, 0.3)) == 0 == metrics.pearson(np.zeros(50), score)


def test_signs_without_zero_drop_zero_labels_and_with_zero_count_them_as_not_negative() -> None:
    truth, score = (
        np.array([-1.0, 0.0, 2.0, 0.5, -0.1, 1.0]),
        np.array([0.2, 0.7, 0.1, -0.3, -2.0, 0.0]),
    )
    kept, guess = metrics.sign_labels(truth, score, with_zero=False)
    assert kept.tolist() == [0, 1, 1, 0, 1] and guess.tolist() == [1, 1, 0, 0, 0]
    every, guess = metrics.sign_labels(truth, score, with_zero=True)
    assert every.tolist() == [0, 1, 1, 1, 0, 1] and guess.tolist() == [1, 1, 1, 0, 0, 1]


def test_all_metrics_of_classes() -> None:
    found = metrics.all_metrics(LETTERS, one_hot(GUESS, 3), TRUTH)
    assert found == pytest.approx(
        {
            "accuracy": 400 / 6,
            "weighted_f1": 100 * (2.4 + 1 + 2 / 3) / 6,
            "macro_recall": 100 * (2 / 3 + 1.5) / 3,
            "f1_a": 80,
            "f1_b": 50,
            "f1_c": 200 / 3,
        }
    )


def test_all_metrics_of_a_score() -> None:
    labels, score = (
        np.array([-1.0, 0.0, 2.0, 0.6], dtype=np.float32),
        np.array([-0.8, -0.2, 1.7, -0.7]),
    )
    found = metrics.all_metrics(SCORE, score[:, None], labels)
    assert found == pytest.approx(
        {
            "accuracy": 200 / 3,
            "accuracy_with_zero": 50,
            "weighted_f1": 200 / 3,  # classes' F1 2/3 each
            "weighted_f1_with_zero": 100
            * (0.5 + 3 * 0.5)
            / 4,  # no: 1 of 3 guessed, 2/4; yes: 2*1/(3+1)
            "acc7": 75,
            "mae": (0.2 + 0.2 + 0.3 + 1.3) / 4,
            "pearson": float(np.corrcoef(labels, score)[0, 1]),
        },
        rel=1e-6,
    )


def test_all_metrics_of_binaries_read_pairs_of_logits() -> None:
    task = Task("binaries", ("joy", "fear"))
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]])
    guess = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    outputs = one_hot(guess, 2).reshape(4, 4)  # (no, yes) of joy, (no, yes) of fear
    found = metrics.all_metrics(task, outputs, labels)
    assert found["accuracy"] == pytest.approx(75)
    assert found["weighted_f1"] == pytest.approx(metrics.weighted_f1(labels.ravel(), guess.ravel()))
    assert [found["f1_joy"], found["f1_fear"]] == pytest.approx(
        [100 * (2 / 3 + 2.4) / 4, 100 * (2 / 3 + 0.8) / 2]
    )


@pytest.mark.parametrize("task, labels, width", [(LETTERS, TRUTH, 3), (SCORE, TRUTH - 1.0, 1)])
def test_curves_hold_the_same_numbers_as_the_full_set(
    task: Task, labels: np.ndarray, width: int
) -> None:
    outputs = np.random.default_rng(2).normal(size=(6, width))
    curve, full = (
        metrics.curve_metrics(task, outputs, labels),
        metrics.all_metrics(task, outputs, labels),
    )
    assert set(curve) == {"accuracy", "weighted_f1"} and metrics.SELECTION_METRIC in curve
    assert curve == {name: full[name] for name in curve}


def test_scores_without_a_sign_have_an_error_and_a_correlation_alone() -> None:
    task = Task("score", range=(1.0, 5.0), signed=False)
    truth, score = np.array([1.0, 2.0, 5.0]), np.array([[2.0], [2.0], [3.0]])
    expected = {"mae": 1.0, "pearson": float(np.corrcoef(truth, score[:, 0])[0, 1])}
    assert (
        metrics.all_metrics(task, score, truth)
        == metrics.curve_metrics(task, score, truth)
        == expected
    )


def test_an_epoch_is_chosen_by_f1_or_else_by_the_smallest_error() -> None:
    f1, error = [50.0, 70.0, 60.0], [0.3, 0.2, 0.1]
    assert metrics.to_maximise({"accuracy": error, "weighted_f1": f1}).argmax() == 1
    assert metrics.to_maximise({"mae": error, "pearson": f1}).argmax() == 2


def test_each_metric_picks_its_own_first_best_epoch_and_single_classes_theirs_together() -> None:
    """The error by its least value; the classes' F1 by their mean, 50, 60 and 60."""
    epochs = [
        {"accuracy": 70.0, "mae": 0.3, "pearson": 0.1, "f1_a": 90.0, "f1_b": 10.0},
        {"accuracy": 70.0, "mae": 0.1, "pearson": 0.2, "f1_a": 50.0, "f1_b": 70.0},
        {"accuracy": 60.0, "mae": 0.2, "pearson": 0.3, "f1_a": 40.0, "f1_b": 80.0},
    ]
    assert metrics.own_epochs(epochs) == {
        "accuracy": 0,
        "mae": 1,
        "pearson": 2,
        "f1_a": 1,
        "f1_b": 1,
    }


def test_recall_and_the_classes_f1_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 4, 6):
        for n in (1, 5, 40):
            truth, guess = random.integers(classes, size=(2, n))
            single = f1_score(
                truth, guess, labels=np.arange(classes), average=None, zero_division=0.0
            )
            np.testing.assert_allclose(metrics.per_class_f1(truth, guess, classes), 100 * single)
            present = np.unique(truth)
            recall = recall_score(truth, guess, labels=present, average="macro", zero_division=0.0)
            assert metrics.macro_recall(truth, guess) == pytest.approx(100 * recall)
