"""Features of more bits than a bundle keeps: what tells values apart is kept, or the import says what is lost."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from small_folder import write_folder

from mmlib.cli import main
from mmlib.data import scaling
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.readers import read_bundle
from mmlib.data.scaling import Counted, standardise
from mmlib.errors import InputError

SIGNAL = np.random.default_rng(5).normal(size=(24, 4))
TRAIN = np.arange(24) < 16


def imported(source: Path, out: Path, *options: str) -> int:
    return main(["data", "import", "folder", str(source), "--out", str(out), *options])


def opened(source: Path, out: Path) -> Bundle:
    assert imported(source, out) == 0
    return load_bundle(out)


@pytest.mark.parametrize("offset", [0.0, 3e7, 1e8, 1e9, -1e9])
def test_an_offset_takes_nothing_from_features_of_64_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], offset: float
) -> None:
    audio = 2 * SIGNAL + offset
    bundle = opened(write_folder(tmp_path / "in", audio=audio), tmp_path / "out")
    told = capsys.readouterr().out
    centred = 2 * SIGNAL  # before the offset: what it does to the sums plays no part
    wanted = (centred - centred[TRAIN].mean(axis=0)) / centred[TRAIN].std(axis=0)
    np.testing.assert_allclose(bundle.features["audio"], wanted, atol=1e-6)
    assert bundle.features["audio"].dtype == np.float32 and "the same in all" not in told
    np.testing.assert_allclose(
        np.array(bundle.scaling["audio"]["mean"]) - offset, centred[TRAIN].mean(axis=0), atol=1e-6
    )


def test_whole_numbers_of_64_bits_are_standardised_before_they_are_rounded(tmp_path: Path) -> None:
    steps = np.arange(24)[:, None] * np.array([1, 2, 3])
    source = write_folder(tmp_path / "in", text=1_700_000_000_000 + steps)
    found = opened(source, tmp_path / "out").features["text"]
    wanted = (steps - steps[TRAIN].mean(axis=0)) / steps[TRAIN].std(axis=0)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("offset", "dimension"), [(3e7, 2), (1e9, 0)])
def test_raw_features_that_32_bits_cannot_tell_apart_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], offset: float, dimension: int
) -> None:
    audio = 2 * SIGNAL
    audio[:, dimension:] += offset
    source = write_folder(tmp_path / "in", audio=audio)
    with pytest.raises(InputError, match="audio") as refused:
        read_bundle("folder", [source])
    assert f"dimension {dimension} (" in refused.value.found
    assert imported(source, tmp_path / "out", "--raw") == 2 and not (tmp_path / "out").exists()
    assert "without --raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "audio",
    [
        2 * SIGNAL + 100,
        np.where(np.arange(4) == 1, 3e7 + 1 / 3, SIGNAL),  # the same in every row
        1 / 3 + 1e-16 * SIGNAL,  # the same but for rounding
        1e-9 * SIGNAL,
        (3e7 + 2 * SIGNAL).astype(np.float32),  # rounded by whoever made the file
    ],
)
def test_raw_features_that_lose_nothing_are_rounded_as_they_are(
    tmp_path: Path, audio: np.ndarray
) -> None:
    bundle = read_bundle("folder", [write_folder(tmp_path, audio=audio)])
    np.testing.assert_array_equal(bundle.features["audio"], audio.astype(np.float32))


def test_pictures_are_no_exception(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).normal(size=(24, 1, 3, 2))
    source = write_folder(tmp_path / "in", audio=pictures + 1e9)
    assert imported(source, tmp_path / "out") == 2
    source = write_folder(tmp_path / "fine", audio=pictures + 10)
    found = opened(source, tmp_path / "out").features["audio"]
    np.testing.assert_array_equal(found, (pictures + 10).astype(np.float32))


def test_what_is_missing_or_beyond_a_sequences_end_loses_nothing(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(size=(24, 3, 2))
    frames[5], frames[:, 2] = 1e12 + frames[5], 1e12 + frames[:, 2]
    observed, lengths = np.arange(24) != 5, np.full(24, 2)
    more = {"text_observed": observed, "text_lengths": lengths}
    bundle = read_bundle("folder", [write_folder(tmp_path, text=frames, **more)])
    np.testing.assert_array_equal(bundle.features["text"][0], frames[0].astype(np.float32))


@pytest.mark.parametrize("block", [2**21, 50], ids=["one block", "many blocks"])
@pytest.mark.parametrize("shape", [(90, 2), (70, 9), (40, 5, 3)])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_values_are_those_of_scikit_learn_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, block: int, shape: tuple[int, ...], kind: str
) -> None:
    """Blocks of rows change no bit, so bundles that were imported before keep their fingerprints."""
    monkeypatch.setattr(scaling, "BLOCK", block)
    draws = np.random.default_rng(len(shape))
    values = (draws.normal(size=shape) * draws.exponential(size=shape[-1]) + 1e3).astype(kind)
    values[..., 0] = 7
    counts = draws.random(shape[:-1]) < 0.8
    train = counts & (draws.random(shape[:-1]) < 0.6)
    scaler = StandardScaler().fit(values[train].astype(np.float64))
    wanted = np.zeros(shape, dtype=np.float32)
    wanted[counts] = scaler.transform(values[counts].astype(np.float64))
    found, own = standardise(Counted(values, counts, train), None)
    np.testing.assert_array_equal(found, wanted)
    assert own == {"mean": scaler.mean_.tolist(), "sd": scaler.scale_.tolist()}


def test_a_single_dimension_of_many_blocks_differs_by_its_last_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 1)).astype(np.float32)
    everything = Counted(values, np.ones(5000, dtype=bool), np.ones(5000, dtype=bool))
    whole, one = standardise(everything, None)
    monkeypatch.setattr(scaling, "BLOCK", 100)
    found, many = standardise(everything, None)
    np.testing.assert_allclose(found, whole, rtol=1.2e-7)
    np.testing.assert_allclose(many["sd"], one["sd"], rtol=1e-15)


def test_standardising_takes_the_memory_of_its_result_and_a_block() -> None:
    values = np.random.default_rng(0).normal(size=(40_000, 500)).astype(np.float32)  # 80 MB
    there = np.ones(len(values), dtype=bool)
    tracemalloc.start()
    try:
        standardise(Counted(values, there, there), None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * values.nbytes
