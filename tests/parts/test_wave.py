"""Sounds to frames and contexts, layer by layer, and what each frame may have heard."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import WaveEncoder
from contrastkit.parts.wave import WAVES, Wave, encoder_name, wave_name
from contrastkit.types import Modality


@pytest.mark.parametrize(("name", "stride", "dim"), [("wave", 160, 256), ("wave-tiny", 80, 128)])
def test_a_frame_is_ten_milliseconds(name: str, stride: int, dim: int) -> None:
    encoder = build_encoder(name, channels=1, size=16)
    assert isinstance(encoder, WaveEncoder) and encoder.dim == dim
    assert math.prod(WAVES[name]["strides"]) == stride
    z = encoder.frames(torch.randn(2, 1, 1, 8 * stride))
    assert z.shape == (2, 8, WAVES[name]["hidden"])
    assert encoder.contexts(z).shape == (2, 8, dim)


def test_frames_are_convolutions_each_with_a_norm_over_channels_and_a_relu() -> None:
    torch.manual_seed(0)
    wave = Wave(hidden=6, context=4, kernels=(5, 4), strides=(3, 2))
    assert [p.padding for p in wave.convolutions] == [(1,), (1,)]
    x = expected = torch.randn(2, 1, 36)
    for i, stride in enumerate((3, 2)):
        layer: Any = wave.convolutions[i]
        expected = F.conv1d(expected, layer.weight, layer.bias, stride=stride, padding=1)
        centred = expected - expected.mean(1, keepdim=True)
        expected = (centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(wave.frames(x), expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_context_has_heard_the_frames_up_to_its_own() -> None:
    torch.manual_seed(0)
    wave = Wave(hidden=6, context=4, kernels=(4,), strides=(2,))
    z = torch.randn(2, 7, 6)
    later = z.clone()
    later[:, 4:] += 1
    c, changed = wave.contexts(z), wave.contexts(later)
    assert torch.equal(c[:, :4], changed[:, :4]) and (c[:, 4] != changed[:, 4]).all()


def test_features_are_the_mean_context_of_a_sound_scaled_to_about_one() -> None:
    torch.manual_seed(0)
    encoder = WaveEncoder("wave-tiny")
    sounds = 0.1 * torch.randn(2, 1, 1, 800)
    expected = encoder.trunk.contexts(encoder.trunk.frames(10 * sounds[:, 0])).mean(1)
    torch.testing.assert_close(encoder(sounds), expected, atol=1e-5, rtol=1e-4)


def test_names_of_encoders_for_sounds() -> None:
    assert [wave_name(n) for n in ("tiny", "wave", "wave-tiny")] == ["wave-tiny", "wave", "wave-tiny"]
    with pytest.raises(UserError, match="--encoder resnet18 is for images"):
        wave_name("resnet18")
    assert encoder_name("tiny", Modality.SOUND) == "wave-tiny" and encoder_name("tiny", Modality.IMAGE) == "tiny"
    with pytest.raises(UserError, match="--encoder resnet18 is for images"):
        encoder_name("resnet18", Modality.SOUND)
    for modality in (Modality.IMAGE, Modality.ALIGNED):
        with pytest.raises(UserError, match="--encoder wave is for sounds"):
            encoder_name("wave", modality)
    for channels, pretrained in ((2, False), (1, True)):
        with pytest.raises(UserError, match="is for sounds"):
            build_encoder("wave", channels=channels, size=16, pretrained=pretrained)
