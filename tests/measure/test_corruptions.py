"""Corruptions against the published constants and formulas, pixel by pixel."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from torch import Tensor

from contrastkit.augment.plain import plain_view
from contrastkit.data import ArraySource, plain_batches
from contrastkit.errors import UserError
from contrastkit.measure.corruptions import CORRUPTIONS, CorruptedSource, constants_of, corrupted
from contrastkit.rng import uniform

# Typed in from make_cifar_c.py and imagenet_c/corruptions.py.
PUBLISHED = {
    "CIFAR-10-C": {
        "noise": [0.04, 0.06, 0.08, 0.09, 0.10],
        "blur": [0.4, 0.6, 0.7, 0.8, 1],
        "jpeg": [80, 65, 58, 50, 40],
        "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
        "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    },
    "ImageNet-C": {
        "noise": [0.08, 0.12, 0.18, 0.26, 0.38],
        "blur": [1, 2, 3, 4, 6],
        "jpeg": [25, 18, 15, 10, 7],
        "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
        "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
    },
}


def images(n: int = 3, side: int = 12, channels: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, side, side), generator=g, dtype=torch.uint8)
    pixels[0, :, 0, 0] = 0  # black, whose colour is none
    return pixels


def made(name: str, strength: int, pixels: Tensor, **how: int) -> np.ndarray:
    """As int16, of which differences are taken."""
    index = torch.arange(len(pixels))
    return corrupted(pixels, name, strength, seed=how.get("seed", 0), index=index).short().numpy()


@pytest.mark.parametrize(("size", "whose"), [(32, "CIFAR-10-C"), (64, "CIFAR-10-C"), (65, "ImageNet-C")])
def test_the_constants_are_the_published_ones(size: int, whose: str) -> None:
    assert constants_of(size) == whose
    assert {name: list(each.numbers(size)) for name, each in CORRUPTIONS.items()} == PUBLISHED[whose]


def test_contrast_and_brightness_against_loops() -> None:
    pixels = images()
    lower, brighter = made("contrast", 2, pixels), made("brightness", 5, pixels)
    for i, c, y, x in np.ndindex(*pixels.shape):
        plane = pixels[i, c].double() / 255
        value = (plane[y, x].item() - plane.mean().item()) * 0.5 + plane.mean().item()
        assert abs(lower[i, c, y, x] - math.floor(255 * value)) <= 1
        h, s, v = colorsys.rgb_to_hsv(*(pixels[i, :, y, x] / 255).tolist())
        expected = colorsys.hsv_to_rgb(h, s, min(1.0, v + 0.3))[c]
        assert abs(brighter[i, c, y, x] - math.floor(255 * expected)) <= 1


def test_blur_against_its_kernel() -> None:
    pixels, sigma = images(1, 16), 0.8
    radius = int(4 * sigma + 0.5)
    kernel = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    kernel = [weight / sum(kernel) for weight in kernel]
    padded = np.pad(pixels[0, 1].numpy() / 255, radius, mode="edge")
    across = np.sum([w * padded[:, k : k + 16] for k, w in enumerate(kernel)], axis=0)
    blurred = np.sum([w * across[k : k + 16] for k, w in enumerate(kernel)], axis=0)
    assert np.abs(made("blur", 4, pixels)[0, 1] - np.floor(255 * blurred)).max() <= 1
    large = torch.zeros(1, 1, 80, 80, dtype=torch.uint8)
    large[..., 40, 40] = 255
    assert made("blur", 1, large)[0, 0, 40, 40] == math.floor(255 / (2 * math.pi)), "sigma is 1 above 64 px"


def test_jpeg_is_pillows() -> None:
    for channels in (1, 3):
        pixels = images(2, 16, channels)
        for image, got in zip(pixels, made("jpeg", 5, pixels), strict=True):
            file, array = io.BytesIO(), image.permute(1, 2, 0).numpy()
            Image.fromarray(array[..., 0] if channels == 1 else array).save(file, format="JPEG", quality=40)
            decoded = np.asarray(Image.open(file)).reshape(16, 16, channels)
            assert (got == decoded.transpose(2, 0, 1)).all()


def test_noise_is_normal_and_a_function_of_its_address() -> None:
    grey = torch.full((40, 3, 20, 20), 128, dtype=torch.uint8)
    noise = (made("noise", 3, grey) + 0.5 - 128) / 255
    assert noise.mean() == pytest.approx(0, abs=0.002) and noise.std() == pytest.approx(0.08, rel=0.02)
    u = uniform(7, 3, torch.tensor([5]), -7, 300)
    ten = torch.full((6, 3, 10, 10), 100, dtype=torch.uint8)
    expected = np.floor(255 * (100 / 255 + 0.08 * norm.ppf(u.numpy())).clip(0, 1)).reshape(3, 10, 10)
    assert np.abs(made("noise", 3, ten, seed=7)[5] - expected).max() <= 1
    alone = corrupted(ten[5:], "noise", 3, seed=7, index=torch.tensor([5]))
    assert (alone[0].numpy() == made("noise", 3, ten, seed=7)[5]).all()


def test_a_corrupted_source_has_what_the_encoder_sees_for_any_number_of_workers() -> None:
    pixels = images(6, 30)
    labels = torch.arange(6)
    source = CorruptedSource(ArraySource("photos", pixels, labels), "noise", 2, size=14, seed=3)
    seen = (plain_view(pixels, 14, 3) * 255).round().byte()
    expected = corrupted(seen, "noise", 2, seed=3, index=labels)
    assert (source.fetch(torch.tensor([4, 1])) == expected[[4, 1]]).all()
    assert source.labels is labels and (source.channels, source.size, len(source)) == (3, 14, 6)
    for workers in (0, 1):
        batches = list(plain_batches(source, size=14, batch=4, workers=workers))
        assert torch.equal(torch.cat([batch.views[0] for batch in batches]), expected / 255)
    other = CorruptedSource(ArraySource("photos", pixels, labels), "noise", 3, size=14, seed=3)
    assert other.fingerprint() != source.fingerprint()


def test_only_photographs_are_corrupted() -> None:
    with pytest.raises(UserError, match="^corruptions are those of photographs, gray or RGB, but x has images of 5 ch"):
        CorruptedSource(ArraySource("x", images(2, 9, 5)), "blur", 1, size=9, seed=0)
