"""Raw clips: what is decoded, checked on clips whose sound and pictures are known because they are made here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from scipy.io import wavfile

from mmlib.data import media
from mmlib.data.clips import _shown, decode_all, load_all, whole_option
from mmlib.data.media import Clip, Recipe, Unusable, decode_clip, read_audio, read_frames
from mmlib.errors import InputError

RED, GREEN, BLUE = (250, 10, 10), (10, 200, 10), (10, 10, 250)
CREMA = Recipe(frames=1, seconds=3)
SMALL = Recipe(frames=3, seconds=1, size=16)


def sine(hertz: float, seconds: float, rate: int, height: float = 0.5) -> np.ndarray:
    return height * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wav(path: Path, samples: np.ndarray, rate: int, dtype: str = "int16") -> Path:
    """samples: (n,) or (n, channels), full scale 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = {"int16": 32767, "int32": 2**31 - 1, "float32": 1}[dtype]
    wavfile.write(path, rate, (samples * full).astype(dtype))
    return path


def write_video(
    path: Path,
    pictures: Sequence[Any],
    fps: Fraction | int = 10,
    size: tuple[int, int] = (48, 32),
    samples: np.ndarray | None = None,
    rate: int = 22050,
    codec: str | None = None,
    fast: bool = False,
) -> Path:
    """pictures: a colour, or an (h, w, 3) array, per frame. samples: (n,) or (channels, n) in aac."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = codec or {".mp4": "mpeg4", ".flv": "flv"}[path.suffix]
    with av.open(str(path), "w", options={"movflags": "faststart"} if fast else {}) as container:
        video: Any = container.add_stream(codec, rate=fps) if len(pictures) else None
        audio: Any = container.add_stream("aac", rate=rate) if samples is not None else None
        if audio is not None:
            audio.layout = "stereo" if samples is not None and samples.ndim == 2 else "mono"
        if video is not None:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.bit_rate = 2_000_000
        for picture in pictures:
            pixels = np.broadcast_to(np.asarray(picture, np.uint8), (size[1], size[0], 3))
            container.mux(
                video.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                )
            )
        if video is not None:
            container.mux(video.encode())
        if samples is not None:
            planes = np.ascontiguousarray(np.atleast_2d(samples).astype(np.float32))
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=audio.layout.name)
            frame.sample_rate = rate
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def shorten(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether the mean colour of a (3, H, W) picture, or part of one, is that colour but for compression."""
    return bool(np.abs(picture.reshape(3, -1).mean(axis=1) - colour).max() < 25)


def thirds(count: int) -> list[tuple[int, int, int]]:
    return [RED] * count + [GREEN] * count + [BLUE] * count


def spectrum(
    path: Path, recipe: Recipe = CREMA, span: tuple[float, float] | None = None
) -> np.ndarray:
    return media.spectrogram(*read_audio(path, span), recipe)


# Sound


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 12345])
@pytest.mark.parametrize(("dtype", "channels"), [("int16", 1), ("float32", 2), ("int32", 1)])
def test_a_sine_of_any_rate_and_format_peaks_in_its_bin(
    tmp_path: Path, rate: int, dtype: str, channels: int
) -> None:
    tone = np.repeat(sine(1000, 3.2, rate)[:, None], channels, axis=1)
    found = spectrum(write_wav(tmp_path / "a.wav", tone, rate, dtype))
    assert found.shape == (257, 188) and found.dtype == np.float32
    assert set(found[:, 2:-2].argmax(axis=0)) == {round(1000 * 512 / 22050)}


def test_the_spectrogram_is_the_windowed_fourier_sum_of_the_zero_padded_tiles() -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 30000).astype(np.float32)
    tiled = np.concatenate([samples, samples, samples])[:66150].astype(np.float64)
    padded = np.concatenate([np.zeros(256), tiled, np.zeros(256)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    found = media.spectrogram(samples, 22050, CREMA)
    for column in (0, 1, 84, 85, 186, 187):
        expected = np.log(
            np.abs(basis @ (window * padded[353 * column : 353 * column + 512])) + 1e-7
        )
        np.testing.assert_allclose(found[:, column], expected, atol=2e-4)


def test_short_clips_repeat_and_long_ones_are_cut(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 5 * 22050)
    half, second = noise[:11025], noise[: 22050 * 4]
    repeated = spectrum(write_wav(tmp_path / "half.wav", half, 22050))
    assert (repeated == spectrum(write_wav(tmp_path / "six.wav", np.tile(half, 6), 22050))).all()
    cut = spectrum(write_wav(tmp_path / "four.wav", second, 22050))
    assert (cut == spectrum(write_wav(tmp_path / "three.wav", second[:66150], 22050))).all()
    assert spectrum(write_wav(tmp_path / "one.wav", noise[:1], 22050)).shape == (257, 188)


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    left, right = sine(500, 3, 16000), sine(3000, 3, 16000, 0.3)
    stereo = read_audio(
        write_wav(tmp_path / "s.wav", np.stack([left, right], axis=1), 16000, "float32")
    )
    mono = read_audio(write_wav(tmp_path / "m.wav", (left + right) / 2, 16000, "float32"))
    assert stereo[1] == mono[1] == 16000
    np.testing.assert_allclose(stereo[0], mono[0], atol=1e-7)
    np.testing.assert_allclose(mono[0], (left + right) / 2, atol=1e-7)


def test_full_scale_is_one_and_what_is_louder_is_clipped(tmp_path: Path) -> None:
    samples, _ = read_audio(write_wav(tmp_path / "a.wav", sine(100, 1, 8000, 1.0), 8000))
    assert np.abs(samples).max() == pytest.approx(1, abs=1e-3)
    loud = np.where(sine(100, 3, 22050) > 0, 4.0, -4.0)
    assert (
        spectrum(write_wav(tmp_path / "loud.wav", loud, 22050, "float32"))
        == spectrum(write_wav(tmp_path / "one.wav", loud / 4, 22050, "float32"))
    ).all()


def test_sound_of_an_mp4_is_cut_to_the_span(tmp_path: Path) -> None:
    samples = np.concatenate([sine(1000, 2, 44100), sine(4000, 2, 44100)])
    path = write_video(
        tmp_path / "a.mp4", [RED] * 40, samples=np.stack([samples, samples]), rate=44100
    )
    for span, hertz in (((0, 2), 1000), ((2, 4), 4000), ((2.5, 9), 4000)):
        found = spectrum(path, Recipe(1, 1), span)
        assert set(found[:, 5:-5].argmax(axis=0)) == {round(hertz * 512 / 22050)}, span


def test_a_wav_written_to_a_pipe_is_read_whole(tmp_path: Path) -> None:
    data = bytearray(write_wav(tmp_path / "a.wav", sine(440, 1, 8000), 8000).read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    (tmp_path / "pipe.wav").write_bytes(data)
    assert (read_audio(tmp_path / "pipe.wav")[0] == read_audio(tmp_path / "a.wav")[0]).all()


# Pictures


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("a.mp4", "libx264"), ("a.flv", "flv")]
)
@pytest.mark.parametrize("fps", [7, 10, Fraction(30000, 1001)])
def test_frames_are_evenly_spaced_and_in_order(
    tmp_path: Path, name: str, codec: str, fps: Fraction | int
) -> None:
    path = write_video(tmp_path / name, thirds(9), fps, codec=codec)
    frames = read_frames(path, SMALL)
    assert frames.shape == (3, 3, 16, 16) and frames.dtype == np.uint8
    assert all(
        near(frame, colour) for frame, colour in zip(frames, (RED, GREEN, BLUE), strict=True)
    )
    assert near(read_frames(path, replace(SMALL, frames=1))[0], GREEN)


def test_the_frames_are_those_shown_at_the_middles_of_equal_parts() -> None:
    frames = [SimpleNamespace(pts=pts) for pts in (0, 10, 20, 50, 60)]
    found = [frame.pts for frame in media._shown_at(frames, np.array([5, 10, 49.9, 50, 99]))]
    assert found == [0, 10, 20, 50, 60]
    assert [frame.pts for frame in media._shown_at(frames[:1], np.array([1, 2, 3]))] == [0, 0, 0]
    assert list(media._shown_at([], np.array([1, 2]))) == []


def test_frames_of_a_span_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", thirds(10))
    for span, colours in (
        ((0, 1), (RED,) * 3),
        ((1, 2), (GREEN,) * 3),
        ((1, 9), (GREEN, BLUE, BLUE)),
    ):
        frames = read_frames(path, SMALL, span)
        assert all(near(frame, colour) for frame, colour in zip(frames, colours, strict=True)), span


def test_more_frames_than_the_clip_has_repeat(tmp_path: Path) -> None:
    frames = read_frames(write_video(tmp_path / "a.flv", [RED, BLUE]), replace(SMALL, frames=4))
    assert [near(frame, RED) for frame in frames] == [True, True, False, False]
    assert len(read_frames(write_video(tmp_path / "b.flv", [GREEN]), SMALL)) == 3


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_shorter_side_is_scaled_and_the_centre_cropped(
    tmp_path: Path, upright: bool, scale: int
) -> None:
    stripes = np.repeat(np.repeat(np.array([[RED, GREEN, BLUE]]), 48, axis=0), 32, axis=1)
    picture = stripes.transpose(1, 0, 2) if upright else stripes
    path = write_video(tmp_path / "a.mp4", [picture] * 3, size=(picture.shape[1], picture.shape[0]))
    frame = read_frames(path, Recipe(1, 1, size=24 * scale))[0]
    along = frame.transpose(0, 2, 1) if upright else frame
    assert near(along[:, :, : 2 * scale], RED) and near(along[:, :, -2 * scale :], BLUE)
    assert near(along[:, :, 6 * scale : 18 * scale], GREEN)


def test_odd_sizes_are_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.flv", [GREEN] * 4, size=(65, 49))
    assert near(read_frames(path, replace(SMALL, size=17))[0], GREEN)


# Clips that cannot be used


def damaged(tmp: Path, kind: str) -> Path:
    """A file of a kind that cannot be used."""
    wav, mp4, flv = tmp / "x.wav", tmp / "x.mp4", tmp / "x.flv"
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, 3 * 16000)
    pictures = list(np.random.default_rng(3).integers(0, 255, (30, 32, 48, 3)))
    content = {
        "empty": b"",
        "garbage": b"no media" * 50,
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "playlist": b"#EXTM3U\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
        "script": b"ffconcat version 1.0\n",
    }
    writers: dict[str, Callable[[], Path]] = {
        "header": lambda: write_wav(wav, noise[:0], 16000),
        "silent": lambda: write_wav(wav, 0 * noise, 16000),
        "nan": lambda: write_wav(wav, noise * np.nan, 16000, "float32"),
        "short wav": lambda: shorten(write_wav(wav, noise, 16000), 0.6),
        "no sound": lambda: write_video(mp4, pictures),
        "no pictures": lambda: write_video(mp4, [], samples=noise),
        "short flv": lambda: shorten(write_video(flv, pictures), 0.51),
        "short mp4": lambda: shorten(write_video(mp4, pictures, samples=noise), 0.6),
        "short fast mp4": lambda: shorten(
            write_video(mp4, pictures, samples=noise, fast=True), 0.6
        ),
        "head of mp4": lambda: shorten(write_video(mp4, pictures, samples=noise), 0.005),
    }
    if kind in content:
        mp4.write_bytes(content[kind])
        return mp4
    return writers[kind]() if kind in writers else tmp / "absent.mp4"


BAD_SOUND = {
    "absent": "no file",
    "empty": "is empty",
    "garbage": "cannot be decoded",
    "pointer": "git lfs pull",
    "playlist": "cannot be decoded",
    "script": "cannot be decoded",
    "header": "no samples",
    "silent": "silent",
    "nan": "not finite",
    "short wav": "cut short",
    "no sound": "has no audio",
    "short mp4": "cannot be decoded",
    "short fast mp4": "audio ends after",
    "head of mp4": "cannot be decoded",
}
BAD_PICTURES = {
    "absent": "no file",
    "empty": "is empty",
    "garbage": "cannot be decoded",
    "pointer": "git lfs pull",
    "no pictures": "has no video",
    "short flv": "cut short",
    "short mp4": "cannot be decoded",
    "short fast mp4": "cut short",
    "head of mp4": "cannot be decoded",
    "silent": "has no video",
}


@pytest.mark.parametrize("kind", BAD_SOUND)
def test_sound_that_cannot_be_used_says_why(tmp_path: Path, kind: str) -> None:
    with pytest.raises(Unusable, match=BAD_SOUND[kind]):
        read_audio(damaged(tmp_path, kind))


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_pictures_that_cannot_be_used_say_why(tmp_path: Path, kind: str) -> None:
    with pytest.raises(Unusable, match=BAD_PICTURES[kind]):
        read_frames(damaged(tmp_path, kind), SMALL)


def test_an_event_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [RED] * 20, samples=sine(440, 2, 22050))
    with pytest.raises(Unusable, match="from 5 to 8 s lies beyond"):
        read_audio(path, (5, 8))
    with pytest.raises(Unusable, match="from 5 to 8 s lies beyond"):
        read_frames(path, SMALL, (5, 8))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_and_missing_bytes_never_end_an_import(
    tmp_path: Path, share: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    pictures = list(generator.integers(0, 255, (20, 32, 48, 3)))
    path = write_video(tmp_path / "a.mp4", pictures, samples=sine(440, 2, 22050), fast=bool(seed))
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    at = generator.integers(0, len(data), max(1, int(0.01 * len(data))))
    data[at] = generator.integers(0, 256, len(at))
    for content in (data.tobytes(), path.read_bytes()[: int(share * len(data))]):
        path.write_bytes(content)
        try:
            audio, vision = decode_clip(Clip("a", path, path), SMALL)
        except Unusable as reason:
            assert str(reason)
        else:
            assert audio.shape == SMALL.audio_shape and vision.shape == SMALL.vision_shape


# The cache


class Deadly(type(Path())):  # type: ignore[misc]
    """A path that ends the worker that looks at it."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if "spawn_main" in " ".join(sys.orig_argv):
            os._exit(9)
        return super().stat(follow_symlinks=follow_symlinks)


def clips_in(folder: Path, count: int = 6) -> list[Clip]:
    """Clips of different tones and colours."""
    generator = np.random.default_rng(4)
    return [
        Clip(
            f"c{k}",
            write_wav(folder / f"c{k}.wav", sine(300 + 200 * k, 0.5, 16000), 16000),
            write_video(folder / f"c{k}.flv", [generator.integers(0, 255, 3)] * 5),
        )
        for k in range(count)
    ]


def files(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(cache.iterdir())}


def times(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npz")}


def test_parallel_equals_serial_byte_for_byte(tmp_path: Path) -> None:
    clips = clips_in(tmp_path / "in")
    (tmp_path / "in" / "c2.wav").write_bytes(b"")
    reasons = [
        decode_all(clips, SMALL, tmp_path / name, jobs, "t")
        for name, jobs in (("one", 1), ("two", 2))
    ]
    assert reasons[0] == reasons[1] == {"c2": "c2.wav is empty"}
    assert files(tmp_path / "one") == files(tmp_path / "two") and len(files(tmp_path / "one")) == 5


def test_the_cache_holds_what_is_decoded_in_the_order_that_is_asked(tmp_path: Path) -> None:
    clips = clips_in(tmp_path / "in", 3)
    assert decode_all(clips, SMALL, tmp_path / "cache", 1, "t") == {}
    audio, vision = load_all(clips[::-1], SMALL, tmp_path / "cache")
    for row, clip in enumerate(clips[::-1]):
        expected = decode_clip(clip, SMALL)
        assert (audio[row] == expected[0]).all() and (vision[row] == expected[1]).all()


def test_what_is_in_the_cache_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, cache, calls = clips_in(tmp_path / "in"), tmp_path / "cache", list[str]()

    def counted(clip: Clip, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
        calls.append(clip.id)
        return decode_clip(clip, recipe)

    decode_all(clips[:4], SMALL, cache, 1, "t")
    before = times(cache)
    (cache / "0123.7.partial").write_bytes(b"half a clip of a call that was killed")
    monkeypatch.setattr("mmlib.data.clips.decode_clip", counted)
    decode_all(clips, SMALL, cache, 1, "t")
    assert calls == ["c4", "c5"] and before.items() <= times(cache).items()
    decode_all(clips, SMALL, cache, 1, "t")
    assert len(calls) == 2
    write_wav(clips[0].audio, sine(999, 0.6, 16000), 16000)
    decode_all(clips, SMALL, cache, 1, "t")
    decode_all(clips[:1], replace(SMALL, frames=2), cache, 1, "t")
    decode_all([replace(clips[1], span=(0, 0.2))], SMALL, cache, 1, "t")
    assert calls[2:] == ["c0", "c0", "c1"]


def test_a_clip_that_failed_is_tried_again(tmp_path: Path) -> None:
    clips, cache = clips_in(tmp_path / "in", 2), tmp_path / "cache"
    good = clips[0].video.read_bytes()
    clips[0].video.unlink()
    assert decode_all(clips, SMALL, cache, 1, "t") == {"c0": "no file in/c0.flv"}
    clips[0].video.write_bytes(good)
    assert decode_all(clips, SMALL, cache, 1, "t") == {}


def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    clips, cache = clips_in(tmp_path / "in", 20), tmp_path / "cache"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import time\n"
        "from pathlib import Path; from mmlib.data import clips; from test_media import SMALL, clips_in\n"
        "one = clips.decode_clip\n"
        "clips.decode_clip = lambda *a: (time.sleep(0.1), one(*a))[1]\n"
        f"made = [clips.Clip(f'c{{k}}', Path({str(tmp_path / 'in')!r}) / f'c{{k}}.wav', "
        f"Path({str(tmp_path / 'in')!r}) / f'c{{k}}.flv') for k in range(20)]\n"
        f"clips.decode_all(made, SMALL, Path({str(cache)!r}), 1, 't')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not cache.exists() or len(times(cache)) < 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = times(cache)
    assert 3 <= len(before) < 20
    assert decode_all(clips, SMALL, cache, 1, "t") == {}
    assert before.items() <= times(cache).items() and len(times(cache)) == 20
    assert load_all(clips, SMALL, cache)[0].shape == (20, *SMALL.audio_shape)


def test_a_worker_that_dies_is_told_and_keeps_the_rest(tmp_path: Path) -> None:
    clips, cache = clips_in(tmp_path / "in", 3), tmp_path / "cache"
    deadly = [replace(clips[0], audio=Deadly(clips[0].audio)), *clips[1:]]
    with pytest.raises(InputError, match=r"worker process that died.*jobs=1"):
        decode_all(deadly, SMALL, cache, 2, "t")
    assert decode_all(clips, SMALL, cache, 1, "t") == {}


def test_headless_progress_is_a_line_per_twentieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMLIB_HEADLESS", "1")
    assert list(_shown(((str(k), "") for k in range(100)), 100, "t"))[-1] == ("99", "")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == ["t: 5/100 clips", "t: 10/100 clips"]
    assert len(printed.out.splitlines()) == 20 and not printed.err


def test_a_cache_that_cannot_be_used_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, cache = clips_in(tmp_path / "in", 1), tmp_path / "cache"
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"cannot be written.*--option cache=DIR"):
        decode_all(clips, SMALL, tmp_path / "file", 1, "t")
    decode_all(clips, SMALL, cache, 1, "t")
    shorten(next(cache.iterdir()), 0.5)
    with pytest.raises(InputError, match="damaged file of c0"):
        load_all(clips, SMALL, cache)
    monkeypatch.setattr("mmlib.data.clips.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"no PyAV.*pip install av"):
        decode_all(clips, SMALL, cache, 1, "t")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "٣x"])
def test_options_that_are_no_whole_numbers_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"option frames.*whole number of 1 or more"):
        whole_option("frames", value)
