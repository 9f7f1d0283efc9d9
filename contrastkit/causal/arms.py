"""The mean outcomes of several arms of a study, under weights that balance them, and all their contrasts."""

import math
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np

from contrastkit.causal.diagnostics import standardised_differences
from contrastkit.causal.estimate.base import Judge
from contrastkit.causal.estimate.means import Means, as_reported, check_outcome
from contrastkit.causal.estimate.resampling import stream
from contrastkit.causal.estimate.weighted import stacked
from contrastkit.causal.names import ArmWeighting, Measure
from contrastkit.causal.remarks import on_balance, on_sample, on_weights
from contrastkit.causal.study import Units
from contrastkit.causal.weighting.several_arms import GeneralisedPropensity, SeveralEntropyBalancing, arms_of
from contrastkit.errors import check_choice
from contrastkit.tables.checks import Bools, Floats, as_outcome, effective_sample_size

SIMULATED = 200_000  # draws of the largest t of all contrasts


@dataclass(frozen=True)
class Arm:
    """The mean outcome of the target population under one treatment, with a 95 % interval, and the ``n`` units of that
    arm, of which the weights leave an effective sample of ``ess``."""

    name: str
    n: int
    ess: float
    mean: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """The mean of ``arm`` against that of ``against``: a difference, a ratio or an odds ratio, with a 95 % interval;
    ``se`` is the error of the difference, or of the logarithm. ``smd_before`` and ``smd`` are the largest absolute
    standardised mean differences between both arms, before and after weighting."""

    arm: str
    against: str
    effect: float
    se: float
    low: float
    high: float
    smd_before: float
    smd: float


@dataclass(frozen=True, eq=False)
class ArmEffects:
    """All arms and all contrasts of two.

    Attributes:
        estimand: ``ATE``, or ``ATT of`` the focal arm.
        simultaneous: whether all intervals of the contrasts hold together with 95 %, instead of each.
        weights: float64 [n], with mean 1 in each arm.
        remarks: what a reader should know.
    """

    treatment: str
    outcome: str
    estimand: str
    by: ArmWeighting
    measure: Measure
    simultaneous: bool
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    weights: Floats
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("treatment", "outcome", "estimand", "by", "measure")}
        parts |= {"simultaneous": self.simultaneous, "remarks": list(self.remarks)}
        lists = {name: [asdict(each) for each in getattr(self, name)] for name in ("arms", "contrasts")}
        return parts | lists


def compare_arms(
    units: Units,
    by: ArmWeighting = "gps",
    *,
    focal: str | None = None,
    reference: str | None = None,
    measure: Measure = "difference",
    simultaneous: bool = False,
    cluster: str | None = None,
) -> ArmEffects:
    """Compare all arms of a study with one another.

    Standard errors are those of the stacked equations of weights and means
    (:func:`contrastkit.causal.estimate.weighted.stacked`). The intervals of contrasts are Student's, each by itself;
    or, if ``simultaneous``, all of them hold together with 95 %, by the distribution of the largest of their t
    statistics (Hothorn, Bretz & Westfall 2008, Sec. 3), simulated with a fixed seed.

    Args:
        by: ``gps``, generalised propensity scores, or ``entropy``, entropy balancing
            (:mod:`contrastkit.causal.weighting.several_arms`).
        focal: the arm whose units are the target population; None for all units.
        reference: the arm that others are compared with; every other contrast is that of a later with an earlier arm.
        measure: how two means are compared (:class:`contrastkit.causal.estimate.means.Means`).
        cluster: column of labels of units that may depend on one another.

    Raises:
        UserError: there is no outcome, fewer than two arms or more than twenty, no such focal or reference arm, or no
            weights.
    """
    check_choice("method", by, get_args(ArmWeighting))
    check_choice("measure", measure, get_args(Measure))
    y = as_outcome(units.outcomes(), len(units.X))
    check_outcome(measure, y)
    groups = None if cluster is None else units.clusters(cluster)
    weighting: Any = GeneralisedPropensity(focal) if by == "gps" else SeveralEntropyBalancing(focal)
    weighting.fit(units.X, units.frame[units.treatment].to_numpy())
    w, codes = weighting.weights_, weighting.codes_
    members = dict(zip(weighting.arms_, arms_of(codes), strict=True))
    check_choice("reference", reference or weighting.arms_[0], weighting.arms_)
    masks = list(members.values())
    means = stacked(w, masks, y, weighting.equations(units.X))
    assert means.influences is not None
    judge = Judge(masks, w, groups)
    arms = []
    for (name, arm), value, influence in zip(members.items(), means.values, means.influences, strict=True):
        se, half = judge.error(influence), judge.half(influence)
        size = effective_sample_size(w[arm])
        arms.append(Arm(name, int(arm.sum()), size, float(value), se, float(value) - half, float(value) + half))
    contrasts = _contrasts(units, members, reference, w, means, measure, judge, simultaneous)
    return ArmEffects(
        treatment=units.treatment, outcome=units.outcome_label,
        estimand="ATE" if focal is None else f"ATT of {focal}", by=by, measure=measure, simultaneous=simultaneous,
        arms=tuple(arms), contrasts=tuple(contrasts), weights=w,
        remarks=(
            *on_sample(units.X, members, y, groups), *on_weights(w, members),
            *on_balance(max(each.smd for each in contrasts)),
        ),
    )  # fmt: skip


def largest_t(judge: Judge, influences: Floats) -> float:
    """The 95 % quantile of the largest absolute t statistic of these contrasts [m, n], multivariate t with the smallest
    of their degrees of freedom."""
    sums = influences
    if judge.groups is not None:
        sums = np.stack([np.bincount(judge.groups, row) for row in influences])
    df = min(map(judge.df, influences))
    values, vectors = np.linalg.eigh(np.corrcoef(sums) if len(sums) > 1 else np.ones((1, 1)))
    root = vectors * np.sqrt(values.clip(0))
    g = stream(0, "largest t")
    z = np.abs(g.normal(size=(SIMULATED, len(root))) @ root.T).max(1)
    return float(np.quantile(z / np.sqrt(g.chisquare(df, SIMULATED) / df) if math.isfinite(df) else z, 0.95))


def _contrasts(
    units: Units, members: dict[str, Bools], reference: str | None, w: Floats, means: Means, measure: Measure,
    judge: Judge, together: bool,
) -> list[Contrast]:  # fmt: skip
    """Each later arm against each earlier one, and the others against the reference."""
    names = list(members)
    pairs = [(j, i) if names[j] == reference else (i, j) for i, j in combinations(range(len(names)), 2)]
    found = [means.contrast(measure, j, i) for i, j in pairs]
    influences = np.stack([influence for _, influence in found if influence is not None])
    quantile = largest_t(judge, influences) if together else None
    rows = []
    for (i, j), (effect, _), influence in zip(pairs, found, influences, strict=True):
        se = judge.error(influence)
        half = judge.half(influence) if quantile is None else quantile * se
        low, high = as_reported(measure, effect - half), as_reported(measure, effect + half)
        both = np.flatnonzero(members[names[i]] | members[names[j]])
        smd = standardised_differences(units.X.take(both), members[names[j]][both], w[both], estimand="ATE")
        differences = map(float, np.abs(smd).max(0))
        rows.append(Contrast(names[j], names[i], as_reported(measure, effect), se, low, high, *differences))
    return rows
