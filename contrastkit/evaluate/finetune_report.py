"""The result of a fine-tuning, and what is said about it."""

from dataclasses import asdict, dataclass
from typing import Any

from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.by_environment import ByEnvironment
from contrastkit.evaluate.confusion import ClassResult
from contrastkit.evaluate.finetune_trial import even_batch
from contrastkit.evaluate.linear import LinearProbe, notices_of_choice
from contrastkit.evaluate.weighting import ImageWeights
from contrastkit.protocols import FinetuneProtocol


@dataclass(frozen=True, slots=True)
class FineTuned:
    """Accuracies of one encoder after training with labels."""

    accuracy: Accuracy  # on the test images, mean over the seeds
    seeds: tuple[float, ...]  # top-1 of each seed
    std: float | None  # of top-1 over the seeds (divided by n - 1); None for a single seed
    rate: float  # the chosen learning rate
    rates: tuple[float, ...]
    # top-1 of each rate on held-out training images, None where it diverged; () if there was no choice
    validation: tuple[float | None, ...]
    losses: tuple[float, ...]  # mean training loss of each epoch, of the first seed
    per_class: dict[str, ClassResult]  # by class, of the classifiers of all seeds
    environments: ByEnvironment | None  # likewise; None where the test images have none

    @property
    def notices(self) -> list[str]:
        """What a reader of the numbers should know."""
        return notices_of_choice(self.rate, self.rates, self.validation)


@dataclass(frozen=True, slots=True)
class Labels:
    """How many labelled images there are."""

    images: int
    least: int  # of a class
    most: int
    held_out: int  # of them, while the learning rate is chosen
    test: int


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """Result of :func:`finetune`."""

    data: str  # name of the data set
    protocol: str
    numbers: FinetuneProtocol  # of the protocol, with the user's changes
    size: int  # side in pixels of the images
    precision: str
    labels: Labels
    results: dict[str, FineTuned | LinearProbe]
    weights: ImageWeights | None  # of the training images, before a few of them were chosen
    model: str | None  # file of the fine-tuned classifier of the first seed
    notices: tuple[str, ...]  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def opening(row: FinetuneProtocol, labels: Labels, *, begun: bool) -> list[str]:
    """What is about to be done."""
    batch = even_batch(labels.images, row.train_batch)
    a_class = f"{labels.least}" if labels.least == labels.most else f"{labels.least} to {labels.most}"
    lines = [
        f"{labels.images:,} labelled training images ({a_class} a class); {row.epochs} epochs of "
        f"{labels.images // batch:,} steps of {batch} images"
    ]
    if labels.held_out:
        lines.append(f"{len(row.lr)} learning rates, one chosen on {labels.held_out:,} of them that are held out")
    return [*lines, "going on with what an earlier start has done"] if begun else lines
