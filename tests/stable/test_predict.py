"""Weighted linear models against their normal equations and slopes, errors against loops."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.errors import UserError
from contrastkit.stable.predict import Linear, evaluate, fit, load


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
    with pytest.raises(UserError, match="colour contains text"):
        fit(worded, y, kind="ridge")
    with pytest.raises(UserError, match="2 contains text"):
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
    result = evaluate(model, X, y, where)
    errors = []
    for place in (0, 10, 20):
        squares = [(y[i] - X[i, 0] - 0.1 * X[i, 1] - 4 * X[i, 2] - 0.5) ** 2 for i in range(90) if where[i] == place]
        errors.append(math.sqrt(sum(squares) / len(squares)))
    mean = sum(errors) / 3
    assert result.errors == pytest.approx({"0": errors[0], "10": errors[1], "20": errors[2]})
    assert result.rows == {"0": 30, "10": 30, "20": 30}
    deviation = math.sqrt(sum((e - mean) ** 2 for e in errors) / 3)
    assert (result.average, result.deviation, result.worst) == pytest.approx((mean, deviation, max(errors)))
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
    with pytest.raises(UserError, match="needs a column 'b'"):
        again.predict(frame[["a", "c"]])
    with pytest.raises(UserError, match="has 3 features, these data 2"):
        again.predict(X[:, :2])
    state = json.loads((tmp_path / "m.json").read_text())
    for damage, says in (
        ("{", "is damaged or not a model"),
        ("[]", "is damaged or not a model"),
        (json.dumps({"format": 1}), "is damaged or not a model"),
        (json.dumps(state | {"format": 2}), "has format 2"),
        (json.dumps(state | {"names": ["a", "b"]}), "do not match"),
        (json.dumps(state | {"kind": "forest"}), "do not match"),
        (json.dumps(state | {"names": [["a"], {}, 3]}), "do not match"),
        (json.dumps(state | {"classes": 3}), "is damaged or not a model"),
        (json.dumps(state | {"coefficients": {"a": 1}}), "is damaged or not a model"),
        (json.dumps(state | {"intercept": [10**400, 0, 0]}), "is damaged or not a model"),
        ("[" * 100_000, "is damaged or not a model"),
        (json.dumps(state | {"intercept": [0, 0, math.nan]}), "do not match"),
    ):
        (tmp_path / "m.json").write_text(damage)
        with pytest.raises(UserError, match=says):
            load(tmp_path / "m.json")
    with pytest.raises(UserError, match="no such file"):
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
        ("the label is text: use logistic", {"Y": np.repeat("a", 60)}),
        ("every label is 1", {"Y": np.ones(60), "kind": "logistic"}),
        ("60 different labels in 60 rows are not classes", {"kind": "logistic"}),
        ("unknown predictor 'svm'", {"kind": "svm"}),
        (
            "the rows of class True all have weight zero",
            {"Y": np.arange(60) < 30, "w": np.arange(60) >= 30, "kind": "logistic"},
        ),
        ("separable; raise alpha 0", {"Y": X[:, 0] > 0, "kind": "logistic", "alpha": 0.0}),
        ("x2 has values beyond 1e100", {"X": X * [1, 1, 1e200]}),
        ("the label has values beyond 1e100", {"Y": y * 1e200}),
        ("alpha -1: give a finite penalty", {"alpha": -1.0}),
        ("x1: 60 of 60 values are infinite", {"X": X + [0, np.inf, 0]}),
    ):
        with pytest.raises(UserError, match=says):
            fit(**({"X": X, "Y": y, "kind": "ridge"} | how))  # type: ignore[arg-type]
    model = fit(X, y > y.mean(), kind="logistic")
    with pytest.raises(UserError, match="the label cat is not a class of the model \\(False, True\\)"):
        evaluate(model, X, np.where(y > y.mean(), "True", "cat"))
    with pytest.raises(UserError, match="2 environments for 60 rows"):
        evaluate(model, X, y > y.mean(), [1, 2])
    for missing in (np.where(np.arange(60) < 2, np.nan, 1.0), np.array([None, None, *"a" * 58], dtype=object)):
        with pytest.raises(UserError, match="the environment: 2 of 60 values are missing"):
            evaluate(model, X, y > y.mean(), missing)
    mixed = np.array([1, "a"] * 30, dtype=object)  # which have no order
    assert set(evaluate(model, X, y > y.mean(), mixed).errors) == {"1", "a"}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_any_kind_of_missing_value_is_counted(missing: object) -> None:
    X, y, _ = draw(n=6)
    words = np.array(["a", "b", missing, "a", "b", missing], dtype=object)
    with pytest.raises(UserError, match="the label: 2 of 6 values are missing"):
        fit(X, words, kind="logistic")
    with pytest.raises(UserError, match="the environment: 2 of 6 values are missing"):
        evaluate(fit(X, y, kind="ridge"), X, y, words)
    with pytest.raises(UserError, match="the label: 1 of 6 values are missing"):
        fit(X, np.array([*y[:5], missing], dtype=object), kind="ridge")
