"""The labels of a torch ``Dataset``."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from contrastkit.data.torch_dataset import open_dataset
from contrastkit.errors import UserError


class Labelled(Dataset[Any]):
    def __init__(self, targets: Any, classes: list[str] | None = None) -> None:
        self.targets = targets
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return np.full((8, 8), i, np.uint8)


@pytest.mark.parametrize(
    ("targets", "names", "expected", "classes"),
    [
        ([5, 19, 12, 5], None, [0, 2, 1, 0], ("5", "12", "19")),
        (torch.tensor([2**62, -1, 7, 7]), None, [1, -1, 0, 0], ("7", str(2**62))),
        ([0, 2, 1, 1], None, [0, 2, 1, 1], None),
        ([0, 2, 2, 0], ["a", "b", "c"], [0, 2, 2, 0], ("a", "b", "c")),
        ([False, True, True, False], None, [0, 1, 1, 0], None),
    ],
)
def test_labels_are_numbered(
    targets: Any, names: list[str] | None, expected: list[int], classes: tuple[str, ...] | None
) -> None:
    source = open_dataset(Labelled(targets, names)).train
    assert source.labels is not None and source.labels.tolist() == expected and source.classes == classes


@pytest.mark.parametrize("targets", [[1j, 0, 0, 0], [0.5, 1, 1, 1], [-2, 0, 0, 0], ["a", "b", "c", "d"], [0, 1]])
def test_other_labels_are_refused(targets: Any) -> None:
    with pytest.raises(UserError, match="the labels of Labelled must be"):
        open_dataset(Labelled(targets))


def test_images_with_alpha_or_16_bits() -> None:
    class Pictures(Labelled):
        def __getitem__(self, i: int) -> Any:
            clear = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
            return clear if i else Image.new("RGBA", (4, 4), (9, 9, 9, 255))

    images = open_dataset(Pictures([0, 1, 0, 1])).train.fetch(torch.tensor([0, 1]))
    assert [int(image[0, 0, 0]) for image in images] == [9, 255]


def test_arrays_may_be_flipped_and_must_be_finite() -> None:
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)

    class Pictures(Labelled):
        def __getitem__(self, i: int) -> Any:
            return [ramp, ramp[:, ::-1], np.full_like(ramp, np.nan), -ramp][i]

    source = open_dataset(Pictures([0, 1, 0, 1])).train
    images, index = source.take_readable(torch.arange(4))
    assert index.tolist() == [0, 1] and torch.equal(images[1], images[0].flip(2))
    assert images[0][2, 1, 1] == 255


def test_want_of_memory_is_no_damaged_image() -> None:
    class Huge(Labelled):
        def __getitem__(self, i: int) -> Any:
            if i:
                raise MemoryError
            return super().__getitem__(i)

    with pytest.raises(MemoryError):
        open_dataset(Huge([0, 1, 0, 1])).train.take(torch.tensor([1]))
