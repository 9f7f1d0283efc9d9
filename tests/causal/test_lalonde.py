"""Published figures on LaLonde's data."""

import math
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares, minimize
from scipy.special import expit

from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.estimate import (
    AIPW,
    DifferenceInMeans,
    Estimator,
    Matched,
    OaxacaBlinder,
    Regression,
    Weighted,
)
from contrastkit.causal.matching import Matching
from contrastkit.causal.study import read
from contrastkit.causal.weighting import (
    CovariateBalancing,
    EntropyBalancing,
    InverseProbability,
    OverIdentifiedBalancing,
)

DATA = Path(os.environ.get("CONTRASTKIT_DATA", "none"))


HERE = find_spec("causaldata") is not None or (DATA / "causal" / "lalonde" / "nsw_mixtape.csv").is_file()


@pytest.mark.skipif(not HERE, reason="LaLonde's data: neither causaldata nor CONTRASTKIT_DATA/causal/lalonde")
def test_the_figures_of_dehejia_and_wahbas_sample_with_cps_controls() -> None:
    """Imbens & Xu 2024, Table B1, and values recomputed independently, to the cent."""
    trial, study = (read(name, outcome="re78", data_dir=DATA) for name in ("lalonde-trial", "lalonde"))
    assert trial.Y is not None and study.Y is not None and study.truth == pytest.approx(1794.34, abs=0.005)
    truth = DifferenceInMeans().fit(trial.X, trial.T, trial.Y)
    assert (round(truth.effect_, 2), round(truth.se_, 2)) == (1794.34, 670.82)
    assert (len(trial.T), len(study.T), study.T.sum()) == (445, 16177, 185)
    figures: list[tuple[Estimator, float, float | None]] = [
        (DifferenceInMeans(), -8497.52, 581.92),
        (Regression(), 1066.38, 626.85),
        (OaxacaBlinder(), 1133.28, None),
        (Matched(Matching(metric="scaled", ratio=5)), 1729.12, 815.38),
        (Matched(Matching(metric="scaled")), 1795.51, 910.30),
        (Matched(Matching(metric="logit", caliper=0.2), bias_correction=False), 1559.89, None),
        (Weighted(EntropyBalancing(), error="hc1"), 1406.30, 654.93),
        (Weighted(InverseProbability()), 1377.12, None),
        (Weighted(InverseProbability("ATO")), 1093.04, None),
        (Weighted(CovariateBalancing(), error="hc1"), 1406.30, 654.93),
        (AIPW(folds=0), 1488.88, None),
    ]
    for estimator, effect, se in figures:
        estimate = estimator.fit(study.X, study.T, study.Y)
        assert round(estimate.effect_, 2) == effect, estimator
        assert se is None or round(estimate.se_, 2) == se, estimator


@pytest.mark.skipif(not HERE, reason="LaLonde's data: neither causaldata nor CONTRASTKIT_DATA/causal/lalonde")
def test_the_over_identified_form_is_that_of_the_paper_and_not_of_the_package() -> None:
    """Imbens & Xu 2024 print 1,408.01 by the R package CBPS, which multiplies the covariance of the likelihood's
    conditions by n/n1: the paper's has no such factor, and its minimum is elsewhere."""
    study = read("lalonde", outcome="re78", data_dir=DATA)
    assert study.Y is not None
    ours = Weighted(OverIdentifiedBalancing()).fit(study.X, study.T, study.Y).effect_
    t, y = study.T, study.Y
    z = np.linalg.qr(np.column_stack([np.ones(len(t)), study.X.x]))[0] * math.sqrt(len(t))
    start = minimize(
        lambda b: -(z[t] @ b).sum() + np.logaddexp(0, z @ b).sum(), np.zeros(z.shape[1]),
        jac=lambda b: z.T @ (expit(z @ b) - t), hess=lambda b: z.T @ (z * (expit(z @ b) * expit(-z @ b))[:, None]),
        method="trust-exact", options={"gtol": 1e-8},
    ).x  # fmt: skip

    def least(factor: float) -> float:
        """The effect where the form is least, whose first block of the covariance is multiplied by a factor."""
        e = expit(z @ start)
        own, mixed, balance = (z.T @ (z * v[:, None]) for v in (e * (1 - e), e, e / (1 - e)))
        root = np.linalg.cholesky(np.block([[factor * own, mixed], [mixed, balance]]))

        def conditions(b: np.ndarray) -> np.ndarray:
            e = expit(z @ b)
            return np.linalg.solve(root, np.concatenate([z.T @ (t - e), z.T @ np.where(t, 1, -e / (1 - e))]))

        e = expit(z @ least_squares(conditions, start, jac="3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15).x)
        return float(y[t].mean() - np.average(y[~t], weights=(e / (1 - e))[~t]))

    assert round(ours, 2) == 1469.74 == round(least(1), 2)
    assert round(least(len(t) / t.sum()), 2) == 1406.24 == pytest.approx(1408.01, abs=2)


MATCHIT = DATA / "causal" / "lalonde" / "nsw_treated_psid_controls_matchit.csv"


@pytest.mark.skipif(not MATCHIT.is_file(), reason="MatchIt's LaLonde: not in CONTRASTKIT_DATA/causal/lalonde")
def test_matchits_balance_on_its_lalonde() -> None:
    """MatchIt's README: Mahalanobis 1:1 with replacement, SMDs before and after."""
    frame = pd.read_csv(MATCHIT)
    X = frame[["age", "educ", "race", "married", "nodegree", "re74", "re75"]]
    result = balance_table(X, frame.treat, Matching(metric="mahalanobis", ties=False).fit(X, frame.treat).weights_)
    published = {
        "age": (-0.3094, 0.0385),
        "educ": (0.0550, -0.0403),
        "race=black": (1.7615, 0),
        "race=hispan": (-0.3498, 0),
        "race=white": (-1.8819, 0),
        "married": (-0.8263, 0.0276),
        "nodegree": (0.2450, 0),
        "re74": (-0.7211, 0.0628),
        "re75": (-0.2903, 0.1380),
    }
    assert result.names == tuple(published)
    regression = Regression().fit(X, frame.treat, frame.re78)
    assert round(regression.effect_, 2) == 1548.24
    assert round(Weighted(EntropyBalancing()).fit(X, frame.treat, frame.re78).effect_, 2) == 1273.26
    assert result.smd.round(4) == pytest.approx(np.array(list(published.values())), abs=1e-9)


@pytest.mark.skipif(not MATCHIT.is_file(), reason="MatchIt's LaLonde: not in CONTRASTKIT_DATA/causal/lalonde")
@pytest.mark.parametrize("replacement", [True, False])
def test_pairs_of_matchits_lalonde_depend_neither_on_units_nor_on_the_order_of_columns(replacement: bool) -> None:
    """Many of its controls are equally near: alike, or as far on the other side."""
    frame = pd.read_csv(MATCHIT)
    names = ["age", "educ", "married", "nodegree", "re74", "re75"]
    race = (frame.race.to_numpy()[:, None] == ["black", "hispan", "white"]).astype(float)
    x, t = np.column_stack([frame[names].to_numpy(np.float64), race]), frame.treat

    def pairs(x: np.ndarray) -> list[list[int]]:
        m = Matching(metric="mahalanobis", ties=False, replacement=replacement, order="data")
        return m.fit(x, t).pairs_.tolist()

    expected = pairs(x)
    for other in (x / 3, x * np.geomspace(1e-3, 1e3, 9), x[:, ::-1], np.roll(x, 4, axis=1) * 7):
        assert pairs(other) == expected
