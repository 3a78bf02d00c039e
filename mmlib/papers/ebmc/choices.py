"""EBMC's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.experiments.context import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice(
        "anchor, aggregate and denominator of the contrast",
        "every modality; the utterance's mean; with its positive",
        "C1",
    ),
    Choice("a signed cosine to be minimised", "its square, over pairs; signed as a variant", "C2"),
    Choice("which head judges rebuilt features", "the own predictor, then the fusion", "C3"),
    Choice(
        "weights of the energy are not printed",
        "one each, and a hundredth for the penalty",
        "C4, C5",
    ),
    Choice("no entropy of a score", "a Gaussian predictor's", "C6, C9"),
    Choice("ordered or unordered pairs", "unordered", "C7"),
    Choice("an update that is never used, and its story", "the loss alone", "C8"),
    Choice("a factor that explodes where a teacher is certain", "bounded by a tenth", "C10"),
    Choice(
        "the direction of the divergence", "teacher to student; printed as a variant", "C11, C12"
    ),
    Choice("without MSD, who teaches?", "predictors that read $z_m$ itself", "ours"),
    Choice("how frames become one vector", "their mean, after the experts", "ours"),
    Choice(
        "which mask chooses the epoch on frames",
        "the training law; one row at a half, as the script",
        "E23",
    ),
    Choice("temperature of the distillation, size of the noise", "one, and a tenth", "ours"),
)
GUESSES = ""
