"""What claims give on the papers' own printed numbers, and where that is shown."""

from __future__ import annotations

import csv
import dataclasses
from importlib import resources
from statistics import fmean

import pandas as pd
import pytest

from mmlib.experiments import published
from mmlib.experiments.claims import Claim, Source, _beside, of_metric
from mmlib.experiments.context import Context
from mmlib.experiments.measures import Lead, Mean, Shift
from mmlib.experiments.profiles import profile
from mmlib.experiments.published import stated
from mmlib.papers.catalog import CLAIMS, PAPERS


def lines(paper: str, table: str) -> list[dict[str, str]]:
    path = resources.files(published).joinpath(paper, f"{table}.csv")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def declared(paper: str) -> list[Claim]:
    """At the paper's settings; the smallest twins stand in for its data."""
    of = PAPERS[paper]
    return list(CLAIMS[paper].declared(of.context("paper", data=of.defaults(profile("smoke")))))


def gains(paper: str, dataset: str) -> dict[str, float]:
    """By test, of a data set's claims that the paper prints something for."""
    told = {c.test: c.printed() for c in declared(paper) if c.source.dataset == dataset}
    return {test: gain for test, gain in told.items() if gain is not None}


def test_balms_gain_is_the_mean_of_its_printed_differences() -> None:
    for table, dataset in (("table1", "iemocap"), ("table2", "mosei")):
        f1 = [line for line in lines("balm", table) if line["metric"] == "weighted_f1"]
        mean = {
            row: fmean(float(line["value"]) for line in f1 if line["row"] == row)
            for row in ("MMGCN", "MMGCN+BALM", "MoMKE")
        }
        told = gains("balm", dataset)
        plain = mean["MMGCN+BALM"] - mean["MMGCN"]
        claims = [c for c in declared("balm") if c.text.startswith("BALM improves each backbone")]
        of_main = [
            c.printed() for c in claims if (c.source.dataset, c.network) == (dataset, "MMGCN")
        ]
        assert of_main == [pytest.approx(plain)]
        of_momke = told["MMGCN+BALM minus MoMKE, mean of the six settings"]
        assert of_momke == pytest.approx(mean["MMGCN+BALM"] - mean["MoMKE"])


def test_gains_that_a_text_states_are_those_of_its_cells() -> None:
    """EBMC's Table 4 and BALM's Table 3, as their texts state them, but for one that does not add up."""
    texts = stated("ebmc").set_index(["table", "dataset", "other"])["stated"].astype(float)
    for dataset in ("mosi", "mosei"):
        told = gains("ebmc", dataset)
        for part in ("MSD", "CCE", "IMTD"):
            assert told[f"EBMC minus w/o {part}"] == pytest.approx(
                texts["table4", dataset, f"w/o {part}"], abs=0.011
            )
    fcm = gains("balm", "iemocap")["+FCM minus plain, mean of 7 subsets of complete data"]
    of_text = stated("balm").set_index(["table", "dataset"])["stated"]
    assert f"{fcm:.2f}" == of_text["table3", "iemocap"]


def test_the_best_printed_rival_is_the_one_with_the_highest_number() -> None:
    of_table = {
        line["row"]: float(line["value"])
        for line in lines("gmm_loss", "table1")
        if line["dataset"] == "crema-d" and line["value"]
    }
    ours = of_table.pop("Ours (Adaptive Loss)")
    told = gains("gmm_loss", "crema-d")
    best = told["Ours minus the one of its nine rivals that validation picks"]
    assert best == pytest.approx(ours - max(of_table.values()))


def test_a_gain_is_known_only_where_every_cell_is_printed() -> None:
    table = {("ours", "a"): 5.0, ("plain", "a"): 3.0, ("ours", "b"): 4.0}
    of = {place: pd.Series({0: value}) for place, value in table.items()}
    source = of_metric("data", (), "accuracy", {"both": ["a", "b"]}, of)
    claim = Claim("it helps", "1", "ours minus plain", source, Lead("ours", "plain", "a"))

    def printed(measure: Lead | Mean | Shift) -> float | None:
        return dataclasses.replace(claim, measure=measure).printed()

    assert claim.printed() == 2.0
    assert printed(Lead("ours", "plain", "b")) is None
    assert printed(Mean([Lead("ours", "plain", s) for s in "ab"])) is None
    assert printed(Lead("ours", "plain", "both")) is None
    assert printed(Shift("ours", "both", "b")) == pytest.approx(0.5)
    unprinted = Source("data", (), lambda context, cells: {})
    assert dataclasses.replace(claim, source=unprinted).printed() is None


def test_the_papers_gains_stand_beside_real_data_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    context = PAPERS["gmm_loss"].context("smoke")
    assert not any(_beside(context, dataset) for dataset in context.datasets)
    monkeypatch.setattr(Context, "reference", lambda self, dataset: "some-bundle")
    assert all(_beside(context, dataset) for dataset in context.datasets)
    own = dataclasses.replace(context)
    monkeypatch.setattr(Context, "shows_printed", lambda self, dataset: False)
    assert not any(_beside(own, dataset) for dataset in own.datasets)
