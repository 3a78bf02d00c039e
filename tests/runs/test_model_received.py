"""What an exported model makes of tables and folders that others have written."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import EXPERTS, GRAPH, Toy, exported, raw, rows_of_test, saved, spec

import mmlib
from mmlib.cli import main
from mmlib.errors import InputError
from mmlib.runs.card import summed


@pytest.fixture(scope="module")
def context(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a model that uses dialogues, and what a user has: raw features, dialogues and speakers."""
    folder = tmp_path_factory.mktemp("context")
    bundle = raw(toy)
    one = spec(
        saved(bundle, folder / "toy"),
        backbone="mmgcn",
        backbone_options=GRAPH,
        keep=("weights",),
    )
    whole, rows = rows_of_test(one)
    own = {
        "features": {m: bundle.features[m][rows] for m in whole.modalities},
        "dialogue": [f"d{number}" for number in whole.dialogue[rows]],
        "speaker": [str(number) for number in whole.speaker[rows]],
    }
    return exported(one, folder)[0], own


def write_user_folder(folder: Path, own: dict[str, Any], **columns: list[str]) -> Path:
    """A folder of these features, whose ids as text are in another order than the rows, unless others are given."""
    n = len(own["dialogue"])
    table = {"id": [f"u{k}" for k in range(n)], "dialogue": own["dialogue"]}
    table = {**table, "speaker": own["speaker"], **columns}
    folder.mkdir()
    with (folder / "utterances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    for modality, values in own["features"].items():
        np.save(folder / f"{modality}.npy", values)
    return folder


def predicted(model: Path, folder: Path, out: Path) -> list[dict[str, str]]:
    """What ``mmlib predict`` writes."""
    assert main(["predict", str(model), str(folder), "--out", str(out)]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_without_positions_gives_what_python_gives_for_its_rows(
    context: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    model, own = context
    assert len(set(own["dialogue"])) < len(own["dialogue"]) > 10, "ids u10 and after"
    found = predicted(model, write_user_folder(tmp_path / "new", own), tmp_path / "p.csv")
    wanted = mmlib.load_model(model).predict(
        own["features"], dialogue=own["dialogue"], speaker=own["speaker"]
    )
    mine = [[float(row[f"p_{name}"]) for name in ("a", "b", "c")] for row in found]
    np.testing.assert_allclose(mine, wanted, atol=1e-6)
    turned = {**own, "features": {m: x[::-1] for m, x in own["features"].items()}}
    turned |= {name: own[name][::-1] for name in ("dialogue", "speaker")}
    other = predicted(model, write_user_folder(tmp_path / "back", turned), tmp_path / "b.csv")
    back = [[float(row[f"p_{name}"]) for name in ("a", "b", "c")] for row in other[::-1]]
    assert not np.allclose(back, wanted, atol=1e-4), "the order of the rows counts"


@pytest.mark.parametrize("way", ["table", "python"])
def test_features_of_64_bits_are_standardised_before_they_are_rounded(
    toy: Toy, tmp_path: Path, way: str
) -> None:
    """With an offset of 1e9, of which 32 bits leave nothing, the predictions are those without it."""
    bundle = raw(toy)
    one = spec(saved(bundle, tmp_path / "toy"), backbone="mlp", keep=("weights",))
    folder, _ = exported(one, tmp_path)
    whole, rows = rows_of_test(one)
    plain = {m: bundle.features[m][rows].astype(np.float64) for m in whole.modalities}
    model = mmlib.load_model(folder)
    wanted = model.predict(plain)
    change_scale(folder, 1e9)
    far = {m: x + 1e9 for m, x in plain.items()}
    if way == "python":
        found = mmlib.load_model(folder).predict(far)
    else:
        alone = {"dialogue": [str(k) for k in range(len(rows))], "speaker": ["s"] * len(rows)}
        source = write_user_folder(tmp_path / "new", {"features": far, **alone})
        table = predicted(folder, source, tmp_path / "p.csv")
        found = np.array([[float(row[f"p_{name}"]) for name in model.classes] for row in table])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def change_scale(folder: Path, offset: float) -> None:
    """Let a model's training data have had means that are larger by so much."""
    card = json.loads((folder / "model.json").read_text())
    for of in card["modalities"].values():
        of["scale"]["mean"] = [mean + offset for mean in of["scale"]["mean"]]
    (folder / "model.json").write_text(json.dumps(summed(card)))


def test_a_model_of_raw_features_takes_them_in_32_bits(toy: Toy, tmp_path: Path) -> None:
    bundle = raw(toy)
    one = spec(saved(bundle, tmp_path / "toy", scaled=False), backbone="mlp", keep=("weights",))
    folder, _ = exported(one, tmp_path)
    features = {m: x[rows_of_test(one)[1]] for m, x in bundle.features.items()}
    model = mmlib.load_model(folder)
    wide = {m: x.astype(np.float64) for m, x in features.items()}
    assert model.predict(wide).tobytes() == model.predict(features).tobytes()


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("mmdfn", [["layers", 10**9], ["graph", 1400], ["hidden", 8]]),
        ("mult", [["layers", 10**9], ["hidden", 4], ["heads", 2]]),
    ],
)
def test_a_network_without_end_is_refused_before_it_takes_memory_or_time(
    context: tuple[Path, dict[str, Any]], tmp_path: Path, backbone: str, options: list[list[Any]]
) -> None:
    """Each of its arrays is small; there are 10^9 layers."""
    model, _ = context
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    card = json.loads((folder / "model.json").read_text())
    card["run"]["spec"] |= {"backbone": backbone, "backbone_options": options}
    (folder / "model.json").write_text(json.dumps(summed(card)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(InputError, match="a larger network than its weights are of"):
        mmlib.load_model(folder)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def rewrite(source: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a model whose card somebody has changed, sum and all."""
    folder = Path(shutil.copytree(source, to))
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(summed(card)))
    return folder


@pytest.mark.parametrize("place", [("run", "id"), ("data", "name"), ("data", "neutral")])
def test_a_received_text_does_nothing_to_the_terminal(
    context: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: tuple[str, str],
) -> None:
    model, own = context
    hostile = "\x1b]0;title\x07\x1b[31m\n\nwritten: elsewhere\ud800"
    folder = rewrite(model, tmp_path / "m", lambda card: card[place[0]].update({place[1]: hostile}))
    predicted(folder, write_user_folder(tmp_path / "new", own), tmp_path / "p.csv")
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\x07" not in told and "\\x1b[31m\\n\\nwritten" in told
    assert [line for line in told.splitlines() if line.startswith("written")] == [
        f"written: {tmp_path / 'p.csv'}"
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "b", "a"], "'a' twice"),
        (["a", "b", "\ud800"], "no table can show"),
        (["a", "b", "c\nid"], "no table can show"),
        (["a", "b", "\x1b[31mred"], "no table can show"),
        (["a", "b", " "], "no table can show"),
    ],
)
def test_classes_that_no_table_can_show_are_refused(
    context: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    words: str,
) -> None:
    model, own = context
    folder = rewrite(model, tmp_path / "m", lambda card: card["task"].update({"names": names}))
    source = write_user_folder(tmp_path / "new", own)
    out = tmp_path / "p.csv"
    assert main(["predict", str(folder), str(source), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert words in told and "\x1b" not in told and not out.exists()


def test_predictions_that_a_spreadsheet_computes_are_warned_of(
    context: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, own = context
    source = write_user_folder(tmp_path / "new", own)
    predicted(model, source, tmp_path / "p.csv")
    assert "formulas" not in capsys.readouterr().out
    names = ["a", "=1+1", "c"]
    folder = rewrite(model, tmp_path / "m", lambda card: card["task"].update({"names": names}))
    rows = predicted(folder, source, tmp_path / "q.csv")
    assert "begin as formulas do, '=1+1' first" in capsys.readouterr().out
    assert "p_=1+1" in rows[0], "the table has the names as they are"


def test_a_sequence_that_is_missing_may_have_no_frames(toy: Toy, tmp_path: Path) -> None:
    bundle = raw(toy, frames=4)
    net = {"backbone": "momke_frames", "backbone_options": EXPERTS, "keep": ("last",)}
    one = spec(saved(bundle, tmp_path / "toy"), **net)
    folder, _ = exported(one, tmp_path)
    _, rows = rows_of_test(one)
    features = {m: x[rows] for m, x in bundle.features.items()}
    ends = {m: v[rows] for m, v in bundle.lengths.items()}
    observed = bundle.observed[rows]
    none = {m: np.where(observed[:, k], v, 0) for k, (m, v) in enumerate(sorted(ends.items()))}
    assert any((v == 0).any() for v in none.values())
    model = mmlib.load_model(folder)
    found = model.predict(features, observed, lengths=none)
    assert found.tobytes() == model.predict(features, observed, lengths=ends).tobytes()
    with pytest.raises(InputError, match="lengths from 0"):
        model.predict(features, lengths=none)
