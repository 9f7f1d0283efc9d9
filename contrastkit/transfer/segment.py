"""Segmentation by the feature maps of frozen encoders."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import resize

from contrastkit.bounds import SIDE
from contrastkit.data.workers import Workers
from contrastkit.errors import check_choice
from contrastkit.evaluate.subject import OnProgress
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.transfer.iou import SegmentationScore, areas, score
from contrastkit.transfer.linear import RECIPES, LinearRecipe, train_head
from contrastkit.transfer.loop import Log, Saved, described, identity, telling
from contrastkit.transfer.masks import MaskPart, MaskSet
from contrastkit.transfer.patches import PatchMemory, Retrieval
from contrastkit.transfer.sheets import ShownMasks, mask_sheet, spread
from contrastkit.transfer.subject import TransferSubject

GRID = 16  # patches on a side, at least, where the size is chosen
BATCH = 16  # images encoded at once
CONSTANT = "the commonest class"  # the baseline that predicts it everywhere

Classify = Callable[[Tensor], Tensor]  # maps of one image [D, h, w] -> scores of the classes [C, h, w]


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """Result of :func:`segment`.

    Attributes:
        size: side in pixels of the square to which images are resized.
        settings: the numbers of the protocol.
        scores: of each encoder, by name, and of the commonest class everywhere.
        notices: what a reader of the numbers should know, one line each.
        shown: some test images with their masks, for a sheet.
    """

    data: str
    protocol: str
    size: int
    settings: dict[str, Any]
    scores: dict[str, SegmentationScore]
    notices: tuple[str, ...] = ()
    shown: list[ShownMasks] = field(default_factory=list, repr=False)

    def draw(self, path: Path, classes: Sequence[str]) -> None:
        """Write the sheet of :attr:`shown`, a PNG."""
        title = f"{self.data}: masks predicted by {self.protocol}, {self.size} px"
        mask_sheet(path, self.shown, classes, title)

    def as_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("data", "protocol", "size", "settings")}
        return values | {"scores": {name: asdict(each) for name, each in self.scores.items()}}


def segment(
    subject: TransferSubject,
    data: MaskSet,
    *,
    protocol: Literal["retrieval", "linear"] = "retrieval",
    retrieval: Retrieval | None = None,
    linear: LinearRecipe | None = None,
    size: int | None = None,
    states: Path | None = None,
    log: Log = lambda line: None,
    on_progress: OnProgress = lambda task, done, total: None,
) -> SegmentReport:
    """Predict the masks of the test images from each encoder's feature maps (:meth:`Encoder.maps`), and score them.

    Images are resized to a square; the scores of patches are enlarged to the size of the mask, bilinearly, and the
    class with the highest wins.

    Args:
        protocol: "retrieval": :class:`PatchMemory`, nothing is trained; "linear": :class:`LinearHead`.
        retrieval, linear: the numbers of the protocol of that name; None is Hummingbird's, or DINOv3's.
        size: side of the square in pixels; None is that of the encoders' training, but at least 16 patches.
        states: folder in which an unfinished training of a head is kept; None keeps none.
        log: called with a line now and then.

    Raises:
        UserError: no such protocol, an encoder without maps, images that cannot be read, or too little memory.
    """
    check_choice("protocol", protocol, ("retrieval", "linear"))
    SIDE.check("--size", size, whole=True)
    size = size or default_size(next(iter(subject.encoders.values())), subject.size, subject.device)
    retrieval, linear = retrieval or Retrieval(), linear or RECIPES["dinov3"]
    settings = asdict(retrieval if protocol == "retrieval" else linear) | {"seed": subject.seed}
    scores: dict[str, SegmentationScore] = {}
    unfinished = []
    shown = {i: ShownMasks(*data.test.read(i, 3), i, {}) for i in spread(len(data.test))}
    for position, (name, encoder) in enumerate(subject.encoders.items()):
        set_image_size(encoder, size)
        encoder.to(subject.device)
        read = partial(_encoded, encoder, size=size, subject=subject, name=name, on_progress=on_progress)
        if protocol == "retrieval":
            classify: Classify = _remember(read, data, retrieval, subject.seed)
        else:
            saved = None
            if states is not None:
                own = described(settings | {"size": size}) | identity(name, encoder, data)
                unfinished.append(saved := Saved(states / f"segment-{data.name}-{position}.pt", own))
            classify = _trained(encoder, data, linear, subject, name, size, saved, log, on_progress)
        found = []
        for i, maps, mask in read(data.test, "test"):
            predicted = F.interpolate(classify(maps)[None], mask.shape, mode="bilinear")[0].argmax(0).cpu()
            found.append(areas(predicted, mask, len(data.classes)))
            if i in shown:
                shown[i].predicted[name] = predicted
        scores[name] = score(torch.stack(found), data.classes, seed=subject.seed)
        encoder.cpu()
    for saved in unfinished:
        saved.remove()
    scores[CONSTANT] = _constant(data, subject.seed)
    notices = _notices(protocol, retrieval.memory, len(data.train))
    return SegmentReport(data.name, protocol, size, settings, scores, notices, list(shown.values()))


def _notices(protocol: str, patches: int, images: int) -> tuple[str, ...]:
    if protocol != "retrieval" or patches >= images:
        return ()
    return (f"--memory takes a patch of each of {patches:,} of {images:,} training images",)


@torch.no_grad()
def default_size(encoder: Encoder, size: int, device: torch.device) -> int:
    """``size``, or more if the encoder would make fewer than 16 x 16 patches of such an image."""
    with evaluating(encoder.to(device)):
        patches = encoder.maps(torch.zeros(1, encoder.channels, size, size, device=device)).shape[-1]
    return max(size, GRID * round(size / patches))


class _Squares(Dataset[Any]):
    """Batches of images as squares, uint8 [n, channels, size, size], and their masks."""

    def __init__(self, part: MaskPart, size: int, channels: int) -> None:
        self.part, self.size, self.channels = part, size, channels

    def __getitem__(self, positions: list[int]) -> tuple[list[int], Tensor, list[Tensor]]:
        pairs = [self.part.read(i, self.channels) for i in positions]
        images = [resize(image, [self.size, self.size], antialias=True) for image, _ in pairs]
        return positions, torch.stack(images), [mask for _, mask in pairs]


@torch.no_grad()
def _encoded(
    encoder: Encoder,
    part: MaskPart,
    what: str,
    *,
    size: int,
    subject: TransferSubject,
    name: str,
    on_progress: OnProgress,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Position, maps [D, h, w] and mask [H, W] of each image, in order."""
    tasks = [each.tolist() for each in torch.arange(len(part)).split(BATCH)]
    with (
        Workers(_Squares(part, size, encoder.channels), workers=subject.workers_for(part.images)) as workers,
        evaluating(encoder),
    ):
        for positions, images, masks in workers.map(tasks):
            maps = encoder.maps(images.to(subject.device).float() / 255)
            yield from zip(positions, maps, masks, strict=True)
            on_progress(f"encoding {what} images: {name}", positions[-1] + 1, len(part))


def _constant(data: MaskSet, seed: int) -> SegmentationScore:
    """The score of the commonest class everywhere."""
    masks = [data.test.mask(i) for i in range(len(data.test))]
    found = [areas(torch.full_like(mask, data.commonest), mask, len(data.classes)) for mask in masks]
    return score(torch.stack(found), data.classes, seed=seed)


def _remember(
    read: Callable[[MaskPart, str], Iterator[tuple[int, Tensor, Tensor]]],
    data: MaskSet,
    retrieval: Retrieval,
    seed: int,
) -> Classify:
    memory = PatchMemory(retrieval, len(data.train), len(data.classes), seed)
    for i, maps, mask in read(data.train, "training"):
        memory.add(i, maps, mask)
    return memory.predict


def _trained(
    encoder: Encoder,
    data: MaskSet,
    recipe: LinearRecipe,
    subject: TransferSubject,
    name: str,
    size: int,
    saved: Saved | None,
    log: Log,
    on_progress: OnProgress,
) -> Classify:
    log(f"{name}: linear head, {recipe.steps:,} steps of {min(recipe.batch, len(data.train))} images")
    on_step = telling(f"training a head: {name}", recipe.steps, log, on_progress)
    head = train_head(encoder, data, recipe, subject, size=size, saved=saved, log=log, on_step=on_step)

    @torch.no_grad()
    def classify(maps: Tensor) -> Tensor:
        return head(maps[None])[0]

    return classify
