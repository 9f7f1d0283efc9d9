r"""CLIP: Contrastive Language-Image Pre-training (Radford et al. 2021, arXiv:2103.00020, Fig. 3); and SigLIP's loss
(Zhai et al. 2023, arXiv:2303.15343).

.. math::
    L = -\frac{1}{2N} \sum_i \log \frac{\exp(t\, x_i \cdot y_i)}{\sum_j \exp(t\, x_i \cdot y_j)}
        + \log \frac{\exp(t\, x_i \cdot y_i)}{\sum_j \exp(t\, x_j \cdot y_i)}

    L_{sigmoid} = -\frac{1}{N} \sum_{i, j} \log \sigma(s_{ij} (t\, x_i \cdot y_j + b)) \qquad
    s_{ij} = 1 \text{ if } i = j, \text{ else } -1

Each of N images is looked up among the batch's N captions, and each caption among its images: x_i and y_i on the unit
sphere, from an image tower and a text tower with a linear projection each. The temperature 1/t is learnt, as log t. The
image tower's encoder, without the projection, is the result; both towers can be loaded
(:func:`contrastkit.load`). With ``frozen``, the encoder stays as it starts, and the projection and the text tower learn
to fit it (locked-image tuning: Zhai et al. 2022, arXiv:2111.07991, Sec. 3).

An image has one caption an epoch, drawn among its own. Pairs of one caption's text, and of one image, are no negatives
of each other: a batch holds such pairs often where captions repeat.

Where we depart from the official code, of which OpenAI published the networks alone, and from open_clip, which trains:
the vocabulary is made of the training captions, images are normalised with ImageNet's statistics, any encoder and a
linear projection are the image tower (``timm:resnet50_clip``, CLIP's ResNet-50, already has one, with a bias), texts
are padded to the longest caption of the set, and captions that repeat are left out of the negatives.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, ops
from contrastkit.augment import VIEWS
from contrastkit.bounds import BELOW_1, COUNT, LAYERS, Interval
from contrastkit.errors import UserError
from contrastkit.methods.base import Method, Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.small import small
from contrastkit.optim import OptimizerName, ParamGroup, decay_groups
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import Tower
from contrastkit.parts.norm import sync_batch_norm
from contrastkit.parts.open_clip import require_numbers
from contrastkit.parts.shared import parameters
from contrastkit.parts.text import Activation, CaptionTokens, TextTower
from contrastkit.parts.tokenizer import Tokenizer
from contrastkit.types import Batch, Step

LARGEST = math.log(100)  # of log t (Sec. 2.5)
STARTS = {"clip": (math.log(1 / 0.07), 0.0), "siglip": (math.log(10), -10.0)}  # log t and b
BYTES = 258  # tokens of any vocabulary: the bytes, start and end


@dataclass(frozen=True, kw_only=True)
class CaptionRecipe(Recipe):
    """The hyper-parameters of contrasting images and captions, whatever the towers."""

    n_views: ClassVar[tuple[int, int | None]] = (1, 1)
    learns_from_captions: ClassVar[bool] = True

    optimizer: Annotated[OptimizerName, "optimizer"] = "adamw"
    beta2: Annotated[float, "AdamW: decay of the second moment (open_clip: 0.98, of ResNets 0.999)", BELOW_1] = 0.98
    eps: Annotated[
        float, "AdamW: addend in the denominator (open_clip: 1e-6, of ResNets 1e-8)", Interval(0, 1, above=True)
    ] = 1e-6
    loss: Annotated[
        Literal["clip", "siglip"], "softmax over the batch, both ways (CLIP), or sigmoids of all pairs (SigLIP)"
    ] = "clip"
    dim: Annotated[int, "dimensions of the space of images and texts", COUNT] = 512
    vocabulary: Annotated[int, "most tokens of the vocabulary, made of the captions", Interval(BYTES, 10**7)] = 49408
    context: Annotated[
        int, "most tokens of a text, with its start and end; longer ones are cut", Interval(3, 2**13)
    ] = 77
    activation: Annotated[Activation, "of the text tower: gelu, or the quickgelu of OpenAI's weights (open_clip)"] = (
        "gelu"
    )
    frozen: Annotated[
        bool, "keep the image encoder as it starts (--init-from), and train the rest: locked-image tuning (LiT)"
    ] = False

    @property
    def betas(self) -> tuple[float, float]:
        return 0.9, self.beta2

    def prepare(self, context: BuildContext) -> BuildContext:
        """Makes the vocabulary, in the first process, unless the run has one.

        Raises:
            UserError: a frozen encoder of random weights, or weights of a whole CLIP that need other numbers.
        """
        if context.tokenizer is not None:
            return context
        if self.frozen and context.weights is None and context.encoder is None:
            raise UserError("--frozen would keep the encoder at random weights: give it others with --init-from")
        if context.weights is not None and context.weights.tokenizer is not None:
            require_numbers(self, context.weights)
            return replace(context, tokenizer=Tokenizer(context.weights.tokenizer))
        text = ""
        if dist.rank() == 0:
            texts = () if context.captions is None else context.captions.texts
            text = Tokenizer.trained(texts, size=self.vocabulary, context=self.context).text
        return replace(context, tokenizer=Tokenizer(dist.broadcast_str(text)))

    def build(self, context: BuildContext) -> "CLIP":
        if self.batch < 2:
            raise UserError("a batch of one pair has no negatives: raise --batch to 2 or more")
        return CLIP(self, self.prepare(context))

    @abstractmethod
    def build_texts(self, encoder: Encoder, tokenizer: Tokenizer) -> TextTower:
        """The text tower to train beside an image encoder."""


@dataclass(frozen=True, kw_only=True)
class CLIPRecipe(CaptionRecipe):
    """CLIP's hyper-parameters."""

    text_width: Annotated[int, "width of the text tower (Sec. 2.4; open_clip's configs)", COUNT] = 512
    text_layers: Annotated[int, "layers of the text tower (Sec. 2.4)", LAYERS] = 12
    text_heads: Annotated[int, "heads of its attention (Sec. 2.4)", COUNT] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_width % self.text_heads:
            raise UserError(f"--text-width {self.text_width} must be a multiple of --text-heads {self.text_heads}")

    def build_texts(self, encoder: Encoder, tokenizer: Tokenizer) -> TextTower:
        return TextTower(
            vocabulary=tokenizer.size,
            context=self.context,
            end=tokenizer.end,
            width=self.text_width,
            layers=self.text_layers,
            heads=self.text_heads,
            dim=self.dim,
            activation=self.activation,
        )


@final
class CLIP(Method[None]):
    """Contrast of images and captions; see the module docstring."""

    def __init__(self, recipe: CaptionRecipe, context: BuildContext) -> None:
        super().__init__()
        assert context.tokenizer is not None
        self.recipe, self.seed, self.tokenizer = recipe, context.seed, context.tokenizer
        encoder = recipe.build_encoder(context)
        if recipe.frozen:
            encoder.requires_grad_(False)
        projection = nn.Linear(encoder.dim, recipe.dim, bias=False)
        nn.init.normal_(projection.weight, std=encoder.dim**-0.5)
        self.online = Tower(encoder, projection)
        self.text = recipe.build_texts(encoder, self.tokenizer)
        log_t, b = STARTS[recipe.loss]
        self.log_t = nn.Parameter(torch.tensor(log_t))
        self.b = nn.Parameter(torch.tensor(b)) if recipe.loss == "siglip" else None
        if context.weights is not None:
            self.load_state_dict(context.weights.beside, strict=False)
        self.captions: CaptionTokens | None = None
        if context.captions is not None:
            self.captions = CaptionTokens(context.captions, self.tokenizer)
            if self.captions.distinct < 2:
                raise UserError("all captions are the same text, so there is nothing to contrast: add others")
        sync_batch_norm(self, context.world)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.recipe.frozen:
            self.online.encoder.eval()  # its batch norm keeps its statistics
        return self

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        assert self.captions is not None
        epoch = math.floor(progress * self.recipe.epochs + 1e-6)  # the margin undoes the rounding of step / steps
        drawn = self.captions.draw(batch.index, seed=self.seed, epoch=epoch)
        (view,) = batch.views
        x = F.normalize(self.online(view).float(), dim=1)  # [n, C]
        y = F.normalize(self.text(self.captions.rows(drawn)).float(), dim=1)
        ids = self.captions.text[drawn]  # an image that stands in for an unreadable one comes with the same caption
        loss, top1 = contrast(x, y, ids, log_t=self.log_t, b=self.b)
        return Step(loss=loss, memory=None, logs={"top1": top1, "t": self.log_t.detach().exp()})

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[None], progress: float) -> None:
        self.log_t.clamp_(0, LARGEST)

    def param_groups(self) -> list[ParamGroup]:
        return decay_groups(self.parameters())

    @property
    def compiled(self) -> Sequence[nn.Module]:
        return [self.online, self.text]

    @property
    def texts(self) -> Mapping[str, str]:
        return {"tokenizer.json": self.tokenizer.text}

    @property
    def companions(self) -> Mapping[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if not name.startswith("online.encoder.")}

    @property
    def notices(self) -> list[str]:
        if self.captions is None:
            return []
        known = self.captions
        lines = [
            f"{len(known.text):,} captions, {known.distinct:,} of them different, of at most {known.longest} tokens; "
            f"the vocabulary has {self.tokenizer.size:,}"
        ]
        if known.cut:
            lines.append(f"captions of more than {self.tokenizer.context} tokens are cut ({known.cut:,}): --context")
        images, texts, both = parameters(self.online, self.text)
        shared = f", {both:,} of both" if both else ""
        lines.append(f"{images:,} parameters of images, {texts:,} of texts{shared}: {images + texts + both:,}")
        if self.recipe.frozen:
            trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
            lines.append(f"the encoder is frozen: {trained:,} parameters are trained, of projection and text tower")
        return lines

    @property
    def chance_loss(self) -> float:
        N = self.recipe.batch  # of sigmoids: each pair matched with probability 1 / N
        return math.log(N) + (0.0 if self.b is None else (N - 1) * math.log(N / (N - 1)))


def contrast(x: Tensor, y: Tensor, ids: Tensor, *, log_t: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of pairs (x_i, y_i) among those of all processes: the module's L, or with ``b`` L_sigmoid.

    Args:
        x, y: float32 [n, C] of unit length.
        ids: int64 [n]; pairs of one id are no negatives of each other.

    Returns:
        The mean over this process's pairs, whose mean over the processes is the loss; how often a partner is nearer
        than all negatives, both ways in L, among the texts in L_sigmoid.
    """
    if b is None:
        loss, _, top1 = ops.clip_loss(x, y, tau=(-log_t).exp(), ids=ids, across_ranks=True)
    else:
        loss, top1 = ops.siglip_loss(x, y, t=log_t.exp(), b=b, ids=ids, across_ranks=True)
    return loss.mean(), top1.float().mean()


# open_clip's README, "Training CLIP" on Conceptual Captions: --warmup 10000 --batch-size=128 --lr=1e-3 --wd=0.1
# --epochs=30 --model RN50, on 8 GPUs; its RN50.json; warm-up as a part of the set's 3,318,333 pairs.
CC3M = CLIPRecipe(
    encoder="timm:resnet50_clip",
    epochs=30,
    batch=8 * 128,
    lr=1e-3,
    weight_decay=0.1,
    warmup_epochs=10_000 / (3_318_333 // (8 * 128)),
    beta2=0.999,
    eps=1e-8,
    dim=1024,
    views=VIEWS["clip"],
)

# No published code trains CLIP on small images: ResNet-18, and a text tower of a quarter of the width.
SMALL_IMAGES = replace(
    CC3M,
    encoder="resnet18",
    batch=256,
    warmup_epochs=1.0,
    dim=256,
    text_width=128,
    text_layers=4,
    text_heads=4,
    vocabulary=8192,
    views=VIEWS["clip-32"],
)

# For two CPU cores.
TINY = replace(
    SMALL_IMAGES,
    encoder="tiny",
    epochs=24,
    batch=128,
    lr=1e-3,
    warmup_epochs=2.0,
    beta2=0.98,
    eps=1e-6,
    dim=128,
    text_layers=2,
    vocabulary=4096,
    views=tuple(replace(view, size=24) for view in VIEWS["clip-32"]),
)

RECIPES: dict[str, Recipe] = {
    "clip/cc3m": CC3M,
    "clip/32": SMALL_IMAGES,
    "clip/small": small(TINY),
    "clip/tiny": TINY,
}
