"""Mechanisms: laws whose missingness depends on what is there (Rubin's MCAR, MAR and MNAR, for whole modalities).

An utterance lacks modality m where a uniform number falls below

    pi_m(z) = Phi(a z + b_m),

with z a standardised score that says what the mechanism looks at, and a its slope: 0 is completely at random, infinity
a threshold. b_m is solved such that the mean of pi_m over the training rows is the rate, and is then the same for all
splits: the probability is one function, and a split's own rate is what it comes to. The uniform numbers are those of
(seed, split, modality, step) whatever the mechanism, slope and rate, so that draws differ no more than their laws do.
Who would lose everything gets one modality back, at random (``restored`` names them).

``Twin.bayes`` takes ``fitted(law, bundle).missingness`` and gives the best possible prediction that knows the law.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used: scipy.special takes long

from mmlib.data.bundle import Bundle
from mmlib.data.evidence import Missingness
from mmlib.errors import InputError, unknown_name
from mmlib.masks.draw import Drawing, Kind, drawn, restore
from mmlib.masks.law import Law, Mask, check_rate
from mmlib.masks.scores import AXES, Scores, badness, content, label_contrasts, of_labels

NAMES = (
    "mcar",
    "mar_anchor",
    "mar_candidates",
    "mnar_self",
    "mnar_quality",
    "mnar_label",
    "mnar_cross",
)
BISECTIONS = 80
KEPT = 32  # fitted laws that a process remembers
Rates = float | Mapping[str, float]


def mcar(rate: Rates) -> Law:
    """Completely at random: nothing is looked at."""
    return _law("mcar", rate)


def mar_anchor(rate: Rates, slope: float, source: str) -> Law:
    """At random: what one modality shows, which is never missing itself, decides on the others.

    Raises:
        InputError: a rate or slope that makes no sense, or a rate of the source's own other than 0.
    """
    if isinstance(rate, Mapping) and rate.get(source, 0.0) != 0:
        raise InputError(
            "mask law mar_anchor, source",
            f"{source} missing at {rate[source]}",
            "0: the anchor is never missing",
            "Take mnar_cross where the source itself may be missing.",
        )
    return _law("mar_anchor", rate, slope, (source,))


def mar_candidates(rate: Rates, slope: float) -> Law:
    """At random without an anchor: one candidate a row may go missing, as the rest of the row decides.

    Candidates are dealt in proportion to the rates, whose sum is the share of incomplete rows. The score is the mean
    of the other modalities' scores, which all stay. Every row keeps all but one modality (after ``ampute`` of mice).
    """
    return _law("mar_candidates", rate, slope)


def mnar_self(rate: Rates, slope: float, axis: str = "class") -> Law:
    """Not at random: what a modality shows decides whether it is missing.

    axis: ``class``, so that missingness tells of the class, or ``nuisance`` (twins alone), so that it does not.
    """
    if axis not in AXES:
        raise unknown_name("mask law mnar_self, axis", axis, AXES)
    return _law("mnar_self", rate, slope, extra={"nuisance": 1.0} if axis == "nuisance" else {})


def mnar_quality(rate: Rates, slope: float) -> Law:
    """Not at random: the worse a modality's quality, the likelier it is missing; see ``scores.badness``."""
    return _law("mnar_quality", rate, slope)


def mnar_label(rate: Rates, slope: float) -> Law:
    """Not at random: the label decides, for all modalities alike; see ``scores.label_contrasts``."""
    return _law("mnar_label", rate, slope)


def mnar_cross(rate: Rates, slope: float, source: str) -> Law:
    """Not at random: as ``mar_anchor``, but the source itself goes missing too, completely at random."""
    return _law("mnar_cross", rate, slope, (source,))


def _law(
    kind: str,
    rate: Rates,
    slope: float = 0.0,
    source: tuple[str, ...] = (),
    extra: Mapping[str, float] | None = None,
) -> Law:
    if not slope >= 0:
        raise InputError(
            f"mask law {kind}, slope", str(slope), "0 or more, or infinity", "Correct it."
        )
    # Infinity is no number of JSON, so that a law of infinite slope says instead that it is a step.
    steep = {"step": 1.0} if math.isinf(slope) else {"slope": float(slope)}
    parameters = tuple(sorted({**(steep if slope else {}), **(extra or {})}.items()))
    if isinstance(rate, Mapping):
        for modality, value in rate.items():
            check_rate(kind, modality, value)
        rates = tuple(sorted(rate.items()))
        return Law(kind, rates=rates, modalities=source, parameters=parameters)
    check_rate(kind, "the rate", rate)
    return Law(kind, rate=rate, modalities=source, parameters=parameters)


def slope_of(law: Law) -> float:
    """A law's slope: 0 where nothing is looked at, infinity for a threshold."""
    parameters = dict(law.parameters)
    return math.inf if parameters.get("step") else parameters.get("slope", 0.0)


def rates_of(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    """The missing rate that a law names for each modality; an anchor's is 0."""
    if law.rates:
        return dict(law.rates)
    rates = dict.fromkeys(modalities, law.rate)
    return rates | dict.fromkeys(law.modalities, 0.0) if law.kind == "mar_anchor" else rates


@dataclass(frozen=True)
class Curve:
    """The probability to be missing, as a function of the score z."""

    rate: float
    """The mean over the rows that it was solved on."""

    slope: float
    """a: infinity for a threshold."""

    bias: float
    """b; where the slope is infinite, the threshold above which z is missing."""

    tie: float = 0.0
    """The probability at the threshold itself, which makes the mean the rate where scores are equal."""

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Probabilities of the same shape as the scores."""
        if self.slope == 0 or self.rate == 0:
            return np.full(np.shape(z), self.rate)
        if math.isinf(self.slope):
            return np.where(z > self.bias, 1.0, np.where(z == self.bias, self.tie, 0.0))
        return np.asarray(scipy.special.ndtr(self.slope * z + self.bias))


def solved(z: np.ndarray, rate: float, slope: float) -> Curve:
    """The curve of a slope whose mean over the scores z, (n,), is the rate."""
    if slope == 0 or rate == 0 or len(z) == 0:
        return Curve(rate, slope, 0.0)
    if math.isinf(slope):
        falling = np.sort(z)[::-1]
        threshold = float(falling[min(int(rate * len(z)), len(z) - 1)])
        above, ties = (z > threshold).sum(), (z == threshold).sum()
        return Curve(rate, slope, threshold, float((rate * len(z) - above) / ties))
    middle = float(scipy.special.ndtri(rate))
    low, high = middle - slope * float(z.max()), middle - slope * float(z.min())
    for _ in range(BISECTIONS):
        bias = (low + high) / 2
        if scipy.special.ndtr(slope * z + bias).mean() < rate:
            low = bias
        else:
            high = bias
    return Curve(rate, slope, (low + high) / 2)


@dataclass(frozen=True)
class Fitted:
    """A mechanism on a bundle: its scores, and the curves that the training rows gave."""

    law: Law
    """The mechanism."""

    modalities: tuple[str, ...]
    """The bundle's."""

    scores: np.ndarray
    """(n, M) the score z that decides on each modality of each utterance; rows as the bundle's."""

    curves: tuple[Curve, ...]
    """Of each modality."""

    shares: np.ndarray | None = None
    """(M,) the share of the rows in which each modality is the candidate; None where all may go missing at once."""

    sources: tuple[int, ...] = ()
    """Of each modality, which one's content its score is of; -1 where it tells nothing of the state."""

    content: Scores | None = None
    """The scores of all modalities' content, where the mechanism looks at that."""

    contrasts: np.ndarray | None = None
    """(C,) the score of each class, where the label decides."""

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), M) the probability to be missing; for candidates, given that it is the candidate."""
        columns = [curve(self.scores[rows, i]) for i, curve in enumerate(self.curves)]
        return np.stack(columns, axis=1)

    def expected(self, rows: np.ndarray) -> np.ndarray:
        """(M,) the mean probability to be missing in some rows, those that get a modality back counted as having it."""
        chances = self.chances(rows)
        if self.shares is not None:
            return np.asarray((chances * self.shares).mean(axis=0))
        return np.asarray(chances.mean(axis=0) - chances.prod(axis=1).mean() / chances.shape[1])

    @property
    def missingness(self) -> Missingness:
        """What the best possible prediction has to know of the law."""
        by_class = None
        if self.contrasts is not None:
            by_class = np.stack([curve(self.contrasts) for curve in self.curves], axis=1)
        known = self.content or Scores(np.empty((0, 0)), *np.ones((2, len(self.curves))))
        return Missingness(
            rates=np.array([curve.rate for curve in self.curves]),
            slopes=np.array([curve.slope for curve in self.curves]),
            biases=np.array([curve.bias for curve in self.curves]),
            sources=self.sources,
            direction=known.direction,
            mean=known.mean,
            sd=known.sd,
            by_class=by_class,
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the scores and curves: 16 hexadecimal digits."""
        numbers = [[c.rate, c.slope, c.bias, c.tie] for c in self.curves]
        parts = (np.asarray(numbers), np.round(self.scores, 9))
        return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()[:16]


_FITTED: dict[tuple[Law, str, str], Fitted] = {}  # by law, data, and the twin that they are of


def fitted(law: Law, bundle: Bundle) -> Fitted:
    """A mechanism's scores and curves on a bundle; all that is solved is solved on its training rows.

    Raises:
        InputError: a law of another family, a source or rates that do not fit the bundle, or data without the
            quality or the axis that the mechanism looks at.
    """
    twin = " ".join(str(bundle.notes.get(name)) for name in ("twin", "size", "seed"))
    key = (dataclasses.replace(law, resampled=False), bundle.fingerprint, twin)
    if key not in _FITTED:
        if len(_FITTED) >= KEPT:
            _FITTED.clear()
        _FITTED[key] = _fit(law, bundle)
    return _FITTED[key]


def _fit(law: Law, bundle: Bundle) -> Fitted:
    if law.kind not in NAMES:
        raise unknown_name("mechanism", law.kind, NAMES)
    modalities, slope = bundle.modalities, slope_of(law)
    rates = np.array([rates_of(law, modalities)[m] for m in modalities])
    shape, train = bundle.observed.shape, bundle.split == 0
    nothing = (-1,) * len(modalities)
    if law.kind == "mcar":
        curves = tuple(Curve(float(rate), 0.0, 0.0) for rate in rates)
        return Fitted(law, modalities, np.zeros(shape), curves, sources=nothing)
    if law.kind == "mar_candidates":
        return _candidates(law, bundle, rates, slope)
    known = _content_of(law, bundle)
    contrasts = label_contrasts(bundle) if law.kind == "mnar_label" else None
    sources = _sources(law, modalities)
    if law.kind == "mnar_label":
        scores = np.tile(of_labels(bundle)[:, None], (1, shape[1]))
    elif known is None:
        scores = badness(bundle).values
    elif law.kind == "mnar_self":
        scores = known.values
    else:
        scores = np.where(np.array(sources) < 0, 0.0, known.values[:, list(sources)])
    slopes = [
        0.0 if law.kind in ("mar_anchor", "mnar_cross") and source < 0 else slope
        for source in sources
    ]
    curves = tuple(
        solved(scores[train, i], float(rates[i]), slopes[i]) for i in range(len(modalities))
    )
    has_class = known is not None and known.direction is not None
    told = sources if has_class or known is None else nothing
    return Fitted(law, modalities, scores, curves, None, told, known, contrasts)


def _content_of(law: Law, bundle: Bundle) -> Scores | None:
    """The scores of content that a mechanism looks at; None where it looks at quality or at labels."""
    if law.kind in ("mnar_quality", "mnar_label"):
        return None
    return content(bundle, "nuisance" if dict(law.parameters).get("nuisance") else "class")


def _sources(law: Law, modalities: Sequence[str]) -> tuple[int, ...]:
    """Of each modality, the number of the one whose content decides on it; -1 for none.

    Raises:
        InputError: a law that names no source, or one that the data lack.
    """
    if law.kind == "mnar_self":
        return tuple(range(len(modalities)))
    if law.kind not in ("mar_anchor", "mnar_cross"):
        return (-1,) * len(modalities)
    if len(law.modalities) != 1 or law.modalities[0] not in modalities:
        raise unknown_name(
            f"mask law {law.kind}, source", "+".join(law.modalities) or "none", modalities
        )
    source = modalities.index(law.modalities[0])
    return tuple(-1 if index == source else source for index in range(len(modalities)))


def _candidates(law: Law, bundle: Bundle, rates: np.ndarray, slope: float) -> Fitted:
    """The score of each candidate is the mean of the others' scores, standardised over the training rows."""
    incomplete = float(rates.sum())
    if not incomplete < 1 or len(rates) < 2:
        raise InputError(
            f"mask law mar_candidates, bundle {bundle.name}",
            f"rates that sum to {incomplete:g}, of {len(rates)} modalities",
            "a sum below 1, of two or more: one modality a row at most goes missing",
            "Lower the rates.",
        )
    values, train = content(bundle).values, bundle.split == 0
    others = np.stack([np.delete(values, i, axis=1).mean(axis=1) for i in range(len(rates))], 1)
    scores = (others - others[train].mean(axis=0)) / others[train].std(axis=0)
    curves = tuple(solved(scores[train, i], incomplete, slope) for i in range(len(rates)))
    if not incomplete:
        return Fitted(law, bundle.modalities, scores, curves, sources=(-1,) * len(rates))
    return Fitted(law, bundle.modalities, scores, curves, rates / incomplete, (-1,) * len(rates))


def _left(law: Law, drawing: Drawing) -> np.ndarray:
    """(n, M) bool: what stays, before anything is given back."""
    known = fitted(law, drawing.bundle)
    uniform = np.stack([g.random(len(drawing.rows)) for g in drawing.per_modality], axis=1)
    lost = uniform < known.chances(drawing.rows)
    if known.shares is not None:
        ends = np.cumsum(known.shares)[:-1]
        candidate = np.searchsorted(ends, drawing.joint.random(len(lost)), side="right")
        lost &= candidate[:, None] == np.arange(lost.shape[1])
    return ~lost


def _draw(law: Law, drawing: Drawing) -> Mask:
    has = drawing.bundle.observed[drawing.rows]
    return Mask(restore(_left(law, drawing) & has, has, drawing.joint))


def restored(law: Law, bundle: Bundle, split: str, seed: int, step: int = 0) -> np.ndarray:
    """(n_split,) bool: the utterances that would have lost everything and got one modality back.

    Masks of larger rates hold those of smaller ones, but for these rows.
    """
    caught: list[np.ndarray] = []

    def catch(law: Law, drawing: Drawing) -> Mask:
        caught.append(_left(law, drawing) & bundle.observed[drawing.rows])
        return Mask(caught[0])

    drawn(dataclasses.replace(MECHANISM, draw=catch), law, bundle, split, seed, step)
    return np.asarray(~caught[0].any(axis=1))


def expected_rates(law: Law, bundle: Bundle, split: str) -> dict[str, float]:
    """The mean probability of each modality to be missing in a split, what is given back left out."""
    known = fitted(law, bundle)
    expected = known.expected(bundle.rows(split))
    return dict(zip(bundle.modalities, map(float, expected), strict=True))


# One number for all mechanisms: they share their uniform numbers.
MECHANISM = Kind(13, _draw, rates_of)
