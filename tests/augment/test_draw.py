"""The distribution of the draws, and their slots, which never change."""

import itertools
from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from contrastkit.augment import VIEWS, View, draw
from contrastkit.rng import uniform
from tests.augment.photos import PLAIN, photos, run


def boxes(view: View, n: int, height: int, width: int) -> torch.Tensor:
    """top, left, height and width of n crops, int64 [4, n]."""
    sizes = torch.tensor([[height, width]]).expand(n, 2)
    return draw(view, sizes, channels=3, seed=0, time=0, index=torch.arange(n), v=0).box.T


@pytest.mark.slow
def test_crop_boxes_have_torchvisions_distribution():
    view, n = replace(PLAIN, crop_min=0.2, ratio=4 / 3), 4000
    top, left, h, w = boxes(view, n, 40, 60)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 40).all() and (left + w <= 60).all()
    torch.manual_seed(0)
    image, keys = torch.zeros(3, 40, 60, dtype=torch.uint8), ("top", "left", "height", "width")
    theirs = torch.tensor([v2.RandomResizedCrop(8, (0.2, 1.0)).make_params([image])[k] for _ in range(n) for k in keys])
    for ours, other in zip((top, left, h, w), theirs.view(n, 4).double().T, strict=True):
        spread = (ours.double().var() / n + other.var() / n).sqrt()
        assert abs(ours.double().mean() - other.mean()) < 5 * spread
        assert 0.93 < ours.double().std() / other.std() < 1.07


def test_crops_reach_every_edge_of_the_image():
    """Crops of 2 x 2 of 4 x 6 pixels: all 3 x 5 positions are equally frequent, including the last row and column."""
    n = 6000
    view = replace(PLAIN, crop_min=4 / 24, crop_max=4 / 24, ratio=1.0)
    top, left, h, w = boxes(view, n, 4, 6)
    assert (h == 2).all() and (w == 2).all()
    counts = torch.bincount(top * 5 + left, minlength=15)
    assert len(counts) == 15
    assert (counts - n / 15).abs().max() < 5 * (n / 15) ** 0.5


@pytest.mark.parametrize(("height", "width", "box"), [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))])
def test_crop_falls_back_on_the_centre(height, width, box):
    view = replace(PLAIN, crop_min=1.0, ratio=4 / 3)  # the whole area never has such a ratio
    assert boxes(view, 2, height, width).tolist() == [[s] * 2 for s in box]


def test_every_sample_and_view_draws_its_own():
    """One image, repeated: every output differs, between samples, views, epochs and seeds."""
    image = photos(1).repeat(16, 1, 1, 1)
    for name in ("moco-v1", "moco-v2", "simclr"):
        view = replace(VIEWS[name][0], size=32)
        outs = [run(image, view), run(image, view, v=1), run(image, view, time=1), run(image, view, seed=1)]
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
    u = uniform(0, 0, torch.arange(n), 0, 6)
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


EVERYTHING = View(
    size=32, crop_min=0.08, jitter_p=0.7, gray_p=0.4, blur_p=0.6, solarize_p=0.5,
    degrees=30.0, shear=15.0, translate=0.25, zoom_min=0.7, zoom_max=1.3,
)  # fmt: skip


def test_draws_stay_what_they_are():
    """Golden values: a run resumed by a later version draws the same numbers, each from its slot."""
    sizes, index, v = torch.tensor([[40, 60], [64, 48]]), torch.tensor([7, 11]), torch.tensor([[0], [1]])
    params = draw(EVERYTHING, sizes, channels=3, seed=5, time=5, index=index, v=v)
    assert params.image.tolist() == [0, 1, 0, 1]
    assert params.box.tolist() == [[7, 32, 31, 24], [16, 11, 42, 35], [0, 10, 30, 30], [1, 8, 31, 29]]
    assert params.flip.tolist() == [False, False, True, False]
    assert params.jitter.tolist() == [[1, 3, 2, 0], [-1] * 4, [-1] * 4, [1, 0, 3, 2]]
    assert params.gray.tolist() == [False, True, True, False]
    assert params.solarize.tolist() == [False, True, True, True]
    factors = [
        [0.72636676, 0.66088617, 0.69787323, -0.02771410],
        [1.34800410, 1.03575432, 0.94973487, -0.06107216],
        [1.25709009, 0.92823899, 0.79191899, -0.08686243],
        [1.33226502, 1.39470589, 1.02178180, -0.06716762],
    ]
    sigma = [1.18407878, 1.74368344, 0, 1.06522484]
    pose = [
        [[0.70684719, -0.33751541, -0.17862515], [0.48629820, 0.78230184, 0.13073570]],
        [[1.07578862, -0.55166215, -0.37239370], [0.39405704, 1.01816678, -0.40333346]],
        [[0.99350476, 0.00297933, 0.39889157], [0.18058181, 0.97813755, 0.56130153]],
        [[0.96553665, -0.29852551, -0.11427817], [0.11351074, 0.97677743, -0.17153993]],
    ]
    assert params.pose is not None
    for drawn, typed in ((params.factors, factors), (params.sigma, sigma), (params.pose, pose)):
        torch.testing.assert_close(drawn.double(), torch.tensor(typed, dtype=torch.float64), atol=1e-6, rtol=0)
    other = replace(EVERYTHING, brightness_by="addend", contrast_about="channels", saturation_in="hsv")
    tensorflow = draw(other, sizes, channels=3, seed=5, time=5, index=index, v=v)
    assert tensorflow.jitter.tolist() == [[5, 3, 6, 4], [-1] * 4, [-1] * 4, [5, 4, 3, 6]]
    torch.testing.assert_close(tensorflow.factors, params.factors - torch.tensor([1.0, 0, 0, 0]), atol=1e-6, rtol=0)
    gray = draw(EVERYTHING, sizes, channels=1, seed=5, time=5, index=index, v=v)
    assert gray.jitter.tolist() == [[0, 1, -1, -1], [-1] * 4, [-1] * 4, [0, 1, -1, -1]]
    assert not gray.gray.any() and torch.equal(gray.box, params.box)
