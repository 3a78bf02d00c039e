"""Estimates of time: what ended runs teach, how wide a range is, and which runs are timed first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmlib.papers.catalog import PAPERS
from mmlib.runs import timing
from mmlib.runs.timing import Forecast, Range

NETWORKS = (("balm", "mmgcn"), ("plain", "mmgcn"), ("dream", "dream"), ("ebmc", "momke"))


def run_of(method: str, backbone: str, data: str = "mine", epochs: int = 5, tests: int = 7) -> Any:
    return {
        "method": method,
        "backbone": backbone,
        "data": data,
        "parent": None,
        "eval_masks": [None] * tests,
        "training": {"epochs": epochs},
    }


def a_world(chance: np.random.Generator) -> tuple[list[Any], list[float]]:
    """Runs and their seconds on a machine of any speed, where kinds differ from what is shipped by a quarter."""
    costs = timing.shipped()
    kinds = {network: np.exp(0.25 * chance.standard_normal()) for network in NETWORKS}
    speed = np.exp(1.5 * chance.standard_normal())
    specs = [
        run_of(*network, epochs=e) for network in NETWORKS for e in (3, 5, 9) for _ in range(9)
    ]
    seconds = [
        speed
        * kinds[spec["method"], spec["backbone"]]
        * np.exp(costs["kind"][f"{spec['method']} {spec['backbone']}"])
        * np.exp(0.2 * chance.standard_normal())
        * spec["training"]["epochs"]
        for spec in specs
    ]
    return specs, seconds


def test_after_three_pilots_the_range_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    inside, near = 0, 0
    for _ in range(100):
        specs, seconds = a_world(chance)
        forecast = Forecast(jobs=2)
        first = timing.pilots(specs, forecast)
        assert len({specs[p]["method"] for p in first}) == len(first) == timing.PILOTS
        for place in first:
            forecast.learn(specs[place], seconds[place])
        rest = [place for place in range(len(specs)) if place not in first]
        left = forecast.left(specs[place] for place in rest)
        truth = sum(seconds[place] for place in rest) / 2
        inside += left.low < truth < left.high
        near += truth / 2 < left.low and left.high < 2 * truth
    assert 70 <= inside <= 98 and near >= 90


def test_ranges_narrow_as_runs_end_and_a_kind_that_is_known_is_no_pilot() -> None:
    specs = [run_of(*network) for network in NETWORKS]
    blind = Forecast(jobs=1)
    taught = Forecast(jobs=1)
    for spec in specs:
        for _ in range(5):
            taught.learn(spec, 4.0)
    wide, narrow = blind.left(specs), taught.left(specs)
    assert narrow.high / narrow.low < 1.2 < wide.high / wide.low
    assert narrow.low < 4 * 4.0 < 1.2 * narrow.high
    assert timing.pilots(specs, taught) == [] and len(timing.pilots(specs, blind)) == timing.PILOTS
    taught.learn(specs[0], None)
    assert taught.left([]) == Range(0.0, 0.0)


def test_many_workers_end_no_sooner_than_the_longest_run() -> None:
    spec = run_of("balm", "mmgcn")
    forecast = Forecast(jobs=50)
    for _ in range(20):
        forecast.learn(spec, 60.0)
    assert forecast.left([spec] * 3).low > 45.0


def test_the_first_run_waits_as_long_as_the_starts_that_were_seen() -> None:
    blind, seen, slow = (Forecast(jobs=2, starts=starts) for starts in ([], [4.0] * 5, [40.0] * 5))
    assert seen.start().low < 4.0 < seen.start().high < 2 * seen.start().low * 1.2
    assert blind.start().high / blind.start().low > seen.start().high / seen.start().low
    assert slow.start().low > 2 * seen.start().high, "starts under load are told as they are"
    assert Forecast(jobs=1).start().high < blind.start().high, "no worker is started"
    assert Range(1.0, 2.0) + Range(10.0, 30.0) == Range(11.0, 32.0)


def test_first_runs_count_less_and_not_at_all_where_others_of_their_kind_have_ended() -> None:
    balm, plain = run_of("balm", "mmgcn"), run_of("plain", "mmgcn")
    both = Forecast(jobs=2)
    both.learn(balm, 50.0, first=True)
    both.learn(balm, 5.0)
    alone = Forecast(jobs=2)
    alone.learn(balm, 5.0)
    assert both.left([balm] * 8) == alone.left([balm] * 8)
    first, usual = Forecast(jobs=2), Forecast(jobs=2)
    first.learn(plain, 50.0, first=True)
    usual.learn(plain, 50.0)
    assert first.left([plain] * 8).high - first.left([plain] * 8).low > (
        usual.left([plain] * 8).high - usual.left([plain] * 8).low
    )
    assert [spec for spec, _ in both.seen] == [balm] and [s for s, _ in first.seen] == [plain]


def test_a_notebook_takes_what_it_took_before_and_a_part_of_it_its_share() -> None:
    forecast = Forecast(jobs=1)
    for _ in range(4):
        forecast.learn(timing.notebook("balm"), 80.0)
    whole, half = (forecast.left([timing.notebook("balm", share)]) for share in (1.0, 0.5))
    assert whole.low < 80.0 < whole.high < 2 * whole.low
    assert (half.low, half.high) == pytest.approx((whole.low / 2, whole.high / 2))
    known = {name for name in timing.shipped()["kind"] if name.startswith("notebook ")}
    assert known == {f"notebook {paper}" for paper in PAPERS}


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (3.2, 41.0, "3.2 to 41 s"),
        (700.0, 1100.0, "12 to 18 minutes"),
        (290.0, 310.0, "4.8 to 5.2 minutes"),
        (900.0, 902.0, "about 15 minutes"),
        (5000.0, 9000.0, "1.4 to 2.5 hours"),
    ],
)
def test_ranges_are_said_in_the_unit_that_fits(low: float, high: float, text: str) -> None:
    assert str(Range(low, high)) == text


def test_the_fit_finds_the_factors_that_made_the_times() -> None:
    costs = {"a": 1.0, "b": 3.0}
    kinds = {("plain", "mmgcn"): 2.0, ("balm", "mmgcn"): 5.0}
    runs = [
        (spec, 0.1 * costs[data] * factor * epochs * (timing.TESTS + tests) ** 0.5)
        for data in costs
        for network, factor in kinds.items()
        for epochs in (1, 4)
        for tests in (1, 12)
        for spec in [run_of(*network, data=data, epochs=epochs, tests=tests)]
    ]
    table = timing.fitted(runs).set_index(["what", "name"])["log"]
    assert table["slope", "test masks"] == pytest.approx(0.5, abs=2e-3)
    assert table["data", "b"] - table["data", "a"] == pytest.approx(np.log(3), abs=2e-3)
    gap = table["kind", "balm mmgcn"] - table["kind", "plain mmgcn"]
    assert gap == pytest.approx(np.log(2.5), abs=2e-3)
