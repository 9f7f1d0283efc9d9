"""What a method is built for."""

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from contrastkit import dist
from contrastkit.data.captions import Captions
from contrastkit.data.source import Source
from contrastkit.parts.teacher import Teacher
from contrastkit.parts.tokenizer import Tokenizer
from contrastkit.parts.weights import Weights


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What a method is built for: the images, and the processes that share the work."""

    channels: int
    size: int  # side in pixels of the images on which the encoder will be evaluated
    modalities: tuple[int, ...] = ()  # channels of each modality of an aligned set
    images: int  # number of training images: the length of a memory bank
    world: int = 1
    seed: int = 0
    encoder: nn.Module | None = None  # trained instead of an encoder built by name
    weights: Weights | None = None  # from which the encoder starts
    captions: Captions | None = None  # of the training images
    tokenizer: Tokenizer | None = None  # of a run that is there; None where a vocabulary is still to be made
    teacher: Teacher | None = None  # of a distillation
    # For methods that learn from labels alone:
    labels: Tensor | None = None  # int64 [images], -1 where an image has none
    n_classes: int | None = None
    environments: Tensor | None = None  # int64 [images], from 0; None where they are not known
    n_environments: int | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        size: int,
        *,
        seed: int = 0,
        encoder: nn.Module | None = None,
        weights: Weights | None = None,
        tokenizer: Tokenizer | None = None,
        teacher: Teacher | None = None,
        labelled: bool = False,
    ) -> Self:
        """The context of a training on ``source`` by the processes that have joined; ``labelled``: of one that learns
        from labels."""
        return cls(
            channels=source.channels,
            size=size,
            modalities=tuple((source.modalities or {}).values()),
            images=len(source),
            world=dist.world_size(),
            seed=seed,
            encoder=encoder,
            weights=weights,
            captions=source.captions,
            tokenizer=tokenizer,
            teacher=teacher,
            **(_labels(source) if labelled else {}),
        )


def _labels(source: Source) -> dict[str, Any]:
    labels, environments = source.labels, source.environment_codes
    n_classes = None if labels is None else len(source.classes or ()) or int(labels.max()) + 1
    n_environments = None if environments is None else int(environments.max()) + 1
    known = {"labels": labels, "environments": environments}
    return known | {"n_classes": n_classes, "n_environments": n_environments}
