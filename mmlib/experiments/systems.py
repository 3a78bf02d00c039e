"""The comparison systems that the papers' tables name, as they are read here: what each is, keeps and leaves out.

Each is short code of ours from a description of the published one, over features that are given: no language model is
trained, and an utterance is a vector, or frames, which most encoders average. `docs/systems.md` is made from these
declarations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mmlib.experiments.context import Context
from mmlib.experiments.rows import Row, Stage
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes

ANY = Takes((VECTORS | SEQUENCES,))
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

    takes: Takes = ANY
    """The data that it accepts."""

    test: str = ""
    """The file of its own laws under tests/systems, where it is not that of its network's name."""

    printed: str = ""
    """Its name in the papers' tables, where that is another."""

    @property
    def backbone(self) -> str:
        """The name of its network."""
        return self.stages[-1].backbone

    @property
    def row(self) -> Row:
        """Its row of a table: all of its stages have the schedule that the search chose for the whole."""
        stages = tuple(
            dataclasses.replace(stage, searched_as=self.backbone) for stage in self.stages
        )
        return Row(self.called, stages, against=None, takes=self.takes)


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
        "MMIN",
        (
            Stage("reference", "mmin_teacher", keep=("weights",)),
            Stage("mmin", "mmin"),
        ),
        "Autoencoders in a cascade imagine a row's missing modalities; their codes predict.",
        "Zhao et al., ACL 2021",
        "BASELINES_MM 4, MM2 B; AIM3-RUC/MMIN @ 69a45fe",
        "LSTMs and TextCNN (a linear map each), clipping by sub-network, two learning rates.",
        "self-drop: the teacher trains on what is there, the imagination's targets are hidden for it",
    ),
    System(
        "IF-MMIN",
        (
            Stage("reference", "if_mmin_teacher", keep=("weights",)),
            Stage("if_mmin", "if_mmin"),
        ),
        "MMIN's cascade, steered in every block by what the modalities share.",
        "Zuo et al., ICASSP 2023",
        "MM2 18; ZhuoYulang/IF-MMIN @ f4d65fc",
        "LSTMs and TextCNN (a linear map each), clipping by sub-network, two learning rates.",
        "self-drop: the teacher trains on what is there, the imagination's targets are hidden for it",
    ),
    System(
        "RedCore",
        (Stage("redcore", "redcore"),),
        "Each modality is made from the others where it is missing; the completions that are behind weigh more.",
        "Sun et al., AAAI 2024",
        "BASELINES_MM 16, MM2 B; sunjunaimer/RedCore @ b2c6a2d",
        "Transformer encoders (a linear map, then mean and variance), clipping by sub-network.",
    ),
    System(
        "MRAN-style",
        (Stage("mran", "mran", "style"),),
        "Tokens that say which modality is missing; what is reconstructed is pulled to its class's word.",
        "Luo et al., MMM 2023",
        "MM2 31; of the paper the abstract, no code",
        "Word vectors of the classes (fixed random orthonormal ones); layers and weights are not published.",
        "self-drop: a row's hidden modalities are the targets",
        printed="MRAN",
    ),
    System(
        "CorrKD",
        (Stage("reference", "corrkd", keep=("weights",)), Stage("corrkd", "corrkd_student")),
        "A student that sees less follows a frozen teacher: samples, class prototypes and responses.",
        "Li et al., CVPR 2024",
        "BASELINES_MM 2.1; no code was released",
        "The published encoders (their depth is unknown): the network has the size of DREAM's P.",
        "self-drop: the teacher sees what the row has, the student less",
        test="corrkd_full",
    ),
    System(
        "SMIL",
        (Stage("smil", "smil"),),
        "Missing modalities are mixtures of centres; trained by an inner and an outer step.",
        "Ma et al., AAAI 2021",
        "BASELINES_MM 14, MM2 B; mengmenm/SMIL @ 0d0e827",
        "Encoders of images and sound (a linear map each); the decay of the inner learning rate.",
    ),
    System(
        "DiCMoR",
        (Stage("dicmor", "dicmor"),),
        "Normalising flows carry what is present to a missing modality's distribution.",
        "Wang et al., ICCV 2023",
        "BASELINES_MM 16, MM2 B; mdswyz/DiCMoR @ 3d7e617",
        "BERT, crossmodal attention over time (one layer over modalities); 6 couplings for 32 of Glow's steps.",
        "self-drop in half of the rows",
    ),
    System(
        "IMDer",
        (Stage("imder", "imder"),),
        "Diffusion conditioned on what is present draws the missing latents.",
        "Wang et al., NeurIPS 2023",
        "BASELINES_MM 16, MM2 B; mdswyz/IMDer @ 1901a92",
        "BERT, crossmodal attention over time (one layer over modalities); the U-Net over time (a perceptron).",
        "self-drop in half of the rows",
    ),
    System(
        "SDR-GNN",
        (Stage("reference", "sdr_gnn", "squared"),),
        "Relational, hyperedge and signed steps over graphs of time and speakers in a dialogue.",
        "Fu et al., Knowledge-Based Systems 2024",
        "BASELINES_MM 16, MM2 B; fufangze/SDR-GNN @ b455461",
        "The reconstruction, as in BALM (a switch has it). Single utterances are graphs of one node.",
    ),
    System(
        "Mi-CGA-style",
        (Stage("reference", "mi_cga", "squared"),),
        "Graph attention over a dialogue's window in each modality, crossmodal attention over the dialogue.",
        "Nguyen et al., Neurocomputing 2025",
        "MM2 32; the abstract alone",
        "The simulated absence and the reconstruction, as in BALM. Single utterances have no neighbours.",
        printed="Mi-CGA",
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
        printed="MLPMM",
    ),
    System(
        "MSPs-style",
        (Stage("reference", "msps", keep=("weights",)), Stage("second_stage", "msps")),
        "One block of prompts per modality beside the input of a frozen transformer.",
        "Jang et al., ICASSP 2024",
        "BASELINES_MM2 33; the abstract alone",
        "ViLT and its pre-training (a small transformer over modalities, trained on the training rows).",
        printed="MSPs",
    ),
    System(
        "TransModality",
        (Stage("transmodality", "transmodality"),),
        "Text is translated into each other modality and back.",
        "Wang et al., WWW 2020",
        "BASELINES_MM2 27; hyeonJeongByeon/TransModality @ d4384fa",
        "Dialogues: the recurrent encoders and transformers over utterances (perceptrons of single vectors).",
        printed="TransM",
    ),
    System(
        "MISA",
        (Stage("misa", "misa"),),
        "Each modality's shared and private image as tokens of one transformer layer.",
        "Hazarika et al., ACM MM 2020",
        "BASELINES_MM 7, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT and the recurrent encoders (a linear map with a layer norm each), accumulated gradients.",
    ),
    System(
        "MMIM",
        (Stage("mmim", "mmim"),),
        "Bounds raise what the text shares with other modalities, and the fusion with each.",
        "Han et al., EMNLP 2021",
        "BASELINES_MM 16, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT and the recurrent encoders (a linear map each); a pass of the bounds alone before every epoch "
        "(a step before every step), two learning rates.",
    ),
    System(
        "CENET",
        (Stage("reference", "cenet"),),
        "The text is shifted by what it finds in the other modalities.",
        "Wang et al., IEEE Transactions on Multimedia 2023",
        "BASELINES_MM 16, MM2 25; thuiar/MMSA @ a94e65d",
        "BERT, whose upper layers are two residual ones; on vectors attention has one key, so that the shift is a "
        "linear map of the others.",
    ),
    System(
        "MulT",
        (Stage("reference", "mult"),),
        "Every modality looks at each other one, by a transformer for each ordered pair.",
        "Tsai et al., ACL 2019",
        "BASELINES_MM 6, MM2 B; yaohungt/Multimodal-Transformer @ a670936",
        "Convolutions and self-attention over frames: a vector is one frame, and attention with one key a linear map.",
        takes=OF_VECTORS,
        printed="MuLT",
    ),
    System(
        "MulT on frames",
        (Stage("reference", "mult_frames"),),
        "MulT where an utterance is a sequence: frames look at the other modalities' frames.",
        "Tsai et al., ACL 2019",
        "BASELINES_MM 6; yaohungt/Multimodal-Transformer @ a670936",
        "Convolutions over several frames, a dropout rate for every modality, accumulated gradients.",
        takes=Takes((SEQUENCES,)),
    ),
    System(
        "TETFN",
        (Stage("own_labels", "tetfn"),),
        "MulT's pairs over modalities that the text has enhanced, with a prediction of every modality's own.",
        "Wang et al., Pattern Recognition 2023",
        "BASELINES_MM 16, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT, recurrent and convolutional encoders (a linear map each), attention over frames, five learning rates.",
    ),
    System(
        "Self-MM",
        (Stage("own_labels", "selfmm"),),
        "A fused score, and modalities' own on labels that training makes up for them.",
        "Yu et al., AAAI 2021",
        "BASELINES_MM 1; thuiar/Self-MM @ 1786283, thuiar/MMSA @ a94e65d",
        "BERT and the recurrent encoders (text as it is, else a linear map), five learning rates, accumulated "
        "gradients; of classes no labels are made up.",
        test="own_labels",
    ),
    System(
        "DMD",
        (Stage("dmd", "dmd"),),
        "Shared and own parts of every modality predict apart and learn from one another.",
        "Li et al., CVPR 2023",
        "BASELINES_MM 10, MM2 B; mdswyz/DMD @ 516d4e1",
        "BERT, convolutions and crossmodal attention over time (linear maps, one layer over modalities each).",
    ),
    System(
        "ALMT",
        (Stage("reference", "almt", "squared"),),
        "The text gathers what it needs of the other modalities in a hyper-modality, and reads that.",
        "Zhang et al., EMNLP 2023",
        "BASELINES_MM 16, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT, and tokens before frames (parts of a linear map), warm-up of the learning rate.",
        takes=OF_VECTORS,
    ),
    System(
        "ALMT on frames",
        (Stage("reference", "almt_frames", "squared"),),
        "ALMT where an utterance is a sequence: its tokens stand before the frames of every modality.",
        "Zhang et al., EMNLP 2023",
        "BASELINES_MM 16, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT, learned positions (sinusoids), warm-up of the learning rate.",
        takes=Takes((SEQUENCES,)),
    ),
    System(
        "LNLN",
        (Stage("lnln", "lnln"),),
        "A text that may lack something is mixed with a stand-in made from the other modalities.",
        "Zhang et al., NeurIPS 2024",
        "BASELINES_MM 9, MM2 B; Haoyu-ha/LNLN @ 80a052c",
        "BERT, and tokens before frames (parts of a linear map), warm-up of the learning rate.",
        "self-drop in half of the rows",
        takes=OF_VECTORS,
    ),
    System(
        "LNLN on frames",
        (Stage("lnln", "lnln_frames", "noise"),),
        "LNLN where an utterance is a sequence, trained on texts that lack a share of their frames.",
        "Zhang et al., NeurIPS 2024",
        "BASELINES_MM 9; Haoyu-ha/LNLN @ 80a052c",
        "BERT, learned positions (sinusoids), warm-up of the learning rate; of other modalities no frames are dropped.",
        "self-drop in half of the rows",
        Takes((SEQUENCES,)),
    ),
    System(
        "TFR-Net",
        (Stage("tfr_net", "tfr_net"),),
        "Features that were hidden are made from what is there; a gate's largest value predicts.",
        "Yuan et al., ACM MM 2021",
        "BASELINES_MM 8, MM2 B; thuiar/MMSA @ a94e65d",
        "BERT, encoders over time and the recurrent fusion; batch norm (a layer norm), the discrepancy of moments.",
        "self-drop in half of the rows",
        takes=OF_VECTORS,
    ),
    System(
        "TFR-Net on frames",
        (Stage("tfr_net_frames", "tfr_net_frames"),),
        "TFR-Net where an utterance is a sequence: dropped frames are made from those that are there.",
        "Yuan et al., ACM MM 2021",
        "BASELINES_MM 8; thuiar/MMSA @ a94e65d",
        "BERT, convolutions, the encoder that takes time for channels, recurrent fusion; batch norm (a layer norm), "
        "the discrepancy of moments.",
        "self-drop of frames, and of modalities in half of the rows",
        Takes((SEQUENCES,)),
    ),
    System(
        "MCTN",
        (Stage("mctn", "mctn"),),
        "One modality is translated into each other in turn, and what that leaves on the way predicts.",
        "Pham et al., AAAI 2019",
        "BASELINES_MM 12, MM2 B; hainow/MCTN @ 5c03e35",
        "Recurrent encoders and decoders with attention (perceptrons). A row is read from the text, or else from "
        "the first modality that it has, by a model of that source.",
    ),
    System(
        "GLoMo",
        (Stage("glomo", "glomo"),),
        "Segments of every modality go through experts, and the whole of it says what they count for.",
        "Zhuang et al., ACM MM 2024",
        "BASELINES_MM2 20; YetZzzzzz/GLoMo @ 90f5b3f",
        "BERT and MulT's encoder over frames (a linear map of each frame, by an option a convolution). A vector's "
        "segments are equal.",
    ),
    System(
        "EUAR",
        (Stage("euar", "euar"),),
        "Every modality has experts that say how sure they are, and a gate that is led to the sure ones.",
        "Gao et al., ACM MM 2024",
        "BASELINES_MM2 21; the authors' partial implementation, and Yaoooyu/CS-Mage",
        "BERT, convolutions and MulT's encoders (a linear map each), gates divided by their sums over a batch (an "
        "option has them), two learning rates.",
    ),
    System(
        "ConFEDE",
        (Stage("unimodal", "confede", keep=("weights",)), Stage("confede", "confede")),
        "A shared and an own part of every modality, drawn to rows of the same label and off others.",
        "Yang et al., ACL 2023",
        "BASELINES_MM2 22; XpastaX/ConFEDE @ c048fad",
        "BERT and transformers over frames (a linear map with a layer norm each); rows are looked up once, by their "
        "features, and not every two epochs by embeddings.",
    ),
    System(
        "Semi-IIN",
        (Stage("reference", "semi_iin", "squared"),),
        "Attention within modalities and across them, in towers between which a gate chooses.",
        "Lin et al., AAAI 2025",
        "BASELINES_MM2 23; flow-ljh/Semi-IIN @ 55f1c4d, of which training was not released",
        "Large encoders and strided convolutions, the prediction of emotions beside the score, learning from "
        "unlabelled rows.",
    ),
    System(
        "CLGSI",
        (Stage("clgsi", "clgsi"),),
        "One tiny function of all modalities for every coordinate, and a contrast that follows the labels' distance.",
        "Yang et al., Findings of NAACL 2024",
        "BASELINES_MM2 24; AZYoung233/CLGSI @ c1070c8",
        "BERT and the transformers over frames (a linear map each), four learning rates and their schedule; a row is "
        "not held near itself (an option has it).",
    ),
    System(
        "MFON",
        (Stage("unimodal", "mfon", keep=("weights",)), Stage("mfon", "mfon")),
        "The text looks at each other modality; what it finds follows a teacher of that modality alone.",
        "Zhang et al., COLING 2025",
        "BASELINES_MM2 26; 123sprouting/MFON @ fd44467",
        "BERT, learned positions (of frames sinusoids), deep teachers (perceptrons), accumulated gradients; the text "
        "looks at all frames, whatever the longest text of a batch.",
    ),
    System(
        "DEVA-style",
        (Stage("deva", "deva", "style"),),
        "Features as low, normal or high, and a text that takes the other modalities in level by level.",
        "Wu et al., AAAI 2025",
        "BASELINES_MM2 28; of the paper the abstract, no code",
        "The describing sentences and BERT that reads them (a learned vector for each third of a feature); formulas "
        "are not established.",
        printed="DEVA",
    ),
    System(
        "ConKI-style",
        (
            Stage("unimodal", "conki", keep=("weights",)),
            Stage("conki", "conki", "style"),
        ),
        "A general encoder and an adapter for every modality, told apart by a contrast.",
        "Yu et al., Findings of ACL 2023",
        "BASELINES_MM2 29; of the paper the abstract, an adapter of its kind in MKMaS-GUET/KuDA @ e60ef6b",
        "BERT (perceptrons), and the second corpus that adapters learn from first (each modality alone on the "
        "training rows).",
        printed="ConKI",
    ),
    System(
        "UMDF-style",
        (Stage("umdf", "umdf", "style"),),
        "One network sees a row whole and with less, and both predictions learn from each other.",
        "Li et al., AAAI 2024",
        "BASELINES_MM2 30; of the paper the abstract, no code",
        "Layers and weights are not published; interaction of frames (coarse and fine are one on vectors).",
        "self-drop: the fuller view sees what the row has, the other less",
        printed="UMDF",
    ),
)

CALLED = frozenset(system.called for system in SYSTEMS)
"""What the systems are called."""

PRINTED_AS = {system.printed: system.called for system in SYSTEMS if system.printed}
"""The papers' names of systems, where they are others, to ours."""

NOTE = (
    "Comparison systems are short readings of ours over the same features (docs/systems.md), with the same masks and "
    "as many trials as every network; each of their stages is as long as the search chose. No test compares them."
)


def noted(context: Context) -> str:
    """The note below tables that have rows of comparison systems, as those on a reader's own data have not."""
    return "" if context.own else NOTE


def rows(*called: str) -> list[Row]:
    """The rows of some systems, by what they are called."""
    known = {system.called: system.row for system in SYSTEMS}
    return [known[name] for name in called]


def on_frames(*called: str) -> list[Row]:
    """The rows of some systems where an utterance is a sequence, under their own names.

    A system has a network of its own there, or one for both.
    """
    known = {system.called: system.row for system in SYSTEMS}
    return [known.get(f"{name} on frames", known[name]).but(name=name) for name in called]
