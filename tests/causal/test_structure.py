"""Structural models: against the closed forms of linear Gaussian models and of tables of shares."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import kstest

from contrastkit.causal.columns import Columns
from contrastkit.causal.form import Form
from contrastkit.causal.structural.model import StructuralModel
from contrastkit.causal.structure import Structure, structure
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.tables.dependence import independence
from tests.schemas import read_report

GRAPH = "z -> t; z -> y; t -> m -> y; t -> y"


def lines(n: int = 500, seed: int = 0) -> pd.DataFrame:
    """Linear Gaussian: t has the direct effect 1, and 2 * -3 through m."""
    g = np.random.default_rng(seed)
    z = g.normal(size=n)
    t = z + g.normal(size=n)
    m = 2 * t + g.normal(size=n)
    return pd.DataFrame({"z": z, "t": t, "m": m, "y": t - 3 * m + z + g.normal(size=n)})


def shares(n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Levels: a coin z, a word t, and y of 0 and 1."""
    g = np.random.default_rng(seed)
    z = g.integers(0, 2, size=n)
    t = np.where(g.uniform(size=n) < 0.3 + 0.4 * z, "drug", "none")
    y = (g.uniform(size=n) < 0.2 + 0.3 * (t == "drug") + 0.4 * z).astype(int)
    return pd.DataFrame({"z": z, "t": t, "y": y})


def ask(frame: pd.DataFrame, graph: str = GRAPH, **how: Any) -> Structure:
    return structure(Columns(frame, "x.csv"), graph, **how)


def coefficients(frame: pd.DataFrame) -> Any:
    """Of the regressions of each variable on its causes."""
    of = {"t": ["z"], "m": ["t"], "y": ["z", "t", "m"]}
    return {name: sm.OLS(frame[name], sm.add_constant(frame[causes])).fit().params for name, causes in of.items()}


# ---------------------------------------- interventions and paths


def test_the_means_of_a_linear_model_are_the_closed_form() -> None:
    frame = lines()
    found = ask(frame, do=[{"t": "2"}, {"t": "2", "m": "-1"}], draws=20_000)
    b = coefficients(frame)
    m = b["m"]["const"] + 2 * b["m"]["t"]
    y = b["y"]["const"] + b["y"]["z"] * frame.z.mean() + 2 * b["y"]["t"] + np.array([m, -1]) * b["y"]["m"]
    for intervention, exact in zip(
        found.interventions[1:], ({"m": m, "y": y[0], "t": 2}, {"m": -1, "y": y[1]}), strict=True
    ):
        means = {mean.name: mean for mean in intervention.means}
        for name, value in exact.items():
            assert abs(means[name].mean - value) <= 4 * means[name].mc_error + 1e-9
        assert means["t"].mc_error == 0 < means["y"].mc_error < 0.05
    assert found.interventions[0].do == {} and len(found.interventions) == 3
    unchanged = {mean.name: mean for mean in found.interventions[0].means}
    for name in "ztmy":
        assert abs(unchanged[name].mean - frame[name].mean()) < 4 * unchanged[name].mc_error


def test_codes_are_levels_and_rows_with_gaps_are_left_out() -> None:
    frame = shares().assign(code=np.arange(2000) % 3)
    frame["y"] = frame.y + 0.5 * (frame.code == 1)
    frame.loc[5:9, "z"] = np.nan
    graph, do = "z -> t; z -> y; t -> y; code -> y", [{"code": "1"}, {"code": "2"}]
    form = Form(categorical=["code"], incomplete="drop")
    words = frame.dropna().assign(code=lambda f: f.code.map({0: "a", 1: "b", 2: "c"}))
    found = ask(frame, graph, do=do, form=form, outcome="y", counterfactual="10")
    other = ask(words, graph, do=[{"code": "b"}, {"code": "c"}], outcome="y", counterfactual="10")
    assert found.n == 1995 and found.total is not None and other.total is not None
    assert found.total.effect == pytest.approx(other.total.effect)
    assert found.counterfactuals[-1].would_be[0].mean == pytest.approx(other.counterfactuals[-1].would_be[0].mean)
    assert found.notices == ("5 of 2,000 rows lack a value and are left out (missing: z 5)",)
    for how, says in (
        ({}, "z: 5 of 2000 values are missing: drop or fill them .--incomplete drop or --rows 'z!=' drops them"),
        ({"form": form, "counterfactual": "5", "do": do}, "--counterfactual 5: no such row"),
        (
            {"form": Form(categorical=["cod"])},
            "--categorical cod is no variable of the graph.*code",
        ),
    ):
        with pytest.raises(UserError, match=says):
            ask(frame, graph, **how)


def test_without_an_intervention_rows_are_like_the_tables() -> None:
    frame = lines(1000)
    model = StructuralModel.fit(Columns(frame, "x"), GRAPH)
    values = pd.DataFrame(model.simulated(model.noise(20_000, 0)))
    assert values.cov().to_numpy() == pytest.approx(frame[values.columns].cov().to_numpy(), rel=0.1, abs=0.1)


def test_effects_along_the_paths_of_a_linear_model_are_products_of_coefficients() -> None:
    frame = lines()
    found = ask(frame, do=[{"t": "0"}, {"t": "1"}], outcome="y", draws=100)
    b = coefficients(frame)
    effects = {path.path: path for path in found.paths}
    assert effects["t", "y"].effect == pytest.approx(b["y"]["t"])
    assert effects["t", "m", "y"].effect == pytest.approx(b["m"]["t"] * b["y"]["m"])
    assert found.total.effect == pytest.approx(sum(path.effect for path in found.paths))
    assert found.total.mc_error == pytest.approx(0, abs=1e-9)
    assert list(effects) == [("t", "y"), ("t", "m", "y")]


def test_errors_by_the_bootstrap_are_those_of_the_regression() -> None:
    frame = lines(300)
    found = ask(frame, do=[{"t": "0"}, {"t": "1"}], outcome="y", draws=100, refits=60)
    direct = found.paths[0]
    expected = sm.OLS(frame.y, sm.add_constant(frame[["z", "t", "m"]])).fit(cov_type="HC1").bse["t"]
    assert direct.path == ("t", "y") and direct.se == pytest.approx(expected, rel=0.3)
    z, t, *_ = found.interventions[2].means
    assert t.se == 0 < z.se and found.total.se > 0
    assert ask(frame, do=[{"t": "0"}], draws=100).interventions[1].means[0].se is None


def test_the_means_of_levels_are_the_adjustment_formula() -> None:
    frame = shares()
    found = ask(frame, "z -> t; z -> y; t -> y", do=[{"t": "none"}, {"t": "drug"}], outcome="y", draws=100_000)
    for intervention, level in zip(found.interventions[1:], ("none", "drug"), strict=True):
        adjusted = sum(frame.y[(frame.t == level) & (frame.z == z)].mean() * (frame.z == z).mean() for z in (0, 1))
        means = {mean.name: mean for mean in intervention.means}
        assert abs(means["y=1"].mean - adjusted) < 0.02  # the logistic model has no product
        assert means["t=none"].mean == float(level == "none")
    (path,) = found.paths
    assert path.effect == pytest.approx(found.total.effect) and abs(path.effect - 0.3) < 0.08


def test_boosted_mechanisms_find_a_curve_that_lines_miss() -> None:
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"t": g.uniform(-2, 2, size=1500)})
    frame["y"] = frame.t**2 + 0.5 * g.normal(size=1500)
    line, boost = (ask(frame, "t -> y", mechanism=kind, do=[{"t": "1.99"}]) for kind in ("linear", "boost"))
    means = [found.interventions[1].means[1].mean for found in (line, boost)]
    assert means[0] < 2 < 3.5 < means[1] < 4.5
    assert line.checks[1].noise < 0.01 <= boost.checks[1].noise
    assert line.remarks[0].startswith("y: its residuals depend on its causes") and not boost.remarks
    assert boost.checks[1].fit > 0.7 > 0.1 > line.checks[1].fit


# ---------------------------------------- counterfactuals


def test_the_counterfactual_of_a_row_of_a_linear_model_is_the_closed_form() -> None:
    frame = lines(200)
    frame["patient_id"] = [f"p{k}" for k in range(200)]
    found = ask(frame, do=[{"t": "3"}, {"z": "0"}], counterfactual="p17")
    row, b = frame.loc[17], coefficients(frame)
    assert found.row == "p17"
    for k, change in enumerate(({"t": 3.0 - row.t}, {"t": -row.z * b["t"]["z"], "z": -row.z})):
        m = change["t"] * b["m"]["t"]
        y = change.get("z", 0) * b["y"]["z"] + change["t"] * b["y"]["t"] + m * b["y"]["m"]
        expected = {"z": row.z + change.get("z", 0), "t": row.t + change["t"], "m": row.m + m, "y": row.y + y}
        for value in found.counterfactuals:
            assert value.observed == pytest.approx(row[value.name])
            assert value.would_be[k].mean == pytest.approx(expected[value.name], rel=1e-6, abs=1e-6)
    assert ask(frame, do=[{"t": "3"}], counterfactual="17").row == "p17"


@pytest.mark.filterwarnings("ignore")  # its imports and the mean of its draws
def test_means_and_counterfactuals_are_dowhys() -> None:
    gcm, networkx = pytest.importorskip("dowhy.gcm"), pytest.importorskip("networkx")
    gcm.config.disable_progress_bars()
    frame = lines(400)
    theirs = gcm.InvertibleStructuralCausalModel(
        networkx.DiGraph([("z", "t"), ("z", "y"), ("t", "m"), ("m", "y"), ("t", "y")])
    )
    theirs.set_causal_mechanism("z", gcm.EmpiricalDistribution())
    for name in "tmy":
        theirs.set_causal_mechanism(name, gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor()))
    gcm.fit(theirs, frame)
    found = ask(frame, do=[{"t": "2"}], counterfactual="17", draws=50_000)
    drawn = gcm.interventional_samples(theirs, {"t": lambda _: 2.0}, num_samples_to_draw=50_000)
    for mean in found.interventions[1].means:
        assert mean.mean == pytest.approx(drawn[mean.name].mean(), abs=6 * mean.mc_error + 1e-9)
    would_be = gcm.counterfactual_samples(theirs, {"t": lambda _: 2.0}, observed_data=frame.loc[[17]])
    for value in found.counterfactuals:
        assert value.would_be[0].mean == pytest.approx(would_be[value.name].item(), rel=1e-9)


def test_a_share_of_levels_would_have_been_otherwise() -> None:
    """For two levels and monotone noise: P(y' = 1 | y = 0) = (p' - p) / (1 - p) where p' > p (Pearl 2009, Sec. 9.2)."""
    frame = shares()
    columns = Columns(frame, "x")
    graph = "z -> t; z -> y; t -> y"
    row = int(np.flatnonzero((frame.y == 0) & (frame.t == "none") & (frame.z == 1))[0])
    found = structure(columns, graph, do=[{"t": "drug"}], counterfactual=str(row), draws=50_000)
    A = sm.add_constant(pd.DataFrame({"drug": (frame.t == "drug") * 1.0, "z": frame.z}))
    p = sm.Logit(frame.y, A).fit(disp=0).predict(pd.DataFrame({"const": 1.0, "drug": [0.0, 1.0], "z": 1.0}))
    y = {value.name: value for value in found.counterfactuals}["y=1"]
    assert y.observed == 0 and y.would_be[0].mean == pytest.approx((p[1] - p[0]) / (1 - p[0]), abs=0.01)
    same = structure(columns, graph, do=[{"t": "none"}], counterfactual=str(row))
    assert all(value.would_be[0].mean == value.observed for value in same.counterfactuals)


def test_levels_that_no_data_determine_are_refused() -> None:
    frame = lines(300).assign(c=np.random.default_rng(0).choice(list("abc"), size=300))
    graph = "t -> c -> y; t -> y"
    with pytest.raises(UserError, match="what c would have been, of more than two levels, no data tell"):
        ask(frame, graph, do=[{"t": "1"}], counterfactual="3")
    found = ask(frame, graph, do=[{"t": "1", "c": "a"}], counterfactual="3")
    assert {value.name for value in found.counterfactuals} == {"t", "c=b", "c=c", "y"}


# ---------------------------------------- checks


def test_independence_has_its_level_and_finds_what_is_not_linear() -> None:
    g = np.random.default_rng(0)
    p = [independence(*g.normal(size=(2, 60, 1)), permutations=99, seed=seed) for seed in range(60)]
    assert kstest(p, "uniform").pvalue > 0.01
    x = g.normal(size=(200, 1))
    assert independence(x**2 + 0.1 * g.normal(size=(200, 1)), np.hstack([g.normal(size=(200, 1)), x])) == 1 / 200


def test_the_checks_of_a_right_graph_pass_and_a_missing_edge_is_found() -> None:
    frame = lines(1000)
    right = {check.variable: check for check in ask(frame).checks}
    assert [right[name].causes for name in "ztmy"] == [(), ("z",), ("t",), ("m", "t", "z")]
    assert right["z"].fit is None and right["z"].noise is None and right["y"].others is None
    b = sm.OLS(frame.m, sm.add_constant(frame.t)).fit()
    assert right["m"].fit == pytest.approx(b.rsquared, abs=0.01)
    assert min(right["t"].noise, right["m"].noise, right["y"].noise, right["m"].others) > 0.01
    wrong = ask(frame, "z -> t; t -> m -> y; t -> y")
    assert {check.variable: check for check in wrong.checks}["y"].others < 0.01
    assert any(remark.startswith("y: it depends on more than its causes") for remark in wrong.remarks)


def test_the_deviance_of_levels_is_that_of_rows_held_out() -> None:
    frame = shares()
    check = {check.variable: check for check in ask(frame, "z -> t; z -> y; t -> y").checks}["y"]
    A = sm.add_constant(pd.DataFrame({"drug": (frame.t == "drug") * 1.0, "z": frame.z}))
    assert check.discrete and check.fit == pytest.approx(sm.Logit(frame.y, A).fit(disp=0).prsquared, abs=0.01)


def test_the_order_of_rows_does_not_matter() -> None:
    frame = lines(300)
    one, other = ask(frame).checks, ask(frame.sample(frac=1, random_state=0).reset_index(drop=True)).checks
    assert [check.fit for check in other] == pytest.approx([check.fit for check in one], nan_ok=True)


# ---------------------------------------- refusals and the command


@pytest.mark.parametrize(
    ("graph", "how", "says"),
    [
        ("t -> y; t <-> y", {}, "t <-> y: a hidden common cause: a structural model needs every variable"),
        ("t -> q -> y", {}, "q is no column: a structural model needs every variable"),
        ("t; y", {}, "the graph has no edges between columns"),
        ("t -> y; y -> t", {}, "is a cycle"),
        ("t -> w", {}, "w is the same in all rows: leave it out of the graph"),
        ("t -> y", {"do": [{"q": "1"}]}, "the graph has no 'q'"),
        ("t -> y", {"do": [{"t": "high"}]}, "--do t=high: give a number"),
        ("b -> y", {"do": [{"b": "3"}]}, "--do b=3: its values are 0, 1"),
        ("t -> y", {"outcome": "y"}, "--outcome: effects along paths compare two interventions"),
        ("t -> y", {"outcome": "y", "do": [{"t": "0"}, {"y": "1"}]}, "those of one variable"),
        ("t -> y", {"outcome": "q", "do": [{"t": "0"}, {"t": "1"}]}, "the graph has no 'q'"),
        ("t -> y", {"outcome": "t", "do": [{"t": "0"}, {"t": "1"}]}, "--outcome t: choose a variable"),
        ("t -> y", {"counterfactual": "3"}, "--counterfactual: say what is changed"),
        ("t -> y", {"refits": 1}, "--refits 1: one sample has no spread: give two or more"),
        ("t -> y", {"counterfactual": "300", "do": [{"t": "1"}]}, "--counterfactual 300: no such row"),
    ],
)
def test_what_cannot_be_asked_is_refused(graph: str, how: dict[str, Any], says: str) -> None:
    frame = lines(100).assign(w=1, b=np.arange(100) % 2)
    with pytest.raises(UserError, match=says) as error:
        ask(frame, graph, **how)
    assert "\n" not in str(error.value)


def test_a_value_beyond_those_observed_is_remarked_on() -> None:
    frame = lines(100)
    low, high = float(frame.m.min()), float(frame.m.max())
    for value, beyond in ((high + 1, True), (low - 1, True), (high, False), (low, False)):
        found = ask(frame, "t -> m -> y", do=[{"t": "1", "m": f"{value!r}"}, {"m": f"{value!r}"}])
        said = f"m={value!r} is beyond the values observed, {low:g} to {high:g}: what follows is extrapolated"
        assert found.remarks.count(said) == beyond
        assert any("is beyond the values observed" in remark for remark in found.remarks) == beyond
    levels = ask(frame.assign(b=np.arange(100) % 2 + 5), "b -> y", do=[{"b": "6"}])  # whose places are 0 and 1
    assert not any("beyond" in remark for remark in levels.remarks)


def test_few_rows_are_refused_and_a_hidden_cause_of_one_variable_is_not() -> None:
    with pytest.raises(UserError, match="49 rows: a structural model needs 50 or more"):
        ask(lines(49))
    found = ask(lines(100), "u -> t -> y")
    assert [check.variable for check in found.checks] == ["t", "y"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, report = tmp_path / "t.csv", tmp_path / "r.json"
    lines(200).to_csv(data, index=False)
    given = ["causal", "model", f"--data={data}", f"--graph={GRAPH}", f"--json={report}"]
    assert main(given) == 0
    bare = read_report("causal-model", report)
    assert bare["interventions"] == [] and bare["total"] is None and bare["row"] is None
    asked = [*given, "--do=t=0", "--do=t=1", "--outcome=y", "--counterfactual=7", "--draws=500"]
    capsys.readouterr()
    assert main(asked) == 0
    printed, found = capsys.readouterr().out, read_report("causal-model", report)
    assert "t -> m -> y" in printed and "means under interventions" in printed
    assert "row 7, and" in printed and len(found["counterfactuals"]) == 4
    for bad in ("t", "=1", "t=1,t=2", ""):
        assert main([*given, f"--do={bad}"]) == 2
        assert f"--do {bad}: give NAME=VALUE" in capsys.readouterr().err
