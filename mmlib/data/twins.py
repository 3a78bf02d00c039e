"""The embedded data: synthetic twins of the papers' data sets, whose best possible accuracy is known.

Emotions follow one Markov chain per speaker and dialogue, which moves at each of the speaker's own
utterances (ledger, section 8). Given the emotion, the modalities' latents are jointly Gaussian;
features are an invertible nonlinear lift of a latent, plus nuisance coordinates of their own. So
``Twin.bayes`` is exact for any pattern of missing modalities (design, section 6).

The laws, role by role, are in ``twin_laws.py``. Where a law has frames, an utterance is a sequence of latents that
are independent given the emotion, and modalities share noise within a frame alone: exact for any frames dropped, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data import evidence, posterior
from mmlib.data.bundle import SPLITS, Bundle, make_bundle
from mmlib.data.evidence import Missingness
from mmlib.data.twin_laws import FRAME_ROLES, MODALITIES, ROLES, Role, Shape
from mmlib.errors import InputError, unknown_name

METRICS = {
    "classes": ("accuracy", "macro_recall", "weighted_f1"),
    "score": ("accuracy", "weighted_f1", "acc7", "mae"),
    "binaries": ("accuracy", "macro_recall", "weighted_f1"),
}
EXACT = ("accuracy", "acc7", "mae")
SWITCH = 0.6
SHARPNESS = 1.5


@dataclass(frozen=True)
class Lift:
    """An invertible map from a latent to the feature coordinates ``columns``; the others are nuisance."""

    weight: np.ndarray
    """(s, k) with orthonormal columns, scaled; s >= k."""

    bias: np.ndarray
    """(s,) what is added before the arcsinh."""

    columns: np.ndarray
    """(s,) the feature coordinates that hold the lifted latent."""

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        """(..., k) to (..., s): a rotation into s dimensions, then arcsinh of each coordinate."""
        return np.asarray(np.arcsinh(SHARPNESS * (latent @ self.weight.T + self.bias)))

    def inverse(self, lifted: np.ndarray) -> np.ndarray:
        """(..., s) back to (..., k)."""
        flat = np.sinh(np.asarray(lifted, np.float64)) / SHARPNESS - self.bias
        return np.asarray(flat @ self.weight / (self.weight[:, 0] @ self.weight[:, 0]))


@dataclass(frozen=True)
class Twin:
    """A bundle together with what it was drawn from."""

    bundle: Bundle
    """The data themselves."""

    role: Role
    """The law; of one frame, where utterances have frames."""

    states: np.ndarray
    """(n,) the true state of each row of the bundle."""

    latents: Mapping[str, np.ndarray]
    """Modality to (n, k) float64, the true latents; (n, t, k) of frames (those beyond the length do not count)."""

    lifts: Mapping[str, Lift]
    """Modality to the map that made features of them."""

    def with_fold(self, number: int) -> Twin:
        """The same twin with session ``number`` as test, as ``Bundle.with_fold``.

        Raises:
            InputError: a role without sessions, or a number out of range.
        """
        return dataclasses.replace(self, bundle=self.bundle.with_fold(number))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose best possible value is known: of the task, and ``f1_NAME`` of each binary label."""
        task = self.role.task
        return METRICS[task.kind] + tuple(
            f"f1_{name}" for name in task.names if task.kind == "binaries"
        )

    def bayes(
        self,
        split: str,
        observed: np.ndarray,
        context: bool = True,
        frames: Mapping[str, np.ndarray] | None = None,
        law: Missingness | None = None,
    ) -> np.ndarray:
        """The exact posterior of each utterance's state, given all that is observed in its dialogue.

        observed: (n_split, M) bool, modalities in the bundle's order, rows as ``bundle.rows(split)``.
        context: use the speaker's other utterances too, by forward-backward; else the utterance alone.
        frames: modality to (n_split, t) bool, True where a frame is observed, as in a mask; all of them if left out.
        law: how modalities go missing, ``masks.fitted(law, bundle).missingness``. The posterior is then the one that
            knows it, for which the pattern of missing modalities is evidence too; else that of the observed content
            alone. The two are the same where modalities are missing at random.
        Returns (n_split, K) float64.

        Raises:
            InputError: unknown split, a mask of another shape or that the law cannot give, frames of a twin that has
                none, or frames together with a law.
        """
        rows, role = self.bundle.rows(split), self.role
        mask = np.asarray(observed, dtype=bool)
        self._check_shape(split, mask, (len(rows), len(MODALITIES)))
        latents = np.stack([self.latents[m][rows] for m in MODALITIES], axis=-2)
        if latents.ndim == 4:
            kept = mask[:, None] & self._frames_kept(split, frames or {})
            log_like = posterior.frame_log_likelihood(latents, kept, role.means, role.covariance)
        elif frames:
            raise InputError(
                f"frames for {self.bundle.name}",
                ", ".join(frames),
                "none: this twin has no frames",
                "Leave them out, or take a twin with frames: " + ", ".join(FRAME_ROLES) + ".",
            )
        else:
            log_like = posterior.log_likelihood(latents, mask, role.means, role.covariance)
        if law is not None:
            log_like = log_like + self._evidence(split, latents, mask, law, frames)
        if context:
            chain = self.bundle.dialogue[rows] * role.speakers + self.bundle.speaker[rows]
        else:
            chain = np.arange(len(rows))
        return posterior.smooth(
            log_like, chain, self.bundle.position[rows], np.asarray(role.prior), role.transition
        )

    def _evidence(
        self,
        split: str,
        latents: np.ndarray,
        mask: np.ndarray,
        law: Missingness,
        frames: Mapping[str, np.ndarray] | None,
    ) -> np.ndarray:
        """(n_split, K) the log likelihood of each utterance's pattern under each state."""
        if frames:
            raise InputError(
                f"the best possible prediction on {self.bundle.name}",
                "frames dropped, and a law by which modalities go missing",
                "one of the two",
                "Leave the frames or the law out.",
            )
        lengths = None
        if latents.ndim == 4:
            exists = self._frames_kept(split, {})
            lengths = exists[..., 0].sum(axis=1)
            latents = np.where(exists[..., None], latents, 0).sum(axis=1) / lengths[:, None, None]
        role = self.role
        return evidence.log_evidence(law, latents, mask, role.means, role.covariance, lengths)

    def decisions(
        self,
        split: str,
        observed: np.ndarray,
        metric: str,
        context: bool = True,
        frames: Mapping[str, np.ndarray] | None = None,
        law: Missingness | None = None,
    ) -> np.ndarray:
        """The best prediction of each utterance for a metric of ``mmlib.metrics``, (n_split,).

        Class tasks: a class index. Score tasks: the median for ``mae``, the likeliest level for ``acc7``, and
        -1 or 1 for ``accuracy`` and ``weighted_f1`` (negative or positive; zero labels do not count). Yes-or-no
        questions: 0 or 1, (n_split, K), or (n_split,) for the ``f1_NAME`` of one.
        ``weighted_f1`` and ``f1_NAME`` are approximations: see ``posterior.decide``.

        Raises:
            InputError: a metric that the task does not have, and what ``bayes`` raises.
        """
        return self._decide(self.bayes(split, observed, context, frames, law), metric)

    def best(
        self,
        split: str,
        observed: np.ndarray,
        metric: str,
        context: bool = True,
        frames: Mapping[str, np.ndarray] | None = None,
        law: Missingness | None = None,
    ) -> tuple[float, float]:
        """What the best decisions reach: (expected under the model, realised on this split's labels).

        In percent; the mean absolute error in score units. law: as in ``bayes``.
        """
        mass = self.bayes(split, observed, context, frames, law)
        rows = self.bundle.rows(split)
        decision, levels = self._decide(mass, metric), self.role.levels
        if metric == "mae":
            return (
                posterior.expected_absolute_error(mass, decision, *self.role.score_bounds),
                float(np.abs(self.bundle.labels[rows] - decision).mean()),
            )
        truth = np.eye(len(levels))[self.states[rows]]
        if metric == "acc7":
            metric, decision = "accuracy", np.searchsorted(levels, decision)
        else:
            mass, truth = self._answers(mass, metric), self._answers(truth, metric)
            decision = (
                (decision > 0).astype(int).ravel() if self.role.task.kind != "classes" else decision
            )
        metric = "weighted_f1" if metric.startswith("f1_") else metric
        return posterior.class_score(mass, decision, metric), posterior.class_score(
            truth, decision, metric
        )

    def answers(
        self,
        split: str,
        observed: np.ndarray,
        frames: Mapping[str, np.ndarray] | None = None,
        law: Missingness | None = None,
    ) -> np.ndarray:
        """The posterior of what ``accuracy`` counts: of classes (n, K), of signs (n, 2), of no and yes (n K, 2).

        Arguments as ``bayes``. Signs leave out the mass of level 0, whose labels do not count.
        """
        return self._answers(self.bayes(split, observed, frames=frames, law=law), "accuracy")

    def _decide(self, mass: np.ndarray, metric: str) -> np.ndarray:
        role, prior = self.role, np.asarray(self.role.prior)
        if metric not in self.metrics:
            raise unknown_name(f"metric of {self.bundle.name}", metric, self.metrics)
        if metric == "mae":
            return posterior.median_score(mass, *role.score_bounds)
        if metric == "acc7":
            return np.asarray(role.levels[mass.argmax(axis=1)])
        shares = self._answers(prior[None], metric).mean(axis=0)
        single = metric.startswith("f1_")
        decision = posterior.decide(
            self._answers(mass, metric), shares, "weighted_f1" if single else metric
        )
        if role.task.kind == "score":
            return 2 * decision - 1
        return decision if single or role.task.kind == "classes" else decision.reshape(mass.shape)

    def _answers(self, mass: np.ndarray, metric: str) -> np.ndarray:
        """(n, K) to what a metric counts: classes as they are; signs (n, 2); no and yes, (n K, 2) or of one name."""
        task = self.role.task
        if task.kind != "binaries":
            return posterior.signs(mass, self.role.levels) if task.kind == "score" else mass
        pairs = np.stack([1 - mass, mass], axis=-1)
        one = metric.removeprefix("f1_")
        return pairs[:, task.names.index(one)] if one in task.names else pairs.reshape(-1, 2)

    def _frames_kept(self, split: str, frames: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n_split, t, M): the frames that exist and are not dropped."""
        rows, by_modality = self.bundle.rows(split), []
        for modality in (*MODALITIES, *frames):
            if modality not in MODALITIES:
                raise unknown_name(f"frames for {self.bundle.name}, modality", modality, MODALITIES)
        for modality in MODALITIES:
            steps = self.bundle.features[modality].shape[1]
            kept = np.asarray(frames.get(modality, np.ones((len(rows), steps))), dtype=bool)
            self._check_shape(split, kept, (len(rows), steps))
            by_modality.append(
                kept & (np.arange(steps) < self.bundle.lengths[modality][rows, None])
            )
        return np.stack(by_modality, axis=-1)

    def _check_shape(self, split: str, mask: np.ndarray, shape: tuple[int, ...]) -> None:
        if mask.shape != shape:
            raise InputError(
                f"mask for {self.bundle.name}, {split}",
                f"shape {mask.shape}",
                str(shape),
                "Draw the mask for this split of this bundle.",
            )


def best_possible(
    twin: Twin, split: str = "test", metrics: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """The best possible result for every modality subset, observed in all utterances.

    Columns: subset (A, L, V in the papers' letters), metric (all of the task's by default), expected (under
    the model), realised (on the split's labels), exact (False where the decision or the expectation is an
    approximation). In percent; ``mae`` in score units.
    """
    letters = dict(zip(MODALITIES, "ALV", strict=True))
    results = []
    for kept in (k for count in (1, 2, 3) for k in itertools.combinations(MODALITIES, count)):
        observed = np.tile([m in kept for m in MODALITIES], (len(twin.bundle.rows(split)), 1))
        for metric in metrics or twin.metrics:
            expected, realised = twin.best(split, observed, metric)
            results.append(
                {
                    "subset": "".join(letters[m] for m in kept),
                    "metric": metric,
                    "expected": expected,
                    "realised": realised,
                    "exact": metric in EXACT,
                }
            )
    return pd.DataFrame(results)


def make_twin(role: str, size: str = "quick", seed: int = 0) -> Twin:
    """Draw a twin of ``ROLES`` or ``FRAME_ROLES``. The same role, size and seed give the same bytes.

    Raises:
        InputError: unknown role or size.
    """
    laws = {**ROLES, **FRAME_ROLES}
    if role not in laws:
        raise unknown_name("twin role", role, laws)
    law = laws[role]
    if size not in law.shapes:
        raise unknown_name("twin size", size, law.shapes)
    shape = law.shapes[size]
    law = law.at(shape)
    generators = _generators(f"{role}@{size}#{law.draw}", seed)
    frame = _conversations(law, shape, generators[0])
    states = _states(law, frame, generators[1])
    latents = _latents(law, states, shape.frames, generators[2])
    lengths = _lengths(shape, len(states), generators[4])
    lifts, features = _lifted(shape, latents, lengths, generators[2])
    bundle = make_bundle(
        f"twin-{role}-{size}",
        law.task,
        features,
        _labels(law, states, generators[3]),
        frame["split"].to_numpy(),
        [f"d{d:04d}_u{p:03d}" for d, p in zip(frame["dialogue"], frame["position"], strict=True)],
        lengths={} if lengths is None else dict.fromkeys(MODALITIES, lengths),
        **_columns(law, frame),
        **_about(role, size, seed),
    )
    return Twin(bundle, law, states, latents, lifts)


def _generators(name: str, seed: int) -> list[np.random.Generator]:
    """Five generators that no other draw has."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return [np.random.default_rng(s) for s in np.random.SeedSequence([seed, number]).spawn(5)]


def _columns(law: Role, frame: pd.DataFrame) -> dict[str, Any]:
    """What ``make_bundle`` takes of each utterance beside its id; its session is its fold."""
    return {
        "dialogue": frame["dialogue"].tolist(),
        "position": frame["position"].tolist(),
        "speaker": frame["speaker"].tolist(),
        "fold": frame["session"].tolist() if law.sessions else None,
    }


def _about(role: str, size: str, seed: int) -> dict[str, Any]:
    """What a twin's bundle says of itself."""
    return {
        "source": f"Synthetic: drawn by mmlib from a known law (role {role}, size {size}, seed {seed}). "
        "A twin shaped like the data set, not the data set.",
        "licence": "as this repository",
        "notes": {"twin": role, "size": size, "seed": seed},
    }


def _lengths(shape: Shape, n: int, generator: np.random.Generator) -> np.ndarray | None:
    """(n,) frames of each utterance; None for vectors."""
    if not shape.frames:
        return None
    return generator.integers(shape.shortest, shape.frames + 1, n)


def _lifted(
    shape: Shape,
    latents: Mapping[str, np.ndarray],
    lengths: np.ndarray | None,
    generator: np.random.Generator,
) -> tuple[dict[str, Lift], dict[str, np.ndarray]]:
    """Modality to its lift, and to the features that it makes: zeros beyond an utterance's last frame."""
    lifts, features = {}, {}
    for modality, dims in zip(MODALITIES, shape.dims, strict=True):
        lifts[modality], features[modality] = _features(latents[modality], dims, generator)
        if lengths is not None:
            features[modality][np.arange(shape.frames) >= lengths[:, None]] = 0
    return lifts, features


def _conversations(law: Role, shape: Shape, generator: np.random.Generator) -> pd.DataFrame:
    """One row per utterance: split, dialogue, position, speaker, session; in this order, which is that of the ids."""
    lengths: list[int] = []
    for dialogues, utterances in zip(shape.dialogues, shape.utterances, strict=True):
        room = (np.linspace(0.5, 1.75, dialogues) * utterances / dialogues).astype(int)
        lengths += (
            1 + generator.multivariate_hypergeometric(room, utterances - dialogues)
        ).tolist()
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
    return pd.DataFrame(
        {
            "split": split,
            "dialogue": dialogue,
            "position": position,
            "speaker": speaker,
            "session": session,
        }
    )


def _sessions(law: Role, shape: Shape) -> np.ndarray:
    """(dialogues,) each dialogue's session: the last one is test, the next (the first) validation; zeros for none.

    Train's dialogues, whose lengths rise, are dealt to the others in turn.
    """
    train, valid, test = shape.dialogues
    if not law.sessions:
        return np.zeros(train + valid + test, dtype=int)
    return np.r_[
        1 + np.arange(train) % (law.sessions - 2),
        np.zeros(valid, int),
        np.full(test, law.sessions - 1),
    ]


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
        if law.task.kind == "score" or all(
            len(np.unique(states[part])) == len(law.prior) for part in parts
        ):
            return states


def _latents(
    law: Role, states: np.ndarray, frames: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    means = law.means[:, :, None] if frames else law.means
    common = generator.standard_normal(
        (len(states), *([frames] if frames else []), means.shape[-1])
    )
    result = {}
    for index, (modality, share) in enumerate(zip(MODALITIES, law.share, strict=True)):
        own = generator.standard_normal(common.shape)
        result[modality] = means[index, states] + np.sqrt(share) * common + np.sqrt(1 - share) * own
    return result


def _features(
    latent: np.ndarray, dims: int, generator: np.random.Generator
) -> tuple[Lift, np.ndarray]:
    """A lift onto half of the coordinates, at random places, and standard normal noise on the others."""
    *places, k = latent.shape
    columns = np.sort(generator.permutation(dims)[: max(k, dims // 2)])
    rotation = np.linalg.qr(generator.standard_normal((len(columns), k)))[0]
    lift = Lift(
        rotation * np.sqrt(len(columns) / k), generator.standard_normal(len(columns)) / 2, columns
    )
    features = generator.standard_normal((*places, dims), dtype=np.float32)
    features[..., columns] = lift(latent)
    return lift, features


def _labels(law: Role, states: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if law.task.kind != "score":
        return (
            states if law.task.kind == "classes" else np.eye(len(law.prior), dtype=np.int64)[states]
        )
    low, high = law.score_bounds
    return np.asarray(low[states] + generator.random(len(states)) * (high - low)[states])
