"""``contrastkit distill METHOD``: train a student by a teacher; ``contrastkit train`` with a teacher."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.checkpoint import write_json
from contrastkit.cli import screen, train
from contrastkit.cli.results import interval, noticing, percent
from contrastkit.names import DISTILLED, DISTILLED_SUMMARIES, DISTILLED_WORDS

if TYPE_CHECKING:
    from contrastkit.training import Outcome
    from contrastkit.training.plan import Plan

REPORT = "distill.json"  # in the run folder


@dataclass(frozen=True, kw_only=True)
class DistillOptions(train.RunOptions):
    """A training's, and the teacher."""

    teacher: Annotated[
        str | None,
        typer.Option(
            help="The trained classifier: a folder of finetune or a run that holds one, pretrained:NAME of torchvision "
            "or timm, or a .safetensors or .pth file.",
            metavar="RUN|FILE|NAME",
        ),
    ] = None
    teacher_encoder: Annotated[
        str | None, typer.Option(help="The network whose weights --teacher FILE has, such as resnet50.", metavar="NAME")
    ] = None


class Distillations(train.Methods):
    """One command per distillation."""

    def make(self, method: str) -> Any:
        return train.command(DISTILLED.get(method, method), DistillOptions, distill)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A distillation also by the name that its recipes have."""
        return super().resolve_command(ctx, [DISTILLED_WORDS.get(args[0], args[0]), *args[1:]])


app = train.methods_app(
    Distillations,
    "Train a student to do as a teacher does.\n\nEach number of its recipe is an option: distill METHOD --help.",
    DISTILLED_SUMMARIES,
)


def distill(method: str, numbers: dict[str, Any], training: dict[str, Any], options: DistillOptions) -> None:
    """Distil a teacher, and print the accuracy of student and teacher."""
    teacher = options.teacher, options.teacher_encoder
    train.train(method, numbers, training, options, after=_evaluated, teacher=teacher)


def _evaluated(outcome: "Outcome", plan: "Plan") -> dict[str, Any]:
    """Evaluate a finished student; the key of the report that says how good it is."""
    if not outcome.finished:
        return {"test": None}
    from contrastkit import load_classifier
    from contrastkit.evaluate.distilled import distilled
    from contrastkit.run import CLASSIFIER

    assert plan.teacher is not None
    path, options = outcome.run.path / CLASSIFIER, plan.options
    student = load_classifier(path)
    result = distilled(
        student,
        plan.teacher,
        plan.data,
        size=student.size,
        workers=options.workers,
        max_bad=options.max_bad,
        device=plan.device,
    )
    if result is None:
        screen.say(f"{plan.data.train.name} has no labelled test images on which to compare student and teacher")
    else:
        rows = {f"student, {plan.recipe.encoder}": result.student, f"teacher, {plan.teacher.name}": result.teacher}
        screen.table(
            f"{result.student.n:,} test images of {result.data}, {100 * result.agreement:.1f} % answered alike",
            ("classifier", "top-1", "95 % interval", "top-5"),
            [(name, percent(each.top1), interval(each.interval), percent(each.top5)) for name, each in rows.items()],
        )
    screen.say(f"the student: contrastkit.load_classifier({str(path)!r})")
    report = {"test": None if result is None else asdict(result)}
    with noticing(file := outcome.run.path / REPORT):
        write_json(file, {"name": plan.name} | report)
    return report
