"""Turn a user's request into a plan: from the method's recipe for these data, or from the record of a run."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from contrastkit import dist
from contrastkit.augment import named_views
from contrastkit.data import DataSet, data_names, default_workers
from contrastkit.data.aligned import parse_folders
from contrastkit.directories import data_directory
from contrastkit.errors import UserError
from contrastkit.methods import Recipe
from contrastkit.methods.rows import choose_row, recipes_of
from contrastkit.names import DEFAULT_DATA
from contrastkit.run import Run
from contrastkit.training.options import Options

Change = Callable[[Recipe], Recipe]  # puts a user's values into a recipe


@dataclass(frozen=True)
class Plan:
    """The arguments of :func:`contrastkit.training.train`."""

    name: str  # method/row
    recipe: Recipe
    options: Options
    data: DataSet
    out: Path
    resume: bool


def plan(
    method: str,
    given: Mapping[str, Any],
    *,
    change: Change,
    encoder: str | None = None,
    row: str | None = None,
    out: Path | None = None,
    data: DataSet | None = None,
) -> Plan:
    """Plan a new run.

    Args:
        method: see :func:`contrastkit.methods.rows.recipes_of`.
        given: fields of :class:`Options`; the others take their defaults.
        change: applied to the chosen recipe.
        encoder: the requested encoder, if any.
        row: row of the recipe; by default chosen by the images and the encoder.
        out: the run folder; by default a new one in ``runs/``.
        data: the data set, if already open.

    Raises:
        UserError: no such method, row or data, or a value out of bounds.
    """
    recipes = recipes_of(method)
    options = Options(**{"data": DEFAULT_DATA, **given, "data_dir": data_directory(given.get("data_dir"))})
    dist.init(options.device)
    data = data or options.open_data()
    if "workers" not in given:
        options = replace(options, workers=default_workers(data.pretrain))
    source = data.pretrain
    next(iter(recipes.values())).check(source)
    name = choose_row(
        recipes, size=source.size, encoder=encoder, orientation_matters=source.orientation_matters, row=row
    )
    recipe = change(recipes[name])
    return Plan(name, recipe, options, data, out or Path(dist.broadcast_str(free_folder(name, data.name))), False)


def plan_resume(
    method: str,
    path: Path,
    given: Mapping[str, Any],
    *,
    change: Change,
    row: str | None = None,
    data: DataSet | None = None,
) -> Plan:
    """Plan to resume a run: its record, with the user's changes. :func:`contrastkit.training.train` refuses changes
    that a run does not allow.

    Args: as for :func:`plan`; ``path`` is the run folder.

    Raises:
        UserError: no run in the folder, or one of another method.
    """
    record = Run.open(path, writes=False).record
    name, recipes = record["name"], recipes_of(method)
    if name not in recipes:
        original = name.rpartition("/")[0]
        raise UserError(f"{path} holds a run of {name}, not of {method}: contrastkit train {original} --resume {path}")
    if row is not None and row != name.rpartition("/")[2]:
        raise UserError(f"a run keeps its recipe: {path} is {name}; drop --recipe")
    recipe = change(recipes[name].from_json(record["recipe"]))
    data_dir = data_directory(given.get("data_dir"), record["options"]["data_dir"])
    options = replace(Options.from_json(record["options"]), **{**given, "data_dir": data_dir})
    dist.init(options.device)
    return Plan(name, recipe, options, data or options.open_data(), path, True)


def absolute(data: str) -> str:
    """A data set's name, or absolute paths, so that the run can be resumed and evaluated from any folder."""
    if data in data_names():
        return data
    if Path(data).exists():
        return str(Path(data).resolve())
    return (
        ",".join(f"{name}={folder.resolve()}" for name, folder in parse_folders(data).items()) if "=" in data else data
    )


def free_folder(name: str, data: str) -> str:
    """``runs/METHOD-ROW-DATA``, or the first of -2, -3, ... that does not exist."""
    base = f"{name.replace('/', '-').replace(':', '-')}-{Path(data).stem}"
    folder, n = Path("runs") / base, 1
    while folder.exists():
        n += 1
        folder = Path("runs") / f"{base}-{n}"
    return str(folder)


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
