"""The page of the papers' testable sentences: it is current, in the papers' order, and leaves nothing out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.report.artifact import Artifact

ROOT = Path(__file__).resolve().parents[2]
TABLE = r"^## {}\n\n(\d+) sentences, of which (\d+) are tested\.\n\n((?:\|.*\n)+)"


@pytest.fixture(scope="module")
def page() -> Any:
    spec = importlib.util.spec_from_file_location("claims_page", ROOT / "docs" / "claims.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_declared_claims(page: Any) -> None:
    assert page.main(["--check"]) == 0, "run: python docs/claims.py"


@pytest.mark.parametrize("paper", list(CLAIMS))
def test_every_sentence_stands_once_with_its_tests_or_its_reason(page: Any, paper: str) -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    found = re.search(TABLE.format(re.escape(PAPERS[paper].called)), text, re.MULTILINE)
    assert found is not None
    lines = found[3].splitlines()[2:]
    reasons = [line for line in lines if "| not tested: " in line]
    assert (len(lines), len(lines) - len(reasons)) == (int(found[1]), int(found[2]))
    claims = page.declared(paper)
    assert len({(c.text, c.where) for c in claims}) == int(found[2])
    assert len(reasons) == len(CLAIMS[paper].untested) > 5
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("paper", list(CLAIMS))
def test_a_reason_names_artifacts_that_there_are(paper: str) -> None:
    known = {artifact.id for artifact in PAPERS[paper].artifacts if isinstance(artifact, Artifact)}
    for of in CLAIMS[paper].untested:
        named = re.findall(r"`([^`]+)`", of.why)
        assert set(named) <= known, of
        assert of.text and of.where and len(of.why.split()) > 3


def test_sentences_stand_in_the_papers_order(page: Any) -> None:
    wheres = ["B.2, Eq. 21", "4.2 Q1", "ledger F9", "abstract, 1", "10", "4.1, Table 1", "F.3", "4"]
    assert sorted(wheres, key=page.place) == [
        *("abstract, 1", "4", "4.1, Table 1", "4.2 Q1", "10", "B.2, Eq. 21", "F.3", "ledger F9")
    ]


def test_tests_of_one_sentence_stand_together(page: Any) -> None:
    (first, second, *_) = page.declared("gmm_loss")
    twice = [first, first, second]
    frame = page.table(twice, CLAIMS["gmm_loss"])
    assert isinstance(frame, pd.DataFrame)
    tested = frame[~frame["tested by"].str.startswith("not tested")]
    assert len(tested) == 2 and list(tested["tested by"]) == [first.test, second.test]
    assert tested["sentence"].str.endswith("(primary)").all()
