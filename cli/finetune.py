"""``contrastkit finetune``: accuracy of an encoder that is trained on labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from contrastkit.bounds import COUNT, SEEDS, Interval
from contrastkit.cli import recipe_options, screen
from contrastkit.cli.options import ConfusionFile, OutputOptions, SubjectOptions, WeightsFile, takes_options
from contrastkit.cli.results import interval, percent, print_environments, report_classes, write_evaluation
from contrastkit.protocols import PROTOCOLS

if TYPE_CHECKING:
    from contrastkit.evaluate import FinetuneReport


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Which of the labelled training images are used."""

    labels_per_class: Annotated[
        int | None, typer.Option(help="Train on this many labelled images of each class \\[all]."), COUNT
    ] = None
    label_fraction: Annotated[
        float | None, typer.Option(help="Train on this share of each class's images."), Interval(0, 1, above=True)
    ] = None
    label_list: Annotated[
        Path | None, typer.Option(help="Train on the images that this text file names, one a line.", metavar="FILE")
    ] = None


def _finetune(
    *,
    subject: SubjectOptions,
    labels: LabelOptions,
    weights: WeightsFile = None,
    protocol: Annotated[
        str, typer.Option(help=f"Row of numbers: {', '.join(PROTOCOLS)}.", metavar="ROW", rich_help_panel="protocol")
    ] = "tiny",
    seeds: Annotated[
        int, typer.Option(help="Classifiers trained at the chosen learning rate, from --seed on."), SEEDS
    ] = 3,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also train the same encoder from scratch, and fine-tune its published weights, if any.",
        ),
    ] = False,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Arithmetic of the training.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the fine-tuned model \\[RUN/finetune].", metavar="DIR")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished fine-tuning with other options.")
    ] = False,
    confusion: ConfusionFile = None,
    output: OutputOptions,
    **numbers: Any,
) -> None:
    """Fine-tune an encoder on labels, all or a few, and evaluate it.

    The learning rate is chosen on held-out training images. A linear probe on the same labels stands beside it. If it
    is stopped, the same command goes on where it was.
    """
    from contrastkit import evaluate
    from contrastkit.evaluate.few_labels import FewLabels
    from contrastkit.evaluate.finetuning import folder_of

    opened = subject.open()
    screen.lines(opened.notices)
    folder = out or folder_of(opened)
    with screen.progress() as on_progress:
        report = evaluate.finetune(
            opened, protocol=protocol, numbers=recipe_options.typed(PROTOCOLS["tiny"], numbers),
            few=FewLabels(**vars(labels)), weights=weights, seeds=seeds, seed=subject.seed, baselines=baselines,
            precision=precision, out=folder, restart=restart, on_progress=on_progress, on_line=screen.say,
        )  # fmt: skip
    own = opened.reports or folder
    _print(report, confusion, own / "finetune-confusion.png")
    write_evaluation(report.as_json(), opened, output.json, own / "finetune.json")


def _print(report: "FinetuneReport", confusion: Path | None, own: Path) -> None:
    """
    Args:
        confusion, own: where the confusion matrix goes, see :func:`report_classes`.
    """
    screen.lines(report.notices)
    labels = report.labels
    screen.table(
        f"fine-tuning on {report.data}, protocol {report.protocol}, {labels.images:,} labelled training and "
        f"{labels.test:,} test images of {report.size} px",
        ("training", "top-1", "95 % interval", "top-5", "learning rate"),
        [
            (
                name,
                percent(each.accuracy.top1) + ("" if each.std is None else f" +- {100 * each.std:.2f}"),
                interval(each.accuracy.interval),
                percent(each.accuracy.top5),
                f"{each.rate:g}",
            )
            for name, each in report.results.items()
        ],
    )
    print_environments(
        f"fine-tuning on {report.data}", {name: each.environments for name, each in report.results.items()}
    )
    first, result = next(iter(report.results.items()))
    report_classes(f"{first} on {report.data}", result.per_class, confusion, own)
    if report.model is not None:
        screen.say(f"the classifier of the first seed: contrastkit.load_classifier({report.model!r})")


finetune = takes_options(_finetune, *recipe_options.of_recipes(PROTOCOLS, "protocol"))
