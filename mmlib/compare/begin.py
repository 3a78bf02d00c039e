"""What ``mmlib compare`` says at once, before anything that takes seconds to import."""

from __future__ import annotations

LONG = 30  # minutes from which on the larger profile is worth its time


def profile_for(minutes: float | None, profile: str | None) -> str:
    """The profile that is asked for; by default quick below 30 minutes, else laptop."""
    return profile or ("quick" if (minutes or LONG) < LONG else "laptop")


def announcement(data: str, minutes: float | None, profile: str | None) -> str:
    """What a call is going to do, in a line."""
    until = "until every question is decided" if minutes is None else f"about {minutes:g} minutes"
    return (
        f"Comparing the methods and networks that take {data}, {until}, profile "
        f"{profile_for(minutes, profile)}. Reading the data ..."
    )
