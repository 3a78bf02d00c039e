"""The one list of papers, in the order of their notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.experiments.claims import Claims
from mmlib.experiments.context import NO_ROLE, Paper
from mmlib.papers import balm, dream, ebmc, gmm_loss, mculora, side_by_side

# The comparison comes last: its notebook counts what the others made.
PAPERS: dict[str, Paper] = {
    "balm": balm.PAPER,
    "dream": dream.PAPER,
    "ebmc": ebmc.PAPER,
    "mculora": mculora.PAPER,
    "gmm_loss": gmm_loss.PAPER,
    "side_by_side": side_by_side.PAPER,
}

CLAIMS: dict[str, Claims] = {
    "balm": balm.claims.CLAIMS,
    "dream": dream.claims.CLAIMS,
    "ebmc": ebmc.claims.CLAIMS,
    "mculora": mculora.claims.CLAIMS,
    "gmm_loss": gmm_loss.claims.CLAIMS,
}


def paper_of(name: str) -> Paper:
    """A paper by name.

    Raises:
        InputError: no such paper.
    """
    if name not in PAPERS:
        raise unknown_name("--paper", name, PAPERS)
    return PAPERS[name]


def papers_for(data: Mapping[str, str], backbone: str, wanted: Sequence[str] = ()) -> list[str]:
    """The papers that have any of these roles and artifacts and run on these backbones; all where none are given.

    Data without a role are for every paper.

    Raises:
        InputError: no paper has such a role.
    """
    roles = [role for paper in PAPERS.values() for role in paper.roles.values()]
    for role in data:
        if role not in (*roles, NO_ROLE):
            raise unknown_name("data role", role, roles)
    chosen = []
    for name, paper in PAPERS.items():
        offered = paper.backbones if paper.offered is None else paper.offered
        has_role = not data or NO_ROLE in data or set(data) & set(paper.roles.values())
        has_backbone = not backbone or set(backbone.split(",")) <= set(offered)
        has_artifact = not wanted or set(wanted) & {a.id for a in paper.artifacts}
        if has_role and has_backbone and has_artifact:
            chosen.append(name)
    return chosen or list(PAPERS)  # whose contexts then say what is wrong


def data_for(paper: Paper, data: Mapping[str, str], asked: Iterable[Paper]) -> dict[str, str]:
    """The data of one paper's roles, where several papers are asked; a role that none has stays, to be refused."""
    others = {role for other in asked if other is not paper for role in other.roles.values()}
    return {
        role: bundle
        for role, bundle in data.items()
        if role in paper.roles.values() or role not in others
    }


def parse_data(pairs: Iterable[str]) -> dict[str, str]:
    """``ROLE=BUNDLE`` strings as a dictionary; a single ``BUNDLE`` stands under ``NO_ROLE``.

    Raises:
        InputError: an empty side, a role given twice, or data without a role that do not stand alone or do not exist.
    """
    bundles: dict[str, str] = {}
    given = list(pairs)
    for pair in given:
        role, equals, bundle = pair.partition("=")
        if not equals:
            return {NO_ROLE: _alone(pair, given)}
        if not role or not bundle:
            raise InputError(
                "--data",
                repr(pair),
                "BUNDLE or ROLE=BUNDLE",
                "For example --data mosei=mosi-unseen.",
            )
        if role in bundles:
            raise InputError("--data", f"the role {role} twice", "each role once", "Leave one out.")
        bundles[role] = bundle
    return bundles


def _alone(reference: str, given: Sequence[str]) -> str:
    """Data that were given without a role, where nothing stands beside them.

    Raises:
        InputError: something does, or there are no such data.
    """
    if len(given) > 1:
        raise InputError(
            "--data",
            f"{reference!r} without a role, and others",
            "one data set without a role, or ROLE=BUNDLE for each",
            "Give the roles, or make a run for each data set.",
        )
    try:
        open_bundle(reference)
    except InputError:
        if reference in {role for paper in PAPERS.values() for role in paper.roles.values()}:
            raise InputError(
                "--data",
                f"the role {reference} without data",
                "BUNDLE or ROLE=BUNDLE",
                f"For example --data {reference}=mosi-unseen.",
            ) from None
        raise
    return reference
