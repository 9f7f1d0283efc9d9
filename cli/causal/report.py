"""``contrastkit causal report``: one page on a study."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, get_args

from contrastkit.causal.names import Balancing
from contrastkit.cli import screen
from contrastkit.cli.causal.options import CovariateOptions, ModelOptions, StudyOptions
from contrastkit.cli.causal.refute import PlaceboOptions, TestedOptions
from contrastkit.cli.options import OutputOptions, Seed, out_file, takes_options
from contrastkit.cli.results import write_reports

PARTS = 3


@takes_options
def report(
    *,
    study: StudyOptions,
    estimate: TestedOptions,
    models: ModelOptions,
    placebo_options: PlaceboOptions,
    out: Annotated[Path, out_file("the page", ".html")] = Path("study.html"),
    seed: Seed = 0,
    output: OutputOptions,
) -> None:
    """Write a page on a study: question, graph, overlap, balance, estimates, checks, sensitivity and commands."""
    from contrastkit.report.building import write
    from contrastkit.report.study import Plan, study_page

    units = study.read()
    plan = Plan(
        **vars(estimate), models=models.as_models(), placebo=placebo_options.of(units), graph=study.graph, seed=seed
    )
    table, seeded = _words(study), ["--seed", str(seed)] if seed else []
    shared = [*_words(models), *_words(estimate, ("estimand", "sample_weight", "cluster")), *seeded]
    checks = [*_words(models), *_words(estimate), *_words(placebo_options), *seeded]
    scores = _words(study, [item.name for item in fields(CovariateOptions)]) if study.graph is None else []
    by = estimate.estimator if estimate.estimator in get_args(Balancing) else "none"
    target = [] if by in ("overlap", "none") else _words(estimate, ("estimand",))
    commands = (
        *([["propensity", *scores]] if scores else []),
        ["balance", *table, "--by", by, *target],
        ["estimate", *table, *shared],
        ["refute", *table, *checks],
        ["report", *table, *checks, "--out", str(out)],
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


def _words(options: Any, names: Sequence[str] | None = None) -> list[str]:
    """The options that depart from their defaults, as they are typed; of these names alone, if there are any."""
    words = []
    for item in fields(options):
        value, flag = getattr(options, item.name), f"--{item.name.replace('_', '-')}"
        if value != item.default and (names is None or item.name in names):
            each = value if isinstance(value, list) else [value]
            words += [flag] if value is True else [word for one in each for word in (flag, str(one))]
    return words


def _line(words: list[str]) -> str:
    from contrastkit.report.commands import line

    return line(["contrastkit", "causal", *words])
