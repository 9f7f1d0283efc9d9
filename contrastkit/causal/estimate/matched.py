"""Mean differences over matched pairs."""

import math

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.estimate.means import regression
from contrastkit.causal.matching import Matching
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design


class Matched(Estimator):
    """The mean difference over the pairs of ``matching``, with the bias correction and the standard error of Abadie and
    Imbens (2006, 2011).

    With clusters, the standard error is that of the linear form of the estimate (Otsu & Rai 2017), in which a partner
    counts as often as it is used. Its models are the regressions of the bias correction, and residuals are divided by
    1 minus their leverage, as in HC3.

    Args:
        matching: the matching; by default that of :class:`Matching`.
        bias_correction: adjust the outcome of each partner for the difference in covariates, by a linear regression of
            Y on X among the partners, weighted by how often each is used.
    """

    resamplable = False

    def __init__(self, matching: Matching | None = None, *, bias_correction: bool = True) -> None:
        self.matching = matching
        self.bias_correction = bias_correction

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_ = m = clone(Matching() if self.matching is None else self.matching).fit(X, t)
        self.weights_, self.estimand_ = m.weights_, m.estimand_
        i, j = m.pairs_.T
        share, n = m.shares_, len(y)
        sign = np.where(t, 1.0, -1.0)
        own, other, leverage = self._models(design(X.x), t, y)
        gain = sign[i] * (y[i] - y[j] - (other[i] - own[j]) * self.bias_correction)
        units = np.unique(i)
        each = np.bincount(i, share * gain, minlength=n)[units]
        self.effect_ = tau = float(each.mean())
        s2 = float((share * (gain - tau) ** 2).sum()) / (2 * len(units))
        K, K2 = (np.bincount(j, part, minlength=n) for part in (share, share**2))
        extra = K**2 - K2
        extra[units] += 2 * K[units]  # with the ATE, a unit can be a partner too
        variance = float(((each - tau) ** 2).sum()) + s2 * float(extra.sum())
        self.se_ = float(np.sqrt(variance)) / len(units) if len(units) > 1 else math.nan
        self.influence_ = np.where(K > 0, sign * K * (y - own) / (1 - leverage), 0.0)
        self.influence_[units] += sign[units] * (y - other)[units] - tau
        self.influence_ /= len(units)

    def _models(self, A: Floats, t: Bools, y: Floats) -> tuple[Floats, Floats, Floats]:
        """The outcome of each unit [n] in its own arm and in the other, predicted by the regression on A [n, k] among
        the partners of that arm, weighted by their uses (NaN where an arm has none), and its leverage on the first."""
        predicted, leverage = {}, np.zeros_like(y)
        for arm in (True, False):
            uses = np.bincount(self.matching_.pairs_[:, 1], self.matching_.shares_, minlength=len(y)) * (t == arm)
            predicted[arm] = np.full_like(y, math.nan)
            if uses.any():
                predicted[arm], each = regression(A, uses, y, strict=self.bias_correction)
                leverage += each
        own, other = (np.where(t, predicted[arm], predicted[not arm]) for arm in (True, False))
        return own, other, leverage
