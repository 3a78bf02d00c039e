"""OGM-GE and OPM & OGM: ratios, coefficients and drop probabilities by NumPy, and when each is the plain network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import fit
from mmlib.methods import build_method
from mmlib.methods.ogm_ge import coefficients, ratios
from mmlib.methods.opm_ogm import drop, drop_probabilities
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, make_layout, to_device
from mmlib.runs.spec import Training

DIMS = {"audio": 6, "vision": 4}
Toy = Callable[..., Bundle]


def make(
    bundle: Bundle,
    method: str = "ogm_ge",
    variant: str = "paper",
    dropout: float = 0.0,
    kind: str = "concat",
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 8, "dropout": dropout} if kind == "concat" else {}
    backbone = build_backbone(
        kind, bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method(method, variant, options.items(), backbone, bundle.task, bundle.dims)


def first_batch(bundle: Bundle) -> Batch:
    return to_device(
        bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu"
    ).batch(range(12))


def gradients(method: Plain, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    method.zero_grad()
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    method.after_backward()
    return {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}


def fitted(bundle: Bundle, method: Plain) -> np.ndarray:
    mask = {s: masks.draw(masks.complete(), bundle, s, 0) for s in ("train", "valid", "test")}
    schedule = Training(
        epochs=3, batch=8, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0
    )
    found = fit(
        method, bundle, lambda _: mask["train"], mask["valid"], {"test": mask["test"]}, schedule, 5
    )
    return found.tests["test"]


def ratio_by_hand(method: Any, batch: Batch) -> np.ndarray:
    """rho of audio and of vision, from the columns of the head that belong to each."""
    head, fused, rows = method.backbone.prediction, method(batch), np.arange(len(batch))
    weight, half = head.weight.detach().numpy(), head.bias.detach().numpy() / 2
    logits = [
        fused.z["audio"].detach().numpy() @ weight[:, :8].T,
        fused.z["vision"].detach().numpy() @ weight[:, 8:].T,
    ]
    audio, vision = (softmax(x + half, axis=1)[rows, batch.labels.numpy()].sum() for x in logits)
    return np.array([audio / vision, vision / audio])


def peek(epoch: int, epochs: int) -> Peek:
    return Peek(epoch, epochs, list, list, list, lambda method, epochs: None)


@pytest.fixture
def bundle(toy: Toy) -> Bundle:
    return toy((1,) * 48, DIMS)


def test_eq10_only_the_surer_modality_is_scaled_by_one_less_the_tanh_of_alpha_rho(
    bundle: Bundle,
) -> None:
    method, batch = make(bundle, alpha=0.6), first_batch(bundle)
    torch.nn.init.normal_(method.backbone.prediction.bias)
    method.loss(batch)
    rho = ratio_by_hand(method, batch)
    np.testing.assert_allclose(method.series()["ratio"], rho, rtol=1e-5)
    np.testing.assert_allclose(
        method.series()["k"], np.where(rho > 1, 1 - np.tanh(0.6 * rho), 1), rtol=1e-5
    )
    assert method.series()["k"][rho.argmin()] == 1 and rho.max() > 1.001


def test_eq10_swapping_the_modalities_swaps_k_and_at_most_one_is_below_one() -> None:
    for score in torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) + 0.1:
        k = coefficients(ratios(score), 0.8)
        assert torch.equal(coefficients(ratios(score.flip(0)), 0.8), k.flip(0))
        assert (k == 1).sum() == 1 and (k > 0).all() and k[score.argmax()] < 0.34


def test_weights_of_two_dimensions_are_scaled_by_k_and_nothing_else_is(bundle: Bundle) -> None:
    method, batch = make(bundle, variant="no_noise"), first_batch(bundle)
    ours, bare = gradients(method, batch), gradients(make(bundle, "plain"), batch)
    k = dict(zip(("audio", "vision"), method.series()["k"], strict=True))
    assert min(k.values()) < 0.5
    for name, gradient in bare.items():
        scaled = name.startswith("backbone.encoders.") and name.endswith("weight")
        assert torch.equal(ours[name], gradient * k[name.split(".")[2]] if scaled else gradient), (
            name
        )


def test_of_a_resnet_only_the_kernels_are_touched() -> None:
    torch.manual_seed(0)
    task = Task("classes", ("a", "b", "c"))
    backbone = build_backbone("concat", {"audio": 1, "vision": 3}, 3, 1, {"width": 2}.items())
    features = {
        "audio": torch.randn(6, 1, 32, 32),
        "vision": torch.randint(0, 256, (6, 2, 3, 32, 32)).byte(),
    }
    blank = torch.zeros(6, dtype=torch.long)
    batch = Batch(
        features,
        torch.ones(6, 2, dtype=torch.bool),
        torch.arange(6) % 3,
        blank,
        make_layout([1] * 6),
    )
    ours, bare = (
        gradients(build_method(m, "paper", (), backbone, task, {"audio": 1, "vision": 3}), batch)
        for m in ("ogm_ge", "plain")
    )
    touched = {name for name in bare if not torch.equal(ours[name], bare[name])}
    assert touched == {n for n, g in bare.items() if g.ndim == 4} and len(touched) == 40


def test_ge_adds_noise_of_the_unscaled_gradients_deviation_to_both_encoders(toy: Toy) -> None:
    bundle = toy((1,) * 48, {"audio": 300, "vision": 200})
    method, batch = make(bundle), first_batch(bundle)
    loud, exact = gradients(method, batch), gradients(make(bundle, variant="no_noise"), batch)
    bare = gradients(make(bundle, "plain"), batch)
    for name in ("backbone.encoders.audio.first.weight", "backbone.encoders.vision.first.weight"):
        noise = (loud[name] - exact[name]).numpy() / bare[name].numpy().std(ddof=1)
        n = noise.size
        assert abs(noise.mean()) < 5 / n**0.5 and abs(noise.std() - 1) < 5 / (2 * n) ** 0.5, name
    assert method.series()["k"].min() < 0.5


@pytest.mark.parametrize(
    "method, options",
    [
        ("ogm_ge", {"alpha": 0.0, "noise": False}),
        ("ogm_ge", {"until": 0.0}),
        ("opm_ogm", {"alpha": 0.0, "noise": False, "p_exe": 0.0}),
        ("opm_ogm", {"until": 0.0}),
        ("opm_ogm", {"start": 1.0}),
    ],
    ids=str,
)
def test_without_strength_or_epochs_training_is_plain_bit_for_bit(
    bundle: Bundle, method: str, options: dict[str, Any]
) -> None:
    plain = fitted(bundle, make(bundle, "plain", dropout=0.3))
    assert np.array_equal(fitted(bundle, make(bundle, method, dropout=0.3, **options)), plain)


@pytest.mark.parametrize(
    "method, variant",
    [
        ("ogm_ge", "paper"),
        ("ogm_ge", "no_noise"),
        ("opm_ogm", "paper"),
        ("opm_ogm", "opm"),
        ("opm_ogm", "ogm"),
    ],
)
def test_every_variant_trains_and_differs_from_plain(
    bundle: Bundle, method: str, variant: str
) -> None:
    found = fitted(bundle, make(bundle, method, variant, until=1.0))
    assert np.isfinite(found).all() and not np.array_equal(
        found, fitted(bundle, make(bundle, "plain"))
    )


def test_the_epochs_in_which_they_act_are_shares_of_the_training(bundle: Bundle) -> None:
    for name, expected in (("ogm_ge", range(50)), ("opm_ogm", range(5, 60))):
        method, acting = make(bundle, name), []
        for epoch in range(100):
            method.start_epoch(peek(epoch, 100))
            acting += [epoch] if method.acts else []
        assert acting == list(expected)
    gradients(method, first_batch(bundle))
    assert method.series()["k"].tolist() == [1, 1]


def test_opm_the_weaker_is_never_dropped_and_the_stronger_between_its_bounds() -> None:
    for rho in np.random.default_rng(0).uniform(0.2, 4, 100):
        found = drop_probabilities(torch.tensor([rho, 1 / rho]), 0.5, 0.7).numpy()
        stronger, top = (0, rho) if rho > 1 else (1, 1 / rho)
        assert found[1 - stronger] == 0 and 0.5 <= found[stronger] <= 0.5 * 1.7
        np.testing.assert_allclose(found[stronger], 0.5 * (1 + 0.7 * np.tanh(top - 1)), rtol=1e-6)
    assert drop_probabilities(torch.tensor([5.0, 0.2]), 0.9, 2.0).tolist() == [1, 0]


def test_opm_the_expected_embedding_is_one_less_q_over_one_less_half_q_in_the_share_p_exe_of_batches() -> (
    None
):
    torch.manual_seed(0)
    z, q = (
        {"audio": torch.full((40, 2), 3.0), "vision": torch.ones(40, 1)},
        torch.tensor([0.6, 0.0]),
    )
    found = [drop(z, q, 0.7) for _ in range(1000)]
    weaker = torch.stack([f["vision"] for f in found])
    assert (
        all(len(f.unique()) == 1 for f in weaker)
        and abs((weaker[:, 0] > 1).float().mean() - 0.7) < 0.06
    )
    executed = torch.stack([f["audio"] / 3 for f in found])[weaker[:, 0, 0] > 1]
    assert torch.equal(executed[..., 0], executed[..., 1]) and (weaker.max() - 1 / 0.7).abs() < 1e-6
    assert 0 < executed[0].mean() < executed.max()  # Each sample has a draw of its own.
    assert abs(executed.mean() - 0.4 / 0.7) < 0.02 and set(executed.unique().tolist()) == {
        0,
        executed.max().item(),
    }


def test_opm_with_the_stronger_always_dropped_the_loss_sees_twice_the_weaker_alone(
    bundle: Bundle,
) -> None:
    method, batch = make(bundle, "opm_ogm", q_b=1.0, p_exe=1.0), first_batch(bundle)
    stronger = int(ratio_by_hand(method, batch).argmax())
    z = [
        method(batch).z[m].detach().numpy() * (0 if i == stronger else 2)
        for i, m in enumerate(("audio", "vision"))
    ]
    head = method.backbone.prediction
    logits = np.concatenate(z, axis=1) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    expected = -log_softmax(logits, axis=1)[np.arange(12), batch.labels.numpy()].mean()
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(method.series()["ratio"], ratio_by_hand(method, batch), rtol=1e-5)


def test_opm_evaluation_is_the_plain_networks(bundle: Bundle) -> None:
    batch = first_batch(bundle)
    opm, plain = make(bundle, "opm_ogm", p_exe=1.0).eval(), make(bundle, "plain").eval()
    assert torch.equal(opm(batch).logits, plain(batch).logits)


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"until": 1.1},
        {"p_exe": 2.0},
        {"q_b": -0.1},
        {"lambda_": -1.0},
        {"start": -0.1},
        {"alhpa": 1.0},
    ],
    ids=str,
)
def test_wrong_options_are_refused(bundle: Bundle, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make(bundle, "opm_ogm", **bad)


def test_other_tasks_backbones_and_numbers_of_modalities_are_refused(
    toy: Toy, bundle: Bundle
) -> None:
    score = Task("score", range=(-3.0, 3.0))
    for wrong, kind in (
        (toy(), "concat"),
        (toy(dims=DIMS, task=score), "concat"),
        (bundle, "mmgcn"),
    ):
        with pytest.raises(InputError, match="OgmGe"):
            make(wrong, kind=kind)
