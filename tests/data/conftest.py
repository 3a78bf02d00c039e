"""The command line as tests call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


@pytest.fixture(scope="session")
def cli() -> Callable[[Sequence[str]], int]:
    """``mmlib.cli.main``: the arguments to the exit code."""
    from mmlib.cli import main

    return main
