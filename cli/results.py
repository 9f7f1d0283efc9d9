"""Results as text and as JSON."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.checkpoint import write_json
from contrastkit.cli import screen
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.evaluate import EvaluationSubject
    from contrastkit.evaluate.by_environment import ByEnvironment
    from contrastkit.evaluate.confusion import PerClass
    from contrastkit.transfer.resampling import Share

CLASSES = 10  # shown in a table


def write_reports(value: Any, json: Path | None, own: Path | None = None) -> None:
    """Write a report to the file that the user asked for, if any, and to ``own``, the run's own, if any.

    That the run's cannot be written is a notice: the results are on the screen.
    """
    if own is not None:
        with noticing(own):
            write_json(own, value)
    if json is not None:
        write_json(json, value)


def write_evaluation(
    value: dict[str, Any], subject: "EvaluationSubject", json: Path | None, own: Path | None, *pictures: Path | None
) -> None:
    """:func:`write_reports` of a report on the first encoder of a subject, with what made it and the pictures drawn."""
    from contrastkit.evaluate.made import made

    write_reports(value | made(subject, pictures), json, own)


def write_picture(
    what: str, draw: Callable[[Path], None], picture: Path | None, own: Path | None = None
) -> Path | None:
    """Draw to the file that the user asked for or, without one, to ``own``, the run's own, if any; and say so.

    Returns:
        The file, if it was written.
    """
    path = picture or own
    if path is None:
        return None
    with contextlib.nullcontext() if picture else noticing(path):
        draw(path)
        screen.say(f"{what}: {path}")
        return path
    return None


def write_sheet(
    what: str, draw: Callable[[Path], None], sheet: Path | None, reports: Path | None, name: str
) -> Path | None:
    """:func:`write_picture` of a command whose result is a picture: without a folder for the run's reports, it goes to
    ``name`` in the current folder."""
    return write_picture(what, draw, sheet or (None if reports else Path(name)), reports and reports / name)


def report_classes(
    title: str, results: "PerClass", picture: Path | None, own: Path | None = None, *, items: str = "images"
) -> None:
    """The accuracy of each class as a table, of many classes those with the lowest, and the confusion matrix as a
    picture (:func:`write_picture`).

    Args:
        title: what classified what.
        items: what the classes are of.
    """
    from contrastkit.evaluate.confusion import confusion_chart, confusions, mean_per_class

    tested = {name: result for name, result in results.items() if result.n}
    shown, which = list(tested), f"{len(tested)} classes"
    if len(tested) > CLASSES:
        shown = sorted(tested, key=lambda name: tested[name].top1)[:CLASSES]
        which = f"the {CLASSES} lowest of {which}"
    rows = []
    for name in shown:
        result, mistakes = tested[name], confusions({name: tested[name]})
        taken_for = f"{mistakes[0][2]} ({100 * mistakes[0][0]:.0f} %)" if mistakes else ""
        rows.append((name, percent(result.top1), interval(result.interval), f"{result.n:,}", taken_for))
    screen.table(
        f"{title}: {which}, mean of all classes {percent(mean_per_class(results))}",
        ("class", "top-1", "95 % interval", f"test {items}", "most often taken for"),
        rows,
    )
    write_picture("confusion matrix", lambda path: confusion_chart(path, results, title), picture, own)


def print_environments(title: str, found: "Mapping[str, ByEnvironment | None]") -> None:
    """The accuracy in each environment, a column for each encoder; nothing where the test images have none.

    Args:
        title: what was tested.
    """
    known = {name: each for name, each in found.items() if each is not None}
    if not known:
        return
    first = next(iter(known.values()))
    rows = [
        (name, f"{result.n:,}", *(percent(each.environments[name].top1) for each in known.values()))
        for name, result in first.environments.items()
    ]
    for name in ("average", "deviation", "worst"):
        rows.append((name, "", *(percent(getattr(each, name)) for each in known.values())))
    screen.table(f"{title}, by environment", ("environment", "test images", *known), rows)


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


def share(value: "Share") -> tuple[str, str]:
    """A share and its interval as two cells; a dash where it is not defined."""
    if math.isnan(value.value):
        return "-", ""
    return percent(value.value), "" if math.isnan(value.interval[0]) else interval(value.interval)


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
