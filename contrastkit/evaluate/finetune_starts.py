"""Where fine-tunings start: the subject's encoder, the same one from scratch, and its published weights."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contrastkit import dist
from contrastkit.errors import UserError
from contrastkit.evaluate.classifier import Neck, neck_of
from contrastkit.evaluate.finetune_trial import Start, param_groups
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.loading import load_method
from contrastkit.parts.build import build_encoder, set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.published import published_encoder
from contrastkit.parts.vit import drop_paths
from contrastkit.protocols import FinetuneProtocol


def trainable_encoder(subject: EvaluationSubject) -> Encoder:
    """The encoder to fine-tune.

    Raises:
        UserError: there is none, it is for sounds or other channels, or several processes have been started.
    """
    source, encoder = subject.data.train, next(iter(subject.encoders.values()))
    if dist.world_size() > 1:
        raise UserError("fine-tuning runs in one process: start it without torchrun")
    if not isinstance(encoder, Encoder):
        raise UserError("fine-tuning trains an encoder, and raw pixels have none: give a run, or --encoder NAME")
    if not source.modality.has_pixels:
        raise UserError(f"fine-tuning crops and flips images, but these are {source.modality.plural}: use probe")
    if source.channels not in (1, encoder.channels):
        raise UserError(f"{source.name} has {source.channels} channels, the encoder takes {encoder.channels}")
    return encoder


def starts_of(
    subject: EvaluationSubject, encoder: Encoder, row: FinetuneProtocol, *, baselines: bool
) -> tuple[list[Start], tuple[str, ...]]:
    """The subject's first, then the baselines; and what a reader should know of them.

    From scratch, all layers are trained at one rate, with the statistics of the batch: there is nothing to preserve.

    Raises:
        UserError: the encoder has fewer layers than are to be trained, or the method's head has.
    """
    name, notices = next(iter(subject.encoders)), list[str]()
    neck, n_classes = _neck(subject, row.head_layers), subject.n_classes
    kind, dropping = subject.kind, _with_drop_path(subject.kind, row.drop_path)
    if row.drop_path and dropping is None:
        notices.append(f"--drop-path {row.drop_path:g} has no effect on this encoder")

    def tuned(seed: int) -> LinearClassifier:
        if dropping is None:
            model = copy.deepcopy(encoder)
        else:
            model = _built(dropping, subject.size)
            model.load_state_dict(encoder.state_dict())
        return LinearClassifier(model, n_classes, neck=copy.deepcopy(neck), batch_norm=row.batch_norm)

    starts = [Start("fine-tuned", f"{name}, fine-tuned", tuned, row)]
    param_groups(tuned(0), row)  # raises before anything is trained
    if not baselines:
        return starts, tuple(notices)
    if kind is None:
        return starts, (*notices, "no baselines: how this encoder was built is not known")
    whole = replace(row, layers=None, layer_decay=1.0, encoder_lr=1.0, batch_norm="train")

    def scratch(seed: int) -> LinearClassifier:
        fresh = None if neck is None else Neck(neck.layers)
        return LinearClassifier(_built(dropping or kind, subject.size), n_classes, neck=fresh)

    starts.append(Start("from scratch", f"{kind['name']}, from scratch", scratch, whole))
    try:
        published = published_encoder(kind)
        set_image_size(published, subject.size)
    except UserError as error:
        return starts, (*notices, f"no row of published weights: {error}")

    def tuned_published(seed: int) -> LinearClassifier:
        return LinearClassifier(copy.deepcopy(published), n_classes, batch_norm=row.batch_norm)

    starts.append(Start("published weights", f"{kind['name']}, published weights, fine-tuned", tuned_published, row))
    return starts, tuple(notices)


def _neck(subject: EvaluationSubject, layers: int) -> Neck | None:
    if not layers:
        return None
    if subject.run is None:
        raise UserError("--head-layers keeps layers of a method's head: give a run, not --encoder")
    return neck_of(load_method(subject.run).online.head, layers)


def _built(kind: Mapping[str, Any], size: int) -> Encoder:
    """A new encoder, its weights drawn by torch's generator."""
    encoder = build_encoder(**kind)
    set_image_size(encoder, size)
    return encoder


def _with_drop_path(kind: Mapping[str, Any] | None, share: float) -> dict[str, Any] | None:
    """How to build the encoder so that it drops that share of its residual branches; None if it cannot drop any."""
    if kind is None or not share or not str(kind["name"]).startswith("timm:"):
        return None
    dropping = dict(kind) | {"vit": {**(kind.get("vit") or {}), "drop_path_rate": share}}
    return dropping if drop_paths(build_encoder(**dropping)) else None
