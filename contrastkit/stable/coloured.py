"""Coloured images as one object: saving them, and how often their colour agrees with their label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastkit.npz import write_npz
from contrastkit.stable.simulate import COLOURS, coloured

if TYPE_CHECKING:
    from contrastkit.data import DataSet


@dataclass(frozen=True)
class Agreement:
    """How often the colour agrees with the label in one environment; ``part`` is training or test."""

    part: str
    environment: float
    share: float


@dataclass(frozen=True)
class ColouredImages:
    """The result of :func:`contrastkit.stable.simulate.coloured`; ``source`` names the data set of the grey images."""

    source: str
    arrays: Mapping[str, Any]

    @property
    def n_training(self) -> int:
        return len(self.arrays["labels"])

    @property
    def n_test(self) -> int:
        return len(self.arrays["test_labels"])

    @property
    def classes(self) -> list[str]:
        return [str(name) for name in np.unique(self.arrays["labels"])]

    def save(self, path: Path) -> None:
        """Write an .npz file that every command reads as a data set."""
        write_npz(path, self.arrays)

    def agreements(self) -> Iterator[Agreement]:
        """The agreement in each environment, the test last."""
        for prefix, part in (("", "training"), ("test_", "test")):
            second = self.arrays[f"{prefix}labels"] == self.classes[1]
            green = self.arrays[f"{prefix}images"][..., 1].any((1, 2))
            environment = self.arrays[f"{prefix}environment"]
            for e in np.unique(environment):
                yield Agreement(part, float(e), float((second == green)[environment == e].mean()))


def colour_images(
    data: "DataSet", *, environments: Sequence[float] = COLOURS, flip: float = 0.25, seed: int = 0
) -> ColouredImages:
    """Colour the grey images of a data set (:func:`contrastkit.stable.simulate.coloured`)."""
    return ColouredImages(data.name, coloured(data, environments=environments, flip=flip, seed=seed))
