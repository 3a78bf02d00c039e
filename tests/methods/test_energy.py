"""EBMC's Eqs 8-16 by loops and SciPy in double precision, Eq. 12 also by autograd."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from balm_tools import PAIRS, SCORE, array
from scipy.special import softmax
from scipy.stats import entropy, norm
from test_disentangle import LETTERS, NAMES, ROWS, SEEN, TASKS, WIDTH, N, labels_of, normal
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.methods import energy
from mmlib.methods.disentangle import Parts
from mmlib.nn.objectives import logit_residual

HAVE = [[u for u in range(len(ROWS)) if ROWS[u][m]] for m in range(3)]


def poison(values: Tensor) -> Tensor:
    """(M, n, ...) with large numbers where nothing is seen."""
    seen = SEEN.t().reshape(3, N, *[1] * (values.ndim - 2))
    return torch.where(seen, values, 1e6 * normal(*values.shape, seed=77))


# Eq. 8.


def test_eq8_each_term_is_a_mean_over_the_utterances_that_have_the_modality_and_weighed() -> None:
    """C5: the mean of squares in place of the squared norm."""
    z, losses, uncertain = normal(3, N, WIDTH), normal(3, N, seed=1).square(), normal(3, N, seed=2)
    found = energy.energies(z, losses, uncertain, SEEN, (0.7, 1.3, 0.4))
    for m, rows in enumerate(HAVE):
        square = np.mean([(array(z)[m, u] ** 2).sum() / WIDTH for u in rows])
        expected = [
            0.7 * square,
            1.3 * array(losses)[m, rows].mean(),
            0.4 * array(uncertain)[m, rows].mean(),
        ]
        np.testing.assert_allclose(array(found[:, m]), expected, rtol=1e-12)
    assert torch.equal(
        energy.energies(poison(z), poison(losses), poison(uncertain), SEEN, (0.7, 1.3, 0.4)), found
    )
    assert not energy.energies(z, losses, uncertain, torch.zeros_like(SEEN), (0.7, 1.3, 0.4)).any()


# Eq. 9.


@pytest.mark.parametrize("task", [LETTERS, PAIRS], ids=["classes", "binaries"])
def test_eq9_the_entropy_is_scipys_of_the_predictive_distribution(task: Task) -> None:
    logits = 3 * normal(N, task.outputs)
    logits[0] = torch.arange(task.outputs) * 1e3  # sure
    found = energy.entropy(task, logits)
    assert found.shape == (N,) and found[0] == 0
    for value, row in zip(array(found), array(logits), strict=True):
        questions = row.reshape(-1, 2) if task.kind == "binaries" else row[None]
        assert value == pytest.approx(np.mean([entropy(softmax(q)) for q in questions]), abs=1e-12)


def test_eq9_of_a_score_the_entropy_is_the_gaussians_and_zero_without_a_variance() -> None:
    """C6, C9."""
    logits = 2 * normal(N, 2)
    expected = [
        norm.entropy(loc=mean, scale=math.exp(log_variance / 2))
        for mean, log_variance in array(logits)
    ]
    np.testing.assert_allclose(
        array(energy.entropy(SCORE, logits, gaussian=True)), expected, atol=1e-12
    )
    assert array(energy.entropy(SCORE, logits[:, :1])).tolist() == [0.0] * N


# Eq. 10.


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_eq10_is_the_sum_over_unordered_pairs_of_modalities_that_are_there(count: int) -> None:
    """C7: half of the sum over ordered pairs."""
    values = normal(count)
    for exists in itertools.product((True, False), repeat=count):
        here = [v for v, held in zip(values.tolist(), exists, strict=True) if held]
        ordered = sum((a - b) ** 2 for a in here for b in here)
        assert energy.gap(values, torch.tensor(exists)).item() == pytest.approx(
            ordered / 2, abs=1e-12
        )


def test_eq10_pulls_each_energy_to_the_mean_in_proportion_to_its_distance() -> None:
    """Appendix B, Eqs 28-30: dL/dE(m) = 2 |M| (E(m) - mean E)."""
    values = normal(3).requires_grad_()
    (gradient,) = torch.autograd.grad(energy.gap(values, torch.ones(3, dtype=torch.bool)), [values])
    np.testing.assert_allclose(
        array(gradient), 6 * (array(values) - array(values).mean()), atol=1e-12
    )


# Eq. 12: the penalty in closed form against autograd.


def make_parts(task: Task, gaussian: bool, divided: bool) -> Parts:
    torch.manual_seed(3)
    found = Parts(
        NAMES, WIDTH, task.outputs, gaussian=gaussian, shared_generator=False, divided=divided
    ).double()
    for place, p in enumerate(found.norms.parameters()):
        p.data += 0.5 * normal(*p.shape, seed=place)
    for p in found.heads.parameters():
        p.data *= 3
    return found


def task_losses(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """(n,), one utterance at a time, from the mean of a Gaussian."""
    rows = []
    for row, truth in zip(logits, labels, strict=True):
        if task.kind == "score":
            rows.append((row[0] - truth) ** 2)
        elif task.kind == "classes":
            rows.append(row.exp().sum().log() - row[truth])
        else:
            rows.append(
                torch.stack(
                    [
                        row[2 * k : 2 * k + 2].exp().sum().log() - row[2 * k + int(y)]
                        for k, y in enumerate(truth)
                    ]
                ).mean()
            )
    return torch.stack(rows)


def pulled(task: Task, parts: Parts, z: Tensor, labels: Tensor, gaussian: bool) -> Tensor:
    """The library's closed form for all modalities."""
    told, found = parts(dict(zip(NAMES, z, strict=True))), []
    for m, rows in zip(NAMES, z, strict=True):
        upstream = logit_residual(task, told.logits[m][:, : task.outputs], labels)
        if gaussian:
            upstream = torch.cat([upstream, torch.zeros_like(upstream)], dim=1)
        found.append(parts.pullback(m, rows, told.raw[m], upstream))
    return torch.stack(found)


def penalty_by_autograd(
    task: Task, parts: Parts, z: Tensor, labels: Tensor, alpha: float, beta: float
) -> Tensor:
    """Utterance by utterance the squared norm of the gradient of its own energy, which can be differentiated again."""
    total = z.new_zeros(())
    for m, name in enumerate(NAMES):
        for u in HAVE[m]:
            given = dict.fromkeys(NAMES, z[m, u : u + 1])
            loss = task_losses(task, parts(given).logits[name], labels[u : u + 1]).sum()
            own = alpha * z[m, u].square().mean() + beta * loss
            (gradient,) = torch.autograd.grad(own, [z], create_graph=True)
            total = total + gradient.square().sum() / len(HAVE[m])
    return total


CASES = [
    (kind, gaussian, divided)
    for kind in TASKS
    for gaussian in ((False, True) if kind == "score" else (False,))
    for divided in (True, False)
]


@pytest.mark.parametrize(("kind", "gaussian", "divided"), CASES)
def test_eq12_the_pullback_is_autograds_gradient_of_every_utterances_loss(
    kind: str, gaussian: bool, divided: bool
) -> None:
    task = TASKS[kind]
    parts, z, labels = (
        make_parts(task, gaussian, divided),
        normal(3, N, WIDTH).requires_grad_(),
        labels_of(task),
    )
    logits = parts(dict(zip(NAMES, z, strict=True))).logits
    total = torch.stack([task_losses(task, logits[m], labels).sum() for m in NAMES]).sum()
    (expected,) = torch.autograd.grad(total, [z])
    np.testing.assert_allclose(
        array(pulled(task, parts, z, labels, gaussian)), array(expected), atol=1e-12
    )
    assert expected.abs().amax(dim=2).min() > 1e-4


@pytest.mark.parametrize(("kind", "gaussian", "divided"), CASES)
def test_eq12_the_penalty_and_its_own_gradient_are_those_of_a_second_pass_through_the_graph(
    kind: str, gaussian: bool, divided: bool
) -> None:
    task = TASKS[kind]
    parts, z, labels = (
        make_parts(task, gaussian, divided),
        normal(3, N, WIDTH).requires_grad_(),
        labels_of(task),
    )
    found = energy.steepness(z, pulled(task, parts, z, labels, gaussian), SEEN, 0.7, 1.3)
    expected = penalty_by_autograd(task, parts, z, labels, 0.7, 1.3)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    of = {"z": z, **{k: p for k, p in parts.named_parameters() if not k.startswith("generators")}}
    pairs = zip(
        *(torch.autograd.grad(x, list(of.values()), allow_unused=True) for x in (found, expected)),
        strict=True,
    )
    reached = set()
    for name, (mine, theirs) in zip(of, pairs, strict=True):
        zero = torch.zeros_like(of[name])
        np.testing.assert_allclose(
            array(zero if mine is None else mine),
            array(zero if theirs is None else theirs),
            atol=1e-10,
        )
        reached |= {name.split(".")[0]} if mine is not None and mine.abs().max() > 1e-6 else set()
    assert reached == {"z", "norms", "heads", *(("specific",) if divided else ())}


def test_eq12_its_gradient_is_twice_the_hessian_times_the_gradient() -> None:
    """Appendix B, Eq. 40, an utterance at a time."""
    parts, z, labels = (
        make_parts(LETTERS, False, True),
        normal(3, N, WIDTH).requires_grad_(),
        labels_of(LETTERS),
    )
    (found,) = torch.autograd.grad(
        energy.steepness(z, pulled(LETTERS, parts, z, labels, False), SEEN, 0.7, 1.3), [z]
    )
    for m, name in enumerate(NAMES):
        for u in range(N):

            def own(row: Tensor, name: str = name, u: int = u) -> Tensor:
                logits = parts(dict.fromkeys(NAMES, row[None])).logits[name]
                return (
                    0.7 * row.square().mean()
                    + 1.3 * task_losses(LETTERS, logits, labels[u : u + 1]).sum()
                )

            at = z[m, u].detach()
            hessian, gradient = (
                array(f(own, at))
                for f in (torch.autograd.functional.hessian, torch.autograd.functional.jacobian)
            )
            expected = 2 * hessian @ gradient / len(HAVE[m]) * ROWS[u][m]
            np.testing.assert_allclose(array(found[m, u]), expected, atol=1e-11)


def test_eq12_the_pullback_is_finite_at_the_zeros_of_what_is_missing_and_counts_for_nothing() -> (
    None
):
    parts, labels = make_parts(LETTERS, False, True), labels_of(LETTERS)
    z = torch.where(SEEN.t()[:, :, None], normal(3, N, WIDTH), 0).requires_grad_()
    back = pulled(LETTERS, parts, z, labels, False)
    found = energy.steepness(z, back, SEEN, 1.0, 1.0)
    (gradient,) = torch.autograd.grad(found, [z])
    assert back.isfinite().all() and gradient.isfinite().all() and not gradient[~SEEN.t()].any()
    assert torch.equal(
        energy.steepness(poison(z.detach()), poison(back.detach()), SEEN, 1.0, 1.0), found
    )
    assert energy.steepness(z, back, torch.zeros_like(SEEN), 1.0, 1.0).item() == 0


# Eqs 13-15.


def test_eq13_sigma_is_the_trace_of_the_predictions_covariance() -> None:
    """C9: largest where all classes are alike; a variance over the probabilities would be smallest there."""
    for task in (LETTERS, PAIRS):
        logits = 2 * normal(N, task.outputs)
        for value, row in zip(array(energy.spread(task, logits)), array(logits), strict=True):
            traces = []
            for p in (
                softmax(q) for q in (row.reshape(-1, 2) if task.kind == "binaries" else row[None])
            ):
                outcomes = np.eye(len(p))
                traces.append(sum(p[k] * ((outcomes[k] - p) ** 2).sum() for k in range(len(p))))
            assert value == pytest.approx(np.mean(traces), abs=1e-12)
    assert energy.spread(LETTERS, torch.zeros(1, 3).double()).item() == pytest.approx(
        2 / 3, abs=1e-15
    )
    logits = normal(N, 2)
    expected = [
        norm.var(loc=mean, scale=math.exp(log_variance / 2)) for mean, log_variance in array(logits)
    ]
    np.testing.assert_allclose(
        array(energy.spread(SCORE, logits, gaussian=True)), expected, rtol=1e-12
    )


@pytest.mark.parametrize("squared", [False, True])
def test_eqs13_to_15_trust_by_a_loop_over_utterances_and_their_modalities(squared: bool) -> None:
    sigma = 2 * normal(3, N).abs()
    found = energy.trust(sigma, SEEN, squared)
    for u in range(N):
        mine = [m for m in range(3) if ROWS[u][m]]
        raw = {
            m: math.exp(-s) / (math.log(1 + (s * s if squared else s)) + 0.1)
            for m, s in ((m, sigma[m, u].item()) for m in mine)
        }
        for m in range(3):
            assert found[m, u].item() == pytest.approx(
                raw[m] / sum(raw.values()) if m in raw else 0, abs=1e-12
            )
    np.testing.assert_allclose(array(found.sum(dim=0)), SEEN.any(dim=1).double(), atol=1e-12)
    assert torch.equal(energy.trust(poison(sigma).abs(), SEEN, squared), found)


@pytest.mark.parametrize("squared", [False, True])
def test_eq15_trust_falls_as_uncertainty_grows_and_stays_finite_at_none(squared: bool) -> None:
    """C10: without its epsilon rho would be infinite for a teacher that is sure."""
    steps = torch.linspace(0, 20, 60).double()
    sigma = torch.stack([steps, torch.ones(60).double()])
    alone, other = energy.trust(sigma, torch.ones(60, 2, dtype=torch.bool), squared)
    assert (alone.diff() < 0).all() and (other.diff() > 0).all() and alone[0] < 1
    assert alone[0].item() == pytest.approx(
        10 / (10 + math.exp(-1) / (math.log(2) + 0.1)), rel=1e-12
    )


# Eq. 16.


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_eq16_by_a_loop_over_utterances_and_teachers(kind: str, printed: bool) -> None:
    """C11: KL(teacher || student) and the temperature's square, or the other way round as printed; C12."""
    task = TASKS[kind]
    student, teachers = 2 * normal(N, task.outputs), 2 * normal(3, N, task.outputs, seed=1)
    weights = normal(3, N, seed=2).abs()
    for temperature in (1.0, 2.5):
        total = 0.0
        for u, m in itertools.product(range(N), range(3)):
            ours, theirs = array(student)[u], array(teachers)[m, u]
            if kind == "score":
                far = (ours[0] - theirs[0]) ** 2
            else:
                size = 2 if kind == "binaries" else 3
                pairs = zip(
                    ours.reshape(-1, size) / temperature,
                    theirs.reshape(-1, size) / temperature,
                    strict=True,
                )
                far = float(
                    np.mean(
                        [
                            entropy(softmax(a), softmax(b))
                            if printed
                            else temperature**2 * entropy(softmax(b), softmax(a))
                            for a, b in pairs
                        ]
                    )
                )
            total += weights[m, u].item() * far / N
        found = energy.distillation(task, student, teachers, weights, temperature, printed)
        assert found.item() == pytest.approx(total, rel=1e-11)
    same = energy.distillation(
        task, student, student.expand(3, N, task.outputs), weights, 2.0, printed
    )
    assert same.item() == pytest.approx(0, abs=1e-14)


def test_eq16_pulls_the_student_by_the_weighted_difference_of_probabilities() -> None:
    """d KL(teacher || student) / d logits = (student - teacher) / temperature, an utterance's mean and T^2 apart."""
    student, teachers = normal(N, 3).requires_grad_(), normal(3, N, 3, seed=1)
    weights = energy.trust(normal(3, N, seed=2).abs(), SEEN)
    (found,) = torch.autograd.grad(
        energy.distillation(LETTERS, student, teachers, weights, 2.0), [student]
    )
    for u in range(N):
        apart = [
            softmax(array(student)[u] / 2) - softmax(array(teachers)[m, u] / 2) for m in range(3)
        ]
        expected = 2.0 / N * sum(weights[m, u].item() * apart[m] for m in range(3))
        np.testing.assert_allclose(array(found[u]), expected, atol=1e-13)
