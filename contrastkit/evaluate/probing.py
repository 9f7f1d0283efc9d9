"""The linear probe of a subject, under either protocol."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from contrastkit import bounds
from contrastkit.errors import UserError
from contrastkit.evaluate.by_environment import ByEnvironment
from contrastkit.evaluate.features import labelled
from contrastkit.evaluate.linear import LinearProbe, linear_probe
from contrastkit.evaluate.protocol import ProtocolResult, moco_protocol
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.evaluate.weighting import ImageWeights, weighted
from contrastkit.names import MOCO_EPOCHS, MOCO_RATE, RATES_EPOCHS, RATES_SEEDS
from contrastkit.parts.encoder import Encoder

EPOCHS = {"rates": RATES_EPOCHS, "standardised": RATES_EPOCHS, "moco": MOCO_EPOCHS}


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Result of :func:`probe`."""

    data: str  # name of the data set
    protocol: str
    size: int  # side in pixels of the images
    probe: dict[str, LinearProbe | ProtocolResult]  # of each encoder
    weights: ImageWeights | None  # of the training images
    notices: tuple[str, ...]  # what a reader of the numbers should know, one line each

    @property
    def environments(self) -> dict[str, ByEnvironment]:
        """Of each encoder; {} where the test images have none."""
        found = {name: each.environments for name, each in self.probe.items()}
        return {name: each for name, each in found.items() if each is not None}

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "notices"}


def probe(
    subject: EvaluationSubject,
    *,
    protocol: Literal["rates", "standardised", "moco"] = "rates",
    epochs: int | None = None,
    lr: float | None = None,
    seeds: int | None = None,
    seed: int = 0,
    weights: str | Path | None = None,
    on_progress: OnProgress | None = None,
    on_epoch: Callable[[str, int, int, float], None] | None = None,
) -> ProbeReport:
    """Accuracy of a linear classifier on each encoder's features.

    Args:
        protocol: "rates": :func:`linear_probe`, many learning rates at once on features encoded once; "standardised":
            the same on features standardised over the training images, as by the batch norm of MAE's linear protocol
            (He et al. 2021, App. A.1); "moco": :func:`moco_protocol`, on random crops and flips of the images.
        epochs: passes over the training images; None is the protocol's number, :data:`EPOCHS`.
        lr: "moco" only: learning rate; None is :data:`MOCO_RATE`.
        seeds: not of "moco": number of classifiers trained at the chosen rate, with the seeds ``seed``, ``seed + 1``,
            ...; None is :data:`RATES_SEEDS`.
        weights: a file with the weight of each training image (:func:`contrastkit.evaluate.weighting.weighted`).
            "standardised" takes no notice of it in the mean and the variance.
        on_epoch: "moco" only: called after each epoch with encoder, epoch (from 1), number of epochs, and mean loss.

    Raises:
        UserError: no such protocol, a number below 1, no labels, no test part, an argument of the other protocol,
            weights of other images, or under "moco" sounds, or raw pixels alone.
    """
    if protocol not in EPOCHS:
        raise UserError(f"--protocol must be one of {', '.join(EPOCHS)}, not {protocol}")
    bounds.EPOCHS.check("--epochs", epochs, whole=True)
    bounds.NOT_NEGATIVE.check("--lr", lr)
    bounds.SEEDS.check("--seeds", seeds, whole=True)
    bounds.SEED.check("--seed", seed, whole=True)
    epochs = EPOCHS[protocol] if epochs is None else epochs
    if protocol == "moco" and seeds is not None:
        raise UserError("--seeds does not apply to --protocol moco, which trains one classifier, with --seed")
    if protocol != "moco" and lr is not None:
        raise UserError(f"--lr applies to --protocol moco only: '{protocol}' chooses the learning rate itself")
    subject, used, lines = weighted(subject, weights)
    if protocol == "moco":
        how: dict[str, Any] = {"epochs": epochs, "seed": seed, "on_progress": on_progress, "on_epoch": on_epoch}
        probes, notices = _by_moco(subject, lr=MOCO_RATE if lr is None else lr, **how)
    else:
        seed_range = range(seed, seed + (RATES_SEEDS if seeds is None else seeds))
        standardised = protocol == "standardised"
        probes, notices = _by_rates(subject, standardised, epochs=epochs, seeds=seed_range, on_progress=on_progress)
    return ProbeReport(subject.data.name, protocol, subject.size, probes, used, (*lines, *notices))


def _by_rates(
    subject: EvaluationSubject, standardised: bool, *, epochs: int, seeds: range, on_progress: OnProgress | None
) -> tuple[dict[str, LinearProbe | ProtocolResult], tuple[str, ...]]:
    """The probe of each encoder, and a line for each thing that a reader should know."""
    probes: dict[str, LinearProbe | ProtocolResult] = {}
    notices: list[str] = []
    for name, train, test in subject.labelled_features(on_progress):
        if on_progress is not None:
            on_progress(f"linear probe: {name}", 0, None)
        if standardised:
            train, test = train.standardised_by(train), test.standardised_by(train)
        result = linear_probe(
            train,
            test,
            n_classes=subject.n_classes,
            classes=subject.data.train.classes,
            epochs=epochs,
            seeds=seeds,
            device=subject.device,
        )
        probes[name] = result
        notices += [f"{name}: {notice}" for notice in result.notices]
    return probes, (*subject.left_out, *notices)


def _by_moco(
    subject: EvaluationSubject,
    *,
    epochs: int,
    lr: float,
    seed: int,
    on_progress: OnProgress | None,
    on_epoch: Callable[[str, int, int, float], None] | None,
) -> tuple[dict[str, LinearProbe | ProtocolResult], tuple[str, ...]]:
    train, test = (labelled(part, "the linear probe") for part in subject.labelled_parts())
    subject = replace(subject, data=replace(subject.data, train=train, test=test))  # for what is left out of these
    if not train.modality.has_pixels:
        raise UserError(
            f"protocol 'moco' crops and flips images, but these are {train.modality.plural}: use --protocol rates"
        )
    encoders = {name: encoder for name, encoder in subject.encoders.items() if isinstance(encoder, Encoder)}
    if not encoders:
        raise UserError("protocol 'moco' probes encoders, not raw pixels: use --protocol rates")
    probes: dict[str, LinearProbe | ProtocolResult] = {}
    for name, encoder in encoders.items():

        def report(epoch: int, loss: float, name: str = name) -> None:
            if on_progress is not None:
                on_progress(f"linear probe: {name}", epoch + 1, epochs)
            if on_epoch is not None:
                on_epoch(name, epoch + 1, epochs, loss)

        probes[name] = moco_protocol(
            encoder,
            train,
            test,
            size=subject.size,
            n_classes=subject.n_classes,
            classes=subject.data.train.classes,
            lr=lr,
            epochs=epochs,
            workers=subject.workers,
            max_bad=subject.max_bad,
            seed=seed,
            device=subject.device,
            on_epoch=report,
        )
    notices = tuple(
        f"{name}: skipped, protocol 'moco' probes encoders only" for name in subject.encoders if name not in probes
    )
    return probes, (*subject.left_out, *notices)
