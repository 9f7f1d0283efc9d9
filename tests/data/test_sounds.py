"""Sounds in .wav files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from contrastkit.data import open_data
from contrastkit.errors import UserError
from tests.data.pictures import png


def test_sounds_of_every_kind_become_one(tmp_path: Path) -> None:
    """8, 16 and 32 bits, floats, and stereo: the same wave; 24 bits are written by hand, as scipy cannot."""
    wave = np.array([0.0, 0.5, -0.5, 0.25, -1.0, 0.75])
    kinds = {
        "a8": np.round(wave * 128 + 128).clip(0, 255).astype(np.uint8),
        "b16": (wave * 2**15).astype(np.int16),
        "c32": (wave * 2**31).astype(np.int32),
        "d32f": wave.astype(np.float32),
        "e64f": wave,
        "fstereo": np.stack([wave + 0.1, wave - 0.1], 1).clip(-1, 1).astype(np.float32),
    }
    for name, samples in kinds.items():
        wavfile.write(tmp_path / f"{name}.wav", 8000, samples)
    body = b"".join(int(w * 2**23).to_bytes(3, "little", signed=True) for w in wave)
    head = b"WAVEfmt " + (16).to_bytes(4, "little")
    for value, size in ((1, 2), (1, 2), (8000, 4), (24000, 4), (3, 2), (24, 2)):
        head += value.to_bytes(size, "little")
    head += b"data" + len(body).to_bytes(4, "little") + body
    (tmp_path / "g24.WAV").write_bytes(b"RIFF" + len(head).to_bytes(4, "little") + head)
    source = open_data(str(tmp_path)).train
    assert (source.sample_rate, source.channels, source.size, len(source)) == (8000, 1, 6, 7)
    expected = torch.tensor((wave * 2**15).round())
    for path, clip in zip(sorted([*kinds, "g24"]), source.take(torch.arange(7))[0], strict=True):
        assert clip.dtype == torch.int16 and clip.shape == (1, 1, 6), path
        worst = (clip.flatten().double() - expected).abs()
        if path == "fstereo":
            worst[4] = 0  # clipped on one side
        assert worst.max() <= 1, path


def test_other_rates_are_resampled_to_the_most_frequent(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 16000), ("c", 8000)):
        t = np.arange(rate) / rate
        wavfile.write(tmp_path / f"{name}.wav", rate, (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    source = open_data(str(tmp_path)).train
    a, b, _ = (clip.flatten().double() for clip in source.take(torch.arange(3))[0])
    assert source.sample_rate == 8000 and len(a) == len(b) == 8000
    assert (a - b)[100:-100].abs().max() < 0.01 * 2**15


def test_a_sound_that_cannot_be_read_is_replaced_and_named(tmp_path: Path) -> None:
    for name in "abc":
        wavfile.write(tmp_path / f"{name}.wav", 8000, np.full(50, ord(name), np.int16))
    source = open_data(str(tmp_path)).train
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:100])  # truncated
    wavfile.write(tmp_path / "c.wav", 8000, np.zeros(0, np.int16))
    clips, index = source.take(torch.arange(3))
    assert index.tolist() == [0, 0, 0] and [clip[0, 0, 0].item() for clip in clips] == [97] * 3
    assert {path for path, _ in source.unreadable.values()} == {"b.wav", "c.wav"}


def test_sounds_and_images_are_not_mixed(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(50, np.int16))
    png(tmp_path / "b.png", 3)
    with pytest.raises(UserError, match="has 1 sounds and 1 images: put them in separate folders"):
        open_data(str(tmp_path))
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match="only images can be aligned"):
        open_data(f"x={tmp_path},y={tmp_path}")
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    with pytest.raises(UserError, match="none of the sounds sampled from"):
        open_data(str(tmp_path))
