"""Balance of powers, products and the prognostic score against cobalt's definitions, by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.balance_checks import prognostic_score, with_checks
from contrastkit.causal.diagnostics import love_plot
from contrastkit.causal.study import read
from contrastkit.causal.weighting import EntropyBalancing
from contrastkit.causal.weights import weigh
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from tests.causal.simulated import varied
from tests.schemas import read_report


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    x, t, y = varied(300)
    city = np.array(["Ulm", "Bonn", "Kiel"])[np.arange(300) % 3]
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "old": (x[:, 2] > 0).astype(int), "city": city, "t": t, "y": y})
    table.astype({"t": int}).to_csv("table.csv", index=False)
    return table


GIVEN = ["causal", "balance", "--data=table.csv", "--treatment=t", "--outcome=y", "--covariates=a,b,old,city"]


def reported(*words: str) -> tuple[int, Any]:
    code = main([*GIVEN, *words, "--json=r.json"])
    return code, read_report("causal-balance", Path("r.json"))


def by_hand(frame: pd.DataFrame, column: np.ndarray, w: np.ndarray) -> tuple[list[float], list[float]]:
    """The SMD over the treated's standard deviation and the variance ratio, before and after weighting."""
    t = frame.t.to_numpy()
    binary = set(np.unique(column)) <= {0, 1}
    p = column[t].mean()
    sd = math.sqrt(p * (1 - p)) if binary else column[t].std(ddof=1)
    smd, ratio = [], []
    for v in (np.ones(len(w)), w):
        one, other = (np.average(column[arm], weights=v[arm]) for arm in (t, ~t))
        smd.append((one - other) / sd)
        spread = [
            (v[arm] * (column[arm] - m) ** 2).sum() / (v[arm].sum() - (v[arm] ** 2).sum() / v[arm].sum())
            for arm, m in ((t, one), (~t, other))
        ]
        ratio.append(math.nan if binary else spread[0] / spread[1])
    return smd, ratio


def test_rows_are_those_of_cobalt_whatever_is_adjusted_for(frame: pd.DataFrame) -> None:
    code, found = reported("--check-moments=3", "--check-interactions", "--prognostic")
    dummies = {f"city={city}": (frame.city == city).to_numpy(float) for city in ("Bonn", "Kiel", "Ulm")}
    columns = {name: frame[name].to_numpy(float) for name in ("a", "b", "old")} | dummies
    assert found["names"] == list(columns) and code == 1
    w = EntropyBalancing().fit(frame[["a", "b", "old", "city"]], frame.t).weights_
    terms = {f"{name}^{power}": columns[name] ** power for name in ("a", "b") for power in (2, 3)}
    pairs = [("a", "b"), ("a", "old"), ("b", "old")]
    pairs += [(name, city) for name in ("a", "b", "old") for city in ("city=Kiel", "city=Ulm")]
    terms |= {f"{one} * {other}": columns[one] * columns[other] for one, other in pairs}
    A = np.column_stack([np.ones(300), *(columns[name] for name in columns if name != "city=Ulm")])
    untreated = ~frame.t.to_numpy()
    terms["prognostic score"] = A @ np.linalg.solve(A[untreated].T @ A[untreated], A[untreated].T @ frame.y[untreated])
    checks = found["checks"]
    assert set(checks["names"]) == set(terms) and len(checks["names"]) == len(terms)
    for name, smd, ratio in zip(checks["names"], checks["smd"], checks["variance_ratio"], strict=True):
        expected = by_hand(frame, terms[name], w)
        assert smd == pytest.approx(expected[0], abs=1e-9), name
        assert [math.nan if value is None else value for value in ratio] == pytest.approx(expected[1], nan_ok=True)


def test_what_is_adjusted_for_is_not_checked_twice(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = reported("--moments=2", "--check-moments=3")
    assert {"a^2", "b^2"} <= set(found["names"]) and found["checks"]["names"] == ["a^3", "b^3"]
    code, found = reported("--moments=2", "--check-moments=2")
    assert code == 0 and "checks" not in found
    assert "no powers or products to check: all are covariates, or determined by them" in capsys.readouterr().out
    assert "checks" not in reported()[1]


def test_an_imbalance_of_what_is_checked_fails(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights balance the means of all covariates, and the square of one differs."""
    frame.assign(b=np.where(frame.t, frame.b, frame.b / 3), t=frame.t.astype(int)).to_csv("table.csv", index=False)
    assert reported()[0] == 0
    code, found = reported("--check-moments=2")
    assert code == 1 and abs(found["checks"]["smd"][1][1]) > 0.1
    printed = capsys.readouterr().out
    assert "balance of what is only checked" in printed and "of what is only checked" in printed
    assert reported("--prognostic")[0] == 0


def test_the_plot_tells_checks_from_covariates(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str, int]] = []

    class Axes:
        def plot(self, x: Any, y: Any, marker: str, *, label: str, **style: Any) -> None:
            drawn.append((label, marker, int(np.isfinite(x).sum())))

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: None

    class Figure:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: Any) -> None: ...

        def subplots(self) -> Axes:
            return Axes()

    monkeypatch.setattr("contrastkit.causal.diagnostics.chart", lambda *args, **kwargs: Figure())
    monkeypatch.setattr("contrastkit.causal.diagnostics.legend", lambda figure: None)
    study = read("table.csv", treatment="t", outcome="y", covariates=["a", "b", "old", "city"])
    weighted = with_checks(study, weigh(study), moments=2)
    love_plot(weighted.balance, Path("x.png"), after="entropy", checks=weighted.checks)
    assert [(label.split(":")[0], n) for label, _, n in drawn] == [
        ("before", 6), ("after", 6), ("only checked, before", 2), ("only checked, after", 2)
    ]  # fmt: skip
    assert len({marker for _, marker, _ in drawn}) == 4


def test_a_prognostic_score_that_is_not_identified_is_refused() -> None:
    x, t, y = varied(60)
    X = Covariates.of(x)
    with pytest.raises(UserError, match="the outcome is the same for all untreated units"):
        prognostic_score(X, t, np.where(t, y, 1.0))
    with pytest.raises(UserError, match="x2 has one value in the arm whose regression predicts the other"):
        prognostic_score(Covariates.of(np.column_stack([x[:, :2], np.where(t, x[:, 2], 0)])), t, y)
    few = np.r_[np.flatnonzero(t), np.flatnonzero(~t)[:4]]
    with pytest.raises(UserError, match="4 untreated units cannot identify the 4 coefficients of a prognostic score"):
        prognostic_score(X.take(few), t[few], y[few])
