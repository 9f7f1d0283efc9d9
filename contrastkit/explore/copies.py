"""Whether two similar images are copies of one another, by their pixels."""

from enum import StrEnum

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.source import digest
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.gallery import Gallery

SIDE = 16  # pixels to which images are shrunk before they are compared
CORRELATION = 0.95  # of the pixels of copies at that size
PLAIN = 0.1  # length of what the shrinking's rounding leaves of an image of a single colour, at most; values to 255
AT_ONCE = 2**16  # pairs


class Kind(StrEnum):
    """What a pair of similar images is."""

    IDENTICAL = "identical"  # the same pixels
    COPY = "copy"  # resized, recompressed, brighter: shrunk to 16 px, their pixels correlate by 0.95 or more
    MIRRORED = "mirrored"  # likewise, once one of them is flipped
    SIMILAR = "similar"  # only their features are alike


def kinds(
    gallery: Gallery, i: NDArray[np.int64], j: NDArray[np.int64], on_progress: OnProgress | None = None
) -> list[Kind]:
    """The kind of each pair of rows (i, j) of a gallery.

    The correlation is Pearson's over the pixels of all channels, each about its own mean, of images squeezed to
    16 x 16: it is blind to brightness, contrast and tint. An image of a single colour correlates with none. Of
    eight million pairs of CIFAR-10's images, 4 correlate by 0.95 or more, and none once one of them is flipped.

    Raises:
        UserError: an image cannot be read any more.
    """
    rows, places = np.unique(np.concatenate([i, j]), return_inverse=True)
    a, b = torch.from_numpy(places).view(2, -1)
    digests, small = _shrunk(gallery, rows, on_progress)
    upright, flipped = _unit(small), _unit(small.flip(-1))
    found: list[Kind] = []
    for x, y in zip(a.split(AT_ONCE), b.split(AT_ONCE), strict=True):
        straight, mirrored = (upright[x] * upright[y]).sum(1), (upright[x] * flipped[y]).sum(1)
        same = digests[x.numpy()] == digests[y.numpy()]
        found += map(_kind, same.tolist(), straight.tolist(), mirrored.tolist())
    return found


def _kind(identical: bool, straight: float, mirrored: float) -> Kind:
    if identical:
        return Kind.IDENTICAL
    if max(straight, mirrored) < CORRELATION:
        return Kind.SIMILAR
    return Kind.COPY if straight >= mirrored else Kind.MIRRORED


def _shrunk(
    gallery: Gallery, rows: NDArray[np.int64], on_progress: OnProgress | None
) -> tuple[NDArray[np.str_], Tensor]:
    """A digest of the pixels of each image, and the images shrunk, float32 [n, C, 16, 16]."""
    digests, small = [], []
    for n, row in enumerate(rows.tolist(), start=1):
        image = gallery.image(row)
        digests.append(digest(repr(tuple(image.shape)).encode(), image.numpy().tobytes()))
        small.append(F.interpolate(image[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True))
        if on_progress is not None:
            on_progress("comparing pixels", n, len(rows))
    return np.array(digests), torch.cat(small)


def _unit(images: Tensor) -> Tensor:
    """[n, C, h, w] -> [n, C * h * w], each channel of mean 0, of length 1: their products are correlations. 0 for an
    image of a single colour."""
    centred = (images - images.mean((2, 3), keepdim=True)).flatten(1)
    return F.normalize(centred, dim=1) * (centred.norm(dim=1, keepdim=True) > PLAIN)
