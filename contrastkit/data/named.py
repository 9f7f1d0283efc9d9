"""Data sets that torchvision provides by name."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource, channels_first
from contrastkit.data.dataset import DataSet, Request
from contrastkit.data.files import FileSource
from contrastkit.data.idx import idx_dataset
from contrastkit.data.names import TORCHVISION, Row
from contrastkit.data.source import Source
from contrastkit.errors import UserError


def open_named(request: Request) -> DataSet | None:
    name, data_dir = request.data, request.data_dir
    if (row := TORCHVISION.get(name)) is None:
        return None
    if data_dir is None:
        raise UserError(
            f"{name} needs the directory of named data sets: give --data-dir DIR (or set CONTRASTKIT_DATA), and "
            "--download to download it there"
        )
    folder = data_dir / name  # not data_dir itself: MNIST, KMNIST and Fashion-MNIST share their files' names
    if row.dataset.endswith("MNIST") and folder.is_dir():
        dataset = idx_dataset(folder, name, orientation_matters=row.orientation_matters)
        if dataset is not None:
            return dataset
    train = _torchvision(request, row, row.train, data_dir)
    test = _torchvision(request, row, row.test, data_dir)
    pretrain = train if row.pretrain is None else _torchvision(request, row, row.pretrain, data_dir)
    return DataSet(name, train, test, pretrain)


def _torchvision(request: Request, row: Row, part: dict[str, object], data_dir: Path) -> Source:
    import torchvision

    name, download = request.data, request.download
    build: Any = getattr(torchvision.datasets, row.dataset)
    fetch = {} if name == "imagenet" else {"download": download}
    try:
        if download:
            data_dir.mkdir(parents=True, exist_ok=True)
        dataset = build(data_dir, **part, **fetch)
    except (RuntimeError, OSError) as e:
        if download and fetch:
            raise UserError(f"{name} could not be downloaded into {data_dir}: {e}") from e
        how = "see torchvision.datasets.ImageNet for its layout" if name == "imagenet" else "add --download"
        raise UserError(f"{name} is not in {data_dir}: check --data-dir, or {how}") from e
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        classes = [c if isinstance(c, str) else c[0] for c in classes]  # ImageNet's are tuples of synonyms
    data = getattr(dataset, "data", None)
    if data is not None:
        labels = torch.as_tensor(np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None)))).long()
        images = channels_first(torch.as_tensor(data), name)
        return ArraySource(name, images, labels, classes=classes, orientation_matters=row.orientation_matters)
    paths, labels = _files_of(dataset)
    root = Path(os.path.commonpath([str(Path(p).parent) for p in paths]))
    relative = [os.path.relpath(p, root) for p in paths]
    return FileSource(
        name,
        relative,
        labels,
        root=root,
        classes=classes,
        orientation_matters=row.orientation_matters,
        reading=request.reading,
    )


def _files_of(dataset: Any) -> tuple[list[str], Tensor]:
    """Paths and labels of a torchvision data set of files; its classes store them under three different names."""
    pairs = getattr(dataset, "samples", getattr(dataset, "_samples", None))
    if pairs is None:
        paths = dataset._images if hasattr(dataset, "_images") else dataset._image_files
        pairs = list(zip(paths, dataset._labels, strict=True))
    return [str(path) for path, _ in pairs], torch.tensor([label for _, label in pairs])
