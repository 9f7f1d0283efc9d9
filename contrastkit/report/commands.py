"""The commands that repeat what a run folder holds."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from contrastkit.augment import VIEWS, View
from contrastkit.data.dataset import HANDED_OVER
from contrastkit.errors import UserError
from contrastkit.methods.rows import recipes_of
from contrastkit.names import DISTILLED, METHODS, as_typed, is_file, split_name, training_command
from contrastkit.options import Options
from contrastkit.record import Record

# They change where and how fast a training runs, not its result; data and seed are always said.
APART = ("data", "seed", "workers", "device", "download")
PROGRAMS = ("contrastkit", "__main__.py")


def again(run: Path) -> Path:
    """The folder of the run trained anew, beside the run."""
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-again")


def training(record: Record, out: Path) -> tuple[str, str]:
    """The command that trains a run anew, with all that departs from its recipe and from the defaults, and what to know
    of it; "" for no command, or nothing to know.

    Args:
        out: the folder of the new run.
    """
    method, row = split_name(record.name)
    options = record.options
    if options.data.startswith(HANDED_OVER):
        return "", "The data set was handed over in Python: no command trains this run anew."
    if record.encoder["name"].startswith("module:"):
        return "", "The encoder was handed over in Python: no command trains this run anew."
    words = training_command(method)
    if record.parent is not None:
        words += ["--extend", record.parent.run, "--epochs", as_typed(record.recipe["epochs"])]
        return line([*words, "--out", str(out)]), "The run that it extends must be there."
    note = "" if not is_file(method) else f"{method} is a method of a file: say where it is."
    try:
        words += ["--recipe", row, "--data", options.data, *_recipe(record), *_options(options)]
    except UserError as error:
        return "", f"{error}: no command trains this run anew."
    if record.weights is not None:
        words += ["--init-from", record.weights.source]
    if record.teacher is not None:
        words += ["--teacher", record.teacher.source]
        words += [] if record.teacher.encoder is None else ["--teacher-encoder", record.teacher.encoder]
    if not _known(method) and not is_file(method):
        note = f"This version has no method {method}: use the one that trained it."
    return line([*words, "--seed", str(options.seed), "--out", str(out)]), note


def resuming(record: Record, run: Path) -> str:
    """The command that goes on with an unfinished training."""
    method, _ = split_name(record.name)
    return line([*training_command(method), "--resume", str(run)])


def _known(method: str) -> bool:
    return method in METHODS or method in DISTILLED.values()


def called(command: Sequence[str]) -> str:
    """A recorded command as it is typed; that of a Python program says so."""
    program, *arguments = command or ("",)
    if os.path.basename(program) in PROGRAMS:
        return line(["contrastkit", *arguments])
    return f"# by a Python program: {line(command)}"


def line(words: Sequence[str]) -> str:
    """A command, quoted for a shell."""
    return shlex.join(words).replace("\n", " ")


def _recipe(record: Record) -> list[str]:
    """The numbers that depart from the row of this version; none, if it has no such row."""
    method, _ = split_name(record.name)
    row: Any = None
    if _known(method):
        row = recipes_of(method).get(record.name)
    if row is None:
        return []
    own = record.recipe_of(type(row), Path("recipe.json"))
    words = []
    for item in fields(own):
        value = getattr(own, item.name)
        if item.name != "views" and value != getattr(row, item.name) and value is not None:
            words += _flag(item.name, value, negatable=True)
    return [*words, *_views(own.views, row.views)]


def _views(own: Sequence[Any], row: Sequence[Any]) -> list[str]:
    """What departs from a row of views: one value for all views, or one for each. Where the row has another number of
    views, the named row that is nearest comes first.

    Raises:
        UserError: no row has as many.
    """
    words: list[str] = []
    if len(own) != len(row):
        rows = {name: row for name, row in VIEWS.items() if len(row) == len(own)}
        if not rows or not isinstance(own[0], View):
            raise UserError(f"No row of augmentations has {len(own)} views")
        name = min(rows, key=lambda name: len(_departing(own, rows[name])))
        words, row = ["--views", name], rows[name]
    for name, values in _departing(own, row).items():
        same = all(value == values[0] for value in values)
        words += [f"--{name.replace('_', '-')}", as_typed(values[0] if same else values)]
    return words


def _departing(own: Sequence[Any], row: Sequence[Any]) -> dict[str, list[Any]]:
    """The fields in which views depart from others, and their values in each."""
    values = {item.name: [getattr(view, item.name) for view in own] for item in fields(own[0])}
    return {name: each for name, each in values.items() if each != [getattr(view, name) for view in row]}


def _options(options: Options) -> list[str]:
    words = []
    for item in fields(options):
        value = getattr(options, item.name)
        if item.name not in APART and value != item.default and value is not None:
            words += _flag(item.name, value)
    return words


def _flag(name: str, value: Any, *, negatable: bool = False) -> list[str]:
    """An option and its value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}"] if value else [f"--no-{flag}"] if negatable else []
    return [f"--{flag}", as_typed(str(value) if isinstance(value, Path) else value)]
