"""Utterances brought to what a model takes, or refused: names, shapes, numbers, scale, speakers.

Raw features are standardised with the model's own means and sds where it was trained on standardised ones, and
standardised ones whose scaling is known are brought back where it was not. What the scaling of features is follows
from their bundle; where their values contradict it, they are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.data.scaling import Scaling, fits, in_32_bits
from mmlib.errors import InputError, unknown_name
from mmlib.names import few
from mmlib.runs.card import Card, Modality
from mmlib.runs.speakers import as_trained

# How far values may be from those of training, in sds of training: the middle dimension's for the far end, which
# few wild dimensions do not move; all dimensions' together for the near end, which sparse ones do not.
FAR, NEAR = 10.0, 0.1
FEW = 20  # rows, of which a small spread says nothing
WILD = 1000.0  # sds of training: a single value so far away decides a prediction alone


@dataclass(frozen=True)
class Fitted:
    """Utterances as a model takes them."""

    bundle: Bundle
    """With the model's modalities, in the order in which they were given."""

    notes: tuple[str, ...]
    """What was done to them, a line each."""


def fitted(card: Card, given: Bundle) -> Fitted:
    """Bring utterances to what a model takes.

    Raises:
        InputError: other modalities or shapes, features that are no finite numbers or on another scale, or more
            speakers than the model knows.
    """
    _check_names(card, given)
    spoken, told = as_trained(card, given)
    shaped, notes = _shaped(card, spoken), list(told)
    features, scaling = dict(shaped.features), dict(shaped.scaling)
    for modality, wanted in card.modalities.items():
        if modality not in given.features:
            notes.append(f"{modality}: not in {given.name}, so it is missing everywhere")
            continue
        _check_finite(shaped, modality)
        values, found = _scaled(shaped, modality, wanted)
        features[modality] = in_32_bits(values)
        notes += found
        if wanted.standardised and wanted.scale:
            scaling[modality] = wanted.scale
    return Fitted(dataclasses.replace(shaped, features=features, scaling=scaling), tuple(notes))


def _check_names(card: Card, given: Bundle) -> None:
    for modality in given.modalities:
        if modality not in card.modalities and modality not in card.left_out:
            raise unknown_name(f"{given.name}, modality", modality, card.modalities)
    if not set(given.modalities) & set(card.modalities):
        raise InputError(
            given.name,
            f"the modalities {', '.join(given.modalities) or 'of no name'}",
            f"some of {', '.join(card.modalities)}",
            "Give one of them at least: with none of them there is nothing to predict from.",
        )


def _shaped(card: Card, given: Bundle) -> Bundle:
    """The model's modalities with its shapes; one that is not given is missing."""
    n, names = len(given), tuple(card.modalities)
    features, lengths = {}, {}
    observed = np.zeros((n, len(names)), dtype=bool)
    for index, modality in enumerate(names):
        wanted = card.modalities[modality]
        if modality not in given.features:
            kind = np.uint8 if wanted.pixels else np.float32
            features[modality] = np.zeros((n, *wanted.shape), dtype=kind)
            continue
        values, ends = _with_shape(given, modality, wanted)
        features[modality] = values
        if ends is not None:
            lengths[modality] = ends
        observed[:, index] = given.observed[:, given.modalities.index(modality)]
    return dataclasses.replace(
        given,
        features=features,
        lengths=lengths,
        observed=observed,
        scaling={m: s for m, s in given.scaling.items() if m in names},
    )


def _with_shape(
    given: Bundle, modality: str, wanted: Modality
) -> tuple[np.ndarray, np.ndarray | None]:
    """A modality's values, sequences as long as the model's, and where they end."""
    values, ends = given.features[modality], given.lengths.get(modality)
    shape, where = values.shape[1:], f"{given.name}, {modality}"
    frames = len(shape) == len(wanted.shape) == 2
    if shape != wanted.shape and not (frames and shape[1] == wanted.shape[1]):
        raise InputError(
            where,
            f"{_in_words(shape)} for each utterance",
            _in_words(wanted.shape),
            "Make the features as those were made that the model was trained on.",
        )
    if (values.dtype == np.uint8) != wanted.pixels:
        raise InputError(
            where,
            "bytes" if values.dtype == np.uint8 else f"numbers of {values.dtype}",
            "bytes of pixels" if wanted.pixels else "real numbers",
            "Give the kind of numbers that the model was trained on.",
        )
    if not frames:
        return values, None
    lacking = wanted.shape[0] - shape[0]
    if ends is not None and ((ends < 1) | (ends > shape[0])).any():
        raise InputError(
            where, f"lengths from {ends.min()} to {ends.max()}", f"1 to {shape[0]}", "Correct them."
        )
    if lacking < 0:
        raise InputError(
            where,
            f"sequences of {shape[0]} frames",
            f"at most {wanted.shape[0]}, the longest that the model was trained on",
            "Cut them.",
        )
    if lacking and ends is None:
        ends = np.full(len(values), shape[0])
    return np.pad(values, ((0, 0), (0, lacking), (0, 0))) if lacking else values, ends


def _in_words(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"a vector of {shape[0]} dimensions"
    return f"{shape[0]} frames of {shape[1]}" if len(shape) == 2 else f"an array of shape {shape}"


def _check_finite(bundle: Bundle, modality: str) -> None:
    values = bundle.features[modality]
    if values.dtype == np.uint8:
        return
    bad = ~fits(values)
    bad &= bundle.observed[:, bundle.modalities.index(modality)]
    if bad.any():
        raise InputError(
            f"{bundle.name}, {modality}",
            f"NaN or infinite features in {int(bad.sum())} utterances, the first of them "
            f"{bundle.ids[int(np.flatnonzero(bad)[0])]!r}",
            "finite numbers",
            "Mend them, or mark them as not observed.",
        )


def _scaled(bundle: Bundle, modality: str, wanted: Modality) -> tuple[np.ndarray, list[str]]:
    """A modality's values on the scale that the model takes, and what was done or found."""
    values, own = bundle.features[modality], bundle.scaling.get(modality)
    if wanted.scale is None:
        return values, []
    part = bundle.counted(modality)
    there = part.values[part.counts].astype(np.float64)
    raw = there if own is None else there * _row(own, "sd") + _row(own, "mean")
    in_sds = (raw - _row(wanted.scale, "mean")) / _row(wanted.scale, "sd")
    _check_scale(f"{bundle.name}, {modality}", in_sds, wanted, own is not None)
    wild = _wild_lines(modality, in_sds)
    if wanted.standardised and own is not None and _same(own, wanted.scale):
        return values, [f"{modality}: standardised as the model's training data are", *wild]
    if not wanted.standardised and own is None:
        return values, [f"{modality}: raw, as the model takes it", *wild]
    changed = np.zeros(values.shape, dtype=np.float32)
    changed[part.counts] = in_sds if wanted.standardised else raw
    if not wanted.standardised:
        done = "standardised, brought back to the raw values that the model takes"
    elif own is None:
        done = "raw, standardised here with the means and sds of the model"
    else:
        done = "standardised otherwise, brought to the means and sds of the model"
    return changed, [f"{modality}: {done}", *wild]


def _wild_lines(modality: str, in_sds: np.ndarray) -> list[str]:
    """A warning of single dimensions far outside what training had; none where there are none."""
    if not len(in_sds):
        return []
    furthest = np.abs(in_sds).max(axis=0)
    wild = np.flatnonzero(furthest > WILD)
    if not len(wild):
        return []
    return [
        f"WARNING: {modality} has values up to {furthest.max():.2g} standard deviations of training from its mean, in "
        f"dimension {few(list(wild))} (counted from 0): such a value decides a prediction alone. Correct it, or mark "
        "the utterance's modality as not observed."
    ]


def _check_scale(where: str, in_sds: np.ndarray, wanted: Modality, known: bool) -> None:
    """Refuse features whose values show that they are scaled otherwise than is said of them.

    in_sds: (rows, d) raw features as distances from the mean of training, in sds of training. known: whether their
    bundle says how they were standardised.
    """
    if not len(in_sds):
        return
    squares = np.square(in_sds).mean(axis=0)
    middle, together = float(np.sqrt(np.median(squares))), float(np.sqrt(squares.mean()))
    if middle <= FAR and (together >= NEAR or len(in_sds) < FEW):
        return
    scale = wanted.scale or {}
    taken = "known by its bundle to be standardised" if known else "taken as raw"
    raise InputError(
        where,
        f"features, {taken}, that are typically {middle if middle > FAR else together:.2g} standard deviations of "
        "the training data from their mean",
        f"about 1, as raw features with mean {np.median(scale['mean']):.3g} and sd {np.median(scale['sd']):.3g} "
        "(the middle dimension) have",
        "Give raw features, or a bundle that `mmlib data import` standardised: features that were standardised "
        "elsewhere, or made otherwise than those of training, do not fit.",
    )


def _row(scaling: Scaling, name: str) -> np.ndarray:
    return np.asarray(scaling[name], dtype=np.float64)


def _same(one: Scaling, other: Mapping[str, object]) -> bool:
    return all(list(one[name]) == list(other[name]) for name in ("mean", "sd"))  # type: ignore[call-overload]
