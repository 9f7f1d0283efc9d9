"""Simulated data with spurious correlations that change between environments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError, check_choice
from contrastkit.stable.names import Mode
from contrastkit.tables.checks import Floats

Seed = int | Sequence[int]  # a sequence names an independent stream: (seed, position)
LARGEST = 2 * 10**8  # numbers in a table
LARGEST_RATE = 1000  # the paper goes to 3
ENVIRONMENTS = (-3.0, -2.0, -1.7, -1.5, -1.3, 1.3, 1.5, 1.7, 2.0, 3.0)  # of the test (Kuang et al. 2020)
BATCH = 20_000  # rows drawn at a time, before selection
BETA = (1 / 3, -2 / 3, 1.0, -1 / 3, 2 / 3, -1.0)


@dataclass(frozen=True)
class Sample:
    """X [n, p] and Y [n]; the first ``stable`` columns of X are the stable features S, the others V."""

    X: Floats
    Y: Floats
    stable: int


@dataclass(frozen=True)
class Trial:
    """X [n, p], a treatment T bool [n] that depends on X, the outcome Y [n], and the true effect on the treated."""

    X: Floats
    T: NDArray[np.bool_]
    Y: Floats
    att: float

    def columns(self) -> dict[str, NDArray[Any]]:
        """X1, ..., T and Y, [n] each."""
        return {f"X{j + 1}": x for j, x in enumerate(self.X.T)} | {"T": self.T.astype(int), "Y": self.Y}

    @property
    def difference_in_means(self) -> float:
        """The naive estimate of the effect."""
        return float(self.Y[self.T].mean() - self.Y[~self.T].mean())

    def as_json(self) -> dict[str, Any]:
        shape = {"rows": len(self.Y), "features": self.X.shape[1], "treated": int(self.T.sum())}
        return shape | {"att": self.att, "difference_in_means": self.difference_in_means}


def selection_bias(n: int, p: int = 10, *, r: float, mode: Mode = "independent", seed: Seed = 0) -> Sample:
    """Regression under selection (Kuang et al., AAAI 2020, Sec. 5; as in StableLearn's SVI/data/selection_bias.py).

    S_j = 0.8 Z_j + 0.2 Z_{j+1}, Y = S beta + S_1 S_2 S_3 + noise of variance 0.3; V has no effect on Y. A row is
    selected with probability |r|^(-5 sum_b |f(S) - sign(r) V_b|) over the last tenth of the columns, which correlates
    these V with Y: more strongly for larger |r|, in the direction of its sign.

    Args:
        n: number of selected rows. p: number of columns, half of them S.
        r: the bias rate, |r| > 1.
        mode: V independent of S; V computed from S ("S-to-V"); S computed from V ("V-to-S"); or collinear:
            correlations of 0.9 within S and of 0.1 within V, none between.
        seed: random seed. Rates with the same seed share rows, for a row selected at a large rate is selected at a
            smaller one too: give each environment its own seed, (seed, position).

    Raises:
        UserError: an unknown mode, no rows, |r| at most 1, too few columns, or so many columns (a tenth of them must be
            near f) or so large a rate that hardly any row is selected.
    """
    if not abs(r) > 1:
        raise UserError(f"a bias rate of {r:g} has no effect: give one above 1 or below -1")
    if abs(r) > LARGEST_RATE:
        raise UserError(f"a bias rate of {r:g} selects hardly any row: give one from -{LARGEST_RATE} to {LARGEST_RATE}")
    if p < 6 or p % 2:
        raise UserError(f"{p} columns: give an even number, 6 or more")
    check_choice("mode", mode, get_args(Mode))
    _check_size(max(n, BATCH) if n > 0 else n, p)
    g, s = np.random.default_rng(seed), p // 2
    beta = np.resize(BETA, s)
    biased = slice(p - max(1, p // 10), p)
    X, Y, n_selected, n_drawn = [], [], 0, 0
    while n_selected < n:
        if n_drawn >= 200_000 and n_selected < n_drawn / 10_000:
            raise UserError(f"{n_selected} of {n_drawn:,} rows selected at rate {r:g} with {p} columns: lower either")
        S, V = _draw(g, BATCH, s, mode)
        f = S @ beta + S[:, 0] * S[:, 1] * S[:, 2]
        x = np.concatenate([S, V], axis=1)
        distance = np.abs(f[:, None] - np.sign(r) * x[:, biased]).sum(1)
        selected = g.uniform(size=len(f)) < abs(r) ** (-5 * distance)
        X.append(x[selected])
        Y.append(f[selected] + g.normal(0, np.sqrt(0.3), int(selected.sum())))
        n_selected, n_drawn = n_selected + int(selected.sum()), n_drawn + len(f)
    return Sample(np.concatenate(X)[:n], np.concatenate(Y)[:n], s)


def _draw(g: np.random.Generator, n: int, s: int, mode: Mode) -> tuple[Floats, Floats]:
    if mode == "collinear":
        return _correlated(g, n, s, 0.9), _correlated(g, n, s, 0.1)
    Z = g.normal(size=(n, s + 1))
    chain = 0.8 * Z[:, :-1] + 0.2 * Z[:, 1:]
    if mode == "independent":
        return chain, g.normal(size=(n, s))
    if mode == "S-to-V":
        shifted = np.roll(chain, -1, axis=1)
        return chain, 0.8 * chain + 0.2 * shifted + g.normal(size=(n, s))
    V = g.normal(size=(n, s))
    return 0.2 * V + 0.8 * np.roll(V, -1, axis=1) + g.normal(size=(n, s)), V


def _correlated(g: np.random.Generator, n: int, s: int, rho: float) -> Floats:
    """Normal [n, s] of variance 1, each pair of columns correlated by ``rho``."""
    return np.sqrt(rho) * g.normal(size=(n, 1)) + np.sqrt(1 - rho) * g.normal(size=(n, s))


def _check_size(n: int, p: int) -> None:
    """Raise a UserError for a table without rows, or too large for memory."""
    if n < 1:
        raise UserError(f"{n} rows: ask for at least one")
    if n * p > LARGEST:
        raise UserError(f"{n:,} rows of {p:,} columns are more than {LARGEST:,} numbers: ask for fewer")


def collinear(n: int, p: int = 10, *, rho: float = 0.8, seed: Seed = 0) -> Sample:
    """Regression on collinear causes with a misspecified model (Shen et al., AAAI 2020; as in StableLearn's
    collinearity.py).

    X ~ N(0, Sigma), columns correlated in pairs by ``rho``; Y = X beta + X_1 X_2 X_3 + N(0, 1), beta = 1/5, -2/5,
    3/5, -4/5, 1, then with the signs reversed, and so on. Every column is a cause: the product, which a linear
    model omits, correlates with X_3 as X_1 does with X_2. The code uses a single ``rho``; here each value makes an
    environment.

    Args:
        n: number of rows. p: number of columns.
        rho: the correlation within a pair.
        seed: random seed.

    Raises:
        UserError: a correlation outside (-1, 1), no rows, or too few columns.
    """
    if not abs(rho) < 1:
        raise UserError(f"correlation {rho:g}: give one between -1 and 1")
    if p < 4 or p % 2:
        raise UserError(f"{p} columns: give an even number, 4 or more")
    _check_size(n, p)
    g = np.random.default_rng(seed)
    X = g.normal(size=(n, p))
    X[:, 1::2] = rho * X[:, ::2] + np.sqrt(1 - rho**2) * X[:, 1::2]
    beta = np.resize(np.array([1, -2, 3, -4, 5, -1, 2, -3, 4, -5]) / 5, p)
    return Sample(X, X @ beta + X[:, 0] * X[:, 1] * X[:, 2] + g.normal(size=n), p)


def confounded(n: int, p: int, *, rate: float, seed: Seed = 0) -> Trial:
    """A treatment that depends on causes of the outcome (Kuang et al., KDD 2017; as in the example of
    KunKuang/Differentiated-Confounder-Balancing).

    X ~ N(0, I), T = 1 where X_1 + ... + X_{rate p} + N(0, 1) > 0; untreated Y = sum over even j of (j / 2) X_j +
    N(0, 3^2); treatment adds 1 + X_1 + ... + X_p.

    Args:
        n: number of rows. p: number of columns.
        rate: share of the columns that influence the treatment.
        seed: random seed.

    Raises:
        UserError: no rows, no column influences the treatment, or an arm is empty.
    """
    causes = round(rate * p) if 0 <= rate <= 1 else 0
    if causes < 1:
        raise UserError(f"a share of {rate:g} of {p} columns: at least one must influence the treatment")
    _check_size(n, p)
    g = np.random.default_rng(seed)
    X = g.normal(size=(n, p))
    T = X[:, :causes].sum(1) + g.normal(size=n) > 0
    if T.all() or not T.any():
        raise UserError(f"{n} rows, all {'treated' if T.all() else 'untreated'}: ask for more rows")
    j = np.arange(1, p + 1)
    effect = 1 + X.sum(1)
    Y = X @ np.where(j % 2 == 0, j / 2, 0.0) + g.normal(0, 3, n) + T * effect
    return Trial(X, T, Y, float(effect[T].mean()))
