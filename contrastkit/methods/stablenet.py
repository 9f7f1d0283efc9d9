r"""StableNet: Deep Stable Learning for Out-Of-Distribution Generalization (Zhang et al. 2021, arXiv:2104.07876).

.. math::
    w^* = \arg\min_{w} \sum_f \sum_{i \neq j} \mathrm{Cov}_w(h_f(Z_i), h_f(Z_j))^2 \qquad L = \sum_n w_n H(y_n, f(x_n))

Z are the features before the last layer, h random Fourier features of each of them, and w the weights of the images,
under which different features should not depend on one another (Eqs. 5 to 8). Environments are not asked for.

``--sample batch`` is the paper's descent, as in the official code (xxgege/StableNet, training/reweighting.py and
loss_reweighting.py, --concat 1): at each step the logits a of the batch's weights, w = softmax(a), 1 at first, go
``epochb`` steps of SGD (momentum 0.9, rate ``lrbl``, a tenth of it in the second half) down

    sum_f sum_{i != j} Cov^2 / lambdap + sum softmax(a)^decay_pow

where the covariances are over the batch and a memory of as many saved features, whose logits are saved beside them
(Sec. 3.3): the running mean of the first ten batches, then ``presave_ratio`` of itself and the rest of the batch.
Every inner step draws new cosines, omega ~ N(0, 1), one for all features, and a phase for each, b ~ U(0, 2 pi); omega
z + b is scaled to [0, pi / 2] over the features of an image, and both sqrt(2 / num_f) cos and sin are taken.

**With these numbers the weights hardly move** with 512 features, as ResNet-18 has, or fewer (docs/stable.md):
the penalty on uneven weights is larger than what the covariances can gain. The sum of covariances grows with the square
of the number of features: with the 1,280 of EfficientNet, tuned on PACS, the weights gather on a few images of a batch.

``--sample whole`` is ours: the features of all images are kept, as they were when last seen,
and after each epoch the weights of all images are solved for on their first principal components by
:func:`contrastkit.stable.reweight.rff`, which is the same dependence with fixed cosines and a penalty on the loss of
effective sample; in the first epoch all weigh alike. L is then the mean of w_n H over the batch, w of mean 1 over the
set. The solver stops at a limit of steps, where it magnifies rounding: with so small a penalty, runs of one process and
of two drift apart, though each is repeated bit for bit.

Where we depart from the official code: draws are a function of seed, step and inner step; a feature that is the same
for all of an image's units has the phase 0 instead of 0 / 0; the loss is of the images of all processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor

from contrastkit import rng
from contrastkit.augment import VIEWS
from contrastkit.bounds import AT_LEAST_2, BELOW_1, COUNT, PENALTY, POSITIVE
from contrastkit.errors import UserError
from contrastkit.methods import erm
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.methods.supervised import Supervised, SupervisedRecipe
from contrastkit.stable.reweight import rff
from contrastkit.tables.embeddings import principal_components
from contrastkit.types import Batch, Step

FIRST = 10  # batches whose mean the memory begins with
MOMENTUM, SECOND_HALF = 0.9, 0.1  # of the inner descent; factor on its rate after half of its steps

Written = tuple[Tensor, Tensor]  # features [N, D] and, of a batch, logits of their weights [N], or indices int64 [N]


@dataclass(frozen=True, kw_only=True)
class StableNetRecipe(SupervisedRecipe):
    """StableNet's hyper-parameters, with the names of the official code's options."""

    needs_environments: ClassVar[bool] = False

    sample: Annotated[
        Literal["batch", "whole"], "weights by a descent at each step (official), or solved over all images (ours)"
    ] = "batch"
    epochb: Annotated[int, "batch: steps of the inner descent (--epochb)", COUNT] = 20
    lrbl: Annotated[float, "batch: its learning rate (--lrbl)", POSITIVE] = 1.0
    lambdap: Annotated[float, "batch: what the covariances are divided by (--lambdap)", POSITIVE] = 70.0
    decay_pow: Annotated[float, "batch: power in the penalty on uneven weights (--decay_pow)", POSITIVE] = 2.0
    num_f: Annotated[int, "batch: random frequencies (--num_f)", COUNT] = 1
    presave_ratio: Annotated[float, "batch: share of the memory that is kept (--presave_ratio)", BELOW_1] = 0.9
    components: Annotated[int, "whole: principal components of the features", AT_LEAST_2] = 20
    cosines: Annotated[int, "whole: cosines of each component", COUNT] = 10
    unevenness: Annotated[float, "whole: penalty on n sum w^2, the inverse of the effective share", PENALTY] = 1e-4

    def build(self, context: BuildContext) -> "StableNet":
        return StableNet(self, context)


@final
class StableNet(Supervised[Written]):
    """Weights under which the features are independent; see the module docstring."""

    features: Tensor
    logits: Tensor
    steps: Tensor
    seen: Tensor
    weights: Tensor

    def __init__(self, recipe: StableNetRecipe, context: BuildContext) -> None:
        super().__init__(recipe, context)
        self.recipe, self.seed, D = recipe, context.seed, self.online.encoder.dim
        n = recipe.batch if recipe.sample == "batch" else context.images
        self.register_buffer("features", torch.zeros(n, D))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if recipe.sample == "batch":
            self.register_buffer("logits", torch.ones(n))
        else:
            self.every = context.images // recipe.batch  # steps of an epoch
            self.register_buffer("seen", torch.zeros(n, dtype=torch.bool))
            self.register_buffer("weights", torch.ones(n))

    def forward(self, batch: Batch, progress: float) -> Step[Written]:
        out = self.outputs(batch)
        if self.recipe.sample == "whole":
            w, written = self.weights[out.index], (out.features, out.index)
            loss = (w * out.losses).mean()
        else:
            a = learnt_logits(out.features, self.features, self.logits, self.recipe, seed=self.seed, progress=progress)
            w, written = a.softmax(0), (out.features, a)
            loss = (w * out.losses).sum()
        ess = w.sum().square() / w.square().sum() / len(w)
        return Step(loss=loss, memory=written, logs={"top1": out.top1, "ess": ess})

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[Written], progress: float) -> None:
        features, own = step.memory
        self.steps += 1
        if self.recipe.sample == "whole":
            self.features[own], self.seen[own] = features, True
            if int(self.steps) % max(1, self.every) == 0:
                self._solve()
            return
        n = int(self.steps)  # batches so far, with this one
        keep = (n - 1) / n if n <= FIRST else self.recipe.presave_ratio
        for memory, new in ((self.features, features), (self.logits, own)):
            memory.mul_(keep).add_(new, alpha=1 - keep)

    def _solve(self) -> None:
        """The weights of all images whose features are known, of mean 1 over them; the others keep 1."""
        r, rows = self.recipe, self.seen.nonzero()[:, 0]
        x = self.features[rows].double().cpu().numpy()
        z = principal_components(x, min(r.components, *x.shape))
        try:
            found = rff(z, cosines=r.cosines, penalty=r.unevenness, seed=self.seed)
        except UserError as error:
            raise UserError(f"the images cannot be weighted by their features: {error}; use --sample batch") from error
        self.weights[rows] = torch.from_numpy(found.weights).to(self.weights)

    @property
    def notices(self) -> Sequence[str]:
        if self.recipe.sample == "whole":
            return ()
        return (
            "the published descent hardly moves the weights of few features, and gathers those of a thousand on a few "
            "images: look at ess, their effective share; see --sample",
        )


@torch.no_grad()
def learnt_logits(
    batch: Tensor, memory: Tensor, logits: Tensor, recipe: StableNetRecipe, *, seed: int, progress: float
) -> Tensor:
    """The logits a of the weights of a batch after the inner descent.

    Args:
        batch: float32 [n, D], its features.
        memory: float32 [m, D], the saved ones. logits: float32 [m], those of their weights.

    Returns:
        float32 [n].
    """
    r, n = recipe, len(batch)
    with torch.autocast(batch.device.type, enabled=False):
        features = torch.cat([batch, memory])  # [N, D]
        a, velocity = batch.new_ones(n), batch.new_zeros(n)
        for k in range(r.epochb):
            X = cosines(features, r.num_f, seed=seed, time=rng.at_step(progress), step=k)  # [2 F, N, D]
            w = torch.cat([a, logits]).softmax(0)
            own = a.softmax(0)
            dw = covariance_gradient(X, w) / r.lambdap
            g = (w * (dw - w @ dw))[:n]  # through the softmax over all
            p = r.decay_pow * own**r.decay_pow
            g = g + p - own * p.sum()  # of sum softmax(a)^decay_pow
            velocity = MOMENTUM * velocity + g
            a = a - r.lrbl * (1.0 if k < r.epochb / 2 else SECOND_HALF) * velocity
    return a


def cosines(features: Tensor, num_f: int, *, seed: int, time: int, step: int) -> Tensor:
    """Random Fourier features [2 F, N, D] of features [N, D]: F cosines, then F sines."""
    D = features.shape[1]
    u = rng.uniform(seed, time, torch.tensor([step]), rng.COSINES, num_f * (1 + D))[0]
    omega = torch.special.ndtri(u[:num_f].clamp(min=2.0**-54)).to(features)  # [F]
    b = (2 * math.pi * u[num_f:]).view(num_f, 1, D).to(features)
    phase = omega[:, None, None] * features + b  # [F, N, D]
    phase = phase - phase.amin(2, keepdim=True)
    phase = math.pi / 2 * phase / phase.amax(2, keepdim=True).clamp(min=torch.finfo(phase.dtype).tiny)
    return math.sqrt(2 / num_f) * torch.cat([phase.cos(), phase.sin()])


def covariance_gradient(X: Tensor, w: Tensor) -> Tensor:
    """The gradient [N] with respect to weights w [N] of sum_f sum_{i != j} Cov_w(X_f)_ij^2, X [F, N, D], up to a
    constant, to which a softmax is blind.

    With G = X X' and c = (X o X)' w of centred X, that sum is w' (G o G) w - sum c^2: N^2 D steps instead of N D^2.
    """
    X = X - (w @ X)[:, None]  # centred first: the values are within 0.6 of one another, their products cancel
    G, squares = X @ X.mT, X.square()
    c = w @ squares  # [F, D]
    return 2 * ((G.square() @ w) - (squares @ c[:, :, None])[..., 0]).sum(0)


# The official code's defaults (ops/config.py), on ImageNet's weights (--init-from pretrained:resnet18).
IMAGENET = StableNetRecipe(
    encoder="resnet18",
    epochs=30,
    batch=128,
    lr=0.01,
    weight_decay=1e-4,
    lr_per_epoch=True,
    views=VIEWS["stablenet"],
)
CIFAR = replace(IMAGENET, views=tuple(replace(view, size=32) for view in VIEWS["stablenet"]))
TINY = StableNetRecipe.like(erm.TINY)
SMALL = small(TINY)

RECIPES: dict[str, Recipe] = {
    "stablenet/imagenet": IMAGENET,
    "stablenet/imagenet-whole": replace(IMAGENET, sample="whole"),
    "stablenet/32": CIFAR,
    "stablenet/32-whole": replace(CIFAR, sample="whole"),
    "stablenet/small": SMALL,
    "stablenet/small-whole": replace(SMALL, sample="whole"),
    "stablenet/tiny": TINY,
    "stablenet/tiny-whole": replace(TINY, sample="whole"),
}
