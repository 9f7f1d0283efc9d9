"""Sensitivity to hidden bias: E-values and Rosenbaum bounds."""

import math

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.base import clone

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.matching import Matching
from contrastkit.causal.refute.verdict import Verdict, check_error
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import levels, rounding

GAMMA = 1.25  # required robustness: odds of treatment that differ by a quarter within a pair


def e_value(t: Bools, y: Floats, first: Estimator) -> Verdict:
    """The E-value (VanderWeele & Ding 2017): the risk ratio with both treatment and outcome that a confounder needs to
    explain the effect away, or to move the interval to zero. Passes if the interval excludes zero: whether an E-value
    is large depends on the confounders that are plausible."""
    check_error(first)
    low, high = first.interval()
    limit_effect = low if first.effect_ > 0 else high
    passed = limit_effect * first.effect_ > 0
    s = first.sample_weight_
    w = s if first.weights_ is None else first.weights_
    estimate, limit = (e_value_of(risk_ratio(v, t, y, w, s)) for v in (first.effect_, limit_effect))
    limit = limit if passed else 1.0
    end = f"one with {limit:.2f} moves the interval to zero" if passed else "but the interval covers zero anyway"
    sentence = f"a confounder with risk ratios of {estimate:.2f} on both treatment and outcome explains it away, {end}"
    return Verdict("E-value", passed, sentence, {"estimate": estimate, "limit": limit})


def risk_ratio(effect: float, t: Bools, y: Floats, w: Floats, s: Floats) -> float:
    """The risk ratio of an effect. For an outcome of 0 and 1, the risk of the treated under the weights w [n] of the
    estimator over the risk without the effect, each at least 1/n. For other outcomes exp(0.91 d), d the effect in
    standard deviations of y under the sample weights s [n], of mean 1, which is more conservative than standard
    deviations within the arms."""
    if not np.isin(y, (0, 1)).all():
        sd = math.sqrt(float((s * (y - np.average(y, weights=s)) ** 2).sum()) / (len(y) - 1))
        return math.exp(0.91 * effect / sd)
    risk = float(np.average(y[t], weights=w[t]))
    one, other = np.clip((risk, risk - effect), 1 / len(y), 1)
    return float(one / other)


def e_value_of(ratio: float) -> float:
    """The E-value of a risk ratio: RR + sqrt(RR (RR - 1)), with 1/RR for ratios below 1."""
    ratio = max(ratio, 1 / ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def rosenbaum_bounds(
    X: Covariates, t: Bools, y: Floats, first: Estimator, *, gamma: float = GAMMA, matching: Matching | None = None
) -> Verdict:
    """The hidden bias that the one-sided signed-rank test of matched pairs tolerates: passes if p <= 0.05 at ``gamma``,
    where the odds of treatment differ by up to that factor within pairs (Rosenbaum 2002, Sec. 4.3). By default, pairs
    are 1:1 on the logit of the propensity score, without replacement, within 0.2 standard deviations, for the units of
    the smaller arm; ``matching`` replaces this.

    Raises:
        UserError: the estimate has sample weights, of which the test of ranks knows nothing.
    """
    if np.ptp(first.sample_weight_):
        raise UserError("the signed-rank test of matched pairs takes no sample weights")
    if matching is None:
        matching = Matching("ATT" if t.sum() <= (~t).sum() else "ATC", replacement=False, caliper=0.2)
    i, j = clone(matching).fit(X, t).pairs_.T
    differences = np.where(t[i], y[i] - y[j], y[j] - y[i]) * math.copysign(1, first.effect_)
    largest, p = largest_gamma(differences), signed_rank(differences, 1.0)
    passed = largest >= gamma
    if largest < 1:
        sentence = f"{len(differences):,} matched pairs show no effect even without hidden bias (p = {p:.2g})"
    else:
        sentence = (
            f"{len(differences):,} matched pairs show the effect up to a hidden bias of Gamma = {largest:.2f}, "
            f"{'at least' if passed else 'below'} {gamma:g}"
        )
    numbers = {"pairs": len(differences), "gamma": largest, "asked": gamma, "p_without_bias": p}
    return Verdict("Rosenbaum bounds", passed, sentence, numbers)


def signed_rank(differences: Floats, gamma: float) -> float:
    """The largest one-sided p value of Wilcoxon's signed-rank test of paired differences [m] under a hidden bias gamma,
    by the normal approximation. Equal differences share ranks; zeros are ranked and then dropped, as in the book (Table
    4.3) and unlike R's rbounds. 1 if all differences are zero."""
    W, total, squares = _ranks(differences)
    p = gamma / (1 + gamma)
    return float(norm.sf((W - p * total) / math.sqrt(p * (1 - p) * squares))) if squares else 1.0


def largest_gamma(differences: Floats, level: float = 0.05) -> float:
    """The largest Gamma at which :func:`signed_rank` is at most ``level``, below 1 if there is none.

    It solves W - p total = z sqrt(p (1 - p) squares), a quadratic in p, for p = Gamma / (1 + Gamma)."""
    W, total, squares = _ranks(differences)
    if not squares:
        return 0.0
    c = float(norm.isf(level)) ** 2 * squares
    a, b = total**2 + c, W * total + c / 2
    p = (b - math.sqrt(b**2 - a * W**2)) / a
    return p / (1 - p)


def _ranks(differences: Floats) -> tuple[float, float, float]:
    """The sums of the ranks of positive differences, of the ranks of nonzero differences, and of their squares.
    Differences that are equal but for rounding share ranks."""
    size, equal = np.abs(differences), rounding(differences)
    ranks = rankdata(levels(size, equal)) * (size > equal)
    return float(ranks[differences > 0].sum()), float(ranks.sum()), float((ranks**2).sum())
