"""``contrastkit probe``: accuracy of a linear classifier on frozen features."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from contrastkit.bounds import EPOCHS, NOT_NEGATIVE, SEEDS
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.held_out import report_each, require_none_drawn
from contrastkit.cli.options import Baselines, ConfusionFile, OutputOptions, SubjectOptions, WeightsFile, takes_options
from contrastkit.cli.results import (
    counts,
    interval,
    percent,
    print_environments,
    report_classes,
    write_evaluation,
    write_picture,
)
from contrastkit.errors import UserError
from contrastkit.names import EACH, MOCO_EPOCHS, MOCO_RATE, RATES_EPOCHS, RATES_SEEDS

if TYPE_CHECKING:
    from contrastkit.evaluate import EvaluationSubject, ProbeReport


@takes_options
def probe(
    *,
    subject: SubjectOptions,
    baselines: Baselines = False,
    protocol: Annotated[
        Literal["rates", "standardised", "moco"],
        typer.Option(
            help="rates: many learning rates at once, on features encoded once; standardised: the same on features of "
            "mean 0 and variance 1, as MAE's probe has them; moco: MoCo's linear protocol, on random crops and flips."
        ),
    ] = "rates",
    epochs: Annotated[
        int | None,
        typer.Option(help=f"Passes over the training images \\[{RATES_EPOCHS}; moco: {MOCO_EPOCHS}]."),
        EPOCHS,
    ] = None,
    lr: Annotated[float | None, typer.Option(help=f"moco only: learning rate \\[{MOCO_RATE:g}]."), NOT_NEGATIVE] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help=f"not moco: number of classifiers trained at the chosen learning rate \\[{RATES_SEEDS}]."),
        SEEDS,
    ] = None,
    weights: WeightsFile = None,
    plot: Annotated[
        Path | None, out_file("a plot of accuracy against learning rate (not moco)", ".png", default="RUN/probe.png")
    ] = None,
    confusion: ConfusionFile = None,
    output: OutputOptions,
) -> None:
    """Evaluate frozen features by a linear classifier, whose learning rate is chosen on held-out training images, or
    given (protocol moco).

    --hold-out each: each environment of DIR/ENVIRONMENT/CLASS in turn, by classifiers trained on the others.
    """
    from contrastkit import evaluate
    from contrastkit.evaluate.held_out import weights_file

    if plot is not None and protocol == "moco":
        raise UserError("--plot does not apply to --protocol moco, which trains at a single learning rate")
    how: dict[str, Any] = {"protocol": protocol, "epochs": epochs, "lr": lr, "seeds": seeds, "seed": subject.seed}
    if subject.test_part == EACH:
        require_none_drawn(plot=plot, confusion=confusion)
        return report_each(
            "linear probe", subject, baselines, output,
            lambda part, held_out: evaluate.probe(part, **how, weights=weights_file(weights, held_out)),
        )  # fmt: skip
    opened = subject.open(baselines=baselines)
    screen.lines(opened.notices)
    with screen.progress() as on_progress:
        report = evaluate.probe(opened, **how, weights=weights, on_progress=on_progress, on_epoch=_print_epoch)
    _print(report, opened, plot, confusion)
    write_evaluation(report.as_json(), opened, output.json, opened.reports and opened.reports / "probe.json")


def _print(report: "ProbeReport", opened: "EvaluationSubject", plot: Path | None, confusion: Path | None) -> None:
    """
    Args:
        plot, confusion: where the user wants these pictures.
    """
    from contrastkit.evaluate.linear import LinearProbe, rates_chart

    screen.lines(report.notices)
    screen.table(
        f"linear probe on {report.data}, protocol {report.protocol}, {counts(opened)}",
        ("features", "top-1", "95 % interval", "top-5", "learning rate"),
        _rows(report),
    )
    print_environments(f"linear probe on {report.data}", report.environments)
    own, items = opened.reports, opened.data.train.modality.plural
    first, result = next(iter(report.probe.items()))
    title = f"linear probe of {first} on {report.data}"
    report_classes(title, result.per_class, confusion, own and own / "probe-confusion.png", items=items)
    if isinstance(result, LinearProbe) and result.validation:
        rates = partial(rates_chart, probe=result, name=first)
        write_picture("accuracy against learning rate", rates, plot, own and own / "probe.png")
    elif plot is not None:
        screen.say(f"{plot} is not written: no image was left to compare learning rates on")


def _print_epoch(encoder: str, epoch: int, epochs: int, loss: float) -> None:
    if epoch == 1:
        screen.say(f"{encoder}: linear probe, {epochs} epochs")
    screen.say(f"epoch {epoch}/{epochs}  loss {loss:.4f}")


def _rows(report: "ProbeReport") -> list[tuple[str, ...]]:
    from contrastkit.evaluate.linear import LinearProbe

    rows: list[tuple[str, ...]] = []
    for name, result in report.probe.items():
        std = result.std if isinstance(result, LinearProbe) else None
        spread = "" if std is None else f" +- {100 * std:.2f}"
        top1, top5 = percent(result.accuracy.top1) + spread, percent(result.accuracy.top5)
        rows.append((name, top1, interval(result.accuracy.interval), top5, f"{result.rate:g}"))
    return rows
