"""Supplement B beside what was measured, and what BALM costs."""

from __future__ import annotations

from mmlib.papers.context import Context
from mmlib.report.artifact import Output


def theory(context: Context) -> Output:
    raise NotImplementedError


def cost(context: Context) -> Output:
    raise NotImplementedError
