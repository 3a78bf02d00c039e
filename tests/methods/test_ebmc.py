"""EBMC's two stages: Eqs 7, 12, 17 and 18 put together from their terms, the variants, the teacher, runs of both."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import Toy, array
from test_disentangle import LETTERS, TASKS, losses_by_hand
from torch import Tensor, nn

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, save_bundle
from mmlib.data.twins import make_twin
from mmlib.errors import InputError
from mmlib.fit import fit, make_optimizer, train_step
from mmlib.methods import build_method, disentangle, ebmc, energy, enhance
from mmlib.methods.ebmc import Ebmc
from mmlib.methods.enhance import Enhance
from mmlib.nn.batch import Batch, to_device
from mmlib.nn.objectives import each_loss
from mmlib.runs import execute as execute_module
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training

CPU = torch.device("cpu")
NET: dict[str, Any] = {"hidden": 6, "depth": 1, "heads": 2, "dropout": 0.0}
UNEVEN = (3, 5, 6, 4, 4, 6, 1, 1)  # training dialogues of 3, 6, 4 and 1
QUICK = Training(epochs=2, batch=8, lr=3e-3, weight_decay=1e-4, optimizer="adam", clip=2.0)


def first_stage(bundle: Bundle, variant: str = "paper", **options: Any) -> Enhance:
    return make(bundle, "enhance", variant, "own", **options)


def second_stage(bundle: Bundle, variant: str = "paper", **options: Any) -> Any:
    return make(bundle, "ebmc", variant, "unnormalised", **options)


def make(
    bundle: Bundle, method: str, variant: str, routing: str, dropout: float = 0.0, **options: Any
) -> Any:
    """In double precision and evaluation mode; the second stage's teacher and student are far from each other."""
    torch.manual_seed(0)
    net = {**NET, "routing": routing, "dropout": dropout}
    backbone = build_backbone(
        "momke", bundle.dims, bundle.task.outputs, bundle.speakers, net.items()
    )
    found = build_method(
        method, variant, options.items(), backbone, bundle.task, bundle.dims
    ).double()
    for p in found.parameters():
        p.data += 0.3 * torch.randn_like(p)
    found.load_state_dict(found.state_dict())
    return found.eval()


def batch_of(
    bundle: Bundle, law: masks.Law | None = None, dialogues: Sequence[int] | None = None
) -> Batch:
    resident = to_device(
        bundle, "train", masks.draw(law or masks.shared(0.4), bundle, "train", 0), "cpu"
    )
    batch = resident.batch(np.arange(resident.dialogues) if dialogues is None else dialogues)
    labels = batch.labels.double() if batch.labels.is_floating_point() else batch.labels
    return dataclasses.replace(
        batch, labels=labels, features={m: x.double() for m, x in batch.features.items()}
    )


def spans(batch: Batch) -> list[list[int]]:
    numbers = batch.layout.dialogue.tolist()
    return [
        [u for u, number in enumerate(numbers) if number == dialogue]
        for dialogue in sorted(set(numbers))
    ]


def over_those_that_have_it(losses: Sequence[float], batch: Batch, place: int) -> float:
    return float(
        np.mean(
            [x for x, held in zip(losses, batch.observed[:, place].tolist(), strict=True) if held]
        )
    )


def weights(module: nn.Module) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in module.state_dict().items()}


# The variants.


REACHES: dict[str, dict[str, Any]] = {
    "paper": {},
    "no_msd": {"msd": "none"},
    "no_cce": {"cce": "none"},
    "no_emc": {"emc": "none"},
    "no_imtd": {"imtd": "none"},
    "no_parts": {"msd": "none", "cce": "none", "emc": "none", "imtd": "none"},
    "no_norm": {"norm": 0.0},
    "no_loss": {"loss": 0.0},
    "no_uncertainty": {"uncertainty": 0.0},
    "no_penalty": {"delta": 0.0},
    "signed": {"signed": True},
    "printed_kl": {"printed_kl": True},
    "squared": {"squared": True},
    "entropy": {"entropy": True},
    "teacher_drops": {"teacher_drops": True},
    "released_msd": {"msd": "released", "gaussian": False},
    "released_cce": {"cce": "released", "noise": 0.0},
    "released_emc": {"emc": "released"},
    "released_imtd": {"imtd": "released"},
    "released": {
        "msd": "released",
        "cce": "released",
        "emc": "released",
        "imtd": "released",
        "lambda1": 1.0,
        "noise": 0.0,
        "gaussian": False,
        "teacher_drops": True,
        "continues": True,
    },
}
FIRST: dict[str, dict[str, Any]] = {
    **{
        name: REACHES[name]
        for name in ("paper", "no_msd", "no_cce", "signed", "released_msd", "released_cce")
    },
    "released": {
        **{k: v for k, v in REACHES["released"].items() if k != "continues"},
        "lambda2": 1.0,
    },  # E15
}


def test_each_variant_departs_from_the_paper_in_what_its_name_says_and_in_nothing_else() -> None:
    """The default is Eq. 17 with the weights of section 4 and the readings of C1, C4, C9, C10, C11 and C13."""
    paper = dataclasses.asdict(ebmc.VARIANTS["paper"])
    printed = {
        "zeta": 0.5,
        "beta": 0.1,
        "gamma": 0.1,
        "eta": 0.1,
        "lambda1": 0.1,
        "lambda2": 0.1,
        "temperature": 0.05,
        "norm": 1.0,
        "loss": 1.0,
        "uncertainty": 1.0,
        "delta": 0.01,
        "gaussian": True,
        "signed": False,
        "printed_kl": False,
        "squared": False,
        "entropy": False,
        "teacher_drops": False,
        "continues": False,
    }
    assert printed.items() <= paper.items()
    for variants, meaning in ((ebmc.VARIANTS, REACHES), (enhance.VARIANTS, FIRST)):
        found = {
            name: {k: v for k, v in dataclasses.asdict(config).items() if v != paper[k]}
            for name, config in variants.items()
        }
        assert found == meaning


def msd(
    method: Enhance, batch: Batch, signed: bool = False, temperature: float = 0.05
) -> dict[str, Tensor]:
    """The three terms of Eq. 5."""
    parts = method.parts(method(batch).z)
    common, specific = (torch.stack(list(x.values())) for x in (parts.common, parts.specific))
    gaussian = method.task.kind == "score"
    uni = disentangle.predictors_loss(
        method.task, parts.logits, batch.labels, batch.observed, gaussian
    )
    return {
        "inv": disentangle.alignment(common, batch.observed, temperature),
        "uni": uni,
        "dis": disentangle.overlap(specific, batch.observed, signed),
    }


def replaced(method: Any, batch: Batch) -> float:
    """l(f(z~_m, z_-m), y), modality by modality (C3): by T_m, then by the fusion with one embedding another."""
    fused = method(batch)
    made = method.parts.generate(method.parts(fused.z), batch.observed, 0.0)
    found = []
    for place, m in enumerate(method.modalities):
        if isinstance(method, Ebmc):
            joined = np.hstack([array((made if o == m else fused.z)[o]) for o in method.modalities])
            tail, last = method.backbone.tail.linear, method.backbone.prediction
            hidden = joined + np.maximum(joined @ array(tail.weight).T + array(tail.bias), 0)
            losses = losses_by_hand(
                method.task, hidden @ array(last.weight).T + array(last.bias), batch.labels.numpy()
            )
        else:
            head = method.parts.heads[m]
            logits = made[m] @ head.weight.T + head.bias
            losses = (
                disentangle.likelihood(logits, batch.labels).tolist()
                if method.task.kind == "score"
                else losses_by_hand(method.task, array(logits), batch.labels.numpy())
            )
        found.append(over_those_that_have_it(losses, batch, place))
    return float(np.mean(found))


def cce(method: Any, batch: Batch) -> float:
    z = method(batch).z
    made = method.parts.generate(method.parts(z), batch.observed, 0.0)
    z, made = (torch.stack([x[m] for m in method.modalities]) for x in (z, made))
    return disentangle.reconstruction(z, made, batch.observed).item() + replaced(method, batch)


def emc(
    method: Ebmc,
    batch: Batch,
    norm: float = 1.0,
    loss: float = 1.0,
    uncertainty: float = 1.0,
    delta: float = 0.01,
) -> Tensor:
    """Eq. 12 by a second pass through the graph, which can be differentiated again."""
    fused, told, task = method(batch), method.teacher(batch), method.task
    z, logits = torch.stack(list(fused.z.values())), method.parts(fused.z).logits
    losses = torch.stack(
        [each_loss(task, x[:, : task.outputs], batch.labels) for x in logits.values()]
    )
    uncertain = torch.stack(
        [energy.entropy(task, x, task.kind == "score") for x in told.parts]
    ).detach()
    terms = energy.energies(z, losses, uncertain, batch.observed, (norm, loss, uncertainty))
    found, seen = energy.gap(terms.sum(dim=0), torch.ones(3, dtype=torch.bool)), batch.observed
    for place, m in enumerate(method.modalities):
        own = norm * fused.z[m].square().mean(dim=1) + loss * losses[place]
        (gradient,) = torch.autograd.grad(own.sum(), [fused.z[m]], create_graph=True)
        found = found + delta * gradient[seen[:, place]].square().sum(dim=1).mean()
    return found


def imtd(
    method: Ebmc,
    batch: Batch,
    of: Callable[..., Tensor] = energy.spread,
    squared: bool = False,
    printed: bool = False,
    temperature: float = 1.0,
) -> Tensor:
    task, told = method.task, method.teacher(batch).parts
    sigma = torch.stack([of(task, x, task.kind == "score") for x in told])
    share = energy.trust(sigma, batch.observed, squared)
    return energy.distillation(
        task, method(batch).logits, told[:, :, : task.outputs], share, temperature, printed
    )


def eq17(
    method: Ebmc,
    batch: Batch,
    drop: Sequence[str] = (),
    emc_of: dict[str, float] | None = None,
    imtd_of: dict[str, Any] | None = None,
    signed: bool = False,
) -> float:
    """Eqs 17 and 18 without some terms."""
    found = {
        k: 0.5 * (1.0 if k == "inv" else 0.1) * v.item()
        for k, v in msd(method, batch, signed).items()
    }
    found |= {
        "cce": 0.1 * cce(method, batch),
        "emc": 0.1 * emc(method, batch, **(emc_of or {})).item(),
        "imtd": 0.1 * imtd(method, batch, **(imtd_of or {})).item(),
    }
    task = np.mean(losses_by_hand(method.task, array(method(batch).logits), batch.labels.numpy()))
    return float(task) + sum(v for k, v in found.items() if k not in drop)


MEANING: dict[str, dict[str, Any]] = {
    "paper": {},
    "no_msd": {"drop": ("inv", "dis")},
    "no_cce": {"drop": ("cce",)},
    "no_emc": {"drop": ("emc",)},
    "no_imtd": {"drop": ("imtd",)},
    "no_parts": {"drop": ("inv", "dis", "cce", "emc", "imtd")},
    "no_norm": {"emc_of": {"norm": 0.0}},
    "no_loss": {"emc_of": {"loss": 0.0}},
    "no_uncertainty": {"emc_of": {"uncertainty": 0.0}},
    "no_penalty": {"emc_of": {"delta": 0.0}},
    "signed": {"signed": True},
    "printed_kl": {"imtd_of": {"printed": True}},
    "squared": {"imtd_of": {"squared": True}},
    "entropy": {"imtd_of": {"of": energy.entropy}},
    "teacher_drops": {},
}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("variant", MEANING)
def test_eqs17_and_18_the_second_stages_loss_is_the_weighted_sum_of_its_terms(
    toy: Toy, variant: str, kind: str
) -> None:
    """``no_msd`` keeps the predictors' loss, which teaches those that EMC and IMTD ask."""
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch, more = second_stage(bundle, variant), batch_of(bundle), MEANING[variant]
    if (
        kind == "score" and variant == "entropy"
    ):  # a density's may be below 0: the variance all the same
        more = {}
    assert method.loss(batch).item() == pytest.approx(eq17(method, batch, **more), rel=1e-10)


def test_eq17_every_weight_stands_where_it_belongs(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    batch = batch_of(bundle)
    method = second_stage(
        bundle,
        zeta=0.7,
        beta=0.3,
        gamma=0.2,
        eta=0.4,
        lambda1=0.6,
        lambda2=0.9,
        temperature=0.3,
        trust_temperature=2.0,
        norm=1.3,
        loss=0.8,
        uncertainty=0.5,
        delta=0.25,
    )
    three = {k: v.item() for k, v in msd(method, batch, temperature=0.3).items()}
    weighed = (
        emc(method, batch, 1.3, 0.8, 0.5, 0.25).item(),
        imtd(method, batch, temperature=2.0).item(),
    )
    expected = (
        np.mean(losses_by_hand(LETTERS, array(method(batch).logits), batch.labels.numpy()))
        + 0.7 * (three["inv"] + 0.6 * three["dis"] + 0.9 * three["uni"])
        + 0.3 * cce(method, batch)
        + 0.2 * weighed[0]
        + 0.4 * weighed[1]
    )
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("variant", ["paper", "no_msd", "no_cce", "signed"])
def test_the_first_stages_loss_is_that_of_the_modalities_own_heads_and_both_components(
    toy: Toy, variant: str, kind: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = first_stage(bundle, variant), batch_of(bundle)
    z, own = method(batch).z, []
    for place, m in enumerate(method.modalities):
        head: Any = method.backbone.heads[m]
        logits = array(z[m]) @ array(head.weight).T + array(head.bias)
        own.append(
            over_those_that_have_it(
                losses_by_hand(bundle.task, logits, batch.labels.numpy()), batch, place
            )
        )
    three = {k: v.item() for k, v in msd(method, batch, signed=variant == "signed").items()}
    both = three["inv"] + 0.1 * three["dis"] if variant != "no_msd" else 0.0
    rebuilt = cce(method, batch) if variant != "no_cce" else 0.0
    expected = np.sum(own) + 0.5 * (both + 0.1 * three["uni"]) + 0.1 * rebuilt
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("variant", ["paper", "no_msd", "no_norm", "no_loss"])
def test_eq12_all_gradients_of_l_emc_are_those_of_a_second_pass_through_the_graph(
    toy: Toy, variant: str, kind: str
) -> None:
    """So the penalty bends backbone, norms, parts and predictors as it should; the uncertainty, nobody (C6)."""
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = second_stage(bundle, variant, delta=0.7, uncertainty=0.6), batch_of(bundle)
    fused = method(batch)
    found = method.emc(batch, fused, method.parts(fused.z), method.teacher(batch))
    more = {"no_norm": {"norm": 0.0}, "no_loss": {"loss": 0.0}}.get(variant, {})
    expected = emc(method, batch, **{"uncertainty": 0.6, "delta": 0.7, **more})
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    of = {k: p for k, p in method.named_parameters() if p.requires_grad}
    pairs = zip(
        *(torch.autograd.grad(x, list(of.values()), allow_unused=True) for x in (found, expected)),
        strict=True,
    )
    reached = set()
    for name, (mine, theirs) in zip(of, pairs, strict=True):
        assert (mine is None or not mine.any()) == (theirs is None or not theirs.any()), name
        if mine is not None and mine.any():
            np.testing.assert_allclose(
                array(mine), array(theirs), atol=1e-9 * array(theirs).max(initial=1.0)
            )
            reached.add(".".join(name.split(".")[:2]))
    asked = {"parts.norms", "parts.heads", *(("parts.specific",) if variant != "no_msd" else ())}
    assert reached == {
        "backbone.encoders",
        "backbone.routers",
        *(asked if variant != "no_loss" else ()),
    }


def test_eq7_targets_and_noise_in_a_training_step(toy: Toy) -> None:
    """Noise only in training and of its own draw; without it training is repeatable."""
    bundle = toy(UNEVEN)
    batch = batch_of(bundle)
    for stage in (first_stage, second_stage):
        for noise, same in ((0.5, False), (0.0, True)):
            method = stage(bundle, noise=noise)
            calm = method.loss(batch).item()
            assert method.loss(batch).item() == calm
            losses = [method.train().loss(batch).item() for _ in range(2)]
            assert (losses[0] == losses[1]) == (losses[0] == calm) == same


# What is missing, and where nothing counts.


def without(method: Any, batch: Batch, term: str) -> float:
    """The loss that is left when one component goes."""
    other = copy.deepcopy(method)
    other.config = dataclasses.replace(
        method.config, **{{"msd": "zeta", "cce": "beta", "emc": "gamma", "imtd": "eta"}[term]: 0.0}
    )
    found: float = other.loss(batch).item()
    return found


def grads(method: Any, batch: Batch) -> dict[str, Tensor]:
    method.zero_grad()
    method.loss(batch).backward()
    return {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}


STAGES = [(first_stage, name) for name in enhance.VARIANTS] + [
    (second_stage, name) for name in ebmc.VARIANTS
]
KINDS = ("classes", "score")


@pytest.mark.parametrize(("stage", "variant"), STAGES)
def test_what_stands_in_missing_features_and_the_order_of_dialogues_change_no_loss(
    toy: Toy, stage: Any, variant: str
) -> None:
    """Features missing by nature are NaN in the bundle; here they are a thousand, and never reach a loss."""
    for kind in KINDS:
        bundle = toy(UNEVEN, task=TASKS[kind], lacking=0.3)
        method, batch = stage(bundle, variant), batch_of(bundle)
        loud = {
            m: torch.where(batch.observed[:, i, None], x, 1e3 * torch.randn_like(x))
            for i, (m, x) in enumerate(batch.features.items())
        }
        found, loss = grads(method, batch), method.loss(batch)
        other = dataclasses.replace(batch, features=loud)
        assert loss.isfinite() and method.loss(other).item() == pytest.approx(
            loss.item(), rel=1e-12
        )
        for name, gradient in grads(method, other).items():
            assert gradient.isfinite().all()
            torch.testing.assert_close(gradient, found[name], atol=1e-10, rtol=1e-10)
        turned = batch_of(bundle, dialogues=[3, 1, 0, 2])
        assert method.loss(turned).item() == pytest.approx(loss.item(), rel=1e-7)


@pytest.mark.parametrize("stage", [first_stage, second_stage])
@pytest.mark.parametrize("variant", ["paper", "no_msd", "no_cce", "signed", "released"])
def test_where_nothing_is_observed_every_term_is_zero_with_finite_gradients(
    toy: Toy, variant: str, stage: Any
) -> None:
    for kind in KINDS:
        bundle = toy(UNEVEN, task=TASKS[kind])
        method, batch = stage(bundle, variant), batch_of(bundle)
        none = dataclasses.replace(
            batch,
            observed=torch.zeros_like(batch.observed),
            features={m: torch.zeros_like(x) for m, x in batch.features.items()},
        )
        found = method.loss(none).item()
        assert np.isfinite(found) and all(g.isfinite().all() for g in grads(method, none).values())
        if variant != "released":
            task = losses_by_hand(bundle.task, array(method(none).logits), none.labels.numpy())
            assert found == pytest.approx(np.mean(task) if stage is second_stage else 0, rel=1e-12)


@pytest.mark.parametrize("names", [("text",), ("audio", "vision")], ids=len)
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_with_fewer_modalities_there_are_fewer_pairs_and_finite_losses(
    toy: Toy, variant: str, names: tuple[str, ...]
) -> None:
    bundle = toy(UNEVEN).only(names)
    for stage in (first_stage, second_stage):
        method, batch = stage(bundle, variant), batch_of(bundle)
        assert all(g.isfinite().all() for g in grads(method, batch).values())
        if variant == "paper" and len(names) == 1:
            assert method.loss(batch).item() - without(method, batch, "msd") == pytest.approx(
                0.05 * msd(method, batch)["uni"].item(), rel=1e-9
            )


# The teacher.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["paper", "no_msd", "released", "teacher_drops"])
def test_steps_move_the_student_and_no_byte_of_its_teacher(
    toy: Toy, variant: str, kind: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS[kind])
    method, batch = make(bundle, "ebmc", variant, "softmax", dropout=0.4), batch_of(bundle)
    drops = variant in ("released", "teacher_drops")
    before, optimizer = (
        weights(method),
        make_optimizer(method, dataclasses.replace(QUICK, weight_decay=0.1)),
    )
    for _ in range(3):
        assert method.train() is method and all(
            part.training == drops for part in method.teacher.modules()
        )
        assert all(
            part.training for name, part in method.named_modules() if not name.startswith("teacher")
        )
        train_step(method, batch, optimizer, 1.0)
    with torch.no_grad():
        first, second = (method.teacher(batch).parts for _ in range(2))
    assert torch.equal(first, second) != drops
    after = weights(method)
    moved = {k for k in before if before[k] != after[k]}
    still = {
        "teacher",
        *(() if variant == "released" else ("backbone.heads",)),  # which E16 and E18 follow
        *(("parts.heads",) if (variant, kind) == ("released", "classes") else ()),
    }  # E13
    assert {k for k in before if not k.startswith(tuple(still))} == moved
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    clipped = {id(p) for p in method.clipped()}
    assert clipped == {id(p) for k, p in method.named_parameters() if not k.startswith("teacher.")}
    assert not any(part.training for part in method.eval().teacher.modules())


def test_each_stage_trains_its_own_part_of_the_network(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    common = {
        "backbone.encoders",
        "parts.norms",
        "parts.common",
        "parts.specific",
        "parts.heads",
        "parts.generators",
    }
    for stage, more in (
        (first_stage, {"backbone.heads"}),
        (second_stage, {"backbone.routers", "backbone.tail", "backbone.prediction"}),
    ):
        found = {
            ".".join(k.split(".")[:2])
            for k, g in grads(stage(bundle), batch_of(bundle)).items()
            if g.any()
        }
        assert found == common | more


@pytest.mark.parametrize("variant", ["paper", "no_msd", "released"])
def test_a_first_stage_fills_student_and_teacher_and_a_second_restores_both(
    toy: Toy, variant: str
) -> None:
    bundle = toy(UNEVEN, task=TASKS["score"])
    batch, first, second = (
        batch_of(bundle),
        first_stage(bundle, variant),
        second_stage(bundle, variant),
    )
    second.load_state_dict(first.state_dict())
    given = weights(first)
    assert weights(second) == given | {f"teacher.{k}": v for k, v in given.items()}
    z, told = first(batch).z, second.teacher(batch)
    assert torch.equal(told.parts, first.stacked(first.parts(z).logits))
    assert torch.equal(
        told.own, torch.stack([first.backbone.heads[m](z[m]) for m in first.modalities])
    )
    train_step(second.train(), batch, make_optimizer(second, QUICK), 1.0)
    third = second_stage(bundle, variant)
    third.load_state_dict(second.state_dict())
    assert weights(third) == weights(second)
    assert {k: v for k, v in weights(third).items() if k.startswith("teacher.")} == {
        f"teacher.{k}": v for k, v in given.items()
    }
    with pytest.raises(RuntimeError, match="Missing"):
        second.load_state_dict(
            {k: v for k, v in first.state_dict().items() if k != "parts.heads.text.bias"}
        )


def test_a_fresh_student_starts_from_its_teachers_bytes(toy: Toy) -> None:
    bundle = toy(UNEVEN)
    backbone = build_backbone("momke", bundle.dims, 3, 1, {**NET, "routing": "softmax"}.items())
    method = build_method("ebmc", "paper", (), backbone, bundle.task, bundle.dims)
    student = {k: v for k, v in weights(method).items() if not k.startswith("teacher.")}
    assert weights(method) == student | {f"teacher.{k}": v for k, v in student.items()}


def test_neither_parts_nor_rebuilt_features_enter_the_prediction_and_the_views_are_the_predictors(
    toy: Toy,
) -> None:
    """E10."""
    bundle = toy(UNEVEN, task=TASKS["score"])
    batch = batch_of(bundle)
    for stage in (first_stage, second_stage):
        method = stage(bundle)
        fused = method(batch)
        views = method.views(fused)
        for m in method.modalities:
            expected = method.parts.heads[m](method.parts(fused.z).specific[m])
            assert expected.shape == (len(batch), 2) and torch.equal(views[m], expected[:, :1])
        for p in method.parts.parameters():
            p.data += 1
        assert torch.equal(method(batch).logits, fused.logits)
        assert not torch.equal(method.views(fused)["text"], views["text"])


def test_the_released_network_has_as_many_parameters_as_table_6() -> None:
    """E3: GCNet's features, one output, the teacher aside."""
    dims = {"audio": 512, "text": 1024, "vision": 1024}
    backbone = build_backbone("momke", dims, 1, 2, [])
    method = build_method("ebmc", "released", (), backbone, TASKS["score"], dims)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 6_384_400


# Errors.


def test_a_second_stage_without_a_first_is_an_error_and_not_a_lesson_from_a_random_teacher(
    toy: Toy,
) -> None:
    bundle = toy(UNEVEN)
    backbone = build_backbone(
        "momke", bundle.dims, 3, 1, {**NET, "routing": "unnormalised"}.items()
    )
    method = build_method("ebmc", "paper", (), backbone, bundle.task, bundle.dims).double()
    with pytest.raises(InputError, match="enhance to start from"):
        method.loss(batch_of(bundle))
    method.load_state_dict(first_stage(bundle).state_dict())
    assert method.loss(batch_of(bundle)).isfinite()


@pytest.mark.parametrize(
    ("name", "backbone", "routing"),
    [
        ("enhance", "momke", "softmax"),
        ("enhance", "momke", "unnormalised"),
        ("ebmc", "momke", "own"),
        ("enhance", "crossmodal", ""),
        ("ebmc", "concat", ""),
    ],
)
def test_another_backbone_or_routing_is_an_error(
    toy: Toy, name: str, backbone: str, routing: str
) -> None:
    bundle = toy(UNEVEN)
    options = {"routing": routing} if routing else {}
    network = build_backbone(backbone, bundle.dims, 3, 1, options.items())
    with pytest.raises(
        InputError,
        match="momke with routing " + ("own" if name == "enhance" else "unnorm.* or soft"),
    ):
        build_method(name, "paper", (), network, bundle.task, bundle.dims)


WEIGHTS = (
    "zeta",
    "beta",
    "gamma",
    "eta",
    "lambda1",
    "lambda2",
    "norm",
    "loss",
    "uncertainty",
    "delta",
    "noise",
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "read") for name in ("msd", "cce", "emc", "imtd")),
        *((name, -0.1) for name in WEIGHTS),
        ("eta", float("nan")),
        ("zeta", float("inf")),
        ("temperature", 0.0),
        ("trust_temperature", 0.0),
        ("trust_temperature", float("inf")),
        ("focal", -1.0),
        ("focal", 0.5),
        ("class_weights", "normalised"),
    ],
)
def test_options_out_of_range_are_errors_that_name_them(toy: Toy, name: str, value: Any) -> None:
    for stage in (first_stage, second_stage):
        with pytest.raises(InputError, match=name.removeprefix("trust_")):
            stage(toy(UNEVEN), **{name: value})


@pytest.mark.parametrize("variant", ["released", "released_msd", "released_emc", "released_imtd"])
def test_the_released_components_know_no_yes_or_no_questions(toy: Toy, variant: str) -> None:
    with pytest.raises(InputError, match="yes-or-no"):
        second_stage(toy(UNEVEN, task=TASKS["binaries"]), variant)


# Runs.


@pytest.mark.parametrize("variant", ["paper", "no_emc", "no_parts"])
def test_recording_the_energies_changes_no_bit_of_a_training(toy: Toy, variant: str) -> None:
    bundle, found = toy(UNEVEN), []
    for keep in (False, True):
        method = make(bundle, "ebmc", variant, "unnormalised", dropout=0.3).float()
        full = {
            split: masks.draw(masks.complete(), bundle, split, 0) for split in ("valid", "test")
        }
        fitted = fit(
            method,
            bundle,
            lambda epoch: masks.draw(masks.shared(0.4), bundle, "train", 0),
            full["valid"],
            {"full": full["test"]},
            QUICK,
            5,
            keep_series=keep,
            device=CPU,
        )
        assert set(fitted.series) == ({"norm", "loss", "uncertainty"} if keep else set())
        assert all(x.shape == (2, 3) and (x > 0).all() for x in fitted.series.values())
        found.append(weights(method))
    assert found[0] == found[1]


def spec(folder: Path, variant: str, **more: Any) -> RunSpec:
    common: dict[str, Any] = {"backbone": "momke", "training": QUICK, "keep": ("last",), **more}
    net = {**NET, "dropout": 0.2}
    parent = RunSpec(
        str(folder),
        0,
        "enhance",
        variant,
        backbone_options=tuple({**net, "routing": "own"}.items()),
        **common,
    )
    return RunSpec(
        str(folder),
        0,
        "ebmc",
        variant,
        train_mask=masks.patterns(),
        parent=parent,
        backbone_options=tuple({**net, "routing": "unnormalised"}.items()),
        **common,
    )


@pytest.mark.parametrize(
    ("role", "variant"), [("mosei", "paper"), ("iemocap6", "released"), ("iemocap6", "no_msd")]
)
def test_a_second_stage_runs_from_its_first_whose_bytes_the_teacher_keeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, role: str, variant: str
) -> None:
    monkeypatch.setattr(execute_module, "pick_device", lambda: CPU)
    save_bundle(make_twin(role, "tiny").bundle, tmp_path / "twin")
    one = spec(tmp_path / "twin", variant)
    assert one.parent is not None
    before = execute(one.parent).arrays
    outcome = execute(one, before)
    after = {
        k.removeprefix("weights."): v for k, v in outcome.arrays.items() if k.startswith("weights.")
    }
    given = {k.removeprefix("weights."): v for k, v in before.items() if k.startswith("weights.")}
    assert outcome.record["status"] == "done" and {f"teacher.{k}" for k in given} < set(after)
    assert all(after[f"teacher.{k}"].tobytes() == v.tobytes() for k, v in given.items())
    assert all(
        after[k].tobytes() != v.tobytes()
        for k, v in given.items()
        if not k.startswith("parts.heads" if variant == "released" else "backbone.heads")
    )  # E13
    taken = [int(before["memory.0.step"]), int(outcome.arrays["memory.0.step"])]
    assert taken[0] == 8 and taken[1] == (16 if variant == "released" else 8)  # E21
    assert execute(one, before).record == outcome.record
    assert {f"test.{m}" for m in ("audio", "text", "vision")} <= set(
        outcome.record["curves"]["views"]
    )
