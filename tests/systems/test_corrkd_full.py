"""CorrKD's three losses by loops, its laws, and what teacher and student are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, TASKS, batch_of, built, chain
from torch import Tensor

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.corrkd import Bound, Corrkd, prototypes, samples, split
from mmlib.nn.batch import Batch

Toy = Callable[..., Bundle]
TEACHER = Stage("reference", "corrkd")


def hidden(n: int = 7, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, width, generator=generator, dtype=torch.float64)
    return first, second


def pair(toy: Toy, task: Task = CLASSES, variant: str = "paper", **options: Any) -> Corrkd:
    """A student with a teacher."""
    bundle = toy(dims=DIMS[3], task=task)
    student = Stage("corrkd", "corrkd", variant, tuple(options.items()))
    method = list(chain((TEACHER, student), bundle))[-1]
    assert isinstance(method, Corrkd)
    return method.train()


@pytest.mark.parametrize("margin", [0.0, 1.2, 4.0])
def test_samples_are_pulled_to_themselves_and_pushed_from_others_within_the_margin(
    margin: float,
) -> None:
    student, teacher = (x.numpy() for x in hidden())
    n = len(student)
    distance = [[np.linalg.norm(s - t) for t in teacher] for s in student]
    near = np.mean([distance[i][i] ** 2 for i in range(n)])
    others = [max(0, margin - distance[i][j]) ** 2 for i in range(n) for j in range(n) if i != j]
    expected = near + np.mean(others)
    assert samples(*hidden(), margin).item() == pytest.approx(expected)


def test_scd_is_zero_only_where_the_student_is_the_teacher_and_samples_are_apart() -> None:
    teacher = 3 * torch.eye(5, dtype=torch.float64)  # 3 sqrt 2 apart
    assert samples(teacher, teacher, 4.2).item() == pytest.approx(0, abs=1e-9)
    assert samples(teacher, teacher, 4.3).item() > 1e-3
    assert samples(teacher + 0.1, teacher, 0.0).item() > 1e-3


def test_at_unit_length_scd_does_not_see_the_size() -> None:
    student, teacher = hidden()
    before, after = (samples(c * student, teacher, 1.2, unit=True) for c in (1, 5))
    torch.testing.assert_close(before, after)


def test_cpd_by_loops_over_the_classes_that_are_there() -> None:
    student, teacher = hidden()
    labels = np.array([0, 0, 2, 2, 0, 2, 0])  # nobody is of class 1
    of_kind = torch.from_numpy(np.eye(3)[labels])

    def cosines(x: np.ndarray) -> np.ndarray:
        centres = [x[labels == k].mean(axis=0) for k in (0, 2)]
        return np.array(
            [[row @ c / np.linalg.norm(row) / np.linalg.norm(c) for c in centres] for row in x]
        )

    expected = np.abs(cosines(student.numpy()) - cosines(teacher.numpy())).mean()
    assert prototypes(student, teacher, of_kind).item() == pytest.approx(expected)


def test_cpd_does_not_see_the_students_size_and_axes_and_scd_does() -> None:
    student, teacher = hidden()
    of_kind = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 0, 1, 2, 0])]
    turned = 2.5 * student @ torch.linalg.qr(hidden(6, 6, seed=1)[0])[0]
    torch.testing.assert_close(
        prototypes(turned, teacher, of_kind), prototypes(student, teacher, of_kind)
    )
    assert (samples(turned, teacher, 1.2) - samples(student, teacher, 1.2)).abs() > 0.1


def test_the_bound_by_hand() -> None:
    torch.manual_seed(0)
    bound, order = Bound(2).double(), torch.tensor([2, 0, 1])
    student, teacher = hidden(3, 2)
    first, second = bound.first, bound.second

    def statistic(s: np.ndarray, t: np.ndarray) -> float:
        inner = first.weight.detach().numpy() @ np.concatenate([s, t]) + array(first.bias)
        return float((array(second.weight) @ np.maximum(inner, 0) + array(second.bias))[0])

    joint = [statistic(student[i].numpy(), teacher[i].numpy()) for i in range(3)]
    apart = [statistic(student[i].numpy(), teacher[order[i]].numpy()) for i in range(3)]
    expected = -np.mean(np.log1p(np.exp(-np.array(joint)))) - np.mean(np.log1p(np.exp(apart)))
    assert bound(student, teacher, order).item() == pytest.approx(expected)


def test_a_trained_bound_tells_shared_information_from_none() -> None:
    """The best value is that of log-odds; without any shared information it is -2 log 2."""
    torch.manual_seed(0)
    student = torch.rand(2000, 1)
    values = []
    for teacher in (student.clone(), torch.rand(2000, 1)):
        bound = Bound(1)
        optimizer = torch.optim.Adam(bound.parameters(), lr=0.02)
        for _ in range(150):
            value = bound(student, teacher, torch.randperm(2000))
            optimizer.zero_grad()
            (-value).backward()
            optimizer.step()
        values.append(value.item())
    assert values[0] > -1.0
    assert values[1] == pytest.approx(-2 * np.log(2), abs=0.03)


def test_responses_are_split_into_the_right_class_and_the_others_in_order() -> None:
    responses, truth = torch.rand(4, 3), torch.tensor([0, 1, 2, 1])
    target, others = split(responses, truth)
    for row in range(4):
        rest = [responses[row, k].item() for k in range(3) if k != truth[row]]
        assert target[row].item() == responses[row, truth[row]].item()
        assert others[row].tolist() == rest


def test_the_parent_becomes_the_teacher_and_the_student_stays(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    parent, method = built(TEACHER, bundle, 1), built(Stage("corrkd", "corrkd"), bundle, 2)
    assert isinstance(method, Corrkd)
    before = {k: v.clone() for k, v in method.backbone.state_dict().items()}
    method.load_state_dict(parent.state_dict(), strict=False)
    for name, value in parent.backbone.state_dict().items():
        assert torch.equal(method.teacher.state_dict()[name], value)
        assert torch.equal(method.backbone.state_dict()[name], before[name])
    again = built(Stage("corrkd", "corrkd"), bundle, 3)
    again.load_state_dict(method.state_dict())
    for name, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_without_a_teacher_it_predicts_and_does_not_train(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = built(Stage("corrkd", "corrkd"), bundle)
    assert method(batch_of(bundle)).logits.isfinite().all()
    with pytest.raises(InputError, match="no teacher"):
        method.loss(batch_of(bundle))


def test_another_networks_weights_are_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    other = built(Stage("reference", "corrkd", network=(("hidden", 32),)), bundle)
    with pytest.raises(InputError, match="another network"):
        built(Stage("corrkd", "corrkd"), bundle).load_state_dict(other.state_dict(), strict=False)


def shown(method: Corrkd, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which modalities have anything in what student and teacher get in a loss, (n, M) each."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: object, given: tuple[Batch, Mapping[str, Tensor]]) -> None:
            seen[name] = torch.stack([given[1][m].any(dim=1) for m in sorted(given[1])], dim=1)

        return hook

    method.backbone.register_forward_pre_hook(note("student"))
    method.teacher.register_forward_pre_hook(note("teacher"))
    method.loss(batch)
    return seen["student"], seen["teacher"]


def test_the_teacher_sees_what_a_row_has_and_the_student_less_in_some_rows(toy: Toy) -> None:
    method, batch = pair(toy, dropped=1.0), batch_of(toy(dims=DIMS[3]))
    student, teacher = shown(method, batch)
    several = batch.observed.sum(dim=1) > 1
    assert torch.equal(teacher, batch.observed)
    assert not (student & ~batch.observed).any() and student.any(dim=1).all()
    assert ((student != teacher).any(dim=1) == several).all() and several.any()


def test_with_complete_rows_the_teacher_sees_all_and_the_student_what_the_mask_shows(
    toy: Toy,
) -> None:
    method, batch = pair(toy, variant="complete"), batch_of(toy(dims=DIMS[3]))
    assert method.backbone.needs_complete
    student, teacher = shown(method, batch)
    assert teacher.all() and torch.equal(student, batch.observed)


@pytest.mark.parametrize("task", TASKS)
def test_without_its_losses_it_is_the_network_by_itself(task: str, toy: Toy) -> None:
    method = pair(toy, TASKS[task], scd=False, cpd=False, rcd=False, dropped=0.0)
    batch = batch_of(toy(dims=DIMS[3], task=TASKS[task]))
    plain = built(TEACHER, toy(dims=DIMS[3], task=TASKS[task]))
    plain.load_state_dict({k: v for k, v in method.state_dict().items() if k in plain.state_dict()})
    torch.testing.assert_close(method.loss(batch), plain.loss(batch))


@pytest.mark.parametrize("task", [CLASSES, SCORE, Task("binaries", ("x", "y"))], ids=str)
def test_the_student_learns_and_the_teacher_does_not(task: Task, toy: Toy) -> None:
    method, batch = pair(toy, task), batch_of(toy(dims=DIMS[3], task=task))
    method.loss(batch).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not method.teacher.training
    for trained in (method.backbone, method.of_target, method.of_others):
        assert all(p.grad is not None for p in trained.parameters())


def array(values: Tensor) -> np.ndarray:
    return values.detach().numpy()
