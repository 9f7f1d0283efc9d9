"""Views of images that are decoded at a half or a quarter of their sides, because no view shows more of them.

The draws are those for whole images. Each edge of a crop is then rounded to a whole pixel of the smaller image, so that
it departs by up to half a pixel there, one or two of the whole image, and keeps at least as many as its view has. Where
EXIF turns an image whose sides are no multiples of 2 or 4, it departs by up to a pixel more: decoders round at the end.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from contrastkit.augment.draw import Params

FACTORS = (2, 4)  # those that libjpeg-turbo decodes fast


def factors(draws: Sequence[Params], n: int) -> Tensor:
    """How much smaller each of n images may be: int64 [n], the largest of :data:`FACTORS` of which each crop in
    ``draws`` is larger than that many views in both directions, else 1. Images that are posed stay whole."""
    least = torch.full((n,), torch.inf, dtype=torch.float64)
    for params in draws:
        views = params.box[:, 2:].amin(1).double() / params.view.size
        least.scatter_reduce_(0, params.image, views if params.pose is None else torch.zeros_like(views), "amin")
    chosen = torch.ones(n, dtype=torch.int64)
    for factor in FACTORS:
        chosen[least > factor] = factor
    return chosen


def shrunk(params: Params, factor: Tensor) -> Params:
    """The draws for images that are smaller by ``factor``, int64 [n]."""
    k = factor[params.image, None]
    corners = torch.stack([params.box[:, :2], params.box[:, :2] + params.box[:, 2:]])
    start, end = (corners + k // 2) // k  # the last, too, is inside: the sides of the image are rounded up
    return replace(params, box=torch.cat([start, end - start], 1))
