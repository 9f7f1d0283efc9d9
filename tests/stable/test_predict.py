"""Weighted linear models against their normal equations and slopes, errors against loops; tables; the command line."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contrastkit.cli.main import main

from contrastkit.errors import UserError
from contrastkit.stable.predict import Linear, evaluate, fit, load
from contrastkit.stable.simulate import selection_bias
from contrastkit.stable.table import read


def draw(n: int = 60, p: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    X = g.normal(size=(n, p)) * [1, 20, 0.1][:p] + [0, 5, -2][:p]
    return X, X @ [1, 0.1, 5][:p] + g.normal(size=n), g.exponential(size=n)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_ridge_solves_its_normal_equations(intercept: bool, alpha: float) -> None:
    X, y, w = draw()
    model = fit(X, y, w, kind="ridge", alpha=alpha, intercept=intercept)
    w = w / w.mean()
    mean = (w @ X) / w.sum() if intercept else np.zeros(3)
    sd = np.sqrt(w @ (X - mean) ** 2 / w.sum())
    Z, r = (X - mean) / sd, y - (w @ y / w.sum() if intercept else 0)
    b = np.linalg.solve(Z.T @ (Z * w[:, None]) + alpha * np.eye(3), Z.T @ (w * r))
    assert model.coefficients[0] == pytest.approx(b / sd)
    assert model.predict(X) == pytest.approx(Z @ b + (y - r)[0])
    if not alpha and not intercept:  # weighted least squares, whatever the scale
        root = np.sqrt(w)
        assert model.coefficients[0] == pytest.approx(np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0])
        assert model.intercept == pytest.approx([0])


@pytest.mark.parametrize("case", ["copy", "sum", "one-hot", "constant"])
def test_least_squares_has_least_norm_where_columns_follow_from_others(case: str) -> None:
    """Without a penalty; of the standardised features, as the penalty would have it."""
    X, y, w = draw()
    X = np.column_stack([X, {
        "copy": X[:, 1], "sum": X[:, 0] + 0.1 * X[:, 1], "one-hot": np.eye(3)[np.arange(60) % 3],
        "constant": np.full(60, 1e8 + 0.1),
    }[case]])  # fmt: skip
    model = fit(X, y, w, kind="ridge", alpha=0)
    w = w / w.sum()
    sd = np.sqrt(w @ (X - w @ X) ** 2)
    sd[sd < 1e-6] = 1
    Z, root = (X - w @ X) / sd, np.sqrt(w)
    b = np.linalg.pinv(Z * root[:, None], rcond=1e-6) @ (root * (y - w @ y))
    assert model.coefficients[0] * sd == pytest.approx(b, abs=1e-6)
    near = fit(X, y, w, kind="ridge", alpha=1e-6)
    assert model.predict(X) == pytest.approx(near.predict(X), abs=1e-4)


def test_columns_are_known_by_their_names_as_text() -> None:
    X, y, _ = draw()
    frame = pd.DataFrame(X)  # of columns 0, 1, 2
    model = fit(frame, y, kind="ridge")
    assert (model.predict(frame[[2, 0, 1]]) == model.predict(X)).all()
    worded = frame.assign(colour=np.where(X[:, 0] > 0, "red", "blue"))
    assert (model.predict(worded) == model.predict(X)).all()
    with pytest.raises(UserError, match="colour holds words"):
        fit(worded, y, kind="ridge")
    with pytest.raises(UserError, match="2 holds words"):
        model.predict(frame.assign(**{"2": "a"}).drop(columns=2))


@pytest.mark.parametrize("size", [1e-320, 1e307])
def test_weights_of_any_size(size: float) -> None:
    X, y, w = draw()
    w = np.round(w + 1)
    one, other = (fit(X, y, weights, kind="ridge") for weights in (w, w * size))
    assert one.coefficients == pytest.approx(other.coefficients, rel=1e-2)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_has_no_slope(classes: int) -> None:
    X, y, w = draw(n=200)
    cut = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    model = fit(X, np.array(["a", "b", "c"])[cut], w, kind="logistic", alpha=2.0)
    w = w / w.mean()
    mean = w @ X / w.sum()
    sd = np.sqrt(w @ (X - mean) ** 2 / w.sum())
    B, Z, scores = model.coefficients * sd, (X - mean) / sd, X @ model.coefficients.T + model.intercept
    if classes == 2:
        residual = (1 / (1 + np.exp(-scores[:, 0])) - cut)[:, None]
    else:
        residual = np.exp(scores) / np.exp(scores).sum(1, keepdims=True) - np.eye(3)[cut]
    assert (residual * w[:, None]).sum(0) == pytest.approx(0, abs=0.02)
    assert pytest.approx(0, abs=0.02) == (residual * w[:, None]).T @ Z + 2.0 * B
    assert model.classes == ("a", "b", "c")[:classes]
    expected = scores.argmax(1) if classes == 3 else (scores[:, 0] > 0).astype(int)
    assert (model.predict(X) == np.array(model.classes)[expected]).all()


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_a_weight_of_two_is_a_row_twice(kind: str) -> None:
    X, y, _ = draw()
    Y = y > y.mean() if kind == "logistic" else y
    times = np.arange(60) % 3
    one = fit(X, Y, times * 7.0, kind=kind, alpha=0.5)  # type: ignore[arg-type]
    other = fit(np.repeat(X, times, axis=0), np.repeat(Y, times), kind=kind, alpha=0.5)  # type: ignore[arg-type]
    assert one.predict(X[:5]).tolist() == pytest.approx(other.predict(X[:5]).tolist())
    # 60 rows of a mean weight of one on both sides: the penalty weighs the same
    assert one.coefficients == pytest.approx(other.coefficients, rel=1e-3)


def test_errors_by_environment() -> None:
    X, y, _ = draw(n=90)
    where = np.arange(90) % 3 * 10
    model = Linear("ridge", ("x0", "x1", "x2"), np.array([[1, 0.1, 4.0]]), np.array([0.5]))
    found = evaluate(model, X, y, where)
    errors = []
    for place in (0, 10, 20):
        squares = [(y[i] - X[i, 0] - 0.1 * X[i, 1] - 4 * X[i, 2] - 0.5) ** 2 for i in range(90) if where[i] == place]
        errors.append(math.sqrt(sum(squares) / len(squares)))
    mean = sum(errors) / 3
    assert found.errors == pytest.approx({"0": errors[0], "10": errors[1], "20": errors[2]})
    assert found.rows == {"0": 30, "10": 30, "20": 30}
    deviation = math.sqrt(sum((e - mean) ** 2 for e in errors) / 3)
    assert (found.average, found.deviation, found.worst) == pytest.approx((mean, deviation, max(errors)))
    cat = Linear("logistic", ("x0",), np.array([[1.0]]), np.array([0.0]), ("0", "1"))
    wrong = evaluate(cat, np.array([[1], [2], [-1], [-2.0]]), [1, 0, 0.0, 0], ["a", "a", "a", "b"])
    assert wrong.errors == pytest.approx({"a": 100 / 3, "b": 0}) and wrong.worst == pytest.approx(100 / 3)


def test_a_model_comes_back_from_its_file(tmp_path: Path) -> None:
    X, y, _ = draw()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    for model in (fit(frame, y, kind="ridge"), fit(frame, np.digitize(y, np.quantile(y, [0.3, 0.7])), kind="logistic")):
        model.save(tmp_path / "m.json")
        again = load(tmp_path / "m.json")
        assert again.names == ("a", "b", "c") and again.classes == model.classes
        assert (again.predict(frame[["c", "b", "a"]]) == model.predict(X)).all()
    with pytest.raises(UserError, match="wants a column 'b'"):
        again.predict(frame[["a", "c"]])
    with pytest.raises(UserError, match="for 3 features, these data have 2"):
        again.predict(X[:, :2])
    state = json.loads((tmp_path / "m.json").read_text())
    for damage, says in (
        ("{", "or damaged"),
        ("[]", "or damaged"),
        (json.dumps({"format": 1}), "or damaged"),
        (json.dumps(state | {"format": 2}), "has format 2"),
        (json.dumps(state | {"names": ["a", "b"]}), "do not fit"),
        (json.dumps(state | {"kind": "forest"}), "do not fit"),
        (json.dumps(state | {"names": [["a"], {}, 3]}), "do not fit"),
        (json.dumps(state | {"classes": 3}), "or damaged"),
        (json.dumps(state | {"coefficients": {"a": 1}}), "or damaged"),
        (json.dumps(state | {"intercept": [10**400, 0, 0]}), "or damaged"),
        ("[" * 100_000, "or damaged"),
        (json.dumps(state | {"intercept": [0, 0, math.nan]}), "do not fit"),
    ):
        (tmp_path / "m.json").write_text(damage)
        with pytest.raises(UserError, match=says):
            load(tmp_path / "m.json")
    with pytest.raises(UserError, match="is no file"):
        load(tmp_path / "n.json")


def test_what_cannot_be_fitted_is_said() -> None:
    X, y, w = draw()
    for says, how in (
        ("the weights sum to zero", {"w": 0 * w}),
        ("1 weights are negative", {"w": np.where(np.arange(60) == 3, -w, w)}),
        ("the weight: 1 of 60 values are infinite", {"w": np.where(np.arange(60) == 3, np.inf, w)}),
        ("59 weights for 60 rows", {"w": w[1:]}),
        ("59 labels for 60 rows", {"Y": y[1:]}),
        ("the label: 60 of 60 values are missing", {"Y": y * np.nan}),
        ("the label holds words: ridge predicts numbers", {"Y": np.repeat("a", 60)}),
        ("every label is 1", {"Y": np.ones(60), "kind": "logistic"}),
        ("60 different labels of 60 rows are no classes", {"kind": "logistic"}),
        ("svm is not among the predictors here", {"kind": "svm"}),
        (
            "the rows of class True all have weight zero",
            {"Y": np.arange(60) < 30, "w": np.arange(60) >= 30, "kind": "logistic"},
        ),
        ("separable, raise alpha 0", {"Y": X[:, 0] > 0, "kind": "logistic", "alpha": 0.0}),
        ("x2 has values beyond 1e100", {"X": X * [1, 1, 1e200]}),
        ("the label has values beyond 1e100", {"Y": y * 1e200}),
        ("alpha -1: a penalty from 0 up", {"alpha": -1.0}),
        ("x1: 60 of 60 values are infinite", {"X": X + [0, np.inf, 0]}),
    ):
        with pytest.raises(UserError, match=says):
            fit(**({"X": X, "Y": y, "kind": "ridge"} | how))  # type: ignore[arg-type]
    model = fit(X, y > y.mean(), kind="logistic")
    with pytest.raises(UserError, match="the label cat is none of the model's classes, False, True"):
        evaluate(model, X, np.where(y > y.mean(), "True", "cat"))
    with pytest.raises(UserError, match="2 environments for 60 rows"):
        evaluate(model, X, y > y.mean(), [1, 2])
    for missing in (np.where(np.arange(60) < 2, np.nan, 1.0), np.array([None, None, *"a" * 58], dtype=object)):
        with pytest.raises(UserError, match="the environment: 2 of 60 values are missing"):
            evaluate(model, X, y > y.mean(), missing)
    mixed = np.array([1, "a"] * 30, dtype=object)  # which have no order
    assert set(evaluate(model, X, y > y.mean(), mixed).errors) == {"1", "a"}


def test_tables(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "word": ["x", "y", "x"], "y": [0.5, 1, 2]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv", label="y", environment="word")
    assert list(table.X) == ["a", "b"] and table.X.to_numpy().tolist() == [[1, 1], [2, 0], [3, 1]]
    assert table.label is not None and table.label.tolist() == [0.5, 1, 2]
    assert table.environment is not None and table.environment.tolist() == ["x", "y", "x"]
    some = read(tmp_path / "t.csv", features=("a",), rows="word=x")
    assert some.X["a"].tolist() == [1, 3] and some.label is None
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    split = np.array(["train", "train", "test", "test"])
    held = {"features": features, "labels": np.array([1, 0, 1, 1]), "split": split, "classes": np.array(["cat", "dog"])}
    held["fold"] = np.arange(4)  # no feature, though of numbers
    np.savez(tmp_path / "f.npz", **held)
    embedded = read(tmp_path / "f.npz", environment="split")
    assert embedded.X.to_numpy().tolist() == features.tolist() and list(embedded.X) == ["x0", "x1"]
    assert embedded.label is not None and embedded.label.tolist() == ["dog", "cat", "dog", "dog"]
    assert embedded.environment is not None and embedded.environment.tolist() == split.tolist()
    np.savez(tmp_path / "bare.npz", features=features, labels=np.array([1, 0, -1, 0]), classes=np.array([]))
    assert read(tmp_path / "bare.npz").label is None


def test_a_column_of_numbers_but_one_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,word,y\n1,2,x,0\n2,?,y,1\n3,4,x,0\n")
    with pytest.raises(UserError, match="b: '\\?' is no number, and most others are"):
        read(path, label="y")
    assert list(read(path, label="y", rows="word=x").X) == ["a", "b"]  # without that row it is of numbers
    assert read(path, label="y", rows="word=x").left == ()
    path.write_text("a,b,word,y\n1,2,x,0\n2,3,y,1\n")
    assert read(path, label="y").left == ("word",) and list(read(path, label="y").X) == ["a", "b"]


# ---------------------------------------- the command line


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stable") / "train.csv"
    assert main(["stable", "simulate", "selection", f"--out={path}", "--n=1000", "--seed=3"]) == 0
    return path


def test_from_simulation_to_errors(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(train)
    sample = selection_bias(1000, r=2.5, seed=3)
    assert list(frame) == [*(f"S{j}" for j in range(1, 6)), *(f"V{j}" for j in range(1, 6)), "Y"]
    assert np.allclose(frame.to_numpy(), np.column_stack([sample.X, sample.Y]))
    where, w, seen = (tmp_path / name for name in ("test.csv", "w.csv", "found.json"))
    assert main(["stable", "simulate", "selection", f"--out={where}", "--n=1000", "--r", "-3,3", "--seed=9"]) == 0
    data = [f"--data={train}", "--label=Y"]
    assert main(["stable", "reweight", *data, f"--out={w}", f"--json={seen}"]) == 0
    report = json.loads(seen.read_text())
    weights = pd.read_csv(w)["weight"]
    assert report["after"] < 0.5 * report["before"] and report["linear_after"] < report["linear_before"]
    assert report["ess"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    found = {}
    for name, how in (("equal", []), ("weighted", [f"--weights={w}"]), ("by", ["--by=rff"])):
        model = tmp_path / f"{name}.json"
        assert main(["stable", "fit", *data, "--alpha=0", "--no-intercept", f"--out={model}", *how]) == 0
        judged = [f"--data={where}", "--label=Y", "--environment=environment", f"--json={seen}"]
        assert main(["stable", "evaluate", str(model), *judged]) == 0
        found[name] = json.loads(seen.read_text())
    out = capsys.readouterr().out
    assert "dependence" in out and "deviation" in out and "V5" in out
    assert set(found["by"]["errors"]) == {"-3.0", "3.0"}
    assert found["by"]["errors"] == pytest.approx(found["weighted"]["errors"])
    assert found["weighted"]["deviation"] < 0.5 * found["equal"]["deviation"]
    for name, column in (("equal", None), ("weighted", weights)):  # weighted least squares by another way
        root = np.sqrt(np.ones(1000) if column is None else column.to_numpy())
        beta = np.linalg.lstsq(sample.X * root[:, None], sample.Y * root, rcond=None)[0]
        test = selection_bias(1000, r=-3, seed=(9, 1))
        error = math.sqrt(((test.Y - test.X @ beta) ** 2).mean())
        assert found[name]["errors"]["-3.0"] == pytest.approx(error)


def test_coloured_digits_mislead_a_linear_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw pixels: right in training, where the colour is, and wrong in the test, where it is the other way round."""
    images, features, model = tmp_path / "c.npz", tmp_path / "f.npz", tmp_path / "m.json"
    assert main(["stable", "simulate", "coloured", "--data=digits", f"--out={images}"]) == 0
    assert "test, environment 0.9" in capsys.readouterr().out
    assert main(["embed", "--encoder=pixels", f"--data={images}", f"--out={features}"]) == 0
    fitted = ["stable", "fit", f"--data={features}", "--kind=logistic", "--alpha=100", "--rows=split=train"]
    assert main([*fitted, f"--out={model}"]) == 0
    seen = tmp_path / "e.json"
    assert main(["stable", "evaluate", str(model), f"--data={features}", "--environment=split", f"--json={seen}"]) == 0
    errors = json.loads(seen.read_text())["errors"]
    assert errors["train"] < 25 and errors["test"] > 55


def test_names_with_commas_come_back(tmp_path: Path) -> None:
    X, y, _ = draw()
    pd.DataFrame({"a, b": X[:, 0], "c": X[:, 1], "y": y}).to_csv(tmp_path / "t.csv", index=False)
    data, model = [f"--data={tmp_path / 't.csv'}", "--label=y"], str(tmp_path / "m.json")
    assert main(["stable", "fit", *data, f"--out={model}"]) == 0
    assert main(["stable", "evaluate", model, *data]) == 0


def test_embeddings_are_reweighted_by_their_components(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty of an .npz, none of a table, unless asked; the model is on the features as they are."""
    g = np.random.default_rng(0)
    z = g.normal(size=(300, 40)) * np.linspace(3, 0.1, 40)
    features, table, seen, w = (tmp_path / name for name in ("f.npz", "t.csv", "s.json", "w.csv"))
    np.savez(features, features=z @ g.normal(size=(40, 60)), labels=g.integers(0, 3, 300))
    pd.DataFrame(z[:, :4] @ g.normal(size=(4, 4))).to_csv(table, index=False)
    for data, args, components in (
        (features, [], 20),
        (features, ["--components=5"], 5),
        (features, ["--components=60"], 40),  # the others are rounding
        (features, ["--components=0", "--by=dwr"], 0),
        (table, [], 0),
        (table, ["--components=3"], 3),
    ):
        assert main(["stable", "reweight", f"--data={data}", f"--json={seen}", f"--out={w}", *args]) == 0
        assert json.loads(seen.read_text())["components"] == components
        assert len(pd.read_csv(w)) == 300
        assert (f"first {components} principal components" in capsys.readouterr().out) == (components > 0)
    fitted = ["stable", "fit", f"--data={features}", "--by=rff", "--kind=logistic", f"--out={tmp_path / 'm.json'}"]
    assert main(fitted) == 0
    assert len(load(tmp_path / "m.json").names) == 60
    capsys.readouterr()
    one_line(capsys, "--components 61", "reweight", f"--data={features}", "--components=61")
    one_line(capsys, "give that too", "fit", f"--data={features}", "--components=3", f"--out={tmp_path / 'm.json'}")


def test_what_is_left_out_and_not_converged_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(200, 2)) @ [[1, 0.9], [0, 0.4]]
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "word": "x"}).to_csv(tmp_path / "t.csv", index=False)
    assert main(["stable", "reweight", f"--data={tmp_path / 't.csv'}"]) == 0
    out = capsys.readouterr().out
    assert "not numeric: word" in out and "before it converged" in out
    assert main(["stable", "reweight", f"--data={tmp_path / 't.csv'}", "--penalty=1e6"]) == 0
    assert "before it converged" not in capsys.readouterr().out


def test_environments_share_no_row(tmp_path: Path) -> None:
    for how in (["selection", "--r=2,3"], ["collinear", "--rho=0.2,0.9"]):
        assert main(["stable", "simulate", *how, f"--out={tmp_path / 't.csv'}", "--n=300"]) == 0
        frame = pd.read_csv(tmp_path / "t.csv")
        assert frame["S1"].is_unique


def test_the_other_simulations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.csv"
    assert main(["stable", "simulate", "confounded", f"--out={out}", "--n=50", "--p=10"]) == 0
    frame = pd.read_csv(out)
    assert list(frame) == [*(f"X{j}" for j in range(1, 11)), "T", "Y"] and set(frame["T"]) == {0, 1}
    assert main(["stable", "simulate", "collinear", f"--out={out}", "--n=20", "--rho", "-0.5,0.5"]) == 0
    frame = pd.read_csv(out)
    assert frame["environment"].tolist() == [-0.5] * 20 + [0.5] * 20 and list(frame)[9:] == ["S10", "Y", "environment"]


@pytest.mark.parametrize(
    ("columns", "args", "says"),
    [
        ({"a": [1, 2, None], "b": [1, 3, 2]}, [], "a: 1 of 3 values are missing"),
        ({"a": [1, 2, math.inf], "b": [1, 3, 2]}, [], "a: 1 of 3 values are infinite"),
        ({"a": [1, 2, 5], "b": ["x", "y", "z"]}, ["--features=a,b"], "b holds something else than numbers"),
        ({"a": [1, 2, 5], "b": [2, 2, 2]}, [], "1 features vary"),
        ({"a": [1, 2, 5], "b": [2, 4, 10], "c": [1, 0, 0]}, [], "a and b are copies of one another"),
        ({"a": ["x", "y"]}, [], "no column of numbers"),
        ({"a": [1, 2, 5, 3, 9], "b": [2, 4, 1, 9, 1], "c": [3, 6, 6, 12, 10]}, [], "c is a weighted sum of a, b"),
        ({"a": [1, 2, 3], "b": [1, 3, 2e200]}, [], "beyond 1e1"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--penalty=inf"], "penalty inf"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--by=srdo", "--clip=inf"], "clip inf"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--cosines=1000000000"], "more than a memory holds"),
        ({"a": [1, 2], "b": [0, 1]}, ["--features=a,bb"], "has no column 'bb', did you mean 'b'?"),
        ({"a": [1, 2], "b": [0, 1]}, ["--features=a,b", "--label=b"], "'b' is asked for twice"),
        ({"a": [1, 2], "b": [0, 1]}, ["--rows=a=7"], "has a = 7 (it is 1, 2)"),
        ({"a": [1, 2], "b": [0, 1]}, ["--by=dwr", "--cosines=3"], "--cosines is not a parameter of dwr"),
        ({"a": [1, 2], "b": [0, 1]}, ["--by=rf"], "rf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_tables_are_one_line(
    columns: dict[str, list[object]], args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "w.csv"
    one_line(capsys, says, "reweight", f"--data={tmp_path / 't.csv'}", f"--out={out}", *args)
    assert not out.exists()


def test_bad_commands_are_one_line(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = f"--data={train}", f"--out={tmp_path / 'm.json'}"
    zero, short, torn = (tmp_path / name for name in ("zero.csv", "short.csv", "torn.npz"))
    zero.write_text("weight\n" + "0\n" * 1000)
    short.write_text("weight\n1\n")
    torn.write_bytes(b"PK\x03\x04")
    one_line(capsys, "--label", "fit", data, out)
    one_line(capsys, "the weights sum to zero", "fit", data, out, "--label=Y", f"--weights={zero}")
    one_line(capsys, "1 weights for 1,000 rows", "fit", data, out, "--label=Y", f"--weights={short}")
    one_line(capsys, "not both", "fit", data, out, "--label=Y", f"--weights={zero}", "--by=rff")
    one_line(capsys, "cannot be read", "reweight", f"--data={torn}")
    bare, flat, array = (tmp_path / name for name in ("bare.npz", "flat.npz", "array.npy"))
    np.save(array, np.eye(3))
    array.rename(bare)
    one_line(capsys, "cannot be read", "reweight", f"--data={bare}")
    np.savez(flat, features=np.ones((3, 2)), labels=np.arange(3), classes=np.array("a"))
    one_line(capsys, "0 features vary", "reweight", f"--data={flat}", "--components=0")
    one_line(capsys, "no feature varies", "reweight", f"--data={flat}")
    one_line(capsys, "more than 200,000,000", "simulate", "confounded", out, "--p=100000000000")
    one_line(capsys, "more than 200,000,000", "simulate", "collinear", out, "--n=100000000000")
    one_line(capsys, "all labelled", "simulate", "coloured", out, "--val-fraction=0.9995")
    one_line(capsys, "is no file", "reweight", "--data=nowhere.csv")
    one_line(capsys, "is no file", "evaluate", "nothing.json", data, "--label=Y")
    one_line(capsys, "its size must be above 1", "simulate", "selection", out, "--r=0.5")
    one_line(capsys, "0 of 200,000 rows are kept", "simulate", "selection", out, "--r=inf")
    one_line(capsys, "give numbers, separated by commas", "simulate", "selection", out, "--r=much")
    one_line(capsys, "give each number once", "simulate", "selection", out, "--r=2,2")
    one_line(capsys, "does not hold grey images", "simulate", "coloured", out, f"--data={_rgb(tmp_path)}")
    one_line(capsys, "cannot be written", "simulate", "selection", "--out=missing/x.csv")
    assert not (tmp_path / "m.json").exists()
    assert main(["stable", "reweight", data, "--label=Y", "--by=srdo", f"--seed={2**40}"]) == 0


def _rgb(folder: Path) -> Path:
    np.savez(folder / "rgb.npz", **{f"{part}{key}": value for part in ("", "test_") for key, value in
             (("images", np.zeros((4, 6, 6, 3), np.uint8)), ("labels", np.arange(4)))})  # fmt: skip
    return folder / "rgb.npz"


def one_line(capsys: pytest.CaptureFixture[str], says: str, *args: str) -> None:
    assert main(["stable", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: "), captured.err
    assert says in captured.err, captured.err
