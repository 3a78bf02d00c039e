"""Predictions of an exported model for a bundle or a folder of features, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmlib import files
from mmlib.data.bundle import SPLITS, Bundle, Task
from mmlib.data.catalog import TABLE, is_bundle, open_bundle
from mmlib.data.described import formula_warnings, printable
from mmlib.data.readers.folder import read_unlabelled
from mmlib.data.unlabelled import Unlabelled, to_predict
from mmlib.errors import InputError
from mmlib.runs.card import Card
from mmlib.runs.fitting import fitted
from mmlib.runs.model import Model, load_model, probabilities


def predict_to(model_folder: Path, reference: str, out: Path) -> list[str]:
    """Write a model's predictions for a bundle, or for a folder of features, as CSV; what a user should know of them.

    A row for each utterance, in the order of the folder's table or of a bundle's ids: id, split (where it is known),
    missing (the modalities that it lacks, joined by plus signs), prediction, and of classes and binary labels the
    probability of each as ``p_NAME``. The prediction of binary labels is the names of those that are more likely than
    not.

    Raises:
        InputError: no model, no such data, features that the model does not take, or a file that cannot be written.
    """
    _check_out(out)
    model = load_model(model_folder)
    given, rows = _opened(reference, model.card)
    ready = fitted(model.card, given)
    frame = prediction_table(model, ready.bundle)
    if rows is not None:
        frame = frame.set_index("id", drop=False).loc[list(rows.ids)]
        frame = frame.drop(columns=[] if rows.split is not None else ["split"])
    files.write(out, frame.to_csv(index=False, lineterminator="\n").encode("utf-8"))
    told = [
        *_model_lines(model.card),
        *ready.notes,
        *_missing_lines(ready.bundle),
        *formula_warnings(ready.bundle),
        f"written: {out}",
    ]
    return [printable(line) for line in told]


def _check_out(out: Path) -> None:
    """Refuse to write over a file that is no earlier prediction, such as the table of the data."""
    with files.explained(out):
        if out.is_dir():
            raise InputError("--out", f"{out}, a folder", "a CSV file", "Give the file a name.")
        begins = b""
        if out.exists():
            with out.open("rb") as file:
                begins = file.read(200)
    columns = begins.splitlines()[0].split(b",") if begins else []
    if begins and not {b"id", b"missing", b"prediction"} <= set(columns):
        raise InputError(
            "--out",
            f"{out}, a file that is no prediction",
            "a new file, or an earlier prediction",
            "Give another name, or remove what is there.",
        )


def prediction_table(model: Model, bundle: Bundle) -> pd.DataFrame:
    """The predictions for the utterances of a bundle that ``fitted`` has made, a row each."""
    task = model.card.task
    values = probabilities(task, model.outputs(bundle))
    if not np.isfinite(values).all():
        raise InputError(
            f"the predictions for {bundle.name}", "NaN", "numbers", "Check the features."
        )
    missing = [
        "+".join(m for m, there in zip(bundle.modalities, row, strict=True) if not there)
        for row in bundle.observed
    ]
    columns: dict[str, Sequence[object]] = {
        "id": list(bundle.ids),
        "split": [SPLITS[number] for number in bundle.split],
        "missing": missing,
        "prediction": _decided(task, values),
    }
    if task.kind != "score":
        columns |= {f"p_{name}": list(values[:, k]) for k, name in enumerate(task.names)}
    return pd.DataFrame(columns)


def _decided(task: Task, values: np.ndarray) -> Sequence[object]:
    if task.kind == "score":
        return list(values)
    if task.kind == "classes":
        return [task.names[k] for k in values.argmax(axis=1)]
    names = np.array(task.names)
    return ["+".join(names[row]) for row in values > 0.5]


def _opened(reference: str, card: Card) -> tuple[Bundle, Unlabelled | None]:
    """What is to be predicted, and its rows as a folder has them."""
    folder = Path(reference)
    if _is_there(folder / TABLE):
        rows = read_unlabelled(folder)
        return to_predict(rows, card.task), rows
    try:
        bundle = open_bundle(reference)
    except InputError as error:
        if not _is_there(folder) or is_bundle(folder):
            raise
        raise InputError(
            reference,
            f"no {TABLE} in it",
            "one, with the ids of the rows",
            "Add it, or check the path.",
        ) from error
    if card.spec.fold is not None and bundle.fingerprint == card.content["data"]["fingerprint"]:
        bundle = bundle.with_fold(card.spec.fold)
    return bundle, None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a path may be, or with a null character
        return False


def _model_lines(card: Card) -> list[str]:
    spec, data = card.spec, card.content["data"]
    lines = [
        f"model: {spec.method} ({spec.variant}) over {spec.backbone}, run {card.run_id}, trained on {data['name']} "
        f"(fingerprint {data['fingerprint']})"
    ]
    return lines + ([f"scores: {data['neutral']}"] if data["neutral"] else [])


def _missing_lines(bundle: Bundle) -> list[str]:
    lacking = (~bundle.observed).sum(axis=0)
    each = ", ".join(
        f"{m} in {count:,}" for m, count in zip(bundle.modalities, lacking, strict=True) if count
    )
    lines = [f"utterances: {len(bundle):,}; missing: {each or 'nothing'}"]
    empty = int((~bundle.observed.any(axis=1)).sum())
    if empty:
        lines.append(
            f"WARNING: {empty:,} utterances lack every modality: what is predicted for them comes from the rest of "
            "their dialogue, or from nothing."
        )
    return lines
