"""Who gets the treatment: e(x) = P(T = 1 | x) (Rosenbaum & Rubin 1983)."""

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from contrastkit.checkpoint import write_with
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_treatment
from contrastkit.tables.covariates import Covariates, scales

CLIP = 1e-6  # how near to 0 and 1 a classifier's scores come
SEPARATION = (
    "the covariates tell who is treated without a doubt (perfect separation): there is nobody to compare some with; "
    "leave out what follows from the treatment, or, of a flexible classifier, ask for folds"
)


class Propensity(BaseEstimator):
    """The propensity score, logistic by maximum likelihood (no penalty) or of any classifier, cross-fitted.

    Args:
        classifier: with ``predict_proba``; None is the logistic one.
        folds: of cross-fitting: each row's score comes from a model that did not see it. 0 for none, which the logistic
            model can afford; a flexible one cannot.
        seed: of the folds.

    Attributes:
        scores_: float64 [n] in (0, 1). auc_: of the scores, 0.5 where nothing tells the arms apart; near 1 there is no
            overlap, which is no success. overlap_: the area that the arms' histograms of the logit share, in twenty
            bins; 1 where they are the same. clipped_: how many of a classifier's scores were 1e-6 and less from 0 or 1
            and were set there.

    Raises:
        UserError: the covariates separate the arms.
    """

    def __init__(self, classifier: Any = None, *, folds: int = 0, seed: int = 0) -> None:
        self.classifier = classifier
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, T: ArrayLike) -> Self:
        x = Covariates.of(X).x
        t = as_treatment(T, len(x))
        if self.folds == 1 or 0 < self.folds > min(t.sum(), (~t).sum()):
            raise UserError(f"{self.folds} folds: 0 for none, or from 2 up to the units of the smaller arm")
        z = self.learn(x, t)
        if self.folds:
            cut = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
            e = cross_val_predict(clone(self.classifier_), z, t, cv=cut, method="predict_proba")[:, 1]
        else:
            e = self.classifier_.predict_proba(z)[:, 1]
        self.auc_ = float(roc_auc_score(t, e))
        self.scores_ = self._inside(e)
        self.clipped_ = int((self.scores_ != e).sum())
        if self.auc_ == 1:
            raise UserError(SEPARATION)
        logit = self.logit_
        arms = [np.histogram(logit[arm], 20, (logit.min(), logit.max() + 1e-9))[0] / arm.sum() for arm in (t, ~t)]
        self.overlap_ = float(np.minimum(*arms).sum())
        return self

    def learn(self, x: Floats, t: Bools) -> Floats:
        """Fit the model to checked x [n, p] and t [n], for :meth:`predict_numbers`, and leave the attributes of these
        rows unset. Returns x as the model sees it, standardised."""
        self._mean, self._sd = x.mean(0), scales(x)
        model = self.classifier
        if model is None:
            model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a Hessian without an inverse: judged by what comes of it
            self.classifier_ = clone(model).fit(z := self._scaled(x), t)
        if self.classifier is None:
            self._check(z)
        return z

    def _check(self, z: Floats) -> None:
        """Refuse a likelihood without a maximum: where covariates separate the arms, or some units of them, it is flat
        along a direction in which rows differ."""
        e = self.classifier_.predict_proba(z)[:, 1]
        A = np.column_stack([np.ones(len(z)), z])
        values, vectors = np.linalg.eigh(A.T @ A / len(z))
        axes = vectors[:, values > 1e-10 * values[-1]] / np.sqrt(values[values > 1e-10 * values[-1]])
        A = A @ axes
        if np.linalg.eigvalsh((A * (e * (1 - e))[:, None]).T @ A / len(z))[0] < 1e-9:
            raise UserError(SEPARATION)

    def predict(self, X: Any) -> Floats:
        """The scores [m] of other rows, from the model of all rows that were fitted."""
        return self.predict_numbers(Covariates.of(X).x)

    def predict_numbers(self, x: Floats) -> Floats:
        """The scores [m] of checked x [m, p]."""
        return self._inside(self.classifier_.predict_proba(self._scaled(x))[:, 1])

    def _scaled(self, x: Floats) -> Floats:
        return (x - self._mean) / self._sd

    def _inside(self, e: Floats) -> Floats:
        """Within (0, 1): a classifier's vote may be unanimous, a logistic score round to 1."""
        return np.clip(e, *((1e-15, 1 - 1e-15) if self.classifier is None else (CLIP, 1 - CLIP)))

    @property
    def logit_(self) -> Floats:
        """log(e / (1 - e)) [n]."""
        return np.log(self.scores_ / (1 - self.scores_))


def crump(e: Floats) -> float:
    """The alpha of the optimal trimming [alpha, 1 - alpha] (Crump, Hotz, Imbens & Mitnik 2009, Eq. 5): the smallest
    with 1 / (alpha (1 - alpha)) <= 2 E[1/(e (1 - e)) | e (1 - e) >= alpha (1 - alpha)]; 0 where all may stay."""
    g = np.sort(1 / (e * (1 - e)))
    means = np.cumsum(g) / np.arange(1, len(g) + 1)
    if g[-1] <= 2 * means[-1]:
        return 0.0
    last = int(np.flatnonzero(g <= 2 * means).max())
    return float(0.5 - np.sqrt(0.25 - 1 / (2 * means[last])))


def within(e: Floats, alpha: float) -> Bools:
    """Who has a score in [alpha, 1 - alpha]."""
    return (e >= alpha) & (e <= 1 - alpha)


def calibration(e: Floats, t: Bools) -> Floats:
    """In tenths of the scores, lowest first: the mean score, the share who were treated, and how many they are, [10, 3]
    (fewer rows where scores are alike). Scores that mean what they say have the first two equal."""
    cuts = np.unique(np.quantile(e, np.linspace(0, 1, 11)[1:-1]))
    tenth = np.searchsorted(cuts, e, side="right")
    n = np.bincount(tenth, minlength=len(cuts) + 1)
    means = [np.bincount(tenth, v, minlength=len(n))[n > 0] / n[n > 0] for v in (e, t)]
    return np.stack([*means, n[n > 0]], axis=1).astype(np.float64)


def overlap_plot(e: Floats, t: Bools, path: Path) -> None:
    """Both arms' scores as histograms, one up, one down, and the calibration beside them, into a .png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5), layout="constrained")
    axis, right = figure.subplots(1, 2, width_ratios=(2, 1))
    bins = np.linspace(0, 1, 41)
    for arm, sign, label in ((t, 1, "treated"), (~t, -1, "not")):
        share = np.histogram(e[arm], bins)[0] / arm.sum()
        axis.bar(bins[:-1], sign * share, 1 / 40, align="edge", label=label)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xlabel("propensity score")
    axis.set_ylabel("share of the arm")
    axis.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.1f}")
    axis.legend()
    mean, share, n = calibration(e, t).T
    right.axline((0, 0), slope=1, color="black", linewidth=0.8)
    right.errorbar(mean, share, 1.96 * np.sqrt(share * (1 - share) / n), fmt="o", markersize=4)
    right.set_xlabel("mean score of a tenth")
    right.set_ylabel("share treated")
    write_with(path, lambda file: figure.savefig(file, format="png", dpi=120))
