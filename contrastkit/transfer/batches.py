"""Batches of annotated images for training, image and annotation augmented together."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from contrastkit.data.workers import Workers
from contrastkit.rng import JOINT, generator_seed, permutation

Example = tuple[Tensor, Any]  # an image and its annotation
Augmentation = Callable[[Tensor, Any], Example]


class Part(Protocol):
    """The images of a part, and their annotations."""

    def __len__(self) -> int: ...

    def read(self, i: int, channels: int) -> Example: ...


class Batches:
    """Batches of augmented examples, a list each. Order and augmentation of an example are a function of (seed, epoch,
    index): torch's generator, from which torchvision's transforms draw, is seeded for each example and restored.

    Attributes:
        steps_per_epoch: the last, partial batch is dropped.
    """

    def __init__(
        self, part: Part, augment: Augmentation, *, channels: int, batch: int, seed: int, workers: int = 0
    ) -> None:
        """``batch``: examples of a step, limited to those there are."""
        self.batch, self.seed, self.n = min(batch, len(part)), seed, len(part)
        self.steps_per_epoch = self.n // self.batch
        self._workers = Workers(_Augmented(part, augment, channels, seed), workers=workers)

    def batches(self, start: int, end: int) -> Iterator[list[Example]]:
        """The batches of training steps [start, end), across epochs."""
        return self._workers.map(_addresses(range(start, end), self.n, self.batch, self.seed))

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()


def _addresses(steps: range, n: int, batch: int, seed: int) -> Iterator[tuple[int, list[int]]]:
    """Epoch and positions of each step."""
    order: list[int] = []
    current = -1
    for step in steps:
        epoch, k = divmod(step, n // batch)
        if epoch != current:
            current, order = epoch, permutation(seed, epoch, n).tolist()
        yield epoch, order[k * batch : (k + 1) * batch]


class _Augmented(Dataset[Any]):
    def __init__(self, part: Part, augment: Augmentation, channels: int, seed: int) -> None:
        self.part, self.augment, self.channels, self.seed = part, augment, channels, seed

    def __getitem__(self, task: tuple[int, list[int]]) -> list[Example]:
        epoch, positions = task
        with torch.random.fork_rng(devices=[]):
            return [self._example(epoch, i) for i in positions]

    def _example(self, epoch: int, i: int) -> Example:
        image, target = self.part.read(i, self.channels)
        torch.random.default_generator.manual_seed(generator_seed(self.seed, epoch, i, JOINT))
        return self.augment(image, target)
