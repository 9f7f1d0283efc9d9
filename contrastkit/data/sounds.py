"""Sounds in .wav files."""

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.files import PEEK, FileSource
from contrastkit.errors import UserError
from contrastkit.types import Modality


class SoundSource(FileSource):
    """Sounds in .wav files, PCM or floating point: int16 [1, 1, T] each, channels averaged.

    All are resampled to the most frequent rate in a sample of the files.
    """

    modality = Modality.SOUND

    @property
    def description(self) -> str:
        assert self.sample_rate is not None
        return f"sounds at {self.sample_rate:,} Hz, {self.size / self.sample_rate:.2g} s"

    def _decode(self, path: Path) -> Tensor:
        from scipy.signal import resample_poly

        rate, wave = _wav(path)
        if rate != self.sample_rate:
            assert self.sample_rate is not None
            common = math.gcd(rate, self.sample_rate)
            wave = resample_poly(wave, self.sample_rate // common, rate // common)
        samples = np.clip(np.rint(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        return torch.from_numpy(samples).view(1, 1, -1)

    def _peek(self) -> tuple[int, int, int | None]:
        """(1, median length, most frequent rate) in a sample of files spread over the set."""
        lengths, rates = [], []
        for path in self.paths[:: max(1, len(self.paths) // PEEK)]:
            try:
                rate, wave = _wav(self.root / path)
            except Exception:  # counted when it is fetched
                continue
            lengths.append(len(wave))
            rates.append(rate)
        if not rates:
            raise UserError(f"none of the sounds sampled from {self.root} can be read, for example {self.paths[0]}")
        return 1, sorted(lengths)[len(lengths) // 2], max(sorted(rates), key=rates.count)


def _wav(path: Path) -> tuple[int, np.ndarray]:
    """Rate and samples, float64 [T] in [-1, 1], of a .wav file."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # unknown chunks
        warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
        rate, wave = wavfile.read(path)
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
