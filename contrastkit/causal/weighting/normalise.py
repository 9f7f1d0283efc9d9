"""Normalisation of weights."""

from collections.abc import Sequence

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats


def mean_one(w: Floats, t: Bools) -> Floats:
    """Scale weights [n] to mean 1 in each of two arms (Hajek normalisation)."""
    return mean_one_in_each(w, (t, ~t))


def mean_one_in_each(w: Floats, arms: Sequence[Bools]) -> Floats:
    """Scale weights [n] to mean 1 in each arm, bool [n]."""
    w = w.copy()
    for arm in arms:
        if not w[arm].sum() > 0:
            raise UserError("the weights of an arm sum to zero: no units are left to compare with")
        w[arm] /= w[arm].mean()
    return w
