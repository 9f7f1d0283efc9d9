"""How much hidden bias an effect withstands: E-values and Rosenbaum bounds."""

import math

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.base import clone

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.matching import Matching
from contrastkit.causal.refute.verdict import Verdict
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

GAMMA = 1.25  # the hidden bias to withstand: odds of treatment a quarter higher within a pair


def e_value(t: Bools, y: Floats, first: Estimator) -> Verdict:
    """The E-value (VanderWeele & Ding 2017): the risk ratio that a confounder must have with the treatment and with the
    outcome, both, to explain the effect away, and for the interval to reach zero. Passes where the interval excludes
    zero: how large an E-value is large, is for those to judge who know the confounders."""
    low, high = first.interval()
    near = low if first.effect_ > 0 else high
    passed = near * first.effect_ > 0
    whole, limit = (tied(risk_ratio(v, t, y, first.weights_)) for v in (first.effect_, near))
    limit = limit if passed else 1.0
    end = f"one with {limit:.2f} the interval's nearer end" if passed else "but the interval covers zero without one"
    sentence = (
        f"a confounder with risk ratios of {whole:.2f} on both treatment and outcome explains the estimate away, {end}"
    )
    return Verdict("E-value", passed, sentence, {"estimate": whole, "limit": limit})


def risk_ratio(effect: float, t: Bools, y: Floats, weights: Floats | None) -> float:
    """Of an outcome of 0 and 1: the treated's risk, weighted as the estimator does, over what it would be without the
    effect, each at least 1/n. Of others exp(0.91 d) with d the effect in standard deviations of y, which is more
    cautious than in those within the arms."""
    if not np.isin(y, (0, 1)).all():
        return math.exp(0.91 * effect / float(y.std(ddof=1)))
    risk = float(np.average(y[t], weights=None if weights is None else weights[t]))
    one, other = np.clip((risk, risk - effect), 1 / len(y), 1)
    return float(one / other)


def tied(ratio: float) -> float:
    """The E-value of a risk ratio: RR + sqrt(RR (RR - 1)), of its inverse where it is below 1."""
    ratio = max(ratio, 1 / ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def rosenbaum_bounds(
    X: Covariates, t: Bools, y: Floats, first: Estimator, *, gamma: float = GAMMA, matching: Matching | None = None
) -> Verdict:
    """How much hidden bias the signed-rank test of matched pairs stands, on the side of the effect: passes where p <=
    0.05 at a Gamma of ``gamma``, when within pairs the odds of being the treated one differ by up to that factor
    (Rosenbaum 2002, Sec. 4.3). The pairs are 1:1 on the logit of the propensity score without replacement, within 0.2
    standard deviations, the smaller arm choosing; ``matching`` makes others."""
    if matching is None:
        matching = Matching("ATT" if t.sum() <= (~t).sum() else "ATC", replacement=False, caliper=0.2)
    i, j = clone(matching).fit(X, t).pairs_.T
    gain = np.where(t[i], y[i] - y[j], y[j] - y[i]) * math.copysign(1, first.effect_)
    largest, p = largest_gamma(gain), signed_rank(gain, 1.0)
    passed = largest >= gamma
    if largest < 1:
        sentence = f"{len(gain):,} matched pairs show no effect even without hidden bias (p = {p:.2g})"
    else:
        sentence = (
            f"{len(gain):,} matched pairs show the effect up to a hidden bias of Gamma = {largest:.2f}, "
            f"{'at least' if passed else 'below'} {gamma:g}"
        )
    numbers = {"pairs": len(gain), "gamma": largest, "asked": gamma, "p_without_bias": p}
    return Verdict("Rosenbaum bounds", passed, sentence, numbers)


def signed_rank(gain: Floats, gamma: float) -> float:
    """The largest one-sided p of Wilcoxon's signed ranks of the pairs' differences [m] under a hidden bias of gamma, by
    the normal approximation. Equal differences share their ranks; those of zero are ranked and then left out, as in the
    book (Table 4.3) and unlike in R's rbounds. 1 where all are zero."""
    W, total, squares = _ranks(gain)
    p = gamma / (1 + gamma)
    return float(norm.sf((W - p * total) / math.sqrt(p * (1 - p) * squares))) if squares else 1.0


def largest_gamma(gain: Floats, level: float = 0.05) -> float:
    """The largest Gamma at which :func:`signed_rank` is at most ``level``, below 1 where it never is.

    It solves W - p total = z sqrt(p (1 - p) squares), a quadratic in p, for p = Gamma / (1 + Gamma)."""
    W, total, squares = _ranks(gain)
    if not squares:
        return 0.0
    c = float(norm.isf(level)) ** 2 * squares
    a, b = total**2 + c, W * total + c / 2
    p = (b - math.sqrt(b**2 - a * W**2)) / a
    return p / (1 - p)


def _ranks(gain: Floats) -> tuple[float, float, float]:
    """Sums of the ranks of the positive differences, of all but zeros, and of the squares of these."""
    ranks = rankdata(np.abs(gain)) * (gain != 0)
    return float(ranks[gain > 0].sum()), float(ranks.sum()), float((ranks**2).sum())
