"""DREAM's benchmark counts what it says it counts, and shows what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_bench import arguments
from torch.utils.flop_counter import FlopCounterMode

from mmlib import cli
from mmlib.bench import command, dream, page
from mmlib.bench.dream import CASES, SIZES, Without
from mmlib.bench.step import list_products
from mmlib.data.catalog import open_bundle
from mmlib.data.twins import FRAME_ROLES
from mmlib.errors import InputError
from mmlib.nn import shapley
from mmlib.paths import root

CPU = torch.device("cpu")
TRAINED = 120  # utterances of the twin
HERE = {"device": "cpu", "device_name": "any", "cores": 2, "torch": "2.0"}
ROWS = [
    {
        "case": case,
        "threads": 1,
        "utterances": 100,
        "epoch_seconds": seconds,
        "product_seconds": 1.0,
        "ratio": seconds,
        "gflop": 12.5,
        "trained_parameters": 1234,
        "frozen_parameters": 50,
    }
    for case, seconds in zip(CASES, (8.0, 8.5, 9.5, 1.2, 0.5, 2.0), strict=True)
]
REPORT: dict[str, Any] = {"machine": HERE, "contributions": "quick", "rows": ROWS}


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """The quick size, with the twin of the smoke profile: an eighth of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "quick", ("twin:iemocap4-frames@smoke", *SIZES["quick"][1:]))
        yield


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return dream.measure("quick", CPU, 1)


def passes_of(case: str) -> int:
    """How many utterances enter the frozen network's convolutions for text."""
    bundle = open_bundle(SIZES["quick"][0])
    _, epoch = dream.epoch_of(case, bundle, "quick", CPU)
    steps = bundle.features["text"].shape[1]
    return (
        sum(
            int(p.left.split("x")[0]) * p.count
            for p in list_products(epoch)
            if p.right == f"{3 * bundle.dims['text']}x64t"
        )
        // steps
    )


def test_the_full_size_is_the_papers() -> None:
    reference, width, step = SIZES["iemocap"]
    shape = FRAME_ROLES["iemocap4-frames"].shapes[reference.split("@")[1]]
    assert (shape.utterances[0], shape.frames, shape.dims) == (2717, 20, (74, 300, 35))
    assert (width, step) == (200, 32)


def test_the_frozen_network_is_asked_never_or_for_all_subsets_of_every_utterance() -> None:
    expected = (0, 0, 8 * TRAINED, 8 * TRAINED, 0, 8 * TRAINED)
    assert {case: passes_of(case) for case in CASES} == dict(zip(CASES, expected, strict=True))


def test_products_are_those_that_torchs_own_counter_finds(rows: list[dict[str, Any]]) -> None:
    assert [row["case"] for row in rows] == list(CASES)
    bundle = open_bundle(SIZES["quick"][0])
    for row in rows:
        _, epoch = dream.epoch_of(row["case"], bundle, "quick", CPU)
        with FlopCounterMode(display=False) as counter:
            epoch()
        assert row["gflop"] == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-9)
        assert (
            row["epoch_seconds"] > 0 and row["product_seconds"] > 0 and row["utterances"] == TRAINED
        )


def test_without_contributions_as_many_modalities_are_enhanced_as_with_them(
    rows: list[dict[str, Any]],
) -> None:
    gflop = {row["case"]: row["gflop"] for row in rows}
    assert gflop[CASES[1]] == pytest.approx(gflop[CASES[0]], rel=0.02)
    assert gflop[CASES[2]] - gflop[CASES[1]] == pytest.approx(
        gflop[CASES[3]], rel=1e-3
    )  # PSS of all rows at once
    assert gflop[CASES[5]] - gflop[CASES[4]] == pytest.approx(gflop[CASES[3]], rel=1e-3)
    model, epoch = dream.epoch_of(CASES[0], open_bundle(SIZES["quick"][0]), "quick", CPU)
    assert (
        isinstance(model, Without)
        and len(model.fixed) == TRAINED
        and (model.fixed == 0).float().mean() > 3 / 7 - 0.1
    )
    epoch()
    assert model.at == 0  # once through


def test_p_of_the_benchmark_decides_by_its_input() -> None:
    bundle = open_bundle(SIZES["quick"][0])
    model, _ = dream.epoch_of(CASES[2], bundle, "quick", CPU)
    batch = dream.training_rows(bundle, CPU).batch(range(TRAINED))
    pss = shapley.pss(model.plan, model.look(batch))
    assert (pss[~batch.observed] == 0).all() and 0.05 < (pss[batch.observed] > 0).float().mean()


def test_words_follow_from_the_numbers() -> None:
    words = page.contribution_findings([REPORT])
    assert "take 2.00 s an epoch, 20 % of it (goal: under 20 %: missed)" in words  # 2 of 8 + 2
    assert (
        "filling the memory once takes 1.20 s" in words
        and "0.50 s more" in words
        and "0.54 s each" in words
    )
    fast = {**REPORT, "rows": [*ROWS[:5], {**ROWS[5], "epoch_seconds": 1.0}]}
    assert "11 % of it (goal: under 20 %: reached)" in page.contribution_findings([fast])
    slow = {**REPORT, "rows": [*ROWS[:5], {**ROWS[5], "epoch_seconds": 4.0}]}
    assert "33 % of it (goal: under 20 %: missed)" in page.contribution_findings([slow])
    two = {**REPORT, "rows": [*ROWS, *({**row, "threads": 2} for row in ROWS)]}
    assert len(page.contribution_findings([two]).splitlines()) == 2


def test_the_page_takes_the_report_in_and_the_table_of_speeds_leaves_it_out() -> None:
    folder = root() / "docs" / "bench"
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    text = (folder / "README.md").read_text(encoding="utf-8")
    filled = page.fill_page(text, [r for r in reports if "contributions" not in r] + [REPORT])
    assert page.stage_table([REPORT]) in filled and page.contribution_findings([REPORT]) in filled
    assert page.speed_table([REPORT]) == page.speed_table([])


def test_contributions_are_measured_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "dream.json"
    assert (
        cli.main(["bench", "dream", "--size", "quick", "--epochs", "1", "--json", str(target)]) == 0
    )
    report = json.loads(target.read_text(encoding="utf-8"))
    assert [row["case"] for row in report["rows"]] == list(CASES) and report[
        "contributions"
    ] == "quick"
    printed = capsys.readouterr().out
    assert page.stage_table([report]) in printed and page.contribution_findings([report]) in printed


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
    monkeypatch.delattr(dream, "measure")
    with pytest.raises(InputError):
        command.run(arguments("dream", *words))
