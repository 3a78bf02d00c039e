"""What a bundle holds, in plain lines: counts by split, labels, modalities, speakers and dialogues."""

from __future__ import annotations

import numpy as np
from tabulate import tabulate

from mmlib.data.bundle import SPLITS, Bundle
from mmlib.data.groups import (
    ENOUGH,
    NAMES,
    few_in_words,
    few_tested,
    named,
    shared_speakers,
    speaker_kind,
    speakers_of_several_folds,
)
from mmlib.data.labels import class_counts, parts_of
from mmlib.data.readers.label_column import NUMBER
from mmlib.data.scales import scale

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def head_lines(bundle: Bundle, task: str) -> list[str]:
    """Name, size, source, licence and notes."""
    notes = {key: value for key, value in bundle.notes.items() if key != NAMES}
    return [
        f"{bundle.name}: {len(bundle)} utterances, {task}, fingerprint {bundle.fingerprint}",
        f"source: {printable(bundle.source) or 'not stated'}",
        f"licence: {printable(bundle.licence) or 'not stated'}",
        *(f"note, {printable(key)}: {printable(value)}" for key, value in notes.items()),
    ]


def printable(value: object) -> str:
    """A received text without what a terminal would obey: control characters as Python writes them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))


def formula_warnings(bundle: Bundle) -> list[str]:
    """Ids and classes that a spreadsheet takes for formulas where it opens a table of predictions."""
    wrong = [name for name in (*bundle.task.names, *bundle.ids) if is_formula(name)]
    if not wrong:
        return []
    return [
        f"WARNING: {len(wrong)} classes and ids of {bundle.name} begin as formulas do, {wrong[0]!r} first: a "
        "spreadsheet computes such cells of a table. Rename them, or let it open the table with all cells as text."
    ]


def is_formula(name: str) -> bool:
    """Whether a spreadsheet computes a cell with this text: it begins with = + - @ or a tab, and is no number."""
    return name.startswith(FORMULA) and not NUMBER.fullmatch(name)


def has_dialogues(bundle: Bundle) -> bool:
    """Whether any dialogue has two utterances; where none has, each utterance stands alone."""
    return len(np.unique(bundle.dialogue)) < len(bundle)


def count_lines(bundle: Bundle) -> list[str]:
    """A table of utterances, dialogues, speakers and classes by split, and by fold where there are folds."""
    parts = {split: bundle.rows(split) for split in SPLITS}
    if bundle.fold is not None:
        parts |= parts_of(bundle)
    lines: dict[str, list[int]] = {"utterances": [len(rows) for rows in parts.values()]}
    if has_dialogues(bundle):
        lines["dialogues"] = [len(np.unique(bundle.dialogue[rows])) for rows in parts.values()]
    if speaker_kind(bundle) != "not stated":
        lines["speakers"] = [len(np.unique(bundle.speaker[rows])) for rows in parts.values()]
    if bundle.task.kind != "score":
        counts = [class_counts(bundle, rows) for rows in parts.values()]
        kind = "class" if bundle.task.kind == "classes" else "label"
        lines |= {f"{kind} {name}": [part[name] for part in counts] for name in bundle.task.names}
    table = [[name, *row] for name, row in lines.items()]
    return tabulate(table, ["", *parts], tablefmt="plain").splitlines()


def label_lines(bundle: Bundle) -> list[str]:
    """The scores of each split, and how many of them are exactly neutral; nothing of other labels."""
    if bundle.task.kind != "score":
        return []
    lines = []
    for part, rows in parts_of(bundle).items():
        labels = bundle.labels[rows]
        spread = f"mean {labels.mean():.2f}, sd {labels.std(ddof=min(1, len(labels) - 1)):.2f}"
        sides = f"{(labels < 0).sum()} negative, {(labels > 0).sum()} positive, "
        lines.append(
            f"{part}: {labels.min():g} to {labels.max():g}, {sides if bundle.task.signed else ''}{spread}"
        )
    return [*lines, *_neutral_lines(bundle)]


def _neutral_lines(bundle: Bundle) -> list[str]:
    if not bundle.task.signed:
        return ["no neutral value with scores on both sides: tables show error and correlation"]
    parts = parts_of(bundle).items()
    shares = [f"{(bundle.labels[rows] == 0).mean():.1%} of {part}" for part, rows in parts]
    lines = [f"exactly neutral (0): {', '.join(shares)}"]
    if (bundle.labels == 0).any():
        lines.append(
            "such scores have no sign (no opinion, or opinions that cancel): accuracy and F1 leave them out, and "
            'those "with zero" count them as not negative'
        )
    return lines


def modality_lines(bundle: Bundle) -> list[str]:
    """The shape of an utterance, dims that never change, and the scale over training, a line per modality."""
    lines = []
    for modality in bundle.modalities:
        measured = scale(bundle, modality)
        # What is left of a mean of 0 after rounding is no mean.
        mean = 0.0 if abs(measured.mean) < 1e-6 * measured.sd else measured.mean
        scaled = ", standardised at import" if modality in bundle.scaling else ""
        lines.append(
            f"{modality}: {_shape_text(bundle.features[modality])}; mean {mean:.3g}, sd {measured.sd:.3g}, "
            f"largest absolute value {measured.largest:.3g}{scaled}"
        )
    return [*lines, "means and sds are over the values that train observes"]


def _shape_text(array: np.ndarray) -> str:
    """The shape of a sample, and how many of its dims are the same everywhere; pictures have no dims of that kind."""
    shape = " x ".join(map(str, array.shape[1:]))
    if array.ndim > 3:
        return f"{shape}, pictures"
    return (
        f"{shape} ({int((np.ptp(array.reshape(-1, array.shape[-1]), axis=0) == 0).sum())} constant)"
    )


def group_lines(bundle: Bundle) -> list[str]:
    """What splits share: dialogues never, by the bundle's contract; speakers where the data say who speaks."""
    alone = len(np.unique(bundle.dialogue)) == len(bundle)
    dialogues = (
        "each utterance stands alone; whether splits share recordings, the data do not say"
        if alone
        else "each in one split"
    )
    return [f"dialogues: {dialogues}", f"speakers: {_speaker_text(bundle)}"]


def _speaker_text(bundle: Bundle) -> str:
    kind = speaker_kind(bundle)
    if kind == "not stated":
        return "not stated; whether splits share them, the data do not say"
    if kind == "parts":
        return "parts in a dialogue (most dialogues have them all), no people to keep apart"
    shared = shared_speakers(bundle)
    if not shared and not len(speakers_of_several_folds(bundle)):
        return "each in one split"
    texts = [f"{len(numbers)} in {a} and {b}" for (a, b), numbers in shared.items()]
    folds = len(speakers_of_several_folds(bundle))
    texts += [f"{folds} in more than one fold"] if folds else []
    return f"of {len(np.unique(bundle.speaker))}, {', '.join(texts)}"


def speaker_warnings(bundle: Bundle) -> list[str]:
    """People who speak in several splits, or folds where runs use these."""
    if bundle.fold is not None:
        numbers = speakers_of_several_folds(bundle)
        return [_shared(bundle, numbers, "more than one fold")] if len(numbers) else []
    shared = shared_speakers(bundle)
    lines: list[str] = []
    for other in ("test", "valid"):
        numbers = shared.get(("train", other), np.array([]))
        if len(numbers) and not lines:  # of validation where test has new speakers alone
            lines.append(_shared(bundle, numbers, f"both train and {other}"))
    return lines


def few_warnings(bundle: Bundle) -> list[str]:
    """A test split of so few dialogues and speakers that its results say nothing of others."""
    few = few_tested(bundle)
    if not few:
        return []
    where = "the test split" if bundle.fold is None else "a fold"
    return [
        f"WARNING: {where} of {bundle.name} has {few_in_words(few)}. Results are for further utterances of these, and "
        f"say nothing of others. Test on {ENOUGH} or more, or say so beside the results."
    ]


def _shared(bundle: Bundle, numbers: np.ndarray, where: str) -> str:
    count = len(np.unique(bundle.speaker))
    follows = (
        "Epochs are chosen on speakers that training knows, those of test are new."
        if where.endswith("valid")
        else "Results are for speakers that training knows, and say nothing of new ones."
    )
    return (
        f"WARNING: {len(numbers)} of {count} speakers of {bundle.name} are in {where}: {named(bundle, numbers)}. "
        f"{follows} Split by speaker, or say so beside the results."
    )
