"""A bidirectional GRU over dialogues whose recurrence is one short loop for both directions.

torch's GRU on the CPU does some thirty small operations per time step and direction, backward included; with
the inputs' products taken out of the loop, both directions in one batched product, and the backward pass
written out, a training step takes a third of the time. The numbers are those of ``torch.nn.GRU`` (a test
holds them to it); on a GPU its own kernels run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmlib.nn.batch import Layout
from mmlib.nn.dropout import dropout
from mmlib.nn.recurrent import DialogueRNN


class DialogueGRU(DialogueRNN):
    """``DialogueRNN`` of GRUs: (n, inputs) -> (n, 2 hidden)."""

    def __init__(
        self, inputs: int, hidden: int, layers: int, dropout: float, packed: bool = True
    ) -> None:
        super().__init__(inputs, hidden, layers, dropout, packed, "gru")

    def forward(self, flat: Tensor, layout: Layout, filler: Tensor | None = None) -> Tensor:
        """As ``DialogueRNN.forward``."""
        if not self.packed or flat.device.type != "cpu":
            return super().forward(flat, layout, filler)
        for depth in range(len(self.ahead)):
            if depth:
                flat = dropout(flat, self.dropout, self.training)
            flat = self._layer(depth, flat, layout)
        return flat

    def _layer(self, depth: int, flat: Tensor, layout: Layout) -> Tensor:
        pair = self.ahead[depth], self.back[depth]
        weight_in, weight, bias_in, bias = (
            list[Tensor](layer.get_parameter(f"{name}_l0") for layer in pair)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        turned = flat.index_select(0, layout.turn)
        given = [
            torch.addmm(b, x, w.T)
            for x, w, b in zip((flat, turned), weight_in, bias_in, strict=True)
        ]  # (n, 3 h)
        grid = (
            layout.pad(torch.stack(given, dim=1)).permute(1, 2, 0, 3).contiguous()
        )  # (T, 2, B, 3 h)
        made = Recurrence.apply(grid, torch.stack(weight), torch.stack(bias))  # (T, 2, B, h)
        first, second = layout.unpad(made.permute(2, 0, 1, 3)).unbind(1)
        return torch.cat([first, second.index_select(0, layout.turn)], dim=1)


class Recurrence(torch.autograd.Function):
    """h_t = (1 - z) n + z h_{t-1}, r, z = sigmoid(x_t + W h_{t-1} + b), n = tanh(x_t + r (W h_{t-1} + b)), h_0 = 0.

    given: (T, D, B, 3 h), the inputs' part of the gates r, z, n, D directions. weight: (D, 3 h, h). bias: (D, 3 h).
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """States (T, D, B, h)."""
        (steps, directions, rows), width = given.shape[:3], given.shape[3] // 3
        states = given.new_zeros(steps + 1, directions, rows, width)  # states[0] = h_0
        gates = torch.empty_like(given)  # r, z, n
        candidates = given.new_empty(steps, directions, rows, width)  # W_n h + b_n
        turned_weight, row_bias = weight.transpose(1, 2).contiguous(), bias[:, None]
        for state, after, given_both, given_new, reset, keep, both, new, candidate in _steps(
            states[:-1],
            states[1:],
            given[..., : 2 * width],
            given[..., 2 * width :],
            gates[..., :width],
            gates[..., width : 2 * width],
            gates[..., : 2 * width],
            gates[..., 2 * width :],
            candidates,
        ):
            hidden = torch.baddbmm(row_bias, state, turned_weight)
            torch.sigmoid(torch.add(given_both, hidden[:, :, : 2 * width], out=both), out=both)
            candidate.copy_(hidden[:, :, 2 * width :])
            torch.tanh(torch.addcmul(given_new, reset, candidate, out=new), out=new)
            torch.lerp(new, state, keep, out=after)
        ctx.save_for_backward(states, gates, candidates, weight)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients for given, weight and bias."""
        states, gates, candidates, weight = ctx.saved_tensors
        slopes, into_new = _slopes(gradients[0], states, gates, candidates, weight)
        width = into_new.shape[3]
        for_given = torch.cat([slopes[:, :, :, : 2 * width], into_new], dim=3)
        by_direction = slopes.transpose(0, 1).flatten(1, 2)  # (D, T B, 3 h)
        for_weight = by_direction.transpose(1, 2) @ states[:-1].transpose(0, 1).flatten(1, 2)
        return for_given, for_weight, by_direction.sum(dim=1)


def _slopes(
    gradient: Tensor, states: Tensor, gates: Tensor, candidates: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Backward through time: gradients (T, D, B, 3 h) before r, z and of W_n h + b_n, and (T, D, B, h) before n.

    gradient: of the states. candidates: W_n h + b_n. The others are as in ``Recurrence``.
    """
    reset, keep, new = gates.chunk(3, dim=3)
    dh_to_n = (1 - keep) * (1 - new.square())  # from dh to n's argument
    dh_to_z = (states[:-1] - new) * keep * (1 - keep)
    dn_to_r = candidates * reset * (1 - reset)
    width = keep.shape[3]
    slopes = torch.empty_like(gates)
    into_new = torch.empty_like(candidates)
    parts = (
        gradient,
        dh_to_n,
        dn_to_r,
        dh_to_z,
        reset,
        keep,
        into_new,
        slopes[..., :width],
        slopes[..., width : 2 * width],
        slopes[..., 2 * width :],
        slopes,
    )
    ahead = torch.zeros_like(states[0])  # dh from the steps after
    for upstream, to_n, to_r, to_z, r, z, d_n, d_r, d_z, d_candidate, d_all in reversed(
        list(_steps(*parts))
    ):
        slope = upstream + ahead
        torch.mul(slope, to_n, out=d_n)
        torch.mul(d_n, to_r, out=d_r)
        torch.mul(slope, to_z, out=d_z)
        torch.mul(d_n, r, out=d_candidate)
        ahead = torch.baddbmm(slope * z, d_all, weight)
    return slopes, into_new


def _steps(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The time steps of several tensors (T, ...), side by side, as views."""
    return zip(*(value.unbind(0) for value in values), strict=True)
