"""What is to be trained, from what a user gives: the method's recipe for these data, or the record of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contrastkit import dist
from contrastkit.data import DataSet, data_names, default_workers
from contrastkit.data.aligned import parse_folders
from contrastkit.directories import data_directory
from contrastkit.errors import UserError
from contrastkit.methods import Recipe
from contrastkit.methods.rows import choose_row, recipes_of
from contrastkit.names import DEFAULT_DATA
from contrastkit.run import Run
from contrastkit.training.options import Options

Change = Callable[[Recipe], Recipe]  # puts the numbers that a user gives into a recipe


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
        change: applied to the recipe that the images and the encoder lead to.
        encoder: the encoder asked for, if any.
        row: the row of the recipe; by default the images and the encoder choose.
        out: the run folder; by default one below ``runs/`` that does not exist yet.
        data: the data set, if it is open already.

    Raises:
        UserError: no such method, row or data, or numbers out of their bounds.
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
    """Plan to resume a run: its record, with what the user gives. :func:`contrastkit.training.train` refuses what a
    run cannot change.

    Args: as of :func:`plan`; ``path`` is the run folder.

    Raises:
        UserError: no run there, or one of another method.
    """
    record = Run.open(path, writes=False).record
    name, recipes = record["name"], recipes_of(method)
    if name not in recipes:
        trained = name.rpartition("/")[0]
        raise UserError(f"{path} holds a run of {name}, not of {method}: contrastkit train {trained} --resume {path}")
    if row is not None and row != name.rpartition("/")[2]:
        raise UserError(f"a run keeps its recipe: {path} is {name}; drop --recipe")
    recipe = change(recipes[name].from_json(record["recipe"]))
    data_dir = data_directory(given.get("data_dir"), record["options"]["data_dir"])
    options = replace(Options.from_json(record["options"]), **{**given, "data_dir": data_dir})
    dist.init(options.device)
    return Plan(name, recipe, options, data or options.open_data(), path, True)


def absolute(data: str) -> str:
    """A set's name, or paths that hold from any folder: a run can be resumed and evaluated from elsewhere."""
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
    """A change of a recipe's fields by name."""
    return lambda recipe: replace(recipe, **numbers)
