"""From a reference to a bundle: ``twin:ROLE@SIZE``, a bundle's name, or the path of its folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mmlib import paths
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.twins import Twin, make_twin
from mmlib.errors import unknown_name


def is_twin(reference: str) -> bool:
    """Whether a reference names embedded data."""
    return reference.startswith("twin:")


@lru_cache(maxsize=8)
def open_twin(reference: str) -> Twin:
    """The twin of a reference ``twin:ROLE@SIZE``."""
    role, _, size = reference.removeprefix("twin:").partition("@")
    return make_twin(role, size or "quick")


@lru_cache(maxsize=8)
def open_bundle(reference: str) -> Bundle:
    """The bundle of a reference.

    Raises:
        InputError: no such bundle; the message names the nearest known one.
    """
    if is_twin(reference):
        return open_twin(reference).bundle
    for folder in (paths.bundles() / reference, Path(reference)):
        if (folder / "bundle.json").exists():
            return load_bundle(folder)
    raise unknown_name("bundle", reference, names())


def names() -> list[str]:
    """Names of the imported bundles."""
    return sorted(p.parent.name for p in paths.bundles().glob("*/bundle.json"))
