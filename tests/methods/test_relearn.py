"""D&R: purity, when encoders are drawn back towards their start, by how much, and what stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import evaluation_batches, fit
from mmlib.methods import build_method
from mmlib.methods.plain import Peek
from mmlib.methods.relearn import RelearnConfig, moments, purity
from mmlib.nn.batch import Batch, make_layout, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 5}


def make(bundle: Bundle, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 8}
    backbone = build_backbone(
        "concat", bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method("relearn", "paper", options.items(), backbone, bundle.task, bundle.dims)


def peek(epoch: int, train: list[Batch], valid: list[Batch], epochs: int = 9) -> Peek:
    return Peek(epoch, epochs, lambda: train, lambda: valid, list, lambda other, more: None)


def splits(bundle: Bundle) -> tuple[list[Batch], list[Batch]]:
    drawn = [masks.draw(masks.complete(), bundle, split, 0) for split in ("train", "valid")]
    return (
        evaluation_batches(to_device(bundle, "train", drawn[0], "cpu")),
        evaluation_batches(to_device(bundle, "valid", drawn[1], "cpu")),
    )


def disturb(method: Any) -> dict[str, torch.Tensor]:
    """Move all parameters and running statistics, as training would; what they are then."""
    with torch.no_grad():
        for value in method.state_dict().values():
            if value.is_floating_point():
                value += 0.1 * torch.rand_like(value)
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_purity_is_1_where_clusters_are_the_classes_and_never_under_one_over_the_classes() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    assert purity(np.eye(4)[labels] + 0.01 * random.normal(size=(100, 4)), labels, 4) == 1
    found = [purity(random.normal(size=(100, 3)), labels, 4) for _ in range(20)]
    assert 0.25 <= min(found) and max(found) < 0.6


def test_purity_counts_the_majority_of_each_cluster_of_features_scaled_to_minus_1_and_1() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 60)
    z = random.normal(size=(60, 4)) * [1, 100, 0.01, 0] + np.eye(4)[labels] * [1, 0, 0.02, 0]
    low, high = z.min(axis=0), z.max(axis=0)
    scaled = np.where(high > low, 2 * (z - low) / np.where(high > low, high - low, 1) - 1, -1)
    clusters = KMeans(3, n_init=1, random_state=0).fit_predict(scaled)
    majorities = [Counter(labels[clusters == k]).most_common(1)[0][1] for k in range(3)]
    assert purity(z, labels, 3) == pytest.approx(sum(majorities) / 60)
    assert purity(z[:, [0, 2]], labels, 3) > purity(z[:, [1]], labels, 3)


def test_the_moments_are_the_released_ones_as_shares() -> None:
    at = RelearnConfig().at
    assert (
        moments(at, 90) == {20, 40, 60}
        and moments(at, 9) == {2, 4, 6}
        and moments(at, 100) == {22, 44, 66}
    )


def test_encoders_move_towards_their_start_by_tanh_of_the_gap_and_nothing_else_moves(
    toy: Toy,
) -> None:
    bundle = toy((1,) * 80, DIMS)
    train, valid = splits(bundle)
    method = make(bundle, strength=2.0)
    disturb(method)  # as if the weights of a parent run had been loaded
    method.start_epoch(peek(0, train, valid))
    initial = {name: value.clone() for name, value in method.state_dict().items()}
    now = disturb(method)
    assert not any(method.start_epoch(peek(epoch, train, valid)) for epoch in (1, 2, 4, 6, 8))
    assert all(torch.equal(value, now[name]) for name, value in method.state_dict().items())
    expected = {}
    with torch.no_grad():
        for index, modality in enumerate(sorted(DIMS)):
            p = [
                purity(
                    torch.cat([method(b).z[modality] for b in batches]).double().numpy(),
                    np.concatenate([b.labels for b in batches]),
                    3,
                )
                for batches in (train, valid)
            ]
            expected[index] = (*p, np.tanh(2.0 * abs(p[0] - p[1])))
    found = method.start_epoch(peek(3, train, valid))
    for index, modality in enumerate(sorted(DIMS)):
        np.testing.assert_allclose(
            [*found["purity"][index], found["delta"][index]], expected[index], rtol=1e-5
        )
        delta = expected[index][2]
        assert 0 < delta < 1
        for name, value in method.state_dict().items():
            if f"encoders.{modality}" in name:
                np.testing.assert_allclose(
                    value, (1 - delta) * now[name] + delta * initial[name], atol=1e-6
                )
    kept = [name for name in now if "encoders" not in name]
    assert kept and all(torch.equal(method.state_dict()[name], now[name]) for name in kept)


def test_without_a_gap_no_bit_changes(toy: Toy) -> None:
    train, _ = splits(toy((1,) * 80, DIMS))
    method = make(toy((1,) * 80, DIMS))
    method.start_epoch(peek(0, train, train))
    now = disturb(method)
    found = method.start_epoch(peek(5, train, train))
    assert found["delta"].tolist() == [0, 0] and (found["purity"] > 0).all()
    assert all(torch.equal(value, now[name]) for name, value in method.state_dict().items())


def test_convolutions_are_drawn_back_and_running_statistics_stay() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("concat", {"audio": 1, "vision": 3}, 2, 1, [("width", 2)])
    method = build_method(
        "relearn", "paper", [], backbone, Task("classes", ("x", "y")), {"audio": 1, "vision": 3}
    )

    def batch(n: int) -> list[Batch]:
        features = {"audio": torch.randn(n, 1, 32, 32), "vision": torch.randn(n, 2, 3, 32, 32)}
        zeros = torch.zeros(n, dtype=torch.long)
        return [
            Batch(
                features,
                torch.ones(n, 2, dtype=torch.bool),
                torch.arange(n) % 2,
                zeros,
                make_layout([1] * n),
            )
        ]

    train, valid = batch(20), batch(7)
    method.start_epoch(peek(0, train, valid))
    now = disturb(method)
    assert (method.start_epoch(peek(3, train, valid))["delta"] > 0).all()
    same = {name for name, value in method.state_dict().items() if torch.equal(value, now[name])}
    assert same == {
        name for name in now if "running" in name or "num_batches" in name or "prediction" in name
    }


def test_it_trains_and_notes_what_it_found(toy: Toy) -> None:
    bundle = toy((1,) * 80, DIMS)
    drawn = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    training = Training(
        epochs=9, batch=8, lr=0.02, weight_decay=1e-4, optimizer="momentum", clip=0.0
    )
    fitted = fit(
        make(bundle),
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        training,
        0,
        device=torch.device("cpu"),
    )
    assert fitted.recorded_at == (3, 5, 7) and fitted.loss[-1] < fitted.loss[0]
    assert fitted.recorded["purity"].shape == (3, 2, 2) and fitted.recorded["delta"].shape == (3, 2)


def test_options_and_tasks_that_make_no_sense_raise(toy: Toy) -> None:
    for bad in ({"at": (0.5, 1.0)}, {"strength": -1.0}):
        with pytest.raises(InputError):
            RelearnConfig(**bad)
    with pytest.raises(InputError, match="classes"):
        make(toy(dims=DIMS, task=Task("score", range=(-3.0, 3.0))))
