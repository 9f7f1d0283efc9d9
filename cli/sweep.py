"""``contrastkit sweep METHOD``: a training for each combination of values and each seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.bounds import SEEDS, Interval
from contrastkit.cli import screen
from contrastkit.cli.compare import report_comparison
from contrastkit.cli.groups import single
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports
from contrastkit.cli.train import Methods, StartFrom, methods_app
from contrastkit.errors import Interrupted, UserError
from contrastkit.names import SUMMARIES

if TYPE_CHECKING:
    from contrastkit.sweep import SweepRun

JOBS = Interval(1, 1024)


class Sweeps(Methods):
    """The methods as those of ``train``, each number with several values."""

    def make(self, method: str) -> Any:
        return command(method)


app = methods_app(
    Sweeps,
    "Train a method with each combination of values, and compare the runs.\n\nEach number of its recipe is an option "
    "that takes several values, separated by commas: sweep METHOD --help.",
)


@dataclass(frozen=True, kw_only=True)
class SweepOptions(OutputOptions):
    """The runs of a sweep."""

    seeds: Annotated[
        int, typer.Option(help="Runs of each combination, with the seeds --seed, --seed + 1, ..."), SEEDS
    ] = 1
    jobs: Annotated[int, typer.Option(help="Trainings at a time, each a process; 1: one after the other."), JOBS] = 1
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Row of the recipe \\[chosen to fit the images, the first encoder and the device].", metavar="ROW"
        ),
    ] = None
    init_from: StartFrom = None
    out: Annotated[
        Path | None, typer.Option(help="Folder for all runs \\[runs/sweep-METHOD-ROW-DATA].", metavar="FOLDER")
    ] = None


def command(method: str) -> Any:
    """The command of one method: options of the training and of the sweep, then one for each number of its recipe."""
    from contrastkit.cli import recipe_options
    from contrastkit.methods.rows import recipes_of
    from contrastkit.training import Options

    recipes = recipes_of(method)
    training = recipe_options.of_training(Options)
    numbers = [*recipe_options.of_recipes(recipes, several=True), *recipe_options.of_views(recipes)]

    def run(options: SweepOptions, **values: Any) -> None:
        """Train with each combination of values; after an interruption the same command resumes."""
        values = {name: value for name, value in values.items() if value is not None}
        sweep(
            method,
            {p.name: values[p.name] for p in numbers if p.name in values},
            {p.name: values[p.name] for p in training if p.name in values},
            options,
        )

    run.__doc__ = f"{SUMMARIES.get(method, '')}\n\n{run.__doc__}".strip()
    return single(method, takes_options(run, *training, *numbers))


def sweep(method: str, numbers: dict[str, str], training: dict[str, Any], options: SweepOptions) -> None:
    """Train all combinations, and print their comparison.

    Raises:
        UserError: a run failed; the others are trained and compared.
    """
    from contrastkit import sweep as library
    from contrastkit.cli import recipe_options
    from contrastkit.methods.rows import recipes_of
    from contrastkit.training.plan import plan, replaced
    from contrastkit.training.series import as_recorded

    rows = recipes_of(method)
    fixed, several = recipe_options.grid(next(iter(rows.values())), numbers)
    first = {name: values[0] for name, values in several.items()}
    encoder = (fixed | first).get("encoder")
    change = replaced(fixed | first)
    row, init_from = options.recipe, options.init_from
    base = plan(method, training, change=change, encoder=encoder, row=row, init_from=init_from)
    name = f"{base.name.replace('/', '-').replace(':', '-')}-{Path(base.data.name).stem}"
    out = options.out or Path("runs") / f"sweep-{name}"
    asked = {"row": row, "precision": training.get("precision")}
    base = as_recorded(base, out / library.REPORT, change, method=method, **asked)
    recipes = library.combinations(rows[base.name], fixed, several)
    total, seed = len(recipes) * options.seeds, base.options.seed
    seeds = f"seed {seed}" if options.seeds == 1 else f"seeds {seed} to {seed + options.seeds - 1}"
    varied = ", ".join(several) or "nothing"
    screen.say(f"recipe {base.name} on {base.data.name}: {total} runs ({varied} varied, {seeds}); folder {out}")
    if (reason := library.why_unlabelled(base)) is not None:
        screen.say(f"no kNN: {reason}")
    if options.jobs > 1:
        screen.say(f"{options.jobs} processes; the lines of each run are in its log.txt")
    ended: list[library.SweepRun] = []
    try:
        with screen.TrainingScreen() as reporter:
            how: dict[str, Any] = {"seeds": options.seeds, "jobs": options.jobs, "method": method}
            for run in library.sweep(base, recipes, out=out, reporter=reporter, **how):
                ended.append(run)
                end = "already trained" if run.skipped else "trained" if run.error is None else f"failed: {run.error}"
                screen.say(f"{len(ended)} of {total}: {run.name}: {end}")
    except Interrupted:
        screen.say(f"stopped after {len(ended)} of {total} runs: repeat the command to go on")
        raise
    _compare(ended, out, options)


def _compare(ended: "list[SweepRun]", out: Path, options: SweepOptions) -> None:
    """Print the comparison of the runs that are there; then say which failed."""
    from contrastkit.compare import compare

    failed = [run for run in ended if run.error is not None]
    if trained := [run.out for run in sorted(ended, key=lambda run: run.index) if run.error is None]:
        comparison = compare(trained)
        report_comparison(comparison, None, out)
        write_reports(comparison.as_json(), options.json, out / "compare.json")
    if failed:
        first = f"{failed[0].name}: {failed[0].error}"
        raise UserError(f"{len(failed)} of {len(ended)} runs failed (first {first}): the same command tries them again")
