"""CKA against the formulas of its papers, and what it does not see; the layers of each kind of encoder."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from contrastkit.data import ArraySource
from contrastkit.errors import UserError
from contrastkit.measure import similarity
from contrastkit.measure.similarity import Cka, CkaSum, cka, cka_chart, gram, hsic, layers
from contrastkit.parts.build import build_encoder


def activations(n: int, *widths: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    base = torch.randn(n, 3, generator=g).double()
    return [base @ torch.randn(3, w, generator=g).double() + torch.randn(n, w, generator=g).double() for w in widths]


def of(x: Tensor, y: Tensor, batch: int | None = None) -> float:
    total = CkaSum()
    for a, b in zip(x.split(batch or len(x)), y.split(batch or len(y)), strict=True):
        total.add(gram(a)[None], gram(b)[None])
    return total.values().item()


def song(K: np.ndarray, L: np.ndarray) -> float:
    """The unbiased HSIC of Song et al. (2012), Eq. 5, with loops."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    trace = sum(K[i, j] * L[j, i] for i in range(n) for j in range(n))
    both = sum(K[i, j] * L[j, k] for i in range(n) for j in range(n) for k in range(n))
    return (trace + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


def test_hsic_is_songs() -> None:
    x, y = activations(9, 4, 6)
    K, L = torch.stack([gram(x), gram(y)]), gram(y + 2)[None]
    expected = [[song(K[i].numpy(), L[0].numpy())] for i in range(2)]
    torch.testing.assert_close(hsic(K, L), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_minibatches_are_averaged_before_the_division() -> None:
    x, y = activations(24, 5, 7)
    sums = np.zeros(3)
    for first in range(0, 24, 8):
        K, L = (gram(z[first : first + 8]).numpy() for z in (x, y))
        sums += song(K, L), song(K, K), song(L, L)
    assert of(x, y, 8) == pytest.approx(sums[0] / math.sqrt(sums[1] * sums[2]), rel=1e-9)


def test_rotations_shifts_and_scales_are_not_seen() -> None:
    x, other = activations(40, 6, 6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert of(x, 3 * x @ rotation + 5, 10) == pytest.approx(1, abs=1e-9)
    assert of(x, x @ torch.diag(torch.arange(1.0, 7).double())) < 0.999 > of(x, other)


def test_unrelated_layers_have_about_0_whatever_their_width() -> None:
    """Where CKA without correction is about 1: Kornblith's is biased for more dimensions than images."""
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(64, 2000, generator=g) for _ in range(2))
    assert abs(of(x, y)) < 0.05
    assert math.isnan(of(x, torch.ones(64, 3)))


def test_a_kernel_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 3, 4, 2)
    monkeypatch.setattr(similarity, "COLUMNS", 7)
    flat = x.flatten(1).double()
    torch.testing.assert_close(gram(x), flat @ flat.T)


def photos(n: int, side: int = 16) -> ArraySource:
    g = torch.Generator().manual_seed(2)
    return ArraySource("photos", torch.randint(0, 256, (n, 3, side, side), generator=g, dtype=torch.uint8))


def compared(first: nn.Module, second: nn.Module, n: int = 24, batch: int = 12) -> Cka:
    how = {"batch": batch, "workers": 0, "max_bad": 0.0, "device": "cpu"}
    return cka([("a", first, 16), ("b", second, 16)], photos(n), **how)  # type: ignore[arg-type]


def test_the_layers_of_two_encoders() -> None:
    torch.manual_seed(0)
    first, second = (build_encoder("tiny", channels=3, size=16).eval() for _ in range(2))
    own, result = compared(first, first), compared(first, second, n=25)
    names = ("block 1", "block 2", "block 3", "features")
    assert own.layers == own.other_layers == result.layers == names
    assert [own.values[i][i] for i in range(4)] == pytest.approx([1] * 4)
    assert (own.images, result.images) == (24, 25)
    x = photos(25).images / 255
    total = CkaSum()
    with torch.no_grad():
        for part in x.split(9):  # three batches of at most 12
            K = gram(first(part))
            total.add(K[None], gram(second.trunk.maps(second.normalise(part)))[None])
    assert result.values[3][2] == pytest.approx(total.values().item(), rel=1e-4)


def test_a_batch_too_small_to_be_compared_is_left_out() -> None:
    encoder = build_encoder("tiny", channels=3, size=16).eval()
    assert compared(encoder, encoder, n=10, batch=4).images == 8, "4, 4 and 2"
    for n, batch in ((9, 4), (5, 1), (7, 4), (11, 5)):
        assert compared(encoder, encoder, n=n, batch=batch).images >= 4, "no batch of fewer than four"
    with pytest.raises(UserError, match="^--cka compares four images or more, not 3$"):
        compared(encoder, encoder, n=3)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"name": "resnet18"}, ["layer1", "layer2", "layer3", "layer4"]),
        ({"name": "resnet18", "stages": 3}, ["layer1", "layer2", "layer3"]),
        ({"name": "tiny", "projector_layers": 1}, ["block 1", "block 2", "block 3"]),
        ({"name": "tiny", "colour": "lab"}, [f"{view} block {i}" for view in ("L", "ab") for i in (1, 2, 3)]),
        ({"name": "tiny", "patch": 8, "stride": 4}, ["block 1", "block 2", "block 3"]),
        ({"name": "timm:test_vit"}, [f"block {i}" for i in range(1, 7)]),
    ],
)
def test_the_layers_of_each_kind_of_encoder(options: dict[str, object], names: list[str]) -> None:
    encoder = build_encoder(channels=3, size=16, **options).eval()  # type: ignore[arg-type]
    assert list(layers(encoder)) == names
    assert layers(nn.Identity()) == {}
    if options["name"] == "tiny":
        assert compared(encoder, encoder, n=8).values[0][0] == pytest.approx(1)


def test_the_chart(tmp_path: Path) -> None:
    names = tuple(f"block {i}" for i in range(1, 13))
    values = tuple(tuple(1 / (1 + abs(i - j)) for j in range(12)) for i in range(12))
    cka_chart(tmp_path / "x.png", Cka("runs/a", "runs/b", 500, names, names, values))
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.format == "PNG" and picture.width == 1200
