"""``contrastkit train METHOD``: a command for each method, its options generated from the recipe's fields."""

import math
import shlex
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from contrastkit.bounds import EPOCHS
from contrastkit.checkpoint import write_json
from contrastkit.cli import screen
from contrastkit.cli.groups import single
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import interval, noticing, percent, print_environments
from contrastkit.errors import Interrupted, UserError
from contrastkit.names import DISTILLED, DISTILLED_SUMMARIES, DISTILLED_WORDS, SUMMARIES, is_file, training_command

if typing.TYPE_CHECKING:
    from contrastkit.training import Outcome
    from contrastkit.training.plan import Plan


StartFrom = Annotated[
    str | None,
    typer.Option(
        help="Starting weights of the encoder: a run folder, a .safetensors or .pth file, pretrained:NAME of "
        "torchvision or timm, or open_clip:MODEL/PRETRAINED.",
        metavar="RUN|FILE|NAME",
    ),
]


class Methods(TyperGroup):
    """One command per method. Listing them imports nothing; the one that runs gets its options from its recipe."""

    def make(self, method: str) -> Any:
        """The command of a method."""
        return command(method)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if is_file(args[0]):
            return args[0], self.make(args[0]), args[1:]
        if args[0] not in self.commands and (method := DISTILLED.get(args[0], args[0])) in DISTILLED_WORDS:
            raise UserError(f"{args[0]} distils a teacher: use {' '.join(training_command(method))}")
        name, stub, rest = super().resolve_command(ctx, args)
        return name, (stub if name is None else self.make(name)), rest


def methods_app(group: type[Methods], help: str, summaries: Mapping[str, str] = SUMMARIES) -> typer.Typer:
    """A command of a command for each method."""
    app = typer.Typer(cls=group, no_args_is_help=True, help=help)
    for name, summary in summaries.items():
        app.command(name, help=summary)(lambda: None)
    return app


app = methods_app(
    Methods,
    "Train a method, built-in or from a file (path/to/mine.py:NAME).\n\nEach number of its recipe is an option: "
    "train METHOD --help.",
)


@dataclass(frozen=True, kw_only=True)
class RunOptions(OutputOptions):
    """The run and where it stops: what is in neither the recipe nor :class:`contrastkit.training.Options`."""

    recipe: Annotated[
        str | None,
        typer.Option(help="Row of the recipe \\[chosen to fit the images, the encoder and the device].", metavar="ROW"),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Run folder \\[runs/METHOD-ROW-DATA].", metavar="RUN")] = None
    resume: Annotated[
        Path | None, typer.Option(help="Resume this run; no other option is required.", metavar="RUN")
    ] = None
    init_from: StartFrom = None
    extend: Annotated[
        Path | None,
        typer.Option(help="Begin a new run at this run's last state, with more --epochs.", metavar="RUN"),
    ] = None
    stop_after: Annotated[
        int | None, typer.Option(help="Stop after this many epochs of the schedule; --resume continues."), EPOCHS
    ] = None


def command(method: str, family: type[RunOptions] = RunOptions, do: Callable[..., None] | None = None) -> Any:
    """The command of one method: options of the training, then one for each number of its recipe and of its views.

    Args:
        family, do: the other options, and what is done with all of them: by default :func:`train`.
    """
    from contrastkit.cli import recipe_options
    from contrastkit.methods.rows import recipes_of
    from contrastkit.training import Options

    recipes = recipes_of(method)
    training = recipe_options.of_training(Options)
    numbers = [*recipe_options.of_recipes(recipes), *recipe_options.of_views(recipes)]

    def run(options: Any, **values: Any) -> None:
        values = {name: value for name, value in values.items() if value is not None}
        (do or train)(
            method,
            {p.name: values[p.name] for p in numbers if p.name in values},
            {p.name: values[p.name] for p in training if p.name in values},
            options,
        )

    run.__annotations__["options"] = family
    run.__doc__ = (SUMMARIES | DISTILLED_SUMMARIES).get(method, type(next(iter(recipes.values()))).__doc__)
    return single(method, takes_options(run, *training, *numbers))


def _classified(outcome: "Outcome", plan: "Plan") -> dict[str, Any]:
    """Evaluate the classifier of a finished training with labels; the key of the report that says how good it is."""
    if not plan.recipe.learns_from_labels:
        return {}
    if not outcome.finished:
        return {"test": None}
    from contrastkit import load_classifier
    from contrastkit.evaluate.classified import classified
    from contrastkit.run import CLASSIFIER, TESTED

    path, options = outcome.run.path / CLASSIFIER, plan.options
    classifier = load_classifier(path)
    how: dict[str, Any] = {"workers": options.workers, "max_bad": options.max_bad, "device": plan.device}
    result = classified(classifier, plan.data, size=classifier.size, **how)
    if result is None:
        screen.say(f"{plan.data.train.name} has no labelled test images on which to test the classifier")
    else:
        accuracy = result.accuracy
        title = f"classifier of {plan.name} on {accuracy.n:,} test images of {result.data}"
        row = (percent(accuracy.top1), interval(accuracy.interval), percent(accuracy.top5))
        screen.table(title, ("top-1", "95 % interval", "top-5"), [row])
        print_environments(title, {"top-1": result.environments})
    screen.say(f"the classifier: contrastkit.load_classifier({str(path)!r})")
    report = {"test": None if result is None else asdict(result)}
    if outcome.run.writes:
        with noticing(file := outcome.run.path / TESTED):
            write_json(file, {"name": plan.name} | report)
            for line in () if result is None else result.lines:
                outcome.run.log(line)
    return report


def train(
    method: str,
    numbers: dict[str, Any],
    training: dict[str, Any],
    options: RunOptions,
    after: Callable[["Outcome", "Plan"], dict[str, Any]] = _classified,
    **teacher: Any,
) -> None:
    """Train one method: choose the recipe, open or resume the run, and print the outcome.

    Args:
        after: called in the first process when the training has ended; returns more keys of the report.
        teacher: of a distillation, see :func:`contrastkit.training.plan.plan`.
    """
    from contrastkit import dist
    from contrastkit.cli import recipe_options
    from contrastkit.training.launch import launch
    from contrastkit.training.plan import plan

    if options.resume is not None and options.out is not None:
        raise UserError("--out cannot be combined with --resume: a resumed run stays in its folder")
    chosen = plan(
        method,
        training,
        change=recipe_options.change(numbers),
        encoder=numbers.get("encoder"),
        row=options.recipe,
        out=options.resume or options.out,
        resume=options.resume is not None,
        extend=options.extend,
        init_from=options.init_from,
        **teacher,
    )
    is_main = dist.rank() == 0
    if is_main:
        screen.say(_opening(chosen))
    with screen.TrainingScreen(enabled=is_main) as reporter:
        outcome = launch(chosen, stop_after=options.stop_after, reporter=reporter)
    if is_main:
        for line in _closing(method, outcome, chosen.data.pretrain.modality.plural):
            screen.say(line)
        report = _report(outcome, chosen) | after(outcome, chosen)
        if options.json is not None:
            write_json(options.json, report)
    if outcome.signal is not None and not outcome.finished:
        raise Interrupted(outcome.signal)


def _report(outcome: "Outcome", plan: "Plan") -> dict[str, Any]:
    report = {"run": str(outcome.run.path), "name": plan.name, "step": outcome.step, "finished": outcome.finished}
    verdict = None if outcome.verdict is None else asdict(outcome.verdict)
    return report | {"seconds": outcome.seconds} | outcome.evaluation | {"verdict": verdict}


def _opening(plan: "Plan") -> str:
    source = plan.data.pretrain
    return (
        f"recipe {plan.name} on {plan.data.name}: {len(source):,} {source.description}; "
        f"{plan.recipe.epochs} epochs, batch {plan.recipe.batch}; run folder {plan.out}"
    )


def _closing(method: str, outcome: "Outcome", items: str) -> list[str]:
    speed = "" if math.isnan(outcome.images_per_s) else f", {outcome.images_per_s:,.0f} {items}/s"
    end = "trained" if outcome.finished else "stopped"
    lines = [f"{end} at step {outcome.step}: {outcome.seconds:.0f} s of training{speed}"]
    if not outcome.finished:
        words = ["contrastkit", "train", method] if is_file(method) else training_command(method)
        return [*lines, "resume: " + shlex.join([*words, "--resume", str(outcome.run.path)])]
    commands = [shlex.join(["contrastkit", name, str(outcome.run.path)]) for name in outcome.applicable]
    if is_file(method) and "retrieve" in outcome.applicable:  # the only command that needs the method's file
        commands[-1] += " " + shlex.join(["--method", method])
    return [*lines, f"evaluate: {'   '.join(commands)}"]
