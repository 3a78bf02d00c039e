"""From a run to its model: equal predictions, weights that were not kept, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from small_models import (
    BINARIES,
    EXPERTS,
    LAW,
    PERCEPTRON,
    SCORE,
    TESTS,
    Toy,
    exported,
    made,
    raw,
    rows_of_test,
    saved,
    spec,
    write_test_folder,
)

from mmlib import files, masks
from mmlib.cli import main
from mmlib.data.bundle import save_bundle
from mmlib.data.standardise import standardised
from mmlib.errors import InputError
from mmlib.runs.compact import export_records, import_records
from mmlib.runs.export import export_run
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import data_fingerprint

SOUND = ("audio", "text")
SHARES = masks.patterns(resampled=False)


def stages(data: str, method: str, backbone: str, first: dict[str, Any], **more: Any) -> RunSpec:
    """A run of two stages."""
    keep = ("weights",) if method == "dream" else ("last",)
    parent = spec(data, keep=keep, **first)
    return spec(data, method=method, backbone=backbone, parent=parent, **more)


def run_of(name: str, data: str) -> RunSpec:
    """A small run of a system."""
    own, sums = (("routing", "own"),), (("routing", "unnormalised"),)
    if name == "dream":
        first = {"method": "reference", "backbone": "corrkd"}
        net = (("hidden", 8), ("heads", 2), ("repeats", 1))
        return stages(data, "dream", "dream", first, backbone_options=net)
    if name == "ebmc":
        first = {"method": "enhance", "backbone": "momke", "backbone_options": EXPERTS + own}
        return stages(data, "ebmc", "momke", first, backbone_options=EXPERTS + sums)
    if name == "mculora":
        first = {"backbone": "crossmodal", "backbone_options": EXPERTS}
        return stages(
            data, "mculora", "crossmodal", first, backbone_options=EXPERTS, train_mask=SHARES
        )
    systems: dict[str, dict[str, Any]] = {
        "mmgcn": {},
        "mmgcn, context from padding": {
            "backbone": "mmgcn",
            "backbone_options": (("hidden", 8), ("graph", 6), ("layers", 2), ("packed", False)),
        },
        "balm": {"method": "balm"},
        "vectors": {"backbone": "mlp", "keep": ("weights",)},
        "frames": {"backbone": "momke_frames", "backbone_options": EXPERTS, "keep": ("last",)},
        "gmm_loss": {
            "method": "gmm_loss",
            "backbone": "concat",
            "backbone_options": PERCEPTRON,
            "modalities": SOUND,
        },
    }
    return spec(data, **systems[name])


SYSTEMS = [
    "mmgcn",
    "mmgcn, context from padding",
    "balm",
    "dream",
    "ebmc",
    "mculora",
    "gmm_loss",
    "vectors",
    "frames",
]


def predicted(model: Path, data: str, out: Path) -> pd.DataFrame:
    """What ``mmlib predict`` writes, by id."""
    assert main(["predict", str(model), data, "--out", str(out)]) == 0
    return pd.read_csv(out, dtype={"id": str}, keep_default_na=False).set_index("id")


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_exported_model_predicts_what_the_run_has_stored_with_and_without_missing_modalities(
    toy: Toy, tmp_path: Path, name: str
) -> None:
    bundle = raw(toy, frames=4 if name == "frames" else 0)
    one = run_of(name, saved(bundle, tmp_path / "toy"))
    model, stored = exported(one, tmp_path)
    whole, rows = rows_of_test(one)
    ids, names = [whole.ids[row] for row in rows], [f"p_{c}" for c in "abc"]
    of_bundle = predicted(model, one.data, tmp_path / "all.csv")
    assert list(of_bundle.index) == list(whole.ids)
    np.testing.assert_allclose(
        of_bundle.loc[ids, names], softmax(stored["predictions.valid.all"], axis=1), atol=1e-6
    )
    folder = write_test_folder(tmp_path / "some", one, bundle.features, LAW)
    of_folder = predicted(model, str(folder), tmp_path / "some.csv")
    table = pd.read_csv(folder / "utterances.csv", dtype=str)
    assert list(of_folder.index) == list(table["id"]), "in the folder's own order"
    wanted = stored["predictions.valid.some"]
    np.testing.assert_allclose(of_folder.loc[ids, names], softmax(wanted, axis=1), atol=1e-6)
    assert list(of_folder.loc[ids, "prediction"]) == ["abc"[k] for k in wanted.argmax(axis=1)]
    assert not np.allclose(wanted, stored["predictions.valid.all"], atol=1e-3)


@pytest.mark.parametrize("task", [SCORE, BINARIES])
def test_scores_and_binary_labels_have_columns_of_their_own(
    toy: Toy, tmp_path: Path, task: Any
) -> None:
    one = spec(saved(raw(toy, task=task), tmp_path / "toy"), backbone="mlp", keep=("weights",))
    model, stored = exported(one, tmp_path)
    whole, rows = rows_of_test(one)
    found = predicted(model, one.data, tmp_path / "p.csv").loc[[whole.ids[row] for row in rows]]
    outputs = stored["predictions.valid.all"]
    if task is SCORE:
        assert list(found.columns) == ["split", "missing", "prediction"]
        np.testing.assert_allclose(found["prediction"], outputs[:, 0], atol=1e-6)
        return
    joy = expit(outputs[:, 1].astype(float) - outputs[:, 0])
    np.testing.assert_allclose(found["p_joy"], joy, atol=1e-6)
    named = ["joy" in answer.split("+") for answer in found["prediction"]]
    assert named == list(joy > 0.5)


def test_a_model_of_a_fold_predicts_that_folds_test_split_from_the_bundle(
    toy: Toy, tmp_path: Path
) -> None:
    bundle = raw(toy)
    folded = dataclasses.replace(bundle, fold=bundle.dialogue % 4)
    one = spec(saved(folded, tmp_path / "toy"), fold=2, backbone="mlp", keep=("weights",))
    model, stored = exported(one, tmp_path)
    whole, rows = rows_of_test(one)
    found = predicted(model, one.data, tmp_path / "p.csv").loc[[whole.ids[row] for row in rows]]
    assert set(found["split"]) == {"test"}
    np.testing.assert_allclose(
        found[["p_a", "p_b", "p_c"]], softmax(stored["predictions.valid.all"], axis=1), atol=1e-6
    )


@pytest.fixture
def data(toy: Toy, tmp_path: Path) -> str:
    return saved(raw(toy), tmp_path / "toy")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_run_without_weights_is_trained_again_once_with_the_same_result(
    data: str, store: Store, tmp_path: Path
) -> None:
    run_id = made(spec(data, backbone="mlp"), store)
    said: list[str] = []
    export_run(run_id, tmp_path / "one", store, said.append)
    assert "training it again" in said[0] and said[0].endswith(" s)")
    [other] = set(store.ids()) - {run_id}
    assert other in said[0] and store.get(other).spec.keep == ("weights",)  # type: ignore[union-attr]
    again = store.arrays(other)
    for name, stored in store.arrays(run_id).items():
        assert again[name].tobytes() == stored.tobytes()
    export_run(run_id, tmp_path / "two", store, said.append)
    export_run(other, tmp_path / "three", store, said.append)
    assert len(said) == 1, "the second export finds the first one's run"
    for name in ("one", "two", "three"):
        files_of = [(tmp_path / name / f).read_bytes() for f in ("weights.safetensors",)]
        assert files_of == [(tmp_path / "one" / "weights.safetensors").read_bytes()]


def test_last_weights_are_exported_only_where_validation_picks_the_last_epoch(
    data: str, store: Store, tmp_path: Path
) -> None:
    picked_last = []
    for epochs in (1, 6):
        training = Training(epochs=epochs, batch=4, lr=0.05)
        run_id = made(spec(data, backbone="mlp", training=training, keep=("last",)), store)
        said: list[str] = []
        export_run(run_id, tmp_path / f"m{epochs}", store, said.append)
        epoch = store.get(run_id)["selected"]["valid"]["epoch"]["all"]  # type: ignore[index]
        picked_last.append(epoch == epochs - 1)
        assert bool(said) == (epoch != epochs - 1)
    assert picked_last == [True, False], "the two runs are of both kinds"


def tampered(run_id: str, store: Store) -> None:
    """Let a run's stored predictions be others than its model makes."""
    record = store.get(run_id)
    assert record is not None
    arrays = store.arrays(run_id)
    arrays["predictions.valid.some"] = arrays["predictions.valid.some"] + np.float32(1e-4)
    content = {k: v for k, v in record.content.items() if not k.endswith("_sum")}
    store.keep(content, arrays, store.sidecar(run_id))


def test_a_record_from_the_repository_is_exported_though_its_predictions_are_rounded(
    data: str, store: Store, tmp_path: Path
) -> None:
    run_id = made(spec(data, backbone="mlp", keep=("weights",)), store)
    exact = store.arrays(run_id)
    export_records(store, tmp_path / "records.jsonl.xz")
    other = Store(tmp_path / "other")
    import_records(other, tmp_path / "records.jsonl.xz")
    rounded = other.arrays(run_id)["predictions.valid.all"]
    assert not np.array_equal(rounded, exact["predictions.valid.all"])
    assert not [name for name in other.arrays(run_id) if name.startswith("weights.")]
    said: list[str] = []
    export_run(run_id, tmp_path / "model", other, said.append)
    export_run(run_id, tmp_path / "wanted", store)
    weights = [(tmp_path / n / "weights.safetensors").read_bytes() for n in ("model", "wanted")]
    assert len(said) == 1 and weights[0] == weights[1]


@pytest.mark.parametrize("keep", [("weights",), ()])
def test_a_model_whose_predictions_are_not_the_runs_is_not_written(
    data: str, store: Store, tmp_path: Path, keep: tuple[str, ...]
) -> None:
    one = spec(data, backbone="mlp", keep=keep)
    run_id = made(one, store)
    tampered(run_id, store)
    with pytest.raises(InputError, match=r"differ by up to .* mask 'some'") as raised:
        export_run(run_id, tmp_path / "model", store, lambda _: None)
    assert not (tmp_path / "model").exists()
    if not keep:
        other = dataclasses.replace(one, keep=("weights",)).run_id(data_fingerprint(data))
        assert f"export {other}" in raised.value.do
        export_run(other, tmp_path / "model", store)


def test_the_card_says_what_was_run_on_what_with_what_result(
    data: str, store: Store, tmp_path: Path
) -> None:
    one = spec(data, backbone="mlp", modalities=SOUND, keep=("weights",))
    run_id = made(one, store)
    export_run(run_id, tmp_path / "model", store)
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["model.json", "weights.safetensors"]

    def strict(text: str) -> None:
        raise ValueError(text)

    text = (tmp_path / "model" / "model.json").read_text()
    card = json.loads(text, parse_constant=strict)
    record = store.get(run_id)
    assert record is not None
    assert card["run"]["spec"] == one.to_json() and card["run"]["id"] == run_id
    assert card["run"]["numerics"] == one.numerics
    assert card["data"]["fingerprint"] == record["fingerprint"] and card["data"]["name"] == "toy"
    assert card["task"] == {"kind": "classes", "names": ["a", "b", "c"], "range": None}
    assert set(card["modalities"]) == set(SOUND) and card["left_out"] == ["vision"]
    assert set(card["tests"]) == {name for name, _ in TESTS}
    main_metric = [card["tests"]["some"][of]["weighted_f1"] for of in ("metrics", "metrics_of_run")]
    assert main_metric[0] == pytest.approx(main_metric[1])
    whole, _ = rows_of_test(one)
    assert card["modalities"]["audio"]["scale"] == {
        k: list(v) for k, v in whole.scaling["audio"].items()
    }


def test_raw_data_have_their_own_mean_and_sd_in_the_card(
    toy: Toy, store: Store, tmp_path: Path
) -> None:
    bundle = raw(toy)
    one = spec(saved(bundle, tmp_path / "toy", scaled=False), backbone="mlp", keep=("weights",))
    card = export_run(made(one, store), tmp_path / "model", store)
    text = card.modalities["text"]
    there = bundle.observed[:, 1] & (bundle.split == 0)
    assert not text.standardised and text.scale is not None
    np.testing.assert_allclose(
        text.scale["mean"], bundle.features["text"][there].mean(axis=0), 1e-5
    )


def test_an_export_is_replaced_and_other_folders_are_not_touched(
    data: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(spec(data, backbone="mlp", keep=("weights",)), store)
    second = made(spec(data, backbone="linear", method="linear", keep=("weights",)), store)
    out = tmp_path / "model"
    export_run(first, out, store)
    card = export_run(second, out, store)
    assert json.loads((out / "model.json").read_text())["run"]["id"] == second == card.run_id

    def full(path: Path, data: bytes, *_: object) -> None:
        if path.name == "model.json":
            raise OSError("no space left")
        path.write_bytes(data)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="no space left"):
        patch.setattr(files, "write", full)
        export_run(first, out, store)
    assert json.loads((out / "model.json").read_text())["run"]["id"] == second
    assert [path.name for path in tmp_path.glob(".model*")] == [], "nothing is left beside it"
    (out / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (out, tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="Choose another --out"):
            export_run(first, place, store)
    assert (out / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_unknown_runs_and_changed_data_are_refused(
    toy: Toy, data: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = made(spec(data, backbone="mlp", keep=("weights",)), store)
    where = ["--out", str(tmp_path / "model"), "--store", str(store.folder)]
    assert main(["export", "0" * 16 + "-00000000", *where]) == 2
    assert "store table" in capsys.readouterr().err
    assert main(["export", "../x", *where]) == 2
    save_bundle(standardised(raw(toy, seed=5)), Path(data))
    from mmlib.data.catalog import open_bundle

    open_bundle.cache_clear()
    assert main(["export", run_id, *where]) == 2
    assert "of the data that the run was made on" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_the_commands_say_what_they_did(
    data: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = made(spec(data, backbone="mlp", keep=("weights",)), store)
    model = str(tmp_path / "model")
    assert main(["export", run_id, "--out", model, "--store", str(store.folder)]) == 0
    assert "agree with those that the run has stored" in capsys.readouterr().out
    assert main(["predict", model, data, "--out", str(tmp_path / "p.csv")]) == 0
    told = capsys.readouterr().out
    assert "audio: standardised as the model's training data are" in told and run_id in told


def test_the_table_of_a_store_has_every_result_and_names_stale_runs(
    data: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [made(spec(data, backbone=b, keep=("weights",)), store) for b in ("mlp", "linear")]
    old = store.get(ids[0])
    assert old is not None
    content = {k: v for k, v in old.content.items() if not k.endswith("_sum")}
    stale = ids[0].split("-")[0] + "-00000000"
    store.keep({**content, "id": stale, "numerics": "00000000"}, store.arrays(ids[0]), {})
    out = tmp_path / "runs.csv"
    assert main(["store", "table", str(store.folder), "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert set(table["run_id"]) == {*ids, stale}
    assert set(table[table["stale"]]["run_id"]) == {stale}
    mine = table[
        (table["run_id"] == ids[1])
        & (table["selection"] == "valid")
        & (table["mask"] == "some")
        & (table["metric"] == "accuracy")
    ]
    record = store.get(ids[1])
    assert record is not None
    value = record["selected"]["valid"]["metrics"]["some"]["accuracy"]
    assert list(mine["value"]) == [pytest.approx(value)] and list(mine["backbone"]) == ["linear"]
    for arguments, words in (
        (["table", str(store.folder), "--out", str(tmp_path / "x.parquet")], "ends in .csv"),
        (["table", str(store.folder)], "--out"),
        (["check", str(store.folder), "--out", "x.csv"], "no such option"),
    ):
        assert main(["store", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()
