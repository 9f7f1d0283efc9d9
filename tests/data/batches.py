"""Small sets of images to load, and what to do with their batches."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from contrastkit.data import ArraySource, Loader
from contrastkit.types import Batch


def array(n: int = 50) -> ArraySource:
    images = torch.randint(0, 256, (n, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ArraySource("array", images, torch.arange(n) % 7)


def folder(root: Path, n: int = 50) -> Path:
    generator = np.random.default_rng(0)
    for k in range(n):
        path = root / "ab"[k % 2] / f"{k:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + k % 5, 24 - k % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def spoil(root: Path, *names: str) -> None:
    """Cut image files short, or empty them."""
    for k, name in enumerate(names):
        path = root / name
        path.write_bytes(path.read_bytes()[:60] if k % 2 else b"")


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(a.index, b.index), (a.label, b.label), *zip(a.views, b.views, strict=True)]
    return all(torch.equal(x, y) for x, y in pairs)


def epoch(loader: Loader, k: int) -> Iterator[Batch]:
    return loader.batches(k * loader.steps_per_epoch, (k + 1) * loader.steps_per_epoch)
