"""Standardised features: by NumPy over what is there in training, and nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmlib import cli
from mmlib.data.bundle import SPLITS, Bundle, load_bundle, save_bundle
from mmlib.data.scaling import scaled
from mmlib.data.standardise import standardised, standardised_where_possible
from mmlib.data.twins import make_twin
from mmlib.errors import InputError
from mmlib.masks import complete
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training


def loud(role: str) -> Bundle:
    """A twin whose features are far from standard, some modalities missing, one dimension constant."""
    bundle = make_twin(role, "tiny").bundle
    draws = np.random.default_rng(0)
    features = {
        m: (7 + x * np.exp(draws.normal(size=x.shape[-1]))).astype(np.float32)
        for m, x in bundle.features.items()
    }
    features["audio"][..., 0] = 3.0
    observed = bundle.observed.copy()
    observed[::3, 1] = False
    return dataclasses.replace(bundle, features=features, observed=observed)


@pytest.mark.parametrize("role", ["mosi", "mosi-frames"])
def test_each_dimension_has_mean_0_and_deviation_1_over_what_training_has(role: str) -> None:
    bundle = loud(role)
    found = standardised(bundle)
    for index, m in enumerate(bundle.modalities):
        values, steps = bundle.features[m], bundle.lengths.get(m)
        rows = [i for i in range(len(bundle)) if bundle.split[i] == 0 and bundle.observed[i, index]]
        there = np.concatenate(
            [values[i : i + 1] if steps is None else values[i, : steps[i]] for i in rows]
        )
        mean, spread = there.astype(float).mean(axis=0), there.astype(float).std(axis=0)
        for i in range(len(bundle)):
            count = 1 if steps is None else steps[i]
            mine = np.atleast_2d(found.features[m][i])
            expected = (np.atleast_2d(values[i])[:count] - mean) / np.where(
                spread < 1e-6, 1, spread
            )
            if bundle.observed[i, index]:
                np.testing.assert_allclose(mine[:count], expected, atol=1e-4)
            assert not mine[count if bundle.observed[i, index] else 0 :].any()
    assert not found.features["audio"][..., 0].any()


def test_test_data_move_no_other_value_and_all_else_stays() -> None:
    bundle = loud("mosi")
    features = {
        m: np.where((bundle.split == 2)[:, None], 1e3 * x, x) for m, x in bundle.features.items()
    }
    found, other = (
        standardised(bundle),
        standardised(dataclasses.replace(bundle, features=features)),
    )
    for m in bundle.modalities:
        assert np.array_equal(
            found.features[m][bundle.split < 2], other.features[m][bundle.split < 2]
        )
    assert found.ids == bundle.ids and np.array_equal(found.labels, bundle.labels)
    assert (
        found.notes["scale"] == "standardised over train"
        and found.fingerprint != bundle.fingerprint
    )


def test_pictures_and_absent_modalities_are_errors_where_all_are_to_be_scaled() -> None:
    bundle = loud("mosi")
    with pytest.raises(InputError, match="vectors or frames"):
        standardised(
            dataclasses.replace(
                bundle, features={m: x[:, None, None] for m, x in bundle.features.items()}
            )
        )
    none = bundle.observed & (bundle.split != 0)[:, None]
    with pytest.raises(InputError, match="nothing in the training split"):
        standardised(dataclasses.replace(bundle, observed=none))
    left = standardised_where_possible(dataclasses.replace(bundle, observed=none))
    assert left.features["audio"] is bundle.features["audio"] and not left.scaling


def test_pictures_stay_and_vectors_beside_them_are_scaled() -> None:
    bundle = loud("mosi")
    pixels = (bundle.features["vision"][:, :1, None, None] > 0).astype(np.uint8)
    mixed = dataclasses.replace(bundle, features={**bundle.features, "vision": pixels})
    found = standardised_where_possible(mixed)
    assert found.features["vision"] is pixels and set(found.scaling) == {"audio", "text"}


@pytest.mark.parametrize("role", ["mosi", "mosi-frames"])
def test_the_mean_and_sd_that_are_kept_bring_raw_rows_to_the_bundles(
    role: str, tmp_path: Path
) -> None:
    bundle = loud(role)
    save_bundle(standardised(bundle), tmp_path / "b")
    kept = load_bundle(tmp_path / "b")
    rows = np.flatnonzero(bundle.observed.all(axis=1) & (bundle.split == 2))
    for m, raw in bundle.features.items():
        count = bundle.lengths[m][rows].min() if m in bundle.lengths else None
        mine = raw[rows] if count is None else raw[rows, :count]
        stored = kept.features[m][rows] if count is None else kept.features[m][rows, :count]
        np.testing.assert_array_equal(scaled(mine, kept.scaling[m]), stored)
    assert set(kept.only(("audio", "text")).scaling) == {"audio", "text"}


def sessions() -> Bundle:
    """Five folds, whose features differ in place and scale from fold to fold."""
    bundle = make_twin("iemocap4", "tiny").bundle
    assert bundle.fold is not None
    place = (1 + bundle.fold[:, None]).astype(np.float32)
    features = {m: 50 * place + place * x for m, x in bundle.features.items()}
    return dataclasses.replace(bundle, features=features)


def test_a_fold_is_scaled_by_its_own_training_rows_and_no_other_row_moves_a_value() -> None:
    raw = sessions()
    bundle = standardised(raw)
    assert bundle.notes["scale"].startswith("standardised over train; with folds")
    for number in range(5):
        folded = bundle.with_fold(number)
        train = raw.with_fold(number).split == 0
        for m, x in raw.features.items():
            mean, sd = x[train].astype(float).mean(axis=0), x[train].astype(float).std(axis=0)
            np.testing.assert_allclose(folded.features[m], (x - mean) / sd, atol=2e-4)
            np.testing.assert_allclose(scaled(x, folded.scaling[m]), folded.features[m], atol=2e-4)
    other = {m: np.where(train[:, None], x, 1e3 + 9 * x) for m, x in raw.features.items()}
    again = standardised(dataclasses.replace(raw, features=other)).with_fold(number)
    for m in raw.modalities:
        np.testing.assert_allclose(again.features[m][train], folded.features[m][train], atol=1e-3)


def test_raw_folds_stay_raw_and_have_a_fingerprint_of_their_own() -> None:
    raw = sessions()
    assert raw.with_fold(1).features["audio"] is raw.features["audio"]
    bundle = standardised(raw)
    as_they_are = dataclasses.replace(bundle, scaling={})
    assert as_they_are.fingerprint != bundle.fingerprint
    without = dataclasses.replace(bundle, fold=None)
    assert dataclasses.replace(without, scaling={}).fingerprint == without.fingerprint


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.update(smell=s["audio"]),
        lambda s: s["audio"]["mean"].pop(),
        lambda s: s["audio"]["sd"].__setitem__(0, 0.0),
        lambda s: s["audio"].pop("sd"),
        lambda s: s["audio"]["mean"].__setitem__(0, "0"),
        lambda s: s.update(audio=3),
    ],
)
def test_a_damaged_scaling_is_refused(
    damage: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    save_bundle(standardised(loud("mosi")), tmp_path / "b")
    path = tmp_path / "b" / "bundle.json"
    head = json.loads(path.read_text())
    damage(head["scaling"])
    path.write_text(json.dumps(head))
    with pytest.raises(InputError, match="damaged bundle"):
        load_bundle(tmp_path / "b")


def own_folder(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    """A folder of one's own with the vectors of a twin, changed."""
    bundle = make_twin("iemocap4", "smoke").bundle
    folder.mkdir()
    lines = ["id,split,label,dialogue,position"] + [
        f"{name},{SPLITS[bundle.split[i]]},{bundle.task.names[bundle.labels[i]]},"
        f"{bundle.dialogue[i]},{bundle.position[i]}"
        for i, name in enumerate(bundle.ids)
    ]
    (folder / "utterances.csv").write_text("\n".join(lines), encoding="utf-8")
    for m, x in bundle.features.items():
        np.save(folder / f"{m}.npy", change(m, x.astype(np.float64)))
    return folder


def loudly(modality: str, x: np.ndarray) -> np.ndarray:
    return {"audio": 1e5 * x, "text": x + 1e4}.get(modality, x)


def test_unscaled_features_of_ones_own_train_as_well_as_scaled_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One modality times 1e5, one plus 1e4."""
    bundles = {}
    for name, change in (("plain", lambda _, x: x), ("loud", loudly)):
        source = own_folder(tmp_path / f"{name}-in", change)
        given = ["data", "import", "folder", str(source), "--out", str(tmp_path / name)]
        assert cli.main(given) == 0
        said = capsys.readouterr().out
        assert "standardised: audio, text, vision" in said and "--raw keeps" in said
        assert "WARNING" not in said
        bundles[name] = load_bundle(tmp_path / name)
    for m in bundles["plain"].modalities:
        plain, other = (bundles[name].features[m] for name in ("plain", "loud"))
        np.testing.assert_allclose(other, plain, atol=3e-3 if m == "text" else 1e-5)
    accuracies = {}
    for name in bundles:
        specs = [
            RunSpec(
                str(tmp_path / name),
                seed,
                "plain",
                backbone="mmgcn",
                backbone_options=(("graph", 8), ("hidden", 16)),
                train_mask=complete(),
                eval_masks=(("all", complete()),),
                training=Training(epochs=8, batch=4, lr=1e-2),
            )
            for seed in range(3)
        ]
        metrics = [execute(spec).record["selected"]["last"]["metrics"]["all"] for spec in specs]
        accuracies[name] = np.array([of["accuracy"] for of in metrics])
    spread = accuracies["plain"].std(ddof=1) / np.sqrt(3)
    assert abs(accuracies["loud"].mean() - accuracies["plain"].mean()) <= max(2 * spread, 1.0)
    assert accuracies["plain"].mean() > 40, "it has learnt, so that there is something to lose"


def test_a_folder_is_standardised_unless_its_raw_values_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "made"
    source.mkdir()
    lines = ["id,split,label"] + [
        f"u{i},{('train', 'valid', 'test')[i % 3]},{i % 5 - 2}" for i in range(12)
    ]
    (source / "utterances.csv").write_text("\n".join(lines), encoding="utf-8")
    for m in ("audio", "text"):
        np.save(
            source / f"{m}.npy",
            np.arange(36, dtype=np.float32).reshape(12, 3) ** (1 + (m == "text")),
        )
    for flag in (["--raw"], []):
        assert (
            cli.main(
                [
                    "data",
                    "import",
                    "folder",
                    str(source),
                    "--out",
                    str(tmp_path / f"b{1 - len(flag)}"),
                    *flag,
                ]
            )
            == 0
        )
    plain, mended = (load_bundle(tmp_path / f"b{i}") for i in range(2))
    assert np.array_equal(standardised(plain).features["text"], mended.features["text"])
    assert (
        not plain.scaling
        and "scale" not in plain.notes
        and set(mended.scaling)
        == {
            "audio",
            "text",
        }
    )
    both = ["data", "import", "folder", str(source), "--raw", "--standardise"]
    assert cli.main([*both, "--out", str(tmp_path / "b2")]) == 2 and not (tmp_path / "b2").exists()
