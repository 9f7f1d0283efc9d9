"""LeCun's idx format, used by MNIST and its relatives."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource
from contrastkit.data.dataset import DataSet, Request
from contrastkit.errors import UserError


def open_idx(request: Request) -> DataSet | None:
    return idx_dataset(request.path, request.path.name)


def idx_dataset(folder: Path, name: str, *, orientation_matters: bool = False) -> DataSet | None:
    """MNIST's four files, gzipped or not, if the folder has them."""
    parts = []
    for part in ("train", "t10k"):
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            path = next((p for end in ("", ".gz") if (p := folder / f"{part}-{kind}-ubyte{end}").is_file()), None)
            if path is None:
                return None
            arrays.append(_read_idx(path))
        images, labels = arrays
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"{folder}: {part} images {tuple(images.shape)} and labels {tuple(labels.shape)} do not match"
            )
        parts.append(ArraySource(name, images[:, None], labels.long(), orientation_matters=orientation_matters))
    return DataSet(name, parts[0], parts[1], parts[0])


def _read_idx(path: Path) -> Tensor:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ndim = raw[3]
        shape = np.frombuffer(raw, ">u4", ndim, offset=4).astype(int)
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not an idx file of bytes")
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape).copy())
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as e:
        raise UserError(f"{path} cannot be read: {e}") from e
