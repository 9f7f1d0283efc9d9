"""Segmentation by retrieval: each patch takes the labels of the training patches nearest to it; nothing is trained."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.bounds import COUNT, TEMPERATURE, check_fields
from contrastkit.errors import UserError
from contrastkit.evaluate.neighbours import SIMILARITIES, nearest
from contrastkit.memory import require_room
from contrastkit.rng import PATCHES, permutation, uniform
from contrastkit.transfer.masks import IGNORED


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """The numbers of a retrieval; the defaults are those of Hummingbird's open implementation."""

    k: Annotated[int, COUNT] = 30  # nearest patches of the memory
    T: Annotated[float, TEMPERATURE] = 0.02  # temperature of their votes
    memory: Annotated[int, COUNT] = 102_400  # patches of the memory at most; 1.0e5, 1.0e6 and 1.0e7 are published

    def __post_init__(self) -> None:
        check_fields(self)


class PatchMemory:
    """Features and labels of training patches (Balazevic et al. 2023, arXiv:2306.01667, Sec. 3.1 and 3.2).

    A patch p of a test image has the class probabilities sum_j softmax_j(<p, m_j> / T) y_j over its k nearest m_j in
    the memory, by cosine similarity; y_j is the share of each class among the pixels of the patch m_j. Where all
    patches are more than the memory takes, each image gives the same number, preferably of patches with classes that
    are rare in it: those with the smallest u sum_c n_c over the classes c in the patch, where n_c counts the patches
    with c and u is uniform. Where even the images are more, one patch each of as many drawn images is taken.

    We depart from the open implementation in that the search is exact (ScaNN's there), that ignored pixels are left out
    (counted as background there) and that the training images are not augmented.
    """

    def __init__(self, retrieval: Retrieval, images: int, n_classes: int, seed: int) -> None:
        """``images``: number of training images, among which the memory is divided."""
        self.retrieval, self.seed, self.n_classes = retrieval, seed, n_classes
        self.per_image = max(1, retrieval.memory // images)
        drawn = permutation(seed, 0, images)[: retrieval.memory]  # all, unless they are more than the patches
        self.images = frozenset(drawn.tolist())
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._bank: Tensor | None = None

    def add(self, i: int, maps: Tensor, mask: Tensor) -> None:
        """Store patches of the training image i, if it is drawn: its maps [D, h, w] and its mask, int64 [H, W]."""
        if i not in self.images:
            return
        counts = class_counts(mask, (maps.shape[1], maps.shape[2]), self.n_classes)
        rows = counts.sum(1).nonzero()[:, 0]
        if len(rows) > self.per_image:
            present = (counts > 0).double()
            rarity = present @ present.sum(0)
            u = uniform(self.seed, i, torch.arange(len(counts)), PATCHES, 1)[:, 0]
            rows = rows[(rarity * u)[rows].argsort(stable=True)[: self.per_image].sort()[0]]
        if not self._features:
            patches = min(self.per_image, len(counts)) * len(self.images)
            require_room(4 * patches * (len(maps) + self.n_classes), f"a memory of {patches:,} patches", "--memory")
        self._features.append(F.normalize(maps.flatten(1).T[rows.to(maps.device)].float(), dim=1).cpu())
        self._labels.append((counts[rows] / counts[rows].sum(1, keepdim=True)).float())

    def __len__(self) -> int:
        return sum(map(len, self._features))

    def predict(self, maps: Tensor) -> Tensor:
        """Maps [D, h, w] of a test image -> class probabilities of its patches, float32 [C, h, w].

        Raises:
            UserError: no image that was added has a labelled pixel.
        """
        if not len(self):
            raise UserError(f"none of {len(self.images):,} images has a pixel with a class: raise --memory")
        if self._bank is None:
            self._bank, self._y = torch.cat(self._features).to(maps.device), torch.cat(self._labels).to(maps.device)
        k = min(self.retrieval.k, len(self._bank))
        found = []
        for patches in F.normalize(maps.flatten(1).T.float(), dim=1).split(max(1, SIMILARITIES // len(self._bank))):
            s, neighbours = nearest(patches @ self._bank.T, k)
            weights = (s / self.retrieval.T).softmax(1).float()
            found.append(torch.einsum("pk,pkc->pc", weights, self._y[neighbours]))
        return torch.cat(found).T.unflatten(1, maps.shape[1:])


def class_counts(mask: Tensor, grid: tuple[int, int], n_classes: int) -> Tensor:
    """How many pixels of each class each patch of a grid [h, w] has: mask int64 [H, W] -> int64 [h w, n_classes].

    A pixel belongs to the one patch that contains its upper left corner, at any size of the mask.
    """
    (h, w), (height, width) = grid, mask.shape
    patch = (torch.arange(height) * h // height)[:, None] * w + torch.arange(width) * w // width
    labelled = mask != IGNORED
    cells = patch[labelled] * n_classes + mask[labelled]
    return torch.bincount(cells, minlength=h * w * n_classes).view(h * w, n_classes)
