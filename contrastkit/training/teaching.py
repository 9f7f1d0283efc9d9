"""The teacher of a training, if its method is a distillation, and the classifier that methods with labels train."""

from collections.abc import Mapping

from torch import nn

from contrastkit.data import DataSet, Source
from contrastkit.errors import UserError
from contrastkit.evaluate.classifier import ClassifierRecord, save_classifier
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.methods import Method, Recipe
from contrastkit.methods.distillation import DistillationRecipe
from contrastkit.methods.rows import choose_row
from contrastkit.parts.teacher import Teacher
from contrastkit.record import Record
from contrastkit.run import CLASSIFIER, Run
from contrastkit.teachers import open_teacher, reopen_teacher


def teacher_of(
    recipes: Mapping[str, Recipe], teacher: str | None, encoder: str | None, data: DataSet, record: Record | None = None
) -> Teacher | None:
    """The teacher of a new run, or of the run with a record; None for a method that has none.

    Args:
        recipes: of the method.
        teacher, encoder: see :func:`contrastkit.teachers.open_teacher`; of a run that is there, the source alone, and
            only where it is no longer where it was.

    Raises:
        UserError: the method has none or asks for one, and as of :func:`contrastkit.teachers.open_teacher`.
    """
    if not isinstance(next(iter(recipes.values())), DistillationRecipe):
        if teacher is not None or encoder is not None:
            raise UserError("this method has no teacher: drop it, or choose a method of contrastkit distill")
        return None
    if record is not None and record.teacher is not None:
        if encoder is not None:
            raise UserError("a run keeps the network of its teacher: drop --teacher-encoder")
        return reopen_teacher(record.teacher, data, teacher)
    if teacher is None:
        raise UserError("a distillation needs a teacher: give --teacher, a fine-tuned run or a file of weights")
    return open_teacher(teacher, encoder, data)


def choose(
    recipes: dict[str, Recipe],
    teacher: Teacher | None,
    source: Source,
    *,
    encoder: str | None,
    small_machine: bool,
    row: str | None,
) -> tuple[str, Recipe]:
    """The recipe for a source of images and its name, see :func:`contrastkit.methods.rows.choose_row`; that of a
    distillation is made to fit its teacher."""
    first = next(iter(recipes.values()))
    asked = first.student(teacher) if teacher and isinstance(first, DistillationRecipe) else None
    name = choose_row(
        recipes,
        size=source.size,
        encoder=encoder or asked,
        orientation_matters=source.orientation_matters,
        small_machine=small_machine,
        row=row,
    )
    recipe = recipes[name]
    if teacher and isinstance(recipe, DistillationRecipe):
        recipe = recipe.for_teacher(teacher, source, encoder)
    return name, recipe


def classifier_of(method: Method) -> LinearClassifier:
    """The classifier that a method has trained with labels or by a teacher, images -> logits."""
    head = method.online.head
    assert isinstance(head, nn.Linear)
    classifier = LinearClassifier(method.online.encoder, head.out_features)
    classifier.fc = head
    return classifier


def write_classifier(method: Method, run: Run, teacher: Teacher | None, data: DataSet) -> None:
    """Write the classifier of a run for ``contrastkit.load_classifier``."""
    kind, classes, classifier = run.record.encoder, data.train.classes, classifier_of(method)
    n_classes = classifier.fc.out_features
    own = tuple(classes) if classes and len(classes) == n_classes else None
    record = ClassifierRecord(
        encoder=kind,
        neck=(),
        n_classes=n_classes,
        classes=(None if teacher is None else teacher.classes) or own,
        size=kind["size"],
    )
    save_classifier(run.path / CLASSIFIER, classifier, record)
