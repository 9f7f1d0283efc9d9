"""The monitor compares two different views of an image: different in their rows and in their draws."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from contrastkit.augment import View
from contrastkit.data import ArraySource, DataSet
from contrastkit.methods import Method
from contrastkit.monitor import Monitor
from contrastkit.parts.heads import Tower
from contrastkit.types import Batch, Step
from tests.augment.photos import PLAIN, photos


class PixelMethod(Method[None]):
    """The pixels themselves, as outputs."""

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        raise NotImplementedError


class Pixels(nn.Module):
    """The pixels themselves, as an encoder."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def alignment(*views: View) -> float:
    source = ArraySource("photos", photos(40, height=16, width=16))
    data = DataSet("photos", source, None, source)
    device = torch.device("cpu")
    monitor = Monitor(data, views, size=16, seed=0, device=device, every=1, chance_loss=None)
    encoder: Any = Pixels()
    method = PixelMethod()
    method.online = Tower(encoder, nn.Identity())
    return monitor.evaluate(method, loss=0.0)["alignment"]


def test_the_second_view_is_the_second_row():
    plain = replace(PLAIN, size=16)
    assert alignment(plain, plain) == pytest.approx(0, abs=1e-9)
    assert alignment(plain, replace(plain, solarize_p=1.0)) > 0.05
    assert alignment(plain, plain, replace(plain, solarize_p=1.0)) == pytest.approx(0, abs=1e-9), "the first two alone"


def test_two_views_of_one_row_are_two_draws():
    random = replace(PLAIN, size=16, crop_min=0.2)
    assert alignment(random, random) > 0.05
    assert alignment(random) > 0.05, "a method of one view (CPC): two draws of it"
