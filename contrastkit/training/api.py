""":func:`contrastkit.train`: the library's counterpart of ``contrastkit train``."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from contrastkit.data import DataSet
from contrastkit.data.torch_dataset import open_dataset
from contrastkit.directories import local_path
from contrastkit.errors import UserError, suggest
from contrastkit.methods.rows import recipes_of
from contrastkit.options import Options
from contrastkit.training.launch import Outcome, launch
from contrastkit.training.plan import plan, replaced
from contrastkit.training.progress import Reporter

Data = str | Path | DataSet | Dataset[Any] | None
OPTIONS = [item.name for item in fields(Options) if item.name not in ("data", "labelled")]


def train(
    method: str,
    data: Data = None,
    *,
    labelled: Data = None,
    encoder: str | nn.Module | None = None,
    init_from: str | Path | None = None,
    teacher: str | Path | None = None,
    teacher_encoder: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    extend: str | Path | None = None,
    row: str | None = None,
    stop_after: int | None = None,
    reporter: Reporter | None = None,
    **numbers: Any,
) -> Outcome:
    """Train a method, or distil a teacher, into a run folder.

    Args:
        method: a name listed by ``contrastkit methods``, or ``path/to/file.py:NAME``.
        data: name or path of a data set (:func:`contrastkit.data.open_data`), an open one, or a map-style torch
            ``Dataset`` of images or (image, label) pairs; by default the embedded digits, or those of the resumed run.
        labelled: likewise, with labels for monitor, knn and probe alone; ``val_fraction`` and ``test_part`` split it.
        encoder: tiny, a torchvision ResNet, ``timm:NAME``, or a module that maps normalised images [N, C, H, W] to
            features [N, D]; it is trained in place. Load such a run with ``contrastkit.load(run, encoder=...)``.
        init_from: starting weights of the encoder (:func:`contrastkit.starting.open_weights`).
        teacher, teacher_encoder: of a distillation, see :func:`contrastkit.teachers.open_teacher`.
        out: the run folder; by default a new one in ``runs/``.
        resume: resume the run in ``out`` with the recipe and options that it records.
        extend: a run, at whose last state the new one goes on, under the schedule of more ``epochs``.
        row: row of the recipe; by default chosen by the images, the encoder and the device.
        stop_after: stop after this many epochs of the schedule.
        reporter: receives log lines and progress; by default both are discarded.
        numbers: fields of the recipe (``tau=0.2``), of its views (``size=96``, or a sequence with a value for each;
            ``views="simclr"`` names a row), and of :class:`contrastkit.training.Options` (``seed=1``).

    Raises:
        UserError: as of :func:`contrastkit.training.plan.plan` and of :func:`launch`, or an unknown field.
    """
    module = encoder if isinstance(encoder, nn.Module) else None
    given = _as_options({n: numbers.pop(n) for n in OPTIONS if n in numbers} | {"data": data, "labelled": labelled})
    if encoder is not None:
        numbers["encoder"] = encoder if module is None else f"module:{type(module).__name__}"
    _require_known(method, numbers)
    chosen = plan(
        method,
        given,
        change=replaced(numbers),
        encoder=numbers.get("encoder"),
        row=row,
        out=_path(out),
        resume=resume,
        extend=_path(extend),
        init_from=None if init_from is None else str(init_from),
        teacher=(None if teacher is None else str(teacher), teacher_encoder),
        data=_open(data, given, split=labelled is None),
        labelled=_open(labelled, given),
    )
    return launch(chosen, stop_after=stop_after, reporter=reporter, encoder=module)


def _as_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the fields of :class:`Options` have them; sets that no path names are left out."""
    kinds: dict[str, Callable[[Any], Any]] = {"data": str, "labelled": str, "data_dir": local_path, "device": str}
    kept = {k: v for k, v in given.items() if k not in ("data", "labelled") or isinstance(v, str | Path)}
    return {name: kinds[name](value) if name in kinds else value for name, value in kept.items()}


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else local_path(path)


def _open(data: Data, given: Mapping[str, Any], *, split: bool = True) -> DataSet | None:
    """The data set that a program hands over; None for a name or a path, which the plan opens."""
    if data is None or isinstance(data, str | Path):
        return None
    if isinstance(data, DataSet):
        return data
    return open_dataset(data, val_fraction=given.get("val_fraction") if split else None, seed=given.get("seed", 0))


def _require_known(method: str, numbers: Mapping[str, Any]) -> None:
    recipe = next(iter(recipes_of(method).values()))
    known = [item.name for kind in (recipe, recipe.view_type) for item in fields(kind)]
    for name in numbers:
        if name not in known:
            raise UserError(f"{method} has no {name}{suggest(name, [*known, *OPTIONS])} (it has {', '.join(known)})")
