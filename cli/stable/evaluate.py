"""``contrastkit stable evaluate``: the errors of a model in each environment."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import LabelledOptions

if TYPE_CHECKING:
    from contrastkit.stable.predict import Evaluation


@takes_options
def evaluate(
    *,
    model: Annotated[Path, typer.Argument(help="Model written by 'stable fit'.", metavar="MODEL")],
    table: LabelledOptions,
    output: OutputOptions,
) -> None:
    """Evaluate a model in each environment: average, deviation and worst error."""
    from contrastkit.stable import workflow
    from contrastkit.stable.predict import load

    fitted = load(model)
    evaluation = workflow.evaluate(fitted, table.read(fitted.names))
    _print(evaluation, f"{model} on {table.data}", table.environment)
    write_reports(dataclasses.asdict(evaluation), output.json)


def _print(evaluation: "Evaluation", title: str, environment: str | None) -> None:
    percent = evaluation.kind == "logistic"

    def cell(error: float) -> str:
        return f"{error:.2f} %" if percent else f"{error:.4f}"

    rows = [(name, f"{evaluation.rows[name]:,}", cell(error)) for name, error in evaluation.errors.items()]
    if environment is not None:
        total = f"{sum(evaluation.rows.values()):,}"
        rows.append(("average", total, cell(evaluation.average)))
        rows.append(("deviation", "", cell(evaluation.deviation)))
        rows.append(("worst", "", cell(evaluation.worst)))
    screen.table(title, (environment or "", "rows", "wrong" if percent else "RMSE"), rows)
