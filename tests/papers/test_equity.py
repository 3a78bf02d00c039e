"""The table of equity and learning: what it reads of records, and values computed another way."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from mmlib.data.catalog import open_bundle, open_twin
from mmlib.experiments.context import Cell, Context
from mmlib.masks import complete, shared
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side import equity, grounds, rows
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store

NAMES = ("audio", "text", "vision")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    store = Store(tmp_path_factory.mktemp("runs"))
    return side_by_side.context("smoke", store=store)


@pytest.fixture(scope="module")
def answered(context: Context) -> list[Cell]:
    """One run under every condition of the first ground."""
    ground = grounds.grounds(context)[0]
    tests = grounds.tests(context, ground)
    spec = RunSpec(
        context.reference(ground.dataset),
        0,
        backbone="concat",
        backbone_options=(("encoder", "mlp"), ("hidden", 8)),
        train_mask=shared(0.5),
        eval_masks=tests,
        training=Training(epochs=1, batch=4),
        keep=("gradients",),
    )
    context.store.put(execute(spec))
    return [Cell("a network", name, spec, name, ground.dataset) for name, _ in tests]


def test_what_nothing_is_worth_is_the_f1_of_the_most_frequent_class() -> None:
    for name in ("twin:iemocap6@smoke", "twin:mosei@smoke"):
        bundle = open_bundle(name)
        train, test = (bundle.labels[bundle.rows(split)] for split in ("train", "test"))
        if bundle.task.kind == "score":
            test = np.sign(test[test != 0])
            answer = 1 if (train > 0).sum() >= (train < 0).sum() else -1
        else:
            answer = int(np.bincount(train).argmax())
        expected = 100 * f1_score(test, np.full(len(test), answer), average="weighted")
        assert equity.constant(bundle) == pytest.approx(expected)


def test_the_best_possible_without_anything_seen_is_the_best_constant_answer(
    context: Context, answered: list[Cell]
) -> None:
    ground = grounds.grounds(context)[0]
    most = equity._most(context, ground, answered)
    twin = open_twin(context.reference(ground.dataset))
    truth = twin.bundle.labels[twin.bundle.rows("test")]
    likeliest = np.full(len(truth), np.argmax(twin.role.prior))
    expected = 100 * f1_score(truth, likeliest, average="weighted", zero_division=0)
    assert most[""] == pytest.approx(expected)
    assert set(most) == {"", *(cell.setting for cell in answered)}
    assert most["all modalities"] > most[""]


def test_a_run_that_keeps_gradients_has_its_learning_index_and_others_have_none(
    context: Context, answered: list[Cell]
) -> None:
    spec = answered[0].spec
    found = equity.of_run(context, spec)
    assert found is not None
    record = context.record(spec)
    assert record is not None
    arrays = context.store.arrays(record.id)
    norms = arrays["series.own_gradient"].astype(float)
    assert found[0] == pytest.approx(np.mean(norms.std(axis=1) / norms.mean(axis=1)))
    assert found[0] != found[1] and all(map(math.isfinite, found))
    assert equity.of_run(context, dataclasses.replace(spec, keep=())) is None


def test_a_line_has_every_score_and_flag(context: Context, answered: list[Cell]) -> None:
    ground = grounds.grounds(context)[0]
    found = context.results(answered)
    reached = found[(found["metric"] == rows.METRIC) & (found["selection"] == "valid")]
    (line,) = equity._of_training(context, ground, grounds.COMPLETE, answered, reached)
    by_setting = dict(zip(reached["setting"], reached["value"], strict=True))
    missing = [value for name, value in by_setting.items() if name != "all modalities"]
    assert line["mean"] == pytest.approx(np.mean(missing))
    assert line["worst"] == min(missing)
    assert line["drop"] == pytest.approx(by_setting["all modalities"] - np.mean(missing))
    gains = np.array([line[f"contribution of {name}"] for name in NAMES], dtype=float)
    bundle = context.bundle(ground.dataset)
    assert gains.sum() == pytest.approx(by_setting["all modalities"] - equity.constant(bundle))
    assert line["prior"] == "generic" and line["one model"] is True
    most = equity._most(context, ground, answered)
    worst = min(by_setting[name] / most[name] for name in by_setting if name != "all modalities")
    assert line["worst, of the best possible"] == pytest.approx(100 * worst)


def test_the_table_says_what_records_lack() -> None:
    line = {
        "data": "d",
        "training": "t",
        "row": "r",
        "seed": 0,
        "MEI": 0.5,
        "MEI, best possible": 0.8,
        **dict.fromkeys(equity.LEARNED, math.nan),
        "prior": "none",
        "one model": True,
        **dict.fromkeys(equity.SCORES, 50.0),
        **{f"{name}, of the best possible": math.nan for name in equity.SCORES},
    }
    (text,) = equity._text(pd.DataFrame([line])).to_dict("records")
    assert text["MLI"] == equity.LACKING and text["over it"] == "0.62"
    assert text["one model"] == "yes" and text["mean"] == "50.0"
    known = equity._text(pd.DataFrame([line, {**line, "row": "s", "MLI": 0.3}]))
    assert list(known["MLI"]) == [equity.LACKING, "0.30"]


def test_beside_the_budget_tables_runs_it_needs_one_of_each_row_that_takes_steps(
    context: Context,
) -> None:
    by_id = {artifact.id: artifact for artifact in side_by_side.ARTIFACTS}
    needed = {cell.spec for cell in by_id["equity"].cells(context)}
    shared_ones = {cell.spec for cell in by_id["fairness"].cells(context)}
    assert shared_ones < needed, "what others need keeps its id"
    further = needed - shared_ones
    every = rows.rows(context, grounds.grounds(context)[0])
    assert len(further) == len(every) - 1, "all but the linear model, on the one ground of vectors"
    known = {(s.method, s.backbone, s.options, s.parent, s.training, s.seed) for s in shared_ones}
    for spec in further:
        assert spec.keep == ("gradients",) and len(spec.eval_masks) == 1
        own = (spec.method, spec.backbone, spec.options, spec.parent, spec.training, spec.seed)
        assert own in known, "trained as the run that the tables show"
    assert {s.parent for s in further if s.parent} <= {s.parent for s in shared_ones}


@pytest.mark.parametrize("row", ["MMGCN", "MCULoRA"])  # the second remembers what was before
def test_a_run_that_keeps_gradients_trains_as_the_run_that_the_tables_show(
    context: Context, row: str
) -> None:
    ground = grounds.grounds(context)[0]
    (kept,) = (c.spec for c in equity.watched(context) if c.row == row)
    shown = next(
        spec
        for cell in rows.cells(context, ground)
        if cell.row == row
        and (spec := cell.spec).train_mask == kept.train_mask
        and spec.seed == kept.seed
    )
    first = None
    if kept.parent is not None:
        context.store.put(execute(kept.parent))
        first = context.store.arrays(kept.parent.run_id(context.bundle(ground.dataset).fingerprint))
    one, other = (execute(spec, first).record["selected"]["valid"] for spec in (kept, shown))
    assert one["metrics"]["all modalities"] == other["metrics"]["all modalities"]


def test_the_learning_index_stands_in_the_line_of_the_run_that_was_trained_alike(
    context: Context,
) -> None:
    ground = grounds.grounds(context)[0]
    (noted,) = (c for c in equity.watched(context) if c.row == "MMGCN")
    of_row = [c for c in rows.cells(context, ground) if c.row == "MMGCN"]
    laws = grounds.trainings(context, ground)
    chosen = [c for c in of_row if c.spec.train_mask in (laws["complete"], laws[grounds.MIXED])]
    chosen = [c for c in chosen if c.spec.seed == 0]
    for spec in {c.spec for c in (*chosen, noted)}:
        context.store.put(execute(spec))
    output = equity.table(context, [*chosen, noted])
    assert output.numbers is not None
    known = output.numbers.set_index("training")["MLI"]
    assert math.isnan(known["complete"])
    found = equity.of_run(context, noted.spec)
    assert found is not None and known[grounds.MIXED] == pytest.approx(found[0])
    record = context.record(noted.spec)
    assert record is not None and record.id in output.run_ids


def test_nothing_is_drawn_without_runs(tmp_path: Path) -> None:
    empty = side_by_side.context("smoke", store=Store(tmp_path))
    cells = [cell for cell in rows.all_cells(empty) if cell.spec.train_mask == complete()][:20]
    assert equity.table(empty, cells).table is None
