"""The cost of a step by dialogue length: its time is divided into parts by what each operation belongs to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from test_bench import arguments, narrow
from torch import nn

from mmlib.bench import command, common, page
from mmlib.bench import length as length_case
from mmlib.bench.length import LengthCase
from mmlib.bench.step import list_products
from mmlib.errors import InputError
from mmlib.nn.batch import make_layout
from mmlib.nn.graph import Edges, propagate
from mmlib.nn.gru import DialogueGRU
from mmlib.paths import root

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
TWO = [
    {
        "backbone": "net",
        "method": method,
        "variant": "paper",
        "name": common.case_name("net", method, "paper"),
        "length": length,
        "per_step": 40,
        "step_seconds": seconds,
        "utterances_per_second": 40 / seconds,
        "shares": dict(zip(common.PARTS, shares, strict=True)),
    }
    for method, length, seconds, shares in (
        ("plain", 10, 0.2, (0.5, 0.5, 0, 0, 0)),
        ("plain", 20, 0.3, (0.5, 0.4, 0.1, 0, 0)),
        ("balm", 10, 0.4, (0.2, 0.5, 0.1, 0.1, 0.1)),
        ("balm", 20, 0.8, (0.4, 0.3, 0.1, 0.1, 0.1)),
    )
]
REPORT = {
    "machine": {"device": "cpu", "device_name": "any", "cores": 2, "torch": "2.0"},
    "lengths": [10, 20],
    "rows": TWO,
}


def named(step: Any, grids: int = 1, length: int = 1) -> list[tuple[str, str]]:
    """(operation, part) of what a piece of work does."""
    events, _ = length_case._profile(step)
    return [
        (e.name, p) for e, p in zip(events, length_case.parts(events, grids, length), strict=True)
    ]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_what_a_recurrent_layer_does_is_told_from_what_stands_around_it_forward_and_backward(
    kind: type,
) -> None:
    torch.manual_seed(0)
    before, layer, after = nn.Linear(5, 6), kind(6, 4), nn.Linear(4, 3)
    x, alone = torch.randn(7, 2, 5), torch.randn(7, 2, 6, requires_grad=True)
    found = named(lambda: after(layer(before(x))[0]).tanh().sum().backward())
    around = sum(
        p.count
        for p in list_products(lambda: (before(x).sum() + after(alone[..., :4]).sum()).backward())
    )
    # The input of the second linear layer needs a gradient in both.
    assert sum(name in PRODUCTS and part == "products" for name, part in found) == around == 5
    listed = [p for p in list_products(lambda: layer(alone)[0].sum().backward())]
    fused = sum(
        name.startswith("aten::mkldnn_rnn") and part == "recurrences" for name, part in found
    )
    inside = sum(name in PRODUCTS and part == "recurrences" for name, part in found)
    assert fused == 2 if kind is nn.LSTM and fused else inside == sum(p.count for p in listed) > 7
    tanh = [part for name, part in found if name == "aten::tanh" or name == "aten::tanh_backward"]
    assert tanh.count("rest") == 2  # the one after the layers, and its backward


def test_the_loop_of_a_dialogue_gru_is_a_recurrence_and_its_inputs_products_are_not() -> None:
    layer, layout = DialogueGRU(6, 4, 1, 0.0), make_layout([5, 3])
    x = torch.randn(8, 6, requires_grad=True)
    found = named(lambda: layer(x, layout).sum().backward())
    steps = 5
    for way, count in (
        ("recurrences", 2 * steps + 1),
        ("products", 2 * 3),
    ):  # a product per step, one for the weights
        assert sum(name in PRODUCTS and part == way for name, part in found) == count


def test_work_on_pairs_is_told_by_the_blocks_it_reads_or_makes() -> None:
    modalities, length, width = 2, 6, 3
    layout = make_layout([length] * 4)
    grids = 4 * modalities
    within = torch.rand(grids, length, length, requires_grad=True)
    states = torch.randn(4 * length, modalities, width, requires_grad=True)
    edges = Edges(within, torch.rand(4 * length, modalities, modalities))
    found = named(lambda: propagate(edges, states, layout).sum().backward(), grids, length)
    assert [part for name, part in found if name == "aten::bmm"] == [
        "pairs"
    ] * 3  # forward, for the blocks, for states
    scaled = named(lambda: (within.exp().sum() + states.exp().sum()).backward(), grids, length)
    assert [part for name, part in scaled if name == "aten::exp"] == ["pairs", "rest"]


def test_the_optimiser_and_clipping_are_the_update() -> None:
    layer = nn.Linear(3, 2)
    adam = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.randn(4, 3)).sum().backward()

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        adam.step()

    found = dict(named(step))
    assert found["aten::_fused_adam_"] == found["aten::_foreach_norm"] == "update"


@pytest.mark.parametrize("backbone", ["mmgcn", "gcnet", "mmdfn"])
def test_a_measurement_covers_its_utterances_and_shares_add_up(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    monkeypatch.setattr(length_case, "STEPS", 1)
    row = length_case.measure(LengthCase(backbone, "balm", "paper", "quick", 4, 12))
    assert (row["dialogues"], row["utterances"]) == (3, 12)
    assert row["utterances_per_second"] == pytest.approx(12 / row["step_seconds"])
    assert list(row["shares"]) == list(common.PARTS) and sum(
        row["shares"].values()
    ) == pytest.approx(1)
    assert all(share > 0 for part, share in row["shares"].items() if part != "pairs")
    assert (row["shares"]["pairs"] > 0) == (backbone != "gcnet")  # whose graphs are windows


def test_every_step_has_as_many_utterances_and_never_less_than_a_dialogue() -> None:
    cases = [
        LengthCase("mmgcn", "plain", "paper", "iemocap", length)
        for length in (*command.LENGTHS, 1000)
    ]
    assert [case.dialogues for case in cases] == [60, 20, 6, 2, 1]


def test_tables_and_words_follow_from_the_numbers() -> None:
    lines = length_case.table(REPORT)
    assert [line[4] for line in lines[1:]] == ["1.00", "1.50", "1.00", "2.00"]
    grid = page.length_grid(REPORT).splitlines()
    cells = grid[3].strip("| ").split(" | ")
    assert cells[1:] == [
        "400 (1.00)",
        "800 (2.00)",
        "20 / 50 / 10 / 10 / 10",
        "40 / 30 / 10 / 10 / 10",
    ]
    words = page.length_findings(REPORT)
    assert "products 50 % at 10, recurrences 40 % at 20" in words and "2.00 times as much" in words
    assert (
        "recurrences grow most, by 6000 µs" in words
    )  # (0.8 x 0.4 - 0.4 x 0.2) s over 40 utterances
    assert "2.00 to 2.67 times the backbone's alone" in words
    faster = [{**row, "utterances_per_second": 400.0 * row["length"]} for row in TWO]
    assert "no part grows" in page.length_findings({**REPORT, "rows": faster})


def test_lengths_are_measured_for_every_backbone_and_method_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(measure: Any, case: LengthCase) -> dict[str, Any]:
        assert measure is length_case.measure and case.size == "quick"
        name = common.case_name(case.backbone, case.method, case.variant)
        return {**TWO[0], "backbone": case.backbone, "name": name, "length": case.length}

    monkeypatch.setattr(length_case, "apart", made)
    target = tmp_path / "lengths.json"
    words = (
        "balm",
        "--backbone",
        "mmgcn,gcnet",
        "--size",
        "quick",
        "--json",
        str(target),
        "--lengths",
    )
    assert command.run(arguments(*words)) == 0
    assert "gcnet + balm (paper)" in capsys.readouterr().out
    written = json.loads(target.read_text(encoding="utf-8"))
    assert written["lengths"] == [10, 30, 100, 300] and len(written["rows"]) == 2 * 2 * 4
    assert command.run(arguments(*words, "5", "7")) == 0
    assert json.loads(target.read_text(encoding="utf-8"))["lengths"] == [5, 7]
    assert page.speed_table([written]).count("|") == page.speed_table([]).count(
        "|"
    )  # no row of another kind


@pytest.mark.parametrize(
    "words",
    [
        ("--lengths", "0"),
        ("--lengths", "5", "--threads", "1"),
        ("--lengths", "5", "--epochs", "2"),
        ("--lengths", "5", "--write-shapes"),
        ("--lengths", "5", "--backbone", "mmgcn,mmgnc"),
        ("--lengths", "5", "--size", "big"),
        ("--lengths", "5", "--json", "nowhere/at/all.json"),
    ],
)
def test_bad_lengths_are_refused_before_anything_is_measured(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(length_case, "apart")
    with pytest.raises(InputError):
        command.run(arguments("balm", *words))


def test_the_committed_page_is_made_from_the_reports_beside_it_and_no_number_stands_elsewhere() -> (
    None
):
    folder = root() / "docs" / "bench"
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert page.fill_page(text, reports) == text, page.write_page.__doc__
    by_hand = re.sub(r"<!-- (\w+) -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert len(by_hand) < len(text) and not re.search(r"\d", by_hand)
    altered = json.loads(json.dumps(reports))
    row = next(report for report in altered if "lengths" in report)["rows"][-1]
    row["utterances_per_second"] /= 2
    assert page.fill_page(text, altered) != text
