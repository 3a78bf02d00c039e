"""BALM's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.experiments.context import Choice
from mmlib.papers.balm.rows import TAU_RHO

OBSTACLES: tuple[Choice, ...] = (
    Choice("Eq. 36 is zero as printed", "the product of shares that the text describes", "A1"),
    Choice("the nominal rate is not the realised one", "both are recorded", "A2"),
    Choice("who is assigned a pattern", "utterances, shuffled", "A3, D1"),
    Choice("Eq. 7 averages over what", "the dialogue", "A4"),
    Choice("direction of KL", "as printed in 'paper', as coded in 'released'", "A6, D9"),
    Choice("coefficients may be negative or huge", "left raw; 'guarded' as a control", "A8"),
    Choice(
        "encoders are updated twice in Algorithm 1",
        "one step: mu times the task loss's gradient, plus that of tau L_mod",
        "A9",
    ),
    Choice("L_mod of numbers has no gradient", "differentiated in closed form, same step", "A12"),
    Choice(
        "tau and rho are not disclosed",
        f"{dict(TAU_RHO)['tau']} and {dict(TAU_RHO)['rho']} everywhere; the grid is Table 7",
        "A20",
    ),
    Choice(
        "GCNet has no encoder per modality",
        "columns of its first weights; a linear layer as a form",
        "A17",
    ),
    Choice("masks where modalities are left out", "drawn over all of them", "Tables 8, 9"),
    Choice("number of runs", "ours is in every cell", "A19"),
)
GUESSES = (
    "the number of runs behind Tables 1 and 2; that the cosine uses the weight without the bias; "
    "how BALM attaches to GCNet."
)
