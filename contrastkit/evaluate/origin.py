"""What made the features in a file: they are used again only for the same encoder and the same images."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from contrastkit import schema
from contrastkit.data import Source
from contrastkit.data.encoded import EncodedSource
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.parts.encoder import PatchEncoder
from contrastkit.record import json_value

PIXELS = "pixels"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The encoder and the images of an embedding.

    Attributes:
        data: name of the data set.
        encoder: name of the encoder.
        weights: 16 hexadecimal digits of the encoder's weights (:func:`encoder_hash`), or "pixels".
        size: side of the images that it saw, in pixels; length of sounds in samples.
        reading: how files became images, in words.
        parts: fingerprint (:meth:`Source.fingerprint`) of each part of the data set that was embedded, in order.
    """

    data: str
    encoder: str
    weights: str
    size: int
    reading: str
    parts: dict[str, str]

    @classmethod
    def of(cls, subject: EvaluationSubject, encoder: str, sources: Mapping[str, Source]) -> "Origin":
        """That of features of these parts of the subject's data set by the encoder of that name."""
        return cls(
            data=subject.data.name,
            encoder=encoder,
            weights=encoder_hash(subject.encoders[encoder]),
            size=subject.size,
            reading=" and ".join(dict.fromkeys(map(_reading, sources.values()))),
            parts={name: source.fingerprint() for name, source in sources.items()},
        )

    @classmethod
    def from_json(cls, text: str, file: Path) -> "Origin":
        """
        Raises:
            UserError: the text, from ``file``, is damaged.
        """
        with schema.reading(file):
            return schema.instance(cls, json_value(text), "origin")

    def text(self) -> str:
        return json.dumps(asdict(self))

    def require(self, now: "Origin", sources: Mapping[str, Source], file: Path) -> None:
        """Check that the features in ``file``, whose origin this is, are those that ``now`` would make of the same
        parts, which are ``sources``.

        Raises:
            UserError: they are not; the message says in what they differ.
        """
        again = "embed again with 'contrastkit embed', or drop --features"
        if self.weights != now.weights:
            raise UserError(f"{file} has features by {self.encoder}, another encoder than {now.encoder}: {again}")
        for mine, own in ((f"{self.size} px", f"{now.size} px"), (self.reading, now.reading)):
            if mine != own:
                raise UserError(f"{file} has features of images {mine}, not {own}: {again}")
        for part, fingerprint in self.parts.items():
            if what := sources[part].changed_since(fingerprint):
                raise UserError(f"{file} was made of other data: {now.data} has {what} in its {part} part; {again}")


def _reading(source: Source) -> str:
    if not isinstance(source, EncodedSource):
        return "as they are"
    return f"on {source.reading.background}{', stretched' if source.reading.stretch else ''}"


def encoder_hash(encoder: nn.Module | None) -> str:
    """16 hexadecimal digits of the SHA-256 of an encoder's parameters and buffers; "pixels" for None."""
    if encoder is None:
        return PIXELS
    known = hashlib.sha256()
    if isinstance(encoder, PatchEncoder):  # the same weights see other patches
        known.update(f"{encoder.patch}/{encoder.stride}".encode())
    for name, value in sorted(encoder.state_dict().items()):
        known.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        known.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return known.hexdigest()[:16]
