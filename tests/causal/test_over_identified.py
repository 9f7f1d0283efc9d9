"""The over-identified covariate balancing propensity score against its objective in loops, and known truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from contrastkit.causal.estimate import Weighted
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.weighting import OverIdentifiedBalancing
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from tests.causal.simulated import world


def conditions(z: Any, t: bool, e: float, estimand: str) -> Any:
    """Of one unit: first those of the likelihood, then those of balance."""
    treated, other = {"ATE": (1 / e, 1 / (1 - e)), "ATT": (1, e / (1 - e)), "ATC": ((1 - e) / e, 1)}[estimand]
    return np.r_[(t - e) * z, (treated if t else -other) * z]


def covariance(z: Any, t: Any, estimand: str, likely: Any) -> Any:
    """Of the conditions given x, the mean over the units."""
    S = np.zeros((2 * len(z[0]),) * 2)
    for zi, e in zip(z, likely, strict=True):
        for ti, p in ((True, e), (False, 1 - e)):
            g = conditions(zi, ti, e, estimand)
            S += p * np.outer(g, g) / len(z)
    return S


def objective(x: Any, t: Any, estimand: str) -> Any:
    """Imai & Ratkovic's quadratic form as a function of beta, written out unit by unit; it is minimised elsewhere."""
    z = [np.r_[1.0, row] for row in x]
    S = covariance(z, t, estimand, Propensity().fit(x, t).scores_)

    def value(beta: Any) -> float:
        m = sum(conditions(zi, ti, expit(zi @ beta), estimand) for zi, ti in zip(z, t, strict=True)) / len(z)
        return float(len(z) * m @ np.linalg.solve(S, m))

    return value


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
def test_it_is_the_least_of_the_quadratic_form(estimand: Any) -> None:
    x, t, _ = world(150)
    fitted = OverIdentifiedBalancing(estimand).fit(x, t)
    value = objective(x, np.asarray(t) == 1, estimand)
    eta = np.log(fitted.scores_ / (1 - fitted.scores_))
    beta = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), eta, rcond=None)[0]
    assert value(beta) == pytest.approx(fitted.j_, rel=1e-6)
    best = minimize(value, beta + 0.05, method="BFGS", options={"gtol": 1e-6})
    assert best.fun == pytest.approx(fitted.j_, rel=1e-4) and best.x == pytest.approx(beta, abs=2e-3)
    assert fitted.df_ == len(beta) and 0 < fitted.p_ < 1


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
def test_the_error_is_that_of_the_method_of_moments(estimand: Any) -> None:
    """Hansen 1982, by loops over units and numerical derivatives, stacked with the weighted means; residuals of these
    are divided by 1 minus their leverage on the mean of their arm."""
    x, t, y = world(120)
    t = np.asarray(t) == 1
    result = Weighted(OverIdentifiedBalancing(estimand)).fit(x, t, y)
    z, e = np.column_stack([np.ones(120), x]), result.weighting_.scores_
    beta = np.linalg.lstsq(z, np.log(e / (1 - e)), rcond=None)[0]
    W = np.linalg.inv(covariance(z, t, estimand, Propensity().fit(x, t).scores_))

    def mean(b: Any) -> Any:
        return sum(conditions(zi, ti, expit(zi @ b), estimand) for zi, ti in zip(z, t, strict=True)) / 120

    def effect(b: Any) -> float:
        w = np.array([abs(conditions(np.ones(1), ti, expit(zi @ b), estimand)[1]) for zi, ti in zip(z, t, strict=True)])
        return float(np.average(y[t], weights=w[t]) - np.average(y[~t], weights=w[~t]))

    steps = 1e-6 * np.eye(len(beta))
    D = np.column_stack([(mean(beta + h) - mean(beta - h)) / 2e-6 for h in steps])
    slope = np.array([(effect(beta + h) - effect(beta - h)) / 2e-6 for h in steps])
    moved = -slope @ np.linalg.solve(D.T @ W @ D, D.T @ W)
    w, influence = result.weights_, []
    for i in range(120):
        arm = t == t[i]
        share = w[i] / w[arm].sum()
        own = (1 if t[i] else -1) * share * (y[i] - np.average(y[arm], weights=w[arm]))
        influence.append(own / (1 - share) + moved @ conditions(z[i], t[i], e[i], estimand) / 120)
    assert result.influence_ == pytest.approx(influence, abs=1e-6)
    assert result.se_ == pytest.approx(np.linalg.norm(influence))


def test_a_unit_of_sample_weights_does_not_matter() -> None:
    x, t, _ = world(150)
    once, twice = (OverIdentifiedBalancing("ATT").fit(x, t, np.full(150, s)) for s in (1.0, 2.0))
    assert (twice.j_, *twice.weights_) == pytest.approx((once.j_, *once.weights_))


def test_the_test_refutes_a_model_that_is_no_line() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(2000, 1))
    right = OverIdentifiedBalancing("ATE").fit(x, g.uniform(size=2000) < expit(x[:, 0]))
    wrong = OverIdentifiedBalancing("ATE").fit(x, g.uniform(size=2000) < expit(3 * np.tanh(3 * x[:, 0])))
    assert right.p_ > 0.05 > 1e-2 > wrong.p_ and right.remarks_ == [] and wrong.remarks_ == [wrong.agreement_]
    assert "does not hold" in wrong.agreement_ and "is not refuted" in right.agreement_


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(200)
    rows = "\n".join(",".join(map(str, (*xi, int(ti), yi))) for xi, ti, yi in zip(x, t, y, strict=True))
    names = [f"x{j}" for j in range(np.shape(x)[1])]
    (tmp_path / "t.csv").write_text(f"{','.join(names)},t,y\n{rows}\n")
    given = ["causal", "balance", f"--data={tmp_path / 't.csv'}", "--treatment=t", f"--covariates={','.join(names)}"]
    assert main([*given, "--by=cbps-over"]) in (0, 1)
    assert "one logistic model meets both likelihood and balance" in " ".join(capsys.readouterr().out.split())


def test_scores_that_leave_nothing_to_tell_are_refused() -> None:
    t = np.arange(40) < 20
    with pytest.raises(UserError, match="cannot be told apart: use cbps"):
        OverIdentifiedBalancing("ATE").fit(np.tile([0.0, 1.0], 20)[:, None], t)
