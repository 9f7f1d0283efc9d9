"""What an encoder sees where: maps of an image's patches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from contrastkit import dist
from contrastkit.augment.plain import plain_view
from contrastkit.bounds import SHARE
from contrastkit.data.pixels import decoded, opened
from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError
from contrastkit.evaluate.fit import require_size
from contrastkit.figures import COLOURS, Cell, sheet
from contrastkit.loading import load_encoder
from contrastkit.npz import write_npz
from contrastkit.parts.attention import class_attention
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.run import Run
from contrastkit.tables.embeddings import principal_components

CENTRE = (0.5, 0.5)
ACROSS = 8  # heads in a row of the sheet
TAIL = 1  # % of the values of a component beyond which its colour does not change


@dataclass(frozen=True)
class AttendReport:
    """Maps of n images over a grid of h x w patches. Result of :func:`attend`.

    Attributes:
        size: side of the images as the encoder sees them, in pixels.
        at: the chosen place, from the left and from above, in [0, 1].
        images: float [n, C, size, size] in [0, 1], as the encoder sees them.
        components: float [n, h, w, 3] in [0, 1]: the first three principal components of the patches of all images
            together, as red, green and blue; each between its 1st and 99th percentile.
        similarity: float [n, h, w]: cosine of each patch to that at the chosen place of its own image.
        attention: float [n, heads, h, w] of the class token in the last layer, or None; see
            :func:`contrastkit.parts.attention.class_attention`.
    """

    encoder: str
    size: int
    at: tuple[float, float]
    names: tuple[str, ...]
    images: Tensor
    components: Tensor
    similarity: Tensor
    attention: Tensor | None
    notices: tuple[str, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in patches."""
        return self.similarity.shape[1], self.similarity.shape[2]

    @property
    def patch(self) -> tuple[int, int]:
        """The chosen patch: its row and column on the grid."""
        (h, w), (x, y) = self.grid, self.at
        return min(int(y * h), h - 1), min(int(x * w), w - 1)

    @property
    def entropy(self) -> NDArray[np.float64] | None:
        """Of each head's attention among the patches, [n, heads] in bits: 0 if one patch has it all, log2(h w) if all
        have the same."""
        if self.attention is None:
            return None
        p = self.attention.double().flatten(2)
        p = p / p.sum(2, keepdim=True)
        return (-torch.special.xlogy(p, p).sum(2) / math.log(2)).numpy()

    def as_json(self) -> dict[str, Any]:
        entropy = self.entropy
        images = [
            {"image": name, "entropy": None if entropy is None else entropy[i].tolist()}
            for i, name in enumerate(self.names)
        ]
        report = {"encoder": self.encoder, "size": self.size, "grid": list(self.grid), "at": list(self.at)}
        return report | {"images": images}

    def save(self, path: Path) -> None:
        """Write the maps to an .npz, atomically: names, components, similarity and, if there is one, attention."""
        maps = {"components": self.components, "similarity": self.similarity, "attention": self.attention}
        arrays = {name: value.numpy() for name, value in maps.items() if value is not None}
        write_npz(path, {"names": np.array(self.names)} | arrays)


@torch.no_grad()
def attend(
    run: str | Path,
    images: Sequence[str | Path],
    *,
    size: int | None = None,
    at: tuple[float, float] = CENTRE,
    device: str = "auto",
) -> AttendReport:
    """What the encoder of a run sees where in some images.

    Args:
        size: side to which images are resized and cropped at the centre; None is as trained. A larger one gives finer
            maps: a convolutional encoder takes any, a transformer's positions are resampled.
        at: the place whose patch is compared with the others, from the left and from above, in [0, 1].

    Raises:
        UserError: no run, an image that cannot be read, an encoder without feature maps, a size that does not fit, or
            maps of a single patch.
    """
    SHARE.check("--at", at)
    source = Run.open(given_path(run))
    record = source.record
    encoder, options = load_encoder(source, record), record.options
    size = record.encoder["size"] if size is None else size
    require_size(record.encoder["name"], size)
    set_image_size(encoder, size)
    pictures = [_read(given_path(path), encoder, options.background) for path in images]
    if not pictures:
        raise UserError("nothing to look at: give image files")
    x = torch.cat([plain_view([picture], size, encoder.channels) for picture in pictures])
    encoder.to(place := dist.device(device))
    maps, attention = [], []
    for image in x.to(place).split(1):  # a large size takes much memory
        maps.append(encoder.maps(image).float().cpu())
        attention.append(class_attention(encoder, image))
    patches = torch.cat(maps).permute(0, 2, 3, 1).double()  # [n, h, w, C]
    _, h, w, _ = patches.shape
    if h * w < 2:
        raise UserError(f"the feature maps of images of {size} px are a single patch: raise --size")
    unit = F.normalize(patches, dim=3)
    chosen = unit[:, min(int(at[1] * h), h - 1), min(int(at[0] * w), w - 1)]
    notices: tuple[str, ...] = ()
    if options.stretch:
        notices += (f"{source.path} was trained on stretched images: the range of its data is not known here",)
    attended = [each.float().cpu() for each in attention if each is not None]
    return AttendReport(
        encoder=str(source.path),
        size=size,
        at=at,
        names=tuple(map(str, images)),
        images=x,
        components=_coloured(patches),
        similarity=(unit @ chosen[:, None, :, None]).squeeze(3).float(),
        attention=torch.cat(attended) if attended else None,
        notices=notices,
    )


def _read(path: Path, encoder: Encoder, background: str) -> Tensor:
    """The pixels of an image file, uint8 [C, H, W]."""
    require_file(path)
    if encoder.channels not in (1, 3):
        raise UserError(f"the encoder takes images of {encoder.channels} channels, which an image file is not")
    try:
        with opened(path) as image:
            return torch.from_numpy(decoded(image, encoder.channels, background)).permute(2, 0, 1)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # damaged files raise almost anything
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def _coloured(patches: Tensor) -> Tensor:
    """Patches [n, h, w, C] -> [n, h, w, 3] in [0, 1], see :class:`AttendReport`; 1/2 for components that there are not.

    DINOv2 (Oquab et al. 2023, Fig. 1) removes the background by the first component before it computes the three; here,
    nothing is removed.
    """
    flat = patches.flatten(0, 2).numpy()
    colours = torch.full((*patches.shape[:3], 3), 0.5)
    if np.ptp(flat, axis=0).max() > 0:
        found = principal_components(flat, min(3, *flat.shape))
        low, high = np.percentile(found, [TAIL, 100 - TAIL], axis=0)
        scaled = ((found - low) / np.where(high > low, high - low, 1)).clip(0, 1)
        colours[..., : scaled.shape[1]] = torch.from_numpy(scaled).float().view(*patches.shape[:3], -1)
    return colours


def draw_maps(report: AttendReport, path: Path) -> None:
    """A sheet: for each image a row of the image, its components, the similarity and the mean attention, and below it
    the attention of each head."""
    rows: list[list[Cell | None]] = []
    heads: list[str] = []
    for i, name in enumerate(report.names):
        cells: list[Cell | None] = [
            Cell(_marked(report.images[i], report), "image"),
            Cell(report.components[i].permute(2, 0, 1), "principal components"),
            Cell(_heat(report.similarity[i]), "similarity to the framed patch"),
        ]
        if report.attention is not None:
            cells.append(Cell(_heat(report.attention[i].mean(0)), "attention, mean of the heads"))
        rows.append(cells)
        heads.append(Path(name).name)
        if report.attention is not None:
            by_head = [Cell(_heat(each), f"head {n}") for n, each in enumerate(report.attention[i], start=1)]
            rows += [[*by_head[n : n + ACROSS]] for n in range(0, len(by_head), ACROSS)]
            heads += [""] * (len(rows) - len(heads))
    h, w = report.grid
    maps, attended = "similarity: a map runs", ""
    if report.attention is not None:
        maps, attended = "similarity and attention: each map runs", "; attention: of the class token in the last layer"
    sheet(
        path,
        rows,
        heads=heads,
        title=f"{h} x {w} patches by {report.encoder}",
        note=f"images of {report.size} px, as the encoder sees them; components: the first three of all these images "
        f"together, as red, green and blue, so that similar features have similar colours; {maps} from its least value "
        f"(dark) to its largest (bright){attended}",
    )


def _marked(image: Tensor, report: AttendReport) -> Tensor:
    """[C, S, S] -> [3, S', S'], enlarged if it is small, with a frame around the chosen patch."""
    from matplotlib.colors import to_rgb

    factor = max(1, 180 // report.size)
    drawn = image.expand(3, -1, -1) if len(image) == 1 else image[:3].clone()
    drawn = drawn.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    side = drawn.shape[-1]
    (row, column), (h, w) = report.patch, report.grid
    top, bottom, left, right = row * side // h, (row + 1) * side // h, column * side // w, (column + 1) * side // w
    line = max(2, side // 60)
    frame = torch.zeros(side, side, dtype=torch.bool)
    frame[top:bottom, left:right] = True
    frame[top + line : bottom - line, left + line : right - line] = False
    return torch.where(frame, torch.tensor(to_rgb(COLOURS[1])).view(3, 1, 1), drawn)


def _heat(values: Tensor) -> Tensor:
    """[h, w] -> [3, h, w] in [0, 1]: from the least value to the largest, dark blue to yellow."""
    from matplotlib import colormaps

    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else torch.zeros_like(values)
    return torch.from_numpy(colormaps["viridis"](scaled.numpy())[..., :3]).permute(2, 0, 1)
