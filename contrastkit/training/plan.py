"""Turn a user's request into a plan: from the method's recipe for these data, or from the record of a run."""

import itertools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit import dist, precision
from contrastkit.augment import named_views
from contrastkit.bounds import check_effect
from contrastkit.data import DataSet, data_names, default_workers
from contrastkit.data.aligned import parse_folders
from contrastkit.data.dataset import HANDED_OVER
from contrastkit.data.environments import environments_root
from contrastkit.data.store import is_url
from contrastkit.directories import data_directory, given_path
from contrastkit.errors import UserError
from contrastkit.methods import Recipe
from contrastkit.methods.rows import recipes_of
from contrastkit.names import DEFAULT_DATA, DISTILLED, METHODS, is_file, split_name, training_command
from contrastkit.options import MAY_CHANGE, Options
from contrastkit.parts.teacher import Teacher
from contrastkit.parts.weights import Weights
from contrastkit.record import ParentRecord, Record
from contrastkit.run import RECIPE, Run
from contrastkit.starting import open_weights
from contrastkit.training.memory import is_small
from contrastkit.training.teaching import choose, teacher_of

Change = Callable[[Recipe], Recipe]  # puts a user's values into a recipe


@dataclass(frozen=True)
class Plan:
    """A training, decided and checked: its data set is open, and this process has joined the others.

    Attributes:
        name: ``method/row``.
        options: how the recipe is run; their precision is never "auto".
        out: the run folder.
        record: of the run to resume or, with ``parent``, to extend; None for a run from the start.
        parent: the run that this one extends.
        weights: those from which the encoder of a run from the start starts.
        teacher: of a distillation.
        numbered: whether ``out`` is the first free folder of :func:`free_folder`, so that the next will do too.

    Raises:
        UserError: the data do not suit the recipe, or something that determines the results of the run to resume or to
            extend has changed, besides the epochs of one to extend.
    """

    name: str
    recipe: Recipe
    options: Options
    data: DataSet
    device: torch.device
    out: Path
    record: Record | None = None
    numbered: bool = False
    parent: ParentRecord | None = None
    weights: Weights | None = None
    teacher: Teacher | None = None

    @property
    def resumes(self) -> bool:
        """Whether the run folder is there already."""
        return self.record is not None and self.parent is None

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
        init_from: str | None = None,
    ) -> "Plan":
        """The plan to train a recipe into a run folder, or to resume the run that is there.

        Args:
            data: the data set, if already open.
            init_from: starting weights of a run that is not there, as for :func:`plan`.

        Raises:
            UserError: as for the class; no run to resume, or the data cannot be opened.
        """
        record = Run.open(out).record if resume else None
        options, device = _started(options)
        weights = None if resume or init_from is None else open_weights(init_from)
        return cls(name, recipe, options, data or options.open_data(), device, out, record, weights=weights)

    def _require_same(self, record: Record) -> None:
        """Check that nothing has changed that determines the results of the run with this record."""
        out = self.out if self.parent is None else Path(self.parent.run)
        if record.name != self.name:
            raise UserError(f"{out} holds a run of {record.name}, not of {self.name}: choose another --out or --resume")
        original = record.recipe_of(type(self.recipe), out / RECIPE)
        if self.parent is not None and self.recipe.epochs <= original.epochs:
            raise UserError(f"--extend trains longer than {out}, which has epochs = {original.epochs}: raise --epochs")
        for item in fields(original):
            if item.name == "epochs" and self.parent is not None:
                continue
            if (value := getattr(original, item.name)) != getattr(self.recipe, item.name):
                longer = f", or train longer: --extend {out} --epochs N" if item.name == "epochs" else ""
                raise UserError(f"a run keeps its recipe: {out} has {item.name} = {value}; drop the option{longer}")
        if record.options.labelled is None and self.options.labelled is not None:
            raise UserError(
                f"{out} was trained without --labelled: drop it, and evaluate on other images with knn --data"
            )
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
    extend: Path | None = None,
    init_from: str | None = None,
    teacher: tuple[str | None, str | None] = (None, None),
    data: DataSet | None = None,
    labelled: DataSet | None = None,
) -> Plan:
    """Plan a new run, or the resumption or extension of one: its record, with the user's changes.

    Args:
        method: see :func:`contrastkit.methods.rows.recipes_of`.
        given: fields of :class:`Options`; the others take their defaults, or what the run records.
        change: applied to the chosen recipe.
        encoder: the requested encoder, if any.
        row: row of the recipe; by default chosen by the images, the encoder and the device.
        out: the run folder; by default a new one in ``runs/``.
        resume: resume the run in ``out``.
        extend: the run that the new one extends: it goes on at its last state, under the schedule of more epochs.
        init_from: starting weights of the encoder, see :func:`contrastkit.starting.open_weights`.
        teacher: of a distillation, and its network, see :func:`contrastkit.training.teaching.teacher_of`.
        data, labelled: these sets, if already open; no path names them.

    Raises:
        UserError: no such method, row, data or run, a value out of bounds, or as for :class:`Plan`.
    """
    recipes = recipes_of(method)
    given = {**given, **_named(given, data=data, labelled=labelled)}
    if (run := _origin(out, resume=resume, extend=extend, init_from=init_from)) is not None:
        record, recipe, options, device = _recorded(method, given, change, row, run)
        data = options.open_data(data, labelled)
        taught = teacher_of(recipes, *teacher, data, record)
        if resume:
            return Plan(record.name, recipe, options, data, device, run, record, teacher=taught)
        parent = ParentRecord(run=str(run.resolve()), epochs=record.recipe["epochs"], step=Run.open(run).load().step)
        numbered, out = out is None, out or _numbered(record.name, data)
        more: dict[str, Any] = {"numbered": numbered, "parent": parent, "teacher": taught}
        return Plan(record.name, recipe, options, data, device, out, record, **more)
    weights = None if init_from is None else open_weights(init_from)
    options = Options(**{"data": DEFAULT_DATA, **given, "data_dir": data_directory(given.get("data_dir"))})
    options, device = _started(options)
    data = options.open_data(data, labelled)
    taught, source = teacher_of(recipes, *teacher, data), data.pretrain
    if "workers" not in given:
        options = replace(options, workers=default_workers(source))
    small = is_small(device, options.precision)
    name, suited = choose(recipes, taught, source, encoder=encoder, small_machine=small, row=row)
    if weights is not None and weights.numbers and suited.learns_from_captions:
        suited = replaced({"encoder": weights.encoder, "size": weights.size, **weights.numbers})(suited)
    recipe = change(suited)
    numbered, out = out is None, out or _numbered(name, data)
    return Plan(name, recipe, options, data, device, out, numbered=numbered, weights=weights, teacher=taught)


def _named(given: Mapping[str, Any], **opened: DataSet | None) -> dict[str, str]:
    """How the record calls the data sets that are given, or handed over."""
    names = {name: absolute(given[name]) for name in opened if name in given}
    return names | {name: HANDED_OVER + data.name for name, data in opened.items() if data is not None}


def _origin(out: Path | None, *, resume: bool, extend: Path | None, init_from: str | None) -> Path | None:
    """The run to resume or to extend; None for a run from the start.

    Raises:
        UserError: several of these are asked for, or no folder says which run to resume.
    """
    if resume and out is None:
        raise UserError("resume=True needs the run to resume: add out=RUN")
    if resume and extend is not None:
        raise UserError("--extend makes a new run, --resume goes on with one: give one of them")
    run = out if resume else extend
    if run is not None and init_from is not None:
        raise UserError(f"--init-from is for a run from the start, {run} has its own weights: drop it")
    return run


def _numbered(name: str, data: DataSet) -> Path:
    """:func:`free_folder`, the same for all processes."""
    return Path(dist.broadcast_str(str(free_folder(name, data.name))))


def _how_to_resume(name: str, out: Path) -> str:
    method = split_name(name)[0]
    if is_file(method) or method in METHODS or method in DISTILLED.values():
        return shlex.join([*training_command(method), "--resume", str(out)])
    return f"this version has no method {method}; use the contrastkit that trained it"


def _recorded(
    method: str, given: Mapping[str, Any], change: Change, row: str | None, run: Path
) -> tuple[Record, Recipe, Options, torch.device]:
    """The record of a run; its recipe and options with the user's changes."""
    record, recipes = Run.open(run).record, recipes_of(method)
    if record.name not in recipes:
        raise UserError(f"{run} holds a run of {record.name}, not of {method}: {_how_to_resume(record.name, run)}")
    if row is not None and row != split_name(record.name)[1]:
        raise UserError(f"a run keeps its recipe: {run} is {record.name}; drop --recipe")
    recipe = change(record.recipe_of(type(recipes[record.name]), run / RECIPE))
    data_dir = data_directory(given.get("data_dir"), record.options.data_dir)
    options, device = _started(replace(record.options, **{**given, "data_dir": data_dir}))
    return record, recipe, options, device


def _started(options: Options) -> tuple[Options, torch.device]:
    """Join the other processes. The options with their precision resolved, once: a run keeps it wherever it is resumed;
    and this process's device."""
    device = dist.init(options.device)
    return replace(options, precision=precision.resolve(options.precision, device)), device


def absolute(data: str) -> str:
    """A data set's name or URL, or absolute paths, so that the run can be resumed and evaluated from any folder."""
    if data in data_names() or is_url(data):
        return data
    if (path := given_path(data)).exists() or environments_root(path) is not None:
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
        UserError: when applied: a value out of bounds or without effect, or a sequence of another length than the
            views.
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
        made = replace(recipe, **{**{name: numbers[name] for name in numbers.keys() & own}, "views": views})
        check_effect(made, numbers)
        return made

    return change
