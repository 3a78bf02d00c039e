"""The embedded data: synthetic twins of the papers' data sets, whose best possible accuracy is known.

Emotions follow one Markov chain per speaker and dialogue, which moves at each of the speaker's own
utterances (ledger, section 8). Given the emotion, the modalities' latents are jointly Gaussian;
features are an invertible nonlinear lift of a latent, plus nuisance coordinates of their own. So
``Twin.bayes`` is exact for any pattern of missing modalities (design, section 6).

Signal-to-noise ratios are set so that the best possible accuracy per modality subset has the order
and the spacing of BALM Tables 8 (IEMOCAP) and 10 (CMU-MOSEI), and of MCULoRA Table 1 (IEMOCAP's four classes).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mmlib.data import posterior
from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.errors import InputError, unknown_name

MODALITIES = ("audio", "text", "vision")
METRICS = {"classes": ("accuracy", "macro_recall", "weighted_f1"), "score": ("accuracy", "weighted_f1", "acc7", "mae")}
EXACT = ("accuracy", "acc7", "mae")
SIZES = ("tiny", "smoke", "quick", "study", "full")
JITTER = 0.3
SWITCH = 0.6
SHARPNESS = 1.5


@dataclass(frozen=True)
class Shape:
    """How much data: dialogues and utterances per split, feature dims in the order of ``MODALITIES``."""

    dialogues: tuple[int, int, int]
    utterances: tuple[int, int, int]
    dims: tuple[int, int, int]


@dataclass(frozen=True)
class Role:
    """The law that a twin is drawn from.

    prior: probability of each state; a chain's first state and every fresh one are drawn from it.
    stay: probability that an utterance keeps the state of the speaker's previous one for certain.
    axes: each state's place in the latent space, (K, k); a modality's class means are its ``snr`` times that.
    snr, share: per modality in the order of ``MODALITIES``: signal-to-noise ratio, and the part of the
        noise's variance that is common to all modalities (the rest is the modality's own).
    speakers: speakers of a dialogue.
    draw: which draw is given out as seed 0, chosen so that at ``quick`` the best realised accuracies (with
        sessions, their means over the folds) are near the expected ones: 245 test utterances leave 3 points of chance.
    sessions: how many sessions the dialogues are dealt to, each in turn the test of a fold; 0 for no folds.
    """

    task: Task
    prior: tuple[float, ...]
    stay: float
    axes: tuple[tuple[float, ...], ...]
    snr: tuple[float, float, float]
    share: tuple[float, float, float]
    speakers: int
    draw: int
    shapes: Mapping[str, Shape] = field(repr=False)
    sessions: int = 0

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
        axes=((1.0, 0.2, 0.6), (-0.6, -1.2, 0.5), (0.0, -0.3, -0.9),
              (-1.0, 1.0, 0.3), (1.1, 0.9, -0.2), (-0.8, 0.0, -0.2)),
        snr=(0.91, 1.19, 0.43), share=(0.4, 0.4, 0.07), speakers=2, draw=11,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((12, 4, 8), (120, 36, 84), (48, 32, 16)),
            "quick": Shape((30, 9, 21), (350, 105, 245), (48, 32, 16)),
            "study": Shape((250, 50, 430), (3000, 600, 5200), (12, 16, 8)),
            "full": Shape((108, 12, 31), (5229, 581, 1623), (1582, 1024, 342)),
        },
    ),
    "iemocap4": Role(
        task=Task("classes", ("happy", "sad", "neutral", "angry")), prior=(0.296, 0.196, 0.309, 0.199), stay=0.45,
        axes=((1.0, 0.5, 0.3), (-0.6, -1.2, 0.5), (0.0, -0.3, -0.9), (-1.0, 1.0, 0.3)),
        snr=(0.87, 1.06, 0.61), share=(0.2, 0.2, 0.1), speakers=2, draw=49, sessions=5,
        shapes={
            "tiny": Shape((18, 6, 6), (45, 15, 15), (6, 8, 7)),
            "smoke": Shape((12, 4, 4), (144, 48, 48), (24, 32, 32)),
            "quick": Shape((36, 12, 12), (420, 140, 140), (24, 32, 32)),
            "study": Shape((1290, 430, 430), (15600, 5200, 5200), (8, 16, 16)),
            "full": Shape((90, 30, 31), (3218, 1072, 1241), (512, 1024, 1024)),
        },
    ),
    "mosi": Role(
        task=_SCORE, prior=(0.08, 0.15, 0.20, 0.04, 0.20, 0.22, 0.11), stay=0.25, axes=_SCORE_AXES,
        snr=(0.16, 0.54, 0.12), share=(0.6, 0.6, 0.45), speakers=1, draw=38,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((12, 4, 8), (120, 36, 84), (24, 32, 32)),
            "quick": Shape((30, 9, 21), (350, 105, 245), (24, 32, 32)),
            "study": Shape((250, 50, 430), (3000, 600, 5200), (8, 16, 16)),
            "full": Shape((52, 10, 31), (1284, 229, 686), (512, 1024, 1024)),
        },
    ),
    "mosei": Role(
        task=_SCORE, prior=(0.02, 0.08, 0.19, 0.22, 0.33, 0.13, 0.03), stay=0.25, axes=_SCORE_AXES,
        snr=(0.22, 0.82, 0.17), share=(0.55, 0.55, 0.45), speakers=1, draw=8,
        shapes={
            "tiny": _TINY,
            "smoke": Shape((20, 6, 14), (120, 36, 84), (24, 32, 32)),
            "quick": Shape((50, 15, 35), (350, 105, 245), (24, 32, 32)),
            "study": Shape((420, 80, 930), (3000, 600, 6600), (8, 16, 16)),
            "full": Shape((2249, 300, 676), (16326, 1871, 4659), (512, 1024, 1024)),
        },
    ),
}


@dataclass(frozen=True)
class Lift:
    """An invertible map from a latent to the feature coordinates ``columns``; the others are nuisance.

    weight: (s, k) with orthonormal columns, scaled; bias: (s,); columns: (s,), with s >= k.
    """

    weight: np.ndarray
    bias: np.ndarray
    columns: np.ndarray

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        """(n, k) to (n, s): a rotation into s dimensions, then arcsinh of each coordinate."""
        return np.asarray(np.arcsinh(SHARPNESS * (latent @ self.weight.T + self.bias)))

    def inverse(self, lifted: np.ndarray) -> np.ndarray:
        """(n, s) back to (n, k)."""
        flat = np.sinh(np.asarray(lifted, np.float64)) / SHARPNESS - self.bias
        return np.asarray(flat @ self.weight / (self.weight[:, 0] @ self.weight[:, 0]))


@dataclass(frozen=True)
class Twin:
    """A bundle together with what it was drawn from.

    states: (n,) the true state of each row of the bundle.
    latents: modality to (n, k) float64, the true latents.
    lifts: modality to the map that made features of them.
    """

    bundle: Bundle
    role: Role
    states: np.ndarray
    latents: Mapping[str, np.ndarray]
    lifts: Mapping[str, Lift]

    def with_fold(self, number: int) -> Twin:
        """The same twin with session ``number`` as test, as ``Bundle.with_fold``.

        Raises:
            InputError: a role without sessions, or a number out of range.
        """
        return dataclasses.replace(self, bundle=self.bundle.with_fold(number))

    def bayes(self, split: str, observed: np.ndarray, context: bool = True) -> np.ndarray:
        """The exact posterior of each utterance's state, given all that is observed in its dialogue.

        observed: (n_split, M) bool, modalities in the bundle's order, rows as ``bundle.rows(split)``.
        context: use the speaker's other utterances too, by forward-backward; else the utterance alone.
        Returns (n_split, K) float64.

        Raises:
            InputError: unknown split, or a mask of another shape.
        """
        rows, role = self.bundle.rows(split), self.role
        mask = np.asarray(observed, dtype=bool)
        if mask.shape != (len(rows), len(MODALITIES)):
            raise InputError(f"mask for {self.bundle.name}, {split}", f"shape {mask.shape}",
                             f"({len(rows)}, {len(MODALITIES)})", "Draw the mask for this split of this bundle.")
        latents = np.stack([self.latents[m][rows] for m in MODALITIES], axis=1)
        log_like = posterior.log_likelihood(latents, mask, role.means, role.covariance)
        if context:
            chain = self.bundle.dialogue[rows] * role.speakers + self.bundle.speaker[rows]
        else:
            chain = np.arange(len(rows))
        return posterior.smooth(log_like, chain, self.bundle.position[rows], np.asarray(role.prior), role.transition)

    def decisions(self, split: str, observed: np.ndarray, metric: str, context: bool = True) -> np.ndarray:
        """The best prediction of each utterance for a metric of ``mmlib.metrics``, (n_split,).

        Class tasks: a class index. Score tasks: the median for ``mae``, the likeliest level for ``acc7``, and
        -1 or 1 for ``accuracy`` and ``weighted_f1`` (negative or positive; zero labels do not count).
        ``weighted_f1`` is an approximation: see ``posterior.decide``.

        Raises:
            InputError: a metric that the task does not have.
        """
        return self._decide(self.bayes(split, observed, context), metric)

    def best(self, split: str, observed: np.ndarray, metric: str, context: bool = True) -> tuple[float, float]:
        """What the best decisions reach: (expected under the model, realised on this split's labels).

        In percent; the mean absolute error in score units.
        """
        mass, rows = self.bayes(split, observed, context), self.bundle.rows(split)
        decision, levels = self._decide(mass, metric), self.role.levels
        if metric == "mae":
            return (posterior.expected_absolute_error(mass, decision, *self.role.score_bounds),
                    float(np.abs(self.bundle.labels[rows] - decision).mean()))
        truth = np.eye(len(levels))[self.states[rows]]
        if metric == "acc7":
            metric, decision = "accuracy", np.searchsorted(levels, decision)
        elif self.role.task.kind == "score":
            mass, truth = posterior.signs(mass, levels), posterior.signs(truth, levels)
            decision = (decision > 0).astype(int)
        return posterior.class_score(mass, decision, metric), posterior.class_score(truth, decision, metric)

    def _decide(self, mass: np.ndarray, metric: str) -> np.ndarray:
        role, prior = self.role, np.asarray(self.role.prior)
        if metric not in METRICS[role.task.kind]:
            raise unknown_name(f"metric of {self.bundle.name}", metric, METRICS[role.task.kind])
        if metric == "mae":
            return posterior.median_score(mass, *role.score_bounds)
        if metric == "acc7":
            return np.asarray(role.levels[mass.argmax(axis=1)])
        if role.task.kind == "classes":
            return posterior.decide(mass, prior, metric)
        return 2 * posterior.decide(posterior.signs(mass, role.levels), posterior.signs(prior, role.levels), metric) - 1


def best_possible(twin: Twin, split: str = "test", metrics: tuple[str, ...] | None = None) -> pd.DataFrame:
    """The best possible result for every modality subset, observed in all utterances.

    Columns: subset (A, L, V in the papers' letters), metric (all of the task's by default), expected (under
    the model), realised (on the split's labels), exact (False where the decision or the expectation is an
    approximation). In percent; ``mae`` in score units.
    """
    letters = dict(zip(MODALITIES, "ALV", strict=True))
    found = []
    for kept in (k for count in (1, 2, 3) for k in itertools.combinations(MODALITIES, count)):
        observed = np.tile([m in kept for m in MODALITIES], (len(twin.bundle.rows(split)), 1))
        for metric in metrics or METRICS[twin.role.task.kind]:
            expected, realised = twin.best(split, observed, metric)
            found.append({"subset": "".join(letters[m] for m in kept), "metric": metric, "expected": expected,
                          "realised": realised, "exact": metric in EXACT})
    return pd.DataFrame(found)


def make_twin(role: str, size: str = "quick", seed: int = 0) -> Twin:
    """Draw a twin. The same role, size and seed give the same bytes.

    Raises:
        InputError: unknown role or size.
    """
    if role not in ROLES:
        raise unknown_name("twin role", role, ROLES)
    law = ROLES[role]
    if size not in law.shapes:
        raise unknown_name("twin size", size, law.shapes)
    shape = law.shapes[size]
    name = int.from_bytes(hashlib.sha256(f"{role}@{size}#{law.draw}".encode()).digest()[:8], "big")
    generators = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, name]).spawn(4)]
    frame = _conversations(law, shape, generators[0])
    states = _states(law, frame, generators[1])
    latents = _latents(law, states, generators[2])
    lifts, features = {}, {}
    for index, modality in enumerate(MODALITIES):
        lifts[modality], features[modality] = _features(latents[modality], shape.dims[index], generators[2])
    bundle = make_bundle(
        f"twin-{role}-{size}", law.task, features, _labels(law, states, generators[3]), frame["split"].to_numpy(),
        [f"d{d:04d}_u{p:03d}" for d, p in zip(frame["dialogue"], frame["position"], strict=True)],
        dialogue=frame["dialogue"].tolist(), position=frame["position"].tolist(), speaker=frame["speaker"].tolist(),
        fold=frame["session"].tolist() if law.sessions else None,
        source=f"Synthetic: drawn by mmlib from a known law (role {role}, size {size}, seed {seed}). "
               "A twin shaped like the data set, not the data set.",
        licence="as this repository", notes={"twin": role, "size": size, "seed": seed},
    )
    return Twin(bundle, law, states, latents, lifts)


def _conversations(law: Role, shape: Shape, generator: np.random.Generator) -> pd.DataFrame:
    """One row per utterance: split, dialogue, position, speaker, session; in this order, which is that of the ids."""
    lengths: list[int] = []
    for dialogues, utterances in zip(shape.dialogues, shape.utterances, strict=True):
        room = (np.linspace(0.5, 1.75, dialogues) * utterances / dialogues).astype(int)
        lengths += (1 + generator.multivariate_hypergeometric(room, utterances - dialogues)).tolist()
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    split = np.repeat(np.repeat(np.arange(len(SPLITS)), shape.dialogues), lengths)
    changes = (generator.random(len(dialogue)) < SWITCH) & (position > 0)
    speaker = np.zeros(len(dialogue), dtype=int)
    if law.speakers == 2:
        first = generator.integers(2, size=len(lengths))[dialogue]
        total = changes.cumsum()
        speaker = (first + total - total[np.flatnonzero(position == 0)][dialogue]) % 2
    session = _sessions(law, shape)[dialogue]
    return pd.DataFrame({"split": split, "dialogue": dialogue, "position": position, "speaker": speaker,
                         "session": session})


def _sessions(law: Role, shape: Shape) -> np.ndarray:
    """(dialogues,) each dialogue's session: the last one is test, the next (the first) validation; zeros for none.

    Train's dialogues, whose lengths rise, are dealt to the others in turn.
    """
    train, valid, test = shape.dialogues
    if not law.sessions:
        return np.zeros(train + valid + test, dtype=int)
    return np.r_[1 + np.arange(train) % (law.sessions - 2), np.zeros(valid, int), np.full(test, law.sessions - 1)]


def _states(law: Role, frame: pd.DataFrame, generator: np.random.Generator) -> np.ndarray:
    """(n,) states; drawn again until train, or each session, has every class of a class task."""
    chain = frame["dialogue"].to_numpy() * law.speakers + frame["speaker"].to_numpy()
    order = np.argsort(chain, kind="stable")
    starts = np.r_[True, np.diff(chain[order]) != 0]
    session = frame["session"].to_numpy()
    parts = [session == k for k in range(law.sessions)] or [frame["split"].to_numpy() == 0]
    while True:
        draws = generator.choice(len(law.prior), size=len(order), p=law.prior)
        fresh = starts | (generator.random(len(order)) >= law.stay)
        states = np.empty(len(order), dtype=int)
        states[order] = draws[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
        if law.task.kind == "score" or all(len(np.unique(states[part])) == len(law.prior) for part in parts):
            return states


def _latents(law: Role, states: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    means = law.means
    common = generator.standard_normal((len(states), means.shape[2]))
    result = {}
    for index, (modality, share) in enumerate(zip(MODALITIES, law.share, strict=True)):
        own = generator.standard_normal(common.shape)
        result[modality] = means[index, states] + np.sqrt(share) * common + np.sqrt(1 - share) * own
    return result


def _features(latent: np.ndarray, dims: int, generator: np.random.Generator) -> tuple[Lift, np.ndarray]:
    """A lift onto half of the coordinates, at random places, and standard normal noise on the others."""
    n, k = latent.shape
    columns = np.sort(generator.permutation(dims)[: max(k, dims // 2)])
    rotation = np.linalg.qr(generator.standard_normal((len(columns), k)))[0]
    lift = Lift(rotation * np.sqrt(len(columns) / k), generator.standard_normal(len(columns)) / 2, columns)
    features = generator.standard_normal((n, dims), dtype=np.float32)
    features[:, columns] = lift(latent)
    return lift, features


def _labels(law: Role, states: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if law.task.kind == "classes":
        return states
    low, high = law.score_bounds
    return np.asarray(low[states] + generator.random(len(states)) * (high - low)[states])
