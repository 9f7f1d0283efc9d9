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
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.subject import OnProgress
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.mode import evaluating
from contrastkit.transfer.iou import SegmentationScore, areas, score
from contrastkit.transfer.linear import RECIPES, LinearRecipe, train_head
from contrastkit.transfer.loop import Log, journal_of, telling
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
    restart: bool = False,
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
        states: folder in which unfinished trainings of heads are kept; None keeps none.
        restart: discard unfinished ones with other settings, encoders or images.
        log: called with a line now and then.

    Raises:
        UserError: no such protocol, an encoder without maps, images that cannot be read, too little memory, or
            ``states`` has unfinished trainings that are others.
    """
    check_choice("protocol", protocol, ("retrieval", "linear"))
    SIDE.check("--size", size, whole=True)
    size = size or default_size(next(iter(subject.encoders.values())), subject.size, subject.device)
    retrieval, linear = retrieval or Retrieval(), linear or RECIPES["dinov3"]
    settings = asdict(retrieval if protocol == "retrieval" else linear) | {"seed": subject.seed}
    scores: dict[str, SegmentationScore] = {}
    shown = {i: ShownMasks(*data.test.read(i, 3), i, {}) for i in spread(len(data.test))}
    for encoder in subject.encoders.values():
        set_image_size(encoder, size)
    states = states if protocol == "linear" else None
    with journal_of("segment", states, subject, data, settings | {"size": size}, restart=restart) as journal:
        for name, encoder in subject.encoders.items():
            if (done := journal.result(name)) is not None:
                log(f"{name}: an earlier start has done it")
            else:
                encoder.to(subject.device)
                read = partial(_encoded, encoder, size=size, subject=subject, name=name, on_progress=on_progress)
                if protocol == "retrieval":
                    classify: Classify = _remember(read, data, retrieval, subject.seed)
                else:
                    classify = _trained(encoder, data, linear, subject, name, size, journal, log, on_progress)
                done = _tested(read, classify, data, list(shown))
                encoder.cpu()
                journal.finish(name, done)
            for each, predicted in zip(shown.values(), done["shown"], strict=True):
                each.predicted[name] = predicted
            scores[name] = score(done["areas"], data.classes, seed=subject.seed)
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


def _tested(
    read: Callable[[MaskPart, str], Iterator[tuple[int, Tensor, Tensor]]],
    classify: Classify,
    data: MaskSet,
    shown: Sequence[int],
) -> dict[str, Any]:
    """Of the test images: their areas, [images, ...] as of :func:`areas`, and the masks predicted of some."""
    found, masks = [], []
    for i, maps, mask in read(data.test, "test"):
        predicted = F.interpolate(classify(maps)[None], mask.shape, mode="bilinear")[0].argmax(0).cpu()
        found.append(areas(predicted, mask, len(data.classes)))
        if i in shown:
            masks.append(predicted)
    return {"areas": torch.stack(found), "shown": masks}


def _trained(
    encoder: Encoder,
    data: MaskSet,
    recipe: LinearRecipe,
    subject: TransferSubject,
    name: str,
    size: int,
    journal: Journal,
    log: Log,
    on_progress: OnProgress,
) -> Classify:
    log(f"{name}: linear head, {recipe.steps:,} steps of {min(recipe.batch, len(data.train))} images")
    on_step = telling(f"training a head: {name}", recipe.steps, log, on_progress)
    head = train_head(encoder, data, recipe, subject, size=size, journal=journal, key=name, log=log, on_step=on_step)

    @torch.no_grad()
    def classify(maps: Tensor) -> Tensor:
        return head(maps[None])[0]

    return classify
