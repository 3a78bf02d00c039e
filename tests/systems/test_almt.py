"""ALMT: what the text finds in the others, when it finds nothing, and what stands for a missing text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, batch_of, built

from mmlib.backbones.almt import ALMT
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import hide
from mmlib.nn.hyper import Ask, Hyper, HyperSizes

Toy = Callable[..., Bundle]
SIZE = {"dropout": 0.0, "hidden": 8, "heads": 2, "tokens": 3}


def network_of(bundle: Bundle, **options: object) -> ALMT:
    stage = Stage("reference", "almt", network=tuple({**SIZE, **options}.items()))
    network = built(stage, bundle).backbone
    assert isinstance(network, ALMT)
    return network


def test_what_the_text_finds_by_hand() -> None:
    ask = Ask(2, 8, 2)
    text, hyper = torch.randn(4, 3, 8), torch.randn(4, 3, 8)
    others = [torch.randn(4, 5, 8) for _ in range(2)]
    seen = [torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])]
    query = ask.query(F.layer_norm(text, (8,)))
    found = torch.zeros(4, 3, 8)
    for told, tokens, there in zip(ask.told, others, seen, strict=True):
        key, value = told(tokens)[..., :8], told(tokens)[..., 8:]
        for half in (slice(0, 4), slice(4, 8)):
            weights = (query[..., half] @ key[..., half].mT / 2).softmax(dim=2)
            found[..., half] += weights @ value[..., half] * there[:, None, None]
    torch.testing.assert_close(ask(hyper, text, others, seen), hyper + ask.out(found))


@pytest.mark.parametrize("normed", [False, True])
def test_hyper_tokens_pile_up_level_by_level(normed: bool) -> None:
    module = Hyper(1, HyperSizes(3, 8, 2, 1, 0.0))
    text, other, seen = torch.randn(4, 3, 8), torch.randn(4, 3, 8), torch.ones(4) > 0
    asked: list[tuple[torch.Tensor, ...]] = []
    for ask in module.asks:
        ask.register_forward_hook(lambda _, given, made: asked.append((given[0], given[1], made)))
    made = module(text, [other], [seen], normed)
    assert made.shape == (4, 4, 8) and len(asked) == 3 == len(module.text) + 1
    level, everything = text, torch.ones(4, 3) > 0
    hyper = torch.ones(4, 3, 8)
    for number, (given, of_text, found) in enumerate(asked):
        if number:
            level = module.text[number - 1](level, everything)
        torch.testing.assert_close(of_text, level)
        torch.testing.assert_close(given, F.layer_norm(hyper, (8,)) if normed else hyper)
        hyper = found


@pytest.mark.parametrize(("absent", "counts"), [("token", True), ("skip", False)])
def test_a_text_alone_counts_by_what_it_asks_of_learned_tokens(
    absent: str, counts: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = network_of(bundle, absent=absent).eval(), batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    alone = hide(whole, torch.tensor([False, True, False]))
    apart = network(alone, alone.features).logits.std(dim=0)
    assert bool((apart > 1e-5).all()) == counts
    network(alone, alone.features).logits.square().sum().backward()
    gradient = network.encoders["audio"].absent.grad
    assert (gradient is not None and bool(gradient.any())) == counts
    assert network(whole, whole.features).logits.std(dim=0).min() > 1e-5


def test_learned_tokens_stand_for_a_missing_text(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = network_of(bundle), batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    gone = hide(whole, torch.tensor([True, False, True]))
    out = network(gone, gone.features)
    torch.testing.assert_close(
        out.z["text"], network.encoders["text"].absent.flatten().expand(len(batch), -1)
    )
    out.logits.square().sum().backward()
    for m, learns in (("text", True), ("audio", False)):
        gradient = network.encoders[m].absent.grad
        assert gradient is not None and bool(gradient.any()) == learns


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    assert network_of(toy(dims={"a": 3, "b": 4})).anchor == "a"
    for wrong in ({"heads": 3}, {"tokens": 0}, {"dropout": 1.0}, {"anchor": "x"}, {"absent": "x"}):
        with pytest.raises(InputError):
            network_of(toy(dims=DIMS[3]), **wrong)
