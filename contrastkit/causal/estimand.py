"""Target populations: all units (ATE), the treated (ATT), the untreated (ATC)."""

import numpy as np

from contrastkit.errors import check_choice
from contrastkit.tables.checks import Bools


def population(estimand: str, t: Bools) -> Bools:
    """The target population of an estimand, bool [n]: all (ATE), the treated (ATT), the untreated (ATC).

    Raises:
        UserError: unknown estimand.
    """
    populations = {"ATE": np.ones_like(t), "ATT": t, "ATC": ~t}
    check_choice("estimand", estimand, populations)
    return populations[estimand]
