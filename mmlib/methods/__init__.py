"""The methods, one file per paper, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from mmlib.backbones import configure
from mmlib.data.bundle import Task
from mmlib.errors import unknown_name
from mmlib.methods import (
    ada2i,
    agm,
    balm,
    clgsi,
    confede,
    conki,
    corrkd,
    deva,
    dicmor,
    dmd,
    dream,
    ebmc,
    enhance,
    euar,
    gblending,
    glomo,
    gmm_loss,
    greedy,
    if_mmin,
    imder,
    lfm,
    linear,
    lnln,
    mce,
    mctn,
    mculora,
    mfon,
    misa,
    mla,
    mmcosine,
    mmim,
    mmin,
    mmpareto,
    modality_dropout,
    mplmm,
    mran,
    ogm_ge,
    opm_ogm,
    own_labels,
    plain,
    pmr,
    reconboost,
    redcore,
    reference,
    relearn,
    second_stage,
    selfmm,
    smil,
    tfr_net,
    tfr_net_frames,
    transmodality,
    umdf,
    unimodal,
)
from mmlib.nn.backbone import Backbone

METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (plain.Plain, plain.VARIANTS),
    "linear": (linear.Linear, linear.VARIANTS),
    "modality_dropout": (modality_dropout.ModalityDropout, modality_dropout.VARIANTS),
    "balm": (balm.Balm, balm.VARIANTS),
    "gmm_loss": (gmm_loss.GmmLoss, gmm_loss.VARIANTS),
    "ogm_ge": (ogm_ge.OgmGe, ogm_ge.VARIANTS),
    "opm_ogm": (opm_ogm.OpmOgm, opm_ogm.VARIANTS),
    "agm": (agm.Agm, agm.VARIANTS),
    "mla": (mla.Mla, mla.VARIANTS),
    "pmr": (pmr.Pmr, pmr.VARIANTS),
    "relearn": (relearn.Relearn, relearn.VARIANTS),
    "gblending": (gblending.GBlending, gblending.VARIANTS),
    "greedy": (greedy.Greedy, greedy.VARIANTS),
    "mmpareto": (mmpareto.MmPareto, mmpareto.VARIANTS),
    "lfm": (lfm.Lfm, lfm.VARIANTS),
    "mmcosine": (mmcosine.MmCosine, mmcosine.VARIANTS),
    "reconboost": (reconboost.ReconBoost, reconboost.VARIANTS),
    "unimodal": (unimodal.Unimodal, unimodal.VARIANTS),
    "enhance": (enhance.Enhance, enhance.VARIANTS),
    "ebmc": (ebmc.Ebmc, ebmc.VARIANTS),
    "mculora": (mculora.McuLora, mculora.VARIANTS),
    "reference": (reference.Reference, reference.VARIANTS),
    "selfmm": (selfmm.SelfMM, selfmm.VARIANTS),
    "dream": (dream.Dream, dream.VARIANTS),
    "mmin": (mmin.Mmin, mmin.VARIANTS),
    "if_mmin": (if_mmin.IfMmin, if_mmin.VARIANTS),
    "redcore": (redcore.RedCoreTraining, redcore.VARIANTS),
    "mran": (mran.Mran, mran.VARIANTS),
    "corrkd": (corrkd.Corrkd, corrkd.VARIANTS),
    "smil": (smil.Smil, smil.VARIANTS),
    "dicmor": (dicmor.Dicmor, dicmor.VARIANTS),
    "imder": (imder.Imder, imder.VARIANTS),
    "second_stage": (second_stage.SecondStage, second_stage.VARIANTS),
    "mce": (mce.Mce, mce.VARIANTS),
    "ada2i": (ada2i.Ada2i, ada2i.VARIANTS),
    "mplmm": (mplmm.Mplmm, mplmm.VARIANTS),
    "transmodality": (transmodality.Transmodality, transmodality.VARIANTS),
    "misa": (misa.Misa, misa.VARIANTS),
    "mmim": (mmim.Mmim, mmim.VARIANTS),
    "own_labels": (own_labels.OwnLabels, own_labels.VARIANTS),
    "dmd": (dmd.Dmd, dmd.VARIANTS),
    "lnln": (lnln.Lnln, lnln.VARIANTS),
    "tfr_net": (tfr_net.TfrNet, tfr_net.VARIANTS),
    "mctn": (mctn.Mctn, mctn.VARIANTS),
    "tfr_net_frames": (tfr_net_frames.FrameTfrNet, tfr_net_frames.VARIANTS),
    "glomo": (glomo.Glomo, glomo.VARIANTS),
    "euar": (euar.Euar, euar.VARIANTS),
    "confede": (confede.Confede, confede.VARIANTS),
    "clgsi": (clgsi.Clgsi, clgsi.VARIANTS),
    "mfon": (mfon.Mfon, mfon.VARIANTS),
    "deva": (deva.Deva, deva.VARIANTS),
    "conki": (conki.Conki, conki.VARIANTS),
    "umdf": (umdf.Umdf, umdf.VARIANTS),
}


def build_method(
    name: str,
    variant: str,
    options: Iterable[tuple[str, Any]],
    backbone: Backbone,
    task: Task,
    dims: dict[str, int],
    class_counts: Sequence[int] = (),
) -> plain.Plain:
    """A method over a backbone: a named variant, with options that replace its fields.

    class_counts: training utterances per class, for losses that weigh classes.

    Raises:
        InputError: an unknown name, variant or option, or a value out of range.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    kind, variants = METHODS[name]
    if variant not in variants:
        raise unknown_name(f"{name} variant", variant, variants)
    chosen = configure(
        kind.Config, name, {**dataclasses.asdict(variants[variant]), **dict(options)}.items()
    )
    method: plain.Plain = kind(backbone, task, chosen, dims, class_counts)
    return method
