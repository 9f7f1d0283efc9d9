"""``contrastkit causal refute``: attempts to refute an estimate."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import Estimand, EstimatorName
from contrastkit.cli import screen
from contrastkit.cli.causal.lines import estimate_line
from contrastkit.cli.causal.options import Cluster, ModelOptions, SampleWeight, StudyOptions
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.tables import column_names
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.estimate import Estimator
    from contrastkit.causal.refute import Verdict
    from contrastkit.causal.study import Study


@dataclass(frozen=True, kw_only=True)
class PlaceboOptions:
    """An outcome that the treatment cannot have affected."""

    placebo_outcome: Annotated[
        str | None, typer.Option(help="Column that the treatment cannot have affected.", metavar="COLUMN")
    ] = None
    without: Annotated[
        str,
        typer.Option(
            help="With --placebo-outcome: covariates that determine it, left out of the adjustment.",
            metavar="COLUMN,...",
        ),
    ] = ""

    def of(self, study: "Study") -> "Study | None":
        """The study of the placebo outcome, if one is named."""
        from contrastkit.causal.refutation import placebo_study

        if self.placebo_outcome is None:
            if self.without:
                raise UserError("--without applies to --placebo-outcome: give that too")
            return None
        return placebo_study(study, self.placebo_outcome, without=column_names(self.without))


@dataclass(frozen=True, kw_only=True)
class TestedOptions:
    """The estimate that is tested, and the numbers of the checks."""

    estimator: Annotated[EstimatorName, typer.Option(help="Estimator to test.")] = "entropy"
    estimand: Annotated[Estimand, typer.Option(help="Target population of the effect.")] = "ATT"
    sample_weight: SampleWeight = None
    cluster: Cluster = None
    draws: Annotated[int, typer.Option(help="Number of random draws per check."), Interval(20, 10**5)] = 50
    gamma: Annotated[
        float, typer.Option(help="Sensitivity parameter Gamma of the Rosenbaum bounds."), Interval(1, 1e6)
    ] = 1.25


@takes_options
def refute(
    *,
    study: StudyOptions,
    estimate: TestedOptions,
    models: ModelOptions,
    placebo_options: PlaceboOptions,
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Try to refute an estimate, check by check; exit code 1 if a check fails, not if one cannot be run."""
    from contrastkit.causal.refutation import refute_study
    from contrastkit.causal.refute import checks

    original = study.read()
    placebo = placebo_options.of(original)
    steps = ["estimate", *checks(placebo=placebo is not None)]
    with screen.progress() as on_progress:
        on_progress("refuting", 0, len(steps))

        def on_estimate(fitted: "Estimator") -> None:
            names = f"{original.outcome_label} by {original.treatment_label}, {estimate.estimator}, {fitted.estimand_}"
            screen.say(f"{names}: {estimate_line(fitted)}")
            for remark in fitted.remarks_:
                screen.say(f"remark: {remark}")
            on_progress("refuting", 1, len(steps))

        def on_verdict(verdict: "Verdict") -> None:
            screen.paragraph(f"{verdict.word}  {verdict.name}: {verdict.sentence}")
            on_progress("refuting", 1 + steps.index(verdict.name), len(steps))

        refutation = refute_study(
            original, **vars(estimate), models=models.as_models(), placebo=placebo, seed=seed,
            on_estimate=on_estimate, on_verdict=on_verdict,
        )  # fmt: skip
    _print_grids(refutation.verdicts)
    counts = {
        word: sum(verdict.word == word for verdict in refutation.verdicts) for word in ("PASS", "FAIL", "NOT RUN")
    }
    screen.say(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    if placebo is None:
        screen.say("no --placebo-outcome given: an outcome that the treatment cannot have affected is the best check")
    write_reports(refutation.as_json(), output.json)
    if not refutation.passed:
        raise typer.Exit(1)


def _print_grids(verdicts: "tuple[Verdict, ...]") -> None:
    """The effects under simulated confounders of increasing strength."""
    from contrastkit.causal.refute import digits

    for numbers in (verdict.numbers for verdict in verdicts if "grid" in verdict.numbers):
        labels = [f"{strength:.0%}" for strength in numbers["strengths"]]
        rows = [
            (label, *("refused" if effect is None else digits(effect) for effect in row))
            for label, row in zip(labels, numbers["grid"], strict=True)
        ]
        screen.table("effect with a confounder", ["", *labels], rows, narrow=True)
        screen.say("rows: its partial R^2 with the treatment; columns: with the outcome")
