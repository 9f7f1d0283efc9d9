"""Segmentation by a linear head on the feature maps of a frozen encoder."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from contrastkit.bounds import BATCH, BELOW_1, COUNT, COUNT_OR_0, NOT_NEGATIVE, POSITIVE, SHARE, check_fields
from contrastkit.errors import check_choice
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.protocol import unchanged
from contrastkit.optim import build_optimizer, decay_groups, learning_rate
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.transfer.batches import Batches, Example
from contrastkit.transfer.loop import Log, fit
from contrastkit.transfer.masks import IGNORED, MaskSet
from contrastkit.transfer.subject import TransferSubject


@dataclass(frozen=True, kw_only=True)
class LinearRecipe:
    """How a linear head is trained: AdamW, the rate rising linearly, then falling along half a cosine."""

    steps: Annotated[int, COUNT]
    batch: Annotated[int, BATCH] = 16
    lr: Annotated[float, POSITIVE] = 1e-3
    weight_decay: Annotated[float, NOT_NEGATIVE] = 1e-3
    warmup_steps: Annotated[int, COUNT_OR_0] = 1500
    dropout: Annotated[float, BELOW_1] = 0.1  # of whole channels
    clip_norm: Annotated[float, NOT_NEGATIVE] = 35.0
    scale: tuple[Annotated[float, POSITIVE], Annotated[float, POSITIVE]] = (0.5, 2.0)  # of the images, in crop sides
    flip_p: Annotated[float, SHARE] = 0.5

    def __post_init__(self) -> None:
        check_fields(self)


RECIPES = {
    # DINOv3's linear probe on ADE20k (its dinov3/eval/segmentation), there with crops of 512 px. Its one-cycle schedule
    # ends at a ten-thousandth of the first rate, ours at 0.
    "dinov3": LinearRecipe(steps=40_000),
    # Minutes on a CPU.
    "tiny": LinearRecipe(steps=300, batch=8, lr=3e-3, warmup_steps=30, scale=(0.75, 1.5)),
}


def linear_recipe(name: str, **changes: Any) -> LinearRecipe:
    """A row of :data:`RECIPES`, with the changes that are not None. A warm-up as long as the training is shortened to a
    tenth.

    Raises:
        UserError: no such row, or a number outside its interval.
    """
    check_choice("recipe", name, RECIPES)
    recipe = replace(RECIPES[name], **{key: value for key, value in changes.items() if value is not None})
    return replace(recipe, warmup_steps=min(recipe.warmup_steps, recipe.steps // 10))


class LinearHead(nn.Module):
    """Batch norm, dropout of channels, and a 1 x 1 convolution, weights N(0, 0.01): maps [N, D, h, w] -> logits
    [N, n_classes, h, w].

    Without the batch norm, features of different scales learn at different speeds: users who left it out got 0.33 mIoU
    where DINOv2 publishes 0.44 (dinov2, issue 385).
    """

    def __init__(self, features: int, n_classes: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(features, n_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.classify(self.dropout(self.norm(maps)))


def train_head(
    encoder: Encoder,
    data: MaskSet,
    recipe: LinearRecipe,
    subject: TransferSubject,
    *,
    size: int,
    journal: Journal | None = None,
    key: str = "",
    log: Log,
    on_step: Any,
) -> LinearHead:
    """Train a head on the frozen encoder, on random crops of ``size`` pixels; returned in eval mode. ``journal`` and
    ``key`` are those of :func:`contrastkit.transfer.loop.fit`.

    Raises:
        UserError: the loss is not finite.
        RuntimeError: a parameter or buffer of the encoder changed, which is a bug.
    """
    device = subject.device
    encoder.to(device)
    head = LinearHead(_width(encoder, size, device), len(data.classes), recipe.dropout, subject.seed).to(device)
    optimizer = build_optimizer(
        decay_groups(head.parameters()), "adamw", lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    warmup = recipe.warmup_steps / recipe.steps
    loader = Batches(
        data.train,
        Crop(size, recipe.scale, recipe.flip_p),
        channels=encoder.channels,
        batch=recipe.batch,
        seed=subject.seed,
        workers=subject.workers_for(data.train.images),
    )

    def loss_of(batch: list[Example]) -> Tensor:
        images = torch.stack([image for image, _ in batch]).to(device)
        masks = torch.stack([mask for _, mask in batch]).to(device)
        with torch.no_grad():
            maps = encoder.maps(images.float() / 255)
        logits = F.interpolate(head(maps), masks.shape[-2:], mode="bilinear")
        losses = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="sum")
        return losses / (masks != IGNORED).sum().clamp(min=1)  # a crop may have no labelled pixel

    with loader, evaluating(encoder), unchanged(encoder):
        fit(
            head,
            loss_of,
            loader,
            optimizer,
            steps=recipe.steps,
            rate=partial(learning_rate, schedule="cosine", base_lr=recipe.lr, warmup=warmup),
            clip_norm=recipe.clip_norm,
            seed=subject.seed,
            journal=journal,
            key=key,
            log=log,
            on_step=on_step,
        )
    return head.eval()


@torch.no_grad()
def _width(encoder: Encoder, size: int, device: torch.device) -> int:
    """Number of channels of the feature maps."""
    with evaluating(encoder):
        return encoder.maps(torch.zeros(1, encoder.channels, size, size, device=device)).shape[1]


class Crop:
    """A random crop of image and mask: resized to a square of ``scale`` times ``size``, drawn uniformly, cropped or
    padded to ``size`` pixels, and flipped. What is padded is black and has no class.

    Squares, because the test images are resized to one too.
    """

    def __init__(self, size: int, scale: tuple[float, float], flip_p: float) -> None:
        self.size, self.scale = size, scale
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
        self._rest = v2.Compose([v2.RandomCrop(size, pad_if_needed=True, fill=fill), v2.RandomHorizontalFlip(flip_p)])

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        side = max(1, round(self.size * torch.empty(()).uniform_(*self.scale).item()))
        pair = tv_tensors.Image(image), tv_tensors.Mask(mask)
        image, mask = self._rest(*(v2.functional.resize(each, [side, side], antialias=True) for each in pair))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)
