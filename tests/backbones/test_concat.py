"""Two encoders and a linear head: its logits split exactly, frames are averaged, ResNet-18 has its known size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmlib.backbones.concat import Concat, ConcatConfig, Vectors, as_floats, unimodal_logits
from mmlib.errors import InputError
from mmlib.nn.batch import Batch, make_layout
from mmlib.nn.resnet import BatchNorm, ResNet18


def batch(features: dict[str, Tensor]) -> Batch:
    n = len(next(iter(features.values())))
    return Batch(
        features,
        torch.ones(n, len(features), dtype=torch.bool),
        torch.zeros(n, dtype=torch.long),
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def pictures(n: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "audio": torch.randn(n, 1, 32, 32, generator=generator),
        "vision": torch.randint(0, 256, (n, 2, 3, 32, 32), generator=generator, dtype=torch.uint8),
    }


def network(**options: object) -> Concat:
    torch.manual_seed(0)
    return Concat({"audio": 1, "vision": 3}, 6, 1, ConcatConfig(width=4, **options))  # type: ignore[arg-type]


def test_the_published_resnet_has_11_176_512_parameters_before_its_head() -> None:
    assert sum(p.numel() for p in ResNet18(3).parameters()) == 11_176_512
    assert ResNet18(1, 4)(torch.zeros(2, 1, 64, 96)).shape == (2, 32, 2, 3)


@pytest.mark.parametrize("modalities", [("a", "b"), ("a", "b", "c")])
def test_unimodal_logits_add_up_to_the_fused_ones(modalities: tuple[str, ...]) -> None:
    torch.manual_seed(1)
    net = Concat(dict.fromkeys(modalities, 5), 4, 1, ConcatConfig("mlp", hidden=7)).double()
    torch.nn.init.normal_(net.prediction.bias)
    features = {m: torch.randn(9, 5, dtype=torch.float64) for m in modalities}
    fused = net(batch(features), features)
    parts = unimodal_logits(net.prediction, fused.z)
    torch.testing.assert_close(sum(parts.values()), fused.logits, rtol=0, atol=1e-14)
    weight, place = net.prediction.weight.detach().numpy(), 7 * (len(modalities) - 1)
    last = modalities[-1]
    share = net.prediction.bias.detach().numpy() / len(modalities)
    by_hand = fused.z[last].detach().numpy() @ weight[:, place:].T + share
    torch.testing.assert_close(parts[last].detach(), torch.from_numpy(by_hand))


def test_frames_are_averaged_and_their_order_does_not_matter() -> None:
    net, features = network().eval(), pictures()
    whole = net(batch(features), features)
    turned = {**features, "vision": features["vision"].flip(1)}
    torch.testing.assert_close(net(batch(turned), turned).logits, whole.logits)
    single = [net.encoders["vision"](features["vision"][:, k : k + 1]) for k in range(2)]
    torch.testing.assert_close((single[0] + single[1]) / 2, whole.z["vision"])


def test_bytes_become_floats_between_minus_one_and_one() -> None:
    values = as_floats(torch.tensor([0, 255], dtype=torch.uint8))
    assert values.tolist() == [-1, 1] and as_floats(torch.tensor([7.0])).item() == 7


def test_a_missing_modality_as_zeros_gives_the_same_embedding_for_all() -> None:
    net, features = network().eval(), pictures()
    blank = {**features, "audio": torch.zeros_like(features["audio"])}
    z = net(batch(blank), blank).z["audio"]
    torch.testing.assert_close(z, z[:1].expand_as(z))


def test_it_learns_and_its_head_starts_without_bias() -> None:
    net = network()
    assert not net.prediction.bias.any()
    features, labels = pictures(12), torch.arange(12) % 6
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(net(batch(features), features).logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_perceptron_has_two_layers() -> None:
    shapes = [tuple(p.shape) for p in Vectors(5, ConcatConfig("mlp", hidden=7)).parameters()]
    assert shapes == [(7, 5), (7,), (7, 7), (7,)]


@pytest.mark.parametrize("bad", [{"encoder": "vgg"}, {"width": 0}, {"hidden": 0}, {"dropout": 1.0}])
def test_bad_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ConcatConfig(**bad)  # type: ignore[arg-type]


def test_a_step_with_one_value_per_channel_uses_running_statistics_and_keeps_them() -> None:
    torch.manual_seed(0)
    norm = BatchNorm(3)
    norm(torch.randn(8, 3, 4, 4) * 2 + 1)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    one = torch.randn(1, 3, 1, 1)
    expected = (one - mean.view(1, 3, 1, 1)) / (variance.view(1, 3, 1, 1) + norm.eps).sqrt()
    torch.testing.assert_close(norm(one), expected)
    assert torch.equal(norm.running_mean, mean) and torch.equal(norm.running_var, variance)


def test_steps_with_more_than_one_value_are_those_of_torch() -> None:
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for shape in ((8, 3, 4, 4), (1, 3, 2, 1), (2, 3, 1, 1)):
        values = torch.randn(shape)
        assert torch.equal(ours(values), theirs(values))
    assert torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("clips", [1, 2])
def test_resnet_trains_on_a_batch_whose_last_feature_map_is_one_pixel(clips: int) -> None:
    torch.manual_seed(0)
    net = ResNet18(1, 4).train()
    net(torch.randn(clips, 1, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
