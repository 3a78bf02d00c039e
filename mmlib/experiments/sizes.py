"""How many parameters two published systems have at full size, by their layers: rows of EBMC's Table 6.

Described in BASELINES_MM2 20 and 21. GLoMo's setting is that of its README for CMU-MOSI; a further one, for CMU-MOSEI,
is there to hold the derivation. What the description of EUAR does not list is named so: these two parts were found
from the printed total, and say nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

WIDTH, WIDE, WORDS, PLACES, KINDS, DEPTH = 768, 3072, 30522, 512, 2, 12  # BERT base, uncased
AUDIO = 74  # COVAREP
Parts = dict[str, int]


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """A linear layer's; a convolution over 3 frames has three times the inputs."""
    return inputs * outputs + outputs * bias


def norm(width: int) -> int:
    """A layer norm's."""
    return 2 * width


def layer(width: int, wide: int) -> int:
    """A transformer layer's: query, key, value and output maps, a perceptron, two norms."""
    attention = 4 * linear(width, width)
    return attention + linear(width, wide) + linear(wide, width) + 2 * norm(width)


def encoder(width: int, depth: int) -> int:
    """MulT's encoder's: layers four times as wide inside, and a norm at the end."""
    return depth * layer(width, 4 * width) + norm(width)


def perceptron(widths: Sequence[int]) -> int:
    """Linear layers, one after the other."""
    return sum(linear(a, b) for a, b in pairwise(widths))


def bert(pooler: bool) -> int:
    """BERT's; pooler: the layer on its first token."""
    embeddings = (WORDS + PLACES + KINDS) * WIDTH + norm(WIDTH)
    return embeddings + DEPTH * layer(WIDTH, WIDE) + pooler * linear(WIDTH, WIDTH)


def glomo(width: int = 48, depth: int = 4, vision: int = 47) -> Parts:
    """GLoMo's parts: 3 experts of 3 segments for every modality, 2 layers over 6 tokens, all as it was released."""
    inputs, experts = 3 * width, 3
    gates = 2 * linear(inputs, experts, bias=False)
    return {
        "BERT without pooler": bert(pooler=False),
        "text": linear(WIDTH, width) + linear(3 * WIDTH, width, bias=False),
        "audio and vision": sum(linear(3 * d, width, bias=False) for d in (AUDIO, vision))
        + 2 * encoder(width, depth),
        "experts": 3 * (experts * perceptron((inputs, width, width)) + gates),
        "mixer": 2 * layer(width, 2048),
        "weights": 2 * perceptron((inputs, width, 3)),
        "joint and output": 4 * linear(2 * width, width) + linear(2 * width, 1),
    }


def euar(width: int = 72, depth: int = 3, vision: int = 35) -> Parts:
    """EUAR's parts: 4 experts with mean and variance for every modality."""
    experts, head = 4, (3 * width, width, 128, 256, 128)
    convolutions = sum(linear(3 * d, width, bias=False) for d in (WIDTH, AUDIO, vision))
    return {
        "BERT": bert(pooler=True),
        "convolutions": convolutions,
        "audio and vision": 2 * encoder(width, depth),
        "experts": 3 * (experts * 2 * linear(width, width) + linear(width, experts)),
        "head": perceptron((*head, 1)) + sum(norm(x) for x in head[1:]),
        "not listed, inferred from the total: a bias of the text's convolution": width,
        "and an unused decoder 768-216-1": perceptron((WIDTH, 3 * width, 1)),
    }


PRINTED = {("ebmc", "table6"): {"GLoMo": glomo, "EUAR": euar}}
