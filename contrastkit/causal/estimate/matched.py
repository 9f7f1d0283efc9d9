"""Mean differences over matched pairs."""

import math

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.matching import Matching
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design


class Matched(Estimator):
    """The mean difference over the pairs of ``matching``, with the bias correction and the standard error of Abadie and
    Imbens (2006, 2011).

    Args:
        matching: the matching; by default that of :class:`Matching`.
        bias_correction: adjust the outcome of each partner for the difference in covariates, by a linear regression of
            Y on X among the partners, weighted by how often each is used.
    """

    def __init__(self, matching: Matching | None = None, *, bias_correction: bool = True) -> None:
        self.matching = matching
        self.bias_correction = bias_correction

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.matching_ = m = clone(Matching() if self.matching is None else self.matching).fit(X, t)
        self.weights_, self.estimand_ = m.weights_, m.estimand_
        i, j = m.pairs_.T
        share, n = m.shares_, len(y)
        sign = np.where(t[i], 1.0, -1.0)
        other = self._corrected(design(X.x), t, y) if self.bias_correction else y[j]
        gain = sign * (y[i] - other)
        units = np.unique(i)
        each = np.bincount(i, share * gain, minlength=n)[units]
        self.effect_ = tau = float(each.mean())
        s2 = float((share * (gain - tau) ** 2).sum()) / (2 * len(units))
        K, K2 = (np.bincount(j, part, minlength=n) for part in (share, share**2))
        extra = K**2 - K2
        extra[units] += 2 * K[units]  # with the ATE, a unit can be a partner too
        variance = float(((each - tau) ** 2).sum()) + s2 * float(extra.sum())
        self.se_ = float(np.sqrt(variance)) / len(units) if len(units) > 1 else math.nan

    def _corrected(self, A: Floats, t: Bools, y: Floats) -> Floats:
        """The outcome of the partner in each pair [m], adjusted for the difference in covariates; A [n, k] is the
        design matrix of the regressions."""
        i, j = self.matching_.pairs_.T
        other = y[j]
        for arm in (t, ~t):
            uses = np.bincount(j, self.matching_.shares_, minlength=len(y)) * arm
            if uses.any():
                root = np.sqrt(uses)
                beta, _, rank, _ = np.linalg.lstsq(A * root[:, None], y * root, rcond=1e-10)
                if (uses > 0).sum() <= rank:
                    raise UserError(
                        f"{(uses > 0).sum()} partners cannot identify the {rank} coefficients of the bias "
                        "correction: leave covariates out, or do without the correction"
                    )
                other = other + arm[j] * ((A[i] - A[j]) @ beta)
        return other
