"""Load a run's encoder, or its whole method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from contrastkit import schema
from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError
from contrastkit.methods import BuildContext, Method
from contrastkit.methods.clip import CLIP
from contrastkit.methods.rows import recipes_of
from contrastkit.names import is_file, split_name
from contrastkit.parts.build import build_encoder, wrap_encoder
from contrastkit.parts.encoder import Encoder, WaveEncoder
from contrastkit.parts.joint import ImageTextEncoder
from contrastkit.parts.teacher import Teacher
from contrastkit.parts.tokenizer import Tokenizer
from contrastkit.record import Record
from contrastkit.run import ENCODER, RECIPE, TEXT, TOKENIZER, Run

SLACK = 1e-3  # of resizing and of half precision


def load(path: str | Path, *, encoder: nn.Module | None = None) -> Encoder:
    """Load the encoder of a run, in eval mode on the CPU: ``features = load("runs/demo")(images)``.

    It takes images [N, channels, H, W], float in [0, 1], and normalises them itself; others are refused (on a GPU only
    the first call looks at the values, and none while torch compiles or exports). An unfinished run gives the encoder
    of its last checkpoint. That of a run of clip is an :class:`contrastkit.parts.joint.ImageTextEncoder`: it has
    ``.image(images)`` and ``.text(["a red plane", ...])``, too.

    Args:
        path: the run folder.
        encoder: for a run that trained a module, one of the same architecture; its weights are overwritten.

    Raises:
        UserError: no run in the folder, no checkpoint yet, or weights that do not fit.
    """
    run = Run.open(given_path(path))
    has_texts = (run.path / TOKENIZER).is_file()
    loaded = load_image_text(run, run.record, encoder) if has_texts else load_encoder(run, run.record, encoder)
    loaded.register_forward_pre_hook(_RangeCheck(), with_kwargs=True)
    return loaded


def load_encoder(run: Run, record: Record, module: nn.Module | None = None) -> Encoder:
    """:func:`load` for an open run and its record."""
    options = record.encoder
    module = _module_of(run, options["name"], module, call="contrastkit.load")
    if module is None:
        encoder = build_encoder(**options)
    else:
        encoder = wrap_encoder(module, channels=options["channels"], size=options["size"])
    if (run.path / ENCODER).exists():
        state = _weights(run.path / ENCODER)
    else:
        prefix = "online.encoder."
        state = {k.removeprefix(prefix): v for k, v in run.load().method.items() if k.startswith(prefix)}
    with run.restoring():
        encoder.load_state_dict(state)
    return encoder.eval()


def unfinished(run: Run, record: Record) -> tuple[str, ...]:
    """A line on a run whose encoder is that of its last checkpoint; none on a finished one."""
    if (run.path / ENCODER).exists():
        return ()
    steps = record.recipe["epochs"] * (record.data.images // record.recipe["batch"])
    return (f"the run is unfinished: step {run.load().step:,} of {steps:,}",)


def load_image_text(run: Run, record: Record, module: nn.Module | None = None) -> ImageTextEncoder:
    """:func:`load` for an open run of clip and its record.

    Raises:
        UserError: it is a run of another method.
    """
    method = _built(run, record, record.name, module, call="contrastkit.load")
    if not isinstance(method, CLIP):
        raise UserError(f"{run.path} was trained with {record.name}, which learns no texts")
    if (run.path / ENCODER).exists() and (run.path / TEXT).exists():
        encoder = {f"online.encoder.{name}": value for name, value in _weights(run.path / ENCODER).items()}
        state = encoder | _weights(run.path / TEXT)
    else:
        state = run.load().method
    with run.restoring():
        method.load_state_dict(state)
    joint = ImageTextEncoder(method.online.encoder, method.online.head, method.text, method.tokenizer)
    return joint.eval()


def tokenizer_of(run: Run) -> Tokenizer:
    """The vocabulary of a run of clip.

    Raises:
        UserError: the file is gone, or damaged.
    """
    file = run.path / TOKENIZER
    require_file(file, ": the weights of the run mean nothing without it, restore it")
    with schema.reading(file):
        return Tokenizer(file.read_text("utf-8", "replace"))


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is damaged: {error}") from error


class _RangeCheck:
    """Refuses input of :func:`load`'s encoder that no training has seen: integers, and pixels from 0 to 255."""

    def __init__(self) -> None:
        self._seen_on_gpu = False  # a transfer to the host at every call would make the GPU wait

    def __call__(self, encoder: Encoder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        images = next(iter((*args, *kwargs.values())), None)
        sound = isinstance(encoder, WaveEncoder)
        low, how = (-1, "samples by 32,768") if sound else (0, "pixels by 255")
        if not isinstance(images, Tensor):
            raise UserError(f"the encoder takes a tensor of floats in [{low}, 1], not {type(images).__name__}")
        if not images.is_floating_point():
            raise UserError(f"the encoder takes floats in [{low}, 1], not {images.dtype}: divide {how}")
        if not images.numel() or torch.compiler.is_compiling():  # then tensors have no values
            return
        if images.device.type == "cpu" or not self._seen_on_gpu:
            self._seen_on_gpu = images.device.type != "cpu"
            least, largest = (value.item() for value in images.aminmax())
            if not low - SLACK <= least <= largest <= 1 + SLACK:
                raise UserError(
                    f"the encoder takes values in [{low}, 1], not from {least:.3g} to {largest:.3g}: it normalises "
                    f"them itself; divide {how}"
                )


def load_method(path: str | Path, *, method: str | None = None, encoder: nn.Module | None = None) -> Method[Any]:
    """Load the whole method of a run as last saved, including heads and dictionaries, in eval mode on the CPU.

    Args:
        path: the run folder.
        method: ``path/to/file.py:NAME``, for a run of a method defined in a file; the file is executed.
        encoder: for a run that trained a module, as for :func:`load`.

    Raises:
        UserError: no run in the folder, no checkpoint yet, or weights that do not fit.
    """
    run = Run.open(given_path(path))
    record, state = run.record, run.load().method
    name = record.name
    if is_file(name) and method is None:
        original = split_name(name)[0]
        raise UserError(
            f"{path} was trained with {original}: say where that file is, --method path/to/{original} "
            "(method= in Python)"
        )
    built = _built(run, record, method or name, encoder, call="load_method", state=state)
    with run.restoring():
        built.load_state_dict(state)
    return built.eval()


def _built(
    run: Run,
    record: Record,
    method: str,
    module: nn.Module | None,
    *,
    call: str,
    state: Mapping[str, Tensor] | None = None,
) -> Method[Any]:
    """The method of a run, without its weights; ``state`` has them.

    Raises:
        UserError: the run is of another method.
    """
    recipes = recipes_of(method if is_file(method) else split_name(method)[0] or method)
    if record.name not in recipes:
        raise UserError(f"{run.path} holds a run of {record.name}, not of {method}")
    recorded = record.encoder
    kind = type(recipes[record.name])
    recipe = record.recipe_of(kind, run.path / RECIPE)
    with run.restoring():
        known = {} if state is None else recipe.known_from(state)
    context = BuildContext(
        channels=recorded["channels"],
        modalities=tuple(recorded.get("modalities", ())),
        size=recorded["size"],
        images=record.data.images,
        seed=record.options.seed,
        encoder=_module_of(run, recorded["name"], module, call=call),
        tokenizer=tokenizer_of(run) if kind.learns_from_captions else None,
        teacher=None if record.teacher is None else Teacher.absent(record.teacher),
        **known,
    )
    return recipe.build(context)


def _module_of(run: Run, name: str, module: nn.Module | None, *, call: str) -> nn.Module | None:
    """The module into which to load a run whose encoder has this name; None if the name says how to build it.

    Raises:
        UserError: the run trained a module, and none is given.
    """
    if not name.startswith("module:"):
        return None
    if module is None:
        kind = name.removeprefix("module:")
        raise UserError(f"{run.path} trained a custom module, {kind}: load it with {call}(run, encoder={kind}())")
    return module
