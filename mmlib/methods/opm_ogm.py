"""OPM & OGM: on-the-fly modulation for balanced multimodal learning (Wei et al., TPAMI 2024).

On-the-fly prediction modulation (OPM) drops the embedding of the surer modality from some samples before the fusion;
on-the-fly gradient modulation is that of ``ogm_ge``, from the scores of the embeddings before dropping. The equations
follow the released code, which drops by the scores of the current batch. Only the surer modality is ever dropped, so
no sample loses both, and the released code's removal of such samples never applies. Joint settings of the two for
CREMA-D and AVE are not published; those below are the released scripts' for Kinetics-Sounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.ogm_ge import OgmGe, OgmGeConfig
from mmlib.methods.plain import Peek
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class OpmOgmConfig(OgmGeConfig):
    """The fields of OGM-GE and those of OPM. OGM is off with alpha 0 and no noise, OPM with p_exe 0.

    q_b: base of the drop probability. lambda_: how much an imbalance raises it. p_exe: share of the batches in which
    samples are dropped. start, until: shares of the epochs between which both act.
    """

    until: float = 0.6
    q_b: float = 0.5
    lambda_: float = 0.5
    p_exe: float = 0.7
    start: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("q_b", "p_exe", "start"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, str(getattr(self, name)), "a share in [0, 1]", "Correct it.")
        if not 0 <= self.lambda_ < math.inf:
            raise InputError(
                "lambda_", str(self.lambda_), "0 or more", "The released code uses 0.5."
            )


VARIANTS: dict[str, OpmOgmConfig] = {
    "paper": OpmOgmConfig(),
    "opm": OpmOgmConfig(alpha=0.0, noise=False),
    "ogm": OpmOgmConfig(p_exe=0.0),
}


class OpmOgm(OgmGe):
    """The method over a backbone that predicts from its embeddings side by side."""

    Config = OpmOgmConfig
    config: OpmOgmConfig

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Decide whether the coming epoch is modulated; the first ones are not."""
        super().start_epoch(peek)
        self.acts = self.acts and peek.epoch >= round(self.config.start * peek.epochs)
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The task loss of the prediction from what is left of the embeddings."""
        fused = self(batch)
        ratio = self.measure(fused, batch.labels)
        if self.acts and self.config.p_exe:
            q = drop_probabilities(ratio, self.config.q_b, self.config.lambda_)
            z = drop(fused.z, q, self.config.p_exe)
            hidden = torch.cat([z[m] for m in self.modalities], dim=1)
            fused = Fused(z, hidden, self.backbone.prediction(hidden))
        return self.fused_loss(batch, fused)


def drop_probabilities(ratio: Tensor, q_b: float, lambda_: float) -> Tensor:
    """OPM, q^m = q_b (1 + lambda tanh(rho^m - 1)), at most 1, where rho^m > 1, else 0; (2,) -> (2,)."""
    imbalance = torch.tanh(F.relu(ratio - 1))
    return torch.where(ratio > 1, (q_b * (1 + lambda_ * imbalance)).clamp(0, 1), 0.0)


def drop(z: Mapping[str, Tensor], q: Tensor, p_exe: float) -> dict[str, Tensor]:
    """OPM, with probability p_exe for the whole batch: z^m_i b^m_i / (1 - theta) with b^m_i ~ Bernoulli(1 - q^m).

    z: modality to (n, d_emb); q (2,), modalities alphabetical. theta is the mean of q, as embeddings are equally wide.
    The same division for both modalities leaves neither unbiased: that is how the released code has it.
    """
    names = sorted(z)
    kept = torch.rand(len(z[names[0]]), len(names), device=q.device) >= q  # (n, 2)
    executed = torch.rand((), device=q.device) < p_exe
    factors = torch.where(executed, kept / (1 - q.mean()), 1.0)
    return {m: z[m] * factors[:, i : i + 1] for i, m in enumerate(names)}
