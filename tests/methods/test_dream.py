"""DREAM: contributions in one pass, the frozen network, Eqs 12 and 13 another way, variants, memory, whole runs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.data.twins import make_twin
from mmlib.errors import InputError
from mmlib.fit import evaluation_batches, fit
from mmlib.methods import build_method, contribution, dream
from mmlib.methods.dream import VARIANTS, Dream
from mmlib.methods.plain import Peek
from mmlib.nn import shapley
from mmlib.nn.batch import Batch, hide, to_device
from mmlib.runs import execute as execute_module
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training, spec_from_json

Toy = Callable[..., Bundle]
CPU = torch.device("cpu")
SCORE, LETTERS = Task("score", range=(-3.0, 3.0)), Task("classes", ("a", "b", "c"))
FOUR = Task("binaries", ("w", "x", "y", "z"))
TASKS = {"classes": LETTERS, "score": SCORE, "binaries": FOUR}
NET: dict[str, Any] = {"hidden": 8, "heads": 2}
QUICK = Training(epochs=3, batch=3, lr=5e-3, weight_decay=1e-3, clip=1.0)
LAW = masks.random_missing()


def reference_weights(method: Dream, seed: int = 7) -> dict[str, Tensor]:
    """What a parent's record holds: P's weights, here random ones."""
    torch.manual_seed(seed)
    return {f"backbone.{k}": torch.randn_like(v) for k, v in method.reference.state_dict().items()}


def make(
    bundle: Bundle, variant: str = "paper", given: bool = True, double: bool = True, **options: Any
) -> Dream:
    """In evaluation mode, over a small network; P has random weights, its logits in the middle, so decisions differ."""
    torch.manual_seed(0)
    net = build_backbone("dream", bundle.dims, bundle.task.outputs, bundle.speakers, NET.items())
    chosen = (
        options
        if VARIANTS[variant].reference != "corrkd"
        else {"reference_options": ("hidden", 6, "narrow", 4), **options}
    )
    found = build_method("dream", variant, chosen.items(), net, bundle.task, bundle.dims)
    assert isinstance(found, Dream)
    if given:
        found.load_state_dict(reference_weights(found))
        batch = batch_of(bundle, masks.complete(), double=False)
        middle = (
            contribution.predictions(found.reference, batch, found.subsets)
            .flatten(0, 1)
            .median(dim=0)
            .values
        )
        found.reference.prediction.bias.data -= middle
    return found.double().eval() if double else found.eval()


def batch_of(
    bundle: Bundle, law: masks.Law = LAW, double: bool = True, split: str = "train"
) -> Batch:
    resident = to_device(bundle, split, masks.draw(law, bundle, split, 0), CPU)
    batch = resident.batch(np.arange(resident.dialogues))
    if not double:
        return batch
    labels = batch.labels.double() if batch.labels.is_floating_point() else batch.labels
    return dataclasses.replace(
        batch, labels=labels, features={m: x.double() for m, x in batch.features.items()}
    )


def bundle_of(toy: Toy, kind: str = "classes", frames: int = 4, **more: Any) -> Bundle:
    return toy(task=TASKS[kind], frames=frames, **more)


def array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().double().numpy())


def peek(batches: list[Batch], epoch: int = 0) -> Peek:
    return Peek(epoch, 9, lambda: batches, list, list, lambda *_: None)


def trained(method: Dream, bundle: Bundle, law: masks.Law = LAW, **more: Any) -> Any:
    return fit(
        method,
        bundle,
        lambda epoch, shares=None: masks.draw(law, bundle, "train", 0, epoch, shares),
        masks.draw(law, bundle, "valid", 0),
        {"test": masks.draw(law, bundle, "test", 0)},
        QUICK,
        5,
        resampled=law.resampled,
        device=CPU,
        **more,
    )


def bytes_of(module: nn.Module) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in module.state_dict().items()}


MEANING: dict[str, dict[str, Any]] = {
    "paper": {},
    "no_enhancement": {"enhancement": "none"},
    "enhance_all": {"enhancement": "all"},
    "no_masked_fusion": {"fusion": "none"},
    "no_distillation": {"weight": 0.0},
    "undecided_empty": {"empty": "undecided"},
    "seven_classes": {"rule": "seven"},
    "any_emotion": {"together": True},
    "clipped_pas": {"target": "clipped"},
    "literal_fusion": {"fusion": "literal"},
    "low_contribution": {"threshold": pytest.approx(1 / 6, abs=1e-5)},
    "squared": {"absolute": False},
    "mlp_reference": {"reference": "mlp"},
    "selfmm_reference": {"reference": "selfmm"},
}


def test_each_variant_departs_from_the_paper_in_one_reading() -> None:
    paper = dataclasses.asdict(VARIANTS["paper"])
    found = {
        name: {k: v for k, v in dataclasses.asdict(config).items() if v != paper[k]}
        for name, config in VARIANTS.items()
    }
    assert found == MEANING
    assert (
        paper["weight"] == 0.1
        and paper["absolute"]
        and paper["reference"] == "corrkd"
        and paper["threshold"] == 0
    )


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize("frames", [0, 4])
def test_one_pass_predicts_what_a_pass_for_every_subset_does(
    toy: Toy, kind: str, frames: int
) -> None:
    bundle = bundle_of(toy, kind, frames)
    method, batch = make(bundle), batch_of(bundle)
    found = contribution.predictions(method.reference, batch, method.plan.subsets)
    apart = torch.stack(
        [
            method.reference(some := hide(batch, kept), some.features).logits
            for kept in method.plan.subsets
        ]
    )
    assert found.shape == (8, len(batch), bundle.task.outputs)
    torch.testing.assert_close(found, apart, rtol=0, atol=1e-6)
    single = make(bundle, double=False)
    torch.testing.assert_close(
        contribution.predictions(
            single.reference, batch_of(bundle, double=False), method.plan.subsets
        ).double(),
        torch.stack(
            [
                single.reference(
                    some := hide(batch_of(bundle, double=False), kept), some.features
                ).logits
                for kept in method.plan.subsets
            ]
        ).double(),
        rtol=0,
        atol=1e-5,
    )


def test_a_batch_too_large_for_one_pass_goes_in_several(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(toy)
    method, batch = make(bundle), batch_of(bundle)
    sizes: list[int] = []
    method.reference.register_forward_hook(lambda _, given, made: sizes.append(len(given[0])))
    whole = contribution.predictions(method.reference, batch, method.plan.subsets)
    monkeypatch.setattr(contribution, "VALUES", 3 * sum(x.numel() for x in batch.features.values()))
    parts = contribution.predictions(method.reference, batch, method.plan.subsets)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-12)
    n = len(batch)
    assert sizes == [8 * n, 3 * n, 3 * n, 2 * n]


@pytest.mark.parametrize("backbone", ["momke", "mmgcn", "crossmodal"])
def test_a_network_that_mixes_a_dialogues_utterances_predicts_the_same_in_one_pass(
    toy: Toy, backbone: str
) -> None:
    bundle = toy()
    torch.manual_seed(0)
    options = (
        [("hidden", 8), ("depth", 1)]
        if backbone != "mmgcn"
        else [("hidden", 8), ("graph", 6), ("layers", 2)]
    )
    net = build_backbone(backbone, bundle.dims, 3, bundle.speakers, options).eval()
    batch, subsets = batch_of(bundle, double=False), shapley.exact_plan(3).subsets
    assert batch.layout.steps > 1
    with torch.no_grad():
        apart = torch.stack(
            [net(some := hide(batch, kept), some.features).logits for kept in subsets]
        )
    torch.testing.assert_close(
        contribution.predictions(net, batch, subsets), apart, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize(
    "variant", ["paper", "mlp_reference", "selfmm_reference", "any_emotion", "seven_classes"]
)
def test_a_zero_filled_modality_has_a_pss_of_exactly_0(toy: Toy, kind: str, variant: str) -> None:
    bundle = bundle_of(toy, kind)
    method, batch = make(bundle, variant), batch_of(bundle)
    pss = method.told(batch).pss
    assert (~batch.observed).any() and (pss[~batch.observed] == 0).all()
    assert (pss[batch.observed] > 0).any()


def test_an_undecided_empty_set_leaves_no_modality_without_pss(toy: Toy) -> None:
    bundle = bundle_of(toy)
    pss = make(bundle, "undecided_empty").told(batch_of(bundle)).pss
    assert (pss >= 1 / 3 - 1e-6).all() and (
        make(bundle).told(batch_of(bundle)).pss < 1 / 3 - 1e-6
    ).any()
    values = [
        shapley.pas(m.plan, m.told(batch_of(bundle)).decided, torch.zeros(len(pss), 1))
        for m in (make(bundle), make(bundle, "undecided_empty"))
    ]
    assert torch.equal(*values)  # V of nothing is 0 either way


@pytest.mark.parametrize("kind", list(TASKS))
def test_pss_and_pas_by_enumerating_the_orders_of_the_networks_own_predictions(
    toy: Toy, kind: str
) -> None:
    bundle = bundle_of(toy, kind)
    method, batch = make(bundle), batch_of(bundle)

    def decision(kept: tuple[int, ...]) -> np.ndarray:
        shown = hide(batch, torch.tensor([i in kept for i in range(3)]))
        logits = array(method.reference(shown, shown.features).logits)
        if kind == "score":
            return logits > 0
        return (
            logits.reshape(len(logits), -1, 2).argmax(2)
            if kind == "binaries"
            else logits.argmax(1)[:, None]
        )

    labels = batch.labels.numpy()
    truth = labels if kind == "binaries" else (labels > 0 if kind == "score" else labels)[:, None]
    pss, pas = np.zeros((2, len(batch), 3))
    for order in itertools.permutations(range(3)):
        for place, i in enumerate(order):
            before, after = decision(order[:place]), decision(order[: place + 1])
            pss[:, i] += (before != after).mean(axis=1) / 6
            pas[:, i] += (
                (place + 1) * (after == truth).mean(axis=1) - place * (before == truth).mean(axis=1)
            ) / 6
    told = method.told(batch)
    np.testing.assert_allclose(array(told.pss), pss, atol=1e-6)
    found = shapley.pas(method.plan, told.decided, shapley.truths(bundle.task, batch.labels))
    np.testing.assert_allclose(array(found), pas, atol=1e-5)
    assert len(np.unique(pss.round(4))) > 2 and (kind == "binaries" or pas.min() < -1e-3)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_what_is_enhanced_and_how_it_is_fused_follows_the_variant(toy: Toy, variant: str) -> None:
    kind = {
        "seven_classes": "score",
        "selfmm_reference": "score",
        "squared": "score",
        "low_contribution": "binaries",
    }
    bundle = bundle_of(toy, kind.get(variant, "classes"))
    method, batch = make(bundle, variant), batch_of(bundle, masks.complete())
    told, c = method.told(batch), VARIANTS[variant]
    targets = {
        "all": torch.ones_like(told.pss, dtype=torch.bool),
        "none": torch.zeros_like(told.pss, dtype=torch.bool),
        "zero_pss": told.pss < (1e-9 if variant != "low_contribution" else 0.2),
    }[c.enhancement]
    fused, _ = method.net.run(batch, batch.features, told.pss, targets, c.fusion)
    assert torch.equal(fused.logits, told.fused.logits)
    if variant == "low_contribution":
        assert (targets & (told.pss > 0)).any()


@pytest.mark.parametrize("target", ["softmax", "clipped"])
def test_distillation_is_the_divergence_of_the_weights_from_pas(target: str) -> None:
    """Eq. 12 as B5 reads it, by scipy."""
    raw = torch.randn(30, 3, dtype=torch.float64, requires_grad=True)
    values = torch.from_numpy(
        np.random.default_rng(0).choice([-1, -1 / 3, 0, 1 / 2, 1, 2], (30, 3))
    )
    values[:4] = torch.tensor(
        [[0.0, 0, 0], [-1, 0, -0.5], [3, 0, 0], [1, 1, 1]], dtype=torch.float64
    )
    each = []
    for w, v in zip(array(raw), array(values), strict=True):
        q = softmax(v) if target == "softmax" else np.maximum(v, 0)
        if q.sum() > 0:
            each.append(entropy(q, softmax(w)))  # normalises q
    assert (len(each) < 30) is (target == "clipped")
    found = dream.distillation(raw, values, target)
    assert found.item() == pytest.approx(np.mean(each), rel=1e-9)
    found.backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None and raw.grad.isfinite().all()
    if target == "clipped":
        assert (raw.grad[:2] == 0).all() and (raw.grad[2:4] != 0).any()


def test_distillation_is_nothing_where_weights_agree_and_where_no_sample_counts() -> None:
    values = torch.randn(5, 3)
    assert dream.distillation(values + 2, values, "softmax").abs() < 1e-6
    assert dream.distillation(torch.randn(5, 3), -values.abs(), "clipped") == 0


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_the_loss_is_equation_13_by_hand(toy: Toy, kind: str, weight: float) -> None:
    bundle = bundle_of(toy, kind)
    method, batch = make(bundle, weight=weight), batch_of(bundle)
    told, labels = method.told(batch), batch.labels.numpy()
    logits = array(told.fused.logits)
    if kind == "score":
        task = np.abs(logits[:, 0] - labels).mean()  # L1, section 3.5
    else:
        pairs = logits.reshape(len(logits), -1, 2 if kind == "binaries" else 3)
        truth = labels.reshape(len(labels), -1)
        task = -np.mean(
            [
                np.log(softmax(pairs[i, k])[truth[i, k]])
                for i, k in itertools.product(range(len(pairs)), range(pairs.shape[1]))
            ]
        )
    pas = array(shapley.pas(method.plan, told.decided, shapley.truths(bundle.task, batch.labels)))
    q, p = softmax(pas, axis=1), softmax(array(told.raw), axis=1)
    expected = task + weight * (q * np.log(q / p)).sum(axis=1).mean()
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-6)


def test_scores_may_have_the_squared_error_instead(toy: Toy) -> None:
    bundle = bundle_of(toy, "score")
    method, batch = make(bundle, "squared", weight=0.0), batch_of(bundle)
    expected = np.square(array(method(batch).logits)[:, 0] - batch.labels.numpy()).mean()
    assert method.loss(batch).item() == pytest.approx(expected)


def test_no_gradient_reaches_p_and_training_leaves_its_bytes_alone(toy: Toy) -> None:
    bundle = bundle_of(toy)
    method = make(bundle, double=False)
    before, network = bytes_of(method.reference), bytes_of(method.backbone)
    trained(method, bundle)
    assert bytes_of(method.reference) == before
    after = bytes_of(method.backbone)
    assert sum(after[k] != network[k] for k in after) > 0.9 * len(after)
    assert all(p.grad is None and not p.requires_grad for p in method.reference.parameters())
    assert not method.train().reference.training and method.backbone.training


def test_a_modality_that_is_missing_may_hold_anything(toy: Toy) -> None:
    bundle = bundle_of(toy)
    method, batch = make(bundle), batch_of(bundle)
    spoilt = {
        m: torch.where(batch.observed[:, i, None, None], x, float("nan"))
        for i, (m, x) in enumerate(sorted(batch.features.items()))
    }
    other = dataclasses.replace(batch, features=spoilt)
    assert torch.equal(method.told(other).decided, method.told(batch).decided)
    assert torch.equal(method(other).logits, method(batch).logits)
    assert torch.equal(method.loss(other), method.loss(batch))


@pytest.mark.parametrize("kind", list(TASKS))
def test_labels_have_no_part_in_a_prediction(toy: Toy, kind: str) -> None:
    bundle = bundle_of(toy, kind)
    method, batch = make(bundle), batch_of(bundle)
    other = dataclasses.replace(
        batch, labels=1 - batch.labels if kind != "classes" else (batch.labels + 1) % 3
    )
    assert torch.equal(method(batch).logits, method(other).logits)
    assert method.loss(batch) != method.loss(other)


def test_one_sample_of_a_batch_tells_another_nothing(toy: Toy) -> None:
    bundle = bundle_of(toy)
    method, batch = make(bundle), batch_of(bundle)
    other = dataclasses.replace(batch, features={m: x.clone() for m, x in batch.features.items()})
    for m in other.features:
        other.features[m][3] = other.features[m][3].flip(0) * -3
    one, two = method(batch).logits, method(other).logits
    same = [i for i in range(len(batch)) if i != 3]
    torch.testing.assert_close(one[same], two[same], rtol=0, atol=1e-12)
    assert not torch.allclose(one[3], two[3])


def test_without_a_parent_it_says_so_before_anything_is_trained(toy: Toy, tmp_path: Path) -> None:
    bundle = bundle_of(toy)
    method = make(bundle, given=False)
    batch = batch_of(bundle)
    for use in (lambda: method(batch), lambda: method.loss(batch), lambda: trained(method, bundle)):
        with pytest.raises(InputError, match="parent"):
            use()
    save_bundle(bundle, tmp_path / "toy")
    for cache in (True, False):
        with pytest.raises(InputError, match="parent"):
            execute(
                RunSpec(
                    str(tmp_path / "toy"),
                    0,
                    method="dream",
                    backbone="dream",
                    training=QUICK,
                    backbone_options=tuple(NET.items()),
                    options=(("cache", cache),),
                )
            )


@pytest.mark.parametrize("change", ["shape", "missing", "further", "nothing"])
def test_a_parent_on_another_network_is_refused(toy: Toy, change: str) -> None:
    method = make(bundle_of(toy), given=False)
    given = reference_weights(method)
    first = next(iter(given))
    if change == "shape":
        given[first] = given[first][:1]
    elif change == "missing":
        del given[first]
    elif change == "further":
        given["backbone.more"] = torch.zeros(1)
    else:
        given = {}
    with pytest.raises(InputError, match="another network"):
        method.load_state_dict(given, strict=False)


def test_a_parents_backbone_becomes_p_and_leaves_the_network_as_it_was(toy: Toy) -> None:
    method = make(bundle_of(toy), given=False, double=False)
    before = bytes_of(method.backbone)
    given = {**reference_weights(method), "labels.of.selfmm": torch.zeros(3)}
    method.load_state_dict(given, strict=False)
    assert bytes_of(method.backbone) == before
    assert bytes_of(method.reference) == {
        k.removeprefix("backbone."): v.numpy().tobytes()
        for k, v in given.items()
        if k.startswith("backbone.")
    }
    other = make(bundle_of(toy), given=False, double=False)
    for p in other.parameters():
        p.data.zero_()
    other.load_state_dict(method.state_dict())
    assert bytes_of(other) == bytes_of(method) and other.given


@pytest.mark.parametrize(
    "law", [LAW, masks.shared(0.4, resampled=True), masks.frames(0.5)], ids=str
)
@pytest.mark.parametrize("kind", ["classes", "score"])
def test_decisions_kept_train_the_same_network_as_decisions_made_anew(
    toy: Toy, law: masks.Law, kind: str
) -> None:
    bundle = bundle_of(toy, kind)
    kept, anew = (make(bundle, double=False, cache=cache) for cache in (True, False))
    fits = [trained(method, bundle, law) for method in (kept, anew)]
    assert bytes_of(kept) == bytes_of(anew)
    assert np.array_equal(fits[0].loss, fits[1].loss) and np.array_equal(
        fits[0].valid, fits[1].valid
    )
    assert np.array_equal(fits[0].tests["test"], fits[1].tests["test"])
    assert set(fits[0].recorded) == {"pss", "pas", "without_pss"} and not fits[1].recorded


@pytest.mark.parametrize("resampled", [False, True])
def test_p_is_asked_once_a_row_where_masks_stay_and_once_an_epoch_where_they_change(
    toy: Toy, resampled: bool
) -> None:
    bundle = bundle_of(toy)
    method, asked = make(bundle, double=False), [0]

    def count(_: nn.Module, given: Any, made: Any) -> None:
        asked[0] += len(given[0]) // 8

    method.reference.register_forward_hook(count)
    trained(method, bundle, masks.shared(0.4, resampled=resampled))
    sizes = {split: len(bundle.rows(split)) for split in ("train", "valid", "test")}
    times = QUICK.epochs if resampled else 1
    assert asked[0] == times * sizes["train"] + sizes["valid"] + sizes["test"]


def test_memory_is_of_the_rows_at_hand_and_ends_with_the_training(toy: Toy) -> None:
    bundle = bundle_of(toy)
    method, batch = make(bundle), batch_of(bundle)
    resident = to_device(bundle, "train", masks.draw(LAW, bundle, "train", 0), CPU)
    method.float().start_epoch(peek(evaluation_batches(resident)))
    some = resident.batch([3, 1])
    method.train()
    known = method.decided(some)
    assert method.memory.of_training(some) is not None and torch.equal(known, method.look(some))
    hidden = hide(some, torch.tensor([True, False, True]))
    assert method.memory.of_training(hidden) is None and torch.equal(
        method.decided(hidden), method.look(hidden)
    )
    method.eval()
    first = method.decided(some)
    assert method.decided(some) is first  # by the batch itself
    assert method.decided(copy.copy(some)) is not first
    method.end_training(peek([batch]))
    assert not method.remembers and not method.memory.others and method.memory.index is None
    copy.deepcopy(method)


def test_what_is_found_before_an_epoch_is_the_mean_over_the_training_rows(toy: Toy) -> None:
    bundle = bundle_of(toy)
    method, batch = make(bundle, double=False), batch_of(bundle, double=False)
    found = method.start_epoch(peek([batch]))
    told = method.told(batch)
    torch.testing.assert_close(found["pss"], told.pss.mean(dim=0))
    torch.testing.assert_close(found["without_pss"], (told.pss == 0).float().mean(dim=0))
    right = (told.decided[-1, :, 0] == batch.labels).float().mean()
    assert found["pas"].sum().item() == pytest.approx(3 * right.item(), abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_any_number_of_modalities_beyond_six_by_sampled_orders(toy: Toy, count: int) -> None:
    bundle = toy(dims={f"m{i}": 3 for i in range(max(count, 2))}, frames=2).only(
        [f"m{i}" for i in range(count)]
    )
    method = make(bundle, permutations=8)
    law = LAW if count > 1 else masks.complete()
    batch = batch_of(bundle, law)
    told = method.told(batch)
    assert told.pss.shape == (len(batch), count) and told.fused.logits.isfinite().all()
    assert (told.pss[~batch.observed] == 0).all() and (told.pss > 0).any()
    assert (
        len(method.plan.subsets) == 2**count
        if count <= 6
        else len(method.plan.subsets) <= 8 * 6 + 2
    )
    assert method.loss(batch).isfinite()


@pytest.mark.parametrize(
    "options",
    [
        {"empty": "zero"},
        {"rule": "signs"},
        {"target": "soft"},
        {"fusion": "soft"},
        {"enhancement": "some"},
        {"threshold": -0.1},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"permutations": 1},
        {"reference": "corkd"},
        {"reference_options": ("hidden",)},
        {"reference_options": ("hiden", 3)},
        {"lambda": 1.0},
    ],
    ids=str,
)
def test_options_that_make_no_sense_raise(toy: Toy, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make(bundle_of(toy), **options)


def test_it_asks_for_its_own_network(toy: Toy) -> None:
    bundle = toy()
    other = build_backbone("crossmodal", bundle.dims, 3, 1, [("hidden", 8), ("depth", 1)])
    with pytest.raises(InputError, match="Crossmodal"):
        build_method("dream", "paper", (), other, bundle.task, bundle.dims)


def test_the_version_of_a_run_covers_p_through_its_parent() -> None:
    parent = RunSpec("toys", 0, method="reference", backbone="corrkd", keep=("weights",))
    child = RunSpec(
        "toys",
        0,
        method="dream",
        backbone="dream",
        parent=parent,
        options=(("reference_options", ("hidden", 8)),),
    )
    other = dataclasses.replace(child, parent=dataclasses.replace(parent, backbone="mlp"))
    assert child.numerics != other.numerics
    again = spec_from_json(child.to_json())
    assert again == child and hash(again) == hash(child)


@pytest.fixture()
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_module, "pick_device", lambda: CPU)


@pytest.mark.usefixtures("_on_cpu")
@pytest.mark.parametrize(
    "role, reference",
    [
        ("iemocap4-frames", "corrkd"),
        ("iemocap4-frames", "mlp"),
        ("mosi-frames", "corrkd"),
        ("mosi-frames", "selfmm"),
        ("mosi", "corrkd"),
        ("mosi", "selfmm"),
    ],
)
def test_whole_runs_on_twins_with_p_as_their_parent(role: str, reference: str) -> None:
    law = masks.patterns(resampled=False)
    tests = (("all", masks.complete()), ("text", masks.subset(["text"])))
    parent = RunSpec(
        f"twin:{role}@smoke",
        1,
        method="selfmm" if reference == "selfmm" else "reference",
        backbone=reference,
        train_mask=law,
        eval_masks=tests,
        keep=("weights",),
        training=Training(
            epochs=4, batch=16 if role.startswith("i") else 3, lr=5e-3, weight_decay=0.0
        ),
    )
    first = execute(parent)
    child = dataclasses.replace(
        parent,
        method="dream",
        backbone="dream",
        backbone_options=tuple(NET.items()),
        options=(("reference", reference),),
        parent=parent,
    )
    found, again = (execute(child, first.arrays) for _ in range(2))
    assert all(found.arrays[k].tobytes() == again.arrays[k].tobytes() for k in found.arrays)
    for k in (k for k in first.arrays if k.startswith("weights.backbone.")):
        mine = k.replace("weights.backbone.", "weights.reference.")
        assert found.arrays[mine].tobytes() == first.arrays[k].tobytes()
    assert (
        found.record["parameters"] - found.record["backbone_parameters"]
        == first.record["backbone_parameters"]
    )
    assert set(found.record["selected"]["valid"]["metrics"]) == {"all", "text"}
    shares = np.array(found.record["curves"]["found"]["without_pss"])
    assert (
        shares.shape == (4, 3) and (shares == shares[0]).all() and (shares > 0.3).all()
    )  # 3 of 7 lack a modality


@pytest.mark.usefixtures("_on_cpu")
def test_test_labels_and_features_steer_no_weight(toy: Toy, tmp_path: Path) -> None:
    bundle = bundle_of(toy, "score")
    test = bundle.split == 2
    spoilt = dataclasses.replace(
        bundle,
        labels=np.where(test, -bundle.labels, bundle.labels).astype(np.float32),
        features={
            m: np.where(test[:, None, None], 100 - 7 * x, x).astype(np.float32)
            for m, x in bundle.features.items()
        },
    )
    results = []
    for name, each in (("clean", bundle), ("spoilt", spoilt)):
        save_bundle(each, tmp_path / name)
        parent = RunSpec(
            str(tmp_path / name),
            0,
            method="reference",
            backbone="corrkd",
            training=QUICK,
            train_mask=LAW,
            keep=("weights",),
        )
        child = dataclasses.replace(
            parent,
            method="dream",
            backbone="dream",
            backbone_options=tuple(NET.items()),
            parent=parent,
        )
        results.append(execute(child, execute(parent).arrays))
    clean, other = results
    weights = [k for k in clean.arrays if k.startswith("weights.")]
    assert len(weights) > 30 and all(
        clean.arrays[k].tobytes() == other.arrays[k].tobytes() for k in weights
    )
    assert clean.record["curves"]["loss"] == other.record["curves"]["loss"]


def test_pss_finds_a_modality_that_says_nothing() -> None:
    """On a twin whose vision is noise, a trained P changes its mind by vision the least."""
    bundle = make_twin("mosi", "smoke").bundle
    noise = np.random.default_rng(0).normal(size=bundle.features["vision"].shape).astype(np.float32)
    bundle = dataclasses.replace(bundle, features={**bundle.features, "vision": 0.05 * noise})
    torch.manual_seed(0)
    net = build_backbone("corrkd", bundle.dims, 1, 1)
    parent = build_method("reference", "paper", (), net, bundle.task, bundle.dims)
    schedule = dataclasses.replace(QUICK, epochs=15, lr=2e-3)
    full = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    fit(
        parent,
        bundle,
        lambda epoch, shares=None: full["train"],
        full["valid"],
        {"test": full["test"]},
        schedule,
        0,
        device=CPU,
    )
    method = build_method(
        "dream",
        "paper",
        (),
        build_backbone("dream", bundle.dims, 1, 1, NET.items()),
        bundle.task,
        bundle.dims,
    )
    assert isinstance(method, Dream)
    method.load_state_dict(parent.state_dict())
    pss = method.eval().told(batch_of(bundle, masks.complete(), double=False, split="test")).pss
    zero = (pss == 0).float().mean(dim=0)
    assert zero[2] > 0.8 and zero[1] < 0.6 and pss[:, 1].mean() > 3 * pss[:, 2].mean()
