"""Options of the command line that several commands share, checked before anything is done."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

from mmlib.errors import InputError, unknown_name

HERE = "local"  # the executor that makes runs on this machine


def check_values(words: Iterable[str]) -> None:
    """Refuse ``--option=--``, of which argparse before Python 3.13 makes an empty list.

    Raises:
        InputError: the first such word.
    """
    for word in words:
        option, equals, value = word.partition("=")
        if option.startswith("-") and equals and value == "--":
            raise InputError(option, "'--'", "a value", "Give one, or leave the option out.")


def names(option: str, text: str | None, choices: Iterable[str] | None = None) -> list[str]:
    """The names of a list with commas; none where the option is not given.

    choices: the names that there are; any name where None.

    Raises:
        InputError: an empty name, one that stands twice, or one that is not known.
    """
    if text is None:
        return []
    chosen = text.split(",")
    if "" in chosen:
        raise InputError(
            option, repr(text), "names with a comma between each two", "Leave out the empty ones."
        )
    for name in chosen:
        if chosen.count(name) > 1:
            raise InputError(option, f"{name} twice", "each name once", "Leave one out.")
        if choices is not None and name not in choices:
            raise unknown_name(option, name, choices)
    return chosen


def rates(option: str, text: str | None) -> dict[str, float]:
    """Rates by name, from ``NAME=RATE,...``; none where the option is not given.

    Raises:
        InputError: no such list, a name that stands twice, a rate outside [0, 1), or no rate above 0.
    """
    made: dict[str, float] = {}
    for pair in names(option, text):
        name, _, number = pair.partition("=")
        rate = _number(number)
        if not name or not 0 <= rate < 1:
            raise InputError(
                option,
                f"{pair[:80]!r}",
                "MODALITY=RATE, a missing rate of at least 0 and below 1",
                f"For example {option} text=0.3,audio=0.7.",
            )
        if name in made:
            raise InputError(option, f"{name} twice", "each modality once", "Leave one out.")
        made[name] = rate
    if made and not any(made.values()):
        raise InputError(
            option,
            "0 for every modality",
            "one above 0 at least",
            "Leave it out for complete data.",
        )
    return made


def _number(text: str) -> float:
    """A number, or NaN where a text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def one(option: str, text: str | None) -> str:
    """The value of an option that may be left out, where it is empty.

    Raises:
        InputError: it is given and empty.
    """
    if text == "":
        raise InputError(option, "nothing", "a value", "Leave the option out, or give it one.")
    return text or ""


def at_least_one(option: str, number: int | None) -> None:
    """Hold a count to 1 or more, where it is given.

    Raises:
        InputError: it is less.
    """
    if number is not None and number < 1:
        raise InputError(option, str(number), "1 or more", "Correct it.")


def minutes(option: str, number: float | None) -> None:
    """Hold a time to a positive number of minutes, where it is given.

    Raises:
        InputError: it is none.
    """
    if number is not None and not 0 < number < math.inf:
        raise InputError(option, str(number), "more than 0 minutes", "Leave it out for no limit.")


def alone(option: str, args: argparse.Namespace, parser_defaults: argparse.Namespace) -> None:
    """Refuse other options beside one that takes none.

    Raises:
        InputError: the first other option that is given.
    """
    own = option.removeprefix("--").replace("-", "_")
    for name, default in vars(parser_defaults).items():
        if name != own and vars(args)[name] != default:
            raise InputError(
                option, f"--{name.replace('_', '-')} beside it", "no other option", "Leave it out."
            )


def folder_there(option: str, text: str) -> Path:
    """A folder that exists.

    Raises:
        InputError: no such folder, or a name that none can have.
    """
    path = Path(text)
    if not text or not is_there(path):
        raise InputError(
            option, f"no folder at {text[:200]!r}", "a folder that exists", "Correct the path."
        )
    if not path.is_dir():
        raise InputError(
            option, f"{text}, a file", "a folder", "Name the folder that the file stands in."
        )
    return path


def file_to_write(option: str, text: str | None) -> None:
    """Hold a file that will be written to a folder that exists, where it is given.

    Raises:
        InputError: no such folder, or a folder of that name.
    """
    if text is None:
        return
    path = Path(text)
    if not text or not is_there(path.parent) or path.is_dir():
        raise InputError(
            option, repr(text[:200]), "a file in a folder that exists", "Make the folder first."
        )


def is_there(path: Path) -> bool:
    """Whether a path exists; none does whose name is too long or has a zero byte."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
