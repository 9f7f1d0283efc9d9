"""Whether predicted effects rank units rightly: groups of units by the effect that a model which has not seen them
predicts (the sorted group average treatment effects, GATES, of Chernozhukov, Demirer, Duflo & Fernandez-Val 2025,
"Fisher-Schultz lecture: generic machine learning inference on heterogeneous treatment effects in randomized
experiments"), and the slope of effects on predicted ones (their best linear predictor, BLP).

They split the units in halves many times and take medians. Here the units of each fold are ranked by a model of the
folds before it (Wager 2024, "Sequential validation of treatment heterogeneity"): were each fold ranked by a model of
all others, the folds' estimates would depend on one another, and tests would reject too often where effects are equal.
"""

from dataclasses import dataclass

import numpy as np

from contrastkit.causal.folds import Rows, fingerprints, settled_order, splits
from contrastkit.causal.heterogeneity.learners import effect_learner
from contrastkit.causal.heterogeneity.projection import project
from contrastkit.causal.inference import Effect
from contrastkit.causal.models import Models
from contrastkit.causal.names import EffectModel
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates, standardised

PARTS = 5  # of the units, by their predicted effects
FOLDS = 5
LEARNT = 2  # folds that are only learnt from: a model of fewer rows would rank at random
EQUAL = 1e-9  # times the standard deviation of pseudo-outcomes: predictions that differ by less are equal


@dataclass(frozen=True, eq=False)
class Ranking:
    """Units ranked by the effect that is predicted for them.

    Attributes:
        parts: int64 [n], the fifth of its fold in which each unit is, from 0 for the least predicted effects; -1 for
            those that are only learnt from.
        predicted: mean predicted effect of each fifth that has units. groups: the effect of each.
        difference: of the last fifth and the first.
        slope: 1 where effects differ as predicted, 0 where predictions tell nothing of them.
    """

    parts: Rows
    predicted: list[float]
    groups: list[Effect]
    difference: Effect
    slope: Effect


def predicted_effects(
    X: Covariates, t: Bools, y: Floats, s: Floats, groups: Rows | None, learner: EffectModel, *, models: Models
) -> tuple[Floats, Rows]:
    """The effect [n] that a model of the folds before its own predicts for each unit, and its fold, int64 [n]; the
    effects of the folds that are only learnt from are NaN.

    Raises:
        UserError: the models refuse the units of a fold.
    """
    key = fingerprints(X.x)
    order = settled_order(key, t, y, s)
    z = Covariates(standardised(X.x[order]), X.names, X.origins)
    t, y, s, clusters = t[order], y[order], s[order], None if groups is None else groups[order]
    effects, fold = np.full(len(y), np.nan), np.empty(len(y), np.int64)
    folds = [test for _, test in splits(z.x, t, key[order], FOLDS, models.seed, 0, groups=clusters)]
    for k, test in enumerate(folds):
        fold[order[test]] = k
        if k >= LEARNT:
            before = np.sort(np.concatenate(folds[:k]))
            inside = None if clusters is None else clusters[before]
            predict = effect_learner(learner, z.take(before), t[before], y[before], s[before], inside, models=models)
            effects[order[test]] = predict(z.x[test])
    return effects, fold


def ranked(psi: Floats, effects: Floats, fold: Rows, t: Bools, s: Floats, groups: Rows | None = None) -> Ranking:
    """The ranking of units with pseudo-outcomes psi [n] by predicted effects [n] in these folds [n]; units without a
    prediction, NaN, are left out.

    Raises:
        UserError: the predictions of a fold are all the same, or a fifth lacks an arm or is in one cluster.
    """
    known = np.isfinite(effects)
    parts, centred = np.full(len(psi), -1), np.zeros_like(psi)
    for k in np.unique(fold[known]):
        rows = known & (fold == k)
        values = np.round((effects[rows] - effects[rows].mean()) / max(EQUAL * float(psi.std()), 1e-300))
        if not values.any():
            raise UserError("the learner finds no differences between effects")
        n = len(values)
        cuts = np.sort(values)[[-(-n * part // PARTS) - 1 for part in range(1, PARTS)]]
        parts[rows] = np.searchsorted(cuts, values, side="left")
        centred[rows] = effects[rows] - np.average(effects[rows], weights=s[rows])
    present = np.unique(parts[known])
    members = [parts == part for part in present]
    if any(min((t & inside).sum(), (~t & inside).sum()) < 2 for inside in members):
        raise UserError("a fifth of the units by predicted effect has fewer than two of an arm")
    if groups is not None and any(np.ptp(groups[rows]) == 0 for rows in members):
        raise UserError("a fifth of the units by predicted effect is in one cluster")
    inside = None if groups is None else np.unique(groups[known], return_inverse=True)[1]
    means = project(np.column_stack(members)[known].astype(np.float64), psi[known], s[known], inside)
    last_less_first = np.zeros(len(present))
    last_less_first[[0, -1]] = -1, 1
    line = np.column_stack([np.ones_like(psi), centred])[known]
    return Ranking(
        parts=parts,
        predicted=[float(np.average(effects[rows], weights=s[rows])) for rows in members],
        groups=[means.mean(k, rows[known], t[known], s[known]) for k, rows in enumerate(members)],
        difference=means.contrast(last_less_first),
        slope=project(line, psi[known], s[known], inside).coefficient(1),
    )
