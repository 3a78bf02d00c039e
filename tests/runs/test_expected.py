"""Expected accuracy: equal to accuracy in the mean over draws of a twin, and less variable."""

from __future__ import annotations

import numpy as np
import pytest

from mmlib.data.catalog import open_twin
from mmlib.data.twin_laws import MODALITIES
from mmlib.data.twins import Twin, make_twin
from mmlib.masks import complete, draw, frames, subset
from mmlib.metrics import all_metrics
from mmlib.runs.execute import execute
from mmlib.runs.expected import NAME, answered, answers
from mmlib.runs.spec import RunSpec, Training

DRAWS = 120
SHARE_OF_VARIANCE = 0.75  # expected accuracy's, of accuracy's; 0.57 and 0.66 over these draws


def rule(twin: Twin, weights: np.ndarray) -> np.ndarray:
    """Outputs of a fixed and imperfect model: a linear function of the text's latents."""
    latents = twin.latents["text"][twin.bundle.rows("test")]
    return latents @ weights


@pytest.mark.parametrize(("role", "outputs"), [("iemocap6", 6), ("mosei", 1)])
def test_its_mean_is_that_of_accuracy_and_its_variance_smaller(role: str, outputs: int) -> None:
    weights = np.random.default_rng(1).normal(size=(2 if role == "mosei" else 3, outputs))
    both = []
    for seed in range(DRAWS):
        twin = make_twin(role, "smoke", seed)
        rows, task = twin.bundle.rows("test"), twin.bundle.task
        given = rule(twin, weights)
        mass = twin.answers("test", np.ones((len(rows), len(MODALITIES)), dtype=bool))
        chosen = answered(task, given)
        expected = 100 * mass[np.arange(len(rows)), chosen].sum() / mass.sum()
        both.append((all_metrics(task, given, twin.bundle.labels[rows])["accuracy"], expected))
    accuracy, expected = np.array(both).T
    error = (accuracy - expected).std(ddof=1) / DRAWS**0.5
    assert abs(accuracy.mean() - expected.mean()) < 3.5 * error
    assert expected.var(ddof=1) < SHARE_OF_VARIANCE * accuracy.var(ddof=1)


def run(data: str, **fields: object) -> RunSpec:
    return RunSpec(data, 0, "plain", backbone="mlp", training=Training(1, 8, 1e-2), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "law", "modalities"),
    [
        ("twin:iemocap6@smoke", subset(["text"]), ()),
        ("twin:mosei@smoke", complete(), ("audio", "text")),
        ("twin:iemocap4-frames@smoke", frames(0.5), ()),
        ("twin:iemocap4@smoke", complete(), ()),
    ],
)
def test_a_record_has_it_for_what_its_mask_leaves(
    data: str, law: object, modalities: tuple[str, ...]
) -> None:
    fold = 1 if "iemocap4@" in data else None
    spec = run(data, eval_masks=(("same", law),), modalities=modalities, fold=fold)
    outcome = execute(spec)
    twin = open_twin(data) if fold is None else open_twin(data).with_fold(fold)
    mask = draw(law, twin.bundle, "test", 0)  # type: ignore[arg-type]
    seen = mask.utterance & np.array([not modalities or m in modalities for m in MODALITIES])
    mass = twin.bayes("test", seen, frames=mask.frames)
    given = outcome.arrays["predictions.valid.same"]
    if twin.bundle.task.kind == "score":
        levels = twin.role.levels
        right = np.where(given[:, 0] > 0, mass[:, levels > 0].sum(1), mass[:, levels < 0].sum(1))
        expected = right.sum() / mass[:, levels != 0].sum()
    elif twin.bundle.task.kind == "binaries":
        yes = given[:, 1::2] > given[:, 0::2]
        expected = np.where(yes, mass, 1 - mass).mean()
    else:
        expected = np.mean(mass[np.arange(len(mass)), given.argmax(axis=1)])
    assert outcome.record["selected"]["valid"]["metrics"]["same"][NAME] == pytest.approx(
        100 * expected
    )


def test_real_data_and_clips_have_none() -> None:
    for data in ("mosi-unseen", "twin:ave@smoke"):
        assert answers(run(data), complete(), 0) is None
