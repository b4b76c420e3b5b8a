"""The zoo's own networks as PyTorch modules. Imports torch: import this module where it is needed only."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

STRIDES = (8, 16, 32)


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation and, unless ``activation`` is None, its activation."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, activation: type[nn.Module] | None = nn.ReLU) -> None:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), *([activation()] if activation else []))


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(inputs, width, stride=stride), ConvNorm(width, width, activation=None))
        self.shortcut = _shortcut(inputs, width, stride=stride)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2015)."""

    GROWTH = 4

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = self.GROWTH * width
        self.body = nn.Sequential(
            ConvNorm(inputs, width, 1), ConvNorm(width, width, stride=stride), ConvNorm(width, outputs, 1, activation=None)
        )
        self.shortcut = _shortcut(inputs, outputs, stride=stride)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, *, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and inputs == outputs else ConvNorm(inputs, outputs, 1, stride=stride, activation=None)


class DigitsResNet(nn.Module):
    """``image`` [n, 1, 8, 8] -> ``scores`` [n, 10]."""

    WIDTHS, DEPTH = (32, 64, 128), 2

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = self.WIDTHS[0]
        for stage, width in enumerate(self.WIDTHS):
            for block in range(self.DEPTH):
                blocks.append(Basic(inputs, width, stride=2 if stage and not block else 1))
                inputs = width
        self.body = nn.Sequential(ConvNorm(1, self.WIDTHS[0]), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))

    def forward(self, image: Any) -> Any:
        return self.body(image)


class ThinResNet50(nn.Module):
    """ResNet-50 of a quarter of the width, channels last as in TensorFlow: ``image`` [n, h, w, 3] -> ``scores`` [n, 10]."""

    WIDTH, DEPTHS = 16, (3, 4, 6, 3)

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = self.WIDTH
        for stage, depth in enumerate(self.DEPTHS):
            for block in range(depth):
                width = self.WIDTH << stage
                blocks.append(Bottleneck(inputs, width, stride=2 if stage and not block else 1))
                inputs = Bottleneck.GROWTH * width
        self.stem = ConvNorm(3, self.WIDTH, 7, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, 10)

    def forward(self, image: Any) -> Any:
        return self.head(self.blocks(self.pool(self.stem(image.permute(0, 3, 1, 2)))).mean((2, 3)))


class MnistCnn(nn.Module):
    """The form that the MNIST weights of the package ccexam belong to: ``image`` [n, 1, 28, 28] -> ``scores`` [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.features = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, image: Any) -> Any:
        return self.classifier(self.features(image).flatten(1))


class SplitBlock(nn.Module):
    """Half the channels go through a chain of residual blocks; all stations of the chain are joined (the C2f of YOLOv8)."""

    def __init__(self, inputs: int, outputs: int, *, depth: int) -> None:
        super().__init__()
        self.half = half = outputs // 2
        self.enter = ConvNorm(inputs, outputs, 1, activation=nn.SiLU)
        self.chain = nn.ModuleList(
            nn.Sequential(ConvNorm(half, half, activation=nn.SiLU), ConvNorm(half, half, activation=nn.SiLU)) for _ in range(depth)
        )
        self.leave = ConvNorm(half * (2 + depth), outputs, 1, activation=nn.SiLU)

    def forward(self, x: Any) -> Any:
        stations = list(self.enter(x).split(self.half, 1))
        for block in self.chain:
            stations.append(stations[-1] + block(stations[-1]))
        return self.leave(torch.cat(stations, 1))


class PyramidPool(nn.Module):
    """The same max pooling once, twice and three times, joined (the SPPF of YOLOv5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvNorm(channels, channels // 2, 1, activation=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvNorm(2 * channels, channels, 1, activation=nn.SiLU)

    def forward(self, x: Any) -> Any:
        stations = [self.enter(x)]
        for _ in range(3):
            stations.append(self.pool(stations[-1]))
        return self.leave(torch.cat(stations, 1))


class Branch(nn.Sequential):
    """One half of the head on one level."""

    def __init__(self, inputs: int, outputs: int, *, bias: float) -> None:
        last = nn.Conv2d(inputs, outputs, 1)
        nn.init.constant_(last.bias, bias)
        super().__init__(ConvNorm(inputs, inputs, activation=nn.SiLU), last)


class Detector(nn.Module):
    """A one-stage detector: ``images`` [n, 3, h, w] 0 to 1 -> [n, 4 + classes, cells]: centre and size in pixels, and scores."""

    WIDTHS = (16, 32, 64, 128, 192)
    RARE = -4.6
    """Logit of a score of 0.01, so that the many empty cells do not drown the first steps (Lin et al. 2017)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        first, second, *levels = self.WIDTHS
        self.stem = nn.Sequential(_halving(3, first), _halving(first, second), SplitBlock(second, second, depth=1))
        self.down = nn.ModuleList(
            nn.Sequential(_halving(inputs, width), SplitBlock(width, width, depth=depth))
            for inputs, width, depth in zip((second, *levels), levels, (2, 2, 1), strict=False)
        )
        self.pool = PyramidPool(levels[-1])
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        pairs = list(itertools.pairwise(levels))
        self.merge_up = nn.ModuleList(SplitBlock(fine + coarse, fine, depth=1) for fine, coarse in reversed(pairs))
        self.halve = nn.ModuleList(_halving(fine, fine) for fine, _ in pairs)
        self.merge_down = nn.ModuleList(SplitBlock(fine + coarse, coarse, depth=1) for fine, coarse in pairs)
        self.sides = nn.ModuleList(Branch(width, 4, bias=1.0) for width in levels)
        self.kinds = nn.ModuleList(Branch(width, classes, bias=self.RARE) for width in levels)

    def forward(self, images: Any) -> Any:
        centres, sides, logits = self.raw(images)
        low, high = centres - sides[:, :2], centres + sides[:, 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 1)

    def raw(self, images: Any) -> tuple[Any, Any, Any]:
        """Cell centres [2, cells], distances from there to the four sides [n, 4, cells], in pixels, and logits [n, classes, cells]."""
        maps = self._pyramid(images)
        sides = [nn.functional.softplus(branch(x)) * stride for branch, x, stride in zip(self.sides, maps, STRIDES, strict=True)]
        logits = [branch(x) for branch, x in zip(self.kinds, maps, strict=True)]
        centres = [_centres(int(x.shape[2]), int(x.shape[3]), stride) for x, stride in zip(maps, STRIDES, strict=True)]
        joined = [torch.cat([x.flatten(2) for x in parts], 2) for parts in (sides, logits)]
        return torch.cat(centres, 1), joined[0], joined[1]

    def _pyramid(self, images: Any) -> list[Any]:
        fine = self.down[0](self.stem(images))
        middle = self.down[1](fine)
        coarse = self.pool(self.down[2](middle))
        middle = self.merge_up[0](torch.cat([self.up(coarse), middle], 1))
        fine = self.merge_up[1](torch.cat([self.up(middle), fine], 1))
        middle = self.merge_down[0](torch.cat([self.halve[0](fine), middle], 1))
        coarse = self.merge_down[1](torch.cat([self.halve[1](middle), coarse], 1))
        return [fine, middle, coarse]


def _halving(inputs: int, outputs: int) -> ConvNorm:
    return ConvNorm(inputs, outputs, stride=2, activation=nn.SiLU)


def _centres(height: int, width: int, stride: int) -> Any:
    """x and y of every cell's centre in pixels [2, height * width]."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()]) * stride
