"""The captions of a set of images."""

import json
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor


class Captions:
    """The texts that describe each image of a set, at least one an image.

    Attributes:
        texts: all captions, those of the first image first.
        first: int64 [N + 1]: the captions of image i are ``texts[first[i] : first[i + 1]]``.
    """

    def __init__(self, of_images: Iterable[Sequence[str]]) -> None:
        """
        Args:
            of_images: the texts of each image.
        """
        texts, ends = list[str](), [0]
        for captions in of_images:
            texts += captions
            ends.append(len(texts))
        self.texts, self.first = tuple(texts), torch.tensor(ends)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.first) - 1

    def of(self, image: int) -> tuple[str, ...]:
        """The texts of one image."""
        return self.texts[int(self.first[image]) : int(self.first[image + 1])]

    @property
    def image(self) -> Tensor:
        """The image of each text: int64 [number of texts]."""
        return torch.arange(len(self)).repeat_interleave(self.first.diff())

    def subset(self, index: Tensor) -> Self:
        """The captions of the images at ``index``, in its order."""
        return type(self)(self.of(i) for i in index.tolist())

    @property
    def bytes(self) -> bytes:
        """Their part of a set's fingerprint."""
        return json.dumps([self.texts, self.first.tolist()]).encode()
