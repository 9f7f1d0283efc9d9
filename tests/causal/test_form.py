"""What becomes of columns: factors, missing values, powers, products and formulas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from contrastkit.causal.estimate import Regression
from contrastkit.causal.form import Form
from contrastkit.causal.study import Study, read
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.incomplete import drop_incomplete, with_indicators
from contrastkit.tables.terms import of_formula, with_terms


@pytest.fixture
def frame() -> pd.DataFrame:
    g = np.random.default_rng(0)
    n = 300
    frame = pd.DataFrame({"age": g.integers(20, 70, n), "income": g.gamma(2.0, size=n), "zip": g.integers(1, 5, n)})
    frame["city"] = g.choice(["Ulm", "Bonn", "Kiel"], n)
    frame["t"] = (g.uniform(size=n) < 0.3 + 0.4 * (frame.city == "Ulm")).astype(int)
    frame["y"] = frame.t + 0.1 * frame.age + (frame.city == "Bonn") * frame.income + g.normal(size=n)
    return frame


@pytest.fixture
def study(frame: pd.DataFrame, tmp_path: Path) -> Any:
    """Reads the table, as changed by a function, in a form."""

    def read_it(covariates: list[str], change: Any = lambda frame: frame, **form: Any) -> Study:
        change(frame).to_csv(tmp_path / "t.csv", index=False)
        return read(str(tmp_path / "t.csv"), treatment="t", outcome="y", covariates=covariates, form=Form(**form))

    return read_it


def effect(study: Study) -> float:
    return Regression().fit(study.X, study.T, study.outcomes()).effect_


@pytest.mark.parametrize(
    ("formula", "form"),
    [
        ("age + C(zip)", {"covariates": ["age", "zip"], "categorical": ["zip"]}),
        ("age + I(age**2) + income + I(income**2)", {"covariates": ["age", "income"], "moments": 2}),
        ("(age + income + C(city))**2", {"covariates": ["age", "income", "city"], "interactions": True}),
    ],
)
def test_terms_adjust_as_those_of_statsmodels(
    formula: str, form: dict[str, Any], study: Any, frame: pd.DataFrame
) -> None:
    """All three against the coefficient of t in a least-squares fit of the formula by statsmodels (patsy)."""
    expected = smf.ols(f"y ~ t + {formula}", frame).fit().params["t"]
    assert effect(study(**form)) == pytest.approx(expected, rel=1e-8)
    assert effect(study([], formula=formula)) == pytest.approx(expected, rel=1e-8)
    assert effect(study([], formula=f"~ {formula}")) == pytest.approx(expected, rel=1e-8)


def test_what_a_covariate_becomes_goes_with_it(study: Any) -> None:
    """refute --without and match --exact know a column by its name, with all that is made of it."""
    gap = {"change": lambda frame: frame.assign(income=frame.income.mask(frame.age > 60))}
    found = study(["age", "income", "city"], **gap, incomplete="indicator", moments=2, interactions=True)
    assert set(found.covariates["age"]) > {"age", "age^2", "age * income"}
    assert set(found.covariates["income"]) > {"income", "income missing", "income^2", "age * income"}
    assert {origin for own in found.covariates.values() for origin in own} == set(found.X.origins)
    assert "city=Kiel * age" not in found.X.names and "age * city=Kiel" in found.X.names
    by_formula = study([], formula="age + age:C(city)")
    assert by_formula.covariates["city"] == by_formula.covariates["age"][1:] == by_formula.X.names[1:]


def test_powers_and_products_are_those_of_loops() -> None:
    g = np.random.default_rng(2)
    x = np.column_stack([g.normal(size=20), g.integers(0, 2, 20), g.normal(size=20)])
    X, parents, notices = with_terms(Covariates(x, ("a", "b", "c"), ("a", "b", "c")), moments=3, interactions=True)
    assert X.names == ("a", "b", "c", "a^2", "a^3", "c^2", "c^3", "a * b", "a * c", "b * c") and notices == []
    assert parents["a * b"] == ("a", "b") and parents["a^2"] == ("a",)
    for i in range(20):
        a, b, c = x[i]
        expected = [a, b, c, a * a, a * a * a, c * c, c * c * c, a * b, a * c, b * c]
        np.testing.assert_allclose(X.x[i], expected, rtol=1e-14)


def test_few_rows_determine_the_later_terms() -> None:
    x = np.array([[1.0, 3.0], [2.0, 5.0], [4.0, 4.0], [7.0, 2.0]])
    X, _, notices = with_terms(Covariates(x, ("a", "c"), ("a", "c")), moments=2, interactions=True)
    assert X.names == ("a", "c", "a^2") and notices[0].startswith("2 terms are left out")


def test_products_within_a_factor_are_none() -> None:
    X = Covariates.of(pd.DataFrame({"c": list("abcabcab"), "x": [1.0, 2, 3, 4, 5, 6, 7, 9]}))
    with_products, _, notices = with_terms(X, interactions=True)
    assert with_products.names == (*X.names, "c=b * x", "c=c * x") and notices == []


def test_a_term_that_others_determine_is_left_out() -> None:
    g = np.random.default_rng(1)
    a = g.normal(size=100)
    u = (g.uniform(size=100) < 0.5).astype(float)
    v = np.where(u == 1, 0.0, g.integers(0, 2, 100))  # never both
    w = np.where(u == 1, 1.0, g.integers(0, 2, 100))  # wherever u is
    names = ("a", "u", "v", "w")
    X, _, notices = with_terms(Covariates(np.column_stack([a, u, v, w]), names, names), interactions=True)
    assert X.names == (*names, "a * u", "a * v", "a * w", "v * w")
    assert notices == ["2 terms are left out, which others determine: u * v, u * w"]


def test_a_missing_number_is_the_mean_with_an_indicator_and_a_missing_word_a_level() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0, 8.0], "b": [np.nan, 2.0, 2.0, 5.0], "c": ["x", None, "y", "x"]})
    frame["d"] = [4.0, np.nan, 5.0, 6.0]  # as a is
    filled, indicated, notices = with_indicators(frame)
    assert filled.a.tolist() == [1, 4, 3, 8] and filled.b.tolist() == [3, 2, 2, 5] and filled.d.tolist() == [4, 5, 5, 6]
    assert filled.c.tolist() == ["x", "(missing)", "y", "x"]
    assert indicated == {"a missing": "a", "b missing": "b"}
    assert filled["a missing"].tolist() == [0, 1, 0, 0] and filled["b missing"].tolist() == [1, 0, 0, 0]
    assert notices[0] == "a: 1 of 4 values are missing: filled by the mean; 'a missing' says where"
    assert "'a missing' says where" in notices[3] and "a level (missing) of their own" in notices[2]


def test_the_choice_of_what_fills_a_gap_does_not_move_the_effect(study: Any, frame: pd.DataFrame) -> None:
    gaps = frame.age > 60
    found = effect(
        study(["age", "income"], lambda frame: frame.assign(income=frame.income.mask(gaps)), incomplete="indicator")
    )
    other = frame.assign(income=frame.income.mask(gaps).fillna(-77.0), gap=gaps.astype(int))
    assert found == pytest.approx(smf.ols("y ~ t + age + income + gap", other).fit().params["t"], rel=1e-9)


def test_complete_cases_are_counted_over_all_columns_that_are_used(study: Any, frame: pd.DataFrame) -> None:
    def gaps(frame: pd.DataFrame) -> pd.DataFrame:
        holes = frame.astype({"y": float, "t": float, "age": float})
        holes.loc[:4, "y"], holes.loc[3:9, "age"], holes.loc[299, "t"] = np.nan, np.nan, np.nan
        holes.loc[20, "zip"] = np.nan  # which is not used
        return holes

    found = study(["age", "income"], gaps, incomplete="drop")
    assert len(found.T) == 300 - 11 and (found.frame.index == [*range(10, 299)]).all()
    assert found.notices == ("11 of 300 rows lack a value and are left out (missing: t 1, y 5, age 7)",)
    whole = frame.drop(index=[*range(10), 299])
    assert effect(found) == pytest.approx(smf.ols("y ~ t + age + income", whole).fit().params["t"], rel=1e-9)
    assert drop_incomplete(frame, ["age"])[1] == []
    with pytest.raises(UserError, match="t: 1 of 300 values are missing"):
        study(["age", "income"], gaps)
    with pytest.raises(UserError, match="t: 1 of 300 values are missing"):
        study(["age", "income"], gaps, incomplete="indicator")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--covariates=zip"], ["zip"]),
        (["--covariates=zip", "--categorical=zip"], ["zip=1", "zip=2", "zip=3", "zip=4"]),
        (["--covariates=age,income", "--moments=2"], ["age", "income", "age^2", "income^2"]),
        (["--covariates=age,income", "--interactions"], ["age", "income", "age * income"]),
        (["--formula=age + np.sqrt(income)"], ["age", "np.sqrt(income)"]),
        (["--covariates=hole", "--incomplete=drop"], ["hole"]),
        (["--covariates=hole", "--incomplete=indicator"], ["hole", "hole missing"]),
    ],
)
def test_each_option_reaches_the_covariates(
    options: list[str], names: list[str], frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.assign(hole=frame.age.mask(frame.income < 0.5)).to_csv(tmp_path / "t.csv", index=False)
    table = [f"--data={tmp_path / 't.csv'}", "--treatment=t", f"--json={tmp_path / 'x.json'}", "--by=none"]
    assert main(["causal", "balance", *table, *options]) in (0, 1)
    balance = json.loads((tmp_path / "x.json").read_text())
    assert balance["names"] == names
    said = {"drop": "rows lack a value and are left out", "indicator": "'hole missing' says where"}
    if "hole" in options[0]:
        assert said[options[1].partition("=")[2]] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--formula=age +"], "--formula age +: Operator"),
        (["--formula=y ~ age"], "give the right-hand side alone"),
        (["--formula=1"], "it names no column"),
        (["--formula=age + hight"], "has no column 'hight'"),
        (["--formula=age + t"], "'t' is used twice"),
        (["--formula=np.log(age - 20)"], r"np.log(age - 20) is not a finite number"),
        (["--formula=age", "--covariates=age"], "name the columns in one of them"),
        (["--formula=age", "--moments=2"], "--formula says what becomes of each column"),
        (["--formula=frame"], "has no column 'frame'"),
        (
            ["--covariates=age", "--categorical=aeg"],
            "--categorical aeg is no column among the covariates, did you mean",
        ),
        (["--covariates=age", "--moments=0"], "--moments"),
        (["--covariates=age", "--incomplete=guess"], "--incomplete"),
    ],
)
def test_a_form_that_cannot_be_is_one_line(
    options: list[str], says: str, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = [f"--data={tmp_path / 't.csv'}", "--treatment=t", "--outcome=y"]
    assert main(["causal", "balance", *table, *options]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("error:") == 1


def test_a_formula_knows_no_names_of_the_program(frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="`variables` is not present"):
        of_formula(frame, "age + variables")
