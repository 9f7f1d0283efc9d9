"""The sections on the training of a run: what was trained on what, its curves, its views, where it ran."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrastkit import schema
from contrastkit.cards import EVERY
from contrastkit.curves import NOTE, Metric, draw_metric, is_number, panels
from contrastkit.errors import UserError
from contrastkit.figures import chart
from contrastkit.names import METHODS, split_name
from contrastkit.record import Record, json_value
from contrastkit.report.commands import called, line
from contrastkit.report.content import Block, Code, Facts, Missing, Panels, Picture, Table, Text
from contrastkit.report.pictures import drawn
from contrastkit.run import ENVIRONMENT, Run
from contrastkit.training.seen import Seen

PANEL = (3.4, 2.3)  # width and height of a curve in inches
NAMES = {
    "contrastkit": "contrastkit", "python": "Python", "torch": "PyTorch", "torchvision": "torchvision",
    "platform": "Platform", "processor": "Processor", "threads": "Threads", "devices": "Devices",
}  # fmt: skip
IMAGES, VIEWS = 6, 6  # on the sheet of views: rows, and views in a row at most


def trained(record: Record, rows: Sequence[dict[str, Any]], parameters: int | None, labels: str) -> list[Block]:
    """What was trained on what; ``labels`` says in words what the training saw of them, "" if it is not known."""
    method, row = split_name(record.name)
    options, data, recipe = record.options, record.data, record.recipe
    blocks: list[Block] = []
    if (card := EVERY.get(METHODS.get(method, method))) is not None:
        blocks.append(Text(f"{card.idea} ({card.paper}, arXiv:{card.arxiv})"))
    sizes = " and ".join(dict.fromkeys(str(view.get("size", "")) for view in recipe.get("views", ())))
    unit = "samples" if data.rate else "px"
    network = record.encoder["name"] + (f", {parameters / 1e6:.2f} M parameters" if parameters else "")
    facts = [
        ("Method", f"{method}, recipe {row}"),
        ("Encoder", network),
        ("Data", f"{data.name}: {data.images:,} {data.items}{f', {labels}' if labels else ''}"),
        ("Place of the data", options.data),
        ("Views", f"{len(recipe.get('views', ()))} of {sizes} {unit}"),
        ("Schedule", f"{recipe['epochs']} epochs, batch {recipe['batch']}"),
        ("Seed", str(options.seed)),
        ("Arithmetic", options.precision),
    ]
    if options.labelled is not None:
        facts.insert(4, ("Labelled images", f"{options.labelled}: to evaluate on, not trained on"))
    if options.val_fraction is not None:
        facts.insert(4, ("Held out", f"{100 * options.val_fraction:g} % of the images, to test on"))
    if record.weights is not None:
        facts.append(("Starting weights", f"{record.weights.source} (SHA-256 {record.weights.sha256})"))
    if record.parent is not None:
        facts.append(("Went on from", f"step {record.parent.step:,} of {record.parent.run}"))
    if rows and is_number(rows[-1].get("seconds")):
        facts.append(("Time of training", f"{_time(rows[-1]['seconds'])}, {rows[-1]['step']:,.0f} steps"))
    return [*blocks, Facts(tuple(facts)), _numbers(recipe)]


def _numbers(recipe: dict[str, Any]) -> Table:
    rows = [(name, _text(value)) for name, value in recipe.items() if name != "views" and value is not None]
    return Table("All numbers of the recipe", ("number", "value"), tuple(rows), (1,), folded=True)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def curves(rows: Sequence[dict[str, Any]], classes: int | None) -> list[Block]:
    """A panel for each metric, and their values as a table.

    Args:
        classes: of the labelled training images, if they are known.
    """
    shown = panels(rows, classes)
    if not shown:
        return [Missing("no epoch has ended yet")]
    pictures = [_panel(metric, points) for metric, points in shown]
    names = ("metric", "unit", "first", "last", "lowest", "highest", "compare with")
    table = Table("The curves in numbers", names, tuple(_values(*each) for each in shown), (2, 3, 4, 5), folded=True)
    return [Panels(tuple(pictures), f"{NOTE}."), table]


def _panel(metric: Metric, points: Sequence[tuple[float, Any]]) -> Picture:
    def draw(file: Path) -> None:
        with chart(file, "", width=PANEL[0], height=PANEL[1]) as figure:
            draw_metric(figure.subplots(), metric, points)

    _, unit, first, last, *_ = _values(metric, points)
    return drawn(draw, alt=f"{metric.title} ({unit}) against the epoch: {first} at first, {last} at last")


def _values(metric: Metric, points: Sequence[tuple[float, Any]]) -> tuple[str, ...]:
    numbers = [metric.factor * value for _, value in points if is_number(value)]
    texts = [f"{value:.4g}" for value in (numbers[0], numbers[-1], min(numbers), max(numbers))]
    references = ", ".join(f"{name} {value:.3g}" for value, name in metric.references)
    return metric.title, metric.unit, *texts, references


def views(run: Path) -> tuple[list[Block], Seen | None]:
    """The views as trained, and what they are of; None if its data set cannot be opened."""
    repeat = line(["contrastkit", "views", str(run)])
    try:
        seen = Seen.of_run(run)
    except UserError as error:
        return [Missing(str(error), f"{repeat} --data ...")], None
    if not seen.trained:
        return [Missing("the data set has changed since the training: these would be other images", repeat)], None
    draws = max(1, VIEWS // len(seen.views))
    try:
        picture = drawn(
            lambda file: seen.sheet(file, images=IMAGES, draws=draws),
            alt=f"A sheet of {IMAGES} training images, each with {draws} draws of its {len(seen.views)} views",
        )
    except UserError as error:
        return [Missing(str(error), repeat)], seen
    task = "give views of the same image similar outputs" if seen.autoencoder is None else "predict what is hidden"
    return [Text(f"What the network sees: it is to {task}."), picture], seen


def started_in(run: Run) -> str | None:
    """The folder in which the training was last started, if that is known."""
    try:
        folder = _starts(run)[-1].get("folder")
    except (UserError, IndexError):
        return None
    return folder if isinstance(folder, str) else None


def _starts(run: Run) -> list[dict[str, Any]]:
    """
    Raises:
        UserError: environment.json is missing or damaged.
    """
    file = run.path / ENVIRONMENT
    if not file.exists():
        raise UserError(f"there is no {ENVIRONMENT}")
    with schema.reading(file):
        starts: list[dict[str, Any]] = schema.typed(list[dict[str, Any]], json_value(file.read_bytes()), "")
    return starts


def environment(run: Run) -> list[Block]:
    """Versions and devices of each start."""
    try:
        starts = _starts(run)
    except UserError as error:
        return [Missing(str(error))]
    blocks: list[Block] = []
    for n, start in enumerate(starts, start=1):
        which = f" {n} of {len(starts)}" if len(starts) > 1 else ""
        facts = [(f"Start{which}", str(start.get("started", "unknown")))]
        facts += [(title, _plain(start[name])) for name, title in NAMES.items() if name in start]
        facts.append(("Kernels", _kernels(start.get("kernels"))))
        blocks.append(Facts(tuple(facts)))
        if isinstance(command := start.get("command"), list):
            place = f" in {start['folder']}" if isinstance(start.get("folder"), str) else ""
            blocks += [Text(f"Called{place} as:"), Code((called([str(word) for word in command]),))]
    return blocks


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _kernels(kernels: Any) -> str:
    """The ways in which operators are served on the CPU, each with how many they are."""
    ops = kernels.get("ops") if isinstance(kernels, dict) else None
    if not isinstance(ops, dict):
        return "unknown"
    served: dict[str, list[str]] = {}
    for name, by in ops.items():
        served.setdefault(
            ", ".join(f"{k}: {v}" for k, v in by.items()) if isinstance(by, dict) else str(by), []
        ).append(name)
    return "; ".join(f"{by} ({len(names)} operators)" for by, names in served.items()) or json.dumps(kernels)
