"""MCULoRA's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.experiments.context import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice("order of A and B", "A brings down, B up", "F1"),
    Choice(
        "what features are adapted, and with which frozen part",
        "the map that ends each encoder; W x in the shared branch",
        "F2",
    ),
    Choice(
        "signed cosines under the name of orthogonality", "as printed; squared as a variant", "F3"
    ),
    Choice("both heads swapped in Eq. 4", "each head on its own features", "F4"),
    Choice("the mixing weight's range and shape", "a sigmoid for each utterance", "F5"),
    Choice("absolute error in words, cross-entropy and squares in formulas", "the formulas", "F6"),
    Choice("a divergence of features", "softmax over features, with the missing half", "F7, F8"),
    Choice("measured in the test set", "on train; on test as a variant that leaks", "F9"),
    Choice(
        "ranking, ties, the empty combination",
        "seven, by the size of the change; the fourth stays",
        "F11",
    ),
    Choice("lambda and q_base are not printed", "a tenth, and an equal share", "F12, F14"),
    Choice(
        "a range for one thing, a rule for another",
        "shares within the range's width, projected",
        "F13",
    ),
    Choice(
        "how pre-training is done",
        "under mixed combinations, since the fusion is frozen after it",
        "ours",
    ),
    Choice(
        "DPFT without MCLA has nothing to compare",
        "what the prediction reads, part against whole",
        "ours",
    ),
)
GUESSES = "$\\lambda$, and everything that the profile reduces."
