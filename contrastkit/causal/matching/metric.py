"""Coordinates whose Euclidean distance is the metric, and the tolerance for equal distances."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from contrastkit.causal.names import Metric
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.ties import ROUNDING, levels, rounding

BY_SCORE = ("logit", "propensity")  # the metrics of the propensity score
Pairs = tuple[NDArray[Any], NDArray[Any], Floats]  # m pairs: row of the unit, row of the partner, distance
TIE = 1e-10  # times the largest coordinate: smaller differences between distances are rounding


def slack(z: Floats) -> float:
    """The tolerance within which distances between coordinates z [n, k] are equal."""
    return TIE * float(np.abs(z).max())


def coordinates(
    metric: Metric, x: Floats, t: Bools, propensity: Propensity | None, caliper: float | None
) -> tuple[Floats, float]:
    """Coordinates [n, k] whose Euclidean distance is the metric, and the caliper on it.

    Args:
        propensity: fitted, for ``logit`` and ``propensity``.
        caliper: in standard deviations of the score for these two, otherwise in units of the distance; None for none.

    Raises:
        UserError: a row of zeros with ``cosine``, or too few units for a covariance.
    """
    limit = np.inf if caliper is None else caliper
    if metric in BY_SCORE:
        assert propensity is not None
        score = propensity.logit_ if metric == "logit" else propensity.scores_
        return score[:, None], limit * score.std(ddof=1)
    if metric == "cosine":  # |a - b|^2 = 2 (1 - cos)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        if not length.all():
            raise UserError("a row of zeros has no direction: leave it out, or choose another metric than cosine")
        return x / length, limit
    if metric == "euclidean":
        return x, limit
    if metric == "scaled":
        sd = x.std(0, ddof=1)
        return x / np.where(sd > ROUNDING * np.abs(x).max(0), sd, 1), limit
    if metric == "robust":
        ranks = [rankdata(levels(column, rounding(column))) for column in x.T]
        return _whitened(np.column_stack(ranks), t, ranks=True), limit
    return _whitened(x, t, ranks=False), limit


def _whitened(x: Floats, t: Bools, *, ranks: bool) -> Floats:
    """Coordinates of the Mahalanobis distance under the pooled covariance within the arms; for ranks with the variances
    of untied ranks."""
    if len(x) < 3:
        raise UserError(f"{len(x)} units are too few for a covariance within the groups: provide at least three")
    within = np.where(t[:, None], x - x[t].mean(0), x - x[~t].mean(0))
    sd = np.sqrt((within**2).sum(0) / (len(x) - 2))
    sd[sd <= ROUNDING * np.abs(x).max(0)] = np.inf  # constant within both groups: ignored
    values, vectors = np.linalg.eigh((within / sd).T @ (within / sd) / (len(x) - 2))
    nonzero = values > values.max() * 1e-10  # of correlations: the cut must not depend on units
    if ranks:
        sd[np.isfinite(sd)] = np.sqrt(len(x) * (len(x) + 1) / 12)
    return (x / sd) @ (vectors[:, nonzero] / np.sqrt(values[nonzero]))
