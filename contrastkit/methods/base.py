"""A method looks a query up in a dictionary, against a target, over some views;
``forward`` reads, ``after_step`` writes.

A :class:`Recipe` holds every number of a method, a :class:`Method` the equation. Both are abstract or final: a method's
file has one final subclass of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Generic, Literal, Self

import torch
from torch import Tensor, nn

from contrastkit.augment import View, Window
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.optim import ParamGroup, SchedulePoint, build_optimizer, cosine, learning_rate
from contrastkit.parts.build import SMALL, build_encoder, wrap_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower
from contrastkit.parts.wave import WAVES
from contrastkit.types import Batch, Memory, Modality, Step


class Method(nn.Module, ABC, Generic[Memory]):
    """What is trained. ``online.encoder`` is what remains afterwards. ``Memory`` is what a step writes."""

    online: Tower

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> Step[Memory]:
        """Read: the loss of a batch at ``progress`` in [0, 1]. Nothing but batch-norm statistics is written."""

    def after_step(self, batch: Batch, step: Step[Memory], progress: float) -> None:
        """Write, once ``optimizer.step()`` is done: targets, queues, banks, centres."""

    def embed(self, view: Tensor) -> Tensor:
        """What the loss compares of one view [N, channels, H, W]: float [N, C], not normalised, for the monitor.

        It goes past the tower, which ``--compile`` would compile anew for another batch.
        """
        return self.online.head(self.online.encoder(view))

    def param_groups(self) -> list[ParamGroup]:
        """Which parameters are trained, and how: by default all of ``online``, all decayed."""
        return [ParamGroup(params=list(self.online.parameters()))]

    @property
    def compiled(self) -> Sequence[nn.Module]:
        """What ``--compile`` compiles: by default all towers. Only a module that is called as such can be."""
        return [module for module in self.modules() if isinstance(module, Tower)]

    @property
    def notices(self) -> Sequence[str]:
        """What the user should know of how the recipe meets this data and these processes, a line each."""
        return ()

    @property
    def chance_loss(self) -> float | None:
        """The loss of a method that has learned nothing, e.g. log(K + 1); None if there is no such number."""
        return None


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What a recipe meets: the images, and the processes that share the work."""

    channels: int
    size: int  # pixels, the side of the images that the encoder will be judged on
    modalities: tuple[int, ...] = ()  # channels of each modality of an aligned set
    images: int  # how many there are to train on: the length of a memory bank
    world: int = 1
    seed: int = 0
    encoder: nn.Module | None = None  # to train in place of one that is built by name


BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {  # NaN is within none
    ">= 1": (lambda x: x >= 1, "be at least 1"),
    ">= 2": (lambda x: x >= 2, "be at least 2"),
    "> 0": (lambda x: x > 0, "be above 0"),
    ">= 0": (lambda x: x >= 0, "not be negative"),
    "in [0, 1]": (lambda x: 0 <= x <= 1, "lie in [0, 1]"),
    "in [0, 1)": (lambda x: 0 <= x < 1, "lie in [0, 1)"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """The numbers of a training. Each field is an option of the method's command; its note is the option's help."""

    view_type: ClassVar[type[View] | type[Window]] = View
    takes_module: ClassVar[bool] = True  # whether any module can be its encoder

    encoder: Annotated[str, "tiny, a torchvision ResNet, or timm:NAME"]
    epochs: Annotated[int, "passes over the data"]
    batch: Annotated[int, "images per step, over all processes"]
    optimizer: Annotated[Literal["sgd", "lars", "adamw"], "optimizer"] = "sgd"
    lr: Annotated[float, "peak learning rate, for this batch size"]
    momentum: Annotated[float, "momentum of SGD and LARS"] = 0.9
    weight_decay: Annotated[float, "weight decay"]
    final_weight_decay: Annotated[
        float | None, "final weight decay, reached along a cosine; none keeps it constant"
    ] = None
    trust: Annotated[float, "LARS: trust coefficient"] = 0.001
    trust_clip: Annotated[bool, "LARS: never take a longer step than SGD (the clip of solo-learn and apex)"] = False
    lr_inside_momentum: Annotated[bool, "LARS: put the learning rate inside the momentum (SimCLR's code)"] = False
    schedule: Annotated[Literal["cosine", "step", "constant"], "schedule of the learning rate"] = "cosine"
    milestones: Annotated[tuple[float, ...], "step schedule: fractions of training at which the rate drops"] = (
        0.6,
        0.8,
    )
    gamma: Annotated[float, "step schedule: factor applied at each milestone"] = 0.1
    warmup_epochs: Annotated[float, "epochs of linear warm-up"] = 0.0
    first_lr: Annotated[float, "learning rate at the start of warm-up"] = 0.0
    final_lr: Annotated[float, "learning rate at the end of the cosine"] = 0.0
    lr_per_epoch: Annotated[bool, "update the learning rate once per epoch, not at every step"] = False
    clip_norm: Annotated[float, "clip the gradient to this global norm; 0 disables it"] = 0.0
    views: Annotated[tuple[View | Window, ...], "the augmentation of each view"]

    def __post_init__(self) -> None:
        self.require(">= 1", "epochs", "batch")
        self.require(">= 0", "lr", "first_lr", "final_lr", "weight_decay", "final_weight_decay")
        self.require(">= 0", "warmup_epochs", "clip_norm", "trust")
        self.require("in [0, 1)", "momentum")

    def require(self, bound: str, *names: str) -> None:
        """Check that each of these fields is within ``bound``, a key of :data:`BOUNDS`; None is within all.

        Raises:
            UserError: naming the first field that is not.
        """
        within, words = BOUNDS[bound]
        for name in names:
            if (value := getattr(self, name)) is not None and not within(value):
                raise UserError(f"--{name.replace('_', '-')} must {words}, not {value}")

    @property
    def modality(self) -> Modality:
        """What it learns from."""
        return self.views[0].modalities[0]

    def check(self, source: Source) -> None:
        """That a set is of the kind that it learns from.

        Raises:
            UserError: it is not.
        """
        if len(source) < 2:
            raise UserError(f"{source.name} holds one example: there is nothing to tell it from, give more")
        if source.modality not in self.views[0].modalities:
            what = f"{source.name} holds {source.modality.plural}, this method learns from {self.modality.plural}"
            remedy = "use cpc-audio" if source.modality is Modality.SOUND else "give a folder of .wav files"
            raise UserError(f"{what}: {remedy}")
        if self.modality is not Modality.SOUND and self.encoder in WAVES:
            raise UserError(f"--encoder {self.encoder} is for sounds, this method learns from images")

    @abstractmethod
    def build(self, context: BuildContext) -> Method:
        """The method for these images, on one of these processes.

        Raises:
            UserError: the recipe does not fit them; says what to change.
        """

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        """The arguments of :func:`build_encoder`, here and wherever the run's encoder is loaded."""
        return {"name": self.encoder, "channels": context.channels, "size": context.size}

    def build_encoder(self, context: BuildContext) -> Encoder:
        """The encoder to train: built by its name, or the module that the context holds.

        Raises:
            UserError: it does not fit the images, or this method makes its encoder itself and takes no module.
        """
        if context.encoder is None:
            return build_encoder(**self.encoder_options(context))
        if not self.takes_module:
            raise UserError("this method makes its encoder of several parts: name one, it takes no module")
        return wrap_encoder(context.encoder, channels=context.channels, size=context.size)

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> Self:
        """The recipe that recipe.json holds: lists become tuples, dicts become views.

        Raises:
            UserError: a field is missing, or a value is out of its bounds.
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name not in numbers:
                raise UserError(f"recipe.json has no {item.name}: it was written by another version, or is damaged")
            value = numbers[item.name]
            if item.name == "views":
                value = tuple(cls.view_type(**view) for view in value)
            values[item.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def schedule_at(self, progress: float) -> SchedulePoint:
        """Learning rate, weight decay and clipping at ``progress`` in [0, 1]."""
        decay = self.final_weight_decay
        return SchedulePoint(
            lr=learning_rate(
                progress,
                schedule=self.schedule,
                base_lr=self.lr,
                warmup=self.warmup_epochs / self.epochs,
                first=self.first_lr,
                final=self.final_lr,
                milestones=self.milestones,
                gamma=self.gamma,
                epochs=self.epochs if self.lr_per_epoch else None,
            ),
            weight_decay=None if decay is None else cosine(progress, self.weight_decay, decay),
            clip_norm=self.clip_norm,
        )

    def image_size(self, source_size: int) -> int:
        """Side in pixels at which the encoder is evaluated: as its views were, or small images as they are where these
        are a little larger. A crop enlarges what it shows, so an encoder expects whole images of up to 4/3 of the
        views' side (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). Of sounds, samples."""
        view = self.views[0].size
        fits = view <= source_size <= min(SMALL, round(view * 4 / 3))
        return source_size if fits and not self.encoder.startswith("timm:") else view

    def build_optimizer(self, method: Method) -> torch.optim.Optimizer:
        return build_optimizer(
            method.param_groups(),
            self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            trust=self.trust,
            trust_clip=self.trust_clip,
            lr_inside_momentum=self.lr_inside_momentum,
        )
