"""The ResNets for CIFAR (He et al. 2015, arXiv:1512.03385, Sec. 4.2), which torchvision and timm do not have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CIFAR_RESNETS = {f"cifar-resnet{depth}": depth for depth in (8, 20, 32, 44, 56, 110)}  # name -> weighted layers


class CIFARResNet(nn.Module):
    """A 3x3 convolution, then three stages of n blocks of 16, 32 and 64 channels, depth = 6 n + 2.

    Shortcuts have no parameters: they skip every other pixel and pad the new channels with zeros (option A, used in the
    paper for CIFAR). Names of the tensors and initialisation are those of akamaster/pytorch_resnet_cifar10.
    """

    widths = (16, 32, 64)

    def __init__(self, depth: int, channels: int, width: float = 1.0) -> None:
        super().__init__()
        n, widths = (depth - 2) // 6, [round(width * full) for full in self.widths]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(n, widths[0], widths[0])
        self.layer2 = _stage(n, widths[0], widths[1])
        self.layer3 = _stage(n, widths[1], widths[2])
        self.dim = widths[2]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> [N, dim, H / 4, W / 4]."""
        return self.layer3(self.layer2(self.layer1(torch.relu_(self.bn1(self.conv1(x))))))


def _stage(n: int, channels: int, width: int) -> nn.Sequential:
    first = PaddedBlock(channels, width, stride=1 if width == channels else 2)
    return nn.Sequential(first, *(PaddedBlock(width, width, stride=1) for _ in range(n - 1)))


class PaddedBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.new = stride, width - channels  # channels that the shortcut pads

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(x)))))
        if self.new or self.stride > 1:
            before = self.new // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new - before))
        return torch.relu_(y + x)
