"""The written-out recurrence gives torch's own numbers, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmlib.nn.batch import make_layout
from mmlib.nn.gru import DialogueGRU, Recurrence
from mmlib.nn.recurrent import DialogueRNN

LENGTHS = ([5, 1, 7], [4], [1, 1, 1], [30, 2])


def outputs_and_gradients(layer: DialogueRNN, flat: Tensor, lengths: list[int]) -> list[Tensor]:
    made = (
        DialogueRNN.forward(layer, flat, make_layout(lengths))
        if type(layer) is DialogueRNN
        else layer(flat, make_layout(lengths))
    )
    weight = torch.linspace(-1, 2, made.numel(), dtype=made.dtype).view_as(made)
    gradients = torch.autograd.grad((made * weight).sum(), [flat, *layer.parameters()])
    return [made, *gradients]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_outputs_and_every_gradient_are_those_of_torchs_gru(
    lengths: list[int], layers: int
) -> None:
    torch.manual_seed(0)
    ours = DialogueGRU(6, 4, layers, 0.0).double()
    theirs = DialogueRNN(6, 4, layers, 0.0, kind="gru").double()
    theirs.load_state_dict(ours.state_dict())
    flat = torch.randn(sum(lengths), 6, dtype=torch.float64, requires_grad=True)
    for mine, other in zip(
        outputs_and_gradients(ours, flat, lengths),
        outputs_and_gradients(theirs, flat, lengths),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)


def test_the_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(1)
    given = torch.randn(3, 2, 2, 9, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Recurrence.apply, (given, weight, bias))


def test_unpacked_runs_over_padding_as_the_general_layer_does() -> None:
    torch.manual_seed(2)
    ours = DialogueGRU(6, 4, 2, 0.0, packed=False)
    theirs = DialogueRNN(6, 4, 2, 0.0, packed=False, kind="gru")
    theirs.load_state_dict(ours.state_dict())
    flat, layout = torch.randn(9, 6), make_layout([3, 6])
    assert torch.equal(ours(flat, layout, torch.ones(6)), theirs(flat, layout, torch.ones(6)))
    assert not torch.allclose(ours(flat, layout), DialogueGRU.forward(_packed(ours), flat, layout))


def test_dropout_acts_between_layers_in_training_alone() -> None:
    torch.manual_seed(3)
    layer, flat, layout = DialogueGRU(6, 4, 2, 0.5), torch.randn(5, 6), make_layout([5])
    assert not torch.equal(layer(flat, layout), layer(flat, layout))
    layer.eval()
    assert torch.equal(layer(flat, layout), layer(flat, layout))


def _packed(layer: DialogueGRU) -> DialogueGRU:
    made = DialogueGRU(6, 4, 2, 0.0)
    made.load_state_dict(layer.state_dict())
    return made
