"""Views compared with torchvision's per-image functions; a sample does not depend on its batch."""

import colorsys
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from contrastkit.augment import VIEWS, View, augment, draw, random_views
from contrastkit.rng import uniform
from tests.augment.photos import PLAIN, photos, run


def test_nothing_to_do_is_the_image_itself():
    images = photos(3)
    assert torch.equal(run(images, PLAIN), images / 255)


def changed(images: torch.Tensor, view: View = PLAIN, **columns: Any) -> torch.Tensor:
    """The views of images by rows that change nothing but for some columns."""
    n, (h, w) = len(images), images.shape[-2:]
    view = replace(view, size=h)
    sizes = torch.tensor([[h, w]]).expand(n, 2)
    params = draw(view, sizes, channels=images.shape[1], seed=0, time=0, index=torch.arange(n), v=0)
    return augment(images, replace(params, **columns))


def jittered(images: torch.Tensor, operation: int, factors: tuple[float, ...]) -> torch.Tensor:
    n = len(images)
    columns = torch.zeros(n, 4)
    columns[:, operation] = torch.tensor(factors)
    return changed(images, jitter=torch.tensor([[operation, -1, -1, -1]] * n), factors=columns)


@pytest.mark.parametrize(
    ("operation", "theirs", "factors"),
    [
        (0, tvf.adjust_brightness, (0.0, 0.6, 1.0, 1.4)),
        (1, tvf.adjust_contrast, (0.0, 0.6, 1.0, 1.4)),
        (2, tvf.adjust_saturation, (0.0, 0.6, 1.0, 1.8)),
        (3, tvf.adjust_hue, (-0.5, -0.1, 0.0, 0.07, 0.5)),
    ],
)
def test_jitter_operations(operation, theirs, factors):
    images = photos(len(factors))
    got = jittered(images, operation, factors)
    want = torch.stack([theirs(image / 255, f) for image, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(got, want, atol=2e-6, rtol=0)


def test_hue_against_colorsys():
    pixels = torch.tensor(list(itertools.product((0, 64, 204, 255), repeat=3)), dtype=torch.uint8)
    got = jittered(pixels.T.reshape(1, 3, 8, 8), 3, (0.3,)).reshape(3, -1).T
    for out, (r, g, b) in zip(got.tolist(), (pixels / 255).tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        np.testing.assert_allclose(out, colorsys.hsv_to_rgb((h + 0.3) % 1, s, v), atol=1e-6)


def test_contrast_of_one_channel():
    images = photos(2, channels=1)
    got = jittered(images, 1, (0.5, 1.3))
    want = torch.stack([tvf.adjust_contrast(image / 255, f) for image, f in zip(images, (0.5, 1.3), strict=True)])
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_gray_and_solarize():
    images = photos(4)
    want = torch.stack([tvf.rgb_to_grayscale(image / 255, 3) for image in images])
    torch.testing.assert_close(run(images, replace(PLAIN, gray_p=1.0)), want, atol=1e-6, rtol=0)
    odd = images.where(images != 128, 0)  # 128/255 is never within rounding of the threshold; 0.5 is
    want = torch.stack([tvf.solarize(image / 255, 0.5) for image in odd])
    torch.testing.assert_close(run(odd, replace(PLAIN, solarize_p=1.0)), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "span"), [(32, 0.1), (48, 0.3), (64, 0.1), (32, 0)])
def test_blur(size, span):
    """torchvision's of the same kernel; a span of 0 keeps the whole of it."""
    images = photos(4, height=size, width=size)
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0], dtype=torch.float64)
    kernel = int(int(span * size) / 2) * 2 + 1 if span else 2 * size - 1
    want = torch.stack(
        [tvf.gaussian_blur(image / 255, [kernel] * 2, [s] * 2) for image, s in zip(images, sigma.tolist(), strict=True)]
    )
    got = changed(images, replace(PLAIN, blur_span=span), sigma=sigma)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (28, 28, 32), (60, 45, 24), (17, 40, 16)])
def test_crop_resize_and_flip(height, width, size):
    """Crops of any size, enlarged or shrunk, mirrored or not."""
    images = photos(6, height=height, width=width)
    generator = torch.Generator().manual_seed(1)
    h, w = (torch.randint(1, side + 1, (6,), generator=generator) for side in (height, width))
    h[0], w[0] = height, width
    top = (torch.rand(6, generator=generator) * (height - h + 1)).long()
    left = (torch.rand(6, generator=generator) * (width - w + 1)).long()
    flip = torch.tensor([False, True] * 3)
    sizes = torch.tensor([[height, width]]).expand(6, 2)
    params = draw(replace(PLAIN, size=size), sizes, channels=3, seed=0, time=0, index=torch.arange(6), v=0)
    params = replace(params, box=torch.stack([top, left, h, w], 1), flip=flip)
    got = augment(images, params)
    for i in range(6):
        box = [int(side[i]) for side in (top, left, h, w)]
        want = tvf.resized_crop(images[i] / 255, *box, [size, size], antialias=True)
        want = tvf.horizontal_flip(want) if flip[i] else want
        torch.testing.assert_close(got[i], want, atol=2e-6, rtol=0)
    assert torch.equal(augment(list(images), params), got)


def resized(images: torch.Tensor, size: int, **how: Any) -> torch.Tensor:
    """Crops that leave out the outermost pixels, resized."""
    n, (h, w) = len(images), images.shape[-2:]
    view = replace(PLAIN, size=size, **how)
    params = draw(view, torch.tensor([[h, w]] * n), channels=3, seed=0, time=0, index=torch.arange(n), v=0)
    return augment(images, replace(params, box=torch.tensor([[1, 1, h - 2, w - 2]] * n)))


@pytest.mark.parametrize(("height", "width", "size"), [(32, 34, 30), (28, 28, 32), (60, 45, 24), (17, 90, 16)])
def test_bicubic(height, width, size):
    """torchvision's, with antialias; what overshoots is clipped."""
    images = photos(4, height=height, width=width)
    inner = images[..., 1:-1, 1:-1] / 255
    want = tvf.resize(inner, [size, size], interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    assert want.max() > 1.01 or (height, width) == (32, 34)
    got = resized(images, size, interpolation="bicubic")
    torch.testing.assert_close(got, want.clamp(0, 1), atol=3e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), [(60, 45, 24), (28, 28, 32), (90, 120, 40)])
def test_bicubic_is_that_of_pil(height, width, size):
    """Rounded once along, and once across, by weights whose sizes add up to 1.25. PIL also clips: middling values."""
    images = 64 + photos(4, height=height, width=width) // 2
    for image, got in zip(images, resized(images, size, interpolation="bicubic"), strict=True):
        theirs = Image.fromarray(image.permute(1, 2, 0)[1:-1, 1:-1].numpy()).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        want = torch.from_numpy(np.array(theirs)).permute(2, 0, 1) / 255
        torch.testing.assert_close(got, want, atol=(0.5 + 1.25 * 0.5 + 0.01) / 255, rtol=0)


def test_bilinear_without_antialias():
    images = photos(4, height=60, width=45)
    want = tvf.resize(images[..., 1:-1, 1:-1] / 255, [24, 24], antialias=False)
    torch.testing.assert_close(resized(images, 24, antialias=False), want, atol=4e-6, rtol=0)
    assert (resized(images, 24) - want).abs().max() > 0.05


@pytest.mark.parametrize("flip", [False, True])
def test_bicubic_of_tensorflow(flip):
    """tf.image.resize(method="bicubic") of one row of pixels, worked by hand: half-pixel centres, a = -1/2, what lies
    outside left out of the sum."""
    row = torch.tensor([0, 51, 255, 102, 204, 153], dtype=torch.uint8)
    image = row.expand(1, 3, 6, 6)
    view = replace(PLAIN, size=3, interpolation="bicubic", antialias=False, flip_p=float(flip))
    # The centres are at 0.5, 2.5 and 4.5: four pixels at distances 1.5, 0.5, 0.5 and 1.5, with the weights of Keys.
    near, far = 0.5625, -0.0625
    want = [
        ((0 + 51) * near + 255 * far) / (2 * near + far),
        (255 + 102) * near + (51 + 204) * far,
        ((204 + 153) * near + 102 * far) / (2 * near + far),
    ]
    got = run(image, view)[0, 0, 0] * 255
    torch.testing.assert_close(got, torch.tensor(want[::-1] if flip else want), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("border", "mode"), [("zero", "constant"), ("repeated", "replicate")])
def test_borders_of_the_blur(border, mode):
    """A convolution of the padded image."""
    images, radius = photos(3), 4
    sigma = torch.tensor([0.3, 1.1, 2.0], dtype=torch.float64)
    got = changed(images, replace(PLAIN, blur_span=0.3, blur_border=border), sigma=sigma)
    for image, s, blurred in zip(images / 255, sigma.tolist(), got, strict=True):
        kernel = torch.exp(-((torch.arange(-radius, radius + 1) / s) ** 2) / 2)
        square = torch.outer(kernel, kernel) / kernel.sum() ** 2
        padded = torch.nn.functional.pad(image[:, None], [radius] * 4, mode=mode)
        want = torch.nn.functional.conv2d(padded, square[None, None])[:, 0]
        torch.testing.assert_close(blurred, want, atol=2e-6, rtol=0)


def test_a_black_border_darkens():
    """To the share of the kernel that lies inside, here a bit more than a half at an edge."""
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    blurred = changed(white, replace(PLAIN, blur_border="zero"), sigma=torch.tensor([2.0], dtype=torch.float64))[0, 0]
    kernel = torch.exp(-((torch.arange(-31, 32) / 2.0) ** 2) / 2)
    share = kernel[31:].sum() / kernel.sum()
    torch.testing.assert_close(blurred[0, 16], share, atol=1e-6, rtol=0)
    torch.testing.assert_close(blurred[0, 0], share**2, atol=1e-6, rtol=0)
    torch.testing.assert_close(blurred[16, 16], torch.tensor(1.0), atol=1e-6, rtol=0)


def test_tensorflows_jitter():
    """Drawn by a view and applied: adjust_brightness, adjust_contrast and adjust_saturation as TensorFlow documents
    them, pixel by pixel."""
    image = photos(1)
    x = (image[0] / 255).double().numpy()
    none = replace(PLAIN, jitter_p=1.0)
    for k in range(6):
        u = uniform(0, 0, torch.tensor([0]), k, 18)[0].tolist()  # jitter, order, brightness, contrast, saturation
        got = run(image, replace(none, brightness=0.7, brightness_by="addend"), v=k)[0].double().numpy()
        np.testing.assert_allclose(got, np.clip(x + (2 * u[2] - 1) * 0.7, 0, 1), atol=1e-6)
        got = run(image, replace(none, contrast=0.7, contrast_about="channels"), v=k)[0].double().numpy()
        mean = x.mean((1, 2), keepdims=True)
        np.testing.assert_allclose(got, np.clip((x - mean) * (0.3 + 1.4 * u[3]) + mean, 0, 1), atol=1e-6)
        got = run(image, replace(none, saturation=0.7, saturation_in="hsv"), v=k)[0].double().numpy()
        for i, j in itertools.product(range(0, 32, 3), range(0, 32, 5)):
            h, s, v = colorsys.rgb_to_hsv(*x[:, i, j])
            want = colorsys.hsv_to_rgb(h, min(s * (0.3 + 1.4 * u[4]), 1), v)
            np.testing.assert_allclose(got[:, i, j], want, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_affine(height, width):
    images = photos(8, height=height, width=width)
    view = replace(PLAIN, degrees=30, shear=20, translate=0.2, zoom_min=0.7, zoom_max=1.4)
    sizes = torch.tensor([[height, width]]).expand(8, 2)
    params = draw(view, sizes, channels=3, seed=0, time=0, index=torch.arange(8), v=0)
    got = augment(images, replace(params, box=torch.tensor([[0, 0, height, width]] * 8)))
    u = uniform(0, 0, torch.arange(8), 0, 18)[:, 13:]
    for i in range(8):
        turn, slant, dx, dy, zoom = u[i].tolist()
        want = tvf.affine(
            images[i].float(),
            angle=(2 * turn - 1) * 30,
            translate=[round((2 * dx - 1) * 0.2 * width), round((2 * dy - 1) * 0.2 * height)],
            scale=0.7 + 0.7 * zoom,
            shear=[(2 * slant - 1) * 20, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        want = tvf.resize(want, [32, 32], antialias=True) / 255
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=0)  # the grids are computed in different orders


def test_gray_comes_before_the_jitter_in_moco_v1():
    image = photos(1).repeat(64, 1, 1, 1)
    v1 = replace(PLAIN, gray_p=1.0, jitter_p=1.0, saturation=0.4, brightness=0.4, gray_first=True)
    after = replace(v1, gray_first=False)
    gray = tvf.rgb_to_grayscale(image / 255, 3)
    # Saturation does nothing to a gray image, so only brightness remains: a multiple of the gray image.
    ratio = run(image, replace(v1, brightness=0.001)) / gray.clamp(min=1e-3)
    assert (ratio[gray > 0.1] - 1).abs().max() < 2e-3
    assert (run(image, v1) - run(image, after)).abs().max() > 1e-2


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [32, 24])
def test_a_sample_does_not_depend_on_its_batch(name, size):
    """Bitwise equal: alone, in any batch and order, on one thread or two."""
    images = photos(60, channels=1 if name == "digits" else 3)
    view = replace(VIEWS[name][-1], size=size)
    index = torch.arange(60) * 7
    whole = random_views(images, view, seed=5, time=2, index=index, v=1)
    some = torch.tensor([59, 3, 17, 30, 31])
    assert torch.equal(whole[some], random_views(images[some], view, seed=5, time=2, index=index[some], v=1))
    for i in (0, 41):
        one = random_views(images[i : i + 1], view, seed=5, time=2, index=index[i : i + 1], v=1)
        assert torch.equal(whole[i : i + 1], one)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(whole, random_views(images, view, seed=5, time=2, index=index, v=1))
    finally:
        torch.set_num_threads(threads)


def test_a_large_image_does_not_depend_on_its_batch_either():
    images = photos(5, height=200, width=160)
    view = replace(VIEWS["moco-v2"][0], size=96, blur_p=1.0)
    whole = run(images, view)
    assert torch.equal(whole[:2], run(images[:2], view))
    assert torch.equal(whole, run(images.clone(memory_format=torch.channels_last), view))


@pytest.mark.parametrize("listed", [False, True])
def test_views_in_one_call_equal_views_in_two(listed):
    view = replace(VIEWS["moco-v2"][0], size=32)
    images = list(photos(20)) if listed else photos(20)
    both = random_views(images, view, seed=0, time=0, index=torch.arange(20), v=torch.tensor([[0], [1]]))
    assert torch.equal(both[:20], run(images, view))
    assert torch.equal(both[20:], run(images, view, v=1))


def test_rows_of_params_may_be_any_images():
    """The result of a row depends on its numbers alone: as a subset, in another order, in another batch."""
    images, view = photos(8), replace(VIEWS["byol"][1], size=24)
    sizes = torch.tensor([[32, 32]]).expand(8, 2)
    params = draw(view, sizes, channels=3, seed=0, time=0, index=torch.arange(8), v=torch.tensor([[0], [1], [2]]))
    whole = augment(images, params)
    rows = torch.tensor([20, 3, 3, 11])
    assert torch.equal(augment(images, params[rows]), whole[rows])
    assert torch.equal(augment(images.flip(0), replace(params, image=7 - params.image)), whole)


def test_torch_generator_is_left_alone():
    images, view = photos(8), replace(VIEWS["byol"][1], size=32)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    out = run(images, view)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(out, run(images, view))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", VIEWS)
def test_any_number_of_channels(name, channels):
    for images in (photos(5, channels, 20, 30), [photos(1, channels, 20 + k, 30)[0] for k in range(5)]):
        for view in VIEWS[name]:
            out = run(images, replace(view, size=16))
            assert out.shape == (5, channels, 16, 16)
            assert out.dtype == torch.float32
            assert out.min() >= 0 and out.max() <= 1
