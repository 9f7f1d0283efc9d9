"""Retrieval: of an image by another view or modality of it; of captions by images, and of images by captions."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from contrastkit.data import Captions, Source
from contrastkit.errors import UserError
from contrastkit.evaluate.bag_of_words import BagOfWords, bag_of_words
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.joint import has_texts, joint_encoder
from contrastkit.evaluate.ranking import CaptionPairs, Retrieval, recall_at_k
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.loading import load_method
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import SplitEncoder


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Result of :func:`retrieve`."""

    data: str  # name of the data set
    size: int  # side in pixels of the images
    retrieval: dict[str, Retrieval]  # "query -> key", by the names of the views, image or text
    bag_of_words: BagOfWords | None = None  # of clip, with ``baselines``
    notices: tuple[str, ...] = ()  # what a reader of the numbers should know, one line each

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


@torch.no_grad()
def retrieve(
    subject: EvaluationSubject,
    *,
    method: str | None = None,
    baselines: bool = False,
    on_progress: OnProgress | None = None,
) -> RetrievalReport:
    """Retrieve every test image by each of its views from another view of all test images, with a run of cmc; their
    captions by the test images and these by their captions, with a run of clip.

    Args:
        method: ``path/to/file.py:NAME``, for a run of a method defined in a file; the file is executed.
        baselines: with a run of clip, also :func:`contrastkit.evaluate.bag_of_words.bag_of_words`.

    Raises:
        UserError: the subject is not a run, the run has one encoder for all views and none for texts, or was trained
            with a method's file that is not given, or there is no test part, or it has no captions.
    """
    if subject.run is None:
        raise UserError("retrieval needs a run of cmc or clip: open the subject from a run folder")
    name, test = str(subject.run), subject.data.test
    encoder = subject.encoders[name]
    by_captions = has_texts(subject)
    if not by_captions and not isinstance(encoder, SplitEncoder):
        raise UserError(f"{name} has one encoder for all views: retrieval needs a run of cmc, or of clip")
    if test is None:
        raise UserError(f"{subject.data.name} has no test part: hold one out with --val-fraction 0.1")
    if by_captions:
        retrieval, linear, said = _by_captions(subject, name, test, baselines, on_progress)
        return RetrievalReport(subject.data.name, subject.size, retrieval, linear, (*subject.left_out, *said))
    if baselines:
        raise UserError(f"--baselines ranks captions by their words, and {name} has none: drop it")
    retrieval = _by_views(subject, name, test, method, on_progress)
    return RetrievalReport(subject.data.name, subject.size, retrieval, notices=subject.left_out)


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
    subject: EvaluationSubject, name: str, test: Source, baselines: bool, on_progress: OnProgress | None
) -> tuple[dict[str, Retrieval], BagOfWords | None, list[str]]:
    """Captions and images by each other; with ``baselines`` also by their words, and what is said about that.

    Raises:
        UserError: the test images have no captions, or for ``baselines`` the training images.
    """
    joint = joint_encoder(subject, "retrieval")
    train = subject.data.train
    if test.captions is None:
        raise UserError(f"the test images of {subject.data.name} have no captions: give --data with captions")
    if baselines and train.captions is None:
        raise UserError(f"the training images of {subject.data.name} have no captions: drop --baselines")
    sources = (test, train) if baselines else (test,)
    features = subject.features(name, *sources, on_progress=on_progress)
    (tested, asked), *rest = [_readable(each, source) for each, source in zip(features, sources, strict=True)]
    pairs = CaptionPairs.of(asked)
    images = torch.cat([joint.project(x.to(subject.device)).cpu() for x in tested.x.split(subject.batch)])
    retrieval = pairs.ranked(images, joint.text(pairs.texts).cpu())
    if not rest:
        return retrieval, None, []
    ((trained, captions),) = rest
    return retrieval, *bag_of_words(trained, captions, tested, asked)


def _readable(features: Features, source: Source) -> tuple[Features, Captions]:
    """The features and the captions of the images that could be read."""
    assert source.captions is not None
    if features.readable is None:
        return features, source.captions
    return features.read(), source.captions.subset(features.readable.nonzero()[:, 0])
