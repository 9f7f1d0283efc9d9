"""Small sets of images that several tests train on."""

from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the nets are tiny: more threads would only wait for each other


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 colour images of 16 x 16 pixels in an .npz: four classes of coloured noise, and their labels."""
    g = np.random.default_rng(0)
    labels = np.arange(320) % 4
    tint = g.uniform(40, 215, size=(4, 1, 1, 3))
    pixels = np.clip(tint[labels] + g.normal(0, 25, size=(320, 16, 16, 3)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("images") / "noise.npz"
    np.savez(path, images=pixels, labels=labels)
    return path
