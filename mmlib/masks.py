"""Every missingness protocol. No other file decides what is missing.

A ``Law`` says how modalities go missing; ``draw`` applies it to one split with a seed. Masks are
True where a modality (or a frame of it) is observed. Two families: *fixed* masks are drawn once
per law, split and seed; *resampled* ones are drawn anew for each epoch by its number, so that any
epoch's mask can be drawn again. Every draw starts from the bundle's rows in (dialogue, position)
order, which follow from sorted ids.

Sources: BALM section 3.1, Eqs 1-4 and 36-39 (ledger A1-A3, D1, D2); DREAM appendix A.4;
MCULoRA and EBMC's fixed and random missing protocols, and EBMC's frames dropped in training (E23).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from mmlib.data.bundle import SPLITS, Bundle
from mmlib.errors import InputError, unknown_name

KINDS = ("complete", "subset", "random", "shared", "imbalanced", "frames", "mix", "patterns", "random_frames")
Layout = Literal["paper", "released"]
FRAME_KINDS = ("frames", "random_frames")  # those that hide frames alone
MIX_FRAME_RATE = 0.5


@dataclass(frozen=True)
class Law:
    """How modalities go missing.

    kind: one of ``KINDS``; build with the functions of the same names below.
    rates: missing rate per modality (``imbalanced``), each in [0, 1).
    modalities: those that stay observed (``subset``).
    rate: the shared missing rate, the frame dropping rate, or the affected share (``mix``).
    layout: ``paper`` shuffles the quota's patterns over utterances (A3); ``released`` deals
        contiguous blocks of one pattern to dialogues in order and ignores the seed (D1).
    resampled: drawn anew at every training epoch instead of once.
    """

    kind: str
    rates: tuple[tuple[str, float], ...] = ()
    modalities: tuple[str, ...] = ()
    rate: float = 0.0
    layout: Layout = "paper"
    resampled: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("mask law", self.kind, KINDS)
        if self.layout not in ("paper", "released"):
            raise unknown_name("mask layout", self.layout, ("paper", "released"))
        for name, rate in (*self.rates, ("the rate", self.rate)):
            top = rate <= 1 if self.kind in ("frames", "mix") else rate < 1
            if not (0 <= rate and top):
                raise InputError(f"mask law {self.kind}, {name}", str(rate), "a missing rate in [0, 1)",
                                 "Give the share of utterances that lack the modality.")

    def __str__(self) -> str:
        detail = {
            "subset": "+".join(self.modalities),
            "imbalanced": ", ".join(f"{m} {r:g}" for m, r in self.rates),
            "shared": f"{self.rate:g}", "frames": f"{self.rate:g}", "mix": f"{self.rate:g}",
        }.get(self.kind, "")
        text = f"{self.kind}({detail})" if detail else self.kind
        return text + (", blocks as released" if self.layout == "released" else "")


def complete() -> Law:
    """Nothing missing but what is missing by nature."""
    return Law("complete")


def subset(modalities: Sequence[str]) -> Law:
    """Only these modalities are observed; utterances that by nature have none of them are left out (``Mask.kept``)."""
    if not modalities:
        raise InputError("mask law subset", "no modality", "at least one", "Name what stays observed.")
    return Law("subset", modalities=tuple(sorted(modalities)))


def random_missing(resampled: bool = False) -> Law:
    """One or two modalities missing in each utterance, both equally likely (MCULoRA's protocol)."""
    return Law("random", resampled=resampled)


def shared(rate: float, resampled: bool = False) -> Law:
    """Each modality missing independently at one rate; one is restored where all are (BALM Eq. 1)."""
    return Law("shared", rate=rate, resampled=resampled)


def imbalanced(rates: Mapping[str, float], layout: Layout = "paper") -> Law:
    """BALM's masking operator M(.; r), Eq. 36 as read in A1: exact quotas per pattern."""
    return Law("imbalanced", rates=tuple(sorted(rates.items())), layout=layout)


def frames(rate: float, resampled: bool = False) -> Law:
    """Each frame of each modality dropped independently at one rate; at least one frame stays."""
    return Law("frames", rate=rate, resampled=resampled)


def random_frames(resampled: bool = True) -> Law:
    """Frames dropped at a rate of each modality of each utterance; at least one frame stays (EBMC E23).

    The rate is 0 with probability one half, else uniform on (0, 1).
    """
    return Law("random_frames", resampled=resampled)


def mix(share: float) -> Law:
    """DREAM appendix A.4: of the affected share, 2/5 lack modalities, 2/5 lack frames, 1/5 both."""
    return Law("mix", rate=share)


def patterns(resampled: bool = True) -> Law:
    """Each dialogue in one of the 2^M - 1 combinations of modalities, drawn with given shares (MCULoRA section 3.4)."""
    return Law("patterns", resampled=resampled)


@dataclass(frozen=True)
class Mask:
    """What is observed in one split.

    utterance: (n, M) bool, rows in the order of ``bundle.rows(split)``.
    frames: modality to (n, t) bool, or empty for utterance-level protocols.
    kept: (n,) bool, False for utterances left out, which by nature lack all of a fixed subset; None where none is.
    """

    utterance: np.ndarray
    frames: Mapping[str, np.ndarray] = field(default_factory=dict)
    kept: np.ndarray | None = None

    def of(self, values: np.ndarray) -> np.ndarray:
        """Of (n, ...) values, one for each utterance of the split, those of the utterances that play a part."""
        return values if self.kept is None else values[self.kept]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the mask: 16 hexadecimal digits."""
        digest = hashlib.sha256(np.packbits(self.utterance).tobytes())
        for modality, array in sorted(self.frames.items()):
            digest.update(modality.encode() + np.packbits(array).tobytes())
        return digest.hexdigest()[:16]


def draw(law: Law, bundle: Bundle, split: str, seed: int, step: int = 0, shares: np.ndarray | None = None) -> Mask:
    """The mask of a split under a law and a seed; ``step`` counts the draws (epochs) of a resampled law.

    shares: (2^M - 1,) of the combinations in the order of ``combinations``, for ``patterns``; equal where None. Draws
    of different shares come from the same uniform numbers, so that they differ no more than their shares do.

    Raises:
        InputError: modalities that the bundle lacks, or frames asked of a bundle without any.
    """
    rows, modalities = bundle.rows(split), bundle.modalities
    _check_law(law, bundle)
    entropy = [seed, SPLITS.index(split), KINDS.index(law.kind), *([1 + step] if law.resampled else [])]
    generators = [np.random.default_rng(s) for s in np.random.SeedSequence(entropy).spawn(len(modalities) + 1)]
    joint, per_modality = generators[-1], generators[:-1]
    utterance = _utterance_mask(law, len(rows), modalities, joint, per_modality)
    dropped: dict[str, np.ndarray] = {}
    if law.kind in FRAME_KINDS:
        dropped = {m: _keep_frames(bundle, m, rows, _frame_rates(law, len(rows), g), g)
                   for m, g in zip(modalities, per_modality, strict=True)}
    if law.kind == "patterns":
        utterance = _patterns(bundle.dialogue[rows], len(modalities), shares, joint)
    if law.kind == "mix":
        utterance, dropped = _mix(law.rate, bundle, rows, joint, per_modality)
    if (observed := bundle.observed[rows]).all():
        return Mask(utterance, dropped)
    if law.kind == "subset":
        return _those_that_have(law, utterance & observed, bundle, split)
    return Mask(_restore(utterance & observed, observed, joint), dropped)


def combinations(count: int) -> np.ndarray:
    """(2^M - 1, M) bool: the combinations of M modalities without the empty one, read as binary numbers from 1."""
    return np.array(list(itertools.product((False, True), repeat=count)))[1:]


def pattern_counts(n: int, rates: Sequence[float]) -> dict[tuple[int, ...], int]:
    """How many of n utterances get each pattern of observed modalities (BALM Eq. 36; A1, D2).

    The share of pattern e is prod (1 - r_m)^e_m r_m^(1 - e_m), in exact fractions; the count is
    its floor. What is left over (the all-missing share and the fractions cut off) goes in equal
    parts to the M patterns with one modality, the first ones taking one more where it does not
    divide.

    The realised rate of modality m is then within prod(r)/M of r_m, as the paper states, plus at
    most (2^(M-1) (M-1)/M + 1)/n for rounding. Proof: let f_e in [0, 1) be the fraction cut off
    pattern e, F1 their sum over patterns with m, F0 without (all-missing left out), P = n prod(r).
    The remainder is P + F0 + F1, of which pattern {m} takes (P + F0 + F1)/M + d with |d| < 1, so
    n (realised - r_m) = F1 - (P + F0 + F1)/M - d, where F1 <= 2^(M-1) and F0 <= 2^(M-1) - 1.
    """
    exact = [Fraction(str(rate)) for rate in rates]
    count = len(exact)
    counts: dict[tuple[int, ...], int] = {}
    for pattern in itertools.product((0, 1), repeat=count):
        if any(pattern):
            share = math.prod((1 - r if e else r for e, r in zip(pattern, exact, strict=True)), start=Fraction(1))
            counts[pattern] = math.floor(n * share)
    each, more = divmod(n - sum(counts.values()), count)
    for modality in range(count):
        single = tuple(int(i == modality) for i in range(count))
        counts[single] += each + (modality < more)
    return counts


def rate_bound(n: int, rates: Sequence[float]) -> float:
    """The largest |realised - nominal| missing rate that ``pattern_counts`` can give."""
    count = len(rates)
    return math.prod(rates) / count + (2 ** (count - 1) * (count - 1) / count + 1) / n


def audit(law: Law, bundle: Bundle, split: str, mask: Mask) -> pd.DataFrame:
    """Nominal, expected and realised missing rate of each modality, one row each.

    expected includes the redistribution of all-missing utterances (A2): r_m - prod(r)/M.
    For frame protocols the rates are those of frames among the frames that exist.
    """
    nominal = nominal_rates(law, bundle.modalities)
    both = math.prod(nominal.values()) / len(nominal) if law.kind in ("imbalanced", "shared") else 0.0
    rows = bundle.rows(split)
    found = []
    for index, modality in enumerate(bundle.modalities):
        realised = 1 - mask.of(mask.utterance)[:, index].mean()
        if law.kind in FRAME_KINDS:
            exists = _exists(bundle, modality, rows)
            realised = 1 - (mask.frames[modality] & exists).sum() / exists.sum()
        found.append({"split": split, "modality": modality, "nominal": nominal[modality],
                      "expected": nominal[modality] - both, "realised": float(realised)})
    return pd.DataFrame(found)


def nominal_rates(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    """The missing rate that a law names for each modality (of frames, for ``FRAME_KINDS``)."""
    if law.kind == "imbalanced":
        return dict(law.rates)
    if law.kind == "subset":
        return {m: float(m not in law.modalities) for m in modalities}
    count = len(modalities)
    most = min(2, count - 1)
    rate = {"shared": law.rate, "frames": law.rate, "random": (1 + most) / 2 / count,
            "random_frames": 1 / 4, "patterns": 1 - 2 ** (count - 1) / (2**count - 1),
            "mix": law.rate * 3 / 5 * (1 + most) / 2 / count}.get(law.kind, 0.0)
    return dict.fromkeys(modalities, rate)


def equivalent_shared_rate(rates: Sequence[float]) -> float:
    """The shared rate with which imbalanced rates are compared: their mean (BALM Eqs 37-39)."""
    return sum(rates) / len(rates)


def pattern_distribution(rates: Sequence[float]) -> dict[tuple[int, ...], float]:
    """p_IMR(e) of BALM Eq. 3 (Eq. 1 where the rates are equal): normalised without all-missing."""
    nothing = math.prod(rates)
    return {
        pattern: math.prod(1 - r if e else r for e, r in zip(pattern, rates, strict=True)) / (1 - nothing)
        for pattern in itertools.product((0, 1), repeat=len(rates)) if any(pattern)
    }


def imbalance(rates: Sequence[float]) -> float:
    """Delta_IMR of BALM Eq. 4: KL(p_IMR || p_SMR) in nats, at the mean rate (ledger section 8)."""
    shared_rate = equivalent_shared_rate(rates)
    ours, theirs = pattern_distribution(rates), pattern_distribution([shared_rate] * len(rates))
    return sum(p * math.log(p / theirs[e]) for e, p in ours.items() if p > 0)


def _check_law(law: Law, bundle: Bundle) -> None:
    named = [m for m, _ in law.rates] + list(law.modalities)
    for modality in named:
        if modality not in bundle.modalities:
            raise unknown_name(f"mask law {law.kind}, modality", modality, bundle.modalities)
    if law.kind == "imbalanced" and len(law.rates) != len(bundle.modalities):
        raise InputError("mask law imbalanced", f"rates for {len(law.rates)} modalities",
                         f"one for each of {', '.join(bundle.modalities)}", "Name every modality's rate.")
    if law.kind in (*FRAME_KINDS, "mix") and any(bundle.features[m].ndim != 3 for m in bundle.modalities):
        raise InputError(f"mask law {law.kind}", f"bundle {bundle.name} without frames",
                         "features of shape (n, t, d)", "Choose an utterance-level law, or a frame-level bundle.")


def _utterance_mask(law: Law, n: int, modalities: Sequence[str], joint: np.random.Generator,
                    per_modality: Sequence[np.random.Generator]) -> np.ndarray:
    count = len(modalities)
    if law.kind == "subset":
        return np.tile([m in law.modalities for m in modalities], (n, 1))
    if law.kind == "random":
        return _random_missing(n, count, joint)
    if law.kind == "shared":
        mask = np.stack([g.random(n) >= law.rate for g in per_modality], axis=1)
        return _restore(mask, np.ones_like(mask), joint)
    if law.kind == "imbalanced":
        counts = pattern_counts(n, [dict(law.rates)[m] for m in modalities])
        mask = np.repeat(np.array(list(counts), dtype=bool), list(counts.values()), axis=0)
        return mask if law.layout == "released" else joint.permutation(mask)
    return np.ones((n, count), dtype=bool)


def _random_missing(n: int, count: int, generator: np.random.Generator) -> np.ndarray:
    missing = generator.integers(1, min(2, count - 1) + 1, size=n)
    rank = np.argsort(np.argsort(generator.random((n, count)), axis=1), axis=1)
    return rank >= missing[:, None]


def _patterns(dialogue: np.ndarray, count: int, shares: np.ndarray | None,
              generator: np.random.Generator) -> np.ndarray:
    known = combinations(count)
    weights = np.full(len(known), 1 / len(known)) if shares is None else np.asarray(shares, dtype=np.float64)
    if weights.shape != (len(known),) or (weights < 0).any() or not math.isclose(weights.sum(), 1, abs_tol=1e-6):
        raise InputError("mask law patterns", f"shares {weights}", f"{len(known)} that sum to 1", "Correct them.")
    _, place = np.unique(dialogue, return_inverse=True)
    drawn = np.searchsorted(np.cumsum(weights)[:-1], generator.random(place.max() + 1), side="right")
    return known[drawn[place]]


def _restore(mask: np.ndarray, available: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give each utterance that lost everything one of its available modalities, at random."""
    draws = np.where(available, generator.random(mask.shape), -1.0)
    empty = ~mask.any(axis=1)
    mask = mask.copy()
    mask[empty, draws[empty].argmax(axis=1)] = True
    return mask


def _those_that_have(law: Law, mask: np.ndarray, bundle: Bundle, split: str) -> Mask:
    """A fixed subset's mask where some utterances lack all of it: nothing is restored, they are left out."""
    kept = np.asarray(mask.any(axis=1))
    if not kept.any():
        raise InputError(f"mask law {law}, bundle {bundle.name}", f"no {split} utterance with any of these",
                         "one or more", "Leave the condition or the modality out, or move utterances that have it.")
    return Mask(mask, kept=None if kept.all() else kept)


def _exists(bundle: Bundle, modality: str, rows: np.ndarray) -> np.ndarray:
    steps = bundle.features[modality].shape[1]
    lengths = bundle.lengths.get(modality)
    return np.arange(steps) < (lengths[rows, None] if lengths is not None else np.full((len(rows), 1), steps))


def _frame_rates(law: Law, n: int, generator: np.random.Generator) -> np.ndarray | float:
    """The dropping rate of every utterance, or (n, 1), of each."""
    if law.kind == "frames":
        return law.rate
    spared, rates = generator.random((2, n, 1))
    return np.where(spared < 1 / 2, 0.0, rates)


def _keep_frames(bundle: Bundle, modality: str, rows: np.ndarray, rate: np.ndarray | float,
                 generator: np.random.Generator) -> np.ndarray:
    exists = _exists(bundle, modality, rows)
    return _restore(exists & (generator.random(exists.shape) >= rate), exists, generator)


def _mix(share: float, bundle: Bundle, rows: np.ndarray, joint: np.random.Generator,
         per_modality: Sequence[np.random.Generator]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Counts by largest remainder; what happens inside an affected utterance is not stated in A.4.

    Our reading [G]: one or two modalities missing; frames dropped at ``MIX_FRAME_RATE``.
    """
    n = len(rows)
    inter, intra, both = largest_remainder(n, [share * 2 / 5, share * 2 / 5, share / 5, 1 - share])[:3]
    group = joint.permutation(np.repeat([0, 1, 2, 3], [inter, intra, both, n - inter - intra - both]))
    lacks, drops = np.isin(group, (0, 2)), np.isin(group, (1, 2))
    utterance = np.where(lacks[:, None], _random_missing(n, len(bundle.modalities), joint), True)
    kept = {}
    for modality, generator in zip(bundle.modalities, per_modality, strict=True):
        dropped = _keep_frames(bundle, modality, rows, MIX_FRAME_RATE, generator)
        kept[modality] = np.where(drops[:, None], dropped, _exists(bundle, modality, rows))
    return utterance, kept


def largest_remainder(n: int, shares: Sequence[float]) -> list[int]:
    """Whole counts that sum to n and are nearest to n times the shares (which sum to 1)."""
    exact = [n * share for share in shares]
    counts = [math.floor(value + 1e-9) for value in exact]
    by_fraction = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for index in by_fraction[: n - sum(counts)]:
        counts[index] += 1
    return counts


def law_from_json(data: Mapping[str, object]) -> Law:
    """A law from its ``dataclasses.asdict`` form, as records hold it."""
    known = {f.name for f in dataclasses.fields(Law)}
    for key in data:
        if key not in known:
            raise unknown_name("mask law field", key, known)
    fields = dict(data)
    fields["rates"] = tuple((str(m), float(r)) for m, r in fields.get("rates", ()))  # type: ignore[attr-defined]
    fields["modalities"] = tuple(fields.get("modalities", ()))  # type: ignore[arg-type]
    return Law(**fields)  # type: ignore[arg-type]
