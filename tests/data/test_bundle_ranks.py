"""Bundles of images, spectrograms and clips: ranks 4 and 5, pixels beside floats, and nothing else changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmlib.data.bundle import Bundle, Task, load_bundle, make_bundle, save_bundle
from mmlib.errors import InputError

N = 12
SPECTROGRAMS = np.random.default_rng(0).normal(size=(N, 1, 5, 7)).astype(np.float32)
CLIPS = np.random.default_rng(1).integers(0, 256, (N, 2, 3, 6, 4)).astype(np.uint8)
FRAMES = np.random.default_rng(2).normal(size=(N, 4, 8)).astype(np.float32)


def bundle(features: dict[str, np.ndarray] | None = None, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "b",
        "task": Task("classes", ("no", "yes")),
        "labels": np.arange(N) % 2,
        "split": ["train"] * 6 + ["valid"] * 3 + ["test"] * 3,
        "ids": [f"u{i:02d}" for i in range(N)],
        "features": features or {"audio": SPECTROGRAMS, "vision": CLIPS},
    }
    return make_bundle(**(fields | changes))


def test_pixels_and_spectrograms_are_kept_as_they_are_and_load_equal(tmp_path: Path) -> None:
    made = bundle()
    save_bundle(made, tmp_path / "b")
    loaded = load_bundle(tmp_path / "b")
    assert loaded.fingerprint == made.fingerprint
    for modality, array in (("audio", SPECTROGRAMS), ("vision", CLIPS)):
        assert loaded.features[modality].dtype == array.dtype
        assert (loaded.features[modality] == array).all()
        assert not loaded.features[modality].flags.owndata, "a memory map"


def test_shapes_are_of_one_sample_and_dims_are_channels_from_rank_four_on() -> None:
    images = CLIPS[:, 0]
    found = bundle({"a": FRAMES[:, 0], "b": FRAMES, "c": images, "d": CLIPS, "e": SPECTROGRAMS})
    assert found.shapes == {
        "a": (8,),
        "b": (4, 8),
        "c": (3, 6, 4),
        "d": (2, 3, 6, 4),
        "e": (1, 5, 7),
    }
    assert found.dims == {"a": 8, "b": 8, "c": 3, "d": 3, "e": 1}


def test_rows_follow_the_sorted_ids_and_sorted_rows_are_not_copied() -> None:
    order = np.random.default_rng(3).permutation(N)
    shuffled = bundle(
        {"audio": SPECTROGRAMS[order], "vision": CLIPS[order]},
        labels=(np.arange(N) % 2)[order],
        split=np.repeat([0, 1, 2], [6, 3, 3])[order],
        ids=[f"u{i:02d}" for i in order],
    )
    assert (
        shuffled.features["vision"] == CLIPS
    ).all() and shuffled.fingerprint == bundle().fingerprint
    assert np.shares_memory(bundle().features["audio"], SPECTROGRAMS)
    assert np.shares_memory(bundle().features["vision"], CLIPS)
    assert (
        bundle({"audio": SPECTROGRAMS.astype(np.float64), "vision": CLIPS}).features["audio"].dtype
        == np.float32
    )


def test_one_pixel_changes_the_fingerprint_and_the_layout_in_memory_does_not() -> None:
    other = CLIPS.copy()
    other[3, 1, 2, 5, 3] ^= 1
    assert bundle({"audio": SPECTROGRAMS, "vision": other}).fingerprint != bundle().fingerprint
    fortran: dict[str, np.ndarray] = {
        "audio": np.asfortranarray(SPECTROGRAMS),
        "vision": np.asfortranarray(CLIPS),
    }
    assert bundle(fortran).fingerprint == bundle().fingerprint


def test_the_fingerprint_is_the_hash_of_task_ids_and_bytes() -> None:
    made = bundle({"audio": FRAMES, "vision": CLIPS}, lengths={"audio": np.full(N, 3)})
    digest = hashlib.sha256(repr((made.task, made.ids)).encode())
    arrays: dict[str, np.ndarray] = {
        "features.audio": FRAMES,
        "features.vision": CLIPS,
        "lengths.audio": np.full(N, 3),
    }
    arrays |= {
        key: getattr(made, key)
        for key in ("labels", "split", "dialogue", "position", "speaker", "observed")
    }
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].dtype}{arrays[key].shape}".encode())
        digest.update(arrays[key].tobytes())
    assert made.fingerprint == digest.hexdigest()[:16]


HOLE = SPECTROGRAMS.copy()
HOLE[4, 0, 2, 3] = np.nan
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "six axes": (
        {"features": {"audio": SPECTROGRAMS, "vision": CLIPS[:, None]}},
        ("(12, 1, 2, 3, 6, 4)", "(n, k,"),
    ),
    "one axis": (
        {"features": {"audio": SPECTROGRAMS, "vision": CLIPS[:, 0, 0, 0, 0]}},
        ("(12,)", "(n, d)"),
    ),
    "no height": (
        {"features": {"audio": SPECTROGRAMS, "vision": CLIPS[:, :, :, :0]}},
        ("(12, 2, 3, 0, 4)",),
    ),
    "NaN": (
        {"features": {"audio": HOLE, "vision": CLIPS}},
        ("audio", "1 utterances", "'train': 1"),
    ),
    "lengths of images": (
        {"lengths": {"vision": np.full(N, 2)}},
        ("vision", "lengths", "Leave them out"),
    ),
    "lengths of uint8 frames": (
        {
            "features": {"audio": SPECTROGRAMS, "vision": CLIPS[:, 0, 0]},
            "lengths": {"vision": np.full(N, 7)},
        },
        ("7 to 7", "1 to 6"),
    ),
    "rows": ({"features": {"audio": SPECTROGRAMS, "vision": CLIPS[1:]}}, ("vision", "11 rows")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_ranks_are_refused(name: str) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        bundle(**changes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_hole_in_what_is_not_observed_is_allowed() -> None:
    observed = np.ones((N, 2), dtype=bool)
    observed[4, 0] = False
    assert not bundle({"audio": HOLE, "vision": CLIPS}, observed=observed).observed[4, 0]
