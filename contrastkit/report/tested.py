"""What classifier.json says: the classifier of a training with labels, on the test images."""

from pathlib import Path

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.by_environment import EnvironmentResult
from contrastkit.evaluate.classified import Classified
from contrastkit.record import Record
from contrastkit.report.commands import resuming
from contrastkit.report.content import Block, Missing, Table, Text
from contrastkit.report.results import Report
from contrastkit.run import CLASSIFIER, TESTED


def of_classifier(run: Path, record: Record) -> list[Block]:
    """Its accuracy, in all and in each environment; nothing of a run that has trained no classifier."""
    if record.teacher is not None or not (run / CLASSIFIER).is_file():
        return []
    again = resuming(record, run)  # tests a finished run anew
    try:
        if (report := Report.read(run / TESTED)) is None:
            return [Missing(f"no {TESTED} yet", again)]
        with schema.reading(report.file):
            result: Classified | None = schema.typed(Classified | None, report.values.get("test"), "test")
    except UserError as error:
        return [Missing(str(error), again)]
    if result is None:
        return [Text("The classifier of this run was not tested: no test image has a label.")]
    return [_table(result, record.data.items)]


def _table(result: Classified, items: str) -> Table:
    found = result.environments
    each = {} if found is None else found.environments
    rows = [_row("all", result.accuracy), *(_row(name, one) for name, one in each.items())]
    note = "The classifier that the training with labels has left, classifier.safetensors. Interval: Wilson's, 95 %."
    if found is not None:
        over = f"average {100 * found.average:.2f} %, deviation {100 * found.deviation:.2f} %"
        note += f" Over the environments: {over}, worst {100 * found.worst:.2f} %."
    columns = ("environment", f"test {items}", "top-1", "95 % interval")
    return Table(
        f"The classifier of this run on the test {items} of {result.data}", columns, tuple(rows), (1, 2, 3), note
    )


def _row(name: str, result: Accuracy | EnvironmentResult) -> tuple[str, ...]:
    low, high = result.interval
    return name, f"{result.n:,}", f"{100 * result.top1:.2f} %", f"{100 * low:.1f} to {100 * high:.1f} %"
