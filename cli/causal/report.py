"""``contrastkit causal report``: one page on a study."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from contrastkit.bounds import Interval
from contrastkit.causal.names import Balancing, Estimand, EstimatorName
from contrastkit.cli import screen
from contrastkit.cli.causal.options import Cluster, CovariateOptions, ModelOptions, SampleWeight, StudyOptions
from contrastkit.cli.causal.refute import PlaceboOptions
from contrastkit.cli.options import OutputOptions, Seed, out_file, takes_options
from contrastkit.cli.results import write_reports

PARTS = 3


@takes_options
def report(
    *,
    study: StudyOptions,
    estimator: Annotated[EstimatorName, typer.Option(help="Estimator that the page is about.")] = "entropy",
    estimand: Annotated[Estimand, typer.Option(help="Target population of the effect.")] = "ATT",
    sample_weight: SampleWeight = None,
    cluster: Cluster = None,
    models: ModelOptions,
    draws: Annotated[int, typer.Option(help="Number of random draws per check."), Interval(20, 10**5)] = 50,
    placebo_options: PlaceboOptions,
    gamma: Annotated[
        float, typer.Option(help="Sensitivity parameter Gamma of the Rosenbaum bounds."), Interval(1, 1e6)
    ] = 1.25,
    out: Annotated[Path, out_file("the page", ".html")] = Path("study.html"),
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Write a page on a study: question, graph, overlap, balance, estimates, checks, sensitivity and commands."""
    from contrastkit.report.building import write
    from contrastkit.report.study import Plan, study_page

    units = study.read()
    plan = Plan(
        estimator=estimator, estimand=estimand, models=models.as_models(), placebo=placebo_options.of(units),
        graph=study.graph, sample_weight=sample_weight, cluster=cluster, draws=draws, gamma=gamma, seed=seed,
    )  # fmt: skip
    table, shared = _words(study), _words(models)
    shared += ["--estimand", estimand] if estimand != "ATT" else []
    for name, column in (("sample-weight", sample_weight), ("cluster", cluster)):
        shared += [] if column is None else [f"--{name}", column]
    shared += ["--seed", str(seed)] if seed else []
    checks = ["--estimator", estimator, "--draws", str(draws), "--gamma", f"{gamma:g}", *_words(placebo_options)]
    scores = [word for word in _words(study, CovariateOptions) if study.graph is None]
    by = estimator if estimator in get_args(Balancing) else "none"
    weights = ["--by", by, *(["--estimand", estimand] if estimand != "ATT" and by not in ("overlap", "none") else [])]
    commands = (
        *([["propensity", *scores]] if scores else []),
        ["balance", *table, *weights],
        ["estimate", *table, *shared],
        ["refute", *table, *shared, *checks],
        ["report", *table, *shared, *checks, "--out", str(out)],
    )
    with screen.progress() as on_progress:
        step = 0

        def on_step(name: str) -> None:
            nonlocal step
            on_progress(name, step, PARTS)
            step += 1

        page = study_page(units, plan, [_line(words) for words in commands], on_step)
    written = write(page, out)
    screen.paragraph(page.runs[0].lead)
    screen.lines(page.notices)
    screen.say(f"{written.file}: {written.size / 2**20:.1f} MiB, {written.pictures} pictures; open it in a browser")
    write_reports({**asdict(written), "file": str(written.file)}, output.json)


def _words(options: Any, kind: Any = None) -> list[str]:
    """The options that depart from their defaults, as they are typed; those of ``kind`` alone, if it is given."""
    words = []
    for item in fields(options if kind is None else kind):
        value, flag = getattr(options, item.name), f"--{item.name.replace('_', '-')}"
        if value != item.default:
            each = value if isinstance(value, list) else [value]
            words += [flag] if value is True else [word for one in each for word in (flag, str(one))]
    return words


def _line(words: list[str]) -> str:
    from contrastkit.report.commands import line

    return line(["contrastkit", "causal", *words])
