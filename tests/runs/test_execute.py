"""From a spec to its record: equal runs, what a run depends on, selections, parents."""

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

from mmlib import fit as fit_module
from mmlib import masks, metrics
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.errors import InputError
from mmlib.fit import Fitted, predict
from mmlib.nn.batch import to_device
from mmlib.runs import execute as execute_module
from mmlib.runs.execute import Outcome, build, execute, prepare, restrict
from mmlib.runs.spec import RunSpec, Training

Toy = Callable[..., Bundle]
SIZES = (("hidden", 8), ("graph", 6), ("layers", 2))
LAW = masks.imbalanced({"audio": 0.3, "text": 0.5, "vision": 0.6})
KINDS = (
    Task("classes", ("a", "b", "c")),
    Task("score", range=(-3.0, 3.0)),
    Task("binaries", ("joy", "fear")),
)
TESTS = (("same", LAW), ("text", masks.subset(["text"])), ("all", masks.complete()))
QUICK = Training(epochs=4, batch=3, lr=0.02)


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_module, "pick_device", lambda: torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle of 8 training, 4 validation and 4 test dialogues."""
    return stored(toy(), tmp_path_factory.mktemp("bundles") / "toy")


def stored(bundle: Bundle, folder: Path) -> Path:
    save_bundle(bundle, folder)
    return folder


def spec(folder: Path, seed: int = 3, **fields: Any) -> RunSpec:
    return RunSpec(
        str(folder),
        seed,
        **{
            "backbone_options": SIZES,
            "train_mask": LAW,
            "eval_masks": TESTS,
            "training": QUICK,
            **fields,
        },
    )


def content(outcome: Outcome) -> bytes:
    arrays = b"".join(k.encode() + v.tobytes() for k, v in sorted(outcome.arrays.items()))
    return json.dumps(outcome.record, sort_keys=True).encode() + arrays


@pytest.mark.parametrize(
    "method, variant", [("plain", "paper"), ("balm", "paper"), ("balm", "released")]
)
def test_two_runs_of_one_spec_give_the_same_record_and_array_bytes(
    folder: Path, method: str, variant: str
) -> None:
    one = spec(folder, method=method, variant=variant, keep=("weights", "series"))
    first = execute(one)
    torch.manual_seed(123)
    np.random.seed(321)
    execute(spec(folder, seed=4))
    assert content(execute(one)) == content(first)
    assert content(execute(dataclasses.replace(one, seed=4))) != content(first)


def test_another_process_with_another_hash_seed_gives_the_same_bytes(folder: Path) -> None:
    one = spec(folder, method="balm", variant="released", keep=("weights",))
    code = (
        "import json, sys, hashlib\n"
        "from mmlib.runs.execute import execute\n"
        "from mmlib.runs.spec import spec_from_json\n"
        "o = execute(spec_from_json(json.loads(sys.argv[1])))\n"
        "a = b''.join(k.encode() + v.tobytes() for k, v in sorted(o.arrays.items()))\n"
        "print(hashlib.sha256(json.dumps(o.record, sort_keys=True).encode() + a).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(one.to_json())],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(fit_module.__file__).parents[1],
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(content(execute(one))).hexdigest()


@pytest.mark.parametrize(
    "method, variant", [("plain", "paper"), ("balm", "paper"), ("balm", "released")]
)
def test_corrupting_every_test_feature_and_label_changes_no_trained_weight(
    toy: Toy, folder: Path, tmp_path: Path, method: str, variant: str
) -> None:
    bundle = toy()
    test = bundle.split == 2
    features = {m: np.where(test[:, None], 100 - 7 * x, x) for m, x in bundle.features.items()}
    labels = np.where(test, (bundle.labels + 1) % 3, bundle.labels)
    spoilt = stored(
        dataclasses.replace(bundle, features=features, labels=labels), tmp_path / "spoilt"
    )
    clean, other = (
        execute(spec(f, method=method, variant=variant, keep=("weights",)))
        for f in (folder, spoilt)
    )
    weights = [k for k in clean.arrays if k.startswith("weights.")]
    assert len(weights) > 20 and all(
        clean.arrays[k].tobytes() == other.arrays[k].tobytes() for k in weights
    )
    assert clean.record["curves"]["loss"] == other.record["curves"]["loss"]
    assert clean.record["curves"]["valid"] == other.record["curves"]["valid"]
    assert clean.record["selected"]["valid"]["epoch"] == other.record["selected"]["valid"]["epoch"]
    assert clean.record["curves"]["test"] != other.record["curves"]["test"]


def test_equal_seeds_give_equal_initial_backbones_for_different_methods(folder: Path) -> None:
    bundle = prepare(spec(folder))
    made = [
        build(spec(folder, method=m, variant=v), bundle).backbone.state_dict()
        for m, v in (("plain", "paper"), ("balm", "paper"), ("balm", "probe"), ("balm", "released"))
    ]
    assert all(torch.equal(made[0][k], other[k]) for other in made[1:] for k in made[0])
    other = build(spec(folder, seed=4), bundle).backbone.state_dict()
    assert not torch.equal(made[0]["prediction.weight"], other["prediction.weight"])


def test_series_have_one_row_per_step_and_one_column_per_modality(folder: Path) -> None:
    arrays = execute(spec(folder, method="balm", keep=("series",))).arrays
    shapes = {k: v.shape for k, v in arrays.items() if k.startswith("series.")}
    assert shapes == {
        f"series.{k}": (QUICK.epochs * 3, 3) for k in ("kl", "cosine", "mu", "gradient_norm")
    }
    assert not any(k.startswith("series.") for k in execute(spec(folder, method="balm")).arrays)


def one_hot(truth: np.ndarray, right: str) -> np.ndarray:
    guess = truth if right == "all" else (truth + 1) % 3
    if right == "half":
        guess = np.where(np.arange(len(truth)) % 2, truth, guess)
    return np.eye(3, dtype=np.float32)[guess]


def test_each_rule_picks_its_epoch_the_first_of_equals(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = prepare(spec(folder))
    truth = {s: bundle.labels[bundle.rows(s)] for s in ("valid", "test")}
    course = {
        "same": ("all", "none", "half", "all"),
        "text": ("none", "half", "all", "none"),
        "all": ("none",) * 4,
    }
    tests = {
        name: np.stack([one_hot(truth["test"], right) for right in rights])
        for name, rights in course.items()
    }
    valid = np.stack([one_hot(truth["valid"], right) for right in ("none", "all", "all", "half")])
    made = Fitted(
        loss=np.arange(4.0), valid=valid, tests=tests, series={}, weights={}, best_epoch=1
    )
    monkeypatch.setattr(execute_module, "fit", lambda *_, **__: made)
    outcome = execute(spec(folder))
    picked = {rule: outcome.record["selected"][rule]["epoch"] for rule in ("valid", "test", "last")}
    assert picked == {
        "valid": {"same": 1, "text": 1, "all": 1},
        "test": {"same": 0, "text": 2, "all": 0},
        "last": {"same": 3, "text": 3, "all": 3},
    }
    half = 100 * (np.arange(len(truth["test"])) % 2).mean()
    expected = {
        ("valid", "same"): 0,
        ("valid", "text"): half,
        ("test", "same"): 100,
        ("test", "text"): 100,
        ("last", "same"): 100,
        ("last", "text"): 0,
    }
    for (rule, name), value in expected.items():
        assert outcome.record["selected"][rule]["metrics"][name]["accuracy"] == pytest.approx(value)
        predictions = outcome.arrays[f"predictions.{rule}.{name}"]
        assert np.array_equal(predictions, made.tests[name][picked[rule][name]])


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.kind)
def test_a_records_curves_picks_metrics_and_predictions_agree(
    toy: Toy, tmp_path: Path, task: Task
) -> None:
    folder = stored(toy((4, 5, 6, 4) * 4, task=task), tmp_path / "toy")
    outcome, bundle = execute(spec(folder)), prepare(spec(folder))
    record, truth = outcome.record, bundle.labels[bundle.rows("test")]
    assert json.loads(json.dumps(record)) == record
    curves = record["curves"]
    assert len(curves["loss"]) == QUICK.epochs and curves["loss"][-1] < curves["loss"][0]
    for name, _ in TESTS:
        f1 = curves["test"][name]["weighted_f1"]
        best = max(range(QUICK.epochs), key=lambda e: curves["valid"]["weighted_f1"][e])
        epochs = {
            "valid": best,
            "test": max(range(QUICK.epochs), key=f1.__getitem__),
            "last": QUICK.epochs - 1,
        }
        for rule, epoch in epochs.items():
            assert record["selected"][rule]["epoch"][name] == epoch
            found = record["selected"][rule]["metrics"][name]
            predictions = outcome.arrays[f"predictions.{rule}.{name}"]
            of_predictions = metrics.all_metrics(task, predictions, truth)
            assert found["weighted_f1"] == f1[epoch] == of_predictions["weighted_f1"]
            own = record["selected"][rule]["epochs"][name]
            accuracy = {"valid": curves["valid"], "test": curves["test"][name]}.get(rule)
            if accuracy is not None:
                assert own["accuracy"] == np.argmax(accuracy["accuracy"])
            assert found["accuracy"] == curves["test"][name]["accuracy"][own["accuracy"]]
            assert set(found) == set(own) == set(of_predictions) and own["weighted_f1"] == epoch
            same = [metric for metric, at in own.items() if at == epoch]
            assert all(found[metric] == of_predictions[metric] for metric in same)


def best_epoch(values: list[float], least: bool = False) -> int:
    """The first epoch with the largest value, or the least."""
    return values.index(min(values) if least else max(values))


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.kind)
def test_each_metric_is_read_at_the_epoch_that_its_own_value_picks_on_validation_or_on_test(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    """Outputs at random, so that metrics disagree on the epoch; single classes' F1 scores are picked by their mean."""
    one = spec(stored(toy((4, 5, 6, 4) * 4, task=task), tmp_path / "toy"))
    bundle, epochs, random = prepare(one), 30, np.random.default_rng(4)
    truth = {s: bundle.labels[bundle.rows(s)] for s in ("valid", "test")}
    outputs = {
        name: random.normal(
            size=(epochs, len(truth["valid" if name == "valid" else "test"]), task.outputs)
        )
        for name in ("valid", "same", "text", "all")
    }
    tests = {name: of for name, of in outputs.items() if name != "valid"}
    made = Fitted(np.ones(epochs), outputs["valid"], tests, {}, {}, 0)
    monkeypatch.setattr(execute_module, "fit", lambda *_, **__: made)
    selected, picks = execute(one).record["selected"], set()
    for name in tests:
        every = {
            "valid": [metrics.all_metrics(task, o, truth["valid"]) for o in outputs["valid"]],
            "test": [metrics.all_metrics(task, o, truth["test"]) for o in tests[name]],
        }
        single = [metric for metric in every["test"][0] if metric.startswith("f1_")]
        for rule, curves in every.items():
            for metric, value in selected[rule]["metrics"][name].items():
                values = [of[metric] for of in curves]
                if metric in single:
                    values = [sum(of[m] for m in single) for of in curves]
                epoch = best_epoch(values, least=metric == "mae")
                assert selected[rule]["epochs"][name][metric] == epoch, (rule, metric)
                assert value == every["test"][epoch][metric], (rule, metric)
                picks.add(epoch)
            main = best_epoch([of["weighted_f1"] for of in curves])
            assert selected[rule]["epoch"][name] == main
        assert set(selected["last"]["epochs"][name].values()) == {epochs - 1}
    assert len(picks) > 3


def test_a_record_names_its_masks_and_their_realised_rates(folder: Path) -> None:
    record, bundle = execute(spec(folder)).record, prepare(spec(folder))
    drawn = {name: masks.draw(law, bundle, "test", 3) for name, law in TESTS}
    drawn["valid"] = masks.draw(LAW, bundle, "valid", 3)
    assert record["masks"] == {
        (k if k == "valid" else f"test.{k}"): m.fingerprint for k, m in drawn.items()
    }
    for row in record["rates"]:
        index = bundle.modalities.index(row["modality"])
        assert row["realised"] == pytest.approx(1 - drawn[row["mask"]].utterance[:, index].mean())
    assert len(record["rates"]) == 4 * 3 and record["id"].startswith(
        spec(folder).key(bundle.fingerprint)
    )


def test_kept_weights_are_those_of_the_epoch_that_validation_picks(folder: Path) -> None:
    one = spec(
        folder,
        seed=5,
        method="balm",
        keep=("weights",),
        training=dataclasses.replace(QUICK, epochs=6, lr=0.2),
    )
    outcome, bundle = execute(one), prepare(one)
    method = build(dataclasses.replace(one, seed=99), bundle)
    kept = {k: torch.from_numpy(v) for k, v in outcome.arrays.items() if k.startswith("weights.")}
    method.load_state_dict({k.removeprefix("weights."): v for k, v in kept.items()}, strict=True)
    for name, law in TESTS:
        resident = to_device(bundle, "test", masks.draw(law, bundle, "test", 5), "cpu")
        outputs = predict(method, fit_module.evaluation_batches(resident))[""].numpy()
        assert np.array_equal(outputs, outcome.arrays[f"predictions.valid.{name}"])
    assert (
        outcome.record["selected"]["valid"]["epoch"]["same"] != 5
    )  # so the last epoch's would have failed above


def test_masks_that_are_not_followed_have_the_results_of_the_picked_epochs_all_the_same(
    folder: Path,
) -> None:
    whole, short = execute(spec(folder)), execute(spec(folder, keep=("picked",)))
    for selection in ("valid", "last"):
        assert short.record["selected"][selection] == whole.record["selected"][selection]
        for name, _ in TESTS:
            kept = f"predictions.{selection}.{name}"
            assert short.arrays[kept].tobytes() == whole.arrays[kept].tobytes()
    assert (
        set(short.record["curves"]["test"])
        == set(short.record["selected"]["test"]["metrics"])
        == {TESTS[0][0]}
    )
    assert set(whole.record["curves"]["test"]) == {name for name, _ in TESTS}


def test_weights_stay_the_last_ones_after_masks_that_are_not_followed(folder: Path) -> None:
    whole, short = (execute(spec(folder, keep=keep)) for keep in (("last",), ("last", "picked")))
    weights = [name for name in whole.arrays if name.startswith("weights.")]
    assert weights and all(short.arrays[n].tobytes() == whole.arrays[n].tobytes() for n in weights)


def test_a_child_starts_from_its_parents_weights(folder: Path) -> None:
    parent = spec(folder, keep=("weights",))
    still = dataclasses.replace(QUICK, epochs=1, lr=0.0)
    first = execute(parent)
    child = execute(
        dataclasses.replace(parent, seed=8, parent=parent, training=still), first.arrays
    )
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
    assert np.array_equal(made.split, np.array([1, 0, 2])[bundle.dialogue % 3])
    record = execute(
        spec(
            folder,
            modalities=("vision", "audio"),
            fold=2,
            train_mask=masks.shared(0.4),
            eval_masks=(("test", masks.complete()),),
        )
    ).record
    assert {row["modality"] for row in record["rates"]} == {"audio", "vision"}


def test_a_modality_is_missing_where_it_was_whatever_it_is_combined_with(toy: Toy) -> None:
    bundle = toy((3, 4) * 6)
    whole = masks.draw(
        masks.imbalanced({"audio": 0.5, "text": 0.7, "vision": 0.3}), bundle, "train", 0
    )
    assert restrict(whole, bundle, ()) is whole
    for chosen in (("audio",), ("vision", "audio"), ("text",)):
        part = restrict(whole, bundle, chosen)
        for column, modality in enumerate(sorted(chosen)):
            np.testing.assert_array_equal(
                part.utterance[:, column], whole.utterance[:, bundle.modalities.index(modality)]
            )
    assert not restrict(
        whole, bundle, ("text",)
    ).utterance.all()  # rows with nothing at all are left so


@pytest.mark.parametrize("method", ["plain", "balm"])
def test_kept_embeddings_lead_to_the_predictions_that_validation_picks(
    folder: Path, method: str
) -> None:
    both = execute(spec(folder, method=method, keep=("embeddings", "weights"))).arrays
    alone = execute(spec(folder, method=method, keep=("embeddings",))).arrays
    assert not any(name.startswith("weights.") for name in alone)
    weight, bias = (both[f"weights.backbone.prediction.{name}"] for name in ("weight", "bias"))
    logits = alone["embeddings.hidden"].astype(float) @ weight.T + bias
    np.testing.assert_allclose(logits, alone["predictions.valid.same"], atol=1e-5)
    audio = both["weights.backbone.encoders.audio.linear.weight"]
    z = (
        alone["embeddings.input.audio"].astype(float) @ audio.T
        + both["weights.backbone.encoders.audio.linear.bias"]
    )
    np.testing.assert_allclose(z, alone["embeddings.z.audio"], atol=1e-5)


def test_a_modality_alone_is_evaluated_on_the_utterances_that_have_it(
    toy: Toy, tmp_path: Path
) -> None:
    bundle = toy(lacking=0.4, seed=5)
    place = stored(bundle, tmp_path / "lacking")
    outcome = execute(spec(place))
    rows = bundle.rows("test")
    has = bundle.observed[rows, bundle.modalities.index("text")]
    assert 0 < has.sum() < len(rows)
    assert outcome.record["utterances"] == {"text": int(has.sum())}
    predictions = outcome.arrays["predictions.last.text"]
    assert predictions.shape == (len(rows), 3)
    assert np.isnan(predictions[~has]).all() and np.isfinite(predictions[has]).all()
    right = predictions[has].argmax(axis=1) == bundle.labels[rows][has]
    assert outcome.record["selected"]["last"]["metrics"]["text"]["accuracy"] == pytest.approx(
        100 * right.mean()
    )
    whole = outcome.arrays["predictions.last.same"]
    assert np.isfinite(whole).all() and whole.shape == (len(rows), 3)
    rates = {(r["mask"], r["modality"]): r["realised"] for r in outcome.record["rates"]}
    assert rates["text", "text"] == 0 and rates["text", "audio"] == rates["text", "vision"] == 1


def test_what_a_left_out_utterance_holds_changes_nothing_under_a_fixed_subset(
    toy: Toy, tmp_path: Path
) -> None:
    bundle = toy(lacking=0.4, seed=5)
    alone = masks.subset(["text"])
    fields: dict[str, Any] = {"train_mask": alone, "eval_masks": (("text", alone),)}
    lacks = ~bundle.observed[:, bundle.modalities.index("text")]
    labels = np.where(lacks, (bundle.labels + 1) % 3, bundle.labels)
    features = {m: np.where(lacks[:, None], np.float32(7), x) for m, x in bundle.features.items()}
    changed = dataclasses.replace(bundle, labels=labels, features=features)
    ours = execute(spec(stored(bundle, tmp_path / "one"), **fields))
    theirs = execute(spec(stored(changed, tmp_path / "two"), **fields))
    assert ours.arrays.keys() == theirs.arrays.keys()
    for name, values in ours.arrays.items():
        np.testing.assert_array_equal(values, theirs.arrays[name])
    assert ours.record["selected"] == theirs.record["selected"]


def test_data_without_gaps_say_nothing_of_left_out_utterances(folder: Path) -> None:
    assert "utterances" not in execute(spec(folder)).record
