"""Retrieval: of an image by another view or modality of it; of captions by images, and of images by captions."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from contrastkit.data import Source
from contrastkit.errors import UserError
from contrastkit.evaluate.ranking import Retrieval, recall_at_k
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.loading import load_image_text, load_method
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import SplitEncoder
from contrastkit.run import TOKENIZER, Run


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Result of :func:`retrieve`."""

    data: str  # name of the data set
    size: int  # side in pixels of the images
    retrieval: dict[str, Retrieval]  # "query -> key", by the names of the views, image or text
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


@torch.no_grad()
def retrieve(
    subject: EvaluationSubject, *, method: str | None = None, on_progress: OnProgress | None = None
) -> RetrievalReport:
    """Retrieve every test image by each of its views from another view of all test images, with a run of cmc; their
    captions by the test images and these by their captions, with a run of clip.

    Args:
        method: ``path/to/file.py:NAME``, for a run of a method defined in a file; the file is executed.

    Raises:
        UserError: the subject is not a run, the run has one encoder for all views and none for texts, or was trained
            with a method's file that is not given, or there is no test part, or it has no captions.
    """
    if subject.run is None:
        raise UserError("retrieval needs a run of cmc or clip: open the subject from a run folder")
    name, test = str(subject.run), subject.data.test
    encoder = subject.encoders[name]
    has_texts = (subject.run / TOKENIZER).is_file()
    if not has_texts and not isinstance(encoder, SplitEncoder):
        raise UserError(f"{name} has one encoder for all views: retrieval needs a run of cmc, or of clip")
    if test is None:
        raise UserError(f"{subject.data.name} has no test part: hold one out with --val-fraction 0.1")
    if has_texts:
        retrieval = _by_captions(subject, name, test, on_progress)
    else:
        retrieval = _by_views(subject, name, test, method, on_progress)
    return RetrievalReport(subject.data.name, subject.size, retrieval, subject.left_out)


def _by_views(
    subject: EvaluationSubject, name: str, test: Source, method: str | None, on_progress: OnProgress | None
) -> dict[str, Retrieval]:
    online = load_method(name, method=method).online  # encoder and head as they were trained together
    encoder = online.encoder
    assert isinstance(encoder, SplitEncoder)
    set_image_size(encoder, subject.size)
    (features,) = replace(subject, encoders={name: encoder}).features(name, test, on_progress=on_progress)
    z = online.head(features.read().x).chunk(len(encoder.views), dim=1)
    outputs = dict(zip(test.modalities or encoder.views, z, strict=True))
    return {
        f"{query} -> {key}": recall_at_k(outputs[query], outputs[key])
        for query in outputs
        for key in outputs
        if query != key
    }


def _by_captions(
    subject: EvaluationSubject, name: str, test: Source, on_progress: OnProgress | None
) -> dict[str, Retrieval]:
    """Captions by images, each different text once, and images by each of their captions. A text that several images
    have is right for all of them.

    Raises:
        UserError: the test images have no captions.
    """
    run = Run.open(Path(name))
    joint = load_image_text(run, run.record)
    if (captions := test.captions) is None:
        raise UserError(f"the test images of {subject.data.name} have no captions: give --data with captions")
    set_image_size(joint, subject.size)
    (features,) = replace(subject, encoders={name: joint}).features(name, test, on_progress=on_progress)
    if features.readable is not None:
        captions = captions.subset(features.readable.nonzero()[:, 0])
    number: dict[str, int] = {}  # of each text; as for the tower, letters are lower-case
    text = [number.setdefault(caption.lower(), len(number)) for caption in captions.texts]
    texts_of = sorted(set(zip(captions.image.tolist(), text, strict=True)))  # the images and their texts
    images_of: dict[int, list[int]] = {}
    for image, its_text in texts_of:
        images_of.setdefault(its_text, []).append(image)
    answers = [(caption, image) for caption, its_text in enumerate(text) for image in images_of[its_text]]
    images = joint.project(features.read().x.to(subject.device)).cpu()
    texts = joint.text(list(number)).cpu()
    return {
        "image -> text": recall_at_k(images, texts, torch.tensor(texts_of)),
        "text -> image": recall_at_k(texts[text], images, torch.tensor(answers), cluster=captions.image),
    }
