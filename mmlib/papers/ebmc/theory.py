"""EBMC's appendix B, measured: the derivatives, what Eq. 24 samples, whom EMC suppresses, and where it comes to rest.

The energies of three modalities, each over two numbers z_m, in double precision (Eq. 8 with a teacher that reads z_m,
as B.4 differentiates it). Text's predictor is the best and vision's the worst, so text has the lowest energy. A claim
holds where the measured number is the claimed one, up to ``slack``; gradients are held against autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor

MODALITIES = ("audio", "text", "vision")
SHARPNESS = (1.2, 2.5, 0.6)  # of each modality's predictor
NORM = 0.1  # alpha of Eq. 8; beta and gamma are 1
DELTA = 0.01  # of Eq. 12 (C4)
DELTAS = (0.001, 0.01, 0.1, 0.3, 1.0, 2.0, 4.0, 10.0)
ETA = 0.1  # of Eq. 22
STEP = 0.02  # lambda of Eq. 24
EDGES = np.linspace(-2.2, 2.2, 45)  # of the bins that densities are compared in
# On a line: name to energy and its derivative.
LINES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "quadratic": (lambda z: z**2 / 2, lambda z: z),
    "double well": (lambda z: (z**2 - 1) ** 2 + 0.3 * z, lambda z: 4 * z * (z**2 - 1) + 0.3),
}
POINTS, CHAINS = 200, 3000
OWN, JOINT = (15, 0.2), (250, 0.01)  # steps of Eq. 11 and of descent on L_gap, and their size
EXACT = 1e-9
COLUMNS = ("statement", "equation", "claimed", "measured", "slack", "holds", "note")
Row = dict[str, Any]


@dataclass(frozen=True)
class Landscape:
    """Energies over z (..., M, k): alpha |z|^2 + cross-entropy + entropy of softmax(W_m z_m + b_m)."""

    weights: Tensor
    """W, (M, C, k)."""

    bias: Tensor
    """b, (M, C)."""

    labels: Tensor
    """The true classes, (M,)."""

    norm: float = NORM
    """alpha of Eq. 8."""

    def logits(self, z: Tensor) -> Tensor:
        """(..., M, C)."""
        return torch.einsum("mck,...mk->...mc", self.weights, z) + self.bias

    def terms(self, z: Tensor) -> Tensor:
        """The three terms of Eq. 8, (3, ..., M)."""
        log_p = self.logits(z).log_softmax(dim=-1)
        chosen = self.labels.expand(log_p.shape[:-1])[..., None]
        return torch.stack(
            [
                self.norm * z.square().sum(-1),
                -log_p.gather(-1, chosen)[..., 0],
                -(log_p.exp() * log_p).sum(-1),
            ]
        )

    def __call__(self, z: Tensor) -> Tensor:
        """E(m), (..., M)."""
        return self.terms(z).sum(dim=0)

    def gradients(self, z: Tensor, create_graph: bool = False) -> Tensor:
        """g_m by autograd, (..., M, k)."""
        return _gradient(lambda at: self(at).sum(), z, create_graph)

    def curvatures(self, z: Tensor) -> Tensor:
        """H_m by autograd, (..., M, k, k)."""
        copies = z.expand(z.shape[-1], *z.shape)  # the i-th is differentiated along i twice
        return _gradient(
            lambda at: torch.einsum("i...i->", self.gradients(at, True)), copies
        ).movedim(0, -1)

    def emc(self, z: Tensor, delta: float) -> Tensor:
        """L_EMC of Eq. 39, (...,)."""
        steep = self.gradients(z, create_graph=True).square().sum(dim=(-2, -1)) if delta else 0.0
        return gap(self(z)) + delta * steep


def landscape(seed: int = 0) -> Landscape:
    """Three classes, whose directions lie evenly round the circle, turned for each modality."""
    generator = np.random.default_rng(seed)
    angles = generator.uniform(0, 2 * np.pi, (3, 1)) + 2 * np.pi / 3 * np.arange(3)
    directions = (
        np.stack([np.cos(angles), np.sin(angles)], axis=-1) * np.array(SHARPNESS)[:, None, None]
    )
    return Landscape(
        torch.from_numpy(directions),
        torch.from_numpy(generator.normal(0, 0.2, (3, 3))),
        torch.from_numpy(generator.integers(0, 3, 3)),
    )


def points(seed: int, count: int = POINTS) -> Tensor:
    """(count, M, 2): places at which a statement about any z is tried."""
    return torch.from_numpy(np.random.default_rng([seed, 1]).normal(0, 1.5, (count, 3, 2)))


def gap(energy: Tensor) -> Tensor:
    """L_gap over unordered pairs (Eq. 27); energy (..., M) -> (...)."""
    first, second = torch.triu_indices(energy.shape[-1], energy.shape[-1], offset=1)
    return (energy[..., first] - energy[..., second]).square().sum(-1)


def above_mean(energy: Tensor) -> Tensor:
    """E(m) minus the modalities' mean, (..., M)."""
    return energy - energy.mean(dim=-1, keepdim=True)


def _gradient(of: Callable[[Tensor], Tensor], z: Tensor, create_graph: bool = False) -> Tensor:
    z = z if create_graph and z.requires_grad else z.detach().requires_grad_()
    return torch.autograd.grad(of(z), z, create_graph=create_graph)[0]


def theory_table(seed: int = 0) -> pd.DataFrame:
    """Every statement with what is claimed and what is measured, columns ``COLUMNS``."""
    land, z = landscape(seed), points(seed)
    rows = [
        *gap_rows(land, z),
        *derivative_rows(land, z),
        *curvature_rows(land, z),
        *sampling_rows(seed),
        *feedback_rows(land, seed),
        *rest_rows(land, seed),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gap_rows(land: Landscape, z: Tensor) -> list[Row]:
    """Eqs 28-30, 39 and 40, and how often Eq. 10 counts a pair."""
    energy, g, off = land(z), land.gradients(z), above_mean(land(z))
    whole = _gradient(lambda at: gap(land(at)).sum(), z)
    by_pairs = (energy[..., :, None] - energy[..., None, :]).sum(-1)
    ordered = _gradient(
        lambda at: (land(at)[..., :, None] - land(at)[..., None, :]).square().sum(), z
    )
    factor = (whole * g).sum(-1) / g.square().sum(-1) / off
    printed, bent = (
        2 * by_pairs[..., None] * g,
        torch.einsum("...kl,...l->...k", land.curvatures(z), g),
    )
    return [
        _exact("gradient of L_gap", "28", printed, whole, "L_gap of Eq. 27"),
        _exact("sum over pairs = M (E - mean)", "29", by_pairs, z.shape[-2] * off),
        _row(
            "one factor on E - mean for all modalities (spread)",
            "30",
            0.0,
            _spread(factor),
            EXACT,
            f"the factor is 2 M = {factor.mean():.3g}",
        ),
        _row(
            "Eq. 10's gradient = Eq. 28 (ratio)",
            "10, 28",
            1.0,
            (ordered / printed).median().item(),
            EXACT,
            "Eq. 10 counts each pair twice, Eqs 27 and 39 once: Eq. 40 does not differentiate Eq. 12 (C7)",
        ),
        _exact(
            "gradient of L_EMC",
            "40",
            printed + 2 * DELTA * bent,
            _gradient(lambda at: land.emc(at, DELTA).sum(), z),
            "L_EMC of Eq. 39",
        ),
    ]


def derivative_rows(land: Landscape, z: Tensor) -> list[Row]:
    """Eqs 35 to 38, with a teacher that reads z_m and with a frozen one (C6)."""
    logits, p = land.logits(z), land.logits(z).softmax(dim=-1)
    p_of_s = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    by_autograd = _gradient(
        lambda s: torch.einsum("y...y->", s.softmax(dim=-1)), logits.expand(3, *logits.shape)
    )
    of_z = torch.einsum("...myc,mck->...myk", p_of_s, land.weights)
    uncertain = torch.einsum("...my,...myk->...mk", -p.log() - 1, of_z)
    by_hand = 2 * land.norm * z + _gradient(lambda at: land.terms(at)[1].sum(), z) + uncertain
    return [
        _exact("gradient of E", "35", by_hand, land.gradients(z), "the teacher reads z_m"),
        _exact(
            "gradient of E, teacher frozen",
            "35",
            by_hand,
            _gradient(lambda at: land.terms(at)[:2].sum(), z),
            "the teacher of Sec. 3.5 is frozen: u_m has no gradient and its term is 0 (C6)",
        ),
        _exact(
            "derivative of the entropy",
            "36",
            -p.log() - 1,
            _gradient(lambda q: -(q * q.log()).sum(), p),
            "p(y) taken as free numbers",
        ),
        _exact(
            "gradient of u_m",
            "37",
            uncertain,
            _gradient(lambda at: land.terms(at)[2].sum(), z),
            "the teacher reads z_m; the -1 drops out, since probabilities sum to 1",
        ),
        _exact("derivative of the softmax", "38", p_of_s, by_autograd.movedim(0, -2)),
    ]


def gap_curvature(land: Landscape, z: Tensor) -> Tensor:
    """Second derivatives of L_gap along each z_m by autograd, z (S, M, k) -> (S, M, k, k)."""
    copies = z.expand(*z.shape[1:], *z.shape)
    once = partial(_gradient, lambda at: gap(land(at)).sum(), create_graph=True)
    twice = _gradient(lambda at: torch.einsum("mismi->", once(at)), copies)
    return torch.einsum("mismk->smik", twice)


def curvature_rows(land: Landscape, z: Tensor) -> list[Row]:
    """Eq. 33: the terms of the second derivative along z_m, their coefficients by least squares."""
    g, off = land.gradients(z), above_mean(land(z))[..., None, None]
    whole, second = gap_curvature(land, z), off * land.curvatures(z)
    basis = torch.stack([(g[..., :, None] * g[..., None, :]).flatten(), second.flatten()], dim=1)
    coefficients = torch.linalg.lstsq(basis, whole.flatten()[:, None]).solution[:, 0]
    left = basis @ coefficients - whole.flatten()
    across = torch.stack([-g[..., 1], g[..., 0]], dim=-1)
    first = torch.einsum("...k,...kl,...l->...", across, whole - coefficients[1] * second, across)
    wells = minima(land)
    lowest = torch.linalg.eigvalsh(gap_curvature(land, wells[None])[0])[:, 0]
    return [
        _row(
            "ratio of the coefficients of g g^T and (E - mean) H",
            "33",
            1.0,
            float(coefficients[0] / coefficients[1]),
            EXACT,
            f"they are 2 (M - 1) = {coefficients[0]:.3g} and 2 M = {coefficients[1]:.3g}, all from the gap and "
            f"none from the penalty; what they leave is {left.abs().max():.6f}",
        ),
        _row(
            "the first term is |g|^2 in every direction (share of it across g)",
            "33",
            1.0,
            (first / g.square().sum(-1).square()).mean().item(),
            EXACT,
            "it is g g^T: none at right angles to g",
        ),
        _row(
            "curvature of L_gap is not below 0 where each energy is least (share of modalities)",
            "33",
            1.0,
            (lowest > -EXACT).double().mean().item(),
            EXACT,
            "lowest: " + _list(lowest) + "; a modality below the mean sits on a hilltop",
        ),
    ]


@cache
def chains(name: str, noise: float, seed: int) -> np.ndarray:
    """Positions (times, CHAINS) of chains that step by Eq. 24 on a line, with noise of variance ``noise`` x STEP."""
    generator = np.random.default_rng([seed, 2])
    z, kept = generator.normal(0, 1, CHAINS), []
    for step in range(3000):
        z = z - STEP * LINES[name][1](z) + np.sqrt(noise * STEP) * generator.standard_normal(CHAINS)
        if step >= 1000 and step % 25 == 0:
            kept.append(z)
    return np.stack(kept)


def gibbs(name: str, temperature: float) -> np.ndarray:
    """Probabilities of the bins between ``EDGES`` under exp(-E / temperature)."""
    inner = EDGES[:-1, None] + np.diff(EDGES)[:, None] * (np.arange(100) + 0.5) / 100
    mass = np.exp(-LINES[name][0](inner) / temperature).sum(axis=1)
    return np.asarray(mass / mass.sum())


def shares(samples: np.ndarray) -> np.ndarray:
    """Shares of samples in the bins between ``EDGES``, of those that lie there."""
    return np.asarray(np.histogram(samples, EDGES, density=True)[0] * np.diff(EDGES))


def sampling_rows(seed: int) -> list[Row]:
    """Eq. 24 against the density of Eq. 23, on a quadratic and on a double well."""
    return [*_temperature_rows(seed), *_density_rows(seed)]


def _temperature_rows(seed: int) -> list[Row]:
    rows = []
    for noise, text, equation in (
        (1.0, "N(0, lambda I), as printed", "23, 24"),
        (2.0, "N(0, 2 lambda I)", "ours"),
        (0.0, "none, 'a Langevin step'", "25"),
    ):
        per_chain = (chains("quadratic", noise, seed) ** 2).mean(axis=0)
        error = float(per_chain.std(ddof=1) / np.sqrt(len(per_chain)))
        rows.append(
            _row(
                f"temperature on a quadratic, noise {text}",
                equation,
                1.0,
                float(per_chain.mean()),
                4 * error + STEP,
                f"for steps of {STEP:g} by theory {noise / (2 - STEP):.3f}",
            )
        )
    return rows


def _density_rows(seed: int) -> list[Row]:
    rows = []
    for noise, text, temperature, density, equation in (
        (1.0, "as printed", 1.0, "exp(-E)", "23, 24"),
        (1.0, "as printed", 0.5, "exp(-2 E)", "ours"),
        (2.0, "N(0, 2 lambda I)", 1.0, "exp(-E)", "ours"),
    ):
        sampled = shares(chains("double well", noise, seed))
        away = np.abs(sampled - gibbs("double well", temperature)).sum() / 2
        rows.append(
            _row(
                f"total variation from {density} on a double well, noise {text}",
                equation,
                0.0,
                float(away),
                2 * STEP,
                f"claimed up to the step's own bias; shares in {len(EDGES) - 1} bins",
            )
        )
    return rows


def minima(land: Landscape) -> Tensor:
    """(M, k): every modality's own energy minimum, by descent from 0."""
    return _rest(
        lambda z: land(z).sum(), torch.zeros(land.weights.shape[0], land.weights.shape[2]).double()
    )


def _rest(of: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where descent (BFGS) from a start comes to rest."""

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.from_numpy(x).reshape(start.shape).requires_grad_()
        height = of(z)
        return height.item(), torch.autograd.grad(height, z)[0].numpy().ravel()

    best = minimize(
        value,
        start.numpy().ravel(),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9, "maxiter": 2000},
    )
    return torch.from_numpy(best.x).reshape(start.shape)


def path(land: Landscape, seed: int) -> Tensor:
    """z along Eq. 11's own steps and then along descent on L_gap, (1 + steps, M, k)."""
    taken = [points(seed, 1)[0]]
    for (count, size), of in ((OWN, lambda at: land(at).sum()), (JOINT, lambda at: gap(land(at)))):
        for _ in range(count):
            taken.append(taken[-1] - size * _gradient(of, taken[-1]))
    return torch.stack(taken)


def feedback_rows(land: Landscape, seed: int) -> list[Row]:
    """Eq. 32: which way descent on L_gap moves the modalities with little energy, and Eq. 22 beside it."""
    z = points(seed)
    moved = -_gradient(lambda at: gap(land(at)).sum(), z)
    return [
        *_direction_rows(land, z, moved),
        *_lowest_rows(land, z, moved),
        _raised_row(land, seed),
        _joint_row(land, z),
    ]


def _direction_rows(land: Landscape, z: Tensor, moved: Tensor) -> list[Row]:
    """Which energies fall; moved: z along descent on L_gap."""
    down = (moved * land.gradients(z)).sum(-1) < 0
    low = above_mean(land(z)) < 0
    return [
        _row(
            "above the mean, descent on L_gap lowers E (share of points)",
            "32",
            1.0,
            down[~low].double().mean().item(),
            EXACT,
        ),
        _row(
            "below the mean, it lowers E too, only less (share)",
            "32",
            1.0,
            down[low].double().mean().item(),
            EXACT,
            "it raises E: the sign turns (C8)",
        ),
    ]


def _lowest_rows(land: Landscape, z: Tensor, moved: Tensor) -> list[Row]:
    """How far and which way the modality of lowest energy moves; moved: z along descent on L_gap."""
    g, off = land.gradients(z), above_mean(land(z))
    lowest = off.argmin(dim=-1)
    least, most = (
        (pick(off.abs(), dim=-1) == lowest).double().mean() for pick in (torch.argmin, torch.argmax)
    )
    cosine = -torch.nn.functional.cosine_similarity(moved, g, dim=-1)[torch.arange(len(z)), lowest]
    return [
        _row(
            "the lowest energy has the smallest weight in size (share)",
            "32",
            1.0,
            least.item(),
            EXACT,
            f"the largest in {most:.2f}",
        ),
        _row(
            "Eq. 11 and descent on L_gap move the lowest the same way (cosine)",
            "11, 32",
            1.0,
            cosine.mean().item(),
            EXACT,
            "Eq. 11 moves every modality down its energy",
        ),
    ]


def _raised_row(land: Landscape, seed: int) -> Row:
    """Along the path, what descent on L_gap does to the energy that Eq. 11 left lowest."""
    start, end = (path(land, seed)[step] for step in (OWN[0], -1))
    who = int(land(start).argmin())
    return _row(
        f"descent on L_gap does not raise the lowest energy ({MODALITIES[who]}, change)",
        "10, 32",
        0.0,
        (land(end) - land(start))[who].item(),
        EXACT,
        _parts(land, start, end, who) + " (C8)",
    )


def _joint_row(land: Landscape, z: Tensor) -> Row:
    """Under Eq. 22, whether any energy is pushed up."""
    joint = _gradient(lambda at: (land(at).sum(-1) + ETA * gap(land(at))).sum(), z)
    return _row(
        "under Eq. 22 the weight of g_m is never negative (share)",
        "22",
        1.0,
        ((joint * land.gradients(z)).sum(-1) > 0).double().mean().item(),
        EXACT,
        f"it is 1 + 2 eta M (E - mean), eta {ETA:g}: here L_gap does weaken, up to a gap of 1 / (2 eta M)",
    )


def threshold(land: Landscape, wells: Tensor) -> float:
    """The delta above which L_EMC has a minimum where every energy has its own, however unequal they are there."""
    least = torch.linalg.eigvalsh(land.curvatures(wells))[:, 0]
    return (-len(wells) * above_mean(land(wells)) / least).max().item()


def rest(land: Landscape, delta: float, wells: Tensor, seed: int = 0) -> Tensor:
    """(M, k): where descent on L_EMC ends that starts near the modalities' own minima."""
    near = np.random.default_rng([seed, 3]).normal(0, 0.1, wells.shape)
    return _rest(lambda z: land.emc(z, delta), wells + torch.from_numpy(near))


def rest_rows(land: Landscape, seed: int) -> list[Row]:
    """Eq. 34: where L_EMC is stationary, and what is equal or zero there."""
    wells = minima(land)
    return [
        *_well_rows(land, wells),
        _held_row(land, wells, seed),
        *_end_rows(land, wells, rest(land, DELTA, wells, seed)),
    ]


def _well_rows(land: Landscape, wells: Tensor) -> list[Row]:
    """The point at which every modality's own energy is least."""
    spread = _spread(land(wells))
    flat = _gradient(lambda at: land.emc(at, DELTA), wells).norm()
    return [
        _row(
            "energies can be equal where all their gradients are 0 (spread of the minima)",
            "34",
            0.0,
            spread,
            EXACT,
            "E at the minima: " + _list(land(wells)) + "; one point cannot do both",
        ),
        _row(
            "a stationary point has equal energies (spread at one)",
            "34",
            0.0,
            spread,
            EXACT,
            f"where all g_m = 0 Eq. 40 is 0 at any gap; its norm here is {flat:.6f}",
        ),
    ]


def _held_row(land: Landscape, wells: Tensor, seed: int) -> Row:
    """Where a large delta holds every modality in its own minimum."""
    enough = threshold(land, wells)
    held = rest(land, 2 * enough, wells, seed)
    return _row(
        f"descent on L_EMC ends with equal energies (spread), delta {2 * enough:.3g}",
        "34",
        0.0,
        _spread(land(held)),
        EXACT,
        f"{(held - wells).norm():.6f} from the unequal point, a minimum for delta above {enough:.3g}",
    )


def _end_rows(land: Landscape, wells: Tensor, end: Tensor) -> list[Row]:
    """The point at which descent with the paper's delta ends."""
    g, bent, off = land.gradients(end), land.curvatures(end), above_mean(land(end))
    along = torch.einsum("mk,mkl,ml->m", g, bent, g) / g.square().sum(-1)
    ratio = (-off / (DELTA * along / len(g)))[off < 0]
    who = int(land(wells).argmin())
    return [
        _row(
            f"descent on L_EMC ends with equal energies (spread), delta {DELTA:g}",
            "34",
            0.0,
            _spread(land(end)),
            EXACT,
            "E: " + _list(land(end)) + f"; {MODALITIES[who]}: " + _parts(land, wells, end, who),
        ),
        _row(
            f"descent on L_EMC ends where gradients are 0 (largest |g|), delta {DELTA:g}",
            "34",
            0.0,
            g.norm(dim=-1).max().item(),
            EXACT,
            "|g|: " + _list(g.norm(dim=-1)),
        ),
        _row(
            "a raised modality stops delta x (curvature along g) / M below the mean (ratio)",
            "ours",
            1.0,
            ratio.mean().item(),
            1e-4,
            "Eq. 40 = 0, along g",
        ),
    ]


def _parts(land: Landscape, start: Tensor, end: Tensor, modality: int) -> str:
    norm, loss, entropy = (land.terms(end) - land.terms(start))[:, modality].tolist()
    return f"norm {norm:+.2f}, task loss {loss:+.2f}, entropy {entropy:+.2f}"


def _spread(energy: Tensor) -> float:
    return (energy.max() - energy.min()).item()


def _list(values: Tensor) -> str:
    return ", ".join(f"{m} {float(v):.2f}" for m, v in zip(MODALITIES, values, strict=True))


def _exact(statement: str, equation: str, printed: Tensor, measured: Tensor, note: str = "") -> Row:
    return _row(
        f"{statement} (largest error)",
        equation,
        0.0,
        (printed - measured).abs().max().item(),
        EXACT,
        note,
    )


def _row(
    statement: str, equation: str, claimed: float, measured: float, slack: float, note: str = ""
) -> Row:
    holds = "yes" if abs(measured - claimed) <= slack else "no"
    return dict(
        zip(
            COLUMNS,
            (statement, equation, claimed, round(measured, 6), slack, holds, note),
            strict=True,
        )
    )
