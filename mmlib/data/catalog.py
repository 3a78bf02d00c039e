"""From a reference to a bundle: ``twin:ROLE@SIZE``, the name of a bundle, imported or embedded, or a folder's path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mmlib import paths
from mmlib.data import embedded
from mmlib.data.av_twins import AV_ROLES, AVTwin, make_av_twin
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.keep import HEAD
from mmlib.data.twin_laws import FRAME_ROLES, ROLES
from mmlib.data.twins import Twin, make_twin
from mmlib.errors import InputError, unknown_name

TABLE = "utterances.csv"  # of a folder of features that was not imported


def is_twin(reference: str) -> bool:
    """Whether a reference names a twin: synthetic data."""
    return reference.startswith("twin:")


def is_embedded(reference: str) -> bool:
    """Whether a reference leads to data that come with the repository: a twin, or the embedded real data.

    An imported bundle under the name of embedded data is such only where it holds the same.
    """
    if is_twin(reference):
        return True
    return reference in embedded.KINDS and (
        open_bundle(reference).fingerprint == embedded.open_votes().fingerprint
    )


def is_av_twin(reference: str) -> bool:
    """Whether a reference names an audio-visual twin, which ``open_av_twin`` opens."""
    return is_twin(reference) and _role_and_size(reference)[0] in AV_ROLES


@lru_cache(maxsize=8)
def open_twin(reference: str) -> Twin:
    """The twin of a reference ``twin:ROLE@SIZE``, with its exact posterior.

    Raises:
        InputError: unknown role or size, or the role of an audio-visual twin.
    """
    role, size = _role_and_size(reference)
    if role in AV_ROLES:
        exact = ", ".join((*ROLES, *FRAME_ROLES))
        raise InputError(
            "twin",
            repr(reference),
            f"a role with an exact posterior: {exact}",
            "Open it with open_av_twin, or its bundle with open_bundle.",
        )
    return make_twin(role, size)


@lru_cache(maxsize=4)
def open_av_twin(reference: str) -> AVTwin:
    """The audio-visual twin of a reference ``twin:ROLE@SIZE``, with its planted quality.

    Raises:
        InputError: unknown role or size, or the role of another twin.
    """
    role, size = _role_and_size(reference)
    if role not in AV_ROLES:
        raise InputError(
            "twin",
            repr(reference),
            "an audio-visual role: " + ", ".join(AV_ROLES),
            "Open it with open_twin, or its bundle with open_bundle.",
        )
    return make_av_twin(role, size)


@lru_cache(maxsize=8)
def open_bundle(reference: str) -> Bundle:
    """The bundle of a reference; an imported bundle goes before embedded data of its name.

    Raises:
        InputError: no such bundle; the message names the nearest known one.
    """
    if is_twin(reference):
        return (open_av_twin(reference) if is_av_twin(reference) else open_twin(reference)).bundle
    for folder in (paths.bundles() / reference, Path(reference)):
        if is_bundle(folder):
            return load_bundle(folder)
    if reference in embedded.KINDS:
        return embedded.open_votes()
    if _is_file(Path(reference) / TABLE):
        raise InputError(
            reference,
            "a folder of features",
            "the name or the folder of a bundle",
            f"Import it first: mmlib data import folder {reference} --name NAME.",
        )
    raise unknown_name("bundle", reference, [*dict.fromkeys((*names(), *embedded.KINDS))])


def names() -> list[str]:
    """Names of the imported bundles."""
    return sorted(p.parent.name for p in paths.bundles().glob("*/bundle.json"))


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle's."""
    return _is_file(folder / HEAD)


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a path may be, or with a null character
        return False


def _role_and_size(reference: str) -> tuple[str, str]:
    role, _, size = reference.removeprefix("twin:").partition("@")
    roles = [*ROLES, *FRAME_ROLES, *AV_ROLES]
    if role not in roles:
        raise unknown_name("twin role", role, roles)
    return role, size or "quick"
