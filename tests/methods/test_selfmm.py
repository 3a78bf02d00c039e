"""Self-MM: its loss and made-up labels by hand, its laws, and what it keeps of training rows; the plain loss of P."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import evaluation_batches, fit, make_optimizer, train_step
from mmlib.methods import build_method
from mmlib.methods.plain import Peek
from mmlib.methods.selfmm import SelfMM, made_label
from mmlib.nn.batch import Batch, Resident, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
CPU = torch.device("cpu")
SCORE = Task("score", range=(-3.0, 3.0))
NET: dict[str, Any] = {"fusion": 8, "text": 5, "audio": 4, "vision": 6, "dropout": 0.0}
SLOW = Training(epochs=3, batch=3, lr=1e-2, weight_decay=0.0)


def make(bundle: Bundle) -> SelfMM:
    torch.manual_seed(0)
    net = build_backbone("selfmm", bundle.dims, 1, 1, NET.items())
    found = build_method("selfmm", "paper", (), net, bundle.task, bundle.dims)
    assert isinstance(found, SelfMM)
    return found


def resident_of(bundle: Bundle, law: masks.Law | None = None, epoch: int = 0) -> Resident:
    return to_device(
        bundle, "train", masks.draw(law or masks.random_missing(), bundle, "train", 0, epoch), CPU
    )


def begin(method: SelfMM, resident: Resident, epoch: int) -> None:
    method.start_epoch(
        Peek(epoch, 9, lambda: evaluation_batches(resident), list, list, lambda *_: None)
    )


def array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().double().numpy())


def test_in_the_first_epoch_single_modalities_learn_nothing(toy: Toy) -> None:
    bundle = toy(task=SCORE)
    method, resident = make(bundle), resident_of(bundle)
    begin(method, resident, 0)
    batch = resident.batch([0, 1, 2])
    loss = next(iter(method.losses(batch)))
    loss.backward()  # type: ignore[no-untyped-call]
    expected = np.abs(array(method(batch).logits)[:, 0] - batch.labels.numpy()).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    gradients = {n: p.grad for n, p in method.named_parameters()}
    assert all((g == 0).all() for n, g in gradients.items() if ".heads." in n and g is not None)
    assert all(
        g is not None and (g != 0).any()
        for n, g in gradients.items()
        if ".fusion." in n and "weight" in n
    )


def test_a_modality_that_leans_as_the_fusion_does_keeps_the_utterances_score() -> None:
    truth, lean = torch.tensor([-2.5, 0.3, 3.0, 1.0]), torch.tensor([0.5, -2.0, 1.0, 7.0])
    torch.testing.assert_close(made_label(truth, lean, lean, 3.0), truth)
    found = made_label(truth, 2 * lean, lean, 1.0)
    expected = np.clip(truth.numpy() + 0.5 * (truth.numpy() + lean.numpy()), -1, 1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_labels_and_losses_are_those_of_a_loop_over_rows(toy: Toy) -> None:
    """Three epochs beside a plain account of every utterance's features and labels, by its place in the split."""
    bundle = toy(task=SCORE)
    method, resident = make(bundle), resident_of(bundle)
    optimizer, names = make_optimizer(method, SLOW), ["", *method.modalities]
    truth = resident.labels.double().numpy()
    labels = {m: truth.copy() for m in names}
    features = {m: np.zeros((len(truth), w)) for m, w in zip(names, (8, 4, 5, 6), strict=True)}
    assert (truth > 0).any() and (truth < 0).any()
    for epoch in range(3):
        begin(method, resident, epoch)
        for dialogues in ([0, 3], [5, 1, 2], [4, 7, 6]):
            batch = resident.batch(dialogues)
            rows = np.concatenate(
                [np.arange(resident.starts[d], resident.starts[d + 1]) for d in dialogues]
            )
            fused = method(batch)
            alone = method.backbone.unimodal(fused)
            expected = np.abs(array(fused.logits)[:, 0] - truth[rows]).mean()
            for m in method.modalities:
                weight = np.tanh(np.abs(labels[m][rows] - truth[rows]))
                expected += (weight * np.abs(array(alone[m])[:, 0] - labels[m][rows])).mean()
            found = {"": array(fused.hidden), **{m: array(fused.z[m]) for m in method.modalities}}
            if epoch:
                delta = {}
                for m in names:
                    up, down = (
                        features[m][side].mean(axis=0) for side in (labels[m] > 0, labels[m] < 0)
                    )
                    near, far = (np.linalg.norm(found[m] - c, axis=1) for c in (up, down))
                    delta[m] = (far - near) / (near + 1e-8)
                for m in method.modalities:
                    y, ratio = truth[rows], delta[m] / (delta[""] + 1e-8)
                    new = np.clip(0.5 * ratio * y + 0.5 * (y + delta[m] - delta[""]), -3, 3)
                    labels[m][rows] = epoch / (epoch + 2) * labels[m][rows] + 2 / (epoch + 2) * new
            for m in names:
                features[m][rows] = found[m]
            loss = train_step(method, batch, optimizer, 0.0)
            assert loss.item() == pytest.approx(expected, rel=1e-4), (epoch, dialogues)
            for i, m in enumerate(method.modalities):
                np.testing.assert_allclose(array(method.labels[i]), labels[m], atol=1e-3)
    assert np.abs(labels["audio"] - truth).max() > 0.1


def test_labels_stay_with_their_utterance_where_masks_change(toy: Toy) -> None:
    bundle = toy(task=SCORE)
    method, law = make(bundle), masks.shared(0.4, resampled=True)
    first, second = (resident_of(bundle, law, epoch) for epoch in (0, 1))
    begin(method, first, 0)
    for _ in method.losses(first.batch([0, 1, 2, 3, 4, 5, 6, 7])):
        pass
    before = method.labels.clone()
    begin(method, second, 1)
    batch = second.batch([2])
    for _ in method.losses(batch):
        pass
    mine = slice(second.starts[2], second.starts[3])
    others = torch.ones(len(method.truth), dtype=torch.bool)
    others[mine] = False
    assert (method.labels[:, mine] != before[:, mine]).any()
    assert torch.equal(method.labels[:, others], before[:, others])


def test_utterances_that_it_has_not_seen_are_refused_and_so_are_classes(toy: Toy) -> None:
    bundle = toy(task=SCORE)
    method, resident = make(bundle), resident_of(bundle)
    with pytest.raises(InputError, match="keeps no labels"):
        next(iter(method.losses(resident.batch([0]))))
    begin(method, resident, 0)
    with pytest.raises(InputError, match="keeps no labels"):
        next(iter(method.losses(resident_of(bundle, masks.complete()).batch([0, 1, 2, 3]))))
    net = build_backbone("selfmm", bundle.dims, 3, 1, NET.items())
    with pytest.raises(InputError, match="scores"):
        build_method("selfmm", "paper", (), net, Task("classes", ("a", "b", "c")), bundle.dims)
    with pytest.raises(InputError, match="bound"):
        build_method(
            "selfmm",
            "paper",
            [("bound", 0.0)],
            build_backbone("selfmm", bundle.dims, 1, 1),
            SCORE,
            bundle.dims,
        )


def test_a_training_lowers_the_error_and_shows_each_modalitys_own_score(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 4) * 12, task=SCORE)
    full = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    fitted = fit(
        make(bundle),
        bundle,
        lambda epoch, shares=None: full["train"],
        full["valid"],
        {"test": full["test"]},
        Training(epochs=12, batch=4, lr=1e-2, weight_decay=0.0),
        0,
        device=CPU,
    )
    truth = bundle.labels[bundle.rows("test")]
    errors = [np.abs(outputs[:, 0] - truth).mean() for outputs in fitted.tests["test"]]
    assert errors[-1] < 0.6 * np.abs(truth - np.median(truth)).mean()
    assert set(fitted.views) == {
        f"{split}.{m}" for split in ("valid", "test") for m in ("audio", "text", "vision")
    }


@pytest.mark.parametrize("variant", ["paper", "squared"])
@pytest.mark.parametrize("kind", ["score", "classes"])
def test_ps_loss_is_the_absolute_error_of_scores_and_else_the_plain_one(
    toy: Toy, kind: str, variant: str
) -> None:
    bundle = toy(task=SCORE) if kind == "score" else toy()
    made: list[Any] = []
    for method, name in (("reference", variant), ("plain", "paper")):
        torch.manual_seed(0)
        net = build_backbone("mlp", bundle.dims, bundle.task.outputs, 1)
        made.append(build_method(method, name, (), net, bundle.task, bundle.dims).eval())
    batch: Batch = resident_of(bundle).batch([0, 1, 2])
    found, plain = (each.loss(batch).item() for each in made)
    if kind == "score" and variant == "paper":
        errors = np.abs(array(made[0](batch).logits)[:, 0] - batch.labels.numpy())
        assert found == pytest.approx(errors.mean(), rel=1e-5)
        assert found != pytest.approx(plain)
    else:
        assert found == plain
