"""The evaluations in a run folder: what they say, and whether they are of the encoder that is there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy
from contrastkit.evaluate.confusion import ClassResult
from contrastkit.evaluate.linear import LinearProbe
from contrastkit.evaluate.made import Made, file_hash, maker, why_stale
from contrastkit.record import json_value

EVALUATIONS = {"knn": "kNN", "probe": "Linear probe", "finetune": "Fine-tuning"}  # in NAME.json
OWN = "this run"


@dataclass(frozen=True)
class Result:
    """An accuracy on the test images.

    Attributes:
        name: of what was evaluated.
        std: over the seeds, if there are several.
        classes: the results of each class.
        values: the other entries of the file.
    """

    name: str
    accuracy: Accuracy
    std: float | None
    classes: dict[str, ClassResult]
    values: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A file that an evaluation has left in the folder of its run.

    Attributes:
        values: all that is in it.
        made: None if an earlier version wrote it, which did not record that.
    """

    file: Path
    values: dict[str, Any]
    made: Made | None

    @classmethod
    def read(cls, file: Path) -> "Report | None":
        """
        Raises:
            UserError: it is damaged.
        """
        if not file.is_file():
            return None
        with schema.reading(file):
            values = schema.typed(dict[str, Any], json_value(file.read_bytes()), "")
            return cls(file, values, maker(values))

    def stale(self, weights: str | None, size: int | None = None) -> str:
        """Why it is not shown as one of the encoder with these weights, None if they are not known; "" if it is.

        Args:
            size: of its inputs, if that is known.
        """
        reason, own = why_stale(self.file, self.made, weights), self.values.get("size")
        if reason and None not in (self.made, weights, size, own) and own != size:  # a transformer's positions differ
            return f"{self.file.name} is of inputs of size {own}, those of the run's encoder are of {size}"
        return reason

    def picture(self, name: str) -> Path | None:
        """The picture of that name beside the file, if it was drawn with it."""
        file = self.file.parent / name
        if not file.is_file() or (self.made is not None and self.made.pictures.get(name) != file_hash(file)):
            return None
        return file

    @property
    def data(self) -> str:
        return schema.typed(str, self.values.get("data"), "data")

    @property
    def results(self) -> tuple[Result, ...]:
        """The accuracies in knn.json, probe.json or finetune.json: first that of the run.

        Raises:
            UserError: the file is damaged.
        """
        with schema.reading(self.file):
            if self.file.stem == "knn":
                found = _objects(self.values, "accuracy")
                classes = _objects(self.values, "per_class")
                each = {n: {"accuracy": found[n], "per_class": classes.get(n, {})} for n in found}
            else:
                each = _objects(self.values, "results" if self.file.stem == "finetune" else "probe")
            if not each:
                raise UserError("it has no accuracy")
            run = next(iter(each)).removesuffix(", fine-tuned")
            return tuple(_result(name, values, run) for name, values in each.items())

    @property
    def how(self) -> str:
        """How it was measured."""
        names = {"k": "k", "T": "T", "protocol": "protocol"}
        parts = [f"{text} {_short(self.values[name])}" for name, text in names.items() if name in self.values]
        if isinstance(weights := self.values.get("weights"), dict):
            parts.append(f"weighted images, effective sample {_short(weights.get('effective', 0))}")
        if isinstance(labels := self.values.get("labels"), dict):
            parts.insert(0, f"{labels.get('images', 0):,} labelled images")
        return ", ".join([*parts, f"inputs of size {self.values['size']}"] if "size" in self.values else parts)


def linear(result: Result) -> LinearProbe | None:
    """The linear probe of a row of probe.json by protocol rates, with a choice of rates that can be drawn."""
    names = ("seeds", "std", "rate", "rates", "validation", "held_out")
    if not all(name in result.values for name in names) or not result.values["validation"]:
        return None
    hints: dict[str, Any] = {"seeds": tuple[float, ...], "std": float | None, "rate": float, "held_out": int}
    hints |= {"rates": tuple[float, ...], "validation": tuple[float | None, ...]}
    values = {name: schema.typed(hints[name], result.values[name], name) for name in names}
    return LinearProbe(accuracy=result.accuracy, per_class=result.classes, **values)


def _result(name: str, values: Mapping[str, Any], run: str) -> Result:
    if name == run or name.startswith(f"{run}, "):
        name = OWN + name.removeprefix(run)
    accuracy = schema.instance(Accuracy, values.get("accuracy"), "accuracy")
    std = schema.typed(float | None, values.get("std"), "std")
    classes = {each: _class(found) for each, found in _objects(values, "per_class").items()}
    if unknown := {answer for each in classes.values() for answer in each.answers} - classes.keys():
        raise UserError(f"per_class has an answer that is no class: {sorted(unknown)[0]}")
    return Result(name, accuracy, std, classes, dict(values))


def _class(values: Any) -> ClassResult:
    """NaN is null in JSON: the accuracy of a class without test images."""
    with_nan = values
    if isinstance(values, dict) and values.get("n") == 0:
        with_nan = values | {"top1": math.nan, "interval": [math.nan, math.nan]}
    return schema.instance(ClassResult, with_nan, "per_class")


def _objects(values: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    return schema.typed(dict[str, dict[str, Any]], values.get(key), key)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
