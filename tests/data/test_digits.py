"""The embedded digits, plain and in random poses."""

import torch

from contrastkit.data import open_data
from tests.data.pictures import images_of


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = open_data("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.pretrain is data.train
    assert (data.train.channels, data.train.size, data.train.orientation_matters) == (1, 8, True)
    both = torch.cat([images_of(data.train), images_of(data.test)]).flatten(1).double() * 16 / 255
    labels = torch.cat([data.train.labels, data.test.labels])
    got = sorted((tuple(image), label) for image, label in zip(both.round().tolist(), labels.tolist(), strict=True))
    bunch = load_digits()
    assert got == sorted(
        (tuple(image), label) for image, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)
    )


def test_affdigits():
    data, plain = open_data(), open_data("digits")
    train, test = data.train, data.test
    assert images_of(train).shape == (8622, 1, 32, 32)
    assert images_of(test).shape == (2160, 1, 32, 32)
    assert train.orientation_matters
    assert torch.equal(train.labels.view(6, -1), plain.train.labels.expand(6, -1))
    assert torch.equal(test.labels.view(6, -1), plain.test.labels.expand(6, -1))
    # Poses differ and no digit is cut off: the amount of ink only grows with the square of the magnification.
    assert images_of(train).unique(dim=0).shape[0] == len(train)
    ink = images_of(train).double().sum((1, 2, 3)) / images_of(plain.train).double().sum((1, 2, 3)).repeat(6)
    assert ink.min() > 2.5**2 * 0.8**2 * 0.9
    assert ink.max() < 2.5**2 * 1.2**2 * 1.1
    assert abs(ink.mean() - 2.5**2) < 0.4  # bicubic overshoot below black is clipped, which adds a little ink
    # Shifted all over the canvas.
    weight = images_of(train).double()[:, 0]
    centre = (weight.sum(1) @ torch.arange(32.0, dtype=torch.float64)) / weight.sum((1, 2))
    assert centre.min() < 12
    assert centre.max() > 20
    assert open_data("affdigits").train.fingerprint() == train.fingerprint()
