"""The result of a check, and the parts that checks share."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from contrastkit.causal.estimate import Estimator
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_outcome, as_treatment
from contrastkit.tables.covariates import Covariates

DRAWS = 50
REFUSED = 0.2  # largest share of draws that an estimator may refuse
SHARE = 0.8  # of each arm in a subset
Sample = tuple[Covariates, Bools, Floats]  # X [n, p], t [n], y [n]


@dataclass(frozen=True)
class Verdict:
    """The result of a check; ``numbers`` has its figures, ready for JSON."""

    name: str
    passed: bool
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


def fitted(estimator: Estimator, X: Any, T: ArrayLike, Y: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Estimator:
    """A fitted clone of the estimator. If it has no standard error, ``se_`` is that of the delete-d jackknife over
    ``draws`` subsets of 80 % of each arm (Shao & Wu 1989): their standard deviation times sqrt(0.8 / 0.2).

    Raises:
        UserError: the data are refused, the outcome has no randomness left, or too many subsets were refused.
    """
    X = Covariates.of(X)
    t, y = as_treatment(T, len(X)), as_outcome(Y, len(X))
    first = clone(estimator).fit(X, t, y)
    if math.isnan(first.se_):
        estimates, _ = effects(first, subsets(X, t, y, draws, seed))
        first.se_ = float(estimates.std()) * math.sqrt(SHARE / (1 - SHARE))
    if not first.se_ > 1e-12 * y.std():
        raise UserError(
            "the standard error is zero: treatment and covariates determine the outcome; leave covariates out"
        )
    return first


def effects(first: Estimator, samples: Iterable[Sample]) -> tuple[Floats, int]:
    """The estimates of clones fitted to each sample, and the number of samples refused.

    Raises:
        UserError: more than a fifth were refused.
    """
    estimates: list[float] = []
    refused: list[str] = []
    for X, t, y in samples:
        try:
            estimates.append(clone(first).fit(X, t, y).effect_)
        except UserError as error:
            refused.append(str(error).split(":")[0])
    total = len(estimates) + len(refused)
    if len(refused) > REFUSED * total:
        raise UserError(f"{len(refused)} of {total} draws were refused, the last because {refused[-1]}")
    return np.array(estimates), len(refused)


def subsets(X: Covariates, t: Bools, y: Floats, draws: int, seed: int) -> Iterator[Sample]:
    """Subsets with 80 % of each arm, without replacement, ``draws`` times."""
    g = stream(seed, "subset")
    arms = [np.flatnonzero(t), np.flatnonzero(~t)]
    for _ in range(draws):
        rows = np.sort(np.concatenate([g.choice(arm, round(SHARE * len(arm)), replace=False) for arm in arms]))
        yield X.take(rows), t[rows], y[rows]


def digits(value: float) -> str:
    """A number with three significant digits, or a whole number from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def stream(seed: int, use: str) -> np.random.Generator:
    """An independent stream for each use; never default_rng(seed), from which a simulated study may be drawn."""
    return np.random.default_rng([seed, *use.encode()])
