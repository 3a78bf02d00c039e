"""An exported model: its folder, and what it predicts.

The folder holds ``model.json`` (what the model is, takes and gives; see ``card``) and ``weights.safetensors``. Neither
can carry code. The file of the weights is the one that has the sum that ``model.json`` names, and every array in it
has the shape that the network has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from scipy.special import softmax
from torch.overrides import TorchFunctionMode

from mmlib import files
from mmlib.backbones import build_backbone
from mmlib.data.bounded import is_regular
from mmlib.data.bundle import SPLITS, Bundle, Task
from mmlib.data.scaling import floats
from mmlib.data.unlabelled import Unlabelled, to_predict
from mmlib.errors import InputError, unknown_name
from mmlib.fit import evaluation_batches, pick_device, predict
from mmlib.masks import Mask
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import to_device
from mmlib.runs.card import CARD, Card, damaged, read_card
from mmlib.runs.fitting import fitted

WEIGHTS = "weights.safetensors"
NEW_WEIGHTS = "weights.new.safetensors"  # there while an export replaces another, and after one that was killed
BLOCK = 2**20
# What a network may make while it is built, of what its weights are; those here make at most 1.4 times as many arrays,
# 3 times as many values and 9 calls of torch for each array. A file that asks for more does not describe its weights.
VALUES, ARRAYS, CALLS = 8, 4, 100
LEAST_VALUES, LEAST_ARRAYS = 2**22, 1000
FACTORIES = (torch.empty, torch.eye, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros)
FAULTS = (  # what building from a file that describes no network raises
    AssertionError,
    AttributeError,
    InputError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)


@dataclass(frozen=True)
class Model:
    """A trained network, and what it takes."""

    card: Card
    """What the model says of itself."""

    method: Plain
    """The network with its method, in evaluation mode."""

    def __repr__(self) -> str:
        """What it takes and says, in a line."""
        task = self.card.task
        says = f"classes {', '.join(task.names)}" if task.names else f"a {task.kind}"
        takes = ", ".join(f"{name} {dim}" for name, dim in self.card.dims.items())
        return f"<mmlib model: {self.method.__class__.__name__} of {takes}; {says}>"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, alphabetical."""
        return tuple(self.card.modalities)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or of the binary labels; none for a score."""
        return self.card.task.names

    def predict(
        self,
        features: Mapping[str, np.ndarray],
        observed: np.ndarray | Mapping[str, np.ndarray] | None = None,
        *,
        dialogue: Sequence[Any] | None = None,
        speaker: Sequence[Any] | None = None,
        lengths: Mapping[str, np.ndarray] | None = None,
        scaled: bool = False,
    ) -> np.ndarray:
        """Probabilities or scores of n utterances, from raw features.

        features: modality to (n, d), or (n, t, d) with ``lengths``; a modality that is left out is missing everywhere.
        observed: where a modality is there, modality to (n,) bool, or (n, M) bool in the order of the modalities'
            names; all where None. What is not observed may hold any values, NaN too.
        dialogue: (n,) the dialogue of each utterance, rows of one in their order; each is its own where None.
        speaker: (n,) the speaker of each utterance, for networks that use them.
        scaled: the features are standardised already with the model's own means and sds.

        Returns:
            (n, C) the probability of each class; (n,) scores; (n, K) for binary labels the probability of each.

        Raises:
            InputError: other names or shapes, or features on another scale.
        """
        name = "features"
        arrays = {m: _numbers(m, values) for m, values in sorted(features.items())}
        if not arrays:
            raise InputError(name, "no modality", "one at least", "Give its features.")
        n = len(next(iter(arrays.values())))
        rows = Unlabelled(
            name,
            arrays,
            _flags(arrays, observed, n),
            [f"{row:010d}" for row in range(n)],
            lengths or {},
            dialogue=dialogue,
            speaker=speaker,
        )
        given = to_predict(rows, self.card.task)
        if scaled:
            given = dataclasses.replace(given, scaling=self._own_scaling(arrays))
        return probabilities(self.card.task, self.outputs(fitted(self.card, given).bundle))

    def _own_scaling(self, names: Mapping[str, object]) -> dict[str, Any]:
        own = {m: of.scale for m, of in self.card.modalities.items() if of.standardised}
        if not own:
            raise InputError(
                "scaled",
                "features said to be standardised",
                "raw ones, which the model was trained on",
                "Give raw features, without scaled=True.",
            )
        return {m: scale for m, scale in own.items() if m in names}

    def outputs(
        self,
        bundle: Bundle,
        masks: Mapping[str, Mask] | None = None,
        splits: Sequence[str] = SPLITS,
    ) -> np.ndarray:
        """What the network gives for the utterances of a bundle, (n, C) logits or (n, 1) scores, rows as they stand.

        bundle: as ``fitting.fitted`` makes it. masks: by split, what is observed; what the bundle has where None.
        Splits go through the network one after the other, as in a run. Rows of others, or that a mask leaves out, are
        NaN.
        """
        device = next(self.method.parameters()).device
        result = np.full((len(bundle), self.card.task.outputs), np.nan, dtype=np.float32)
        for split in splits:
            rows = bundle.rows(split)
            mask = (masks or {}).get(split) or Mask(bundle.observed[rows])
            if len(rows):
                batches = evaluation_batches(to_device(bundle, split, mask, device))
                result[mask.of(rows)] = predict(self.method, batches)[""].cpu().numpy()
        return result


def load_model(folder: str | Path) -> Model:
    """The model in a folder that ``mmlib export`` wrote; read again where an export has replaced it meanwhile.

    Raises:
        InputError: no model there, or one that is damaged or describes no network of this version.
    """
    folder = Path(folder)
    while True:
        before = _stamps(folder)
        try:
            model = _load(folder)
        except InputError:
            if _stamps(folder) == before:
                raise
            continue
        if _stamps(folder) == before:
            return model


def _stamps(folder: Path) -> list[object]:
    return [files.stamp(folder / name) for name in (CARD, WEIGHTS, NEW_WEIGHTS)]


def _load(folder: Path) -> Model:
    card = read_card(folder)
    path = weights_file(folder, card)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            method = build(card, shapes)
            _check_shapes(method, shapes)
            method.load_state_dict({name: file.get_tensor(name) for name in shapes})
    except FAULTS as error:
        raise damaged(folder, f"{type(error).__name__}: {error}") from error
    method.requires_grad_(False)
    return Model(card, method.to(pick_device()).eval())


def weights_file(folder: Path, card: Card) -> Path:
    """The file of the weights that a card names.

    Raises:
        InputError: none, or others.
    """
    there = [path for path in (folder / WEIGHTS, folder / NEW_WEIGHTS) if is_regular(path)]
    try:
        for path in there:
            if _sum(path) == card.content["weights"]:
                return path
    except OSError as error:  # one that cannot be read, or that an export has just put in its place
        raise damaged(folder, str(error)) from error
    what = f"{WEIGHTS} has changed since the export" if there else f"no file {WEIGHTS}"
    raise damaged(folder, what)


def build(card: Card, shapes: Mapping[str, tuple[int, ...]]) -> Plain:
    """The method of a card with first weights; the state of torch's generator stays as it was.

    shapes: of its weights, by name.

    Raises:
        InputError, ValueError: names, options or sizes that describe no network with such weights.
    """
    spec = card.spec
    outputs, counts = card.task.outputs, card.content["class_counts"]
    with torch.random.fork_rng(devices=[]), _Bounded(shapes):
        torch.manual_seed(spec.seed)
        backbone = build_backbone(
            spec.backbone, card.dims, outputs, card.speakers, spec.backbone_options
        )
        return build_method(
            spec.method, spec.variant, spec.options, backbone, card.task, card.dims, counts
        )


class _Bounded(TorchFunctionMode):
    """No more values, arrays and calls of torch, all together, than a network with such weights needs."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        values = sum(math.prod(shape) for shape in shapes.values())
        self.values = VALUES * values + LEAST_VALUES
        self.arrays = ARRAYS * len(shapes) + LEAST_ARRAYS
        self.calls = CALLS * self.arrays

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call torch, once it is known how much a new array holds."""
        given = kwargs or {}
        if func in FACTORIES:
            self._count(func(*args, **{**given, "device": "meta"}), arrays=1)
            return func(*args, **given)
        made = func(*args, **given)
        self._count(made)
        return made

    def _count(self, made: object, arrays: int = 0) -> None:
        self.calls -= 1
        self.arrays -= arrays
        self.values -= made.numel() if isinstance(made, torch.Tensor) else 0
        if min(self.calls, self.arrays, self.values) < 0:
            raise ValueError("its options describe a larger network than its weights are of")


def _check_shapes(method: Plain, shapes: Mapping[str, tuple[int, ...]]) -> None:
    own = {name: tuple(value.shape) for name, value in method.state_dict().items()}
    lacking, surplus = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
    if lacking or surplus:
        raise ValueError(
            f"no weights {lacking[0]!r}" if lacking else f"the unknown weights {surplus[0]!r}"
        )
    for name, shape in own.items():
        if shapes[name] != shape:
            raise ValueError(f"weights {name!r} of shape {shapes[name]} instead of {shape}")


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def probabilities(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What outputs (n, C) say: (n, C) probabilities of classes, (n,) scores, or (n, K) of each binary label."""
    if task.kind == "score":
        return outputs[:, 0].astype(np.float64)
    if task.kind == "binaries":
        pairs = outputs.reshape(len(outputs), -1, 2).astype(np.float64)
        return np.asarray(softmax(pairs, axis=2)[:, :, 1])
    return np.asarray(softmax(outputs.astype(np.float64), axis=1))


def _numbers(modality: str, values: np.ndarray) -> np.ndarray:
    """As ``floats``; bytes as they are."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.ndim < 2:
        raise InputError(
            f"features, {modality}",
            f"an array of {array.dtype} and shape {array.shape}",
            "real numbers, a row for each utterance",
            "Give (n, d) or (n, t, d).",
        )
    return array if array.dtype == np.uint8 else floats(array)


def _flags(
    features: Mapping[str, np.ndarray],
    observed: np.ndarray | Mapping[str, np.ndarray] | None,
    n: int,
) -> np.ndarray:
    """(n, M) whether each modality that is given is observed."""
    names = list(features)
    if not isinstance(observed, Mapping):
        flags = np.ones((n, len(names))) if observed is None else np.asarray(observed)
    else:
        for name in observed:
            if name not in features:
                raise unknown_name("observed, modality", name, names)
        columns = [np.asarray(observed.get(m, np.ones(n))) for m in names]
        if {column.shape for column in columns} != {(n,)}:
            raise InputError(
                "observed", "columns of other lengths", f"({n},) each", "Give a value per row."
            )
        flags = np.stack(columns, axis=1)
    if flags.dtype.kind not in "biuf" or not np.isin(flags, (0, 1)).all():
        raise InputError(
            "observed",
            f"an array of {flags.dtype}",
            "true or false",
            "Give True where it is there.",
        )
    return flags.astype(bool)
