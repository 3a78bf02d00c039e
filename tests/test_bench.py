"""The benchmark counts what it says it counts, and shows what it measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmlib import cli
from mmlib.backbones import build_backbone
from mmlib.bench import adapters, balm, command, common, length, step
from mmlib.bench.length import LengthCase, step_of
from mmlib.bench.step import Product, list_products, measure, replay
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.masks import draw, patterns
from mmlib.methods import build_method
from mmlib.methods.mculora import McuLora
from mmlib.nn.batch import make_layout, to_device
from mmlib.nn.gru import DialogueGRU


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def narrow(patch: pytest.MonkeyPatch) -> None:
    """Networks of the steps by length eight wide: what is counted of a step, and in which parts, is so at any width."""
    sizes = {"gcnet": [("hidden", 8)]}
    both = [("hidden", 8), ("graph", 6)]

    def built(name: str, *given: Any) -> Any:
        return build_backbone(name, *given, sizes.get(name, both))

    patch.setattr(length, "build_backbone", built)


@pytest.fixture(scope="module")
def rows() -> Iterator[list[dict[str, Any]]]:
    cases = [
        step.Case("mmgcn", method, variant, "smoke", 1, 1, "cpu")
        for method, variant in common.METHODS
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(common.SIZES, "smoke", "smoke")
        yield [measure(case) for case in cases]


def test_products_of_a_two_layer_network_are_those_counted_by_hand() -> None:
    rows, inputs, hidden, outputs = 5, 7, 4, 3
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    x = torch.randn(rows, inputs)
    found = list_products(lambda: model(x).sum().backward())
    forward = rows * hidden * (inputs + outputs)
    backward = (
        rows * inputs * hidden + rows * hidden * outputs + rows * outputs * hidden
    )  # x itself needs no gradient
    assert sum(p.flops for p in found) == 2 * (forward + backward)
    assert sum(p.count for p in found) == 5


def test_products_of_a_recurrent_layer_are_those_of_its_equations() -> None:
    steps, rows, inputs, hidden = 6, 3, 5, 4
    layer = nn.LSTM(inputs, hidden)
    x = torch.randn(steps, rows, inputs, requires_grad=True)
    found = list_products(lambda: layer(x)[0].sum().backward())
    per_utterance = 4 * hidden * (inputs + hidden)  # four gates see the input and the state
    assert (
        sum(p.flops for p in found) == 2 * 3 * steps * rows * per_utterance
    )  # forward, for x and h, for the weights


def test_products_of_a_gru_are_those_of_its_equations() -> None:
    steps, rows, inputs, hidden = 6, 3, 5, 4
    layer = nn.GRU(inputs, hidden)
    x = torch.randn(steps, rows, inputs, requires_grad=True)
    found = list_products(lambda: layer(x)[0].sum().backward())
    of_inputs, of_state = (
        3 * hidden * inputs,
        3 * hidden * hidden,
    )  # three gates see the input and the state
    products = 3 * steps * rows * (of_inputs + of_state)  # forward, for x and h, for the weights
    assert sum(p.flops for p in found) == 2 * (
        products - rows * of_state
    )  # the first state is given: no gradient


@pytest.mark.parametrize("copies", [1, 2])
def test_products_of_mmdfns_gru_are_those_of_its_equations(copies: int) -> None:
    lengths, inputs, hidden = [6, 2, 4] * copies, 5, 4
    layer, layout = DialogueGRU(inputs, hidden, 1, 0.0), make_layout(lengths)
    x = torch.randn(sum(lengths), inputs, requires_grad=True)
    found = list_products(lambda: layer(x, layout).sum().backward())
    steps, rows, width = (
        max(lengths),
        len(lengths),
        3 * hidden,
    )  # the state runs over the padded grid, both ways
    assert sum(p.flops for p in found) == 2 * 2 * 3 * width * (
        sum(lengths) * inputs + steps * rows * hidden
    )


class Untracked:
    """In the place of the counter's tracker of modules, which bears no ``autograd.grad`` with parameters as inputs."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def counted(step: Callable[[], object]) -> int:
    """Operations of a step by torch's own counter."""
    counter: Any = FlopCounterMode(display=False)
    counter.mod_tracker = Untracked()
    with counter:
        step()
    return int(counter.get_total_flops())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="the fused layer is oneDNN's")
@pytest.mark.parametrize(
    ("method", "copies", "backward"), [("plain", 0, 1), ("balm", 3, 2)], ids=["plain", "balm"]
)
def test_products_of_gcnets_step_are_its_bilstms_and_what_torchs_own_counter_finds(
    method: str, copies: int, backward: int
) -> None:
    step = step_of(LengthCase("gcnet", method, "paper", "quick", 5, 20))
    found = sum(p.flops for p in list_products(step))
    inputs = sum(open_bundle("twin:iemocap6@quick").dims.values())
    encoder = bilstm(inputs, 200) + bilstm(400, 200)
    graphs = 2 * (bilstm(500, 500) + bilstm(1000, 500))
    # Forward, and in each backward pass for x and h and for the weights; BALM has a second one, for L_mod (A9), and its
    # embeddings are a forward pass per modality.
    passes = (1 + 2 * backward) * (encoder + graphs)
    assert found - counted(step) == 20 * (passes + copies * encoder)


def bilstm(inputs: int, hidden: int) -> int:
    """Operations per utterance of one bidirectional layer: four gates see the input and the state."""
    return 2 * 2 * 4 * hidden * (inputs + hidden)


def test_products_of_mmdfns_step_are_those_that_torchs_own_counter_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow(monkeypatch)
    step = step_of(LengthCase("mmdfn", "balm", "paper", "quick", 5, 20))
    found = sum(p.flops for p in list_products(step))
    assert found == counted(step) > 0


def test_batched_products_count_the_batch() -> None:
    a, b = torch.randn(4, 2, 3), torch.randn(4, 3, 5)
    found = list_products(lambda: a @ b)
    assert found == [Product("bmm", "4x2x3", "4x3x5", 1)]
    assert found[0].flops == 2 * 4 * 2 * 3 * 5


def test_replaying_a_list_does_the_listed_products() -> None:
    wanted = [
        Product("bmm", "4x2x3", "4x3x5t", 2),
        Product("mm", "6x7", "7x1", 1),
        Product("mm", "6x7t", "7x8", 3),
    ]
    work = replay(wanted, "cpu")
    assert list_products(work) == wanted
    with FlopCounterMode(display=False) as counter:
        work()
    assert counter.get_total_flops() == sum(p.flops for p in wanted)


def test_measurement_covers_every_training_utterance_and_counts_more_work_for_balm(
    rows: list[dict[str, Any]],
) -> None:
    bundle = open_bundle("twin:iemocap6@smoke")
    for row in rows:
        for m in ("audio", "vision"):  # every utterance passes their encoders once an epoch
            seen = sum(
                int(left.split("x")[0]) * count
                for _, left, right, count in row["products"]
                if right == f"{bundle.dims[m]}x200t"
            )
            assert seen == row["utterances"] == len(bundle.rows("train"))
        assert row["epoch_seconds"] > 0 and row["product_seconds"] > 0
    plain, paper, _ = rows
    assert paper["gflop"] > plain["gflop"]


def test_table_has_a_row_per_case_and_its_columns(rows: list[dict[str, Any]]) -> None:
    frame = balm.table(rows)
    assert list(frame) == list(balm.FIELDS)
    assert list(frame["method"]) == ["mmgcn", "mmgcn + balm (paper)", "mmgcn + balm (released)"]
    on_cuda = balm.table([{**row, "cuda_memory_mb": 1.0, "idle_percent": 50.0} for row in rows])
    assert list(on_cuda) == [*balm.FIELDS, *balm.CUDA_FIELDS]


def test_goals_are_reached_or_missed_by_the_numbers() -> None:
    row = {
        "method": "balm",
        "variant": "paper",
        "size": "iemocap",
        "name": "mmgcn + balm (paper)",
        "device": "cpu",
    }
    slow = balm.goals([{**row, "threads": 2, "ratio": 2.5, "utterances_per_second": 900.0}])
    fast = balm.goals([{**row, "threads": 2, "ratio": 1.5, "utterances_per_second": 2600.0}])
    assert len(slow) == len(fast) == 2
    assert all(line.endswith("missed") for line in slow) and all(
        line.endswith("reached") for line in fast
    )
    assert (
        len(balm.goals([{**row, "threads": 1, "ratio": 1.5, "utterances_per_second": 2600.0}])) == 1
    )
    assert (
        balm.goals(
            [{**row, "size": "quick", "threads": 2, "ratio": 1.5, "utterances_per_second": 2600.0}]
        )
        == []
    )


def test_run_prints_the_machine_and_writes_json_that_reads_back(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        balm, "measure_apart", lambda case: next(r for r in rows if r["name"] == case.name)
    )
    monkeypatch.setattr(balm, "import_seconds", lambda: 2.5)
    target = tmp_path / "speed.json"
    assert (
        command.run(arguments("balm", "--size", "quick", "--threads", "1", "--json", str(target)))
        == 0
    )
    shown = capsys.readouterr().out
    assert (
        torch.__version__.split("+")[0] in shown
        and "2.5 s" in shown
        and "mmgcn + balm (released)" in shown
    )
    written = json.loads(target.read_text(encoding="utf-8"))
    assert written["rows"] == [{k: v for k, v in row.items() if k != "products"} for row in rows]
    assert written["machine"]["device"] == "cpu"


def test_shapes_read_back_as_written(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    balm.write_shapes(rows, tmp_path / "shapes.csv")
    read = balm.read_shapes(tmp_path / "shapes.csv")
    assert read == {(r["method"], r["variant"]): r["products"] for r in rows}


@pytest.mark.parametrize(("backbone", "hidden"), [("mmgcn", 900), ("gcnet", 500), ("mmdfn", 900)])
def test_committed_list_covers_every_training_utterance_of_the_full_size(
    backbone: str, hidden: int
) -> None:
    lists = balm.read_shapes(balm.shapes_file(backbone))
    assert set(lists) == set(common.METHODS)
    # The prediction layer's forward product; BALM has a head of that shape for each of three modalities, and as
    # printed the gradient of its L_mod goes back through one more product of the same factors' shapes.
    times = {("plain", "paper"): 1, ("balm", "paper"): 5, ("balm", "released"): 4}
    for which, products in lists.items():
        seen = sum(
            int(left.split("x")[0]) * count
            for _, left, right, count in products
            if right == f"{hidden}x6t"
        )
        assert seen == 5229 * times[which]


@pytest.mark.parametrize(
    ("backbone", "inputs", "gates"),
    [("mmgcn", 200, 400), ("gcnet", 2948, 800), ("mmdfn", 200, 300)],
)
def test_committed_list_has_the_recurrences_inputs(backbone: str, inputs: int, gates: int) -> None:
    for products in balm.read_shapes(balm.shapes_file(backbone)).values():
        seen = sum(
            int(left.split("x")[0]) * count
            for _, left, right, count in products
            if right == f"{inputs}x{gates}t"
        )
        assert seen >= 2 * 5229  # both directions, and for some the padding


@pytest.mark.parametrize(
    "words",
    [
        ("balm", "--backbone", "mmgnc"),
        ("balm", "--size", "iemocup"),
        ("bolm",),
        ("balm", "--backbone", "mmgcn,gcnet"),
        ("balm", "--threads", "0"),
        ("balm", "--epochs", "0"),
        ("balm", "--device", "cpus"),
        ("balm", "--json", "nowhere/at/all.json"),
        ("balm", "--size", "quick", "--write-shapes"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        command.run(arguments(*words))


@pytest.mark.parametrize(("percent", "warned"), [(75.0, True), (1.0, False)])
def test_a_machine_that_others_use_is_told_and_written_down(
    percent: float,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: percent)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(balm, "run", lambda args: {"rows": []})
    target = tmp_path / "report.json"
    command.run(arguments("balm", "--json", str(target)))
    assert json.loads(target.read_text()) == {"rows": [], "busy_cores": 2 * percent / 100}
    assert ("others use 1.5 of 2 cores" in capsys.readouterr().err) == warned


def test_unknown_backbone_names_the_nearest_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["bench", "balm", "--backbone", "mmgnc"]) == 2
    assert "'mmgcn'" in capsys.readouterr().err


def test_clips_are_measured_in_plain_training_and_in_the_adaptive_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmlib.bench import clips

    monkeypatch.setitem(clips.SIZES, "quick", clips.Size((16, 16), 16, 2, 70))
    target = tmp_path / "clips.json"
    assert (
        cli.main(["bench", "gmm_loss", "--size", "quick", "--epochs", "1", "--json", str(target)])
        == 0
    )
    rows = json.loads(target.read_text())["rows"]
    assert [r["method"] for r in rows] == [
        "plain",
        "gmm_loss",
    ] and "clips/s" in capsys.readouterr().out
    for row in rows:
        assert (
            row["clips_per_second"] == pytest.approx(row["clips"] / row["epoch_seconds"])
            and row["clips"] == 70
        )
    assert cli.main(["bench", "gmm_loss", "--size", "quik"]) == 2


def test_adapters_are_measured_for_mixed_combinations_against_a_pass_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(adapters.SIZES, "quick", ("twin:iemocap4@smoke", 16, 1, 8))
    target = tmp_path / "adapters.json"
    assert (
        cli.main(["bench", "mculora", "--size", "quick", "--epochs", "1", "--json", str(target)])
        == 0
    )
    report = json.loads(target.read_text())
    assert [r["case"] for r in report["rows"]] == list(adapters.CASES) and report[
        "adapters"
    ] == "quick"
    assert "utterances/s" in capsys.readouterr().out
    assert cli.main(["bench", "mculora", "--size", "quik"]) == 2


def test_both_ways_of_serving_combinations_take_the_same_steps() -> None:
    bundle = open_bundle("twin:iemocap4@smoke")
    train = to_device(bundle, "train", draw(patterns(), bundle, "train", 0), "cpu")
    ends = []
    for groups in ([np.arange(train.dialogues)], adapters.by_combination(train)):
        torch.manual_seed(0)
        network = build_backbone(
            "crossmodal",
            bundle.dims,
            bundle.task.outputs,
            bundle.speakers,
            [("hidden", 8), ("depth", 1), ("dropout", 0.0)],
        )
        model = build_method(
            "mculora", "paper", [("adapter_dropout", 0.0)], network, bundle.task, bundle.dims
        )
        assert isinstance(model, McuLora)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        adapters.one_epoch(model, train, groups, 6, optimizer)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)
