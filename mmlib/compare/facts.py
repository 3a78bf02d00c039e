"""How a comparison was made: the data and what was warned of, learning rates, the rule, and the command."""

from __future__ import annotations

from dataclasses import dataclass

from mmlib.compare import order
from mmlib.compare.plan import ABOUT, MAJORITY
from mmlib.compare.race import LEVEL
from mmlib.compare.results import Results
from mmlib.data.bundle import SPLITS, Bundle
from mmlib.data.check import findings
from mmlib.experiments import nature

RULE = (
    "After {looks} paired seeds, whoever is significantly behind another contender is out "
    "(one-sided paired t tests; for each question, the truly best one leaves with a probability of at most "
    "{level:g}). Seeds go to those that are still in somewhere."
)


@dataclass(frozen=True)
class Notes:
    """What the runs do not say of themselves."""

    command: str
    """The command that goes on with the comparison, or repeats it."""

    untried: tuple[str, ...] = ()
    """Rows whose learning rate was not searched on these data."""

    search: str = "mmlib recipes"
    """The command that searches them."""


def listed(made: Results, notes: Notes) -> list[tuple[str, str]]:
    """What was compared on what."""
    bundle = made.plan.bundle
    rows = {contender.row.name for contender in made.plan.contenders}
    return [
        ("data", f"{bundle.name}, fingerprint {bundle.fingerprint}"),
        ("utterances", _utterances(bundle)),
        ("modalities", ", ".join(f"{m} {d}" for m, d in bundle.dims.items())),
        ("task", f"{bundle.task.kind} {', '.join(bundle.task.names)}".strip()),
        *(("warning", warning.removeprefix("WARNING: ")) for warning in findings(bundle)),
        *(("missing in the data", told) for told in nature.note(bundle.name, bundle)),
        *((name, text) for name, text in ABOUT.items() if name in {*rows, MAJORITY}),
        ("profile", made.plan.context.profile.name),
        ("learning rates", trials_told(made, notes)),
        ("rule", RULE.format(looks=", ".join(map(str, made.plan.looks)), level=LEVEL)),
        *((("older code", older_told(made)),) if made.stale else ()),
        ("command", notes.command),
    ]


def older_told(made: Results) -> str:
    """How many of the runs an older version of the code has made."""
    return (
        f"{made.stale} of {len(made.ids)} runs were made by an older version of the code; those of contenders that get "
        "further seeds are made again"
    )


def _utterances(bundle: Bundle) -> str:
    """How many train, choose the epoch and test; with folds in the first of them, since each is tested once."""
    if bundle.fold is None:
        return _by_split(bundle)
    of_first = _by_split(bundle.with_fold(0))
    return f"{len(bundle)}, each tested in one of {bundle.fold.max() + 1} folds; in the first {of_first}"


def _by_split(bundle: Bundle) -> str:
    return ", ".join(f"{len(bundle.rows(split))} {split}" for split in SPLITS)


def trials_told(made: Results, notes: Notes) -> str:
    """On which data learning rates were searched."""
    if not notes.untried:
        return "searched on the validation split of these data, with as many trials for every network and method"
    networks = {c.row.name for c in made.plan.contenders if not order.is_linear(c)}
    others = "; all others have as many trials each" if networks - set(notes.untried) else ""
    return (
        f"not searched on these data for {', '.join(notes.untried)}, which have those of the most similar data that "
        f"were searched, methods those of their network{others}. A comparison searches before its first seed, where "
        f"that takes at most a third of the minutes, and then keeps what it has. {notes.search} searches later; the "
        "networks then begin anew"
    )
