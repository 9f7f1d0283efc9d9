"""Results as text and as JSON."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.cli import screen
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.evaluate import EvaluationSubject


def write_json(path: Path, value: Any) -> None:
    """Write a report atomically; NaN and infinity become null."""
    import json

    from contrastkit.checkpoint import write_text

    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def write_reports(value: Any, json: Path | None, own: Path | None = None) -> None:
    """Write a report to the file that the user asked for, if any, and to ``own``, the run's own, if any.

    That the run's cannot be written is a notice: the results are on the screen.
    """
    if own is not None:
        with noticing(own):
            write_json(own, value)
    if json is not None:
        write_json(json, value)


@contextlib.contextmanager
def noticing(path: Path) -> Iterator[None]:
    """Make a failure to write ``path`` within a notice."""
    try:
        yield
    except (OSError, UserError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        screen.say(f"{path} is not written: {reason}")


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} - {100 * bounds[1]:.1f}"


def counts(subject: "EvaluationSubject") -> str:
    """Number and size of the images or sounds."""
    train, test = subject.labelled_parts()
    what = f"{train.modality.plural} of {subject.size:,} {train.modality.unit}"
    return f"{len(train):,} training and {len(test):,} test {what}"


def flat(value: Any) -> str:
    """A nested value as text, one line per entry of a dict."""
    if isinstance(value, dict):
        return "\n".join(f"{k}: {flat(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
