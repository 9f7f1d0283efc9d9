"""The answers in retrieval.json and zero-shot.json as tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.report.content import Scale, Table
from contrastkit.report.results import OWN, Report

WORDS = "words, by regression"


def retrieval_table(report: Report) -> Table:
    """Recall of each direction by the run and, where it was measured, by the words of captions alone.

    Raises:
        UserError: the file is damaged.
    """
    with schema.reading(report.file):
        rows = list(_rows(OWN, report.values.get("retrieval"), "retrieval"))
        if not rows:
            raise UserError("it has no retrieval")
        words = schema.typed(dict[str, Any] | None, report.values.get("bag_of_words"), "bag_of_words")
        if words is not None:
            rows += _rows(WORDS, words.get("retrieval"), "bag_of_words.retrieval")
        note = "Recall at k: a right answer is among the k nearest. Interval: Wilson's, 95 %. Dashed: a random order."
        columns = ("query -> key", "by", "recall at", "", "95 % interval", "0 to 100 %")
        return Table(f"Retrieval on the test images of {report.data}", columns, tuple(rows), (2, 3, 4), note)


def _rows(by: str, values: Any, place: str) -> Iterator[tuple[str | Scale, ...]]:
    for way, pair in schema.typed(dict[str, dict[str, Any]], values, place).items():
        recalls, chances = (_shares(pair, key, f"{place}.{way}") for key in ("recall", "chance"))
        intervals = schema.typed(dict[str, tuple[float, float]], pair.get("interval"), f"{place}.{way}.interval")
        if not recalls.keys() == chances.keys() == intervals.keys():
            raise UserError(f"{place}.{way} has not the same numbers of recall, interval and chance")
        for k, recall in recalls.items():
            low, high = intervals[k]
            yield way, by, k, f"{100 * recall:.2f} %", _interval(low, high), Scale(recall, low, high, chances[k])


def _shares(pair: Mapping[str, Any], key: str, place: str) -> dict[str, float]:
    shares: dict[str, float] = schema.typed(dict[str, float], pair.get(key), f"{place}.{key}")
    return shares


def zero_shot_table(report: Report) -> Table:
    """Accuracy by the names of the classes.

    Raises:
        UserError: the file is damaged.
    """
    with schema.reading(report.file):
        accuracy = schema.instance(Accuracy, report.values.get("accuracy"), "accuracy")
        chance = schema.typed(dict[str, float | None], report.values.get("chance"), "chance").get("top1")
        names = schema.typed(dict[str, Any], report.values.get("names"), "names")
        templates = schema.typed(tuple[str, ...], report.values.get("templates"), "templates")
        if chance is None:
            raise UserError("chance.top1 is missing")
        low, high = accuracy.interval
        scale = Scale(accuracy.top1, low, high, chance)
        row = (f"{len(names)} classes by name", f"{100 * accuracy.top1:.2f} %", _interval(low, high), scale)
        note = f"Templates: {'; '.join(templates)} Interval: Wilson's, 95 %. Dashed: guessing."
        columns = ("zero-shot", "top-1", "95 % interval", "0 to 100 %")
        return Table(f"{accuracy.n:,} images of {report.data}", columns, (row,), (1, 2), note)


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"
