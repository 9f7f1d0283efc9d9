"""kNN and the linear probe with default settings, on features encoded once."""

from dataclasses import dataclass

from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.linear import LinearProbe, linear_probe
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.evaluate.subject import EvaluationSubject


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of :func:`summarise` for one encoder."""

    knn: Accuracy  # k = 20, T = 0.1
    linear: LinearProbe

    @property
    def percentages(self) -> dict[str, float]:
        """Top-1 of both, and the probe's standard deviation over its seeds, in %."""
        return {
            "knn": 100 * self.knn.top1,
            "linear": 100 * self.linear.accuracy.top1,
            "linear_std": 100 * (self.linear.std or 0.0),
        }


def summarise(subject: EvaluationSubject) -> dict[str, Summary]:
    """Both accuracies of each encoder.

    Raises:
        UserError: no labels, or no test part.
    """
    n_classes, device = subject.n_classes, subject.device
    return {
        name: Summary(
            knn_accuracy(train, test, n_classes=n_classes, device=device),
            linear_probe(train, test, n_classes=n_classes, device=device),
        )
        for name, train, test in subject.labelled_features()
    }
