"""What the treatment does: estimators with ``fit(X, T, Y)``, and then

``effect_``: the estimate, in units of Y. ``se_``: its standard error, NaN where none is known. ``estimand_``: of whom
it is the effect. ``weights_``: float64 [n], the weights under which the arms were compared, None where there are none.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import StratifiedKFold

from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import (
    Floats,
    arms,
    covariates,
    effective_sample_size,
    named,
    outcome,
    population,
    scales,
)
from contrastkit.causal.weighting import EntropyBalancing
from contrastkit.errors import UserError

Bools = NDArray[np.bool_]


class Estimator(BaseEstimator, ABC):
    """See the module."""

    effect_: float
    se_: float
    estimand_: str
    weights_: Floats | None
    names_: tuple[str, ...]  # of the columns

    def fit(self, X: Any, T: ArrayLike, Y: ArrayLike) -> Self:
        """X [n, p]: an array or a frame; T [n] of 0 and 1; Y [n] numbers. None of them is written to.

        Raises:
            UserError: see :mod:`contrastkit.causal.study`, and what an estimator cannot do.
        """
        x, self.names_ = covariates(X)
        self.weights_, self.se_ = None, math.nan
        y, t = outcome(Y, len(x)), arms(T, len(x))
        self._fit(x, t, y)
        return self

    @abstractmethod
    def _fit(self, x: Floats, t: Bools, y: Floats) -> None: ...

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The normal confidence interval."""
        half = float(norm.ppf((1 + level) / 2)) * self.se_
        return self.effect_ - half, self.effect_ + half


class DifferenceInMeans(Estimator):
    """The naive one: right where the treatment was drawn by lot. HC1 standard error."""

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        self.estimand_ = "naive"
        self.effect_, self.se_ = contrast(np.ones_like(y), t, y)


class Regression(Estimator):
    """The coefficient of T in the regression of Y on 1, T and X; HC1 standard error. Where effects differ it is an
    average of them with weights of its own, those of the variance of T given X."""

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        A = np.column_stack([t, np.ones_like(y), x])
        self.estimand_ = "constant"
        self.effect_, self.se_ = least_squares(A, y, np.eye(A.shape[1])[0])


class OfOneArm(Estimator):
    """An estimator of the ATT, by ``_att``; the ATC is the ATT of the arms exchanged, its sign turned."""

    estimand: str

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        if self.estimand not in ("ATT", "ATC"):
            raise UserError(f"{self.estimand} is not among the estimands here: ATT, ATC")
        self._att(x, ~t if self.estimand == "ATC" else t, y)
        self.estimand_ = self.estimand
        self.effect_ *= -1 if self.estimand == "ATC" else 1

    @abstractmethod
    def _att(self, x: Floats, t: Bools, y: Floats) -> None: ...


class OaxacaBlinder(OfOneArm):
    """What the treated would have had, from the regression of Y on X among the controls (Kline 2011).

    The standard error has the spread of the treated's differences from what was predicted, and HC1 of the control
    regression at their mean.

    Args:
        estimand: ATT, or ATC: what the controls would have had.
    """

    def __init__(self, estimand: Literal["ATT", "ATC"] = "ATT") -> None:
        self.estimand = estimand

    def _att(self, x: Floats, t: Bools, y: Floats) -> None:
        A = np.column_stack([np.ones_like(y), x])
        would, would_se = least_squares(A[~t], y[~t], A[t].mean(0))
        A = design(x)
        gain = y[t] - A[t] @ np.linalg.lstsq(A[~t], y[~t], rcond=1e-10)[0]
        self.effect_ = float(y[t].mean()) - would
        self.se_ = math.hypot(float(gain.std(ddof=1)) / math.sqrt(len(gain)), would_se)


class Weighted(Estimator):
    """The difference of weighted means under the weights of ``weighting`` (:mod:`contrastkit.causal.weighting`).

    Args:
        weighting: entropy balancing by default.
        error: ``balanced``, of entropy balancing, knows that the weights were chosen (the sandwich of both steps; Zhao
            & Percival 2017, Sec. 3): what the balanced terms explain of Y is exact, and errs only with the population.
            ``hc1``, and that of all other weights, is the standard error of the weighted regression of Y on T, as most
            tables have it. It takes the weights as given: where they balance what Y depends on, it is too wide.
    """

    def __init__(self, weighting: Any = None, *, error: Literal["balanced", "hc1"] = "balanced") -> None:
        self.weighting = weighting
        self.error = error

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        self.weighting_ = clone(EntropyBalancing() if self.weighting is None else self.weighting).fit(
            named(x, self.names_), t
        )
        self.weights_ = self.weighting_.weights_
        self.estimand_ = self.weighting_.estimand_
        self.effect_, self.se_ = contrast(self.weights_, t, y)
        if self.error == "balanced" and isinstance(self.weighting_, EntropyBalancing):
            self.se_ = self._balanced(self.weighting_, t, y)

    def _balanced(self, weighting: EntropyBalancing, t: Bools, y: Floats) -> float:
        """The root of the sum of squares of what each unit moves the estimate by."""
        A, w, goal = design(weighting.terms_), weighting.weights_, population(weighting.estimand, t)
        share = goal / goal.sum()
        moves = -share * self.effect_
        for arm, sign in ((t, 1), (~t, -1)):
            root = np.sqrt(w[arm])
            beta, _, rank, _ = np.linalg.lstsq(A[arm] * root[:, None], y[arm] * root, rcond=1e-10)
            fit, kept = A @ beta, effective_sample_size(w[arm])
            if kept <= rank:
                return math.nan
            # Residuals of a fit to few are too small (as HC1 has it, of the effective sample).
            rest = (y - fit) * math.sqrt(kept / (kept - rank))
            moves = moves + sign * (share * fit + arm * w * rest / w[arm].sum())
        return float(np.linalg.norm(moves))


class Matched(Estimator):
    """The mean difference over the pairs of ``matching``, with the bias correction and the standard error of Abadie and
    Imbens (2006, 2011).

    Args:
        matching: how pairs are found; the default is :class:`Matching`'s.
        bias_correction: adjust each partner's outcome for what its covariates differ by, by a linear regression of Y on
            X among the partners, weighted by how often each served.
    """

    def __init__(self, matching: Matching | None = None, *, bias_correction: bool = True) -> None:
        self.matching = matching
        self.bias_correction = bias_correction

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        self.matching_ = m = clone(Matching() if self.matching is None else self.matching).fit(x, t)
        self.weights_, self.estimand_ = m.weights_, m.estimand_
        i, j = m.pairs_.T
        share, n = m.shares_, len(y)
        sign = np.where(t[i], 1.0, -1.0)
        other = y[j]
        if self.bias_correction:
            for arm in (t, ~t):
                K = np.bincount(j, share, minlength=n) * arm
                if K.any():
                    A, root = design(x), np.sqrt(K)
                    beta, _, rank, _ = np.linalg.lstsq(A * root[:, None], y * root, rcond=1e-10)
                    if (K > 0).sum() <= rank:
                        raise UserError(
                            f"{(K > 0).sum()} partners cannot tell the {rank} coefficients of the bias correction: do "
                            "without it, or leave covariates out"
                        )
                    other = other + arm[j] * ((A[i] - A[j]) @ beta)
        gain = sign * (y[i] - other)
        units = np.unique(i)
        each = np.bincount(i, share * gain, minlength=n)[units]
        self.effect_ = tau = float(each.mean())
        s2 = float((share * (gain - tau) ** 2).sum()) / (2 * len(units))
        K, K2 = (np.bincount(j, part, minlength=n) for part in (share, share**2))
        extra = K**2 - K2
        extra[units] += 2 * K[units]  # a unit that also serves (ATE) is in the mean as itself too
        variance = float(((each - tau) ** 2).sum()) + s2 * float(extra.sum())
        self.se_ = float(np.sqrt(variance)) / len(units) if len(units) > 1 else math.nan


class Stratified(Estimator):
    """The difference of means within quantiles of the propensity score, averaged (Rosenbaum & Rubin 1984: five).

    Args:
        estimand: ATT weights a stratum by its treated, ATC by its controls, ATE by all.
        strata: how many, cut at quantiles of the scores of those weighted by.
        propensity: the model of the score.
    """

    def __init__(
        self, estimand: Literal["ATE", "ATT", "ATC"] = "ATT", *, strata: int = 5, propensity: Propensity | None = None
    ) -> None:
        self.estimand = estimand
        self.strata = strata
        self.propensity = propensity

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        e = clone(Propensity() if self.propensity is None else self.propensity).fit(x, t).scores_
        goal = population(self.estimand, t)
        if self.strata < 1:
            raise UserError(f"{self.strata} strata: ask for 1 or more")
        cuts = np.unique(np.quantile(e[goal], np.linspace(0, 1, self.strata + 1)[1:-1]))
        s = np.searchsorted(cuts, e, side="right")
        w = np.zeros_like(y)
        for k in range(len(cuts) + 1):
            for arm in (t, ~t):
                if not (arm & (s == k)).any():
                    raise UserError(f"stratum {k + 1} of {len(cuts) + 1} has nobody of an arm: ask for fewer strata")
                w[arm & (s == k)] = (goal & (s == k)).sum() / (arm & (s == k)).sum()
        self.estimand_, self.weights_ = self.estimand, w
        self.effect_, _ = contrast(w, t, y)
        within = 0.0
        for k in range(len(cuts) + 1):
            for arm in (t, ~t):
                part = y[arm & (s == k)]
                spread = part.var(ddof=1) if len(part) > 1 else math.nan
                within += ((goal & (s == k)).sum() / goal.sum()) ** 2 * spread / len(part)
        self.se_ = float(np.sqrt(within))


class AIPW(OfOneArm):
    """Augmented inverse-probability weighting (Robins, Rotnitzky & Zhao 1994): right if either the outcomes' model or
    the propensity's is.

    psi = m1 - m0 + T (Y - m1)/e - (1 - T)(Y - m0)/(1 - e), its mean the ATE, its standard deviation over root n the
    standard error; ATT: the treated's mean of Y - m0 less the controls' with weights e/(1 - e).

    Args:
        estimand: ATE, ATT or ATC.
        model: of the outcome, any regressor; linear by default. One is fitted in each arm.
        propensity: of the treatment.
        folds: of cross-fitting, 0 for none: flexible models want it (Chernozhukov et al. 2018).
        seed: of the folds.
    """

    def __init__(
        self,
        estimand: Literal["ATE", "ATT", "ATC"] = "ATT",
        *,
        model: Any = None,
        propensity: Propensity | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.estimand = estimand
        self.model = model
        self.propensity = propensity
        self.folds = folds
        self.seed = seed

    def _fit(self, x: Floats, t: Bools, y: Floats) -> None:
        if self.folds == 1:
            raise UserError("cross-fitting takes two folds or more, or 0 for none")
        x = (x - x.mean(0)) / scales(x)  # scikit-learn's regression drops what is small beside others
        if self.estimand != "ATE":
            return super()._fit(x, t, y)
        e, m0, m1 = self._nuisances(x, t, y)
        psi = m1 - m0 + t * (y - m1) / e - ~t * (y - m0) / (1 - e)
        self.estimand_ = "ATE"
        self.effect_, self.se_ = float(psi.mean()), float(psi.std(ddof=1) / np.sqrt(len(y)))

    def _att(self, x: Floats, t: Bools, y: Floats) -> None:
        e, m0, _ = self._nuisances(x, t, y)
        w = e / (1 - e)
        had, would = (y - m0)[t].mean(), np.average((y - m0)[~t], weights=w[~t])
        psi = np.where(t, (y - m0 - had) / t.mean(), -w * (y - m0 - would) / w[~t].sum() * len(y))
        self.effect_, self.se_ = float(had - would), float(psi.std(ddof=1) / np.sqrt(len(y)))

    def _nuisances(self, x: Floats, t: Bools, y: Floats) -> tuple[Floats, Floats, Floats]:
        """The scores and both arms' predicted outcomes, [n] each, by models that did not see the row."""
        e, m0, m1 = np.empty_like(y), np.empty_like(y), np.empty_like(y)
        every = np.arange(len(y))
        if self.folds:
            if min(t.sum(), (~t).sum()) < self.folds:
                raise UserError(f"{self.folds} folds, and fewer of an arm: lower the folds")
            cuts = list(StratifiedKFold(self.folds, shuffle=True, random_state=self.seed).split(x, t))
        else:
            cuts = [(every, every)]
        propensity = Propensity() if self.propensity is None else self.propensity
        model = LinearRegression() if self.model is None else self.model
        for seen, held in cuts:
            score = clone(propensity)
            score.learn(x[seen], t[seen])
            e[held] = score.predict(x[held])
            for arm, m in ((t, m1), (~t, m0)):
                rows = seen[arm[seen]]
                m[held] = clone(model).fit(x[rows], y[rows]).predict(x[held])
        return e, m0, m1


def design(x: Floats) -> Floats:
    """A column of ones, and those of x [n, p] standardised: what a regression reads, whatever the units."""
    return np.column_stack([np.ones(len(x)), (x - x.mean(0)) / scales(x)])


def contrast(w: Floats, t: Bools, y: Floats) -> tuple[float, float]:
    """The difference of weighted means, treated less controls, and the HC1 standard error of the weighted regression of
    y on t."""
    means = {arm: np.average(y[t == arm], weights=w[t == arm]) for arm in (True, False)}
    variance = sum(((w * (y - means[arm]))[t == arm] ** 2).sum() / w[t == arm].sum() ** 2 for arm in (True, False))
    n = int((w > 0).sum())
    return float(means[True] - means[False]), float(np.sqrt(variance * n / (n - 2)))


def least_squares(A: Floats, y: Floats, at: Floats) -> tuple[float, float]:
    """at'beta of the regression of y on the columns of A [n, k], and its HC1 standard error (White 1980; times n/(n -
    rank)). Columns may follow from others, as the dummies of a factor do, where at'beta does not depend on how.

    Raises:
        UserError: it does, or there are no more rows than coefficients.
    """
    scale = np.linalg.norm(A, axis=0)
    scale[scale == 0] = 1
    U, s, Vt = np.linalg.svd(A / scale, full_matrices=False)
    rank = int((s > 1e-10 * s[0]).sum())
    n, U, half = len(y), U[:, :rank], Vt[:rank] @ (at / scale)
    if n <= rank:
        raise UserError(f"{n} rows cannot tell {rank} coefficients: leave covariates out")
    if np.linalg.norm(Vt[:rank].T @ half - at / scale) > 1e-8 * np.linalg.norm(at / scale):
        raise UserError(
            "a covariate that follows from the treatment, or is constant in one arm alone, leaves the effect open: "
            "leave it out"
        )
    half = U @ (half / s[:rank])  # of each row, its part in the estimate
    residual = y - U @ (U.T @ y)
    return float(half @ y), float(np.sqrt((half**2 * residual**2).sum() * n / (n - rank)))
