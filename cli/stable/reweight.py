"""``contrastkit stable reweight``: weights under which features are independent."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import PENALTY, Interval
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.stable.options import Components, TableOptions, print_notices
from contrastkit.cli.tables import write_csv
from contrastkit.errors import listed
from contrastkit.stable.names import Decorrelation

if TYPE_CHECKING:
    from contrastkit.stable.workflow import TableReweighting


@takes_options
def reweight(
    *,
    table: TableOptions,
    by: Annotated[Decorrelation, typer.Option(help="Method that decorrelates the features.")] = "rff",
    cosines: Annotated[
        int | None, typer.Option(help="With rff: random cosines for each feature \\[10]."), Interval(0, 1000)
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            help="Penalty on uneven weights; larger values keep more of the sample "
            "\\[1e-4 for rff and global, 5e-5 for dwr]."
        ),
        PENALTY,
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="With srdo: largest density ratio \\[10]."), Interval(1, 1e6)
    ] = None,
    components: Components = None,
    out: Annotated[Path | None, out_file("the weight of each row", ".csv")] = None,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Compute sample weights under which the features are independent."""
    from contrastkit.stable import workflow

    rows = table.read_features()
    with screen.working(f"reweighting {len(rows.X):,} rows of {rows.X.shape[1]:,} features by {by}"):
        result = workflow.reweight(
            rows, by, cosines=cosines, penalty=penalty, clip=clip, components=components, seed=seed
        )
    _print(result)
    if out is not None:
        weights = result.reweighting.weights
        ids = rows.row_ids()
        write_csv(out, ({} if ids is None else ids.columns()) | {"weight": weights})
        screen.say(f"{out}: {len(weights):,} weights, from {weights.min():.3g} to {weights.max():.3g}, mean 1")
    write_reports(result.as_json(), output.json)


def _print(result: "TableReweighting") -> None:
    reweighting = result.reweighting
    n = len(reweighting.weights)
    screen.say(f"{n:,} rows, {len(result.features):,} features: {listed(result.features, 12)}")
    if result.components:
        screen.say(f"weights computed from their first {result.components} principal components")
    screen.table(
        f"reweighted by {reweighting.by}",
        ("", "before", "after"),
        [
            ("dependence", f"{reweighting.before:.4g}", f"{reweighting.after:.4g}"),
            ("linear part", f"{reweighting.linear_before:.4g}", f"{reweighting.linear_after:.4g}"),
            ("effective sample size", f"{n:,}", f"{reweighting.ess:,.1f}"),
        ],
    )
    print_notices(reweighting)
