"""What a training saw of the labels, for reports and model cards."""

from pathlib import Path

from contrastkit.methods import EVERY
from contrastkit.record import Record
from contrastkit.run import RECIPE


def uses_labels(record: Record, run: Path) -> bool | None:
    """Whether the training of a run looked at labels; None of a method from a file, which only that file says.

    Raises:
        UserError: the recipe of a method that can learn from labels is damaged.
    """
    row = EVERY.get(record.name)
    if row is None or not row.learns_from_labels:
        return None if row is None else False
    return record.recipe_of(type(row), run / RECIPE).uses_labels


def labels_seen(record: Record, run: Path) -> str:
    """The same in a few words; "" if it is not known."""
    if (uses := uses_labels(record, run)) is None:
        return ""
    if uses:
        return "with labels"
    return "without labels" if record.teacher is None else "without labels, by a teacher that knows classes"
