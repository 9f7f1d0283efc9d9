"""The numbers of measure.json as tables: of the features, and of the accuracy under shift."""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.measure.corruptions import CORRUPTIONS
from contrastkit.measure.shifting import Tested
from contrastkit.measure.table import ROWS, written
from contrastkit.report.content import Table
from contrastkit.report.results import OWN, Report

Values = Mapping[str, Any]
PARTS = ("as they are", "all corruptions, mean", "the same classes")


@dataclass(frozen=True)
class Measured:
    """What a measure.json says.

    Attributes:
        tables: of the numbers and, if it was measured, of the accuracy under shift.
        corrupted, layers: whether there are accuracies on corrupted images, and a comparison of layers.
    """

    tables: tuple[Table, ...]
    corrupted: bool
    layers: bool

    @classmethod
    def of(cls, report: Report) -> "Measured":
        """
        Raises:
            UserError: the file is damaged.
        """
        with schema.reading(report.file):
            shift = schema.typed(dict[str, Any] | None, report.values.get("shift"), "shift")
            tables = [_numbers(report.values), *([] if shift is None else _shift(shift, report.data))]
            return cls(tuple(tables), bool(shift and shift.get("corrupted")), report.values.get("cka") is not None)


def _numbers(values: Values) -> Table:
    each: dict[str, dict[str, float | None]]
    each = schema.typed(dict[str, dict[str, float | None]], values.get("numbers"), "numbers")
    if not each:
        raise UserError("it has no numbers")
    shown = [key for key in ROWS if any(own.get(key) is not None for own in each.values())]
    rows = [(*ROWS[key], *(_written(key, own.get(key)) for own in each.values())) for key in shown]
    columns = ("number", "range", "better", *_names(each))
    data, split = (schema.typed(str, values.get(key), key) for key in ("data", "split"))
    n, viewed, q = (schema.typed(int, values.get(key), key) for key in ("images", "viewed", "views_per_image"))
    how = [f"seed {values['seed']}"] if isinstance(values.get("seed"), int) else []
    how += [f"views: {values['views_of']}"] if isinstance(values.get("views_of"), str) else []
    note = f"Compare them at equal N, n and views{f' ({listed})' if (listed := ', '.join(how)) else ''}."
    caption = f"{data}: N = {n:,} of its {split} part, n = {viewed:,} of them under {q} views each"
    return Table(caption, columns, tuple(rows), tuple(range(3, len(columns))), note)


def _written(key: str, value: float | None) -> str:
    return written(key, math.nan if value is None else value)


def _names(each: Mapping[str, Any]) -> Iterator[str]:
    """The first is the run."""
    return (name if i else OWN for i, name in enumerate(each))


def _shift(values: Values, data: str) -> list[Table]:
    """Means and the other set, and each corruption."""
    clean = schema.typed(dict[str, Tested], values.get("clean"), "shift.clean")
    corrupted = schema.typed(dict[str, dict[str, tuple[Tested, ...]]], values.get("corrupted"), "shift.corrupted")
    constants = schema.typed(dict[str, tuple[float, ...]], values.get("constants"), "shift.constants")
    other = schema.typed(dict[str, Any] | None, values.get("elsewhere"), "shift.elsewhere")
    rows: list[tuple[str, ...]] = []
    for name, shown in zip(clean, _names(clean), strict=True):
        rows.append((shown, PARTS[0], *_tested(clean[name])))
        if every := [tested for each in corrupted.get(name, {}).values() for tested in each]:
            rows.append((shown, PARTS[1], *_means(every, clean[name])))
        if other is not None:
            rows += [(shown, *row) for row in _elsewhere(other, name)]
    columns = ("features", "test images", "kNN: top-1", "linear probe: top-1")
    note = (
        "Higher is better. In brackets: the 95 % interval (Wilson); of a mean, the difference in points from the "
        "images as they are. The classifiers are trained on images as they are."
    )
    tables = [Table(f"Accuracy under shift, trained on {data}", columns, tuple(rows), (2, 3), note)]
    if each := tuple(_corruptions(corrupted, constants)):
        caption = f"Each corruption and strength, with the constants of {values.get('constants_of')}"
        names = ("features", "corruption", "changed by", "kNN: top-1", "linear probe: top-1")
        tables.append(Table(caption, names, each, (3, 4), folded=True))
    return tables


def _corruptions(
    corrupted: Mapping[str, Mapping[str, tuple[Tested, ...]]], constants: Mapping[str, tuple[float, ...]]
) -> Iterator[tuple[str, ...]]:
    for name, shown in zip(corrupted, _names(corrupted), strict=True):
        for corruption, each in corrupted[name].items():
            if corruption not in CORRUPTIONS or len(constants.get(corruption, ())) != len(each):
                raise UserError(f"shift.constants does not fit the corruption {corruption}")
            for strength, (number, tested) in enumerate(zip(constants[corruption], each, strict=True), start=1):
                changed = CORRUPTIONS[corruption].constant.format(number)
                yield shown, f"{corruption} {strength}", changed, *_tested(tested)


def _elsewhere(values: Values, name: str) -> Iterator[tuple[str, ...]]:
    """On another set, and on the own test images of its classes, where it lacks some."""
    there, own = (schema.typed(dict[str, Tested], values.get(key), f"elsewhere.{key}") for key in ("accuracy", "clean"))
    data = schema.typed(str, values.get("data"), "elsewhere.data")
    if values.get("lacking") and name in own:
        yield PARTS[2], *_tested(own[name])
    if name in there:
        yield data, *_tested(there[name])


def _tested(tested: Tested) -> tuple[str, str]:
    knn, probe = map(_accuracy, (tested.knn, tested.probe))
    return knn, probe


def _accuracy(accuracy: Accuracy) -> str:
    low, high = accuracy.interval
    return f"{100 * accuracy.top1:.2f} % ({100 * low:.1f} to {100 * high:.1f})"


def _means(every: list[Tested], clean: Tested) -> tuple[str, str]:
    knn = statistics.fmean(tested.knn.top1 for tested in every), clean.knn.top1
    probe = statistics.fmean(tested.probe.top1 for tested in every), clean.probe.top1
    first, second = (f"{100 * mean:.2f} % ({100 * (mean - before):+.2f})" for mean, before in (knn, probe))
    return first, second
