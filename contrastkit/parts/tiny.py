"""``tiny``, a small ResNet for CPUs."""

import torch
from torch import Tensor, nn


class TinyResNet(nn.Module):
    """A ResNet for small images and two CPU cores: a 4x4 stem that halves the image, then three stages of one block.

    Halving immediately costs little accuracy and saves three quarters of the arithmetic, so a CPU can see more images.
    """

    widths = (32, 64, 128)

    def __init__(self, channels: int, width: float = 1.0) -> None:
        super().__init__()
        widths = [round(width * full) for full in self.widths]
        first, self.dim = widths[0], widths[-1]
        self.conv1 = nn.Conv2d(channels, first, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(before, width, stride=1 if width == before else 2)
                for before, width in zip((first, *widths), widths, strict=False)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> [N, dim, H / 8, W / 8]."""
        return self.blocks(torch.relu_(self.bn1(self.conv1(x))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, Fig. 2)."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(y)) + self.shortcut(x))
