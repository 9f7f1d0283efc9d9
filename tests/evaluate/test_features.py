"""Encoding: in order, once, in eval mode, and without side effects."""

import pytest
import torch

from contrastkit.data import ArraySource
from contrastkit.errors import UserError
from contrastkit.evaluate.features import Features, encode, labelled, raw_pixels
from contrastkit.parts.build import build_encoder


def source(channels: int = 3, n: int = 21) -> ArraySource:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, 12, 12), generator=g, dtype=torch.uint8)
    return ArraySource("noise", images, torch.arange(n) % 4 - 1)


def test_each_image_as_if_alone() -> None:
    data = source()
    encoder = build_encoder("tiny", channels=3, size=12)
    for _ in range(3):  # statistics other than the initial ones
        encoder(torch.rand(16, 3, 12, 12))
    counts: list[int] = []
    result = encode(encoder, data, size=12, batch=8, on_batch=counts.append)
    encoder.eval()
    for i in range(21):
        torch.testing.assert_close(
            result.x[i], encoder(data.images[i : i + 1].float() / 255)[0].detach(), rtol=1e-4, atol=1e-5
        )
    assert torch.equal(result.y, data.labels)
    assert (result.x.dtype, result.y.dtype, result.x.requires_grad) == (torch.float32, torch.int64, False)
    assert counts == [8, 8, 5]


def test_the_encoder_comes_back_as_it_was() -> None:
    encoder = build_encoder("tiny", channels=3, size=12).train()
    encoder.trunk.bn1.eval()  # frozen by its owner
    modes = [part.training for part in encoder.modules()]
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encode(encoder, source(), size=12)
    assert [part.training for part in encoder.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_the_mode_comes_back_after_an_error_too() -> None:
    encoder = build_encoder("tiny", channels=3, size=12).train()
    with pytest.raises(UserError):
        encode(encoder, source(channels=2), size=12)
    assert encoder.training and encoder.trunk.training


def test_gray_images_for_an_encoder_of_three_channels() -> None:
    gray = source(channels=1)
    encoder = build_encoder("tiny", channels=3, size=12)
    rgb = ArraySource("noise", gray.images.repeat(1, 3, 1, 1), gray.labels)
    assert torch.equal(encode(encoder, gray, size=12).x, encode(encoder, rgb, size=12).x)


def test_raw_pixels() -> None:
    data = source()
    result = raw_pixels(data, size=12)
    assert torch.equal(result.x, (data.images.float() / 255).reshape(21, 3 * 12 * 12) - 0.5)
    assert torch.equal(result.y, data.labels)


def test_pixels_of_large_images_are_shrunk() -> None:
    gradient = torch.linspace(0, 255, 96).to(torch.uint8).expand(2, 1, 96, 96)
    result = raw_pixels(ArraySource("large", gradient), size=96)
    assert result.x.shape == (2, 32 * 32)
    row = result.x[0].view(32, 32)[7].double()
    # The plain view: resized to 8/7 of the side, 37, then the centre.
    expected = ((torch.arange(32).double() + 2.5) * 96 / 37 - 0.5) / 95 - 0.5
    torch.testing.assert_close(row, expected, atol=0.01, rtol=0)


def test_those_with_a_label() -> None:
    y = torch.tensor([2, -1, 0])
    some = Features(torch.arange(3.0)[:, None], y).labelled("it")
    assert (some.x.flatten().tolist(), some.y.tolist()) == ([0.0, 2.0], [2, 0])
    data = source()
    subset = labelled(data, "it")
    assert subset.labels.tolist() == [label for label in data.labels.tolist() if label >= 0]
    pixels = subset.fetch(torch.tensor([0]))
    assert isinstance(pixels, torch.Tensor) and torch.equal(pixels, data.images[1:2])
    with pytest.raises(UserError, match="it needs labels"):
        Features(torch.ones(2, 1), torch.tensor([-1, -1])).labelled("it")
    with pytest.raises(UserError, match="it needs labels"):
        labelled(ArraySource("bare", data.images), "it")


def test_groups_go_with_their_rows() -> None:
    data = source()
    data.group_ids = torch.arange(21) // 3
    encoder = build_encoder("tiny", channels=3, size=12)
    for features in (encode(encoder, data, size=12), raw_pixels(data, size=12)):
        assert features.group_ids is not None and torch.equal(features.group_ids, data.group_ids)
        rows = torch.tensor([4, 20, 0])
        assert features.subset(rows).group_ids.tolist() == [1, 6, 0]
        assert features.labelled("it").group_ids.tolist() == [i // 3 for i in range(21) if i % 4]
    assert encode(encoder, source(), size=12).group_ids is None


def test_the_encoder_sees_the_size_that_is_asked_for_under_the_autocast_that_is_given() -> None:
    seen: list[tuple[torch.Size, bool]] = []
    encoder = build_encoder("tiny", channels=3, size=8)
    encoder.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape, torch.is_autocast_enabled("cpu"))))
    result = encode(encoder, source(n=5), size=8, batch=4, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert seen == [((4, 3, 8, 8), True), ((1, 3, 8, 8), True)]
    assert result.x.dtype == torch.float32
    seen.clear()
    encode(encoder, source(n=5), size=12)
    assert seen == [((5, 3, 12, 12), False)]


def test_raw_pixels_are_told_of_and_in_order_over_batches() -> None:
    data = source(n=600)
    counts: list[int] = []
    result = raw_pixels(data, size=12, on_batch=counts.append)
    assert sum(counts) == 600 and len(counts) > 1
    assert torch.equal(result.x[-1], (data.images[-1].float() / 255).flatten() - 0.5)


def test_of_features_all_with_a_label_nothing_is_copied() -> None:
    whole = Features(torch.ones(2, 1), torch.tensor([0, 1]))
    assert whole.labelled("it") is whole


def test_standardised_by_the_training_images() -> None:
    """The training images as by a batch norm of the whole set without scale and shift, others by the same numbers."""
    g = torch.Generator().manual_seed(0)
    train, test = 3 + 5 * torch.randn(9, 4, generator=g), torch.randn(3, 4, generator=g)
    train[:, 2] = 7.0  # of no variance
    made = Features(train, torch.arange(9), readable=torch.arange(9) != 8)
    norm = torch.nn.BatchNorm1d(4, eps=1e-6, affine=False)
    torch.testing.assert_close(made.standardised_by(made).x[:8], norm(train[:8]))
    actual = Features(test, torch.arange(3)).standardised_by(made)
    for k in range(4):
        values = train[:8, k].tolist()
        mean = sum(values) / 8
        deviation = (sum((value - mean) ** 2 for value in values) / 8 + 1e-6) ** 0.5
        assert actual.x[:, k].tolist() == pytest.approx([(x - mean) / deviation for x in test[:, k].tolist()], rel=1e-4)
    assert torch.equal(actual.y, torch.arange(3))
