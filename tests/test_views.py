"""Views against torchvision's per-image functions, and the promise that a sample does not depend on its batch."""

import colorsys
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from contrastkit import views
from contrastkit.data import ArraySource
from contrastkit.names import VIEW_NAMES
from contrastkit.views import VIEWS, View, augment, sheet

PLAIN = View(
    size=32, crop_min=1.0, ratio=1.0, flip_p=0, jitter_p=0, brightness=0, contrast=0, saturation=0, hue=0, gray_p=0
)


def photos(n: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth coloured images with flat parts, extreme values and gray pixels: where colour spaces go wrong."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 5, 5, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic") * 1.6 - 0.3
    fine[:, :, : height // 8] = 0.5
    fine[:, :, -(height // 8) :] = torch.rand(n, channels, height // 8, width, generator=generator)
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8)


def run(images: torch.Tensor | list, view: View, **where: int) -> torch.Tensor:
    where = {"seed": 0, "epoch": 0, "v": 0} | where
    return augment(images, view, index=torch.arange(len(images)), **where)


def test_names_are_the_table():
    assert tuple(VIEWS) == VIEW_NAMES


# The numbers as the papers and their code have them.
ROWS = {
    # row: crop_min, flip, jitter_p, (brightness, contrast, saturation, hue), gray, blur of each view, solarize of each
    "moco-v1": (0.2, 0.5, 1.0, (0.4, 0.4, 0.4, 0.4), 0.2, (0, 0), (0, 0)),  # main_moco.py, without --aug-plus
    "moco-v2": (0.2, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0.5, 0.5), (0, 0)),  # main_moco.py, --aug-plus
    "moco-cifar": (0.08, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0, 0), (0, 0)),  # moco's CIFAR-10 notebook
    "simclr": (0.08, 0.5, 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, (0.5, 0.5), (0, 0)),  # App. A
    "simclr-cifar": (0.08, 0.5, 0.8, (0.4, 0.4, 0.4, 0.1), 0.2, (0, 0), (0, 0)),  # App. B.9
    "byol": (0.08, 0.5, 0.8, (0.4, 0.4, 0.2, 0.1), 0.2, (1.0, 0.1), (0, 0.2)),  # App. B, Table 6
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_papers_numbers(name):
    crop_min, flip, jitter, strengths, gray, blur, solarize = ROWS[name]
    for k, view in enumerate(VIEWS[name]):
        assert (view.crop_min, view.crop_max, view.flip_p, view.jitter_p) == (crop_min, 1, flip, jitter)
        assert (view.brightness, view.contrast, view.saturation, view.hue) == strengths
        assert (view.gray_p, view.blur_p, view.solarize_p) == (gray, blur[k], solarize[k])
        assert (view.sigma_min, view.sigma_max, view.gray_first) == (0.1, 2.0, name == "moco-v1")
        assert view.size == (32 if name.endswith("cifar") else 224)


def test_digits_row_turns_no_digit_into_another():
    for view in VIEWS["digits"]:
        assert (view.flip_p, view.jitter_p, view.gray_p, view.solarize_p) == (0, 0, 0, 0)
        assert view.affine


# -------------------------------------------------------------------------------------------------------- one operation


def test_nothing_to_do_is_the_image_itself():
    images = photos(3)
    torch.testing.assert_close(run(images, PLAIN), images / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (views._brightness, tvf.adjust_brightness, (0.0, 0.6, 1.0, 1.4)),
        (views._contrast, tvf.adjust_contrast, (0.0, 0.6, 1.0, 1.4)),
        (views._saturation, tvf.adjust_saturation, (0.0, 0.6, 1.0, 1.8)),
        (views._hue, tvf.adjust_hue, (-0.5, -0.1, 0.0, 0.07, 0.5)),
    ],
)
def test_jitter_operations(ours, theirs, factors):
    images = photos(len(factors)) / 255
    got = ours(images, torch.tensor(factors).view(-1, 1, 1, 1))
    want = torch.stack([theirs(image, f) for image, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(got, want, atol=2e-6, rtol=0)


def test_hue_against_colorsys():
    pixels = torch.tensor(list(itertools.product((0.0, 0.25, 0.8, 1.0), repeat=3)))
    got = views._hue(pixels.T.reshape(1, 3, 8, 8), torch.full((1, 1, 1, 1), 0.3)).reshape(3, -1).T
    for out, (r, g, b) in zip(got.tolist(), pixels.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        np.testing.assert_allclose(out, colorsys.hsv_to_rgb((h + 0.3) % 1, s, v), atol=1e-6)


def test_contrast_of_one_channel():
    images = photos(2, channels=1) / 255
    got = views._contrast(images, torch.tensor([0.5, 1.3]).view(-1, 1, 1, 1))
    want = torch.stack([tvf.adjust_contrast(image, f) for image, f in zip(images, (0.5, 1.3), strict=True)])
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_gray_and_solarize():
    images = photos(4)
    want = torch.stack([tvf.rgb_to_grayscale(image / 255, 3) for image in images])
    torch.testing.assert_close(run(images, replace(PLAIN, gray_p=1.0)), want, atol=1e-6, rtol=0)
    odd = images.where(images != 128, 0)  # 128/255 is within rounding of the threshold in no set-up, 0.5 is
    want = torch.stack([tvf.solarize(image / 255, 0.5) for image in odd])
    torch.testing.assert_close(run(odd, replace(PLAIN, solarize_p=1.0)), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "span"), [(32, 0.1), (48, 0.3), (64, 0.1)])
def test_blur(size, span):
    images = photos(4, height=size, width=size) / 255
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0], dtype=torch.float64)
    kernel = int(int(span * size) / 2) * 2 + 1
    want = torch.stack(
        [tvf.gaussian_blur(image, [kernel] * 2, [s] * 2) for image, s in zip(images, sigma.tolist(), strict=True)]
    )
    torch.testing.assert_close(views._blur(images, sigma, span), want, atol=2e-6, rtol=0)


def test_blur_without_cut_off_keeps_the_whole_kernel():
    images = photos(3) / 255
    sigma = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    want = torch.stack(
        [tvf.gaussian_blur(image, [63] * 2, [s] * 2) for image, s in zip(images, sigma.tolist(), strict=True)]
    )
    torch.testing.assert_close(views._blur(images, sigma, 0.0), want, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (28, 28, 32), (60, 45, 24), (17, 40, 16)])
def test_crop_resize_and_flip(height, width, size):
    """Any crop of any size, growing and shrinking, mirrored or not."""
    images = photos(6, height=height, width=width)
    generator = torch.Generator().manual_seed(1)
    h, w = (torch.randint(1, side + 1, (6,), generator=generator) for side in (height, width))
    h[0], w[0] = height, width
    top = (torch.rand(6, generator=generator) * (height - h + 1)).long()
    left = (torch.rand(6, generator=generator) * (width - w + 1)).long()
    flip = torch.tensor([False, True] * 3)
    view = replace(PLAIN, size=size)
    got = views._cropped(images, view, (top, left, h, w), flip, ())
    for i in range(6):
        box = [int(side[i]) for side in (top, left, h, w)]
        want = tvf.resized_crop(images[i] / 255, *box, [size, size], antialias=True)
        want = tvf.horizontal_flip(want) if flip[i] else want
        torch.testing.assert_close(got[i], want, atol=2e-6, rtol=0)
    listed = views._cropped(list(images), view, (top, left, h, w), flip, ())
    torch.testing.assert_close(listed, got, atol=1.01 / 255, rtol=0)  # images of many sizes are resized in uint8


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_affine(height, width):
    images = photos(8, height=height, width=width)
    view = replace(PLAIN, degrees=30, shear=20, translate=0.2, zoom_min=0.7, zoom_max=1.4)
    pose = torch.rand(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = views._affine(images.float(), view, pose)
    for i in range(8):
        turn, slant, dx, dy, zoom = pose[:, i].tolist()
        want = tvf.affine(
            images[i].float(),
            angle=(2 * turn - 1) * 30,
            translate=[round((2 * dx - 1) * 0.2 * width), round((2 * dy - 1) * 0.2 * height)],
            scale=0.7 + 0.7 * zoom,
            shear=[(2 * slant - 1) * 20, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(got[i], want, atol=2e-2, rtol=0)  # of 255: the two build the grid in another order


# ------------------------------------------------------------------------------------------------------- the draws


def test_crop_boxes_have_torchvisions_distribution():
    view = replace(PLAIN, crop_min=0.2, ratio=4 / 3)
    n = 4000
    u = torch.rand(n, 22, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.zeros(n, 3, 40, 60, dtype=torch.uint8)
    top, left, h, w = views._crop_boxes(view, u[:, 2:], u[:, 0], u[:, 1], images)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 40).all() and (left + w <= 60).all()
    torch.manual_seed(0)
    theirs = torch.tensor(
        [v2.RandomResizedCrop(8, (0.2, 1.0)).make_params([images[0]])[k] for _ in range(n) for k in BOX]
    )
    theirs = theirs.view(n, 4).double()
    for mine, other in zip((top, left, h, w), theirs.T, strict=True):
        spread = (mine.double().var() / n + other.var() / n).sqrt()
        assert abs(mine.double().mean() - other.mean()) < 5 * spread
        assert 0.93 < mine.double().std() / other.std() < 1.07


BOX = ("top", "left", "height", "width")


@pytest.mark.parametrize(("height", "width", "box"), [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))])
def test_crop_falls_back_on_the_centre(height, width, box):
    view = replace(PLAIN, crop_min=1.0, ratio=4 / 3)  # the whole area never fits such a ratio
    u = torch.full((2, 22), 0.5, dtype=torch.float64)
    images = [torch.zeros(3, height, width, dtype=torch.uint8)] * 2
    assert [side.tolist() for side in views._crop_boxes(view, u[:, 2:], u[:, 0], u[:, 1], images)] == [
        [s] * 2 for s in box
    ]


def test_every_sample_and_view_draws_its_own():
    """One image, repeated: every output differs, between samples, views, epochs and seeds."""
    image = photos(1).repeat(16, 1, 1, 1)
    for name in ("moco-v1", "moco-v2", "simclr"):
        view = replace(VIEWS[name][0], size=32)
        outs = [run(image, view), run(image, view, v=1), run(image, view, epoch=1), run(image, view, seed=1)]
        out = torch.cat(outs)[..., ::2, ::2].flatten(1)
        distance = (out[:, None] - out).abs().amax(2) + torch.eye(len(out))
        assert distance.min() > 1e-3


def test_shares_and_ranges_of_the_draws():
    n = 6000
    image = torch.full((n, 3, 4, 4), 128, dtype=torch.uint8)
    image[:, 0], image[:, 2, :, :2] = 200, 60
    tiny = replace(PLAIN, size=4)

    def changed(view: View) -> float:
        out = run(image, view)
        return (out - image / 255).abs().flatten(1).max(1).values.gt(1e-4).double().mean().item()

    for view, p in (
        (replace(tiny, flip_p=0.3), 0.3),
        (replace(tiny, gray_p=0.2), 0.2),
        (replace(tiny, jitter_p=0.8, brightness=0.4), 0.8),
        (replace(tiny, blur_p=0.5, sigma_min=1.0), 0.5),
        (replace(tiny, solarize_p=0.2), 0.2),
    ):
        assert abs(changed(view) - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-3
    factor = run(image, replace(tiny, jitter_p=1.0, brightness=0.4))[:, 1, 0, 0] / (128 / 255)
    assert 0.6 <= factor.min() < 0.61
    assert 1.39 < factor.max() <= 1.4 + 1e-6
    assert abs(factor.mean() - 1) < 5 * 0.8 / 12**0.5 / n**0.5


def test_jitter_takes_every_order_of_its_operations():
    """All orders of the four, each with torchvision's result."""
    n = 200
    image = photos(1).repeat(n, 1, 1, 1)
    view = replace(PLAIN, jitter_p=1.0, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.4)
    got = run(image, view)
    names = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    u = views.uniform(0, 0, torch.arange(n), 0, views.SLOTS)
    orders, seen = list(itertools.permutations(range(4))), set()
    for i in range(n):
        order = orders[int(u[i, 1] * 24)]
        factors = [0.1 + 1.8 * float(u[i, 2 + k]) for k in range(3)] + [(2 * float(u[i, 5]) - 1) * 0.4]
        want = image[i] / 255
        for k in order:
            want = names[k](want, factors[k])
        assert (got[i] - want).abs().max() < 1e-4
        seen.add(order)
    assert len(seen) == 24


def test_gray_comes_before_the_jitter_in_moco_v1():
    image = photos(1).repeat(64, 1, 1, 1)
    v1 = replace(PLAIN, gray_p=1.0, jitter_p=1.0, saturation=0.4, brightness=0.4, gray_first=True)
    after = replace(v1, gray_first=False)
    gray = tvf.rgb_to_grayscale(image / 255, 3)
    # Saturation does nothing to a gray image, so only the brightness is left: a multiple of the gray image.
    ratio = run(image, replace(v1, brightness=0.001)) / gray.clamp(min=1e-3)
    assert (ratio[gray > 0.1] - 1).abs().max() < 2e-3
    assert (run(image, v1) - run(image, after)).abs().max() > 1e-2


# ------------------------------------------------------------------------------------------ what must not matter


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [32, 24])
def test_a_sample_does_not_depend_on_its_batch(name, size):
    """Bit for bit: alone, in any company and order, on one thread or two."""
    images = photos(60, channels=1 if name == "digits" else 3)
    view = replace(VIEWS[name][-1], size=size)
    index = torch.arange(60) * 7
    whole = augment(images, view, seed=5, epoch=2, index=index, v=1)
    some = torch.tensor([59, 3, 17, 30, 31])
    assert torch.equal(whole[some], augment(images[some], view, seed=5, epoch=2, index=index[some], v=1))
    for i in (0, 41):
        one = augment(images[i : i + 1], view, seed=5, epoch=2, index=index[i : i + 1], v=1)
        assert torch.equal(whole[i : i + 1], one)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(whole, augment(images, view, seed=5, epoch=2, index=index, v=1))
    finally:
        torch.set_num_threads(threads)


def test_a_large_image_does_not_depend_on_its_batch_either():
    images = photos(5, height=200, width=160)
    view = replace(VIEWS["moco-v2"][0], size=96, blur_p=1.0)
    whole = run(images, view)
    assert torch.equal(whole[:2], run(images[:2], view))
    assert torch.equal(whole, run(images.clone(memory_format=torch.channels_last), view))


def test_views_in_one_call_equal_views_in_two():
    images, view = photos(20), replace(VIEWS["moco-v2"][0], size=32)
    index, v = torch.arange(20), torch.tensor([0] * 20 + [1] * 20)
    both = augment(images.repeat(2, 1, 1, 1), view, seed=0, epoch=0, index=index.repeat(2), v=v)
    assert torch.equal(both[:20], run(images, view))
    assert torch.equal(both[20:], run(images, view, v=1))


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


def test_sheet_shows_originals_and_views():
    source = ArraySource("some", photos(6))
    image = sheet(source, [replace(v, size=32) for v in VIEWS["moco-v2"]], n=4, seed=0)
    assert image.mode == "RGB"
    again = sheet(source, [replace(v, size=32) for v in VIEWS["moco-v2"]], n=4, seed=0)
    assert image.tobytes() == again.tobytes()
    assert image.tobytes() != sheet(source, [replace(v, size=32) for v in VIEWS["moco-v2"]], n=4, seed=1).tobytes()
