"""Sentences of the paper that no claim tests, and why."""

from __future__ import annotations

from mmlib.experiments.claims import Untested

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "models for imbalanced or missing modalities become unstable where rates differ",
        "1, Fig 2",
        "a range over settings is never below 0, so that it cannot fail; what a shared rate hides "
        "is tested instead, and `fig2` draws the ranges",
    ),
    Untested(
        "Ada2I, which balances gradients alone, still declines under imbalanced rates",
        "4.2, Table 1",
        "its row stands in both tables; that a network declines where more is missing could hardly fail",
    ),
    Untested(
        "+BALM lifts the lowest results of both emotion backbones above a stated level",
        "4.2, Table 1",
        "a level that belongs to the paper's data and features",
    ),
    Untested(
        "gains of several points in the settings that the text picks",
        "4.2, 4.3, Tables 1, 2, 4",
        "the largest of many cells is biased upwards; means over the settings are tested",
    ),
    Untested(
        "gains are smaller but steadier on CMU-MOSEI than on IEMOCAP",
        "4.2, Tables 1, 2",
        "compares two data sets of which only twins are here",
    ),
    Untested(
        "FCM does not fully resolve the imbalance of gradient magnitudes",
        "4.3, Fig 5",
        "a ratio of the largest to the smallest is never below 1, so that it cannot fail; that "
        "text still dominates is tested",
    ),
    Untested(
        "a slight drop with vision alone comes from the quality of vision and the way of fusing",
        "4.3, Fig 6",
        "a cause, which no run separates; the drop itself is tested",
    ),
    Untested(
        "MMGCN loses more than GCNet where vision is alone, since GCNet is made for missing "
        "modalities",
        "4.3, Fig 6",
        "plain MMGCN has no such column in the paper; Fig 6 shows both here",
    ),
    Untested(
        "where text is missing most, small tau and moderate rho are best",
        "F.1, Table 7",
        "the best of 25 cells of one seed; that the highest rho is worse is tested",
    ),
    Untested(
        "SDR-GNN, GCNet and Mi-CGA lose more than BALM from one shared rate to the next",
        "F.3, Table 11",
        "SDR-GNN and Mi-CGA have rows in the tables, but one step of one row is picked after the "
        "fact",
    ),
    Untested(
        "the expected gradient of a modality is its availability times that on complete data",
        "3.1, B.1, Lemma 1",
        "an identity; `theory` checks it numerically",
    ),
    Untested(
        "mu is smaller for the modality that learns faster",
        "3.4, B.2",
        "follows from Eq. 21; `theory` checks it",
    ),
    Untested(
        "the masking operator is off by the all-missing share over M at most",
        "E, Eq. 36",
        "an identity; the tests of masks check it, and `fig1` shows the rates",
    ),
    Untested(
        "calibrated features show outliers, visible clusters and sharper borders between emotions",
        "F.6, Figs 8 to 10",
        "a reading of t-SNE pictures; `fig8-tsne`, `fig9` and `fig10` draw them",
    ),
    Untested(
        "the discrepancies look alike under all six settings and over MMDFN",
        "F.8, Figs 11 to 22",
        "a reading of pictures; `fig11` to `fig22` draw them",
    ),
    Untested(
        "BALM is lightweight",
        "abstract, 5",
        "depends on the machine and on what counts as light; `cost` measures it",
    ),
)
