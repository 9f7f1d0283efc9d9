"""Starting weights: tensors from elsewhere, matched with those of an encoder by name and shape."""

import argparse
import hashlib
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from contrastkit.checkpoint import require_stored
from contrastkit.directories import require_file
from contrastkit.errors import UserError, explain, listed
from contrastkit.parts.build import ProjectedTrunk
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.naming import TIMM, best_naming, flattened

NORMALISATION = ("mean", "std")  # buffers of an encoder
Numbers = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of the channels
SHOWN = 4  # names in a message


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """What a run took from starting weights."""

    source: str  # the absolute path, or pretrained:NAME
    sha256: str  # of the file; of published weights, of their tensors
    naming: str  # whose names its tensors have
    tensors: int  # in the source
    taken: int
    left_out: list[str]  # of the source: names, or whole modules as NAME.*
    missing: list[str]  # of the encoder: these start as without weights
    mean: list[float]  # for each channel, with which the encoder normalises its images
    std: list[float]
    normalisation: str  # where mean and std come from
    size: int | None  # side in pixels of the images that they were trained on, if known
    positions: list[int] | None  # tokens of a transformer's positions that were resampled, before and after

    @property
    def lines(self) -> list[str]:
        """What was taken, and how images are normalised, for the log."""
        left_out, missing = (listed(names, SHOWN) or "nothing" for names in (self.left_out, self.missing))
        mean, std = (", ".join(f"{value:.4g}" for value in dict.fromkeys(each)) for each in (self.mean, self.std))
        lines = [
            f"starting weights: {self.taken} of the {self.tensors} tensors of {self.source} ({self.naming}'s names); "
            f"left out {left_out}; not in it {missing}",
            f"images are normalised by {self.normalisation}: mean {mean}, std {std}"
            + (f"; the weights are for images of {self.size} px" if self.size else ""),
        ]
        if self.positions is not None:
            lines.append(f"positions resampled from {self.positions[0]} to {self.positions[1]} patches")
        return lines


class Match(NamedTuple):
    """The part of starting weights that an encoder takes."""

    state: dict[str, Tensor]  # under the encoder's names, in its shapes
    record: WeightsRecord


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """Starting weights for an encoder, under the names of their source.

    Attributes:
        source: the absolute path, or pretrained:NAME.
        tensors: in the file, by name.
        sha256: see :class:`WeightsRecord`.
        encoder: name of the network whose they are, if known.
        size: side in pixels of the images that they were trained on, if known.
        normalisation: mean and standard deviation of the channels, each one number or one a channel, if the source has
            them outside its tensors.
        beside: of a whole CLIP, the tensors beside the encoder's, under the names of the method.
        tokenizer: its vocabulary, the contents of tokenizer.json.
        numbers: the hyper-parameters of its recipe that these need.
        option: that names the network, for messages.
    """

    source: str
    tensors: Mapping[str, Tensor]
    sha256: str
    encoder: str | None = None
    size: int | None = None
    normalisation: Numbers | None = None
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    tokenizer: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    option: str = "--encoder"

    def match(self, encoder: Encoder) -> Match:
        """What this encoder takes, by the naming of :data:`contrastkit.parts.naming.NAMINGS` that fits best.

        A vision transformer's learned positions are resampled to its grid (timm's ``resample_abs_pos_embed``).

        Raises:
            UserError: nothing fits, a tensor has another shape, or a value is not finite.
        """
        ours = encoder.state_dict()
        naming, names = best_naming(self.tensors, ours, _prefixes(encoder))
        if not names.keys() - set(NORMALISATION):
            raise UserError(
                f"nothing in {self.source} fits the encoder: the file has {listed(list(self.tensors), SHOWN)}, the "
                f"encoder {listed(_without_trunk(ours), SHOWN)}: {self._advice}"
            )
        state = {name: self.tensors[theirs] for name, theirs in names.items()}
        positions = _resample_positions(state, encoder)
        self._require_shapes(state, ours, names, encoder)
        if bad := [names[name] for name, value in state.items() if not value.isfinite().all()]:
            raise UserError(f"{self.source} has values that are not finite, in {listed(bad, SHOWN)}: use other weights")
        normalisation = self._normalise(state, ours, _timms_numbers(encoder) if naming == TIMM else None)
        mean, std = (state.get(name, ours[name]).flatten().tolist() for name in NORMALISATION)
        record = WeightsRecord(
            source=self.source,
            sha256=self.sha256,
            naming=naming,
            tensors=len(self.tensors),
            taken=len(names),
            left_out=_left_out(self.tensors, names),
            missing=_without_trunk([name for name in ours if name not in {*state, *NORMALISATION}]),
            mean=mean,
            std=std,
            normalisation=normalisation,
            size=self.size,
            positions=positions,
        )
        return Match(state, record)

    def _normalise(self, state: dict[str, Tensor], ours: Mapping[str, Tensor], usual: Numbers | None) -> str:
        """Put mean and standard deviation into ``state`` unless they are there, the ``usual`` ones if the source has
        none; return where they come from."""
        if all(name in state for name in NORMALISATION):
            return "its own numbers"
        numbers = self.normalisation or usual
        if numbers is None:
            return "ImageNet's numbers, as it has none" if ours["mean"].numel() == 3 else "0.5 and 0.25, as it has none"
        for name, values in zip(NORMALISATION, numbers, strict=True):
            if len(values) not in (1, ours[name].numel()):
                raise UserError(f"{self.source} has {name} for {len(values)} channels, not {ours[name].numel()}")
            state[name] = torch.tensor(values).view(1, -1, 1, 1).expand_as(ours[name])
        return "its own numbers" if self.normalisation else "timm's numbers for this network, as it has none"

    def _require_shapes(
        self, state: Mapping[str, Tensor], ours: Mapping[str, Tensor], names: Mapping[str, str], encoder: Encoder
    ) -> None:
        """
        Raises:
            UserError: naming the first tensor whose shape differs, with both shapes and the likely reason.
        """
        differing = [name for name in ours if name in state and state[name].shape != ours[name].shape]
        differing.sort(key=lambda name: name in NORMALISATION)
        if not differing:
            return
        name = differing[0]
        theirs, own = list(state[name].shape), list(ours[name].shape)
        raise UserError(
            f"{self.source} does not fit the encoder: {names[name]} is {theirs} in the file, {own} in the encoder"
            + (f", and {len(differing) - 1} more differ" if len(differing) > 1 else "")
            + f": {_reason(theirs, own, encoder) or self._advice}"
        )

    @property
    def _advice(self) -> str:
        given = self.encoder
        return f"choose the {self.option} that it is of" if given is None else f"give {self.option} {given}"


def read_weights(path: Path) -> Weights:
    """The weights in a file: of safetensors, whose metadata may give mean, std and size, or of ``torch.save``: a state
    dict, or a checkpoint with one in it. No code of the file is run.

    Raises:
        UserError: it cannot be read, or has no tensors.
    """
    require_file(
        path, "; --init-from takes a run folder, a file of weights, pretrained:NAME, or open_clip:MODEL/PRETRAINED"
    )
    tensors, metadata = _read_safetensors(path) if is_safetensors(path) else (_read_torch(path), {})
    if not tensors:
        raise UserError(f"{path} has no tensors: give a file of weights")
    mean, std = (_numbers(metadata.get(name, "")) for name in NORMALISATION)
    size = _numbers(metadata.get("size", ""))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(
        source=str(path.resolve()),
        tensors=tensors,
        sha256=sha256,
        size=int(size[-1]) if size else None,
        normalisation=(mean, std) if mean and std else None,
    )


def is_safetensors(path: Path) -> bool:
    """By the first byte of the header, a JSON object, behind its length; the names of files vary."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(path):
            require_stored(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # of options, in DINO's and MAE's checkpoints
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        if explain(error) is not None:
            raise
        if kind := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} has objects besides tensors ({kind[1]}), which could run code: save the state dict alone"
            ) from error
        raise UserError(f"{path} is no readable file of weights (truncated, or of another program)") from error
    return dict(flattened(state)) if isinstance(state, Mapping) else {}


def _numbers(text: str) -> list[float]:
    """The numbers in a value of a file's metadata, as in "0.5", "0.485, 0.456, 0.406" or "[3, 224, 224]"."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d*)?(?:e-?\d+)?", text)]


def _prefixes(encoder: Encoder) -> list[str]:
    """Before the names of the network in those of the encoder: behind each projector layer one more."""
    prefixes, trunk = ["trunk."], encoder.trunk
    while isinstance(trunk, ProjectedTrunk):
        prefixes.append(prefixes[-1] + "0.")
        trunk = trunk[0]
    return prefixes


def _timms_numbers(encoder: Encoder) -> Numbers | None:
    """Those of the published weights of a timm model, if they are for as many channels; None of another network."""
    config: Any = getattr(encoder.trunk, "pretrained_cfg", None)
    return (config["mean"], config["std"]) if config and len(config["mean"]) == encoder.channels else None


def _without_trunk(names: Any) -> list[str]:
    return [name.removeprefix("trunk.") for name in names if name not in NORMALISATION]


def _left_out(theirs: Mapping[str, Tensor], names: Mapping[str, str]) -> list[str]:
    """The tensors of a file that are not taken: by name, or whole modules of which nothing is taken as NAME.*."""
    taken = set(names.values())
    modules = {name[: point.start()] for name in taken for point in re.finditer(r"\.", name)}  # of what is taken
    rest: dict[str, None] = {}
    for name in (name for name in theirs if name not in taken):
        ends = [point.start() for point in re.finditer(r"\.", name)]
        other = next((name[:end] for end in ends[:-1] if name[:end] not in modules), None)
        rest[name if other is None else f"{other}.*"] = None
    return list(rest)


def _resample_positions(state: dict[str, Tensor], encoder: Encoder) -> list[int] | None:
    """Resample learned positions of another grid in ``state``; return the number of patches before and after."""
    trunk: Any = encoder.trunk
    theirs, ours = state.get("trunk.pos_embed"), getattr(trunk, "pos_embed", None)
    grid = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    if theirs is None or ours is None or grid is None or theirs.shape == ours.shape or theirs.ndim != 3:
        return None
    prefix = ours.shape[1] - math.prod(grid)  # class and register tokens
    patches = theirs.shape[1] - prefix
    if theirs.shape[2] != ours.shape[2] or patches < 1 or math.isqrt(patches) ** 2 != patches:
        return None
    from timm.layers import resample_abs_pos_embed

    state["trunk.pos_embed"] = resample_abs_pos_embed(theirs, list(grid), num_prefix_tokens=prefix)
    return [patches, math.prod(grid)]


def _reason(theirs: list[int], own: list[int], encoder: Encoder) -> str | None:
    """Why a convolution's shape differs, and what to do; None if only another architecture explains it."""
    if len(theirs) != 4 or len(own) != 4 or theirs[0] != own[0]:
        return None
    if theirs[2:] != own[2:] and encoder.stem in ("3x3", "7x7") and own[1] == encoder.channels:
        views = (
            "of more than 64 px, which get the 7x7" if encoder.stem == "3x3" else "of at most 64 px, which get the 3x3"
        )
        return f"a stem of {theirs[2]}x{theirs[3]} against one of {encoder.stem}: choose a --size {views} stem"
    if theirs[1] != own[1] and own[1] == encoder.channels:
        return f"weights for {theirs[1]} channel(s), images of {own[1]}"
    return None
