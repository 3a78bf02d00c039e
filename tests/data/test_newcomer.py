"""What somebody who brings features of their own is told where the first try goes wrong."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_folder import good_rows, write_folder

from mmlib.cli import main
from mmlib.data.bundle import load_bundle
from mmlib.data.catalog import open_bundle
from mmlib.data.check import check
from mmlib.data.described import formula_warnings, head_lines
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path / "home"))


def test_an_import_in_the_place_of_other_data_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["data", "import", "folder", str(write_folder(tmp_path / "new")), "--name", "mine"]
    assert main(call) == 0 and main(call) == 0
    assert "replaced" not in capsys.readouterr().out, "the same data stand there as before"
    before = open_bundle("mine").fingerprint
    write_folder(tmp_path / "new", audio=np.ones((24, 4)) * np.arange(24)[:, None])
    assert main(call) == 0
    told = capsys.readouterr().out
    assert f"replaced: the bundle mine that stood there, fingerprint {before}" in told


@pytest.mark.parametrize("name", ["crema-d-votes", "mosi-unseen", "twins-study"])
def test_own_data_cannot_take_the_name_of_data_whose_results_are_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = write_folder(tmp_path / "new")
    assert main(["data", "import", "folder", str(folder), "--name", name]) == 2
    said = capsys.readouterr()
    assert "another name" in said.err and not said.out
    assert not (tmp_path / "home" / "data" / "bundles" / name).exists()


def test_a_class_whose_name_stands_for_an_empty_cell_can_be_listed(tmp_path: Path) -> None:
    rows = [{**row, "label": ("none", "angry")[row["position"]]} for row in good_rows()]
    folder = write_folder(tmp_path / "new", rows)
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [folder], {})
    assert (
        'If it names a class, list all in bundle.toml: classes = ["none", ...]' in refused.value.do
    )
    scores = [{**row, "label": row["position"] or "nan"} for row in good_rows()]
    with pytest.raises(InputError) as numbers:
        read_bundle("folder", [write_folder(tmp_path / "scores", scores)], {})
    assert "class" not in numbers.value.do
    (folder / "bundle.toml").write_text('classes = ["none", "angry"]\n')
    assert read_bundle("folder", [folder], {}).task.names == ("none", "angry")


@pytest.mark.parametrize("name", ["b c", "b.c", "gaze ü"])
def test_one_rule_for_names_of_modalities(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "new", **{name: np.ones((24, 2))})
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [folder], {})
    assert "dots" not in refused.value.expected and "underscores" in refused.value.expected


def test_a_folder_in_the_place_of_a_bundle_is_to_be_imported_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(write_folder(tmp_path / "new"))
    for command in (["compare", folder], ["data", "check", folder], ["run", "--data", folder]):
        assert main(command) == 2
        assert f"mmlib data import folder {folder} --name NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "words"), [(-3, "positive or negative"), (1, "above or below the median of train")]
)
def test_a_check_says_what_its_probe_asks_of_scores(tmp_path: Path, low: int, words: str) -> None:
    rows = [{**row, "label": low + 6 * k / 23} for k, row in enumerate(good_rows())]
    chance = np.random.default_rng(0).permutation(24)
    rows = [{**row, "label": rows[k]["label"]} for row, k in zip(rows, chance, strict=True)]
    lines = check(read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})).lines
    assert any(line.startswith("asked: ") and words in line for line in lines)


def test_numbers_beyond_float32_are_called_so(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", audio=np.full((24, 4), 1e300))
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [folder], {})
    assert "Numbers beyond 3.4e38 count as infinite" in refused.value.do


@pytest.mark.parametrize("column", ["dialogue", "speaker", "id"])
def test_empty_cells_make_no_dialogue_speaker_or_id_of_their_own(
    tmp_path: Path, column: str
) -> None:
    rows = [{"speaker": "s", **row} for row in good_rows()]
    rows[3] = {**rows[3], column: ""}
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})
    assert column in refused.value.where and "row 4" in refused.value.found


@pytest.mark.parametrize("value", ["9223372036854775808", "1e300", "2147483648", "0.5"])
def test_positions_that_no_integer_holds_are_refused_with_their_row(
    tmp_path: Path, value: str
) -> None:
    rows = good_rows()
    rows[2] = {**rows[2], "position": value}
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})
    assert "position, row 3" in refused.value.where


@pytest.mark.parametrize("column", ["id", "speaker", "dialogue"])
def test_names_that_differ_by_blanks_alone_are_refused_with_their_row(
    tmp_path: Path, column: str
) -> None:
    rows = good_rows()
    rows[6][column] = f"{rows[5][column]} "
    with pytest.raises(InputError) as refused:
        read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})
    assert refused.value.where.endswith(f"utterances.csv, {column}")
    assert "in row 7 and" in refused.value.found
    apart = [{**row, "speaker": f" {row['speaker']} "} for row in good_rows()]
    assert read_bundle("folder", [write_folder(tmp_path / "apart", apart)], {}).speakers == 2


@pytest.mark.parametrize(
    ("column", "value"), [("label", ""), ("position", "2.5"), ("position", "x"), ("speaker", "")]
)
def test_every_message_counts_rows_alike(tmp_path: Path, column: str, value: str) -> None:
    rows = good_rows()
    rows[2][column] = value
    with pytest.raises(InputError, match="row 3"):
        read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})


@pytest.mark.parametrize("name", ["vision.npz", "vision.NPY"])
def test_an_array_that_would_be_left_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "new")
    (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=name):
        read_bundle("folder", [folder], {})
    (folder / name).rename(folder / f"._{name}")
    assert len(read_bundle("folder", [folder], {}).modalities) == 2, "left by another system"


@pytest.mark.parametrize(
    "options",
    [["--option", "valid=nan"], ["--option", "valid=0.1", "--option", "valid=0.5"], ["--out", ""]],
)
def test_options_that_could_not_be_followed_are_refused(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert main(["data", "import", "folder", str(write_folder(tmp_path / "new")), *options]) == 2
    assert not list(empty.iterdir())


def test_a_received_source_writes_nothing_into_the_terminal(tmp_path: Path) -> None:
    bundle = read_bundle("folder", [write_folder(tmp_path / "new")], {})
    hostile = dataclasses.replace(bundle, source="\x1b[2J\x1b]0;title\x07", licence="by ü\n")
    told = "\n".join(head_lines(hostile, "classes"))
    assert "\x1b" not in told and "\x07" not in told and "\\x1b[2J" in told
    assert "licence: by ü\\n" in told


def test_without_positions_the_rows_of_a_dialogue_come_in_the_order_of_the_table(
    tmp_path: Path,
) -> None:
    """Ids u0 to u23, whose order as text is another one: u0, u1, u10, u11, and so on."""
    rows = [
        {**{key: row[key] for key in ("split", "label")}, "id": f"u{k}", "dialogue": f"d{k // 8}"}
        for k, row in enumerate(good_rows())
    ]
    for k, row in enumerate(rows):
        row["split"] = ("train", "valid", "test")[k // 8]
    bundle = read_bundle("folder", [write_folder(tmp_path / "new", rows)], {})
    for number, split in enumerate(("train", "valid", "test")):
        (dialogue,) = bundle.dialogues(split)
        wanted = [f"u{k}" for k in range(8 * number, 8 * number + 8)]
        assert [bundle.ids[row] for row in dialogue] == wanted
    turned = rows[16:] + rows[:16]  # dialogues in another order, each as it was
    rolled = {
        name: np.roll(np.load(tmp_path / "new" / f"{name}.npy"), 8, axis=0)
        for name in ("audio", "text")
    }
    again = read_bundle("folder", [write_folder(tmp_path / "turned", turned, **rolled)], {})
    assert again.fingerprint == bundle.fingerprint


@pytest.mark.parametrize("name", ["nan", "NaN", "none", "None", "null", "NA"])
def test_a_modality_is_not_called_as_an_empty_cell(tmp_path: Path, name: str) -> None:
    """pandas reads the column ``missing`` of predictions, where modalities stand, as one of missing values."""
    spellings = "\n".join({name, name.lower(), name.upper(), name.title()})
    assert pd.read_csv(io.StringIO(f"missing\n{spellings}\n"))["missing"].isna().any()
    folder = write_folder(tmp_path / "new", None, **{name: np.ones((24, 2))})
    with pytest.raises(InputError, match="empty cell") as refused:
        read_bundle("folder", [folder])
    assert "Rename the file" in refused.value.do


def test_a_share_for_validation_is_refused_where_rows_are_marked_for_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new")
    with pytest.raises(InputError, match=r"4 rows that utterances\.csv marks valid"):
        read_bundle("folder", [folder], {"valid": "0.5"})
    assert len(read_bundle("folder", [folder]).rows("valid")) == 4
    with pytest.raises(InputError, match="a number"):
        read_bundle("folder", [folder], {"valid": ""})


def test_a_row_without_a_modality_may_have_no_frames(tmp_path: Path) -> None:
    frames, observed = np.ones((24, 3, 2)), np.arange(24) % 4 > 0
    lengths = np.where(observed, np.arange(24) % 3 + 1, 0)
    folder = write_folder(tmp_path / "new", face=frames, face_lengths=lengths)
    with pytest.raises(InputError, match="lengths from 0") as refused:
        read_bundle("folder", [folder])
    assert "not observed" in refused.value.do
    np.save(folder / "face_observed.npy", observed)
    bundle = read_bundle("folder", [folder])
    np.testing.assert_array_equal(bundle.lengths["face"], np.maximum(lengths, 1))
    wrong = np.where(observed, lengths, -1)
    np.save(folder / "face_lengths.npy", wrong)
    with pytest.raises(InputError, match="lengths from -1"):
        read_bundle("folder", [folder])


@pytest.mark.parametrize("place", ["label", "id"])
@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "-x", "+cmd|' /C calc'!A0"])
def test_names_that_a_spreadsheet_computes_are_warned_of_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, name: str
) -> None:
    rows = good_rows()
    for row in rows:
        row["label"] = name if place == "label" and row["label"] == "yes" else row["label"]
    rows[3]["id"] = name if place == "id" else rows[3]["id"]
    source, out = write_folder(tmp_path / "mine", rows), tmp_path / "out"
    assert main(["data", "import", "folder", str(source), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"WARNING: 1 classes and ids of mine begin as formulas do, {name!r} first" in told
    bundle = load_bundle(out)
    assert name in (bundle.task.names if place == "label" else bundle.ids)


def test_numbers_are_no_formulas(tmp_path: Path) -> None:
    rows = [{**row, "id": f"-{k}", "label": k / 8 - 1.5} for k, row in enumerate(good_rows())]
    assert not formula_warnings(read_bundle("folder", [write_folder(tmp_path / "new", rows)]))
