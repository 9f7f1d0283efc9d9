"""What methods that learn from labels share: a classifier of the images of one or several environments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.parts.heads import Tower
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.types import Batch, Memory

WEIGHT = "online.head.weight"  # of the last layer, in the state of a run


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(Recipe):
    """Hyper-parameters of a training with labels, on a single view."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_module: ClassVar[bool] = False  # whose classifier no file could describe
    learns_from_labels: ClassVar[bool] = True
    needs_environments: ClassVar[bool] = True

    def check(self, source: Source) -> None:
        """Also that every image has a label and, if the loss asks for it, an environment."""
        super().check(source)
        labels = torch.full((len(source),), -1) if source.labels is None else source.labels
        if missing := int((labels < 0).sum()):
            raise UserError(
                f"{missing:,} of the {len(source):,} images of {source.name} have no label, from which this method "
                "learns: put them in one folder per class, or take them out"
            )
        if len(labels.unique()) < 2:
            raise UserError(f"all images of {source.name} have the same label: give images of at least two classes")
        environments = source.environment_codes
        if self.needs_environments and environments is None:
            raise UserError(
                f"{source.name} does not say what environment an image is of, from which this method learns: give "
                "folders as DIR/ENVIRONMENT/CLASS, an .npz with an array environment, or use erm"
            )
        if self.needs_environments and environments is not None and len(environments.unique()) < 2:
            raise UserError(f"all images of {source.name} are of one environment: give at least two, or use erm")

    @classmethod
    def like(cls, row: "SupervisedRecipe", **numbers: Any) -> Self:
        """The numbers of another method's row, and others that only this one has."""
        return cls(**{item.name: getattr(row, item.name) for item in fields(row)}, **numbers)

    def known_from(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"n_classes": rows_of(state, WEIGHT)}


@dataclass(frozen=True)
class Outputs:
    """Of the images of all processes, in rank order."""

    features: Tensor  # float32 [N, D], detached
    logits: Tensor  # float32 [N, C]; their gradient reaches the process that has made them
    losses: Tensor  # float32 [N], cross-entropy of each image
    y: Tensor  # int64 [N]
    index: Tensor  # int64 [N]

    @property
    def top1(self) -> Tensor:
        return (self.logits.argmax(1) == self.y).float().mean()


class Supervised(Method[Memory]):
    """A classifier, ``online``: an encoder and a linear layer for the classes. The loss is one of all images of a
    batch, so every process computes it from the logits of all."""

    labels: Tensor | None  # int64 [images]
    environments: Tensor | None  # int64 [images]

    def __init__(self, recipe: SupervisedRecipe, context: BuildContext) -> None:
        super().__init__()
        if context.n_classes is None:
            raise UserError("this method learns from labels: give labelled images")
        encoder = recipe.build_encoder(context)
        self.n_classes, self.n_environments = context.n_classes, context.n_environments or 1
        self.online = Tower(encoder, nn.Linear(encoder.dim, context.n_classes))
        self.register_buffer("labels", context.labels, persistent=False)
        self.register_buffer("environments", context.environments, persistent=False)
        sync_batch_norm(self.online, context.world)

    def outputs(self, batch: Batch) -> Outputs:
        """Encode and classify a batch."""
        (x,) = batch.views
        f = self.online.encoder(x)
        logits = dist.gather_keys(self.online.head(f).float())
        index = dist.gather(batch.index)
        assert self.labels is not None
        y = self.labels[index]
        losses = F.cross_entropy(logits, y, reduction="none")
        return Outputs(dist.gather(f.detach().float()), logits, losses, y, index)

    @property
    def compiled(self) -> Sequence[nn.Module]:
        """The encoder, whose features are of use besides its logits."""
        return [self.online.encoder]

    @property
    def can_collapse(self) -> bool:
        return False

    @property
    def chance_loss(self) -> float | None:
        return log(self.n_classes)


def rows_of(state: Mapping[str, Tensor], name: str) -> int:
    """How many rows a tensor of a state has.

    Raises:
        ValueError: there is none of that name: the state is of another method.
    """
    if name not in state:
        raise ValueError(f"no {name}")
    return len(state[name])


def group_means(values: Tensor, group: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The means of values, floating [N], over the images of each of n groups, 0 of one without images; and how many
    images each has; both [n]."""
    member = F.one_hot(group, n).to(values.dtype)  # a product sums in a fixed order, a scatter does not
    counts = member.sum(0)
    return values @ member / counts.clamp(min=1), counts
