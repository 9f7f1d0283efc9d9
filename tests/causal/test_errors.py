"""Standard errors against stacked estimating equations, the jackknife, other packages and simulated coverage."""

import math
import re
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.base import clone

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.compare import compare
from contrastkit.causal.direct_balancing import ResidualBalancing
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    Regression,
    Stratified,
    Weighted,
)
from contrastkit.causal.matching import Matching
from contrastkit.causal.weighting import CovariateBalancing, EntropyBalancing, InverseProbability
from contrastkit.errors import UserError
from tests.causal.simulated import varied, world

# ---------------------------------------- M-estimation


def weight(kind: str, t: bool, eta: float, other: float) -> float:
    """The weight of a unit with the linear predictor eta (entropy: of its arm)."""
    e = 1 / (1 + math.exp(-eta))
    return {
        "ipw ATE": 1 / e if t else 1 / (1 - e),
        "ipw ATT": 1.0 if t else e / (1 - e),
        "ipw ATC": (1 - e) / e if t else 1.0,
        "ipw ATO": 1 - e if t else e,
        "cbps ATE": 1 / e if t else 1 / (1 - e),
        "cbps ATT": 1.0 if t else math.exp(eta),
        "cbps ATC": math.exp(-eta) if t else 1.0,
        "entropy ATE": math.exp(eta) if t else math.exp(other),
        "entropy ATT": 1.0 if t else math.exp(other),
        "entropy ATC": math.exp(eta) if t else 1.0,
    }[kind]


def equations(kind: str, a: np.ndarray, t: bool, y: float, theta: np.ndarray) -> np.ndarray:
    """One unit's estimating equations for theta = (beta, beta of the untreated, mu1, mu0), as the papers write them."""
    k = len(a)
    eta, other = float(a @ theta[:k]), float(a @ theta[k : 2 * k])
    w = weight(kind, t, eta, other)
    none = theta[k : 2 * k]  # a parameter that is not needed is zero
    if kind.startswith("ipw"):
        beta = [a * (t - 1 / (1 + math.exp(-eta))), none]
    elif kind.startswith("cbps"):
        beta = [a * (w if t else -w), none]
    else:
        target = {"ATE": True, "ATT": t, "ATC": not t}[kind.split()[1]]
        beta = [a * (target - w * t), a * (target - w * (not t))]
        if kind == "entropy ATT":
            beta[0] = theta[:k]
        if kind == "entropy ATC":
            beta[1] = none
    means = [w * t * (y - theta[-2]), w * (not t) * (y - theta[-1])]
    return np.concatenate([*beta, means])


def solve(
    kind: str, A: np.ndarray, t: np.ndarray, y: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The roots by Newton's method with numerical derivatives, each unit's equations there, and the derivative."""
    k = A.shape[1]
    theta = np.zeros(2 * k + 2)

    def total(theta: np.ndarray) -> np.ndarray:
        return s @ np.array([equations(kind, a, bool(ti), yi, theta) for a, ti, yi in zip(A, t, y, strict=True)])

    for _ in range(40):
        steps = np.eye(len(theta)) * 1e-5
        D = np.column_stack([(total(theta + h) - total(theta - h)) / 2e-5 for h in steps])
        move = np.linalg.solve(D, total(theta))
        theta = theta - move
        if np.abs(move).max() < 1e-10:
            break
    units = np.array([equations(kind, a, bool(ti), yi, theta) for a, ti, yi in zip(A, t, y, strict=True)])
    return theta, s[:, None] * units, D


WEIGHTINGS: dict[str, Any] = {
    **{f"ipw {name}": InverseProbability(name) for name in ("ATE", "ATT", "ATC", "ATO")},
    **{f"cbps {name}": CovariateBalancing(name) for name in ("ATE", "ATT", "ATC")},
    **{f"entropy {name}": EntropyBalancing(name) for name in ("ATE", "ATT", "ATC")},
}


def stretched(kind: str, A: np.ndarray, t: np.ndarray, y: np.ndarray, s: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """What dividing residuals by 1 minus their leverage adds to each influence [n], by numerical derivatives."""
    n, k, h = len(y), A.shape[1], 1e-5
    w = s * np.array(
        [weight(kind, ti, float(a @ theta[:k]), float(a @ theta[k : 2 * k])) for a, ti in zip(A, t, strict=True)]
    )
    share = w / np.where(t, w[t].sum(), w[~t].sum())
    own = np.where(t, 1, -1) * share * (y - np.where(t, theta[-2], theta[-1]))
    residual, leverage = own.copy(), share.copy()
    for first in (0, k):  # the first parameter of each set: that of the constant
        curvature, slope = np.zeros(n), np.zeros(n)
        for i in range(n):
            up, down = (theta + sign * h * (np.arange(2 * k + 2) == first) for sign in (1, -1))
            score = [equations(kind, A[i], bool(t[i]), y[i], v)[first] for v in (up, down)]
            logs = [
                math.log(weight(kind, bool(t[i]), float(A[i] @ v[:k]), float(A[i] @ v[k : 2 * k]))) for v in (up, down)
            ]
            curvature[i], slope[i] = s[i] * abs(score[0] - score[1]) / (2 * h), (logs[0] - logs[1]) / (2 * h)
        if np.abs(slope).max() < 1e-9:
            continue  # this set does not move the weights
        inverse = np.linalg.inv(sum(c * np.outer(a, a) for c, a in zip(curvature, A, strict=True)))
        gradient = sum(o * d * a for o, d, a in zip(own, slope, A, strict=True))
        for i in range(n):
            residual[i] -= np.sign(round(slope[i], 6)) * curvature[i] * (A[i] @ inverse @ gradient)
            leverage[i] = max(leverage[i], curvature[i] * (A[i] @ inverse @ A[i]))
    return residual * leverage / (1 - leverage)


@pytest.mark.parametrize(
    ("kind", "survey"),
    [*((kind, False) for kind in WEIGHTINGS), *((kind, True) for kind in WEIGHTINGS if kind.endswith("ATE"))],
)
def test_m_estimation_is_the_sandwich_of_the_stacked_equations(kind: str, survey: bool) -> None:
    """Stefanski & Boos 2002: the influence of a unit is minus the inverse derivative of the sums times its equations;
    the part of its own residual is divided by 1 minus its leverage, which brings the error near the jackknife's."""
    x, t, y = varied(50, 2)
    A = np.column_stack([np.ones(50), x])
    s = np.random.default_rng(1).uniform(1, 3, size=50) if survey else np.ones(50)
    theta, units, D = solve(kind, A, t, y, s)
    influence = -np.linalg.solve(D, units.T)
    result = Weighted(WEIGHTINGS[kind]).fit(x, t, y, s)
    assert result.effect_ == pytest.approx(theta[-2] - theta[-1], abs=1e-6) and result.influence_ is not None
    expected = influence[-2] - influence[-1] + stretched(kind, A, t, y, s, theta)
    assert result.influence_ == pytest.approx(expected, abs=1e-5)
    assert result.se_ == pytest.approx(np.linalg.norm(expected), rel=1e-4)
    if not kind.startswith("ipw"):  # whose weights change more than in proportion
        left_out = [
            Weighted(WEIGHTINGS[kind]).fit(*(np.delete(v, i, 0) for v in (x, t, y, s))).effect_ for i in range(50)
        ]
        assert result.se_ == pytest.approx(np.std(left_out) * 7, rel=0.2)


# ---------------------------------------- clusters


def twins(n: int = 60, copies: int = 3) -> tuple[Any, ...]:
    """Each unit of a world several times, shuffled, and the cluster of its copies, named by a word."""
    x, t, y = varied(n)
    order = np.random.default_rng(1).permutation(n * copies)
    labels = np.array([f"unit {i}" for i in range(n)])
    return x, t, y, *(np.concatenate([v] * copies)[order] for v in (x, t, y, labels))


ESTIMATORS: dict[str, Estimator] = {
    "naive": DifferenceInMeans(),
    "ols": Regression(),
    "oaxaca": OaxacaBlinder(),
    "matching": Matched(Matching(metric="scaled")),
    "strata": Stratified(),
    "arb": ResidualBalancing(),
    **{name: Weighted(weighting) for name, weighting in WEIGHTINGS.items()},
    "hc1": Weighted(EntropyBalancing(), error="hc1"),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_error_is_the_norm_of_the_influences_and_with_clusters_of_their_sums(name: str) -> None:
    """Liang & Zeger 1986, with G/(G - 1)."""
    x, t, y = varied(120)
    groups = np.arange(120) % 30
    plain, grouped = ESTIMATORS[name].fit(x, t, y), clone(ESTIMATORS[name]).fit(x, t, y, clusters=groups)
    assert plain.influence_ is not None
    if name != "matching":  # whose error is that of Abadie & Imbens
        assert plain.se_ == pytest.approx(np.linalg.norm(plain.influence_))
    sums = [sum(v for v, group in zip(plain.influence_, groups, strict=True) if group == k) for k in range(30)]
    assert (
        grouped.se_ == pytest.approx(math.sqrt(sum(v**2 for v in sums) * 30 / 29)) and grouped.effect_ == plain.effect_
    )
    low, high = grouped.interval()
    assert (high - low) / 2 == pytest.approx(student.ppf(0.975, 29) * grouped.se_)


@pytest.mark.parametrize(
    "name", ["naive", "ols", "oaxaca", "ipw ATE", "ipw ATO", "cbps ATE", "entropy ATE", "entropy ATT"]
)
def test_copies_of_a_sample_say_no_more_than_the_sample_if_they_are_clusters(name: str) -> None:
    x, t, y, *copied, labels = twins()
    once = clone(ESTIMATORS[name]).fit(x, t, y)
    alone, grouped = (clone(ESTIMATORS[name]).fit(*copied, clusters=c) for c in (None, labels))
    assert grouped.effect_ == pytest.approx(once.effect_)
    assert grouped.se_ == pytest.approx(once.se_, rel=0.2)  # leverages and degrees of freedom are counted otherwise
    assert alone.se_ == pytest.approx(grouped.se_ / math.sqrt(3), rel=0.02)


def test_the_clustered_regression_is_that_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    x, t, y = varied(200)
    groups = np.arange(200) // 5
    A = np.column_stack([np.ones(200), t, x])
    fit = api.OLS(y, A).fit(cov_type="cluster", cov_kwds={"groups": groups})
    ours = Regression().fit(x, t, y, clusters=groups).se_
    assert ours == pytest.approx(fit.bse[1] * math.sqrt(200 / 199))  # n/(n - k), as in HC1, for (n - 1)/(n - k)


def test_the_influences_of_matching_are_its_linear_form() -> None:
    """Otsu & Rai 2017: 1/N times the modelled effect on each unit of the target, less the effect, and the residual of
    each as often as it is used."""
    x, t, y = varied(60, 2)
    for estimand in ("ATT", "ATE"):
        result = Matched(Matching(estimand, metric="euclidean", ties=False)).fit(x, t, y)
        target = t if estimand == "ATT" else np.ones(60, bool)
        partner = {
            i: min((j for j in range(60) if t[j] != t[i]), key=lambda j: np.linalg.norm(x[i] - x[j]))
            for i in range(60)
            if target[i]
        }
        K = np.array([sum(j == i for j in partner.values()) for i in range(60)])
        A = np.column_stack([np.ones(60), x])
        m = {}
        for arm in (True, False):
            W = np.diag(K * (t == arm))
            m[arm] = A @ np.linalg.lstsq(A.T @ W @ A, A.T @ W @ y, rcond=None)[0]
        for i in range(60):
            expected = 0.0
            if target[i]:
                expected += (y[i] - m[False][i] if t[i] else m[True][i] - y[i]) - result.effect_
            if K[i]:
                inside = A[t == t[i]] * np.sqrt(K[t == t[i]])[:, None]
                leverage = K[i] * A[i] @ np.linalg.solve(inside.T @ inside, A[i])
                expected += (1 if t[i] else -1) * K[i] * (y[i] - m[bool(t[i])][i]) / (1 - leverage)
            assert result.influence_ is not None and result.influence_[i] == pytest.approx(expected / target.sum())
        assert result.se_ == pytest.approx(np.linalg.norm(result.influence_), rel=0.25)


# ---------------------------------------- survey weights


@pytest.mark.parametrize("name", ["naive", "ols", "oaxaca", *WEIGHTINGS])
def test_a_unit_of_weight_two_counts_as_two_units(name: str) -> None:
    x, t, y = varied(300)
    times = np.random.default_rng(0).integers(1, 4, size=300)
    every = np.repeat(np.arange(300), times)
    weighted = clone(ESTIMATORS[name]).fit(x, t, y, times)
    repeated = clone(ESTIMATORS[name]).fit(x[every], t[every], y[every], clusters=every)
    assert weighted.effect_ == pytest.approx(repeated.effect_, rel=1e-6)
    assert weighted.se_ == pytest.approx(
        repeated.se_, rel=0.15
    )  # leverages and degrees of freedom are counted otherwise
    assert weighted.se_ == pytest.approx(clone(ESTIMATORS[name]).fit(x, t, y, times * 1e6).se_)


def test_what_takes_no_sample_weights_says_so() -> None:
    x, t, y = varied(80)
    s = np.linspace(1, 2, 80)
    rows = {row.name: row for row in compare(x, t, y, sample_weight=s)}
    refused = {name for name, row in rows.items() if row.refused}
    assert refused == {"matching", "strata", "arb", "dcb"}
    elsewhere = {"or", "glm", "cbps"}  # for counts, and of the ATE
    named = set(re.findall(r"[\w-]+", rows["matching"].refused.split("use ")[1])) - elsewhere
    assert "takes no sample weights" in rows["matching"].refused and named == set(rows) - refused
    with pytest.raises(UserError, match="take no sample weights"):
        Weighted(CoarsenedExact()).fit(x, t, y, s)
    for wrong, says in ((s - 1, "1 sample weights are zero"), (s - 1.5, "weights are negative"), (s[1:], "79 weights")):
        with pytest.raises(UserError, match=says):
            Regression().fit(x, t, y, wrong)


# ---------------------------------------- coverage


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 2000])
@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
def test_intervals_cover(estimand: Literal["ATE", "ATT"], n: int) -> None:
    """500 draws: from 92 to 97 %, give or take half a per cent. The effect only shifts these estimates, so that as many
    intervals hold zero where there is none."""
    tries = {name: ESTIMATORS[f"{name} {estimand}"] for name in ("ipw", "entropy", "cbps")}
    tries |= {"ols": Regression(), "overlap": ESTIMATORS["ipw ATO"], "aipw": AIPW(estimand)}
    tries["matching"] = Matched(Matching(estimand, metric="scaled"))
    if estimand == "ATT":
        tries |= {"oaxaca": OaxacaBlinder(), "arb": ResidualBalancing()}
    hit = dict.fromkeys(tries, 0)
    for seed in range(500):
        x, t, y = world(n, seed=seed)
        for name, estimator in tries.items():
            low, high = estimator.fit(x, t, y).interval()
            hit[name] += low <= 2 <= high
    assert {name: count / 500 for name, count in hit.items() if not 0.915 <= count / 500 <= 0.975} == {}
