"""``contrastkit stable fit``: a weighted linear model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import PENALTY
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import Components, TableOptions, print_notices
from contrastkit.stable.names import Decorrelation, Kind

if TYPE_CHECKING:
    from contrastkit.stable.workflow import TableFit


@takes_options
def fit(
    *,
    table: TableOptions,
    out: Annotated[Path, out_file("the model", ".json")],
    kind: Annotated[Kind, typer.Option(help="Model: ridge for a numeric label, logistic for classes.")] = "ridge",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of these rows, as written by 'stable reweight'.", metavar="FILE")
    ] = None,
    by: Annotated[Decorrelation | None, typer.Option(help="Compute the weights now, by this method.")] = None,
    components: Components = None,
    alpha: Annotated[
        float, typer.Option(help="L2 penalty on the coefficients of standardised features."), PENALTY
    ] = 1.0,
    intercept: Annotated[bool, typer.Option(help="Fit an intercept.")] = True,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Fit a weighted linear model."""
    from contrastkit.stable import workflow

    rows = table.read_features()
    with screen.working(f"fitting {kind} to {len(rows.X):,} rows of {rows.X.shape[1]:,} features"):
        fitted = workflow.fit(
            rows, kind=kind, weights=weights, by=by, components=components, alpha=alpha, intercept=intercept, seed=seed
        )
    fitted.model.save(out)
    _print(fitted, out)
    write_reports(fitted.as_json(), output.json)


def _print(fitted: "TableFit", out: Path) -> None:
    if fitted.remark:
        screen.say(fitted.remark)
    if fitted.reweighting is not None:
        print_notices(fitted.reweighting)
    model, kind, p = fitted.model, fitted.model.kind, len(fitted.model.names)
    if len(model.coefficients) == 1 and p <= 30:
        rows = [(name, f"{b:.4f}") for name, b in zip(model.names, model.coefficients[0], strict=True)]
        rows.append(("intercept", f"{model.intercept[0]:.4f}"))
        screen.table(f"{kind}, alpha = {fitted.alpha:g}", ("", "coefficient"), rows)
    screen.say(f"{out}: {kind}, {p:,} features, {fitted.rows:,} rows, effective sample size {fitted.ess:,.1f}")
    error = f"{fitted.error:.2f} % wrong" if kind == "logistic" else f"root mean square error {fitted.error:.4f}"
    screen.say(f"unweighted training error: {error}")
