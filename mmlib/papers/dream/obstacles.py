"""DREAM's obstacles: where the paper leaves a choice, the reading taken; what is left out, what is guessed."""

from __future__ import annotations

from mmlib.papers.choices import Choice

OBSTACLES: tuple[Choice, ...] = (
    Choice("what P decides of nothing", "what it decides of zeros; undecided as a variant", "B1"),
    Choice("two scores are hardly ever equal", "their signs; seven classes as a variant", "B2"),
    Choice("four decisions for one utterance", "each emotion's, then the mean; any of them as a variant", "B3, B4"),
    Choice("PAS is no distribution, the divergence has no direction",
           "softmax of PAS, from it to the weights; its positive part as a variant", "B5"),
    Choice("a negative weight turns PSS round", "weights of a softmax; unbounded ones as a variant", "B6"),
    Choice("which modalities are enhanced", "those without any PSS; a threshold as a variant", "B7"),
    Choice("several to enhance at once", "all from what the repeat before left; in turn as a variant", "B8"),
    Choice("along which axis contexts are joined", "time", "B10"),
    Choice("what is fused of each modality", "attention to the others, added to it, the mean over time", "B12"),
    Choice("what training sees", "modalities dropped anew each epoch; all of them as a variant", "B14"),
    Choice("what P learns from", "what the second stage sees; complete data as a variant", "B15"),
    Choice("P's layout", "CorrKD's backbone without its distillation, one that meets the printed counts", "B16"),
    Choice("F1 with or without zeros", "without, and beside it with them", "B17"),
    Choice("whether frames of different modalities fall out together", "each modality's by themselves", "B19"),
)
LEFT_OUT = "the published baselines, shown as *not built yet*."
GUESSES = "P's layout, and what training sees."
