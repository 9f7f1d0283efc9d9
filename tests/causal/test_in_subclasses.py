"""The effect in strata of matched units, and its error, against loops over strata and units."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from sklearn.base import clone

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.estimate import Grouped, InSubclasses, Stratified
from contrastkit.causal.matching import FullMatching
from contrastkit.causal.subclasses import Subclasses
from contrastkit.errors import UserError


def rows(n: int = 300) -> tuple[Any, Any, Any]:
    g = np.random.default_rng(0)
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.5 * x[:, 0])
    return x, t, t + x @ [2, 1] + g.normal(size=n)


@pytest.mark.parametrize("matching", [Subclasses(strata=5), Subclasses("ATE", strata=3), CoarsenedExact(bins=2)])
def test_without_correction_the_error_is_that_of_a_stratified_sample(matching: Any) -> None:
    x, t, y = rows()
    fitted = InSubclasses(matching, bias_correction=False).fit(x, t, y)
    s = fitted.matching_.strata_
    target = t if matching.estimand == "ATT" else np.ones(len(t), bool)
    effect = variance = 0.0
    for k in range(s.max() + 1):
        one, other, share = y[t & (s == k)], y[~t & (s == k)], (target & (s == k)).sum() / (target & (s >= 0)).sum()
        effect += share * (one.mean() - other.mean())
        variance += share**2 * (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    assert fitted.effect_ == pytest.approx(effect) and fitted.se_ == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize(
    "way",
    [
        *(
            InSubclasses(matching)
            for matching in (Subclasses(strata=4), Subclasses("ATC", strata=4), CoarsenedExact(bins=2))
        ),
        InSubclasses(Subclasses("ATE", strata=3)),
        Grouped(FullMatching(caliper=0.1)),
        Grouped(FullMatching("ATE")),
    ],
)
def test_the_correction_predicts_the_target_population_from_each_arm(way: Any) -> None:
    """By regressions without one unit at a time, whose residuals are those that their leverage magnifies."""
    x, t, y = rows(90)
    y = y + t * x[:, 0] + x[:, 1] ** 2
    fitted = way.fit(x, t, y)
    w, matched = fitted.weights_, fitted.matching_.strata_ >= 0
    estimand = way.matching.estimand
    target = matched & {"ATT": t, "ATC": ~t, "ATE": matched}[estimand]
    z = sm.add_constant(x)
    means, moved = [], np.zeros(90)
    for arm, sign in ((t & matched, 1), (~t & matched, -1)):
        predicted = y if (arm == target).all() else sm.WLS(y[arm], z[arm], w[arm]).fit().predict(z)
        means.append(np.mean([predicted[i] for i in np.flatnonzero(target)]))
        for i in np.flatnonzero(target):
            moved[i] += sign * (predicted[i] - means[-1]) / (target.sum() - 1)
        for i in np.flatnonzero(arm & ~(target & (arm == target).all())):
            others = arm & (np.arange(90) != i)
            moved[i] += (
                sign * w[i] / w[arm].sum() * (y[i] - sm.WLS(y[others], z[others], w[others]).fit().predict(z[[i]])[0])
            )
    groups = fitted.matching_.strata_ if isinstance(way, Grouped) else np.where(matched, np.arange(90), -1)
    labels = sorted({*groups[matched].tolist()})
    variance = sum(moved[groups == k].sum() ** 2 for k in labels)
    variance *= len(labels) / (len(labels) - 1) if isinstance(way, Grouped) else 1
    assert fitted.effect_ == pytest.approx(means[0] - means[1]) and fitted.se_ == pytest.approx(np.sqrt(variance))


def test_the_correction_frees_the_effect_of_what_is_linear_in_the_covariates() -> None:
    x, t, y = rows()
    for way in (InSubclasses(Subclasses(strata=2)), Grouped(FullMatching("ATE"))):
        one, other = (clone(way).fit(x, t, v).effect_ for v in (y, y + x @ [10, -20]))
        assert one == pytest.approx(other)
        left = (clone(way).set_params(bias_correction=False).fit(x, t, v).effect_ for v in (y, y + x @ [10, -20]))
        assert abs(next(left) - next(left)) > 0.1


def test_an_arm_too_small_for_the_correction_is_refused() -> None:
    x, t, y = rows(40)
    few = np.concatenate([np.flatnonzero(t)[:20], np.flatnonzero(~t)[:3]])
    says = "3 matched units of an arm cannot identify the 3 coefficients .*, or use 'match --no-bias-correction'"
    with pytest.raises(UserError, match=says):
        InSubclasses(Subclasses(strata=1)).fit(x[few], t[few], y[few])
    assert np.isfinite(InSubclasses(Subclasses("ATC", strata=1)).fit(x[few], t[few], y[few]).effect_)


def test_subclasses_and_strata_give_one_answer() -> None:
    x, t, y = rows()
    one, other = InSubclasses(Subclasses(strata=5), bias_correction=False), Stratified(strata=5)
    one, other = one.fit(x, t, y), other.fit(x, t, y)
    assert (one.effect_, one.se_) == pytest.approx((other.effect_, other.se_))


def test_with_a_unit_that_is_alone_the_error_is_that_of_the_weighted_regression() -> None:
    x, t, y = rows(120)
    fitted = InSubclasses(CoarsenedExact(bins=6), bias_correction=False).fit(x, t, y)
    used = fitted.weights_ > 0
    fit = sm.WLS(y[used], sm.add_constant(t[used].astype(float)), fitted.weights_[used]).fit(cov_type="HC1")
    assert (fitted.effect_, fitted.se_) == pytest.approx((fit.params[1], fit.bse[1]))
    assert any("one unit of an arm" in remark for remark in fitted.remarks_)
