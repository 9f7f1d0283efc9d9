"""An unobserved confounder, made up to any strength (Cinelli & Hazlett 2020)."""

import math
from typing import Any

import numpy as np
from sklearn.base import clone

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.refute.verdict import Sample, Verdict, digits, effects, stream
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats
from contrastkit.tables.covariates import Covariates

NOISES = 10
STRENGTHS = (0.0, 0.01, 0.05, 0.1, 0.2)  # partial R^2 of the grid


def unobserved_confounder(X: Covariates, t: Bools, y: Floats, first: Estimator, *, seed: int = 0) -> Verdict:
    """Confounders made up, to any strength, and adjusted for (Cinelli & Hazlett 2020): passes where one as strong as
    the strongest covariate leaves the effect its sign.

    ``numbers`` has the effects under a grid of strengths, rows by the partial R^2 with the treatment, columns by that
    with the outcome, None where the estimator refused; what the one of the covariate leaves, the mean over ten draws of
    its noise; and the robustness value (Sec. 4.3): the strength, with both, that takes the whole effect from a linear
    regression. The paper's formula for the effect is that of linear regression; here any estimator is fitted with the
    confounder, which comes to the same for that one. Others pay for one more covariate with precision, the more the
    fewer overlap: the column of zero shows how much.
    """
    sign = math.copysign(1, first.effect_)
    axes = [directions(X.x, t, y, seed=seed + k) for k in range(NOISES)]

    def under(k: int, r_t: float, r_y: float) -> Sample:
        return X.with_column(confounder(*axes[k], r_t, r_y, sign), "confounder"), t, y

    def cell(r_t: float, r_y: float) -> float | None:
        try:
            return clone(first).fit(*under(0, r_t, r_y)).effect_
        except UserError:
            return None

    grid = [[cell(r_t, r_y) for r_y in STRENGTHS] for r_t in STRENGTHS]
    name, r_t, r_y = strongest(X, t, y)
    remaining: float | None = None
    try:
        remaining = float(effects(first, (under(k, r_t, r_y) for k in range(NOISES)))[0].mean())
        what = f"makes it {digits(remaining)} instead of {digits(first.effect_)}"
    except UserError as error:
        what = f"cannot be adjusted for: {error}"
    passed, value = remaining is not None and remaining * first.effect_ > 0, robustness_value(X.x, t, y)
    sentence = (
        f"a confounder as strong as {name} (partial R^2 {r_t:.2%} with the treatment, {r_y:.2%} with the outcome) "
        f"{what}; in a linear regression one of {value:.2%} with both would take all"
    )
    numbers = {
        "strengths": STRENGTHS,
        "grid": grid,
        "benchmark": {"covariate": name, "treatment": r_t, "outcome": r_y, "effect": remaining},
        "robustness_value": value,
    }
    return Verdict("unobserved confounder", passed, sentence, numbers)


def directions(x: Floats, t: Bools, y: Floats, *, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Three unit vectors [n], orthogonal to one another, to x and to a constant: what x leaves of t, what x and t leave
    of y, and noise.

    Raises:
        UserError: nothing is left of one.
    """
    whole = np.column_stack([x, t, y])
    p = x.shape[1]
    noise = stream(seed, "confounder").normal(size=len(x))
    axes = []
    for v, k, what in (
        (t.astype(float), p, "treatment"),
        (y, p + 1, "outcome"),
        (noise, p + 2, "noise of a confounder"),
    ):
        rest = residual(whole[:, :k], v)
        size = float(np.linalg.norm(rest))
        if size < 1e-7 * np.linalg.norm(v - v.mean()):
            raise UserError(f"the covariates leave nothing of the {what}")
        axes.append(rest / size)
    return axes[0], axes[1], axes[2]


def confounder(t: Floats, y: Floats, noise: Floats, r_t: float, r_y: float, sign: float) -> Floats:
    """A covariate [n] of variance 1, of the unit vectors of :func:`directions`, whose partial R^2 in the sample with
    the treatment given x is r_t, and with the outcome given x and the treatment r_y; adjusting for it takes from an
    effect of this sign."""
    u = math.sqrt(r_t) * t + math.sqrt(1 - r_t) * (sign * math.sqrt(r_y) * y + math.sqrt(1 - r_y) * noise)
    return u * math.sqrt(len(u))


def strongest(X: Covariates, t: Bools, y: Floats) -> tuple[str, float, float]:
    """The covariate after which a confounder of the same strength would bias a linear regression most, and that
    confounder's partial R^2 with the treatment and with the outcome (Cinelli & Hazlett 2020, Sec. 4.4, k = 1: not the
    covariate's own, which are from a model that lacks the confounder). The columns of a factor count as one covariate.
    Where the bound is beyond what can be, it is 0.99."""
    x, origins = X.x, np.array(X.origins)
    whole = np.column_stack([x, t])
    bounds = []
    for name in dict.fromkeys(X.origins):
        own = origins == name
        f_t = odds(partial_r2(x[:, ~own], x[:, own], t.astype(float)))
        r_t = min(f_t, 0.99)
        f_y = odds(partial_r2(whole[:, np.append(~own, True)], x[:, own], y))
        r_y = min((1 + r_t) / (1 - r_t) * f_y, 0.99)
        bounds.append((r_y * r_t / (1 - r_t), name, r_t, r_y))
    _, name, r_t, r_y = max(bounds)
    return name, r_t, r_y


def robustness_value(x: Floats, t: Bools, y: Floats) -> float:
    """Of the coefficient of t in the regression of y on t and x (Cinelli & Hazlett 2020, Sec. 4.3, q = 1)."""
    f2 = odds(partial_r2(x, t[:, None], y))
    return (math.sqrt(f2**2 + 4 * f2) - f2) / 2


def partial_r2(A: Floats, B: Any, v: Floats) -> float:
    """The share of what a constant and the columns of A [n, k] leave of v [n] that those of B [n, l] then explain."""
    before, after = residual(A, v), residual(np.column_stack([A, B]), v)
    return float(1 - after @ after / (before @ before))


def odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf


def residual(A: Floats, v: Floats) -> Floats:
    """What a constant and the columns of A [n, k], which may follow from one another, leave of v [n]."""
    v, A = v - v.mean(), A - A.mean(0)
    size = np.linalg.norm(A, axis=0)
    U, s, _ = np.linalg.svd(A / np.where(size > 0, size, 1), full_matrices=False)
    U = U[:, s > 1e-10 * s.max(initial=0)]
    return v - U @ (U.T @ v)
