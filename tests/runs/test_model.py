"""An exported model in use: features from Python, input that does not fit, and folders that are damaged or hostile."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from small_models import (
    EXPERTS,
    GRAPH,
    LAW,
    SCORE,
    Toy,
    exported,
    raw,
    rows_of_test,
    saved,
    spec,
    write_test_folder,
)

import mmlib
from mmlib import masks
from mmlib.backbones import BACKBONES, build_backbone
from mmlib.cli import main
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.nn.batch import to_device
from mmlib.runs import predict
from mmlib.runs.card import Card, summed
from mmlib.runs.execute import mask_of
from mmlib.runs.model import Model
from mmlib.runs.speakers import COUNT_SPEAKERS, as_trained
from mmlib.runs.spec import RunSpec

Arrays = dict[str, np.ndarray]


class Made:
    """A run, its data before and after standardisation, and its model's folder."""

    def __init__(self, toy: Toy, folder: Path, scaled: bool = True, **more: Any) -> None:
        frames = more.pop("frames", 0)
        self.raw: Bundle = raw(toy, frames=frames, speakers=more.pop("speakers", 2))
        self.spec: RunSpec = spec(
            saved(self.raw, folder / "toy", scaled),
            **{"backbone": "mlp", "keep": ("weights",), **more},
        )
        self.folder, self.stored = exported(self.spec, folder)
        self.bundle, self.rows = rows_of_test(self.spec)

    def test_features(self, bundle: Bundle) -> Arrays:
        """The features of the test split, in the order of stored predictions."""
        return {m: bundle.features[m][self.rows].copy() for m in bundle.modalities}

    @property
    def model(self) -> Model:
        model: Model = mmlib.load_model(self.folder)
        return model


@pytest.fixture(scope="module")
def vectors(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(toy, tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def unscaled(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(toy, tmp_path_factory.mktemp("unscaled"), scaled=False)


@pytest.fixture(scope="module")
def dialogues(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(toy, tmp_path_factory.mktemp("dialogues"), backbone="mmgcn", backbone_options=GRAPH)


@pytest.fixture(scope="module")
def frames(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("frames")
    return Made(toy, folder, backbone="momke_frames", backbone_options=EXPERTS, frames=4)


def observed_in_test(made: Made, law: masks.Law) -> np.ndarray:
    return mask_of(made.spec, law, made.bundle, "test").utterance


def wanted(made: Made, name: str) -> np.ndarray:
    """Probabilities of the stored predictions."""
    return np.asarray(softmax(made.stored[f"predictions.valid.{name}"], axis=1))


def test_python_gives_the_runs_predictions_from_raw_and_from_scaled_features(
    vectors: Made,
) -> None:
    observed = observed_in_test(vectors, LAW)
    features = vectors.test_features(vectors.raw)
    for index, modality in enumerate(vectors.bundle.modalities):
        features[modality][~observed[:, index]] = np.nan  # what is missing may hold anything
    model = vectors.model
    found = model.predict(features, observed)
    np.testing.assert_allclose(found, wanted(vectors, "some"), atol=1e-6)
    by_name = {m: observed[:, i] for i, m in enumerate(model.modalities)}
    assert model.predict(features, by_name).tobytes() == found.tobytes()
    scaled = model.predict(vectors.test_features(vectors.bundle), observed, scaled=True)
    np.testing.assert_allclose(scaled, wanted(vectors, "some"), atol=1e-6)
    assert model.classes == ("a", "b", "c") and model.modalities == ("audio", "text", "vision")
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_modality_that_is_left_out_is_missing_everywhere(vectors: Made) -> None:
    features, model = vectors.test_features(vectors.raw), vectors.model
    observed = vectors.bundle.observed[vectors.rows]
    without = np.array([True, True, False]) & observed
    two = {m: features[m] for m in ("text", "audio")}
    found = model.predict(two, {m: observed[:, i] for i, m in enumerate(("audio", "text"))})
    assert found.tobytes() == model.predict(features, without).tobytes()
    assert not np.allclose(found, model.predict(features, observed), atol=1e-3)


def test_dialogues_and_speakers_count_where_the_network_uses_them(dialogues: Made) -> None:
    bundle, rows, model = dialogues.bundle, dialogues.rows, dialogues.model
    features, observed = dialogues.test_features(dialogues.raw), observed_in_test(dialogues, LAW)
    context = {"dialogue": bundle.dialogue[rows], "speaker": bundle.speaker[rows]}
    found = model.predict(features, observed, **context)
    np.testing.assert_allclose(found, wanted(dialogues, "some"), atol=1e-6)
    assert not np.allclose(model.predict(features, observed), found, atol=1e-4)
    with pytest.raises(InputError, match="3 speakers"):
        model.predict(features, observed, speaker=np.arange(len(rows)) % 3)


def knowing(made: Made, names: list[str], trained: list[int]) -> Card:
    """The card of a model over a network that counts speakers, whose data had these people."""
    card = made.model.card
    data = {**card.content["data"], "fingerprint": "of other data"}
    of_people = {"speakers": len(names), "speaker_names": names, "speakers_trained": trained}
    return dataclasses.replace(card, content={**card.content, **of_people, "data": data})


def spoken(made: Made, names: list[str], numbers: list[int]) -> Bundle:
    """The model's data with these people in turn, by their sorted names."""
    speaker = np.resize(np.array(numbers), len(made.bundle))
    return dataclasses.replace(made.bundle, speaker=speaker, notes={"speakers": names})


def test_a_person_has_the_same_number_however_many_others_are_given(dialogues: Made) -> None:
    card = knowing(dialogues, ["ann", "bo", "cy", "di"], [0, 1])
    alone, told = as_trained(card, spoken(dialogues, ["cy", "di"], [0, 1]))
    assert alone.speaker[:4].tolist() == [2, 3, 2, 3] and "2 that the model's data" in told[0]
    among, _ = as_trained(card, spoken(dialogues, ["ann", "cy"], [1, 0]))
    assert among.speaker[:4].tolist() == [2, 0, 2, 0]


def test_new_people_get_numbers_that_training_had_not_and_are_named(dialogues: Made) -> None:
    card = knowing(dialogues, ["ann", "bo", "cy", "di"], [0, 1])
    made, told = as_trained(card, spoken(dialogues, ["bo", "di", "eve"], [0, 1, 2]))
    assert made.speaker[:3].tolist() == [1, 3, 2], "cy's number, whom nobody trained on"
    assert "new: eve" in told[0]
    with pytest.raises(InputError, match="eve, fay, guy"):
        as_trained(card, spoken(dialogues, ["eve", "fay", "guy"], [0, 1, 2]))


def test_people_are_numbers_where_no_names_are_known(dialogues: Made) -> None:
    nameless = knowing(dialogues, ["ann", "bo"], [0, 1])
    content = {key: v for key, v in nameless.content.items() if key != "speaker_names"}
    given = spoken(dialogues, ["x", "y"], [0, 1])
    same, told = as_trained(dataclasses.replace(nameless, content=content), given)
    assert same is given and "does not say whom it knows" in told[0]
    bare = dataclasses.replace(given, notes={}, speaker=np.zeros_like(given.speaker))
    assert "not given" in as_trained(nameless, bare)[1][0]


def test_the_list_of_networks_that_count_speakers_is_what_the_networks_show(toy: Toy) -> None:
    sizes = {
        "concat": [("encoder", "mlp")],
        "concat_indicators": [("encoder", "mlp")],
        "mmtm": [("encoder", "mlp")],
        **{name: list(EXPERTS) for name in ("crossmodal", "momke", "momke_frames")},
    }
    uses = set()
    for name in BACKBONES:
        bundle = toy(frames=4 if name == "momke_frames" else 0)
        batch = to_device(
            bundle, "test", masks.draw(masks.complete(), bundle, "test", 0), "cpu"
        ).batch([0, 1, 2])
        torch.manual_seed(0)
        network = build_backbone(name, bundle.dims, 3, 2, sizes.get(name, [])).eval()
        with torch.no_grad():
            one = network(batch, batch.features).logits
            batch.speaker.copy_(1 - batch.speaker)
            batch.speaker[0] = 1 - batch.speaker[0]
            other = network(batch, batch.features).logits
        if not torch.equal(one, other):
            uses.add(name)
    assert uses == set(COUNT_SPEAKERS)


def test_shorter_sequences_are_padded_as_in_training_and_longer_ones_refused(
    frames: Made,
) -> None:
    bundle, rows, model = frames.raw, frames.rows, frames.model
    short = np.flatnonzero(np.max([bundle.lengths[m][rows] for m in bundle.modalities], axis=0) < 4)
    features = {m: x[short] for m, x in frames.test_features(bundle).items()}
    lengths = {m: bundle.lengths[m][rows][short] for m in bundle.modalities}
    observed = bundle.observed[rows][short]
    found = model.predict(features, observed, lengths=lengths)
    cut = {m: x[:, :3] for m, x in features.items()}
    assert len(short) and model.predict(cut, observed, lengths=lengths).tobytes() == found.tobytes()
    longer = {m: np.pad(x, ((0, 0), (0, 1), (0, 0))) for m, x in features.items()}
    with pytest.raises(InputError, match="sequences of 5 frames"):
        model.predict(longer, observed, lengths=lengths)
    with pytest.raises(InputError, match="lengths from"):
        model.predict(cut, observed, lengths={m: v + 9 for m, v in lengths.items()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: {**f, "audoi": f["audio"]}, "Did you mean 'audio'"),
        (lambda f: {**f, "audio": f["audio"][:, :5]}, "a vector of 5 dimensions"),
        (lambda f: {**f, "audio": f["audio"][:, None]}, "1 frames of 6"),
        (lambda f: {**f, "audio": f["audio"].astype(np.uint8)}, "found bytes"),
        (lambda f: {**f, "audio": f["audio"][:3]}, "Give every array the same rows"),
        (lambda f: {**f, "audio": np.where(f["audio"] > 6, np.inf, f["audio"])}, "infinite"),
        (lambda f: {**f, "audio": f["audio"].astype(str)}, "real numbers"),
        (lambda f: {"speech": f["audio"]}, "modality"),
        (lambda f: {}, "no modality"),
        (lambda f: {m: x[:0] for m, x in f.items()}, "no utterance"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    vectors: Made, change: Callable[[Arrays], Arrays], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        vectors.model.predict(change(vectors.test_features(vectors.raw)))


@pytest.mark.parametrize(
    "observed",
    [np.ones((3, 3)), {"audio": np.ones(2)}, {"speech": np.ones(16)}, np.full((16, 3), 0.5)],
)
def test_observed_of_another_form_is_refused(vectors: Made, observed: Any) -> None:
    with pytest.raises(InputError, match="observed"):
        vectors.model.predict(vectors.test_features(vectors.raw), observed)


def test_features_on_another_scale_are_refused(vectors: Made, unscaled: Made) -> None:
    wide = {m: 100 * x for m, x in vectors.test_features(vectors.raw).items()}
    middle = {m: np.array(of.scale["mean"]) for m, of in vectors.model.card.modalities.items()}  # type: ignore[index]
    narrow = {m: x / 1000 + middle[m] for m, x in vectors.test_features(vectors.raw).items()}
    taken = np.tile(np.arange(len(vectors.rows)), 2)
    for features in (wide, {m: x[taken] for m, x in narrow.items()}):
        with pytest.raises(InputError, match="standard deviations of the training data"):
            vectors.model.predict(features)
    with pytest.raises(InputError, match=r"without scaled=True"):
        unscaled.model.predict(unscaled.test_features(unscaled.raw), scaled=True)


def test_a_dimension_far_outside_training_is_named(
    vectors: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = {m: x.copy() for m, x in vectors.raw.features.items()}
    name = vectors.raw.modalities[0]
    features[name][vectors.rows, 1] = 1e9
    folder = write_test_folder(tmp_path / "new", vectors.spec, features, LAW)
    assert main(["predict", str(vectors.folder), str(folder), "--out", str(tmp_path / "p")]) == 0
    told = capsys.readouterr().out
    assert told.count("WARNING") == 1
    assert f"WARNING: {name} has values up to " in told and "in dimension 1 (" in told


@pytest.fixture(scope="module")
def far(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Made]:
    """Models of features with means near 500 and sds near 3, by whether they were standardised."""
    made = {}
    for scaled in (True, False):

        def shifted(**more: Any) -> Bundle:
            bundle = toy(**more)
            bundle.features.update({m: x + 165 for m, x in bundle.features.items()})  # type: ignore[attr-defined]
            return bundle

        made[scaled] = Made(shifted, tmp_path_factory.mktemp("far"), scaled)
    return made


@pytest.mark.parametrize("scaled", [True, False])
def test_features_standardised_elsewhere_are_refused_whether_the_model_is_scaled_or_not(
    far: Mapping[bool, Made], scaled: bool
) -> None:
    made = far[scaled]
    observed = made.bundle.observed[made.rows]
    features = made.test_features(made.raw)
    np.testing.assert_allclose(
        made.model.predict(features, observed), wanted(made, "all"), atol=1e-6
    )
    own = {m: (x - x.mean(axis=0)) / x.std(axis=0) for m, x in features.items()}
    with pytest.raises(InputError, match="standardised elsewhere"):
        made.model.predict(own, observed)
    if scaled:
        with pytest.raises(InputError, match="standard deviations of the training data"):
            made.model.predict(features, observed, scaled=True)


def test_a_bundles_own_scaling_is_brought_to_the_models_and_said(
    far: Mapping[bool, Made], toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of raw features takes a standardised bundle, and the reverse, and predicts the same."""
    tables = {}
    for model in (True, False):
        for data in (True, False):
            out = tmp_path / f"{model}{data}.csv"
            assert (
                main(["predict", str(far[model].folder), far[data].spec.data, "--out", str(out)])
                == 0
            )
            tables[model, data] = np.genfromtxt(
                out, delimiter=",", skip_header=1, usecols=(4, 5, 6)
            )
            told = capsys.readouterr().out
            expected = {
                (True, True): "standardised as the model's",
                (True, False): "raw, standardised here",
                (False, True): "brought back to the raw values",
                (False, False): "raw, as the model takes it",
            }[model, data]
            assert told.count(expected) == 3, told
        np.testing.assert_allclose(tables[model, True], tables[model, False], atol=2e-4)


def test_one_modality_and_no_labels_are_enough_in_a_folder(
    vectors: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_test_folder(tmp_path / "new", vectors.spec, vectors.raw.features, LAW)
    for name in ("audio", "vision"):
        (folder / f"{name}.npy").unlink()
        (folder / f"{name}_observed.npy").unlink()
    out = tmp_path / "p.csv"
    assert main(["predict", str(vectors.folder), str(folder), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "vision: not in" in told and "lack every modality" in told
    rows = out.read_text().splitlines()
    assert len(rows) == 1 + len(vectors.rows) and all(",audio+" in row for row in rows[1:])
    assert rows[0].startswith("id,missing,")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id,label\nx,1\nx,2\n", "'x' twice"),
        ("name\nx\ny\n", "column"),
        ("id,split\nx,train\ny,tset\n", "tset"),
        ("id,split,dialogue\nx,train,d\ny,test,d\n", "two splits"),
        ("id\nx\n", "rows, those of utterances.csv"),
    ],
)
def test_a_folder_with_a_wrong_table_is_refused(
    vectors: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, words: str
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "utterances.csv").write_text(table)
    np.save(tmp_path / "new" / "audio.npy", np.full((2, 6), 5.0))
    out = tmp_path / "p.csv"
    assert main(["predict", str(vectors.folder), str(tmp_path / "new"), "--out", str(out)]) == 2
    assert words in capsys.readouterr().err and not out.exists()


def test_data_go_before_a_folder_of_their_name(
    vectors: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twin:iemocap6@tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    given, rows = predict._opened("twin:iemocap6@tiny", vectors.model.card)
    assert given.name == "twin-iemocap6-tiny" and rows is None


def test_predict_names_what_is_not_there(
    vectors: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(vectors.folder), str(tmp_path / "p.csv")
    for arguments, words in (
        ([str(tmp_path), vectors.spec.data, "--out", out], "no model.json"),
        ([str(tmp_path / "no"), vectors.spec.data, "--out", out], "no folder"),
        ([model, "nowhere", "--out", out], "nowhere"),
        ([model, str(tmp_path), "--out", out], "no utterances.csv in it"),
        ([model, vectors.spec.data, "--out", str(tmp_path / "no" / "p.csv")], "--out"),
    ):
        assert main(["predict", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not Path(out).exists()


def changed(**values: Any) -> Callable[[Path], None]:
    """Set values in model.json, by dotted path with ``__`` for the dot."""

    def change(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        for path, value in values.items():
            *parents, last = path.split("__")
            place = card
            for name in parents:
                place = place[name]
            place[last] = value
        (folder / "model.json").write_text(json.dumps(summed(card)))

    return change


def rewritten(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Any:
    """Change the weights, and let model.json have the new file's sum."""

    def write(folder: Path) -> None:
        import hashlib

        path = folder / "weights.safetensors"
        save_file(change(load_file(path)), path)
        changed(weights=hashlib.sha256(path.read_bytes()).hexdigest())(folder)

    return write


def without_first(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weights[name] for name in sorted(weights)[1:]}


def flat(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.flatten()[:2].clone() for name, value in weights.items()}


def flipped(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(folder: Path) -> None:
    import hashlib

    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    changed(weights=hashlib.sha256(path.read_bytes()).hexdigest())(folder)


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.json").write_text(content) and None


NET = "run__spec__backbone_options"


def renamed(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"a"', '"z"'))


DAMAGED: dict[str, Callable[[Path], None]] = {
    "a class that somebody renamed": renamed,
    "no JSON": text("{"),
    "a list": text("[]"),
    "deep": text("[" * 100_000),
    "no format": text("{}"),
    "another format": changed(format=2),
    "no task": changed(task=None),
    "another task": changed(task__kind="ranking"),
    "no modalities": changed(modalities={}),
    "a modality's name": changed(modalities__training={"shape": [1]}),
    "a shape": changed(modalities__audio__shape=[-6]),
    "another shape": changed(modalities__audio__shape=[60]),
    "a scale that does not fit": changed(modalities__audio__scale={"mean": [0], "sd": [1]}),
    "an sd of 0": changed(modalities__audio__scale={"mean": [0] * 6, "sd": [0] * 6}),
    "no scale": changed(modalities__audio__scale=None),
    "a spec": changed(run__spec=[]),
    "an unknown method": changed(run__spec__method="os.system"),
    "an unknown backbone": changed(run__spec__backbone="__import__"),
    "an unknown option": changed(**{NET: [["depth", 3]]}),
    "an option of another type": changed(**{NET: [["hidden", "x"]]}),
    "an enormous network": changed(**{NET: [["hidden", 10**9]]}),
    "a larger network": changed(**{NET: [["hidden", 96]]}),
    "speakers": changed(speakers=0),
    "a nest of parents": changed(run__spec__parent={"parent": {"parent": {}}}),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "a flipped bit": flipped,
    "cut weights": cut,
    "a tensor that lacks": rewritten(without_first),
    "a tensor too many": rewritten(lambda w: {**w, "more": torch.zeros(1)}),
    "other shapes": rewritten(flat),
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_a_damaged_or_hostile_folder_is_refused_with_what_to_do(
    vectors: Made, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(vectors.folder, tmp_path / "model"))
    DAMAGED[name](folder)
    with pytest.raises(InputError, match=r"damaged model|format 2") as raised:
        mmlib.load_model(folder)
    assert "xport" in raised.value.do and str(folder) in raised.value.where


def test_loading_draws_no_random_number_and_takes_no_gradient(vectors: Made) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = vectors.model
    model.predict(vectors.test_features(vectors.raw), vectors.bundle.observed[vectors.rows])
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in model.method.parameters())


def test_scores_come_as_one_number_each(toy: Toy, tmp_path: Path) -> None:
    bundle = raw(toy, task=SCORE)
    one = spec(saved(bundle, tmp_path / "toy"), backbone="mlp", keep=("weights",))
    folder, stored = exported(one, tmp_path)
    whole, rows = rows_of_test(one)
    features = {m: bundle.features[m][rows] for m in whole.modalities}
    found = mmlib.load_model(folder).predict(features, whole.observed[rows])
    np.testing.assert_allclose(found, stored["predictions.valid.all"][:, 0], atol=1e-6)


def test_the_python_of_the_guide_predicts(vectors: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "models.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(vectors.folder.parent)
    vectors.folder.rename("my-model")
    features = vectors.test_features(vectors.raw)
    has_text = np.arange(len(vectors.rows)) % 2 == 0
    space = {"audio": features["audio"], "text": features["text"], "has_text": has_text}
    exec(code, space)
    Path("my-model").rename(vectors.folder)
    observed = np.stack([np.ones(len(has_text)), has_text, np.zeros(len(has_text))], axis=1)
    found = vectors.model.predict(features, observed.astype(bool))
    assert np.asarray(space["p"]).tobytes() == found.tobytes()


def test_a_file_that_is_no_prediction_is_not_written_over(
    vectors: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_test_folder(tmp_path / "new", vectors.spec, vectors.raw.features, LAW)
    table = folder / "utterances.csv"
    before = table.read_bytes()
    call = ["predict", str(vectors.folder), str(folder), "--out"]
    assert main([*call, str(table)]) == 2 and table.read_bytes() == before
    assert "no prediction" in capsys.readouterr().err
    assert main([*call, str(folder)]) == 2
    out = str(tmp_path / "p.csv")
    assert main([*call, out]) == 0 and main([*call, out]) == 0, "an earlier prediction"


def test_a_model_says_in_a_line_what_it_takes_and_gives(toy: Toy, tmp_path: Path) -> None:
    made = Made(toy, tmp_path)
    said = repr(mmlib.load_model(made.folder))
    assert "\n" not in said and len(said) < 300
    for name, dim in made.bundle.dims.items():
        assert f"{name} {dim}" in said
    assert all(name in said for name in made.bundle.task.names)
