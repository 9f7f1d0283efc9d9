"""The times of a study with an event as its outcome, until the event or until follow-up ended."""

import numpy as np

from contrastkit.causal.study import Study
from contrastkit.causal.treatment import having, shown
from contrastkit.errors import UserError
from contrastkit.tables.checks import LARGEST, Bools, Floats, as_column


def follow_up(study: Study, event_value: str | None = None) -> tuple[Floats, Bools, str]:
    """The times [n] and whether each is that of an event, bool [n], and the name of the event.

    Args:
        event_value: the value of the outcome that counts as an event; None for an outcome of 0 and 1.

    Raises:
        UserError: there is no column of times or of events, times are no numbers, negative, or all 0, or events are not
            0 and 1, or all units have one, or none.
    """
    if study.outcome is None:
        raise UserError("no events: name with --event the column that tells whether a time is that of an event")
    if study.time is None:
        raise UserError("no times: name with --time the column of the times until the event or the end of follow-up")
    column = study.frame[study.outcome]
    events = _of_zero_and_one(column) if event_value is None else having(column, event_value, "--event-value")
    label = study.outcome if event_value is None else f"{study.outcome}={event_value}"
    if not events.any():
        raise UserError(f"{label}: no unit has the event: there is nothing to compare")
    return _times(study), events, label


def _of_zero_and_one(column: object) -> Bools:
    values = np.asarray(column)
    try:
        numbers = as_column(values, "the event")
    except UserError:
        numbers = np.full(len(values), np.nan)
    if not np.isin(numbers, (0, 1)).all():
        raise UserError(
            f"the event must be 0 or 1, not {shown(column)}: name with --event-value the value that counts as one"
        )
    return numbers == 1


def _times(study: Study) -> Floats:
    column = study.frame[study.time]
    if column.dtype.kind not in "iuf":
        raise UserError(f"the times must be numbers, such as days since the start, not {shown(column)}")
    times = as_column(column.to_numpy(), str(study.time))
    if (times < 0).any():
        raise UserError(f"{int((times < 0).sum())} times are negative: they must be 0 or more, since the start")
    if times.max() > LARGEST:
        raise UserError("the times exceed 1e150, whose square overflows: change their units")
    return times
