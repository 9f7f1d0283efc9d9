"""The contract of a method: it looks up a query in a dictionary, against a target; ``forward`` reads, ``after_step``
writes.

A :class:`Recipe` holds every hyper-parameter of a method, a :class:`Method` its equation. Each method's file defines
one final subclass of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Self

import torch
from torch import Tensor, nn

from contrastkit import schema
from contrastkit.augment import View, Window
from contrastkit.bounds import BATCH, BELOW_1, EPOCHS, NOT_NEGATIVE, PERIOD, SHARE, check_choices, check_fields
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.methods.context import BuildContext
from contrastkit.optim import (
    OptimizerName,
    ParamGroup,
    Schedule,
    SchedulePoint,
    build_optimizer,
    cosine,
    learning_rate,
)
from contrastkit.parts.build import SMALL, build_encoder, wrap_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower
from contrastkit.parts.wave import encoder_name
from contrastkit.types import Batch, Memory, Modality, Step


class Method(nn.Module, ABC, Generic[Memory]):
    """What is trained; ``online.encoder`` is the result. ``Memory`` is what ``forward`` hands to ``after_step``."""

    online: Tower

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> Step[Memory]:
        """Read: the loss of a batch at ``progress`` in [0, 1]. Writes nothing but batch-norm statistics."""

    def after_step(self, batch: Batch, step: Step[Memory], progress: float) -> None:
        """Write, after ``optimizer.step()``: targets, queues, banks, centres."""

    def embed(self, view: Tensor) -> Tensor:
        """The outputs that the loss compares, for the monitor: view [N, channels, H, W] -> float [N, C], unnormalised.

        Bypasses the tower, which ``--compile`` would recompile for another batch size.
        """
        return self.online.head(self.online.encoder(view))

    def param_groups(self) -> list[ParamGroup]:
        """The trained parameters and how they are trained: by default all of ``online``, with weight decay."""
        return [ParamGroup(params=list(self.online.parameters()))]

    @property
    def compiled(self) -> Sequence[nn.Module]:
        """The modules that ``--compile`` compiles: by default all towers. They must be invoked through ``__call__``."""
        return [module for module in self.modules() if isinstance(module, Tower)]

    @property
    def texts(self) -> Mapping[str, str]:
        """Text files of the run folder without which the weights mean nothing, name -> contents: a vocabulary."""
        return {}

    @property
    def companions(self) -> Mapping[str, Tensor]:
        """What outlives training beside the encoder: the weights of text.safetensors, by their names in the state."""
        return {}

    @property
    def notices(self) -> Sequence[str]:
        """What the user should know about this recipe on these data and processes, one line each."""
        return ()

    @property
    def directions(self) -> int:
        """How many losses add up to the loss: two where each of two views looks the other one up."""
        return 1

    @property
    def can_collapse(self) -> bool:
        """Whether similar outputs for all images are a failure: not if the loss compares something else than these."""
        return True

    @property
    def chance_loss(self) -> float | None:
        """The loss of a method that has learned nothing, e.g. log(K + 1); None if undefined."""
        return None


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """The hyper-parameters of a training. Each field is an option of the method's command; its note is the help,
    its interval (:mod:`contrastkit.bounds`) is checked."""

    view_type: ClassVar[type[View] | type[Window]] = View
    n_views: ClassVar[tuple[int, int | None]] = (1, None)  # the smallest and the largest number of views
    takes_module: ClassVar[bool] = True  # whether any module can serve as encoder
    learns_from_captions: ClassVar[bool] = False
    learns_from_labels: ClassVar[bool] = False
    weighted: ClassVar[Mapping[str, Sequence[str]]] = {}  # weight of a loss -> the numbers of that loss alone

    encoder: Annotated[str, "tiny, a torchvision ResNet, cifar-resnet8 to cifar-resnet110, or timm:NAME"]
    epochs: Annotated[int, "passes over the data", EPOCHS]
    batch: Annotated[int, "images per step, over all processes", BATCH]
    optimizer: Annotated[OptimizerName, "optimizer"] = "sgd"
    lr: Annotated[float, "peak learning rate, for this batch size", NOT_NEGATIVE]
    momentum: Annotated[float, "momentum of SGD and LARS", BELOW_1] = 0.9
    weight_decay: Annotated[float, "weight decay", NOT_NEGATIVE]
    final_weight_decay: Annotated[
        float | None, "final weight decay, reached along a cosine; none keeps it constant", NOT_NEGATIVE
    ] = None
    trust: Annotated[float, "LARS: trust coefficient", NOT_NEGATIVE] = 0.001
    trust_clip: Annotated[bool, "LARS: never take a longer step than SGD (the clip of solo-learn and apex)"] = False
    lr_inside_momentum: Annotated[bool, "LARS: put the learning rate inside the momentum (SimCLR's code)"] = False
    schedule: Annotated[Schedule, "schedule of the learning rate"] = "cosine"
    milestones: Annotated[tuple[float, ...], "step schedule: fractions of training at which the rate drops", SHARE] = (
        0.6,
        0.8,
    )
    gamma: Annotated[float, "step schedule: factor applied at each milestone", NOT_NEGATIVE] = 0.1
    warmup_epochs: Annotated[float, "epochs of linear warm-up", PERIOD] = 0.0
    first_lr: Annotated[float, "learning rate at the start of warm-up", NOT_NEGATIVE] = 0.0
    final_lr: Annotated[float, "learning rate at the end of the cosine", NOT_NEGATIVE] = 0.0
    lr_per_epoch: Annotated[bool, "update the learning rate once per epoch, not at every step"] = False
    clip_norm: Annotated[float, "clip the gradient to this global norm; 0 disables it", NOT_NEGATIVE] = 0.0
    views: Annotated[tuple[View | Window, ...], "the augmentation of each view"]

    def __post_init__(self) -> None:
        check_choices(self)
        self._require_views()
        check_fields(self)

    def require_two_images(self, what: str) -> None:
        """Check that a batch has the two images that batch norm needs; ``what`` asks for it.

        Raises:
            UserError: it has one.
        """
        if self.batch < 2:
            raise UserError(f"{what} needs at least two images: raise --batch to 2 or more")

    def _require_views(self) -> None:
        """Check the number of views.

        Raises:
            UserError: the method does not take as many.
        """
        (least, most), n = self.n_views, len(self.views)
        if n < least or (most is not None and n > most):
            wanted = f"{'' if least == most else 'at least '}{'one view' if least == 1 else f'{least} views'}"
            raise UserError(f"this method takes {wanted}, not {n}: choose other --views")

    @property
    def uses_labels(self) -> bool:
        """Whether the loss looks at labels."""
        return self.learns_from_labels

    @property
    def modality(self) -> Modality:
        """What the method learns from."""
        return self.views[0].modalities[0]

    def check(self, source: Source) -> None:
        """Check that the method can learn from a source.

        Raises:
            UserError: too few examples, the wrong modality, or an encoder for another one.
        """
        if len(source) < 2:
            raise UserError(f"{source.name} has fewer than two examples, so there is nothing to contrast: add more")
        if source.modality not in self.views[0].modalities:
            what = f"{source.name} contains {source.modality.plural}, this method learns from {self.modality.plural}"
            remedy = "use cpc-audio" if source.modality is Modality.SOUND else "give a folder of .wav files"
            raise UserError(f"{what}: {remedy}")
        if self.learns_from_captions and source.captions is None:
            raise UserError(
                f"{source.name} has no captions, from which this method learns: give a folder with captions.csv, a "
                "table with the columns path and caption"
            )
        encoder_name(self.encoder, self.modality)

    def prepare(self, context: BuildContext) -> BuildContext:
        """The context with what is made of the data once, before the method is built: a vocabulary."""
        return context

    def known_from(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Arguments of :class:`BuildContext` that the state of a method tells, where its data are not there."""
        return {}

    @abstractmethod
    def build(self, context: BuildContext) -> Method:
        """Build the method for these images, on one of these processes.

        Raises:
            UserError: the recipe does not suit them; the message says what to change.
        """

    def encoder_options(self, context: BuildContext) -> dict[str, Any]:
        """Arguments of :func:`build_encoder`, for training and for loading the encoder of a run.

        Raises:
            UserError: the encoder is for another kind of examples.
        """
        name = encoder_name(self.encoder, self.modality)
        return {"name": name, "channels": context.channels, "size": context.size}

    def build_encoder(self, context: BuildContext) -> Encoder:
        """The encoder to train, with the context's starting weights, if any.

        A method builds its target as a copy of it, which so starts from the same weights.

        Raises:
            UserError: it does not suit the images, this method accepts no module, or the weights do not fit.
        """
        encoder = self.untrained_encoder(context)
        if context.weights is not None:
            encoder.load_state_dict(context.weights.match(encoder).state, strict=False)
        return encoder

    def untrained_encoder(self, context: BuildContext) -> Encoder:
        """The encoder as the method initialises it: built by name, or the module in the context.

        Raises:
            UserError: it does not suit the images, or this method accepts no module.
        """
        if context.encoder is None:
            return build_encoder(**self.encoder_options(context))
        if not self.takes_module:
            raise UserError(
                "this method builds its encoder from several parts: name an encoder instead of giving a module"
            )
        return wrap_encoder(context.encoder, channels=context.channels, size=context.size)

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> Self:
        """The recipe stored in recipe.json: lists become tuples, objects become views.

        Raises:
            UserError: a field is missing, unknown, of another type or out of its bounds.
        """
        views = tuple[cls.view_type, ...]  # type: ignore[name-defined]
        return schema.instance(cls, numbers, "recipe", views=views)

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
        """Side in pixels at which the encoder is evaluated: that of its views, or the native size of small images that
        are slightly larger. A crop enlarges its content, so an encoder expects whole images of up to 4/3 of the
        views' side (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). For sounds, samples."""
        view = self.views[0].size
        fits = view <= source_size <= min(SMALL, round(view * 4 / 3))
        return source_size if fits and not self.encoder.startswith("timm:") else view

    @property
    def betas(self) -> tuple[float, float]:
        """Of AdamW: decay of the means of the gradient and of its square."""
        return 0.9, 0.999

    @property
    def eps(self) -> float:
        """Of AdamW: what is added to the root of the mean square."""
        return 1e-8

    def build_optimizer(self, method: Method) -> torch.optim.Optimizer:
        return build_optimizer(
            method.param_groups(),
            self.optimizer,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            trust=self.trust,
            trust_clip=self.trust_clip,
            lr_inside_momentum=self.lr_inside_momentum,
        )
