"""What a classifier is worth on the test images, in all and in each environment."""

from dataclasses import dataclass

import torch
from torch import nn

from contrastkit.data import DataSet
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of, best_classes
from contrastkit.evaluate.by_environment import ByEnvironment, EnvironmentResult, by_environment
from contrastkit.evaluate.features import encode


@dataclass(frozen=True, slots=True)
class Classified:
    """Accuracy on the test images that could be read and have a label."""

    data: str  # name of the set that these images are of
    size: int  # side of the images in pixels
    accuracy: Accuracy
    environments: ByEnvironment | None  # None where the test images have none

    @property
    def lines(self) -> tuple[str, ...]:
        """The result in words: of all test images, then of each environment."""
        found = {} if self.environments is None else self.environments.environments
        parts: list[tuple[str, Accuracy | EnvironmentResult]] = [("", self.accuracy)]
        parts += [(f", environment {name}", each) for name, each in found.items()]
        return tuple(
            f"the classifier on {each.n:,} test images of {self.data}{where}: top-1 {100 * each.top1:.2f} % "
            f"({100 * each.interval[0]:.1f} to {100 * each.interval[1]:.1f})"
            for where, each in parts
        )


def classified(
    classifier: nn.Module,
    data: DataSet,
    *,
    size: int,
    workers: int = 0,
    max_bad: float,
    device: str | torch.device = "cpu",
) -> Classified | None:
    """Evaluate a classifier, images [N, C, size, size] -> logits; None if no test image has a label.

    Raises:
        UserError: too many images cannot be read.
    """
    test = data.test
    if test is None or test.labels is None or not bool((test.labels >= 0).any()):
        return None
    found = encode(classifier, test, size=size, workers=workers, max_bad=max_bad, device=device)
    read = found.labelled("the classifier's accuracy")
    best, n_classes = best_classes(read.x), read.x.shape[1]
    return Classified(
        data=test.name,
        size=size,
        accuracy=accuracy_of(best, read.y, n_classes=n_classes),
        environments=by_environment(best[:, 0], read.y, read.environment),
    )
