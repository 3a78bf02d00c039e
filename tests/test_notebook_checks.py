"""The checks that notebooks print."""

import math

import numpy as np
import pytest
import torch

from mmlib import check


def test_what_is_equal_passes_and_what_is_not_names_the_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check.equal("tensors", torch.tensor([0.1, 0.2], requires_grad=True), [0.1, 0.2], tolerance=1e-7)
    check.true("flags", np.bool_(True))
    assert capsys.readouterr().out == "PASS tensors\nPASS flags\n"
    with pytest.raises(
        AssertionError, match=r"FAIL sum: off by up to 0\.5, at most 0\.1 is right\. Look at Eq\. 2"
    ):
        check.equal("sum", [1.0, 1.0], [0.5, 1.0], tolerance=0.1, hint="Look at Eq. 2")
    with pytest.raises(AssertionError, match=r"shape \(2,\), expected \(\)"):
        check.equal("one", [1.0, 1.0], 1.0)
    with pytest.raises(AssertionError, match=r"FAIL falls\. Look"):
        check.true("falls", False, "Look")


def test_tolerance_is_absolute_for_small_values_and_a_share_of_the_largest_of_large_ones() -> None:
    check.equal("large", [0.0, 300.0], [2e-3, 300.0], tolerance=1e-5)
    for found, expected in (([0.0, 0.3], [2e-3, 0.3]), ([0.0, 300.0], [4e-3, 300.0])):
        with pytest.raises(AssertionError, match="off by"):
            check.equal("differ", found, expected, tolerance=1e-5)


@pytest.mark.parametrize(
    ("found", "expected"), [(1.0, math.nan), (math.nan, 1.0), (1.0, math.inf), (math.inf, 1.0)]
)
def test_nothing_that_is_not_finite_passes(found: float, expected: float) -> None:
    with pytest.raises(AssertionError, match="FAIL"):
        check.equal("odd", found, expected, tolerance=0.5)
