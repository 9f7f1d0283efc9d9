"""From run folders to the content of their report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastkit.checkpoint import write_text
from contrastkit.curves import class_count
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.export.trained import TrainedEncoder
from contrastkit.methods.labels import labels_seen
from contrastkit.names import split_name
from contrastkit.parts.encoder import SplitEncoder
from contrastkit.record import Record
from contrastkit.report.commands import resuming
from contrastkit.report.comparison import side_by_side
from contrastkit.report.content import Code, Page, RunContent, Section, Text
from contrastkit.report.evaluation import Results, attention
from contrastkit.report.rendering import html
from contrastkit.report.reproducing import commands
from contrastkit.report.tested import of_classifier
from contrastkit.report.training import curves, environment, started_in, trained, views
from contrastkit.run import ENCODER, TOKENIZER, Run
from contrastkit.training.seen import Seen
from contrastkit.version import __version__

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class Written:
    """Result of :func:`report`.

    Attributes:
        size: bytes of the page.
        pictures: how many it has.
        notices: what it does not show, and why, one line each.
    """

    file: Path
    size: int
    pictures: int
    notices: tuple[str, ...]


def report(runs: Sequence[str | Path], out: Path | None = None) -> Written:
    """Write a page about runs: one file of HTML that needs nothing else.

    Args:
        runs: run folders.
        out: None is report.html in the folder of the run, of several runs in the current folder.

    Raises:
        UserError: no run, a run twice, or a damaged one.
    """
    paths = [given_path(run) for run in runs]
    file = out or (paths[0] / REPORT if len(paths) == 1 else Path(REPORT))
    if file.parent.is_dir() and not os.access(file.parent, os.W_OK):  # before the pictures, which take a while
        raise UserError(f"{file} cannot be written: no permission")
    return write(content(paths), file)


def write(page: Page, file: Path) -> Written:
    """Write a page.

    Raises:
        UserError: it cannot be written.
    """
    text = html(page)
    try:
        write_text(file, text)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
    return Written(file, len(text.encode("utf-8", "backslashreplace")), len(page.pictures), page.notices)


def content(runs: Sequence[Path]) -> Page:
    """What the page says.

    Raises:
        UserError: no run, a run twice, or a damaged one.
    """
    if not runs:
        raise UserError("nothing to report: give run folders")
    for run in runs:
        if [each.resolve() for each in runs].count(run.resolve()) > 1:
            raise UserError(f"{run} is given twice")
    records = [Run.open(run).record for run in runs]
    title = str(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"
    comparison = side_by_side(runs) if len(runs) > 1 else None
    return Page(title, __version__, comparison, tuple(map(_run, runs, records)))


def _run(path: Path, record: Record) -> RunContent:
    run = Run.open(path)
    rows, finished = run.metrics(), (path / ENCODER).exists()
    encoder, why = None, ""
    try:
        encoder = TrainedEncoder.open(path)
    except UserError as error:
        why = str(error)
    weights = None if encoder is None else encoder_hash(encoder.encoder)
    seen_blocks, seen = views(path)
    results = Results(path, weights, None if encoder is None else encoder.size, items=record.data.items)
    labels, known = _without_labels(record, seen, results), labels_seen(record, path)
    parameters = None if encoder is None else sum(p.numel() for p in encoder.encoder.parameters())
    split = encoder is not None and isinstance(encoder.encoder, SplitEncoder)
    retrieved = results.retrieved(views=split, texts=(path / TOKENIZER).is_file())
    on = () if finished else (Text("The run is unfinished. To go on with it:"), Code((resuming(record, path),)))
    sections = (
        Section("training", "What was trained on what", (*on, *trained(record, rows, parameters, known))),
        Section("curves", "Curves", tuple(curves(rows, _classes(record, seen)))),
        Section("views", "Views, as trained", tuple(seen_blocks)),
        Section("accuracy", "Accuracy", (*of_classifier(path, record), *results.accuracies(labels), *results.rates())),
        *([Section("retrieval", "Retrieval", tuple(retrieved))] if retrieved else []),
        Section("classes", "Classes", tuple(results.classes(labels))),
        Section("measures", "Features in numbers", tuple(results.measured())),
        Section("neighbours", "Neighbours", tuple(results.neighbours(labels))),
        Section("map", "Map", tuple(results.map())),
        Section("attention", "What the encoder sees where", tuple(attention(path, seen, why))),
        Section("environment", "Environment", tuple(environment(run))),
        Section("reproduce", "Reproduce", tuple(commands(path, record, started_in(run), results.made))),
    )
    method, data = split_name(record.name)[0], record.data
    start = "" if record.weights is None else f". It started from {record.weights.source}, which may know labels"
    lead = (
        f"The encoder {record.encoder['name']}, trained by {method} on {data.images:,} "
        f"{data.items} of {data.name}{f', {known}' if known else ''}{start}."
    )
    return RunContent(str(path), lead, finished, _status(record, rows, finished=finished), sections)


def _status(record: Record, rows: Sequence[dict[str, float | None]], *, finished: bool) -> str:
    epochs = record.recipe["epochs"]
    if finished:
        return f"finished: {epochs} epoch{'s' if epochs > 1 else ''}"
    done = rows[-1].get("epoch") if rows else 0
    return f"unfinished: {done or 0:g} of {epochs} epochs"


def _classes(record: Record, seen: Seen | None) -> int | None:
    """Of the images that the monitor asked about, if they are at hand."""
    if record.options.labelled is None:
        return None if seen is None else class_count(seen.source.labels)
    try:
        return class_count(record.options.open_labelled().train.labels)
    except UserError:
        return None


def _without_labels(record: Record, seen: Seen | None, results: Results) -> str:
    """Why there can be no accuracy, "" if there can."""
    if record.options.labelled is not None or seen is None or results.shown.keys() - {"map"}:
        return ""
    labels = seen.source.labels
    if labels is not None and bool((labels >= 0).any()):
        return ""
    return f"{seen.source.name} has no labels to evaluate with: one folder for each class would name them"
