"""Sweeps: a training for each combination of values and each seed, evaluated by kNN, and compared at the end."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contrastkit import bounds, lock, schema
from contrastkit.checkpoint import write_json
from contrastkit.compare.results import RunResults
from contrastkit.errors import UserError, explain
from contrastkit.evaluate import EvaluationSubject, knn
from contrastkit.evaluate.made import made
from contrastkit.methods import BuildContext, Recipe
from contrastkit.names import as_typed
from contrastkit.options import MAY_CHANGE
from contrastkit.run import Run
from contrastkit.training import Plan, Reporter
from contrastkit.training.plan import replaced
from contrastkit.training.series import Task, require_alone, require_same, train_each

REPORT = "sweep.json"
KNN = "knn.json"


@dataclass(frozen=True, slots=True)
class SweepRun:
    """A run of a sweep that has ended, now or before.

    Attributes:
        index: its place among the runs of the sweep.
        error: why it is not trained to its end, in one line; None if it is.
        skipped: whether there was nothing left to do.
    """

    index: int
    name: str
    out: Path
    error: str | None
    skipped: bool


def combinations(recipe: Recipe, fixed: Mapping[str, Any], values: Mapping[str, Sequence[Any]]) -> dict[str, Recipe]:
    """A recipe for each combination of values, under a name such as ``lr-0.03-tau-0.2``; the last value varies fastest.

    Args:
        recipe: the row that is changed.
        fixed: numbers of all combinations, as for :func:`contrastkit.training.plan.replaced`.
        values: fields of the recipe, each with its values.

    Raises:
        UserError: a value is given twice, or out of bounds.
    """
    recipes: dict[str, Recipe] = {}
    for chosen in itertools.product(*values.values()):
        combination = dict(zip(values, chosen, strict=True))
        name = "-".join(f"{key}-{_plain(value)}" for key, value in combination.items())
        if name in recipes:
            raise UserError(f"the sweep has two runs {name}: give each value once")
        recipes[name] = replaced({**fixed, **combination})(recipe)
    return recipes


def _plain(value: Any) -> str:
    """A value as a part of the name of a folder."""
    return re.sub(r"[^\w.+-]", "-", as_typed(value))


def sweep(
    base: Plan,
    recipes: Mapping[str, Recipe],
    *,
    seeds: int = 1,
    out: Path,
    jobs: int = 1,
    method: str | None = None,
    reporter: Reporter | None = None,
) -> Iterator[SweepRun]:
    """Train each recipe with each seed, and evaluate the runs by kNN, k = 20 and T = 0.1, if there are labels.

    The runs are in ``out``, in folders named by recipe and seed; ``out/sweep.json`` records the sweep. Called again
    with the same arguments, it trains what is not finished, bit for bit as if it had never stopped; with other values
    of the same numbers, or more ``seeds``, it adds the runs that are not there. That one fails does not end the others.

    Args:
        base: a plan of the same row; all runs share its options, data and starting weights. It is not launched.
        recipes: by their names, as of :func:`combinations`.
        seeds: number of runs of each recipe, with the seed of ``base``, the next one, ...
        jobs: trainings at a time (:func:`contrastkit.training.series.train_each`).
        method: ``path/to/file.py:NAME``, if a file defines the method.
        reporter: receives log lines and progress of trainings in this process.

    Raises:
        Interrupted: a signal stopped a training.
        UserError: ``out`` holds another sweep or is in use, a recipe does not suit the data, or there are several
            processes of torchrun's.
    """
    require_alone("a sweep")
    bounds.SEEDS.check("--seeds", seeds, whole=True)
    bounds.COUNT.check("--jobs", jobs, whole=True)
    source = base.data.pretrain
    for recipe in recipes.values():
        recipe.check(source)
    for recipe in {recipe.encoder: recipe for recipe in recipes.values()}.values():
        # an unknown one is refused here, and one that the weights do not fit
        recipe.build_encoder(BuildContext.of(source, recipe.image_size(source.size), weights=base.weights))
    evaluated = why_unlabelled(base) is None
    tasks = _tasks(base, recipes, seeds, out, method)
    held = _begin(base, recipes, seeds, out)
    try:
        left = [task for task in tasks if not (task.done and (_evaluated(task) or not evaluated))]
        for i, task in enumerate(tasks):
            if task not in left:
                yield SweepRun(i, task.out.name, task.out, None, True)
        # only a seed that draws the same test images shares the set that is open
        shared = [task for task in left if base.options.val_fraction is None or task.options.seed == base.options.seed]
        data = {task.out: base.data for task in shared}
        then = evaluate_run if evaluated else None
        for task, error in train_each(left, data=data, then=then, jobs=jobs, reporter=reporter):
            why = None if error is None else explain(error)
            yield SweepRun(tasks.index(task), task.out.name, task.out, why, False)
    finally:
        if held is not None:
            lock.release(held)


def why_unlabelled(base: Plan) -> str | None:
    """Why the runs of a plan cannot be evaluated by kNN; None if they can."""
    try:
        EvaluationSubject(data=base.data, encoders={}, size=base.data.train.size).labelled_parts()
    except UserError as error:
        return str(error)
    return None


def evaluate_run(task: Task) -> None:
    """Write the run's knn.json, as ``contrastkit knn`` does, unless it is there."""
    if not _evaluated(task):
        options = task.options
        subject = EvaluationSubject.open(task.out, device=options.device, workers=options.workers)
        write_json(task.out / KNN, knn(subject).as_json() | made(subject))


def _evaluated(task: Task) -> bool:
    """Whether the run has a kNN accuracy, of the encoder that is there."""
    try:
        return "knn" in RunResults.read(task.out).evaluations
    except UserError:
        return False


def _tasks(base: Plan, recipes: Mapping[str, Recipe], seeds: int, out: Path, method: str | None) -> list[Task]:
    tasks, weights = [], base.weights
    for (name, recipe), seed in itertools.product(recipes.items(), range(seeds)):
        options = replace(base.options, seed=base.options.seed + seed)
        folder = out / "-".join(filter(None, [name, f"seed-{options.seed}"]))
        tasks.append(Task(base.name, recipe, options, folder, method, None if weights is None else weights.source))
    return tasks


def _begin(base: Plan, recipes: Mapping[str, Recipe], seeds: int, out: Path) -> Any:
    """Lock the folder, and record the sweep, or check that it is the one that is recorded."""
    first, *others = ({**asdict(recipe), "name": base.name} for recipe in recipes.values())
    common = {name: value for name, value in first.items() if all(other[name] == value for other in others)}
    options = {name: value for name, value in base.options.to_json().items() if name not in MAY_CHANGE}
    weights = None if base.weights is None else base.weights.sha256
    shared = options | {"data": base.data.pretrain.fingerprint(), "start": weights}
    head = json.loads(json.dumps(common | shared))
    if Run.exists(out):
        raise UserError(f"{out} holds a run: choose another --out for the sweep")
    try:
        recorded = require_same(out / REPORT, head, base.data.pretrain, "a sweep")
        runs = _extended(out / REPORT, recorded, list(recipes), seeds)
        out.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(out)
        if runs != recorded:
            write_json(out / REPORT, head | runs)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
    return held


def _extended(file: Path, recorded: dict[str, Any] | None, grid: list[str], seeds: int) -> dict[str, Any]:
    """The runs of a sweep as its file records them, with those of this start.

    Raises:
        UserError: the file is damaged, or other numbers are varied.
    """
    if recorded is None:
        return {"grid": grid, "number_of_seeds": seeds}
    with schema.reading(file):
        before = schema.typed(list[str], recorded.get("grid"), "grid")
        most = schema.typed(int, recorded.get("number_of_seeds"), "number_of_seeds")
    if fixed := [name.replace("_", " ") for name in recorded if name not in ("grid", "number_of_seeds")]:
        raise UserError(f"{file} is a sweep with one {', one '.join(fixed)}: choose another --out")
    return {"grid": list(dict.fromkeys([*before, *grid])), "number_of_seeds": max(most, seeds)}
