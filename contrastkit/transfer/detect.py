"""Detection by a Faster R-CNN that is fine-tuned from each encoder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from contrastkit.bounds import COUNT_OR_0
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.subject import OnProgress
from contrastkit.optim import ParamGroup, build_optimizer, learning_rate
from contrastkit.parts.encoder import Encoder
from contrastkit.transfer.average_precision import (
    RESAMPLES,
    DetectionScore,
    Predictions,
    average_precision,
    require_metric,
)
from contrastkit.transfer.batches import Batches, Example
from contrastkit.transfer.boxes import Boxes, BoxPart, BoxSet
from contrastkit.transfer.detector import DetectorRecipe, build_detector, trained_parameters
from contrastkit.transfer.loop import Log, fit, journal_of, telling
from contrastkit.transfer.sheets import SCORE, ShownBoxes, box_sheet, spread
from contrastkit.transfer.subject import TransferSubject


@dataclass(frozen=True, slots=True)
class DetectReport:
    """Result of :func:`detect`.

    Attributes:
        settings: the recipe, and the seed.
        scores: of the detector of each encoder, by name.
        notices: what a reader of the numbers should know, one line each.
        shown: some test images with their boxes, for a sheet.
    """

    data: str
    settings: dict[str, Any]
    scores: dict[str, DetectionScore]
    notices: tuple[str, ...]
    shown: list[ShownBoxes] = field(default_factory=list, repr=False)

    def draw(self, path: Path, classes: Sequence[str]) -> None:
        """Write the sheet of :attr:`shown`, a PNG."""
        title = f"{self.data}: boxes found after {self.settings['steps']:,} steps"
        box_sheet(path, self.shown, classes, title)

    def as_json(self) -> dict[str, Any]:
        scores = {name: asdict(each) for name, each in self.scores.items()}
        return {"data": self.data, "settings": self.settings, "scores": scores}


def detect(
    subject: TransferSubject,
    data: BoxSet,
    recipe: DetectorRecipe,
    *,
    resamples: int = RESAMPLES,
    states: Path | None = None,
    restart: bool = False,
    log: Log = lambda line: None,
    on_progress: OnProgress = lambda task, done, total: None,
) -> DetectReport:
    """Train a detector from each encoder on the training part, and score it on the test part.

    Nothing of an untrained encoder is frozen, whatever the recipe says: its batch norms would stay at their initial
    statistics, which no image has, and its filters at random.

    Args:
        resamples: draws of the test images for the intervals, each of which is scored; 0 gives none.
        states: folder in which unfinished trainings are kept; None keeps none.
        restart: discard unfinished ones with other settings, encoders or images.
        log: called with a line now and then.

    Raises:
        UserError: the metric is not installed, an encoder lacks the maps that a detector needs, an image cannot be
            read, the loss is not finite, or ``states`` has unfinished trainings that are others.
        Interrupted: by a signal, after the state was saved.
    """
    require_metric()
    COUNT_OR_0.check("--resamples", resamples, whole=True)
    free = replace(recipe, norm="trained", freeze=0)
    recipes = {name: recipe if name in subject.trained else free for name in subject.encoders}
    detectors = {name: _built(encoder, data, recipes[name], subject) for name, encoder in subject.encoders.items()}
    notices = [f"{name}: nothing of it is frozen, as it is untrained" for name, own in recipes.items() if own != recipe]
    settings = asdict(recipe) | {"seed": subject.seed}
    scores: dict[str, DetectionScore] = {}
    shown = [_shown(data.test, i) for i in spread(len(data.test))]
    with journal_of("detect", states, subject, data, settings, restart=restart) as journal:
        for name, detector in detectors.items():
            task = _Task(name, data, recipes[name], subject, journal, log, on_progress)
            predicted = task.predictions(detector)
            scores[name] = average_precision(
                predicted, data.test.boxes, data.classes, seed=subject.seed, times=resamples, on_progress=on_progress
            )
            for each in shown:
                found = predicted[each.position]
                kept = found["scores"] >= SCORE
                each.predicted[name] = (found["boxes"][kept], found["labels"][kept])
    return DetectReport(data.name, settings, scores, tuple(notices), shown)


def _built(encoder: Encoder, data: BoxSet, recipe: DetectorRecipe, subject: TransferSubject) -> nn.Module:
    torch.manual_seed(subject.seed)
    return build_detector(encoder, len(data.classes), recipe)


@dataclass(frozen=True)
class _Task:
    """The training and the test of a detector."""

    name: str  # of its encoder
    data: BoxSet
    recipe: DetectorRecipe
    subject: TransferSubject
    journal: Journal
    log: Log
    on_progress: OnProgress

    def predictions(self, detector: nn.Module) -> list[Predictions]:
        """The boxes that it finds in the test images, after its training; or what the journal has of them."""
        if (done := self.journal.result(self.name)) is not None:
            self.log(f"{self.name}: an earlier start has done it")
            return done["predicted"]
        self.log(f"{self.name}: {self.recipe.steps:,} steps of {min(self.recipe.batch, len(self.data.train))} images")
        self._train(detector)
        channels = self.subject.encoders[self.name].channels
        on_image = partial(self.on_progress, f"detecting: {self.name}")
        predicted = _predict(detector, self.data.test, self.subject, channels, on_image)
        self.journal.finish(self.name, {"predicted": predicted})
        detector.cpu()
        return predicted

    def _train(self, detector: nn.Module) -> None:
        subject, part, recipe, device = self.subject, self.data.train, self.recipe, self.subject.device
        detector.to(device).train()
        decayed, norms = trained_parameters(detector)
        optimizer = build_optimizer(
            [ParamGroup(params=decayed), ParamGroup(params=norms, decay=False)],
            "sgd",
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
        rate = partial(
            learning_rate,
            schedule="step",
            base_lr=recipe.lr,
            warmup=recipe.warmup_steps / recipe.steps,
            first=recipe.lr / 1000,
            milestones=recipe.milestones,
        )

        def loss_of(batch: list[Example]) -> Tensor:
            images = [image.to(device).float() / 255 for image, _ in batch]
            targets = [{key: value.to(device) for key, value in target.items()} for _, target in batch]
            return torch.stack(list(detector(images, targets).values())).sum()

        with Batches(
            part,
            flipped,
            channels=subject.encoders[self.name].channels,
            batch=recipe.batch,
            seed=subject.seed,
            workers=subject.workers_for(part.images),
        ) as batches:
            fit(
                detector,
                loss_of,
                batches,
                optimizer,
                steps=recipe.steps,
                rate=rate,
                seed=subject.seed,
                journal=self.journal,
                key=self.name,
                log=self.log,
                on_step=telling(f"training a detector: {self.name}", recipe.steps, self.log, self.on_progress),
            )
        detector.eval()


FLIP = v2.RandomHorizontalFlip()


def flipped(image: Tensor, boxes: Boxes) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and target of a training example, mirrored half of the time; the detector itself draws the size."""
    height, width = image.shape[1:]
    box = tv_tensors.BoundingBoxes(boxes.box, format="XYXY", canvas_size=(height, width))
    image, box = FLIP(tv_tensors.Image(image), box)
    return image.as_subclass(Tensor), {"boxes": box.as_subclass(Tensor), "labels": boxes.label}


@torch.no_grad()
def _predict(
    detector: nn.Module, part: BoxPart, subject: TransferSubject, channels: int, on_image: Any
) -> list[Predictions]:
    """The boxes of each image, on the CPU, those with the highest scores first."""
    found = []
    for i in range(len(part)):
        image, _ = part.read(i, channels)
        (predicted,) = detector([image.to(subject.device).float() / 255])
        found.append({key: value.cpu() for key, value in predicted.items()})
        on_image(i + 1, len(part))
    return found


def _shown(part: BoxPart, i: int) -> ShownBoxes:
    image, boxes = part.read(i, 3)
    return ShownBoxes(image, (boxes.box, boxes.label), i, {})
