"""Zero-shot classification (Radford et al. 2021, arXiv:2103.00020, Sec. 3.1): the class of an image is the one whose
names, in words, are nearest to it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.data import Source
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of, best_classes
from contrastkit.evaluate.confusion import ClassResult, class_names, per_class
from contrastkit.evaluate.joint import joint_encoder
from contrastkit.evaluate.prompts import TEMPLATE, Prompts, read_names, read_templates, spoken
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.intervals import wilson
from contrastkit.parts.joint import ImageTextEncoder


@dataclass(frozen=True, slots=True)
class ZeroShotReport:
    """Result of :func:`zero_shot`; shares in [0, 1]."""

    data: str  # name of the data set
    size: int  # side in pixels of the images
    templates: tuple[str, ...]
    names: dict[str, tuple[str, ...]]  # of each class
    accuracy: Accuracy
    top5_interval: tuple[float, float] | None  # Wilson's, 95 %; None for five classes or fewer
    chance: dict[str, float | None]  # of guessing: top1; top5, None for five classes or fewer
    per_class: dict[str, ClassResult]
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


@torch.no_grad()
def zero_shot(
    subject: EvaluationSubject,
    *,
    classes: Path | None = None,
    templates: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ZeroShotReport:
    """Classify test images by the texts of their classes, with both towers of a run of clip. Without a test part, all
    images of another data set than the run's own.

    Args:
        classes: names of the classes (:func:`contrastkit.evaluate.prompts.read_names`); None puts those of the folders
            into words.
        templates: see :func:`contrastkit.evaluate.prompts.read_templates`; None is "a photo of a {}.".

    Raises:
        UserError: the subject is no run of clip; no labels, no test part or no names of the classes; or see there.
    """
    test, notices = _tested(subject)
    prompts, said = _prompts(test, classes, templates)
    joint = joint_encoder(subject, "zero-shot classification")
    names = tuple(prompts.names)
    centres, cut = class_centres(joint, prompts, on_progress)
    if cut:
        notices.append(f"{cut:,} prompts have more than {joint.tokenizer.context} tokens and are cut")
    (features,) = subject.features(next(iter(subject.encoders)), test, on_progress=on_progress)
    shown = features.labelled("zero-shot classification")
    parts = shown.x.split(subject.batch)
    best = torch.cat([best_classes(joint.project(x.to(subject.device)) @ centres.T).cpu() for x in parts])
    accuracy = accuracy_of(best, shown.y, n_classes=len(names))
    top5 = None if accuracy.top5 is None else accuracy.top5
    return ZeroShotReport(
        data=subject.data.name,
        size=subject.size,
        templates=tuple(prompts.templates),
        names={known: tuple(own) for known, own in prompts.names.items()},
        accuracy=accuracy,
        top5_interval=None if top5 is None else wilson(top5, accuracy.n),
        chance={"top1": 1 / len(names), "top5": None if top5 is None else 5 / len(names)},
        per_class=per_class(best[:, 0], shown.y, names),
        notices=(*said, *prompts.notices, *notices, *subject.left_out),
    )


def class_centres(
    joint: ImageTextEncoder, prompts: Prompts, on_progress: OnProgress | None = None
) -> tuple[Tensor, int]:
    """The mean of each class's texts on the unit sphere, put back onto it (Sec. 3.1.4): float32 [classes, C]; and how
    many of the texts are cut."""
    centres, cut = list[Tensor](), 0
    for done, known in enumerate(prompts.names, start=1):
        texts = prompts.of(known)
        cut += joint.tokenizer.encode(texts)[1]
        centres.append(F.normalize(joint.text(texts).mean(0), dim=0))
        if on_progress is not None:
            on_progress("encoding the names of classes", done, len(prompts.names))
    return torch.stack(centres), cut


def _tested(subject: EvaluationSubject) -> tuple[Source, list[str]]:
    """The images to classify, and what is said about them.

    Raises:
        UserError: they have no labels, or the run's own data set has no test part.
    """
    data, notices = subject.data, list[str]()
    test = data.test
    if test is None and subject.reports is None:
        test = data.train
        notices.append(f"{data.name} has no test part: all of its {len(test):,} images are classified")
    if test is None:
        raise UserError(f"{data.name} has no test part: hold one out with --val-fraction 0.1")
    if test.labels is None or not (test.labels >= 0).any():
        raise UserError(
            f"the images of {data.name} have no labels to evaluate with: name a set with a folder for each class "
            "with --data"
        )
    return test, notices


def _prompts(test: Source, classes: Path | None, templates: Path | None) -> tuple[Prompts, list[str]]:
    """The texts of the classes, and what is said about them.

    Raises:
        UserError: the classes have no names, or a file is refused.
    """
    assert test.labels is not None
    known = class_names(test.classes, max(len(test.classes or ()), int(test.labels.max()) + 1))
    names: dict[str, Sequence[str]] = {}
    said = []
    if classes is not None:
        names |= read_names(classes, known)
    elif test.classes is None:
        raise UserError(f"the {len(known)} classes of {test.name} have no names: give them with --classes FILE")
    else:
        names |= {name: (spoken(name),) for name in known}
        changed = [f'{name} -> "{own[0]}"' for name, own in names.items() if own[0] != name]
        how = f", in words ({', '.join(changed[:2])}{', ...' if changed[2:] else ''})" if changed else ""
        said.append(f"the classes are called as their folders are{how}; --classes gives other names")
    if templates is None:
        said.append(f'the template is "{TEMPLATE}"; --templates gives others')
        return Prompts(names), said
    return Prompts(names, read_templates(templates)), said
