"""What features and weights must be, whoever takes them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contrastkit.causal.study import Floats, covariates, numbers
from contrastkit.errors import UserError


def features(X: Any) -> tuple[Floats, tuple[str, ...]]:
    """What :func:`contrastkit.causal.study.covariates` gives, of sizes that have squares.

    Raises:
        UserError: as there, or a value beyond 1e100.
    """
    x, names = covariates(X)
    if len(huge := np.flatnonzero(np.abs(x).max(0) > 1e100)):
        raise UserError(f"{names[huge[0]]} has values beyond 1e100: choose other units")
    return x, names


def weights(w: ArrayLike, n: int) -> Floats:
    """Weights [n] with mean 1.

    Raises:
        UserError: no finite numbers, of another length, negative, or all zero.
    """
    found = numbers(np.asarray(w).reshape(-1, 1), ("the weight",))[:, 0]
    if len(found) != n:
        raise UserError(f"{len(found)} weights for {n} rows")
    if (found < 0).any():
        raise UserError(f"{int((found < 0).sum())} weights are negative")
    if not found.any():
        raise UserError("the weights sum to zero: nothing is left to fit")
    found = found / found.max()  # first, lest a sum of very large or very small ones is none
    return found * (n / found.sum())
