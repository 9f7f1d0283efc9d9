"""SimCLR's views with everything switched on, compared with torchvision's functions on tensors."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from contrastkit import ops
from contrastkit.augment import VIEWS, Params, draw, sizes_of
from contrastkit.augment.apply import arguments, packed
from contrastkit.bench.case import Case, reference, unavailable
from contrastkit.bench.measure import Way
from contrastkit.ops.augment import Call

JITTER: tuple[Callable[[Tensor, float], Tensor], ...] = (
    tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue,
)  # fmt: skip


def eager(images: Tensor, params: Params) -> Tensor:
    """torchvision's transforms with the numbers drawn, in float32: image by image, as in a DataLoader."""
    size, span = params.view.size, params.view.blur_span
    width = int(span * size) // 2 * 2 + 1
    views = []
    for i, box in enumerate(params.box.tolist()):
        x = tvf.resized_crop(images[params.image[i]] / 255, *box, [size, size], antialias=True)
        if params.flip[i]:
            x = tvf.horizontal_flip(x)
        for operation in params.jitter[i].tolist():
            if operation >= 0:
                x = JITTER[operation](x, float(params.factors[i, operation]))
        if params.gray[i]:
            x = tvf.rgb_to_grayscale(x, 3)
        if params.sigma[i] > 0:
            x = tvf.gaussian_blur(x, [width, width], [float(params.sigma[i])] * 2)
        if params.solarize[i]:
            x = tvf.solarize(x, 0.5)
        views.append(x)
    return torch.stack(views)


def cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """Two views of each image, of `dtype`: of photos, with everything on, and of images like CIFAR's, without blur."""
    small = replace(VIEWS["simclr-cifar"][0], jitter_p=1.0, solarize_p=0.2)  # torchvision's operations
    everything = replace(small, size=224, blur_p=1.0)
    few = preset == "quick"
    for view, n, height, width in ((everything, 2 if few else 16, 480, 640), (small, 64 if few else 512, 32, 32)):
        noise = torch.rand(n, 3, height // 8, width // 8)
        smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")
        images = (smooth * 255).byte().to(device)
        index, v = torch.arange(n, device=device), torch.arange(2, device=device)[:, None]
        params = draw(view, sizes_of(images), channels=3, seed=0, time=0, index=index, v=v)
        given = arguments(packed(images), params) | {"mean": None, "std": None, "dtype": dtype, "channels_last": False}
        if dtype == torch.float16:
            missing = unavailable("views are float32, bfloat16 or uint8")
            ways: dict[str, Way] = {"eager": functools.partial(eager, images, params), "ours": missing}
        else:
            ways = {
                "eager": functools.partial(eager, images, params),
                "reference": functools.partial(reference("augment"), *Call(**given)),
                "ours": functools.partial(ops.augment, **given),
            }
        pixels = 3 * int(params.box[:, 2:].prod(1).sum())
        yield Case(
            f"m={2 * n} {width}x{height} to {view.size} px",
            "forward",
            ways,
            {"eager": "torchvision.transforms.v2.functional"},
            bytes=pixels + 3 * view.size**2 * 2 * n * dtype.itemsize,
        )
