"""A run's name: what it depends on, and what it must not depend on."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmlib import masks
from mmlib.backbones import BACKBONES
from mmlib.errors import InputError
from mmlib.methods import METHODS
from mmlib.runs import spec as spec_module
from mmlib.runs.spec import RunSpec, Training, code_without_words, numerics_version, spec_from_json

PACKAGE = Path(spec_module.__file__).resolve().parent.parent
STAGE = RunSpec("toys", 3, keep=("weights",))
FULL = RunSpec(
    "toys",
    7,
    method="balm",
    variant="released",
    options=(("tau", 0.3), ("noise", False)),
    backbone_options=(("hidden", 16), ("recurrent", ("text", "audio"))),
    modalities=("audio", "text"),
    fold=2,
    train_mask=masks.imbalanced({"audio": 0.3, "text": 0.5}),
    eval_masks=(("main", masks.shared(0.5)), ("text", masks.subset(["text"]))),
    training=Training(epochs=3, optimizer="sgd"),
    keep=("weights", "series"),
    parent=STAGE,
)
CHANGES: list[dict[str, Any]] = [
    {"seed": 8},
    {"method": "plain"},
    {"variant": "paper"},
    {"options": (("tau", 0.4), ("noise", False))},
    {"backbone_options": ()},
    {"modalities": ()},
    {"fold": 1},
    {"train_mask": masks.shared(0.4)},
    {"eval_masks": FULL.eval_masks[:1]},
    {"eval_masks": FULL.eval_masks[::-1]},
    {"keep": ()},
    {"parent": None},
    {"training": Training(epochs=4, optimizer="sgd")},
    {"parent": dataclasses.replace(STAGE, seed=4)},
    {"valid_mask": masks.shared(0.5)},
]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that ``numerics_version`` reads instead of the real one."""
    package = tmp_path / "mmlib"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "published"))
    monkeypatch.setattr(spec_module, "__file__", str(package / "runs" / "spec.py"))
    numerics_version.cache_clear()
    yield package
    numerics_version.cache_clear()


def version_after(path: Path, change: Callable[[str], str], method: str = "balm") -> str:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    numerics_version.cache_clear()
    return numerics_version(method, "mmgcn")


@pytest.mark.parametrize(
    "spec",
    [
        STAGE,
        FULL,
        dataclasses.replace(FULL, fold=None),
        dataclasses.replace(FULL, valid_mask=masks.frames(0.5)),
    ],
    ids=["small", "full", "no fold", "own validation"],
)
def test_a_spec_survives_json_and_keeps_its_name(spec: RunSpec) -> None:
    back = spec_from_json(json.loads(json.dumps(spec.to_json())))
    assert back == spec and hash(back) == hash(spec)
    assert back.run_id("f") == spec.run_id("f")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_whatever_decides_the_numbers_is_in_the_key(change: dict[str, Any]) -> None:
    assert dataclasses.replace(FULL, **change).key("f") != FULL.key("f")


def test_without_a_validation_law_of_its_own_a_spec_is_stored_as_before_there_was_one() -> None:
    plain = FULL.to_json()
    assert "valid_mask" not in plain and "valid_mask" not in plain["parent"]


def test_the_key_follows_the_data_and_not_their_name() -> None:
    assert FULL.key("f") != FULL.key("g")
    assert dataclasses.replace(FULL, data="moved/toys").key("f") == FULL.key("f")


def test_the_key_does_not_follow_the_name_of_the_parents_data_either() -> None:
    moved = dataclasses.replace(
        FULL, data="moved/toys", parent=dataclasses.replace(STAGE, data="moved/toys")
    )
    assert moved.key("f") == FULL.key("f")


def test_a_run_id_is_the_key_and_the_numerics_version() -> None:
    key, numerics = STAGE.run_id("f").split("-")
    assert key == STAGE.key("f") and len(key) == 16
    assert numerics == numerics_version("plain", "mmgcn") and len(numerics) == 8


def test_a_change_of_the_parents_code_makes_the_child_stale(copied: Path) -> None:
    parent = dataclasses.replace(STAGE, method="balm")
    child, other = dataclasses.replace(STAGE, parent=parent), STAGE
    before = child.run_id("f"), other.run_id("f")
    version_after(copied / "methods" / "balm.py", lambda text: text + "\nTOUCHED = 1\n")
    assert child.run_id("f") != before[0] and other.run_id("f") == before[1]


@pytest.mark.parametrize(
    "name",
    [
        "masks/draw.py",
        "masks/law.py",
        "masks/fixed.py",
        "metrics.py",
        "fit.py",
        "nn/batch.py",
        "nn/objectives.py",
        "nn/recurrent.py",
        "backbones/mmgcn.py",
        "methods/balm.py",
    ],
)
def test_changed_code_of_a_module_that_decides_numbers_changes_the_version(
    copied: Path, name: str
) -> None:
    before = numerics_version("balm", "mmgcn")
    assert version_after(copied / name, lambda text: text + "\nTOUCHED = 1\n") != before


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_version_covers_every_file_that_a_methods_classes_stand_in(
    copied: Path, method: str
) -> None:
    files = {
        Path(inspect.getfile(kind)).relative_to(PACKAGE)
        for kind in METHODS[method][0].__mro__
        if kind.__module__.startswith("mmlib.")
    }
    for name in sorted(files):
        before = numerics_version(method, "mmgcn")
        assert (
            version_after(copied / name, lambda text: text + "\nTOUCHED = 1\n", method) != before
        ), name


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_stands_in_the_file_that_the_version_reads(backbone: str) -> None:
    assert Path(inspect.getfile(BACKBONES[backbone])) == PACKAGE / "backbones" / f"{backbone}.py"


def test_words_change_no_version(copied: Path) -> None:
    before = numerics_version("balm", "mmgcn")
    for name in ("masks/draw.py", "methods/balm.py"):
        path = copied / name
        assert (
            version_after(path, lambda text: text.replace('"""', '"""Reworded. ', 1) + "\n# Why.\n")
            == before
        )


def test_a_law_that_the_run_does_not_draw_changes_no_version(copied: Path) -> None:
    """Nor does a new kind of law in the list of kinds."""
    fixed = dataclasses.replace(
        STAGE, train_mask=masks.complete(), eval_masks=(("test", masks.complete()),)
    )
    dropped = dataclasses.replace(
        fixed, eval_masks=(("test", masks.complete()), ("frames", masks.frames(0.5)))
    )
    before = fixed.numerics, dropped.numerics
    for name in ("masks/frame_dropping.py", "masks/__init__.py"):
        version_after(copied / name, lambda text: text + "\nTOUCHED = 1\n")
    assert fixed.numerics == before[0]
    assert dropped.numerics != before[1]


def test_code_that_the_run_does_not_use_changes_no_version(copied: Path) -> None:
    before = numerics_version("plain", "mmgcn")
    for name in ("methods/balm.py", "report/stats.py", "runs/store.py"):
        assert (
            version_after(copied / name, lambda text: text + "\nTOUCHED = 1\n", "plain") == before
        )


def test_code_without_words_ignores_docstrings_and_comments_and_nothing_else() -> None:
    bare = "class A:\n    def f(self, x):\n        return x + 1\n"
    wordy = (
        '"""Module."""\n\n\nclass A:\n    """Class."""\n\n    # Why.\n    def f(self, x):\n        """Add."""\n'
        "        return (x\n                + 1)\n"
    )
    assert code_without_words(wordy) == code_without_words(bare)
    assert code_without_words('def f():\n    """Nothing."""\n') == code_without_words(
        "def f():\n    pass\n"
    )
    for other in (
        bare.replace("1", "2"),
        bare.replace("+", "-"),
        bare.replace("return x", "return 'x' and x"),
    ):
        assert code_without_words(other) != code_without_words(bare)
    described = 'x: int = 1\n"""What x holds."""\n'
    assert code_without_words(described) == code_without_words("x: float = 1\n")


def test_code_without_words_shows_no_empty_field_since_these_differ_between_python_versions() -> (
    None
):
    # Python 3.12 gives functions and classes an (empty) field more, and 3.13 shows no empty ones.
    text = code_without_words("class A:\n    def f(self):\n        return 1\n")
    assert "A" in text and "decorator_list" not in text and "type_params" not in text


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training(epochs=0),
        lambda: Training(batch=0),
        lambda: Training(lr=-1.0),
        lambda: Training(clip=-0.1),
        lambda: Training(weight_decay=-1e-5),
        lambda: Training(optimizer="adamw"),
        lambda: RunSpec("toys", 0, keep=("weight",)),
        lambda: RunSpec("toys", 0, eval_masks=()),
    ],
)
def test_a_spec_that_makes_no_sense_raises(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training(lr=math.nan),
        lambda: Training(weight_decay=math.nan),
        lambda: Training(clip=math.nan),
    ],
)
def test_not_a_number_raises(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()


def test_two_test_masks_of_one_name_raise() -> None:
    with pytest.raises(InputError):
        RunSpec("toys", 0, eval_masks=(("test", masks.complete()), ("test", masks.shared(0.5))))


@pytest.mark.parametrize(
    "whole, real",
    [
        (
            masks.imbalanced({"audio": 0, "text": 0.5}),
            masks.imbalanced({"audio": 0.0, "text": 0.5}),
        ),
        (masks.shared(0), masks.shared(0.0)),
    ],
    ids=str,
)
def test_equal_specs_have_equal_keys_also_through_json(whole: masks.Law, real: masks.Law) -> None:
    one, two = RunSpec("toys", 0, train_mask=whole), RunSpec("toys", 0, train_mask=real)
    assert one == two and one.key("f") == two.key("f") == spec_from_json(one.to_json()).key("f")


def test_a_rate_given_as_a_whole_number_names_the_same_training() -> None:
    one, two = (
        RunSpec("toys", 0, training=Training(lr=lr, clip=clip)) for lr, clip in ((1, 2), (1.0, 2.0))
    )
    assert one == two and one.key("f") == two.key("f")


def test_true_is_another_key_than_one_whichever_comes_first() -> None:
    one, true = (
        RunSpec("toys", 0, method="balm", options=(("noise", value),)) for value in (1, True)
    )
    first, second = one.key("f"), true.key("f")
    assert one == true and first != second
    assert first == RunSpec("toys", 0, method="balm", options=(("noise", 1.0),)).key("f")
