"""Augmentations as rows of numbers: their fields (:class:`View`), and the rows of the papers (:data:`VIEWS`)."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from contrastkit.bounds import SHARE, SIDE, Interval, check_choices, check_fields
from contrastkit.errors import UserError, check_choice
from contrastkit.types import Modality

FACTOR = Interval(0, 100)  # of jitter
SIGMA = Interval(0, 1000, above=True)  # of blur, in pixels
ZOOM = Interval(0, 100, above=True)


@dataclass(frozen=True, kw_only=True)
class View:
    """The numbers of one augmentation. Colour operations apply to images of three channels only."""

    modalities = (Modality.IMAGE, Modality.ALIGNED)

    size: Annotated[int, "side of the view in pixels", SIDE] = 224
    crop_min: Annotated[float, "smallest crop, as a share of the image's area (RandomResizedCrop)", SHARE] = 0.2
    crop_max: Annotated[float, "largest crop, as a share of the image's area", SHARE] = 1.0
    ratio: Annotated[float, "aspect ratio of the crop, log-uniform in [1/ratio, ratio]", Interval(1, 100)] = 4 / 3
    interpolation: Annotated[Literal["bilinear", "bicubic"], "how the crop is resized"] = "bilinear"
    antialias: Annotated[bool, "average all that a shrunk pixel covers (torchvision, PIL; not TensorFlow)"] = True
    flip_p: Annotated[float, "probability of a horizontal flip", SHARE] = 0.5
    jitter_p: Annotated[float, "probability of colour jitter (operations in random order)", SHARE] = 0.8
    brightness: Annotated[float, "jitter: factor in 1 +- this", FACTOR] = 0.4
    brightness_by: Annotated[
        Literal["factor", "addend"], "jitter: brightness multiplies, or adds a number in +- its strength (TensorFlow)"
    ] = "factor"
    contrast: Annotated[float, "jitter: factor in 1 +- this", FACTOR] = 0.4
    contrast_about: Annotated[
        Literal["luma", "channels"], "jitter: contrast about the mean luma, or each channel's own mean (TensorFlow)"
    ] = "luma"
    saturation: Annotated[float, "jitter: factor in 1 +- this", FACTOR] = 0.4
    saturation_in: Annotated[
        Literal["rgb", "hsv"], "jitter: saturation by blending with gray, or of HSV (TensorFlow)"
    ] = "rgb"
    hue: Annotated[float, "jitter: rotation in +- this; 0.5 is half the colour circle", Interval(0, 0.5)] = 0.1
    gray_p: Annotated[float, "probability of conversion to grayscale", SHARE] = 0.2
    gray_first: Annotated[bool, "convert to grayscale before the jitter (MoCo v1's order)"] = False
    blur_p: Annotated[float, "probability of Gaussian blur (SimCLR, App. A)", SHARE] = 0.0
    sigma_min: Annotated[float, "blur: smallest standard deviation in pixels", SIGMA] = 0.1
    sigma_max: Annotated[float, "blur: largest standard deviation in pixels", SIGMA] = 2.0
    blur_span: Annotated[
        float, "blur: kernel width as a share of the side (SimCLR: 0.1); 0: not truncated (PIL, MoCo)", SHARE
    ] = 0.0
    blur_border: Annotated[
        Literal["mirrored", "zero", "repeated"],
        "blur: beyond the border, pixels are mirrored (torchvision), black (TensorFlow) or repeated (PIL)",
    ] = "mirrored"
    solarize_p: Annotated[float, "probability of solarization: inverting pixels above 1/2 (BYOL, App. B)", SHARE] = 0.0
    degrees: Annotated[float, "rotation in +- degrees", Interval(0, 180)] = 0.0
    shear: Annotated[float, "horizontal shear in +- degrees", Interval(0, 90, below=True)] = 0.0
    translate: Annotated[float, "shift in +- this share of the side", SHARE] = 0.0
    zoom_min: Annotated[float, "smallest magnification", ZOOM] = 1.0
    zoom_max: Annotated[float, "largest magnification", ZOOM] = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_fields(self)
        if not 0 < self.crop_min <= self.crop_max:
            raise UserError(
                f"--crop-min {self.crop_min} and --crop-max {self.crop_max} must be in ascending order within (0, 1]"
            )
        for low, high in (("sigma_min", "sigma_max"), ("zoom_min", "zoom_max")):
            least, most = getattr(self, low), getattr(self, high)
            if least > most:
                flags = f"--{low.replace('_', '-')} {least} and --{high.replace('_', '-')} {most}"
                raise UserError(f"{flags} must be in ascending order")

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Of a view."""
        return channels, self.size, self.size

    @property
    def affine(self) -> bool:
        """Whether images are rotated, sheared, shifted or zoomed before the crop."""
        return any((self.degrees, self.shear, self.translate)) or (self.zoom_min, self.zoom_max) != (1, 1)


# MoCo's main_moco.py; v2 adds blur (Sec. 3) and weakens the hue. PIL's blur repeats the border: here as below, where
# the official code blurs with PIL (ImageFilter.GaussianBlur).
_V1 = View(jitter_p=1.0, hue=0.4, gray_first=True)
_V2 = View(blur_p=0.5, blur_border="repeated")
# TensorFlow's operations, in SimCLR's tf2/data_util.py: tf.image.resize(..., BICUBIC) with its antialias=False,
# random_contrast, random_saturation, and depthwise_conv2d with padding SAME; the same formulas in BYOL's
# utils/dataset.py and utils/augmentations.py.
_TENSORFLOW: dict[str, Any] = {
    "interpolation": "bicubic", "antialias": False, "contrast_about": "channels", "saturation_in": "hsv",
    "blur_border": "zero",
}  # fmt: skip
# SimCLR, App. A: jitter of strength s is (.8s, .8s, .8s, .2s). Its brightness is a factor (impl="simclrv2", the default
# of both versions' code). App. B.9: CIFAR-10 takes s = 0.5 and no blur.
_SIMCLR = View(crop_min=0.08, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_p=0.5, blur_span=0.1)
# BYOL, App. B, Table 6: the two views differ in blur and solarization.
_BYOL = View(crop_min=0.08, saturation=0.2, blur_p=1.0, blur_span=0.1)
# utils/augmentations.py, adjust_brightness: an addend.
_BYOL_IMAGENET = replace(_BYOL, brightness_by="addend", **_TENSORFLOW)
# SwAV's scripts and multicropdataset.py: SimCLR's jitter, s = 1, for two full-size crops and for the small ones;
# bilinear, torchvision's default, and blurred by PIL.
_SWAV = View(
    crop_min=0.14, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_p=0.5, blur_border="repeated"
)  # fmt: skip
_SWAV_SMALL = replace(_SWAV, size=96, crop_min=0.05, crop_max=0.14)

# CMC, train_CMC.py: crop and flip alone (--crop_low 0.08 for ResNets on ImageNet).
_CMC = View(crop_min=0.08, jitter_p=0.0, gray_p=0.0)

# open_clip's AugmentationCfg: RandomResizedCrop(scale=(0.9, 1)), bicubic, and nothing else: flips and colours would
# contradict captions.
_CLIP = View(crop_min=0.9, interpolation="bicubic", flip_p=0.0, jitter_p=0.0, gray_p=0.0)

# MoCo v3, main_moco.py: BYOL's numbers with torchvision's operations, blurred by PIL.
_V3 = (
    View(saturation=0.2, blur_p=1.0, blur_border="repeated"),
    View(saturation=0.2, blur_p=0.1, blur_border="repeated", solarize_p=0.2),
)
# DINO, main_dino.py: the same in global crops, and local ones; all resized with interpolation=Image.BICUBIC.
_GLOBAL = tuple(replace(view, interpolation="bicubic") for view in _V3)
_LOCAL = View(
    size=96, crop_min=0.05, crop_max=0.4, interpolation="bicubic", saturation=0.2, blur_p=0.5, blur_border="repeated"
)

# MAE, main_pretrain.py: crop and flip alone.
_MAE = View(interpolation="bicubic", jitter_p=0.0, gray_p=0.0)

# CPC crops 256 (v1) or 260 (v2) of 300 pixels and augments patch by patch.
_CPC = View(size=260, crop_min=(260 / 300) ** 2, crop_max=(260 / 300) ** 2, ratio=1.0, jitter_p=0.0, gray_p=0.0)
# Bolts shifts CIFAR's images by up to 4 pixels; a crop of 28 of 32 does as much.
_CPC_CIFAR = View(size=32, crop_min=(28 / 32) ** 2, ratio=1.0, hue=0.2, gray_p=0.25)

# For digits and letters: poses instead of flips, which would change the class, and of colour. A pose must move a digit
# as far as the set does, or its place on the canvas would identify the image; crops would cut it off.
_DIGITS = View(
    size=32, crop_min=1.0, flip_p=0.0, jitter_p=0.0, gray_p=0.0,
    degrees=30.0, shear=15.0, translate=0.25, zoom_min=0.7, zoom_max=1.3,
)  # fmt: skip

VIEWS: dict[str, tuple[View, ...]] = {
    "instdisc": (_V1,),  # lemniscate.pytorch's main.py, adopted by MoCo v1
    "instdisc-cifar": (replace(_V1, size=32, flip_p=0.0, gray_first=False),),  # its cifar.py
    "cpc-v1": (replace(_CPC, size=256, crop_min=(256 / 300) ** 2, crop_max=(256 / 300) ** 2, gray_p=1.0),),  # Sec. 3.2
    "cpc-v1-patches": (  # Sec. 3.2: 60 of 64 pixels
        replace(_CPC, size=64, crop_min=(60 / 64) ** 2, crop_max=(60 / 64) ** 2, flip_p=0.0),
    ),
    "cpc-v2": (_CPC,),  # App. A.1
    "cpc-v2-patches": (  # App. A.1: Inception's colours 0.8, gray 0.25; otherwise poses and AutoAugment's solarize
        View(
            size=80, crop_min=1.0, flip_p=0.0, brightness=32 / 255, contrast=0.5, saturation=0.5, hue=0.2, gray_p=0.25,
            degrees=10.0, shear=10.0, solarize_p=2 / 16,
        ),
    ),
    "cpc-cifar": (_CPC_CIFAR,),
    "cpc-cifar-patches": (replace(_CPC_CIFAR, size=8, crop_min=1.0, flip_p=0.0),),
    "cmc": (_CMC,),
    "cmc-32": (replace(_CMC, size=32, crop_min=0.2),),  # its default --crop_low
    # RandomCrop(32, padding=4): shifts by -4 to 4 pixels, equally likely, and black beyond the border.
    "crd-32": (replace(_CMC, size=32, crop_min=1.0, ratio=1.0, translate=4.5 / 32),),
    "moco-v1": (_V1, _V1),
    "moco-v2": (_V2, _V2),
    "moco-cifar": (View(size=32, crop_min=0.08),) * 2,  # MoCo's CIFAR-10 demo
    "simclr": (replace(_SIMCLR, **_TENSORFLOW),) * 2,
    "simclr-cifar": (
        replace(_SIMCLR, size=32, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_p=0.0),
    ) * 2,
    # v2, Sec. 3: random crops and flips alone, in fine-tuning and distillation.
    "simclr-distill": (replace(_SIMCLR, jitter_p=0.0, gray_p=0.0, blur_p=0.0, **_TENSORFLOW),),
    "simclr-distill-32": (View(size=32, crop_min=0.2, jitter_p=0.0, gray_p=0.0),),  # a crop of 0.08 shows too little
    "byol": (_BYOL_IMAGENET, replace(_BYOL_IMAGENET, blur_p=0.1, solarize_p=0.2)),
    "byol-cifar": (  # solo-learn's asymmetric.yaml for CIFAR: no blur
        replace(_BYOL, size=32, blur_p=0.0), replace(_BYOL, size=32, blur_p=0.0, solarize_p=0.2),
    ),
    "swav": (_SWAV,) * 2 + (_SWAV_SMALL,) * 6,
    "swav-small": (replace(_SWAV, size=160),) * 2 + (_SWAV_SMALL,) * 4,  # fewer pixels than two of 224
    "swav-cifar": (replace(_SWAV, size=32, blur_p=0.0, blur_border="mirrored"),) * 2,  # lightly's CIFAR-10 benchmark
    "clip": (_CLIP,),
    "clip-32": (replace(_CLIP, size=32),),
    "moco-v3": _V3,  # CONFIG.md: --crop-min 0.2 for ResNets, 0.08 for ViTs
    "moco-v3-vit": tuple(replace(view, crop_min=0.08) for view in _V3),
    "dino": (*(replace(view, crop_min=0.4) for view in _GLOBAL), *(_LOCAL,) * 8),
    "dino-r50": (*(replace(view, crop_min=0.14) for view in _GLOBAL), *(replace(_LOCAL, crop_max=0.14),) * 8),
    "dino-32": (  # lightly's for CIFAR
        View(size=32, crop_min=0.4, saturation=0.2), View(size=32, crop_min=0.4, saturation=0.2, solarize_p=0.2),
    ),
    "mae": (_MAE,),
    "mae-32": (replace(_MAE, size=32),),
    # Several environments: DomainBed's (datasets.py), GroupDRO's for birds (data/cub_dataset.py), StableNet's.
    "domainbed": (
        View(crop_min=0.7, jitter_p=1.0, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3, gray_p=0.1),
    ),
    "groupdro": (View(crop_min=0.7, jitter_p=0.0, gray_p=0.0),),
    "stablenet": (View(crop_min=0.8, jitter_p=1.0, hue=0.4, gray_p=0.1),),
    "digits": (_DIGITS,) * 2,
    # Also brightness, contrast and sharpness, which a loss without negatives would otherwise latch on to.
    "digits-strong": (
        replace(_DIGITS, jitter_p=1.0, brightness=0.6, contrast=0.6, blur_p=0.5, sigma_min=0.3),
    ) * 2,
}  # fmt: skip


def named_views(name: str) -> tuple[View, ...]:
    """The views called ``name``.

    Raises:
        UserError: no such views; the nearest name is suggested.
    """
    check_choice("views", name, VIEWS)
    return VIEWS[name]
