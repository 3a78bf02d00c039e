"""The scale of each modality's features, and rows of zeros alone that may stand for what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.data.scaling import blocks
from mmlib.data.scaling import zero as zero_of
from mmlib.names import few

# Initial weights and learning rates suppose features of order one. A hundredfold either way still trains with Adam; 1e4
# in one place is what overflows squares and softmaxes.
LEAST_SD, MOST_SD, LARGEST = 0.01, 100.0, 1e4
OUTSIDE = 100.0  # times the largest value of train: held-out values that no training prepares for
SWAMPED = 1000.0  # times the distance from the median that 99 of 100 rows keep within
MANY_ZEROS = 0.05
BLOCK = 2**22  # values read at a time, since the files of clips exceed memory


@dataclass(frozen=True)
class Scale:
    """The scale of a modality, over its observed rows of a split and the frames that exist."""

    mean: float
    """Mean of all values."""

    sd: float
    """Their standard deviation."""

    largest: float
    """Their largest absolute value."""

    @property
    def sane(self) -> bool:
        """Whether networks can be trained on such features as they are."""
        return (
            LEAST_SD <= self.sd <= MOST_SD and abs(self.mean) <= MOST_SD and self.largest <= LARGEST
        )


def scale(bundle: Bundle, modality: str, split: int = 0) -> Scale:
    """The scale of a modality in a split, by default training; zeros throughout where it has none of it."""
    observed = bundle.observed[:, bundle.modalities.index(modality)]
    count, total, squares, largest = 0, 0.0, 0.0, 0.0
    for values in _blocks(bundle, modality, np.flatnonzero(observed & (bundle.split == split))):
        if values.size:
            count, total, squares = (
                count + values.size,
                total + values.sum(),
                squares + np.square(values).sum(),
            )
            largest = max(largest, float(np.abs(values).max()))
    mean = total / max(count, 1)
    return Scale(float(mean), float(np.sqrt(max(squares / max(count, 1) - mean**2, 0.0))), largest)


def scale_lines(bundle: Bundle) -> list[str]:
    """One line for each modality."""
    scales = {m: scale(bundle, m) for m in bundle.modalities}
    return [
        f"{m}: scale: mean {s.mean:.3g}, sd {s.sd:.3g}, largest absolute value {s.largest:.3g} (train, observed)"
        for m, s in scales.items()
    ]


def scale_warnings(bundle: Bundle) -> list[str]:
    """Modalities whose features want scaling; bytes of pictures have a scale of their own, which networks know."""
    lines = []
    bounds = (
        f"sd outside {LEAST_SD:g} to {MOST_SD:g}, |mean| over {MOST_SD:g}, values over {LARGEST:g}"
    )
    in_train = bundle.observed[bundle.split == 0].any(axis=0)
    for modality, there in zip(bundle.modalities, in_train, strict=True):
        if bundle.features[modality].dtype == np.uint8 or not there:
            continue
        measured = scale(bundle, modality)
        if is_constant(bundle, modality):
            lines.append(_says_nothing(bundle, modality))
        elif modality not in bundle.scaling and not measured.sane:
            lines.append(
                f"WARNING: the features of {modality} in {bundle.name} have mean {measured.mean:.3g}, sd "
                f"{measured.sd:.3g} and values up to {measured.largest:.3g}, where networks suppose an sd near 1 "
                f"(warned of: {bounds}). Training may fail or say little: import again with --standardise "
                "(a folder: without --raw)."
            )
    return lines


def outside_warnings(bundle: Bundle) -> list[str]:
    """Held-out values far outside what training has, as of a sensor that failed; pictures have none."""
    lines = []
    for modality in bundle.modalities:
        if bundle.features[modality].dtype == np.uint8 or is_constant(bundle, modality):
            continue
        known = scale(bundle, modality).largest
        for number, split in ((1, "valid"), (2, "test")):
            largest = scale(bundle, modality, number).largest
            if largest > OUTSIDE * known > 0:
                lines.append(
                    f"WARNING: {modality} of {bundle.name} has values up to {largest:.3g} in {split}, but "
                    f"{known:.3g} in train (warned of: over {OUTSIDE:g} times as much). One such value can decide a "
                    "mean error: look for a sensor that failed, and correct the value or import it as missing."
                )
    return lines


def swamped_warnings(bundle: Bundle) -> list[str]:
    """Standardised dimensions of which a few wild values of train leave nothing: what is raw is warned of by scale."""
    lines = []
    for modality in bundle.scaling:
        dimensions, largest = _swamped(bundle, modality)
        if dimensions:
            lines.append(
                f"WARNING: a few values of {modality} in {bundle.name}, up to {largest:.3g} before standardisation, "
                f"leave all other rows nearly equal in dimension {few(dimensions)} (counted from 0): it says "
                "nothing there. Correct the values, or import them as missing."
            )
    return lines


def _swamped(bundle: Bundle, modality: str) -> tuple[list[int], float]:
    """Such dimensions, and the largest raw value in them."""
    part, scaling = bundle.counted(modality), bundle.scaling[modality]
    if not part.scales:
        return [], 0.0
    mean, sd = (np.asarray(scaling[name], dtype=np.float64) for name in ("mean", "sd"))
    parts = [np.abs(there).max(axis=0) for _, there in blocks(part.values, part.train)]
    largest = np.abs(mean) + sd * np.max(parts, axis=0)  # at most
    found, most = [], 0.0
    for dimension in np.flatnonzero(largest > LARGEST):
        there = part.values[..., dimension][part.train]
        raw = mean[dimension] + sd[dimension] * there.astype(np.float64)
        away = np.abs(raw - np.median(raw))
        usual = np.quantile(away, 0.99, method="lower")
        if np.abs(raw).max() > LARGEST and away.max() > SWAMPED * usual:
            found.append(int(dimension))
            most = max(most, float(np.abs(raw).max()))
    return found, most


def is_constant(bundle: Bundle, modality: str) -> bool:
    """Whether all vectors or frames of a modality that training has are the same; False of pictures."""
    part = bundle.counted(modality)
    if not part.scales:
        return False
    parts = (there for _, there in blocks(part.values, part.train))
    first = next(parts)
    return bool((first == first[0]).all()) and all((there == first[0]).all() for there in parts)


def _says_nothing(bundle: Bundle, modality: str) -> str:
    return (
        f"WARNING: the features of {modality} in {bundle.name} are the same in all of train: they say nothing. "
        "Check the file, or leave the modality out."
    )


def zero_warnings(bundle: Bundle) -> list[str]:
    """Modalities many of whose observed rows are zeros alone; those whose rows are all the same are named already."""
    counts = observed_zeros(bundle).sum(axis=0)
    observed = bundle.observed.sum(axis=0)
    lines = []
    for modality, count, rows in zip(bundle.modalities, counts, observed, strict=True):
        if count >= MANY_ZEROS * rows and count and not is_constant(bundle, modality):
            lines.append(
                f"WARNING: {count} of {rows} rows of {modality} in {bundle.name} are zeros alone "
                f"({count / rows:.0%}) and count as observed. If they are missing, say so: import a "
                f"folder with --option zeros=missing, or with {modality}_observed.npy."
            )
    return lines


def observed_zeros(bundle: Bundle) -> np.ndarray:
    """(n, M) bool: rows that count as observed and are zeros alone in the source."""
    differ = {m: _differs_from_zero(bundle, m) for m in bundle.modalities}
    return zero_rows(differ, bundle.lengths) & bundle.observed


def _differs_from_zero(bundle: Bundle, modality: str) -> np.ndarray:
    """A modality's values, or where it was standardised whether they differ from what a zero has become."""
    values, scaling = bundle.features[modality], bundle.scaling.get(modality)
    return values if scaling is None else values != zero_of(scaling)


def zero_rows(features: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n, M) whether every value of a row that exists is 0; modalities in alphabetical order."""
    zero = np.zeros((len(next(iter(features.values()))), len(features)), dtype=bool)
    for index, modality in enumerate(sorted(features)):
        array = features[modality]
        if modality in lengths:
            zero[:, index] = [
                not row[:end].any() for row, end in zip(array, lengths[modality], strict=True)
            ]
        else:
            zero[:, index] = ~array.reshape(len(array), -1).any(axis=1)
    return zero


def _blocks(bundle: Bundle, modality: str, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The values of some rows as float64, a bounded number at a time, without frames beyond a sequence's end."""
    array = bundle.features[modality]
    lengths = bundle.lengths.get(modality)
    step = max(1, BLOCK // max(1, array[0].size))
    for start in range(0, len(rows), step):
        chosen = rows[start : start + step]
        values = array[chosen].astype(np.float64)
        yield (
            values
            if lengths is None
            else values[np.arange(values.shape[1]) < lengths[chosen, None]]
        )
