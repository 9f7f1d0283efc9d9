"""The front door: against Pearl's formula with shares and means, and effects that are known."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.dummy import DummyRegressor

from contrastkit.causal.columns import Columns
from contrastkit.causal.estimate import FrontDoor
from contrastkit.causal.form import Form
from contrastkit.causal.graph import identify, mediates
from contrastkit.causal.mediated import mediated_effect
from contrastkit.causal.models import Models
from contrastkit.causal.notation import parse
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from tests.causal.test_adjustment import drawn
from tests.schemas import read_report


def smoking(n: int, seed: int = 0) -> pd.DataFrame:
    """A hidden u confounds smoking t and y; tar m carries the effect: 0.6 * 1.5 = 0.9."""
    g = np.random.default_rng(seed)
    u = g.normal(size=n)
    t = (g.uniform(size=n) < 1 / (1 + np.exp(-u))).astype(int)
    m = (g.uniform(size=n) < 0.2 + 0.6 * t).astype(int)
    return pd.DataFrame({"t": t, "m": m, "y": 1.5 * m + 2 * u + g.normal(size=n), "site": np.arange(n) // 4})


def linear(n: int, seed: int = 0) -> pd.DataFrame:
    """Two mediators of numbers, a covariate of t, m and y: the effect is 1 * 2 - 0.5 * 1 = 1.5."""
    g = np.random.default_rng(seed)
    u, c = g.normal(size=(2, n))
    t = (g.uniform(size=n) < 1 / (1 + np.exp(-u - 0.5 * c))).astype(int)
    m, k = t + c + g.normal(size=n), -0.5 * t + g.normal(size=n)
    return pd.DataFrame({"t": t, "m": m, "k": k, "c": c, "y": 2 * m + k + c + 2 * u + g.normal(size=n)})


def formula(frame: pd.DataFrame) -> float:
    """sum_m (P(m | 1) - P(m | 0)) sum_b E[Y | m, b] P(b), over the values of m."""
    total = 0.0
    for m in frame.m.unique():
        shares = [((frame.m == m) & (frame.t == a)).sum() / (frame.t == a).sum() for a in (0, 1)]
        inner = sum(frame.y[(frame.m == m) & (frame.t == b)].mean() * (frame.t == b).mean() for b in (0, 1))
        total += (shares[1] - shares[0]) * inner
    return total


def test_with_a_mediator_of_two_values_it_is_pearls_formula() -> None:
    frame = smoking(400)
    X = frame[["m"]]
    result = FrontDoor((0,), folds=0, clip=0).fit(X, frame.t, frame.y)
    assert result.effect_ == pytest.approx(formula(frame))
    assert FrontDoor((0,)).fit(X, frame.t, frame.y).effect_ == pytest.approx(formula(frame), abs=0.05)


def test_with_a_factor_of_three_values_too() -> None:
    frame = smoking(400)
    frame["m"] = np.where(np.arange(400) % 3 == 0, "none", np.where(frame.m == 1, "much", "some"))
    result = FrontDoor((0, 1, 2), folds=0, clip=0).fit(frame[["m"]], frame.t, frame.y)
    assert result.effect_ == pytest.approx(formula(frame))


def test_its_error_is_that_of_the_delta_method() -> None:
    """The norm of the influences is the spread of the formula over samples drawn again."""
    frame = smoking(600)
    result = FrontDoor((0,), folds=0, clip=0).fit(frame[["m"]], frame.t, frame.y)
    drawn = [formula(frame.sample(frac=1, replace=True, random_state=seed)) for seed in range(300)]
    assert result.se_ == pytest.approx(np.std(drawn), rel=0.12)


def test_right_scores_make_up_for_an_outcome_model_that_knows_nothing() -> None:
    frame = smoking(2000)
    result = FrontDoor((0,), model=DummyRegressor(), repeats=1).fit(frame[["m"]], frame.t, frame.y)
    assert result.effect_ == pytest.approx(formula(frame), abs=0.05)


def test_lines_give_the_product_of_coefficients() -> None:
    """Of linear models with a covariate: that of t in those of the mediators, times theirs in that of y given t."""
    frame = linear(4000)
    result = FrontDoor((0, 1)).fit(frame[["m", "k", "c"]], frame.t, frame.y)
    on_t = sm.OLS(frame[["m", "k"]].to_numpy(), sm.add_constant(frame[["t", "c"]])).fit().params.to_numpy()[1]
    on_y = sm.OLS(frame.y, sm.add_constant(frame[["m", "k", "t", "c"]])).fit().params[["m", "k"]].to_numpy()
    assert result.effect_ == pytest.approx(float(on_t @ on_y), abs=2 * result.se_)
    assert abs(result.effect_ - 1.5) < 4 * result.se_ < 0.6
    alone = FrontDoor((0, 1)).fit(frame[["m", "k"]], frame.t, frame.y)
    assert alone.effect_ - 1.5 > 4 * alone.se_  # the covariate confounds mediator and outcome


@pytest.mark.slow
def test_intervals_cover_and_the_difference_in_means_does_not() -> None:
    inside = []
    for seed in range(100):
        frame = smoking(300, seed)
        low, high = FrontDoor((0,), repeats=1).fit(frame[["m"]], frame.t, frame.y).interval()
        inside.append(low < 0.9 < high)
    assert 0.88 < np.mean(inside) < 1
    found = mediated_effect(Columns(smoking(1000), "x"), treatment="t", outcome="y", mediators=["m"])
    assert found.naive.low > 1.5 > found.front_door.high


def test_flexible_models_find_what_lines_miss() -> None:
    """The outcome depends on the square of the mediator, which the treatment spreads."""
    g = np.random.default_rng(0)
    frame = smoking(2000)
    frame["m"] = g.normal(size=2000) * (1 + 0.25 * frame.t)
    frame["y"] = 4 * frame.m**2 + g.normal(size=2000)  # effect: 4 * (1.25**2 - 1)
    columns = Columns(frame, "x")
    how: dict[str, Any] = {"treatment": "t", "outcome": "y", "mediators": ["m"]}
    line = mediated_effect(columns, **how)
    boost = mediated_effect(columns, **how, models=Models("boost", "boost", repeats=1, folds=3))
    assert abs(boost.front_door.effect - 2.25) < 4 * boost.front_door.se < 2
    assert line.front_door.effect < 1


def test_mediators_give_the_effect_of_linear_models() -> None:
    """Without sampling: coefficients of t in the regressions of the mediators, times theirs in that of y given t, from
    the covariance of a model with random coefficients."""
    g = np.random.default_rng(0)
    right = wrong = 0
    for _ in range(200):
        names = ["u", "c", "t", "m", "k", "y"]
        graph = drawn(g, names, shuffled=False)
        graph.remove_edges_from([("t", "y"), ("u", "m")])
        B = np.array([[g.normal() * graph.has_edge(cause, name) for cause in names] for name in names])
        total = np.linalg.inv(np.eye(6) - B)
        S, effect = total @ total.T, total[5, 2]
        minimal = identify(graph, "t", "y", unobserved=["u"]).frontdoor_sets
        assert all(mediates(graph, "t", "y", M) for M in minimal)
        for M, C in itertools.product((["m"], ["k"], ["m", "k"]), ([], ["c"])):
            of, given = [names.index(name) for name in M], [2, *(names.index(name) for name in C)]
            on_t = np.linalg.solve(S[np.ix_(given, given)], S[np.ix_(given, of)])[0]
            both = [*of, *given]
            on_y = np.linalg.solve(S[np.ix_(both, both)], S[both, 5])[: len(of)]
            same = bool(np.isclose(on_t @ on_y, effect, rtol=1e-6, atol=1e-9))
            if mediates(graph, "t", "y", M, C):
                assert same
                right += effect != 0
            wrong += not same
    assert right > 20 and wrong > 20


def test_mediators_of_a_graph() -> None:
    causes = parse("t -> m -> y; t <-> y; c -> m; c -> y; t -> k -> y")
    assert mediates(causes, "t", "y", ["m", "k"], ["c"])
    assert not mediates(causes, "t", "y", ["m", "k"])  # c confounds m and y
    assert not mediates(causes, "t", "y", ["m"], ["c"])  # k goes around
    assert not mediates(parse("t -> m -> y; t <-> m"), "t", "y", ["m"])
    assert not mediates(parse("t -> m -> y; m <-> y"), "t", "y", ["m"])
    assert mediates(parse("t -> m -> y; t <-> y"), "t", "y", ["m"])
    columns = Columns(linear(200), "x")
    graph = "dag {t [exposure] y [outcome] t -> {m k} -> y t <-> y}"
    assert mediated_effect(columns, graph=graph).mediators == ("k", "m")
    for how, says in (
        ({"graph": "t -> m -> y; t -> y; t <-> y"}, "the graph has no front door among the columns"),
        ({"graph": "t -> q -> y; t <-> y"}, "the graph has no front door among the columns"),
        ({"graph": "t -> m -> y; t -> k -> y", "mediators": ["m"]}, "does not hold with m: see"),
        ({"graph": "t -> m -> y", "mediators": ["k"]}, "the graph has no 'k'"),
        ({"mediators": []}, "no mediators: name their columns"),
        ({"mediators": ["m"], "treatment": None}, "no treatment: name the column"),
        ({"mediators": ["m"], "outcome": None}, "no outcome: name the column"),
        ({"mediators": ["m", "t"]}, "'t' is used twice"),
        ({"mediators": ["m"], "treatment": "c"}, "the treatment must be 0 or 1"),
    ):
        with pytest.raises(UserError, match=says):
            mediated_effect(columns, **({"treatment": "t", "outcome": "y"} | how))


def test_words_gaps_and_codes() -> None:
    """As with columns of 0 and 1, complete rows, and words for the codes."""
    frame = linear(300).assign(code=np.arange(300) % 3)
    frame["drug"] = np.where(frame.t, "new", "old")
    frame.loc[:9, "drug"] = "none"
    frame.loc[20:29, "m"] = np.nan
    frame["good"] = np.where(frame.y > 0, "good", "bad")
    kept = frame[10:].dropna().assign(code=lambda frame: frame.code.map({0: "a", 1: "b", 2: "c"}))
    kept["y"] = (kept.y > 0) * 1
    found = mediated_effect(
        Columns(frame, "x"), treatment="drug", treated="new", untreated="old", outcome="good", outcome_value="good",
        mediators=["m"], covariates=["code"], form=Form(incomplete="drop", categorical=["code"]),
    )  # fmt: skip
    other = mediated_effect(Columns(kept, "x"), treatment="t", outcome="y", mediators=["m"], covariates=["code"])
    assert (found.naive.effect, found.naive.se) == pytest.approx((other.naive.effect, other.naive.se))
    assert found.front_door.effect == pytest.approx(other.front_door.effect)
    assert (found.treatment, found.outcome) == ("drug=new", "good=good")
    assert found.notices == (
        "10 of 300 rows lack a value and are left out (missing: m 10)",
        "10 rows with other values of drug are left out",
    )
    with pytest.raises(UserError, match="must be 0 or 1, not new, none, old: name two of its values") as error:
        mediated_effect(Columns(frame, "x"), treatment="drug", outcome="y", mediators=["c"])
    assert str(error.value).endswith("with --treated and --untreated, or recode it, for example with a threshold")


def test_a_mediator_that_tells_the_treatment_is_refused() -> None:
    frame = smoking(100).assign(m=lambda frame: 2 * frame.t + 1)
    with pytest.raises(UserError, match="perfect separation"):
        mediated_effect(Columns(frame, "x"), treatment="t", outcome="y", mediators=["m"])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, report = tmp_path / "t.csv", tmp_path / "r.json"
    smoking(500, seed=2).to_csv(data, index=False)
    given = ["causal", "front-door", f"--data={data}", "--treatment=t", "--outcome=y", f"--json={report}"]
    assert main([*given, "--mediators=m", "--cluster=site"]) == 0
    printed, found = capsys.readouterr().out, read_report("causal-front-door", report)
    assert "effect of t on y (ATE) through m" in printed
    assert found["front_door"]["low"] < 0.9 < found["front_door"]["high"] < found["naive"]["low"]
