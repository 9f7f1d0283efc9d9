"""Calls of ops.augment for tests: images in memory in any layout, rows of the table, and a view pixel by pixel."""

import colorsys
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

LUMA = np.array([0.2989, 0.587, 0.114])


def photo(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth image with noise, flat parts and gray pixels, uint8 [C, H, W]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 4, generator=g)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0] * 1.5 - 0.25
    fine += 0.1 * torch.rand(channels, height, width, generator=g)
    fine[:, : height // 5] = 0.5
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8)


def in_memory(images: list[Tensor], layout: str) -> tuple[Tensor, Tensor]:
    """pixels and places of images [C, H, W]: in planes, with the channels innermost, or every other byte of rows that
    are too long; other bytes are 255, and a few lie in front."""
    parts, places, start = [torch.full((5,), 255, dtype=torch.uint8)], [], 5
    for image in images:
        C, h, w = image.shape
        if layout == "planes":
            part, strides = image, (h * w, w, 1)
        elif layout == "innermost":
            part, strides = image.permute(1, 2, 0), (1, w * C, C)
        else:
            part = torch.full((h, 3 * w + 7, C), 255, dtype=torch.uint8)
            part[:, : 2 * w : 2] = image.permute(1, 2, 0)
            strides = (1, (3 * w + 7) * C, 2 * C)
        parts.append(part.reshape(-1))
        places.append([start, h, w, *strides])
        start += part.numel()
    return torch.cat(parts), torch.tensor(places)


def table(rows: list[dict[str, Any]], device: str = "cpu") -> dict[str, Any]:
    """Arguments of ops.augment from rows, whose missing numbers change nothing."""

    def column(name: str, default: Any, dtype: torch.dtype) -> Tensor:
        return torch.tensor([row.get(name, default) for row in rows], dtype=dtype, device=device)

    jitter = [list(row.get("jitter", ())) for row in rows]
    arguments = {
        "image": column("image", 0, torch.int64),
        "box": column("box", None, torch.int64).view(-1, 4),
        "flip": column("flip", False, torch.bool),
        "jitter": torch.tensor([j + [-1] * (4 - len(j)) for j in jitter], dtype=torch.int64, device=device).view(-1, 4),
        "factors": column("factors", [1.0, 1.0, 1.0, 0.0], torch.float32).view(-1, 4),
        "gray": column("gray", False, torch.bool),
        "sigma": column("sigma", 0.0, torch.float64),
        "solarize": column("solarize", False, torch.bool),
    }
    if any("pose" in row for row in rows):
        arguments["pose"] = column("pose", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], torch.float32)
    return arguments


def random_rows(
    m: int, images: list[Tensor], *, pose: bool = False, tensorflow: bool = False, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows with everything switched on and off, for images of one number of channels."""
    g = np.random.default_rng(seed)
    rows = []
    for _ in range(m):
        i = int(g.integers(len(images)))
        C, h, w = images[i].shape
        height, width = int(g.integers(1, h + 1)), int(g.integers(1, w + 1))
        operations = g.permutation(4 if C == 3 else 2)[: g.integers(0, 5)].tolist()
        row = {
            "image": i,
            "box": [int(g.integers(h - height + 1)), int(g.integers(w - width + 1)), height, width],
            "flip": bool(g.integers(2)),
            "jitter": operations,
            "factors": [*g.uniform(0.2, 1.8, 3).tolist(), float(g.uniform(-0.5, 0.5))],
            "gray": C == 3 and bool(g.random() < 0.3),
            "sigma": float(g.uniform(0.1, 3)) if g.random() < 0.6 else 0.0,
            "solarize": bool(g.random() < 0.3),
        }
        if tensorflow:
            row["jitter"] = [k + 4 * (k < 3 and bool(g.integers(2))) for k in operations]
            if 4 in row["jitter"]:
                row["factors"][0] -= 1
        if pose:
            turn, zoom = g.uniform(-1, 1), g.uniform(0.7, 1.4)
            a, b = math.cos(turn) * zoom, math.sin(turn) * zoom
            row["pose"] = [[a, b, float(g.uniform(-0.4, 0.4))], [-b, a, float(g.uniform(-0.4, 0.4))]]
        rows.append(row)
    return rows


# ----------------------------------------------------------------------------------- by hand, in float64, from formulas


def by_hand(
    images: list[Tensor],
    row: dict[str, Any],
    size: int,
    radius: int,
    gray_first: bool = False,
    interpolation: str = "bilinear",
    antialias: bool = True,
    border: str = "mirrored",
) -> np.ndarray:
    """The view of a row, [C, size, size]."""
    x = images[row.get("image", 0)].numpy().astype(np.float64)
    if "pose" in row:
        x = posed(x, row["pose"])
    top, left, height, width = row["box"]
    x = x[:, top : top + height, left : left + width]
    down, across = (weights(length, size, interpolation, antialias) for length in (height, width))
    x = down @ x @ across.T / 255
    x = np.clip(x, 0, 1) if interpolation == "bicubic" else x
    x = x[..., ::-1] if row.get("flip") else x
    if row.get("gray") and gray_first:
        x = np.stack([np.tensordot(LUMA, x, 1)] * 3)
    for operation in row.get("jitter", ()):
        x = jittered(x, operation, float(np.float32(row["factors"][operation % 4])))
    if row.get("gray") and not gray_first:
        x = np.stack([np.tensordot(LUMA, x, 1)] * 3)
    if row.get("sigma"):
        x = blurred(x, row["sigma"], radius, border)
    if row.get("solarize"):
        x = np.where(x >= 0.5, 1 - x, x)
    return np.clip(x, 0, 1)


def posed(x: np.ndarray, pose: list[list[float]]) -> np.ndarray:
    C, h, w = x.shape
    out = np.zeros_like(x)
    for i in range(h):
        for j in range(w):
            u, v = (2 * j + 1) / w - 1, (2 * i + 1) / h - 1
            (a, b, c), (d, e, f) = np.array(pose, dtype=np.float32).astype(np.float64).tolist()
            column, line = ((a * u + b * v + c + 1) * w - 1) / 2, ((d * u + e * v + f + 1) * h - 1) / 2
            for y in (math.floor(line), math.floor(line) + 1):
                for z in (math.floor(column), math.floor(column) + 1):
                    if 0 <= y < h and 0 <= z < w:
                        out[:, i, j] += (1 - abs(line - y)) * (1 - abs(column - z)) * x[:, y, z]
    return out


def weights(length: int, size: int, interpolation: str, antialias: bool) -> np.ndarray:
    """[size, length]: a triangle about each output's centre, as wide as two pixels of the coarser grid (antialiased) or
    of the given one; or a cubic as wide as four."""
    scale = length / size
    w = np.zeros((size, length))
    for j in range(size):
        for p in range(length):
            t = abs((p + 0.5) - (j + 0.5) * scale) / (max(scale, 1.0) if antialias else 1.0)
            w[j, p] = keys(t) if interpolation == "bicubic" else max(0.0, 1 - t)
        w[j] /= w[j].sum()
    return w


def keys(t: float, a: float = -0.5) -> float:
    """Keys (1981), Cubic convolution interpolation, Eq. 15: t in pixels."""
    if t < 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def jittered(x: np.ndarray, operation: int, factor: float) -> np.ndarray:
    if operation >= 4:
        return np.clip(in_tensorflow(x, operation, factor), 0, 1)
    if operation == 3:
        out = np.empty_like(x)
        for i, j in np.ndindex(*x.shape[1:]):
            h, s, v = colorsys.rgb_to_hsv(*x[:, i, j])
            out[:, i, j] = colorsys.hsv_to_rgb((h + factor) % 1, s, v)
        return np.clip(out, 0, 1)
    if operation == 0:
        other: Any = 0
    elif operation == 1:
        other = (np.tensordot(LUMA, x, 1) if len(x) == 3 else x).mean()
    else:
        other = np.tensordot(LUMA, x, 1)
    return np.clip(factor * x + (1 - factor) * other, 0, 1)


def in_tensorflow(x: np.ndarray, operation: int, number: float) -> np.ndarray:
    """tf.image's adjust_brightness, adjust_contrast and adjust_saturation: of x in [0, 1], before it is clipped."""
    if operation == 4:
        return x + number
    if operation == 5:
        return np.stack([(channel - channel.mean()) * number + channel.mean() for channel in x])
    out = np.empty_like(x)
    for i, j in np.ndindex(*x.shape[1:]):
        h, s, v = colorsys.rgb_to_hsv(*x[:, i, j])
        out[:, i, j] = colorsys.hsv_to_rgb(h, min(max(s * number, 0), 1), v)
    return out


def blurred(x: np.ndarray, sigma: float, radius: int, border: str) -> np.ndarray:
    size = x.shape[-1]
    kernel = np.exp(-((np.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    matrix = np.zeros((size, size))
    for i in range(size):
        for k, weight in zip(range(i - radius, i + radius + 1), kernel / kernel.sum(), strict=True):
            inside = min(max(k, 0), size - 1)
            if border == "zero" and k != inside:
                continue
            matrix[i, 2 * inside - k if border == "mirrored" else inside] += weight
    return matrix @ x @ matrix.T
