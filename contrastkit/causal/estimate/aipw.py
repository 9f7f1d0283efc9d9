"""Augmented inverse-probability weighting."""

from typing import Any, get_args

import numpy as np

from contrastkit.causal.estimate.cross_fitted import CrossFitted
from contrastkit.causal.estimate.means import Means
from contrastkit.causal.folds import Splits
from contrastkit.causal.learners import flexible
from contrastkit.causal.names import Estimand
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError, check_choice
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

HEAVY = 0.1  # share of the weight of an arm that one unit should not exceed


class AIPW(CrossFitted):
    """Augmented inverse-probability weighting (Robins, Rotnitzky & Zhao 1994): consistent if either the outcome model
    or the propensity model is correct. Cross-fitted, it is the double machine learning of the interactive model
    (Chernozhukov et al. 2018, Eq. 5.3 and 5.4).

    psi = m1 - m0 + T (Y - m1)/e - (1 - T)(Y - m0)/(1 - e), with the ATE as its mean and its standard deviation over
    root n as standard error. ATT: the mean of Y - m0 of the treated minus that of the controls under weights e/(1 - e).
    With sample weights s, means are weighted by s, and e/(1 - e) is multiplied by it.

    Args:
        estimand: ATE, ATT or ATC.
        model: outcome model, any regressor, fitted in each arm; linear by default. A flexible one also learns both arms
            at once, with the treatment as a covariate, so that each arm may gain from the other. The mean of both that
            is nearest to the outcomes of an arm is used: weights from predictions of unseen rows, the short-stacking of
            Ahrens, Hansen, Schaffer & Wiemann (2025).
        propensity: propensity model; its own folds are not used.
        folds: number of cross-fitting folds, 0 for none, with linear models only.
        repeats: number of times that the folds are drawn.
        clip: scores nearer to 0 or 1 are set to this distance where the estimand divides by it, which bounds every
            weight by 1/clip: for the ATT, only scores near 1. What it clips is in ``remarks_``, as is a unit with more
            than a tenth of the weight of its arm.
        seed: seed of the folds.

    Attributes:
        pseudo_outcomes_: of the ATE, psi [n] of each unit, whose mean given any covariates is the effect given them
            (Kennedy 2023), averaged over the repeats; None for other estimands.
    """

    has_means = True
    pseudo_outcomes_: Floats | None

    def __init__(
        self,
        estimand: Estimand = "ATT",
        *,
        model: Any = None,
        propensity: Propensity | None = None,
        folds: int = 5,
        repeats: int = 3,
        clip: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.estimand = estimand
        self.model = model
        self.propensity = propensity
        self.folds = folds
        self.repeats = repeats
        self.clip = clip
        self.seed = seed

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))
        if not 0 <= self.clip < 0.5:
            raise UserError(f"scores cannot be clipped to {self.clip:g} from 0 and 1: use a number in [0, 0.5)")
        self.estimand_ = self.estimand
        self._psi: list[Floats] = []
        self._clipped: list[int] = []
        self._heaviest: list[float] = []
        super()._fit(X, t, y)
        self.pseudo_outcomes_ = None
        if self._psi:
            self.pseudo_outcomes_ = np.empty_like(y)
            self.pseudo_outcomes_[self._order] = np.mean(self._psi, axis=0)
        if clipped := int(np.median(self._clipped)):
            self.remarks_.append(f"{clipped:,} of {len(y):,} scores were clipped to {self.clip:g} from 0 or 1")
        if (heaviest := float(np.median(self._heaviest))) > HEAVY:
            self.remarks_.append(f"the estimate rests on few units: one has {heaviest:.0%} of the weight of its arm")

    def _once(self, X: Covariates, t: Bools, y: Floats, splits: Splits) -> tuple[float, Floats | None]:
        e = self._scores(X, t, splits)
        if self.estimand == "ATT":
            return self._compared(self._att(e, self._models(X, t, y, splits, False)[0], t, y))
        if self.estimand == "ATC":  # the ATT with the arms exchanged
            return self._compared(self._att(1 - e, self._models(X, t, y, splits, True)[0], ~t, y).exchanged())
        m0, m1 = self._models(X, t, y, splits, False, True)
        e = self._bounded(e, self.clip, 1 - self.clip)
        self._weigh(self._s * np.where(t, 1 / e, 1 / (1 - e)), t)
        psi = np.stack([m1 + t * (y - m1) / e, m0 + ~t * (y - m0) / (1 - e)])
        self._psi.append(psi[0] - psi[1])
        return self._compared(Means(np.average(psi, axis=1, weights=self._s), _influence(psi, self._s)))

    def _models(self, X: Covariates, t: Bools, y: Floats, splits: Splits, *treatments: bool) -> list[Floats]:
        """The outcomes [n] of all units that models predict under each of these treatments."""
        arms = [t == treatment for treatment in treatments]
        alone = [self._outcomes(X, y, arm, splits) for arm in arms]
        if not flexible(self.model):
            return alone
        both = self._outcomes_of_both(X.x, t, y, treatments, splits)
        return [_nearest_mean(a, b, y, self._s, arm) for a, b, arm in zip(alone, both, arms, strict=True)]

    def _att(self, e: Floats, m0: Floats, t: Bools, y: Floats) -> Means:
        """The means of the treated, with treatment and without."""
        e = self._bounded(e, 0, 1 - self.clip)
        odds, s = np.where(t, 1, e / (1 - e)), self._s
        w = s * odds
        self._weigh(w, t)
        one, other = (float(np.average(values[t], weights=w[t])) for values in (y, m0))
        error = float(np.average((y - m0)[~t], weights=w[~t]))
        share = np.average(t, weights=s)
        psi = np.stack([t * (y - one) / share, t * (m0 - other) / share])
        psi[1, ~t] = (odds * (y - m0 - error))[~t] / w[~t].sum() * len(y)
        return Means(np.array([one, other + error]), _influence(psi, s))

    def _bounded(self, e: Floats, low: float, high: float) -> Floats:
        self._clipped.append(int(((e < low) | (e > high)).sum()))
        return e.clip(low, high)

    def _weigh(self, w: Floats, t: Bools) -> None:
        self._heaviest.append(max(float(w[arm].max() / w[arm].sum()) for arm in (t, ~t)))


def _influence(psi: Floats, s: Floats) -> Floats:
    """The influence [K, n] of each unit on the means of psi [K, n] with weights s [n] of mean 1; if these are equal,
    its norm is their standard deviation over root n."""
    return s * (psi - np.average(psi, axis=1, weights=s)[:, None]) / np.sqrt(len(s) * (len(s) - 1))


def _nearest_mean(a: Floats, b: Floats, y: Floats, s: Floats, arm: Bools) -> Floats:
    """The mean of two predictions [n] that is nearest to the outcomes of the units of ``arm``, with weights s [n]."""
    more = (b - a)[arm]
    share = float((s * (y - a))[arm] @ more) / max(float(s[arm] * more @ more), 1e-300)
    return a + np.clip(share, 0, 1) * (b - a)
