"""What a student has learned: its accuracy on the test images, beside its teacher's."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contrastkit.data import DataSet
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of, best_classes
from contrastkit.evaluate.features import encode
from contrastkit.parts.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Distilled:
    """Accuracy of student and teacher on the same images, those that could be read and have a label."""

    data: str  # name of the set that these images are of
    size: int  # side in pixels of the student's images
    student: Accuracy
    teacher: Accuracy
    agreement: float  # share of these images for which both give the same answer


def distilled(
    student: nn.Module,
    teacher: Teacher,
    data: DataSet,
    *,
    size: int,
    workers: int = 0,
    max_bad: float,
    device: str | torch.device = "cpu",
) -> Distilled | None:
    """Evaluate a student, images [N, C, size, size] -> logits; None if no test image has a label.

    Raises:
        UserError: too many images cannot be read, or there is a class that the teacher does not know.
    """
    test = data.test
    if test is None or test.labels is None or not bool((test.labels >= 0).any()):
        return None
    if (n := int(test.labels.max()) + 1) > teacher.n_classes:
        raise UserError(f"the teacher knows {teacher.n_classes} classes, the test images of {test.name} have {n}")

    def answers(network: nn.Module, side: int) -> tuple[Tensor, Tensor]:
        found = encode(network, test, size=side, workers=workers, max_bad=max_bad, device=device)
        read = found.labelled("the student's accuracy")
        return best_classes(read.x), read.y

    (own, y), (theirs, _) = answers(student, size), answers(teacher.classifier, teacher.size or size)
    return Distilled(
        data=test.name,
        size=size,
        student=accuracy_of(own, y, n_classes=teacher.n_classes),
        teacher=accuracy_of(theirs, y, n_classes=teacher.n_classes),
        agreement=(own[:, 0] == theirs[:, 0]).float().mean().item(),
    )
