"""Small annotated sets, written to disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[str, float, float, float, float]


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """An image of noise, of this width and height."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def xml(boxes: Sequence[Box], size: tuple[int, int] | None = (40, 30), difficult: Sequence[int] = ()) -> str:
    """An annotation of VOC's."""
    sides = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(i in difficult)}</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for i, (name, a, b, c, d) in enumerate(boxes)
    )
    return f"<annotation>{sides}{objects}</annotation>"


def write_boxes(root: Path, lists: Mapping[str, Mapping[str, str]]) -> Path:
    """A set for detection: list -> image -> annotation. Images are noise of 40 x 30 pixels."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for seed, (name, images) in enumerate(lists.items()):
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{image}\n" for image in images))
        for k, (image, text) in enumerate(images.items()):
            picture(100 * seed + k).save(root / "JPEGImages" / f"{image}.png")
            (root / "Annotations" / f"{image}.xml").write_text(text)
    return root


def write_masks(root: Path, lists: Mapping[str, Mapping[str, Any]], *, pets: bool = False) -> Path:
    """A set for segmentation: list -> image -> mask, an array [H, W] of bytes. Pixels are their class's grey, so that
    each class is plain to see, or with ``pets`` trimap's."""
    images, masks, listed = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    if pets:
        images, masks, listed = ("images", "annotations/trimaps", "annotations")
    for folder in (images, masks, listed):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, pairs in lists.items():
        (root / listed / f"{name}.txt").write_text("".join(f"{image} 1 1 1\n" for image in pairs))
        for image, mask in pairs.items():
            array = np.asarray(mask, np.uint8)
            grey = np.repeat((array % 4 * 80)[:, :, None], 3, 2)
            Image.fromarray(grey).save(root / images / f"{image}.png")
            Image.fromarray(array).save(root / masks / f"{image}.png")
    return root


def halves(seed: int, size: tuple[int, int] = (24, 32), classes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """A mask [H, W] divided at a random column."""
    at = int(np.random.default_rng(seed).integers(8, size[1] - 8))
    mask = np.full(size, classes[0], np.uint8)
    mask[:, at:] = classes[1]
    return mask
