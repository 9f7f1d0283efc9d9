""":func:`contrastkit.train`: what ``contrastkit train`` does, for programs."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from contrastkit.data import DataSet
from contrastkit.data.dataset import HANDED_OVER
from contrastkit.data.torch_dataset import open_dataset
from contrastkit.errors import UserError, suggest
from contrastkit.methods.rows import recipes_of
from contrastkit.names import DEFAULT_DATA
from contrastkit.training.launch import Outcome
from contrastkit.training.launch import train as launch
from contrastkit.training.options import Options
from contrastkit.training.plan import Change, Plan, absolute, plan, plan_resume, replaced
from contrastkit.training.progress import Reporter

OPTIONS = [item.name for item in fields(Options) if item.name != "data"]


def train(
    method: str,
    data: "str | Path | DataSet | Dataset[Any]" = DEFAULT_DATA,
    *,
    encoder: str | nn.Module | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    row: str | None = None,
    stop_after: int | None = None,
    reporter: Reporter | None = None,
    **numbers: Any,
) -> Outcome:
    """Train a method without labels, into a run folder.

    Args:
        method: a name of ``contrastkit methods``, or ``path/to/file.py:NAME``.
        data: a set's name or a path (:func:`contrastkit.data.open_data`), an open data set, or a map-style torch
            ``Dataset`` whose items are images, or pairs of image and label
            (:class:`contrastkit.data.torch_dataset.DatasetSource`).
        encoder: tiny, a torchvision ResNet, ``timm:NAME``, or a module that turns images [N, C, H, W], normalised, into
            features [N, D]; it is trained in place. Such a run is loaded with ``contrastkit.load(run, encoder=...)``.
        out: the run folder; by default a new one below ``runs/``.
        resume: resume the run that is in ``out``; the numbers that it was trained with are its own.
        row: row of the recipe; by default the images and the encoder choose.
        stop_after: leave after this many epochs of the schedule.
        reporter: receives the progress; by default nobody does.
        numbers: fields of the recipe (``tau=0.2``, ``epochs=100``) and of :class:`contrastkit.training.Options`
            (``seed=1``, ``device="cuda"``).

    Raises:
        UserError: as :func:`contrastkit.training.launch.train`, or an unknown number.
    """
    module = encoder if isinstance(encoder, nn.Module) else None
    given = {name: numbers.pop(name) for name in OPTIONS if name in numbers}
    if module is not None:
        numbers["encoder"] = f"module:{type(module).__name__}"
    elif encoder is not None:
        numbers["encoder"] = encoder
    _require_known(method, numbers)
    opened = None
    if isinstance(data, str | Path):
        given["data"] = absolute(str(data))
    else:
        opened = (
            data
            if isinstance(data, DataSet)
            else open_dataset(data, val_fraction=given.get("val_fraction"), seed=given.get("seed", 0))
        )
        given["data"] = HANDED_OVER + opened.name
    chosen = _plan(method, given, replaced(numbers), opened, numbers.get("encoder"), out, resume, row)
    return launch(
        chosen.name,
        chosen.recipe,
        chosen.options,
        out=chosen.out,
        resume=chosen.resume,
        stop_after=stop_after,
        reporter=reporter,
        data=chosen.data,
        encoder=module,
    )


def _plan(
    method: str,
    given: dict[str, Any],
    change: Change,
    data: DataSet | None,
    encoder: str | None,
    out: str | Path | None,
    resume: bool,
    row: str | None,
) -> Plan:
    folder = None if out is None else Path(out)
    if not resume:
        return plan(method, given, change=change, encoder=encoder, row=row, out=folder, data=data)
    if folder is None:
        raise UserError("name the run to resume: out=RUN")
    return plan_resume(method, folder, given, change=change, row=row, data=data)


def _require_known(method: str, numbers: Mapping[str, Any]) -> None:
    recipe = next(iter(recipes_of(method).values()))
    known = [item.name for item in fields(recipe)]
    for name in numbers:
        if name not in known:
            raise UserError(f"{method} has no {name}{suggest(name, [*known, *OPTIONS])} (it has {', '.join(known)})")
