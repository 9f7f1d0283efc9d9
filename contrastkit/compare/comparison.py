"""Runs side by side: the settings in which they differ, and their numbers, pooled over seeds."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contrastkit.compare.comparable import SHOWN, require_comparable, tested_on_the_same
from contrastkit.compare.results import AS_TRAINED, EVALUATIONS, RunResults
from contrastkit.errors import UserError, listed
from contrastkit.names import as_typed

LOSS, MONITOR = "loss", "monitor"
SCALE = ("method", "tau", "K", "negatives", "batch")  # settings on which the scale of a loss depends


@dataclass(frozen=True, slots=True)
class Pooled:
    """A number of the runs of a row.

    Attributes:
        n: how many of the runs have it.
        mean: over these.
        std: their standard deviation, divided by n - 1; None for a single one.
        interval: of an accuracy on test images, if n is 1: its 95 % Wilson interval, which knows nothing of seeds.
        values: one for each run, in the order of ``Row.runs``; None where a run lacks it.
    """

    n: int
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Runs that differ by their seed alone.

    Attributes:
        name: tells the rows apart: settings, or the folder of the first run.
        seeds: of the runs, likewise in the given order.
        settings: those in which the rows differ; one that the method lacks is left out.
        epochs: how many are complete; fewer than ``of_epochs`` if the runs are unfinished.
        numbers: "loss", "monitor" (kNN within the training images), both of the last epoch, and "knn", "probe" and
            "finetune", top-1 on the test images; only those that there are. Accuracies are shares.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    epochs: int
    of_epochs: int
    finished: bool
    numbers: dict[str, Pooled]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of :func:`compare`.

    Attributes:
        data: name of the data set.
        items: what it has, such as images.
        settings: names of the settings in which the rows differ.
        evaluations: how the accuracies of the rows were measured: name -> entries, such as k and T.
        curves: of each row, in their order: the rows of metrics.jsonl of each of its runs.
        notices: what a reader of the numbers should know, one line each.
    """

    data: str
    items: str
    settings: tuple[str, ...]
    evaluations: dict[str, dict[str, Any]]
    rows: tuple[Row, ...]
    curves: tuple[tuple[list[dict[str, Any]], ...], ...] = field(repr=False)
    notices: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in ("items", "curves", "notices")}


def compare(runs: Sequence[str | Path]) -> Comparison:
    """The numbers of runs by the settings in which they differ; runs that differ by their seed alone are pooled.

    The numbers are those in the folders: ``metrics.jsonl``, and ``knn.json``, ``probe.json`` and ``finetune.json`` as
    far as they are there. Of accuracies that were measured in different ways (another k, other labels), those
    measured as most are count; the others are left out, and a notice says so. Runs that are unfinished are
    not pooled with others than those of as many epochs; one that repeats the settings and the seed of another stands in
    another row.

    Args:
        runs: run folders.

    Raises:
        UserError: no run, one twice, a damaged one, or runs whose test images are not the same
            (:func:`contrastkit.compare.comparable.require_comparable`).
    """
    paths = [Path(run) for run in runs]
    if not paths:
        raise UserError("nothing to compare: give run folders")
    if twice := [str(path) for path, n in Counter(path.resolve() for path in paths).items() if n > 1]:
        raise UserError(f"{twice[0]} is given twice: give each run once")
    results = [RunResults.read(path) for path in paths]
    notices = [*require_comparable(results), *_unfinished(results), *_outdated(results)]
    results, elsewhere = tested_on_the_same(results)
    groups = _grouped(results)
    settings = _different([group[0].settings for group in groups])
    ways, others = _ways(results)
    names = _names(groups, settings)
    rows = tuple(_row(name, group, settings, ways) for name, group in zip(names, groups, strict=True))
    if scale := [name for name in SCALE if name in settings]:
        notices.append(f"the scale of the loss depends on what differs here ({', '.join(scale)}): compare accuracies")
    return Comparison(
        data=_data(results[0]),
        items=results[0].record.data.items,
        settings=settings,
        evaluations=ways,
        rows=rows,
        curves=tuple(tuple(run.rows for run in group) for group in groups),
        notices=(*notices, *elsewhere, *others, *_missing(rows), *_repeated(groups)),
    )


def _data(run: RunResults) -> str:
    return run.record.options.labelled or run.record.data.name


def _grouped(results: Iterable[RunResults]) -> list[list[RunResults]]:
    """Runs with the same settings and as many epochs, in the order of their first ones; one whose seed is there
    already begins another group."""
    groups: dict[tuple[str, int, int], list[RunResults]] = {}
    seen: Counter[tuple[str, int, int]] = Counter()
    for run in results:
        key = json.dumps(run.settings, sort_keys=True), -1 if run.finished else run.epochs
        again = seen[*key, run.seed]
        seen[*key, run.seed] += 1
        groups.setdefault((*key, again), []).append(run)
    return list(groups.values())


def _different(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of settings of which there are several values, in the order of the first mapping; of those that only
    some of the methods have, the values of these count."""
    values: dict[str, set[str]] = {}
    for each in settings:
        for name, value in each.items():
            values.setdefault(name, set()).add(json.dumps(value))
    return tuple(name for name, known in values.items() if len(known) > 1)


def _names(groups: Sequence[Sequence[RunResults]], settings: Sequence[str]) -> list[str]:
    """A different name for each row: a setting that tells all apart, or all settings that differ if they are few, or
    the folder of the first run."""
    every = [group[0].settings for group in groups]
    folders = [str(group[0].path) for group in groups]
    for names in (*((name,) for name in settings), settings):
        texts = [", ".join(_named(name, own[name]) for name in names if name in own) for own in every]
        if 0 < len(names) <= SHOWN and len({*texts}) == len(texts):
            return texts
    return folders


def _named(name: str, value: Any) -> str:
    return as_typed(value) if name == "method" else f"{name} {as_typed(value)}"


def _row(name: str, group: Sequence[RunResults], settings: Sequence[str], ways: Mapping[str, Any]) -> Row:
    first, own = group[0], group[0].settings
    numbers = {metric: _pooled([run.last(key) for run in group]) for metric, key in ((LOSS, "loss"), (MONITOR, "knn"))}
    for what, how in ways.items():
        found = [run.evaluations.get(what) for run in group]
        accuracies = [each.accuracy if each is not None and each.how == how else None for each in found]
        intervals = [each.interval for each in accuracies if each is not None]
        numbers[what] = _pooled([None if each is None else each.top1 for each in accuracies], intervals)
    return Row(
        name=name,
        runs=tuple(str(run.path) for run in group),
        seeds=tuple(run.seed for run in group),
        settings={name: own[name] for name in settings if name in own},
        epochs=first.record.recipe["epochs"] if first.finished else first.epochs,
        of_epochs=first.record.recipe["epochs"],
        finished=first.finished,
        numbers={key: number for key, number in numbers.items() if number is not None},
    )


def _pooled(values: Sequence[float | None], intervals: Sequence[tuple[float, float]] = ()) -> Pooled | None:
    """The runs' values as one number; None if no run has it."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return Pooled(
        n=len(present),
        mean=statistics.fmean(present),
        std=statistics.stdev(present) if len(present) > 1 else None,
        interval=intervals[0] if len(intervals) == 1 else None,
        values=tuple(values),
    )


def _ways(results: Sequence[RunResults]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """How each accuracy was measured in most runs, of ways that are as frequent the first, and a notice on the runs in
    which it was measured otherwise."""
    ways: dict[str, dict[str, Any]] = {}
    notices = []
    for what in EVALUATIONS:
        found = {str(run.path): run.evaluations[what].how for run in results if what in run.evaluations}
        if not found:
            continue
        most = Counter(json.dumps(how, sort_keys=True) for how in found.values()).most_common(1)[0][0]
        ways[what] = next(how for how in found.values() if json.dumps(how, sort_keys=True) == most)
        if other := {path: how for path, how in found.items() if how != ways[what]}:
            differ = _different([*other.values(), ways[what]])
            own = ", ".join(f"{name} {as_typed(ways[what].get(name))}" for name in differ)
            first = next(path for path, how in found.items() if how == ways[what])
            options = [f" --{name} {as_typed(ways[what][name])}" for name in differ if _is_asked(name, ways[what])]
            notices.append(
                f"{what}.json of {listed(list(other), SHOWN)} is not measured as that of {first} ({own}): left out; "
                f"repeat 'contrastkit {what}{''.join(options)}' there"
            )
    return ways, notices


def _is_asked(name: str, how: Mapping[str, Any]) -> bool:
    """Whether an entry is an option of the command that measured."""
    return name in ("k", "T", "size", "protocol", "rate", "epochs") and how.get(name) not in (None, AS_TRAINED)


def _unfinished(results: Sequence[RunResults]) -> list[str]:
    parts = [f"{r.path} after {r.epochs} of {r.record.recipe['epochs']} epochs" for r in results if not r.finished]
    return [f"unfinished, and not pooled with finished runs: {listed(parts, SHOWN)}"] if parts else []


def _outdated(results: Sequence[RunResults]) -> list[str]:
    return [
        f"{run.path}: {why}: left out; repeat 'contrastkit {name} {run.path}'"
        for run in results
        for name, why in run.outdated.items()
    ]


def _missing(rows: Sequence[Row]) -> list[str]:
    """A notice for each number that is a mean over fewer runs than the row has."""
    return [
        f"{row.name}: {key} is of {number.n} of {len(row.runs)} runs"
        for row in rows
        for key, number in row.numbers.items()
        if number.n < len(row.runs)
    ]


def _repeated(groups: Sequence[Sequence[RunResults]]) -> list[str]:
    known: dict[tuple[str, int, bool], Path] = {}
    notices = []
    for run in (run for group in groups for run in group):
        key = json.dumps(run.settings, sort_keys=True), run.seed, run.finished
        if (first := known.setdefault(key, run.path)) != run.path and run.finished:
            notices.append(f"{run.path} has the settings and the seed of {first}: it stands in another row")
    return notices
