"""EBMC's released components (ledger 3.3, E11-E20) by loops over dialogues, alone and in both stages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import SCORE, Toy, array
from scipy.spatial.distance import cosine as cosine_distance
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import entropy
from test_disentangle import LETTERS, NAMES, TASKS, WIDTH, normal
from test_ebmc import (
    UNEVEN,
    batch_of,
    first_stage,
    over_those_that_have_it,
    second_stage,
    spans,
    without,
)
from torch import Tensor

from mmlib import masks
from mmlib.methods import ebmc_released as released
from mmlib.methods.ebmc import Ebmc
from mmlib.nn.batch import Batch, make_layout

LENGTHS = (3, 1, 4)
KINDS = ("classes", "score")
Stage = Callable[..., Any]


def plain_batch(labels: Tensor | None = None) -> Batch:
    n = sum(LENGTHS)
    return Batch(
        {m: torch.zeros(n, 2) for m in NAMES},
        torch.ones(n, 3, dtype=torch.bool),
        torch.zeros(n) if labels is None else labels,
        torch.zeros(n),
        make_layout(LENGTHS),
    )


def means_by_hand(values: np.ndarray, lengths: Sequence[int] = LENGTHS) -> np.ndarray:
    return np.stack(
        [values[a:b].mean(axis=0) for a, b in itertools.pairwise(np.cumsum([0, *lengths]))]
    )


def dialogues(batch: Batch, values: np.ndarray) -> np.ndarray:
    return np.stack([values[rows].mean(axis=0) for rows in spans(batch)])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """0 where a modality has nothing in a whole dialogue."""
    return 1 - cosine_distance(one, other) if one.any() and other.any() else 0.0


# Each alone.


def test_a_dialogues_mean_is_over_its_utterances_for_one_table_or_for_many() -> None:
    values = normal(3, 8, 2)
    found = released.dialogue_mean(plain_batch(), values)
    assert found.shape == (3, 3, 2)
    for one, many in zip(values, found, strict=True):
        np.testing.assert_allclose(array(many), means_by_hand(array(one)), atol=1e-14)
        assert torch.equal(released.dialogue_mean(plain_batch(), one), many)


def e11(means: np.ndarray, temperature: float) -> float:
    """Of dialogues' means (M, B, d); negatives sum the pairs of modalities."""
    unit = means / np.maximum(np.linalg.norm(means, axis=2, keepdims=True), 1e-12)
    near = [
        cosine(unit[m][b], unit[:, b].mean(axis=0)) for m in range(3) for b in range(len(unit[0]))
    ]
    negatives = [
        sum(unit[i][b] @ unit[j][k] for i, j in itertools.combinations(range(3), 2))
        for b in range(len(unit[0]))
        for k in range(len(unit[0]))
    ]
    return float(logsumexp(np.array(negatives) / temperature) - np.mean(near) / temperature)


def test_e11_the_alignment_by_loops_over_dialogues_of_which_a_loud_modality_is_no_more_than_another() -> (
    None
):
    means = normal(3, 4, WIDTH)
    found = released.alignment(means, 0.05).item()
    assert found == pytest.approx(e11(array(means), 0.05), rel=1e-12)
    louder = means * torch.tensor([1.0, 50.0, 0.1])[:, None, None]
    assert released.alignment(louder, 0.05).item() == pytest.approx(found, rel=1e-12)


def test_e13_e14_the_predictors_learn_from_dialogues_means_of_scores_and_from_no_emotion() -> None:
    labels, logits = normal(8, seed=3), normal(3, 8, 1)
    expected = np.mean(
        [(means_by_hand(array(x)[:, 0]) - means_by_hand(array(labels))) ** 2 for x in logits]
    )
    assert released.predictors_loss(plain_batch(labels), SCORE, logits).item() == pytest.approx(
        expected, rel=1e-12
    )
    assert (
        released.predictors_loss(plain_batch(torch.arange(8) % 3), LETTERS, normal(3, 8, 3)).item()
        == 0
    )


@pytest.mark.parametrize("task", [LETTERS, SCORE], ids=KINDS)
def test_e14_e17_e18_the_energies_by_loops_over_dialogues(task: Any) -> None:
    z, predicted, teachers = (
        normal(3, 8, WIDTH),
        normal(3, 8, task.outputs, seed=1),
        normal(3, 8, task.outputs, seed=2),
    )
    labels = normal(8, seed=3) if task.kind == "score" else torch.tensor([2, 1, 2, 0, 0, 1, 2, 2])
    found = array(
        released.energies(plain_batch(labels), task, z, predicted, teachers, (0.7, 1.3, 0.4))
    )
    truth = means_by_hand(array(labels.double()))
    for m in range(3):
        mean, theirs = means_by_hand(array(predicted[m])), means_by_hand(array(teachers[m]))
        if task.kind == "score":
            loss, uncertain = ((mean[:, 0] - truth) ** 2).mean(), theirs[:, 0].var(ddof=1)
        else:
            assert [int(y) for y in truth] == [1, 0, 1]  # E17: of 5/3, 0 and 5/4
            loss = np.mean([-log_softmax(row)[int(y)] for row, y in zip(mean, truth, strict=True)])
            uncertain = np.mean([entropy(softmax(row)) for row in theirs])
        norm = (means_by_hand(array(z[m])) ** 2).mean()
        np.testing.assert_allclose(
            found[:, m], [0.7 * norm, 1.3 * loss, 0.4 * uncertain], rtol=1e-6
        )


def test_e18_the_spread_over_a_batch_of_one_dialogue_is_none() -> None:
    batch = Batch(
        {}, torch.ones(4, 3, dtype=torch.bool), normal(4), torch.zeros(4), make_layout([4])
    )
    terms = released.energies(
        batch, SCORE, normal(3, 4, WIDTH), normal(3, 4, 1), normal(3, 4, 1), (1.0, 1.0, 1.0)
    )
    assert terms.isfinite().all() and not terms[2].any()


def test_e19_the_penalty_is_the_mean_square_of_the_norm_terms_gradient() -> None:
    """Per dialogue, of alpha times the mean square."""
    z, total = normal(3, 8, WIDTH), 0.0
    means = torch.from_numpy(np.stack([means_by_hand(array(x)) for x in z])).requires_grad_()
    for m, b in itertools.product(range(3), range(3)):
        (gradient,) = torch.autograd.grad(0.7 * means[m, b].square().mean(), [means])
        total += gradient.square().sum().item() / WIDTH / 3
    assert released.steepness(plain_batch(), z, 0.7).item() == pytest.approx(total, rel=1e-12)


def test_e20_sigma_is_the_distance_from_the_teachers_mean_or_the_entropy() -> None:
    scores, emotions = normal(3, 5, 1), normal(3, 5, 3)
    middle = array(scores)[:, :, 0].mean(axis=0)
    for m, b in itertools.product(range(3), range(5)):
        found = [
            released.uncertainty(task, x)[m, b].item()
            for task, x in ((SCORE, scores), (LETTERS, emotions))
        ]
        expected = abs(array(scores)[m, b, 0] - middle[b]), entropy(softmax(array(emotions)[m, b]))
        assert found == pytest.approx(expected, abs=1e-12)


# In both stages.


def own_heads(method: Any, z: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What the first stage's heads say, which the released components follow in place of T_m."""
    heads = method.backbone.heads
    return {m: array(x) @ array(heads[m].weight).T + array(heads[m].bias) for m, x in z.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [first_stage, second_stage])
def test_e11_to_e14_the_released_msd(toy: Toy, stage: Stage, kind: str) -> None:
    """Zeros stand for what is missing."""
    bundle = toy(UNEVEN, task=TASKS[kind])
    batch = batch_of(bundle)
    method = stage(bundle, "released_msd", lambda1=0.7, lambda2=0.9)
    parts = method.parts(method(batch).z)
    seen = array(batch.observed.double())
    common, specific = (
        np.stack([dialogues(batch, array(x[m]) * seen[:, i : i + 1]) for i, m in enumerate(NAMES)])
        for x in (parts.common, parts.specific)
    )
    truth, uni = dialogues(batch, array(batch.labels)), 0.0
    if kind == "score":
        uni = float(
            np.mean(
                [(dialogues(batch, array(x[:, 0])) - truth) ** 2 for x in parts.logits.values()]
            )
        )
    dis = np.mean(
        [
            cosine(specific[i][b], specific[j][b]) ** 2
            for i, j in itertools.combinations(range(3), 2)
            for b in range(len(truth))
        ]
    )
    expected = e11(common, 0.05) + 0.7 * dis + 0.9 * uni
    assert method.loss(batch).item() - without(method, batch, "msd") == pytest.approx(
        0.5 * expected, rel=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [first_stage, second_stage])
def test_e16_the_released_cce_is_the_distance_of_predictions_and_asks_no_label(
    toy: Toy, stage: Stage, kind: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = stage(bundle, "released_cce"), batch_of(bundle)
    z = method(batch).z
    made = method.parts.generate(method.parts(z), batch.observed, 0.0)
    told, rebuilt = own_heads(method, z), own_heads(method, made)
    far, apart = [], []
    for place, m in enumerate(method.modalities):
        far.append(
            over_those_that_have_it(
                np.abs(told[m] - rebuilt[m]).mean(axis=1).tolist(), batch, place
            )
        )
        squares = ((array(made[m]) - array(z[m])) ** 2).mean(axis=1).tolist()
        apart.append(over_those_that_have_it(squares, batch, place))
    found = method.loss(batch).item() - without(method, batch, "cce")
    assert found == pytest.approx(0.1 * (np.mean(apart) + np.mean(far)), rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["released_emc", "released"])
def test_e14_to_e19_the_released_emc_is_the_gap_and_a_penalty_on_the_norm_alone(
    toy: Toy, variant: str, kind: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = (
        second_stage(bundle, variant, norm=0.7, loss=1.3, uncertainty=0.4, delta=3.0),
        batch_of(bundle),
    )
    found = (method.loss(batch).item() - without(method, batch, "emc")) / 0.1
    z, taught = (
        method(batch).z,
        own_heads(method.teacher, method.teacher.backbone(batch, batch.features).z),
    )
    told = own_heads(method, z)
    stack = [torch.from_numpy(np.stack([x[m] for m in NAMES])) for x in (told, taught)]
    terms = released.energies(
        batch, bundle.task, torch.stack([z[m] for m in NAMES]), *stack, (0.7, 1.3, 0.4)
    )
    for place, name in enumerate(("norm", "loss", "uncertainty")):
        np.testing.assert_allclose(array(method.energy_terms[name]), array(terms[place]), rtol=1e-6)
    energies = array(terms.sum(dim=0)).tolist()
    gap = sum((a - b) ** 2 for a, b in itertools.combinations(energies, 2))
    steep = sum(((2 * 0.7 / 6 * dialogues(batch, array(x))) ** 2).mean() for x in z.values())
    assert found == pytest.approx(gap + 3 * steep, rel=1e-6)


def e20(method: Ebmc, batch: Batch) -> float:
    """Of dialogues' means: sigma is the distance from the teachers' mean, or the entropy, squared in rho; over M."""
    student, total = dialogues(batch, array(method(batch).logits)), 0.0
    z = method.teacher.backbone(batch, batch.features).z
    told = np.stack([dialogues(batch, x) for x in own_heads(method.teacher, z).values()])
    for b in range(len(student)):
        if method.task.kind == "score":
            sigma, far = (
                np.abs(told[:, b, 0] - told[:, b, 0].mean()),
                (student[b, 0] - told[:, b, 0]) ** 2,
            )
        else:
            p = softmax(told[:, b], axis=1)
            sigma, far = entropy(p, axis=1), entropy(p, softmax(student[b])[None], axis=1)
        raw = np.exp(-sigma) / (np.log(1 + sigma**2) + 0.1)
        total += (raw / raw.sum() * far).sum() / len(student) / 3
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["released_imtd", "released"])
def test_e20_the_released_imtd_by_loops_over_dialogues_and_teachers(
    toy: Toy, variant: str, kind: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = second_stage(bundle, variant), batch_of(bundle)
    found = method.loss(batch).item() - without(method, batch, "imtd")
    assert found == pytest.approx(0.1 * e20(method, batch), rel=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_released_msd_all_others_follow_the_own_heads_since_nothing_trains_t_m_for_emotions(
    toy: Toy, kind: str
) -> None:
    """E13: noise in T_m changes no loss but L_uni of scores, and no prediction of a modality."""
    bundle = toy(UNEVEN, task=TASKS[kind])
    for stage in (first_stage, second_stage):
        method, batch = (
            stage(bundle, "released_msd", lambda2=0.0),
            batch_of(bundle, masks.patterns()),
        )
        loss, views = method.loss(batch).item(), method.views(method(batch))
        for name, p in method.named_parameters():
            if "parts.heads" in name:
                p.data *= 3
        assert method.loss(batch).item() == pytest.approx(loss, rel=1e-12)
        assert all(torch.equal(x, views[m]) for m, x in method.views(method(batch)).items())
        for name, p in method.named_parameters():
            if "backbone.heads" in name:
                p.data *= 3
        assert abs(method.loss(batch).item() - loss) > 1e-6
