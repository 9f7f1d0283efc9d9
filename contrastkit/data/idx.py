"""LeCun's idx format, used by MNIST and its relatives."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource
from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.labels import numbered
from contrastkit.errors import UserError
from contrastkit.memory import available_memory


def open_idx(request: Request) -> DataSet | None:
    dataset = idx_dataset(request.path, request.path.name)
    if dataset is not None:
        request.reading.require_no_choice(request.data)
    return dataset


def idx_dataset(folder: Path, name: str, *, orientation_matters: bool = False) -> DataSet | None:
    """MNIST's four files, gzipped or not, if the folder has them."""
    images, labels = [], []
    for part in ("train", "t10k"):
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            path = next((p for end in ("", ".gz") if (p := folder / f"{part}-{kind}-ubyte{end}").is_file()), None)
            if path is None:
                return None
            arrays.append(_read_idx(path))
        shape, n = arrays[0].shape, arrays[1].shape
        if len(shape) != 3 or n != shape[:1]:
            raise UserError(f"{folder}: {part} images {tuple(shape)} and labels {tuple(n)} do not match")
        images.append(arrays[0][:, None])
        labels.append(arrays[1].numpy())
    numbers, classes = numbered(labels)
    train, test = (
        ArraySource(name, pixels, y, classes=classes, orientation_matters=orientation_matters)
        for pixels, y in zip(images, numbers, strict=True)
    )
    return DataSet(name, train, test, train)


def _read_idx(path: Path) -> Tensor:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08":
                raise ValueError("not an idx file of bytes")
            shape = np.frombuffer(file.read(4 * head[3]), ">u4", head[3]).tolist()
            size = math.prod(shape)
            if not 0 < size <= available_memory():
                raise ValueError(f"its header claims the shape {shape}, which is empty or does not fit in memory")
            raw = file.read(size + 1)  # one byte more shows whether that was all, and no more is unpacked
        return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(shape).copy())
    except (OSError, EOFError, ValueError, zlib.error) as e:
        raise UserError(f"{path} cannot be read: {e}") from e
