"""Normalisation of weights."""

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats


def mean_one(w: Floats, t: Bools) -> Floats:
    """Scale weights [n] to mean 1 in each arm (Hajek normalisation)."""
    w = w.copy()
    for arm in (t, ~t):
        if not w[arm].sum() > 0:
            raise UserError("the weights of an arm sum to zero: no units are left to compare with")
        w[arm] /= w[arm].mean()
    return w
