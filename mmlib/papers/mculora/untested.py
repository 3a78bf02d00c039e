"""Sentences of the paper that no claim tests, and why."""

from __future__ import annotations

from mmlib.experiments.claims import Untested

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "well ahead of the best other method on both data sets",
        "abstract, 4.3, Table 1",
        "EUAR, the best on one of them, has no row here; MoMKE, the best on the other, is "
        "compared with",
    ),
    Untested(
        "models trained on complete data decline on incomplete inputs",
        "1",
        "no model is trained on complete data alone",
    ),
    Untested(
        "one adapter for each combination needs few parameters and little time",
        "abstract, 1",
        "depends on the machine; `cost` counts parameters and measures times",
    ),
    Untested(
        "weak combinations are trained more often",
        "3.4, Eq. 10",
        "follows from the rule; `shares` draws how the shares move",
    ),
    Untested(
        "preferred combinations learn their features faster under equal shares",
        "3.4",
        "the paper names no measure of it beside Eq. 8, which the method itself uses",
    ),
    Untested(
        "low-rank updates need no parameters at inference",
        "2",
        "a property of adapters in general, and here each combination keeps its own",
    ),
    Untested(
        "MCULoRA classifies cases on which MoMKE errs",
        "4.5, Fig 5",
        "clips that were chosen; `fig5` shows cases by a fixed rule",
    ),
    Untested(
        "the improvement comes from unimodal information that differs by combination",
        "4.4, 5",
        "a cause; the parts' ablations are tested, and `cosines` draws the features' angles",
    ),
)
