"""The code that README.md and docs/ show runs as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from mmlib import masks
from mmlib.data.catalog import open_bundle
from mmlib.fit import train_step
from mmlib.methods import build_method
from mmlib.nn.batch import to_device

ROOT = Path(__file__).resolve().parent.parent


def batch_and_bundle() -> tuple[Any, Any]:
    bundle = open_bundle("twin:iemocap6@tiny")
    return to_device(
        bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu"
    ).batch([0, 1]), bundle


def test_a_backbone_of_ones_own_carries_balm_in_under_fifteen_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    text = text.split("### BALM on a backbone of your own")[1]
    source = re.findall(r"```python\n(.*?)```", text, flags=re.S)[0]
    own = [line for line in source.splitlines() if line.strip() and "import" not in line]
    assert len(own) < 15
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(source, module.__dict__)
    batch, bundle = batch_and_bundle()
    torch.manual_seed(0)
    method = module.__dict__["with_balm"](bundle)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = [train_step(method, batch, optimizer, 2.0).item() for _ in range(30)]
    assert losses[-1] < losses[0]
    assert {p for p in method.backbone.encoders.parameters() if p.grad is None} == set()


def extensions() -> list[tuple[str, str]]:
    """What docs/extend.md shows: (where it belongs, as its first line says; the rest)."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n# (.*?)\n(.*?)```", text, flags=re.S)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with everything that docs/extend.md adds to it, and its scripts beside it."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "mmlib", folder / "mmlib", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "manifest.toml", folder / "data")
    for where, text in extensions():
        name, _, place = where.partition(", ")
        path = folder / name
        if not place:
            assert not path.exists(), name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            continue
        old = path.read_text(encoding="utf-8")
        package = name.rsplit("/", 1)[0].replace("/", ".")
        assert place in ("in METHODS", "in BACKBONES", "in KINDS", "in PAPERS")
        own = re.findall(r"(\w+)\.", text)[0]
        new = re.sub(
            rf"^({place[3:]}: .*?{{)",
            rf"from {package} import {own}\n\1{text}    ",
            old,
            flags=re.M,
        )
        assert new != old, where
        path.write_text(new, encoding="utf-8")
    return folder


def environment(home: Path) -> dict[str, str]:
    """For a process with the package of a folder; several share the copy's compiled modules."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}


def test_what_the_guide_adds_is_short() -> None:
    for where, text in extensions():
        assert len([line for line in text.splitlines() if line.strip()]) < 30, where


def test_a_readers_own_data_method_backbone_protocol_and_paper_run_as_the_guide_shows(
    extended: Path,
) -> None:
    printed = ""
    paper = ["run", "--paper", "mine", "--data", "iemocap6=bundles/mine", "--artifact", "table1"]
    for command in (["make_data.py"], ["try_it.py"], ["-m", "mmlib", *paper]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=extended,
            env=environment(extended),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    rates = {
        line.split()[1]: [float(v) for v in line.split()[2:]]
        for line in printed.splitlines()
        if line.split()[:1] == ["train"]
    }
    assert set(rates) == {"pulse", "voice", "face"}
    assert all(
        nominal == pytest.approx(0.2) and abs(realised - 0.2) < 0.15
        for nominal, _, realised in rates.values()
    )
    scores = {
        line.split()[0]: [float(v) for v in re.findall(r": ([\d.]+)", line)]
        for line in printed.splitlines()
        if line.split()[:1] in (["plain"], ["drop"])
    }
    assert set(scores) == {"plain", "drop"} and all(min(found) > 60 for found in scores.values())
    numbers = pd.read_csv(extended / "figures" / "mine" / "mine" / "table1-numbers.csv")
    assert set(numbers["row"]) == {"plain", "drop"} and numbers["n"].min() == 1
    assert set(numbers["setting"]) == {"pulse", "voice", "face", "all modalities"}
    assert (numbers[numbers["row"] == "drop"]["verdict"] != "").all()


VERSIONS = """
from mmlib.backbones import BACKBONES
from mmlib.masks import KINDS, Law, family
from mmlib.methods import METHODS
from mmlib.runs.spec import numerics_version

for method in METHODS:
    print(method, numerics_version(method, "mmgcn"))
for backbone in BACKBONES:
    print(backbone, numerics_version("plain", backbone))
for name in {family(Law(kind)) for kind in KINDS}:
    print(name, numerics_version("plain", "mmgcn", (name,)))
"""


def test_what_the_guide_adds_makes_no_stored_run_stale(
    extended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version of every method, backbone and family of laws that there was stays what it is."""
    exec(VERSIONS, {})
    before = set(capsys.readouterr().out.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", VERSIONS],
        cwd=extended,
        env=environment(extended),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert before and before < set(done.stdout.splitlines())


def test_the_shown_backbone_carries_balm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(dict(extensions())["mmlib/backbones/joined.py"], module.__dict__)
    batch, bundle = batch_and_bundle()
    network = module.__dict__["Joined"](
        bundle.dims, 6, bundle.speakers, module.__dict__["JoinedConfig"](hidden=8)
    )
    whole = (("scaled", "whole"),)
    method = build_method("balm", "paper", whole, network, bundle.task, bundle.dims)
    method.loss(batch).backward()
    before = {
        m: [p.grad.clone() for p in network.encoders[m].parameters()] for m in bundle.modalities
    }
    method.after_backward()
    for index, modality in enumerate(bundle.modalities):
        scale = method.config.rho * method.share[index]
        for gradient, parameter in zip(
            before[modality], network.encoders[modality].parameters(), strict=True
        ):
            torch.testing.assert_close(parameter.grad, gradient * scale)


@pytest.mark.parametrize("page", ["README.md", "docs/running.md", "docs/reproduce.md"])
def test_every_command_that_is_shown_is_one_that_the_parser_knows(page: str) -> None:
    from mmlib.cli import build_parser

    known = (
        "bench",
        "compare",
        "data",
        "decide",
        "doctor",
        "export",
        "predict",
        "recipes",
        "run",
        "store",
        "sweep",
        "teach",
    )
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(
        r"^(?:\.venv/bin/mmlib|\./run_all\.sh)\s+(?!test\b)([^#\n]+)", text, flags=re.M
    )
    assert len(commands) >= 5
    for command in commands:
        words = command.split()
        words = words if words and words[0] in known else ["run", *words]
        if "--help" not in words:
            build_parser().parse_args(words)
