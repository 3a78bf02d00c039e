"""EBMC's appendix B: closed forms, differences and enumeration agree with what the artifact measures."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import root

from mmlib.papers.ebmc import appendix, theory
from mmlib.papers.ebmc.theory import Landscape
from mmlib.report.artifact import Output

Z = np.array([[0.3, -1.2], [0.9, 0.4], [-0.7, 0.1]])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return theory.theory_table(seed=0)


def row(table: pd.DataFrame, beginning: str) -> pd.Series:
    found = table[table["statement"].str.startswith(beginning)]
    assert len(found) == 1, beginning
    return found.iloc[0]


def energies(land: Landscape, z: np.ndarray) -> np.ndarray:
    """E(m) in NumPy, (M,)."""
    found = []
    for m, (weight, bias) in enumerate(zip(land.weights.numpy(), land.bias.numpy(), strict=True)):
        scores = np.exp(weight @ z[m] + bias)
        p = scores / scores.sum()
        found.append(
            land.norm * z[m] @ z[m] - np.log(p[int(land.labels[m])]) - (p * np.log(p)).sum()
        )
    return np.array(found)


def gap(energy: np.ndarray) -> float:
    return sum((a - b) ** 2 for a, b in itertools.combinations(energy, 2))


def differences(
    of: Callable[[np.ndarray], float | np.ndarray], z: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """Central differences along every number of z, first axis (z.size,)."""
    found = []
    for place in np.ndindex(*z.shape):
        moved = [z.copy(), z.copy()]
        for sign, at in zip((1, -1), moved, strict=True):
            at[place] += sign * step
        found.append((np.asarray(of(moved[0])) - of(moved[1])) / (2 * step))
    return np.array(found)


def bowls(*scores: float, norm: float = 0.5) -> Landscape:
    """E(m) = norm |z|^2 + a constant: predictors of two classes that do not read z; the higher a score, the lower."""
    bias = torch.tensor([[score, 0.0] for score in scores]).double()
    return Landscape(
        torch.zeros(len(scores), 2, 2).double(),
        bias,
        torch.zeros(len(scores), dtype=torch.long),
        norm,
    )


def test_energies_gradients_and_curvatures_are_those_of_numpy_and_of_differences() -> None:
    land, at = theory.landscape(3), torch.from_numpy(Z)
    np.testing.assert_allclose(land(at).numpy(), energies(land, Z), rtol=1e-12)
    slopes = differences(lambda z: energies(land, z).sum(), Z).reshape(Z.shape)
    np.testing.assert_allclose(land.gradients(at).numpy(), slopes, atol=1e-8)
    whole = differences(lambda z: land.gradients(torch.from_numpy(z)).numpy(), Z).reshape(
        3, 2, 3, 2
    )
    for m in range(3):
        np.testing.assert_allclose(land.curvatures(at)[m].numpy(), whole[m, :, m], atol=1e-8)
    assert float(theory.gap(land(at))) == pytest.approx(gap(energies(land, Z)))
    steep = sum((slopes[m] ** 2).sum() for m in range(3))
    assert land.emc(at, 0.7).item() == pytest.approx(gap(energies(land, Z)) + 0.7 * steep)


def test_curvature_of_the_gap_is_that_of_differences_and_of_the_corrected_formula() -> None:
    land = theory.landscape(5)
    found = theory.gap_curvature(land, torch.from_numpy(np.stack([Z, 2 * Z])))[0].numpy()
    numeric = differences(lambda z: differences(lambda y: gap(energies(land, y)), z, 1e-4), Z, 1e-4)
    numeric = numeric.reshape(3, 2, 3, 2)
    g, bent = (
        land.gradients(torch.from_numpy(Z)).numpy(),
        land.curvatures(torch.from_numpy(Z)).numpy(),
    )
    off = energies(land, Z) - energies(land, Z).mean()
    for m in range(3):
        np.testing.assert_allclose(found[m], numeric[m, :, m], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            found[m], 4 * np.outer(g[m], g[m]) + 6 * off[m] * bent[m], atol=1e-10
        )


def test_derivatives_hold_as_printed_but_for_eq_10_the_frozen_teacher_and_eq_33(
    table: pd.DataFrame,
) -> None:
    exact = table[table["equation"].isin(["28", "29", "30", "36", "37", "38", "40"])]
    assert len(exact) == 7 and (exact["holds"] == "yes").all() and (exact["measured"] == 0).all()
    assert row(table, "Eq. 10's gradient")["measured"] == 2  # every pair is counted twice
    land, at = theory.landscape(0), theory.points(0)
    entropy_slope = max(
        np.abs(differences(lambda z: energies(land, z).sum() - parts(land, z), z)).max()
        for z in at.numpy()
    )
    assert row(table, "gradient of E, teacher frozen")["measured"] == pytest.approx(
        entropy_slope, abs=1e-5
    )
    modalities = 3
    ratio = row(table, "ratio of the coefficients")
    assert (
        ratio["measured"] == pytest.approx((modalities - 1) / modalities, abs=1e-6)
        and ratio["holds"] == "no"
    )
    assert row(table, "the first term is |g|^2")["measured"] == 0


def parts(land: Landscape, z: np.ndarray) -> float:
    """Norm and task loss without the entropy."""
    scores = np.einsum("mck,mk->mc", land.weights.numpy(), z) + land.bias.numpy()
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    chosen = p[np.arange(len(z)), land.labels.numpy()]
    return float(land.norm * (z**2).sum() - np.log(chosen).sum())


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_chains_on_a_quadratic_have_the_variance_of_their_recursion(noise: float) -> None:
    samples, shrink = theory.chains("quadratic", noise, 4), 1 - theory.STEP
    wanted = noise * theory.STEP / (1 - shrink**2)  # v = shrink^2 v + noise
    per_chain = (samples**2).mean(axis=0)
    assert abs(per_chain.mean() - wanted) < 4 * per_chain.std(ddof=1) / np.sqrt(samples.shape[1])
    assert (
        abs(wanted - noise / 2) < theory.STEP
    )  # half of what exp(-E) has where the noise is as printed


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_chains_in_a_double_well_have_the_stationary_shares_of_their_kernel(noise: float) -> None:
    grid = np.linspace(-3, 3, 601)
    mean, deviation = (
        grid - theory.STEP * (4 * grid * (grid**2 - 1) + 0.3),
        np.sqrt(noise * theory.STEP),
    )
    kernel = np.exp(-((grid - mean[:, None]) ** 2) / (2 * deviation**2))
    kernel /= kernel.sum(axis=1, keepdims=True)
    stationary = np.linalg.matrix_power(kernel, 2**12)[300]
    places = np.histogram(np.arange(0), theory.EDGES)[1]
    wanted = np.histogram(grid + 1e-9, places, weights=stationary)[0]
    found = theory.shares(theory.chains("double well", noise, 0))
    assert found.sum() == pytest.approx(1)
    coarse = [np.add.reduceat(x, range(0, len(x), 4)) for x in (found, wanted / wanted.sum())]
    assert np.abs(coarse[0] - coarse[1]).sum() / 2 < 0.03


def test_gibbs_shares_are_the_integrals_of_its_density() -> None:
    for name, energy in (
        ("quadratic", lambda z: z * z / 2),
        ("double well", lambda z: (z * z - 1) ** 2 + 0.3 * z),
    ):
        for temperature in (0.5, 1.0):
            bins = [
                quad(lambda z, e=energy, t=temperature: np.exp(-e(z) / t), a, b)[0]
                for a, b in itertools.pairwise(theory.EDGES)
            ]
            np.testing.assert_allclose(
                theory.gibbs(name, temperature), np.array(bins) / sum(bins), atol=1e-5
            )


def test_eq_24_is_nearer_to_half_the_temperature_than_to_eq_23(table: pd.DataFrame) -> None:
    away = row(table, "total variation from exp(-E) on a double well, noise as printed")
    near = row(table, "total variation from exp(-2 E)")
    between = np.abs(theory.gibbs("double well", 1.0) - theory.gibbs("double well", 0.5)).sum() / 2
    assert away["holds"] == "no" and near["holds"] == "yes"
    assert away["measured"] >= between - near["measured"] > 0.1  # the triangle's inequality
    assert row(table, "temperature on a quadratic, noise none")["measured"] == 0


def test_descent_on_the_gap_raises_what_lies_below_the_mean(table: pd.DataFrame) -> None:
    land = theory.landscape(0)
    for z in theory.points(0).numpy()[:20]:
        off = energies(land, z) - energies(land, z).mean()
        step = -1e-6 * differences(lambda y: gap(energies(land, y)), z).reshape(z.shape)
        assert (np.sign(energies(land, z + step) - energies(land, z)) == -np.sign(off)).all()
    assert (
        row(table, "below the mean")["measured"] == 0
        and row(table, "above the mean")["measured"] == 1
    )
    assert row(table, "Eq. 11 and descent on L_gap")["measured"] == -1
    weights = [
        1 + 2 * theory.ETA * 3 * (e - e.mean())
        for e in (energies(land, z) for z in theory.points(0).numpy())
    ]
    assert row(table, "under Eq. 22")["measured"] == pytest.approx(
        (np.array(weights) > 0).mean(), abs=1e-6
    )


def test_the_path_falls_under_eq_11_and_meets_at_the_highest_under_the_gap(
    table: pd.DataFrame,
) -> None:
    land = theory.landscape(0)
    along = np.stack([energies(land, z) for z in theory.path(land, 0).numpy()])
    switch = theory.OWN[0]
    assert (np.diff(along[: switch + 1], axis=0) < 0).all()
    gaps = [gap(e) for e in along[switch:]]
    assert (np.diff(gaps) < 0).all() and gaps[-1] < 0.05 * gaps[0]
    lowest = along[switch].argmin()
    risen = row(table, "descent on L_gap does not raise")
    assert risen["measured"] == pytest.approx(along[-1, lowest] - along[switch, lowest], abs=1e-6)
    assert risen["measured"] > 0 and theory.MODALITIES[lowest] in risen["statement"]


def test_among_bowls_the_raised_ones_stop_where_the_closed_form_says() -> None:
    norm, delta = 0.5, 0.05
    land = bowls(1.0, 2.0, 0.0, norm=norm)
    bottoms, wells = energies(land, np.zeros((3, 2))), theory.minima(land)
    assert np.abs(wells.numpy()).max() == 0 and np.ptp(bottoms) > 0.8
    end = theory.rest(land, delta, wells).numpy()
    # Eq. 40 is 0 where z = 0, or M (mean - E) = delta 2 norm; the highest at rest and two raised solve that.
    wanted = np.full(3, bottoms.max() - 2 * norm * delta)
    wanted[2] = bottoms[2]
    np.testing.assert_allclose(energies(land, end), wanted, atol=1e-6)
    np.testing.assert_allclose((end**2).sum(axis=1), (wanted - bottoms) / norm, atol=1e-5)


def test_above_the_threshold_unequal_minima_hold_and_below_it_they_do_not() -> None:
    land, norm = bowls(0.0, 0.3, 1.0, norm=0.5), 0.5
    wells = theory.minima(land)
    bottoms = energies(land, wells.numpy())
    enough = theory.threshold(land, wells)
    assert enough == pytest.approx(3 * (bottoms.mean() - bottoms.min()) / (2 * norm)) and enough > 0
    assert np.abs(theory.rest(land, 1.05 * enough, wells).numpy()).max() < 1e-4
    assert np.abs(theory.rest(land, 0.8 * enough, wells).numpy()).max() > 0.1


def test_no_point_of_the_landscape_is_what_eq_34_asks_for(table: pd.DataFrame) -> None:
    land = theory.landscape(0)
    wells = theory.minima(land).numpy()
    generator = np.random.default_rng(0)
    for m, (start, _) in itertools.product(range(3), enumerate(range(15))):

        def slope(x: np.ndarray, m: int = m) -> np.ndarray:
            z = wells.copy()
            z[m] = x
            return land.gradients(torch.from_numpy(z)).numpy()[m]

        found = root(slope, generator.normal(0, 1 + start / 4, 2))
        if found.success:  # each modality has one stationary point, its minimum
            np.testing.assert_allclose(found.x, wells[m], atol=1e-5)
    spread = np.ptp(energies(land, wells))
    for beginning in (
        "energies can be equal",
        "a stationary point has equal",
        "descent on L_EMC ends with equal "
        f"energies (spread), delta {2 * theory.threshold(land, torch.from_numpy(wells)):.3g}",
    ):
        found_row = row(table, beginning)
        assert (
            found_row["holds"] == "no"
            and found_row["measured"] == pytest.approx(spread, abs=1e-5)
            and spread > 1
        )
    assert (
        np.abs(
            differences(lambda z: land.emc(torch.from_numpy(z), theory.DELTA).item(), wells)
        ).max()
        < 1e-6
    )


def test_with_a_small_delta_energies_meet_and_gradients_stay(table: pd.DataFrame) -> None:
    land = theory.landscape(0)
    end = theory.rest(land, theory.DELTA, theory.minima(land)).numpy()
    slopes = differences(lambda z: energies(land, z).sum(), end).reshape(end.shape)
    largest = np.linalg.norm(slopes, axis=1).max()
    assert (
        row(table, "descent on L_EMC ends where")["measured"] == pytest.approx(largest, abs=1e-5)
        and largest > 0.1
    )
    spread = np.ptp(energies(land, end))
    assert (
        row(table, f"descent on L_EMC ends with equal energies (spread), delta {theory.DELTA:g}")[
            "measured"
        ]
        == (pytest.approx(spread, abs=1e-6))
        and 0 < spread < 0.01
    )
    assert row(table, "a raised modality stops")["holds"] == "yes"


def test_the_artifact_needs_no_runs_has_four_panels_and_is_the_same_each_time(
    table: pd.DataFrame,
) -> None:
    made = appendix.theory(None, [])  # type: ignore[arg-type]
    assert isinstance(made, Output)
    assert made.figure is not None and made.numbers is not None and made.table is not None
    panels = made.figure.axes
    assert len(panels) == 4 and all(
        p.get_xlabel() and p.get_ylabel() and p.get_legend() for p in panels
    )
    assert made.rows_built == len(table) == len(made.table)
    pd.testing.assert_frame_equal(
        made.numbers[made.numbers["panel"].isna()][list(table)], table, check_dtype=False
    )
    drawn = made.numbers.dropna(subset="panel")
    ends = drawn[drawn["panel"] == "rest"].pivot(index="x", columns="series", values="y")
    assert tuple(ends.index) == theory.DELTAS
    assert (
        np.ptp(ends.iloc[0]) < 0.01 < 1 < np.ptp(ends.iloc[-1])
    )  # together, then each in its own minimum
    held = table["holds"].eq("yes") & table["equation"].ne("ours")
    assert made.notes[0].startswith(f"{held.sum()} of {table['equation'].ne('ours').sum()} ")
