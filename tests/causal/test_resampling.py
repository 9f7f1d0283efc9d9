"""The bootstrap and the jackknife; what is said about a sample."""

import json
import math
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB

from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    PartiallyLinear,
    Regression,
    Stratified,
    TLearner,
    Weighted,
    t_learner,
)
from contrastkit.causal.estimate.resampling import Sample, fit_with_error, resamples, subsets, wild
from contrastkit.causal.matching import Matching
from contrastkit.causal.models import Models
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.refute import fitted
from contrastkit.causal.refute.placebo import placebo_treatment, random_cause, subset
from contrastkit.causal.remarks import copies, on_sample
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.causal.simulated import varied, world


@pytest.mark.parametrize("clustered", [False, True])
def test_samples_are_of_units_or_of_whole_clusters(clustered: bool) -> None:
    x, t, y = varied(60)
    groups = np.arange(60) % 12 if clustered else None
    whole = Sample(Covariates.of(x), t, y, y**2, groups)
    many, few = (list(resamples(whole, draws, 3)) for draws in (40, 4))
    for one, other in zip(many, few, strict=False):
        assert (one.y == other.y).all()  # the first samples do not depend on their number
    kept = set()
    for sample in many:
        rows = [int(np.flatnonzero(y == v)[0]) for v in sample.y]
        assert (sample.X.x == x[rows]).all() and (sample.t == t[rows]).all() and len(rows) == 60
        assert sample.weights is not None and (sample.weights == y[rows] ** 2).all() and sample.clusters is not None
        of = np.arange(60) if groups is None else groups
        assert {(of[row], label) for row, label in zip(rows, sample.clusters, strict=True)} == {
            (of[row], of[row]) for row in rows
        }
        kept.add(tuple(sorted(rows)))
        if clustered:
            times = np.bincount(rows, minlength=60).reshape(5, 12)
            assert (times == times[0]).all()  # all units of a cluster, as often as it is drawn
    assert len(kept) == 40
    counts = np.bincount([int(np.flatnonzero(y == v)[0]) for sample in many for v in sample.y], minlength=60)
    assert counts.min() > 0 and abs(counts.mean() - 40) < 1e-9
    for sample in subsets(whole, 5, 0):
        left = np.flatnonzero(np.isin(y, sample.y))
        assert (sample.clusters is None) == (groups is None) and (
            groups is None or (sample.clusters == left % 12).all()
        )
        assert not clustered or (np.bincount(left % 12, minlength=12) % 5 == 0).all() and len(left) == 50


def test_the_bootstrap_agrees_with_formulas_that_hold() -> None:
    x, t, y = varied(300)
    groups = np.arange(300) // 5
    for estimator in (DifferenceInMeans(), OaxacaBlinder()):
        for clusters in (None, groups):
            formula = fit_with_error(estimator, x, t, y, clusters=clusters)
            result = fit_with_error(estimator, x, t, y, error="bootstrap", draws=250, clusters=clusters, seed=1)
            assert result.effect_ == formula.effect_ and result.se_ == pytest.approx(formula.se_, rel=0.15)
            low, high = result.interval()
            assert (high - low) / 2 == pytest.approx(student.ppf(0.975, formula.df_) * result.se_)


def test_matching_resamples_its_influences() -> None:
    """Abadie & Imbens 2008: the bootstrap of units is not valid."""
    x, t, y = varied(150)
    own = Matched(Matching(metric="scaled")).fit(x, t, y)
    result = fit_with_error(Matched(Matching(metric="scaled")), x, t, y, error="bootstrap", draws=250)
    assert own.influence_ is not None and result.se_ == pytest.approx(np.linalg.norm(own.influence_), rel=0.15)
    assert any("wild bootstrap" in remark for remark in result.remarks_)
    psi = np.zeros(3)
    psi[1] = 1
    draws = wild(psi, None, 2000, 0)
    low, high = (1 - math.sqrt(5)) / 2, (1 + math.sqrt(5)) / 2
    assert set(np.round(draws, 9)) == {round(low, 9), round(high, 9)}
    for power, moment in ((1, 0), (2, 1), (3, 1)):  # Mammen 1993
        assert (draws**power).mean() == pytest.approx(moment, abs=0.1)


def test_a_bootstrap_that_cannot_be_is_refused() -> None:
    x, t, y = varied(40)
    with pytest.raises(UserError, match="10 bootstrap draws are too few"):
        fit_with_error(Regression(), x, t, y, error="bootstrap", draws=10)
    t = np.arange(40) < 2
    with pytest.raises(UserError, match=r"\d+ of 60 draws were refused, the last because"):
        fit_with_error(DifferenceInMeans(), x, t, y, error="bootstrap", draws=60)


def test_the_bootstrap_of_few_treated_has_few_degrees_of_freedom() -> None:
    """Without influences, too, from which others have theirs."""
    x, t, y = varied(60)
    t = np.arange(60) < 4
    result = fit_with_error(DifferentiatedConfounderBalancing(), x, t, y, error="bootstrap", draws=50)
    low, high = result.interval()
    assert (high - low) / 2 == pytest.approx(student.ppf(0.975, 3) * result.se_)


def test_a_jackknife_that_cannot_be_leaves_the_estimate() -> None:
    """Three levels with a control each, of which a subset lacks one more often than not."""
    x, t, y = varied(200)
    treated, untreated = np.flatnonzero(t), np.flatnonzero(~t)
    levels = np.zeros((200, 3))
    for k in range(3):
        levels[[untreated[k], *treated[4 * k : 4 * k + 4]], k] = 1
    X = np.column_stack([x, levels])
    result = fit_with_error(TLearner(), X, t, y)
    assert result.effect_ == TLearner().fit(X, t, y).effect_ and math.isnan(result.se_)
    assert "no standard error: of the jackknife, " in result.remarks_[-1]
    assert "of 30 draws were refused, the last because the effect is not identified" in result.remarks_[-1]


def test_a_stratum_with_one_unit_of_an_arm_is_why_there_is_no_error() -> None:
    x, t, y = varied(40)
    x[:, 0] = np.arange(40)
    t = ~np.isin(np.arange(40), [0, 3, 6, 9, 12, 15, 33])  # one untreated above the median of the treated
    result = Stratified(strata=2).fit(x[:, :1], t, y)
    assert math.isnan(result.se_)
    assert result.error_remarks_ == ["a stratum with one unit of an arm has no standard error"]


def test_the_jackknife_of_few_clusters_is_refused() -> None:
    x, t, y = varied(300)
    dcb = DifferentiatedConfounderBalancing()
    result = fit_with_error(dcb, x, t, y, subsets=5, clusters=np.arange(300) % 2)
    assert math.isnan(result.se_) and "2 clusters are too few for the jackknife" in result.remarks_[-1]


def test_where_there_is_no_formula_the_jackknife_serves_or_it_is_said() -> None:
    x, t, y = world(200)
    plain = DifferentiatedConfounderBalancing().fit(x, t, y)
    assert math.isnan(plain.se_) and plain.error_remarks_ == ["it has no standard error of its own"]
    result = fit_with_error(DifferentiatedConfounderBalancing(), x, t, y, subsets=40)
    assert "jackknife" in result.remarks_[-1] and result.effect_ == plain.effect_
    estimates = [
        DifferentiatedConfounderBalancing().fit(sample.X, sample.t, sample.y).effect_
        for sample in subsets(Sample(Covariates.of(x), t.astype(bool), y), 40, 0)
    ]
    assert result.se_ == pytest.approx(2 * np.std(estimates))  # sqrt(0.8 / 0.2)
    assert result.df_ == min(t.sum(), 200 - t.sum()) - 1
    few = fit_with_error(DifferentiatedConfounderBalancing(), x, np.arange(200) < 3, y, subsets=40)
    assert math.isnan(few.se_) and "3 units of an arm are too few" in few.remarks_[-1]
    rows = {row.name: row for row in compare(x, t, y, models=Models(folds=2, repeats=1))}
    by_name = estimators("ATT", models=Models(folds=2, repeats=1))
    for name in ("dcb", "tlearner"):
        assert rows[name].se == fitted(by_name[name], x, t, y).se_ > 0  # the same rule for refute
        assert rows[name].remarks[-1] == "standard error of the jackknife, over 30 subsets"
        assert not any("no standard error" in remark for remark in rows[name].remarks)
    assert rows["tlearner"].se == pytest.approx(rows["aipw"].se, rel=0.4)
    models = Models(outcome="sklearn.tree:DecisionTreeRegressor", repeats=1)
    flexible = next(row for row in compare(x, t, y, models=models) if row.name == "tlearner")
    assert math.isnan(flexible.se)
    assert flexible.remarks == ("it has no standard error of its own: compare with --error bootstrap",)


def test_many_rows_have_no_jackknife(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t_learner, "AFFORDABLE", 199)
    result = fit_with_error(TLearner(folds=2, repeats=1), *world(200))
    assert math.isnan(result.se_) and result.error_remarks_ == ["it has no standard error of its own"]


def test_the_jackknife_of_the_t_learner_agrees_with_the_bootstrap() -> None:
    x, t, y = varied(300)
    model = TLearner(folds=2, repeats=1)
    one = fit_with_error(model, x, t, y, subsets=100)
    other = fit_with_error(model, x, t, y, error="bootstrap", draws=100)
    assert one.se_ == pytest.approx(other.se_, rel=0.25)


class Witness(RegressorMixin, BaseEstimator):
    """Is asked about no unit, told by the first covariate, that it has learned from."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.seen_, self.mean_ = set(x[:, 0]), float(y.mean())
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        assert not self.seen_ & set(x[:, 0])
        return np.full(len(x), self.mean_)


class Juror(ClassifierMixin, Witness):
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.column_stack([1 - self.predict(x), self.predict(x)]) * 0.2 + 0.4

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.classes_ = np.array([False, True])
        return super().fit(x, y)


SCORE = Propensity(Juror(), folds=3)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        AIPW("ATE", model=Witness(), propensity=SCORE, folds=3, repeats=1),
        PartiallyLinear(model=Witness(), propensity=SCORE, folds=3, repeats=1),
        TLearner(model=Witness(), folds=3, repeats=1),
        Stratified(strata=1, propensity=SCORE),
        Weighted(InverseProbability(propensity=SCORE)),
    ],
    ids=["aipw", "dml", "tlearner", "strata", "ipw"],
)
def test_no_copy_of_a_unit_and_no_unit_of_a_cluster_is_on_both_sides_of_a_fold(
    estimator: Estimator, clustered: bool
) -> None:
    x, t, y = varied(90)
    groups = np.arange(90) // 3 if clustered else None
    if groups is not None:
        x[:, 0] = x[groups, 0]
    result = fit_with_error(estimator, x, t, y, error="bootstrap", draws=50, clusters=groups)
    assert result.se_ > 0 and not any("refused" in remark for remark in result.remarks_)
    for check in (placebo_treatment, random_cause, subset):
        assert check(Covariates.of(x), t, y, result, clusters=groups, draws=3).numbers["refused"] == 0


RARE = ("strata", "ipw", "overlap", "aipw", "dml")  # use propensity scores


@pytest.mark.parametrize("name", RARE)
def test_a_sample_that_lacks_a_rare_level_in_an_arm_has_a_prior_and_that_is_said(name: str) -> None:
    """As common as the draws in which an arm has one value of the level, counted one by one."""
    x, t, y = varied(200)
    x[:, 2] = 0
    x[[*np.flatnonzero(t)[:2], *np.flatnonzero(~t)[:2]], 2] = 1
    models = Models(repeats=1, folds=2)
    estimator = estimators("ATE" if name != "strata" else "ATT", strata=2, models=models)[name]
    result = fit_with_error(estimator, x, t, y, error="bootstrap", draws=50)
    lack = 0
    for sample in resamples(Sample(Covariates.of(x), t, y), 50, 0):
        levels = [set(sample.X.x[arm, 2]) for arm in (sample.t, ~sample.t)]
        lack += len(levels[0] | levels[1]) == 2 and levels[0] != levels[1]
    assert lack > 5 and any(remark.startswith(f"in {lack} of 50 bootstrap samples") for remark in result.remarks_)
    assert not any("refused" in remark for remark in result.remarks_)
    formula = fit_with_error(estimator, x, t, y)
    assert 0.5 * formula.se_ < result.se_ < 2 * formula.se_
    x[t, 2] = 0
    with pytest.raises(UserError, match="perfect separation"):  # not a sample
        fit_with_error(estimator, x, t, y, error="bootstrap", draws=50)


def in_arms(t: Any) -> dict[str, Any]:
    return {"treated": t, "untreated": ~t}


def test_copied_rows_are_counted_unless_codes_repeat_by_chance() -> None:
    x, t, y = varied(100)
    X = Covariates.of(x)
    three = np.tile(np.arange(100), 3)
    assert copies(X, t, y) == 0 and copies(X.take(three), t[three], y[three]) == 200
    some = np.append(np.arange(100), np.arange(20))
    assert copies(X.take(some), t[some], y[some]) == 20
    codes = Covariates.of(np.round(x[:, :1]))
    assert copies(codes, t, np.round(y)) == 0
    (remark,) = on_sample(X.take(three), in_arms(t[three]), y[three])
    assert "200 of 300 rows are copies" in remark and "--cluster" in remark
    assert on_sample(X.take(three), in_arms(t[three]), y[three], three) == ()
    (remark,) = on_sample(X, in_arms(t), y, np.arange(100) % 8)
    assert "only 8 clusters" in remark
    assert "only 3 units are treated" in on_sample(X, in_arms(np.arange(100) < 3), y)[0]


def test_two_treated_units_have_the_interval_of_one_degree_of_freedom() -> None:
    g = np.random.default_rng(0)
    x, t, y = g.normal(size=(300, 1)), np.arange(300) < 2, g.normal(size=300)
    y[0] += 5
    result = DifferenceInMeans().fit(x, t, y)
    low, high = result.interval()
    assert result.df_ == pytest.approx(1, abs=0.05) and (high - low) / result.se_ > 20
    even = DifferenceInMeans().fit(x, np.arange(300) < 150, y)
    assert even.df_ == pytest.approx(298, rel=0.03)  # Welch's, with equal variances and sizes


@pytest.mark.slow
def test_what_an_estimate_rests_on_is_said_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t, y = world(300)
    rows = {row.name: row.remarks for row in compare(x, t, y)}
    assert rows["ols"] == rows["entropy"] == () and any("strata" in remark for remark in rows["strata"])
    far = Weighted(EntropyBalancing()).fit(x[:, :1] + t[:, None] * 0.8, t, y)
    assert any(remark.startswith("an effective sample of") and "untreated" in remark for remark in far.remarks_)
    forest = Propensity(RandomForestClassifier(min_samples_leaf=20, random_state=0), folds=2)
    flexible = Weighted(InverseProbability(propensity=forest)).fit(x, t, y)
    assert any("takes the weights as fixed" in remark for remark in flexible.remarks_)
    scores = InverseProbability(propensity=Propensity(GaussianNB(), folds=2))
    with_error = {"ipw": Weighted(scores), "matching": Matched(Matching(metric="scaled"))}
    monkeypatch.setattr("contrastkit.causal.compare.estimators", lambda *_, **__: with_error)
    for error, is_said in (("m-estimation", True), ("bootstrap", False)):
        said = {row.name: " ".join(row.remarks) for row in compare(x + t[:, None], t, y, error=error, draws=50)}  # type: ignore[arg-type]
        assert ("takes the weights as fixed, and may be too wide: compare with --error boot" in said["ipw"]) == is_said
        for name, advice in (("ipw", ": compare with --error bootstrap"), ("matching", "")):
            assert "an effective sample of" in said[name]
            assert ("the interval may be too narrow" + advice in said[name]) == is_said
        assert "--error" not in said["matching"]
    hc1 = Weighted(InverseProbability(propensity=forest), error="hc1").fit(x, t, y)
    assert flexible.se_ == hc1.se_ and not any("fixed" in remark for remark in hc1.remarks_)


def test_remarks_are_shown_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(200)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y, "of": np.arange(200)})
    data, out = tmp_path / "three.csv", tmp_path / "out.json"
    pd.concat([frame] * 3).to_csv(data, index=False)
    given = ["causal", "estimate", f"--data={data}", "--treatment=t", "--outcome=y", "--covariates=a,b"]
    assert main([*given, f"--json={out}"]) == 0
    printed = capsys.readouterr().out
    assert "remark: 400 of 600 rows are copies of others" in printed and "strata: 5 strata leave some bias" in printed
    report: Any = json.loads(out.read_text())
    assert "copies" in report["remarks"][0]
    assert "jackknife" in next(row for row in report["rows"] if row["name"] == "dcb")["remarks"][-1]
    assert main([*given, "--cluster=of"]) == 0
    assert "copies" not in capsys.readouterr().out
    for column, says in (
        ("off", "has no column 'off', did you mean 'of'?"),
        ("t", "cluster, treatment and outcome"),
        ("y", "'y' is used twice"),
    ):
        assert main([*given, f"--cluster={column}"]) == 2
        assert says in capsys.readouterr().err
    for column in ("t", "y"):
        assert main([*given, f"--sample-weight={column}"]) == 2
        assert "sample weight, treatment and outcome must be different columns" in capsys.readouterr().err


@pytest.mark.slow
def test_the_jackknife_of_dcb_is_as_wide_as_its_estimates_scatter() -> None:
    estimates, errors = [], []
    for seed in range(100):
        x, t, y = world(300, seed=seed)
        result = fit_with_error(DifferentiatedConfounderBalancing(), x, t, y, subsets=30)
        estimates.append(result.effect_)
        errors.append(result.se_)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.2)
