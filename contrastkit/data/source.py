"""What every source is: an indexed set of images or sounds. One module for each kind of them is beside this one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.rng import permutation
from contrastkit.types import Images, Modality


class UnreadableError(Exception):
    """An image that cannot be read: its position, its name for people, and why."""

    def __init__(self, index: int, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.index, self.path, self.reason = index, path, reason


class Source(ABC):
    """An indexed set of images, or of sounds: images of height 1, int16 [1, 1, T].

    Attributes:
        modality: what it hands out.
        name: what to call it on the screen.
        channels: of every image.
        size: shorter side of a typical image in pixels; of sounds, how many samples a typical one has.
        labels: int64 [N], -1 where an image has none; None for an unlabelled set.
        classes: names of the labels 0, 1, ...; None where they have none.
        orientation_matters: flips would change the class (digits, letters).
        group_ids: int64 [N], images made from the same original share a number; None where each is its own.
        modalities: of aligned images, the modalities that their channels come from, name -> number of channels, in
            order; else None.
        sample_rate: of sounds, in Hz; else None.
        unreadable: images found to be unreadable so far: position -> (path, reason).
    """

    modality = Modality.IMAGE

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
        self.group_ids: Tensor | None = None
        self.modalities: dict[str, int] | None = None
        self.sample_rate: int | None = None
        self.unreadable: dict[int, tuple[str, str]] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, index: Tensor) -> Images:
        """The images at ``index`` (int64 [n]): uint8 [n, C, H, W], or a list of uint8 [C, H_i, W_i] where sizes differ.

        Raises:
            UnreadableError: for the first one that cannot be read.
        """

    @abstractmethod
    def subset(self, index: Tensor) -> "Source":
        """The images at ``index`` as a source of their own."""

    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits: whether a resumed run or cached features see the same set."""

    @property
    def description(self) -> str:
        """What a typical image is, for people."""
        return f"images, {self.channels} x {self.size} px"

    def order(self, seed: int, epoch: int) -> Tensor:
        """The order of an epoch: int64 [N], every position once, a function of (seed, epoch) alone."""
        return permutation(seed, epoch, len(self))

    def label(self, index: Tensor) -> Tensor:
        """Labels int64 [n] of the images at ``index``, -1 where there is none."""
        return torch.full_like(index, -1) if self.labels is None else self.labels[index]

    def take(self, index: Tensor) -> tuple[Images, Tensor]:
        """:meth:`fetch`, with the next readable image of the set substituted for each one that cannot be read, which
        is noted in :attr:`unreadable`.

        The substitute depends on the files alone, not on which unreadable ones are already known.

        Returns:
            The images, and int64 [n], the positions they really have.
        """
        while True:
            index = self._readable(index)
            try:
                return self.fetch(index), index
            except UnreadableError as e:
                self.unreadable[e.index] = (e.path, e.reason)

    def _readable(self, index: Tensor) -> Tensor:
        """The same positions, or the next ones that are not known to be unreadable."""
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
