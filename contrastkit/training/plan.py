"""Turn a user's request into a plan: from the method's recipe for these data, or from the record of a run."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit import dist, precision
from contrastkit.augment import named_views
from contrastkit.data import DataSet, data_names, default_workers
from contrastkit.data.aligned import parse_folders
from contrastkit.data.dataset import HANDED_OVER
from contrastkit.data.store import is_url
from contrastkit.directories import data_directory, given_path
from contrastkit.errors import UserError
from contrastkit.methods import Recipe
from contrastkit.methods.rows import choose_row, recipes_of
from contrastkit.names import DEFAULT_DATA, METHODS, is_file, split_name
from contrastkit.options import MAY_CHANGE, Options
from contrastkit.record import Record
from contrastkit.run import RECIPE, Run

Change = Callable[[Recipe], Recipe]  # puts a user's values into a recipe


@dataclass(frozen=True)
class Plan:
    """A training, decided and checked: its data set is open, and this process has joined the others.

    Attributes:
        name: ``method/row``.
        options: how the recipe is run; their precision is never "auto".
        out: the run folder.
        record: of the run to resume; None for a new run.
        numbered: whether ``out`` is the first free folder of :func:`free_folder`, so that the next will do too.

    Raises:
        UserError: the data do not suit the recipe, or something that determines the results of the run to resume has
            changed.
    """

    name: str
    recipe: Recipe
    options: Options
    data: DataSet
    device: torch.device
    out: Path
    record: Record | None = None
    numbered: bool = False

    def __post_init__(self) -> None:
        self.recipe.check(self.data.pretrain)
        if self.record is not None:
            self._require_same(self.record)

    @classmethod
    def of(
        cls,
        name: str,
        recipe: Recipe,
        options: Options,
        out: Path,
        *,
        resume: bool = False,
        data: DataSet | None = None,
    ) -> "Plan":
        """The plan to train a recipe into a run folder, or to resume the run that is there.

        Args:
            data: the data set, if already open.

        Raises:
            UserError: as for the class; no run to resume, or the data cannot be opened.
        """
        record = Run.open(out).record if resume else None
        options, device = _started(options)
        return cls(name, recipe, options, data or options.open_data(), device, out, record)

    def _require_same(self, record: Record) -> None:
        """Check that nothing has changed that determines the results of the run with this record."""
        out = self.out
        if record.name != self.name:
            raise UserError(f"{out} holds a run of {record.name}, not of {self.name}: choose another --out or --resume")
        original = record.recipe_of(type(self.recipe), out / RECIPE)
        for item in fields(original):
            if (value := getattr(original, item.name)) != getattr(self.recipe, item.name):
                raise UserError(f"a run keeps its recipe: {out} has {item.name} = {value}; drop the option")
        options = self.options.to_json()
        for option, value in record.options.to_json().items():
            if option not in MAY_CHANGE and value != options[option]:
                raise UserError(f"a run keeps its {option}: {out} has {value}; drop the option")
        if what := self.data.pretrain.changed_since(record.data.fingerprint):
            raise UserError(
                f"{out} was trained on other data: {self.data.name} has {what}; resume with the set as it was"
            )


def plan(
    method: str,
    given: Mapping[str, Any],
    *,
    change: Change,
    encoder: str | None = None,
    row: str | None = None,
    out: Path | None = None,
    resume: bool = False,
    data: DataSet | None = None,
) -> Plan:
    """Plan a new run, or the resumption of one: its record, with the user's changes.

    Args:
        method: see :func:`contrastkit.methods.rows.recipes_of`.
        given: fields of :class:`Options`; the others take their defaults, or what the run records.
        change: applied to the chosen recipe.
        encoder: the requested encoder, if any.
        row: row of the recipe; by default chosen by the images and the encoder.
        out: the run folder; by default a new one in ``runs/``.
        resume: resume the run in ``out``.
        data: the data set, if already open; no path names it.

    Raises:
        UserError: no such method, row, data or run, a value out of bounds, or as for :class:`Plan`.
    """
    recipes = recipes_of(method)
    if data is not None:
        given = {**given, "data": HANDED_OVER + data.name}
    elif "data" in given:
        given = {**given, "data": absolute(given["data"])}
    if resume:
        if out is None:
            raise UserError("resume=True needs the run to resume: add out=RUN")
        return _resumed(method, recipes, given, change, row, out, data)
    options = Options(**{"data": DEFAULT_DATA, **given, "data_dir": data_directory(given.get("data_dir"))})
    options, device = _started(options)
    data = data or options.open_data()
    source = data.pretrain
    if "workers" not in given:
        options = replace(options, workers=default_workers(source))
    name = choose_row(
        recipes, size=source.size, encoder=encoder, orientation_matters=source.orientation_matters, row=row
    )
    recipe = change(recipes[name])
    numbered = out is None
    out = out or Path(dist.broadcast_str(str(free_folder(name, data.name))))
    return Plan(name, recipe, options, data, device, out, numbered=numbered)


def _how_to_resume(name: str, out: Path) -> str:
    method = split_name(name)[0]
    if is_file(method):
        return f"contrastkit train path/to/{method} --resume {out}"
    if method in METHODS:
        return f"contrastkit train {method} --resume {out}"
    return f"this version has no method {method}; use the contrastkit that trained it"


def _resumed(
    method: str,
    recipes: dict[str, Recipe],
    given: Mapping[str, Any],
    change: Change,
    row: str | None,
    out: Path,
    data: DataSet | None,
) -> Plan:
    record = Run.open(out).record
    name = record.name
    if name not in recipes:
        raise UserError(f"{out} holds a run of {name}, not of {method}: {_how_to_resume(name, out)}")
    if row is not None and row != split_name(name)[1]:
        raise UserError(f"a run keeps its recipe: {out} is {name}; drop --recipe")
    recipe = change(record.recipe_of(type(recipes[name]), out / RECIPE))
    data_dir = data_directory(given.get("data_dir"), record.options.data_dir)
    options = replace(record.options, **{**given, "data_dir": data_dir})
    options, device = _started(options)
    return Plan(name, recipe, options, data or options.open_data(), device, out, record)


def _started(options: Options) -> tuple[Options, torch.device]:
    """Join the other processes. The options with their precision resolved, once: a run keeps it wherever it is resumed;
    and this process's device."""
    device = dist.init(options.device)
    return replace(options, precision=precision.resolve(options.precision, device)), device


def absolute(data: str) -> str:
    """A data set's name or URL, or absolute paths, so that the run can be resumed and evaluated from any folder."""
    if data in data_names() or is_url(data):
        return data
    if (path := given_path(data)).exists():
        return str(path.resolve())
    return (
        ",".join(f"{name}={folder.resolve()}" for name, folder in parse_folders(data).items()) if "=" in data else data
    )


def free_folder(name: str, data: str) -> Path:
    """``runs/METHOD-ROW-DATA``, or the first of -2, -3, ... that does not exist."""
    base = f"{name.replace('/', '-').replace(':', '-')}-{Path(data).stem}"
    folder, n = Path("runs") / base, 1
    while folder.exists():
        n += 1
        folder = Path("runs") / f"{base}-{n}"
    return folder


def replaced(numbers: Mapping[str, Any]) -> Change:
    """The change that replaces fields by name: those of a recipe, of which ``views`` may be the name of a row, and
    those of its views, each with one value for all views or a sequence with one for each.

    Raises:
        UserError: when applied: a value out of bounds, or a sequence of another length than the views.
    """

    def change(recipe: Recipe) -> Recipe:
        own = {item.name for item in fields(recipe)}
        views = numbers.get("views", recipe.views)
        views = named_views(views) if isinstance(views, str) else tuple(views)
        each: list[dict[str, Any]] = [{} for _ in views]  # all numbers of a view together: bounds may come in pairs
        for name in numbers.keys() - own:
            values = numbers[name] if isinstance(numbers[name], list | tuple) else [numbers[name]]
            if len(values) not in (1, len(views)):
                flag = name.replace("_", "-")
                raise UserError(f"--{flag}: give one value, or {len(views)}, one for each view, not {len(values)}")
            for changes, value in zip(each, itertools.cycle(values), strict=False):
                changes[name] = value
        views = tuple(replace(view, **changes) for view, changes in zip(views, each, strict=True))
        return replace(recipe, **{**{name: numbers[name] for name in numbers.keys() & own}, "views": views})

    return change
