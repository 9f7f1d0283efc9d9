"""The base of estimators whose models are cross-fitted."""

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from contrastkit.causal.estimate.base import Estimator
from contrastkit.causal.folds import Splits, check_folds, fingerprints, settled_order, splits
from contrastkit.causal.learners import LeastSquares, check_cross_fitted, flexible, learned, predicted
from contrastkit.causal.positivity import why_separated
from contrastkit.causal.propensity import Propensity, Separated, prior_remark
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, design, standardised


class CrossFitted(Estimator):
    """An estimator whose models predict rows that they have not seen, so that flexible ones may be used (Chernozhukov
    et al. 2018).

    It is repeated with other folds: the estimate is the median over the repeats, its variance the median of se^2 +
    (estimate - median)^2 (their Sec. 3.4). Folds are drawn by the content of the rows
    (:mod:`contrastkit.causal.folds`), whose order does not matter.

    Every unit counts as many times as its sample weight s says, in the models as in what is made of their predictions:
    all are estimates for the population of the survey, and the influence of a unit is s times its own (the weighted
    estimating equations of Binder 1983). A model must take weights in its ``fit`` then.
    """

    takes_sample_weight = True

    model: Any
    propensity: Propensity | None = None
    folds: int
    repeats: int
    seed: int

    def _fit(self, X: Covariates, t: Bools, y: Floats) -> None:
        self._check(X, t)
        key = fingerprints(X.x)
        self._order = order = settled_order(key, t, y, self.sample_weight_)
        # standardised: scikit-learn's regression drops columns that are small next to others
        z = Covariates(standardised(X.x[order]), X.names, X.origins)
        groups = None if self._groups is None else self._groups[order]
        self._s = self.sample_weight_[order]
        self._separated: list[list[str]] = []
        self._few: list[tuple[int, int]] = []
        self._unseen: list[str] = []
        self._unconverged: list[bool] = []
        parts, means = [], []
        for k in range(self.repeats if self.folds else 1):
            folds = splits(z.x, t[order], key[order], self.folds, self.seed, k, groups=groups)
            try:
                parts.append(self._once(z, t[order], y[order], folds))
            except Separated as error:
                raise Separated(why_separated(X, t)) from error
            means += [] if self.means_ is None else [self.means_]
        self.means_ = np.median(means, axis=0) if means else None
        self.remarks_ += prior_remark(self._separated)
        if self._unseen:
            names = listed(list(dict.fromkeys(self._unseen)), 4)
            self.remarks_.append(
                f"an arm has only one value of {names} outside some folds, whose outcome models know nothing of its "
                "effect"
            )
        if self._few:
            rows, rank = min(self._few)
            self.remarks_.append(
                f"{len(self._few)} outcome models have no more rows than coefficients ({rows} for {rank}): leave "
                "covariates out, or use --outcome-model lasso"
            )
        if any(self._unconverged):
            self.remarks_.append(
                f"{sum(self._unconverged)} of {len(self._unconverged)} outcome models did not converge: try another "
                "--outcome-model"
            )
        effects = np.array([effect for effect, _ in parts])
        self.effect_ = float(np.median(effects))
        if all(influence is not None for _, influence in parts):
            each = np.array([influence for _, influence in parts])
            variance = np.median((each**2).sum(1) + (effects - self.effect_) ** 2)
            mean = each.mean(0)
            self.influence_ = np.empty_like(y)
            self.influence_[order] = mean * np.sqrt(variance / max((mean**2).sum(), 1e-300))

    def _check(self, X: Covariates, t: Bools) -> None:
        """Refuse flexible models without folds, and arms that have nothing in common."""
        check_folds(self.folds, t)
        if self.repeats < 1:
            raise UserError(f"{self.repeats} repeats: use 1 or more")
        classifier = None if self.propensity is None else self.propensity.classifier
        for model in (self.model, classifier):
            check_cross_fitted(model, self.folds)
        self._check_overlap(X, t)

    def _check_overlap(self, X: Covariates, t: Bools) -> None:
        """Refuse arms that the covariates separate; if the model is flexible, its folds tell."""
        score = self._score().set_params(folds=0)
        if score.classifier is None:
            self.prior_ = score.fit(X, t, self.sample_weight_, prior=self._prior).prior_

    @abstractmethod
    def _once(self, X: Covariates, t: Bools, y: Floats, splits: Splits) -> tuple[float, Floats | None]:
        """The estimate with these folds, and the influence [n] of each unit, None if unknown; the sample weights of
        these rows are ``_s``."""

    def _score(self) -> Any:
        return clone(Propensity() if self.propensity is None else self.propensity)

    def _scores(self, X: Covariates, t: Bools, splits: Splits) -> Floats:
        """The propensity scores [n] from models that have not seen the row."""
        score = self._score()
        e, separated = score.cross_fitted(X, t, self._weights(slice(None)), splits)
        self._separated += separated
        e = score.clip(e)
        if e[t].min() > e[~t].max():
            raise Separated
        return e

    def _outcomes(self, X: Covariates, y: Floats, arm: Bools, splits: Splits) -> Floats:
        """The outcomes [n] that models of the units of ``arm`` predict for all, none from a model that has seen the
        row."""
        x, m = X.x, np.empty_like(y)
        model = LeastSquares() if self.model is None else self.model
        for train, test in splits:
            rows = train[arm[train]]
            m[test] = predicted(self._learned(model, x[rows], y[rows], self._weights(rows)), x[test])
            if not flexible(model):
                one = (x[rows] == x[rows[0]]).all(0) & (x[test] != x[rows[0]]).any(0)
                self._unseen += [X.names[j] for j in np.flatnonzero(one)]
                if len(rows) <= 1 + x.shape[1] and len(rows) <= (rank := int(np.linalg.matrix_rank(design(x)))):
                    self._few.append((len(rows), rank))
        return m

    def _outcomes_of_both(
        self, x: Floats, t: Bools, y: Floats, treatments: tuple[bool, ...], splits: Splits
    ) -> list[Floats]:
        """The outcomes [n] that models of both arms predict for all under each of these treatments, a covariate of 1
        and -1; none is from a model that has seen the row."""
        with_treatment = np.column_stack([x, 2.0 * t - 1])
        m = [np.empty_like(y) for _ in treatments]
        for train, test in splits:
            model = self._learned(self.model, with_treatment[train], y[train], self._weights(train))
            for outcomes, treatment in zip(m, treatments, strict=True):
                z = with_treatment[test]
                z[:, -1] = 2.0 * treatment - 1
                outcomes[test] = predicted(model, z)
        return m

    def _weights(self, rows: Any) -> Floats | None:
        """The sample weights of these rows; None if those of all are equal, which no model need take."""
        return self._s[rows] if np.ptp(self._s) else None

    def _learned(self, model: Any, x: Floats, y: Floats, s: Floats | None) -> Any:
        """:func:`learned`; that it did not converge is counted, where scikit-learn warns at every fit."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fitted = learned(model, x, y, s)
        self._unconverged.append(any(issubclass(warning.category, ConvergenceWarning) for warning in caught))
        for warning in caught:
            if not issubclass(warning.category, ConvergenceWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return fitted
