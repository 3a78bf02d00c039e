"""The scale of features is that of what is there in training; rows of zeros can be told to be missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from small_folder import write_folder

from mmlib.data import scales
from mmlib.data.check import check, false_findings, findings
from mmlib.data.readers import read_bundle
from mmlib.data.standardise import standardised

Cli = Callable[[Sequence[str]], int]
ROWS = np.random.default_rng(5).normal(3, 2, size=(24, 5, 2))


@pytest.mark.parametrize("block", [1, 2**22])
def test_the_scale_is_that_of_observed_training_frames(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scales, "BLOCK", block)
    lengths, observed = 1 + np.arange(24) % 5, np.arange(24) % 3 > 0
    frames = ROWS.copy()
    frames[16:] = 1e6  # valid and test
    frames[~observed] = 1e6
    for row, length in enumerate(lengths):
        frames[row, length:] = 1e6
    folder = write_folder(tmp_path, audio=frames, audio_lengths=lengths, audio_observed=observed)
    there = np.concatenate(
        [ROWS[row, : lengths[row]].ravel() for row in range(16) if observed[row]]
    )
    found = scales.scale(read_bundle("folder", [folder]), "audio")
    assert [found.mean, found.sd, found.largest] == pytest.approx(
        [there.mean(), there.std(), np.abs(there).max()], rel=1e-5
    )


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (lambda x: x, False),
        (lambda x: 1e-3 * x, True),
        (lambda x: 1e3 * x, True),
        (lambda x: x + 300, True),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, 2e4, 0.1 * x), True),
        (lambda x: 20 * x, False),
    ],
)
def test_raw_scales_are_warned_of_at_import_and_check(
    change: Callable[[np.ndarray], np.ndarray],
    warned: bool,
    tmp_path: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_folder(
        tmp_path / "in", audio=change(np.random.default_rng(6).normal(size=(24, 4)))
    )
    given = ["data", "import", "folder", str(folder), "--raw", "--out", str(tmp_path / "out")]
    assert cli(given) == 0
    said = capsys.readouterr().out
    assert (
        ("--standardise" in said) is warned
        and "audio: scale: mean " in said
        and "text: scale: mean " in said
    )
    bundle = read_bundle("folder", [folder])
    assert check(bundle).ok is not warned and ("--standardise" in str(check(bundle))) is warned


@pytest.mark.parametrize(("count", "warned"), [(1, False), (2, True), (6, True)])
def test_many_rows_of_zeros_are_warned_of_and_can_be_told_to_be_missing(
    count: int, warned: bool, tmp_path: Path
) -> None:
    audio = np.random.default_rng(7).normal(size=(24, 4))
    audio[3 : 3 + count] = 0
    folder = write_folder(tmp_path, audio=audio)
    kept = read_bundle("folder", [folder])
    assert kept.observed.all() and any("zeros=missing" in text for text in findings(kept)) is warned
    told = read_bundle("folder", [folder], {"zeros": "missing"})
    assert (
        np.flatnonzero(~told.observed[:, 0]).tolist() == list(range(3, 3 + count))
        and told.observed[:, 1].all()
    )
    assert not findings(told)
    assert findings(standardised(kept)) == findings(kept), "standardised zeros are still found"


def test_a_standardised_modality_that_does_not_vary_is_named(tmp_path: Path) -> None:
    kept = read_bundle("folder", [write_folder(tmp_path, audio=np.full((24, 4), 3.0))])
    (line,) = scales.scale_warnings(standardised(kept))
    assert "audio" in line and "the same in all of train" in line


@pytest.mark.parametrize(
    ("value", "rest", "warned"),
    [
        (1e30, 1.0, True),
        (1e6, 1.0, True),
        (1e6, 1e5, False),
        (300.0, 1.0, False),
        (1.0, 0.0, False),
    ],
)
def test_a_wild_value_of_train_that_leaves_nothing_of_its_dimension_is_named(
    value: float, rest: float, warned: bool, tmp_path: Path
) -> None:
    text = np.random.default_rng(8).normal(size=(24, 3))
    text[:, 1] *= rest
    text[3, 1] = value
    bundle = standardised(read_bundle("folder", [write_folder(tmp_path, text=text)]))
    told = scales.swamped_warnings(bundle)
    assert len(told) == warned
    assert not told or f"up to {value:.3g} before" in told[0] and "in dimension 1 (" in told[0]
    assert set(told) <= set(findings(bundle))


def test_vectors_of_bytes_are_numbers_and_pictures_of_bytes_are_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(9).integers(0, 255, size=(24, 3, 8, 8)).astype(np.uint8)
    folder = write_folder(tmp_path, audio=pixels[:, 0, 0], text=None, faces=pixels)
    bundle = read_bundle("folder", [folder])
    assert bundle.features["audio"].dtype == np.float32
    assert bundle.features["faces"].dtype == np.uint8


@pytest.mark.parametrize(
    ("row", "factor", "split"),
    [(20, 1e9, "test"), (16, 1e9, "valid"), (20, 20.0, ""), (3, 1e9, "")],
)
def test_held_out_values_far_outside_those_of_train_are_named_by_split_and_modality(
    row: int, factor: float, split: str, tmp_path: Path
) -> None:
    text = np.random.default_rng(8).normal(size=(24, 3))
    text[row, 1] = factor * np.abs(text[:16]).max()
    bundle = standardised(read_bundle("folder", [write_folder(tmp_path, text=text)]))
    told = scales.outside_warnings(bundle)
    assert len(told) == bool(split)
    assert not told or "text of " in told[0] and f" in {split}, but " in told[0]
    assert set(told) <= set(findings(bundle)) and not false_findings(bundle)
