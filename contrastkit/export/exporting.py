"""Export the encoder of a run: write it for another library, load it there, and compare the features."""

import importlib.util
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from contrastkit.bounds import SAMPLES
from contrastkit.checkpoint import write_text, write_with
from contrastkit.directories import given_path, local_path
from contrastkit.errors import UserError, check_choice, explain
from contrastkit.export.card import model_card, starting_weights
from contrastkit.export.description import Description
from contrastkit.export.networks import timm_code, torchvision_code, write_network
from contrastkit.export.programs import OPSET, onnx_code, torch_code, write_onnx, write_torch
from contrastkit.export.trained import FILE, TrainedEncoder
from contrastkit.methods.labels import labels_seen

TOLERANCE = 1e-4  # largest difference of a feature, relative to the largest feature: other sums in float32 stay below


@dataclass(frozen=True)
class Target:
    """A library that takes an encoder."""

    library: str  # the module that loads the file
    file: str  # default name, in the run folder
    code: Callable[[TrainedEncoder], str]  # the lines that load FILE; a UserError if there are none
    write: Callable[[TrainedEncoder, Path], None]
    normalises: bool  # whether the file holds the normalisation, or the lines do


TARGETS = {
    "torchvision": Target("torchvision", "encoder-torchvision.safetensors", torchvision_code, write_network, False),
    "timm": Target("timm", "encoder-timm.safetensors", timm_code, write_network, False),
    "torch": Target("torch", "encoder.pt2", torch_code, write_torch, True),
    "onnx": Target("onnxruntime", "encoder.onnx", onnx_code, write_onnx, True),
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Result of :func:`export_encoder`."""

    to: str
    out: Path
    card: Path  # the model card
    description: Description
    labels: str  # what the training saw of them, in words; "" if that is not known
    start: str  # the weights from which the training started; "" for random ones
    parameters: int
    input: str  # name, type, shape and range
    normalised_inside: bool  # otherwise the lines of code normalise
    opset: int | None  # of ONNX
    difference: float | None  # largest absolute one from the encoder's own features; None: not compared
    largest: float  # feature, by absolute value, among those compared
    code: str  # loads the file, and encodes ``images`` or ``sounds``
    notices: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"out": str(self.out), "card": str(self.card)}
        return {name: value for name, value in values.items() if name != "notices"}


def export_encoder(
    run: str | Path,
    *,
    to: str,
    out: str | Path | None = None,
    size: Annotated[int | None, SAMPLES] = None,
    encoder: nn.Module | None = None,
) -> Exported:
    """Write a run's encoder in a form that needs no contrastkit, and a model card beside it.

    What is written is first loaded by the very lines that are returned, and must give the encoder's own features. An
    unfinished run gives the encoder of its last checkpoint.

    Args:
        run: the run folder.
        to: "torchvision" or "timm": weights under their names; "torch": an archive of torch.export; "onnx".
        out: the file; None is one in the run folder. The card is called the same, with ".md" behind.
        size: side of the images in pixels, or length of sounds in samples; None is as trained. A program takes this
            size only, a vision transformer's positions are resampled to it.
        encoder: for a run that trained a module, one of the same architecture; its weights are overwritten.

    Raises:
        UserError: no run, no checkpoint yet, an encoder that the library cannot have, missing packages, features that
            differ, or files that cannot be written.
    """
    check_choice("target", to, TARGETS)
    trained, target = TrainedEncoder.open(given_path(run), size=size, module=encoder), TARGETS[to]
    out = trained.path / target.file if out is None else local_path(out)
    if out.exists() and not out.is_file():
        raise UserError(f"{out} is no regular file: give one with --out, for the encoder and a card beside it")
    code = target.code(trained)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / out.name
        target.write(trained, file)
        difference, largest = _compare(target, trained, code.replace(FILE, repr(str(file))))
        exported = Exported(
            to=to,
            out=out,
            card=out.with_name(f"{out.name}.md"),
            description=trained.description,
            labels=labels_seen(trained.record, trained.path),
            start=starting_weights(trained.record),
            parameters=sum(p.numel() for p in trained.encoder.parameters()),
            input=f"{trained.input}: {trained.input_text}",
            normalised_inside=target.normalises,
            opset=OPSET if to == "onnx" else None,
            difference=difference,
            largest=largest,
            code=code.replace(FILE, repr(str(out))),
            notices=_notices(trained, target, compared=difference is not None),
        )
        _place(file, exported, model_card(trained, exported, code.replace(FILE, repr(out.name))))
    return exported


def _compare(target: Target, trained: TrainedEncoder, code: str) -> tuple[float | None, float]:
    """Run the lines that load the file, on three random examples.

    Returns:
        The largest difference from the encoder's own features, None where the library is not installed; and the
        largest of these features.

    Raises:
        UserError: the file cannot be loaded, or its features are others.
    """
    examples = trained.examples(3)
    own = trained.features(examples)
    largest = own.abs().max().item()
    if importlib.util.find_spec(target.library) is None:
        return None, largest
    names: dict[str, Any] = {trained.input: examples.numpy() if target.library == "onnxruntime" else examples}
    try:
        with torch.no_grad():
            exec(compile(code, f"<{target.library}>", "exec"), names)
    except Exception as error:  # each library has classes of its own
        if explain(error) is not None:
            raise
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{target.library} cannot load {trained.record.encoder['name']}: {first}") from error
    features = torch.as_tensor(names["features"])
    difference = (features - own).abs().max().item() if features.shape == own.shape else math.inf
    if not difference <= TOLERANCE * max(1.0, largest):
        raise UserError(
            f"the features of {target.library} differ from the encoder's own by up to {difference:.2g} (the largest is "
            f"{largest:.2g}): nothing is written; use another --to"
        )
    return difference, largest


def _notices(trained: TrainedEncoder, target: Target, *, compared: bool) -> tuple[str, ...]:
    notices = []
    if not trained.finished:
        notices.append(
            f"{trained.path} is not finished: this is its encoder after step {trained.step}"
            + (f", epoch {trained.epoch} of {trained.record.recipe['epochs']}" if trained.epoch is not None else "")
        )
    if not compared:
        notices.append(f"not compared with the encoder's own features: pip install {target.library}")
    return tuple(notices)


def _place(file: Path, exported: Exported, card: str) -> None:
    """Copy the file to its place and write the card beside it.

    Raises:
        UserError: one cannot be written.
    """
    for path, write in (
        (exported.out, lambda path: write_with(path, lambda temporary: shutil.copyfile(file, temporary))),
        (exported.card, lambda path: write_text(path, card)),
    ):
        try:
            write(path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}; choose another place with --out") from error
