"""What stands between an encoder and a loss."""

from torch import Tensor, nn

from contrastkit.parts.encoder import Encoder


class Tower(nn.Module):
    """An encoder, then a head: images [N, channels, H, W] in [0, 1] -> [N, C]. The encoder remains after training."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))


def mlp(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Linear-ReLU-Linear, MoCo v2's head (Chen et al. 2020, Sec. 3); with ``hidden`` 0 one linear layer, v1's."""
    if not hidden:
        return nn.Sequential(nn.Linear(dim, out))
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
