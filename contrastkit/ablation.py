"""Ablations: one training again and again, a thing changed each time, what was published beside what is measured."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit import checkpoint, dist, precision
from contrastkit.data import DataSet
from contrastkit.errors import UserError
from contrastkit.evaluate.judge import judge, parts
from contrastkit.methods import BuildContext, Recipe, byol
from contrastkit.run import load
from contrastkit.training import NullReporter, Options, Reporter, train

REPORT = "ablation.json"


def byol_norm(
    name: str,
    recipe: Recipe,
    options: Options,
    data: DataSet,
    *,
    out: Path,
    reporter: Reporter | None = None,
) -> Iterator[dict[str, Any]]:
    """The batch-norm debate: BYOL's seven trainings (:data:`contrastkit.methods.byol.ABLATION`) on one budget.

    Each row's run lies in a folder of its own below ``out``, what is measured in ``out/ablation.json``. Called again
    with the same folder it goes on where it was left: a measured row is yielded as it stands, a run is resumed. A
    signal ends it after it has saved.

    Args:
        name: ``byol/row``, for the record.
        recipe: what all rows share, epochs and learning rate among it.

    Yields:
        one dict a row: name, published (linear accuracy in %, of the debate's first account), knn and linear (top-1 in
        % on ``data.test``), linear_std (over the probe's seeds), rank (effective rank of the features that the monitor
        last saw; None for the untrained encoder), seconds of training.

    Raises:
        UserError: no labels to judge by, or ``out`` holds an ablation of something else.
    """
    assert isinstance(recipe, byol.BYOLRecipe)
    reporter, device = reporter or NullReporter(), dist.init(options.device)
    if dist.world_size() > 1:
        raise UserError("an ablation runs in one process: start it without torchrun")
    options = replace(options, precision=precision.resolve(options.precision, device))
    parts(data)
    head: dict[str, Any] = {"name": name, "recipe": asdict(recipe), "data": data.pretrain.fingerprint()}
    head |= {"seed": options.seed, "precision": options.precision}
    head = json.loads(json.dumps(head))
    rows = _begun(out / REPORT, head)
    size = recipe.image_size(data.pretrain.size)
    yield from rows
    for row, changed in list(byol.ablation(recipe).items())[len(rows) :]:
        reporter.log(f"row {len(rows) + 1} of {len(byol.ABLATION)}: {row}")
        rank, seconds = None, 0.0
        if changed is None:
            torch.manual_seed(options.seed)
            context = BuildContext(channels=data.pretrain.channels, size=size, images=len(data.pretrain))
            encoder = recipe.build_encoder(context).eval()
        else:
            run = out / row.replace(" ", "-")
            outcome = train(
                name, changed, options, out=run, resume=(run / "recipe.json").exists(), reporter=reporter, data=data
            )
            if not outcome.finished or outcome.signalled:
                return
            encoder, rank, seconds = load(run), outcome.evaluation.get("rank"), outcome.seconds
        found = judge(encoder, data, size=size, workers=options.workers, device=device)
        rows.append(
            {
                "name": row,
                "published": byol.ABLATION[row][1],
                "knn": 100 * found.knn.top1,
                "linear": 100 * found.linear.accuracy.top1,
                "linear_std": 100 * (found.linear.std or 0.0),
                "rank": rank,
                "seconds": seconds,
            }
        )
        checkpoint.write_text(out / REPORT, json.dumps(head | {"rows": rows}, indent=2) + "\n")
        yield rows[-1]


def _begun(report: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows measured so far.

    Raises:
        UserError: they are of another ablation, or cannot be read.
    """
    if not report.exists():
        return []
    try:
        kept = json.loads(report.read_text())
        rows, differ = kept.pop("rows"), [key for key in head if kept.get(key) != head[key]]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{report} is damaged: move it away, the runs beside it are kept") from error
    if differ:
        raise UserError(f"{report} is an ablation with another {', another '.join(differ)}: give another --out")
    return rows
