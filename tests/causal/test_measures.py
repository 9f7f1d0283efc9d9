"""Risk ratios, rate ratios and odds ratios, by four cells, statsmodels, the jackknife and known truth."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import t as student

from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.estimate import AIPW, DifferenceInMeans, Regression, Standardised, Stratified, Weighted
from contrastkit.causal.estimate.resampling import fit_with_error
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.cli import screen
from contrastkit.cli.main import main
from contrastkit.errors import UserError


def risks(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """An outcome of 0 and 1, confounded by the first column."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.6 * x[:, 0] - 0.2)
    y = g.uniform(size=n) < expit(x[:, 0] + 0.3 * x[:, 1] + 0.8 * t - 0.5)
    return x, t.astype(int), y.astype(int)


def counts(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Counts with more variance than their mean."""
    x, t, _ = risks(n, seed)
    g = np.random.default_rng([seed, 1])
    return x, t, g.poisson(np.exp(0.4 * x[:, 0] + 0.5 * t) * g.gamma(2, 0.5, n))


def test_four_cells_give_the_intervals_of_katz_and_woolf() -> None:
    """Katz et al. 1978 and Woolf 1955, whose variance is that of HC0: times n/(n - 2) here, and Student's quantile."""
    a, b, c, d = 30, 20, 15, 45
    t = np.repeat([1, 1, 0, 0], [a, b, c, d])
    y = np.repeat([1, 0, 1, 0], [a, b, c, d])
    x, n = np.random.default_rng(0).normal(size=(len(y), 1)), len(y)
    katz = math.sqrt((1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)) * n / (n - 2))
    woolf = math.sqrt((1 / a + 1 / b + 1 / c + 1 / d) * n / (n - 2))
    for measure, effect, error in (
        ("ratio", a / (a + b) / (c / (c + d)), katz),
        ("odds-ratio", a * d / (b * c), woolf),
    ):
        found = DifferenceInMeans().fit(x, t, y, measure=measure)  # type: ignore[arg-type]
        assert (found.effect_, found.se_) == pytest.approx((math.log(effect), error))
        assert found.means_ == pytest.approx([a / (a + b), c / (c + d)])
        (row,) = (row for row in compare(x, t, y, measure=measure) if row.name == "naive")  # type: ignore[arg-type]
        half = error * student.ppf(0.975, found.df_)
        assert (row.effect, row.se) == pytest.approx((effect, error))
        assert (row.low, row.high) == pytest.approx((effect * math.exp(-half), effect * math.exp(half)))
        assert 50 < found.df_ < n


@pytest.mark.parametrize(("data", "family"), [(risks, sm.families.Binomial()), (counts, sm.families.Poisson())])
def test_standardisation_is_that_of_statsmodels_with_the_delta_method(data: Any, family: Any) -> None:
    """ATT: the treated have their own mean, and that of the model of the controls, whose errors are independent."""
    x, t, y = data(400)
    A, one = sm.add_constant(x), t == 1
    fit = sm.GLM(y[~one], A[~one], family=family).fit(cov_type="HC0")
    mu = fit.predict(A[one])
    slope = family.link.inverse_deriv(family.link(mu))
    reach = (slope[:, None] * A[one]).mean(0)
    n, controls = int(one.sum()), int((~one).sum())
    model = reach @ fit.cov_params() @ reach * controls / (controls - 3)
    means = np.array([y[one].mean(), mu.mean()])
    own = (y[one] - means[0]) / means[0] / n * math.sqrt(n / (n - 1))
    variance = float(((own - (mu - means[1]) / means[1] / n) ** 2).sum()) + model / means[1] ** 2
    found = Standardised("ATT").fit(x, t, y, measure="ratio")
    assert found.means_ == pytest.approx(means)
    assert (found.effect_, found.se_) == pytest.approx((math.log(means[0] / means[1]), math.sqrt(variance)))


def fit_of(y: Any, A: Any, family: Any) -> Any:
    return sm.GLM(y, A, family=family).fit()


@pytest.mark.parametrize("estimand", ["ATE", "ATC"])
@pytest.mark.parametrize("weighted", [False, True])
def test_standardised_means_with_sample_weights_are_those_of_repeated_rows(estimand: Any, weighted: bool) -> None:
    x, t, y = counts(300)
    s = np.arange(300) % 3 + 1 if weighted else np.ones(300, int)
    found = Standardised(estimand).fit(x, t, y, s if weighted else None)
    rows = np.repeat(np.arange(300), s)
    A, target = sm.add_constant(x), {"ATE": t >= 0, "ATC": t == 0}[estimand]
    for arm, mean in zip((1, 0), found.means_, strict=True):
        fit = fit_of(y[rows][t[rows] == arm], A[rows][t[rows] == arm], sm.families.Poisson())
        assert mean == pytest.approx(fit.predict(A[rows][target[rows]]).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "measure", "estimand", "names"),
    [
        (risks, "ratio", "ATE", ("ipw", "entropy", "cbps")),
        (risks, "odds-ratio", "ATT", ("oaxaca", "glm", "aipw")),
        (counts, "ratio", "ATC", ("naive", "overlap", "glm")),
    ],
)
def test_errors_of_ratios_are_near_those_of_the_jackknife(data: Any, measure: Any, estimand: Any, names: Any) -> None:
    x, t, y = data(150, seed=3)
    known = {name: each for name, each in estimators(estimand).items() if name in names}
    if "aipw" in known:
        known["aipw"] = AIPW(estimand, folds=0)
    for name, estimator in known.items():
        first = estimator.fit(x, t, y, measure=measure)
        effect, error = first.effect_, first.se_
        rest = [
            estimator.fit(np.delete(x, i, 0), np.delete(t, i), np.delete(y, i), measure=measure).effect_
            for i in range(len(y))
        ]
        jackknife = math.sqrt((len(y) - 1) / len(y) * ((rest - np.mean(rest)) ** 2).sum())
        assert error == pytest.approx(jackknife, rel=0.12 if name == "aipw" else 0.06), (name, effect)


@pytest.mark.slow
def test_the_bootstrap_is_that_of_the_logarithm() -> None:
    x, t, y = risks(500)
    estimator = Weighted(InverseProbability("ATE"))
    own = fit_with_error(estimator, x, t, y, measure="ratio")
    drawn = fit_with_error(estimator, x, t, y, error="bootstrap", draws=300, measure="ratio")
    assert own.effect_ == drawn.effect_ and drawn.se_ == pytest.approx(own.se_, rel=0.15)


def test_exchanged_arms_invert_a_ratio() -> None:
    x, t, y = risks(300)
    for name in ("oaxaca", "glm", "entropy", "aipw", "tlearner", "strata"):
        for measure in ("ratio", "odds-ratio"):
            one = estimators("ATT")[name].fit(x, t, y, measure=measure)
            other = estimators("ATC")[name].fit(x, 1 - t, y, measure=measure)
            assert other.effect_ == pytest.approx(-one.effect_), name
            assert other.means_ == pytest.approx(one.means_[::-1])
            assert math.isnan(one.se_) or other.se_ == pytest.approx(one.se_)


def test_marginal_measures_of_a_large_study_are_the_truth() -> None:
    """The truth is the mean over everyone of both probabilities; the conditional odds ratio, e^0.8, is farther from
    1."""
    x, t, y = risks(20_000)
    g = np.random.default_rng(9).normal(size=(10**6, 2)) @ [1, 0.3]
    one, other = (float(expit(g + shift).mean()) for shift in (0.3, -0.5))
    truth = {"difference": one - other, "ratio": one / other, "odds-ratio": one / (1 - one) * (1 - other) / other}
    assert truth["odds-ratio"] < 0.92 * math.exp(0.8)
    known = estimators("ATE")
    for name in ("glm", "ipw", "entropy", "cbps", "aipw", "tlearner"):
        for measure, value in truth.items():
            found = known[name].fit(x, t, y, measure=measure)  # type: ignore[arg-type]
            gap = found.effect_ - (value if measure == "difference" else math.log(value))
            assert abs(gap) < 4 * found.se_ or math.isnan(found.se_), (name, measure)
            assert found.means_ == pytest.approx([one, other], abs=0.02)


def test_what_has_no_ratio_is_refused() -> None:
    x, t, y = risks(200)
    with pytest.raises(UserError, match="estimates no mean outcome of each arm, and so no odds ratio"):
        Regression().fit(x, t, y, measure="odds-ratio")
    with pytest.raises(UserError, match="with a mean outcome of -0.*there is no ratio: use --measure difference"):
        DifferenceInMeans().fit(x, t, y - 1.0, measure="ratio")
    with pytest.raises(UserError, match="with a mean outcome of 0 there is no ratio"):
        DifferenceInMeans().fit(x, t, y * t, measure="ratio")
    with pytest.raises(UserError, match="takes an outcome of 0 and 1, or counts"):
        Standardised().fit(x, t, y + 0.5)
    with pytest.raises(UserError, match="all outcomes of an arm are 0"):
        Standardised().fit(x, t, y * t)
    with pytest.raises(UserError, match="the logistic regression of an arm has no maximum likelihood"):
        Standardised("ATE").fit(x, t, np.where(t == 1, x[:, 0] > 0, y))
    with pytest.raises(UserError, match="an odds ratio needs an outcome of 0 and 1"):
        list(compare(x, t, y * 2, measure="odds-ratio"))
    with pytest.raises(UserError, match="a ratio of mean outcomes needs outcomes of 0 or more"):
        list(compare(x, t, y - 0.5, measure="ratio"))
    with pytest.raises(UserError, match="unknown measure 'rato', did you mean 'ratio'?"):
        list(compare(x, t, y, measure="rato"))  # type: ignore[arg-type]
    assert "glm" not in {row.name for row in compare(x, t, x[:, 0])}
    refused = {row.name for row in compare(x, t, y, measure="ratio") if row.refused}
    assert refused == {"ols", "matching", "arb", "dcb", "dml"}


def test_a_difference_is_as_it_was_without_means() -> None:
    """Strata and weights: the difference of the means is the effect, and so are the influences."""
    x, t, y = risks(200)
    for estimator in (Stratified(), Weighted(EntropyBalancing()), Standardised()):
        fitted = estimator.fit(x, t, y)
        assert fitted.means_ is not None and fitted.effect_ == pytest.approx(fitted.means_[0] - fitted.means_[1])
    w = Weighted(EntropyBalancing()).fit(x, t, y).weights_
    assert w is not None
    for arm, mean in zip((1, 0), Weighted(EntropyBalancing()).fit(x, t, y).means_, strict=True):
        assert mean == pytest.approx(sum(w[t == arm] * y[t == arm]) / sum(w[t == arm]))


def test_the_command_prints_means_and_a_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen.console, "_width", 400)
    x, t, y = risks(300)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": np.where(y == 1, "yes", "no")})
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = ["causal", "estimate", f"--data={tmp_path / 't.csv'}", "--treatment=t", "--covariates=a,b", "--outcome=y"]
    report = tmp_path / "r.json"
    assert main([*given, "--outcome-value=yes", "--measure=odds-ratio", "--benchmark=2", f"--json={report}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "odds ratio" in printed
        and "SE: of the logarithm" in printed
        and "truth 2.00" in printed
        and "y=yes by t" in printed
    )
    assert "ols, matching, arb, dcb, dml: estimates no mean outcome" in printed
    found = json.loads(report.read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert found["measure"] == "odds-ratio"
    glm = Standardised().fit(x, t, y, measure="odds-ratio")
    assert rows["glm"]["effect"] == pytest.approx(math.exp(glm.effect_))
    assert [rows["glm"]["treated"], rows["glm"]["untreated"]] == pytest.approx(glm.means_)
    assert rows["ols"]["effect"] is None and rows["ols"]["refused"]
