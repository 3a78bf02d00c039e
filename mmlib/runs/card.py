"""What an exported model says of itself: the content of ``model.json``, made from a run or read from a folder.

The file is plain JSON. Whatever stands in it is held to its form before anything is built from it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bounded import JSON_BYTES, parse_json, read_bounded
from mmlib.data.bundle import Bundle, Task
from mmlib.data.bundle_file import SCALING, TASK
from mmlib.data.described import printable
from mmlib.data.forms import check_form, flag, listed, named, optional, table, text, whole
from mmlib.data.groups import NAMES
from mmlib.data.readers.label_column import in_one_line
from mmlib.data.scaling import Scaling, standardise
from mmlib.errors import InputError
from mmlib.names import check_modality
from mmlib.runs.spec import RunSpec, spec_from_json

FORMAT = 1
CARD = "model.json"
CONTENT = {
    "run": table,
    "task": table,
    "modalities": named(table),
    "left_out": listed(text),
    "speakers": whole,
    "class_counts": listed(whole),
    "data": table,
    "tests": named(table),
    "weights": text,
}
SINCE = {"speaker_names": listed(text), "speakers_trained": listed(whole)}  # older cards lack them
RUN = {"id": text, "spec": table}
DATA = {"name": text, "fingerprint": text, "neutral": text}
MODALITY = {"shape": listed(whole), "pixels": flag, "standardised": flag}
MODALITY_SCALE = {"scale": optional(table)}
MOST_AXES = 4
SUM = "sha256"  # of all else in the file


@dataclass(frozen=True)
class Modality:
    """What a model knows of a modality's features."""

    shape: tuple[int, ...]
    """Of one utterance: (d,), (t, d) with the longest sequence's t, (c, h, w) or (k, c, h, w)."""

    pixels: bool
    """Whether they are bytes."""

    standardised: bool
    """Whether the network takes them less the mean and over the sd of ``scale``."""

    scale: Scaling | None
    """Mean and sd, (d,) each, of raw features in training; None of pictures, and where training had none."""


@dataclass(frozen=True)
class Card:
    """What is needed to build a model, and to hold features to what it takes."""

    content: Mapping[str, Any]
    """All that stands in the file."""

    spec: RunSpec
    """The run's."""

    task: Task
    """What is predicted."""

    modalities: Mapping[str, Modality]
    """By name, alphabetical."""

    @property
    def run_id(self) -> str:
        """The run's, ``key-numerics``."""
        return str(self.content["run"]["id"])

    @property
    def dims(self) -> dict[str, int]:
        """What a network's first layer has to fit, as ``Bundle.dims``."""
        shapes = {m: of.shape for m, of in self.modalities.items()}
        return {m: shape[-3] if len(shape) > 2 else shape[-1] for m, shape in shapes.items()}

    @property
    def left_out(self) -> tuple[str, ...]:
        """The data's modalities that the run was not trained with."""
        return tuple(self.content["left_out"])

    @property
    def speakers(self) -> int:
        """How many speakers the data had."""
        return int(self.content["speakers"])

    @property
    def speaker_names(self) -> tuple[str, ...]:
        """The names of the data's speakers in the order of their numbers; none where they are not known."""
        names = tuple(self.content.get("speaker_names", ()))
        return names if len(names) == self.speakers else ()

    @property
    def speakers_trained(self) -> frozenset[int]:
        """The numbers of the speakers whom training had."""
        return frozenset(self.content.get("speakers_trained", ()))


def modalities_of(bundle: Bundle) -> dict[str, Modality]:
    """What a model that was trained on a bundle knows of its modalities."""
    return {m: _modality(bundle, m) for m in bundle.modalities}


def _modality(bundle: Bundle, name: str) -> Modality:
    part, own = bundle.counted(name), bundle.scaling.get(name)
    scale = own or (standardise(part, None)[1] if part.scales else None)
    return Modality(bundle.shapes[name], part.values.dtype == np.uint8, own is not None, scale)


def make_card(
    record: Mapping[str, Any],
    bundle: Bundle,
    left_out: tuple[str, ...],
    class_counts: list[int],
    tests: Mapping[str, Any],
    version: str,
    weights: str,
) -> Card:
    """The card of a run's model.

    bundle: what it was trained on. version: of this library. weights: the sha256 of the file of its weights.
    """
    run = {name: record[name] for name in ("id", "numerics", "spec", "parameters")}
    content = {
        "format": FORMAT,
        "mmlib": version,
        "run": run,
        "task": {"kind": bundle.task.kind, "names": bundle.task.names, "range": bundle.task.range},
        "modalities": {
            m: {
                "shape": of.shape,
                "pixels": of.pixels,
                "standardised": of.standardised,
                "scale": of.scale and {key: list(of.scale[key]) for key in SCALING},
            }
            for m, of in modalities_of(bundle).items()
        },
        "left_out": left_out,
        "speakers": bundle.speakers,
        "speaker_names": bundle.notes.get(NAMES, []),
        "speakers_trained": sorted(set(bundle.speaker[bundle.rows("train")].tolist())),
        "class_counts": class_counts,
        "data": {
            "name": bundle.name,
            "fingerprint": record["fingerprint"],
            "neutral": str(bundle.notes.get("neutral", "")),
        },
        "tests": tests,
        "weights": weights,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return _parsed(plain)


def to_text(card: Card) -> bytes:
    """``model.json``; numbers that JSON does not have are null."""
    return json.dumps(summed(_finite(card.content)), indent=1, allow_nan=False).encode("utf-8")


def summed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the sum that shows whether somebody has changed it since."""
    return {**content, SUM: _sum(content)}


def _sum(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != SUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_card(folder: Path) -> Card:
    """The card of an exported model.

    Raises:
        InputError: no model there, one of another format, or a damaged one.
    """
    path = folder / CARD
    if not path.exists():
        raise InputError(
            str(folder), f"no {CARD}", "a folder that `mmlib export` wrote", "Check the path."
        )
    content = read_bounded(path, JSON_BYTES)
    try:
        parsed: dict[str, Any] = parse_json(content)
        check_form(CARD, parsed, {"format": whole}, {})
        if parsed["format"] == FORMAT:
            if parsed.get(SUM) != _sum(parsed):
                raise ValueError(f"{CARD} has changed since the export")
            return _parsed(parsed)
    except (
        AttributeError,
        InputError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise damaged(folder, str(error)) from error
    raise InputError(
        str(path), f"format {parsed['format']}", f"format {FORMAT}", "Export the run again."
    )


def damaged(folder: Path, why: str) -> InputError:
    """The error for a folder that is no longer what an export wrote."""
    return InputError(
        str(folder),
        f"a damaged model ({printable(why[:300])})",
        "what `mmlib export` wrote",
        "Copy the folder again, or export the run again.",
    )


def _parsed(content: dict[str, Any]) -> Card:
    """The card in a file's content.

    Raises:
        ValueError, InputError: another form, or values that no model has.
    """
    check_form(CARD, content, CONTENT, SINCE)
    check_form("run", content["run"], RUN, {})
    check_form("data", content["data"], DATA, {})
    check_form("task", content["task"], TASK, {})
    if content["speakers"] < 1 or min(content["class_counts"], default=0) < 0:
        raise ValueError("counts below what there can be")
    task = content["task"]
    _check_classes(task["names"])
    bounds = tuple(task["range"]) if task["range"] else None
    return Card(
        content,
        spec_from_json(content["run"]["spec"]),
        Task(task["kind"], tuple(task["names"]), bounds),
        {m: _parsed_modality(m, of) for m, of in sorted(content["modalities"].items())},
    )


def _check_classes(names: Sequence[str]) -> None:
    """Refuse names that no table can show, or that two classes share.

    Raises:
        ValueError: a name that is empty, has a control character, is no Unicode text, or comes twice.
    """
    for name in names:
        surrogate = any("\ud800" <= mark <= "\udfff" for mark in name)
        if not name.strip() or surrogate or not in_one_line(name):
            raise ValueError(f"the class {name!r}, which no table can show")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the class {twice!r} twice")


def _parsed_modality(name: str, of: Mapping[str, Any]) -> Modality:
    check_modality(CARD, name)
    check_form(name, of, MODALITY | MODALITY_SCALE, {})
    shape = tuple(of["shape"])
    if not 1 <= len(shape) <= MOST_AXES or min(shape) < 1:
        raise ValueError(f"{name} of shape {shape}")
    if of["scale"] is not None:
        check_form(f"scale of {name}", of["scale"], SCALING, {})
        mean, sd = of["scale"]["mean"], of["scale"]["sd"]
        if {len(mean), len(sd)} != {shape[-1]} or min(sd) <= 0:
            raise ValueError(f"a scale of {name} that does not fit its dimensions")
    elif of["standardised"]:
        raise ValueError(f"{name} standardised, without its scale")
    return Modality(shape, of["pixels"], of["standardised"], of["scale"])


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value
