"""What one run is, and the name that follows from it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmlib.errors import InputError, unknown_name
from mmlib.files import stamp
from mmlib.masks import Law, complete, family, law_from_json

KEEP = ("weights", "last", "embeddings", "series", "gradients", "found", "curves", "picked")
DECIDING = ("masks", "metrics", "nn", "backbones", "methods", "fit")
SELECTIONS = ("valid", "test", "last")  # whose epochs a record has results of
OPTIMIZERS = ("adam", "sgd", "momentum")
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Training:
    """How long and how fast a run trains."""

    epochs: int = 12
    """Always as many: there is no early stopping (design, section 3)."""

    batch: int = 16
    """Dialogues per step."""

    lr: float = 3e-4
    """The learning rate."""

    weight_decay: float = 3e-5
    """The optimizer's penalty on the size of the weights."""

    optimizer: str = "adam"
    """One of ``OPTIMIZERS``, of which ``momentum`` is SGD with momentum 0.9."""

    clip: float = 2.0
    """Largest global gradient norm, or 0 for none."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("lr", self.lr, 0.0),
            ("weight_decay", self.weight_decay, 0.0),
            ("clip", self.clip, 0.0),
        ):
            if not least <= value < float("inf"):
                raise InputError(
                    f"training {name}", str(value), f"a number of {least} or more", "Correct it."
                )


@dataclass(frozen=True)
class RunSpec:
    """One training, evaluated under any number of test masks."""

    data: str
    """A reference that ``mmlib.data.catalog.open_bundle`` understands."""

    seed: int
    """Decides the first weights, the masks and the order of the batches."""

    method: str = "plain"
    """A name in ``METHODS``."""

    variant: str = "paper"
    """A named variant of the method."""

    options: Options = ()
    """Fields of the method that differ from its variant's."""

    backbone: str = "mmgcn"
    """A name in ``BACKBONES``."""

    backbone_options: Options = ()
    """Fields of the backbone that differ from its defaults."""

    modalities: tuple[str, ...] = ()
    """Train and test with these alone; all where empty."""

    fold: int | None = None
    """Fold number, for bundles with folds."""

    train_mask: Law = dataclasses.field(default_factory=complete)
    """The law of the train masks, and of the validation mask where ``valid_mask`` gives no other."""

    eval_masks: tuple[tuple[str, Law], ...] = (("test", complete()),)
    """(name, law) pairs for test; the first is the main one."""

    training: Training = Training()
    """How long and how fast it trains."""

    keep: tuple[str, ...] = ()
    """Any of ``KEEP``, stored beside the predictions.

    ``weights`` are those of the epoch that validation picks, ``last`` those of the last epoch with what the optimizer
    remembers. ``embeddings`` are what the method makes of the test utterances, ``series`` what it notes at each step,
    ``gradients`` beside that how fast each modality's own parameters learn (``runs.gradients``).
    ``found`` is what the method found before epochs, which the record has only where it is small. ``curves``: compact
    records carry the curves under every test mask. ``picked``: test masks but the main one are evaluated only at the
    epochs that validation and the end pick, which spares time where there are many."""

    parent: RunSpec | None = None
    """A run whose weights this one starts from; it is run once and shared."""

    valid_mask: Law | None = None
    """The law of the validation mask, where it is not that of the train masks."""

    draws: int = 1
    """How often each random test mask is drawn: a metric is the mean over the draws (design, section 7)."""

    def __post_init__(self) -> None:
        for name in self.keep:
            if name not in KEEP:
                raise unknown_name("keep", name, KEEP)
        if self.parent is not None and not {"weights", "last"} & set(self.parent.keep):
            raise InputError(
                "run, parent",
                "a parent that keeps no weights",
                "'weights' (of the best epoch) or 'last' in its keep",
                "Add one: the child starts from them.",
            )
        if {"weights", "last"} <= set(self.keep):
            raise InputError("run, keep", "weights and last", "one of them", "Choose the epoch.")
        if self.draws < 1:
            raise InputError("run, draws", str(self.draws), "1 or more", "Correct it.")
        if not self.eval_masks:
            raise InputError("run", "no test mask", "at least one", "Give eval_masks.")
        names = [name for name, _ in self.eval_masks]
        if len(set(names)) < len(names):
            raise InputError(
                "run, eval_masks", f"the names {', '.join(names)}", "each name once", "Rename one."
            )

    def key(self, fingerprint: str) -> str:
        """Hash of everything that decides the numbers but the code: spec and data, not the data's name."""
        # No field, so it plays no part in equality: a table asks for the key of one spec many times.
        known: dict[str, str] = self.__dict__.setdefault("_keys", {})
        if fingerprint not in known:
            known[fingerprint] = _key(self, repr(self), fingerprint)
        return known[fingerprint]

    def run_id(self, fingerprint: str) -> str:
        """``key-numerics``: a record with the same key and another suffix is stale."""
        return f"{self.key(fingerprint)}-{self.numerics}"

    @property
    def numerics(self) -> str:
        """Version of the code that decides this run's numbers, its parents' included."""
        own = numerics_version(self.method, self.backbone, self.families)
        if self.parent is None:
            return own
        return hashlib.sha256(f"{own} {self.parent.numerics}".encode()).hexdigest()[:8]

    @property
    def laws(self) -> list[Law]:
        """Every mask law that the run draws from."""
        validation = [self.valid_mask] if self.valid_mask is not None else []
        return [self.train_mask, *validation, *(law for _, law in self.eval_masks)]

    @property
    def families(self) -> tuple[str, ...]:
        """The modules, under mmlib, whose code draws its masks."""
        return tuple(sorted({family(law) for law in self.laws}))

    def to_json(self) -> dict[str, Any]:
        """Plain containers, the same for equal specs."""
        plain: dict[str, Any] = json.loads(json.dumps(self, default=_fields))
        return _as_stored(plain)


def _fields(part: Any) -> dict[str, Any]:
    """What stands in a dataclass for JSON; ``dataclasses.asdict`` copies it all first, which takes longer."""
    return {each.name: getattr(part, each.name) for each in dataclasses.fields(part)}


@cache
def _key(spec: RunSpec, _: str, fingerprint: str) -> str:
    """Of a spec and its text: True equals 1, but a spec with the one has another key than one with the other."""
    text = json.dumps([_without_data(spec.to_json()), fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def spec_from_json(data: Mapping[str, Any]) -> RunSpec:
    """A spec from what ``to_json`` gave."""
    fields = dict(data)
    fields["options"] = _pairs(fields["options"])
    fields["backbone_options"] = _pairs(fields["backbone_options"])
    fields["modalities"] = tuple(fields["modalities"])
    fields["keep"] = tuple(fields["keep"])
    fields["train_mask"] = law_from_json(fields["train_mask"])
    fields["eval_masks"] = tuple((name, law_from_json(law)) for name, law in fields["eval_masks"])
    if "valid_mask" in fields:
        fields["valid_mask"] = law_from_json(fields["valid_mask"])
    fields["training"] = Training(**fields["training"])
    fields["parent"] = spec_from_json(fields["parent"]) if fields["parent"] else None
    return RunSpec(**fields)


@cache
def numerics_version(
    method: str, backbone: str, families: tuple[str, ...] = ("masks.fixed",)
) -> str:
    """Hash of the code that decides a run's numbers: 8 hexadecimal digits.

    The modules are fit, the method, the backbone, how masks are drawn, the families of mask laws that the run names,
    and what these import of masks, metrics, nn, backbones and methods; a new layer, method or law that a run does not
    use leaves its version alone. Docstrings, comments, type annotations and what only these import do not count.

    families: modules of mask laws, such as ``masks.fixed``.
    """
    digest = hashlib.sha256()
    for name in sorted(numerics_modules(method, backbone, families)):
        digest.update(f"{name} {code_without_words(_text(name))}".encode())
    return digest.hexdigest()[:8]


def numerics_modules(
    method: str, backbone: str, families: Iterable[str] = ("masks.fixed",)
) -> set[str]:
    """The modules, under mmlib, whose code the numerics version hashes."""
    return _imported({"fit", f"methods.{method}", f"backbones.{backbone}", "masks.draw", *families})


def code_without_words(source: str) -> str:
    """The syntax tree of Python source without what only people and type checkers read.

    Left out are docstrings and other bare strings, and annotations.
    """
    return _read(source)[0]


@cache  # the same few files decide many runs
def _read(source: str) -> tuple[str, frozenset[str]]:
    """``code_without_words`` of a file, and the modules of mmlib that it may import, names of things in them too."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mmlib."):
            module = node.module.removeprefix("mmlib.")
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and node.body:
            node.body = [line for line in node.body if not _is_bare_string(line)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return _skeleton(tree), frozenset(names)


def _is_bare_string(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(getattr(line.value, "value", None), str)


def _skeleton(node: Any) -> str:
    """A syntax tree as text; fields that are empty are left out, since Python versions differ in those."""
    if isinstance(node, ast.AST):
        fields = [
            f"{k}={_skeleton(v)}" for k, v in ast.iter_fields(node) if v is not None and v != []
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    return "[" + ", ".join(map(_skeleton, node)) + "]" if isinstance(node, list) else repr(node)


def _imported(names: set[str]) -> set[str]:
    """Those modules and, again and again, what they import of the folders that decide numbers."""
    modules: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        if not _module(name).exists():
            continue
        modules.add(name)
        imports = _read(_text(name))[1]
        left |= {other for other in imports if other.split(".")[0] in DECIDING} - modules
    return modules


def _text(name: str) -> str:
    """A module's source, read once for each of its stamps: each of ninety versions asks for some twenty modules."""
    path = _module(name)
    return _text_of(path, stamp(path))


@cache
def _text_of(path: Path, stamped: object) -> str:
    return path.read_text(encoding="utf-8")


def _module(name: str) -> Path:
    return _package(__file__) / f"{name.replace('.', '/')}.py"


@cache  # thousands of modules are asked for, and each resolution asks the file system
def _package(file: str) -> Path:
    return Path(file).resolve().parent.parent


def _as_stored(content: dict[str, Any]) -> dict[str, Any]:
    """Without what is not set of the fields that came later: older records keep their names.

    These are a validation law that is the training's, one draw of each test mask, and parameters of laws that have
    none.
    """
    unset = {"valid_mask": None, "draws": 1}
    stored = {k: v for k, v in content.items() if k not in unset or v != unset[k]}
    for name in stored.keys() & {"train_mask", "valid_mask"}:
        stored[name] = _law_as_stored(stored[name])
    stored["eval_masks"] = [[name, _law_as_stored(law)] for name, law in content["eval_masks"]]
    stored["parent"] = content["parent"] and _as_stored(content["parent"])
    return stored


def _law_as_stored(law: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in law.items() if k != "parameters" or v}


def _without_data(content: dict[str, Any]) -> dict[str, Any]:
    parent = content["parent"] and _without_data(content["parent"])
    return {key: _plain(value) for key, value in content.items() if key != "data"} | {
        "parent": parent
    }


def _plain(value: Any) -> Any:
    """Whole numbers as floats all the way down: equal specs have equal text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _pairs(value: Any) -> Options:
    return tuple((str(k), tuple(v) if isinstance(v, list) else v) for k, v in value)
