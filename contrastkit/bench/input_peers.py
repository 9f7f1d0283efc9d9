"""Other libraries' views for :mod:`contrastkit.bench.input`, each in its own way with the numbers of a row of ours."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from contrastkit.augment import View


class Peer(NamedTuple):
    """A library's augmentation, image by image."""

    prepare: Callable[[Image.Image], Any]  # a decoded picture -> what the transform takes
    transform: Callable[[View], Callable[[Any], Any]]  # to float pixels


def _crop(view: View) -> dict[str, Any]:
    return {"scale": (view.crop_min, view.crop_max), "ratio": (1 / view.ratio, view.ratio)}


def _kernel(view: View) -> int:
    """The width of the blur in pixels, odd; where ours is not truncated, three standard deviations to each side."""
    return 2 * (int(int(view.blur_span * view.size) / 2) if view.blur_span else math.ceil(3 * view.sigma_max)) + 1


def _torchvision(view: View) -> Callable[[Any], Any]:
    from torchvision.transforms import v2

    pose = v2.RandomAffine(
        view.degrees, (view.translate,) * 2, (view.zoom_min, view.zoom_max), (-view.shear, view.shear)
    )
    jitter = v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    colours = [v2.RandomApply([jitter], view.jitter_p), v2.RandomGrayscale(view.gray_p)]
    blur = v2.GaussianBlur(_kernel(view), (view.sigma_min, view.sigma_max))
    return v2.Compose(
        [
            *([pose] if view.affine else []),
            v2.RandomResizedCrop(view.size, **_crop(view), antialias=True),
            v2.RandomHorizontalFlip(view.flip_p),
            *(reversed(colours) if view.gray_first else colours),
            *([v2.RandomApply([blur], view.blur_p)] if view.blur_p else []),
            *([v2.RandomSolarize(128, view.solarize_p)] if view.solarize_p else []),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def _lightly(view: View) -> Callable[[Any], Any]:
    from lightly.transforms.simclr_transform import SimCLRViewTransform

    return SimCLRViewTransform(
        input_size=view.size,
        min_scale=view.crop_min,
        hf_prob=view.flip_p,
        cj_prob=view.jitter_p,
        cj_bright=view.brightness,
        cj_contrast=view.contrast,
        cj_sat=view.saturation,
        cj_hue=view.hue,
        random_gray_scale=view.gray_p,
        gaussian_blur=view.blur_p,
        sigmas=(view.sigma_min, view.sigma_max),
        normalize=None,
    )


def _kornia(view: View) -> Callable[[Any], Any]:
    from kornia import augmentation as kornia

    side, sigma = (view.size, view.size), (view.sigma_min, view.sigma_max)
    jitter = view.brightness, view.contrast, view.saturation, view.hue
    return torch.nn.Sequential(
        kornia.RandomResizedCrop(side, **_crop(view)),
        kornia.RandomHorizontalFlip(p=view.flip_p),
        kornia.ColorJitter(*jitter, p=view.jitter_p),
        kornia.RandomGrayscale(p=view.gray_p),
        *([kornia.RandomGaussianBlur((_kernel(view),) * 2, sigma, p=view.blur_p)] if view.blur_p else []),
        *([kornia.RandomSolarize(0.0, 0.0, p=view.solarize_p)] if view.solarize_p else []),
    )


def _albumentations(view: View) -> Callable[[Any], Any]:
    import albumentations
    import cv2

    cv2.setNumThreads(1)
    blur = {"blur_limit": _kernel(view), "sigma_limit": (view.sigma_min, view.sigma_max), "p": view.blur_p}
    jitter = view.brightness, view.contrast, view.saturation, view.hue
    compose = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((view.size, view.size), **_crop(view)),
            albumentations.HorizontalFlip(p=view.flip_p),
            albumentations.ColorJitter(*jitter, p=view.jitter_p),
            albumentations.ToGray(p=view.gray_p),
            *([albumentations.GaussianBlur(**blur)] if view.blur_p else []),
            *([albumentations.Solarize(p=view.solarize_p)] if view.solarize_p else []),
            albumentations.ToFloat(255),
        ]
    )
    return lambda pixels: compose(image=pixels)["image"]


PEERS = {
    "torchvision": Peer(pil_to_tensor, _torchvision),
    "lightly": Peer(lambda image: image, _lightly),
    "kornia": Peer(lambda image: pil_to_tensor(image)[None] / 255, _kornia),
    "albumentations": Peer(np.asarray, _albumentations),
}


def dali(files: Sequence[Path], views: Sequence[View]) -> Callable[[], Any]:
    """DALI's pipeline on one thread of the CPU, from files to views; nothing is prepared ahead of a call."""
    from nvidia.dali import fn, pipeline_def, types

    def chance(p: float) -> Any:
        return fn.random.coin_flip(probability=p, dtype=types.BOOL)

    def around(middle: float, strength: float) -> Any:
        return fn.random.uniform(range=(middle - strength, middle + strength))

    def view_of(pixels: Any, view: View) -> Any:
        crop = {"random_area": _crop(view)["scale"], "random_aspect_ratio": _crop(view)["ratio"]}
        pixels = fn.random_resized_crop(pixels, size=(view.size, view.size), antialias=True, **crop)
        pixels = fn.flip(pixels, horizontal=fn.random.coin_flip(probability=view.flip_p))
        if chance(view.jitter_p):
            factors = {name: around(1, getattr(view, name)) for name in ("brightness", "contrast", "saturation")}
            pixels = fn.color_twist(pixels, hue=around(0, 360 * view.hue), **factors)
        if chance(view.gray_p):
            pixels = fn.hsv(pixels, saturation=0.0)
        if chance(view.blur_p):
            sigma = fn.random.uniform(range=(view.sigma_min, view.sigma_max))
            pixels = fn.gaussian_blur(pixels, sigma=sigma, window_size=_kernel(view))
        if chance(view.solarize_p):
            pixels = fn.cast((pixels >= 128) * (255 - pixels) + (pixels < 128) * pixels, dtype=types.UINT8)
        return fn.crop_mirror_normalize(pixels, output_layout="CHW", std=[255.0])

    @pipeline_def(enable_conditionals=True)
    def pipeline() -> Any:
        encoded, _ = fn.readers.file(files=list(map(str, files)))
        pixels = fn.decoders.image(encoded, output_type=types.RGB)
        return tuple(view_of(pixels, view) for view in views)

    made = pipeline(batch_size=len(files), num_threads=1, device_id=None, exec_async=False, exec_pipelined=False)
    made.build()
    return made.run
