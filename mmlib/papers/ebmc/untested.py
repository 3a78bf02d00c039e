"""Sentences of the paper that no claim tests, and why."""

from __future__ import annotations

from mmlib.experiments.claims import Untested

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "ahead of Semi-IIN in 7-class accuracy and of GLoMo in F1",
        "4.1, Table 1",
        "no implementation here of the methods that it compares with",
    ),
    Untested(
        "ahead of DMD in mean F1 on IEMOCAP",
        "4.1, Table 2",
        "no implementation here of the methods that it compares with",
    ),
    Untested(
        "ahead of LNLN in F1, 7-class accuracy, error and correlation",
        "4.4, Table 5",
        "no implementation here of the methods that it compares with",
    ),
    Untested(
        "Table 1's methods are beaten in most metrics",
        "4.1, Table 1",
        "no implementation here of the methods that it compares with; the same network and MoMKE "
        "are compared with",
    ),
    Untested(
        "other methods are much worse with one modality",
        "4.2, Table 3",
        "no implementation here of the methods that it compares with; whether EBMC's gain is "
        "largest there is tested",
    ),
    Untested(
        "without MSD features of different emotions mix, with MSD and CCE they separate",
        "4.4 Q1, Fig 3",
        "a reading of t-SNE pictures; `fig3` draws them and gives silhouettes",
    ),
    Untested(
        "IMTD weighs modalities by their reliability at inference",
        "4.4 Q3",
        "by Eq. 16 IMTD is a loss of training alone (C10); what it adds where frames are dropped "
        "is tested",
    ),
    Untested(
        "baselines collapse to the most frequent class at high missing rates",
        "C.3, Figs 7, 8",
        "no implementation here of the methods that it compares with; whether EBMC avoids it is "
        "tested",
    ),
    Untested(
        "results rise with zeta up to 0.5 and fall at 1",
        "C.1, Fig 6",
        "the shape of one curve; whether 0.5 is the best is tested, and `fig6` draws the curve",
    ),
    Untested(
        "errors on flat or weak expressions come from text, and EBMC avoids them",
        "4.5, Fig 5",
        "clips that were chosen; `fig5` shows cases by a fixed rule",
    ),
    Untested(
        "EMC amplifies weak modalities and suppresses dominant ones",
        "3.4, B.2, B.3",
        "follows from Eq. 10; `theory` checks it numerically",
    ),
    Untested(
        "the energy's equilibrium is stable, and its gradients are those printed",
        "B.1, B.3, B.4",
        "identities and dynamics; `theory` checks them numerically",
    ),
    Untested(
        "cost grows linearly with length and size, and EMC and IMTD are negligible",
        "A.3",
        "an estimate of operations, not of results",
    ),
    Untested(
        "on stored features training takes minutes and few parameters",
        "A.4, Table 6",
        "depends on the machine and the encoder; `table6` measures both",
    ),
)
