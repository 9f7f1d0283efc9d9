"""The propensity score e(x) = P(T = 1 | x) (Rosenbaum & Rubin 1983)."""

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from contrastkit.causal.folds import Rows, Splits, check_folds, fingerprints, one_sided, settled_order, splits
from contrastkit.causal.learners import learned, predicted
from contrastkit.causal.positivity import why_separated
from contrastkit.errors import UserError, listed
from contrastkit.figures import COLOURS, INK, chart, legend
from contrastkit.intervals import wilson
from contrastkit.tables.checks import Bools, Floats, as_clusters, as_sample_weights, as_treatment
from contrastkit.tables.covariates import Covariates, orthogonal, scales
from contrastkit.tables.ties import cells, settled

EQUAL_SCORES = 1e-10  # scores that differ by less are equal: it is rounding
CLIP = 1e-6  # minimum distance of a classifier's scores from 0 and 1
SEPARATION = "perfect separation: the covariates tell the arm of some units for certain"


class Separated(UserError):
    """The covariates separate the arms, or some of their units: the likelihood has no maximum."""

    def __init__(self, reason: str = SEPARATION) -> None:
        super().__init__(reason)


class Propensity(BaseEstimator):
    """Propensity scores, by logistic maximum likelihood without a penalty or by any classifier, cross-fitted.

    Args:
        classifier: a classifier with ``predict_proba``; None for the logistic model.
        folds: number of cross-fitting folds: the score of each row comes from a model that has not seen it. 0 for none,
            which suits the logistic model but not a flexible one. Equal rows have the mean of their scores, so that the
            order of rows does not matter.
        seed: seed of the folds.

    Attributes:
        scores_: float64 [n] in (0, 1). auc_: AUC of the scores, 0.5 if nothing distinguishes the arms; near 1 there is
            no overlap, which is not a success. overlap_: the area shared by the histograms of the logit of both arms,
            in twenty bins; 1 if they are equal. clipped_: number of classifier scores clipped to 1e-6 from 0 or 1.
        prior_: whether the model of all rows has a prior (:meth:`learn_part`).
        remarks_: what the folds of some rows had to do without (there too).

    Raises:
        UserError: the covariates separate the arms.
    """

    def __init__(self, classifier: Any = None, *, folds: int = 0, seed: int = 0) -> None:
        self.classifier = classifier
        self.folds = folds
        self.seed = seed

    def fit(
        self,
        X: Any,
        T: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        clusters: ArrayLike | None = None,
        prior: bool = False,
    ) -> Self:
        """Fit to X [n, p] and T [n].

        Args:
            sample_weight: weights [n] of the units in a survey: the score is that of its population. None for equal
                ones, which the classifier need not take.
            clusters: labels [n]; rows that share one are on one side of a fold.
            prior: where the covariates separate some units, give the coefficients a prior instead of refusing them.
        """
        X = Covariates.of(X)
        x, t = X.x, as_treatment(T, len(X))
        check_folds(self.folds, t)
        groups = None if clusters is None else as_clusters(clusters, len(X))
        s = None if sample_weight is None or not np.ptp(sample_weight) else as_sample_weights(sample_weight, len(x))
        self.remarks_: list[str] = []
        self.prior_ = False
        try:
            if prior:
                self.prior_ = self.learn_part(x, t, s)
            else:
                self.learn(x, t, s)
        except Separated as error:
            raise Separated(why_separated(X, t)) from error
        e = self._of_unseen(X, t, s, groups) if self.folds else self.probabilities(x)
        self.auc_ = float(roc_auc_score(t, e))
        self.scores_ = self.clip(e)
        self.clipped_ = int((self.scores_ != e).sum())
        if self.auc_ == 1 and self.classifier is not None and not self.folds:
            raise Separated("perfect separation of the rows that trained the classifier: cross-fit it with folds")
        if self.auc_ == 1:
            raise Separated(why_separated(X, t))
        logit = self.logit_
        arms = [np.histogram(logit[arm], 20, (logit.min(), logit.max() + 1e-9))[0] / arm.sum() for arm in (t, ~t)]
        self.overlap_ = float(np.minimum(*arms).sum())
        return self

    def _of_unseen(self, X: Covariates, t: Bools, s: Floats | None, groups: Rows | None) -> Floats:
        """The scores [n], each from a model that has not seen the row, before clipping."""
        key = fingerprints(X.x)
        order = settled_order(key, t, *([] if s is None else [s]))
        X, t, key = X.take(order), t[order], key[order]
        s = None if s is None else s[order]
        groups = None if groups is None else groups[order]
        e, separated = self.cross_fitted(X, t, s, splits(X.x, t, key, self.folds, self.seed, groups=groups))
        self.remarks_ += prior_remark(separated)
        equal = np.unique(np.column_stack([key, t.astype(np.uint64)]), axis=0, return_inverse=True)[1].reshape(-1)
        scores = np.empty(len(t))
        scores[order] = (np.bincount(equal, e) / np.bincount(equal))[equal]
        return scores

    def cross_fitted(self, X: Covariates, t: Bools, s: Floats | None, splits: Splits) -> tuple[Floats, list[list[str]]]:
        """The scores [n] of the rows of each fold from the rows outside it, with weights s [n] if any, before clipping;
        and for each fold whose model needed a prior, the columns in which an arm has only one value outside it."""
        e, part, separated = np.empty(len(t)), clone(self), []
        for train, test in splits:
            if part.learn_part(X.x[train], t[train], None if s is None else s[train]):
                separated.append([X.names[j] for j in one_sided(X.x[train], t[train])])
            e[test] = part.probabilities(X.x[test])
        return e, separated

    def learn(self, x: Floats, t: Bools, s: Floats | None = None) -> None:
        """Fit the model to validated x [n, p] and t [n] with weights s [n], for :meth:`probabilities`, without setting
        the attributes of these rows."""
        self._mean, self._sd = x.mean(0), scales(x)
        model = self.classifier
        if model is None:
            if one_sided(x, t):
                raise Separated
            model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a singular Hessian: the result is checked instead
            self.classifier_ = learned(model, z := self._standardise(x), t, s)
        if self.classifier is None:
            self._check(z)

    def _check(self, z: Floats) -> None:
        """Refuse a likelihood without a maximum: if covariates separate the arms, or some of their units, it is flat
        along a direction in which rows differ."""
        e = self.classifier_.predict_proba(z)[:, 1]
        A = orthogonal(np.column_stack([np.ones(len(z)), z]))
        if np.linalg.eigvalsh((A * (e * (1 - e))[:, None]).T @ A / len(z))[0] < 1e-9:
            raise Separated

    def learn_part(self, x: Floats, t: Bools, s: Floats | None = None) -> bool:
        """:meth:`learn` from a part of the rows: those outside a fold, or drawn by the bootstrap. Where the likelihood
        has no maximum, because a rare level is missing from an arm there, the coefficients have a standard normal
        prior, for columns scaled as by Gelman et al. (2008): two values 1 apart, others with standard deviation 0.5.
        Returns whether they have."""
        try:
            self.learn(x, t, s)
        except Separated:
            lows, highs = x.min(0), x.max(0)
            indicators = ((x == lows) | (x == highs)).all(0) & (lows < highs)
            self._sd = np.where(indicators, highs - lows, 2 * self._sd)
            prior = LogisticRegression(solver="newton-cholesky", max_iter=100)
            self.classifier_ = learned(prior, self._standardise(x), t, s)
            return True
        return False

    def predict(self, X: Any) -> Floats:
        """The scores [m] of other rows, from the model fitted to all rows."""
        return self.clip(self.probabilities(Covariates.of(X).x))

    def probabilities(self, x: Floats) -> Floats:
        """The scores [m] of validated x [m, p], before clipping."""
        return predicted(self.classifier_, self._standardise(x), probability=True)

    def _standardise(self, x: Floats) -> Floats:
        return (x - self._mean) / self._sd

    def clip(self, e: Floats) -> Floats:
        """Clip scores to (0, 1): a classifier's vote may be unanimous, and a logistic score may round to 1."""
        return np.clip(e, *((1e-15, 1 - 1e-15) if self.classifier is None else (CLIP, 1 - CLIP)))

    @property
    def logit_(self) -> Floats:
        """log(e / (1 - e)) [n]."""
        return np.log(self.scores_ / (1 - self.scores_))


def prior_remark(separated: list[list[str]]) -> list[str]:
    """What to say of folds whose model needed a prior, each with the columns in which an arm has only one value."""
    if not separated:
        return []
    names = list(dict.fromkeys(name for fold in separated for name in fold))
    what = f"an arm has only one value of {listed(names, 4)}" if names else "the covariates separate the arms"
    return [f"{what} outside some folds, whose propensity models have a weakly informative prior"]


def crump(e: Floats) -> float:
    """The threshold alpha of optimal trimming to [alpha, 1 - alpha] (Crump, Hotz, Imbens & Mitnik 2009, Eq. 5): the
    smallest with 1 / (alpha (1 - alpha)) <= 2 E[1/(e (1 - e)) | e (1 - e) >= alpha (1 - alpha)]; 0 if all may stay."""
    g = np.sort(1 / (e * (1 - e)))
    means = np.cumsum(g) / np.arange(1, len(g) + 1)
    if g[-1] <= 2 * means[-1]:
        return 0.0
    last = int(np.flatnonzero(g <= 2 * means).max())
    return float(0.5 - np.sqrt(0.25 - 1 / (2 * means[last])))


def within(e: Floats, alpha: float) -> Bools:
    """Which units have a score in [alpha, 1 - alpha], bool [n]."""
    return (e >= alpha) & (e <= 1 - alpha)


def calibration(e: Floats, t: Bools) -> Floats:
    """For each decile of the scores, lowest first: the mean score, the share treated and the number of units, [10, 3]
    (fewer rows if scores are tied). For calibrated scores the first two are equal."""
    alike = settled(e, EQUAL_SCORES)
    cuts = np.unique(np.quantile(alike, np.linspace(0, 1, 11)[1:-1]))
    decile = cells(alike, cuts, EQUAL_SCORES)
    n = np.bincount(decile, minlength=len(cuts) + 1)
    means = [np.bincount(decile, v, minlength=len(n))[n > 0] / n[n > 0] for v in (e, t)]
    return np.stack([*means, n[n > 0]], axis=1).astype(np.float64)


def overlap_plot(e: Floats, t: Bools, path: Path) -> None:
    """Plot mirrored histograms of the scores of both arms, and their calibration, to a .png."""
    note = (
        "Left: the arms overlap where both have units. Right: on the line, scores are calibrated; bars: 95 % Wilson "
        "interval of the share treated among the units of a decile."
    )
    with chart(path, "Propensity scores: overlap of the arms, and calibration", height=4.2, note=note) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
        bins = np.linspace(0, 1, 41)
        for arm, sign, label in ((t, 1, "treated"), (~t, -1, "untreated")):
            share = 100 * np.histogram(e[arm], bins)[0] / arm.sum()
            left.bar(bins[:-1], sign * share, 1 / 40, align="edge", label=f"{label}, {arm.sum():,} units")
        left.axhline(0, color=INK, linewidth=0.8)
        left.set(xlabel="propensity score", ylabel="% of the arm")
        left.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        mean, share, n = calibration(e, t).T
        low, high = np.transpose([wilson(p, int(k)) for p, k in zip(share, n, strict=True)])
        right.axline((0, 0), slope=1, color=INK, linewidth=0.8)
        right.errorbar(mean, share, np.abs([share - low, high - share]), fmt="o", color=COLOURS[2])
        right.set(xlabel="mean score of a decile", ylabel="share treated", xlim=(0, 1), ylim=(0, 1))
        legend(figure)
