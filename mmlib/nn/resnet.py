"""ResNet-18 from scratch (He et al., CVPR 2016), in stages, so that a fusion may reach between them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that a step with one value per channel passes too.

    One clip whose feature map is a single pixel has no spread to be divided by. Such a step is normalised with the
    running statistics, as in evaluation, and leaves them as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        alone = input.shape[0] * input.shape[2] * input.shape[3] == 1
        if self.training and alone:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to their input."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.first_norm = BatchNorm(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = BatchNorm(width)
        same = stride == 1 and inputs == width
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), BatchNorm(width))
        )

    def forward(self, values: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, width, h / stride, w / stride)."""
        inner = F.relu(self.first_norm(self.first(values)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(values))


class ResNet18(nn.Module):
    """The network up to its last feature map; ``stages`` are the entry and the four groups of two blocks.

    width: channels of the first group, 64 as published. Convolutions start from Kaiming's normal law over fan-out.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.width = 8 * width
        widths = [width, 2 * width, 4 * width, 8 * width]
        entry = nn.Sequential(
            nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        groups = [
            nn.Sequential(Block(before, after, 1 if depth == 0 else 2), Block(after, after, 1))
            for depth, (before, after) in enumerate(zip([width, *widths], widths, strict=False))
        ]
        self.stages = nn.ModuleList([entry, *groups])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, values: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, 8 width, h / 32, w / 32)."""
        for stage in self.stages:
            values = stage(values)
        return values
