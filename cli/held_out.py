"""``--hold-out each`` of ``knn`` and ``probe``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, SubjectOptions
from contrastkit.cli.results import print_environments, write_evaluation
from contrastkit.errors import UserError
from contrastkit.names import EACH

if TYPE_CHECKING:
    from contrastkit.evaluate import EvaluationSubject
    from contrastkit.evaluate.held_out import Report


def require_none_drawn(**pictures: Path | None) -> None:
    """Check that no picture is asked for, which shows a single classifier.

    Raises:
        UserError: one is.
    """
    for name, picture in pictures.items():
        if picture is not None:
            raise UserError(
                f"--{name} draws one classifier, but --hold-out {EACH} trains several: hold out one by name"
            )


def report_each(
    what: str,
    options: SubjectOptions,
    baselines: bool,
    output: OutputOptions,
    evaluate: "Callable[[EvaluationSubject, str], Report]",
) -> None:
    """Print and write the accuracy in each environment by the images of the others.

    Args:
        what: classifies them.
        evaluate: see :func:`contrastkit.evaluate.hold_out_each`.
    """
    from contrastkit.evaluate import hold_out_each

    opened = replace(options, test_part=None).open(baselines=baselines)
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        found = hold_out_each(opened, evaluate, on_progress=on_progress)
    screen.lines(found.notices)
    print_environments(f"{what} on {opened.data.name}, each environment held out in turn", found.environments)
    write_evaluation(found.as_json(), opened, output.json, None)
