"""The comparison systems that the papers' tables name, as they are read here: what each is, keeps and leaves out.

Each is short code of ours from a description of the published one, over features that are given: no language model is
trained, and an utterance is a vector (or frames). `docs/systems.md` is made from these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmlib.experiments.rows import Stage
from mmlib.experiments.takes import VECTORS, Takes

OF_VECTORS = Takes((VECTORS,))


@dataclass(frozen=True)
class System:
    """A comparison system."""

    called: str
    """Its name in tables; ``X-style`` where only an abstract is known."""

    stages: tuple[Stage, ...]
    """How it is trained: each stage starts from the weights of the one before."""

    line: str
    """What it is, in a sentence."""

    paper: str
    """Authors, venue and year."""

    source: str
    """Where the reading comes from: the section of our specification, and the commit of the code where there is one."""

    left_out: str
    """What the published system has and this reading has not."""

    complete: str = "no"
    """Whether it needs complete training rows: ``no``, or how it does without (self-drop)."""

    takes: Takes = OF_VECTORS
    """The data that it accepts."""


SYSTEMS = (
    System(
        "CubeMLP",
        (Stage("reference", "cubemlp"),),
        "Perceptrons that mix time, modalities and channels in turn.",
        "Sun et al., ACM MM 2022",
        "BASELINES_MM 11, MM2 B; kiva12138/CubeMLP @ 49f75bd",
        "BERT and the recurrent encoders (a linear map each); on vectors the axis of time.",
    ),
    System(
        "MCE",
        (Stage("unimodal", "mce", keep=("weights",)), Stage("mce", "mce")),
        "A transformer block over modalities; those that are missed more often or fall short weigh more.",
        "Zhao et al., Pattern Recognition 2025",
        "BASELINES_MM2 19; byzhaoAI/MCE @ b70127a, 600c24f",
        "The recurrent and convolutional encoders (a linear map each).",
    ),
    System(
        "Ada2I",
        (Stage("ada2i", "ada2i"),),
        "Features weighed by what the other modalities say; stronger modalities' encoders learn more slowly.",
        "Nguyen et al., ACM MM 2024",
        "BASELINES_MM 16, MM2 B; leson502/ADA2I @ 24b9956",
        "Early stopping.",
    ),
    System(
        "MPLMM",
        (Stage("reference", "mplmm", keep=("weights",)), Stage("mplmm", "mplmm")),
        "Prompts stand for missing modalities in a frozen cross-modal transformer.",
        "Guo et al., ACL 2024",
        "BASELINES_MM 15, MM2 B; zrguo/MPLMM @ c6f8d18",
        "Pre-training on CMU-MOSEI (the training rows serve), attention over frames, its own law of hiding.",
    ),
    System(
        "MSPs-style",
        (Stage("reference", "msps", keep=("weights",)), Stage("second_stage", "msps")),
        "One block of prompts per modality beside the input of a frozen transformer.",
        "Jang et al., ICASSP 2024",
        "BASELINES_MM2 33; the abstract alone",
        "ViLT and its pre-training (a small transformer over modalities, trained on the training rows).",
    ),
    System(
        "TransModality",
        (Stage("transmodality", "transmodality"),),
        "Text is translated into each other modality and back; TransM in DREAM's table.",
        "Wang et al., WWW 2020",
        "BASELINES_MM2 27; hyeonJeongByeon/TransModality @ d4384fa",
        "Dialogues: the recurrent encoders and transformers over utterances (perceptrons of single vectors).",
    ),
)
