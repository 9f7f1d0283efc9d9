"""Each environment held out in turn: the accuracy in an environment of a classifier of all others."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.evaluate.by_environment import ByEnvironment
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.fit import trained_on_these
from contrastkit.evaluate.subject import EvaluationSubject, OnProgress
from contrastkit.names import EACH
from contrastkit.run import Run

SETTINGS = ("data", "protocol", "k", "T", "size")  # keys of reports that do not differ between environments
WORD = "ENVIRONMENT"  # in the name of a file of weights


class Report(Protocol):
    """What is known of an evaluation: a KnnReport or a ProbeReport."""

    @property
    def data(self) -> str: ...
    @property
    def environments(self) -> dict[str, ByEnvironment]: ...
    @property
    def notices(self) -> tuple[str, ...]: ...
    def as_json(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Report)


@dataclass(frozen=True, slots=True)
class HeldOut(Generic[R]):
    """Result of :func:`hold_out_each`."""

    reports: Mapping[str, R]  # by the environment that was held out
    notices: tuple[str, ...]  # what a reader of the numbers should know, one line each

    @property
    def environments(self) -> dict[str, ByEnvironment]:
        """Of each encoder, the accuracy in each environment of the classifier that was trained on the others."""
        names = next(iter(self.reports.values())).environments
        return {
            name: ByEnvironment.of({e: report.environments[name].environments[e] for e, report in self.reports.items()})
            for name in names
        }

    def as_json(self) -> dict[str, Any]:
        parts = {environment: report.as_json() for environment, report in self.reports.items()}
        shared = {name: value for name, value in next(iter(parts.values())).items() if name in SETTINGS}
        own = {e: {name: value for name, value in part.items() if name not in SETTINGS} for e, part in parts.items()}
        environments = {name: asdict(each) for name, each in self.environments.items()}
        return shared | {"environments": environments, "held_out": own}


def hold_out_each(
    subject: EvaluationSubject,
    evaluate: Callable[[EvaluationSubject, str], R],
    *,
    on_progress: OnProgress | None = None,
) -> HeldOut[R]:
    """Evaluate on each environment in turn, with all others as the training part (leave-one-domain-out: Gulrajani &
    Lopez-Paz 2021, "In search of lost domain generalization"). Every image is encoded once, whatever the number of
    environments.

    Args:
        subject: its images lie in the training part, and have environments.
        evaluate: given the subject with one environment as its test part, and the name of that: such as
            ``lambda subject, held_out: probe(subject, seeds=1)``.

    Raises:
        UserError: environments that are not known, a single one, a test part of its own, or see ``evaluate``.
    """
    data, where = subject.data, subject.data.train.environment
    if where is None:
        raise UserError(
            f"--hold-out {EACH}: {data.name} does not say what environment an image is of: give DIR/ENVIRONMENT/CLASS"
        )
    if data.test is not None:
        raise UserError(
            f"--hold-out {EACH}: {data.name} has a test part already: drop --val-fraction, or name the set, as a "
            "whole, with --data"
        )
    names = np.unique(where).tolist()
    if len(names) < 2:
        raise UserError(f"--hold-out {EACH}: {data.name} has the environment {names[0]} alone")

    @cache
    def features(encoder: str) -> Features:
        return subject.features(encoder, data.train, on_progress=on_progress)[0]

    reports = {str(name): evaluate(_without(subject, where == name, features), str(name)) for name in names}
    lines = [f"{name} held out: {line}" for name, report in reports.items() for line in report.notices]
    if subject.reports is not None and subject.run is not None:
        lines.insert(0, trained_on_these(subject.run, Run.open(subject.run).record))
    return HeldOut(reports, (*subject.left_out, *lines))


def _without(
    subject: EvaluationSubject, held_out: NDArray[np.bool_], features: Callable[[str], Features]
) -> EvaluationSubject:
    """The subject with these of its images, [N], as its test part, and the others as its training part.

    Args:
        features: of all N images, by the encoder of a name.
    """
    data, (rest, test) = subject.data, (torch.from_numpy(rows.nonzero()[0]) for rows in (~held_out, held_out))
    train = data.train.subset(rest)

    def encoded(encoder: str) -> tuple[Features, Features]:
        return features(encoder).subset(rest), features(encoder).subset(test)

    return replace(
        subject, data=replace(data, train=train, test=data.train.subset(test), pretrain=train), encoded=encoded
    )


def weights_file(file: str | Path | None, environment: str) -> str | None:
    """The file of weights for the classifier that does not see an environment: ENVIRONMENT in its name stands for that.

    Raises:
        UserError: one file for all of them, whose weights would be of the images held out, too.
    """
    if file is not None and WORD not in str(file):
        raise UserError(
            f"--weights {file}: what is trained on differs with the environment that is held out, and so do its "
            f"weights: give a file for each, such as weights-{WORD}.csv"
        )
    return None if file is None else str(file).replace(WORD, environment)
