"""Networks that are trained twice: a first stage trains them, a second one keeps much of what that learned."""

from __future__ import annotations

from torch import nn

from mmlib.nn.backbone import Backbone


class TwoStage(Backbone):
    """A backbone that behaves otherwise in its second stage, where some of its modules stay as they are.

    second: whether the second stage has begun; the method ``second_stage``, or one built on it, sets it.
    """

    second: bool = False

    def frozen(self) -> list[nn.Module]:
        """The modules that the second stage leaves alone, in evaluation mode."""
        raise NotImplementedError
