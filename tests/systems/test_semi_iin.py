"""Semi-IIN: what the tokens of its towers may see, and what its gate is between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from laws import DIMS, batch_of, built, filled_in

from mmlib.backbones.semi_iin import SemiIIN, visible
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import Batch, hide

Toy = Callable[..., Bundle]
STAGE = Stage("reference", "semi_iin", "squared", network=(("hidden", 8), ("heads", 2)))


def network(bundle: Bundle, **options: object) -> SemiIIN:
    given = (*STAGE.network, *options.items())
    net = built(dataclasses.replace(STAGE, network=given), bundle).eval().backbone
    assert isinstance(net, SemiIIN)
    return net


def whole(batch: Batch) -> Batch:
    """The batch as if all of it were there."""
    everything = torch.ones_like(batch.observed)
    features = {m: torch.randn_like(x) for m, x in batch.features.items()}
    return dataclasses.replace(batch, features=features, observed=everything)


def changed(batch: Batch, modality: str) -> Batch:
    other = torch.randn_like(batch.features[modality])
    return dataclasses.replace(batch, features={**batch.features, modality: other})


def test_what_may_be_seen_token_by_token() -> None:
    there = torch.tensor([[True, True, False, True]])
    allowed = visible([2, 1, 1], there)[:, 0]
    of = [None, 0, 0, 1, 2]
    for q in range(5):
        for k in range(5):
            exists = k == 0 or bool(there[0, k - 1])
            special = (q == 0) != (k == 0)
            modal = q > 0 and k > 0
            assert allowed[0, q, k] == (exists and (special or (modal and of[q] == of[k])))
            assert allowed[1, q, k] == (exists and (special or (modal and of[q] != of[k])))


def test_in_one_pass_the_towers_tokens_see_their_own_modality_or_the_others(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net = network(bundle, passes=1)
    batch = whole(batch_of(bundle))
    given = net.parts(batch, batch.features).towers
    other = changed(batch, "text")
    moved = (net.parts(other, other.features).towers - given).abs().amax(dim=(1, 3))
    assert moved[0].gt(1e-4).tolist() == [True, False, True, False]  # audio, text, vision
    assert moved[1].gt(1e-4).tolist() == [True, True, True, True]


def test_from_the_second_pass_on_other_modalities_reach_the_intra_towers_tokens(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    batch = whole(batch_of(bundle))
    other = changed(batch, "text")
    for passes, reaches in ((1, False), (2, True)):
        net = network(bundle, passes=passes)
        given, moved = (net.parts(x, x.features).towers[0, :, 1] for x in (batch, other))
        assert bool((given - moved).abs().max() > 1e-5) is reaches


def test_what_is_gated_lies_between_the_towers(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net, batch = network(bundle), whole(batch_of(bundle))
    with torch.no_grad():
        parts = net.parts(batch, batch.features)
        intra, inter = parts.towers[:, :, 0]
        net.lift.weight.copy_(torch.eye(8))
        net.lift.bias.zero_()
        gated = net.parts(batch, batch.features).fused.hidden
    assert ((parts.gate > 0) & (parts.gate < 1)).all() and not torch.equal(intra, inter)
    low, high = torch.minimum(intra, inter), torch.maximum(intra, inter)
    assert ((gated >= low - 1e-6) & (gated <= high + 1e-6)).all()
    torch.testing.assert_close(gated, intra + parts.gate * (inter - intra))


def test_a_single_modality_has_nothing_across(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net, batch = network(bundle), batch_of(bundle)
    alone = hide(batch, torch.tensor([False, True, False]))
    parts = net.parts(alone, alone.features)
    torch.testing.assert_close(parts.fused.hidden, net.lift(parts.towers[0, :, 0]))


def test_the_stack_of_linear_layers_is_one(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net = network(bundle)
    with torch.no_grad():
        weight = net.prediction.weight @ net.lift.weight
        bias = net.prediction.weight @ net.lift.bias + net.prediction.bias
        values = torch.randn(5, 8)
        torch.testing.assert_close(net.prediction(net.lift(values)), values @ weight.t() + bias)


def test_frames_of_different_numbers_and_padding(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=4)
    net, batch = network(bundle, kernel=3), batch_of(bundle)
    shorter = {**batch.features, "audio": batch.features["audio"][:, :2]}
    longer = {**shorter, "audio": torch.cat([shorter["audio"], 0 * batch.features["audio"]], 1)}
    made = [net(dataclasses.replace(batch, features=x), x).logits for x in (shorter, longer)]
    torch.testing.assert_close(*made)
    noise = {m: torch.randn_like(x) for m, x in batch.features.items()}
    other = filled_in(batch, noise)
    torch.testing.assert_close(net(other, other.features).logits, net(batch, batch.features).logits)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    for options in ({"heads": 3}, {"passes": 0}, {"kernel": 2}, {"entering": 1.0}):
        with pytest.raises(InputError):
            network(bundle, **options)
