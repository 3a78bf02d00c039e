"""AGM: parts, scores and coefficients by NumPy, scaled gradients by autograd on the parts themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import fit
from mmlib.methods import build_method
from mmlib.methods.agm import coefficients, scores
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, make_layout
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
TASK = Task("classes", ("a", "b", "c"))


def batch_of(features: dict[str, Tensor]) -> Batch:
    n = len(features["audio"])
    return Batch(
        features,
        torch.ones(n, 2, dtype=torch.bool),
        torch.arange(n) % 3,
        torch.zeros(n, dtype=torch.long),
        make_layout([1] * n),
    )


def vectors(seed: int = 0, n: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return batch_of(
        {
            "audio": torch.randn(n, 6, generator=generator, dtype=torch.float64),
            "vision": torch.randn(n, 4, generator=generator, dtype=torch.float64),
        }
    )


def pictures() -> Batch:
    torch.manual_seed(3)
    return batch_of(
        {
            "audio": torch.randn(6, 1, 32, 32),
            "vision": torch.randint(0, 256, (6, 2, 3, 32, 32)).byte(),
        }
    )


def make(
    method: str = "agm",
    variant: str = "paper",
    dims: tuple[int, int] = (6, 4),
    sizes: Any = None,
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    named, sizes = (
        dict(zip(("audio", "vision"), dims, strict=True)),
        sizes or {"encoder": "mlp", "hidden": 8},
    )
    backbone = build_backbone("concat", named, 3, 1, sizes.items())
    return build_method(method, variant, options.items(), backbone, TASK, named)


def gradients(method: Plain, batch: Batch) -> dict[str, Tensor]:
    method.zero_grad()
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    return {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}


def parts_by_hand(method: Any, batch: Batch) -> Tensor:
    """R^a and R^v, (2, n, C), with graph; T in training mode, the rest in evaluation mode."""
    both = method.backbone(batch, batch.features).logits
    method.backbone.eval()
    zero = {m: torch.zeros(x.shape, dtype=both.dtype) for m, x in batch.features.items()}
    audio = method.backbone(
        batch, {"audio": batch.features["audio"], "vision": zero["vision"]}
    ).logits
    vision = method.backbone(
        batch, {"audio": zero["audio"], "vision": batch.features["vision"]}
    ).logits
    method.backbone.train()
    torch.testing.assert_close(0.5 * (both - vision + audio) + 0.5 * (both - audio + vision), both)
    return torch.stack([0.5 * (both - vision + audio), 0.5 * (both - audio + vision)])


@pytest.mark.parametrize("variant, sign", [("paper", 1), ("inverted", -1)])
def test_kappa_by_numpy_over_three_steps_with_the_mean_of_the_steps_before(
    variant: str, sign: int
) -> None:
    method = make(variant=variant, alpha=1.5).double()
    earlier: list[np.ndarray] = []
    for seed in range(3):
        batch = vectors(seed)
        parts = parts_by_hand(method, batch).detach().numpy()
        method.loss(batch)
        score = np.array(
            [-log_softmax(p, axis=1)[np.arange(12), batch.labels.numpy()].mean() for p in parts]
        )
        mean = np.mean(earlier, axis=0) if earlier else np.zeros(2)
        r, tau = (np.exp(sign * np.array([s[1] - s[0], s[0] - s[1]])) for s in (score, mean))
        np.testing.assert_allclose(method.series()["score"], score, rtol=1e-10)
        np.testing.assert_allclose(
            method.series()["kappa"], np.exp(1.5 * np.minimum(tau - r, 10)), rtol=1e-10
        )
        assert earlier or np.allclose(tau, 1)
        earlier.append(score)


def test_the_better_modality_than_usual_is_held_back_and_the_difference_is_capped_at_ten() -> None:
    kappa = coefficients(torch.tensor([0.5, 1.5]), torch.zeros(2), 1.0)
    assert kappa[0] < 1 < kappa[1]
    assert coefficients(torch.zeros(2), torch.tensor([0.0, 9.0]), 0.5)[0].item() == pytest.approx(
        np.exp(5.0)
    )
    assert scores(torch.tensor([[[0.0, 90.0]]] * 2), torch.tensor([0]))[0].item() == pytest.approx(
        -np.log(1e-8)
    )


@pytest.mark.parametrize("pixels", [False, True], ids=["vectors", "pictures"])
def test_what_enters_each_part_is_scaled_by_its_kappa(pixels: bool) -> None:
    dims, sizes, batch = ((1, 3), {"width": 2}, pictures()) if pixels else ((6, 4), None, vectors())
    method, other = (make(dims=dims, sizes=sizes) for _ in range(2))
    if not pixels:
        method.double(), other.double()
    found = gradients(method, batch)
    parts = parts_by_hand(other, batch)
    incoming = parts.detach().sum(dim=0).softmax(dim=1) - torch.eye(3)[batch.labels]
    kappa = method.series()["kappa"]
    (kappa[:, None, None] * incoming / len(batch) * parts).sum().backward()
    assert (kappa[0] / kappa[1] - 1).abs() > 0.01
    for name, p in other.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-5)


def test_without_an_answer_to_zeros_each_encoder_is_scaled_by_its_kappa_and_the_bias_by_their_mean() -> (
    None
):
    method, plain = make().double(), make("plain").double()
    for net in (method, plain):
        for name, p in net.named_parameters():
            if "encoders" in name and name.endswith("bias"):
                p.data.zero_()
    found, bare = gradients(method, vectors()), gradients(plain, vectors())
    kappa = method.series()["kappa"]
    for name, gradient in bare.items():
        if "encoders" in name:
            torch.testing.assert_close(found[name], gradient * kappa[int("vision" in name)])
    columns = kappa.repeat_interleave(8)
    torch.testing.assert_close(
        found["backbone.prediction.weight"], bare["backbone.prediction.weight"] * columns
    )
    torch.testing.assert_close(
        found["backbone.prediction.bias"], bare["backbone.prediction.bias"] * kappa.mean()
    )


def test_alpha_zero_is_plain_and_so_is_every_epoch_after_the_last_modulated_one() -> None:
    bare = gradients(make("plain").double(), vectors())
    late = make(until=0.25).double()
    acting = []
    for epoch in range(8):
        late.start_epoch(Peek(epoch, 8, list, list, list, lambda method, epochs: None))
        acting.append(late.acts)
    assert acting == [True] * 2 + [False] * 6
    for method in (make(alpha=0.0).double(), late):
        found = gradients(method, vectors())
        for name, gradient in bare.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


def test_the_passes_with_zeros_leave_training_mode_and_batch_statistics_as_plain_has_them() -> None:
    method, plain = (make(m, dims=(1, 3), sizes={"width": 2}) for m in ("agm", "plain"))
    method.loss(pictures()), plain.loss(pictures())
    assert all(m.training for m in method.modules())
    theirs = plain.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in method.state_dict().items())
    method.eval(), plain.eval()
    assert torch.equal(method(pictures()).logits, plain(pictures()).logits)


@pytest.mark.parametrize("largest, cut", [(0.9, False), (-1.1, True)])
def test_an_entry_of_the_heads_gradient_above_one_cuts_the_global_norm_to_one(
    largest: float, cut: bool
) -> None:
    method = make()
    for p in method.parameters():
        p.grad = torch.full_like(p, 2.0)
    head = method.backbone.prediction.weight
    head.grad = torch.zeros_like(head)
    head.grad[1, 2] = largest
    before = [p.grad.clone() for p in method.parameters()]
    norm = float(torch.cat([g.flatten() for g in before]).double().norm())
    method.after_backward()
    for p, gradient in zip(method.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, gradient / norm if cut else gradient)


@pytest.mark.parametrize("variant", ["paper", "inverted"])
def test_every_variant_trains(toy: Toy, variant: str) -> None:
    bundle, ends = toy((1,) * 48, {"audio": 6, "vision": 4}), []
    mask = {s: masks.draw(masks.complete(), bundle, s, 0) for s in ("train", "valid", "test")}
    schedule = Training(
        epochs=3, batch=8, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0
    )
    for name, chosen in (("agm", variant), ("plain", "paper")):
        ends.append(
            fit(
                make(name, chosen),
                bundle,
                lambda _: mask["train"],
                mask["valid"],
                {"test": mask["test"]},
                schedule,
                5,
                keep_series=name == "agm",
            )
        )
    assert np.isfinite(ends[0].loss).all() and not np.array_equal(ends[0].valid, ends[1].valid)
    assert ends[0].series["kappa"].shape == (9, 2)


@pytest.mark.parametrize("bad", [{"alpha": -1.0}, {"until": 1.5}, {"inverse": True}], ids=str)
def test_wrong_options_and_networks_of_three_modalities_are_refused(
    toy: Toy, bad: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        make(**bad)
    with pytest.raises(InputError, match="two modalities"):
        build_method(
            "agm", "paper", (), make().backbone, TASK, {"audio": 6, "text": 5, "vision": 4}
        )
