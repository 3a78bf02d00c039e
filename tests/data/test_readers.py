"""Each reader puts every utterance's features, label, split and dialogue together correctly."""

from __future__ import annotations

import csv
import pickle
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from small_folder import good_rows, write_folder

from mmlib import paths
from mmlib.data.av_twins import AV_ROLES
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.catalog import open_bundle
from mmlib.data.readers import READERS, read_bundle
from mmlib.data.readers.common import hold_out, hold_out_by_class
from mmlib.data.standardise import standardised
from mmlib.data.twin_laws import FRAME_ROLES, ROLES
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]


def row(bundle: Bundle, name: str) -> dict[str, Any]:
    """One utterance of a bundle, as plain values."""
    at = bundle.ids.index(name)
    return {m: bundle.features[m][at] for m in bundle.modalities} | {
        "label": bundle.labels[at],
        "split": int(bundle.split[at]),
        "speaker": int(bundle.speaker[at]),
        "dialogue": int(bundle.dialogue[at]),
        "position": int(bundle.position[at]),
        "observed": bundle.observed[at],
    }


def real(*parts: str) -> Path:
    path = paths.real_data().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data at {path}")
    return path


def test_held_out_groups_do_not_depend_on_order_or_copies() -> None:
    names = [f"d{i}" for i in range(120)]
    first = hold_out(names)
    assert len(first) == 12  # BALM: 12 of 120 dialogues
    assert hold_out(names[::-1] * 3) == first


def test_held_out_by_class_takes_a_share_of_each_class() -> None:
    ids = [f"u{i:03d}" for i in range(70)]
    labels = ["a"] * 40 + ["b"] * 20 + ["c"] * 9 + ["d"]
    held = hold_out_by_class(ids, labels)
    assert [sum(i in held for i, k in zip(ids, labels, strict=True) if k == c) for c in "abcd"] == [
        4,
        2,
        1,
        0,
    ]


def test_folder_keeps_rows_with_their_labels_in_any_order(tmp_path: Path) -> None:
    rows = good_rows()
    order = np.random.default_rng(1).permutation(24)
    audio = np.arange(24.0)[:, None] * np.ones(4)
    folder = write_folder(tmp_path, [rows[i] for i in order], audio=audio[order])
    bundle = read_bundle("folder", [folder])
    for at, one in enumerate(rows):
        found = row(bundle, one["id"])
        assert found["audio"][0] == at
        assert bundle.task.names[found["label"]] == one["label"]
        assert (found["split"], found["position"]) == (
            ("train", "valid", "test").index(one["split"]),
            one["position"],
        )


def test_folder_makes_valid_of_whole_dialogues_of_train(tmp_path: Path) -> None:
    rows = [r | {"split": "test" if r["dialogue"] == "d11" else "train"} for r in good_rows()]
    bundle = read_bundle("folder", [write_folder(tmp_path, rows)], {"valid": "0.3"})
    assert [len(bundle.dialogues(s)) for s in ("train", "valid", "test")] == [8, 3, 1]
    assert all(len(rows) == 2 for rows in bundle.dialogues("valid"))


def test_folder_without_dialogues_makes_valid_of_each_class(tmp_path: Path) -> None:
    rows = [
        {"id": r["id"], "split": "test" if r["dialogue"] == "d11" else "train", "label": r["label"]}
        for r in good_rows()
    ]
    bundle = read_bundle("folder", [write_folder(tmp_path, rows)], {"valid": "0.2"})
    assert np.bincount(bundle.labels[bundle.rows("valid")]).tolist() == [2, 2]


def test_folder_takes_scores_frames_lengths_missing_rows_and_settings(tmp_path: Path) -> None:
    rows = [r | {"label": i / 4 - 2, "fold": i // 6} for i, r in enumerate(good_rows())]
    observed = np.arange(24) % 5 > 0
    video = np.where(observed[:, None, None], 1.0, np.nan) * np.ones((24, 3, 2))
    folder = write_folder(
        tmp_path, rows, face=video, face_lengths=np.arange(24) % 3 + 1, face_observed=observed
    )
    (folder / "bundle.toml").write_text(
        'name = "mine"\ntask = "score"\nrange = [-3, 4]\nlicence = "CC0"\n'
    )
    bundle = read_bundle("folder", [folder])
    assert (bundle.name, bundle.licence, bundle.task.range) == ("mine", "CC0", (-3.0, 4.0))
    assert bundle.modalities == ("audio", "face", "text")
    np.testing.assert_allclose(bundle.labels, np.arange(24) / 4 - 2)
    np.testing.assert_array_equal(bundle.observed[:, 1], observed)
    assert np.isfinite(bundle.features["face"]).all()
    np.testing.assert_array_equal(bundle.lengths["face"], np.arange(24) % 3 + 1)
    assert bundle.fold is not None and np.bincount(bundle.fold).tolist() == [6, 6, 6, 6]


def test_folder_takes_integer_labels_as_classes_where_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [r | {"label": i % 2} for i, r in enumerate(good_rows())])
    with pytest.raises(InputError, match="look like classes"):
        read_bundle("folder", [folder])
    (folder / "bundle.toml").write_text('task = "score"\n')
    assert read_bundle("folder", [folder]).task.kind == "score"
    (folder / "bundle.toml").write_text('task = "classes"\nclasses = ["1", "0"]\n')
    bundle = read_bundle("folder", [folder])
    assert bundle.task.names == ("1", "0")
    assert bundle.labels.tolist() == [1, 0] * 12


def gcnet_files(
    root: Path, labels: list[Any], videos: list[str], sets: list[set[str]], speakers: str
) -> None:
    """Two utterances a video; audio holds a vector, text frames, vision a folder of faces."""
    index = [
        {v: [f"{v}_{i}" for i in range(2)] for v in videos},
        {v: [labels[2 * k], labels[2 * k + 1]] for k, v in enumerate(videos)},
        {v: list(speakers) if speakers else ["", ""] for v in videos},
        {v: np.array(["some", "words"]) for v in videos},
        *sets,
    ]
    (root / "X_features_raw_2way.pkl").write_bytes(pickle.dumps(index))
    for name in ("a", "t", "v"):
        (root / "features" / name).mkdir(parents=True)
    for k, name in enumerate(f"{v}_{i}" for v in videos for i in range(2)):
        np.save(root / "features" / "a" / f"{name}.npy", np.full((1, 4), k, dtype=np.float32))
        np.save(root / "features" / "t" / f"{name}.npy", np.array([[k, 0, 1.0], [k, 2, 1.0]]))
        faces = root / "features" / "v" / name
        faces.mkdir()
        for face, value in (("F_1", 1), ("F_2", 3), ("M_1", 10)):
            if k != 1:
                np.save(faces / f"{face}.npy", np.full(2, value, dtype=np.float32))


def test_gcnet_joins_the_index_with_one_file_per_utterance(tmp_path: Path) -> None:
    videos = ["v1", "v2", "v3"]
    gcnet_files(tmp_path, [0.5, -1.0, 3.0, 0.0, -3.0, 1.0], videos, [{"v3"}, {"v1"}, {"v2"}], "")
    bundle = read_bundle("gcnet", [tmp_path], {"audio": "a", "text": "t", "vision": "v"})
    found = row(bundle, "v2_1")
    assert (found["label"], found["split"], found["dialogue"], found["position"]) == (0.0, 2, 1, 1)
    np.testing.assert_array_equal(found["audio"], [3, 3, 3, 3])
    np.testing.assert_array_equal(found["text"], [3, 1, 1])  # the mean over time
    np.testing.assert_allclose(found["vision"], [14 / 3, 14 / 3])
    assert row(bundle, "v1_1")["observed"].tolist() == [
        True,
        True,
        False,
    ]  # an empty folder of faces
    assert bundle.observed.sum() == 17 and bundle.speakers == 1


def test_gcnet_iemocap_takes_the_speakers_own_faces_and_sessions_as_folds(tmp_path: Path) -> None:
    videos = [f"Ses0{s}F_impro0{k}" for s in range(1, 6) for k in (1, 2)]
    gcnet_files(tmp_path, [0, 1, 2, 3] * 5, videos, [set(videos[:8]), set(videos[8:])], "FM")
    (tmp_path / "X_features_raw_2way.pkl").rename(tmp_path / "X_features_raw_4way.pkl")
    bundle = read_bundle(
        "gcnet", [tmp_path], {"task": "iemocap4", "audio": "a", "text": "t", "vision": "v"}
    )
    assert row(bundle, "Ses03F_impro01_0")["vision"].tolist() == [2, 2]
    assert row(bundle, "Ses03F_impro01_1")["vision"].tolist() == [10, 10]
    assert bundle.speakers == 2
    assert bundle.fold is not None
    assert [int(bundle.fold[bundle.ids.index(f"{v}_0")]) for v in videos] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]
    assert len(bundle.dialogues("valid")) == 1 and len(bundle.dialogues("test")) == 2
    assert bundle.labels[bundle.ids.index("Ses01F_impro02_1")] == 3


def dialogues(texts: int) -> list[Any]:
    """A pickle's parts: 20 train and 4 test dialogues of 3 utterances; features name their row."""
    names = [f"Ses01_{d:02d}" for d in range(24)]

    def feature(width: int, add: float) -> dict[str, Any]:
        return {
            n: [np.full(width, 10 * d + i + add) for i in range(3)] for d, n in enumerate(names)
        }

    labels = {n: [(d + i) % 6 for i in range(3)] for d, n in enumerate(names)}
    return [
        {n: [f"{n}_{i}" for i in range(3)] for n in names},
        {n: ["M", "F", "M"] for n in names},
        labels,
        *[feature(5, 0.25 * t) for t in range(texts)],
        feature(4, 0),
        feature(2, 0),
        {n: ["a"] * 3 for n in names},
        set(names[:20]),
        set(names[20:]),
    ]


@pytest.mark.parametrize(
    ("texts", "option", "add"), [(1, {}, 0), (4, {}, 0.375), (4, {"text": "2"}, 0.25)]
)
def test_erc_pickle_reads_one_text_or_four(
    texts: int, option: dict[str, str], add: float, tmp_path: Path
) -> None:
    path = tmp_path / "IEMOCAP_features.pkl"
    path.write_bytes(pickle.dumps(tuple(dialogues(texts)), protocol=2))
    bundle = read_bundle("erc-pickle", [path], option)
    assert len(bundle) == 72 and bundle.dims == {"audio": 4, "text": 5, "vision": 2}
    assert [len(bundle.dialogues(s)) for s in ("train", "valid", "test")] == [18, 2, 4]
    found = row(bundle, "Ses01_07_2")
    np.testing.assert_allclose(found["text"], np.full(5, 72 + add))
    np.testing.assert_allclose(found["audio"], np.full(4, 72))
    assert (found["label"], found["position"], found["speaker"]) == ((7 + 2) % 6, 2, 1)
    assert bundle.task.names == ("hap", "sad", "neu", "ang", "exc", "fru")


def test_erc_pickle_takes_named_positions_and_a_second_pickle(tmp_path: Path) -> None:
    parts = dialogues(1)
    moved = tmp_path / "moved.pkl"
    moved.write_bytes(pickle.dumps(["version", *parts[:6], *parts[7:]]))
    fields = "ids:1,speakers:2,labels:3,text:4,audio:5,vision:6,train:7,test:8"
    plain = read_bundle("erc-pickle", [moved], {"fields": fields})
    first, second = tmp_path / "first.pkl", tmp_path / "second.pkl"
    first.write_bytes(pickle.dumps(parts))
    assert read_bundle("erc-pickle", [first]).fingerprint == plain.fingerprint
    four = dialogues(4)
    second.write_bytes(pickle.dumps([four[1], four[2], *four[3:7], four[9], ["x"], ["y"], ["z"]]))
    both = read_bundle("erc-pickle", [first, second])
    np.testing.assert_allclose(both.features["text"], plain.features["text"] + 0.375)


def test_erc_pickle_order_of_sets_plays_no_part(tmp_path: Path) -> None:
    parts, prints = dialogues(1), []
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        path = tmp_path / "one.pkl"
        path.write_bytes(pickle.dumps([*parts[:-2], order(parts[-2]), order(parts[-1])]))
        prints.append(read_bundle("erc-pickle", [path]).fingerprint)
    assert prints[0] == prints[1]


def test_mmmo_maps_scores_and_keeps_row_order(tmp_path: Path) -> None:
    for split, count in {"train": 5, "valid": 2, "test": 3}.items():
        for stem, shape in {
            "y": (count,),
            "audio": (count, 20, 4),
            "video": (count, 20, 3),
        }.items():
            with h5py.File(tmp_path / f"{stem}_{split}.h5", "w") as file:
                file["d1"] = np.arange(1, count + 1).reshape(
                    [count] + [1] * (len(shape) - 1)
                ) * np.ones(shape)
    bundle = read_bundle("mmmo", [tmp_path])
    assert bundle.labels[bundle.rows("train")].tolist() == [-3, -1.5, 0, 1.5, 3]
    assert row(bundle, "test-0002")["vision"].shape == (20, 3)
    assert row(bundle, "test-0002")["audio"][7, 1] == 3


def test_crema_d_votes_are_shares_and_means_and_nobody_is_zero(tmp_path: Path) -> None:
    names = [
        f"10{a:02d}_IEO_{e}_XX"
        for a in range(11)
        for e in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    ]
    table = []
    for number, name in enumerate(names):
        for view, votes in (
            (1, (1, 0, 3, 0, 0, 0)),
            (2, (0, 5, 0, 0, 0, 5)),
            (3, (9, 0, 0, 0, 0, 0)),
        ):
            means = {f"mean{e}RespNorm": -1.0 for e in ("Anger", "Disgust", "Happy", "Neutral")}
            means |= {"meanFearRespNorm": 50.0, "meanSadRespNorm": np.nan}
            counts = dict(zip("ADFHNS", votes, strict=True))
            table.append({"": view * 100000 + number, **counts, "fileName": name, **means})
    pd.DataFrame(table).to_csv(tmp_path / "tabulatedVotes.csv", index=False)
    for split, part in {"train": names[:60], "test": names[60:]}.items():
        with (tmp_path / f"split_{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([n, n.split("_")[2]] for n in part)
    bundle = read_bundle("crema-d-votes", [tmp_path])
    found = row(bundle, "1003_IEO_HAP_XX")
    np.testing.assert_allclose(found["audio"], [0.25, 0, 0.75, 0, 0, 0, 0, 0, 0.5, 0, 0, 0])
    np.testing.assert_allclose(found["vision"][:6], [0, 0.5, 0, 0, 0, 0.5])
    assert (found["label"], found["speaker"]) == (3, 3)
    assert np.bincount(bundle.labels[bundle.rows("valid")]).tolist() == [1] * 6
    assert len(bundle.dialogues("test")) == 6


def mosi(split: str) -> Bundle:
    index = real("gcnet-layout", "CMUMOSI", "CMUMOSI_features_raw_2way.pkl")
    return read_bundle("bclstm-mosi", [real("mosi-bclstm"), index], {"split": split})


def test_real_mosi_leaky_validates_and_tests_on_unseen_videos() -> None:
    bundle = mosi("leaky")
    text = pd.read_csv(real("mosi-bclstm", "text_test0.csv"), header=None)
    numbers = pd.read_csv(real("mosi-bclstm", "rows_test.csv"))["transcript_row"]
    ids = pd.read_csv(real("mosi-bclstm", "transcripts.csv"), header=None)[0]
    unseen = sorted({ids[n].rsplit("_", 1)[0] for n in numbers})
    assert [len(bundle.dialogues(s)) for s in ("train", "valid", "test")] == [62, 8, 23]
    for at in (0, 300, 751):
        name = ids[numbers[at]]
        found = row(bundle, name)
        np.testing.assert_allclose(found["text"], text.iloc[at, :100], rtol=1e-6)
        assert (found["label"] >= 0) == text.iloc[at, 100]
        assert found["split"] == (1 if name.rsplit("_", 1)[0] in unseen[:8] else 2)
        assert found["position"] == int(name.rsplit("_", 1)[1])


def test_real_mosi_unseen_has_five_folds_of_whole_videos() -> None:
    bundle = mosi("unseen")
    assert len(bundle) == 752 and bundle.fold is not None
    for number in range(5):
        folded = bundle.with_fold(number)
        assert sum(len(folded.dialogues(s)) for s in ("train", "valid", "test")) == 31
    np.testing.assert_array_equal(bundle.split, bundle.with_fold(0).split)


@pytest.mark.parametrize(
    "name", ["mosi-bclstm", "mosi-unseen", "crema-d-votes", "mmmo", "mmmo-standardised"]
)
def test_real_bundle_has_the_fingerprint_of_the_manifest(name: str) -> None:
    entry = tomllib.loads((paths.root() / "data" / "manifest.toml").read_text())["bundle"][name]
    if entry["reader"] == "bclstm-mosi":
        bundle = mosi(entry["options"]["split"])
    else:
        folder = "mmmo-frames" if entry["reader"] == "mmmo" else name
        bundle = read_bundle(entry["reader"], [real(folder)], entry["options"])
    bundle = standardised(bundle) if entry.get("standardise") else bundle
    assert name.startswith(bundle.name) and bundle.fingerprint == entry["fingerprint"]
    assert (bundle.source, bundle.licence) == (entry["source"], entry["licence"])


def test_import_writes_a_bundle_that_loads_equal(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_folder(tmp_path / "in"), tmp_path / "out"
    given = ["data", "import", "folder", str(folder), "--raw", "--out", str(out), "--name", "mine"]
    assert cli(given) == 0
    loaded = load_bundle(out)
    assert (
        loaded.name == "mine" and loaded.fingerprint == read_bundle("folder", [folder]).fingerprint
    )
    assert loaded.fingerprint in capsys.readouterr().out


def test_import_writes_under_the_bundles_folder_by_default(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "in")
    assert cli(["data", "import", "folder", str(folder), "--name", "mine"]) == 0
    assert cli(["data", "twin", "mosi", "--size", "tiny"]) == 0
    assert cli(["data", "twin", "crema-d", "--size", "tiny"]) == 0
    written = load_bundle(paths.bundles() / "twin-crema-d-tiny")
    assert written.fingerprint == open_bundle("twin:crema-d@tiny").fingerprint
    capsys.readouterr()
    assert cli(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("  mine", "  twin-mosi-tiny", *READERS))
    assert [
        line.partition("@")[0] for line in listed.splitlines() if line.startswith("  twin:")
    ] == [f"  twin:{role}" for role in (*ROLES, *FRAME_ROLES, *AV_ROLES)]
    assert cli(["data", "check", "mine"]) in (0, 1)


def test_every_option_of_a_reader_is_a_parameter_of_it() -> None:
    import inspect

    for reader in READERS.values():
        parameters = list(inspect.signature(reader.read).parameters)[1:]
        assert (
            parameters
            and sorted(parameters) == sorted(reader.options)
            or not parameters
            and not reader.options
        )
