"""Simulated data against their own definitions."""

import math
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from contrastkit.data import open_data
from contrastkit.stable.coloured import colour_images
from contrastkit.stable.simulate import Mode, Seed, collinear, confounded, selection_bias


def test_selection_undone_leaves_what_was_drawn() -> None:
    """Weighting by the inverse selection probability recovers the distribution before selection."""
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
        ("S-to-V", [0.68, 0.16], [1 + 0.64 * 0.68 + 0.04 * 0.68 + 2 * 0.16 * 0.16], 0.8 * 0.68 + 0.2 * 0.16),
        ("V-to-S", [1.68, 0.16], [1.0, 0.0], 0.2),
        ("collinear", [1.0, 0.9], [1.0, 0.1], 0.0),
    ],
)
def test_the_modes_have_the_covariances_of_their_equations(
    mode: Mode, s: list[float], v: list[float], between: float
) -> None:
    """Without selection, which a rate near 1 approximates."""
    x = selection_bias(100_000, r=1.0001, mode=mode, seed=2).X
    cov = np.cov(x, rowvar=False)
    assert [cov[1, 1], cov[1, 2]] == pytest.approx(s, abs=0.04)
    assert [cov[6, 6], cov[6, 7]][: len(v)] == pytest.approx(v, abs=0.04)
    assert cov[1, 6] == pytest.approx(between, abs=0.04)


def test_the_last_column_of_a_mode_goes_with_the_first() -> None:
    """V_j of S_j and S_{j+1}, or S_j of V_j and V_{j+1}, round the end."""
    x = selection_bias(100_000, r=1.0001, mode="S-to-V", seed=2).X
    assert np.cov(x[:, 0], x[:, 9])[0, 1] == pytest.approx(0.2 * 0.68, abs=0.03)  # S1, V5
    assert np.cov(x[:, 4], x[:, 5])[0, 1] == pytest.approx(0, abs=0.03)  # S5, V1
    x = selection_bias(100_000, r=1.0001, mode="V-to-S", seed=2).X
    assert np.cov(x[:, 4], x[:, 5])[0, 1] == pytest.approx(0.8, abs=0.03)
    assert np.cov(x[:, 0], x[:, 9])[0, 1] == pytest.approx(0, abs=0.03)


def test_a_tenth_of_the_columns_is_biased() -> None:
    sample = selection_bias(4000, 20, r=1.3, seed=2)
    with_outcome = np.corrcoef(sample.Y, sample.X[:, 10:].T)[0, 1:]
    assert (with_outcome[8:] > 0.4).all() and (np.abs(with_outcome[:8]) < 0.06).all()


def test_places_with_a_stream_each_share_no_row() -> None:
    """With the same seed they do: a row selected at a large rate is selected at a smaller one."""

    def shared(a: Seed, b: Seed) -> int:
        one, other = (selection_bias(500, r=r, seed=seed).X[:, 0] for r, seed in ((3, a), (2, b)))
        return len(np.intersect1d(one, other))

    assert shared(7, 7) > 50
    assert shared((7, 1), (7, 2)) == shared(7, (7, 1)) == 0


def test_collinear_causes_have_their_covariance_and_outcome() -> None:
    sample = collinear(200_000, 12, rho=-0.7, seed=4)
    expected = np.eye(12)
    for j in range(0, 12, 2):
        expected[j, j + 1] = expected[j + 1, j] = -0.7
    assert np.cov(sample.X, rowvar=False) == pytest.approx(expected, abs=0.02)
    beta = [0.2, -0.4, 0.6, -0.8, 1, -0.2, 0.4, -0.6, 0.8, -1, 0.2, -0.4]
    noise = sample.Y - sample.X @ beta - sample.X[:, 0] * sample.X[:, 1] * sample.X[:, 2]
    assert [noise.mean(), noise.std()] == pytest.approx([0, 1], abs=0.01)
    assert np.corrcoef(noise, sample.X.T)[0, 1:] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("rate", "deciding"), [(0.2, 2), (0.8, 8)])
def test_a_confounded_trial_follows_its_equations(rate: float, deciding: int) -> None:
    """Regressions in each arm recover the coefficients; the difference in means is off by its closed form."""
    n, p = 200_000, 10
    trial = confounded(n, p, rate=rate, seed=5)
    own = np.array([0, 1, 0, 2, 0, 3, 0, 4, 0, 5])  # j / 2 for even j, counted from 1
    for arm, coefficients in ((~trial.T, np.r_[0, own]), (trial.T, np.r_[1, own + 1])):
        A = np.column_stack([np.ones(arm.sum()), trial.X[arm]])
        result, residual, *_ = np.linalg.lstsq(A, trial.Y[arm], rcond=None)
        assert result == pytest.approx(coefficients, abs=0.06)
        assert residual[0] / arm.sum() == pytest.approx(9, rel=0.02)
    shift = math.sqrt(2 / math.pi) / math.sqrt(deciding + 1)  # of each deciding column, where T = 1
    assert trial.X[trial.T].mean(0) == pytest.approx([shift] * deciding + [0] * (p - deciding), abs=0.02)
    assert trial.att == pytest.approx(1 + deciding * shift, abs=0.05)
    naive = trial.Y[trial.T].mean() - trial.Y[~trial.T].mean()
    assert naive - trial.att == pytest.approx(2 * shift * own[:deciding].sum(), abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p", "rate", "bias"), [(5000, 50, 0.2, 7.322), (5000, 50, 0.8, 51.762)])
def test_the_naive_bias_is_that_of_the_official_example(n: int, p: int, rate: float, bias: float) -> None:
    result = []
    for seed in range(40):
        trial = confounded(n, p, rate=rate, seed=seed)
        result.append(trial.Y[trial.T].mean() - trial.Y[~trial.T].mean() - trial.att)
    assert np.mean(result) == pytest.approx(bias, rel=0.1)


def test_coloured_digits(tmp_path: Path) -> None:
    """Colours agree with labels at the rate of the environment, shapes are unchanged, and open_data reads the file."""
    data = open_data("digits")
    arrays = colour_images(data, seed=6).arrays
    path = tmp_path / "coloured.npz"
    np.savez(path, **arrays)
    seen = open_data(str(path))
    assert seen.test is not None and seen.train.classes == ("0 to 4", "5 to 9")
    for source, grey, prefix in ((seen.train, data.train, ""), (seen.test, data.test, "test_")):
        assert grey is not None and source.labels is not None and grey.labels is not None
        assert isinstance(source.images, Tensor) and isinstance(grey.images, Tensor)
        images = source.images.numpy()
        assert (images.max(1) == grey.images.numpy()[:, 0]).all() and not images[:, 2].any()
        label, shape = source.labels.numpy() == 1, grey.labels.numpy() >= 5
        assert (label == shape).mean() == pytest.approx(0.75, abs=0.05)
        green, red = images[:, 1].any((1, 2)), images[:, 0].any((1, 2))
        assert (green != red).all()
        environment = arrays[f"{prefix}environment"]
        assert set(environment) == ({0.1, 0.2} if prefix == "" else {0.9})
        for e in set(environment):
            here = environment == e
            assert (green != label)[here].mean() == pytest.approx(e, abs=0.04)
            assert here.sum() == pytest.approx(len(label) / len(set(environment)), abs=1)
