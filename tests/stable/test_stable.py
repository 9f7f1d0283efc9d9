"""Simulated selection against its own definition, reweighting against loops and published errors."""

import math

import numpy as np
import pytest

from contrastkit.errors import UserError
from contrastkit.stable.reweight import rff
from contrastkit.stable.simulate import ENVIRONMENTS, Mode, selection_bias


def test_selection_undone_leaves_what_was_drawn() -> None:
    """Weights of one over the probability of being kept give the draws before selection back."""
    r, sample = 1.2, selection_bias(200_000, r=1.2, seed=1)
    S, V = sample.X[:, :5], sample.X[:, 5:]
    f = S @ np.array([1 / 3, -2 / 3, 1, -1 / 3, 2 / 3]) + S[:, 0] * S[:, 1] * S[:, 2]
    assert (sample.Y - f).mean() == pytest.approx(0, abs=0.01) and (sample.Y - f).var() == pytest.approx(0.3, abs=0.01)
    assert np.corrcoef(f, V[:, 4])[0, 1] > 0.2 and abs(np.corrcoef(f, V[:, 3])[0, 1]) < 0.01
    w = r ** (5 * np.abs(f - V[:, 4]))
    cov = np.cov(np.column_stack([S, V]), rowvar=False, aweights=w)
    expected = np.eye(10)
    for j in range(5):
        expected[j, j] = 0.8**2 + 0.2**2
        if j < 4:
            expected[j, j + 1] = expected[j + 1, j] = 0.8 * 0.2
    assert cov == pytest.approx(expected, abs=0.1)
    turned = selection_bias(5000, r=-2.5, seed=1)
    assert np.corrcoef(turned.Y, turned.X[:, 9])[0, 1] < -0.5


@pytest.mark.parametrize(
    ("mode", "s", "v", "between"),
    [
        ("S to V", [0.68, 0.16], [1 + 0.64 * 0.68 + 0.04 * 0.68 + 2 * 0.16 * 0.16], 0.8 * 0.68 + 0.2 * 0.16),
        ("V to S", [1.68, 0.16], [1.0, 0.0], 0.2),
        ("collinear", [1.0, 0.9], [1.0, 0.9], 0.1),
    ],
)
def test_the_modes_have_the_covariances_of_their_equations(
    mode: Mode, s: list[float], v: list[float], between: float
) -> None:
    """Of the columns that selection leaves alone: at a rate near 1 it leaves them all."""
    x = selection_bias(100_000, r=1.0001, mode=mode, seed=2).X
    cov = np.cov(x, rowvar=False)
    assert [cov[1, 1], cov[1, 2]] == pytest.approx(s, abs=0.04)
    assert [cov[6, 6], cov[6, 7]][: len(v)] == pytest.approx(v, abs=0.04)
    assert cov[1, 6] == pytest.approx(between, abs=0.04)


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
    return total, total + penalty * n * sum(wi * wi for wi in w)


def test_no_small_change_of_the_weights_lowers_the_objective() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(14, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    found = rff(x, features=1, penalty=0.02, iterations=2000, seed=3)
    draw = np.random.default_rng(3)
    omega, b = draw.normal(size=(2, 1)), draw.uniform(0, 2 * np.pi, size=(2, 1))
    xs = (x - x.mean(0)) / x.std(0)
    z = [[xs[:, j].tolist(), (math.sqrt(2) * np.cos(xs[:, j] * omega[j, 0] + b[j, 0])).tolist()] for j in range(2)]

    def loss(a: np.ndarray) -> float:
        w = np.exp(a - a.max())
        return objective(w / w.sum(), z, 0.02)[1]

    w = found.weights / found.weights.sum()
    at = np.log(w)
    slope = [(loss(at + step) - loss(at - step)) / 2e-5 for step in 1e-5 * np.eye(14)]
    first = [(loss(step) - loss(-step)) / 2e-5 for step in 1e-5 * np.eye(14)]
    assert max(map(abs, slope)) < 1e-3 * max(map(abs, first)) and loss(at) < loss(np.zeros(14))
    assert found.before == pytest.approx(objective(np.full(14, 1 / 14), z, 0.02)[0])
    assert found.after == pytest.approx(objective(w, z, 0.02)[0])
    assert found.ess == pytest.approx(1 / (w**2).sum())


def test_reweighting_holds_up_under_selection() -> None:
    """Least squares without intercept, error over ten environments, mean over five draws: the figures of the
    official generator for both ends, below 0.70 with a deviation below 0.03 for the reweighted."""
    rows: dict[str, list[tuple[float, float]]] = {"ols": [], "rff": [], "oracle": []}
    for seed in range(5):
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
    with pytest.raises(UserError, match="its size must be above 1"):
        selection_bias(10, r=0.5)
    with pytest.raises(UserError, match="an even number of them"):
        selection_bias(10, 7, r=2)
    with pytest.raises(UserError, match="1 features vary"):
        rff(np.column_stack([np.arange(5.0), np.ones(5)]))
    white = np.linalg.qr(np.random.default_rng(0).normal(size=(300, 4)) @ np.eye(4))[0]
    white = np.linalg.qr(np.column_stack([np.ones(300), white]))[0][:, 1:]
    linear = rff(white, features=0)  # uncorrelated to the last bit: there is nothing to do
    assert linear.ess == pytest.approx(300) and "uncorrelated already" in linear.remarks[0]
