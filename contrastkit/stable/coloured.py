"""Coloured images as one object: written to a file, and how often their colour agrees with their label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.checkpoint import write_with
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
    """What :func:`contrastkit.stable.simulate.coloured` draws. ``source`` is the name of the grey images' set."""

    source: str
    arrays: Mapping[str, NDArray[Any]]

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
        """Write an .npz that every command reads as data."""

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:  # a file object: numpy would add an ending to the temporary name
                np.savez(file, **self.arrays)  # type: ignore[arg-type]

        write_with(path, write)

    def agreements(self) -> Iterator[Agreement]:
        """One for each environment, the test's last."""
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
