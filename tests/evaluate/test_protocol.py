"""The paper's linear protocol compared with a plain loop; the encoder does not change."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.augment import View
from contrastkit.data import ArraySource, Loader, plain_batches
from contrastkit.errors import UserError
from contrastkit.evaluate.protocol import moco_protocol
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder


def shades(n: int, seed: int, *, channels: int = 3, digits: bool = False) -> ArraySource:
    """Noise on three levels of brightness, the classes, which crops preserve."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    x = 80 * y[:, None, None, None] + torch.randint(0, 90, (n, channels, 16, 16), generator=g)
    return ArraySource("shades", x.byte(), y, orientation_matters=digits)


def encoder(channels: int = 3) -> Encoder:
    torch.manual_seed(0)
    f = build_encoder("tiny", channels=channels, size=16)
    for _ in range(5):
        f(torch.rand(32, channels, 16, 16))
    return f


@pytest.mark.parametrize("digits", [False, True])
def test_against_a_plain_loop(digits: bool) -> None:
    f, train, test = encoder(), shades(100, 1, digits=digits), shades(40, 2)
    result = moco_protocol(f, train, test, size=16, n_classes=3, lr=0.1, epochs=5, batch=32, seed=4)

    view = View(size=16, crop_min=0.08, flip_p=0.0 if digits else 0.5, jitter_p=0.0, gray_p=0.0, blur_p=0.0)
    loader = Loader(train, (view,), batch=32, seed=4)
    f.eval()
    W = 0.01 * torch.randn(3, f.dim, generator=torch.Generator().manual_seed(4))
    b = torch.zeros(3)
    vW, vb = torch.zeros_like(W), torch.zeros_like(b)
    for epoch, lr in enumerate((0.1, 0.1, 0.1, 0.01, 0.001)):  # x 0.1 at 60 and 80 %
        losses = []
        for batch in loader.batches(epoch * loader.steps_per_epoch, (epoch + 1) * loader.steps_per_epoch):
            with torch.no_grad():
                x = f(batch.views[0])
            logits = x @ W.T + b
            losses.append(F.cross_entropy(logits, batch.label).item())
            error = (logits.softmax(1) - F.one_hot(batch.label, 3)) / len(x)
            vW, vb = 0.9 * vW + error.T @ x, 0.9 * vb + error.sum(0)
            W, b = W - lr * vW, b - lr * vb
        assert result.losses[epoch] == pytest.approx(sum(losses) / len(losses), rel=1e-3)
    with torch.no_grad():
        guesses = torch.cat([(f(p.views[0]) @ W.T + b).argmax(1) for p in plain_batches(test, size=16)])
    assert result.accuracy.top1 == pytest.approx((guesses == test.labels).float().mean().item())
    assert result.accuracy.top1 > 0.6 and result.accuracy.n == 40


def test_the_encoder_is_bit_equal_and_in_its_old_mode() -> None:
    f = encoder().train()
    before = {k: v.clone() for k, v in f.state_dict().items()}
    moco_protocol(f, shades(40, 1), shades(20, 2), size=16, n_classes=3, epochs=1, batch=16)
    assert all(torch.equal(v, before[k]) for k, v in f.state_dict().items())
    assert f.training and all(p.requires_grad and p.grad is None for p in f.parameters())


def test_an_encoder_that_changes_is_an_error() -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Buffer(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(1)
            return x.mean((2, 3))

    f = Encoder(Restless(), dim=3, channels=3, stem="own")
    with pytest.raises(RuntimeError, match="changed.*trunk.seen"):
        moco_protocol(f, shades(40, 1), shades(20, 2), size=16, n_classes=3, epochs=1, batch=16)


def test_gray_images_and_missing_labels() -> None:
    train = shades(40, 1, channels=1)
    train.labels[::2] = -1
    epochs: list[int] = []
    result = moco_protocol(
        encoder(),
        train,
        shades(20, 2, channels=1),
        size=16,
        n_classes=3,
        epochs=2,
        on_epoch=lambda e, _: epochs.append(e),
    )
    assert result.accuracy.n == 20 and epochs == [0, 1]
    train.labels.fill_(-1)
    with pytest.raises(UserError, match="needs labels"):
        moco_protocol(encoder(), train, shades(20, 2), size=16, n_classes=3)
    with pytest.raises(UserError, match="3 channels, the encoder takes 1"):
        moco_protocol(encoder(channels=1), shades(40, 1), shades(20, 2), size=16, n_classes=3)
