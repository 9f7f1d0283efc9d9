"""What an encoder is, what it takes, and how it was trained: the metadata of its files."""

import json
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from contrastkit.parts.encoder import Encoder
from contrastkit.record import Record
from contrastkit.version import __version__


@dataclass(frozen=True, kw_only=True)
class Description:
    """A trained encoder in a few values. As the metadata of a file, each is a text: numbers and lists are JSON."""

    architecture: str  # as in --encoder
    stem: str  # see contrastkit.parts.encoder.Encoder
    channels: int
    size: int  # shorter side of the images that it was built for, in pixels; of sounds, length in samples
    mean: list[float]  # of each channel: the network sees (images - mean) / std
    std: list[float]
    features: int
    method: str  # method/row
    data: str  # name of the training set
    images: int  # in the training set
    step: int | None  # steps of training, if known
    encoder: dict[str, Any]  # arguments of contrastkit.parts.build.build_encoder
    contrastkit: str  # version that wrote it

    @classmethod
    def of(cls, encoder: Encoder, record: Record, *, step: int | None, size: int | None = None) -> "Description":
        """``size``: that of the record, unless the encoder has been prepared for another one."""
        return cls(
            architecture=record.encoder["name"],
            stem=encoder.stem,
            channels=encoder.channels,
            size=record.encoder["size"] if size is None else size,
            mean=_values(encoder.mean),
            std=_values(encoder.std),
            features=encoder.dim,
            method=record.name,
            data=record.data.name,
            images=record.data.images,
            step=step,
            encoder=record.encoder,
            contrastkit=__version__,
        )

    def metadata(self) -> dict[str, str]:
        """The values as texts, without those that are not known; "format" is what Hugging Face's readers look for."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"format": "pt"} | {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if value is not None
        }


def _values(statistic: Tensor) -> list[float]:
    """The shortest decimals that are these float32 values: 0.485, not 0.48500001430511475."""
    return [float(str(value)) for value in statistic.flatten().cpu().numpy()]
