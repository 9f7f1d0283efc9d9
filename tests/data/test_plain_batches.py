"""The plain view of images, for evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import open_data, plain_batches
from contrastkit.errors import UserError
from tests.data.pictures import images_of


def test_plain_batches_are_the_images_in_order():
    source = open_data("digits").test
    batches = list(plain_batches(source, size=8, batch=100))
    assert [len(b.index) for b in batches] == [100, 100, 100, 60]
    assert torch.equal(torch.cat([b.index for b in batches]), torch.arange(360))
    assert torch.equal(torch.cat([b.label for b in batches]), source.labels)
    assert torch.equal(torch.cat([b.views[0] for b in batches]), images_of(source) / 255)


def test_plain_batches_convert_channels(tmp_path):
    from torchvision.transforms.v2 import functional as tvf

    source = open_data("digits").test
    (batch,) = plain_batches(source, size=8, channels=3, batch=360)
    assert torch.equal(batch.views[0], (images_of(source) / 255).expand(-1, 3, -1, -1))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels)
    colour = open_data(str(tmp_path / "x.npz")).train
    (batch,) = plain_batches(colour, size=8, channels=1)
    want = tvf.rgb_to_grayscale(images_of(colour) / 255)
    torch.testing.assert_close(batch.views[0], want, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="has 3 channels, the encoder takes 4"):
        next(plain_batches(colour, size=8, channels=4))


@pytest.mark.parametrize(("side", "size", "short"), [((40, 60), 28, 32), ((40, 60), 39, 39), ((20, 30), 32, 32)])
def test_plain_batches_resize_and_crop_as_torchvision(tmp_path, side, size, short):
    from torchvision.transforms import v2

    pixels = np.random.default_rng(0).integers(0, 256, (3, *side, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels)
    (tmp_path / "files").mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "files" / f"{k}.png")
    pipeline = v2.Compose([v2.Resize(short, antialias=True), v2.CenterCrop(size)])
    for path in ("x.npz", "files"):
        source = open_data(str(tmp_path / path)).train
        (batch,) = plain_batches(source, size=size)
        want = pipeline(torch.from_numpy(pixels).permute(0, 3, 1, 2)) / 255
        assert batch.views[0].shape == (3, 3, size, size)
        assert (batch.views[0] - want).abs().mean() < 0.02
