"""Labels as numbers from 0, whatever they are in the data."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.integer]


def numbered(parts: Sequence[Integers]) -> tuple[list[Tensor], list[str] | None]:
    """Labels 0, 1, ..., n - 1 for n classes. Other integers, such as 5, 12, 19 or dates, are numbered in ascending
    order, so that what is computed for each class does not grow with the largest label; -1, no label, stays.

    Args:
        parts: the labels of each part, [N].

    Returns:
        int64 [N] for each part; and the labels as given, the names of the classes, if they were numbered anew.
    """
    found = [np.unique(part, return_inverse=True) for part in parts]
    known = sorted({int(label) for labels, _ in found for label in labels} - {-1})  # no array: types may differ
    number = {-1: -1} | {label: i for i, label in enumerate(known)}
    numbers = [
        torch.tensor([number[int(label)] for label in labels], dtype=torch.int64)[torch.from_numpy(place)]
        for labels, place in found
    ]
    return numbers, None if known == list(range(len(known))) else [str(label) for label in known]
