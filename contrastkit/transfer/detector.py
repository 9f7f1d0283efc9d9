"""Faster R-CNN (Ren et al. 2015) on an encoder: torchvision's, with a feature pyramid or, as MoCo has it, on C4.

Three traps of torchvision's own builders are avoided: ``fasterrcnn_*`` load ImageNet's supervised backbone unless told
otherwise; ``resnet_fpn_backbone`` freezes the first layers unless told to train five; and its batch norms are frozen,
which without weights are the initial ones. Here the backbone is the encoder, copied; what is frozen is what ``freeze``
says; and norms are frozen only where they have been trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from contrastkit.bounds import BATCH, BELOW_1, COUNT, COUNT_OR_0, NOT_NEGATIVE, POSITIVE, SIDE, Interval, check_fields
from contrastkit.errors import UserError, check_choice
from contrastkit.parts.encoder import Encoder
from contrastkit.transfer.pyramid import Pyramid, Staged, pyramid_body, stem_and_stages, strides_of

Head = Literal["fpn", "c4"]
Norm = Literal["trained", "frozen"]
RATIOS = (0.5, 1.0, 2.0)  # of anchors, height by width
LONGEST = 1333 / 800  # longer side of an image at most, in shorter sides


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe:
    """A detector and how it is trained: SGD, the rate rising linearly from a thousandth, then times 0.1 at each of
    ``milestones``."""

    head: Head
    steps: Annotated[int, COUNT]
    batch: Annotated[int, BATCH]
    lr: Annotated[float, POSITIVE]
    warmup_steps: Annotated[int, COUNT_OR_0]
    size: Annotated[int, SIDE]  # shorter side of the test images in pixels
    smallest: Annotated[float, Interval(0, 1, above=True)]  # shorter side of the smallest training images, in ``size``s
    milestones: tuple[Annotated[float, BELOW_1], ...] = (18 / 24, 22 / 24)
    momentum: Annotated[float, BELOW_1] = 0.9
    weight_decay: Annotated[float, NOT_NEGATIVE] = 1e-4  # not of norms
    norm: Norm = "trained"
    freeze: Annotated[int, Interval(0, 5)] = (
        0  # 1 freezes the stem, 2 the first stage too, ... (detectron2's FREEZE_AT)
    )
    rois: Annotated[int, COUNT] = 512  # proposals of an image that the box head learns from

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def sides(self) -> list[int]:
        """The eleven shorter sides among which a training image's is drawn: 480, 512, ..., 800 of MoCo's."""
        return [round(self.size * (self.smallest + (1 - self.smallest) * k / 10)) for k in range(11)]


RECIPES = {
    # MoCo's for VOC07+12 (detection/configs/pascal_voc_R_50_C4_24k.yaml of its repository), there with synchronised
    # batch norms of eight GPUs and, before the test, statistics of the training images; means of five trainings.
    "moco-voc": DetectorRecipe(
        head="c4", steps=24_000, batch=16, lr=0.02, warmup_steps=100, size=800, smallest=0.6
    ),
    # Minutes on a CPU.
    "tiny": DetectorRecipe(
        head="fpn", steps=200, batch=4, lr=0.02, warmup_steps=20, size=160, smallest=0.8, rois=64
    ),
}  # fmt: skip


def detector_recipe(name: str, **changes: Any) -> DetectorRecipe:
    """A row of :data:`RECIPES`, with the changes that are not None. A warm-up as long as the training is shortened to a
    tenth.

    Raises:
        UserError: no such row, or a number outside its interval.
    """
    check_choice("recipe", name, RECIPES)
    recipe = replace(RECIPES[name], **{key: value for key, value in changes.items() if value is not None})
    return replace(recipe, warmup_steps=min(recipe.warmup_steps, recipe.steps // 10))


def build_detector(encoder: Encoder, n_classes: int, recipe: DetectorRecipe) -> FasterRCNN:
    """A detector on a copy of the encoder's trunk; heads are initialised from torch's generator.

    It takes a list of images [channels, H, W] in [0, 1], which are normalised as the encoder does it, and in training
    a list of targets as torchvision has them.

    Args:
        n_classes: without the background.

    Raises:
        UserError: the encoder lacks the maps that the head needs.
    """
    parts = _c4(encoder, recipe) if recipe.head == "c4" else _fpn(encoder, recipe)
    width = parts.pop("width")
    detector = FasterRCNN(
        box_predictor=FastRCNNPredictor(width, n_classes + 1), box_batch_size_per_image=recipe.rois, **parts
    )
    detector.transform = Prepare(
        min_size=recipe.sides,
        max_size=round(recipe.size * LONGEST),
        image_mean=encoder.mean.flatten().tolist(),
        image_std=encoder.std.flatten().tolist(),
    )
    return detector


class Prepare(GeneralizedRCNNTransform):
    """Images as the detector sees them: normalised, resized bilinearly, and padded to one size.

    torchvision's own shrinks them without antialias: it leaves most pixels of a large image out. MoCo's, detectron2's
    ``ResizeShortestEdge``, is Pillow's bilinear, which has it, and so do all other images here. Unlike Pillow's, values
    are not rounded to 8 bits, and a fraction of a pixel of a side is dropped, not rounded.
    """

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Image [C, H, W], and its boxes with it: the shorter side is one of ``min_size``, drawn in training, else the
        last, if the longer one is then at most ``max_size``."""
        height, width = image.shape[1:]
        side = self.torch_choice(list(self.min_size)) if self.training else self.min_size[-1]
        scale = min(side / min(height, width), self.max_size / max(height, width))
        how: Any = {"scale_factor": scale, "recompute_scale_factor": True, "antialias": scale < 1}
        image = F.interpolate(image[None], mode="bilinear", align_corners=False, **how)[0]
        if target is not None:
            new_height, new_width = image.shape[1:]
            factors = target["boxes"].new_tensor([new_width / width, new_height / height]).repeat(2)
            target["boxes"] = target["boxes"] * factors
        return image, target


def _fpn(encoder: Encoder, recipe: DetectorRecipe, channels: int = 256, width: int = 1024) -> dict[str, Any]:
    """Lin et al. (2017): anchors of eight strides at each level, boxes pooled from the level of their size."""
    body = pyramid_body(encoder)
    levels = strides_of(body, encoder)
    _freeze(body, recipe)
    strides = [stride for stride, _ in levels] + [2 * levels[-1][0]]
    names = [str(i) for i in range(len(levels))]
    return {
        "backbone": Pyramid(body, [c for _, c in levels], channels),
        "rpn_anchor_generator": AnchorGenerator(tuple((8 * stride,) for stride in strides), (RATIOS,) * len(strides)),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(channels * 7 * 7, width),
        "width": width,
    }


class _C4(nn.Module):
    """All stages but the last: normalised images -> their maps."""

    def __init__(self, body: Staged, out_channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)["0"]


def _c4(encoder: Encoder, recipe: DetectorRecipe) -> dict[str, Any]:
    """The head of MoCo's detection (``Res5ROIHeadsExtraNorm``): boxes pooled to 14 x 14 from the maps before the last
    stage, that stage, a new batch norm, and the mean over the positions."""
    if (parts := stem_and_stages(encoder)) is None:
        kind = type(encoder.trunk).__name__
        raise UserError(f"--head c4 divides a ResNet before its last stage, not {kind}: use --head fpn")
    stem, stages = parts
    (_, width) = strides_of(Staged(stem, stages, len(stages) - 1), encoder)[0]
    body = Staged(stem, stages[:-1], len(stages) - 2)
    (_, channels) = strides_of(body, encoder)[0]
    _freeze(body, recipe)
    last = nn.Sequential(stages[-1])
    if recipe.norm == "frozen":
        freeze_batch_norm_2d(last)
    return {
        "backbone": _C4(body, channels),
        "rpn_anchor_generator": AnchorGenerator(((32, 64, 128, 256, 512),), (RATIOS,)),
        "rpn_pre_nms_top_n_train": 12_000,
        "rpn_pre_nms_top_n_test": 6_000,
        "box_roi_pool": MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=0),
        "box_head": nn.Sequential(last, nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "width": width,
    }


def _freeze(body: nn.Module, recipe: DetectorRecipe) -> None:
    """Freeze norms and the first layers as a recipe says; a frozen layer's norms are frozen too."""
    frozen: Sequence[Any] = ()
    if recipe.freeze:
        if not isinstance(body, Staged):
            raise UserError("--freeze counts the stages of tiny and of torchvision's ResNets: use --freeze 0")
        frozen = [body.stem, *body.stages][: recipe.freeze]
    for part in [body] if recipe.norm == "frozen" else frozen:
        freeze_batch_norm_2d(part)  # with their present statistics, scales and shifts
    for part in frozen:
        part.requires_grad_(False)


def trained_parameters(detector: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that are trained: weights and biases, and those of norms, which are not decayed (detectron2)."""
    kinds = nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm
    norms = {id(p) for module in detector.modules() if isinstance(module, kinds) for p in module.parameters()}
    trained = [p for p in detector.parameters() if p.requires_grad]
    return [p for p in trained if id(p) not in norms], [p for p in trained if id(p) in norms]
