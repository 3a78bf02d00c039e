"""TransModality: what the loss of translation reaches, how a source reaches the prediction, what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built

from mmlib.backbones import build_backbone
from mmlib.backbones.transmodality import TransModality, TransModalityConfig
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods import build_method
from mmlib.methods.transmodality import Transmodality, TransmodalityConfig
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
STAGE = Stage("transmodality", "transmodality")
DECODERS_OF_TRANSLATION_ALONE = ("decode_back.", "to_source.", "to_anchor.")


def method_of(bundle: Bundle, variant: str = "paper", **network: object) -> Transmodality:
    stage = dataclasses.replace(STAGE, variant=variant, network=tuple(network.items()))
    method = built(stage, bundle)
    assert isinstance(method, Transmodality)
    return method


@pytest.mark.parametrize(("variant", "learns"), [("paper", True), ("no_translation", False)])
def test_the_last_decoder_and_output_maps_learn_from_translation_alone(
    variant: str, learns: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, variant)
    method.loss(batch_of(bundle)).backward()
    for name, p in method.named_parameters():
        if ".cells." in name and "queries" not in name:
            alone = any(part in name for part in DECODERS_OF_TRANSLATION_ALONE)
            assert (p.grad is not None and bool(p.grad.any())) == (learns or not alone), name


@pytest.mark.parametrize(("query", "reached"), [("target", True), ("token", False)])
def test_a_source_reaches_the_prediction_through_its_translation_back(
    query: str, reached: bool, toy: Toy
) -> None:
    """Without its own embedding in the head; a decoder that asks with a token has not seen it."""
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, query=query).eval()
    net, batch = method.net, batch_of(bundle)
    with torch.no_grad():
        net.prediction.weight[:, -3 * net.embedding_dim :] = 0  # audio, text, vision themselves
    method(batch).logits.square().sum().backward()
    (gradient,) = {
        bool(p.grad is not None and p.grad.any()) for p in net.encoders["audio"].parameters()
    }
    assert gradient == reached


def test_translations_count_where_their_targets_are_there(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle).eval(), batch_of(toy(dims=DIMS[3], task=SCORE))
    parts = method.net.parts(batch, batch.features)
    seen = dict(zip(("audio", "text", "vision"), batch.observed.numpy().T, strict=True))
    x = {m: v.numpy() for m, v in batch.features.items()}
    total = 0.0
    for m in ("audio", "vision"):
        made = parts.translated[m]
        there = [
            np.abs(made.source[i].detach().numpy() - x[m][i]).mean()
            for i in np.flatnonzero(seen[m])
        ]
        both = np.flatnonzero(seen[m] & seen["text"])
        back = [np.abs(made.anchor[i].detach().numpy() - x["text"][i]).mean() for i in both]
        total += np.mean(there) + np.mean(back)
    task = np.abs(parts.fused.logits[:, 0].detach().numpy() - batch.labels.numpy()).mean()
    assert method.errors(batch, parts.translated).item() == pytest.approx(total, rel=1e-5)
    assert method.loss(batch).item() == pytest.approx(task + 10 * total, rel=1e-5)


def test_a_missing_source_gives_zeros_to_the_head_and_a_missing_anchor_its_vector(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net = method_of(bundle).eval().net
    with torch.no_grad():
        net.absent.normal_()
    width, batch = net.embedding_dim, batch_of(bundle)
    parts = dict(
        enumerate(
            net.parts(
                hidden := hide(batch, torch.tensor([True, False, False])), hidden.features
            ).fused.hidden.split(width, dim=1)
        )
    )  # E1, E2 of audio, of vision, then audio, text, vision
    there = hidden.observed[:, 0]
    assert not parts[2].any() and not parts[3].any() and not parts[6].any()
    assert torch.equal(parts[5], net.absent.expand_as(parts[5]))
    torch.testing.assert_close(
        parts[0][there],
        net.get_submodule("cells.audio.encode")(net.absent).expand(int(there.sum()), -1),
    )
    assert not parts[0][~there].any()


@pytest.mark.parametrize(("made", "negative"), [("linear", True), ("relu", False)])
def test_published_translations_are_never_negative(made: str, negative: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    batch = batch_of(bundle)
    cells = method_of(bundle, made=made).net.parts(batch, batch.features).translated.values()
    assert (
        any(bool((x < 0).any()) for cell in cells for x in (cell.source, cell.anchor)) == negative
    )


def test_the_anchor_is_text_or_the_first_modality_or_the_one_that_is_named() -> None:
    def anchor(dims: dict[str, int], **options: str) -> str:
        net = build_backbone("transmodality", dims, 3, 1, options.items())
        assert isinstance(net, TransModality) and net.anchor not in net.sources
        return net.anchor

    assert anchor(DIMS[3]) == "text"
    assert anchor({"pulse": 3, "face": 2}) == "face"
    assert anchor(DIMS[4], anchor="gaze") == "gaze"
    with pytest.raises(InputError, match="gase"):
        anchor(DIMS[4], anchor="gase")


def test_the_head_reads_two_parts_a_cell_and_every_modality() -> None:
    for count in (2, 3, 4):
        net = build_backbone("transmodality", DIMS[count], 3, 1)
        assert net.prediction.in_features == (2 * (count - 1) + count) * net.embedding_dim


def test_other_networks_sizes_and_weights_are_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="MLP"):
        build_method(
            "transmodality",
            "paper",
            (),
            build_backbone("mlp", bundle.dims, 3, 1),
            bundle.task,
            bundle.dims,
        )
    for options in ({"hidden": 0}, {"dropout": 1.0}, {"query": "self"}, {"made": "tanh"}):
        with pytest.raises(InputError):
            TransModalityConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weight"):
        TransmodalityConfig(weight=-1.0)
