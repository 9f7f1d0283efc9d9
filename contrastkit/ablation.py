"""Ablations: one training repeated with one change at a time, with published results beside measured ones."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit import checkpoint
from contrastkit.data import Source
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.summary import summarise
from contrastkit.loading import load
from contrastkit.methods import BuildContext
from contrastkit.methods.byol import BYOLRecipe
from contrastkit.parts.encoder import Encoder
from contrastkit.run import Run
from contrastkit.training import Plan, Reporter
from contrastkit.training.series import Task, require_alone, require_same, train_each

REPORT = "ablation.json"

# The debate's trainings: the changes of each (None: untrained), and its published accuracy in %
# (https://untitled-ai.github.io/understanding-self-supervised-contrastive-learning.html, "Performance for each
# variation"): linear, on half of STL-10's test set after a fit to the other half, ResNet-18, 10 epochs, batch 256. Its
# code (imbue-ai/self_supervised, train_blog.py) uses SGD at 0.8, and 0.02 with 65,536 keys for the contrastive loss.
# By its Appendices C and D, BYOL without batch norm in the heads does learn if trained longer, or with LARS.
BYOL_NORM: dict[str, tuple[dict[str, Any] | None, float]] = {
    "contrastive loss": ({"projector_norm": "none", "predictor_norm": "none", "negatives": 4096, "m": 0.99}, 44.1),
    "BYOL": ({"projector_norm": "batch", "predictor_norm": "batch"}, 57.7),
    "batch norm in the projector only": ({"projector_norm": "batch", "predictor_norm": "none"}, 55.3),
    "batch norm in the predictor only": ({"projector_norm": "none", "predictor_norm": "batch"}, 48.0),
    "no norm": ({"projector_norm": "none", "predictor_norm": "none"}, 28.3),
    "layer norm": ({"projector_norm": "layer", "predictor_norm": "layer"}, 29.4),
    "random": (None, 28.8),
}


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One training of an ablation; accuracies are top-1 in %."""

    name: str
    published: float  # linear accuracy in the debate's first article
    knn: float  # on the test part
    linear: float
    linear_std: float  # over the probe's seeds
    rank: float | None  # effective rank at the monitor's last evaluation; None for the untrained encoder
    seconds: float  # of training


def byol_norm(base: Plan, *, out: Path, reporter: Reporter | None = None) -> Iterator[AblationRow]:
    """The batch-norm debate: BYOL's seven trainings (:data:`BYOL_NORM`) with equal budgets.

    Each row has its own run folder in ``out``; the measurements are in ``out/ablation.json``. Called again with the
    same folder, it continues where it stopped: measured rows are yielded as recorded, an unfinished run is resumed.
    After a signal it saves and stops.

    Args:
        base: a plan of byol; all rows share its recipe, including epochs and learning rate. It is not launched.
        out: folder of the rows' runs.

    Raises:
        Interrupted: a signal stopped the training of a row.
        UserError: no labels to evaluate with, or ``out`` holds a different ablation.
    """
    recipe, options, data = base.recipe, base.options, base.data
    assert isinstance(recipe, BYOLRecipe)
    require_alone("an ablation")
    size = recipe.image_size(data.pretrain.size)
    how: dict[str, Any] = {"workers": options.workers, "max_bad": options.max_bad, "device": base.device}
    subject = EvaluationSubject(data=data, encoders={}, size=size, **how)
    subject.labelled_parts()  # raises before anything is trained
    head: dict[str, Any] = {"name": base.name, "recipe": asdict(recipe), "data": data.pretrain.fingerprint()}
    head |= {"seed": options.seed, "precision": options.precision}
    head = json.loads(json.dumps(head))
    rows = _measured(out / REPORT, head, data.pretrain)
    yield from rows
    for row, encoder, run in _trained(base, list(byol_norm_recipes(recipe).items())[len(rows) :], out, reporter):
        last = (run.metrics() if run is not None else [])[-1:] or [{}]
        summary = summarise(replace(subject, encoders={row: encoder}))[row]
        numbers = summary.percentages | {"rank": last[0].get("rank"), "seconds": last[0].get("seconds", 0.0)}
        rows.append(AblationRow(name=row, published=BYOL_NORM[row][1], **numbers))
        report = head | {"rows": [asdict(measured) for measured in rows]}
        checkpoint.write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
        yield rows[-1]


def _trained(
    base: Plan, rows: Sequence[tuple[str, BYOLRecipe | None]], out: Path, reporter: Reporter | None
) -> Iterator[tuple[str, Encoder, Run | None]]:
    """Name, encoder and run of each row, in order; None is the run of the untrained encoder."""
    trained = {row: recipe for row, recipe in rows if recipe is not None}
    tasks = [Task(base.name, recipe, base.options, out / row.replace(" ", "-")) for row, recipe in trained.items()]
    data = dict.fromkeys((task.out for task in tasks), base.data)
    ended = train_each(tasks, data=data, reporter=reporter)
    for row, recipe in rows:
        if recipe is None:
            yield row, _untrained(base), None
            continue
        if reporter is not None:
            reporter.log(f"row {list(BYOL_NORM).index(row) + 1} of {len(BYOL_NORM)}: {row}")
        task, error = next(ended)
        if error is not None:
            raise error
        yield row, load(task.out), Run.open(task.out)


def byol_norm_recipes(recipe: BYOLRecipe) -> dict[str, BYOLRecipe | None]:
    """The seven rows of the batch-norm debate as changes of one recipe, with equal budgets; None is the untrained
    encoder. The published results are in :data:`BYOL_NORM`.

    The contrastive loss has its own learning rate, a quarter of the recipe's (a fortieth in the published code), and
    MoCo's momentum: with BYOL's it stays at chance. On the embedded digits it does so at any rate from 0.03 to 0.5.
    """
    rows: dict[str, BYOLRecipe | None] = {}
    for name, (changes, _) in BYOL_NORM.items():
        rows[name] = None if changes is None else replace(recipe, **changes)
    contrastive = rows["contrastive loss"]
    assert contrastive is not None
    return rows | {"contrastive loss": replace(contrastive, lr=recipe.lr / 4)}


def _untrained(base: Plan) -> Encoder:
    source = base.data.pretrain
    torch.manual_seed(base.options.seed)
    return base.recipe.build_encoder(BuildContext.of(source, base.recipe.image_size(source.size))).eval()


def _measured(report: Path, head: dict[str, Any], source: Source) -> list[AblationRow]:
    """The rows measured so far.

    Raises:
        UserError: they belong to another ablation, or cannot be read.
    """
    recorded = require_same(report, head, source, "an ablation")
    try:
        return [AblationRow(**row) for row in (recorded or {"rows": []})["rows"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{report} is damaged: move it away, the runs beside it are kept") from error
