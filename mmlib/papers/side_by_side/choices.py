"""What a comparison of the five methods has to choose; no paper says it."""

from __future__ import annotations

from mmlib.experiments.context import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice(
        "each method brings a network of its own",
        "held against that network without the method",
        "ours",
    ),
    Choice(
        "methods train in one stage or in two",
        "equal epochs in all stages together, P's included",
        "ours",
    ),
    Choice(
        "each paper has its own learning rate",
        "its own, by as many trials on the data's validation as its network has",
        "ours",
    ),
    Choice(
        "each paper has its own training masks",
        "four training laws, the same for every row",
        "ours",
    ),
    Choice(
        "GMM-loss takes two modalities and classes",
        "compared where there are two, or on two of more",
        "ours",
    ),
    Choice(
        "BALM, MCULoRA and GMM-loss are defined on vectors",
        "left out on sequences of frames",
        "ours",
    ),
    Choice("epochs must be chosen", "on validation under the training law, for every test", "ours"),
)
LEFT_OUT = "methods of other papers, and every method on a network that its paper does not use."
GUESSES = ""
