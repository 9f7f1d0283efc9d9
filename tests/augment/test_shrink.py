"""How much smaller an image may be decoded, and where a crop lies then, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from contrastkit.augment import Params, View, draw
from contrastkit.augment.shrink import factors, shrunk

VIEW = View(size=8)


def edges(box: Tensor) -> tuple[Tensor, Tensor]:
    """Top and left, bottom and right."""
    return box[:, :2], box[:, :2] + box[:, 2:]


def boxes(*rows: tuple[int, int, int, int], view: View = VIEW) -> Params:
    """Draws for one image each, with these crops: top, left, height, width."""
    n = len(rows)
    sizes = torch.full((n, 2), 100)
    drawn = draw(view, sizes, channels=3, seed=0, time=0, index=torch.arange(n), v=0)
    return replace(drawn, box=torch.tensor(rows))


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(33, 33, 4), (33, 32, 2), (32, 90, 2), (17, 17, 2), (90, 16, 1), (16, 17, 1), (8, 8, 1), (3, 50, 1)],
)
def test_a_crop_larger_than_so_many_views_in_both_directions(height: int, width: int, factor: int) -> None:
    assert factors([boxes((0, 0, height, width))], 1).tolist() == [factor]


def test_the_smallest_crop_of_an_image_decides_among_all_its_views() -> None:
    large, small = View(size=8), View(size=4)
    draws = [
        boxes((0, 0, 40, 40), (0, 0, 40, 40), (0, 0, 40, 40), view=large),
        boxes((0, 0, 17, 17), (0, 0, 9, 60), (0, 0, 8, 9), view=small),
    ]
    assert factors(draws, 3).tolist() == [4, 2, 1]
    two = replace(boxes((0, 0, 40, 40), (0, 0, 20, 40), view=large), image=torch.tensor([1, 1]))
    assert factors([two], 2)[1] == 2


def test_posed_images_stay_whole() -> None:
    assert factors([boxes((0, 0, 90, 90), view=View(size=8, degrees=5.0))], 1).tolist() == [1]


def test_the_edges_of_a_crop_are_rounded_to_pixels_of_the_smaller_image() -> None:
    whole = boxes((3, 5, 40, 41), (3, 5, 40, 41), (3, 5, 40, 41), (4, 0, 48, 100))
    box = shrunk(whole, torch.tensor([1, 2, 4, 4])).box
    assert box.tolist() == [[3, 5, 40, 41], [2, 3, 20, 20], [1, 1, 10, 11], [1, 0, 12, 25]]


def test_a_crop_at_any_place_departs_by_half_a_pixel_stays_in_the_image_and_keeps_the_pixels_of_its_view() -> None:
    view = View(size=2, crop_min=0.05)
    sizes = torch.randint(9, 60, (3000, 2))
    drawn = draw(view, sizes, channels=3, seed=1, time=0, index=torch.arange(3000), v=0)
    k = factors([drawn], 3000)
    assert k.unique().tolist() == [1, 2, 4]
    small = shrunk(drawn, k)
    k = k[:, None]
    for edge, whole in zip(edges(small.box), edges(drawn.box), strict=True):
        assert ((edge * k - whole).abs() <= k / 2).all()
    assert (edges(small.box)[1] <= (sizes / k).ceil()).all() and small.box.min() >= 0
    assert small.box[k[:, 0] > 1, 2:].min() == view.size
    unlike = [name for name in vars(drawn) if name != "view" and getattr(small, name) is not getattr(drawn, name)]
    assert unlike == ["box"]
