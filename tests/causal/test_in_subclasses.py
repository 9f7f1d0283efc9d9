"""The effect in strata of matched units, and its error, against loops over strata."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.estimate import InSubclasses, Stratified
from contrastkit.causal.subclasses import Subclasses


def rows(n: int = 300) -> tuple[Any, Any, Any]:
    g = np.random.default_rng(0)
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.5 * x[:, 0])
    return x, t, t + x @ [2, 1] + g.normal(size=n)


@pytest.mark.parametrize("matching", [Subclasses(strata=5), Subclasses("ATE", strata=3), CoarsenedExact(bins=2)])
def test_the_error_is_that_of_a_stratified_sample(matching: Any) -> None:
    x, t, y = rows()
    fitted = InSubclasses(matching).fit(x, t, y)
    s = fitted.matching_.strata_
    target = t if matching.estimand == "ATT" else np.ones(len(t), bool)
    effect = variance = 0.0
    for k in range(s.max() + 1):
        one, other, share = y[t & (s == k)], y[~t & (s == k)], (target & (s == k)).sum() / (target & (s >= 0)).sum()
        effect += share * (one.mean() - other.mean())
        variance += share**2 * (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    assert fitted.effect_ == pytest.approx(effect) and fitted.se_ == pytest.approx(np.sqrt(variance))


def test_subclasses_and_strata_give_one_answer() -> None:
    x, t, y = rows()
    one, other = InSubclasses(Subclasses(strata=5)).fit(x, t, y), Stratified(strata=5).fit(x, t, y)
    assert (one.effect_, one.se_) == pytest.approx((other.effect_, other.se_))


def test_with_a_unit_that_is_alone_the_error_is_that_of_the_weighted_regression() -> None:
    x, t, y = rows(120)
    fitted = InSubclasses(CoarsenedExact(bins=6)).fit(x, t, y)
    used = fitted.weights_ > 0
    fit = sm.WLS(y[used], sm.add_constant(t[used].astype(float)), fitted.weights_[used]).fit(cov_type="HC1")
    assert (fitted.effect_, fitted.se_) == pytest.approx((fit.params[1], fit.bse[1]))
    assert any("one unit of an arm" in remark for remark in fitted.remarks_)
