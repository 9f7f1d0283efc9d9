"""Reweighting against loops and published errors."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from contrastkit.data import open_data
from contrastkit.errors import UserError
from contrastkit.stable.coloured import colour_images
from contrastkit.stable.reweight import METHODS, Reweighting, dwr, global_balancing, rff, srdo
from contrastkit.stable.simulate import ENVIRONMENTS, collinear, confounded, selection_bias
from contrastkit.tables.dependence import dependence


def objective(w: np.ndarray, z: list[list[list[float]]], penalty: float) -> tuple[float, float]:
    """Dependence and the whole objective, by loops; z[j][c] are the values of column c of feature j."""
    n, total = len(w), 0.0
    for j, one in enumerate(z):
        for k, other in enumerate(z):
            if j == k:
                continue
            for a in one:
                for b in other:
                    ma, mb = (sum(wi * v for wi, v in zip(w, values, strict=True)) for values in (a, b))
                    total += (sum(wi * u * v for wi, u, v in zip(w, a, b, strict=True)) - ma * mb) ** 2
    return total, total / (len(z) * (len(z) - 1)) + penalty * n * sum(wi * wi for wi in w)


def test_no_small_change_of_the_weights_lowers_the_objective() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(14, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    result = rff(x, cosines=1, penalty=0.01, iterations=2000, seed=3)
    draw = np.random.default_rng(3)
    omega, b = draw.normal(size=(2, 1)), draw.uniform(0, 2 * np.pi, size=(2, 1))
    xs = (x - x.mean(0)) / x.std(0)
    z = [[xs[:, j].tolist(), (math.sqrt(2) * np.cos(xs[:, j] * omega[j, 0] + b[j, 0])).tolist()] for j in range(2)]

    def loss(a: np.ndarray) -> float:
        w = np.exp(a - a.max())
        return objective(w / w.sum(), z, 0.01)[1]

    w = result.weights / result.weights.sum()
    at = np.log(w)
    slope = [(loss(at + step) - loss(at - step)) / 2e-5 for step in 1e-5 * np.eye(14)]
    first = [(loss(step) - loss(-step)) / 2e-5 for step in 1e-5 * np.eye(14)]
    assert max(map(abs, slope)) < 1e-3 * max(map(abs, first)) and loss(at) < loss(np.zeros(14))
    assert result.ess == pytest.approx(1 / (w**2).sum())


def slopes(loss: Callable[[np.ndarray], float], *points: np.ndarray) -> list[float]:
    """The largest finite difference of a loss at each point."""
    steps = 1e-5 * np.eye(len(points[0]))
    return [max(abs(loss(x + step) - loss(x - step)) / 2e-5 for step in steps) for x in points]


@pytest.mark.parametrize("unit", [1000, 10])
def test_dwr_is_where_its_loss_has_no_slope(unit: float) -> None:
    """The official code's loss, by loops."""
    g = np.random.default_rng(1)
    x = g.normal(size=(16, 3)) @ np.array([[1.0, 0.8, 0.3], [0.0, 0.6, -0.5], [0.0, 0.0, 0.8]])
    result = dwr(x, penalty=100, unit=unit, iterations=5000)
    xs, n, p = (x - x.mean(0)) / x.std(0), 16, 3

    def loss(G: np.ndarray) -> float:
        W, total = G**2, 0.0
        for j in range(p):
            inner = 0.0
            for k in range(p):
                if k != j:
                    second = sum(W[i] * xs[i, j] * xs[i, k] for i in range(n)) / n
                    inner += (second - sum(W * xs[:, j]) / n * sum(W * xs[:, k]) / n) ** 2
            total += math.sqrt(inner)
        return 2000 / p * total + unit * (sum(W) - n) ** 2 + 100 * sum(W**2)

    # Weights come back with mean 1: their scale is the one at which the loss is least.
    along = minimize_scalar(
        lambda c: loss(np.sqrt(c * result.weights)), bounds=(0.1, 1.5), method="bounded", options={"xatol": 1e-10}
    )
    at = np.sqrt(along.x * result.weights)
    end, begin = slopes(loss, at, np.ones(n))
    assert end < 1e-3 * begin and loss(at) < loss(np.ones(n))


def test_global_balancing_is_where_its_loss_has_no_slope() -> None:
    """CRLR's sum over treatments, by loops; the last feature is above its mean too rarely to be one."""
    g = np.random.default_rng(2)
    x = g.normal(size=(20, 3)) @ np.array([[1.0, 0.8, 0.3], [0.0, 0.6, -0.5], [0.0, 0.0, 0.8]])
    x = np.column_stack([x, (np.arange(20) < 3) + 0.01 * x[:, 0]])
    result = global_balancing(x, penalty=0.006, iterations=3000)
    xs = (x - x.mean(0)) / x.std(0)

    def loss(a: np.ndarray) -> float:
        w = np.exp(a) / np.exp(a).sum()
        total = 0.006 * 20 * sum(w**2)
        for j in range(3):
            treated = x[:, j] > x[:, j].mean()
            for k in range(4):
                if k != j:
                    one, zero = (np.average(xs[arm, k], weights=w[arm]) for arm in (treated, ~treated))
                    total += (one - zero) ** 2 / 9
        return total

    end, begin = slopes(loss, np.log(result.weights), np.zeros(20))
    assert end < 5e-3 * begin and loss(np.log(result.weights)) < loss(np.zeros(20))
    assert result.weights.mean() == pytest.approx(1)


def test_srdo_finds_the_ratio_of_two_normal_densities() -> None:
    """The density ratio of correlated to independent pairs is known; weights stay within the clip and follow the
    seed."""
    rho, n = 0.8, 4000
    g = np.random.default_rng(3)
    z = g.normal(size=(n, 2))
    x = np.column_stack([z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]])
    result = srdo(x, permutations=1, folds=2, clip=4, seed=1)
    quadratic = (x[:, 0] ** 2 - 2 * rho * x[:, 0] * x[:, 1] + x[:, 1] ** 2) / (1 - rho**2) - (x**2).sum(1)
    exact = np.clip(math.sqrt(1 - rho**2) * np.exp(quadratic / 2), 0.25, 4)
    assert np.corrcoef(np.log(result.weights), np.log(exact))[0, 1] > 0.8
    assert result.weights.max() / result.weights.min() <= 16 * (1 + 1e-9)
    assert result.linear_after < 0.5 * result.linear_before
    assert (srdo(x, permutations=1, folds=2, clip=4, seed=1).weights == result.weights).all()


@pytest.mark.slow
def test_all_methods_are_measured_alike() -> None:
    sample = selection_bias(1000, r=2.5, seed=3)
    result = {name: method(sample.X) for name, method in METHODS.items()}
    assert {(f.before, f.linear_before) for f in result.values()} == {
        (dependence(sample.X), dependence(sample.X, cosines=0))
    }
    for f in result.values():
        assert f.after == pytest.approx(dependence(sample.X, f.weights))
        assert f.linear_after == pytest.approx(dependence(sample.X, 7 * f.weights, cosines=0))
        assert f.weights.mean() == pytest.approx(1) and f.weights.min() >= 0
        assert f.ess == pytest.approx(f.weights.sum() ** 2 / (f.weights**2).sum())
    w = result["dwr"].weights
    xs = (sample.X - sample.X.mean(0)) / sample.X.std(0)
    cov = np.cov(xs, rowvar=False, aweights=w, ddof=0)
    assert result["dwr"].linear_after == pytest.approx((cov**2).sum() - (np.diag(cov) ** 2).sum())
    assert result["rff"].after < 0.5 * min(f.after for name, f in result.items() if name != "rff")
    assert result["dwr"].linear_after < 0.05 * result["dwr"].linear_before


def test_weights_are_eased_away_from_equal_ones() -> None:
    """With the final penalty from the start, all weight would end on one row here."""
    result = rff(selection_bias(2000, r=1.7, mode="V-to-S", seed=0).X)
    assert result.ess > 50 and not result.converged and not result.notices


def test_remarks_advise_what_helps() -> None:
    g = np.random.default_rng(0)
    independent = g.normal(size=(300, 3))
    idle = rff(independent, penalty=1e6)
    assert idle.notices == ["the weights had almost no effect; lower the penalty"]  # and not: use rff
    for by, linear, penalty, line in (
        ("rff", False, 0.0, ""),
        ("rff", True, 0.0, "; use cosines"),
        ("dwr", True, 1.0, "; lower the penalty, or use rff"),
        ("srdo", False, None, "; raise the clip, or use rff"),
    ):
        notices = replace(idle, by=by, linear=linear, penalty=penalty).notices
        assert notices == ["the weights had almost no effect" + line]
    few = rff(g.normal(size=(40, 2)) @ [[1, 0.99], [0, 0.1]], penalty=0)  # below 50 rows, 2 % are none
    assert few.ess < 10 and any("the weights collapsed" in line for line in few.notices)
    assert rff(independent, cosines=1, penalty=0.5, iterations=2000).converged
    ended = srdo(independent, permutations=1, folds=2, seed=2**40)
    assert ended.converged and ended.penalty is None and ended.by == "srdo"


def test_linear_weights_do_nothing_on_principal_axes() -> None:
    """Nothing is correlated there. Fourier features change the weights, because of nonlinear dependence."""
    X = selection_bias(1000, r=2.5, seed=1).X
    values, vectors = np.linalg.eigh(np.cov(X, rowvar=False))
    white = (X - X.mean(0)) @ vectors / np.sqrt(values)
    linear, fourier = dwr(white), rff(white)
    assert linear.weights == pytest.approx(1, abs=1e-6)
    assert "already uncorrelated" in linear.notices[0]
    assert fourier.ess < 950 and fourier.after < 0.95 * fourier.before and not fourier.notices


@pytest.mark.slow
def test_dwr_has_the_published_errors_where_selection_is_mild() -> None:
    rows = []
    for seed in range(5):
        train = selection_bias(2000, r=1.7, seed=seed)
        root = np.sqrt(dwr(train.X).weights)
        beta = np.linalg.lstsq(train.X * root[:, None], train.Y * root, rcond=None)[0]
        tests = [selection_bias(2000, r=r, seed=100 + seed) for r in ENVIRONMENTS]
        errors = [math.sqrt(((test.Y - test.X @ beta) ** 2).mean()) for test in tests]
        rows.append((np.mean(errors), np.std(errors)))
    assert np.mean(rows, axis=0) == pytest.approx([0.686, 0.012], abs=0.03)


@pytest.mark.slow
def test_reweighting_holds_up_under_selection() -> None:
    """Least squares without intercept, error over ten environments, mean over ten draws: the figures of the
    official generator for both ends, below 0.70 with a deviation below 0.03 for the reweighted."""
    rows: dict[str, list[tuple[float, float]]] = {"ols": [], "rff": [], "oracle": []}
    for seed in range(10):
        train = selection_bias(2000, r=2.5, seed=seed)
        tests = [selection_bias(2000, r=r, seed=100 + seed) for r in ENVIRONMENTS]
        for name, columns, w in (
            ("ols", 10, np.ones(2000)),
            ("rff", 10, rff(train.X, seed=seed).weights),
            ("oracle", 5, np.ones(2000)),
        ):
            root = np.sqrt(w)
            beta = np.linalg.lstsq(train.X[:, :columns] * root[:, None], train.Y * root, rcond=None)[0]
            errors = [math.sqrt(((test.Y - test.X[:, :columns] @ beta) ** 2).mean()) for test in tests]
            rows[name].append((float(np.mean(errors)), float(np.std(errors))))
    mean = {name: np.mean(row, axis=0) for name, row in rows.items()}
    assert mean["ols"] == pytest.approx([0.839, 0.200], abs=0.02)
    assert mean["oracle"] == pytest.approx([0.645, 0.011], abs=0.01)
    assert mean["rff"][0] < 0.70 and mean["rff"][1] < 0.03


def test_what_cannot_be_simulated_or_reweighted_is_said() -> None:
    with pytest.raises(UserError, match="give one above 1 or below -1"):
        selection_bias(10, r=0.5)
    with pytest.raises(UserError, match="give an even number"):
        selection_bias(10, 7, r=2)
    sizes: tuple[tuple[int, int, dict[str, Any], str], ...] = (
        (0, 10, {}, "0 rows"),
        (10, 10**9, {}, "more than 200,000,000 numbers"),
        (10, 10, {"mode": "S to V"}, "unknown mode 'S to V', did you mean 'S-to-V'"),
    )
    for n, p, how, says in sizes:
        with pytest.raises(UserError, match=says):
            selection_bias(n, p, r=2, **how)
    x = np.random.default_rng(0).normal(size=(300, 3))
    bad: tuple[tuple[Callable[..., Reweighting], dict[str, Any], str], ...] = (
        (rff, {"cosines": -1}, "cosines -1"),
        (rff, {"cosines": 10**7}, "do not fit in memory"),
        (rff, {"penalty": -1}, "penalty -1"),
        (rff, {"iterations": 0}, "iterations 0"),
        (dwr, {"penalty": math.inf}, "penalty inf"),
        (dwr, {"unit": -1}, "unit -1"),
        (global_balancing, {"penalty": math.nan}, "penalty nan"),
        (srdo, {"folds": 1}, "folds 1"),
        (srdo, {"permutations": 0}, "permutations 0"),
        (srdo, {"clip": 0.5}, "clip 0.5"),
    )
    for method, how, says in bad:
        with pytest.raises(UserError, match=says):
            method(x, **how)
    with pytest.raises(UserError, match="x1 has values beyond 1e100"):
        dwr(x * [1, 1e200, 1])
    with pytest.raises(UserError, match="2 rows: with fewer than three"):
        rff(x[:2])
    with pytest.raises(UserError, match="1 features vary"):
        rff(np.column_stack([np.arange(5.0), np.ones(5)]))
    white = np.linalg.qr(np.random.default_rng(0).normal(size=(300, 4)) @ np.eye(4))[0]
    white = np.linalg.qr(np.column_stack([np.ones(300), white]))[0][:, 1:]
    with pytest.raises(UserError, match="x1 and x2 are copies of one another"):
        dwr(np.column_stack([np.random.default_rng(0).normal(size=(9, 2)), np.zeros(9)])[:, [0, 1, 1]] * [1, 1, -3])
    with pytest.raises(UserError, match="1 of 9 values are infinite"):
        global_balancing(np.where(np.eye(9)[:, :3] * [1, 0, 0], np.inf, 1.0))
    with pytest.raises(UserError, match="srdo needs 100"):
        srdo(np.random.default_rng(0).normal(size=(99, 2)))
    with pytest.raises(UserError, match="has no treatment"):
        global_balancing(np.eye(20)[:, :2])
    with pytest.raises(UserError, match="between -1 and 1"):
        collinear(10, rho=1)
    with pytest.raises(UserError, match="at least one must influence the treatment"):
        confounded(10, 4, rate=0.1)
    with pytest.raises(UserError, match="probabilities only"):
        colour_images(open_data("digits"), environments=(0.1, 1.9))
    with pytest.raises(UserError, match="1 training images, all labelled"):
        colour_images(open_data("digits", val_fraction=0.9995))
    x = np.random.default_rng(0).normal(size=(500, 3))
    x[:, 2] = 0.1
    assert "constant features are ignored, 1 of them: x2" in rff(x, penalty=10).notices[0]
    tied = np.column_stack([x[:, 0], x[:, 0] + 1e-3 * x[:, 1]])
    assert any("the weights collapsed" in notice for notice in rff(tied, penalty=0).notices)
    linear = rff(white, cosines=0)  # uncorrelated to the last bit: there is nothing to do
    assert linear.ess == pytest.approx(300) and "already uncorrelated" in linear.notices[0]
