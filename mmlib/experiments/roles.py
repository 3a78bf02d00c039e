"""Which of a paper's roles some data fill, where they are given without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmlib.data.agreement import agrees
from mmlib.data.bundle import Bundle
from mmlib.data.manifest import load_manifest
from mmlib.experiments.takes import DataRefused, Takes, described

if TYPE_CHECKING:
    from mmlib.experiments.context import Context


def role_for(
    called: str, name: str, roles: Mapping[str, str], accepts: Mapping[str, Takes], bundle: Bundle
) -> str:
    """The role of a paper that some data fill: of those that accept them, the one whose own data are most like them.

    called, name: the paper's, for readers and in the manifest. roles: data set name to role, in the paper's order,
    which decides between equals. accepts: by data set name; ``""`` is for all others.

    Raises:
        DataRefused: no role accepts the data.
    """
    taking = [role for d, role in roles.items() if accepts.get(d, accepts[""]).fits(bundle)]
    if not taking:
        wanted = dict.fromkeys(str(accepts.get(d, accepts[""])) for d in roles)
        raise DataRefused(
            f"{called}, bundle {bundle.name}",
            described(bundle),
            "; or ".join(wanted),
            "The README's table of notebooks says which of them take what.",
        )
    return min(taking, key=lambda role: _unlikeness(bundle, role, name))


def check_tasks(context: Context) -> None:
    """Hold data that were given for a role to its task: scores stand for scores alone, classes never for them.

    Raises:
        DataRefused: classes in the role of a score, or a score in that of classes.
    """
    called = context.declared.called
    for role, bundle in ((context.roles[d], context.bundle(d)) for d in context.datasets):
        wanted = load_manifest()["role"][role]["task"]
        if (bundle.task.kind == "score") != (wanted == "score"):
            raise DataRefused(
                f"{called}, role {role}, bundle {bundle.name}",
                described(bundle),
                f"{'a score' if wanted == 'score' else 'classes'} as labels",
                f"Give another role, or none: --data {bundle.name}.",
            )


def _unlikeness(bundle: Bundle, role: str, paper: str) -> tuple[int, ...]:
    """How data differ from those of a role, what weighs most first; 0 where they do not."""
    entry = load_manifest()["role"][role]
    framed = all(x.ndim == 3 for x in bundle.features.values())
    modalities = max(len(of_paper.get("dims", {})) for of_paper in entry["paper"])
    one_score = (bundle.task.kind == "score") != (entry["task"] == "score")
    return (
        bundle.notes.get("twin") != role,
        not agrees(bundle, role, paper),
        framed != entry["frames"],
        one_score,
        bundle.task.kind != entry["task"],
        abs(len(bundle.modalities) - modalities),
    )
