"""The training loop and the way from a spec to its record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmlib import fit as fit_module
from mmlib import masks, metrics
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.errors import InputError
from mmlib.fit import Fitted, fit, make_optimizer, predict, train_step
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, to_device
from mmlib.runs import execute as execute_module
from mmlib.runs.execute import Outcome, build, execute, prepare
from mmlib.runs.spec import RunSpec, Training

Toy = Callable[..., Bundle]
SIZES = (("hidden", 8), ("graph", 6), ("layers", 2))
LAW = masks.imbalanced({"audio": 0.3, "text": 0.5, "vision": 0.6})
TESTS = (("same", LAW), ("text", masks.subset(["text"])), ("all", masks.complete()))
QUICK = Training(epochs=4, batch=3, lr=0.02)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "pick_device", lambda: CPU)
    monkeypatch.setattr(execute_module, "pick_device", lambda: CPU)


@pytest.fixture(scope="module")
def folder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle of 8 training, 4 validation and 4 test dialogues."""
    return stored(toy(), tmp_path_factory.mktemp("bundles") / "toy")


def stored(bundle: Bundle, folder: Path) -> Path:
    save_bundle(bundle, folder)
    return folder


def spec(folder: Path, seed: int = 3, **fields: Any) -> RunSpec:
    return RunSpec(str(folder), seed, **{"backbone_options": SIZES, "train_mask": LAW, "eval_masks": TESTS,
                                         "training": QUICK, **fields})


def content(outcome: Outcome) -> bytes:
    arrays = b"".join(k.encode() + v.tobytes() for k, v in sorted(outcome.arrays.items()))
    return json.dumps(outcome.record, sort_keys=True).encode() + arrays


def plain(bundle: Bundle, kind: type[Plain] = Plain, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    backbone = build_backbone("mmgcn", bundle.dims, bundle.task.outputs, bundle.speakers, [*SIZES, *options.items()])
    return kind(backbone, bundle.task, None, bundle.dims)


def masks_of(bundle: Bundle, law: masks.Law = LAW) -> dict[str, masks.Mask]:
    return {split: masks.draw(law, bundle, split, 0) for split in ("train", "valid", "test")}


def run(method: Plain, bundle: Bundle, training: Training = QUICK, seed: int = 5, **options: Any) -> Fitted:
    drawn = masks_of(bundle)
    tests = {"test": drawn["test"]}
    return fit(method, bundle, lambda _: drawn["train"], drawn["valid"], tests, training, seed, **options)


# Equal runs, and what a run may depend on.


@pytest.mark.parametrize("method, variant", [("plain", "paper"), ("balm", "paper"), ("balm", "released")])
def test_two_runs_of_one_spec_give_the_same_record_and_array_bytes(folder: Path, method: str, variant: str) -> None:
    one = spec(folder, method=method, variant=variant, keep=("weights", "series"))
    first = execute(one)
    torch.manual_seed(123)
    np.random.seed(321)
    execute(spec(folder, seed=4))
    assert content(execute(one)) == content(first)
    assert content(execute(dataclasses.replace(one, seed=4))) != content(first)


def test_another_process_with_another_hash_seed_gives_the_same_bytes(folder: Path) -> None:
    one = spec(folder, method="balm", variant="released", keep=("weights",))
    code = ("import json, sys, hashlib\n"
            "from mmlib.runs.execute import execute\n"
            "from mmlib.runs.spec import spec_from_json\n"
            "o = execute(spec_from_json(json.loads(sys.argv[1])))\n"
            "a = b''.join(k.encode() + v.tobytes() for k, v in sorted(o.arrays.items()))\n"
            "print(hashlib.sha256(json.dumps(o.record, sort_keys=True).encode() + a).hexdigest())")
    environment = {**os.environ, "PYTHONHASHSEED": "77", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code, json.dumps(one.to_json())], capture_output=True, text=True,
                          env=environment, cwd=Path(fit_module.__file__).parents[1], check=True)
    assert done.stdout.strip() == hashlib.sha256(content(execute(one))).hexdigest()


@pytest.mark.parametrize("method, variant", [("plain", "paper"), ("balm", "paper"), ("balm", "released")])
def test_corrupting_every_test_feature_and_label_changes_no_trained_weight(
        toy: Toy, folder: Path, tmp_path: Path, method: str, variant: str) -> None:
    bundle = toy()
    test = bundle.split == 2
    features = {m: np.where(test[:, None], 100 - 7 * x, x) for m, x in bundle.features.items()}
    labels = np.where(test, (bundle.labels + 1) % 3, bundle.labels)
    spoilt = stored(dataclasses.replace(bundle, features=features, labels=labels), tmp_path / "spoilt")
    clean, other = (execute(spec(f, method=method, variant=variant, keep=("weights",))) for f in (folder, spoilt))
    weights = [k for k in clean.arrays if k.startswith("weights.")]
    assert len(weights) > 20 and all(clean.arrays[k].tobytes() == other.arrays[k].tobytes() for k in weights)
    assert clean.record["curves"]["loss"] == other.record["curves"]["loss"]
    assert clean.record["curves"]["valid"] == other.record["curves"]["valid"]
    assert clean.record["selected"]["valid"]["epoch"] == other.record["selected"]["valid"]["epoch"]
    assert clean.record["curves"]["test"] != other.record["curves"]["test"]


def test_corrupting_validation_changes_the_pick_and_nothing_that_was_trained(toy: Toy) -> None:
    bundle = toy()
    features = {m: np.where((bundle.split == 1)[:, None], -x, x) for m, x in bundle.features.items()}
    one, two = plain(bundle), plain(bundle)
    clean, other = run(one, bundle), run(two, dataclasses.replace(bundle, features=features))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert np.array_equal(clean.tests["test"], other.tests["test"]) and not np.array_equal(clean.valid, other.valid)


def test_what_the_masks_hide_changes_nothing_anywhere(toy: Toy) -> None:
    bundle, drawn = toy(), masks_of(toy())
    features = {m: x.copy() for m, x in bundle.features.items()}
    for split, mask in drawn.items():
        for index, modality in enumerate(bundle.modalities):
            features[modality][bundle.rows(split)[~mask.utterance[:, index]]] = np.nan
    seen, hidden = (run(plain(bundle), b) for b in (bundle, dataclasses.replace(bundle, features=features)))
    assert np.array_equal(seen.loss, hidden.loss) and np.array_equal(seen.tests["test"], hidden.tests["test"])


def test_equal_seeds_give_equal_initial_backbones_for_different_methods(folder: Path) -> None:
    bundle = prepare(spec(folder))
    made = [build(spec(folder, method=m, variant=v), bundle).backbone.state_dict()
            for m, v in (("plain", "paper"), ("balm", "paper"), ("balm", "probe"), ("balm", "released"))]
    assert all(torch.equal(made[0][k], other[k]) for other in made[1:] for k in made[0])
    other = build(spec(folder, seed=4), bundle).backbone.state_dict()
    assert not torch.equal(made[0]["prediction.weight"], other["prediction.weight"])


# What is trained on, when and how often.


class Watched(Plain):
    """A plain method that notes what it is trained on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[list[float]] = []
        self.losses: list[float] = []

    def loss(self, batch: Batch) -> Tensor:
        assert self.training
        self.seen.append(batch.features["audio"][:, 0].tolist())
        value = super().loss(batch)
        self.losses.append(value.item())
        return value


def test_every_epoch_takes_each_dialogue_once_in_a_new_order_set_by_the_seed(toy: Toy) -> None:
    bundle = toy()
    complete = masks_of(bundle, masks.complete())
    everything = sorted(bundle.features["audio"][bundle.rows("train"), 0].tolist())
    orders = []
    for seed in (5, 5, 6):
        method = plain(bundle, Watched)
        found = fit(method, bundle, lambda _: complete["train"], complete["valid"], {}, QUICK, seed)
        steps = 3  # eight dialogues, three at a time
        assert len(method.seen) == QUICK.epochs * steps
        epochs = [[v for step in method.seen[e * steps:(e + 1) * steps] for v in step] for e in range(QUICK.epochs)]
        assert all(sorted(epoch) == everything for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == QUICK.epochs
        np.testing.assert_allclose(found.loss, np.reshape(method.losses, (QUICK.epochs, steps)).mean(axis=1), rtol=1e-6)
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


def test_series_have_one_row_per_step_and_one_column_per_modality(folder: Path) -> None:
    arrays = execute(spec(folder, method="balm", keep=("series",))).arrays
    shapes = {k: v.shape for k, v in arrays.items() if k.startswith("series.")}
    assert shapes == {f"series.{k}": (QUICK.epochs * 3, 3) for k in ("kl", "cosine", "mu", "gradient_norm")}
    assert not any(k.startswith("series.") for k in execute(spec(folder, method="balm")).arrays)


@pytest.mark.parametrize("resampled", [False, True])
def test_a_resampled_train_mask_is_asked_for_every_epoch_and_a_fixed_one_once(toy: Toy, resampled: bool) -> None:
    bundle, asked = toy(), []
    drawn = masks_of(bundle)

    def train_mask(epoch: int) -> masks.Mask:
        asked.append(epoch)
        return masks.draw(masks.shared(0.5, resampled=True), bundle, "train", 0, epoch)

    method = plain(bundle, Watched)
    fit(method, bundle, train_mask, drawn["valid"], {}, QUICK, 5, resampled=resampled)
    assert asked == ([0, 1, 2, 3] if resampled else [0])
    epochs = [sorted(v for step in method.seen[e * 3:(e + 1) * 3] for v in step) for e in range(4)]
    assert len(set(map(tuple, epochs))) == (4 if resampled else 1)


# Optimizers.


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_optimizers_steps_equal_the_formulas_with_coupled_weight_decay(kind: str) -> None:
    torch.manual_seed(0)
    layer, lr, decay = nn.Linear(5, 4).double(), 0.03, 0.1
    optimizer = make_optimizer(layer, Training(lr=lr, weight_decay=decay, optimizer=kind))  # type: ignore[arg-type]
    theta = layer.weight.detach().numpy().copy()
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, 6):
        x = torch.randn(7, 5, dtype=torch.float64)
        optimizer.zero_grad()
        layer(x).square().sum().backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        gradient = layer.weight.grad.numpy() + decay * theta
        optimizer.step()
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        adam = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        theta = theta - lr * (adam if kind == "adam" else gradient)
        np.testing.assert_allclose(layer.weight.detach().numpy(), theta, rtol=1e-10)


class Scaled(Plain):
    """A plain method whose encoder gradients are multiplied by a constant."""

    factor = 1.0

    def after_backward(self) -> None:
        for p in self.backbone.encoders.parameters():  # type: ignore[union-attr]
            p.grad.mul_(self.factor)  # type: ignore[union-attr]


def largest_change(bundle: Bundle, training: Training, eps: float = 1e-300) -> float:
    """By how much scaling the encoders' gradients by 0.37 changes the weights after ten steps."""
    ends = []
    for factor in (1.0, 0.37):
        method = plain(bundle, Scaled, dropout=0.0).double()
        method.factor = factor
        optimizer = make_optimizer(method, training)
        optimizer.param_groups[0]["eps"] = eps
        train = to_device(bundle, "train", masks_of(bundle)["train"], CPU)
        for step in range(10):
            batch = train.batch([step % 8, (step + 3) % 8])
            batch = dataclasses.replace(batch, features={m: x.double() for m, x in batch.features.items()})
            train_step(method, batch, optimizer, training.clip)
        ends.append(nn.utils.parameters_to_vector(method.parameters()))
    return (ends[0] - ends[1]).abs().max().item()


def test_a_constant_gradient_scale_changes_nothing_under_adam_and_something_under_sgd(toy: Toy) -> None:
    bundle, bare = toy(), Training(lr=0.01, weight_decay=0.0, clip=0.0)
    assert largest_change(bundle, bare) < 1e-9
    assert largest_change(bundle, dataclasses.replace(bare, optimizer="sgd")) > 1e-4
    # What makes the difference under Adam after all: weight decay, clipping, epsilon.
    assert largest_change(bundle, dataclasses.replace(bare, weight_decay=0.01)) > 1e-4
    assert largest_change(bundle, dataclasses.replace(bare, clip=0.5)) > 1e-6
    assert largest_change(bundle, bare, eps=1e-2) > 1e-4


@pytest.mark.parametrize("optimizer, same", [("adam", True), ("sgd", False)])
def test_eq21_rho_alone_changes_nothing_under_adam_and_something_under_sgd(
        toy: Toy, monkeypatch: pytest.MonkeyPatch, optimizer: str, same: bool) -> None:
    make = fit_module.make_optimizer

    def without_epsilon(*arguments: Any) -> torch.optim.Optimizer:
        made = make(*arguments)
        made.param_groups[0]["eps"] = 1e-30
        return made

    monkeypatch.setattr(fit_module, "make_optimizer", without_epsilon)
    bundle, training = toy(), Training(epochs=3, batch=3, lr=0.01, weight_decay=0.0, clip=0.0, optimizer=optimizer)
    ends = []
    for rho in (0.7, 1.4):
        torch.manual_seed(0)
        backbone = build_backbone("mmgcn", bundle.dims, 3, 2, SIZES)
        method = build_method("balm", "d", [("rho", rho)], backbone, bundle.task, bundle.dims)
        ends.append(run(method, bundle, training))
    assert np.allclose(ends[0].tests["test"], ends[1].tests["test"], rtol=1e-4, atol=1e-5) == same


def test_clipping_bounds_the_global_norm_and_zero_means_none(toy: Toy) -> None:
    bundle = toy()
    train = to_device(bundle, "train", masks_of(bundle)["train"], CPU)
    norms = {}
    for clip in (0.0, 0.05, 1e6):
        method = plain(bundle, dropout=0.0)
        train_step(method, train.batch([0, 1, 2]), make_optimizer(method, QUICK), clip)
        norms[clip] = float(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]).norm())
    assert norms[0.05] == pytest.approx(0.05, rel=1e-4) and norms[0.0] == norms[1e6] > 0.05


# Evaluation, selection and records.


def test_evaluation_is_without_dropout_in_row_order_and_indifferent_to_its_batches(
        toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy((3, 5, 1, 4) * 6)
    method, resident = plain(bundle), to_device(bundle, "test", masks_of(bundle)["test"], CPU)
    one = fit_module.evaluation_batches(resident)
    monkeypatch.setattr(fit_module, "EVALUATION_ROWS", 5)
    many = fit_module.evaluation_batches(resident)
    assert len(one) == 1 and len(many) > 3
    for batches in (one, many):
        assert torch.cat([b.labels for b in batches]).tolist() == bundle.labels[bundle.rows("test")].tolist()
    outputs = predict(method, one)
    assert torch.equal(outputs, predict(method, one)) and not outputs.requires_grad
    torch.testing.assert_close(outputs, predict(method, many), atol=1e-5, rtol=0)


def one_hot(truth: np.ndarray, right: str) -> np.ndarray:
    guess = truth if right == "all" else (truth + 1) % 3
    if right == "half":
        guess = np.where(np.arange(len(truth)) % 2, truth, guess)
    return np.eye(3, dtype=np.float32)[guess]


def test_each_rule_picks_its_epoch_the_first_of_equals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = prepare(spec(folder))
    truth = {s: bundle.labels[bundle.rows(s)] for s in ("valid", "test")}
    course = {"same": ("all", "none", "half", "all"), "text": ("none", "half", "all", "none"), "all": ("none",) * 4}
    tests = {name: np.stack([one_hot(truth["test"], right) for right in rights]) for name, rights in course.items()}
    valid = np.stack([one_hot(truth["valid"], right) for right in ("none", "all", "all", "half")])
    made = Fitted(loss=np.arange(4.0), valid=valid, tests=tests, series={}, weights={}, best_epoch=1)
    monkeypatch.setattr(execute_module, "fit", lambda *_, **__: made)
    outcome = execute(spec(folder))
    picked = {rule: outcome.record["selected"][rule]["epoch"] for rule in ("valid", "test", "last")}
    assert picked == {"valid": {"same": 1, "text": 1, "all": 1}, "test": {"same": 0, "text": 2, "all": 0},
                      "last": {"same": 3, "text": 3, "all": 3}}
    half = 100 * (np.arange(len(truth["test"])) % 2).mean()
    expected = {("valid", "same"): 0, ("valid", "text"): half, ("test", "same"): 100, ("test", "text"): 100,
                ("last", "same"): 100, ("last", "text"): 0}
    for (rule, name), value in expected.items():
        assert outcome.record["selected"][rule]["metrics"][name]["accuracy"] == pytest.approx(value)
        predictions = outcome.arrays[f"predictions.{rule}.{name}"]
        assert np.array_equal(predictions, made.tests[name][picked[rule][name]])


@pytest.mark.parametrize("task", [Task("classes", ("a", "b", "c")), Task("score", range=(-3.0, 3.0)),
                                  Task("binaries", ("joy", "fear"))], ids=lambda task: task.kind)
def test_a_records_curves_picks_metrics_and_predictions_agree(toy: Toy, tmp_path: Path, task: Task) -> None:
    folder = stored(toy((4, 5, 6, 4) * 4, task=task), tmp_path / "toy")
    outcome, bundle = execute(spec(folder)), prepare(spec(folder))
    record, truth = outcome.record, bundle.labels[bundle.rows("test")]
    assert json.loads(json.dumps(record)) == record
    curves = record["curves"]
    assert len(curves["loss"]) == QUICK.epochs and curves["loss"][-1] < curves["loss"][0]
    for name, _ in TESTS:
        f1 = curves["test"][name]["weighted_f1"]
        best = max(range(QUICK.epochs), key=lambda e: curves["valid"]["weighted_f1"][e])
        epochs = {"valid": best, "test": max(range(QUICK.epochs), key=f1.__getitem__), "last": QUICK.epochs - 1}
        for rule, epoch in epochs.items():
            assert record["selected"][rule]["epoch"][name] == epoch
            found = record["selected"][rule]["metrics"][name]
            assert found["weighted_f1"] == f1[epoch] and found["accuracy"] == curves["test"][name]["accuracy"][epoch]
            assert found == metrics.all_metrics(task, outcome.arrays[f"predictions.{rule}.{name}"], truth)


def test_a_record_names_its_masks_and_their_realised_rates(folder: Path) -> None:
    record, bundle = execute(spec(folder)).record, prepare(spec(folder))
    drawn = {name: masks.draw(law, bundle, "test", 3) for name, law in TESTS}
    drawn["valid"] = masks.draw(LAW, bundle, "valid", 3)
    assert record["masks"] == {(k if k == "valid" else f"test.{k}"): m.fingerprint for k, m in drawn.items()}
    for row in record["rates"]:
        index = bundle.modalities.index(row["modality"])
        assert row["realised"] == pytest.approx(1 - drawn[row["mask"]].utterance[:, index].mean())
    assert len(record["rates"]) == 4 * 3 and record["id"].startswith(spec(folder).key(bundle.fingerprint))


def test_kept_weights_are_those_of_the_epoch_that_validation_picks(folder: Path) -> None:
    one = spec(folder, seed=5, method="balm", keep=("weights",), training=dataclasses.replace(QUICK, epochs=6, lr=0.2))
    outcome, bundle = execute(one), prepare(one)
    method = build(dataclasses.replace(one, seed=99), bundle)
    kept = {k: torch.from_numpy(v) for k, v in outcome.arrays.items() if k.startswith("weights.")}
    method.load_state_dict({k.removeprefix("weights."): v for k, v in kept.items()}, strict=True)
    for name, law in TESTS:
        resident = to_device(bundle, "test", masks.draw(law, bundle, "test", 5), CPU)
        outputs = predict(method, fit_module.evaluation_batches(resident)).numpy()
        assert np.array_equal(outputs, outcome.arrays[f"predictions.valid.{name}"])
    assert outcome.record["selected"]["valid"]["epoch"]["same"] != 5  # so the last epoch's would have failed above


def test_a_child_starts_from_its_parents_weights(folder: Path) -> None:
    parent = spec(folder, keep=("weights",))
    still = dataclasses.replace(QUICK, epochs=1, lr=0.0)
    first = execute(parent)
    child = execute(dataclasses.replace(parent, seed=8, parent=parent, training=still), first.arrays)
    alone = execute(dataclasses.replace(parent, seed=8, training=still))
    for array in ("predictions.last.all", "predictions.last.text"):  # masks that know no seed
        valid = array.replace("last", "valid")
        assert np.array_equal(child.arrays[array], first.arrays[valid])
        assert not np.array_equal(alone.arrays[array], first.arrays[valid])


def test_a_parent_that_keeps_no_weights_is_refused(folder: Path) -> None:
    parent = spec(folder)
    with pytest.raises(InputError):
        execute(dataclasses.replace(parent, parent=parent), execute(parent).arrays)


def test_a_run_takes_only_its_modalities_and_its_fold(toy: Toy, tmp_path: Path) -> None:
    bundle = toy((3, 4) * 6)
    folder = stored(dataclasses.replace(bundle, fold=bundle.dialogue % 3), tmp_path / "folds")
    made = prepare(spec(folder, modalities=("vision", "audio"), fold=2))
    assert made.modalities == ("audio", "vision")
    assert np.array_equal(made.split, np.array([1, 0, 2])[bundle.dialogue % 3])
    record = execute(spec(folder, modalities=("vision", "audio"), fold=2, train_mask=masks.shared(0.4),
                          eval_masks=(("test", masks.complete()),))).record
    assert {row["modality"] for row in record["rates"]} == {"audio", "vision"}
