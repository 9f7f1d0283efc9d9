"""Photographs, of a kind, and their copies; and galleries of them whose features are given."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from contrastkit.data import open_data
from contrastkit.evaluate import EvaluationSubject
from contrastkit.explore import Gallery


def photo(seed: int, side: int = 48) -> Image.Image:
    """Large and small blobs of colour."""
    g = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(g.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((side, side)), np.float64)
        for n in (4, 12)
    ]
    return Image.fromarray((0.6 * layers[0] + 0.4 * layers[1]).astype(np.uint8))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def folder_of_copies(root: Path) -> Path:
    """Six photographs; of the first four a copy each: the same pixels, a smaller one, a compressed one and a mirrored
    one."""
    root.mkdir()
    photos = [photo(i) for i in range(6)]
    copies = [photos[0].copy(), photos[1].resize((30, 30)), compressed(photos[2], 40), ImageOps.mirror(photos[3])]
    for prefix, images in (("a", photos), ("b", copies)):
        for i, image in enumerate(images):
            image.save(root / f"{prefix}{i}.png")
    return root


def gallery(data: Path, size: int = 16) -> Gallery:
    """Of raw pixels."""
    dataset = open_data(str(data))
    return Gallery.open(EvaluationSubject(data=dataset, encoders={"raw pixels": None}, size=size))
