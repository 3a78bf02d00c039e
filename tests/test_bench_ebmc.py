"""EBMC's benchmark counts what it says it counts, and shows what it measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_bench import arguments
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmlib import cli
from mmlib.backbones import build_backbone
from mmlib.bench import command, common, ebmc, page
from mmlib.bench.ebmc import CASES, SECOND, SIZES, pieces
from mmlib.bench.step import list_products
from mmlib.data.bundle import Task
from mmlib.data.catalog import open_bundle
from mmlib.data.twins import ROLES
from mmlib.errors import InputError
from mmlib.methods.ebmc import VARIANTS, Ebmc
from mmlib.paths import root

CPU = torch.device("cpu")
DIMS = {"audio": 6, "text": 5, "vision": 4}
CLASSES, SCORE = Task("classes", ("a", "b", "c")), Task("score", range=(-3.0, 3.0))
HERE = {"device": "cpu", "device_name": "any", "cores": 2, "torch": "2.0"}


def step(length: int, width: int, seconds: float, **parts: float) -> dict[str, Any]:
    given = dict.fromkeys(common.SMALL_PARTS, 0.0) | parts
    return {
        "length": length,
        "width": width,
        "dialogues": 4,
        "utterances": 4 * length,
        "step_seconds": seconds,
        "parts": given | {"rest": seconds - sum(given.values())},
    }


ROWS = [
    {
        "case": case,
        "threads": 1,
        "utterances": 100,
        "dialogues": 5,
        "epoch_seconds": 2.0 * (i + 1),
        "product_seconds": 1.0,
        "ratio": 2.0 * (i + 1),
        "gflop": 12.5,
        "trained_parameters": 1234,
        "frozen_parameters": 0,
    }
    for i, case in enumerate(CASES)
]
REPORT: dict[str, Any] = {
    "machine": HERE,
    "stages": "quick",
    "threads": 1,
    "depth": 1,
    "rows": ROWS,
    "figure": "there.png",
    "scaling": {
        "length": [step(10, 32, 0.1, EMC=0.01, MSD=0.02), step(40, 32, 0.8, EMC=0.04, MSD=0.08)],
        "width": [step(36, 16, 0.1, EMC=0.02, IMTD=0.001), step(36, 64, 0.2, EMC=0.02, IMTD=0.002)],
    },
}


# Of few steps an epoch: 16 dialogues, 8 a step.
SMALL = dataclasses.replace(SIZES["quick"], data="twin:iemocap4@smoke")
UTTERANCES, DIALOGUES = 192, 16


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return ebmc.measure(SMALL, CPU, 1)


def labelled(task: Task) -> Any:
    torch.manual_seed(1)
    batch = ebmc.made_batch(DIMS, CLASSES, 3, 4)
    return (
        batch
        if task.kind == "classes"
        else type(batch)(**{**vars(batch), "labels": torch.randn(len(batch))})
    )


def model_of(kind: type[Ebmc], task: Task, variant: str = "paper") -> Ebmc:
    torch.manual_seed(0)
    network = build_backbone(
        "momke", DIMS, task.outputs, 1, [("hidden", 8), ("depth", 1), ("routing", "unnormalised")]
    )
    model = kind(network, task, VARIANTS[variant], DIMS)
    model.load_state_dict(model.state_dict())
    return model


def gradients(model: Ebmc, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("task", [CLASSES, SCORE], ids=["classes", "score"])
def test_a_second_backward_pass_gives_the_closed_forms_loss_and_gradients(task: Task) -> None:
    batch, found = labelled(task), []
    for kind in (Ebmc, ebmc.SecondPass):
        model = model_of(kind, task)
        model.config = type(model.config)(
            **{**vars(model.config), "delta": 5.0}
        )  # so that the penalty weighs
        torch.manual_seed(2)
        loss = model.train().loss(batch)
        found.append((loss, gradients(model, loss)))
    (closed, first), (second, other) = found
    torch.testing.assert_close(closed, second)
    assert set(first) == set(other) and len(first) > 20
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-6)
    without = model_of(Ebmc, task, "no_penalty").train()
    torch.manual_seed(2)
    assert without.loss(batch).item() < closed.item()


def test_the_full_size_is_the_released_trainings() -> None:
    role, size = ROLES["iemocap4"], SIZES["iemocap"]
    shape = role.shapes[size.data.split("@")[1]]
    assert shape.utterances[0] + shape.utterances[1] == 4290 and shape.dims == (512, 1024, 1024)
    assert (size.width, size.depth, size.batch) == (256, 4, 16)
    bundle, whole = ebmc.training_bundle("twin:iemocap4@quick"), open_bundle("twin:iemocap4@quick")
    assert len(bundle.rows("train")) == len(whole.rows("train")) + len(whole.rows("valid")) == 960
    assert len(bundle.rows("valid")) == 0 and np.array_equal(
        bundle.rows("test"), whole.rows("test")
    )


def test_an_epoch_covers_every_utterance_in_each_case(rows: list[dict[str, Any]]) -> None:
    assert [row["case"] for row in rows] == list(CASES)
    size = SMALL
    bundle = ebmc.training_bundle(size.data)
    for row in rows:
        assert row["utterances"] == UTTERANCES and row["dialogues"] == DIALOGUES
        assert row["epoch_seconds"] > 0 and row["product_seconds"] > 0 and row["ratio"] > 0
        passes = 1 if row["case"] == "stage I" else 2  # the student and the teacher
        model, epoch = ebmc.epoch_of(row["case"], bundle, size, CPU)
        entered = sum(
            int(p.left.split("x")[0]) * p.count
            for p in list_products(epoch)
            if p.right == f"{bundle.dims['audio']}x{size.width}t"
        )
        assert entered == UTTERANCES * passes
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        assert (
            row["frozen_parameters"] == frozen == (0 if passes == 1 else row["trained_parameters"])
        )


def test_products_are_those_that_torchs_own_counter_finds(rows: list[dict[str, Any]]) -> None:
    bundle = ebmc.training_bundle(SMALL.data)
    for row in rows:
        _, epoch = ebmc.epoch_of(row["case"], bundle, SMALL, CPU)
        with FlopCounterMode(display=False) as counter:
            epoch()
        assert row["gflop"] == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-9)


def test_the_closed_form_costs_the_products_counted_by_hand(rows: list[dict[str, Any]]) -> None:
    gflop = {row["case"]: row["gflop"] for row in rows}
    n, width, outputs = UTTERANCES, SMALL.width, 4
    # Forward: through the head, both layers, and the first layer once more for its signs; backward, to both factors of
    # the head's product and of the layers', and none through the signs.
    by_hand = 2 * n * (outputs * width * (1 + 2) + width**2 * (3 + 2 * 2))
    assert 1e9 * (gflop["stage II"] - gflop["stage II, no penalty"]) == pytest.approx(
        3 * by_hand, rel=1e-6
    )
    signs = 2 * n * width**2  # autograd has them from the forward pass
    assert 1e9 * (gflop["stage II"] - gflop[SECOND]) == pytest.approx(3 * signs, rel=1e-6)


def test_components_are_the_steps_own_losses_and_reach_what_they_train() -> None:
    batch = labelled(CLASSES)
    model = model_of(Ebmc, CLASSES).eval()  # nothing random
    whole = gradients(model, model.loss(batch))
    works = pieces(model, batch)
    assert list(works) == [part for part in common.SMALL_PARTS if part != "rest"]
    reached = {}
    for name, work in works.items():
        model.zero_grad(set_to_none=True)
        work()
        reached[name] = {
            n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
        }
    assert not reached["teacher"] and not reached["IMTD"]  # which reads the fused prediction alone
    for part, trained in (("CCE", "parts.generators"), ("MSD", "parts.common")):
        mine = {n: g for n, g in reached[part].items() if n.startswith(trained)}
        assert mine
        if part == "CCE":  # nothing else reaches the generators
            for n, g in mine.items():
                torch.testing.assert_close(g, whole[n], rtol=1e-4, atol=1e-7)
    assert any(n.startswith("parts.specific") for n in reached["EMC"])  # by the penalty
    assert not any(n.startswith("backbone.encoders") for found in reached.values() for n in found)


def test_a_made_batch_has_the_asked_shape_and_no_utterance_without_a_modality() -> None:
    batch = ebmc.made_batch(DIMS, CLASSES, 3, 7)
    assert len(batch) == 21 and (batch.layout.dialogues, batch.layout.steps) == (3, 7)
    assert batch.observed.any(dim=1).all() and not batch.observed.all()
    for i, m in enumerate(sorted(DIMS)):
        assert ((batch.features[m] == 0).all(dim=1) == ~batch.observed[:, i]).all()


def test_a_steps_parts_add_up_to_it() -> None:
    row = ebmc.measure_step(SMALL, 4, 16, 2, CPU)
    assert (row["length"], row["width"], row["dialogues"], row["utterances"]) == (4, 16, 2, 8)
    assert sum(row["parts"].values()) == pytest.approx(row["step_seconds"])
    assert tuple(row["parts"]) == common.SMALL_PARTS
    assert all(seconds > 0 for part, seconds in row["parts"].items() if part != "rest")


def test_powers_tables_and_words_follow_from_the_numbers() -> None:
    rows = [step(t, 32, 3e-3 * t**1.5, EMC=1e-3 * t**2) for t in (10, 20, 80)]
    assert page.exponent(rows, "length", "") == pytest.approx(1.5)
    assert page.exponent(rows, "length", "EMC") == pytest.approx(2)
    assert np.isnan(page.exponent(rows, "length", "IMTD"))
    lines = page.stage_table([REPORT]).splitlines()
    assert len(lines) == 2 + len(CASES) and "| 2.00 | 2.00 | 12.5 | 50 | 1,234 | 0 |" in lines[2]
    grid = page.scaling_table([REPORT]).splitlines()
    assert grid[3].endswith("| 40 | 4 | 32 | 800.0 | 85.0 | 0.0 | 10.0 | 0.0 | 5.0 | 0.0 |")
    words = page.scaling_findings([REPORT])
    assert (
        "length from 10 to 40" in words and "the whole 1.50" in words and "EMC 1.00" in words
    )  # log 8 / log 4
    assert (
        "EMC is 10.0 % of a step, IMTD 0.0 %" in words
        and "EMC is 20.0 % of a step, IMTD 1.0 %" in words
    )
    assert words.endswith("![A step by length and width](there.png)")


def test_the_figure_has_every_part_in_its_panels_and_labels_with_units() -> None:
    axes = ebmc.scaling_figure(REPORT).axes
    assert (
        len(axes) == 4
        and "T^1.50" in axes[0].get_title(loc="left")
        and "d^0.50" in axes[1].get_title(loc="left")
    )
    for axis in axes[:2]:
        assert {line.get_label() for line in axis.lines} == {
            "whole step",
            *common.SMALL_PARTS,
            "linear",
        }
        assert axis.get_ylabel() == "time (ms)" and axis.get_xscale() == axis.get_yscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in axes[2].lines}
    np.testing.assert_allclose(drawn["MSD"], [20, 10])


def test_the_page_takes_the_report_in_and_the_table_of_speeds_leaves_it_out() -> None:
    folder = root() / "docs" / "bench"
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    text = (folder / "README.md").read_text(encoding="utf-8")
    filled = page.fill_page(text, [r for r in reports if "stages" not in r] + [REPORT])
    assert page.stage_table([REPORT]) in filled and page.scaling_findings([REPORT]) in filled
    assert page.speed_table([REPORT]) == page.speed_table([])


def test_both_stages_are_measured_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SIZES, "quick", SMALL)
    target = tmp_path / "stages.json"
    assert (
        cli.main(["bench", "ebmc", "--size", "quick", "--epochs", "1", "--json", str(target)]) == 0
    )
    report = json.loads(target.read_text(encoding="utf-8"))
    assert [row["case"] for row in report["rows"]] == list(CASES) and report["stages"] == "quick"
    size = SIZES["quick"]
    assert [row["length"] for row in report["scaling"]["length"]] == list(size.lengths)
    assert [row["width"] for row in report["scaling"]["width"]] == list(size.widths)
    assert report["figure"] == "stages.png" and (tmp_path / "stages.png").read_bytes().startswith(
        b"\x89PNG"
    )
    printed = capsys.readouterr().out
    assert (
        page.stage_table([report]) in printed
        and "powers of T" in printed
        and "there.png" not in printed
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "quik"),
        ("--epochs", "0"),
        ("--threads", "0"),
        ("--lengths", "5"),
        ("--write-shapes",),
        ("--device", "cpus"),
        ("--json", "nowhere/at/all.json"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ebmc, "measure")
    with pytest.raises(InputError):
        command.run(arguments("ebmc", *words))
