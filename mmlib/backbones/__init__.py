"""The networks that a method plugs into, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from mmlib.backbones.ada2i import Ada2I
from mmlib.backbones.almt import ALMT
from mmlib.backbones.almt_frames import FrameALMT
from mmlib.backbones.cenet import CENET
from mmlib.backbones.clgsi import CLGSI
from mmlib.backbones.concat import Concat
from mmlib.backbones.concat_indicators import ConcatIndicators
from mmlib.backbones.confede import ConFEDE
from mmlib.backbones.conki import ConKI
from mmlib.backbones.corrkd import CorrKD
from mmlib.backbones.corrkd_student import CorrKDStudent
from mmlib.backbones.crossmodal import Crossmodal
from mmlib.backbones.cubemlp import CubeMLP
from mmlib.backbones.deva import DEVA
from mmlib.backbones.dicmor import DiCMoR
from mmlib.backbones.dmd import DMD
from mmlib.backbones.dream import DreamNet
from mmlib.backbones.euar import EUAR
from mmlib.backbones.gcnet import GCNet
from mmlib.backbones.gcnet_frames import FrameGCNet
from mmlib.backbones.glomo import GLoMo
from mmlib.backbones.if_mmin import IFMMIN
from mmlib.backbones.if_mmin_teacher import IFMMINTeacher
from mmlib.backbones.imder import IMDer
from mmlib.backbones.linear import Linear
from mmlib.backbones.lnln import LNLN
from mmlib.backbones.lnln_frames import FrameLNLN
from mmlib.backbones.mce import MCE
from mmlib.backbones.mctn import MCTN
from mmlib.backbones.mfon import MFON
from mmlib.backbones.mi_cga import MiCGA
from mmlib.backbones.misa import MISA
from mmlib.backbones.mlp import MLP
from mmlib.backbones.mmdfn import MMDFN
from mmlib.backbones.mmgcn import MMGCN
from mmlib.backbones.mmim import MMIM
from mmlib.backbones.mmin import MMIN
from mmlib.backbones.mmin_teacher import MMINTeacher
from mmlib.backbones.mmtm import MMTM
from mmlib.backbones.momke import MoMKE
from mmlib.backbones.momke_frames import FrameMoMKE
from mmlib.backbones.mplmm import MPLMM
from mmlib.backbones.mran import MRAN
from mmlib.backbones.msps import MSPs
from mmlib.backbones.mult import MulT
from mmlib.backbones.mult_frames import FrameMulT
from mmlib.backbones.redcore import RedCore
from mmlib.backbones.sdr_gnn import SDRGNN
from mmlib.backbones.selfmm import SelfMM
from mmlib.backbones.semi_iin import SemiIIN
from mmlib.backbones.smil import SMIL
from mmlib.backbones.tetfn import TETFN
from mmlib.backbones.tfr_net import TFRNet
from mmlib.backbones.tfr_net_frames import FrameTFRNet
from mmlib.backbones.transmodality import TransModality
from mmlib.backbones.umdf import UMDF
from mmlib.errors import unknown_name
from mmlib.nn.backbone import Backbone

BACKBONES: dict[str, Any] = {
    "mmgcn": MMGCN,
    "gcnet": GCNet,
    "gcnet_frames": FrameGCNet,
    "mmdfn": MMDFN,
    "linear": Linear,
    "concat": Concat,
    "concat_indicators": ConcatIndicators,
    "mmtm": MMTM,
    "crossmodal": Crossmodal,
    "cubemlp": CubeMLP,
    "momke": MoMKE,
    "momke_frames": FrameMoMKE,
    "dream": DreamNet,
    "corrkd": CorrKD,
    "corrkd_student": CorrKDStudent,
    "mlp": MLP,
    "mmin": MMIN,
    "mmin_teacher": MMINTeacher,
    "if_mmin": IFMMIN,
    "if_mmin_teacher": IFMMINTeacher,
    "redcore": RedCore,
    "mran": MRAN,
    "selfmm": SelfMM,
    "smil": SMIL,
    "dicmor": DiCMoR,
    "imder": IMDer,
    "sdr_gnn": SDRGNN,
    "mi_cga": MiCGA,
    "mce": MCE,
    "ada2i": Ada2I,
    "mplmm": MPLMM,
    "msps": MSPs,
    "transmodality": TransModality,
    "misa": MISA,
    "mmim": MMIM,
    "cenet": CENET,
    "mult": MulT,
    "mult_frames": FrameMulT,
    "tetfn": TETFN,
    "dmd": DMD,
    "almt": ALMT,
    "lnln": LNLN,
    "tfr_net": TFRNet,
    "mctn": MCTN,
    "almt_frames": FrameALMT,
    "lnln_frames": FrameLNLN,
    "tfr_net_frames": FrameTFRNet,
    "glomo": GLoMo,
    "euar": EUAR,
    "confede": ConFEDE,
    "semi_iin": SemiIIN,
    "clgsi": CLGSI,
    "mfon": MFON,
    "deva": DEVA,
    "conki": ConKI,
    "umdf": UMDF,
}


def build_backbone(
    name: str,
    dims: Mapping[str, int],
    outputs: int,
    speakers: int,
    options: Iterable[tuple[str, Any]] = (),
) -> Backbone:
    """A backbone by name, with options that replace its configuration's defaults.

    Raises:
        InputError: an unknown name or option, or a value out of range.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    kind = BACKBONES[name]
    backbone: Backbone = kind(dims, outputs, speakers, configure(kind.Config, name, options))
    return backbone


def configure(config: Any, where: str, options: Iterable[tuple[str, Any]]) -> Any:
    """A frozen configuration with some fields replaced; unknown fields raise."""
    known = {f.name for f in dataclasses.fields(config)}
    given = dict(options)
    for key in given:
        if key not in known:
            raise unknown_name(f"{where} option", key, known)
    return config(**given)
