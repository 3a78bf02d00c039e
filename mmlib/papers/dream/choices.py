"""DREAM's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.experiments.context import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice("what P answers of nothing", "its answer to zeros", "B1"),
    Choice("when two scores differ", "when their signs do; seven classes as a variant", "B2"),
    Choice("four questions, one contribution", "the mean over questions", "B3, B4"),
    Choice("a distribution out of values that may be negative", "their softmax", "B5"),
    Choice("weights that may be negative", "a softmax first; literal as a variant", "B6"),
    Choice("which modalities are enhanced", "those whose PSS is zero, all at once", "B7, B8"),
    Choice("joined along time or features", "time", "B10"),
    Choice("what is attended to before fusion", "the other modalities, mean over time", "B12"),
    Choice("what training sees", "both readings, apart", "B14, B15"),
    Choice("the layout of P", "one that meets the three parameter counts", "B16"),
    Choice("heads, dropout, the weight of the distillation", "four, none, one tenth", "ours"),
)
GUESSES = ""
