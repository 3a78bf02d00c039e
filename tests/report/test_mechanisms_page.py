"""The page of the mechanisms is that of the present laws, and its numbers say what its text says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mmlib import masks
from mmlib.data.catalog import open_twin
from mmlib.report import mechanisms

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """docs/mechanisms.py."""
    spec = importlib.util.spec_from_file_location(
        "mechanisms_page", ROOT / "docs" / "mechanisms.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_current_and_shows_every_mechanism(page: ModuleType) -> None:
    assert page.main(["--check"]) == 0, "run: python docs/mechanisms.py"
    text = (ROOT / "docs" / "mechanisms.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^]]+\]\((mechanisms/\w+\.png)\)", text)
    assert len(shown) == len(mechanisms.SHOWN) and all((ROOT / "docs" / p).exists() for p in shown)
    assert {name for name in masks.mechanism.NAMES if f"### `{name}`" in text} == set(
        masks.mechanism.NAMES
    )


@pytest.mark.parametrize("shown", mechanisms.SHOWN, ids=lambda shown: shown.name)
def test_a_picture_shows_the_curves_and_the_shares_of_the_law(shown: mechanisms.Shown) -> None:
    axes: list[Any] = mechanisms.picture(shown).axes
    assert [ax.get_title(loc="left") for ax in axes] == [
        "What decides",
        "What is lost",
        "What the mask says",
    ]
    curves = {line.get_label(): line.get_ydata() for line in axes[0].lines}
    flat = curves["any slope" if shown.name == "mcar" else "slope 0"]
    assert np.ptp(flat) == 0 and 0 < flat[0] < 1
    for name, curve in curves.items():
        assert (np.diff(curve) >= 0).all()
        assert name != "threshold" or set(np.round(curve, 9)) <= {0.0, 1.0} or len(set(curve)) == 3
    bars = [bar.get_width() for bar in axes[2].patches]
    telling = shown.name in (
        "mar_anchor",
        "mar_candidates",
        "mnar_self",
        "mnar_label",
        "mnar_cross",
    )
    assert (np.ptp(bars) > 0.1) == telling


def test_knowing_the_law_is_worth_something_where_the_page_says_so_and_nothing_elsewhere() -> None:
    twin = open_twin(mechanisms.VECTORS)
    for shown in mechanisms.SHOWN:
        if shown.data != mechanisms.VECTORS:
            continue
        law = shown.make(mechanisms.SLOPE)
        observed = masks.draw(law, twin.bundle, "test", 0).utterance
        blind, aware = mechanisms.accuracies(twin, law, observed)
        if shown.name in ("mnar_self", "mnar_label", "mnar_cross"):
            assert aware > blind + 0.5
        else:
            assert aware == pytest.approx(blind, abs=1e-9)
        # What is expected of the prediction that does not know the law is what it comes to.
        realised = twin.best("test", observed, "accuracy", False)[1]
        assert abs(realised - blind) < 3 * 100 * np.sqrt(0.25 / len(observed))
