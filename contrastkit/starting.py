"""Weights from elsewhere: what ``--init-from`` takes, and an encoder by name that has such weights or none."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from contrastkit.directories import given_path
from contrastkit.errors import UserError, listed
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.open_clip import OPEN_CLIP, open_clip_weights
from contrastkit.parts.published import PUBLISHED, published_size, published_weights
from contrastkit.parts.weights import SHOWN, Weights, read_weights
from contrastkit.run import ENCODER, Run

RAW = "pixels"  # as --encoder: no network


def open_weights(source: str) -> Weights:
    """Starting weights for an encoder.

    Args:
        source: a run folder, whose encoder is taken, of its last checkpoint if it is unfinished;
            a file, see :func:`contrastkit.parts.weights.read_weights`;
            ``pretrained:NAME``, a torchvision model or ``timm:NAME``;
            or ``open_clip:MODEL/PRETRAINED``, of which clip takes the text tower too.

    Raises:
        UserError: no such source, no checkpoint yet, or nothing readable.
    """
    if source.startswith(PUBLISHED):
        return published_weights(source.removeprefix(PUBLISHED))
    if source.startswith(OPEN_CLIP):
        return open_clip_weights(source.removeprefix(OPEN_CLIP))
    path = given_path(source)
    if not path.is_dir():
        return read_weights(path)
    run = Run.open(path)
    encoder = run.record.encoder
    file = next((file for file in (run.path / ENCODER, run.last) if file.exists()), None)
    if file is None:
        raise UserError(f"{path} has saved no weights yet: wait for its first checkpoint, or resume it")
    weights = read_weights(file)
    return replace(weights, encoder=encoder["name"], size=encoder["size"])


def require_one(
    what: str, run: str | Path | None, encoder: str | None, *, pretrained: bool, init_from: str | None
) -> None:
    """Check that a run is given or an encoder by name.

    Args:
        what: is done with it, for the message.

    Raises:
        UserError: neither, both, or weights for no network.
    """
    if run is None and encoder is None and init_from is None:
        raise UserError(f"nothing to {what}: give a run folder, --encoder NAME, or --init-from FILE")
    if run is not None and (encoder is not None or pretrained or init_from is not None):
        raise UserError(
            "give a run folder or --encoder, not both; --pretrained and --init-from give --encoder its weights"
        )
    if encoder == RAW and (pretrained or init_from is not None):
        option = "--pretrained" if pretrained else "--init-from"
        raise UserError(f"{option} applies to --encoder with the name of a network: drop it")


@dataclass(frozen=True, kw_only=True)
class NamedEncoder:
    """An encoder by name instead of that of a run: untrained, with its published weights, or with others.

    Attributes:
        name: of :func:`contrastkit.parts.build.build_encoder`.
        pretrained: whether it has its published weights.
        source: of other weights, as the user has named it.
        weights: these; None if there are none.
    """

    name: str
    pretrained: bool = False
    source: str = ""
    weights: Weights | None = None

    @classmethod
    def of(cls, name: str | None, *, pretrained: bool, init_from: str | None) -> "NamedEncoder":
        """
        Args:
            name: None is what ``init_from`` says.
            init_from: see :func:`open_weights`.

        Raises:
            UserError: no name, two sources of weights, or see :func:`open_weights`.
        """
        if init_from is not None and pretrained:
            raise UserError("--pretrained and --init-from both give weights: drop one of them")
        if init_from is not None and init_from.startswith(PUBLISHED):
            published = init_from.removeprefix(PUBLISHED)
            if name not in (None, published):
                raise UserError(f"--init-from {init_from} is not of --encoder {name}: drop one of them")
            return cls(name=published, pretrained=True)
        weights = None if init_from is None else open_weights(init_from)
        if name is None:
            name = None if weights is None else weights.encoder
        if name is None:
            raise UserError(f"{init_from} does not say of which network it is: name it with --encoder")
        return cls(name=name, pretrained=pretrained, source=init_from or "", weights=weights)

    @property
    def trained(self) -> bool:
        return self.pretrained or self.weights is not None

    @property
    def label(self) -> str:
        """Its name in results."""
        if self.weights is not None:
            return f"{self.name}, weights of {self.source}"
        return f"{self.name}, {'its published weights' if self.pretrained else 'untrained'}"

    @property
    def size(self) -> int | None:
        """Side in pixels of the images that its weights were trained on, if that is known."""
        if self.pretrained:
            return published_size(self.name)
        return None if self.weights is None else self.weights.size

    def build(self, *, channels: int, size: int, seed: int) -> tuple[Encoder, tuple[str, ...]]:
        """The encoder, and what it took from its weights, one line each.

        Args:
            channels, size: of :func:`contrastkit.parts.build.build_encoder`.
            seed: of random weights.

        Raises:
            UserError: see there, weights that do not fit, or some that are not there and would stay random.
        """
        torch.manual_seed(seed)
        encoder = build_encoder(self.name, channels=channels, size=size, pretrained=self.pretrained)
        if self.weights is None:
            return encoder, ()
        match = self.weights.match(encoder)
        if missing := [name for name in match.record.missing if not name.endswith("num_batches_tracked")]:
            raise UserError(
                f"{self.source} lacks {len(missing)} tensors of {self.name}, which would stay random "
                f"({listed(missing, SHOWN)}): give the weights of the whole network"
            )
        encoder.load_state_dict(match.state, strict=False)
        return encoder, tuple(match.record.lines)
