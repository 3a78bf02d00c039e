"""Systems whose training reads what their own network alone has."""

from __future__ import annotations

from typing import TypeVar

from mmlib.errors import InputError
from mmlib.methods.plain import Plain

Network = TypeVar("Network")


def own_network(method: Plain, called: str, kind: type[Network]) -> Network:
    """The network of a system's method, which has the system's name.

    Raises:
        InputError: another network.
    """
    network = method.backbone
    if not isinstance(network, kind):
        raise InputError(
            called,
            f"the backbone {type(network).__name__}",
            "its own network",
            f"Use the backbone {called}.",
        )
    return network
