"""Which claims a figure has room for, and what it says of the others."""

from __future__ import annotations

import numpy as np

from mmlib.experiments import claims
from mmlib.experiments.claims import Claim
from mmlib.report import stats

POINTS = "points"


def claim(number: int, mean: float, spread: float) -> Claim:
    return Claim(
        f"claim {number}",
        "1",
        "data",
        "net",
        "a minus b",
        POINTS,
        mean + spread * np.array([-1.0, 0, 0, 1]),
    )


def test_a_crowded_figure_keeps_what_is_decided_then_what_comes_nearest_in_the_tables_order() -> (
    None
):
    found = {
        "far": claim(1, 0.1, 9.0),
        "near": claim(2, 5.0, 9.0),
        "decided": claim(3, 5.0, 0.1),
        "nearer": claim(4, -7.0, 9.0),
    }
    tests = {name: stats.paired(c.values, np.zeros(4), stats.MARGIN) for name, c in found.items()}
    assert tests["decided"].verdict == "better" and {t.verdict for t in tests.values()} == {
        "better",
        "undecided",
    }
    assert list(claims.most_telling(tests, 3)) == ["near", "decided", "nearer"]
    assert list(claims.most_telling(tests, 1)) == ["decided"] and list(
        claims.most_telling(tests, 9)
    ) == list(tests)


def test_the_table_has_every_claim_and_the_figure_says_how_many_it_shows() -> None:
    found = [claim(n, 0.1 * n, 9.0) for n in range(claims.DRAWN + 5)]
    output = claims.table(None, found, POINTS, (), ())  # type: ignore[arg-type]
    assert (
        output.table is not None
        and len(output.table) == claims.DRAWN + 5
        and output.figure is not None
    )
    shown = [label.get_text() for label in output.figure.axes[0].get_yticklabels()]
    assert [text.split(".")[0] for text in shown] == [str(n) for n in range(6, claims.DRAWN + 6)]
    assert f"{claims.DRAWN} of {claims.DRAWN + 5}" in " ".join(output.notes)
    few = claims.table(None, found[:5], POINTS, (), ())  # type: ignore[arg-type]
    assert "Figure:" not in " ".join(few.notes)
