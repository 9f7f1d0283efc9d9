"""Weights from the propensity score."""

from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from contrastkit.causal.names import AnyEstimand, Scale
from contrastkit.causal.propensity import Propensity, crump, within
from contrastkit.causal.weighting.equations import Equations
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, as_sample_weights, as_treatment
from contrastkit.tables.covariates import Covariates, design


class InverseProbability(BaseEstimator):
    """Weights from the propensity score e(x): h(e)/e for the treated, h(e)/(1 - e) for the others (Horvitz & Thompson
    1952; the tilting functions of Li, Morgan & Zaslavsky 2018).

    h is 1 for the ATE, e for the ATT, 1 - e for the ATC, and e (1 - e) for the ATO: overlap weights, which balance
    every mean exactly if e is logistic by maximum likelihood.

    Args:
        scale: ``hajek`` gives mean 1 in each arm; ``stabilised`` multiplies the weights by P(T) over the mean of h, for
            mean 1 in each arm in expectation (Robins, Hernan & Brumback 2000); ``raw`` is as above. The difference of
            weighted means is the same under all three.
        trim: drop units with scores below it or above 1 minus it; ``crump`` chooses it (:func:`propensity.crump`). The
            scores are still fitted to all units. The effect is that on the remaining units, see ``estimand_``.

    Attributes:
        weights_: see :mod:`contrastkit.causal.weighting`, and ``scale``.
        propensity_: the fitted model. alpha_: the trimming threshold, 0 if none.
    """

    def __init__(
        self,
        estimand: AnyEstimand = "ATT",
        *,
        scale: Scale = "hajek",
        trim: float | str = 0.0,
        propensity: Propensity | None = None,
    ) -> None:
        self.estimand = estimand
        self.scale = scale
        self.trim = trim
        self.propensity = propensity

    def fit(
        self,
        X: Any,
        T: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        clusters: ArrayLike | None = None,
        prior: bool = False,
    ) -> Self:
        """Fit to X [n, p] and T [n]; ``clusters`` and ``prior`` are those of :meth:`Propensity.fit`."""
        X = Covariates.of(X)
        t = as_treatment(T, len(X))
        self._survey = s = np.ones(len(X)) if sample_weight is None else as_sample_weights(sample_weight, len(X))
        check_choice("estimand", self.estimand, get_args(AnyEstimand))
        check_choice("scale", self.scale, get_args(Scale))
        trim = trimming(self.trim)
        self.propensity_ = clone(Propensity() if self.propensity is None else self.propensity)
        self.propensity_.fit(X, t, s, clusters=clusters, prior=prior)
        e = self.propensity_.scores_
        self.alpha_ = crump(e) if trim == "crump" else trim
        h = {"ATE": np.ones_like(e), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}[self.estimand]
        w = s * h / np.where(t, e, 1 - e) * within(e, self.alpha_)
        hajek = mean_one(w, t)
        share = np.average(t, weights=s)
        arms = np.where(t, share, 1 - share)
        self.weights_ = {"hajek": hajek, "stabilised": w * arms / np.average(h, weights=s), "raw": w}[self.scale]
        self.estimand_ = self.estimand + (" after trimming" if self.alpha_ else "")
        return self

    def equations(self, X: Covariates, t: Bools) -> list[Equations] | None:
        """The logistic likelihood's (Lunceford & Davidian 2004, Sec. 3.2; Li, Morgan & Zaslavsky 2018), the trimming
        threshold being given; None if the scores are those of another model, or cross-fitted."""
        if self.propensity_.classifier is not None or self.propensity_.folds or self.propensity_.prior_:
            return None
        e, s = self.propensity_.scores_, self._survey
        one, other = {"ATE": (e - 1, e), "ATT": (0 * e, 0 * e + 1), "ATC": (0 * e - 1, 0 * e), "ATO": (-e, 1 - e)}[
            self.estimand
        ]
        return [Equations(design(X.x), s * (t - e), s * e * (1 - e), np.where(t, one, other))]


def trimming(trim: float | str) -> float | Literal["crump"]:
    """A threshold of trimming, which may be given as text: a number in [0, 0.5), or ``crump``.

    Raises:
        UserError: it is neither.
    """
    if str(trim).lower() == "crump":
        return "crump"
    try:
        threshold = float(trim)
    except ValueError:
        threshold = np.nan
    if not 0 <= threshold < 0.5:
        raise UserError(f"--trim {trim}: give a number in [0, 0.5), or crump")
    return threshold
