"""The sheet of images and their views."""

from dataclasses import replace

import numpy as np
import torch

from contrastkit.augment import VIEWS, sheet
from tests.augment.photos import photos


def test_sheet_shows_originals_and_views():
    images, views = photos(4), [replace(v, size=32) for v in VIEWS["moco-v2"]]

    def made(seed: int) -> bytes:
        image = sheet(images, views, index=torch.arange(4), epochs=3, seed=seed)
        assert image.mode == "RGB"
        assert image.size == ((1 + 3 * 2) * 36, 4 * 36), "columns: the original and 3 draws of 2 views; a gap of 2 px"
        original = torch.from_numpy(np.array(image))[2:34, 2:34].permute(2, 0, 1)
        assert (original.int() - images[0].int()).abs().max() <= 1
        return image.tobytes()

    assert made(0) == made(0) != made(1)
