"""The hooks of the training loop: what methods may look at, what is held out, recorded, forgotten and carried on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmlib import fit as fit_module
from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, save_bundle
from mmlib.errors import InputError
from mmlib.fit import (
    Fitted,
    divide,
    evaluation_batches,
    fit,
    make_optimizer,
    memory,
    predict,
    remember,
    train_step,
)
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, to_device
from mmlib.runs import execute as execute_module
from mmlib.runs.execute import Outcome, execute
from mmlib.runs.spec import RunSpec, Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 4}
MLP = (("encoder", "mlp"), ("hidden", 8))
CPU = torch.device("cpu")
QUICK = Training(epochs=4, batch=3, lr=0.05, weight_decay=1e-3, optimizer="momentum", clip=0.0)


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_module, "pick_device", lambda: CPU)


@pytest.fixture(scope="module")
def bundle(toy: Toy) -> Bundle:
    """Ten training dialogues of 5 or 6 clips, two modalities."""
    return toy((5, 3, 6, 4) * 5, dims=DIMS)


def make(bundle: Bundle, kind: type[Plain] = Plain) -> Any:
    torch.manual_seed(0)
    return kind(build_backbone("concat", bundle.dims, 3, 1, MLP), bundle.task, None, bundle.dims)


def drawn(bundle: Bundle, split: str = "train") -> masks.Mask:
    return masks.draw(masks.complete(), bundle, split, 0)


def trained(
    method: Plain, bundle: Bundle, training: Training = QUICK, seed: int = 5, **more: Any
) -> Fitted:
    return fit(
        method,
        bundle,
        lambda _: drawn(bundle),
        drawn(bundle, "valid"),
        {"test": drawn(bundle, "test")},
        training,
        seed,
        device=CPU,
        **more,
    )


def clips(batches: list[Batch]) -> list[float]:
    """Which clips batches hold: each clip's first audio value is its own."""
    return [v for batch in batches for v in batch.features["audio"][:, 0].tolist()]


# What is looked at.


class Looking(Plain):
    """Holds a third out, notes what it sees where, practises on a copy, and tells what it found."""

    held_out = 0.34

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stepped: list[float] = []
        self.looked: list[dict[str, list[float]]] = []
        self.practised: list[float] = []
        self.times: list[tuple[int, int]] = []

    def loss(self, batch: Batch) -> Tensor:
        self.stepped += clips([batch])
        return super().loss(batch)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        self.times.append((peek.epoch, peek.epochs))
        self.looked.append(
            {name: clips(getattr(peek, name)()) for name in ("train", "valid", "held_out")}
        )
        other = copy.deepcopy(self)
        other.stepped = []
        peek.practise(other, 2)
        self.practised += other.stepped
        norm = self.backbone.prediction.weight.detach().norm()
        return (
            {"norm": norm, "head": self.backbone.prediction.weight.detach().clone()}
            if peek.epoch % 2
            else {}
        )

    def end_training(self, peek: Peek) -> dict[str, Tensor]:
        return (
            self.start_epoch(dataclasses.replace(peek, epoch=peek.epoch + 1))
            if peek.epoch == peek.epochs
            else {}
        )


def test_held_out_dialogues_are_in_no_step_and_practice_but_can_be_looked_at(
    bundle: Bundle,
) -> None:
    method = make(bundle, Looking)
    trained(method, bundle)
    everything = {
        split: set(bundle.features["audio"][bundle.rows(split), 0].tolist())
        for split in ("train", "valid")
    }
    assert [*range(4), 5] == [epoch for epoch, _ in method.times] and {
        n for _, n in method.times
    } == {4}
    for seen in method.looked:
        held, kept = seen["held_out"], seen["train"]
        assert (
            len(kept) + len(held) == len(set(kept) | set(held))
            and set(kept) | set(held) == everything["train"]
        )
        assert set(seen["valid"]) == everything["valid"]
        assert seen == method.looked[0]
        assert set(method.stepped) == set(method.practised) == set(kept)
    whole = {
        frozenset(bundle.features["audio"][rows, 0].tolist()) for rows in bundle.dialogues("train")
    }
    assert (
        sum(dialogue <= set(method.looked[0]["held_out"]) for dialogue in whole) == 3
    )  # of ten, and no part of one
    assert sum(dialogue <= set(method.looked[0]["train"]) for dialogue in whole) == 7
    assert len(method.stepped) == 4 * len(set(method.stepped))


def test_a_look_is_in_order_and_what_is_held_out_depends_on_the_seed_alone() -> None:
    kept, held = divide(50, 0.2, 3)
    assert len(held) == 10 and sorted([*kept, *held]) == list(range(50))
    assert list(kept) == sorted(kept) and list(held) == sorted(held)
    assert np.array_equal(held, divide(50, 0.2, 3)[1]) and not np.array_equal(
        held, divide(50, 0.2, 4)[1]
    )
    assert [len(part) for part in divide(7, 0.0, 0)] == [7, 0]


def test_looking_and_practising_on_a_copy_change_nothing(bundle: Bundle) -> None:
    class Same(Looking):
        held_out = 0.0

    one, two = make(bundle), make(bundle, Same)
    plain, looking = trained(one, bundle), trained(two, bundle)
    assert np.array_equal(plain.tests["test"], looking.tests["test"]) and np.array_equal(
        plain.loss, looking.loss
    )
    assert plain.recorded == {} and plain.recorded_at == ()


def test_what_was_found_is_recorded_with_its_epochs_the_end_included(bundle: Bundle) -> None:
    method = make(bundle, Looking)
    found = trained(method, bundle)
    assert found.recorded_at == (1, 3, 4) and {k: v.shape for k, v in found.recorded.items()} == {
        "norm": (3,),
        "head": (3, 3, 16),
    }
    np.testing.assert_array_equal(
        found.recorded["head"][-1], method.backbone.prediction.weight.detach().numpy()
    )
    norms = np.sqrt((found.recorded["head"] ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(found.recorded["norm"], norms, rtol=1e-6)
    assert not np.array_equal(found.recorded["head"][0], found.recorded["head"][1])


# Views.


def test_views_are_evaluated_beside_the_prediction_after_every_epoch(bundle: Bundle) -> None:
    method = make(bundle)
    found = trained(method, bundle)
    assert set(found.views) == {f"{split}.{m}" for split in ("valid", "test") for m in DIMS}
    for split, whole in (("valid", found.valid), ("test", found.tests["test"])):
        both = found.views[f"{split}.audio"] + found.views[f"{split}.vision"]
        np.testing.assert_allclose(both, whole, atol=1e-5)  # the head's logits split
        assert not np.allclose(found.views[f"{split}.audio"], both / 2, atol=0.1)
    outputs = predict(
        method, evaluation_batches(to_device(bundle, "test", drawn(bundle, "test"), CPU))
    )
    np.testing.assert_array_equal(outputs["vision"].numpy(), found.views["test.vision"][-1])


def test_a_test_mask_that_is_named_like_the_validation_split_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="'valid'"):
        fit(
            make(bundle),
            bundle,
            lambda _: drawn(bundle),
            drawn(bundle, "valid"),
            {"valid": drawn(bundle, "test")},
            QUICK,
            5,
            device=CPU,
        )


# Steps and optimizers.


def test_momentum_is_the_formula_with_coupled_weight_decay_also_where_a_first_gradient_comes_late() -> (
    None
):
    torch.manual_seed(0)
    layer, lr, decay = nn.Linear(5, 4).double(), 0.03, 0.1
    optimizer = make_optimizer(layer, Training(lr=lr, weight_decay=decay, optimizer="momentum"))  # type: ignore[arg-type]
    parameters = {"weight": layer.weight, "bias": layer.bias}
    theta = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    velocity = {name: np.zeros_like(value) for name, value in theta.items()}
    for step in range(6):
        optimizer.zero_grad(set_to_none=True)
        x = torch.randn(7, 5, dtype=torch.float64)
        outputs = layer(x) if step > 1 else x @ layer.weight.T
        outputs.square().sum().backward()
        gradients = {
            name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None
        }
        optimizer.step()
        assert len(gradients) == (2 if step > 1 else 1)
        for name, gradient in gradients.items():
            velocity[name] = 0.9 * velocity[name] + gradient + decay * theta[name]
            theta[name] = theta[name] - lr * velocity[name]
        for name, p in parameters.items():
            np.testing.assert_allclose(p.detach().numpy(), theta[name], rtol=1e-10)


class Twice(Plain):
    """First the fused loss, then, once that step is taken, ten times the audio logits' loss."""

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        yield self.loss(batch)
        yield 10 * self.task_loss(self.views(self(batch))["audio"], batch.labels)


def test_each_of_a_methods_losses_has_a_step_of_its_own_before_the_next_is_computed(
    bundle: Bundle,
) -> None:
    method, other = make(bundle, Twice), make(bundle)
    batch = to_device(bundle, "train", drawn(bundle), CPU).batch([0, 1, 2])
    sgd = Training(lr=0.1, weight_decay=0.0, optimizer="sgd")
    total = train_step(method, batch, make_optimizer(method, sgd), 0.0)
    values = []
    for turn in range(2):
        loss = (
            other.loss(batch)
            if not turn
            else 10 * other.task_loss(other.views(other(batch))["audio"], batch.labels)
        )
        other.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in other.parameters():
                p -= 0 if p.grad is None else 0.1 * p.grad
        values.append(loss.item())
    assert total.item() == pytest.approx(sum(values), rel=1e-6) and not total.requires_grad
    for ours, expected in zip(method.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("kind", ["adam", "momentum", "sgd"])
def test_an_optimizer_that_remembers_goes_on_bit_by_bit(bundle: Bundle, kind: str) -> None:
    training = dataclasses.replace(QUICK, optimizer=kind)
    train = to_device(bundle, "train", drawn(bundle), CPU)
    one = make(bundle)
    optimizer = make_optimizer(one, training)
    for step in range(3):
        train_step(one, train.batch([step, step + 1]), optimizer, 0.0)
    kept, ends = memory(optimizer), {}
    assert {key.split(".")[1] for key in kept} == {
        "adam": {"exp_avg", "exp_avg_sq", "step"},
        "momentum": {"momentum_buffer"},
        "sgd": set(),
    }[kind]
    for name in ("unbroken", "remembers", "forgets"):
        method = copy.deepcopy(one)
        again = make_optimizer(method, training)
        if name == "unbroken":
            again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        if name == "remembers":
            remember(again, kept)
        for step in range(3):
            train_step(method, train.batch([step + 4, step]), again, 0.0)
        ends[name] = torch.cat([p.detach().flatten() for p in method.parameters()])
    assert torch.equal(ends["unbroken"], ends["remembers"])
    assert torch.equal(ends["unbroken"], ends["forgets"]) == (kind == "sgd")
    assert all(
        torch.equal(value, kept[key]) for key, value in memory(optimizer).items()
    )  # no step has changed them


class Forgetful(Plain):
    """Forgets before epoch 2."""

    def resets(self, epoch: int) -> bool:
        return epoch == 2


@pytest.mark.parametrize("kind", ["adam", "momentum"])
def test_a_reset_starts_a_fresh_optimizer_with_the_weights_as_they_are(
    bundle: Bundle, kind: str
) -> None:
    training = dataclasses.replace(QUICK, optimizer=kind, batch=10)  # all ten dialogues in one step
    found = trained(make(bundle, Forgetful), bundle, training)
    method = make(bundle)
    batch = to_device(bundle, "train", drawn(bundle), CPU).batch(range(10))
    for _ in range(2):
        optimizer = make_optimizer(method, training)
        for _ in range(2):
            train_step(method, batch, optimizer, 0.0)
    outputs = predict(
        method, evaluation_batches(to_device(bundle, "test", drawn(bundle, "test"), CPU))
    )[""]
    np.testing.assert_allclose(found.tests["test"][-1], outputs.numpy(), atol=1e-5)
    assert not np.allclose(
        trained(make(bundle), bundle, training).tests["test"][-1], outputs.numpy(), atol=1e-3
    )


def test_evaluation_batches_hold_a_bounded_number_of_values(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = toy((1,) * 40, dims=DIMS)
    resident = to_device(pictures, "train", drawn(pictures), CPU)
    assert [len(b) for b in evaluation_batches(resident)] == [20]
    monkeypatch.setattr(fit_module, "EVALUATION_VALUES", 45)  # four rows of 6 + 4 values
    few = evaluation_batches(resident)
    assert max(len(b) for b in few) == 4 and clips(few) == clips([resident.batch(range(20))])
    assert clips(evaluation_batches(resident, np.array([3, 5, 11]))) == clips(
        [resident.batch([3, 5, 11])]
    )
    monkeypatch.setattr(fit_module, "EVALUATION_VALUES", 1)  # a row is never split
    assert [len(b) for b in evaluation_batches(resident)] == [1] * 20


# Runs that go on from others.


@pytest.fixture(scope="module")
def folder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a single training dialogue, so that every epoch is one step with its clips in the same order."""
    whole = toy((14, 6, 5, 7), dims=DIMS)
    one = dataclasses.replace(
        whole, split=np.where(whole.dialogue == 2, 1, whole.split).astype(np.int8)
    )
    path: Path = tmp_path_factory.mktemp("bundles") / "toy"
    save_bundle(one, path)
    return path


def spec(
    folder: Path,
    epochs: int,
    variant: str = "paper",
    warmup: int = 0,
    kind: str = "momentum",
    **fields: Any,
) -> RunSpec:
    training = Training(epochs, 4, 0.05, 1e-4, kind, 0.0)
    return RunSpec(
        str(folder),
        3,
        "gmm_loss",
        variant,
        (("round_epochs", 2), ("warmup", warmup)),
        "concat",
        MLP,
        training=training,
        **{"keep": ("last", "found"), **fields},
    )


def same_arrays(one: Outcome, two: Outcome, prefix: str) -> bool:
    names = [name for name in one.arrays if name.startswith(prefix)]
    assert names and all(name in two.arrays for name in names)
    return all(one.arrays[name].tobytes() == two.arrays[name].tobytes() for name in names)


@pytest.mark.parametrize("kind", ["momentum", "adam"])
@pytest.mark.parametrize("variant", ["paper", "same_state"])
def test_a_run_that_goes_on_from_a_warm_up_equals_one_long_run_bit_by_bit(
    folder: Path, variant: str, kind: str
) -> None:
    parent = spec(folder, 3, warmup=3, kind=kind)
    first = execute(parent)
    child = execute(spec(folder, 5, variant, kind=kind, parent=parent), first.arrays)
    long = execute(spec(folder, 8, variant, warmup=3, kind=kind))
    assert same_arrays(child, long, "weights.") and same_arrays(child, long, "memory.")
    assert same_arrays(child, long, "predictions.last.") and same_arrays(child, long, "found.")
    curves = {
        name: run.record["curves"]
        for name, run in (("parent", first), ("child", child), ("long", long))
    }
    for key in ("loss", "valid"):
        parts = [curves["parent"][key], curves["child"][key]]
        joined = (
            parts[0] + parts[1]
            if key == "loss"
            else {k: parts[0][k] + parts[1][k] for k in parts[0]}
        )
        assert joined == curves["long"][key]
    assert curves["child"]["found"]["epochs"] == [0, 2, 4, 5] and curves["long"]["found"][
        "epochs"
    ] == [3, 5, 7, 8]
    assert curves["child"]["found"]["means"] == curves["long"]["found"]["means"]
    other = {"paper": "same_state", "same_state": "paper"}[variant]
    assert not same_arrays(
        execute(spec(folder, 5, other, kind=kind, parent=parent), first.arrays), long, "weights."
    )


def test_views_and_small_findings_stand_in_the_record(folder: Path) -> None:
    outcome = execute(spec(folder, 3))
    views, found = outcome.record["curves"]["views"], outcome.record["curves"]["found"]
    assert set(views) == {f"{split}.{m}" for split in ("valid", "test") for m in DIMS}
    assert all(
        len(curve["accuracy"]) == 3 and 0 <= min(curve["accuracy"]) for curve in views.values()
    )
    assert set(found) == {"epochs", "gap", "shares", "means", "variances"} and found["epochs"] == [
        0,
        2,
        3,
    ]
    assert np.allclose(np.sum(found["shares"], axis=1), 1) and np.shape(found["gap"]) == (3, 14)
    assert np.array_equal(outcome.arrays["found.gap"], np.array(found["gap"], np.float32))
    bare = execute(spec(folder, 3, keep=()))
    assert bare.record["curves"] == outcome.record["curves"]
    assert all(name.startswith(("predictions.", "clusters.")) for name in bare.arrays)


def test_a_views_curve_is_the_accuracy_of_its_own_logits(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "toy")
    one = RunSpec(
        str(tmp_path / "toy"),
        3,
        backbone="concat",
        backbone_options=MLP,
        training=QUICK,
        keep=("last",),
    )
    outcome = execute(one)
    weights = {
        k.removeprefix("weights."): torch.from_numpy(v)
        for k, v in outcome.arrays.items()
        if k.startswith("weights.")
    }
    method = execute_module.build(one, bundle)
    method.load_state_dict(weights)
    for split in ("valid", "test"):
        outputs = predict(
            method, evaluation_batches(to_device(bundle, split, drawn(bundle, split), CPU))
        )
        for m in DIMS:
            right = outputs[m].argmax(dim=1).numpy() == bundle.labels[bundle.rows(split)]
            curve = outcome.record["curves"]["views"][f"{split}.{m}"]["accuracy"]
            assert curve[-1] == pytest.approx(100 * right.mean())


def test_the_last_weights_stay_the_last_where_embeddings_of_the_best_epoch_are_kept_too(
    bundle: Bundle, tmp_path: Path
) -> None:
    save_bundle(bundle, tmp_path / "toy")
    one = RunSpec(
        str(tmp_path / "toy"),
        3,
        backbone="concat",
        backbone_options=MLP,
        keep=("last",),
        training=dataclasses.replace(QUICK, epochs=8, lr=0.3),
    )
    alone, both = execute(one), execute(dataclasses.replace(one, keep=("last", "embeddings")))
    assert alone.record["selected"]["valid"]["epoch"]["test"] < 7
    assert same_arrays(alone, both, "weights.")


def test_a_run_that_goes_on_from_an_optimizers_state_needs_a_parent_that_keeps_it(
    folder: Path,
) -> None:
    parent = spec(folder, 2, warmup=2, keep=("weights",))
    arrays = execute(parent).arrays
    assert not any(name.startswith("memory.") for name in arrays)
    with pytest.raises(InputError, match="optimizer state"):
        execute(spec(folder, 2, "same_state", parent=parent), arrays)
    execute(spec(folder, 2, parent=parent), arrays)
