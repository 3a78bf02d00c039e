"""Whatever a name is, nothing is written outside the folder that it names, and the exit code is 0 or 2.

Takes about 15 s.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from mmlib import names
from mmlib.cli import main
from mmlib.data.bundle import Task, load_bundle, make_bundle, save_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.report import artifact
from mmlib.runs.sweep import Estimate
from mmlib.runs.timing import Range

PIECES = (
    "..",
    ".",
    "/",
    "\\",
    "~",
    "\0",
    "\n",
    " ",
    "-",
    "_",
    "+",
    ",",
    "é",
    "数",
    "a",
    "B",
    "7",
    "CON",
    "nul",
    ":",
    "*",
    "x" * 60,
    "manifest.json",
    "twins",
    "embedded",
    "%2e",
    "\udcff",
    "$HOME",
    "index.html",
)
NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
    st.text(max_size=70),
    st.from_regex(r"[A-Za-z0-9._-]{1,66}", fullmatch=True),
)
VALUES = st.one_of(
    NAMES,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(NAMES, max_size=2),
    st.dictionaries(NAMES, st.integers(), max_size=1),
)
ESCAPES = (
    "../../x",
    "..",
    ".",
    "",
    "/etc/x",
    "a/b",
    "a\\b",
    ".hidden",
    "-x",
    "a..b",
    "a.",
    "a\n",
    " a",
    "a b",
    "é",
    "CON",
    "aux.v1",
    "x" * 65,
    "a\0b",
)
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MANY = settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small(name: str = "small", **features: np.ndarray) -> Any:
    arrays = features or {"audio": np.zeros((12, 3)), "text": np.ones((12, 2))}
    return make_bundle(
        name,
        Task("classes", ("no", "yes")),
        arrays,
        np.arange(12) % 2,
        ["train"] * 6 + ["valid"] * 3 + ["test"] * 3,
        [f"u{i:02d}" for i in range(12)],
    )


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, with what the files hold."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


@MANY
@given(NAMES)
def test_an_accepted_name_is_one_part_of_a_path_on_every_system(name: str) -> None:
    try:
        names.check_name("name", name, "Change it.")
    except InputError as error:
        assert error.found and error.expected == names.RULE or "another name" in error.expected
        return
    assert Path("/folder", name).parts == ("/", "folder", name)
    assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"
    assert name.isascii() and name[0].isalnum() and name[-1] != "." and 0 < len(name) <= 64
    assert not set(name) & set(
        '/\\:*?"<>|%$~+, \n\0'
    )  # what shells, Windows and web addresses read otherwise


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_a_folder_are_refused_everywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("RUNS", "FIGURES"):
        monkeypatch.setenv(f"MMLIB_{variable}", str(tmp_path / variable.lower()))
    for command in ("run", "sweep", "report"):
        if name:  # no label is the bundles' names
            assert main([command, "--paper", "balm", "--profile", "smoke", f"--label={name}"]) == 2
            assert "--label" in capsys.readouterr().err
    assert main(["data", "import", "folder", str(tmp_path / "in"), f"--name={name}"]) == 2
    assert "--name" in capsys.readouterr().err
    with pytest.raises(InputError, match="name"):
        save_bundle(small(name), tmp_path / "out")
    with pytest.raises(InputError, match="collection"):
        artifact.Made(name, "quick")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("name", ["twins", "embedded", "Manifest.json", "claims.csv"])
def test_bundles_may_not_take_the_place_of_what_stands_in_figures(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="reserved"):
        save_bundle(small(name), tmp_path / "out")


@FEW
@given(NAMES)
def test_an_import_writes_into_the_folder_of_its_name_or_nowhere(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "in").mkdir()
    write_input(home / "in")
    before = listing(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_HOME", str(home / "repository"))
        code = main(["data", "import", "folder", str(home / "in"), f"--name={name}"])
    made = {path: content for path, content in listing(home).items() if path not in before}
    if code == 2:
        assert not made
        return
    assert code == 0
    root = "repository/data/bundles"
    assert set(made) == {
        "repository",
        "repository/data",
        root,
        f"{root}/{name}",
        *(f"{root}/{name}/bundle.{ending}" for ending in ("json", "safetensors")),
    }


def write_input(folder: Path) -> None:
    splits = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    rows = [f"u{i:02d},{split},{('yes', 'no')[i % 2]}" for i, split in enumerate(splits)]
    (folder / "utterances.csv").write_text("\n".join(["id,split,label", *rows]))
    for modality, width in (("audio", 3), ("text", 2)):
        np.save(folder / f"{modality}.npy", np.ones((12, width)))


@FEW
@example("--")
@given(NAMES)
def test_a_label_is_taken_or_refused_before_anything_is_written(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("RUNS", "FIGURES"):
            patch.setenv(f"MMLIB_{variable}", str(home / variable.lower()))
        without_pilots = Estimate(0, 0, 0, Range(0.0, 0.0))
        patch.setattr("mmlib.pipeline.job.estimate", lambda *_, **__: without_pilots)
        code = main(
            [
                "run",
                "--dry-run",
                "--paper",
                "balm",
                "--artifact",
                "table3",
                "--profile",
                "smoke",
                f"--label={name}",
            ]
        )
    assert code == (0 if is_name(name) else 2)
    assert listing(home) == {}


def is_name(name: str) -> bool:
    try:
        names.check_collection("--label", name)
    except InputError:
        return False
    return True


@FEW
@given(VALUES)
def test_a_received_bundle_has_a_plain_name_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: Any
) -> None:
    folder = tmp_path_factory.mktemp("received")
    save_bundle(small(), folder)
    head = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(head | {"name": name}))
    try:
        bundle = load_bundle(folder)
    except InputError as error:
        assert "bundle.json" in str(error) and "name" in str(error) and error.do
        return
    assert isinstance(name, str) and is_name(name) and bundle.name == name


@pytest.mark.parametrize("name", ["../../x", "", "twins", 3, None, ["x"]], ids=repr)
def test_running_a_received_bundle_with_such_a_name_writes_nothing(
    name: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("RUNS", "FIGURES"):
        monkeypatch.setenv(f"MMLIB_{variable}", str(tmp_path / "deep/er" / variable.lower()))
    save_bundle(small(), tmp_path / "received")
    path = tmp_path / "received" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name}))
    before = listing(tmp_path)
    for arguments in (
        ["run", "--paper", "balm", "--profile", "smoke", "--data", f"mosei={path.parent}"],
        ["data", "check", str(path.parent)],
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "bundle.json" in message and "name" in message and "Traceback" not in message
    assert listing(tmp_path) == before


def test_results_of_bundles_whose_names_are_too_long_together_need_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    for letter in "ab":
        save_bundle(small(letter * 40), tmp_path / letter)
    before = listing(tmp_path)
    data = [
        f"--data={role}={tmp_path / letter}" for role, letter in (("crema-d", "a"), ("ave", "b"))
    ]
    assert main(["run", "--dry-run", "--paper", "gmm_loss", "--profile", "smoke", *data]) == 2
    assert "Give --label" in capsys.readouterr().err
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ['"../../x"', "3", '""', '["a"]', '"twins"'])
def test_a_name_in_bundle_toml_is_held_to_the_rule(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path)
    (tmp_path / "bundle.toml").write_text(f"name = {name}\n")
    before = listing(tmp_path)
    assert main(["data", "import", "folder", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "bundle.toml, name" in capsys.readouterr().err
    assert listing(tmp_path) == before


ENTRY = artifact.missing(
    artifact.Artifact(
        "table1", "balm", "table", "T", "C.", lambda c: [], lambda c: artifact.Output()
    ),
    artifact.Made("mine", "quick"),
    "needs data",
)


@MANY
@given(st.sampled_from(["collection", "paper", "id", "files"]), VALUES, NAMES)
def test_what_a_manifest_names_stands_in_its_folder_or_it_is_refused(
    key: str, value: Any, file: str
) -> None:
    inside = [
        "figures/mine/balm/table1.csv",
        f"figures/mine/balm/{file}",
        f"{file}/mine/balm/table1.md",
        file,
    ]
    changed = ENTRY | ({"files": inside} if key == "files" else {key: value})
    path = Path("/nowhere/else/manifest.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: True)
        patch.setattr(Path, "read_text", lambda self, encoding: json.dumps([changed]))
        try:
            (entry,) = artifact.read_manifest(path)
        except InputError as error:
            assert "manifest.json" in str(error)
            return
    folder = path.parent / entry["collection"] / entry["paper"]
    assert os.path.normpath(folder).startswith("/nowhere/else/") and len(folder.parts) == 5
    for name in entry["files"]:
        assert Path(os.path.normpath(path.parent.parent / name)).parent == folder


@pytest.mark.parametrize(
    "change",
    [
        {"collection": "../../x"},
        {"paper": ".."},
        {"id": "a/b"},
        {"files": ["figures/../../etc/passwd"]},
        {"files": ["/etc/passwd"]},
        {"files": ["figures/mine/balm/../../../x"]},
        {"files": ["figures/other/balm/table1.csv"]},
        {"files": "figures"},
        {"files": [3]},
        {"files": None},
    ],
    ids=str,
)
def test_a_manifest_that_points_elsewhere_is_refused_and_stays_as_it_is(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "figures" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps([ENTRY | change]))
    before = listing(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.json"):
        artifact.update_manifest(path, [ENTRY])
    assert listing(tmp_path) == before


def test_figures_that_were_moved_list_their_files_where_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "copied" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps([ENTRY | {"files": ["figures/mine/balm/table1.csv"]}]))
    assert artifact.read_manifest(path)[0]["files"] == ["copied/mine/balm/table1.csv"]


USED_BY_TORCH = sorted(name for name in dir(nn.ModuleDict()) if not name.startswith("_"))
BAD_MODALITIES = (
    "audio.v2",
    "type",
    "training",
    "keys",
    "",
    "a+b",
    "a,b",
    "a b",
    "audio_lengths",
    "text_observed",
    "_modules",
    "../x",
    "x" * 65,
    "é",
    "-a",
    "{a}",
    "a&b",
    "aux",
)
GOOD_MODALITIES = (
    "audio",
    "text",
    "vision",
    "voice",
    "face",
    "eye-gaze",
    "bio_signals",
    "3d",
    "EEG",
    "a",
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(NAMES, st.sampled_from(USED_BY_TORCH), st.sampled_from(GOOD_MODALITIES)))
def test_an_accepted_modality_can_be_a_layer_s_key_a_column_and_part_of_a_mask(name: str) -> None:
    try:
        names.check_modality("modality", name)
    except InputError:
        return
    layers, numbers = (
        nn.ModuleDict({name: nn.Linear(1, 1)}),
        nn.ParameterDict({name: nn.Linear(1, 1).weight}),
    )
    assert list(layers.keys()) == list(numbers.keys()) == [name]
    assert set(layers.state_dict()) == {f"{name}.weight", f"{name}.bias"}
    assert "+".join([name, "other"]).split("+") == [name, "other"] and f"{name},1".split(",") == [
        name,
        "1",
    ]


@pytest.mark.parametrize("name", USED_BY_TORCH)
def test_every_name_that_torch_s_containers_use_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="torch" if "." not in name else "dots"):
        names.check_modality("modality", name)


@pytest.mark.parametrize("name", GOOD_MODALITIES)
def test_names_of_modalities_in_use_pass(name: str) -> None:
    assert small(**{name: np.zeros((12, 3)), "other": np.ones((12, 2))}).modalities == tuple(
        sorted((name, "other"))
    )


@pytest.mark.parametrize("name", BAD_MODALITIES)
def test_a_bad_modality_is_refused_in_code_and_in_received_bundles(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="modality"):
        small(**{name: np.zeros((12, 3)), "other": np.ones((12, 2))})
    with pytest.MonkeyPatch.context() as patch:  # what another program may have written
        patch.setattr(names, "check_modality", lambda *_: "")
        save_bundle(small(**{name: np.zeros((12, 3)), "other": np.ones((12, 2))}), tmp_path)
    with pytest.raises(InputError, match="modality"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["audio.v2", "type", "training", "keys", "a+b", "a b"])
def test_the_file_of_a_bad_modality_is_named_with_what_to_do(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path)
    (tmp_path / "text.npy").rename(tmp_path / f"{name}.npy")
    assert main(["data", "import", "folder", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / f"{name}.npy") in message and "Rename the file" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["valid", "Test", "all", "average", "complete"])
def test_names_of_splits_and_settings_are_no_modalities(name: str) -> None:
    """A run's test masks and a table's settings are called by them."""
    with pytest.raises(InputError, match="split or a setting"):
        names.check_modality("modality", name)


def test_of_a_long_list_of_names_an_error_tells_the_beginning_and_how_many_more() -> None:
    few, many = ([f"set{n:03d}" for n in range(count)] for count in (40, 100))
    assert "set039. " in str(unknown_name("bundle", "x", few))
    assert "set039 and 60 more. " in str(unknown_name("bundle", "x", many))
