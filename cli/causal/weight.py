"""``contrastkit causal weight``: weights that balance the arms of a study, to a file."""

from pathlib import Path
from typing import Annotated

import typer

from contrastkit.causal.names import Scale, Weighting
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import difference_line, sample_size_line
from contrastkit.cli.causal.options import SampleWeight, StudyOptions, WeightingOptions
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import write_csv


@takes_options
def weight(
    *,
    study: StudyOptions,
    out: Annotated[Path, out_file("the weight of each row", ".csv")],
    by: Annotated[
        Weighting,
        typer.Option(
            help="Weighting method: inverse propensity, overlap, entropy balancing, covariate balancing propensity "
            "score, just or over-identified (cbps-over), approximate (arb) or differentiated (dcb, uses the outcome) "
            "confounder balancing, or global balancing."
        ),
    ] = "entropy",
    weighting: WeightingOptions,
    scale: Annotated[
        Scale, typer.Option(help="With ipw: mean 1 in each arm, stabilised by P(T), or raw inverse probabilities.")
    ] = "hajek",
    sample_weight: SampleWeight = None,
    output: OutputOptions,
) -> None:
    """Compute weights that balance the arms; nothing is written if no weights do."""
    from contrastkit.causal.remarks import on_balance
    from contrastkit.causal.weights import weigh

    units = study.read()
    weighted = weigh(units, by, scale=scale, sample_weight=sample_weight, **vars(weighting))
    write_csv(out, units.row_ids().columns() | {"weight": weighted.weights})
    screen.say(f"{out}: weights for the {weighted.estimand}")
    screen.say(sample_size_line(weighted.balance))
    screen.say(difference_line(weighted.balance))
    screen.lines([*on_balance(weighted.balance.worst), *filter(None, [weighted.remark])])
    write_reports(weighted.as_json(), output.json)
