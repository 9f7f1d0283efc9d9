"""Simulated unobserved confounders of any strength (Cinelli & Hazlett 2020)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.estimate.resampling import Sample, effects, stream
from contrastkit.causal.refute.verdict import Verdict, digits
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

NOISES = 10
MOST = 0.99  # partial R^2 of the strongest confounder that is tried
STRENGTHS = (0.0, 0.01, 0.05, 0.1, 0.2)  # partial R^2 values of the grid


def unobserved_confounder(
    X: Covariates,
    t: Bools,
    y: Floats,
    first: Estimator,
    *,
    weights: Floats | None = None,
    clusters: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Verdict:
    """Adjust for simulated confounders of any strength (Cinelli & Hazlett 2020): passes if the effect keeps its sign
    with a confounder as strong as the strongest covariate, and cannot be run if the estimator refuses that one.

    ``numbers`` has the effects for a grid of strengths, rows by the partial R^2 with the treatment, columns by that
    with the outcome, None where the estimator refused; the effect that remains with the confounder of the covariate's
    strength, averaged over ten draws of its noise; and the robustness value (Sec. 4.3): the strength, with both, that
    removes the whole effect from a linear regression. The paper's formula for the effect is for linear regression; here
    any estimator is fitted with the confounder, which is equivalent for that one. Others lose precision with the extra
    covariate, more so with little overlap: the column of zero shows how much. With sample weights [n], regressions and
    partial R^2 are weighted by them.
    """
    sign = math.copysign(1, first.effect_)
    s = np.ones_like(y) if weights is None else weights
    axes = [directions(X.x, t, y, s, seed=seed + k) for k in range(NOISES)]

    def under(r_t: float, r_y: float, noises: Sequence[int]) -> float:
        samples = (
            Sample(X.with_column(confounder(*axes[k], r_t, r_y, sign), "confounder"), t, y, weights, clusters)
            for k in noises
        )
        return float(effects(first, samples, prior=False).estimates.mean())  # one that separates the arms is refused

    def cell(r_t: float, r_y: float) -> float | None:
        try:
            return under(r_t, r_y, [0])
        except UserError:
            return None

    grid = [[cell(r_t, r_y) for r_y in STRENGTHS] for r_t in STRENGTHS]
    name, r_t, r_y = strongest(X, t, y, s)
    remaining: float | None = None
    try:
        remaining = under(r_t, r_y, range(NOISES))
        what = f"changes the effect to {digits(remaining)} from {digits(first.effect_)}"
    except UserError as error:
        what = f"cannot be adjusted for: {error}"
    passed, value = None if remaining is None else remaining * first.effect_ > 0, robustness_value(X.x, t, y, s)
    sentence = (
        f"a confounder as strong as {name} (partial R^2 {_share(r_t)} with the treatment, {_share(r_y)} with the "
        f"outcome) {what}; in a linear regression, one of {value:.2%} with both removes the whole effect"
    )
    numbers = {
        "strengths": STRENGTHS,
        "grid": grid,
        "benchmark": {"covariate": name, "treatment": r_t, "outcome": r_y, "effect": remaining},
        "robustness_value": value,
    }
    return Verdict("unobserved confounder", passed, sentence, numbers)


def _share(r: float) -> str:
    """A partial R^2, with a word where it is capped."""
    return f"{r:.2%}" + (", the most that is tried," if r == MOST else "")


def directions(x: Floats, t: Bools, y: Floats, s: Floats, *, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Three unit vectors [n], orthogonal to one another, to x and to a constant, by the inner product with weights s
    [n]: the residual of t on x, the residual of y on x and t, and noise.

    Raises:
        UserError: a residual is zero.
    """
    whole = np.column_stack([x, t, y])
    p = x.shape[1]
    noise = stream(seed, "confounder").normal(size=len(x))
    axes = []
    for v, k, what in (
        (t.astype(float), p, "treatment"),
        (y, p + 1, "outcome"),
        (noise, p + 2, "noise of the confounder"),
    ):
        remainder = residual(whole[:, :k], v, s)
        size = norm(remainder, s)
        if size < 1e-7 * norm(v - np.average(v, weights=s), s):
            raise UserError(f"the covariates explain the {what} completely: leave some out")
        axes.append(remainder / size)
    return axes[0], axes[1], axes[2]


def confounder(t: Floats, y: Floats, noise: Floats, r_t: float, r_y: float, sign: float) -> Floats:
    """A covariate [n] of variance 1, from the unit vectors of :func:`directions`, with the sample partial R^2 r_t with
    the treatment given x, and r_y with the outcome given x and the treatment; adjusting for it reduces an effect of
    this sign."""
    u = math.sqrt(r_t) * t + math.sqrt(1 - r_t) * (sign * math.sqrt(r_y) * y + math.sqrt(1 - r_y) * noise)
    return u * math.sqrt(len(u))


def strongest(X: Covariates, t: Bools, y: Floats, s: Floats) -> tuple[str, float, float]:
    """The covariate for which a confounder of the same strength would bias a linear regression most, and the partial
    R^2 of that confounder with the treatment and with the outcome (Cinelli & Hazlett 2020, Sec. 4.4, k = 1; not those
    of the covariate, which come from a model without the confounder). The columns of a factor count as one covariate.
    Bounds are capped at :data:`MOST`."""
    x, origins = X.x, np.array(X.origins)
    whole = np.column_stack([x, t])
    bounds = []
    for name in dict.fromkeys(X.origins):
        members = origins == name
        f_t = odds(partial_r2(x[:, ~members], x[:, members], t.astype(float), s))
        r_t = min(f_t, MOST)
        f_y = odds(partial_r2(whole[:, np.append(~members, True)], x[:, members], y, s))
        r_y = min((1 + r_t) / (1 - r_t) * f_y, MOST)
        bounds.append((r_y * r_t / (1 - r_t), name, r_t, r_y))
    _, name, r_t, r_y = max(bounds)
    return name, r_t, r_y


def robustness_value(x: Floats, t: Bools, y: Floats, s: Floats) -> float:
    """The robustness value of the coefficient of t in the regression of y on t and x with weights s [n] (Cinelli &
    Hazlett 2020, Sec. 4.3, q = 1)."""
    f2 = odds(partial_r2(x, t[:, None], y, s))
    return (math.sqrt(f2**2 + 4 * f2) - f2) / 2


def partial_r2(A: Floats, B: Any, v: Floats, s: Floats) -> float:
    """The share of the residual of v [n] on a constant and A [n, k] that the columns of B [n, l] explain, with weights
    s [n]."""
    before, after = residual(A, v, s), residual(np.column_stack([A, B]), v, s)
    return 1 - norm(after, s) ** 2 / norm(before, s) ** 2


def odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf


def residual(A: Floats, v: Floats, s: Floats) -> Floats:
    """The residual of v [n] on a constant and the columns of A [n, k], which may be linearly dependent, by least
    squares with weights s [n]."""
    root = np.sqrt(s)
    v, A = v - np.average(v, weights=s), root[:, None] * (A - np.average(A, axis=0, weights=s))
    size = np.linalg.norm(A, axis=0)
    U, s, _ = np.linalg.svd(A / np.where(size > 0, size, 1), full_matrices=False)
    U = U[:, s > 1e-10 * s.max(initial=0)]
    return v - U @ (U.T @ (root * v)) / root


def norm(v: Floats, s: Floats) -> float:
    """The root of the sum of squares of v [n] with weights s [n]."""
    return float(np.linalg.norm(np.sqrt(s) * v))
