"""The laws that twins are drawn from, role by role.

Signal-to-noise ratios are set so that the best possible accuracy per modality subset has the order
and the spacing of BALM Tables 8 (IEMOCAP) and 10 (CMU-MOSEI), and of MCULoRA Table 1 (IEMOCAP's four classes).
The frame-level roles follow the same laws, an utterance's evidence spread over its frames; IEMOCAP's has utterances
that are each their own dialogue, and its four emotions as binary labels, as that release has them (ledger, 2.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmlib.data.bundle import Task

MODALITIES = ("audio", "text", "vision")
SIZES = ("tiny", "smoke", "quick", "study", "full")
JITTER = 0.3


@dataclass(frozen=True)
class Shape:
    """How much data."""

    dialogues: tuple[int, int, int]
    """Dialogues of each split."""

    utterances: tuple[int, int, int]
    """Utterances of each split."""

    dims: tuple[int, int, int]
    """Feature dims in the order of ``MODALITIES``."""

    frames: int = 0
    """Frames of the longest utterances, the same in all modalities; the shortest have half. 0 for one vector."""

    clarity: float = 1.0
    """What every signal-to-noise ratio is multiplied with, so that few steps suffice to learn the law."""

    @property
    def shortest(self) -> int:
        """Frames of the shortest utterances."""
        return (self.frames + 1) // 2


@dataclass(frozen=True)
class Role:
    """The law that a twin is drawn from."""

    task: Task
    """What is predicted."""

    prior: tuple[float, ...]
    """Probability of each state; a chain's first state and every fresh one are drawn from it."""

    stay: float
    """Probability that an utterance keeps the state of the speaker's previous one for certain."""

    axes: tuple[tuple[float, ...], ...]
    """Each state's place in the latent space, (K, k); a modality's class means are its ``snr`` times that."""

    snr: tuple[float, float, float]
    """Signal-to-noise ratio of each modality in the order of ``MODALITIES``. In ``FRAME_ROLES`` it is that of an
    utterance of average length; ``at`` gives that of a frame."""

    share: tuple[float, float, float]
    """Of each modality, the part of the noise's variance that is common to all modalities; the rest is its own."""

    speakers: int
    """Speakers of a dialogue."""

    draw: int
    """Which draw is given out as seed 0, chosen so that at ``quick`` the best realised accuracies (with sessions,
    their means over the folds) are near the expected ones: 600 test utterances leave 2 points of chance."""

    shapes: Mapping[str, Shape] = field(repr=False)
    """Size to how much data it has."""

    sessions: int = 0
    """How many sessions the dialogues are dealt to, each in turn the test of a fold; 0 for no folds."""

    @property
    def transition(self) -> np.ndarray:
        """(K, K): the probability of the next state, given this one."""
        return self.stay * np.eye(len(self.prior)) + (1 - self.stay) * np.asarray(self.prior)

    @property
    def means(self) -> np.ndarray:
        """(M, K, k): the latents' means per modality and state."""
        return np.asarray(np.multiply.outer(self.snr, self.axes))

    @property
    def covariance(self) -> np.ndarray:
        """(M, M): the covariance of the modalities' latents on each axis, given the state."""
        common = np.sqrt(self.share)
        return np.asarray(np.outer(common, common) + np.diag(1 - np.asarray(self.share)))

    def at(self, shape: Shape) -> Role:
        """The law of one vector, or of one frame, of data of a shape.

        As many frames as an utterance has on average make up the law's ratio.
        """
        frames = (shape.shortest + shape.frames) / 2 or 1.0
        factor = shape.clarity / frames**0.5
        return dataclasses.replace(self, snr=tuple(factor * ratio for ratio in self.snr))

    @property
    def levels(self) -> np.ndarray:
        """(K,): the states as scores, for score tasks."""
        return np.arange(len(self.prior)) - (len(self.prior) - 1) / 2

    @property
    def score_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) and (K,): a level's labels are uniform between these. Level 0 is exactly 0."""
        width = np.where(self.levels == 0, 0.0, JITTER)
        top = self.levels[-1]
        return np.maximum(self.levels - width, -top), np.minimum(self.levels + width, top)


_SCORE = Task("score", range=(-3.0, 3.0))
_SCORE_AXES = tuple((level, abs(level) / 2 - 0.5) for level in (-3, -2, -1, 0, 1, 2, 3))
_TINY = Shape((30, 4, 6), (72, 10, 15), (6, 8, 7))

ROLES: dict[str, Role] = {
    "iemocap6": Role(
        task=Task("classes", ("happy", "sad", "neutral", "angry", "excited", "frustrated")),
        prior=(0.09, 0.14, 0.23, 0.15, 0.14, 0.25),
        stay=0.45,
        axes=(
            (1.0, 0.2, 0.6),
            (-0.6, -1.2, 0.5),
            (0.0, -0.3, -0.9),
            (-1.0, 1.0, 0.3),
            (1.1, 0.9, -0.2),
            (-0.8, 0.0, -0.2),
        ),
        snr=(0.91, 1.19, 0.43),
        share=(0.4, 0.4, 0.07),
        speakers=2,
        draw=28,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((12, 4, 8), (120, 36, 84), (48, 32, 16)),
            "quick": Shape((125, 12, 50), (1500, 150, 600), (6, 8, 6), clarity=1.3),
            "study": Shape((250, 50, 430), (3000, 600, 5200), (12, 16, 8)),
            "full": Shape((108, 12, 31), (5229, 581, 1623), (1582, 1024, 342)),
        },
    ),
    "iemocap4": Role(
        task=Task("classes", ("happy", "sad", "neutral", "angry")),
        prior=(0.296, 0.196, 0.309, 0.199),
        stay=0.45,
        axes=((1.0, 0.5, 0.3), (-0.6, -1.2, 0.5), (0.0, -0.3, -0.9), (-1.0, 1.0, 0.3)),
        snr=(0.87, 1.06, 0.61),
        share=(0.2, 0.2, 0.1),
        speakers=2,
        draw=2,
        sessions=5,
        shapes={
            "tiny": Shape((18, 6, 6), (45, 15, 15), (6, 8, 7)),
            "smoke": Shape((12, 4, 4), (144, 48, 48), (24, 32, 32)),
            "quick": Shape((60, 20, 20), (720, 240, 240), (6, 8, 8)),
            "study": Shape((258, 86, 86), (3120, 1040, 1040), (8, 16, 16)),
            "full": Shape((90, 30, 31), (3218, 1072, 1241), (512, 1024, 1024)),
        },
    ),
    "mosi": Role(
        task=_SCORE,
        prior=(0.08, 0.15, 0.20, 0.04, 0.20, 0.22, 0.11),
        stay=0.25,
        axes=_SCORE_AXES,
        snr=(0.16, 0.54, 0.12),
        share=(0.6, 0.6, 0.45),
        speakers=1,
        draw=21,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((12, 4, 8), (120, 36, 84), (24, 32, 32)),
            "quick": Shape((85, 12, 50), (1000, 150, 600), (6, 8, 6)),
            "study": Shape((250, 50, 430), (3000, 600, 5200), (8, 16, 16)),
            "full": Shape((52, 10, 31), (1284, 229, 686), (512, 1024, 1024)),
        },
    ),
    "mosei": Role(
        task=_SCORE,
        prior=(0.02, 0.08, 0.19, 0.22, 0.33, 0.13, 0.03),
        stay=0.25,
        axes=_SCORE_AXES,
        snr=(0.22, 0.82, 0.17),
        share=(0.55, 0.55, 0.45),
        speakers=1,
        draw=25,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((20, 6, 14), (120, 36, 84), (24, 32, 32)),
            "quick": Shape((140, 20, 85), (1000, 150, 600), (6, 8, 6)),
            "study": Shape((420, 80, 930), (3000, 600, 6600), (8, 16, 16)),
            "full": Shape((2249, 300, 676), (16326, 1871, 4659), (512, 1024, 1024)),
        },
    ),
}

_FRAMES = {"tiny": Shape((30, 4, 6), (72, 10, 15), (6, 8, 7), 4)}

FRAME_ROLES: dict[str, Role] = {
    "iemocap4-frames": Role(
        task=Task("binaries", ("neutral", "happy", "sad", "angry")),
        prior=(0.41, 0.14, 0.21, 0.24),
        stay=0.0,
        axes=((0.0, -0.3, -0.9), (1.0, 0.5, 0.3), (-0.6, -1.2, 0.5), (-1.0, 1.0, 0.3)),
        snr=(0.87, 1.06, 0.61),
        share=(0.2, 0.2, 0.1),
        speakers=1,
        draw=23,
        shapes={
            "tiny": Shape((72, 10, 15), (72, 10, 15), (6, 8, 7), 4),
            "smoke": Shape((120, 36, 84), (120, 36, 84), (16, 24, 16), 6),
            "quick": Shape((1000, 150, 600), (1000, 150, 600), (6, 8, 6), 8),
            "study": Shape((3000, 600, 5200), (3000, 600, 5200), (8, 16, 8), 10),
            "full": Shape((2717, 798, 938), (2717, 798, 938), (74, 300, 35), 20),
        },
    ),
    "mosi-frames": dataclasses.replace(
        ROLES["mosi"],
        draw=35,
        shapes={
            **_FRAMES,
            "smoke": Shape((12, 4, 8), (120, 36, 84), (8, 24, 12), 6),
            "quick": Shape((85, 12, 50), (1000, 150, 600), (6, 8, 6), 8),
            "study": Shape((250, 50, 430), (3000, 600, 5200), (5, 16, 8), 12),
            "full": Shape((52, 10, 31), (1284, 229, 686), (5, 300, 20), 50),
        },
    ),
    "mosei-frames": dataclasses.replace(
        ROLES["mosei"],
        draw=26,
        shapes={
            **_FRAMES,
            "smoke": Shape((20, 6, 14), (120, 36, 84), (16, 24, 16), 6),
            "quick": Shape((140, 20, 85), (1000, 150, 600), (6, 8, 6), 8),
            "study": Shape((420, 80, 930), (3000, 600, 6600), (8, 16, 8), 12),
            "full": Shape((2249, 300, 676), (16326, 1871, 4659), (74, 300, 35), 50),
        },
    ),
}
