"""The audio-visual twins: spectrograms and frames whose quality is planted, clip by clip.

Each class has a pattern per modality: in audio four ridges of energy that rise or fall, in vision a smooth
coloured texture with a disc. A modality's patterns are orthogonal, with mean square 1. A clip is

    gain * (z_1 * pattern_1 + ... + z_C * pattern_C, moved; + background + noise),
    z_k = quality * [k is the label] + trace * (standard normal),

with its own z and gain per modality. So the traces of other classes, not the noise of single pixels, set how well
a clip can be classified. Quality follows Fig. 2 of the GMM-guided loss (ledger, section 5): *balanced* where both
modalities are about equally strong, *imbalanced* where one is almost absent. No exact posterior: ``AVTwin.oracle``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.readers.crema_d_votes import CLASSES as CREMA_D
from mmlib.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

MODALITIES = ("audio", "vision")
AVE = (
    "Accordion",
    "Acoustic guitar",
    "Baby cry, infant cry",
    "Banjo",
    "Bark",
    "Bus",
    "Cat",
    "Chainsaw",
    "Church bell",
    "Clock",
    "Female speech, woman speaking",
    "Fixed-wing aircraft, airplane",
    "Flute",
    "Frying (food)",
    "Goat",
    "Helicopter",
    "Horse",
    "Male speech, man speaking",
    "Mandolin",
    "Motorcycle",
    "Race car, auto racing",
    "Rodents, rats, mice",
    "Shofar",
    "Toilet flush",
    "Train horn",
    "Truck",
    "Ukulele",
    "Violin, fiddle",
)
RIDGES, WAVES, REACH, BLOCK = 4, 2, (1 / 4, 1 / 5), 32
NOISE, BACKGROUND, GAIN, MIDDLE, CONTRAST = 0.5, 0.5, 0.1, 128, 20
GRAIN = 4096  # spectrograms are rounded to parts of it, so that machines which add in another order give the same bytes


@dataclass(frozen=True)
class AVShape:
    """How much data."""

    clips: tuple[int, int, int]
    """Clips of each split."""

    audio: tuple[int, int]
    """Bins and steps of a spectrogram."""

    frames: int
    """Frames of a clip."""

    side: int
    """Pixels along a side of a frame."""

    classes: int
    """How many classes there are: the first of the role's."""


@dataclass(frozen=True)
class AVRole:
    """The law of an audio-visual twin."""

    names: tuple[str, ...]
    """The names of all classes."""

    imbalanced: float
    """The share of imbalanced clips in each split."""

    audio_dominant: float
    """Among the imbalanced clips, the share of those with strong audio."""

    trace: tuple[float, float]
    """Of audio and of vision, the standard deviation of every pattern's strength."""

    draw: int
    """Which draw is seed 0, chosen so that the oracle's accuracies at ``quick`` are near those on many clips."""

    shapes: Mapping[str, AVShape] = field(repr=False)
    """Size to how much data it has."""

    uneven: tuple[float, float] = (1.4, 0.1)
    """Quality of an imbalanced clip's dominant modality, and the upper end of that of the other."""

    spread: tuple[float, float] = (0.15, 0.1)
    """Standard deviation of a balanced clip's quality around 1, and of the log of each modality's own factor."""


_MIDDLE = {
    "smoke": ((120, 36, 84), (16, 16), 1, 16),
    "quick": ((600, 100, 200), (32, 32), 1, 32),
    "study": ((3000, 600, 3000), (32, 32), 1, 32),
}
AV_ROLES: dict[str, AVRole] = {
    "crema-d": AVRole(
        CREMA_D,
        imbalanced=0.15,
        audio_dominant=0.85,
        trace=(0.40, 0.51),
        draw=10,
        shapes={
            "tiny": AVShape((36, 12, 12), (8, 8), 1, 8, 6),
            **{size: AVShape(*shape, 6) for size, shape in _MIDDLE.items()},
            "full": AVShape((5954, 744, 744), (257, 188), 1, 224, 6),
        },
    ),
    "ave": AVRole(
        AVE,
        imbalanced=0.25,
        audio_dominant=0.5,
        trace=(0.375, 0.455),
        draw=5,
        shapes={
            "tiny": AVShape((40, 8, 16), (8, 8), 2, 8, 8),
            **{size: AVShape(*shape, 8) for size, shape in _MIDDLE.items()},
            "full": AVShape((3339, 402, 402), (257, 625), 3, 224, 28),
        },
    ),
}


@dataclass(frozen=True)
class AVTwin:
    """A bundle of n clips together with what was planted in them; rows as the bundle's."""

    bundle: Bundle
    """The data themselves."""

    role: AVRole
    """The law that they were drawn from."""

    quality: np.ndarray
    """(n, 2) float32, of the label's pattern in audio and in vision; 1 is usual, 0 is absent."""

    imbalanced: np.ndarray
    """(n,) bool."""

    dominant: np.ndarray
    """(n,) int8, -1 where balanced, else 0 for audio or 1 for vision."""

    patterns: Mapping[str, np.ndarray]
    """Modality to (C, 1, bins, steps) or (C, 3, side, side) float64."""

    def scores(self, split: str) -> dict[str, np.ndarray]:
        """Scores of the classes, (n_split, C) for audio, vision and both, rows as ``bundle.rows(split)``.

        Of a classifier that knows the templates, their reach and the traces, and takes quality and gain to be 1. It
        moves each picture back to where the patterns explain most of it, and then gives log likelihoods, up to a
        constant per clip; ``both`` is the sum.
        """
        rows, scores = self.bundle.rows(split), {}
        for (modality, pattern), trace in zip(self.patterns.items(), self.role.trace, strict=True):
            pictures = self.bundle.features[modality]
            blocks = [
                _strengths(pictures[rows[i : i + BLOCK]], pattern)
                for i in range(0, len(rows), BLOCK)
            ]
            scores[modality] = np.concatenate(blocks) / trace**2
        return {**scores, "both": scores["audio"] + scores["vision"]}

    def oracle(self, split: str) -> pd.DataFrame:
        """Accuracy in percent of the classifier of ``scores``, which knows the templates: not the best possible.

        Columns audio, vision, both; rows all, balanced, audio dominant, vision dominant (NaN where there are none).
        """
        import pandas as pd

        truth, dominant = (
            array[self.bundle.rows(split)] for array in (self.bundle.labels, self.dominant)
        )
        right = pd.DataFrame(
            {name: scores.argmax(axis=1) == truth for name, scores in self.scores(split).items()}
        )
        among = {
            "all": dominant >= -1,
            "balanced": dominant < 0,
            "audio dominant": dominant == 0,
            "vision dominant": dominant == 1,
        }
        return pd.DataFrame({name: 100 * right[kept].mean() for name, kept in among.items()}).T


def make_av_twin(role: str, size: str = "quick", seed: int = 0) -> AVTwin:
    """Draw an audio-visual twin. The same role, size and seed give the same bytes.

    Features: ``audio`` (n, 1, bins, steps) float32, ``vision`` (n, frames, 3, side, side) uint8.

    Raises:
        InputError: unknown role or size.
    """
    if role not in AV_ROLES:
        raise unknown_name("twin role", role, AV_ROLES)
    law = AV_ROLES[role]
    if size not in law.shapes:
        raise unknown_name("twin size", size, law.shapes)
    shape, key = law.shapes[size], f"{role}#{law.draw}"
    patterns = _patterns(law, shape, seed, key)
    with threadpool_limits(1):  # thousands of small products, over which threads only wait
        clips = _draw_clips(law, shape, patterns, seed, f"{key}@{size}")
    bundle = make_bundle(
        f"twin-{role}-{size}",
        Task("classes", law.names[: shape.classes]),
        {"audio": clips.audio[:, 0], "vision": clips.vision},
        clips.labels,
        [name.partition("_")[0] for name in clips.ids],
        clips.ids,
        position=[0] * len(clips.ids),
        licence="as this repository",
        notes={
            "twin": role,
            "size": size,
            "seed": seed,
            "classes": f"{shape.classes} of {len(law.names)}",
        },
        source=f"Synthetic: drawn by mmlib from a known law ({role}, {size}, seed {seed}). A twin, not the data set.",
    )
    return AVTwin(bundle, law, clips.quality, clips.dominant >= 0, clips.dominant, patterns)


@dataclass(frozen=True)
class _Clips:
    """The n clips of all splits, rows by id; a draw fills the arrays part by part."""

    ids: tuple[str, ...]
    """The clips' names, which begin with their split."""

    audio: np.ndarray
    """(n, 1, 1, bins, steps) float32."""

    vision: np.ndarray
    """(n, frames, 3, side, side) uint8."""

    labels: np.ndarray
    """(n,) int64."""

    quality: np.ndarray
    """(n, 2) float32, as ``AVTwin.quality``."""

    dominant: np.ndarray
    """(n,) int8, as ``AVTwin.dominant``."""


def _empty_clips(shape: AVShape, ids: Sequence[str]) -> _Clips:
    n = len(ids)
    return _Clips(
        tuple(ids),
        np.empty((n, 1, 1, *shape.audio), np.float32),
        np.empty((n, shape.frames, 3, shape.side, shape.side), np.uint8),
        np.empty(n, np.int64),
        np.empty((n, 2), np.float32),
        np.empty(n, np.int8),
    )


def _draw_clips(
    law: AVRole, shape: AVShape, patterns: Mapping[str, np.ndarray], seed: int, key: str
) -> _Clips:
    """Draw the clips of all splits, each from generators of its own: one for the facts, one for each modality."""
    # Splits in the order of the ids, so that rows keep their places.
    counts = dict(sorted(zip(SPLITS, shape.clips, strict=True)))
    ids = [f"{split}_{i:05d}" for split, count in counts.items() for i in range(count)]
    clips = _empty_clips(shape, ids)
    start = 0
    for split, count in counts.items():
        part = slice(start, start + count)
        start += count
        for_facts, *for_pictures = _generator(seed, f"{key}/{split}").spawn(3)
        labels, quality, dominant = _facts(law, shape.classes, count, for_facts)
        clips.labels[part], clips.quality[part], clips.dominant[part] = labels, quality, dominant
        for index, pictures in enumerate((clips.audio, clips.vision)):
            _fill(
                pictures[part],
                patterns[MODALITIES[index]],
                labels,
                quality[:, index],
                law.trace[index],
                for_pictures[index],
            )
    return clips


def _generator(seed: int, key: str) -> np.random.Generator:
    return np.random.default_rng(
        [seed, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")]
    )


def _facts(
    law: AVRole, classes: int, n: int, generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Labels (n,), as many of each class; quality (n, 2); dominant (n,)."""
    labels = generator.permutation(np.arange(n) % classes)
    # Below 1 in as many clips as the shares say.
    place = generator.permutation(_grid(n)) / law.imbalanced
    dominant = np.where(place < 1, np.where(place < law.audio_dominant, 0, 1), -1).astype(np.int8)
    (strong, weak), (common, own) = law.uneven, law.spread
    alike = np.clip(generator.normal(1, common, (n, 1)), 1 - 3 * common, 1 + 3 * common)
    uneven = np.where(dominant[:, None] == [0, 1], strong, weak * generator.random((n, 1)))
    quality = np.where(dominant[:, None] < 0, alike, uneven) * np.exp(
        generator.normal(0, own, (n, 2))
    )
    return labels, quality.astype(np.float32), dominant


def _patterns(law: AVRole, shape: AVShape, seed: int, key: str) -> dict[str, np.ndarray]:
    """The classes' patterns, modality to array; on one thread, since the number of threads decides the last digits."""
    with threadpool_limits(1):
        return {
            "audio": _ridges(_generator(seed, f"{key}/audio"), shape, len(law.names)),
            "vision": _textures(_generator(seed, f"{key}/vision"), shape, len(law.names)),
        }


def _ridges(generator: np.random.Generator, shape: AVShape, names: int) -> np.ndarray:
    """(C, 1, bins, steps). Time is circular, and each bin's mean is 0, so that a steady hum hides nothing."""
    height, when, width, length, slope, weight = generator.random((6, names, RIDGES, 1, 1))
    bins, steps = (_grid(size) for size in shape.audio)
    away = (steps - when + 0.5) % 1 - 0.5
    up = (bins[:, None] - 0.1 - 0.8 * height - (slope - 0.5) * away) / (0.04 + 0.06 * width)
    ridges = (0.5 + weight) * np.exp(-(up**2) / 2 - (away / (0.08 + 0.1 * length)) ** 2 / 2)
    return _orthogonal(ridges.sum(axis=1, keepdims=True)[: shape.classes], (3,))


def _textures(generator: np.random.Generator, shape: AVShape, names: int) -> np.ndarray:
    """(C, 3, side, side). Space is circular, and each colour's mean is 0, so that a tint hides nothing."""
    across, down = (
        axis.reshape(-1, 1, 1) for axis in np.meshgrid(*[np.arange(-WAVES, WAVES + 1)] * 2)
    )
    y, x = _grid(shape.side)[:, None], _grid(shape.side)
    weight = generator.standard_normal((2, names, 3, down.size)) / (
        1 + np.hypot(across, down).ravel()
    )
    angle = 2 * np.pi * (down * y + across * x)
    texture = np.tensordot(weight[0], np.cos(angle), 1) + np.tensordot(weight[1], np.sin(angle), 1)
    top, left, size = generator.random((3, names, 1, 1, 1))
    away = np.hypot((y - top + 0.5) % 1 - 0.5, (x - left + 0.5) % 1 - 0.5)
    disc = (
        2
        / (1 + np.exp((away - 0.1 - 0.1 * size) / 0.02))
        * generator.standard_normal((names, 3, 1, 1))
    )
    return _orthogonal((texture + disc)[: shape.classes], (2, 3))


def _orthogonal(pattern: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The orthogonal patterns of mean square 1 that are nearest to these less their mean over ``axes``."""
    pattern = pattern - pattern.mean(axis=axes, keepdims=True)
    left, _, right = np.linalg.svd(pattern.reshape(len(pattern), -1), full_matrices=False)
    return np.asarray((left @ right).reshape(pattern.shape) * np.sqrt(pattern[0].size))


def _grid(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def _reach(pattern: np.ndarray) -> tuple[int, int]:
    """How far pictures are moved along their last two axes; a spectrogram in time alone."""
    vision = pattern.shape[1] > 1
    far = max(1, int(REACH[vision] * pattern.shape[3]))
    return vision * far, far


def _fill(
    target: np.ndarray,
    pattern: np.ndarray,
    labels: np.ndarray,
    quality: np.ndarray,
    trace: float,
    generator: np.random.Generator,
) -> None:
    """Draw a split's clips into ``target`` (n, frames, channels, height, width), block by block to bound the memory."""
    for start in range(0, len(target), BLOCK):
        part = slice(start, start + BLOCK)
        strength = trace * generator.standard_normal((len(labels[part]), len(pattern)))
        strength[np.arange(len(strength)), labels[part]] += quality[part]
        clips = _moved(
            np.tensordot(strength, pattern, 1), target.shape[1], _reach(pattern), generator
        )
        clips += BACKGROUND * _background(pattern, len(clips), generator)
        clips += NOISE * generator.standard_normal(clips.shape, dtype=np.float32)
        clips *= np.exp(GAIN * generator.standard_normal((len(clips), 1, 1, 1, 1)))
        bright = np.clip(MIDDLE + CONTRAST * clips, 0, 255)
        target[part] = (
            np.rint(bright) if target.dtype == np.uint8 else np.rint(clips * GRAIN) / GRAIN
        )


def _moved(
    pictures: np.ndarray, frames: int, reach: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """(n, channels, height, width) to (n, frames, channels, height, width), each frame moved by steps of its own."""
    rows, columns = (
        (np.arange(size) - generator.integers(-far, far + 1, (len(pictures), frames, 1))) % size
        for size, far in zip(pictures.shape[2:], reach, strict=True)
    )
    clip, channel = (
        np.arange(len(pictures)).reshape(-1, 1, 1, 1, 1),
        np.arange(pictures.shape[1])[:, None, None],
    )
    return np.asarray(
        pictures[clip, channel, rows[:, :, None, :, None], columns[:, :, None, None, :]]
    )


def _background(pattern: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """A tint, (n, 1, 3, 1, 1), or a steady hum that is smooth over the bins, (n, 1, 1, bins, 1)."""
    if pattern.shape[1] > 1:
        return generator.standard_normal((n, 1, 3, 1, 1))
    waves = np.sqrt(2 / 3) * np.cos(np.pi * np.arange(1, 4)[:, None] * _grid(pattern.shape[2]))
    return np.asarray((generator.standard_normal((n, 3)) @ waves)[:, None, None, :, None])


def _strengths(features: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Each pattern's strength in each clip, (n, C); frames are moved back to where most is explained."""
    pictures = (
        (features.astype(np.float32) - MIDDLE) / CONTRAST
        if features.dtype == np.uint8
        else features[:, None]
    )
    spectrum, templates = np.fft.rfft2(pictures), np.fft.rfft2(pattern.astype(np.float32)).conj()
    crossed = (
        np.fft.irfft2(np.einsum("nkhij,chij->nkcij", spectrum, templates), s=pattern.shape[2:])
        / pattern[0].size
    )
    near = np.ix_(*(np.arange(-far, far + 1) for far in _reach(pattern)))
    moved_back = crossed[(..., *near)].reshape(*crossed.shape[:3], -1)
    best = (moved_back**2).sum(axis=2, keepdims=True).argmax(axis=3)[..., None]
    return np.asarray(np.take_along_axis(moved_back, best, axis=3)[..., 0].mean(axis=1))
