"""Which data a paper's networks accept: number and shape of modalities, and task. Checked before any run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.metrics import has_decisions

# How messages call what one utterance has of a modality, by its number of axes.
FORMS = {
    1: "vectors (d,)",
    2: "frames (t, d)",
    3: "images (c, h, w)",
    4: "clips of images (k, c, h, w)",
}
VECTORS, SEQUENCES, PICTURES = frozenset({1}), frozenset({2}), frozenset({3, 4})


class DataRefused(InputError):
    """A paper does not accept these data; another paper may."""


@dataclass(frozen=True)
class Takes:
    """The data that a paper accepts."""

    forms: tuple[frozenset[int], ...]
    """Accepted numbers of axes of one utterance's modalities: all of them in one of these sets."""

    most: int | None = None
    """The largest number of modalities; None for any number from two up."""

    tasks: tuple[str, ...] = ("classes", "score", "binaries")
    """Kinds of task."""

    decided: bool = False
    """Whether answers must be right or wrong, so that scores without a neutral value are not accepted."""

    def fits(self, bundle: Bundle) -> bool:
        """Whether a bundle is accepted."""
        axes = {len(shape) for shape in bundle.shapes.values()}
        count = len(bundle.modalities)
        enough = 2 <= count and (self.most is None or count <= self.most)
        asked = bundle.task.kind in self.tasks and (not self.decided or has_decisions(bundle.task))
        return enough and asked and any(axes <= form for form in self.forms)

    def __str__(self) -> str:
        count = "two modalities" if self.most == 2 else "two or more modalities"
        forms = [" or ".join(FORMS[axes] for axes in sorted(form)) for form in self.forms]
        tasks = "" if len(self.tasks) == 3 else f", with {' or '.join(self.tasks)} as labels"
        neutral = "; a score needs a neutral value (bundle.toml)" if self.decided else ""
        return f"{count}, all {' or all '.join(forms)}{tasks}{neutral}"


def check(
    called: str, roles: Mapping[str, str], bundles: Mapping[str, Bundle], takes: Mapping[str, Takes]
) -> None:
    """Hold a paper's data to what it takes.

    called: the paper's name for readers. roles, bundles, takes: by data set name. A data set that ``takes`` does not
    name takes what ``""`` says.

    Raises:
        DataRefused: the paper, the role, what was found in it and what was expected.
    """
    for dataset, bundle in bundles.items():
        wanted = takes.get(dataset, takes[""])
        if not wanted.fits(bundle):
            raise DataRefused(
                f"{called}, role {roles[dataset]}, bundle {bundle.name}",
                described(bundle),
                str(wanted),
                "Give this role other data, or run the papers that take these: --paper.",
            )


def described(bundle: Bundle) -> str:
    """A bundle's modalities with what one utterance has of each, and its task."""
    parts: Iterable[str] = (f"{m} {shape}" for m, shape in bundle.shapes.items())
    task = (
        bundle.task.kind
        if has_decisions(bundle.task)
        else f"{bundle.task.kind} without a neutral value"
    )
    return f"{len(bundle.modalities)} modalities ({', '.join(parts)}), {task} as labels"
