"""Standard errors by resampling: the bootstrap, and the delete-d jackknife for estimators without a formula.

A fitted estimator is given the standard error, and remarks on it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.names import Error, Measure
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_arms, as_clusters, as_outcome, as_sample_weights
from contrastkit.tables.covariates import Covariates

DRAWS = 200  # of the bootstrap
SUBSETS = 30  # of the jackknife
REFUSED = 0.2  # largest share of draws that an estimator may refuse
LEAST = 5  # units of an arm, of which the jackknife leaves out at least one
SHARE = 0.8  # of each arm, or of the clusters, in a subset


@dataclass(frozen=True)
class Sample:
    """What an estimator is fitted to.

    Attributes:
        weights: sample weights [n], if any.
        clusters: int64 [n], equal for rows that must be on one side of a fold: those of a cluster, and the copies of a
            unit that was drawn twice. None if no two rows are.
    """

    X: Covariates  # [n, p]
    t: Bools  # [n]
    y: Floats  # [n]
    weights: Floats | None = None
    clusters: NDArray[np.int64] | None = None

    def take(self, rows: NDArray[np.int64], clusters: NDArray[np.int64] | None) -> "Sample":
        """These rows, with these labels."""
        weights = None if self.weights is None else self.weights[rows]
        return Sample(self.X.take(rows), self.t[rows], self.y[rows], weights, clusters)


@dataclass(frozen=True)
class Refits:
    """The estimates [draws - refused] on many samples, of which the estimator refused some, and gave its propensity
    model a prior in others."""

    estimates: Floats
    refused: int
    with_prior: int


def fit_with_error(
    estimator: Estimator,
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    *,
    error: Error = "m-estimation",
    draws: int = DRAWS,
    subsets: int = SUBSETS,
    sample_weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    measure: Measure = "difference",
    seed: int = 0,
) -> Estimator:
    """A fitted clone of an estimator, with a standard error: its own, or the bootstrap's, or, if it has none and is
    ``jackknifed``, the jackknife's.

    Args:
        error: ``bootstrap``; the others are a matter of the estimator.
        draws, subsets: numbers of samples of the bootstrap and of the jackknife.
        sample_weight, clusters, measure: see :meth:`Estimator.fit`; clusters are drawn as a whole.

    Raises:
        UserError: the estimator refuses the data, or more than a fifth of the samples.
    """
    X = Covariates.of(X)
    t, y = as_arms(T, len(X)), as_outcome(Y, len(X))
    s = None if sample_weight is None else as_sample_weights(sample_weight, len(X))
    groups = None if clusters is None else as_clusters(clusters, len(X))
    first = clone(estimator).fit(X, t, y, s, clusters=groups, measure=measure)
    resampled = error == "bootstrap" or (math.isnan(first.se_) and first.jackknifed)
    if resampled:
        first.remarks_ = [remark for remark in first.remarks_ if remark not in first.error_remarks_]
        first.error_remarks_ = []
        whole = Sample(X, t, y, s, groups)
        if error == "bootstrap":
            bootstrap(first, whole, draws=draws, seed=seed)
        else:
            jackknife(first, whole, draws=subsets, seed=seed)
    return first


def bootstrap(first: Estimator, whole: Sample, *, draws: int, seed: int) -> None:
    """The bootstrap of units, or of clusters: the standard deviation of the estimates. Their quantiles are not used:
    under heavy weights they covered no more than Student's interval in simulations, and need many more samples. Without
    influences, the degrees of freedom are those of the smaller arm.

    It is not valid for matching (Abadie & Imbens 2008), whose influences are resampled instead, multiplied by
    independent draws of mean 0 and variance 1 (Otsu & Rai 2017; the two-point distribution of Mammen 1993).
    """
    if draws < 50:
        raise UserError(f"{draws} bootstrap draws are too few: use 50 or more")
    if first.resamplable:
        refits = effects(first, resamples(whole, draws, seed))
        estimates = refits.estimates
        if refits.refused:
            first.remarks_.append(f"{refits.refused} of {draws} bootstrap samples were refused")
        if refits.with_prior:
            first.remarks_.append(
                f"in {refits.with_prior} of {draws} bootstrap samples the covariates separate some units, and the "
                "propensity model has a weakly informative prior"
            )
    elif first.influence_ is None or np.isnan(first.influence_).any():
        raise UserError("the bootstrap is not valid for it, and its influences are not known: use fewer covariates")
    else:
        estimates = first.effect_ + wild(first.influence_, whole.clusters, draws, seed)
        first.remarks_.append("wild bootstrap of the influences: resampling units is not valid for matching")
    first.se_ = float(estimates.std(ddof=1))
    if math.isinf(first.df_):
        first.df_ = int(min(whole.t.sum(), (~whole.t).sum())) - 1


def jackknife(first: Estimator, whole: Sample, *, draws: int, seed: int) -> None:
    """The delete-d jackknife (Shao & Wu 1989): the standard deviation of the estimates on subsets of 80 % of each arm,
    or of the clusters, times sqrt(0.8 / 0.2). Its degrees of freedom are those of the smaller arm."""
    t, groups = whole.t, whole.clusters
    least = int(min(t.sum(), (~t).sum())) if groups is None else int(groups.max()) + 1
    if least < LEAST:
        units = "units of an arm" if groups is None else "clusters"
        first.remarks_.append(f"no standard error: {least} {units} are too few for the jackknife")
        return
    try:
        estimates = effects(first, subsets(whole, draws, seed)).estimates
    except UserError as error:
        first.remarks_.append(f"no standard error: of the jackknife, {error}")
        return
    first.df_ = min(first.df_, least - 1)
    kept = SHARE if groups is None else round(SHARE * least) / least
    first.se_ = float(estimates.std()) * math.sqrt(kept / (1 - kept))
    first.remarks_.append(f"standard error of the jackknife, over {draws} subsets")


def effects(first: Estimator, samples: Iterable[Sample], *, prior: bool = True) -> Refits:
    """The estimates of clones fitted to each sample.

    Args:
        prior: see :meth:`Estimator.fit`.

    Raises:
        UserError: more than a fifth were refused.
    """
    estimates: list[float] = []
    refused: list[str] = []
    with_prior = 0
    for sample in samples:
        try:
            again = clone(first).fit(
                sample.X, sample.t, sample.y, sample.weights, clusters=sample.clusters, measure=first.measure_,
                prior=prior,
            )  # fmt: skip
            estimates.append(again.effect_)
            with_prior += again.prior_
        except UserError as error:
            refused.append(str(error).split(":")[0])
    total = len(estimates) + len(refused)
    if len(refused) > REFUSED * total:
        raise UserError(f"{len(refused)} of {total} draws were refused, the last because {refused[-1]}")
    return Refits(np.array(estimates), len(refused), with_prior)


def resamples(whole: Sample, draws: int, seed: int) -> Iterator[Sample]:
    """Samples by :func:`drawn_rows`; the copies of a unit, or of a cluster, are a cluster."""
    for rows in drawn_rows(len(whole.y), whole.clusters, draws, seed):
        yield whole.take(rows, rows if whole.clusters is None else whole.clusters[rows])


def drawn_rows(n: int, clusters: NDArray[np.int64] | None, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The rows of as many units of n, or as many clusters with all their units, with replacement, ``draws`` times."""
    members = None if clusters is None else _members(clusters)
    size = n if members is None else len(members)
    for draw in range(draws):
        picked = (_uniform(seed, draw, size) * size).astype(np.int64)
        yield picked if members is None else np.concatenate([members[group] for group in picked])


def wild(influence: Floats, groups: NDArray[Any] | None, draws: int, seed: int) -> Floats:
    """Sums of the influences of units, or clusters, each times -(sqrt(5) - 1)/2 or (sqrt(5) + 1)/2, with probabilities
    that give mean 0, variance 1 and third moment 1 (Mammen 1993): [draws]."""
    sums = influence if groups is None else np.bincount(groups, influence)
    low, high = (1 - math.sqrt(5)) / 2, (1 + math.sqrt(5)) / 2
    chance = high / math.sqrt(5)  # of the lower value
    return np.array([np.where(_uniform(seed, k, len(sums)) < chance, low, high) @ sums for k in range(draws)])


def subsets(whole: Sample, draws: int, seed: int) -> Iterator[Sample]:
    """Subsets with 80 % of each arm, or of the clusters, without replacement, ``draws`` times."""
    g = stream(seed, "subset")
    t, groups = whole.t, whole.clusters
    members = None if groups is None else _members(groups)
    parts = [np.flatnonzero(t), np.flatnonzero(~t)] if members is None else [np.arange(len(members))]
    for _ in range(draws):
        rows = np.sort(np.concatenate([g.choice(part, round(SHARE * len(part)), replace=False) for part in parts]))
        if members is not None:
            rows = np.sort(np.concatenate([members[group] for group in rows]))
        yield whole.take(rows, None if groups is None else groups[rows])


def stream(seed: int, use: str) -> np.random.Generator:
    """An independent stream for each use; never default_rng(seed), from which a simulated study may be drawn."""
    return np.random.default_rng([seed, *use.encode()])


def _members(groups: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The rows of each cluster."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups))[:-1])


def _uniform(seed: int, draw: int, n: int) -> Floats:
    """Uniform draws in [0, 1), [n], a function of seed and draw: the first draws are the same whatever their number."""
    import torch  # slow to import

    from contrastkit.rng import BOOTSTRAP, uniform

    draws: Floats = uniform(seed, draw, torch.arange(n), BOOTSTRAP, 1)[:, 0].numpy()
    return draws
