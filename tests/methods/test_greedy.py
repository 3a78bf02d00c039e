"""Greedy learning and its network: gates, running means, speeds, and episodes of exactly Q steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import array
from scipy.special import expit
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.backbones.mmtm import MMTM, MMTMConfig
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.fit import fit, make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.methods.greedy import VARIANTS, GreedyConfig
from mmlib.methods.plain import Peek
from mmlib.nn.batch import Batch, make_layout, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 5}
TRAINING = Training(epochs=4, batch=8, lr=0.02, weight_decay=1e-4, optimizer="momentum", clip=0.0)


def make(bundle: Bundle, variant: str = "paper", backbone: str = "mmtm", **options: Any) -> Any:
    torch.manual_seed(0)
    net = build_backbone(
        backbone,
        bundle.dims,
        bundle.task.outputs,
        bundle.speakers,
        [("encoder", "mlp"), ("hidden", 8)],
    )
    return build_method("greedy", variant, options.items(), net, bundle.task, bundle.dims).train()


def batches(bundle: Bundle, count: int) -> list[Batch]:
    resident = to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu")
    return [
        resident.batch([(7 * step + i) % resident.dialogues for i in range(8)])
        for step in range(count)
    ]


def begin(method: Any, epoch: int = 50) -> None:
    method.start_epoch(Peek(epoch, 100, list, list, list, lambda other, more: None))


@pytest.fixture
def bundle(toy: Toy) -> Bundle:
    return toy((1,) * 80, DIMS)


def clips(n: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    features = {
        "audio": torch.randn(n, 1, 40, 48, generator=generator),
        "vision": torch.randint(0, 256, (n, 2, 3, 64, 64), generator=generator, dtype=torch.uint8),
    }
    zeros = torch.zeros(n, dtype=torch.long)
    return Batch(features, torch.ones(n, 2, dtype=torch.bool), zeros, zeros, make_layout([1] * n))


def network() -> Any:
    torch.manual_seed(0)
    return MMTM({"audio": 1, "vision": 3}, 4, 1, MMTMConfig(width=4)).eval()


# The network.


def test_the_perceptrons_network_by_numpy(bundle: Bundle) -> None:
    net, batch = make(bundle).backbone, batches(bundle, 1)[0]
    values = {m: array(batch.features[m]) for m in DIMS}
    for layer, fusion in zip(("first", "second"), net.fusions, strict=True):
        for m in DIMS:
            linear = getattr(net.encoders[m], layer)
            values[m] = np.maximum(values[m] @ array(linear.weight).T + array(linear.bias), 0)
        u = np.hstack([values[m] for m in DIMS]) @ array(fusion.squeeze.weight).T + array(
            fusion.squeeze.bias
        )
        assert u.shape == (8, 2 * 8 // 4)
        for m in DIMS:
            gate = expit(
                np.maximum(u, 0) @ array(fusion.excite[m].weight).T + array(fusion.excite[m].bias)
            )
            values[m] = values[m] * gate
    fused = net(batch, batch.features)
    alone = {m: values[m] @ array(net.heads[m].weight).T + array(net.heads[m].bias) for m in DIMS}
    for m in DIMS:
        np.testing.assert_allclose(array(fused.z[m]), values[m], atol=1e-6)
        np.testing.assert_allclose(array(net.unimodal(fused)[m]), alone[m], atol=1e-6)
    np.testing.assert_allclose(
        array(fused.logits), (alone["audio"] + alone["vision"]) / 2, atol=1e-6
    )


def test_open_gates_leave_resnet_as_it_is_and_its_last_three_groups_are_gated() -> None:
    net, batch = network(), clips()
    shapes = {name: tuple(p.shape) for name, p in net.fusions.named_parameters()}
    for depth, width in enumerate((8, 16, 32)):
        assert shapes[f"{depth}.squeeze.weight"] == (width // 2, 2 * width)
        for m in DIMS:
            assert shapes[f"{depth}.excite.{m}.weight"] == (width, width // 2)
            torch.nn.init.constant_(net.fusions.get_parameter(f"{depth}.excite.{m}.bias"), 60.0)
    z = net(batch, batch.features).z
    for m, encoder in net.encoders.items():
        torch.testing.assert_close(z[m], encoder(batch.features[m]))


def test_frames_share_a_gate_and_their_order_does_not_matter() -> None:
    net, batch = network(), clips()
    before = net(batch, batch.features)
    turned = {**batch.features, "vision": batch.features["vision"].flip(1)}
    torch.testing.assert_close(net(batch, turned).logits, before.logits)
    single = {**batch.features, "vision": batch.features["vision"][:, 0]}
    double = {**single, "vision": single["vision"][:, None].expand(-1, 2, -1, -1, -1)}
    torch.testing.assert_close(net(batch, double).logits, net(batch, single).logits)
    assert not torch.allclose(
        net(batch, single).z["audio"], before.z["audio"]
    )  # audio's gates see the frames


def test_running_means_are_those_of_each_modalitys_own_gates_over_training_steps(
    bundle: Bundle,
) -> None:
    net, seen = make(bundle).backbone, []
    net.fusions[1].register_forward_hook(lambda fusion, inputs, gates: seen.append(gates))
    for batch in batches(bundle, 3):
        net.train()(batch, batch.features)
        net.eval()(batch, batch.features)
    for k, m in enumerate(DIMS):
        np.testing.assert_allclose(
            array(net.fusions[1].means[k]),
            np.mean([array(g[m]).mean(axis=0) for g in seen[::2]], axis=0),
            atol=1e-6,
        )
    assert not torch.allclose(net.fusions[1].means[0], net.fusions[1].means[1])


@pytest.mark.parametrize("lagging", [0, 1])
def test_a_constant_gate_is_the_mean_and_knows_nothing_of_the_other_modality(
    bundle: Bundle, lagging: int
) -> None:
    net, (first, batch) = make(bundle).backbone, batches(bundle, 2)
    net(first, first.features)
    means = [fusion.means.clone() for fusion in net.fusions]
    net.constant = torch.arange(2) == lagging
    alone, other = (sorted(DIMS)[k] for k in (lagging, 1 - lagging))
    inputs = {m: x.clone().requires_grad_() for m, x in batch.features.items()}
    z = net(batch, inputs).z

    def slope(of: str, by: str) -> Tensor:
        return torch.autograd.grad(z[of].sum(), inputs[by], retain_graph=True)[0]

    assert not slope(alone, other).any() and slope(other, alone).any() and slope(alone, alone).any()
    encoder, value = net.encoders[alone], array(batch.features[alone])
    for layer, mean in zip((encoder.first, encoder.second), means, strict=True):
        value = np.maximum(value @ array(layer.weight).T + array(layer.bias), 0) * array(
            mean[lagging]
        )
    np.testing.assert_allclose(array(z[alone]), value, atol=1e-6)
    inputs = {m: x.clone().requires_grad_() for m, x in batch.features.items()}
    z = net.eval()(batch, inputs).z
    assert slope(alone, other).any()  # in evaluation nothing is constant


# The method.


def by_hand(method: Any, steps: list[Batch], epsilon: float, duration: int) -> list[list[bool]]:
    """Train, with every decision taken in Python from the gradients; which modality was constant in each step."""
    optimizer, constant, sums, left, found = (
        make_optimizer(method, TRAINING),
        [False, False],
        np.zeros((2, 2)),
        0,
        [],
    )
    theta = {name: p.detach().clone() for name, p in method.named_parameters()}
    for batch in steps:
        assert method.gated.constant.tolist() == constant
        found.append(constant)
        train_step(method, batch, optimizer, 0.0)
        groups: dict[tuple[int, int], list[str]] = {
            (k, part): [] for k in (0, 1) for part in (0, 1)
        }
        for name in theta:
            for k, m in enumerate(sorted(DIMS)):
                if f"encoders.{m}." in name or f"heads.{m}." in name:
                    groups[k, 0].append(name)
                if f"excite.{m}." in name or "squeeze" in name:
                    groups[k, 1].append(name)
        gradients = {name: p.grad for name, p in method.named_parameters()}
        if left:
            left -= 1
        else:
            for (k, part), names in groups.items():
                sums[k, part] += sum(
                    float(gradients[name].double().square().sum()) for name in names
                ) / sum(float(theta[name].double().square().sum()) for name in names)
            apart = np.subtract(*np.log10(sums[:, 1] / sums[:, 0]))
            if abs(apart) > epsilon:
                left, lagging = duration, 0 if apart > 0 else 1
        constant = [left > 0 and k == lagging for k in (0, 1)] if left else [False, False]
        theta = {name: p.detach().clone() for name, p in method.named_parameters()}
        np.testing.assert_allclose(torch.stack([method.own, method.others], dim=1), sums, rtol=1e-4)
    return found


def test_speeds_and_episodes_are_those_of_decisions_taken_one_by_one(bundle: Bundle) -> None:
    lagged = set()
    for epsilon, duration, scale in ((0.0, 3, 1.0), (0.05, 5, 0.2)):
        method = make(bundle, epsilon=epsilon, steps=duration)
        with torch.no_grad():
            method.backbone.encoders["audio"].second.weight.mul_(scale)
        begin(method)
        flags = np.array(by_hand(method, batches(bundle, 25), epsilon, duration))
        busy = "".join("x" if any(row) else "." for row in flags)
        assert {len(run) for run in busy.rstrip("x").split(".") if run} == {duration}
        assert "x." in busy and not flags.all(axis=1).any()
        lagged |= set(np.flatnonzero(flags.any(axis=0)).tolist())
    assert lagged == {0, 1}


def test_identical_branches_learn_at_the_same_speed_and_are_never_rebalanced(toy: Toy) -> None:
    bundle = toy((1,) * 80, {"audio": 6, "vision": 6})
    bundle.features["vision"][:] = bundle.features["audio"]
    method = make(bundle)
    net = method.backbone
    net.encoders["vision"].load_state_dict(net.encoders["audio"].state_dict())
    net.heads["vision"].load_state_dict(net.heads["audio"].state_dict())
    with torch.no_grad():
        for fusion in net.fusions:
            fusion.squeeze.weight[:, 8:] = fusion.squeeze.weight[:, :8]
            fusion.excite["vision"].load_state_dict(fusion.excite["audio"].state_dict())
    method.keep_series, optimizer = True, make_optimizer(method, TRAINING)
    begin(method)
    for batch in batches(bundle, 10):
        train_step(method, batch, optimizer, 0.0)
        speeds = method.series()["speed"]
        assert (
            speeds[0].item() == pytest.approx(speeds[1].item(), abs=1e-4) and not net.constant.any()
        )


def test_infinite_epsilon_is_the_plain_network_under_both_heads_losses(bundle: Bundle) -> None:
    never, twin = make(bundle, "never"), make(bundle).backbone
    optimizers = make_optimizer(never, TRAINING), make_optimizer(twin, TRAINING)
    begin(never)
    for batch in batches(bundle, 8):
        train_step(never, batch, optimizers[0], 0.0)
        alone = twin.unimodal(twin(batch, batch.features))
        loss = sum(-alone[m].log_softmax(dim=1)[torch.arange(8), batch.labels].mean() for m in DIMS)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
    for ours, plain in zip(never.backbone.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_nothing_is_rebalanced_in_the_first_share_of_the_epochs(bundle: Bundle) -> None:
    method = make(bundle, epsilon=0.0)
    optimizer, batch = make_optimizer(method, TRAINING), batches(bundle, 1)[0]
    for epoch, expected in ((0, False), (1, False), (2, True)):
        begin(method, epoch)
        train_step(method, batch, optimizer, 0.0)
        assert bool(method.gated.constant.any()) is expected


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains(bundle: Bundle, variant: str) -> None:
    drawn = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    fitted = fit(
        make(bundle, variant),
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        TRAINING,
        0,
        keep_series=True,
        device=torch.device("cpu"),
    )
    assert fitted.loss[-1] < fitted.loss[0] and fitted.series["constant"].any() == (
        variant == "paper"
    )
    assert set(fitted.views) == {"valid.audio", "valid.vision", "test.audio", "test.vision"}


def test_other_backbones_and_options_that_make_no_sense_raise(toy: Toy) -> None:
    for bad in ({"epsilon": -1.0}, {"epsilon": math.nan}, {"steps": 0}, {"start": 1.5}):
        with pytest.raises(InputError):
            GreedyConfig(**bad)
    with pytest.raises(InputError, match="mmtm"):
        make(toy(dims=DIMS), backbone="concat")
    with pytest.raises(InputError, match="mmtm with two"):
        make(toy(dims={**DIMS, "text": 4}))
    with pytest.raises(InputError, match="ratio"):
        MMTMConfig(ratio=0)
