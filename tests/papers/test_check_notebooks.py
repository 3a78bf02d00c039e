"""``mmlib data check`` says of every notebook what a run of it then does: it takes the data in a role, or refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmlib.cli import main
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.experiments.takes import DataRefused
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline.data_check import notebooks

DATA = ("crema-d-votes", "twin:mosi@tiny", "twin:mosei-frames@tiny", "twin:ave@tiny")


@pytest.mark.parametrize("reference", DATA)
def test_a_run_takes_the_data_in_the_role_that_is_named_and_refuses_them_where_none_is(
    reference: str,
) -> None:
    bundle = open_bundle(reference)
    for paper in PAPERS.values():
        if f"{paper.called}: as " in str(notebooks(bundle, reference)):
            role = paper.role_for(bundle)
            assert paper.context("smoke", {role: reference}).data == {role: reference}
            continue
        for refusing in paper.roles.values():
            with pytest.raises(DataRefused):
                paper.context("smoke", {refusing: reference})


def test_every_notebook_has_one_line_with_its_command_or_what_it_takes() -> None:
    reference = "twin:mosi@tiny"
    _, *lines = notebooks(open_bundle(reference), reference).lines
    assert [line.split(",")[0] for line in lines] == [p.notebook for p in PAPERS.values()]
    for line, name in zip(lines, PAPERS, strict=True):
        if name == "gmm_loss":
            assert "not taken; it takes two modalities" in line and "with classes" in line
        else:
            assert f"mmlib run --paper {name} --data " in line


@pytest.mark.parametrize(
    ("reference", "paper", "role"),
    [
        ("crema-d-votes", "gmm_loss", "crema-d"),
        ("crema-d-votes", "balm", "iemocap6"),
        ("twin:mosi@tiny", "ebmc", "mosi"),
        ("twin:mosi@tiny", "balm", "mosei"),
        ("twin:mosi-frames@tiny", "dream", "mosi-frames"),
        ("twin:iemocap4-frames@tiny", "dream", "iemocap4-frames"),
    ],
)
def test_of_several_roles_it_is_the_one_whose_task_and_shape_are_those_of_the_data(
    reference: str, paper: str, role: str
) -> None:
    assert PAPERS[paper].role_for(open_bundle(reference)) == role


@pytest.mark.parametrize("shift", [0.0, 1e5])
def test_the_command_ends_with_1_where_results_would_be_false_alone(
    shift: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    features = {m: generator.normal(size=(60, 3)) + shift for m in ("eeg", "gait", "voice")}
    labels, split = np.arange(60) % 3, np.repeat([0, 1, 2], 20)
    ids = [f"u{i:02d}" for i in range(60)]
    task = Task("classes", ("a", "b", "c"))
    save_bundle(make_bundle("own", task, features, labels, split, ids), tmp_path / "my own")
    assert main(["data", "check", str(tmp_path / "my own")]) == int(shift > 0)
    text = capsys.readouterr().out
    assert f"--data '{tmp_path}/my own'" in text
    assert ("results would be false" in text) is (shift > 0)
