"""Target populations: all units (ATE), the treated (ATT), the untreated (ATC), the units with overlap (ATO).

An estimate for part of a population has a suffix, such as ``ATT of the matched`` or ``ATE after trimming``.
"""

import numpy as np
from numpy.typing import NDArray

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


def of_matched(estimand: str, dropped: NDArray[np.int64]) -> str:
    """The estimand of a matching that dropped these rows of the target population."""
    return f"{estimand} of the matched" if len(dropped) else estimand


def without_suffix(estimand: str) -> str:
    """The estimand on the whole population: ``ATT of the matched`` is ``ATT``."""
    return estimand.split()[0]
