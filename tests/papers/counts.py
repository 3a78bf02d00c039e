"""Printed accuracies as counts of right answers."""

from __future__ import annotations

from mmlib.experiments.arithmetic import HALF, SLACK, nearest_count


def is_one_run(value: float, n: int) -> bool:
    """Whether some number of right answers among n prints as this accuracy, as the mean of several runs seldom does."""
    return abs(value - nearest_count(value, n)) <= HALF + SLACK
