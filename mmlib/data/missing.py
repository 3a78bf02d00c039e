"""Modalities that utterances lack in the data themselves: how many, where, and whether that goes with the label."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy  # its parts are imported when they are used: scipy.stats takes a second
from tabulate import tabulate

from mmlib.data.bundle import Bundle
from mmlib.data.labels import parts_of
from mmlib.data.scales import observed_zeros

APART = 0.10  # difference between the shares of two splits that is warned of where it is no chance
CHANCE = 1e-3  # how seldom independent labels would look so dependent


def completeness(observed: np.ndarray, modalities: Sequence[str]) -> dict[str, float]:
    """The share of rows that have everything, that have each pair of modalities, and the entropy of the patterns.

    observed: (n, M) bool. Protocols of one missing rate may differ many times in these (arXiv 2606.04857). Keys:
    ``complete``, then ``audio+text`` and so on, then ``entropy`` in bits. No pair's share is below the complete one.
    """
    pairs = itertools.combinations(range(len(modalities)), 2)
    shares = {
        f"{modalities[i]}+{modalities[j]}": float((observed[:, i] & observed[:, j]).mean())
        for i, j in pairs
    }
    _, counts = np.unique(observed, axis=0, return_counts=True)
    of_patterns = counts / counts.sum()
    entropy = float(-(of_patterns * np.log2(of_patterns)).sum())
    return {
        "complete": float(observed.all(axis=1).mean()),
        **shares,
        "entropy": abs(entropy),  # 0 has no sign
    }


def missing_lines(bundle: Bundle) -> list[str]:
    """A table of the rows that each modality lacks, by split or fold, and of observed rows that are zeros alone."""
    zeros = observed_zeros(bundle).sum(axis=0)
    if bundle.observed.all() and not zeros.any():
        return ["Every utterance has every modality, and no row is zeros alone."]
    parts = parts_of(bundle)
    lines = []
    for index, modality in enumerate(bundle.modalities):
        shares = [_share(~bundle.observed[rows, index]) for rows in parts.values()]
        lines.append([modality, *shares, int(zeros[index])])
    head = ["missing in the data", *parts, "observed, but zeros alone"]
    aligned = ("left", *["right"] * (len(parts) + 1))
    table = tabulate(lines, head, tablefmt="plain", colalign=aligned, disable_numparse=True)
    whole = int(bundle.observed.all(axis=1).sum())
    found = completeness(bundle.observed, bundle.modalities)
    pairs = ", ".join(f"{name} {share:.0%}" for name, share in found.items() if "+" in name)
    return [
        *table.splitlines(),
        f"{whole} of {len(bundle)} utterances have every modality.",
        f"Utterances with both of a pair: {pairs}. Entropy of the patterns: {found['entropy']:.2f} bits.",
    ]


def never_warnings(bundle: Bundle) -> list[str]:
    """Modalities of which training has nothing."""
    train = bundle.split == 0
    return [
        f"WARNING: no utterance of train of {bundle.name} has {modality}: networks are tested on a modality that they "
        "were never shown. Leave it out, or split the data otherwise."
        for index, modality in enumerate(bundle.modalities)
        if not bundle.observed[train, index].any()
    ]


def missing_warnings(bundle: Bundle) -> list[str]:
    """Modalities that a tested part never has, that splits lack to different extents, or whose lack tells the label."""
    lines = []
    for index, modality in enumerate(bundle.modalities):
        observed = bundle.observed[:, index]
        if observed.any() and not observed.all():
            lines += _never_tested(bundle, modality, observed)
            lines += _uneven(bundle, modality, observed)
            lines += _telling(bundle, modality, observed)
    return lines


def _share(missing: np.ndarray) -> str:
    return f"{int(missing.sum())} ({missing.mean():.0%})"


def _never_tested(bundle: Bundle, modality: str, observed: np.ndarray) -> list[str]:
    parts = [part for part, rows in parts_of(bundle).items() if part != "train"]
    never = [part for part in parts if not observed[parts_of(bundle)[part]].any()]
    if not never:
        return []
    return [
        f"WARNING: no utterance of {', '.join(never)} of {bundle.name} has {modality}: conditions with it alone cannot "
        "be evaluated, and a run that asks for them is refused. Split the data otherwise, or leave it out."
    ]


def _uneven(bundle: Bundle, modality: str, observed: np.ndarray) -> list[str]:
    train, test = (~observed[bundle.split == number] for number in (0, 2))
    counts = np.array([[part.sum(), (~part).sum()] for part in (train, test)])
    apart = abs(train.mean() - test.mean()) > APART
    if bundle.fold is not None or not apart or scipy.stats.fisher_exact(counts).pvalue >= CHANCE:
        return []
    return [
        f"WARNING: {train.mean():.0%} of train and {test.mean():.0%} of test of {bundle.name} lack {modality} in the "
        "data: results are for a test set that lacks other things than training does. Say so, or split otherwise."
    ]


def _telling(bundle: Bundle, modality: str, observed: np.ndarray) -> list[str]:
    """Whether labels differ between the training utterances that have a modality and those that lack it."""
    train = bundle.split == 0
    labels, has = bundle.labels[train], observed[train]
    if has.all() or not has.any():
        return []
    if bundle.task.kind == "score":
        chance = float(scipy.stats.mannwhitneyu(labels[has], labels[~has]).pvalue)
    else:
        columns = labels.T if labels.ndim == 2 else [labels]
        varied = [column for column in columns if np.ptp(column)]
        chance = min((_chance(column, has) for column in varied), default=1.0) * len(varied)
    if chance >= CHANCE:
        return []
    return [
        f"WARNING: in train of {bundle.name}, whether an utterance lacks {modality} goes with its label "
        f"(p = {min(chance, 1):.0e} if it did not): a model can learn the label from what is missing. Say so, and "
        "compare with results on the utterances that have everything."
    ]


def _chance(labels: np.ndarray, has: np.ndarray) -> float:
    table = [[np.sum((labels == k) & side) for k in np.unique(labels)] for side in (has, ~has)]
    return float(scipy.stats.chi2_contingency(np.array(table)).pvalue)
