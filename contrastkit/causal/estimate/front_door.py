"""The front-door formula."""

from typing import Any

import numpy as np

from contrastkit.causal.estimate.cross_fitted import CrossFitted
from contrastkit.causal.folds import Splits
from contrastkit.causal.learners import LeastSquares, predicted
from contrastkit.causal.propensity import Propensity
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates


class FrontDoor(CrossFitted):
    """The effect of a treatment that reaches the outcome through mediators alone, where what confounds treatment and
    outcome is not observed (Pearl 1995, "Causal diagrams for empirical research", Theorem 2):

        E[Y(a)] = sum_m P(m | a) sum_b E[Y | m, b] P(b), each term given the covariates C, if there are any,

    whose difference between a = 1 and a = 0 is the ATE. It is estimated by the mean of its influence function (after
    Fulcher, Shpitser, Marealle & Tchetgen Tchetgen 2020, "Robust inference on population indirect causal effects: the
    generalized front door criterion"), where densities of mediators are divided by one another; by Bayes' rule, these
    ratios are made of the scores P(T = 1 | M, C) and P(T = 1 | C), so that mediators may be of any kind. Errors of the
    models enter by their products alone. With mediators of few values, and models that tell them apart, it is the
    formula with shares and means.

    Args:
        mediators: the columns of X that are mediators; the others are covariates.
        model: outcome model, any regressor, fitted in each arm to mediators and covariates, and, for its predictions,
            to the covariates; linear by default.
        propensity, folds, repeats, seed: as those of AIPW.
        clip: scores nearer to 0 or 1 are set to this distance.
    """

    takes_sample_weight = False

    def __init__(
        self,
        mediators: tuple[int, ...],
        *,
        model: Any = None,
        propensity: Propensity | None = None,
        folds: int = 5,
        repeats: int = 3,
        clip: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.mediators = mediators
        self.model = model
        self.propensity = propensity
        self.folds = folds
        self.repeats = repeats
        self.clip = clip
        self.seed = seed

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self.estimand_ = "ATE"
        self._clipped: list[int] = []
        super()._fit(X, t, y)
        if clipped := int(np.median(self._clipped)):
            self.remarks_.append(f"{clipped:,} of {len(y):,} scores were clipped to {self.clip:g} from 0 or 1")

    def _once(self, X: Covariates, t: Bools, y: Floats, splits: Splits) -> tuple[float, Floats]:
        C = X.select([j for j in range(X.shape[1]) if j not in self.mediators])
        e = self._scores(X, t, splits)
        p = self._scores(C, t, splits) if C.shape[1] else self._shares(t, splits)
        self._clipped.append(int((np.minimum(e, 1 - e) < self.clip).sum()))
        e, p = (np.clip(scores, self.clip, 1 - self.clip) for scores in (e, p))
        m, h = self._regressions(X, C, t, y, splits)
        ratio = e / p, (1 - e) / (1 - p)  # P(m | a) over P(m), for a = 1 and 0
        of_mediators = (y - np.where(t, m[1], m[0])) * (ratio[0] - ratio[1]) / np.where(t, *ratio)
        mean = [h[a, 1] * p + h[a, 0] * (1 - p) for a in (0, 1)]
        averaged = m[1] * p + m[0] * (1 - p)
        of_treatment = np.where(t, (averaged - mean[1]) / p, -(averaged - mean[0]) / (1 - p))
        psi = of_mediators + of_treatment + np.where(t, h[1, 1] - h[0, 1], h[1, 0] - h[0, 0])
        return float(psi.mean()), (psi - psi.mean()) / np.sqrt(len(y) * (len(y) - 1))

    def _shares(self, t: Bools, splits: Splits) -> Floats:
        """The share treated [n] outside the fold of each row."""
        p = np.empty(len(t))
        for train, test in splits:
            p[test] = t[train].mean()
        return p

    def _regressions(
        self, X: Covariates, C: Covariates, t: Bools, y: Floats, splits: Splits
    ) -> tuple[Floats, dict[tuple[int, int], Floats]]:
        """m[b] = E[Y | M, C, T = b], [2, n], and h[a, b] = E[m[b] | C, T = a], [n] each, without the row's own fold."""
        model = LeastSquares() if self.model is None else self.model
        m, h = np.empty((2, len(y))), {(a, b): np.empty_like(y) for a in (0, 1) for b in (0, 1)}
        for train, test in splits:
            arms = train[~t[train]], train[t[train]]
            for b in (0, 1):
                fitted = self._learned(model, X.x[arms[b]], y[arms[b]], None)
                m[b, test] = predicted(fitted, X.x[test])
                for a in (0, 1):
                    known = predicted(fitted, X.x[arms[a]])
                    if C.shape[1]:
                        h[a, b][test] = predicted(self._learned(model, C.x[arms[a]], known, None), C.x[test])
                    else:
                        h[a, b][test] = known.mean()
        return m, h
