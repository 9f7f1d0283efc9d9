"""Covariate balance between the arms before and after weighting, by the conventions of cobalt.

A standardised mean difference (SMD) is the weighted difference of means over one standard deviation of the *unweighted*
sample: of the treated for the ATT, of the untreated for the ATC, and the root of the mean of both variances for the
ATE and the ATO; where that is 0, as for a level that no treated unit has, it is that of the whole sample. A column of 0
and 1 has the standard deviation sqrt(p (1 - p)).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from contrastkit.causal.names import AnyEstimand
from contrastkit.errors import UserError, check_choice
from contrastkit.figures import INK, chart, legend, plain, shortened
from contrastkit.tables.checks import Bools, Floats, as_treatment, effective_sample_size
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.ties import ROUNDING, rounding

THRESHOLD = 0.1  # a larger absolute SMD indicates imbalance (Stuart, Lee & Leacy 2013)
DRAWN = 60  # covariates in a plot


@dataclass(frozen=True)
class Balance:
    """Balance of each covariate, before (column 0) and after (column 1) weighting.

    Attributes:
        names: the names of the covariates.
        smd: float64 [p, 2].
        variance_ratio: float64 [p, 2], treated over untreated; NaN for columns of 0 and 1.
        ks: float64 [p, 2], the largest distance between the distribution functions of the arms.
        n: float64 [2, 2], effective sample sizes: (treated, untreated) x (before, after).
    """

    names: tuple[str, ...]
    smd: Floats
    variance_ratio: Floats
    ks: Floats
    n: Floats

    @property
    def worst_before(self) -> float:
        """The largest absolute SMD before weighting."""
        return float(np.abs(self.smd[:, 0]).max())

    @property
    def worst(self) -> float:
        """The largest absolute SMD after weighting."""
        return float(np.abs(self.smd[:, 1]).max())

    @property
    def balanced(self) -> bool:
        """Whether no absolute SMD above :data:`THRESHOLD` is left."""
        return self.worst <= THRESHOLD

    def as_json(self) -> dict[str, Any]:
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


def balance_table(X: Any, T: ArrayLike, weights: ArrayLike | None = None, *, estimand: str = "ATT") -> Balance:
    """The balance of covariates X [n, p] between the arms of T [n], under ``weights`` [n] (None: equal weights).

    Raises:
        UserError: unknown estimand, or the weights are not n, not finite, negative, or zero throughout an arm.
    """
    X = Covariates.of(X)
    smd = standardised_differences(X, T, weights, estimand=estimand)
    x, t = X.x, as_treatment(T, len(X))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    binary, none = _binary(x), ROUNDING * np.abs(x).max(0)
    ratio, both = np.empty((x.shape[1], 2)), np.stack([np.ones(len(x)), w])
    for k, v in enumerate(both):
        one, other = (_variance(x[arm], v[arm]) for arm in (t, ~t))
        varies = ~binary & (other > none**2)
        ratio[:, k] = np.divide(one, other, out=np.full_like(one, np.nan), where=varies)
    steps = np.where(t, both / both[:, t].sum(1, keepdims=True), -both / both[:, ~t].sum(1, keepdims=True))
    ks = np.stack([_ks(column, steps) for column in x.T])
    n = np.array([[effective_sample_size(v[arm]) for v in both] for arm in (t, ~t)])
    return Balance(X.names, smd, ratio, ks, n)


def standardised_differences(X: Any, T: ArrayLike, weights: ArrayLike | None = None, *, estimand: str) -> Floats:
    """The SMD of each covariate before and after weighting, float64 [p, 2]: a :func:`balance_table` without what takes
    long, the distances between distribution functions. Raises as it does."""
    check_choice("estimand", estimand, get_args(AnyEstimand))
    X = Covariates.of(X)
    x, t = X.x, as_treatment(T, len(X))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    if len(w) != len(x):
        raise UserError(f"{len(w)} weights for {len(x)} rows")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise UserError("weights must be finite and not negative: correct or drop them")
    for arm, name in ((t, "treated"), (~t, "untreated")):
        if not w[arm].sum() > 0:
            raise UserError(f"the weights of the {name} sum to zero: no unit of that arm is left")
    none = ROUNDING * np.abs(x).max(0)
    sd = _deviations(x, t, estimand, _binary(x), none)
    one, other = x[t], x[~t]
    differences = [
        np.average(one, axis=0, weights=v[t]) - np.average(other, axis=0, weights=v[~t]) for v in (np.ones(len(x)), w)
    ]
    return np.stack([np.divide(d, sd, out=np.zeros_like(sd), where=sd > none) for d in differences], axis=1)


def love_plot(balance: Balance, path: Path, *, after: str, checks: Balance | None = None) -> None:
    """Plot the absolute SMD of each covariate before and after weighting by ``after`` to a .png, and with other markers
    of what was only checked. Of more than :data:`DRAWN`, those are drawn that differed most before."""
    smd, names = np.abs(balance.smd), balance.names
    if checks is not None:
        smd, names = np.concatenate([smd, np.abs(checks.smd)]), (*names, *checks.names)
    largest = np.argsort(smd[:, 0], kind="stable")[-DRAWN:]
    rows, p, checked = np.arange(len(largest)), len(names), largest >= len(balance.names)
    note = f"The {DRAWN} of {p} covariates that differed most before. " if p > DRAWN else ""
    note += (
        "Difference of the arms' means over one standard deviation of the unweighted sample. Dashed: "
        f"{THRESHOLD:g}, above which arms count as imbalanced."
    )
    series = [("before", "o", 0, ~checked), (f"after: {after}", "s", 1, ~checked)]
    if checks is not None:
        series += [("only checked, before", "^", 0, checked), ("only checked, after", "D", 1, checked)]
    with chart(
        path, "Balance of the arms before and after weighting", height=1.9 + 0.2 * len(rows), note=note
    ) as figure:
        axes = figure.subplots()
        for label, marker, k, shown in series:
            values = smd[largest, k]
            finite = np.where(np.isfinite(values) & shown, values, np.nan)
            axes.plot(finite, rows, marker, markersize=6, fillstyle="full" if k else "none", label=label, zorder=3 - k)
        axes.axvline(THRESHOLD, color=INK, linewidth=0.8, linestyle="--")
        axes.set_yticks(rows, [plain(shortened(names[j], 40)) for j in largest])
        axes.set(xlabel="absolute standardised mean difference", ylim=(-0.7, len(rows) - 0.3))
        axes.set_xlim(left=0)
        legend(figure)


def _binary(x: Floats) -> Bools:
    return np.array([np.isin(column, (0, 1)).all() for column in x.T])


def _deviations(x: Floats, t: Bools, estimand: str, binary: Bools, none: Floats) -> Floats:
    one, other, all_ = (
        np.where(binary, x[arm].mean(0) * (1 - x[arm].mean(0)), x[arm].var(0, ddof=1) if arm.sum() > 1 else 0.0)
        for arm in (t, ~t, np.ones_like(t))
    )
    sd = np.sqrt({"ATT": one, "ATC": other}.get(estimand, (one + other) / 2))
    return np.where(sd > none, sd, np.sqrt(all_))


def _variance(x: Floats, w: Floats) -> Floats:
    """The weighted variance, unbiased if weights do not depend on x: sum w (x - m)^2 over (sum w - sum w^2 / sum w)."""
    d = x - np.average(x, axis=0, weights=w)
    return (w @ d**2) / (w.sum() - (w**2).sum() / w.sum())


def _ks(column: Floats, steps: Floats) -> Floats:
    """The largest absolute sum [k] of steps [k, n] over the units up to a value of the column [n]."""
    order = np.argsort(column, kind="stable")
    # A distribution function jumps once, at the last of equal values.
    last = np.append(np.diff(column[order]) > rounding(column), True)
    distances: Floats = np.abs(steps[:, order].cumsum(1)[:, last]).max(1)
    return distances
