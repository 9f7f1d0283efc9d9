"""Simulated data from several environments, as one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contrastkit.stable.names import Mode
from contrastkit.stable.simulate import Sample, Seed, collinear, selection_bias


@dataclass(frozen=True)
class Environments:
    """A sample from each environment, keyed by its parameter: the bias rate or the correlation."""

    samples: Mapping[float, Sample]

    @property
    def features(self) -> list[str]:
        """The names of the stable features S1, ..., then of the spurious features V1, ..."""
        first = next(iter(self.samples.values()))
        p, stable = first.X.shape[1], first.stable
        return [f"S{j + 1}" if j < stable else f"V{j - stable + 1}" for j in range(p)]

    def columns(self) -> dict[str, Any]:
        """The features, Y and, if there are several, the environment, [N] each, samples concatenated."""
        samples = self.samples.values()
        X = np.concatenate([sample.X for sample in samples])
        columns: dict[str, Any] = dict(zip(self.features, X.T, strict=True))
        columns["Y"] = np.concatenate([sample.Y for sample in samples])
        if len(samples) > 1:
            columns["environment"] = np.repeat(list(self.samples), [len(sample.Y) for sample in samples])
        return columns

    def as_json(self) -> dict[str, Any]:
        rows = [len(sample.Y) for sample in self.samples.values()]
        return {"features": self.features, "environments": list(self.samples), "rows": rows}


def selection_environments(
    rates: Sequence[float], n: int = 2000, p: int = 10, *, mode: Mode = "independent", seed: int = 0
) -> Environments:
    """A sample of n rows under each bias rate (:func:`contrastkit.stable.simulate.selection_bias`)."""
    return _draw(lambda rate, stream: selection_bias(n, p, r=rate, mode=mode, seed=stream), rates, seed)


def collinear_environments(correlations: Sequence[float], n: int = 2000, p: int = 10, *, seed: int = 0) -> Environments:
    """A sample of n rows under each correlation (:func:`contrastkit.stable.simulate.collinear`)."""
    return _draw(lambda rho, stream: collinear(n, p, rho=rho, seed=stream), correlations, seed)


def _draw(draw: Callable[[float, Seed], Sample], values: Sequence[float], seed: int) -> Environments:
    """Give each of several environments its own random stream: samples with the same seed would share rows."""
    streams: list[Seed] = [seed] if len(values) == 1 else [(seed, position) for position in range(1, len(values) + 1)]
    return Environments({value: draw(value, stream) for value, stream in zip(values, streams, strict=True)})
