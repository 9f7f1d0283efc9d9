"""Sounds in .wav files."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.files import FileSource
from contrastkit.data.pixels import ImageData
from contrastkit.data.source import Source
from contrastkit.types import Modality


class SoundSource(FileSource):
    """Sounds in .wav files, PCM or floating point: int16 [1, 1, T] each, channels averaged.

    All are resampled to the most frequent rate in a sample of the files.
    """

    modality = Modality.SOUND

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        labels: Tensor | None = None,
        *,
        like: Source | None = None,
        **options: Any,
    ) -> None:
        """Arguments as of :class:`FileSource`; ``like`` gives the rate, too."""
        super().__init__(name, paths, labels, like=like, **options)
        if like is not None:
            self.sample_rate = like.sample_rate

    @property
    def description(self) -> str:
        assert self.sample_rate is not None
        return f"sounds at {self.sample_rate:,} Hz, {self.size / self.sample_rate:.2g} s"

    def _decode(self, file: ImageData) -> Tensor:
        from scipy.signal import resample_poly

        rate, wave = _wav(file)
        if rate != self.sample_rate:
            assert self.sample_rate is not None
            common = math.gcd(rate, self.sample_rate)
            wave = resample_poly(wave, self.sample_rate // common, rate // common)
        samples = np.clip(np.rint(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        return torch.from_numpy(samples).view(1, 1, -1)

    def _peek(self) -> tuple[int, int]:
        """One channel, and the median length, in a sample of the files; their most frequent rate becomes the set's."""
        rates, lengths = zip(*self._sample(_rate_and_length), strict=True)
        self.sample_rate = max(sorted(rates), key=rates.count)
        return 1, sorted(lengths)[len(lengths) // 2]


def _rate_and_length(file: ImageData) -> tuple[int, int]:
    rate, wave = _wav(file)
    return rate, len(wave)


def _wav(file: ImageData) -> tuple[int, np.ndarray]:
    """Rate and samples, float64 [T] in [-1, 1], of a .wav file."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # unknown chunks
        warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
        rate, wave = wavfile.read(file)
    if not wave.size:
        raise ValueError("the file has no samples")
    if wave.dtype == np.uint8:
        wave = (wave.astype(np.float64) - 128) / 128
    elif wave.dtype.kind == "i":
        wave = wave / -float(np.iinfo(wave.dtype).min)  # scipy stores 24 bits in the upper ones of 32
    wave = wave.astype(np.float64)
    if not np.isfinite(wave).all():
        raise ValueError("some samples are not finite")
    return rate, wave.mean(axis=1) if wave.ndim == 2 else wave
