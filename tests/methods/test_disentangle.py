"""EBMC's Eqs 1-7 by loops over samples and modalities in double precision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from balm_tools import PAIRS, SCORE, array
from scipy.spatial.distance import cosine as cosine_distance
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.methods import disentangle
from mmlib.methods.disentangle import Components, Mlp, Parts
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where

LETTERS = Task("classes", ("a", "b", "c"))
TASKS = {"classes": LETTERS, "score": SCORE, "binaries": PAIRS}
NAMES = ("audio", "text", "vision")
WIDTH = 5
ROWS = [
    (1, 1, 1),
    (1, 1, 0),
    (1, 0, 0),
    (0, 1, 1),
    (1, 0, 1),
    (0, 0, 0),
    (0, 1, 0),
    (1, 1, 1),
    (1, 0, 1),
]
SEEN = torch.tensor(ROWS, dtype=torch.bool)  # all combinations but one, and none at all
N = len(ROWS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(task: Task, n: int = N) -> Tensor:
    if task.kind == "score":
        return 2 * normal(n, seed=9)
    r = torch.Generator().manual_seed(9)
    return (
        torch.randint(3, (n,), generator=r)
        if task.kind == "classes"
        else torch.randint(2, (n, 2), generator=r)
    )


def make_parts(
    task: Task = LETTERS,
    names: Sequence[str] = NAMES,
    *,
    gaussian: bool = False,
    shared: bool = False,
    divided: bool = True,
) -> Parts:
    """In double precision, norms other than the identity."""
    torch.manual_seed(1)
    found = Parts(
        names, WIDTH, task.outputs, gaussian=gaussian, shared_generator=shared, divided=divided
    ).double()
    for place, p in enumerate(found.norms.parameters()):
        p.data += 0.5 * normal(*p.shape, seed=place)
    return found


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {k: array(p) for k, p in module.named_parameters()}


def linear(x: np.ndarray, w: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(w[f"{name}.weight"] @ x + w[f"{name}.bias"])


def mlp(x: np.ndarray, w: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return linear(np.maximum(linear(x, w, f"{name}.first"), 0), w, f"{name}.second")


def normed(x: np.ndarray, w: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    unit = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).sum() / len(x) + 1e-5)
    return np.asarray(unit * w[f"{name}.weight"] + w[f"{name}.bias"])


def losses_by_hand(
    task: Task, logits: np.ndarray, labels: np.ndarray, gaussian: bool = False
) -> list[float]:
    """Of each utterance; a Gaussian's negative log-likelihood but for the constant."""
    if gaussian:
        return [
            -norm.logpdf(y, mean, math.exp(log_variance / 2)) - math.log(2 * math.pi) / 2
            for (mean, log_variance), y in zip(logits, labels, strict=True)
        ]
    if task.kind == "score":
        return [(row[0] - y) ** 2 for row, y in zip(logits, labels, strict=True)]
    if task.kind == "binaries":
        return [
            -float(np.mean([log_softmax(row[2 * k : 2 * k + 2])[y] for k, y in enumerate(truth)]))
            for row, truth in zip(logits, labels, strict=True)
        ]
    return [-log_softmax(row)[y] for row, y in zip(logits, labels, strict=True)]


def poison(values: Tensor, seen: Tensor) -> Tensor:
    """Values (M, n, d) with a million times as much, and of other signs, where nothing is seen."""
    return torch.where(seen.t()[:, :, None], values, 1e6 * normal(*values.shape, seed=77))


def slope(function: Callable[[Tensor], Tensor], at: Tensor, place: int) -> float:
    """Central difference."""
    ends = []
    for step in (1e-6, -1e-6):
        moved = at.detach().clone()
        moved.view(-1)[place] += step
        ends.append(function(moved).item())
    return (ends[0] - ends[1]) / 2e-6


def test_means_count_what_counts_and_are_zero_with_a_zero_gradient_where_nothing_does() -> None:
    values = normal(2, 4).requires_grad_()
    counts = torch.tensor([[True, False, True, True], [False] * 4])
    found = mean_where(values, counts)
    assert found.tolist() == pytest.approx([array(values)[0, [0, 2, 3]].mean(), 0])
    assert mean_where(torch.where(counts, values, math.nan), counts).tolist() == found.tolist()
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert (3 * values.grad).tolist() == [[1, 0, 1, 1], [0] * 4]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_each_utterances_task_loss(task: Task) -> None:
    logits, labels = 2 * normal(N, task.outputs), labels_of(task)
    np.testing.assert_allclose(
        array(each_loss(task, logits, labels)),
        losses_by_hand(task, array(logits), labels.numpy()),
        atol=1e-12,
    )


# Eq. 1.


@pytest.mark.parametrize("gaussian", [False, True])
def test_eq1_parts_and_predictions_by_a_loop_over_modalities_and_utterances(gaussian: bool) -> None:
    parts, z = make_parts(SCORE if gaussian else LETTERS, gaussian=gaussian), normal(3, N, WIDTH)
    w, found = weights_of(parts), parts(dict(zip(NAMES, z, strict=True)))
    for m, rows in zip(NAMES, array(z), strict=True):
        common, specific = (
            [normed(mlp(row, w, f"{part}.{m}"), w, f"norms.{m}") for row in rows]
            for part in ("common", "specific")
        )
        np.testing.assert_allclose(array(found.common[m]), common, atol=1e-12)
        np.testing.assert_allclose(array(found.specific[m]), specific, atol=1e-12)
        logits = [linear(v, w, f"heads.{m}") for v in specific]
        np.testing.assert_allclose(array(found.logits[m]), logits, atol=1e-12)
        assert found.logits[m].shape == (N, 2 if gaussian else 3)


def test_eq1_without_disentangling_the_predictors_read_the_normed_embedding_and_there_are_no_parts() -> (
    None
):
    parts, z = make_parts(divided=False), normal(3, N, WIDTH)
    w, found = weights_of(parts), parts(dict(zip(NAMES, z, strict=True)))
    for m, rows in zip(NAMES, array(z), strict=True):
        x = [normed(row, w, f"norms.{m}") for row in rows]
        for part in (found.common, found.specific):
            np.testing.assert_allclose(array(part[m]), x, atol=1e-12)
        np.testing.assert_allclose(
            array(found.logits[m]), [linear(v, w, f"heads.{m}") for v in x], atol=1e-12
        )
    assert not {k for k in w if k.startswith(("common", "specific"))}


def test_the_mlps_pullback_is_the_product_with_its_jacobian() -> None:
    layer = Mlp(4, WIDTH).double()
    for row, upstream in zip(normal(6, 4), normal(6, WIDTH, seed=1), strict=True):
        jacobian = torch.autograd.functional.jacobian(layer, row)  # type: ignore[no-untyped-call]
        np.testing.assert_allclose(
            array(layer.pullback(row, upstream)), array(upstream) @ array(jacobian), atol=1e-13
        )


# Eq. 2.


def eq2(common: np.ndarray, seen: np.ndarray, temperature: float) -> float:
    """C1 and section 8: for every modality of every utterance that has another one too."""
    held = {i: [m for m in range(len(common)) if seen[i, m]] for i in range(len(seen))}
    means = {i: np.mean([common[m, i] for m in mine], axis=0) for i, mine in held.items() if mine}
    terms = []
    for i, mine in held.items():
        for m in mine if len(mine) > 1 else ():
            near = {
                k: (1 - cosine_distance(common[m, i], mean)) / temperature
                for k, mean in means.items()
            }
            terms.append(logsumexp(list(near.values())) - near[i])
    return float(np.mean(terms)) if terms else 0.0


@pytest.mark.parametrize("temperature", [0.05, 0.7])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_eq2_by_brute_force_over_anchors_and_utterances(temperature: float, count: int) -> None:
    for seed in range(5):
        common = normal(count, N, WIDTH, seed=seed)
        seen = torch.cat([SEEN, SEEN[:, :1]], dim=1)[:, :count].roll(seed, dims=0)
        found = disentangle.alignment(common, seen, temperature).item()
        assert found == pytest.approx(eq2(array(common), seen.numpy(), temperature), rel=1e-11)


def test_eq2_is_a_log_softmax_with_its_positive_so_never_below_zero() -> None:
    """Without the positive in the denominator it would be unbounded below (C1)."""
    for seed in range(20):
        common = normal(3, N, WIDTH, seed=seed)
        common[1:] = (
            common[0] + 0.1 * common[1:]
        )  # near their own means, where a denominator without them is small
        assert disentangle.alignment(common, SEEN, 0.05).item() >= 0
    apart = torch.eye(4, WIDTH, dtype=torch.float64).expand(3, 4, WIDTH)
    found = disentangle.alignment(apart, torch.ones(4, 3, dtype=torch.bool), 0.5).item()
    assert found == pytest.approx(math.log(1 + 3 * math.exp(-1 / 0.5)), abs=1e-12)


def test_eq2_is_the_logarithm_of_the_number_of_utterances_where_all_are_equal() -> None:
    """The one without any modality is none of them; those with a single one are."""
    common = normal(WIDTH).expand(3, N, WIDTH)
    assert disentangle.alignment(common, SEEN, 0.05).item() == pytest.approx(
        math.log(N - 1), abs=1e-12
    )


def test_eq2_leaves_out_what_is_missing_and_the_anchors_of_single_modality_utterances() -> None:
    common = normal(3, N, WIDTH).requires_grad_()
    found = disentangle.alignment(common, SEEN, 0.05)
    assert torch.equal(disentangle.alignment(poison(common, SEEN), SEEN, 0.05), found)
    (gradient,) = torch.autograd.grad(found, [common])
    assert not gradient[~SEEN.t()].any() and gradient[SEEN.t()].any(dim=1).all()
    empty = SEEN.any(dim=1)
    assert disentangle.alignment(common[:, empty], SEEN[empty], 0.05).item() == pytest.approx(
        found.item(), rel=1e-12
    )
    alone = torch.zeros_like(SEEN).index_fill(1, torch.tensor([1]), True)
    assert disentangle.alignment(common, alone, 0.05).item() == 0
    assert disentangle.alignment(common, torch.zeros_like(SEEN), 0.05).item() == 0


def test_eq2_pulls_as_central_differences_say_through_the_means_too() -> None:
    common = normal(3, N, WIDTH).requires_grad_()
    (gradient,) = torch.autograd.grad(disentangle.alignment(common, SEEN, 0.3), [common])
    for place in range(0, common.numel(), 7):
        expected = slope(lambda x: disentangle.alignment(x, SEEN, 0.3), common, place)
        assert gradient.flatten()[place].item() == pytest.approx(expected, abs=1e-8)


# Eq. 3.


def eq3(specific: np.ndarray, seen: np.ndarray, signed: bool) -> float:
    """Signed: the sum over ordered pairs of their mean cosine; else the mean over pairs of the mean squared cosine."""
    count, pairs = len(specific), []
    for i, j in itertools.permutations(range(count), 2):
        both = [u for u in range(len(seen)) if seen[u, i] and seen[u, j]]
        if both:
            pairs.append(
                np.mean(
                    [
                        (1 - cosine_distance(specific[i, u], specific[j, u]))
                        ** (1 if signed else 2)
                        for u in both
                    ]
                )
            )
    if signed:
        return float(np.sum(pairs))
    return float(np.mean(pairs)) if pairs else 0.0


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_eq3_by_a_loop_over_ordered_pairs_and_utterances(count: int, signed: bool) -> None:
    seen = torch.cat([SEEN, SEEN[:, 2:]], dim=1)[:, :count]
    lacking = seen.clone()
    lacking[:, 1] = False  # so some pairs stand in no utterance
    for given in (seen, lacking):
        specific = normal(count, N, WIDTH)
        found = disentangle.overlap(specific, given, signed)
        assert found.item() == pytest.approx(eq3(array(specific), given.numpy(), signed), rel=1e-12)
        assert torch.equal(disentangle.overlap(poison(specific, given), given, signed), found)


def test_eq3_as_printed_is_six_where_three_parts_are_the_same() -> None:
    same = torch.ones(3, 5, 4, dtype=torch.float64)
    every = torch.ones(5, 3, dtype=torch.bool)
    assert disentangle.overlap(same, every, signed=True).item() == pytest.approx(6)
    assert disentangle.overlap(same, every).item() == pytest.approx(1)


def test_eq3_is_least_where_parts_are_orthogonal_and_as_printed_where_they_are_opposed() -> None:
    """C2."""
    every = torch.ones(4, 2, dtype=torch.bool)
    first, second = torch.eye(2, dtype=torch.float64)
    across, against = torch.stack([first, 3 * second]), torch.stack([first, -2 * first])
    for signed, values in ((False, (0, 1)), (True, (0, -2))):
        found = [
            disentangle.overlap(x[:, None].expand(2, 4, 2), every, signed).item()
            for x in (across, against)
        ]
        assert found == pytest.approx(values, abs=1e-12)
    assert disentangle.overlap(normal(1, 4, 2), every[:, :1]).item() == 0


# Eq. 4 and C9.


@pytest.mark.parametrize(
    ("kind", "gaussian"),
    [("classes", False), ("score", False), ("score", True), ("binaries", False)],
)
def test_eq4_the_mean_over_modalities_of_the_mean_over_utterances_that_have_them(
    kind: str, gaussian: bool
) -> None:
    task = TASKS[kind]
    logits, labels = normal(3, N, 2 if gaussian else task.outputs), labels_of(task)
    lacking = SEEN.clone()
    lacking[:, 2] = False
    for seen in (SEEN, lacking):
        found = disentangle.predictors_loss(
            task, dict(zip(NAMES, logits, strict=True)), labels, seen, gaussian
        )
        means = []
        for m in range(3):
            each = losses_by_hand(task, array(logits[m]), labels.numpy(), gaussian)
            mine = [loss for loss, held in zip(each, seen[:, m].tolist(), strict=True) if held]
            means.append(float(np.mean(mine)) if mine else 0.0)
        assert found.item() == pytest.approx(np.mean(means), rel=1e-12)
        other = dict(zip(NAMES, poison(logits, seen), strict=True))
        assert torch.equal(disentangle.predictors_loss(task, other, labels, seen, gaussian), found)


def test_c9_the_gaussian_is_likeliest_at_the_score_and_with_the_squared_error_as_variance() -> None:
    labels = normal(6)
    logits = torch.stack([labels + torch.linspace(0.5, 3, 6), torch.zeros(6)], dim=1).double()
    logits[:, 1] = (logits[:, 0] - labels).square().log()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(disentangle.likelihood(logits, labels).sum(), [logits])
    assert gradient[:, 1].abs().max() < 1e-12
    np.testing.assert_allclose(array(gradient[:, 0]), 1 / array(logits[:, 0] - labels), rtol=1e-10)


# Eq. 6.


def components(names: Sequence[str] = NAMES) -> Components:
    drawn = normal(2, len(names), N, WIDTH, seed=5)
    return Components(
        dict(zip(names, drawn[0], strict=True)), dict(zip(names, drawn[1], strict=True)), {}, {}
    )


def others(modality: str, names: Sequence[str]) -> list[str]:
    return [m for m in names if m != modality]


def helper(modality: str, names: Sequence[str]) -> str:
    """E16: text helps audio and vision, audio text; else the first other one."""
    wanted = "audio" if modality == "text" else "text"
    return wanted if wanted in names else (others(modality, names) or [modality])[0]


def open_all(parts: Parts) -> None:
    """No ReLU of a generator shuts."""
    for layer in parts.generators.values():
        assert isinstance(layer, Mlp)
        layer.first.bias.data.fill_(50.0)


CASTS = [
    NAMES,
    ("audio", "vision"),
    ("gaze", "text"),
    ("audio", "gaze", "text", "vision"),
    ("text",),
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("names", CASTS, ids=len)
def test_eq6_by_a_loop_over_modalities_and_utterances_zeros_for_what_is_missing(
    names: Sequence[str], shared: bool
) -> None:
    parts, given = make_parts(names=names, shared=shared), components(names)
    seen = torch.cat([SEEN, SEEN[:, :1]], dim=1)[:, : len(names)]
    made, w = parts.generate(given, seen, 0.0), weights_of(parts)
    assert {k.split(".")[1] for k in w if k.startswith("generators")} == (
        {"all"} if shared else set(names)
    )
    for m in names:
        order = [m, *others(m, names)]
        for u in range(N):
            held = dict(zip(names, seen[u].tolist(), strict=True))
            common = {o: array(given.common[o])[u] * held[o] for o in names}
            specific = {o: array(given.specific[o])[u] * held[o] for o in names}
            told = (
                [common[helper(m, names)], specific[m]]
                if shared
                else [common[o] for o in order] + [specific[o] for o in order]
            )
            expected = mlp(np.concatenate(told), w, f"generators.{'all' if shared else m}")
            np.testing.assert_allclose(array(made[m])[u], expected, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_eq6_which_parts_reach_which_generator(shared: bool) -> None:
    """The paper's hears all of all modalities; the released one the own specific part and one common part (E16)."""
    parts, given = make_parts(shared=shared), components()
    open_all(parts)
    before = parts.generate(given, SEEN, 0.0)
    reached = {
        "common": {"audio": {"text"}, "text": {"audio", "vision"}, "vision": set()},
        "specific": {m: {m} for m in NAMES},
    }
    for part, (index, source) in itertools.product(("common", "specific"), enumerate(NAMES)):
        blank = given._replace(
            **{part: {**getattr(given, part), source: torch.zeros(N, WIDTH).double()}}
        )
        after = parts.generate(blank, SEEN, 0.0)
        for m in NAMES:
            changed = (after[m] != before[m]).any(dim=1)
            hears = not shared or m in reached[part][source]
            assert torch.equal(changed, SEEN[:, index] & hears)


def test_eq6_noise_of_the_given_size_falls_on_all_inputs_in_training_alone() -> None:
    """Where every ReLU is open a generator is linear, A x + b, so noise s on all of x has the covariance s^2 A A'."""
    parts, n = make_parts(), 20000
    open_all(parts)
    still = {m: normal(1, WIDTH).expand(n, WIDTH) for m in NAMES}
    given, seen = Components(still, still, {}, {}), torch.ones(n, 3, dtype=torch.bool)
    calm = parts.eval().generate(given, seen, 0.3)
    torch.manual_seed(0)
    noisy, w = parts.train().generate(given, seen, 0.3), weights_of(parts)
    for m in NAMES:
        through = w[f"generators.{m}.second.weight"] @ w[f"generators.{m}.first.weight"]
        expected = 0.3**2 * through @ through.T
        np.testing.assert_allclose(
            np.cov(array(noisy[m] - calm[m]).T), expected, atol=0.05 * np.trace(expected)
        )
        assert np.trace(expected) == pytest.approx(
            np.trace(np.cov(array(noisy[m] - calm[m]).T)), rel=0.02
        )
    state = torch.get_rng_state()
    assert torch.equal(parts.generate(given, seen, 0.0)["text"], calm["text"])
    assert torch.equal(torch.get_rng_state(), state)


# Eq. 7.


def test_eq7_rebuilding_pulls_on_what_is_made_and_not_on_its_target() -> None:
    z, made = normal(3, N, WIDTH).requires_grad_(), normal(3, N, WIDTH, seed=1).requires_grad_()
    found = disentangle.reconstruction(z, made, SEEN)
    means, expected = [], np.zeros(made.shape)
    for m in range(3):
        rows = [u for u in range(N) if ROWS[u][m]]
        means.append(
            np.mean([((array(made)[m, u] - array(z)[m, u]) ** 2).sum() / WIDTH for u in rows])
        )
        for u in rows:
            expected[m, u] = 2 * (array(made)[m, u] - array(z)[m, u]) / WIDTH / len(rows) / 3
    assert found.item() == pytest.approx(np.mean(means), rel=1e-12)
    assert torch.equal(disentangle.reconstruction(poison(z, SEEN), made, SEEN), found)
    found.backward()  # type: ignore[no-untyped-call]
    assert z.grad is None and made.grad is not None
    np.testing.assert_allclose(array(made.grad), expected, atol=1e-14)
