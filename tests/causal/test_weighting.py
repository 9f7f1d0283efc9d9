"""Weights against their formulas and a general optimizer."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.estimate import Weighted
from contrastkit.causal.propensity import Propensity, crump
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    CovariateBalancing,
    EntropyBalancing,
    GlobalBalancing,
    InverseProbability,
)
from contrastkit.errors import UserError
from tests.causal.simulated import world


def test_overlap_weights_balance_every_mean_exactly() -> None:
    x, t, _ = world(200)
    w = InverseProbability("ATO").fit(x, t).weights_
    assert np.average(x[t == 1], axis=0, weights=w[t == 1]) == pytest.approx(
        np.average(x[t == 0], axis=0, weights=w[t == 0]), abs=1e-8
    )


def test_inverse_probability_weights_are_those_of_the_table() -> None:
    x, t, _ = world()
    e = Propensity().fit(x, t).scores_
    formulas = {
        "ATE": lambda t, e: 1 / e if t else 1 / (1 - e),
        "ATT": lambda t, e: 1 if t else e / (1 - e),
        "ATC": lambda t, e: (1 - e) / e if t else 1,
        "ATO": lambda t, e: 1 - e if t else e,
    }
    for estimand, formula in formulas.items():
        w = InverseProbability(estimand).fit(x, t).weights_  # type: ignore[arg-type]
        raw = np.array([formula(ti, ei) for ti, ei in zip(t, e, strict=True)])
        for arm in (0, 1):
            assert w[t == arm] == pytest.approx(raw[t == arm] / raw[t == arm].mean())


def test_weights_may_be_trimmed_and_scaled() -> None:
    x, t, _ = world(300)
    e = Propensity().fit(x, t).scores_
    raw = InverseProbability("ATE", scale="raw").fit(x, t).weights_
    assert raw == pytest.approx([1 / v if ti else 1 / (1 - v) for ti, v in zip(t, e, strict=True)])
    stabilised = InverseProbability("ATT", scale="stabilised").fit(x, t).weights_
    share = sum(t) / 300  # of the treated, and the mean of h = e
    assert stabilised == pytest.approx(
        [1 if ti else v / (1 - v) * (1 - share) / share for ti, v in zip(t, e, strict=True)]
    )
    trimmed = InverseProbability("ATE", trim=0.25).fit(x, t)
    assert ((trimmed.weights_ > 0) == ((e >= 0.25) & (e <= 0.75))).all() and trimmed.estimand_ == "ATE after trimming"
    assert InverseProbability("ATE", trim="crump").fit(x, t).alpha_ == crump(e)
    with pytest.raises(UserError, match="trim 0.7: give a number"):
        InverseProbability(trim=0.7).fit(x, t)
    with pytest.raises(UserError, match="sum to zero"):
        InverseProbability(trim=0.499999).fit(x, t)


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
def test_the_covariate_balancing_score_is_logistic_and_its_weights_balance(estimand: str) -> None:
    """Its defining equations (Imai & Ratkovic 2014, Eqs. 10 and 11), written out."""
    x, t, _ = world(200)
    result = CovariateBalancing(estimand).fit(x, t)  # type: ignore[arg-type]
    e = result.scores_
    A = np.column_stack([np.ones(200), x])
    logit = np.log(e / (1 - e))
    assert A @ np.linalg.lstsq(A, logit, rcond=None)[0] == pytest.approx(logit, abs=1e-9)
    h = {"ATE": np.ones(200), "ATT": e, "ATC": 1 - e}[estimand]
    for column in A.T:
        one = sum(h[i] / e[i] * column[i] for i in range(200) if t[i])
        other = sum(h[i] / (1 - e[i]) * column[i] for i in range(200) if not t[i])
        assert one == pytest.approx(other, abs=1e-6)
    w = h / np.where(t == 1, e, 1 - e)
    for arm in (0, 1):
        assert result.weights_[t == arm] == pytest.approx(w[t == arm] / w[t == arm].mean())
    if estimand != "ATE":
        assert result.weights_ == pytest.approx(EntropyBalancing(estimand).fit(x, t).weights_, abs=1e-6)  # type: ignore[arg-type]
    x[t == 1, 2] += 20
    with pytest.raises(UserError, match=r"x2 is .* standard deviations off"):
        CovariateBalancing(estimand).fit(x, t)  # type: ignore[arg-type]


@pytest.mark.parametrize("zeta", [0.2, 0.5])
def test_approximate_balancing_is_what_a_general_optimizer_finds(zeta: float) -> None:
    x, t, _ = world(40, 3)
    x = x * [1, 10, 0.1] + [0, 5, 2]
    z = (x - x.mean(0)) / x.std(0)
    c, m = z[t == 0], z[t == 1].mean(0)
    n = len(c)

    def loss(v: np.ndarray) -> float:  # of g and the largest difference
        return (1 - zeta) * float(v[:n] @ v[:n]) + zeta * v[n] ** 2

    result = minimize(
        loss,
        np.append(np.full(n, 1 / n), 1.0),
        method="SLSQP",
        bounds=[(0, n ** (-2 / 3))] * n + [(0, None)],
        constraints=[
            {"type": "eq", "fun": lambda v: v[:n].sum() - 1},
            {"type": "ineq", "fun": lambda v: np.concatenate([v[n] - (m - c.T @ v[:n]), v[n] + (m - c.T @ v[:n])])},
        ],
        options={"ftol": 1e-12, "maxiter": 2000},
    )
    fit = ApproximateBalancing(zeta=zeta).fit(x, t)
    g = fit.weights_[t == 0] / n
    assert loss(np.append(g, fit.gap_)) == pytest.approx(result.fun, rel=1e-5)
    assert g == pytest.approx(result.x[:n], abs=2e-4) and fit.gap_ == pytest.approx(result.x[n], abs=1e-4)
    assert fit.gap_ == pytest.approx(np.abs(m - c.T @ g).max())


def test_global_balancing_balances_the_treatment_too() -> None:
    x, t, _ = world(2000)
    w = GlobalBalancing().fit(x, t).weights_
    before, after = np.abs(balance_table(x, t, w, estimand="ATE").smd).T
    assert after.max() < 0.3 * before.max()
    assert w[t == 1].mean() == pytest.approx(1) and w[t == 0].mean() == pytest.approx(1)
    words = pd.DataFrame({"a": x[:, 0], "group": np.where(x[:, 1] > 0, "high", "low")})  # dummies that are copies
    numbers = pd.DataFrame({"a": x[:, 0], "low": (x[:, 1] <= 0) * 1.0})
    assert GlobalBalancing().fit(words, t).weights_ == pytest.approx(GlobalBalancing().fit(numbers, t).weights_)


def test_the_estimator_has_the_weights_of_its_weighting_on_a_factor_too() -> None:
    """Global balancing leaves out the reference level, by itself and under Weighted."""
    x, t, y = world(300)
    frame = pd.DataFrame({"a": x[:, 0], "level": np.array(list("lmh"))[np.arange(300) % 3]})
    w = Weighted(GlobalBalancing()).fit(frame, t, y).weights_
    assert w is not None and w.tolist() == GlobalBalancing().fit(frame, t).weights_.tolist()
    dummies = np.column_stack([x[:, 0], *(frame.level == level for level in "lm")])
    assert w.tolist() == GlobalBalancing().fit(dummies, t).weights_.tolist()


@pytest.mark.parametrize("moments", [1, 2])
def test_entropy_balancing_is_what_a_general_optimizer_finds(moments: int) -> None:
    x, t, _ = world(40, 2)
    x[:, 1] = x[:, 1] > 0  # of two values: its square says nothing new
    c = x if moments == 1 else np.column_stack([x, (x[:, 0] - x[:, 0].mean()) ** 2])
    controls, m = c[t == 0], c[t == 1].mean(0)
    n = len(controls)
    result = minimize(
        lambda w: float(np.sum(w * np.log(np.maximum(w, 1e-300)))),
        np.full(n, 1 / n),
        method="SLSQP",
        bounds=[(1e-12, 1)] * n,
        constraints=[{"type": "eq", "fun": lambda w: np.append(controls.T @ w - m, w.sum() - 1)}],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    w = EntropyBalancing(moments=moments).fit(x, t).weights_  # type: ignore[arg-type]
    assert w[t == 0] / n == pytest.approx(result.x, abs=2e-5)
    assert (w[t == 1] == 1).all()
    assert np.average(controls, axis=0, weights=w[t == 0]) == pytest.approx(m, abs=1e-8)


def test_the_ate_balances_both_arms_to_all() -> None:
    x, t, _ = world(200)
    w = EntropyBalancing("ATE").fit(x, t).weights_
    for arm in (0, 1):
        assert np.average(x[t == arm], axis=0, weights=w[t == arm]) == pytest.approx(x.mean(0), abs=1e-8)


def test_a_target_outside_of_the_hull_is_refused_with_its_gap() -> None:
    x, t, _ = world()
    x[t == 1, 2] += 20
    with pytest.raises(UserError, match=r"no weights balance these covariates: x2 is .* standard deviations off"):
        EntropyBalancing().fit(x, t)
    x[t == 0, 2] = 1.0
    with pytest.raises(UserError, match="x2 is constant in one arm"):
        EntropyBalancing().fit(x, t)


def test_columns_that_follow_from_others_change_nothing() -> None:
    x, t, _ = world()
    more = np.column_stack([x, x[:, 0] + x[:, 1], np.ones(len(x))])
    assert EntropyBalancing().fit(more, t).weights_ == pytest.approx(EntropyBalancing().fit(x, t).weights_, abs=1e-6)


@pytest.mark.parametrize(("p", "seed"), [(2, 58), (3, 36)])
def test_approximate_balancing_reaches_the_top_of_its_dual(p: int, seed: int) -> None:
    """Data from which an optimizer without second derivatives stopped up to a tenth away: no weights are better than
    any point of the dual (weak duality), and a general optimizer finds a point as good."""
    g = np.random.default_rng([seed, 300, p])
    x = g.normal(size=(300, p))
    x = 0.7 * x[:, :1] + math.sqrt(1 - 0.49) * x
    t = g.uniform(size=300) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5))
    c = (x[~t] - x[t].mean(0)) / x.std(0)
    n = len(c)
    cap = n ** (-2 / 3)

    def dual(u: np.ndarray) -> float:
        """The least over g of (||g||^2 + 2 g'c u - ||u||_1^2) / 2 with sum g = 1: zeta = 1/2."""
        low, high = -10.0, 10.0
        for _ in range(50):  # the shift at which the clipped weights sum to 1
            shift = (low + high) / 2
            low, high = (shift, high) if np.clip(-(c @ u) - shift, 0, cap).sum() > 1 else (low, shift)
        w = np.clip(-(c @ u) - shift, 0, cap)
        return float(w @ w / 2 + w @ (c @ u) - np.abs(u).sum() ** 2 / 2)

    fit = ApproximateBalancing().fit(x, t)
    w = fit.weights_[~t] / n
    assert w.sum() == pytest.approx(1) and w.min() >= 0 and w.max() <= cap * (1 + 1e-9)
    best = minimize(lambda u: -dual(u), np.zeros(p), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert w @ w / 2 + np.abs(c.T @ w).max() ** 2 / 2 == pytest.approx(-best.fun, rel=1e-6)
