"""``contrastkit causal propensity``: the propensity scores of a study."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.bounds import FOLDS
from contrastkit.cli import screen
from contrastkit.cli.causal.options import CovariateOptions, Graph, PropensityModelName
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import write_csv
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.scores import Scores


@dataclass(frozen=True, kw_only=True)
class ScoredOptions(CovariateOptions):
    """A table, its treatment of two arms, and its covariates, or the graph that implies them."""

    graph: Graph = None
    outcome: Annotated[
        str | None, typer.Option(help="With --graph: outcome column \\[that marked in it].", metavar="COLUMN")
    ] = None

    def reading(self) -> dict[str, Any]:
        if self.outcome is not None and self.graph is None:
            raise UserError("--outcome applies to --graph: scores need no outcome")
        return super().reading()


@takes_options
def propensity(
    *,
    study: ScoredOptions,
    model: PropensityModelName = "logistic",
    folds: Annotated[
        int | None, typer.Option(help="Cross-fitting folds, 0 for none \\[0 for logistic, else 5]."), FOLDS
    ] = None,
    out: Annotated[Path | None, out_file("the score of each row and whether Crump's trimming keeps it", ".csv")] = None,
    plot: Annotated[Path | None, out_file("a plot of both arms' scores and their calibration", ".png")] = None,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Estimate propensity scores; report their discrimination, calibration and overlap."""
    from contrastkit.causal.propensity import overlap_plot
    from contrastkit.causal.scores import propensity_scores

    units = study.read()
    scores = propensity_scores(units, model=model, folds=folds, seed=seed)
    _print(scores)
    if out is not None:
        columns = {"propensity": scores.scores, "kept": scores.within_crump.astype(int)}
        write_csv(out, units.row_ids().columns() | columns)
    if plot is not None:
        overlap_plot(scores.scores, scores.treated, plot)
    write_reports(scores.as_json(), output.json)


def _print(scores: "Scores") -> None:
    rows = [
        (name, *map(_score, scores.quantiles(treated=treated)))
        for name, treated in (("treated", True), ("untreated", False))
    ]
    columns = ("", "min", "5 %", "25 %", "median", "75 %", "95 %", "max")
    screen.table(f"propensity of {scores.treatment}, {scores.model}; AUC {scores.auc:.3f}", columns, rows)
    mean, share = scores.worst_calibration()
    screen.say(
        f"calibration: predicted and observed shares of a decile differ by at most {abs(share - mean):.4f} "
        f"({mean:.4f} predicted, {share:.4f} observed)"
    )
    for remark in scores.remarks:
        screen.say(remark)
    if scores.clipped:
        screen.say(f"{scores.clipped:,} scores within 1e-6 of 0 or 1 were clipped")
    within, alpha = scores.within_crump, scores.alpha
    screen.say(
        f"Crump's trimming: scores in [{alpha:.4f}, {1 - alpha:.4f}] keep {int((within & scores.treated).sum()):,} "
        f"treated and {int((within & ~scores.treated).sum()):,} untreated units"
    )
    screen.say(f"overlap: the score distributions of the arms share {scores.overlap:.1%} of their area")
    if scores.little_overlap:
        screen.say(
            "little overlap: an effect on all units (ATE) would rest on few of them; estimate the effect on the "
            "treated (ATT), or use overlap weights"
        )


def _score(e: float) -> str:
    """A score with four decimals, which never makes it 0 or 1."""
    if e < 0.0001:
        return "<0.0001"
    return ">0.9999" if e > 0.9999 else f"{e:.4f}"
