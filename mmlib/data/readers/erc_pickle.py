"""Dialogue pickles of emotion recognition in conversation: MMGCN, SDT and M3NET style.

A tuple of dictionaries by dialogue, with the sets of train and test dialogues near its end. Which
position holds what differs between releases; ``LAYOUTS`` has those that are recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.readers.common import EMOTIONS, choice, hold_out, one_each, single
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError, unknown_name

LAYOUTS: dict[str, dict[str, int]] = {
    "mmgcn": {
        "ids": 0,
        "speakers": 1,
        "labels": 2,
        "text": 3,
        "audio": 4,
        "vision": 5,
        "train": 7,
        "test": 8,
    },
    "sdt": {
        "ids": 0,
        "speakers": 1,
        "labels": 2,
        "text1": 3,
        "text2": 4,
        "text3": 5,
        "text4": 6,
        "audio": 7,
        "vision": 8,
        "train": 10,
        "test": 11,
    },
}
ROBERTA = {"text1": 2, "text2": 3, "text3": 4, "text4": 5}
FIELDS = (
    "ids",
    "speakers",
    "labels",
    "text",
    "text1",
    "text2",
    "text3",
    "text4",
    "audio",
    "vision",
    "train",
    "valid",
    "test",
)
NEEDED = ("ids", "speakers", "labels", "audio", "vision", "train", "test")
VARIANTS = ("mean", "1", "2", "3", "4")


def read(
    paths: Sequence[Path], fields: str = "", text: str = "mean", classes: str = ",".join(EMOTIONS)
) -> Bundle:
    """Read one pickle, or MMGCN's and the one with four RoBERTa layers beside it (M3NET).

    fields: positions that differ from the known layouts, such as ``text:3,train:7``.
    text: with four text variants, their ``mean`` (what SDT and M3NET feed on after normalising
        each [G]) or one of them, ``1`` to ``4``. classes: names of the label numbers.
    Without a valid set, a tenth of the train dialogues (BALM: 12 of 120).

    Raises:
        InputError: a layout that is not recognised, lengths or dims that differ within a dialogue.
    """
    choice("text", text, VARIANTS)
    _check_count(paths)
    parts = _parts(paths[0], fields)
    if len(paths) == 2:
        parts |= _roberta(paths[1])
    parts = _checked(paths[0], parts)
    split = _split(paths[0], parts)
    features = _features(paths[0], parts, split, text)
    rows = [(d, i) for d in sorted(split) for i in range(len(parts["labels"][d]))]
    return make_bundle(
        paths[0].stem.lower(),
        Task("classes", tuple(classes.split(","))),
        features,
        _labels(paths[0], parts, rows),
        [split[d] for d, _ in rows],
        _names(parts["ids"], rows),
        dialogue=[d for d, _ in rows],
        position=[i for _, i in rows],
        speaker=_speakers(paths[0], parts, rows),
        source=", ".join(p.name for p in paths),
        licence="that of the data set (IEMOCAP: custom, by request from USC)",
        notes={"text": text} if "text1" in parts else {},
    )


def _check_count(paths: Sequence[Path]) -> None:
    if len(paths) not in (1, 2):
        raise InputError(
            "the paths",
            f"{len(paths)} of them",
            "one pickle, or two (the second with RoBERTa features)",
            "Give one or two.",
        )


def _parts(path: Path, fields: str) -> dict[str, Any]:
    content = safe_load(path)
    if not isinstance(content, list | tuple):
        raise InputError(
            str(path),
            f"a {type(content).__name__}",
            "a tuple of dictionaries by dialogue",
            "Give a dialogue pickle such as IEMOCAP_features.pkl.",
        )
    layout = LAYOUTS.get(
        {9: "mmgcn", 10: "mmgcn", 12: "sdt", 13: "sdt"}.get(len(content), ""), {}
    ) | _positions(fields)
    lacking = [f for f in NEEDED if f not in layout]
    if lacking or not ({"text", "text1"} & set(layout)):
        raise InputError(
            str(path),
            _describe(content),
            "9 or 10 parts (MMGCN), or 12 or 13 (SDT)",
            "Name the positions: --option fields=ids:0,speakers:1,labels:2,text:3,audio:4,vision:5,"
            "train:7,test:8",
        )
    beyond = [f"{name}:{place}" for name, place in layout.items() if place >= len(content)]
    if beyond:
        raise InputError(
            str(path),
            f"{beyond[0]} of {len(content)} parts",
            f"positions 0 to {len(content) - 1}",
            "Correct the option fields.",
        )
    parts = {name: content[place] for name, place in layout.items()}
    return parts | {"found": _describe(content)}


def _positions(fields: str) -> dict[str, int]:
    positions = {}
    for item in filter(None, fields.split(",")):
        name, _, place = item.partition(":")
        if name not in FIELDS:
            raise unknown_name("option fields", name, FIELDS)
        if not place.isdecimal():
            raise InputError(
                "option fields",
                repr(item),
                "name:position, counted from 0",
                "Write for example text:3.",
            )
        positions[name] = int(place)
    return positions


def _roberta(path: Path) -> dict[str, Any]:
    content = safe_load(path)
    if (
        not isinstance(content, list | tuple)
        or len(content) != 10
        or not all(isinstance(c, dict) for c in content[:7])
    ):
        raise InputError(
            str(path),
            _describe(content),
            "10 parts: speakers, labels, four RoBERTa layers, sentences "
            "and three sets of dialogues",
            "Give the RoBERTa pickle second, or give the first alone.",
        )
    return {name: content[place] for name, place in ROBERTA.items()}


def _checked(path: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts, of the right types, with strings as keys (MELD's are numbers)."""
    for name in (*NEEDED, *(f for f in FIELDS if f.startswith("text") and f in parts)):
        kinds = (set, frozenset, list, tuple) if name in ("train", "test") else (dict,)
        if not isinstance(parts[name], kinds):
            raise InputError(
                str(path),
                f"{parts['found']}, so {name} is a {type(parts[name]).__name__}",
                f"{name} as a {kinds[0].__name__}",
                "Name the positions with --option fields=name:position,...",
            )
    return {
        n: {str(k): v for k, v in part.items()} if isinstance(part, dict) else part
        for n, part in parts.items()
    }


def _describe(content: Any) -> str:
    if not isinstance(content, list | tuple):
        return f"a {type(content).__name__}"
    return f"{len(content)} parts ({', '.join(type(part).__name__ for part in content)})"


def _split(path: Path, parts: Mapping[str, Any]) -> dict[str, str]:
    names = [name for name in ("train", "valid", "test") if name in parts]
    split = one_each(str(path), {name: [str(d) for d in parts[name]] for name in names})
    lacking = sorted(d for d in split if d not in parts["labels"])
    if lacking:
        raise InputError(
            str(path),
            f"no labels of the dialogue {lacking[0]!r}",
            "labels of every dialogue",
            "Use the original file, or correct the option fields.",
        )
    if "valid" not in names:
        held = hold_out([d for d, s in split.items() if s == "train"])
        split = {d: "valid" if d in held else s for d, s in split.items()}
    return split


def _features(
    path: Path, parts: Mapping[str, Any], split: Mapping[str, str], text: str
) -> dict[str, np.ndarray]:
    features = {"text": _text(path, parts, split, text)}
    for modality in ("audio", "vision"):
        features[modality] = _stack(path, parts[modality], parts["labels"], split, modality)
    return features


def _text(path: Path, parts: Mapping[str, Any], split: Mapping[str, str], text: str) -> np.ndarray:
    if "text1" not in parts:
        return _stack(path, parts["text"], parts["labels"], split, "text")
    variants = ("text1", "text2", "text3", "text4") if text == "mean" else (f"text{text}",)
    lacking = [v for v in variants if v not in parts]
    if lacking:
        raise InputError(
            str(path),
            f"no position for {lacking[0]}",
            "four text variants",
            "Name it in the option fields.",
        )
    stacked = [_stack(path, parts[v], parts["labels"], split, v) for v in variants]
    return np.asarray(np.mean(stacked, axis=0, dtype=np.float64))


def _stack(
    path: Path,
    by_dialogue: Mapping[str, Any],
    labels: Mapping[str, Any],
    split: Mapping[str, str],
    name: str,
) -> np.ndarray:
    arrays = []
    for dialogue in sorted(split):
        try:
            array = single(np.asarray(by_dialogue[dialogue], dtype=np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                str(path),
                f"no numeric {name} features of the dialogue {dialogue!r} ({error!r})",
                "an array (utterances, d)",
                "Correct the option fields.",
            ) from error
        if array.ndim != 2 or len(array) != len(labels[dialogue]):
            raise InputError(
                str(path),
                f"{name} features of shape {array.shape} for the dialogue {dialogue!r}",
                f"({len(labels[dialogue])}, d), one row per label",
                "Correct the option fields.",
            )
        arrays.append(array)
    dims = sorted({a.shape[1] for a in arrays})
    if len(dims) > 1:
        raise InputError(
            str(path),
            f"{name} features of {' and '.join(map(str, dims))} dims",
            "one number of dims",
            "Use the original file.",
        )
    return np.concatenate(arrays)


def _labels(path: Path, parts: Mapping[str, Any], rows: Sequence[tuple[str, int]]) -> np.ndarray:
    values = [parts["labels"][d][i] for d, i in rows]
    whole = [v for v in values if not isinstance(v, int | np.integer)]
    if whole:
        raise InputError(
            str(path), f"the label {whole[0]!r}", "class numbers", "Correct the option fields."
        )
    return np.array(values, dtype=np.int64)


def _speakers(path: Path, parts: Mapping[str, Any], rows: Sequence[tuple[str, int]]) -> list[str]:
    """Speaker names; a one-hot row (as in MELD) becomes its place."""
    speakers = []
    for dialogue, place in rows:
        spoken = parts["speakers"].get(dialogue, ())
        if len(spoken) != len(parts["labels"][dialogue]):
            raise InputError(
                str(path),
                f"{len(spoken)} speakers for the dialogue {dialogue!r}",
                f"{len(parts['labels'][dialogue])}, one per label",
                "Correct the option fields.",
            )
        one = spoken[place]
        speakers.append(
            str(one) if isinstance(one, str | int | np.integer) else f"{int(np.argmax(one)):03d}"
        )
    return speakers


def _names(ids: Mapping[str, Any], rows: Sequence[tuple[str, int]]) -> list[str]:
    """The utterances' ids; those made from dialogue and place, where the file has one twice."""
    names = [_name(ids, d, i) for d, i in rows]
    return names if len(set(names)) == len(names) else [f"{d}_{i:03d}" for d, i in rows]


def _name(ids: Mapping[str, Any], dialogue: str, place: int) -> str:
    names = ids.get(dialogue, ())
    if (
        isinstance(names, list | tuple | np.ndarray)
        and len(names) > place
        and isinstance(names[place], str)
    ):
        return str(names[place])
    return f"{dialogue}_{place:03d}"
