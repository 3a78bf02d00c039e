"""Sentences of the paper that no claim tests, and why."""

from __future__ import annotations

from mmlib.experiments.claims import Untested

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "well ahead of MSPs without text and with audio alone",
        "4.2 Q1, Q2, Table 1",
        "no implementation here of the methods that it compares with",
    ),
    Untested(
        "well ahead of CorrKD on average on IEMOCAP",
        "4.2 Q1, Table 1",
        "CorrKD with its distillation has no row in the tables here yet; its network, which is P, has",
    ),
    Untested(
        "models made for complete data are misled where modalities are missing",
        "1, Fig 1",
        "an example of one clip, and no such model is run here",
    ),
    Untested(
        "imbalance makes missing modalities worse, and missing modalities imbalance",
        "1, 2",
        "the paper gives no measure of either that a run could change",
    ),
    Untested(
        "PSS is high for a modality that changes predictions",
        "3.3",
        "follows from Eq. 2; `values` compares it with exact contributions on twins",
    ),
    Untested(
        "a simple enhancement avoids overfitting",
        "3.4",
        "the paper compares with no other enhancement, and none is run",
    ),
    Untested(
        "down-weighting generated modalities guards against unreliable features",
        "3.5",
        "no other measure than the ablation, which is tested as w/o MMFM",
    ),
    Untested(
        "DREAM trades accuracy for efficiency by the choice of P",
        "4.2 Q4, Fig 5",
        "advice; the Ps are compared, and `table2` has their times",
    ),
    Untested(
        "training and test times are acceptable and even efficient",
        "4.2 Q5, Table 2",
        "depends on the machine and on what is acceptable; `table2` measures times",
    ),
    Untested(
        "the total number of parameters stays reasonable",
        "A.3, Table 3",
        "counts, not results; `table3` has them",
    ),
    Untested(
        "with more than four modalities an approximation of contributions does",
        "4.2 Q5",
        "the data have three modalities; `monte-carlo` measures the error of an approximation",
    ),
    Untested(
        "fusion weights follow the modalities' contributions",
        "3.5, Eq. 12",
        "the loss asks for it by definition; what it adds to results is tested",
    ),
)
