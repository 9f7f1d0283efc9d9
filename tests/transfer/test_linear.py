"""A linear head on frozen feature maps."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.transfer.linear import RECIPES, Crop, LinearHead, linear_recipe, train_head
from contrastkit.transfer.masks import IGNORED, open_masks
from contrastkit.transfer.subject import TransferSubject
from tests.transfer.sets import halves, write_masks


def test_the_published_numbers_are_those_of_dinov3() -> None:
    """dinov3/eval/segmentation: configuration of its linear probe on ADE20k."""
    row = RECIPES["dinov3"]
    assert (row.steps, row.batch, row.lr, row.weight_decay) == (40_000, 16, 1e-3, 1e-3)
    assert (row.warmup_steps, row.dropout, row.clip_norm, row.scale, row.flip_p) == (1500, 0.1, 35.0, (0.5, 2.0), 0.5)


def test_a_recipe_is_changed_by_what_is_given() -> None:
    changed = linear_recipe("dinov3", steps=100, lr=None, batch=2)
    assert (changed.steps, changed.lr, changed.batch, changed.warmup_steps) == (100, 1e-3, 2, 10)
    with pytest.raises(UserError, match="unknown recipe 'dino'"):
        linear_recipe("dino")
    with pytest.raises(UserError, match="--lr must be above 0"):
        linear_recipe("tiny", lr=0.0)


def test_the_head_is_batch_norm_and_a_1x1_convolution() -> None:
    head = LinearHead(5, 3, dropout=0.0, seed=0)
    maps = 7 + 3 * torch.randn(4, 5, 6, 6)
    normal = (maps - maps.mean((0, 2, 3), keepdim=True)) / (
        maps.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    weight = head.classify.weight[:, :, 0, 0]
    assert torch.allclose(head(maps), torch.einsum("cd,ndhw->nchw", weight, normal), atol=1e-5)
    assert weight.std().item() == pytest.approx(0.01, rel=0.5)
    assert not head.classify.bias.any()


@pytest.mark.parametrize("scale", [(0.5, 0.9), (1.0, 1.0), (1.1, 2.0)])
def test_image_and_mask_are_cropped_and_mirrored_together(scale: tuple[float, float]) -> None:
    """The image shows the class of its pixel, in plains so wide that no smoothing reaches their middle."""
    mask = torch.zeros(24, 40, dtype=torch.int64)
    mask[:, 13:] = 1
    mask[12:, 26:] = 2
    image = (60 + 60 * mask).byte().expand(3, -1, -1)
    flips = set()
    for seed in range(20):
        torch.manual_seed(seed)
        x, y = Crop(32, scale, flip_p=0.5)(image, mask)
        assert x.shape == (3, 32, 32) and y.shape == (32, 32)
        assert set(y.unique().tolist()) <= {0, 1, 2, IGNORED}
        expected = torch.where(y == IGNORED, 0, 60 + 60 * y)
        close = (x[0].int() - expected).abs() <= 1
        assert close.double().mean() > 0.8  # all but the smoothed edges
        assert (y == IGNORED).any() == (scale[1] < 1)
        if scale == (1.0, 1.0):
            flips.add(int(y[0, 0]))
    assert flips in ({0, 1}, set())


def test_a_head_learns_what_is_plain_to_see_and_leaves_the_encoder_as_it_is(tmp_path: Path) -> None:
    lists = {
        "train": {f"a{k}": halves(k, classes=(k % 2, 1 - k % 2)) for k in range(8)},
        "val": {f"b{k}": halves(20 + k) for k in range(3)},
    }
    data = open_masks(write_masks(tmp_path, lists))
    torch.manual_seed(0)
    encoder = build_encoder("tiny", channels=3, size=32).eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    subject = TransferSubject(encoders={"tiny": encoder}, trained=frozenset(), size=32, workers=0)
    recipe = linear_recipe("tiny", steps=60, batch=4, lr=0.01)
    head = train_head(encoder, data, recipe, subject, size=32, log=lambda line: None, on_step=lambda step, loss: None)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not head.training
    with torch.no_grad():
        for i in range(3):
            image, mask = data.test.read(i, 3)
            x = F.interpolate(image[None].float() / 255, (32, 32), mode="bilinear")
            found = F.interpolate(head(encoder.maps(x)), mask.shape, mode="bilinear").argmax(1)[0]
            assert (found == mask).double().mean() > 0.9
