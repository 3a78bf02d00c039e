"""MoMKE on sequences: an utterance's tokens are its frames (EBMC Table 5; ledger C22, E23; BASELINES_MM section 3).

The frames of one utterance and modality attend to each other; experts and router treat every frame as MoMKE treats an
utterance. The mean over the frames that are seen is z^m, and from there on nothing differs. Blocks know no positions,
so the order of frames counts nothing. How the released script for sequences pools is not in the ledger: a guess.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmlib.backbones.momke import MoMKE
from mmlib.errors import InputError
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout


class FrameMoMKE(MoMKE):
    """The network; its parameters are MoMKE's, and modalities may have different numbers of frames."""

    def encoded(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """z^m, modality to (n, hidden), from features[m] (n, t_m, d_m); zero where no frame of it is seen.

        A frame is seen where any of its values is not zero, which dropped frames and padding are, and its modality is
        observed.

        Raises:
            InputError: features without frames.
        """
        z = {}
        for index, modality in enumerate(self.modalities):
            values = features[modality]
            if values.ndim != 3:
                raise InputError(
                    f"momke_frames, {modality}",
                    f"features of shape {tuple(values.shape)}",
                    "(utterances, frames, values)",
                    "Take momke for one vector an utterance.",
                )
            seen = (values != 0).any(dim=2) & batch.observed[:, index, None]  # (n, t)
            frames = self.routed(modality, values, seen) * seen[:, :, None]
            z[modality] = frames.sum(dim=1) / seen.sum(dim=1, keepdim=True).clamp(min=1)
        return z

    def routed(self, modality: str, values: Tensor, seen: Tensor) -> Tensor:
        """values (n, t, d), seen (n, t) -> (n, t, hidden): what the experts make of every frame, weighed by router."""
        entered = dropout(self.encoder(modality).enter(values), self.config.dropout, self.training)
        if self.config.routing == "own":
            own: Tensor = self.encoder(modality).expert(entered, seen)
            return own
        made = torch.stack(
            [self.encoder(k).expert(entered, seen) for k in self.modalities]
        )  # (experts, n, t, hidden)
        weights = self.routers[modality](entered.flatten(0, 1)).unflatten(
            0, seen.shape
        )  # (n, t, experts)
        return torch.einsum("knth,ntk->nth", made, weights)
