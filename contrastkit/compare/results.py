"""What a run folder says about its run: settings, metrics, and the evaluations that were stored in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.made import Made, maker, weights_of, why_stale
from contrastkit.methods import EVERY
from contrastkit.options import MAY_CHANGE
from contrastkit.record import Record, json_value
from contrastkit.run import ENCODER, RECIPE, Run

EVALUATIONS = ("knn", "probe", "finetune")  # NAME.json is what `contrastkit NAME` leaves in the folder of a run
AS_TRAINED = "as trained"  # the size of an evaluation without --size
# Options that are no settings of their own: the seed, over which runs are pooled, and what makes the test part.
APART = ("seed", "labelled", "val_fraction", "test_part")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The accuracy of a run on test images, and how it was measured."""

    how: dict[str, Any]  # two evaluations with the same entries are comparable, if they are on the same data
    accuracy: Accuracy
    data: str | None = None  # fingerprint of the data set, if the file says it


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A run as its folder records it.

    Attributes:
        rows: of metrics.jsonl.
        finished: whether it has been trained to its end.
        evaluations: by their name in :data:`EVALUATIONS`; only those that are there.
        outdated: evaluations that are not of the encoder that is there, and therefore left out: name -> the reason.
    """

    path: Path
    record: Record
    rows: list[dict[str, Any]]
    finished: bool
    evaluations: dict[str, Evaluation]
    outdated: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "RunResults":
        """
        Raises:
            UserError: no run, or one of its files is damaged.
        """
        run = Run.open(path)
        record = run.record
        if (row := EVERY.get(record.name)) is not None:
            record.recipe_of(type(row), path / RECIPE)  # its values are checked
        with schema.reading(path / RECIPE):
            if not schema.typed(list[dict[str, Any]], record.recipe.get("views"), "recipe.views"):
                raise UserError("recipe.views is empty")
        evaluations, outdated = {}, {}
        weights = cache(partial(weights_of, path))
        for name in EVALUATIONS:
            if not (file := path / f"{name}.json").is_file():
                continue
            evaluation, made, size = read_evaluation(name, file, record.encoder["size"])
            if why := why_stale(file, made, None if made is None else weights(size)):
                outdated[name] = why
            else:
                evaluations[name] = replace(evaluation, data=None if made is None else made.data)
        return cls(
            path=path,
            record=record,
            rows=run.metrics(),
            finished=(path / ENCODER).exists(),
            evaluations=evaluations,
            outdated=outdated,
        )

    @property
    def seed(self) -> int:
        return self.record.options.seed

    @property
    def epochs(self) -> int:
        """How many are complete."""
        return round(self.rows[-1].get("epoch") or 0) if self.rows else 0

    def last(self, name: str) -> float | None:
        """The latest value of a metric."""
        return next((row[name] for row in reversed(self.rows) if row.get(name) is not None), None)

    @property
    def settings(self) -> dict[str, Any]:
        """All that determines the run besides its seed and its data: values by the names of the options."""
        record = self.record
        views = record.recipe["views"]
        values: dict[str, Any] = {"method": record.name}
        values |= {name: value for name, value in record.recipe.items() if name != "views"}
        values["views"] = len(views)
        for name in views[0]:
            each = [view[name] for view in views]
            values[name] = each[0] if all(value == each[0] for value in each) else each
        options = record.options.to_json()
        values |= {name: value for name, value in options.items() if name not in (*MAY_CHANGE, *APART)}
        if options["labelled"] is not None:  # else the data are those of all runs
            values["data"] = options["data"]
        if record.weights is not None:
            values["init_from"] = record.weights.source
        if record.parent is not None:
            values["extend"] = f"after step {record.parent.step} of {record.parent.epochs} epochs"
        return values


def read_evaluation(name: str, file: Path, size: int) -> tuple[Evaluation, Made | None, int]:
    """The accuracy of the run, the first encoder in NAME.json; what made it; the size of its images.

    Args:
        size: of the images that the run's encoder expects. It follows from the run's views, and so is no way to
            measure: runs are comparable that are each evaluated at their own.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with schema.reading(file):
            values = schema.typed(dict[str, Any], json_value(file.read_bytes()), "")
            seen = schema.typed(int, values.get("size"), "size")
            values |= {"size": AS_TRAINED} if seen == size else {}
            return {"knn": _knn, "probe": _probe, "finetune": _finetune}[name](values), maker(values), seen
    except UserError as error:
        raise UserError(f"{error}; repeat 'contrastkit {name} {file.parent}', or remove the file") from error


def _knn(values: Mapping[str, Any]) -> Evaluation:
    accuracy = _accuracy(_first(values, "accuracy"), "accuracy")
    return Evaluation(how=_how(values, "k", "T", "size") | {"n": accuracy.n}, accuracy=accuracy)


def _probe(values: Mapping[str, Any]) -> Evaluation:
    first = _first(values, "probe")
    how = _how(values, "protocol", "size")
    if how["protocol"] == "moco":  # whose rate and epochs are asked for, not chosen
        how |= {"rate": first.get("rate"), "epochs": len(first.get("losses", ()))}
    accuracy = _accuracy(first.get("accuracy"), "probe.accuracy")
    return Evaluation(how=how | _weights(values) | {"n": accuracy.n}, accuracy=accuracy)


def _finetune(values: Mapping[str, Any]) -> Evaluation:
    accuracy = _accuracy(_first(values, "results").get("accuracy"), "results.accuracy")
    how = _how(values, "protocol", "size", "labels", "numbers", "precision")
    labels = schema.typed(dict[str, int], how.pop("labels"), "labels")
    how |= {"labels": labels.get("images"), "a class": [labels.get("least"), labels.get("most")]}
    return Evaluation(how=how | _weights(values) | {"n": accuracy.n}, accuracy=accuracy)


def _weights(values: Mapping[str, Any]) -> dict[str, Any]:
    """The effective sample of weighted training images; nothing of those that all weigh alike."""
    weights = schema.typed(dict[str, Any] | None, values.get("weights"), "weights")
    return {} if weights is None else {"effective sample": weights.get("effective")}


def _first(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What stands first in an object of objects: the run, before its baselines."""
    every = schema.typed(dict[str, dict[str, Any]], values.get(key), key)
    if not every:
        raise UserError(f"{key} is empty")
    return next(iter(every.values()))


def _how(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        if values.get(name) is None:
            raise UserError(f"{name} is missing")
    return {name: values[name] for name in names}


def _accuracy(value: Any, place: str) -> Accuracy:
    return schema.instance(Accuracy, value, place)
