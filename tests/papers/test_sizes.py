"""Parameters of published systems at full size, counted from layers of torch's that hold no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import nn

from mmlib.backbones.euar import EUAR, EUARConfig
from mmlib.backbones.glomo import GLoMo, GLoMoConfig
from mmlib.experiments import sizes
from mmlib.experiments.arithmetic import RIGHT, WRONG, checks

DIMS = {"audio": 74, "text": 768, "vision": 47}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def stack(width: int, wide: int, depth: int, norm: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 4, wide, device="meta")
    after = nn.LayerNorm(width, device="meta") if norm else None
    return nn.TransformerEncoder(layer, depth, after, enable_nested_tensor=False)


def bert() -> tuple[nn.Module, ...]:
    with torch.device("meta"):
        embeddings = [nn.Embedding(n, 768) for n in (30522, 512, 2)]
        return *embeddings, nn.LayerNorm(768), stack(768, 3072, 12, norm=False)


def perceptron(widths: Sequence[int], norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers.append(nn.Linear(a, b, device="meta"))
        if norm:
            layers.append(nn.LayerNorm(b, device="meta"))
    return nn.Sequential(*layers)


def glomo(width: int, depth: int, vision: int) -> int:
    """GLoMo as it was released, on three modalities."""
    with torch.device("meta"):
        first = [nn.Linear(768, width)]
        convolutions = [nn.Conv1d(d, width, 3, bias=False) for d in (768, 74, vision)]
        encoders = [stack(width, 4 * width, depth, norm=True) for _ in range(2)]
        experts = [perceptron((3 * width, width, width)) for _ in range(9)]
        gates = [nn.Linear(3 * width, 3, bias=False) for _ in range(6)]
        mixer = stack(width, 2048, 2, norm=False)
        weights = [perceptron((3 * width, width, 3)) for _ in range(2)]
        joint = [nn.Linear(2 * width, width) for _ in range(4)]
        output = nn.Linear(2 * width, 1)
    parts = (*bert(), *first, *convolutions, *encoders, *experts, *gates, mixer, *weights, *joint)
    return count(*parts, output)


def euar(vision: int) -> int:
    """EUAR's described layers."""
    with torch.device("meta"):
        convolutions = [nn.Conv1d(d, 72, 3, bias=False) for d in (768, 74, vision)]
        encoders = [stack(72, 288, 3, norm=True) for _ in range(2)]
        experts = [nn.Linear(72, 72) for _ in range(3 * 4 * 2)]
        gates = [nn.Linear(72, 4) for _ in range(3)]
        head = perceptron((216, 72, 128, 256, 128), norm=True)
        pooler, output = nn.Linear(768, 768), nn.Linear(128, 1)
    return count(*bert(), pooler, *convolutions, *encoders, *experts, *gates, head, output)


@pytest.mark.parametrize(
    ("setting", "total"), [((48, 4, 47), 109_818_887), ((192, 3, 35), 115_949_447)]
)
def test_glomo_by_its_layers(setting: tuple[int, int, int], total: int) -> None:
    assert sum(sizes.glomo(*setting).values()) == glomo(*setting) == total


@pytest.mark.parametrize(("vision", "total"), [(35, 110_436_422), (47, 110_439_014)])
def test_euar_by_its_layers_but_for_what_is_inferred(vision: int, total: int) -> None:
    parts = sizes.euar(vision=vision)
    inferred = [name for name in parts if "inferred" in name or "unused" in name]
    assert len(inferred) == 2 and sum(parts.values()) == total
    assert sum(n for name, n in parts.items() if name not in inferred) == euar(vision)
    with torch.device("meta"):
        further = nn.Linear(768, 216), nn.Linear(216, 1)
    assert sum(parts[name] for name in inferred) == count(*further) + 72


def test_our_networks_have_these_parts_at_that_size() -> None:
    with torch.device("meta"):
        ours = GLoMo(DIMS, 1, 0, GLoMoConfig(hidden=48, wide=2048))
        theirs = sizes.glomo()
        assert count(ours.experts) == theirs["experts"]
        assert count(ours.blocks) == theirs["mixer"]
        assert count(ours.of_global, ours.of_local) == theirs["weights"]
        assert count(ours.joint, ours.guided, ours.prediction) == theirs["joint and output"]
        sure = EUAR(DIMS, 1, 0, EUARConfig(hidden=72))
    assert count(sure.mean, sure.log_variance, sure.gate) == sizes.euar()["experts"]
    head = count(perceptron((216, 72, 144, 288, 144), norm=True), nn.Linear(144, 1))
    assert count(sure.layers, sure.norms, sure.prediction) == head


def test_ebmcs_table_prints_one_of_them_and_the_other_with_a_digit_changed() -> None:
    lines = checks("ebmc").query("kind == 'parameters'").set_index("row")
    assert lines["verdict"].to_dict() == {"GLoMo": WRONG, "EUAR": RIGHT}
    printed, counted = (str(int(lines[x].to_dict()["GLoMo"])) for x in ("printed", "recomputed"))
    assert sum(a != b for a, b in zip(printed, counted, strict=True)) == 1
    assert int(printed) - int(counted) == 20_000_000
    inferred = {row: "inferred" in rule for row, rule in lines["rule"].to_dict().items()}
    assert inferred == {"GLoMo": False, "EUAR": True}
