"""Recurrent layers over dialogues."""

from __future__ import annotations

from torch import Tensor, nn

from mmlib.nn.batch import Layout


class DialogueLSTM(nn.Module):
    """A bidirectional LSTM over each dialogue's utterances.

    packed: True runs over the utterances alone. False runs over the padded grid, so that the
    backward pass starts in padding and a dialogue's output depends on its batch (released code).
    """

    def __init__(self, inputs: int, hidden: int, layers: int, dropout: float, packed: bool = True) -> None:
        super().__init__()
        self.packed = packed
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=True,
                            dropout=dropout if layers > 1 else 0.0)

    def forward(self, flat: Tensor, layout: Layout) -> Tensor:
        """(n, inputs) -> (n, 2 hidden)."""
        if self.packed:
            return layout.unpacked(self.lstm(layout.packed(flat))[0])
        return layout.unpad(self.lstm(layout.pad(flat))[0])
