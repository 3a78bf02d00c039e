"""Sentences of the paper that no claim tests, and why."""

from __future__ import annotations

from mmlib.experiments.claims import Untested

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "the best known accuracies on CREMA-D and on AVE",
        "abstract, 4.3, Table 1",
        "levels that belong to the paper's clips and network; the leads are tested",
    ),
    Untested(
        "most samples are balanced, and about one in seven is not",
        "3.2, Fig 2",
        "shares of the paper's clips; `fig2` gives ours",
    ),
    Untested(
        "the density at the origin ends several times as high",
        "4.5, Fig 3",
        "levels that belong to the paper's clips; whether it rises is tested",
    ),
    Untested(
        "after the warm-up the accuracies of the modalities are far apart",
        "4.5, Fig 4",
        "a distance is never below 0, so that it cannot fail; whether the distance shrinks is "
        "tested",
    ),
    Untested(
        "a dominant modality suppresses the other during joint training",
        "1",
        "a cause; what a single modality reaches by itself is in `main`, and joint training is "
        "compared with it",
    ),
    Untested(
        "the mixture separates balanced from imbalanced samples cleanly",
        "1, 3.2",
        "no measure of clean without truth; `planted` has precision and recall on twins",
    ),
    Untested(
        "annealing lets the model turn to the task at the end",
        "3.3",
        "a reason for Eq. 10; no run is without annealing",
    ),
    Untested(
        "without the reset accuracy is slightly worse, with SGD and with Adam",
        "4.5, Table 3",
        "tested as crucial, which the same paragraph says",
    ),
    Untested(
        "the method generalises to further data and tasks",
        "5",
        "left open by the paper",
    ),
)
