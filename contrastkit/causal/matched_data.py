"""The matched rows of a table, as data for other programs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.matching import Matching
from contrastkit.causal.strata import InStrata
from contrastkit.causal.study import Study
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats


def matched_data(study: Study, matching: Matching | InStrata) -> dict[str, Any]:
    """The matched rows with all columns of the table, and, as MatchIt's ``match.data()`` adds them: ``distance``, the
    propensity score, where there is one; ``weights``; and ``subclass``, the number of the pair or stratum, from 1. The
    regression of the outcome on the treatment with these weights has the difference of weighted means as its slope.

    Of pairs with replacement there is a row for each use of a unit, as of ``get_matches()``: a subclass is a unit,
    of weight 1, and its partners, of weight 1 over their number. ``id`` then tells rows of the same unit: its row in
    the table, from 0, unless the table has a column ``id`` that identifies its rows.

    Raises:
        UserError: the table has a column of one of these names.
    """
    rows, added = _in_pairs(matching) if isinstance(matching, Matching) else _in_strata(matching)
    ids = study.row_ids()
    columns: dict[str, Any] = {}
    if isinstance(matching, Matching) and matching.replacement and ids.name != "id":
        columns["id"] = ids.numbers[rows]
    if (propensity := getattr(matching, "propensity_", None)) is not None:
        columns["distance"] = propensity.scores_[rows]
    columns |= added
    names = [str(name) for name in study.frame.columns]
    if taken := [name for name in columns if name in names]:
        raise UserError(f"--matched: the table has columns of its own named {listed(taken, 4)}: rename them")
    own = {name: study.frame.iloc[rows, j].to_numpy() for j, name in enumerate(names)}
    return own | columns


def _in_strata(matching: InStrata) -> tuple[NDArray[Any], dict[str, Any]]:
    rows = np.flatnonzero(matching.strata_ >= 0)
    return rows, {"weights": matching.weights_[rows], "subclass": matching.strata_[rows] + 1}


def _in_pairs(matching: Matching) -> tuple[NDArray[Any], dict[str, Any]]:
    """The rows of all units and partners, their weights, and the number of their unit among the matched units."""
    i, j = matching.pairs_.T
    units, number = np.unique(i, return_inverse=True)
    rows = np.concatenate([units, j])
    subclass = np.concatenate([np.arange(len(units)), number.reshape(-1)]) + 1
    weights: Floats = np.concatenate([np.ones(len(units)), matching.shares_])
    if not matching.replacement:
        weights = matching.weights_[rows]
    order = np.argsort(subclass if matching.replacement else rows, kind="stable")
    return rows[order], {"weights": weights[order], "subclass": subclass[order]}
