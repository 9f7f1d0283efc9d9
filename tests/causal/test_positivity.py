"""What separates the arms, against all subsets and grids of directions."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.effects import estimate_effects
from contrastkit.causal.positivity import one_sided, separating_direction, why_separated
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import read
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates, check_independent


def town(n: int = 300) -> pd.DataFrame:
    """Three untreated people of Ulm; the effect is 2."""
    g = np.random.default_rng(0)
    x = g.normal(size=n)
    t = (g.uniform(size=n) < 1 / (1 + np.exp(-x))).astype(int)
    city = g.choice(["Bonn", "Kiel"], n).astype(object)
    city[np.flatnonzero(t == 0)[:3]] = "Ulm"
    frame = pd.DataFrame({"age": x, "city": city, "married": g.integers(0, 2, n)})
    return frame.assign(t=t, y=2 * t + x + g.normal(size=n))


def test_one_sided_levels_are_those_that_a_cross_table_has_a_zero_for() -> None:
    g = np.random.default_rng(1)
    for _ in range(10):
        frame = pd.DataFrame({"city": g.choice(list("abcdef"), 30), "sex": g.integers(0, 2, 30)})
        frame["age"] = g.normal(size=30)
        frame["rare"] = (g.uniform(size=30) < 0.1).astype(int)
        frame["usual"] = 1 - frame.rare
        t = g.uniform(size=30) < 0.5
        expected = set()
        for name in ("city", "sex", "rare", "usual"):
            table = pd.crosstab(frame[name], t).reindex(columns=[False, True], fill_value=0)
            expected |= {(name, str(v), int(r.sum()), bool(r[True])) for v, r in table.iterrows() if 0 in r.to_numpy()}
        found = one_sided(Covariates.of(frame), t)
        assert {(level.column, level.level, level.rows, level.treated) for level in found} == expected


def separates(x: np.ndarray, t: np.ndarray) -> bool:
    """Whether a direction of a fine grid separates some units and puts none on the wrong side, for two columns."""
    angles = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    score = x @ np.stack([np.cos(angles), np.sin(angles)])
    return bool((score[t].min(0) >= score[~t].max(0) - 1e-12).any())


def test_a_separating_direction_is_found_where_a_grid_has_one() -> None:
    g = np.random.default_rng(2)
    counts = [0, 0]
    for k in range(60):
        x = g.normal(size=(12, 2))
        t = x @ g.normal(size=2) + (k % 3) * 0.4 * g.normal(size=12) > 0
        if min(t.sum(), (~t).sum()) < 2:
            continue
        b, units = separating_direction(x, t)
        assert (units > 0) == separates(x, t)
        counts[units > 0] += 1
        if units:
            score = ((x - x.mean(0)) / x.std(0)) @ b
            assert score[t].min() >= score[~t].max() - 1e-6 and np.abs(b).sum() <= 1 + 1e-9
    assert min(counts) > 10


def test_partial_separation_counts_the_units_that_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a line x + z = 1 both arms are met; above it all are treated, below it none. With many rows, in steps."""
    g = np.random.default_rng(3)
    x = g.normal(size=(3000, 4))
    side = np.sign(x[:, 1] + x[:, 2] - 1)
    t = np.where(side == 0, g.uniform(size=3000) < 0.5, side > 0)
    on = g.permutation(3000)[:500]
    x[on, 2] = 1 - x[on, 1]
    t[on] = g.uniform(size=500) < 0.5
    t[[*on[:2]]] = [True, False]
    for rows in (100, 10_000):
        monkeypatch.setattr("contrastkit.causal.positivity.ROWS", rows)
        b, units = separating_direction(x, t)
        assert units == 2500 and np.abs(b[[0, 3]]).max() < 1e-6
        assert b[1] / x.std(0)[1] == pytest.approx(b[2] / x.std(0)[2])
    told = why_separated(Covariates.of(x), t)
    assert "x1, x2 together tell the arm of at least 2,500 of 3,000 units" in told or "x2, x1 together" in told


def test_the_reason_names_columns_and_an_advice_that_helps() -> None:
    frame = town()
    t = frame.t.to_numpy() == 1
    X = Covariates.of(frame[["age", "city", "married"]])
    with pytest.raises(UserError) as error:
        Propensity().fit(X, t)
    assert str(error.value) == (
        "perfect separation by city=Ulm (3 rows, none treated): leave city out of the covariates, or these rows by "
        "--rows 'city!=Ulm'"
    )
    Propensity().fit(frame[["age", "married"]], t)
    rest = frame[frame.city != "Ulm"]
    Propensity().fit(rest[["age", "city", "married"]], rest.t)
    far = Covariates.of(frame.assign(age=np.where(t, 4, 3) + 2 * frame.married)[["age", "married"]])
    told = why_separated(far, t)
    assert told.startswith("perfect separation: ") and told.endswith(": leave one of them out of the covariates")
    assert "age, married together tell the arm of at least" in told
    near = Covariates.of(frame.assign(age=np.where(t, 60, 40) + frame.age)[["age"]])
    told = why_separated(near, t)
    assert "perfect separation by age, at most 41.7607 " in told and told.endswith("leave age out of the covariates")
    inside = np.column_stack([frame.married, np.where(t, 1.5, 0.1) * np.sign(frame.age)])
    assert "x1 tells the arm of at least 300 of 300 units" in why_separated(
        Covariates.of(inside), t
    )  # known to a tree alone


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["ATT", "ATE", "ATC"])
def test_every_estimator_that_can_answer_does(estimand, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    town(150).to_csv(tmp_path / "t.csv", index=False)
    study = read(str(tmp_path / "t.csv"), treatment="t", outcome="y", covariates=["age", "city", "married"])
    effects = estimate_effects(study, estimand=estimand)
    answered = {row.name: row for row in effects.estimates}
    assert {"naive", "ols", "matching"} | {"ATT": {"oaxaca", "entropy", "arb"}}.get(estimand, set()) <= answered.keys()
    for name in ("ols", "matching"):
        assert abs(answered[name].effect - 2) < 4 * answered[name].se < 1.5
    assert all(not np.isinf(row.smd) for row in effects.estimates)  # no infinite difference of Ulm's
    assert any("city=Ulm (3 rows, none treated)" in reason for reason in effects.refusals)
    assert all("Ulm" in reason for reason, names in effects.refusals.items() if "aipw" not in names)
    assert sum(map(len, effects.refusals.values())) + len(answered) == len(effects.rows)
    given = [f"--data={tmp_path / 't.csv'}", "--treatment=t", "--outcome=y", "--covariates=age,city,married"]
    assert main(["causal", "estimate", *given, f"--estimand={estimand}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("city=Ulm (3 rows, none treated)") == 1  # for all estimators together
    assert main(["causal", "estimate", *given, f"--estimand={estimand}", "--rows=city!=Ulm"]) == 0
    assert "Ulm" not in capsys.readouterr().out


def test_no_subset_of_columns_is_needed_to_see_that_nothing_separates() -> None:
    g = np.random.default_rng(5)
    x = np.column_stack([g.normal(size=(80, 2)), g.integers(0, 2, (80, 2))])
    t = g.uniform(size=80) < 0.5
    check_independent(Covariates.of(x))
    for size in (1, 2, 3, 4):
        for columns in itertools.combinations(range(4), size):
            assert separating_direction(x[:, columns], t)[1] == 0
