"""The model card: a page in Markdown beside an exported encoder (Mitchell et al. 2019, arXiv:1810.03993)."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastkit.cards import EVERY
from contrastkit.errors import UserError
from contrastkit.methods.labels import uses_labels
from contrastkit.names import split_name
from contrastkit.parts.published import PUBLISHED, described
from contrastkit.record import Record, json_value
from contrastkit.run import ENVIRONMENT, RECIPE

if TYPE_CHECKING:
    from contrastkit.export.exporting import Exported
    from contrastkit.export.trained import TrainedEncoder

STEMS = {
    "3x3": "3 x 3 stem, stride 1, no max-pooling (for small images)",
    "4x4": "4 x 4 stem, stride 2",
    "7x7": "7 x 7 stem, stride 2, max-pooling",
    "strided": "strided convolutions",
    "own": "its own stem",
}


def facts(exported: "Exported") -> list[tuple[str, str]]:
    """What a reader of an exported file should know, as names and values."""
    d = exported.description
    inside = "inside the file" if exported.normalised_inside else "outside the file, by the lines below"
    if (colour := d.encoder.get("colour", "rgb")) != "rgb":
        inside += f", after conversion to {colour}"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (d.mean, d.std))
    compared = "not compared"
    if exported.difference is not None:
        compared = f"{exported.difference:.1e}" if exported.difference else "0"
        compared += f" at most, the largest feature is {exported.largest:.2g}"
    labels = f", {exported.labels}" if exported.labels else ""
    by = f"by {d.method} on {d.images:,} {exported.input.partition(':')[0]} of {d.data}{labels}"
    rows = [
        ("network", f"{d.architecture}, {STEMS[d.stem]}; {exported.parameters / 1e6:.2f} M parameters"),
        ("trained", f"{by}, from {exported.start}" if exported.start else by),
        ("steps", "unknown" if d.step is None else f"{d.step:,}"),
        ("input", exported.input),
        ("normalisation", f"{inside}: mean {mean}; std {std}"),
        ("output", f"features: float32 [N, {d.features}]"),
        ("difference", f"from the run's own encoder: {compared}"),
    ]
    return [*rows, ("opset", str(exported.opset))] if exported.opset else rows


def model_card(trained: "TrainedEncoder", exported: "Exported", code: str) -> str:
    """The page. ``code``: the lines that load the file from the folder of the card."""
    d, name = exported.description, split_name(trained.record.name)[0]
    rows, notices = results(trained.path)
    paper = ""
    if (card := EVERY.get(name)) is not None:
        paper = f"{card.idea}\n\n{card.paper}, [{card.title}](https://arxiv.org/abs/{card.arxiv}).\n"
    parts = [
        f"# {exported.out.name}: {d.architecture} trained by {name} on {d.data}\n",
        *(f"> {notice}\n" for notice in exported.notices),
        _table(("", ""), facts(exported)),
        "## How to load it\n",
        f"```python\n{code}\n```\n",
        _preparation(trained),
        "## Training\n",
        paper,
        _history(trained.record),
        _table(("recipe", trained.record.name), _recipe(trained)),
        "## Results\n",
        _table(("evaluation", "on", "encoder", "top-1", "95 % interval"), rows) if rows else _NONE,
        *(f"{notice}\n" for notice in notices),
        "## Intended use\n",
        _use(trained),
        f"Written by contrastkit {d.contrastkit}.\n",
    ]
    return "\n".join(part for part in parts if part)


NO_NAMES = ("accuracy", "probe", "results", "environments")  # of encoders, as the other keys of a report are
_NONE = "None in the run folder: `contrastkit knn` and `contrastkit probe` write some.\n"
_USE = """\
Features for search, clustering, k-nearest neighbours and linear classifiers (compare them by cosine), and starting
weights for fine-tuning, on data like the training set. {labels}
On other data it has not been evaluated, unless the results above say so. What is over- or under-represented in the
training set is so in the features. The terms of the training set may extend to the weights.
"""


def _preparation(trained: "TrainedEncoder") -> str:
    if trained.input == "sounds":
        return f"Sounds are mono, {trained.record.data.rate:,} samples a second.\n"
    modalities = trained.record.data.modalities
    channels = {1: "grey values", 3: "RGB"}.get(
        trained.encoder.channels, "the channels of the training set, in its order"
    )
    if modalities:
        channels = "stacked: " + ", ".join(f"{name} ({n})" for name, n in modalities.items())
    return (
        f"Channels: {channels}. contrastkit's own evaluation resizes the shorter side to 8/7 of {trained.size} px (to "
        f"{trained.size} px where images are smaller), bilinear with antialias, and crops the centre.\n"
    )


def starting_weights(record: Record) -> str:
    """The weights from which the training started, without the folder of a file; "" for random ones."""
    source = None if record.weights is None else record.weights.source
    if source is None:
        return described(record.encoder["name"]) if record.encoder.get("pretrained") else ""
    if source.startswith(PUBLISHED):
        return described(source.removeprefix(PUBLISHED))
    return f"the weights in {Path(source).name}, which may have been trained with labels"


def _history(record: Record) -> str:
    """What was there before the training."""
    lines = []
    if start := starting_weights(record):
        known = "" if record.weights is None else f" (SHA-256 {record.weights.sha256})"
        lines.append(f"Training started from {start}{known}.\n")
    if record.parent is not None:
        lines.append(f"It went on from step {record.parent.step:,} of the run `{Path(record.parent.run).name}`.\n")
    return "\n".join(lines)


def _use(trained: "TrainedEncoder") -> str:
    record = trained.record
    uses, start = uses_labels(record, trained.path), starting_weights(record)
    others = [f"started from {start}"] if start else []
    if record.teacher is not None:
        others.append("had a teacher that knows classes")
    if uses is None:
        labels = f"Whether the training used labels, {split_name(record.name)[0]} says."
    elif uses:
        labels = "The training used the labels of its images, so the features are made for telling these classes apart."
    elif others:
        labels = f"The training itself used no label, but {' and '.join(others)}."
    else:
        labels = "No label was used in training, so the encoder knows no classes."
    return _USE.format(labels=labels)


def _recipe(trained: "TrainedEncoder") -> list[tuple[str, str]]:
    """The recipe's numbers that are in use, and the options that decide on the result."""
    values: dict[str, Any] = dict(trained.record.recipe)
    sizes = [view["size"] for view in values.pop("views", [])]
    views = ", ".join(f"{len(list(alike))} x {size}" for size, alike in itertools.groupby(sizes))
    rows = [(name, str(value)) for name, value in values.items() if value not in (None, False, "")]
    unit = "samples" if trained.input == "sounds" else "px"
    options = trained.record.options
    return [*rows, ("views", f"{views} {unit}"), ("seed", str(options.seed)), ("precision", options.precision)]


def results(folder: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """The accuracies in the reports of a run folder, as rows, and what was left out.

    A report that is damaged, or has none, is named.
    """
    rows: list[tuple[str, ...]] = []
    notices = []
    own = re.compile(rf"^(.*/)?{re.escape(folder.resolve().name)}(?=$|, )")  # the run, or "RUN, fine-tuned"
    for file in sorted(folder.glob("*.json")):
        if file.name in (RECIPE, ENVIRONMENT) or not file.is_file():
            continue
        try:
            report = json_value(file.read_bytes())
        except UserError:
            notices.append(f"{file.name} is damaged and left out.")
            continue
        values, first = _tested(report)
        found = list(_accuracies(values, first))
        for path, environment, value in found:
            name = own.sub("this encoder", path)
            on = ", ".join(filter(None, (str(values.get("data", "")), environment)))
            share = f"{100 * value['top1']:.2f} %"
            rows.append((file.stem, on, name, share, _interval(value.get("interval"))))
        if not found:
            notices.append(f"Further results: {file.name}.")
    return rows, notices


def _tested(report: Any) -> tuple[dict[str, Any], str]:
    """What of a report has the results, and what their encoder is called where it has no name."""
    if not isinstance(report, dict):
        return {}, ""
    test = report.get("test")  # of classifier.json and distill.json
    return (test, "this classifier") if isinstance(test, dict) and "data" in test else (report, "")


def _accuracies(
    report: dict[str, Any], name: str = "", environment: str = ""
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each accuracy in a report, with the names of its encoder and of its environment, "" of all test images."""
    if isinstance(report.get("top1"), float | int):
        yield name, environment, report
        return
    for key, value in report.items():
        if not isinstance(value, dict) or key == "per_class":
            continue
        if key == "environments" and "average" in report:  # one of contrastkit.evaluate.by_environment
            for each, result in value.items():
                if isinstance(result, dict):
                    yield from _accuracies(result, name, f"environment {each}")
        else:
            yield from _accuracies(value, name if key in NO_NAMES else key, environment)


def _interval(bounds: Any) -> str:
    return "" if not isinstance(bounds, list) else " - ".join(f"{100 * bound:.1f}" for bound in bounds)


def _table(columns: tuple[str, ...], rows: list[Any]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
