"""Properties of every estimator."""

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.effects import estimate_effects
from contrastkit.causal.estimate import (
    Matched,
)
from contrastkit.causal.matching import Matching
from contrastkit.causal.study import Study
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.causal.simulated import varied, world


def test_what_is_done_for_the_treated_is_done_for_the_others() -> None:
    x, t, y = world(400)
    for name in ("oaxaca", "matching", "ipw", "entropy", "arb", "dcb", "aipw", "tlearner"):
        one = estimators("ATC")[name].fit(x, t, y)
        other = estimators("ATT")[name].fit(x, 1 - t, y)
        assert one.effect_ == pytest.approx(-other.effect_, rel=1e-6) and one.estimand_ == "ATC", name
        assert one.se_ == pytest.approx(other.se_, rel=1e-6, nan_ok=True)


@pytest.mark.slow
def test_every_estimator_finds_a_constant_effect_and_the_naive_one_does_not() -> None:
    x, t, y = world(4000)
    rows = {row.name: row for row in compare(x, t, y)} | {f"{r.name} all": r for r in compare(x, t, y, estimand="ATE")}
    assert not any(row.refused for row in rows.values())
    for name, row in rows.items():
        if name.startswith("naive"):
            assert row.effect > 2.4
        elif name.split()[0] in ("dcb", "tlearner"):  # without an error
            assert abs(row.effect - 2) < 0.2
        elif not name.startswith("strata"):  # five strata leave a tenth of the bias (Cochran 1968)
            assert abs(row.effect - 2) < 4 * row.se and row.se < 0.2, row


def test_the_table_of_all_has_the_bias_corrected_match() -> None:
    x, t, y = varied()
    row = next(row for row in compare(x, t, y) if row.name == "matching")
    result = Matched(Matching(metric="scaled")).fit(x, t, y)
    assert (
        row.effect == result.effect_ != Matched(Matching(metric="scaled"), bias_correction=False).fit(x, t, y).effect_
    )


def test_weights_that_leave_a_difference_are_remarked_on() -> None:
    """Where the first covariate separates the arms, by nine standard deviations, matching answers all the same."""
    g = np.random.default_rng(0)
    t = np.arange(300) % 2 == 1
    x = np.column_stack([g.normal(size=300) + 9 * t, g.normal(size=300)])
    rows = {row.name: row for row in compare(x, t, 2.3 * t + x[:, 0] + g.normal(size=300))}
    means = np.average(x[~t], axis=0, weights=estimators("ATT")["matching"].fit(x, t, x[:, 0]).weights_[~t])
    left = np.abs((x[t].mean(0) - means) / x[t].std(0, ddof=1)).max()
    assert left > 3 and rows["matching"].smd == pytest.approx(left)
    said = f"its weights leave a largest |SMD| of {left:.3g}, above 0.1: the arms still differ"
    assert any(remark.startswith(said) for remark in rows["matching"].remarks)
    x, t, y = world(400)
    for row in compare(x, t, y):
        assert any("largest |SMD|" in remark for remark in row.remarks) == (row.smd > 0.1), row


@pytest.mark.parametrize(
    "name", ["ols", "oaxaca", "matching", "strata", "ipw", "entropy", "arb", "dcb", "aipw", "dml", "tlearner"]
)
def test_units_and_origins_do_not_matter(name: str) -> None:
    x, t, y = varied()
    one = estimators("ATT")[name].fit(x, t, y)
    other = estimators("ATT")[name].fit(x * [1e-9, 1, 1e9] + [0, 1e6, 0], t, 1000 * y)
    assert other.effect_ == pytest.approx(1000 * one.effect_, rel=1e-5)
    assert other.se_ == pytest.approx(1000 * one.se_, rel=1e-5, nan_ok=True)


def test_nothing_is_written_to() -> None:
    x, t, y = world(300)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    before = frame.copy(), t.copy(), y.copy()
    list(compare(frame, t, y))
    pd.testing.assert_frame_equal(frame, before[0])
    assert (t == before[1]).all() and (y == before[2]).all()


def test_a_study_that_every_estimator_refuses_is_refused() -> None:
    x, t = np.arange(40.0)[:, None] % 7, np.arange(40) % 2
    study = Study(
        X=Covariates.of(x), T=t == 1, Y=t * 1.0, treatment="t", outcome="y", covariates={}, frame=pd.DataFrame(),
        source="",
    )  # fmt: skip
    with pytest.raises(UserError, match="no estimator takes this study; naive: with a mean outcome of 0 there is no r"):
        estimate_effects(study, measure="ratio")
