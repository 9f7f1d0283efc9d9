"""Effects in groups, their regression on covariates, and the ranking of units."""

import dataclasses
import sys
import types
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import f as fisher
from scipy.stats import t as student

from contrastkit.causal.conditional import ConditionalEffects, conditional_effects
from contrastkit.causal.estimate import AIPW
from contrastkit.causal.form import Form
from contrastkit.causal.heterogeneity.grouping import grouped
from contrastkit.causal.heterogeneity.projection import project
from contrastkit.causal.heterogeneity.ranking import predicted_effects, ranked
from contrastkit.causal.models import Models
from contrastkit.causal.study import Study, read
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.causal.simulated import varied
from tests.schemas import read_report

ONCE = Models(repeats=1)


def simulated(n: int, seed: int = 0, *, gain: float = 2.0) -> pd.DataFrame:
    """The effect is 1 + gain * (age - 40) / 10; age, sex and a third column confound."""
    g = np.random.default_rng(seed)
    age, sex, c = g.uniform(20, 60, size=n).round(1), g.integers(0, 2, size=n), g.normal(size=n)
    z = (age - 40) / 10
    t = (g.uniform(size=n) < 1 / (1 + np.exp(-0.5 * z - 0.5 * sex + 0.5 * c))).astype(int)
    y = z + sex - c + (1 + gain * z) * t + g.normal(size=n)
    return pd.DataFrame({"age": age, "sex": np.where(sex, "f", "m"), "c": c, "t": t, "y": y, "site": np.arange(n) // 5})


def study_of(frame: pd.DataFrame, folder: Path, covariates: Sequence[str] = ("age", "sex", "c")) -> Study:
    frame.to_csv(folder / "study.csv", index=False)
    return read(str(folder / "study.csv"), treatment="t", outcome="y", covariates=covariates)


# ---------------------------------------- pseudo-outcomes and their projection


def test_pseudo_outcomes_are_those_of_the_equation() -> None:
    x, t, y = varied(150)
    fitted = AIPW("ATE", folds=0, clip=0).fit(x, t, y)
    A = sm.add_constant(x)
    m1, m0 = (sm.OLS(y[arm], A[arm]).fit().predict(A) for arm in (t, ~t))
    e = sm.Logit(t.astype(float), A).fit(disp=0, tol=1e-12).predict(A)
    for i in range(150):
        correction = (y[i] - m1[i]) / e[i] if t[i] else -(y[i] - m0[i]) / (1 - e[i])
        assert fitted.pseudo_outcomes_[i] == pytest.approx(m1[i] - m0[i] + correction, rel=1e-6, abs=1e-6)
    assert AIPW("ATT").fit(x, t, y).pseudo_outcomes_ is None


def test_they_are_averaged_over_the_repeats_in_the_order_of_the_rows() -> None:
    x, t, y = varied(120)
    fitted = AIPW("ATE", repeats=3).fit(x, t, y)
    order = np.random.default_rng(0).permutation(120)
    other = AIPW("ATE", repeats=3).fit(x[order], t[order], y[order])
    assert other.pseudo_outcomes_ == pytest.approx(fitted.pseudo_outcomes_[order])
    one = AIPW("ATE", repeats=1).fit(x, t, y)
    assert one.pseudo_outcomes_.mean() == pytest.approx(one.effect_)
    assert np.std(one.pseudo_outcomes_, ddof=1) / np.sqrt(120) == pytest.approx(one.se_)
    assert not np.allclose(fitted.pseudo_outcomes_, one.pseudo_outcomes_)


def test_a_projection_is_statsmodels_regression_with_hc2() -> None:
    g = np.random.default_rng(0)
    Z, psi, s = sm.add_constant(g.normal(size=(60, 3))), g.normal(size=60), g.uniform(0.5, 2, size=60)
    expected = sm.WLS(psi, Z, weights=s).fit(cov_type="HC2", use_t=True)
    result = project(Z, psi, s)
    assert result.coefficients == pytest.approx(expected.params)
    assert result.covariance() == pytest.approx(expected.cov_params())
    value = result.coefficient(2)
    assert (value.low, value.high) == pytest.approx(tuple(expected.conf_int()[2]))
    assert value.p == pytest.approx(expected.pvalues[2])
    test, wald = result.test(np.eye(4)[1:]), expected.f_test(np.eye(4)[1:])
    assert (test.f, test.p) == pytest.approx((float(wald.fvalue), float(wald.pvalue))) and test.df == (3, 56)
    difference = result.contrast(np.array([0, 1, -1, 0]))
    assert difference.se == pytest.approx(float(expected.t_test([0, 1, -1, 0]).sd[0, 0]))


def test_with_clusters_influences_are_summed_within_them() -> None:
    g = np.random.default_rng(0)
    Z, psi, groups = sm.add_constant(g.normal(size=(40, 1))), g.normal(size=40), np.arange(40) // 4
    result = project(Z, psi, np.ones(40), groups)
    total = np.zeros((2, 2))
    for k in range(10):
        summed = sum(result.influence[i] for i in range(40) if groups[i] == k)
        total += np.outer(summed, summed)
    assert result.covariance() == pytest.approx(total * 10 / 9) and result.df == 9
    inside = groups < 3
    mean = project(inside[:, None].astype(np.float64), psi, np.ones(40), groups).mean(
        0, inside, Z[:, 1] > 0, np.ones(40)
    )
    sums = [(psi[groups == k] - psi[inside].mean()).sum() / np.sqrt(1 - 1 / 12) / 12 for k in range(3)]
    assert mean.se == pytest.approx(np.linalg.norm(sums) * np.sqrt(3 / 2))
    assert mean.high - mean.effect == pytest.approx(mean.se * student.ppf(0.975, 2))
    few = project(Z, psi, np.ones(40), np.arange(40) // 20)
    assert np.isnan(few.test(np.eye(2)).p)  # two clusters, two coefficients


# ---------------------------------------- groups


def test_groups_are_levels_few_values_or_bins() -> None:
    frame = pd.DataFrame({"w": ["b", "a"] * 20, "few": [3, 1, 3, 2] * 10, "many": np.arange(40) / 10})
    X, t = Covariates.of(frame), np.arange(40) // 4 % 2 == 0
    words = grouped(X, "w", t, bins=4)
    assert words.names == ("a", "b") and (words.of == np.tile([1, 0], 20)).all()
    few = grouped(X, "few", t, bins=2)
    assert few.names == ("1", "2", "3") and (few.of == np.tile([2, 0, 2, 1], 10)).all()
    many = grouped(X, "many", t, bins=4)
    assert many.names == ("below 1", "1 to 2", "2 to 3", "3 or more")
    assert [int((many.of == k).sum()) for k in range(4)] == [10] * 4
    assert many.indicators().sum(1).tolist() == [1.0] * 40


def test_bins_have_short_names_that_divide_the_rows_rightly() -> None:
    g = np.random.default_rng(0)
    x, t = g.normal(size=200) * 1000, np.arange(200) % 2 == 0
    found = grouped(Covariates.of(x), "x0", t, bins=5)
    ends = [float(name.split()[0]) for name in found.names[1:]]
    assert found.names[0] == f"below {ends[0]:g}" and all(len(f"{abs(end):g}") <= 5 for end in ends)
    assert (found.of == [sum(value >= end for end in ends) for value in x]).all()
    assert np.bincount(found.of).tolist() == [40] * 5


def test_groups_that_tell_nothing_are_refused() -> None:
    x = np.r_[np.zeros(90), np.arange(10)]
    t = np.arange(100) % 2 == 0
    with pytest.raises(UserError, match="--by x0: its bins leave one group: use more --bins"):
        grouped(Covariates.of(x), "x0", t, bins=2)
    levels = Covariates.of(pd.DataFrame({"w": [f"w{k % 21}" for k in range(2100)]}))
    with pytest.raises(UserError, match="--by w: it has 21 levels: join some, 20 at most"):
        grouped(levels, "w", np.arange(2100) % 2 == 0, bins=4)
    with pytest.raises(UserError, match="--by x0: 1 has fewer than two treated or two untreated"):
        grouped(Covariates.of(np.repeat([0.0, 1.0], 50)), "x0", np.r_[t[:50], np.ones(50, bool)], bins=4)


def test_in_a_trial_the_effect_of_a_group_is_the_difference_of_its_means(tmp_path: Path) -> None:
    """Exactly so, where the models know the group alone and are not cross-fitted."""
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"w": np.repeat(["a", "b", "c"], [40, 50, 60]), "t": g.integers(0, 2, size=150)})
    frame["y"] = g.normal(size=150) + frame.t * frame.w.map({"a": 0, "b": 1, "c": 5})
    found = conditional_effects(study_of(frame, tmp_path, ["w"]), ["w"], models=Models(folds=0))
    means = frame.groupby(["w", "t"]).y.mean()
    effects = [means[w, 1] - means[w, 0] for w in "abc"]
    assert [group.effect.effect for group in found.by[0].groups] == pytest.approx(effects)
    assert [group.n_treated for group in found.by[0].groups] == frame.groupby("w").t.sum().tolist()
    for group, w in zip(found.by[0].groups, "abc", strict=True):
        arms = [frame.y[(frame.w == w) & (frame.t == arm)] for arm in (0, 1)]
        welch = np.sqrt(sum(arm.var() / len(arm) for arm in arms))
        assert group.effect.se == pytest.approx(welch, rel=0.03)  # n - 1 of the group instead of the arm
    assert found.by[0].equal.p < 1e-6


def test_equal_effects_are_tested_by_the_wald_statistic(tmp_path: Path) -> None:
    found = conditional_effects(study_of(simulated(600), tmp_path), ["sex", "age"], models=ONCE)
    for by, n in zip(found.by, (600, 600), strict=True):
        effects = np.array([group.effect.effect for group in by.groups])
        variances = np.diag([group.effect.se**2 for group in by.groups])
        R = np.eye(len(effects))[1:] - np.eye(len(effects))[0]
        q = len(R)
        statistic = float(R @ effects @ np.linalg.solve(R @ variances @ R.T, R @ effects)) / q
        assert by.equal.f == pytest.approx(statistic)
        assert by.equal.p == pytest.approx(fisher.sf(statistic, q, n - len(effects)))


# ---------------------------------------- a known effect


def test_a_known_effect_is_found(tmp_path: Path) -> None:
    found = conditional_effects(study_of(simulated(3000), tmp_path), ["age", "sex"])
    bins = found.by[0].groups
    frame = pd.read_csv(tmp_path / "study.csv")
    true = (1 + 2 * (frame.age - 40) / 10).groupby(pd.qcut(frame.age, 4, labels=False)).mean()
    for group, effect in zip(bins, true, strict=True):
        assert abs(group.effect.effect - effect) < 4 * group.effect.se < 0.6
    slope, sex, mean = found.linear["age"], found.linear["sex=m"], found.linear["at the mean"]
    assert abs(slope.effect - 0.2) < 4 * slope.se < 0.05 and abs(sex.effect) < 4 * sex.se
    assert abs(mean.effect - found.all.effect.effect) < 1e-9
    assert found.by[0].equal.p < 1e-9 < 0.001 < found.by[1].equal.p
    fifths = [group.effect.effect for group in found.parts]
    assert fifths == sorted(fifths) and found.ranking.difference.low > 4
    assert abs(found.ranking.slope.effect - 1) < 4 * found.ranking.slope.se < 0.3
    for group in found.parts:
        assert abs(group.predicted - group.effect.effect) < 4 * group.effect.se


@pytest.mark.slow
def test_no_differences_are_found_where_there_are_none(tmp_path: Path) -> None:
    """Of twenty studies with one effect, the tests reject few."""
    p = []
    for seed in range(20):
        found = conditional_effects(study_of(simulated(200, seed, gain=0), tmp_path), ["age"], models=ONCE)
        p.append((found.by[0].equal.p, found.flat.p, found.ranking.difference.p, found.ranking.slope.p))
    assert ((np.array(p) < 0.05).sum(0) <= 3).all()


@pytest.mark.slow
def test_the_intervals_of_groups_cover() -> None:
    inside = []
    for seed in range(100):
        frame = simulated(240, seed)
        X, t, woman = Covariates.of(frame[["age", "sex", "c"]]), frame.t.to_numpy() == 1, (frame.sex == "f").to_numpy()
        psi = AIPW("ATE", repeats=1).fit(X, t, frame.y).pseudo_outcomes_
        mean = project(woman[:, None].astype(np.float64), psi, np.ones(240)).mean(0, woman, t, np.ones(240))
        inside.append(mean.low < 1 < mean.high)
    assert 0.88 < np.mean(inside) < 1


def test_a_step_is_ranked_by_boosting_and_not_by_a_line(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    x, t = g.uniform(-1, 1, size=(1500, 2)), g.integers(0, 2, size=1500)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t})
    frame["y"] = 4 * t * (np.abs(frame.a) > 0.5) + g.normal(size=1500)
    study = study_of(frame, tmp_path, ["a", "b"])
    boost, line = (conditional_effects(study, ["a"], learner=learner, models=ONCE) for learner in ("boost", "linear"))
    assert boost.ranking.difference.low > 2.5 > 2 > line.ranking.difference.effect


# ---------------------------------------- the ranking


def test_units_are_ranked_by_the_folds_before_their_own() -> None:
    x, t, y = varied(120)
    X, s = Covariates.of(x), np.ones(120)
    before, fold = predicted_effects(X, t, y, s, None, "linear", models=ONCE)
    assert np.bincount(fold).tolist() == [24] * 5 and (np.isnan(before) == (fold < 2)).all()
    changed = y.copy()
    changed[np.flatnonzero(fold == 2)[5]] += 100
    after, same_fold = predicted_effects(X, t, changed, s, None, "linear", models=ONCE)
    assert (fold == same_fold).all()
    assert after[fold < 3] == pytest.approx(before[fold < 3], nan_ok=True)
    assert (np.abs(after - before)[fold > 2] > 1e-3).all()


def test_fifths_are_those_of_each_fold() -> None:
    g = np.random.default_rng(0)
    psi, effects, fold = g.normal(size=200), g.normal(size=200), np.arange(200) % 4
    effects = effects + 10 * fold  # models of folds may differ in level
    t, s = np.arange(200) // 4 % 2 == 0, g.uniform(0.5, 2, size=200)
    result = ranked(psi, effects, fold, t, s)
    part = np.empty(200, int)
    for k in range(4):
        rows = np.flatnonzero(fold == k)
        for place, row in enumerate(rows[np.argsort(effects[rows])]):
            part[row] = place // 10
    assert (result.parts == part).all()
    for k in range(5):
        assert result.groups[k].effect == pytest.approx(np.average(psi[part == k], weights=s[part == k]))
        assert result.predicted[k] == pytest.approx(np.average(effects[part == k], weights=s[part == k]))
    centred = effects.copy()
    for k in range(4):
        centred[fold == k] -= np.average(effects[fold == k], weights=s[fold == k])
    slope = sm.WLS(psi, sm.add_constant(centred), weights=s).fit(cov_type="HC2", use_t=True)
    assert (result.slope.effect, result.slope.se) == pytest.approx((slope.params[1], slope.bse[1]))
    ends = [sm.WLS(psi[part == k], np.ones(40), weights=s[part == k]).fit(cov_type="HC2") for k in (0, 4)]
    assert result.difference.effect == pytest.approx(ends[1].params[0] - ends[0].params[0])
    assert result.difference.se == pytest.approx(np.hypot(ends[0].bse[0], ends[1].bse[0]))


def test_equal_predictions_are_in_one_part() -> None:
    psi, fold = np.random.default_rng(0).normal(size=100), np.zeros(100, int)
    effects, t = np.repeat([0.0, 1.0], [70, 30]) + 1e-15 * np.arange(100), np.arange(100) % 2 == 0
    result = ranked(psi, effects, fold, t, np.ones(100))
    assert np.bincount(result.parts).tolist() == [70, 0, 0, 30]
    with pytest.raises(UserError, match="a fifth of the units by predicted effect is in one cluster"):
        ranked(psi, effects, fold, t, np.ones(100), np.where(effects > 0.5, 0, np.arange(100)))
    with pytest.raises(UserError, match="a fifth of the units by predicted effect has fewer than two of an arm"):
        ranked(psi, effects, fold, effects > 0.5, np.ones(100))
    with pytest.raises(UserError, match="the learner finds no differences"):
        ranked(psi, np.ones(100), fold, t, np.ones(100))


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    frame = simulated(300)
    one = conditional_effects(study_of(frame, tmp_path), ["age"])
    other = conditional_effects(study_of(frame.sample(frac=1, random_state=0), tmp_path), ["age"])
    assert flat(other) == pytest.approx(flat(one))


def flat(found: ConditionalEffects) -> list[float]:
    values = [found.all.effect, *(g.effect for b in found.by for g in b.groups), *(g.effect for g in found.parts)]
    return [number for value in [*values, *found.linear.values()] for number in dataclasses.astuple(value)]


# ---------------------------------------- refusals, the forest, the command


def test_what_cannot_be_answered_is_refused(tmp_path: Path) -> None:
    study = study_of(simulated(200), tmp_path, ["age", "c"])
    for by, says in (
        ([], "no columns: name with --by"),
        (["y"], "--by y: not one of the covariates: adjust for it too"),
        (["agee"], r"--by: .*study.csv has no column 'agee', did you mean 'age'\? \(the covariates: age, c\)"),
        ("age", r"by must be a list of names, not 'age': give \['age'\]"),
    ):
        with pytest.raises(UserError, match=says):
            conditional_effects(study, by)
    with pytest.raises(UserError, match="no outcome: name the column"):
        conditional_effects(dataclasses.replace(study, Y=None, outcome=None), ["age"])
    unknown: Any = "tree"
    with pytest.raises(UserError, match="unknown learner 'tree'"):
        conditional_effects(study, ["age"], learner=unknown)
    frame = simulated(200)
    frame["site"] = np.where(frame.sex == "f", 0, np.arange(200))
    with pytest.raises(UserError, match="--by sex: all units of f are in one cluster"):
        conditional_effects(study_of(frame, tmp_path), ["sex"], cluster="site", models=Models(folds=0))
    x, t, y = varied(40)
    pd.DataFrame({"t": t.astype(int), "y": y}).to_csv(tmp_path / "t.csv", index=False)
    np.savez(tmp_path / "z.npz", features=x)
    features = read(
        str(tmp_path / "t.csv"),
        treatment="t",
        outcome="y",
        covariates=[f"{tmp_path / 'z.npz'}"],
        form=Form(components=2),
    )
    with pytest.raises(UserError, match="a file of features has no groups"):
        conditional_effects(features, [f"{tmp_path / 'z.npz'}"])


def test_units_whose_number_is_missing_are_a_group(tmp_path: Path) -> None:
    frame = simulated(400)
    gaps = np.arange(400) % 4 == 0
    frame["age"] = frame.age.where(~gaps)
    frame["c"] = frame.c.where(~gaps)  # shares the indicator of age
    frame.to_csv(tmp_path / "t.csv", index=False)
    how: Any = {"treatment": "t", "outcome": "y", "covariates": ["age", "sex", "c"]}
    study = read(str(tmp_path / "t.csv"), form=Form(incomplete="indicator", moments=2), **how)
    found = conditional_effects(study, ["age", "c"], bins=3, models=ONCE)
    for by in found.by:
        *seen, missing = by.groups
        assert missing.name == "(missing)" and missing.n_treated == frame.t[gaps].sum()
        assert [group.n_treated + group.n_untreated for group in seen] == pytest.approx([100] * 3, abs=5)
    assert [*found.linear] == ["at the mean", "age", "c"]


def test_a_column_that_a_formula_has_in_terms_alone_is_refused(tmp_path: Path) -> None:
    simulated(100).to_csv(tmp_path / "t.csv", index=False)
    for formula, refused in (("sex + I(age**2)", True), ("sex + age + I(age**2)", False)):
        study = read(str(tmp_path / "t.csv"), treatment="t", outcome="y", form=Form(formula=formula))
        if refused:
            with pytest.raises(UserError, match=r"--by age: the formula has it in I\(age \*\* 2\) alone"):
                conditional_effects(study, ["age"], models=ONCE)
        else:
            assert len(conditional_effects(study, ["age"], models=ONCE).by[0].groups) == 4


def test_groups_of_few_units_are_remarked_on(tmp_path: Path) -> None:
    frame = simulated(150)
    frame["rare"] = np.arange(150) % 15 == 0
    found = conditional_effects(study_of(frame, tmp_path, ["age", "rare"]), ["rare"], models=ONCE)
    assert any(remark.startswith("rare: 1: fewer than 10 of an arm") for remark in found.remarks)


@pytest.mark.skipif(find_spec("econml") is not None, reason="econml is installed")
def test_without_econml_the_forest_says_what_to_install(tmp_path: Path) -> None:
    found = conditional_effects(study_of(simulated(200), tmp_path), ["age"], learner="forest")
    assert found.ranking is None and found.refusal.endswith("pip install 'contrastkit[econml]'") and found.parts == ()


class Forest:
    """What is asked of econml's, whose effect is the first column."""

    def __init__(self, *, model_y: Any, model_t: Any, discrete_treatment: bool, cv: int, random_state: int) -> None:
        assert discrete_treatment and cv == 5 and random_state == 0
        self.models = model_y, model_t

    def fit(self, Y: Any, T: Any, *, X: Any, sample_weight: Any, groups: Any) -> None:
        assert set(T) == {0, 1} and len(Y) == len(X) and sample_weight is None and groups is None
        assert not np.isnan(self.models[0].fit(X, Y).predict(X)).any()
        assert self.models[1].fit(X, T).predict_proba(X).shape == (len(X), 2)

    def effect(self, X: Any) -> Any:
        return X[:, :1]


def test_the_forest_is_asked_for_units_that_it_has_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without econml: its part is played by a class of the same signature."""
    monkeypatch.setitem(sys.modules, "econml", types.ModuleType("econml"))
    monkeypatch.setitem(sys.modules, "econml.dml", types.SimpleNamespace(CausalForestDML=Forest))
    found = conditional_effects(study_of(simulated(300), tmp_path), ["age"], learner="forest", models=ONCE)
    assert found.ranking.difference.low > 2
    age = pd.read_csv(tmp_path / "study.csv").age
    assert np.corrcoef(found.effects, age)[0, 1] == pytest.approx(1)


def test_econmls_forest_finds_a_known_effect(tmp_path: Path) -> None:
    pytest.importorskip("econml", reason="econml is not installed")
    found = conditional_effects(study_of(simulated(1000), tmp_path), ["age"], learner="forest", models=ONCE)
    assert found.ranking.difference.low > 2


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_of(simulated(400), tmp_path)
    given: list[Any] = [
        "causal", "effects", f"--data={tmp_path / 'study.csv'}", "--treatment=t", "--outcome=y",
        "--covariates=age,sex,c", "--by=age,sex",
    ]  # fmt: skip
    report, out, plot = (tmp_path / name for name in ("r.json", "e.csv", "e.png"))
    assert main([*given, f"--json={report}", f"--out={out}", f"--plot={plot}"]) == 0
    printed = capsys.readouterr().out
    found = read_report("causal-effects", report)
    assert [by["column"] for by in found["by"]] == ["age", "sex"] and len(found["ranking"]["rows"]) == 5
    assert "equal effects: F(3, 396) = " in printed and "fifths by predicted effect (linear)" in printed
    effects = pd.read_csv(out)
    age = pd.read_csv(tmp_path / "study.csv").age
    assert len(effects) == 400 and np.corrcoef(effects.effect, age)[0, 1] > 0.8
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main([*given, "--learner=forest", f"--out={tmp_path / 'no.csv'}"]) == (0 if find_spec("econml") else 2)
    assert find_spec("econml") or not (tmp_path / "no.csv").exists()
    assert main([*given, "--learner=forest", f"--json={report}"]) == 0
    assert find_spec("econml") or read_report("causal-effects", report)["ranking"] is None
