"""Images whose colour predicts the label better than their shape, except in the test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.npz import write_npz

if TYPE_CHECKING:
    from contrastkit.data import DataSet, Source

DISAGREEMENT = (0.1, 0.2, 0.9)  # of colour and label, in each environment; the last is the test (Arjovsky et al. 2019)


@dataclass(frozen=True)
class Agreement:
    """How often the colour agrees with the label in one environment; ``part`` is training or test."""

    part: str
    environment: float
    share: float


@dataclass(frozen=True)
class ColouredImages:
    """Coloured images, their labels and their environments.

    Attributes:
        source: the name of the data set of the grey images.
        arrays: what ``open_data`` reads from an .npz file: images uint8 [N, H, W, 3], labels text [N] (such as
            "0 to 4"), test_images, test_labels; and environment and test_environment, float64 [N].
    """

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

    def as_json(self) -> dict[str, Any]:
        shape = {"source": self.source, "training": self.n_training, "test": self.n_test, "classes": self.classes}
        return shape | {"agreements": [asdict(agreement) for agreement in self.agreements()]}


def colour_images(
    data: "DataSet", *, environments: Sequence[float] = DISAGREEMENT, flip: float = 0.25, seed: int = 0
) -> ColouredImages:
    """Grey images in red and green whose colour predicts the label better than their shape, except in the test (Colored
    MNIST: Arjovsky et al. 2019, Sec. 5; facebookresearch/InvariantRiskMinimization, code/colored_mnist).

    The label says whether the class is in the second half of the classes, flipped with probability ``flip``; the colour
    is red for label 0 and green for label 1, flipped with probability e in environment e. Training images are divided
    evenly among all environments but the last, which has the test images. The original code uses two channels and
    halves the images; here blue is 0 and sizes stay.

    Args:
        data: labelled grey images of one size with a test part, from :func:`contrastkit.data.open_data`.
        environments: probability that colour and label disagree in each environment, the test last.
        flip: probability that the label disagrees with the class.
        seed: random seed.

    Raises:
        UserError: images that are not grey, of several sizes or unlabelled, no test part, a part with a single label,
            or values that are not probabilities.
    """
    if len(environments) < 2 or not all(0 <= e <= 1 for e in (*environments, flip)):
        given = ", ".join(f"{e:g}" for e in environments)
        raise UserError(f"environments {given}, flip {flip:g}: give two or more environments, and probabilities only")
    if data.test is None:
        raise UserError(f"{data.name} has no test part: split one off with --val-fraction 0.1")
    parts = [_grey(source) for source in (data.train, data.test)]
    n_classes = 1 + max(int(labels.max()) for _, labels in parts)
    class_names = data.train.classes or [str(label) for label in range(n_classes)]
    half = len(class_names) // 2
    if half < 1:
        raise UserError(f"{data.name} has a single class: at least two are needed")
    names = np.array([f"{class_names[0]} to {class_names[half - 1]}", f"{class_names[half]} to {class_names[-1]}"])
    g = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, (grey, classes), own in (("", parts[0], environments[:-1]), ("test_", parts[1], environments[-1:])):
        n = len(grey)
        e = g.permutation(np.resize(np.array(own, np.float64), n))
        label = (classes >= half) ^ (g.uniform(size=n) < flip)
        if len(values := np.unique(label)) < 2:
            which = "test" if prefix else "training"
            raise UserError(f"{n} {which} images, all labelled {names[int(values[0])]}: change --val-fraction")
        green = label ^ (g.uniform(size=n) < e)
        images = np.zeros((*grey.shape, 3), np.uint8)
        images[~green, ..., 0], images[green, ..., 1] = grey[~green], grey[green]
        arrays |= {f"{prefix}images": images, f"{prefix}labels": names[label.astype(int)], f"{prefix}environment": e}
    return ColouredImages(data.name, arrays)


def _grey(source: "Source") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images [N, H, W] and classes [N] of a source."""
    import torch

    from contrastkit.types import Modality

    if source.modality is not Modality.IMAGE or source.channels != 1:
        raise UserError(f"{source.name} does not hold grey images: choose a data set without colour")
    if source.labels is None or bool((source.labels < 0).any()):
        raise UserError(f"{source.name} has images without a label: choose a labelled data set")
    images, really = source.take(torch.arange(len(source)))
    if not isinstance(images, torch.Tensor):
        raise UserError(f"{source.name} holds images of several sizes: choose a data set with a single size")
    return images[:, 0].numpy(), source.label(really).numpy()
