"""DREAM's network (ledger 2.1, Eqs 5-11): enhance the modalities that contribute nothing, weigh all, predict.

It is told each modality's prediction shift score (PSS) and which ones to enhance by the method ``dream``; without these
it is the same network with nothing enhanced and fused by the predicted weights alone. A frame counts as seen if it is
not zero and its modality is observed; only frames that count are attended to. No step knows another sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.crossing import Crossing
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import FrameConv, as_frames

FUSIONS = ("simplex", "literal", "none")
Frames = dict[str, Tensor]


@dataclass(frozen=True)
class DreamNetConfig:
    """Sizes; the paper gives hidden (d), repeats (D) and, by its parameter counts, a kernel of one frame.

    heads: of every attention. shared_repeats: all repeats have the same weights. sequential: a modality is enhanced
    from the ones that the same repeat has enhanced before it, instead of all at once (B8). dropout: before the
    prediction. The paper says nothing on these four.
    """

    hidden: int = 200
    repeats: int = 2
    heads: int = 4
    kernel: int = 1
    shared_repeats: bool = False
    sequential: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hidden", "repeats", "heads"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"dream {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % self.heads:
            raise InputError(
                "dream hidden", str(self.hidden), f"a multiple of {self.heads} heads", "Change one."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("dream dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


class DreamNet(Backbone):
    """The network over frames (n, t_m, d_m), or vectors as one frame; any number of modalities.

    alone: whether it may predict without being told anything of contributions; the method ``dream`` forbids that.
    """

    Config = DreamNetConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: DreamNetConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.alone = True
        self.encoders = nn.ModuleDict(
            {m: FrameConv(dims[m], width, config.kernel) for m in self.modalities}
        )
        own = 1 if config.shared_repeats else config.repeats
        self.enhancing = nn.ModuleList([Enhancement(self.modalities, config) for _ in range(own)])
        crossed = self.modalities if len(dims) > 1 else ()
        self.crossings = nn.ModuleDict({m: Crossing(width, config.heads) for m in crossed})
        self.weigh = nn.Linear(len(dims) * width, len(dims))
        self.embedding_dim = width
        self.prediction = nn.Linear(width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Without contributions: nothing enhanced, fused by the predicted weights.

        Raises:
            InputError: under the method ``dream``, which has contributions to give.
        """
        if not self.alone:
            raise InputError(
                "dream's network",
                "a prediction without contributions",
                "one through the method",
                "Call the method, or its network's run.",
            )
        return self.run(batch, features)[0]

    def run(
        self,
        batch: Batch,
        features: Mapping[str, Tensor],
        pss: Tensor | None = None,
        targets: Tensor | None = None,
        fusion: str = "none",
    ) -> tuple[Fused, Tensor]:
        """All of the network; z^m is h_m of section 3.5.

        pss: (n, M), and targets (n, M) bool: what to enhance, nothing where None. fusion: one of ``FUSIONS``.
        Returns the prediction and the preliminary weights before any softmax, (n, M).
        """
        x, seen = self.enter(batch, features)
        whole = filled(seen)
        if targets is not None:
            for repeat in range(self.config.repeats):
                x, seen = self.enhancing[repeat % len(self.enhancing)](x, seen, whole, targets)
        z = self.cross(x, seen, whole)
        raw = self.weigh(torch.cat([z[m] for m in self.modalities], dim=1))
        shares = fusion_weights(raw, torch.zeros_like(raw) if pss is None else pss, fusion)
        mixed = (torch.stack([z[m] for m in self.modalities], dim=1) * shares[:, :, None]).sum(
            dim=1
        )  # Eq. 11
        hidden = dropout(mixed, self.config.dropout, self.training)
        return Fused(z, hidden, self.prediction(hidden)), raw

    def enter(self, batch: Batch, features: Mapping[str, Tensor]) -> tuple[Frames, Frames]:
        """The convolved frames x_m, (n, t_m, d), and which of them count, (n, t_m) bool.

        What a missing modality holds goes no further than here.
        """
        x, seen = {}, {}
        for index, m in enumerate(self.modalities):
            frames = as_frames(features[m])
            given = torch.where(batch.observed[:, index, None, None], frames, frames.new_zeros(()))
            x[m], seen[m] = self.encoders[m](given), (given != 0).any(dim=2)
        return x, seen

    def cross(self, x: Frames, seen: Frames, whole: Frames) -> Frames:
        """h_m = mean over time of x_m + CA(x_m; the others), modality to (n, d) (B12); the mean is over ``whole``."""
        embeddings = {}
        for m in self.modalities:
            crossed = x[m]
            others = [o for o in self.modalities if o != m]
            if others:
                keys = torch.cat([x[o] for o in others], 1)
                keys_seen = torch.cat([seen[o] for o in others], 1)
                crossed = crossed + self.crossings[m](crossed, keys, keys_seen[:, None])
            counts = whole[m][:, :, None]
            embeddings[m] = (crossed * counts).sum(dim=1) / counts.sum(dim=1)
        return embeddings


class Enhancement(nn.Module):
    """One repeat of Eqs 5-9, for all targets at once from what the repeat before left (B8).

    sees: (M, M) bool, attention to block: the first sees all, another the target's block, the first, and its own.
    """

    sees: Tensor

    def __init__(self, modalities: tuple[str, ...], config: DreamNetConfig) -> None:
        super().__init__()
        self.modalities, self.sequential, count = modalities, config.sequential, len(modalities)
        self.crossings = nn.ModuleDict(
            {m: Crossing(config.hidden, config.heads, count) for m in modalities}
        )
        self.norms = nn.ModuleDict({m: nn.LayerNorm(config.hidden) for m in modalities})
        sees = torch.eye(count, dtype=torch.bool)
        sees[0], sees[:, 0] = True, True
        self.register_buffer("sees", sees, persistent=False)

    def forward(
        self, x: Frames, seen: Frames, whole: Frames, targets: Tensor
    ) -> tuple[Frames, Frames]:
        """x: modality to (n, t_m, d); seen, whole: to (n, t_m) bool; targets (n, M) bool: the new x and seen.

        Only targets change. Their frames in ``whole`` count from then on.
        """
        made, counted = dict(x), dict(seen)
        for index, m in enumerate(self.modalities):
            from_x, from_seen = (made, counted) if self.sequential else (x, seen)
            wanted = targets[:, index]
            if free_to_ask(wanted):  # less work
                rows = wanted.nonzero()[:, 0]
                enhanced = self.enhanced(
                    m,
                    {name: from_x[name].index_select(0, rows) for name in self.modalities},
                    {name: from_seen[name].index_select(0, rows) for name in self.modalities},
                )
                made[m] = x[m].index_copy(0, rows, enhanced)
            else:  # how many are targets is not known to the host, so all are computed
                enhanced = self.enhanced(m, from_x, from_seen)
                made[m] = torch.where(wanted[:, None, None], enhanced, x[m])
            counted[m] = torch.where(wanted[:, None], whole[m], seen[m])
        return made, counted

    def enhanced(self, modality: str, x: Frames, seen: Frames) -> Tensor:
        """x'_m = LN(x_m + I_g + sum of I_k), (n, t_m, d) (Eqs 5-9; contexts are joined in time, B10).

        The first of M attentions sees every modality (Eq. 7), each other one the target and one more (Eq. 8).
        """
        names = [modality, *(o for o in self.modalities if o != modality)]
        visible = [
            seen[name][:, None] & self.sees[:, place, None] for place, name in enumerate(names)
        ]  # (n, M, t)
        contexts = torch.cat([x[name] for name in names], dim=1)
        crossed = self.crossings[modality](x[modality], contexts, torch.cat(visible, dim=2))
        normed: Tensor = self.norms[modality](x[modality] + crossed)
        return normed


def free_to_ask(values: Tensor) -> bool:
    """Whether the host may read values without waiting for the device to finish all that it was given."""
    return values.device.type == "cpu"


def filled(seen: Frames) -> Frames:
    """The frames that count, and for a modality without any as many as the sample's fullest one has: one at the least.

    Such frames are equal, made from nothing but weights, so their number is all that matters; this one does not
    change with padding.
    """
    most = torch.stack([x.sum(dim=1) for x in seen.values()]).amax(dim=0).clamp(min=1)
    return {
        m: torch.where(
            x.any(dim=1, keepdim=True), x, torch.arange(x.shape[1], device=x.device) < most[:, None]
        )
        for m, x in seen.items()
    }


def fusion_weights(raw: Tensor, pss: Tensor, fusion: str) -> Tensor:
    """w' = softmax(w (PSS + 1)), (n, M) (Eq. 10).

    w is softmax(raw), so that a larger PSS never lowers a weight (B6), or ``literal``: raw itself. ``none``: w alone.

    Raises:
        InputError: an unknown fusion.
    """
    if fusion not in FUSIONS:
        raise unknown_name("dream fusion", fusion, FUSIONS)
    simplex = raw.softmax(dim=1)
    if fusion == "none":
        return simplex
    return ((simplex if fusion == "simplex" else raw) * (pss + 1)).softmax(dim=1)
