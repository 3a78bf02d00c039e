"""What is gathered of all papers: claims.csv and the replication reports, and that no number in them is typed."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prose import numbers, typed_numbers

from mmlib.experiments import arithmetic
from mmlib.experiments.comparison import OWN, STANDS_IN, SYNTHETIC
from mmlib.experiments.context import Paper
from mmlib.experiments.published import papers
from mmlib.experiments.undeclared import left_out, rows_left_out
from mmlib.papers import catalog
from mmlib.pipeline import gather, replication
from mmlib.report.artifact import Artifact, Entry, csv_bytes, read_manifest, update_manifest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures"
ENTRIES = read_manifest(FIGURES / "manifest.json")
REPORTS = gather.reported(ENTRIES, catalog.PAPERS)
CLAIMED = [
    pair
    for pair in REPORTS
    if any(e["id"] == "claims" and pair == (e["paper"], e["collection"]) for e in ENTRIES)
]
AGAIN = (
    'run: python -c "from mmlib import paths; from mmlib.papers.catalog import PAPERS; '
    'from mmlib.pipeline import gather; gather.write_all(paths.figures(), PAPERS)"'
)


def committed(paper: str, collection: str) -> str:
    return (FIGURES / collection / paper / "replication.md").read_text(encoding="utf-8")


def of(paper: str, collection: str) -> list[Entry]:
    return [e for e in ENTRIES if (e["paper"], e["collection"]) == (paper, collection)]


def copied(tmp_path: Path, *collections: str) -> Path:
    """A root whose figures hold the numbers and manifest entries of some collections."""
    for name in collections:
        for file in (FIGURES / name).rglob("*-numbers.csv"):
            target = tmp_path / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    update_manifest(
        tmp_path / "figures" / "manifest.json",
        [e for e in ENTRIES if e["collection"] in collections],
    )
    return tmp_path


@pytest.mark.parametrize(("paper", "collection"), REPORTS)
def test_committed_reports_say_what_the_manifest_and_its_files_say(
    paper: str, collection: str
) -> None:
    made = replication.report(catalog.PAPERS[paper], of(paper, collection), ROOT)
    assert committed(paper, collection) == made, AGAIN


def test_committed_claims_and_arithmetic_are_those_of_the_files(tmp_path: Path) -> None:
    assert (FIGURES / "claims.csv").read_bytes() == csv_bytes(
        gather.claims(ENTRIES, ROOT, list(catalog.PAPERS))
    ), AGAIN
    arithmetic.write(tmp_path)
    assert (FIGURES / "arithmetic.csv").read_bytes() == (
        tmp_path / "arithmetic.csv"
    ).read_bytes(), AGAIN


def test_claims_are_of_every_paper_and_collection_and_each_line_is_its_files() -> None:
    found = pd.read_csv(FIGURES / "claims.csv", dtype=str, keep_default_na=False)
    lines = Counter(zip(found["collection"], found["paper"], strict=True))
    for paper, collection in CLAIMED:
        own = pd.read_csv(
            FIGURES / collection / paper / "claims-numbers.csv", dtype=str, keep_default_na=False
        )
        mine = found[(found["paper"] == paper) & (found["collection"] == collection)]
        assert lines.pop((collection, paper)) == len(own) > 0
        assert mine[list(own.columns)].reset_index(drop=True).equals(own)
    assert not lines
    assert (found["made of"] == "twins").equals(found["data"].str.contains("twin"))


def test_a_second_call_writes_the_same_bytes_and_only_of_what_the_manifest_lists(
    tmp_path: Path,
) -> None:
    figures = copied(tmp_path, "mosi-unseen", "twins") / "figures"
    stray = figures / "stray" / "balm" / "claims-numbers.csv"
    stray.parent.mkdir(parents=True)
    shutil.copyfile(FIGURES / "twins" / "balm" / "claims-numbers.csv", stray)

    def written() -> dict[str, bytes]:
        gather.write_all(figures, catalog.PAPERS)
        return {
            p.relative_to(figures).as_posix(): p.read_bytes()
            for p in figures.rglob("*")
            if p.is_file() and not p.name.startswith(".")
        }

    first = written()
    assert written() == first
    reports = {name for name in first if name.endswith("replication.md")}
    assert reports == {
        f"{c}/{p}/replication.md" for p, c in REPORTS if c in ("mosi-unseen", "twins")
    }
    found = pd.read_csv(figures / "claims.csv", dtype=str, keep_default_na=False)
    assert list(dict.fromkeys(found["collection"])) == ["mosi-unseen", "twins"]
    twins = found[found["collection"] == "twins"]
    assert list(dict.fromkeys(twins["paper"])) == [p for p, c in CLAIMED if c == "twins"]


def held(paper: str, collection: str) -> set[str]:
    """Every number of the files that a report is made of, as text, two decimals where a table rounds."""
    entries, frame = of(paper, collection), arithmetic.checks(paper)
    module = catalog.PAPERS[paper]
    texts = [str(e[key]) for e in entries for key in ("caption", "title", "notes", "runs")]
    texts += [
        (ROOT / f).read_text(encoding="utf-8")
        for e in entries
        for f in e["files"]
        if f.endswith("claims-numbers.csv")
    ]
    texts += [a.title for a in module.artifacts] + [" ".join(choice) for choice in module.obstacles]
    texts += [
        left_out(module),
        module.guesses,
        (ROOT / "data" / "manifest.toml").read_text(encoding="utf-8"),
    ]
    texts += [f"{v:.2f}" for v in (*frame["printed"], *frame["recomputed"])]
    texts += [" ".join(line) for line in frame[["rule", "setting", "row"]].to_numpy()]
    return {n.lstrip("+") for text in texts for n in numbers(text)}


def unheld(text: str, paper: str, collection: str) -> list[str]:
    """Numbers with decimals or a sign in a report that none of its files holds."""
    known = held(paper, collection)
    return [n for n in numbers(text) if re.search(r"[.+\-−]", n) and n.lstrip("+") not in known]


@pytest.mark.parametrize(("paper", "collection"), REPORTS)
@pytest.mark.parametrize("planted", ["", "It gains 98.76 points.", "It gains +97531."])
def test_a_report_holds_no_number_that_its_files_do_not_and_a_planted_one_is_found(
    paper: str, collection: str, planted: str
) -> None:
    text = committed(paper, collection).replace(
        "## What agreed\n", f"## What agreed\n\n{planted}\n"
    )
    assert unheld(text, paper, collection) == re.findall(r"\+?\d[\d.]*\d", planted)


def literals(source: str) -> list[str]:
    """Numbers typed into a module's templates."""
    strings = (
        n.value
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )
    return [n for text in strings for n in typed_numbers(text)]


@pytest.mark.parametrize("planted", ["", "\nMORE = 'BALM gains 2.3 points'\n"])
def test_the_templates_hold_no_number_and_a_planted_one_is_found(planted: str) -> None:
    assert literals(inspect.getsource(replication) + planted) == (["2.3 points"] if planted else [])
    assert not re.search(r"\d", re.sub(r"\{\w+\}", "", replication.TEMPLATE))


@pytest.mark.parametrize(("paper", "collection"), REPORTS)
def test_twins_are_called_twins_and_stand_ins_stand_ins(paper: str, collection: str) -> None:
    text = committed(paper, collection)
    assert ("synthetic twins" in text) == (collection in ("twins", "twins-study"))
    assert ("which are synthetic" in text) == (collection == "embedded")
    assert "Partial replication" in text
    # None where every claim has one seed only.
    quoted = [line for line in text.splitlines() if line.startswith("- claim ")]
    if collection in ("twins", "twins-study"):
        assert STANDS_IN not in text and all(" twin, " in line for line in quoted)
    elif collection == "embedded":
        assert all(" twin, " in line or "crema-d-votes, " in line for line in quoted)
    else:
        assert STANDS_IN in text and quoted


def entry(id_: str, **other: Any) -> Entry:
    return {
        "id": id_,
        "paper": "balm",
        "collection": "iemocap-real",
        "title": id_,
        "caption": "A caption. Data: x.",
        "status": "regenerated",
        "rows_built": 2,
        "rows_in_paper": 2,
        "files": [],
        "runs": 1,
        "seeds": [0, 1],
        "profile": "paper",
        "selection": "valid",
        "fingerprint": "f00",
        "notes": [],
    } | other


TABLES = tuple(
    Artifact(i, "balm", "table", i, "A caption.", lambda _: [], lambda *_: pytest.fail(""), 2)
    for i in ("t1", "t2")
)
PAPER = Paper("balm", "A paper", "A paper", "01.ipynb", {}, {}, ("mmgcn",), TABLES, (), "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"profile": "laptop"}, "the budget is reduced"),
        ({"rows_built": 1}, "1 of the paper's rows"),
        ({"status": "needs data"}, "1 of 2 tables and figures were made"),
        ({"notes": [f"x {STANDS_IN}, so"]}, "other data stand in"),
        ({"notes": [f"x {OWN}, so"]}, "the data are not the paper's"),
        ({"notes": [f"x: {SYNTHETIC}"]}, "synthetic twins"),
        (
            {"notes": [f"x: {SYNTHETIC}", f"y {STANDS_IN}, so"]},
            "which are synthetic, and other data",
        ),
    ],
)
def test_a_replication_is_full_only_where_data_budget_artifacts_and_rows_are_the_papers(
    change: dict[str, Any], why: str
) -> None:
    text = replication.report(PAPER, [entry("t1"), entry("t2", **change)], ROOT)
    assert ("**Partial replication**: " in text) == bool(why) and (
        "**Full replication**." in text
    ) == (not why)
    assert why in text


@pytest.mark.parametrize("first", [{"id": "claims"}, {"id": "t0"}])
def test_data_are_named_where_the_first_artifact_has_no_runs_and_unmade_claims_are_no_link(
    first: dict[str, Any],
) -> None:
    unmade = entry("", caption="Claims.", status="needs data", seeds=[], notes=["It needs y."])
    told = entry(
        "t2", caption="Rates. Data: mine (9 utterances). Smoke.", notes=[f"mine {OWN}, so"]
    )
    text = replication.report(PAPER, [unmade | first, entry("t1"), told], ROOT)
    assert "\n- Data: mine (9 utterances); fingerprint `f00`.\n" in text
    deviations = text.split("## Deviations")[1]
    assert f"- mine {OWN}, so" in deviations and "- Smoke." in deviations
    assert "claims.md" not in text and "claims are not built yet here.\n" in text
    nothing = replication.report(PAPER, [unmade | first], ROOT)
    assert "\n- Data: `iemocap-real`; fingerprint `f00`.\n" in nothing


def test_the_strongest_claims_are_those_farthest_from_zero_in_widths_of_their_interval() -> None:
    lines = [
        ("near", 5.0, 0.1, 9.9),
        ("far", 1.0, 0.9, 1.1),
        ("middle", 3.0, 2.0, 4.0),
        ("fair", 2.0, 1.5, 2.5),
    ]
    frame = pd.DataFrame(lines, columns=["claim", "difference", "low", "high"]).assign(
        no=range(1, 5),
        where="4",
        data="x",
        backbone="b",
        unit="points",
        seeds=3,
        measured="m",
        verdict="supported",
        **{"test (above 0 supports)": "t"},
    )
    text = replication.strongest(frame)
    assert (
        re.findall(r'"(\w+)"', text) == ["far", "fair", "middle"] and "the strongest 3 of 4" in text
    )
    assert replication.verdicts(frame).startswith(
        "Of 4 claims 4 could be tested: 4 supported, 0 contradicted"
    )
    untested = frame.assign(verdict=["supported", "not run", "too few seeds", "undecided"])
    assert replication.verdicts(untested).startswith("Of 4 claims 2 could be tested: 1 supported")


def test_each_paper_says_where_it_leaves_a_choice_and_what_is_left_out() -> None:
    rows = re.compile(r"ours|Tables? [\d, ]+|[A-H]\d+(, [A-H]\d+)*")
    for name, module in catalog.PAPERS.items():
        assert len(module.obstacles) >= (10 if name in papers() else 5), name
        absent = rows_left_out(module)
        assert left_out(module).count("(") >= len(absent), name
        assert all(rows.fullmatch(choice.ledger) for choice in module.obstacles), name


def test_claims_on_own_data_stand_in_their_collection_alone(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    shutil.copytree(FIGURES / "crema-d-votes", figures / "mine")
    entries = read_manifest(FIGURES / "manifest.json")
    own = [
        {
            **entry,
            "collection": "mine",
            "files": [name.replace("crema-d-votes", "mine") for name in entry["files"]],
            "local": [],
        }
        for entry in entries
        if entry["collection"] == "crema-d-votes"
    ]
    update_manifest(figures / "manifest.json", own)
    gather.write_all(figures, catalog.PAPERS)
    read = partial(pd.read_csv, dtype=str, keep_default_na=False)
    assert read(figures / "claims.csv").empty
    assert set(read(figures / "mine" / "claims.csv")["collection"]) == {"mine"}
