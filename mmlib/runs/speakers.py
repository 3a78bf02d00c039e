"""Speakers of new utterances by the numbers that a model knows them by.

Some networks learn something of each speaker, or tell speakers of a dialogue apart. Numbers follow the names of the
data that the model was trained on, so that the same person has the same number however many others are given.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.data.groups import NAMES
from mmlib.errors import InputError
from mmlib.names import few
from mmlib.runs.card import Card

COUNT_SPEAKERS = (
    "gcnet",
    "gcnet_frames",
    "mmdfn",
    "mmgcn",
    "sdr_gnn",
)  # networks whose output depends on who speaks


def as_trained(card: Card, given: Bundle) -> tuple[Bundle, tuple[str, ...]]:
    """Utterances with the speakers' numbers of the model's data, and what is said of them; others as they are.

    A person whom those data do not have gets a number that training had not, as the people of test had.

    Raises:
        InputError: more new people than there are such numbers, or more speakers than the network knows.
    """
    if card.spec.backbone not in COUNT_SPEAKERS or card.speakers == 1:
        _check_number(card, given)
        return given, ()
    names = given.notes.get(NAMES)
    if given.fingerprint == card.content["data"]["fingerprint"]:
        return given, ()
    if not names:
        _check_number(card, given)
        return given, (_without_names(card, given),)
    if not card.speaker_names:
        _check_number(card, given)
        told = f"speakers: {given.speakers} here, numbered by their sorted names; the model does not say whom it knows"
        return given, (told,)
    numbers, new = _numbers(card, [str(name) for name in names])
    told = f"speakers: {len(names) - len(new)} that the model's data have, by name"
    if new:
        told += f"; new: {few(new)}, each as a person of whom training had nothing"
    return dataclasses.replace(given, speaker=numbers[given.speaker]), (told,)


def _numbers(card: Card, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """The model's number of each name, (names,), and the names that are new to it."""
    known = {name: number for number, name in enumerate(card.speaker_names)}
    new = [name for name in names if name not in known]
    taken = {known[name] for name in names if name in known} | card.speakers_trained
    free = [number for number in range(card.speakers) if number not in taken]
    if len(new) > len(free):
        raise InputError(
            "speaker",
            f"{len(new)} people whom the model's data do not have: {few(new)}",
            f"at most {len(free)}, since {card.spec.backbone} was trained with the others",
            "It has learned something of each speaker: predict fewer people at a time, or choose a run of another "
            "network.",
        )
    known |= dict(zip(new, free, strict=False))
    return np.array([known[name] for name in names], dtype=np.int64), new


def _check_number(card: Card, given: Bundle) -> None:
    if card.spec.backbone in COUNT_SPEAKERS and given.speakers > card.speakers:
        raise InputError(
            f"{given.name}, speaker",
            f"{given.speakers} speakers",
            f"at most the {card.speakers} that {card.spec.backbone} was trained with",
            "It has learned something of each speaker: leave the column out, or choose a run of another network.",
        )


def _without_names(card: Card, given: Bundle) -> str:
    """What is said of speakers that are numbers, or that are not given."""
    if given.speakers > 1:
        return (
            f"speakers: {given.speakers} here by their numbers; the network knows {card.speakers}"
        )
    first = f", {card.speaker_names[0]}" if card.speaker_names else ""
    return f"speakers: not given, so all utterances are taken as those of the model's first speaker{first}"
