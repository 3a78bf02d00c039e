"""A raw clip to arrays, decoded by PyAV (ffmpeg's libraries).

The audio front end is the audio-visual imbalance lineage's (ledger 5.3, ``CramedDataset.py``): mono,
resampled, tiled to a fixed length, clipped to [-1, 1], log(|STFT| + 1e-7) with a periodic Hann window
and centred, zero-padded frames (librosa's default since 0.9). It resamples with SciPy's polyphase filter.

The vision front end departs from the lineage on purpose. Its loaders draw random frame indices, then take
the first files of an unsorted directory listing. Here the K frames are those shown at the middles of K equal
parts of the clip, the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bounded import is_regular

FLOOR = 1e-7
WHOLE = 0.8
LFS = b"version https://git-lfs"


class Unusable(Exception):
    """A clip that is left out; the text is the reason."""


@dataclass(frozen=True)
class Recipe:
    """What a clip becomes: ``audio_shape`` float32 log magnitudes and ``vision_shape`` uint8 RGB."""

    frames: int
    """How many frames of video."""

    seconds: int
    """Seconds of audio."""

    size: int = 224
    """Height and width of a frame in pixels."""

    rate: int = 22050
    """Hz that audio is resampled to."""

    n_fft: int = 512
    """Samples of an STFT frame."""

    hop: int = 353
    """Samples between the beginnings of two STFT frames."""

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(1, F, T): 1 x 257 x 188 for 3 s at the defaults."""
        return 1, self.n_fft // 2 + 1, self.seconds * self.rate // self.hop + 1

    @property
    def vision_shape(self) -> tuple[int, int, int, int]:
        """(K, 3, H, W)."""
        return self.frames, 3, self.size, self.size


@dataclass(frozen=True)
class Clip:
    """One clip."""

    id: str
    """Its name, by which clips are sorted."""

    audio: Path
    """The file that has the sound."""

    video: Path
    """The file that has the pictures; may be the same."""

    span: tuple[float, float] | None = None
    """The seconds to use, from and to; None for all."""


def decode_clip(clip: Clip, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(1, F, T) float32 spectrogram and (K, 3, H, W) uint8 frames.

    Raises:
        Unusable: a file that is missing, empty, cut short or not decodable, or silence.
    """
    samples, rate = read_audio(clip.audio, clip.span)
    return spectrogram(samples, rate, recipe)[None], read_frames(clip.video, recipe, clip.span)


def read_audio(path: Path, span: tuple[float, float] | None = None) -> tuple[np.ndarray, int]:
    """(n,) float32 samples of full scale 1, the mean of the channels, and their rate in Hz.

    Raises:
        Unusable: what ``decode_clip`` says, or an event beyond the end.
    """
    import av

    with _opened(path, "audio") as (container, stream):
        planar = av.AudioResampler(format="fltp")
        decoded = (
            frame for packet in _packets(path, container, stream) for frame in packet.decode()
        )
        parts = [part for frame in decoded for part in planar.resample(frame)]
        if not parts:
            raise Unusable("no samples")
        rate = parts[0].sample_rate
        samples = np.concatenate([part.to_ndarray() for part in parts], axis=1).mean(axis=0)
        _check_length(stream, len(samples) / rate)
    if span is not None:
        _check_span(span, len(samples) / rate)
        samples = samples[round(span[0] * rate) : round(span[1] * rate)]
    if not np.isfinite(samples).all():
        raise Unusable("samples that are not finite")
    if not samples.any():
        raise Unusable("silent: every sample is zero")
    return samples, rate


def spectrogram(samples: np.ndarray, rate: int, recipe: Recipe) -> np.ndarray:
    """(F, T) float32 of (n,) samples at a rate in Hz: resampled, tiled and cut to ``recipe.seconds``."""
    from scipy.signal import ShortTimeFFT, get_window, resample_poly

    common = math.gcd(rate, recipe.rate)
    even = np.clip(
        resample_poly(samples.astype(np.float64), recipe.rate // common, rate // common), -1, 1
    )
    tiled = np.resize(even, recipe.seconds * recipe.rate)
    transform = ShortTimeFFT(
        get_window("hann", recipe.n_fft), recipe.hop, recipe.rate, phase_shift=None
    )
    magnitude = np.abs(transform.stft(tiled, p0=0, p1=recipe.audio_shape[2]))
    result: np.ndarray = np.log(magnitude + FLOOR).astype(np.float32)
    return result


def read_frames(path: Path, recipe: Recipe, span: tuple[float, float] | None = None) -> np.ndarray:
    """(K, 3, H, W) uint8: the frames shown at the middles of K equal parts of the clip, or of its span.

    Shorter side scaled to ``recipe.size``, then centre crop. Where the clip has fewer frames, they repeat.

    Raises:
        Unusable: what ``decode_clip`` says, or an event beyond the end.
    """
    with _opened(path, "video") as (container, stream):
        shown = sorted(
            packet.pts
            for packet in _packets(path, container, stream)
            if packet.size and packet.pts is not None and not packet.is_discard
        )
        if not shown:
            raise Unusable("no frames")
        step = (shown[-1] - shown[0]) / (len(shown) - 1) if len(shown) > 1 else 1
        unit = float(stream.time_base)
        seconds = (shown[-1] + step - shown[0]) * unit
        _check_length(stream, seconds)
        if span is not None:
            _check_span(span, seconds)
        begin, end = (span[0], min(span[1], seconds)) if span else (0.0, seconds)
    middles = begin + (end - begin) * (np.arange(recipe.frames) + 0.5) / recipe.frames
    with _opened(path, "video") as (container, stream):
        chosen = list(_shown_at(container.decode(stream), shown[0] + middles / unit))
        if not chosen:
            raise Unusable("no frames")
        return np.stack([_picture(frame, recipe.size) for frame in chosen])


def _shown_at(frames: Iterable[Any], times: np.ndarray) -> Iterator[Any]:
    """For each of the rising times (in the stream's unit) the last frame that begins by then."""
    last, at = None, 0
    for frame in frames:
        while last is not None and frame.pts > times[at]:
            yield last
            at += 1
            if at == len(times):
                return
        last = frame
    if last is not None:
        yield from [last] * (len(times) - at)


def _picture(frame: Any, size: int) -> np.ndarray:
    from av.video.reformatter import Interpolation as Flag

    scale = size / min(frame.width, frame.height)
    width, height = max(size, round(frame.width * scale)), max(size, round(frame.height * scale))
    exact = (
        Flag.BICUBIC | Flag.ACCURATE_RND | Flag.BITEXACT | Flag.FULL_CHR_H_INT
    )  # the same on every processor
    array = frame.reformat(width, height, "rgb24", interpolation=exact, threads=1).to_ndarray()
    top, left = (height - size) // 2, (width - size) // 2
    result: np.ndarray = array[top : top + size, left : left + size].transpose(2, 0, 1)
    return result


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[tuple[Any, Any]]:
    """A container and its first stream of a kind; whatever fails inside becomes ``Unusable``."""
    import av

    try:
        if path.exists() and not is_regular(path):
            raise Unusable(f"{path.name} is no regular file")
        if path.stat().st_size == 0:
            raise Unusable(f"{path.name} is empty")
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                raise Unusable(f"{path.name} is a git-lfs pointer: run `git lfs pull`")
        # Plain media files only: a playlist could name other files.
        with av.open(str(path), options={"format_whitelist": "wav,flv,mov,matroska"}) as container:
            stream = next((s for s in container.streams if s.type == kind), None)
            if stream is None or stream.codec_context is None:
                raise Unusable(f"{path.name} has no {kind} that can be decoded")
            stream.codec_context.thread_count = 1
            yield container, stream
    except FileNotFoundError as error:
        raise Unusable(f"no file {path.parent.name}/{path.name}") from error
    except (av.FFmpegError, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        raise Unusable(
            f"{path.name} cannot be decoded ({getattr(error, 'strerror', None) or error!r})"
        ) from error


def _packets(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, none of them cut short by the end of the file."""
    with path.open("rb") as file:
        head = file.read(8)
    # A wav written to a pipe does not know its size, so that its last packet looks cut.
    open_ended = head[:4] == b"RIFF" and head[4:] in (b"\xff" * 4, b"\0" * 4)
    for packet in container.demux(stream):
        if packet.is_corrupt and not open_ended:
            raise Unusable(f"{path.name} is cut short, or damaged")
        yield packet


def _check_length(stream: Any, seconds: float) -> None:
    """Hold a stream to the length of its own table; a container's tag, as flv's, may say anything."""
    stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if seconds < WHOLE * stated:
        raise Unusable(f"{stream.type} ends after {seconds:.1f} of {stated:.1f} s")


def _check_span(span: tuple[float, float], seconds: float) -> None:
    if span[0] >= seconds:
        raise Unusable(
            f"the event from {span[0]:g} to {span[1]:g} s lies beyond the end at {seconds:.1f} s"
        )
