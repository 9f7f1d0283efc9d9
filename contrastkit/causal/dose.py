"""The mean outcome of a study by the amount of its treatment: a dose-response curve under balancing weights."""

import contextlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.stats import t as student
from sklearn.base import clone

from contrastkit.causal.estimate.resampling import DRAWS, REFUSED, drawn_rows
from contrastkit.causal.names import DoseWeighting
from contrastkit.causal.remarks import on_weights
from contrastkit.causal.study import Units
from contrastkit.causal.treatment import as_dose
from contrastkit.causal.weighting.continuous import (
    ContinuousCovariateBalancing,
    ContinuousEntropyBalancing,
    NormalDensity,
    weighted_correlations,
)
from contrastkit.errors import UserError, check_choice
from contrastkit.figures import COLOURS, GREY, chart, legend, plain
from contrastkit.tables.checks import Floats, as_outcome, effective_sample_size
from contrastkit.tables.covariates import standardised

THRESHOLD = 0.1  # a larger absolute correlation is imbalance (Zhu, Coffman & Ghosh 2015, Sec. 3.2)
POINTS = 21  # of a curve
WITHIN = (0.05, 0.95)  # quantiles of the doses between which a curve is drawn


@dataclass(frozen=True)
class Point:
    """The mean outcome if all units had this dose, with the pointwise 95 % interval, and the difference from the mean
    at the lowest dose of the curve, with its own."""

    dose: float
    mean: float
    se: float
    low: float
    high: float
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """A dose-response curve.

    Attributes:
        ess: effective sample size under the weights.
        correlations: float64 [p, 2], of each of the covariates ``names`` with the dose, before and after weighting.
        doses, weights: float64 [n]; the weights have mean 1.
        remarks: what a reader should know.
    """

    treatment: str
    outcome: str
    by: DoseWeighting
    df: int
    ess: float
    names: tuple[str, ...]
    correlations: Floats
    curve: tuple[Point, ...]
    doses: Floats
    weights: Floats
    remarks: tuple[str, ...]

    @property
    def worst(self) -> tuple[float, float]:
        """The largest absolute correlations, before and after."""
        before, after = np.abs(self.correlations).max(0)
        return float(before), float(after)

    def as_json(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("treatment", "outcome", "by", "df", "ess")}
        found = zip(self.names, self.correlations.tolist(), strict=True)
        correlations = {name: {"before": before, "after": after} for name, (before, after) in found}
        curve = [asdict(point) for point in self.curve]
        return parts | {"n": len(self.doses), "correlations": correlations, "curve": curve, "remarks": self.remarks}


def dose_response(
    units: Units,
    by: DoseWeighting = "entropy",
    *,
    df: int = 3,
    at: tuple[float, ...] = (),
    draws: int = DRAWS,
    cluster: str | None = None,
    seed: int = 0,
) -> DoseResponse:
    """The mean outcome of all units at each dose: the regression of Y on a natural cubic spline of T and on X, with
    weights under which T does not depend on X (Hirano & Imbens 2004 on its identification), at the means of X. What is
    linear in X is so adjusted for even where weights leave correlations, which those of ``entropy`` do not.

    The band is pointwise, and that of the bootstrap of units, or of clusters, which finds the weights of each sample
    anew; Student's, with the effective sample size less the coefficients of the curve as degrees of freedom.

    Args:
        by: ``gps``, ``entropy`` or ``cbgps`` (:mod:`contrastkit.causal.weighting.continuous`). Under those of
            ``entropy``, X is uncorrelated with each function of T of which the curve is made.
        df: coefficients of the spline beside the constant; 1 is a line. Its knots are quantiles of the doses.
        at: doses of the curve; by default 21 between the 5 % and the 95 % quantile.
        draws: samples of the bootstrap.
        cluster: column of labels of units that may depend on one another.

    Raises:
        UserError: there is no outcome, the treatment is no amount, a dose lies outside those observed, or the weights
            do not exist.
    """
    y, t = as_outcome(units.outcomes(), len(units.X)), as_dose(units.frame[units.treatment].to_numpy(), len(units.X))
    groups = None if cluster is None else units.clusters(cluster)
    first, last = np.quantile(t, WITHIN)
    doses = np.array(sorted(at)) if at else np.linspace(float(first), float(last), POINTS)
    if not ((doses >= t.min()) & (doses <= t.max())).all():
        raise UserError(f"--at: the doses observed are {t.min():g} to {t.max():g}, and a curve beyond them is a guess")
    knots = curve_knots(t, df)
    weighting = _weighting(by, knots)
    fewer = ", or lower --df" if by == "entropy" and df > 1 else ""
    try:
        w = weighting.fit(units.X, t).weights_
    except UserError as error:
        raise UserError(f"{error}{fewer}") from error
    correlations = np.stack([weighted_correlations(units.X.x, t, v) for v in (np.ones_like(w), w)], axis=1)
    drawn = []
    for rows in drawn_rows(len(t), groups, draws, seed):
        with contextlib.suppress(UserError):  # a sample without weights, which is counted
            again = clone(weighting).fit(units.X.take(rows), t[rows]).weights_
            drawn.append(regression_curve(units.X.x[rows], t[rows], y[rows], again, doses, knots))
    if (refused := draws - len(drawn)) > REFUSED * draws:
        raise UserError(f"{refused} of {draws} bootstrap samples have no weights: leave covariates out{fewer}")
    ess = effective_sample_size(w)
    remarks = [*getattr(weighting, "remarks_", ()), *_on_correlations(units, correlations[:, 1])]
    remarks += on_weights(w, {"units": np.ones(len(t), bool)})
    remarks += [f"{refused} of {draws} bootstrap samples had no weights"] if refused else []
    curve = regression_curve(units.X.x, t, y, w, doses, knots)
    points = _points(doses, curve, np.array(drawn), max(ess - df - 1, 1) if groups is None else int(groups.max()))
    return DoseResponse(
        treatment=units.treatment, outcome=units.outcome_label, by=by, df=df, ess=ess, names=units.X.names,
        correlations=correlations, curve=points, doses=t, weights=w, remarks=tuple(remarks),
    )  # fmt: skip


def _weighting(by: DoseWeighting, knots: Floats) -> Any:
    """The method by name, unfitted; entropy balancing for a curve with these knots."""
    check_choice("method", by, get_args(DoseWeighting))
    if by == "entropy":
        return ContinuousEntropyBalancing(functions=partial(functions_of_dose, knots=knots))
    return NormalDensity() if by == "gps" else ContinuousCovariateBalancing()


def _on_correlations(units: Units, left: Floats) -> list[str]:
    """A remark on correlations [p] of the covariates with the dose that weights leave."""
    worst = int(np.abs(left).argmax())
    if abs(left[worst]) <= THRESHOLD:
        return []
    return [
        f"the weights leave a correlation of {left[worst]:.2f} between {units.treatment} and {units.X.names[worst]}, "
        f"above {THRESHOLD:g}: only what is linear in the covariates is adjusted for; compare with --by entropy"
    ]


def curve_knots(t: Floats, df: int) -> Floats:
    """The knots [df + 1] of a curve, quantiles of the doses t [n], evenly from 5 % to 95 %."""
    knots: Floats = np.quantile(t, np.linspace(*WITHIN, df + 1))
    if len(np.unique(knots)) <= df:
        raise UserError(f"too many doses are alike for a curve of {df} --df: use fewer")
    return knots


def regression_curve(x: Floats, t: Floats, y: Floats, w: Floats, doses: Floats, knots: Floats) -> Floats:
    """The regression of y [n] on a natural cubic spline of t [n] and on x [n, p], with weights w [n], at these doses
    [m] and the means of x: [m]."""
    basis = spline(t, knots)
    A = np.column_stack([basis, standardised(x)])
    weighted = A.T * w
    beta = np.linalg.lstsq(weighted @ A, weighted @ y, rcond=1e-13)[0]
    values: Floats = spline(doses, knots) @ beta[: basis.shape[1]]
    return values


def functions_of_dose(t: Floats, *, knots: Floats) -> Floats:
    """The basis of the curve without its constant, at t [n]: [n, k - 1]."""
    return spline(t, knots)[:, 1:]


def spline(t: Floats, knots: Floats) -> Floats:
    """The basis of natural cubic splines with these knots [k], lines beyond the outermost (Hastie, Tibshirani &
    Friedman 2009, Eq. 5.4 and 5.5), at t [n]: [n, k]."""
    z, unit = (t - knots[0]) / (knots[-1] - knots[0]), (knots - knots[0]) / (knots[-1] - knots[0])
    cubes = np.maximum(z[:, None] - unit, 0) ** 3
    d = (cubes[:, :-1] - cubes[:, -1:]) / (1 - unit[:-1])
    return np.column_stack([np.ones_like(z), z, d[:, :-1] - d[:, -1:]])


def _points(doses: Floats, curve: Floats, drawn: Floats, df: float) -> tuple[Point, ...]:
    quantile = float(student.ppf(0.975, df))
    se, moved = drawn.std(0, ddof=1), (drawn - drawn[:, :1]).std(0, ddof=1)
    effect = curve - curve[0]
    columns = (
        doses, curve, se, curve - quantile * se, curve + quantile * se,
        effect, effect - quantile * moved, effect + quantile * moved,
    )  # fmt: skip
    return tuple(Point(*map(float, row)) for row in zip(*columns, strict=True))


def curve_plot(response: DoseResponse, path: Path) -> None:
    """Plot the curve with its band, and a histogram of the doses below it, to a .png."""
    dose, mean, low, high = (
        np.array([getattr(p, name) for p in response.curve]) for name in ("dose", "mean", "low", "high")
    )
    note = (
        "Mean outcome if all units had this dose; band: pointwise 95 % interval of the bootstrap. Below: the units by "
        "dose, each counted once, and by weight."
    )
    title = f"{response.outcome} by {response.treatment}, {response.by}"
    with chart(path, title, height=4.6, note=note) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.fill_between(dose, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        above.plot(dose, mean, "o-", color=COLOURS[0])
        above.set(ylabel=plain(response.outcome))
        for weights, style in ((None, {"color": GREY, "alpha": 0.4}), (response.weights, {"histtype": "step"})):
            label = "units" if weights is None else "weights"
            below.hist(response.doses, 40, weights=weights, label=label, **style)
        below.set(xlabel=plain(response.treatment), ylabel="units")
        legend(figure)
