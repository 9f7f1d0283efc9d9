"""The base of every source: an indexed set of images or sounds. Each kind of source has a module of this package."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.captions import Captions
from contrastkit.errors import UserError
from contrastkit.rng import permutation
from contrastkit.types import Images, Modality

T = TypeVar("T")


class UnreadableError(Exception):
    """An image that cannot be read: its position, its name in messages, and the reason."""

    def __init__(self, index: int, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.index, self.path, self.reason = index, path, reason


def digest(*parts: bytes) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts, joined."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


class Source(ABC):
    """An indexed set of images, or of sounds: images of height 1, int16 [1, 1, T].

    Attributes:
        modality: the kind of its items.
        images: of a set that lies in memory, all of them, as of :meth:`fetch`; else None.
        name: used in messages.
        channels: of every image.
        size: shorter side of a typical image in pixels; length of a typical sound in samples.
        labels: int64 [N], -1 where an image has none; None for an unlabelled set.
        classes: names of the labels 0, 1, ...; None if they have none.
        captions: the texts that describe each image; None if there are none.
        orientation_matters: whether a flip would change the class (digits, letters).
        group_ids: int64 [N], equal for images made from the same original; None if there are no such images.
        environment: [N], where each image comes from, of an .npz file or of folders that say so; else None.
        weights: float [N], the weight of each image in what is trained on it; None: all alike.
        modalities: of aligned images, name -> number of channels for each modality, in channel order; else None.
        sample_rate: of sounds, in Hz; else None.
        paths: of the files, relative to the set's folder, in order; empty for images that are no files.
        unreadable: images that could not be read so far, position -> (path, reason).
    """

    modality = Modality.IMAGE
    images: Images | None = None
    sample_rate: int | None = None
    paths: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        *,
        channels: int,
        size: int,
        labels: Tensor | None,
        classes: Sequence[str] | None,
        orientation_matters: bool = False,
    ) -> None:
        self.name, self.channels, self.size = name, channels, size
        self.labels, self.classes = labels, None if classes is None else tuple(classes)
        self.orientation_matters = orientation_matters
        self.captions: Captions | None = None
        self.group_ids: Tensor | None = None
        self.environment: NDArray[Any] | None = None
        self.weights: Tensor | None = None
        self.modalities: dict[str, int] | None = None
        self.unreadable: dict[int, tuple[str, str]] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, index: Tensor) -> Images:
        """The items at ``index`` (int64 [n]): images uint8 [n, C, H, W], or a list of uint8 [C, H_i, W_i] where sizes
        differ; sounds, a list of int16 [1, 1, T_i].

        Raises:
            UnreadableError: for the first one that cannot be read.
        """

    def subset(self, index: Tensor) -> Self:
        """The items at ``index`` as a new source, with channels, size and classes of the whole."""
        part = copy.copy(self)
        part.labels = None if self.labels is None else self.labels[index]
        part.captions = None if self.captions is None else self.captions.subset(index)
        part.group_ids = None if self.group_ids is None else self.group_ids[index]
        part.environment = None if self.environment is None else self.environment[index.numpy()]
        part.weights = None if self.weights is None else self.weights[index]
        part.paths = [self.paths[i] for i in index.tolist()] if self.paths else ()
        part.unreadable = {}
        return part

    @property
    def environment_codes(self) -> Tensor | None:
        """The environments as numbers 0, 1, ..., in their order: int64 [N]; None where they are not known."""
        return (
            None if self.environment is None else torch.from_numpy(np.unique(self.environment, return_inverse=True)[1])
        )

    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the set; of files, 16 for their names and labels, a point, and 16 for
        their contents. :meth:`changed_since` compares them."""

    def changed_since(self, fingerprint: str) -> str:
        """What distinguishes this set from one with that fingerprint, in a few words; "" if nothing does.

        Earlier versions did not record the contents of files: there, only names and labels are compared.
        """
        then, now, items = fingerprint.split("."), self.fingerprint().split("."), self.modality.plural
        if then[0] != now[0]:
            return f"other {items} or labels" if self.captions is None else f"other {items}, labels or captions"
        return f"{items} of the same names with other contents" if then[1:] and then[1:] != now[1:] else ""

    def found_in(self, other: "Source", most: int | None = None) -> Tensor | None:
        """Which items are in another source, too, byte for byte: bool [N]; None where it is of another kind, or where
        more than ``most`` files would be read."""
        return None

    @property
    def label_bytes(self) -> bytes:
        """The labels' and the captions' part of a fingerprint; none without them."""
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return labels + (b"" if self.captions is None else self.captions.bytes)

    @property
    def description(self) -> str:
        """A typical image, in words."""
        return f"images, {self.channels} x {self.size} px"

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of an epoch: int64 [N], every position once, determined by (seed, epoch) alone."""
        return permutation(seed, epoch, len(self))

    def label(self, index: Tensor) -> Tensor:
        """Labels int64 [n] of the images at ``index``, -1 where there is none."""
        return torch.full_like(index, -1) if self.labels is None else self.labels[index]

    def take(self, index: Tensor) -> tuple[Images, Tensor]:
        """:meth:`fetch`, substituting the next readable image of the set for each one that cannot be read.

        Unreadable images are recorded in :attr:`unreadable`. The substitute depends on the files alone, not on which of
        them are already known to be unreadable.

        Returns:
            The images, and int64 [n], their actual positions.
        """
        return self.take_by(index, self.fetch)

    def take_by(self, index: Tensor, fetch: Callable[[Tensor], T]) -> tuple[T, Tensor]:
        """:meth:`take` by another function than :meth:`fetch`, which can read what that can."""
        while True:
            index = self._readable(index)
            try:
                return fetch(index), index
            except UnreadableError as error:
                self._record(error, index)

    def take_readable(self, index: Tensor) -> tuple[Images, Tensor]:
        """:meth:`fetch` of those images that can be read, and their positions; the others are recorded in
        :attr:`unreadable`."""
        while True:
            index = torch.tensor([i for i in index.tolist() if i not in self.unreadable], dtype=torch.int64)
            try:
                return self.fetch(index), index
            except UnreadableError as error:
                self._record(error, index)

    def _record(self, error: UnreadableError, index: Tensor) -> None:
        """Record the image that cannot be read, and those after it in ``index``: found one batch after another, each of
        them would cost a batch."""
        self.unreadable[error.index] = (error.path, error.reason)
        positions = index.tolist()
        for i in positions[positions.index(error.index) + 1 :]:
            try:
                self.fetch(torch.tensor([i]))
            except UnreadableError as e:
                self.unreadable[e.index] = (e.path, e.reason)

    def _readable(self, index: Tensor) -> Tensor:
        """The positions, each moved to the next one that is not known to be unreadable."""
        if not self.unreadable:
            return index
        if len(self.unreadable) >= len(self):
            path, reason = next(iter(self.unreadable.values()))
            raise UserError(f"no image of {self.name} can be read, for example {path}: {reason}")
        positions = index.tolist()
        for k, i in enumerate(positions):
            while i in self.unreadable:
                i = (i + 1) % len(self)
            positions[k] = i
        return torch.tensor(positions, dtype=torch.int64)
