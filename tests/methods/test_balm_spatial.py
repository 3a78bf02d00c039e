"""BALM, equations 23-27: gradients of the heads, their cosines and the modulation loss, by autograd and by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import PAIRS, SCORE, Toy, array, batches, gradients, kl_by_scipy, make, unlike
from scipy.special import softmax
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.fit import make_optimizer, train_step
from mmlib.methods.balm import VARIANTS, Balm, cosine_slope, prediction_gradient
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import logit_residual, task_loss
from mmlib.runs.spec import Training

LATE = {
    "audio": "vision",
    "text": "audio",
    "vision": "text",
}  # D25: whose coefficient each cosine is given


@pytest.mark.parametrize(
    "task", [Task("classes", ("a", "b", "c")), SCORE, PAIRS], ids=lambda task: task.kind
)
def test_eq23_eq24_closed_form_gradient_of_the_last_layer_equals_autograds(
    toy: Toy, task: Task
) -> None:
    bundle = toy(task=task)
    balm, batch = make(bundle, "probe"), next(batches(bundle))
    fused = balm(batch)
    layers = [(fused.hidden, balm.backbone.prediction)]
    layers += [(balm.heads[m](fused.z[m])[0], balm.heads[m].prediction) for m in balm.modalities]
    for hidden, layer in layers:
        logits = layer(hidden.detach())
        (expected,) = torch.autograd.grad(task_loss(task, logits, batch.labels), layer.weight)
        found = prediction_gradient(
            hidden.detach(), logit_residual(task, logits.detach(), batch.labels)
        )
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def layer_gradient(
    task: Task, logits: Tensor, labels: Tensor, layer: Any, graph: bool = False
) -> Tensor:
    loss = task_loss(task, logits, labels)
    return torch.autograd.grad(loss, layer.weight, create_graph=graph, retain_graph=True)[
        0
    ].flatten()


def spatial_by_autograd(balm: Balm, batch: Batch, graph: bool) -> tuple[Tensor, Tensor]:
    """Task loss and the cosines of Eq. 25, from autograd's own gradients of the losses."""
    fused, task = balm(batch), balm.task
    own = torch.stack(
        [
            layer_gradient(task, head(fused.z[m].detach())[1], batch.labels, head.prediction)
            for m, head in balm.heads.items()
        ]
    )
    main = layer_gradient(task, fused.logits, batch.labels, balm.backbone.prediction, graph)
    cosines = (own * main).sum(dim=1) / (own.square().sum(dim=1) * main.square().sum()).sqrt()
    return task_loss(task, fused.logits, batch.labels), cosines


def test_eq25_cosines_in_the_series_equal_numpys_of_autograds_gradients(toy: Toy) -> None:
    bundle = toy()
    for variant in ("paper", "fcm", "released"):
        balm, batch = make(bundle, variant), next(batches(bundle))
        balm.keep_series = True
        balm.loss(batch)
        expected = array(spatial_by_autograd(balm, batch, graph=False)[1])
        np.testing.assert_allclose(array(balm.series()["cosine"]), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "mean"},
        {"pairing": "shifted"},
        {"spatial": "constant"},
        {"spatial": "aligned"},
        {"spatial": "aligned", "reduction": "mean"},
    ],
    ids=str,
)
def test_eq26_eq27_value_of_the_modulation_loss(toy: Toy, options: dict[str, Any]) -> None:
    bundle, tau = toy(), 0.7
    balm, bare, batch = (
        make(bundle, tau=tau, rho=1.2, **options),
        make(bundle, "fcm"),
        next(batches(bundle)),
    )
    cosines, distance = (
        array(spatial_by_autograd(balm, batch, graph=False)[1]),
        kl_by_scipy(balm, batch),
    )
    share = 1 - distance / distance.sum()
    weight = (
        share if options.get("reduction") == "mean" else 1.2 * share
    )  # A14: the mean has no rho
    if "pairing" in options:
        named = dict(zip(balm.modalities, weight, strict=True))
        weight = np.array([named[LATE[m]] for m in balm.modalities])
    terms = (
        abs(weight) - weight * cosines
        if options.get("spatial") == "aligned"
        else abs(cosines * weight)
    )
    expected = tau * (terms.mean() if options.get("reduction") == "mean" else terms.sum())
    assert (balm.loss(batch) - bare.loss(batch)).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "task", [Task("classes", ("a", "b", "c")), SCORE, PAIRS], ids=lambda task: task.kind
)
@pytest.mark.parametrize("spatial", ["gradients", "aligned"])
def test_eq25_eq26_eq27_gradient_through_the_fused_head_equals_autograds(
    toy: Toy, task: Task, spatial: str
) -> None:
    bundle = toy(task=task)
    balm, batch = make(bundle, spatial=spatial, distribution=False, tau=0.9), next(batches(bundle))
    found = gradients(balm, batch)
    task_part, cosines = spatial_by_autograd(balm, batch, graph=True)
    mu = 1.4 * balm.share
    modulation = (
        (cosines * mu).abs().sum() if spatial == "gradients" else (mu.abs() - mu * cosines).sum()
    )
    kept = {k: p for k, p in balm.named_parameters() if not k.startswith("heads.")}
    expected = torch.autograd.grad(task_part + 0.9 * modulation, list(kept.values()))
    for name, gradient in zip(kept, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def in_double(batch: Batch) -> Batch:
    features = {m: x.double() for m, x in batch.features.items()}
    floating = batch.labels.is_floating_point()
    labels = batch.labels.double() if floating else batch.labels
    layout = dataclasses.replace(batch.layout)
    vars(layout)["membership"] = batch.layout.membership.double()  # cached there
    return dataclasses.replace(batch, features=features, labels=labels, layout=layout)


def expected_gradients(
    balm: Balm, batch: Batch, mu: Tensor, spatial: str, scaled: str
) -> dict[str, Tensor]:
    """Eq. 22 and Eq. 27 from two gradients, each of one loss alone: L_task's and tau L_mod's (double backward)."""
    task_part, cosines = spatial_by_autograd(balm, batch, graph=True)
    terms = (cosines * mu).abs() if spatial == "gradients" else mu.abs() - mu * cosines
    modulation = balm.config.tau * terms.sum()
    kept = {k: p for k, p in balm.named_parameters() if not k.startswith("heads.")}
    of_task, of_modulation = (
        torch.autograd.grad(loss, list(kept.values()), retain_graph=True, materialize_grads=True)
        for loss in (task_part, modulation)
    )
    expected = {}
    for name, first, second in zip(kept, of_task, of_modulation, strict=True):
        encoder = name.startswith("backbone.encoders.")
        scale = mu[balm.modalities.index(name.split(".")[2])] if encoder else torch.tensor(1.0)
        assert not encoder or (second != 0).any(), name
        expected[name] = scale * first + (scale if scaled == "whole" else 1) * second
    return expected


@pytest.mark.parametrize("scaled", ["task", "whole"])
@pytest.mark.parametrize("spatial", ["gradients", "aligned"])
@pytest.mark.parametrize(
    "task", [Task("classes", ("a", "b", "c")), SCORE, PAIRS], ids=lambda task: task.kind
)
def test_eq22_scales_the_task_losss_gradient_and_adds_that_of_the_modulation_loss(
    toy: Toy, task: Task, spatial: str, scaled: str
) -> None:
    """In double precision, at the first step and at one whose progress is of another kind (Eq. 20)."""
    bundle = toy((3, 5, 1, 4) * 4, task=task)
    balm, source = make(bundle, spatial=spatial, scaled=scaled, tau=0.9).double(), batches(bundle)
    last = np.zeros(3)
    for step in range(2):
        batch = in_double(next(source))
        if task.kind == "classes":
            now = kl_by_scipy(balm, batch)
            progress, last = (now if step == 0 else last - now), now
        found = gradients(balm, batch)
        mu = 1.4 * balm.share
        if task.kind == "classes":
            by_hand = 1.4 * (1 - progress / progress.sum())
            np.testing.assert_allclose(array(mu), by_hand, rtol=1e-4)
        expected = expected_gradients(balm, batch, mu, spatial, scaled)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-11, rtol=1e-9, msg=name)


def test_eq22_the_whole_gradient_is_scaled_as_released_and_the_task_losss_as_printed() -> None:
    assert VARIANTS["paper"].scaled == "task" and VARIANTS["released"].scaled == "whole"


@pytest.mark.parametrize("variant", ["d", "constant", "released", "s", "fcm", "probe"])
def test_eq22_both_readings_are_one_where_the_modulation_loss_reaches_no_encoder_or_nothing_is_scaled(
    toy: Toy, variant: str
) -> None:
    bundle, ends = toy(), []
    for scaled in ("task", "whole"):
        balm, source = make(bundle, variant, scaled=scaled, noise=False), batches(bundle)
        optimizer = make_optimizer(balm, Training(lr=0.01))
        for _ in range(3):
            train_step(balm, next(source), optimizer, clip=2.0)
        ends.append(dict(balm.named_parameters()))
    assert not unlike(*ends)


def test_eq35_the_series_holds_the_norm_of_the_task_losss_gradient(toy: Toy) -> None:
    bundle = toy()
    balm, batch = make(bundle).double(), in_double(next(batches(bundle)))
    balm.keep_series = True
    gradients(balm, batch)
    task_part, _ = spatial_by_autograd(balm, batch, graph=False)
    for place, m in enumerate(balm.modalities):
        parts = torch.autograd.grad(
            task_part, list(balm.backbone.encoders[m].parameters()), retain_graph=True
        )
        norm = torch.cat([part.flatten() for part in parts]).norm()
        torch.testing.assert_close(balm.series()["gradient_norm"][place], norm)


def test_eq25_eq26_eq27_gradient_of_the_cosine_by_hand(toy: Toy) -> None:
    bundle = toy()
    balm, batch = make(bundle, distribution=False, tau=0.5), next(batches(bundle))
    inputs: list[Tensor] = []

    def watch(_: torch.nn.Module, given: tuple[Tensor]) -> None:
        given[0].retain_grad()
        inputs.append(given[0])

    balm.backbone.prediction.register_forward_pre_hook(watch)
    found = gradients(balm, batch)
    last, n = balm.backbone.prediction, len(batch)
    hidden, weight, truth = array(inputs[0]), array(last.weight), np.eye(3)[batch.labels.numpy()]
    p = softmax(hidden @ weight.T + array(last.bias), axis=1)
    main, slope = (p - truth).T @ hidden / n, np.zeros_like(weight)
    for m, mu in zip(balm.modalities, array(1.4 * balm.share), strict=True):
        own = array(found[f"heads.{m}.prediction.weight"])
        norm, length = np.linalg.norm(own), np.linalg.norm(main)
        cosine = (own * main).sum() / (norm * length)
        slope += (
            np.sign(cosine * mu) * mu * (own / (norm * length) - cosine * main / length**2)
        )  # d L_mod / d main
    through = hidden @ slope.T / n  # d L_mod / d (P - Y)
    logits = p * (through - (p * through).sum(axis=1, keepdims=True)) * 0.5 + (p - truth) / n
    np.testing.assert_allclose(
        array(found["backbone.prediction.weight"]), logits.T @ hidden, atol=1e-5
    )
    np.testing.assert_allclose(
        array(found["backbone.prediction.bias"]), logits.sum(axis=0), atol=1e-5
    )
    assert inputs[0].grad is not None
    np.testing.assert_allclose(
        array(inputs[0].grad), logits @ weight + 0.5 * (p - truth) @ slope / n, atol=1e-5
    )


def test_eq27_read_as_a_number_the_modulation_loss_changes_no_training(toy: Toy) -> None:
    bundle = toy()
    methods = [make(bundle, variant, dropout=0.4) for variant in ("constant", "d", "paper")]
    for method in methods:
        optimizer, source = make_optimizer(method, Training(lr=0.01)), batches(bundle)
        torch.manual_seed(9)
        for _ in range(6):
            train_step(method, next(source), optimizer, clip=2.0)
    constant, d, paper = (dict(m.named_parameters()) for m in methods)
    assert not unlike(constant, d) and unlike(paper, d)


def test_cosine_slope_is_autograds() -> None:
    torch.manual_seed(0)
    weight, other = (
        torch.randn(3, 7, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 7, dtype=torch.float64),
    )
    cosine = torch.nn.functional.cosine_similarity(weight.flatten(), other.flatten(), dim=0)
    found, slope = cosine_slope(weight.detach(), other)
    assert found.item() == pytest.approx(cosine.item())
    torch.testing.assert_close(slope, torch.autograd.grad(cosine, weight)[0])


@pytest.mark.parametrize("pairing", ["matched", "shifted"])
@pytest.mark.parametrize("reduction", ["mean", "sum-rho"])
def test_weights_cosine_adds_the_last_steps_gradient_one_step_late(
    toy: Toy, pairing: str, reduction: str
) -> None:
    bundle = toy()
    balm = make(
        bundle, spatial="weights", distribution=False, tau=0.6, pairing=pairing, reduction=reduction
    )
    bare, source = make(bundle, "fcm"), batches(bundle)
    optimizer, late = (
        make_optimizer(balm, Training(lr=0.05)),
        torch.zeros_like(balm.backbone.prediction.weight),
    )
    for step in range(4):
        bare.load_state_dict(balm.state_dict())
        weight = balm.backbone.prediction.weight.detach().clone().requires_grad_()
        theirs = {m: balm.heads[m].prediction.weight.detach().clone() for m in balm.modalities}
        batch = next(source)
        plain = gradients(bare, batch)
        train_step(balm, batch, optimizer, clip=0.0)
        found = {k: p.grad for k, p in balm.named_parameters() if p.grad is not None}
        assert unlike(plain, found) == ({"backbone.prediction.weight"} if step else set())
        added = found["backbone.prediction.weight"] - plain["backbone.prediction.weight"]
        torch.testing.assert_close(added, 0.6 * late, atol=1e-6, rtol=1e-4)
        named = dict(zip(balm.modalities, balm.share, strict=True))
        terms = [
            (
                named[m if pairing == "matched" else LATE[m]]
                * (weight * theirs[m]).sum()
                / weight.norm()
                / theirs[m].norm()
            ).abs()
            for m in balm.modalities
        ]
        total = sum(terms) / 3 if reduction == "mean" else 1.4 * sum(terms)
        (late,) = torch.autograd.grad(total, weight)
