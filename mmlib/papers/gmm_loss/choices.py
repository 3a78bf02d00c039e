"""GMM-loss's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.experiments.context import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice(
        "alpha, beta, gamma and all numbers of epochs are not printed",
        "tuned once, on the twin's validation",
        "H9",
    ),
    Choice("which component is balanced", "the one nearer to zero; in a tie the heavier", "H1"),
    Choice("signed or absolute gap", "signed, as printed; absolute as a variant", "H2"),
    Choice(
        "bars around squared differences, an undefined u_0",
        "plain squares; u_0 is the balanced mean",
        "H3",
    ),
    Choice("whether the posteriors carry gradient", "they do not", "H4"),
    Choice(
        "on which data and in which mode gaps are taken", "the training set, evaluation mode", "H5"
    ),
    Choice("from where the annealing counts", "from the start of the adaptive phase", "H6"),
    Choice("imbalanced clips get less classification loss", "as printed", "H7"),
    Choice(
        "how the mixture is started and kept from degenerating",
        "k-means from 0 and the largest gap; a floor",
        "H18",
    ),
    Choice("what a reset of the optimizer is", "its momenta; the learning rate stays", "H19"),
    Choice("validation accuracies of Fig 4", "a tenth of the training clips, held out", "H13, H14"),
)
LEFT_OUT = (
    "the raw clips of CREMA-D and AVE, which this repository can read "
    "(`mmlib data import crema-d`) but may not distribute."
)
GUESSES = "every baseline's settings on AVE."
