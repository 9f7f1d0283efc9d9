r"""CPC on sound: the original Contrastive Predictive Coding (van den Oord et al. 2018, arXiv:1807.03748, Sec. 3.1).

.. math::
    L = -\sum_{t,k} \log \frac{\exp(z_{t+k} \cdot W_k c_t / \tau)}{\sum_j \exp(z_j \cdot W_k c_t / \tau)}
    \qquad z_t = g_{enc}(x_t), \quad c_t = g_{ar}(z_{\le t})

Strided convolutions turn a waveform into frames z, and a GRU summarises the frames so far in a context c. From it, a
matrix W_k for each step ahead predicts the frame k steps later, which has to be found among all frames of all sounds of
the batch: speaker and speech persist for longer than a frame, noise does not.

The representation of a sound is the mean of its contexts. Negatives are all other frames of the batch, from the same
sound and from others: the paper's "mixed speaker" (Table 2). Where we depart from the paper (there is no official
code): frames have a layer norm (:class:`contrastkit.parts.wave.Wave`), Adam has its usual betas, and the loss is a mean
over k instead of a sum.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

from torch import nn

from contrastkit import dist
from contrastkit.augment import View, Window
from contrastkit.bounds import COUNT, POSITIVE
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.cpc import look_up
from contrastkit.optim import ParamGroup
from contrastkit.parts.encoder import WaveEncoder
from contrastkit.parts.heads import Tower
from contrastkit.parts.wave import WAVES, wave_name
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class CPCAudioRecipe(Recipe):
    """The hyper-parameters of CPC on sound."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    takes_module: ClassVar[bool] = False
    view_type: ClassVar[type[View] | type[Window]] = Window

    encoder: Annotated[str, "wave (Sec. 3.1), or tiny"]
    steps_to_predict: Annotated[int, "number K of frames to predict, each with its own matrix (Sec. 3.1)", COUNT] = 12
    tau: Annotated[float, "temperature; 1, as in the paper, has no effect", POSITIVE] = 1.0

    @property
    def frames(self) -> int:
        """Number of frames in a window."""
        return self.views[0].size // math.prod(WAVES[wave_name(self.encoder)]["strides"])

    def build(self, context: BuildContext) -> "CPCAudio":
        if self.frames <= self.steps_to_predict:
            raise UserError(
                f"a window of {self.views[0].size} samples has {self.frames} frames, too few to predict "
                f"{self.steps_to_predict} steps ahead: raise --size or lower --steps-to-predict"
            )
        return CPCAudio(self, context)


@final
class CPCAudio(Method[None]):
    """Prediction of future frames; see the module docstring."""

    def __init__(self, recipe: CPCAudioRecipe, context: BuildContext) -> None:
        super().__init__()
        self.tau, self.keys = recipe.tau, recipe.batch * recipe.frames
        encoder = recipe.build_encoder(context)
        assert isinstance(encoder, WaveEncoder)
        self.online = Tower(encoder, nn.Identity())
        hidden = encoder.trunk.gru.input_size
        self.W = nn.ModuleList(nn.Linear(encoder.dim, hidden, bias=False) for _ in range(recipe.steps_to_predict))

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        encoder = self.online.encoder
        assert isinstance(encoder, WaveEncoder)
        z = encoder.frames(batch.views[0])  # [n, T', H]
        c = encoder.contexts(z)  # [n, T', C]
        keys = dist.gather_keys(z.float().flatten(0, 1))  # [N T', H] of all processes
        place = dist.local_rows(keys).view(z.shape[:2])  # of each frame in keys
        predictions = [W_k(c[:, :-k]).flatten(0, 1) for k, W_k in enumerate(self.W, start=1)]
        targets = [place[:, k:].flatten() for k in range(1, len(self.W) + 1)]
        loss, top1 = look_up(predictions, targets, keys, tau=self.tau)
        return Step(loss=loss, memory=None, logs={"top1": top1})

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(params=list(self.parameters()))]

    @property
    def compiled(self) -> list[nn.Module]:
        return []  # the encoder is called through its methods, never as a module

    @property
    def chance_loss(self) -> float:
        return math.log(self.keys)


# Sec. 3.1: windows of 20,480 samples at 16 kHz, 8 GPUs with 8 each, Adam at 2e-4, 300,000 updates, in epochs
# of train-clean-100's 28,539 utterances.
SPEECH = CPCAudioRecipe(
    encoder="wave",
    epochs=674,
    batch=64,
    optimizer="adamw",  # without decay it is Adam
    lr=2e-4,
    weight_decay=0.0,
    schedule="constant",
    views=(Window(size=20480),),
)

# For two CPU cores and spoken digits at 8 kHz: half a second.
TINY = replace(
    SPEECH,
    encoder="tiny",
    epochs=12,
    batch=32,
    lr=2e-3,
    schedule="cosine",
    warmup_epochs=1.0,
    steps_to_predict=8,
    views=(Window(size=4096),),
)

RECIPES: dict[str, Recipe] = {"cpc-audio/speech": SPEECH, "cpc-audio/tiny": TINY}
