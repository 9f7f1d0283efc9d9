"""Folds for cross-fitting that are a function of what the rows contain, not of their order."""

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.ties import levels, rounding

Rows = NDArray[np.int64]
Splits = list[tuple[Rows, Rows]]  # rows to learn from, rows to predict


def fingerprints(x: Floats) -> NDArray[np.uint64]:
    """A pseudo-random number [n] for each row of x [n, p], equal for equal rows: a hash of the ranks of its numbers
    within their columns, which depend neither on units nor on the order of rows."""
    state = np.zeros(len(x), np.uint64)
    for column in x.T:
        state = _mixed(state + levels(column, rounding(column)).astype(np.uint64))
    return state


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A step of SplitMix64, as in :mod:`contrastkit.rng`, whose torch is slow to import; products wrap around."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def settled_order(key: NDArray[np.uint64], t: Bools, *values: Floats) -> Rows:
    """The order [n] in which rows are put before models see them: pseudo-random, since some models split their rows in
    sequence, and decided by the fingerprints ``key`` of their covariates, then by treatment, then by further values, so
    that the order of the data does not matter. Rows that are still equal are interchangeable."""
    order = np.lexsort([*values[::-1], t, key])
    key = key[order]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    place = np.arange(len(key)) - np.repeat(starts, np.diff(np.r_[starts, len(key)]))  # among rows of one key
    return order[np.argsort(_mixed(key + place.astype(np.uint64)), kind="stable")]


def check_folds(folds: int, t: Bools) -> None:
    """Raise a UserError unless ``folds`` is 0, or from 2 to the number of units of the smaller arm."""
    fewest = int(min(t.sum(), (~t).sum()))
    if folds > fewest:
        raise UserError(f"{folds} folds of an arm with {fewest:,} units: use no more folds than that, or 0 for none")
    require_folds(folds)


def require_folds(folds: int) -> None:
    """Raise a UserError unless ``folds`` is 0, or from 2."""
    if folds != 0 and folds < 2:
        raise UserError(f"{folds} folds: cross-fitting needs two folds or more, or 0 for none")


def splits(x: Floats, t: Bools, key: NDArray[np.uint64], folds: int, *seeds: int, groups: Rows | None = None) -> Splits:
    """For each fold the rows outside it, to learn from, and those in it; without folds, all rows for both.

    Each arm, and in each arm each rare level (:func:`rarest_levels`), is spread evenly over the folds, in an order that
    the fingerprints ``key`` and the seeds decide. Rows must be in their settled order: equal ones are dealt in turn.
    Clusters, numbered in ``groups`` [n], stay whole; those with similar shares of treated are spread evenly and, among
    clusters of one share, those with the same rare level.

    Raises:
        UserError: more folds than clusters, or all units of an arm are in one cluster.
    """
    rows = np.arange(len(x))
    if not folds:
        return [(rows, rows)]
    turn = key
    for seed in seeds:
        turn = _mixed(turn + np.uint64(seed % 2**32))
    if groups is not None:
        fold = _folds_of_clusters(groups, t, turn, rarest_levels(x, 10 * folds), folds)
        for arm, name in ((t, "treated"), (~t, "untreated")):
            if (fold[arm] == fold[arm][0]).all():
                raise UserError(
                    f"a fold leaves no {name} units to learn from, since units of a cluster, or copies of one, stay "
                    "together: do without folds, or name smaller clusters"
                )
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    fold = np.empty(len(x), np.int64)
    for arm in (t, ~t):
        dealt = rows[arm][np.lexsort([turn[arm], rarest_levels(x[arm], 10 * folds)])]
        fold[dealt] = np.arange(len(dealt)) % folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _folds_of_clusters(groups: Rows, t: Bools, turn: NDArray[np.uint64], levels: Rows, folds: int) -> Rows:
    """The fold [n] of each row."""
    sizes = np.bincount(groups)
    if folds > len(sizes):
        raise UserError(f"{folds} folds of {len(sizes)} clusters: use fewer --folds")
    draw = np.zeros(len(sizes), np.uint64)
    np.add.at(draw, groups, _mixed(turn + t.astype(np.uint64)))
    fold = np.empty(len(sizes), np.int64)
    level = np.full(len(sizes), levels.max())
    np.minimum.at(level, groups, levels)
    fold[np.lexsort([draw, level, np.bincount(groups, t) / sizes])] = np.arange(len(sizes)) % folds
    return fold[groups]


def rarest_levels(x: Floats, rare: int) -> Rows:
    """A number [n] for each row of x [n, p], equal for rows with the same rarest level: of the columns with two values,
    the value that the fewest rows have, if these are no more than ``rare``. Rows without any are last."""
    n, p = x.shape
    group, fewest = np.full(n, 2 * p), np.full(n, rare + 1)
    for j, column in enumerate(x.T):
        low, high = column == column.min(), column == column.max()
        if (low | high).all() and not low.all():
            for k, has in enumerate((low, high)):
                rarer = has & (has.sum() < fewest)
                group[rarer], fewest[rarer] = 2 * j + k, has.sum()
    return group


def one_sided(x: Floats, t: Bools) -> list[int]:
    """The columns of x [n, p] with two values of which an arm has only one."""
    lows, highs = x.min(0), x.max(0)
    constant = np.any([x[arm].min(0) == x[arm].max(0) for arm in (t, ~t)], axis=0) & (lows < highs)
    return [int(j) for j in np.flatnonzero(constant) if np.isin(x[:, j], [lows[j], highs[j]]).all()]
