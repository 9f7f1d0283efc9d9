"""Whose effect is meant: all (ATE), the treated (ATT), the untreated (ATC), or those who could be either (ATO)."""

import numpy as np

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools


def population(estimand: str, t: Bools) -> Bools:
    """The units that an effect is on, bool [n]: all (ATE), the treated (ATT), the untreated (ATC).

    Raises:
        UserError: another estimand.
    """
    known = {"ATE": np.ones_like(t), "ATT": t, "ATC": ~t}
    if estimand not in known:
        raise UserError(f"{estimand} is not among the estimands here: {', '.join(known)}")
    return known[estimand]
