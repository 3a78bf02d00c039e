"""Self-drop gives every non-empty proper subset of what is there the same chance."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mmlib.nn.selfdrop import self_drop


@pytest.mark.parametrize("there", [(0, 1, 2), (1, 3), (0, 1, 2, 3)])
def test_every_proper_subset_is_as_likely(there: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    n = 20_000
    observed = torch.zeros(n, 4, dtype=torch.bool)
    observed[:, list(there)] = True
    kept = self_drop(observed)
    found = [tuple(row.nonzero()[:, 0].tolist()) for row in kept]
    expected = [c for k in range(1, len(there)) for c in combinations(there, k)]
    assert set(found) == set(expected)
    share = 1 / len(expected)
    for subset in expected:
        assert abs(found.count(subset) / n - share) < 5 * (share / n) ** 0.5


def test_a_single_modality_stays_and_rows_are_drawn_apart() -> None:
    torch.manual_seed(1)
    observed = torch.tensor([[False, True, False]] * 50 + [[True, True, True]] * 50)
    kept = self_drop(observed)
    assert (kept[:50] == observed[:50]).all()
    assert kept[50:].any(dim=1).all() and (~kept[50:]).any(dim=1).all()
    assert len(kept[50:].unique(dim=0)) > 3
