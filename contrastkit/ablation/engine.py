"""The rows of an ablation, trained and measured one after the other."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit import checkpoint, schema
from contrastkit.ablation.table import ABLATIONS
from contrastkit.data import Source
from contrastkit.errors import UserError, check_choice
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.summary import summarise
from contrastkit.loading import load
from contrastkit.methods import BuildContext, Recipe
from contrastkit.methods.rows import recipes_of
from contrastkit.names import METHODS, split_name
from contrastkit.parts.encoder import Encoder
from contrastkit.run import Run
from contrastkit.training import Plan, Reporter
from contrastkit.training.plan import Change
from contrastkit.training.series import Task, require_alone, require_same, train_each

REPORT = "ablation.json"


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One training of an ablation; accuracies are top-1 on the test part, in %."""

    name: str
    published: float | str | None  # as of :class:`contrastkit.ablation.Variant`
    knn: float
    linear: float
    linear_std: float  # over the probe's seeds
    rank: float | None  # effective rank at the monitor's last evaluation; None for the untrained encoder
    seconds: float  # of training


@dataclass(frozen=True, kw_only=True)
class AblationReport:
    """What was measured of an ablation, and on what."""

    ablation: str
    recipe: str  # ``method/row`` of the first rows
    data: str
    epochs: int
    seed: int
    rows: Sequence[AblationRow]

    @classmethod
    def of(cls, what: str, base: Plan, rows: Sequence[AblationRow]) -> "AblationReport":
        recipe, seed = base.recipe, base.options.seed
        return cls(ablation=what, recipe=base.name, data=base.data.name, epochs=recipe.epochs, seed=seed, rows=rows)

    def as_json(self) -> dict[str, Any]:
        """With the claim, its source, and what the published numbers are."""
        ablation = ABLATIONS[self.ablation]
        return asdict(self) | {"claim": ablation.claim, "source": ablation.source, "unit": ablation.unit}


def ablate(
    what: str, base: Plan, change: Change, *, out: Path, reporter: Reporter | None = None
) -> Iterator[AblationRow]:
    """Train and measure the rows of an ablation, with equal budgets.

    Each row has its own run folder in ``out``; the measurements are in ``out/ablation.json``. Called again with the
    same folder, it continues where it stopped: measured rows are yielded as recorded, an unfinished run is resumed.
    After a signal it saves and stops.

    Args:
        what: a key of :data:`contrastkit.ablation.ABLATIONS`.
        base: a plan of the ablation's method; all rows share its recipe, including epochs and learning rate. Rows of
            another method have its row of the same name. It is not launched.
        change: puts the user's values into a recipe, as it did into that of ``base``.
        out: folder of the rows' runs.

    Raises:
        Interrupted: a signal stopped the training of a row.
        UserError: no labels to evaluate with, a recipe does not suit the data, or ``out`` holds a different ablation.
    """
    check_choice("ablation", what, ABLATIONS)
    require_alone("an ablation")
    options, data = base.options, base.data
    bases = _bases(what, base, change)
    recipes = recipes_of_rows(what, bases)
    _require_suitable(what, [recipe for _, recipe in recipes.values() if recipe is not None], data.pretrain)
    size = base.recipe.image_size(data.pretrain.size)
    how: dict[str, Any] = {"workers": options.workers, "max_bad": options.max_bad, "device": base.device}
    subject = EvaluationSubject(data=data, encoders={}, size=size, **how)
    subject.labelled_parts()  # raises before anything is trained
    head: dict[str, Any] = {"ablation": what, "name": base.name, "data": data.pretrain.fingerprint()}
    head |= {"recipe": {name: asdict(recipe) for name, recipe in bases.values()}}
    head |= {"seed": options.seed, "precision": options.precision}
    head = json.loads(json.dumps(head))
    rows = _measured(out / REPORT, head, data.pretrain, list(recipes))
    yield from rows
    for row, encoder, run in _trained(base, recipes, len(rows), out, reporter):
        last = (run.metrics() if run is not None else [])[-1:] or [{}]
        summary = summarise(replace(subject, encoders={row: encoder}))[row]
        numbers = summary.percentages | {"rank": last[0].get("rank"), "seconds": last[0].get("seconds", 0.0)}
        rows.append(AblationRow(name=row, published=ABLATIONS[what].rows[row].published, **numbers))
        report = head | {"rows": [asdict(measured) for measured in rows]}
        checkpoint.write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
        yield rows[-1]


def recipes_of_rows(what: str, bases: Mapping[str, tuple[str, Recipe]]) -> dict[str, tuple[str, Recipe | None]]:
    """``method/row`` and recipe of each row of an ablation, in order; None is the untrained encoder.

    Args:
        bases: ``method/row`` and recipe that the rows change, by the name of the method.
    """
    ablation, recipes = ABLATIONS[what], {}
    for row, variant in ablation.rows.items():
        name, recipe = bases[variant.method or ablation.method]
        recipes[row] = name, variant.of(recipe)
    return recipes


def _bases(what: str, base: Plan, change: Change) -> dict[str, tuple[str, Recipe]]:
    """As for :func:`recipes_of_rows`.

    Raises:
        UserError: another method has no row of this name.
    """
    ablation = ABLATIONS[what]
    bases = {ablation.method: (base.name, base.recipe)}
    _, row = split_name(base.name)
    for method in {variant.method: None for variant in ablation.rows.values() if variant.method}:
        if method not in bases:
            recipes, name = recipes_of(method), f"{METHODS[method]}/{row}"
            if name not in recipes:
                raise UserError(f"{method} has no recipe '{row}', as {base.name} is: choose another --recipe")
            bases[method] = name, change(recipes[name])
    return bases


def _require_suitable(what: str, recipes: Sequence[Recipe], source: Source) -> None:
    """Check all rows before the first is trained.

    Raises:
        UserError: a recipe does not suit the data, or the images have no colours to change.
    """
    if ABLATIONS[what].colour and source.channels != 3:
        raise UserError(
            f"ablate {what} changes colours, and the images of {source.name} have {source.channels} channel(s): "
            "choose colour images with --data"
        )
    for recipe in recipes:
        recipe.check(source)
        recipe.build(BuildContext.of(source, recipe.image_size(source.size)))  # which refuses what it cannot do


def _trained(
    base: Plan, recipes: Mapping[str, tuple[str, Recipe | None]], measured: int, out: Path, reporter: Reporter | None
) -> Iterator[tuple[str, Encoder, Run | None]]:
    """Name, encoder and run of each row after those ``measured``, in order; None is the run of the untrained
    encoder."""
    left = list(recipes.items())[measured:]
    tasks = [Task(name, recipe, base.options, out / folder_of(row)) for row, (name, recipe) in left if recipe]
    data = dict.fromkeys((task.out for task in tasks), base.data)
    ended = train_each(tasks, data=data, reporter=reporter)
    for i, (row, (_, recipe)) in enumerate(left, start=measured + 1):
        if recipe is None:
            yield row, _untrained(base), None
            continue
        if reporter is not None:
            reporter.log(f"row {i} of {len(recipes)}: {row}")
        task, error = next(ended)
        if error is not None:
            raise error
        yield row, load(task.out), Run.open(task.out)


def folder_of(row: str) -> str:
    """The name of a row's run folder: ``K = 128`` has ``K-128``."""
    return re.sub(r"[^\w.]+", "-", row)


def _untrained(base: Plan) -> Encoder:
    source = base.data.pretrain
    torch.manual_seed(base.options.seed)
    return base.recipe.build_encoder(BuildContext.of(source, base.recipe.image_size(source.size))).eval()


def _measured(report: Path, head: dict[str, Any], source: Source, names: Sequence[str]) -> list[AblationRow]:
    """The rows measured so far.

    Raises:
        UserError: they belong to another ablation, or cannot be read.
    """
    recorded = require_same(report, head, source, "an ablation")
    with schema.reading(report):
        rows = schema.typed(list[dict[str, Any]], (recorded or {"rows": []}).get("rows"), "rows")
        measured = [schema.instance(AblationRow, row, "rows") for row in rows]
        if [row.name for row in measured] != names[: len(measured)]:
            raise UserError("its rows are not those of this ablation")
    return measured
