"""Which covariates separate the arms, so that units have no counterpart and the likelihood of a propensity score has no
maximum (Albert & Anderson 1984)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, standardised

SHARE = 0.1  # of the largest coefficient of a separating direction, from which a column is named
ROWS = 2000  # that each step of the linear program adds


@dataclass(frozen=True)
class OneSided:
    """A level of a column that one arm lacks."""

    column: str
    level: str
    rows: int
    treated: bool  # whether all of its rows are treated, or none

    def __str__(self) -> str:
        rows = f"{self.rows:,} row{'s' if self.rows > 1 else ''}"
        return f"{self.column}={self.level} ({rows}, {'all' if self.treated else 'none'} treated)"


def why_separated(X: Covariates, t: Bools) -> str:
    """Why covariates X [n, p] separate the arms t [n], or some of their units, and what to do about it: the levels that
    an arm lacks; else a column whose values in one arm exceed those in the other; else the columns of a separating
    direction or, if there is none, those of a classification tree."""
    if lacking := one_sided(X, t):
        told, columns = listed([str(level) for level in lacking], 5), list(dict.fromkeys(v.column for v in lacking))
        rows = " ".join(f"--rows '{v.column}!={v.level}'" for v in lacking) if len(lacking) <= 3 else ""
        drop = f", or these rows by {rows}" if rows else ""
        return f"perfect separation by {told}: leave {listed(columns, 5)} out of the covariates{drop}"
    for j, name in enumerate(X.names):
        for above, below, high, low in ((t, ~t, "treated", "untreated"), (~t, t, "untreated", "treated")):
            least, most = X.x[above, j].min(), X.x[below, j].max()
            if least > most:
                return (
                    f"perfect separation by {name}, at most {most:.6g} for the {low} and at least {least:.6g} for the "
                    f"{high}: leave {X.origins[j]} out of the covariates"
                )
    b, separated = separating_direction(X.x, t)
    if not separated:
        b, separated = _importance(X.x, t), len(t)
    named = [j for j in np.argsort(-np.abs(b), kind="stable") if abs(b[j]) >= SHARE * np.abs(b).max()]
    columns = list(dict.fromkeys(X.origins[j] for j in named))
    tell, one = ("tells", "it") if len(columns) == 1 else ("together tell", "one of them")
    return (
        f"perfect separation: {listed(columns, 6)} {tell} the arm of at least {separated:,} of {len(t):,} units for "
        f"certain: leave {one} out of the covariates"
    )


def one_sided(X: Covariates, t: Bools) -> list[OneSided]:
    """The levels, of factors and of columns of 0 and 1, whose rows are all in one arm."""
    sizes = Counter(X.origins)
    found = []
    for j in np.flatnonzero(((X.x == 0) | (X.x == 1)).all(0)):
        column, is_factor = X.origins[j], sizes[X.origins[j]] > 1
        for value in (1,) if is_factor else (0, 1):
            of_level = t[X.x[:, j] == value]
            if len(of_level) and (of_level.all() or not of_level.any()):
                level = X.names[j].removeprefix(f"{column}=") if is_factor else str(value)
                found.append(OneSided(column, level, len(of_level), bool(of_level[0])))
    return found


def check_varies(X: Covariates, arm: Bools) -> None:
    """Check that no column is constant in this arm [n], at another value than the mean of the other arm: a regression
    in it could not predict the mean of the other.

    Raises:
        UserError: a column, named in the message, is.
    """
    first = X.x[arm][0]
    fixed = (X.x[arm] == first).all(0) & ~np.isclose(X.x[~arm].mean(0), first, rtol=1e-12, atol=0)
    if names := [X.names[j] for j in np.flatnonzero(fixed)]:
        columns = list(dict.fromkeys(X.origins[j] for j in np.flatnonzero(fixed)))
        raise UserError(
            f"the effect is not identified: {listed(names, 4)} has one value in the arm whose regression predicts the "
            f"other: leave {listed(columns, 4)} out of the covariates"
        )


def separating_direction(x: Floats, t: Bools) -> tuple[Floats, int]:
    """A direction b [p] of the standardised columns of x [n, p], ||b||_1 <= 1, along which no treated unit is below an
    untreated one, and how many units are strictly apart from the other arm along it; 0 if there is no such direction.

    Of all of them it is that with the largest sum of margins, by a linear program (Konis 2007), whose vertices have few
    nonzero coefficients; constraints that a solution violates are added until there are none.
    """
    sign = np.where(t, 1.0, -1.0)
    A = sign[:, None] * np.column_stack([np.ones(len(x)), standardised(x)])  # A b >= 0: no unit on the wrong side
    p = x.shape[1]
    gain = A.sum(0)
    cost = -np.concatenate([gain, -gain[1:]])  # b = (constant, positive parts) - (0, negative parts)
    budget = np.concatenate([[0.0], np.ones(2 * p)])
    margin = np.zeros(len(x))
    violated = np.concatenate([np.flatnonzero(arm)[: ROWS // 2] for arm in (t, ~t)])
    rows = np.empty(0, np.int64)
    while len(violated):
        rows = np.union1d(rows, violated)
        G = np.vstack([np.column_stack([-A[rows], A[rows, 1:]]), budget])
        h = np.concatenate([np.zeros(len(rows)), [1.0]])
        solved = linprog(cost, G, h, bounds=[(None, None)] + [(0, None)] * (2 * p))
        if solved.x is None:
            return np.zeros(p), 0
        b = solved.x[: p + 1] - np.concatenate([[0.0], solved.x[p + 1 :]])
        margin = A @ b
        worst = np.argsort(margin)[:ROWS]
        violated = np.setdiff1d(worst[margin[worst] < -1e-7], rows)
    score = sign * margin
    apart = np.where(t, score > score[~t].max() + 1e-6, score < score[t].min() - 1e-6)
    return b[1:], int(apart.sum())


def _importance(x: Floats, t: Bools) -> Floats:
    """The importance [p] of the columns of x [n, p] for a classification tree."""
    from sklearn.tree import DecisionTreeClassifier  # slow to import

    importance: Floats = DecisionTreeClassifier(random_state=0).fit(x, t).feature_importances_
    return importance
