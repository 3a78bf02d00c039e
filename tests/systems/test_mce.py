"""MCE: its factors by Shapley's formula and as released, subsets, completion, and the frozen first stage."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built, peek

from mmlib.backbones import build_backbone
from mmlib.backbones.mce import MCE
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods import build_method, mce
from mmlib.methods.mce import Mce, completion
from mmlib.methods.mce_shares import ranked, shares
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, hide
from mmlib.nn.objectives import task_loss
from mmlib.nn.shapley import exact_plan

Toy = Callable[..., Bundle]
FIRST, SECOND = Stage("unimodal", "mce"), Stage("mce", "mce")
FIVE = {f"m{i}": 3 for i in range(5)}


def second_stage(bundle: Bundle, variant: str = "paper", **options: object) -> Mce:
    stage = dataclasses.replace(SECOND, variant=variant, options=tuple(options.items()))
    method = built(stage, bundle, seed=1, parent=built(FIRST, bundle))
    assert isinstance(method, Mce)
    return method


def gradients(method: Plain, loss: torch.Tensor) -> dict[str, float]:
    """The size of every parameter's gradient, 0 where it has none."""
    method.zero_grad()
    loss.backward()
    return {
        n: 0.0 if p.grad is None else p.grad.norm().item() for n, p in method.named_parameters()
    }


def game(count: int, seed: int = 0) -> dict[frozenset[int], float]:
    """A random game over subsets, nothing for the empty one."""
    random = np.random.default_rng(seed)
    sets = [
        frozenset(s) for k in range(1, count + 1) for s in itertools.combinations(range(count), k)
    ]
    return {frozenset(): 0.0} | {s: random.random() for s in sets}


def by_orders(values: dict[frozenset[int], float], count: int) -> np.ndarray:
    """Shapley's value as the mean gain over all orders in which players come in."""
    total = np.zeros(count)
    orders = list(itertools.permutations(range(count)))
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            total[player] += values[before | {player}] - values[before]
    return total / len(orders)


def worth_of(values: dict[frozenset[int], float], count: int) -> torch.Tensor:
    """v of every subset but the empty one, (S, 1), in the order of an exact plan."""
    subsets = exact_plan(count).subsets[1:].numpy()
    return torch.tensor([[values[frozenset(np.flatnonzero(s).tolist())]] for s in subsets])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_are_shapley_values_and_add_up_to_what_all_are_worth(count: int) -> None:
    values = game(count)
    share = shares(exact_plan(count), None, worth_of(values, count), released=False)[0]
    np.testing.assert_allclose(share, by_orders(values, count), rtol=1e-5)
    assert share.sum().item() == pytest.approx(values[frozenset(range(count))])


def test_interchangeable_modalities_have_equal_shares() -> None:
    values = {s: float(len(s) ** 2) for s in game(3)}
    share = shares(exact_plan(3), None, worth_of(values, 3), released=False)
    torch.testing.assert_close(share, torch.full((1, 3), 3.0))


def test_the_mean_over_chains_of_all_orders_is_shapleys_value() -> None:
    values = game(5)
    orders = np.array(list(itertools.permutations(range(5))))
    ranks = torch.from_numpy(np.argsort(orders, axis=1))
    worth = [[values[frozenset(order[: k + 1].tolist())] for order in orders] for k in range(5)]
    share = shares(None, ranks, torch.tensor(worth), released=False)
    np.testing.assert_allclose(share.mean(dim=0), by_orders(values, 5), rtol=1e-5)
    torch.testing.assert_close(share.sum(dim=1), torch.full((120,), values[frozenset(range(5))]))


def test_released_shares_are_the_printed_formula_and_fall_as_a_modality_gets_better() -> None:
    v = game(3)
    released = shares(exact_plan(3), None, worth_of(v, 3), released=True)[0]
    a, b, c = 0, 1, 2
    pair = v[frozenset({a, b})] + v[frozenset({a, c})]
    by_hand = pair / 6 + v[frozenset({a, b, c})] / 3 - v[frozenset({a})] / 3
    assert released[a].item() == pytest.approx(by_hand)
    v[frozenset({a})] += 0.3
    better = shares(exact_plan(3), None, worth_of(v, 3), released=True)[0]
    assert better[a] < released[a]
    torch.testing.assert_close(better[b:], released[b:])
    assert better.sum().item() != pytest.approx(v[frozenset({a, b, c})], abs=0.05)


def of_row(observed: np.ndarray) -> list[frozenset[int]]:
    """The non-empty subsets of what a row has."""
    there = np.flatnonzero(observed).tolist()
    return [
        frozenset(s) for k in range(1, len(there) + 1) for s in itertools.combinations(there, k)
    ]


def test_completion_is_the_mean_over_the_subsets_that_a_row_has() -> None:
    torch.manual_seed(0)
    subsets = exact_plan(3).subsets[1:, None]
    there = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    target, of_set = torch.randn(3, 3, 2), {s: torch.randn(3, 3, 2) for s in game(3)}
    kept = subsets & there
    made = torch.stack(
        [
            torch.stack(
                [of_set[frozenset(np.flatnonzero(s).tolist())][i] for i, s in enumerate(rows)]
            )
            for rows in kept.numpy()
        ]
    )
    expected = torch.zeros(3)
    for i in range(3):
        mine = of_row(there[i].numpy())
        for m in np.flatnonzero(there[i].numpy()).tolist():
            gaps = [(target[i, m] - of_set[s][i, m]).abs().mean() for s in mine if m not in s]
            expected[m] += sum(gaps) / len(mine) / 3
    torch.testing.assert_close(completion(target, made, kept, there), expected)
    assert torch.equal(completion(target, made, kept & there[2], there & there[2]), torch.zeros(3))


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_a_subset_is_the_row_with_nothing_else(absent: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    stage = dataclasses.replace(SECOND, network=(("absent", absent),))
    method = built(stage, bundle).eval()
    net, batch = method.backbone, batch_of(bundle)
    assert isinstance(net, MCE)
    subset = torch.tensor([True, False, True])
    encoded = net.parts(batch, batch.features).encoded
    _, logits = net.of_subsets(encoded, (subset & batch.observed)[None])
    alone = method(hide(batch, subset)).logits
    if absent == "skip":
        torch.testing.assert_close(logits[0], alone)
    else:  # a token of an encoded zero is not a zero token
        assert not torch.allclose(logits[0], alone)


def test_the_subset_loss_is_a_mean_of_means_over_a_rows_own_subsets(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method = second_stage(bundle).eval()
    batch = batch_of(bundle)
    subsets = method.looked_at(batch.observed, None)
    encoded = method.net.parts(batch, batch.features).encoded
    loss = method.subset_loss(batch, method.net.of_subsets(encoded, subsets)[1], subsets)
    rows = []
    for i, observed in enumerate(batch.observed.numpy()):
        errors = []
        for s in of_row(observed):
            kept = torch.tensor([m in s for m in range(3)])
            errors.append((method(hide(batch, kept)).logits[i, 0] - batch.labels[i]).abs())
        rows.append(sum(errors) / len(errors))
    torch.testing.assert_close(loss, torch.stack(rows).mean())


def test_a_modality_with_a_share_as_large_as_its_unimodal_score_has_no_weighted_loss(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle)
    batch = batch_of(bundle)
    for right in (0.0, 1.0):
        monkeypatch.setattr(
            Mce,
            "unimodally_right",
            lambda self, batch, right=right: torch.full((len(batch), 3), right),
        )
        monkeypatch.setattr(Mce, "worth", lambda self, batch, logits, s: s.any(dim=2) * 0.25)
        of_heads = {
            n: g for n, g in gradients(method, method.loss(batch)).items() if ".heads." in n
        }
        assert of_heads and all((g > 0) == (right > 0) for g in of_heads.values())


def test_the_factors_are_those_of_the_rates_and_the_counts(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle).eval()
    looked = peek(bundle)
    (batch,) = looked.train()
    recorded = method.start_epoch(looked)
    there = batch.observed.numpy()
    np.testing.assert_allclose(recorded["rate"], 1 - there.mean(axis=0), rtol=1e-6)
    method.loss(batch)
    right = {
        s: (
            method(hide(batch, torch.tensor([m in s for m in range(3)]))).logits.argmax(1)
            == batch.labels
        ).numpy()
        for s in game(3)
    }
    share, alone = np.zeros(3), np.zeros(3)
    own = built(FIRST, bundle).eval()
    own.load_state_dict(method.state_dict())
    views = own.views(own(batch))
    for i, observed in enumerate(there):
        have = frozenset(np.flatnonzero(observed).tolist())
        values = {s: float(right[s & have][i]) if s & have else 0.0 for s in game(3)}
        share += by_orders(values, 3)
    for m, name in enumerate(sorted(views)):
        alone[m] = ((views[name].argmax(1) == batch.labels).numpy() & there[:, m]).sum()
    expected = np.maximum(0, alone - share) / there.sum(axis=0)
    series = method.series()
    np.testing.assert_allclose(series["batch_factor"], expected, atol=1e-6)
    np.testing.assert_allclose(series["dataset_factor"], 1 / there.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_the_loss_adds_up_and_weighs_completion_and_heads_by_the_factors(
    detach: bool, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle, completion=3.0, own=5.0, subsets=7.0, detach=detach).eval()
    batch, factor, targets = batch_of(bundle), torch.tensor([0.5, 0.0, 2.0]), []
    monkeypatch.setattr(Mce, "factor", lambda self, *given: factor)

    def noted(target: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        targets.append(target)
        return completion(target, *given)

    monkeypatch.setattr(mce, "completion", noted)
    loss = method.loss(batch)
    parts = method.net.parts(batch, batch.features)
    subsets = method.looked_at(batch.observed, None)
    made, logits = method.net.of_subsets(parts.encoded, subsets)
    rebuilt = completion(parts.mixed, made, subsets, batch.observed)
    own = method.own_losses(batch, parts.mixed, batch.observed)
    expected = (
        task_loss(bundle.task, parts.fused.logits, batch.labels)
        + 7 * method.subset_loss(batch, logits, subsets)
        + 3 * (0.5 * rebuilt[0] + 2 * rebuilt[2])
        + 5 * (0.5 * own[0] + 2 * own[2]) / 3
    )
    torch.testing.assert_close(loss, expected)
    assert targets[0].requires_grad != detach


def test_a_missing_modalitys_place_is_no_key_and_is_completed_from_the_others(toy: Toy) -> None:
    net = second_stage(toy(dims=DIMS[3])).eval().backbone
    assert isinstance(net, MCE)
    seen = torch.tensor([[True, False, True]])
    tokens = torch.randn(1, 3, net.embedding_dim) * seen[:, :, None]
    before = net.mix(tokens, seen)
    with torch.no_grad():
        net.positions[1] += torch.randn(net.embedding_dim)
    after = net.mix(tokens, seen)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]])
    assert not torch.allclose(after[:, 1], before[:, 1])
    tokens[:, 0] += torch.randn(net.embedding_dim)
    assert not torch.allclose(net.mix(tokens, seen)[:, 1], after[:, 1])


def test_the_modalities_own_heads_count_on_the_rows_that_have_them(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle).eval(), batch_of(toy(dims=DIMS[3]))
    mixed = method.net.parts(batch, batch.features).mixed
    losses = method.own_losses(batch, mixed, batch.observed)
    for m, head in enumerate(method.net.heads):
        rows = batch.observed[:, m]
        expected = task_loss(bundle.task, head(mixed[rows, m]), batch.labels[rows])
        torch.testing.assert_close(losses[m], expected)


def test_swapped_losses_read_the_masks_of_the_last_two_modalities_exchanged(toy: Toy) -> None:
    method = second_stage(toy(dims=DIMS[3]), "swapped")
    observed = torch.tensor([[True, True, False]])
    assert method.availability(observed).tolist() == [[True, False, True]]
    for count in (2, 4):
        with pytest.raises(InputError, match="three"):
            second_stage(toy(dims=DIMS[count]), "swapped")


def test_as_released_positions_are_zero_and_targets_are_pulled_along(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle, "released")
    assert not method.net.positions.any()
    sizes = gradients(method, method.loss(batch_of(bundle)))
    assert sizes["backbone.positions"] == 0 and sizes["backbone.block.out.weight"] > 0


def test_five_modalities_take_a_random_chain_of_subsets(toy: Toy) -> None:
    bundle = toy(dims=FIVE)
    method, batch = second_stage(bundle), batch_of(toy(dims=FIVE))
    torch.manual_seed(0)
    ranks = ranked(batch.observed)
    subsets = method.looked_at(torch.ones_like(batch.observed), ranks)
    assert torch.equal(subsets.sum(dim=2), torch.arange(1, 6)[:, None].expand(5, len(batch)))
    assert (subsets[1:] >= subsets[:-1]).all() and (
        ranks.sort(dim=1).values == torch.arange(5)
    ).all()
    assert method.loss(batch).isfinite()
    with pytest.raises(InputError, match="4 at most"):
        second_stage(bundle, "released_share")


def test_the_first_stage_predicts_the_mean_of_the_modalities_that_are_there(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = built(FIRST, bundle).eval(), batch_of(bundle)
    fused = method(batch)
    views = [v.detach().numpy() for _, v in sorted(method.views(fused).items())]
    for i, observed in enumerate(batch.observed.numpy()):
        there = np.mean([v[i] for v, seen in zip(views, observed, strict=True) if seen], axis=0)
        np.testing.assert_allclose(fused.logits[i].detach(), there, rtol=1e-5)


def only(batch: Batch, modality: int) -> Batch:
    """The batch with a single modality."""
    return hide(batch, torch.arange(batch.observed.shape[1]) == modality)


def test_a_unimodal_network_learns_from_the_rows_that_have_its_modality_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = built(FIRST, bundle)
    sizes = gradients(method, method.loss(only(batch_of(bundle), 1)))
    learning = {n.split(".")[2] for n, size in sizes.items() if size > 0}
    assert learning == {"text"}


def test_the_second_stage_leaves_the_unimodal_networks_as_they_came(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle), batch_of(toy(dims=DIMS[3]))
    before = {n: p.detach().clone() for n, p in method.named_parameters()}
    optimizer = torch.optim.Adam(method.parameters(), weight_decay=0.1)
    method.train()
    assert not method.net.unimodal_heads.training and method.net.joint.training
    for _ in range(2):
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()
    moved = {n for n, p in method.named_parameters() if not torch.equal(p, before[n])}
    assert "backbone.joint.last.weight" in moved and not any("unimodal" in n for n in moved)


def test_a_second_stage_needs_a_first_of_the_same_size(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="no first stage"):
        built(SECOND, bundle).loss(batch_of(bundle))
    narrow = built(dataclasses.replace(FIRST, network=(("hidden", 8),)), bundle)
    with pytest.raises(InputError, match="another network"):
        built(SECOND, bundle, parent=narrow)
    other = build_backbone("mlp", bundle.dims, 3, 1)
    for name in ("mce", "second_stage"):
        with pytest.raises(InputError, match="MLP"):
            build_method(name, "paper", (), other, bundle.task, bundle.dims)


def test_of_scores_the_further_losses_are_absolute_errors(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = second_stage(bundle).eval(), batch_of(toy(dims=DIMS[3], task=SCORE))
    logits = method(batch).logits
    each = method.each(logits, batch.labels)
    by_hand = np.abs(logits[:, 0].detach().numpy() - batch.labels.numpy())
    np.testing.assert_allclose(each.detach(), by_hand)
    squared = second_stage(bundle, absolute=False)
    torch.testing.assert_close(
        squared.each(logits, batch.labels).mean(), task_loss(SCORE, logits, batch.labels)
    )


@pytest.mark.parametrize(
    "options", [{"own": -1.0}, {"share": "fair"}, {"start": "end"}, {"completion": float("inf")}]
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        mce.MceConfig(**options)  # type: ignore[arg-type]
