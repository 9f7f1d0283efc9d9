"""Gradient boosting that starts from a linear model with products: the flexible model of outcome and treatment."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import scales

HELD_OUT = 5  # one row in five decides when to stop
MANY = 20_000  # rows, of which no more are held out than of these
SCREENED = 50_000  # rows that choose products
PRODUCTS = 10  # chosen at most, twice
PENALTIES = (1.0, 100.0, 10_000.0)  # of the linear model
FEW = 10  # rows held out, of a class, are too few to judge trees by
JUDGED = 1000  # rows that judge which features trees use
SURE = 2  # standard errors that trees must help by
PATIENCE = 10  # trees that do not help until no more are grown
WORK = 25_000_000  # rows times trees, at most


class _Boosted(BaseEstimator):
    """What regression and classification share.

    Trees find thresholds, but they are poor at slopes, and blind to a product of which neither factor shows alone. So a
    linear model comes first: ridge or logistic regression on standardised x and those products of two columns, squares
    among them, that its residuals are correlated with. Rows must be in random order: of every five one is held out, to
    choose the penalty, to stop the boosting, and to say how much of it to add. Of no more than MANY rows, trees see the
    features alone that they use, and all are then learned, with four times as many trees: the bias of a doubly robust
    estimate is that of one model times that of the other, so that both should be less smooth than predicts best (Newey
    & Robins 2018). With weights of the rows, every sum over rows is weighted.
    """

    _Trees: Any  # the class of the trees

    def _features(self, x: Floats) -> Floats:
        z = (x - self._mean) / self._sd
        near = z.clip(-3, 3)  # squares of outliers would govern the fit
        return np.column_stack([z, *(near[:, i] * near[:, j] for i, j in self.products_)])

    def _choose_products(self, x: Floats, y: Floats, s: Floats | None) -> None:
        """Choose the products whose covariance with the residuals, in standard errors, exceeds what noise reaches in as
        many tries."""
        self._mean, self._sd, self.products_ = x.mean(0), scales(x), list[tuple[int, int]]()
        x, y, s = x[:SCREENED], y[:SCREENED], _of(s, slice(SCREENED))
        near = self._features(x).clip(-3, 3)
        p = near.shape[1]
        noise = np.sqrt(2 * np.log(p * (p + 1) / 2) + 2)
        for _ in range(2):  # what the first explain no longer hides the others
            features = self._features(x)
            residual = y - self._expected(self._linear(PENALTIES[0]).fit(features, y, s), features)
            part = near * (residual if s is None else s * residual)[:, None]
            error = np.sqrt((near**2).T @ part**2)
            ratio = np.triu(np.abs(near.T @ part) / np.where(error > 0, error, np.inf))
            for pair in self.products_:
                ratio[pair] = 0
            best = np.argsort(-ratio, axis=None, kind="stable")[:PRODUCTS]
            rows, columns = np.unravel_index(best[ratio.flat[best] > noise], ratio.shape)
            self.products_ += zip(rows.tolist(), columns.tolist(), strict=True)

    def _grow(self, features: Floats, y: Any, s: Floats | None, held: Bools) -> None:
        """Grow trees for y [n] until they no longer help on the rows held out."""
        self.seen_ = np.arange(features.shape[1])
        trees = self._Trees(**_growth(len(y)))
        if len(y) <= MANY:
            self.seen_ = self._used(clone(trees), features, y, s, held)
        self.trees_ = _stopped(trees, features[:, self.seen_], y, s, held)

    def _regrow(self, features: Floats, y: Any, s: Floats | None) -> None:
        """Grow four times as many trees as were best for the rows held out, for all rows."""
        n = min(4 * max(self.trees_.n_iter_ - PATIENCE, 1), WORK // len(y))
        trees = self._Trees(**self.trees_.get_params() | {"early_stopping": False, "max_iter": n})
        self.trees_ = trees.fit(features[:, self.seen_], y, s)

    def _used(self, trees: Any, features: Floats, y: Any, s: Floats | None, held: Bools) -> NDArray[np.intp]:
        """The features that trees use more than any shadow, a column of x with its rows in another order (Kursa &
        Rudnicki 2010); all if there are none. Use is how far predictions move, squared, when a feature is shuffled."""
        draw = np.random.default_rng(0)
        x = np.hstack([features, features[draw.permutation(len(y)), : len(self._mean)]])
        _stopped(trees, x, y, s, held)
        x, s = x[:JUDGED], _of(s, slice(JUDGED))
        value, order, use = self._value(trees, x), draw.permutation(len(x)), []
        for column in x.T:
            kept = column.copy()
            column[:] = kept[order]
            use.append(np.average((self._value(trees, x) - value) ** 2, weights=s))
            column[:] = kept
        used = np.flatnonzero(np.array(use[: features.shape[1]]) > max(use[features.shape[1] :]))
        return used if len(used) else np.arange(features.shape[1])

    @abstractmethod
    def _value(self, trees: Any, features: Floats) -> Floats:
        """The sum of trees for rows of features."""

    @abstractmethod
    def _linear(self, penalty: float) -> Any: ...

    @abstractmethod
    def _expected(self, linear: Any, features: Floats) -> Floats: ...


class BoostRegressor(RegressorMixin, _Boosted):
    """Boosted trees on the residuals of the linear model. Their share is by least squares on the rows held out, and 0
    where these cannot tell it from 0: where the linear model is right."""

    _Trees = HistGradientBoostingRegressor

    def fit(self, x: Floats, y: Floats, sample_weight: Floats | None = None) -> Self:
        s, held = sample_weight, _held_out(len(y))
        judge = np.ones(int(held.sum())) if s is None else s[held]
        self._choose_products(x[~held], y[~held], _of(s, ~held))
        features = self._features(x)
        fits = [self._linear(penalty).fit(features[~held], y[~held], _of(s, ~held)) for penalty in _penalties(len(y))]
        self.linear_ = min(fits, key=lambda fit: (judge * (y - fit.predict(features))[held] ** 2).sum())
        r = y - self.linear_.predict(features)
        self.share_, self._scale = 0.0, float(r[~held].std())
        if held.sum() >= FEW and self._scale > 0:
            r /= self._scale
            self._grow(features, r, s, held)
            more = self._more(features[held])
            gain = judge * more * r[held]
            if gain.sum() > SURE * np.sqrt(gain @ gain):
                self.share_ = float(min(gain.sum() / (judge * more @ more), 1))
            if len(y) <= MANY:
                self.linear_.fit(features, y, s)
                if self.share_:
                    self._regrow(features, (y - self.linear_.predict(features)) / self._scale, s)
        return self

    def predict(self, x: Floats) -> Floats:
        features = self._features(x)
        m: Floats = self.linear_.predict(features)
        return m + self.share_ * self._scale * self._more(features) if self.share_ else m

    def _more(self, features: Floats) -> Floats:
        return self._value(self.trees_, features[:, self.seen_])

    def _value(self, trees: Any, features: Floats) -> Floats:
        return np.asarray(trees.predict(features))

    def _linear(self, penalty: float) -> Any:
        return Ridge(penalty)

    def _expected(self, linear: Any, features: Floats) -> Floats:
        return np.asarray(linear.predict(features))


class BoostClassifier(ClassifierMixin, _Boosted):
    """A logistic regression on the logits of the linear model and of boosted trees, fitted to the rows held out before
    both learn these too. Two classes."""

    _Trees = HistGradientBoostingClassifier

    def fit(self, x: Floats, y: Any, sample_weight: Floats | None = None) -> Self:
        s = sample_weight
        self.classes_, y = np.unique(y, return_inverse=True)
        if len(self.classes_) != 2:
            raise ValueError(f"{len(self.classes_)} classes instead of two")
        held = np.empty(len(y), bool)
        for k in (0, 1):
            held[y == k] = _held_out(int((y == k).sum()))
        self._choose_products(x[~held], y[~held].astype(np.float64), _of(s, ~held))
        features = self._features(x)
        fits = [self._linear(penalty).fit(features[~held], y[~held], _of(s, ~held)) for penalty in _penalties(len(y))]
        self.linear_, self.trees_ = fits[0], None
        if min(y[held].sum(), (1 - y[held]).sum()) >= FEW:
            judge = _of(s, held)
            self.linear_ = min(
                fits, key=lambda fit: log_loss(y[held], fit.predict_proba(features[held]), sample_weight=judge)
            )
            self._grow(features, y, s, held)
            self.stack_ = LogisticRegression().fit(self._logits(features[held]), y[held], judge)
            if len(y) <= MANY:
                self.linear_.fit(features, y, s)
                self._regrow(features, y, s)
        return self

    def predict_proba(self, x: Floats) -> Floats:
        features = self._features(x)
        if self.trees_ is None:
            return np.asarray(self.linear_.predict_proba(features))
        return np.asarray(self.stack_.predict_proba(self._logits(features)))

    def predict(self, x: Floats) -> Any:
        return self.classes_[self.predict_proba(x).argmax(1)]

    def _logits(self, features: Floats) -> Floats:
        linear = self.linear_.decision_function(features)
        return np.column_stack([linear, self._value(self.trees_, features[:, self.seen_])])

    def _value(self, trees: Any, features: Floats) -> Floats:
        return np.asarray(trees.decision_function(features))

    def _linear(self, penalty: float) -> Any:
        return LogisticRegression(C=1 / penalty, solver="newton-cholesky")

    def _expected(self, linear: Any, features: Floats) -> Floats:
        return np.asarray(linear.predict_proba(features)[:, 1])


def _held_out(n: int) -> Bools:
    """The rows held out of n."""
    every = HELD_OUT * max(1, n // MANY)
    return np.arange(n) % every == every - 1


def _of(s: Floats | None, rows: Any) -> Floats | None:
    """The weights of these rows, None for equal ones."""
    return None if s is None else s[rows]


def _stopped(trees: Any, x: Floats, y: Any, s: Floats | None, held: Bools) -> Any:
    """Trees fitted to the other rows until they no longer help on those held out."""
    return trees.fit(x[~held], y[~held], _of(s, ~held), X_val=x[held], y_val=y[held], sample_weight_val=_of(s, held))


def _penalties(n: int) -> tuple[float, ...]:
    """The penalties to choose from for n rows: with many, the least would win."""
    return PENALTIES if n <= MANY else PENALTIES[:1]


def _growth(n: int) -> dict[str, Any]:
    """The parameters of trees for n rows: with more of them, larger and fewer."""
    few = n <= MANY
    return {
        "learning_rate": 0.1 if few else 0.2, "max_iter": max(30, min(500, WORK // n)),
        "max_leaf_nodes": 5 if few else 31, "min_samples_leaf": 20, "l2_regularization": 1.0, "early_stopping": True,
        "n_iter_no_change": PATIENCE, "random_state": 0,
    }  # fmt: skip
