"""Networks of other papers as rows of the tables that print them: what runs they are, and where their numbers land."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.experiments.rows import Row, Stage, with_parents
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.masks import complete, imbalanced, patterns, shared
from mmlib.papers.catalog import PAPERS
from mmlib.papers.dream import rows, tables
from mmlib.pipeline import regenerate
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import sweep

SCORE = Task("score", range=(-3.0, 3.0))
EMOTIONS = Task("binaries", ("happy", "sad", "angry", "neutral"))
FIRST = imbalanced({"audio": 0.3, "text": 0.5, "vision": 0.7})  # of BALM's six settings
DROPPED = shared(0.5, resampled=True)
EXPERTS = "unimodal own"


class Case(NamedTuple):
    """A row of a table, and what it must be."""

    paper: str
    table: str
    role: str
    task: Task | None
    """Of the toy data; classes where None."""

    row: str
    printed: str
    """The row of the printed table that stands beside it; empty where there is none."""

    stages: tuple[str, ...]
    """Method and what tells the network's kind, by stage."""

    other: str
    """A row whose masks and epochs it must have."""

    epochs: int
    """In all stages together, at the profile smoke, where a stage has two."""


RECONSTRUCTS = "gcnet 1.0"
VECTORS_ALONE = Row(
    "GCNet of vectors", (Stage("reference", "gcnet"),), against=None, takes=Takes((VECTORS,))
)
CASES = {
    "momke-balm-table1": Case(
        "balm",
        "table1",
        "iemocap6",
        None,
        "MoMKE",
        "MoMKE",
        (EXPERTS, "plain softmax"),
        "MMGCN",
        2,
    ),
    "momke-balm-table2": Case(
        "balm", "table2", "mosei", SCORE, "MoMKE", "MoMKE", (EXPERTS, "plain softmax"), "MMGCN", 2
    ),
    "gcnet-dream": Case(
        "dream",
        "table1",
        "mosi-frames",
        SCORE,
        "GCNet",
        "GCNet",
        (f"reference {RECONSTRUCTS}",),
        "same network, task loss alone",
        2,
    ),
    "corrkd-dream": Case(
        "dream",
        "table1",
        "mosi-frames",
        SCORE,
        "CorrKD",
        "CorrKD",
        ("reference corrkd", "corrkd corrkd_student"),
        "same network, task loss alone",
        4,
    ),
    "p-dream": Case(
        "dream",
        "table1",
        "mosi-frames",
        SCORE,
        "CorrKD (as P)",
        "",
        ("reference corrkd",),
        "same network, task loss alone",
        2,
    ),
    "transm-dream": Case(
        "dream",
        "table1",
        "iemocap4-frames",
        EMOTIONS,
        "TransModality",
        "TransM",
        ("transmodality transmodality",),
        "same network, task loss alone",
        2,
    ),
    "mmin-balm-table1": Case(
        "balm",
        "table1",
        "iemocap6",
        None,
        "MMIN",
        "MMIN",
        ("reference mmin_teacher", "mmin mmin"),
        "MMGCN",
        4,
    ),
    "mi-cga-balm-table2": Case(
        "balm",
        "table2",
        "mosei",
        SCORE,
        "Mi-CGA-style",
        "Mi-CGA",
        ("reference mi_cga",),
        "MMGCN",
        2,
    ),
    "imder-mculora": Case(
        "mculora",
        "table1",
        "mosei",
        SCORE,
        "IMDer",
        "IMDer",
        ("imder imder",),
        "joint training",
        2,
    ),
    "mran-mculora": Case(
        "mculora",
        "table1",
        "iemocap4",
        None,
        "MRAN-style",
        "MRAN",
        ("mran mran",),
        "joint training",
        2,
    ),
    "selfmm-dream": Case(
        "dream",
        "table1",
        "mosi-frames",
        SCORE,
        "Self-MM (as P)",
        "",
        ("selfmm selfmm",),
        "CorrKD (as P)",
        2,
    ),
    "gcnet-ebmc-table2": Case(
        "ebmc",
        "table2",
        "iemocap4",
        EMOTIONS,
        "GCNet",
        "GCNet",
        (f"plain {RECONSTRUCTS}",),
        "same network, task loss alone",
        4,
    ),
    "gcnet-ebmc-table3": Case(
        "ebmc",
        "table3",
        "mosei",
        SCORE,
        "GCNet",
        "GCNet",
        (f"plain {RECONSTRUCTS}",),
        "same network, task loss alone",
        4,
    ),
    "gcnet-mculora": Case(
        "mculora",
        "table1",
        "mosei",
        SCORE,
        "GCNet",
        "GCNet",
        (f"plain {RECONSTRUCTS}",),
        "joint training",
        4,
    ),
}
LAWS = {
    "balm": FIRST,
    "dream": DROPPED,
    "ebmc table2": complete(),
    "ebmc table3": patterns(),
    "mculora": patterns(),
}


@pytest.fixture
def context_of(
    toy: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Context]:
    """What gives a paper's smoke context on toy data in one role, with one seed and runs of its own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))

    def make(paper: str, role: str, task: Task | None, frames: int = 0) -> Context:
        more = {} if task is None else {"task": task}
        bundle = dataclasses.replace(toy((2, 3) * 12, frames=frames, **more), name="mine")
        folder = tmp_path / f"{frames} frames"
        save_bundle(bundle, folder)
        data = {role: str(folder)}
        return PAPERS[paper].context("smoke", data, seeds=1)

    return make


def runs(context: Context, table: str, row: str) -> list[RunSpec]:
    """A row's runs in a table, each once, in the order of their settings."""
    artifact = next(a for a in PAPERS[context.paper].artifacts if a.id == table)
    return list(dict.fromkeys(c.spec for c in artifact.cells(context) if c.row == row))


def described(spec: RunSpec) -> str:
    """Method, and routing of MoMKE's or the weight of GCNet's own loss."""
    options = dict(spec.backbone_options)
    if spec.backbone == "momke":
        return f"{spec.method} {options.get('routing', 'softmax')}"
    loss = f" {options['reconstruct']}" if "reconstruct" in options else ""
    return f"{spec.method} {spec.backbone}{loss}"


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_network_of_another_paper_has_its_tables_protocol_and_stands_beside_the_printed_row(
    case: Case, context_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(case.paper, case.role, case.task)
    every = dataclasses.replace(context.profile, settings=6)  # of BALM, as many as are printed
    context = dataclasses.replace(context, profile=every)
    own, other = (runs(context, case.table, row) for row in (case.row, case.other))
    stages = with_parents(own[:1])
    assert tuple(described(spec) for spec in stages) == case.stages
    assert sum(spec.training.epochs for spec in stages) == case.epochs
    law = LAWS[case.paper if case.paper in LAWS else f"{case.paper} {case.table}"]
    assert own[0].train_mask == law
    shares = ("data", "seed", "fold", "train_mask", "eval_masks", "valid_mask")
    assert [[getattr(s, name) for name in shares] for s in own] == [
        [getattr(s, name) for name in shares] for s in other
    ]
    assert {s.training.batch for s in with_parents(own)} == {s.training.batch for s in other}

    monkeypatch.setattr(Context, "is_papers", lambda self, dataset: True)
    sweep(with_parents(own), context.store, jobs=1, progress=False).raise_if_failed()
    numbers = regenerate.draw(context, case.table).numbers
    assert numbers is not None
    mine = numbers[numbers["row"] == case.row]
    done = mine[mine["n"] == 1]
    made = {case.row} | ({"CorrKD (as P)"} if case.row == "CorrKD" else set())  # its first stage
    assert set(numbers[numbers["n"] > 0]["row"]) == made and done["mean"].notna().all()
    known = printed_values(case, mine)
    assert (len(known) > 0) == bool(case.printed)
    beside = done.set_index(["setting", "metric"])["paper"].dropna()
    assert dict(beside) == known


def printed_values(case: Case, mine: pd.DataFrame) -> dict[tuple[str, str], float]:
    """What the printed table has in the places of a row, under our names."""
    dataset = next(d for d, role in PAPERS[case.paper].roles.items() if role == case.role)
    frame = published(case.paper, case.table)
    frame = frame[(frame["row"] == case.printed) & (frame["dataset"] == dataset)]
    whole = {"mculora": "audio+text+vision"}.get(case.paper, "all modalities")
    average = "average"
    if case.paper == "mculora":  # over six conditions, seven or neither (ledger F16)
        average = f"average of {'all' if case.printed == 'IMDer' else 'the missing'} conditions"
    names = {"": whole, "audio+text+vision": whole, "average": average}
    places = frame["setting"].replace(names)
    return {
        (setting, metric): value
        for setting, metric, value in zip(places, frame["metric"], frame["value"], strict=True)
        if metric in set(mine["metric"])
    }


def test_a_row_is_absent_where_its_network_does_not_take_the_data_and_the_table_says_why(
    context_of: Callable[..., Context],
) -> None:
    framed = context_of("dream", "mosi-frames", SCORE, frames=3)
    table = dataclasses.replace(
        tables.TABLE1,
        rows=lambda context, dataset: [*rows.main_rows(context, dataset), VECTORS_ALONE],
    )
    assert all(cell.row != VECTORS_ALONE.name for cell in table.cells(framed))
    p = runs(framed, "table1", "CorrKD (as P)")
    sweep(p, framed.store, jobs=1, progress=False).raise_if_failed()
    output = table.draw(framed, table.cells(framed))
    said = "GCNet of vectors takes two or more modalities, all vectors (d,): no such row on mine."
    assert said in output.notes and output.comparison and output.numbers is not None


def test_gcnet_on_frames_reads_them_by_a_network_of_its_own(
    context_of: Callable[..., Context],
) -> None:
    framed = context_of("dream", "mosi-frames", SCORE, frames=3)
    assert {run.backbone for run in runs(framed, "table1", "GCNet")} == {"gcnet_frames"}
    vectors = context_of("dream", "mosi-frames", SCORE)
    assert len(runs(vectors, "table1", "GCNet")) == 1


@pytest.mark.parametrize(
    ("paper", "artifact", "role", "task"),
    [
        ("dream", "complete-training", "mosi-frames", SCORE),
        ("dream", "selection", "mosi-frames", SCORE),
        ("dream", "enhanced", "mosi-frames", SCORE),
        ("dream", "claims", "mosi-frames", SCORE),
        ("ebmc", "table1", "mosei", SCORE),
        ("ebmc", "claims", "mosei", SCORE),
        ("mculora", "random", "mosei", SCORE),
        ("mculora", "claims", "mosei", SCORE),
    ],
)
def test_what_else_reads_a_tables_rows_does_not_run_those_of_other_papers(
    paper: str, artifact: str, role: str, task: Task, context_of: Callable[..., Context]
) -> None:
    context = context_of(paper, role, task)
    chosen = next(a for a in PAPERS[paper].artifacts if a.id == artifact)
    needed = regenerate.runs_of(context, chosen)
    assert needed and "gcnet" not in {spec.backbone for spec in needed}
    if paper == "dream" and artifact != "claims":  # Fig 5's claims have every P
        assert "selfmm" not in {spec.backbone for spec in needed}


def test_a_row_of_another_paper_changes_no_comparison_of_the_others() -> None:
    for paper, id_ in (("dream", "table1"), ("ebmc", "table3"), ("mculora", "table1")):
        table = PAPERS[paper].artifacts
        (chosen,) = (a for a in table if a.id == id_)
        against = chosen.cells.__self__.baselines(PAPERS[paper].context("smoke"))  # type: ignore[attr-defined]
        assert against and not {"GCNet", "Self-MM (as P)"} & set(against)
