"""Refutations against closed forms, published figures, and estimators that must fail."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
import typer
from scipy.stats import t as student
from scipy.stats import wilcoxon
from sklearn.tree import DecisionTreeRegressor
from statsmodels.api import WLS

from contrastkit.causal.compare import estimators
from contrastkit.causal.estimate import DifferenceInMeans, Estimator, Regression, TLearner, Weighted
from contrastkit.causal.estimate.resampling import Sample, fit_with_error, subsets
from contrastkit.causal.matching import Matching
from contrastkit.causal.refutation import Refutation
from contrastkit.causal.refute import Verdict, checks, fitted, refute
from contrastkit.causal.refute.confounding import (
    STRENGTHS,
    confounder,
    directions,
    robustness_value,
    strongest,
    unobserved_confounder,
)
from contrastkit.causal.refute.hidden_bias import (
    e_value,
    e_value_of,
    largest_gamma,
    risk_ratio,
    rosenbaum_bounds,
    signed_rank,
)
from contrastkit.causal.refute.placebo import placebo_outcome, placebo_treatment, random_cause, subset
from contrastkit.causal.weighting import InverseProbability
from contrastkit.cli.causal.refute import refute as command
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates

DATA = Path(os.environ.get("CONTRASTKIT_DATA", "none"))


def world(n: int = 300, seed: int = 0, effect: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confounded by the first of three columns."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 3))
    t = g.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5))
    return x, t, effect * t + x @ np.arange(1, 4) + g.normal(size=n)


class Says(Estimator):
    """An estimator that returns ``what(x, t, y)``, with a standard error of 0.1."""

    def __init__(self, what: Any = None) -> None:
        self.what = what

    def _fit(self, X: Covariates, t: np.ndarray, y: np.ndarray) -> None:
        self.estimand_, self.se_ = "constant", 0.1
        self.effect_ = float(self.what(X.x, t, y))


def named(x: np.ndarray, *names: str) -> Covariates:
    return Covariates(x, names, names)


def by_name(verdicts: Any) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts}


# ------------------------------------------------------------------------------------------ where nothing should change


def test_a_placebo_has_no_effect_unless_the_estimator_uses_something_again() -> None:
    x, t, y = world()
    good = placebo_treatment(Covariates.of(x), t, y, fitted(Regression(), x, t, y))
    assert good.passed and abs(good.numbers["mean"]) < 0.1
    effect = Regression().fit(x, t, y).effect_
    stale = placebo_treatment(Covariates.of(x), t, y, fitted(Says(lambda *_: effect), x, t, y))
    assert not stale.passed and stale.numbers["low"] == effect and "there should be none" in stale.sentence


@pytest.mark.parametrize(
    ("draws", "why"),
    [([1.0] * 49 + [-60.0], "zero is outside of the central 95 %"), ([-0.1] * 5 + [1.0] * 45, "the mean is not zero")],
)
def test_a_placebo_that_fails_one_condition_alone_fails(draws: list[float], why: str) -> None:
    x, t, y = world()
    first = fitted(Says(lambda *_: 1.0), x, t, y)
    effects = iter(draws)
    first.what = lambda *_: next(effects)
    verdict = placebo_treatment(Covariates.of(x), t, y, first)
    low, high, mean = (verdict.numbers[key] for key in ("low", "high", "mean"))
    centred = abs(mean) <= 4 * np.std(draws) / math.sqrt(50)
    assert (low <= 0 <= high, centred) == ((False, True) if "outside" in why else (True, False))
    assert not verdict.passed


def test_noise_and_a_smaller_sample_do_not_move_an_estimate() -> None:
    x, t, y = world()
    first = fitted(Regression(), x, t, y)
    for verdict in (random_cause(Covariates.of(x), t, y, first), subset(Covariates.of(x), t, y, first)):
        assert verdict.passed and 0 < abs(verdict.numbers["moved"]) < first.se_ / 2
    columns = random_cause(Covariates.of(x), t, y, fitted(Says(lambda x, *_: x.shape[1]), x, t, y))
    assert not columns.passed and columns.numbers["moved"] == 1
    treated = subset(Covariates.of(x), t, y, fitted(Says(lambda _, t, __: t.sum()), x, t, y))
    assert not treated.passed and treated.numbers["mean"] == round(0.8 * t.sum())
    untreated = subset(Covariates.of(x), t, y, fitted(Says(lambda _, t, __: (~t).sum()), x, t, y))
    assert untreated.numbers["mean"] == round(0.8 * (~t).sum())


def test_refused_draws_are_counted_and_a_check_with_too_many_is_not_run() -> None:
    x, t, y = world()

    def moody(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> float:
        if x[:, -1].sum() > limit:
            raise UserError("the moon is full: wait")
        return 2.0

    limit = math.inf
    first = fitted(Says(moody), x, t, y)
    limit = 25.0  # of a sum of 300 of N(0, 1): one in thirteen
    some = random_cause(Covariates.of(x), t, y, first)
    assert some.passed and 0 < some.numbers["refused"] <= 10 and "refused)" in some.sentence
    limit = -100.0
    verdict = by_name(refute(x, t, y, first))["random common cause"]
    assert verdict.passed is None and verdict.word == "NOT RUN"
    assert verdict.sentence == "50 of 50 draws were refused, the last because the moon is full"


def test_the_jackknife_gives_a_standard_error_where_there_is_none() -> None:
    x, t, y = world()

    class Bare(DifferenceInMeans):
        jackknifed = True

        def _fit(self, X: Covariates, t: np.ndarray, y: np.ndarray) -> None:
            super()._fit(X, t, y)
            self.influence_ = None

    exact = math.sqrt(y[t].var(ddof=1) / t.sum() + y[~t].var(ddof=1) / (~t).sum())
    assert fit_with_error(Bare(), x, t, y, subsets=1000).se_ == pytest.approx(exact, rel=0.07)
    assert fitted(Bare(), x, t, y).se_ == fit_with_error(Bare(), x, t, y).se_  # one rule


def test_what_needs_a_standard_error_is_not_run_without_one() -> None:
    x, t, y = world()
    first = fitted(TLearner(model=DecisionTreeRegressor(max_depth=2, random_state=0), repeats=1, folds=2), x, t, y)
    verdicts = by_name(refute(x, t, y, first, placebo=("before", x, x[:, 1] + y[::-1]), draws=20))
    not_run = {name for name, verdict in verdicts.items() if verdict.passed is None}
    assert not_run == {"random common cause", "subset", "placebo outcome", "E-value"}
    assert all(verdicts[name].sentence == "the estimate has no standard error to compare with" for name in not_run)
    done = Refutation("tlearner", first, tuple(verdicts.values()))
    assert done.passed == all(verdict.passed for name, verdict in verdicts.items() if name not in not_run)
    json_of = {verdict["name"]: verdict["passed"] for verdict in done.as_json()["verdicts"]}
    assert json_of["subset"] is None and json_of["placebo treatment"] is True
    assert not replace(done, verdicts=(*done.verdicts, Verdict("another", False, ""))).passed


def test_permuted_treatments_and_subsets_that_lack_a_level_have_a_prior_and_that_is_said() -> None:
    x, t, y = world()
    x[:, 2] = 0
    x[[*np.flatnonzero(t)[:1], *np.flatnonzero(~t)[:1]], 2] = 1
    first = fitted(Weighted(InverseProbability("ATO")), x, t, y)
    verdict = subset(Covariates.of(x), t, y, first)
    lack = 0
    for sample in subsets(Sample(Covariates.of(x), t, y), 50, 0):
        levels = [set(sample.X.x[arm, 2]) for arm in (sample.t, ~sample.t)]
        lack += levels[0] != levels[1]
    assert verdict.numbers["with_prior"] == lack > 10 and verdict.numbers["refused"] == 0
    assert f" ({lack} with a prior for the propensity model)" in verdict.sentence
    assert placebo_treatment(Covariates.of(x), t, y, first).numbers["with_prior"] > 0


def test_an_outcome_from_before_the_treatment_tells_what_was_left_out() -> None:
    x, t, y = world()
    before = x[:, 0] + np.random.default_rng(2).normal(size=len(x))
    first = fitted(Weighted(), x, t, y)
    assert placebo_outcome("before", x, before, t, first).passed
    verdict = placebo_outcome("before", x[:, 1:], before, t, first)
    assert not verdict.passed and verdict.numbers["low"] > 0 and "the effect on before" in verdict.sentence
    estimate = Weighted().fit(x[:, 1:], t, before)
    assert (verdict.numbers["effect"], verdict.numbers["se"]) == (estimate.effect_, estimate.se_)


# --------------------------------------------------------------------------------------------- what nobody has measured


def ols(A: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Coefficients of y on 1 and A, their classical standard errors, and the degrees of freedom."""
    A = np.column_stack([np.ones(len(y)), A])
    inverse = np.linalg.inv(A.T @ A)
    beta = inverse @ A.T @ y
    df = len(y) - A.shape[1]
    return beta[1:], np.sqrt(np.diag(inverse)[1:] * ((y - A @ beta) ** 2).sum() / df), df


def partial(A: np.ndarray, y: np.ndarray) -> float:
    """The partial R^2 of the last column of A, from its t value."""
    beta, se, df = ols(A, y)
    return float((beta[-1] / se[-1]) ** 2 / ((beta[-1] / se[-1]) ** 2 + df))


@pytest.mark.parametrize("effect", [2.0, -2.0])
def test_the_grid_is_sensemakrs_closed_form_for_linear_regression(effect: float) -> None:
    """Cinelli & Hazlett 2020: bias = se sqrt(df r_Y r_T / (1 - r_T)), toward zero."""
    x, t, y = world(effect=effect)
    verdict = unobserved_confounder(named(x, "a", "b", "c"), t, y, fitted(Regression(), x, t, y))
    beta, se, df = ols(np.column_stack([x, t]), y)
    for r_t, row in zip(STRENGTHS, verdict.numbers["grid"], strict=True):
        for r_y, result in zip(STRENGTHS, row, strict=True):
            bias = se[-1] * math.sqrt(df * r_y * r_t / (1 - r_t))
            assert result == pytest.approx(beta[-1] - math.copysign(bias, effect))
    f = abs(beta[-1] / se[-1]) / math.sqrt(df)
    value = (math.sqrt(f**4 + 4 * f**2) - f**2) / 2
    assert verdict.numbers["robustness_value"] == pytest.approx(value)
    u = confounder(*directions(x, t, y, np.ones(300)), value, value, math.copysign(1, effect))
    assert Regression().fit(np.column_stack([x, u]), t, y).effect_ == pytest.approx(0, abs=1e-9)


def test_a_confounder_is_as_strong_as_asked_for() -> None:
    x, t, y = world()
    factor = np.eye(3)[np.arange(len(x)) % 3]  # sums to the constant
    for r_t, r_y in ((0.0, 0.3), (0.3, 0.0), (0.15, 0.4)):
        u = confounder(*directions(np.column_stack([x, factor]), t, y, np.ones(300)), r_t, r_y, 1.0)
        less = np.column_stack([x, factor[:, 1:]])
        assert partial(np.column_stack([less, u]), t.astype(float)) == pytest.approx(r_t, abs=1e-9)
        assert partial(np.column_stack([less, t, u]), y) == pytest.approx(r_y, abs=1e-9)
        assert u.var() == pytest.approx(1)


def test_the_benchmark_is_what_a_twin_of_the_covariate_would_have() -> None:
    """Two orthogonal columns of equal strength: the bound from one is the strength of the other."""
    g = np.random.default_rng(3)
    a, z, w, d, e = np.linalg.qr(np.column_stack([np.ones(400), g.normal(size=(400, 5))]))[0].T[1:] * 20
    latent = 0.5 * (a + z) + 0.2 * w + d
    y = 0.7 * (a + z) + 0.2 * w + 0.3 * latent + e
    # directions and bounds ask nothing of t but numbers: a latent one keeps the symmetry exact
    name, r_t, r_y = strongest(named(np.column_stack([w, a]), "weak", "twin"), latent, y, np.ones(400))
    assert name == "twin"
    assert r_t == pytest.approx(partial(np.column_stack([w, a, z]), latent))
    assert r_y == pytest.approx(partial(np.column_stack([w, a, latent, z]), y))


@pytest.mark.parametrize("effect", [2.0, -2.0])
def test_with_sample_weights_the_grid_is_that_of_weighted_regression(effect: float) -> None:
    """Weighted least squares are those of rows times the root of their weight, the constant too."""
    x, t, y = world(effect=effect)
    s = np.random.default_rng(1).uniform(1, 9, size=300)
    s *= 300 / s.sum()
    first = fitted(Regression(), x, t, y, sample_weight=s)
    verdict = unobserved_confounder(named(x, "a", "b", "c"), t, y, first, weights=s)
    fit = WLS(y, np.column_stack([np.ones(300), x, t]), weights=s).fit()
    for r_t, row in zip(STRENGTHS, verdict.numbers["grid"], strict=True):
        for r_y, result in zip(STRENGTHS, row, strict=True):
            bias = fit.bse[-1] * math.sqrt(fit.df_resid * r_y * r_t / (1 - r_t))
            assert result == pytest.approx(fit.params[-1] - math.copysign(bias, effect))
    f2 = fit.tvalues[-1] ** 2 / fit.df_resid
    assert verdict.numbers["robustness_value"] == pytest.approx((math.sqrt(f2**2 + 4 * f2) - f2) / 2)
    u = confounder(*directions(x, t, y, s), 0.15, 0.4, 1.0)
    strength = WLS(y, np.column_stack([np.ones(300), x, t, u]), weights=s).fit()
    assert strength.tvalues[-1] ** 2 / (strength.tvalues[-1] ** 2 + strength.df_resid) == pytest.approx(0.4)


def test_every_check_but_that_of_ranks_has_the_sample_weights() -> None:
    """Effects are 2 + x0 in a sample of which half, that with x0 > 0, has a tenth of the weight."""
    g = np.random.default_rng(5)
    x = g.normal(size=(300, 2))
    t, s = g.uniform(size=300) < 0.5, np.where(x[:, 0] > 0, 1.0, 10.0)
    y, before = t * (2 + x[:, 0]) + x[:, 1] + 0.1 * g.normal(size=300), x[:, 0] * (2 * t - 1) + 0.1 * g.normal(size=300)
    first, plain = fitted(Regression(), x, t, y, sample_weight=s), fitted(Regression(), x, t, y)
    found = by_name(refute(x, t, y, first, placebo=("before", x, before), sample_weight=s, draws=20))
    for name in ("random common cause", "subset"):
        assert found[name].passed and abs(found[name].numbers["mean"] - first.effect_) < 0.1
        assert abs(plain.effect_ - first.effect_) > 0.4
    again = fitted(Regression(), x, t, before, sample_weight=s)
    assert found["placebo outcome"].numbers["effect"] == again.effect_
    assert abs(again.effect_ - fitted(Regression(), x, t, before).effect_) > 0.4
    without = by_name(refute(x, t, y, plain, draws=20))
    assert found["placebo treatment"].numbers["mean"] != without["placebo treatment"].numbers["mean"]
    assert found["unobserved confounder"].numbers["grid"][0][0] == pytest.approx(first.effect_, abs=0.05)
    mean = sum(s * y) / sum(s)
    ratio = math.exp(0.91 * first.effect_ / math.sqrt(sum(s * (y - mean) ** 2) / sum(s) * 300 / 299))
    assert found["E-value"].numbers["estimate"] == pytest.approx(ratio + math.sqrt(ratio * (ratio - 1)))
    bounds = found["Rosenbaum bounds"]
    assert bounds.passed is None and "takes no sample weights" in bounds.sentence
    assert without["Rosenbaum bounds"].passed


def test_a_factor_is_one_covariate_and_a_strong_one_refutes() -> None:
    x, t, y = world(effect=0.3)
    group = np.digitize(x[:, 0], (-1, 0, 1))
    frame = pd.DataFrame({"b": x[:, 1], "c": x[:, 2], "group": group.astype(str)}).astype({"group": "category"})
    result = unobserved_confounder(Covariates.of(frame), t, y, fitted(Regression(), frame, t, y))
    assert result.numbers["benchmark"]["covariate"] == "group" and "as strong as group" in result.sentence
    first = fitted(Regression(), x, t, y)
    verdict = unobserved_confounder(named(x, "a", "b", "c"), t, y, first)
    assert verdict.numbers["benchmark"]["covariate"] == "a" and not verdict.passed
    assert verdict.numbers["benchmark"]["effect"] * first.effect_ < 0
    x, t, y = world(effect=20)
    assert unobserved_confounder(named(x, "a", "b", "c"), t, y, fitted(Regression(), x, t, y)).passed


def test_cells_that_are_refused_are_left_open() -> None:
    x, t, y = world()
    verdict = unobserved_confounder(named(x, "a", "b", "c"), t, y, fitted(Says(lambda x, *_: picky(x)), x, t, y))
    assert all(cell is None for row in verdict.numbers["grid"] for cell in row)
    assert verdict.passed is None and "cannot be adjusted for: 10 of 10 draws were refused" in verdict.sentence


def picky(x: np.ndarray) -> float:
    if x.shape[1] > 3:
        raise UserError("too many: leave some out")
    return 1.0


def test_the_robustness_value_of_cinelli_and_hazletts_example() -> None:
    """Darfur: t = 4.18445 with 783 degrees of freedom, a robustness value of 13.878 % (their Table 1)."""
    f2 = 4.18445**2 / 783
    g = np.random.default_rng(0)
    a, b = np.linalg.qr(np.column_stack([np.ones(50), g.normal(size=(50, 2))]))[0].T[1:]
    assert robustness_value(np.zeros((50, 0)), a, math.sqrt(f2) * a + b, np.ones(50)) == pytest.approx(
        0.138776, abs=1e-6
    )


def test_e_values() -> None:
    """VanderWeele & Ding 2017: RR 3.9 (1.8 to 8.7) has the E-values 7.26 and 3.0."""
    assert round(e_value_of(3.9), 2) == 7.26 and round(e_value_of(1.8), 2) == 3.0 and e_value_of(1) == 1
    assert e_value_of(1 / 3.9) == pytest.approx(e_value_of(3.9))
    x, t, y = world()
    for sign in (1, -1):
        first = fitted(Regression(), x, t, sign * y)
        verdict = e_value(t, sign * y, first)
        ratio = math.exp(0.91 * abs(first.effect_) / y.std(ddof=1))
        least = math.exp(0.91 * (abs(first.effect_) - student.ppf(0.975, first.df_) * first.se_) / y.std(ddof=1))
        assert verdict.passed and verdict.numbers["estimate"] == pytest.approx(ratio + math.sqrt(ratio * (ratio - 1)))
        assert verdict.numbers["limit"] == pytest.approx(least + math.sqrt(least * (least - 1)))
    first.se_ = 10.0
    assert not e_value(t, -y, first).passed and e_value(t, -y, first).numbers["limit"] == 1


def test_of_two_values_the_ratio_is_one_of_risks() -> None:
    t = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    y = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 1], float)
    first = DifferenceInMeans().fit(np.ones((10, 1)), t, y)
    one = np.ones(10)
    assert risk_ratio(first.effect_, t, y, one, one) == pytest.approx((3 / 4) / (2 / 6))
    w = np.array([1, 1, 1, 3, 1, 1, 1, 1, 1, 5.0])
    effect = 3 / 6 - 6 / 10
    assert risk_ratio(effect, t, y, w, one) == pytest.approx((3 / 6) / (6 / 10))
    assert risk_ratio(0.8, t, y, one, one) == pytest.approx(0.75 / 0.1)  # a risk of -0.05 counts as one of n


EXPOSED = [
    38,
    23,
    41,
    18,
    37,
    36,
    23,
    62,
    31,
    34,
    24,
    14,
    21,
    17,
    16,
    20,
    15,
    10,
    45,
    39,
    22,
    35,
    49,
    48,
    44,
    35,
    43,
    39,
]
EXPOSED += [34, 13, 73, 25, 27]
CONTROL = [16, 18, 18, 24, 19, 11, 10, 15, 16, 18, 18, 13, 19, 10, 16, 16, 24, 13, 9, 14, 21, 19, 7, 18, 19, 12, 11, 22]
CONTROL += [25, 16, 13, 11, 13]


def test_rosenbaums_bounds_of_lead_in_the_blood_of_children() -> None:
    """Rosenbaum 2002, Tables 3.1 and 4.3; the data of Morton et al. 1982."""
    gain = np.subtract(EXPOSED, CONTROL).astype(float)
    published = {2: 0.0018, 3: 0.0136, 4: 0.0388, 4.25: 0.0468, 5: 0.0740}
    assert {gamma: round(signed_rank(gain, gamma), 4) for gamma in published} == published
    assert signed_rank(gain, largest_gamma(gain)) == pytest.approx(0.05) and 4.25 < largest_gamma(gain) < 5


def test_without_hidden_bias_it_is_wilcoxons_test() -> None:
    g = np.random.default_rng(0)
    for shift in (-1, 0, 2):
        gain = g.integers(-4, 5, size=80).astype(float) + shift
        exact = wilcoxon(gain, alternative="greater", zero_method="pratt", correction=False, method="approx").pvalue
        assert signed_rank(gain, 1.0) == pytest.approx(float(exact))
        assert (largest_gamma(gain) >= 1) == (exact <= 0.05)
    every = np.arange(1.0, 30)
    assert signed_rank(every, largest_gamma(every)) == pytest.approx(0.05) and largest_gamma(-every) == 0
    assert signed_rank(np.zeros(5), 1.0) == 1 and largest_gamma(np.zeros(5)) == 0


@pytest.mark.parametrize("effect", [2.0, -2.0])
def test_pairs_are_told_apart_on_the_side_of_the_effect(effect: float) -> None:
    x, t, y = world(effect=effect)
    for arm in (t, ~t):  # either may be the smaller one
        first = fitted(Regression(), x, arm, y)
        verdict = rosenbaum_bounds(Covariates.of(x), arm, y, first)
        assert verdict.passed and verdict.numbers["p_without_bias"] < 0.01
        strict = rosenbaum_bounds(Covariates.of(x), arm, y, first, gamma=100)
        assert not strict.passed and "below 100" in strict.sentence
    small = rosenbaum_bounds(Covariates.of(x), ~t, y, first, matching=Matching("ATC", replacement=False, caliper=0.2))
    assert rosenbaum_bounds(Covariates.of(x), ~t, y, first) == small
    noise = np.random.default_rng(5).normal(size=len(x))
    none = rosenbaum_bounds(Covariates.of(x), t, noise, fitted(Regression(), x, t, noise))
    assert not none.passed and "no effect even without hidden bias" in none.sentence


# ------------------------------------------------------------------------------------------------------------- together


def test_all_attempts_on_an_honest_study() -> None:
    """Without confounding everything passes; inputs stay unchanged, and results depend only on the seed."""
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(size=400), "b": g.choice(["x", "y", "z"], size=400)})
    t = g.permutation(400) % 2
    y = 2.0 * t + frame.a.to_numpy() + g.normal(size=400)
    placebo = "before", frame[["b"]], frame.a.to_numpy() + g.normal(size=400)
    before = frame.copy(), t.copy(), y.copy()
    first = fitted(Weighted(), frame, t, y)
    result = list(refute(frame, t, y, first, placebo=placebo, draws=20))
    assert [v.name for v in result if not v.passed] == []
    assert [v.name for v in result] == checks(placebo=True) and json.dumps([v.numbers for v in result], allow_nan=False)
    assert [name for name in checks(placebo=True) if name not in checks(placebo=False)] == ["placebo outcome"]
    assert result == list(refute(frame, t, y, fitted(Weighted(), frame, t, y), placebo=placebo, draws=20))
    pd.testing.assert_frame_equal(frame, before[0])
    assert (t == before[1]).all() and (y == before[2]).all()


def test_what_leaves_nothing_to_doubt_is_refused() -> None:
    x, t, y = world()
    with pytest.raises(UserError, match="the outcome is the same for all"):
        fitted(Regression(), x, t, np.ones(len(x)))
    with pytest.raises(UserError, match="treatment and covariates determine the outcome"):
        fitted(Regression(), x, t, x[:, 0] + t)
    with pytest.raises(UserError, match="explain the outcome completely"):
        directions(x, t, x[:, 0] + t, np.ones(300))


TREE = "sklearn.tree:DecisionTreeRegressor"


def run(*arguments: str) -> int:
    app = typer.Typer()
    app.command()(command)
    return app([*arguments], standalone_mode=False) or 0


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world()
    before = x[:, 0] + np.random.default_rng(1).normal(size=len(x))
    path, out = tmp_path / "table.csv", tmp_path / "out.json"
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "t": t.astype(int), "y": y, "before": before})
    frame.to_csv(path, index=False)
    given = [f"--data={path}", "--treatment=t", "--outcome=y", "--covariates=a,b,c", "--estimator=ols"]
    assert run(*given, "--draws=20", "--placebo-outcome=before", "--without=a", f"--json={out}") == 1
    printed = capsys.readouterr().out
    assert printed.startswith("y by t, ols, constant: 1.98, SE 0.131") and "FAIL  placebo outcome" in printed
    assert (
        "PASS  placebo treatment" in printed and "effect with a confounder" in printed and "6 PASS, 1 FAIL" in printed
    )
    result = json.loads(out.read_text())
    assert result["estimate"]["effect"] == Regression().fit(x, t, y).effect_ and len(result["verdicts"]) == 7
    assert run(*given, "--draws=20") == 0
    printed = capsys.readouterr().out
    assert printed.count("PASS  ") == 6 and "\n6 PASS\n" in printed and "no --placebo-outcome given" in printed
    flexible = ["--estimator=tlearner", f"--outcome-model={TREE}", "--folds=2", "--repeats=1", "--gamma=1"]
    assert run(*given[:-1], *flexible, "--draws=20", f"--json={out}") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith(", without a standard error")
    assert "NOT RUN  subset: the estimate has no standard error" in printed and "3 PASS, 3 NOT RUN" in printed
    assert {v["name"]: v["passed"] for v in json.loads(out.read_text())["verdicts"]}["subset"] is None
    for bad, says in (
        (["--estimator=cbps"], "cbps does not estimate the ATT"),
        (["--without=a"], "--without applies to --placebo-outcome"),
        (["--placebo-outcome=before", "--without=z"], "--without: .* has no column 'z'"),
        (["--placebo-outcome=befor"], "has no column 'befor', did you mean 'before'"),
        (["--placebo-outcome=y"], "must differ from the outcome"),
        (["--placebo-outcome=t"], "'t' is used twice"),
        (["--placebo-outcome=a", "--without=b,c"], "no covariates are left"),
    ):
        with pytest.raises(UserError, match=says):
            run(*given, *bad)


def test_the_command_knows_every_estimator() -> None:
    choices = get_args(get_args(get_type_hints(command, include_extras=True)["estimator"])[0])
    assert set(choices) == {name for estimand in ("ATT", "ATC", "ATE") for name in estimators(estimand)}


@pytest.mark.skipif(
    not (DATA / "causal" / "lalonde").is_dir(), reason="LaLonde's data: no causal/lalonde in CONTRASTKIT_DATA"
)
def test_lalondes_survey_fails_a_placebo_that_his_trial_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Earnings of 1975 precede the programme: unconfoundedness given the other covariates is refuted."""
    asked = ["--placebo-outcome=re75", "--without=u75", "--draws=20", "--estimator=ols"]
    for name, word in (("lalonde", "FAIL"), ("lalonde-trial", "PASS")):
        run(f"--data={name}", f"--data-dir={DATA}", *asked)
        assert f"{word}  placebo outcome" in capsys.readouterr().out
