"""``contrastkit causal report``: one page on a study."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from contrastkit.causal.names import Balancing
from contrastkit.cli import screen
from contrastkit.cli.causal.options import CovariateOptions, MeasureOption, ModelOptions, StudyOptions
from contrastkit.cli.causal.refute import PlaceboOptions, TestedOptions
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, Seed, takes_options
from contrastkit.cli.results import write_reports

if TYPE_CHECKING:
    from contrastkit.causal.study import Study

PARTS = 3
SCORED = (*(item.name for item in fields(CovariateOptions)), "graph", "outcome")  # options of causal propensity


@takes_options
def report(
    *,
    study: StudyOptions,
    estimate: TestedOptions,
    measure: MeasureOption = "difference",
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
        **vars(estimate), measure=measure, models=models.as_models(), placebo=placebo_options.of(units),
        graph=study.graph, seed=seed,
    )  # fmt: skip
    seeded = ["--seed", str(seed)] if seed else []
    shared = [*_words(models), *seeded]
    compared = ["--measure", measure] if measure != "difference" else []
    checks = [*_words(estimate), *_words(placebo_options)]
    scored = [] if models.propensity_model == "logistic" else ["--model", models.propensity_model]
    by = estimate.estimator if estimate.estimator in get_args(Balancing) else "none"
    target = [] if by in ("overlap", "none") else _words(estimate, ("estimand",))
    table = _words(study)
    commands = (
        *_of_graph(study, units),
        ["propensity", *_words(study, SCORED if study.graph else SCORED[:-2]), *scored, *seeded],
        ["balance", *table, "--by", by, *target],
        ["estimate", *table, *_words(estimate, ("estimand", "sample_weight", "cluster")), *compared, *shared],
        ["refute", *table, *checks, *shared],
        ["report", *table, *checks, *compared, *shared, "--out", str(out)],
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


def _of_graph(study: StudyOptions, units: "Study") -> list[list[str]]:
    """The command that says what a graph implies, if there is one."""
    from contrastkit.report.study import unobserved

    if study.graph is None:
        return []
    hidden = ",".join(unobserved(units, study.graph))
    words = ["graph", study.graph, "--treatment", units.treatment, "--outcome", str(units.outcome)]
    return [[*words, *(["--unobserved", hidden] if hidden else [])]]


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
