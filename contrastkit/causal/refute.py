"""Attempts to refute an estimate. Each ends in PASS or FAIL and one sentence.

``x`` is float64 [n, p], ``t`` bool [n], ``y`` float64 [n], as :mod:`contrastkit.causal.study` checks them. ``first``
is an estimator that :func:`fitted` gave: its effect is what is doubted, and a clone of it is fitted anew each time.
Nothing of an earlier fit is used again, and nothing is written to.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata
from sklearn.base import clone

from contrastkit.causal.estimate import Bools, Estimator
from contrastkit.causal.matching import Matching
from contrastkit.causal.study import Floats, columns, covariates, outcome, treatment
from contrastkit.errors import UserError

DRAWS = 50
GAMMA = 1.25  # hidden bias that an effect shall stand: odds of treatment a quarter higher within a pair
MOVED = 0.5  # standard errors by which an estimate may move where nothing has changed
REFUSED = 0.2  # share of the draws that an estimator may refuse
SHARE = 0.8  # of each arm in a subset
NOISES = 10
STRENGTHS = (0.0, 0.01, 0.05, 0.1, 0.2)  # partial R^2 of the grid


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt; ``numbers`` are its figures as JSON has them."""

    name: str
    passed: bool
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


def fitted(estimator: Estimator, X: Any, T: ArrayLike, Y: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Estimator:
    """A clone of the estimator, fitted. Where it knows no standard error, ``se_`` is that of the delete-d jackknife
    over ``draws`` subsets of 80 % of each arm (Shao & Wu 1989): their standard deviation times sqrt(0.8 / 0.2).

    Raises:
        UserError: the data are refused, nothing is left to chance in the outcome, or too many subsets were refused.
    """
    x, _ = covariates(X)
    t, y = treatment(T, len(x)), outcome(Y, len(x))
    done = clone(estimator).fit(X, t, y)
    if math.isnan(done.se_):
        found, _ = effects(done, _subsets(x, t, y, draws, seed))
        done.se_ = float(found.std()) * math.sqrt(SHARE / (1 - SHARE))
    if not done.se_ > 1e-12 * y.std():
        raise UserError("the estimate has no error: the outcome follows from the treatment and the covariates")
    return done


def refute(
    X: Any,
    T: ArrayLike,
    Y: ArrayLike,
    first: Estimator,
    *,
    placebo: tuple[str, Any, ArrayLike] | None = None,
    draws: int = DRAWS,
    gamma: float = GAMMA,
    seed: int = 0,
) -> Iterator[Verdict]:
    """All attempts one after the other; one that cannot be made has failed, with the reason.

    Args:
        first: see the module.
        placebo: an outcome that the treatment cannot have changed: its name, the covariates [n, p] to adjust it for,
            which must not tell it, and its values [n]. None leaves the attempt out.
        gamma: that the Rosenbaum bounds shall reach.
        seed: everything random follows from it.
    """
    x, names, origins = columns(X)
    if hasattr(X, "columns"):
        names = tuple(str(X.columns[k]) for k in origins)  # a factor's columns are one covariate
    t, y = treatment(T, len(x)), outcome(Y, len(x))
    attempts: dict[str, Callable[[], Verdict]] = {
        "placebo treatment": lambda: placebo_treatment(x, t, y, first, draws=draws, seed=seed),
        "random common cause": lambda: random_cause(x, t, y, first, draws=draws, seed=seed),
        "subset": lambda: subset(x, t, y, first, draws=draws, seed=seed),
    }
    if placebo is not None:
        attempts["placebo outcome"] = lambda: placebo_outcome(*placebo, t, first, draws=draws, seed=seed)
    attempts["unobserved confounder"] = lambda: unobserved_confounder(x, t, y, first, names, seed=seed)
    attempts["E-value"] = lambda: e_value(t, y, first)
    attempts["Rosenbaum bounds"] = lambda: rosenbaum_bounds(x, t, y, first, gamma=gamma)
    for name, attempt in attempts.items():
        try:
            yield attempt()
        except UserError as error:
            yield Verdict(name, False, f"it cannot be done: {error}")


def effects(first: Estimator, samples: Iterable[tuple[Floats, Bools, Floats]]) -> tuple[Floats, int]:
    """The estimates of clones fitted to each (x, t, y), and how many were refused.

    Raises:
        UserError: more than a fifth were.
    """
    found: list[float] = []
    refused: list[str] = []
    for x, t, y in samples:
        try:
            found.append(clone(first).fit(x, t, y).effect_)
        except UserError as error:
            refused.append(str(error).split(":")[0])
    total = len(found) + len(refused)
    if len(refused) > REFUSED * total:
        raise UserError(f"{len(refused)} of {total} draws were refused, the last because {refused[-1]}")
    return np.array(found), len(refused)


# ------------------------------------------------------------------------------------------ where nothing should change


def placebo_treatment(
    x: Floats, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0
) -> Verdict:
    """The treatment dealt out anew by lot, which has no effect: passes where zero is in the central 95 % of the
    estimates, and within four standard errors of their mean."""
    g = _random(seed, "placebo")
    found, refused = effects(first, ((x, g.permutation(t), y) for _ in range(draws)))
    low, high = (float(v) for v in np.quantile(found, (0.025, 0.975)))
    passed = low <= 0 <= high and bool(abs(found.mean()) <= 4 * found.std() / math.sqrt(len(found)))
    sentence = (
        f"treatments dealt out by lot have effects of {shown(found.mean())} on average, 95 % of them from {shown(low)} "
        f"to {shown(high)}{_but(refused)}: {'none, as it should be' if passed else 'there should be none'}"
    )
    numbers = {"mean": float(found.mean()), "low": low, "high": high, "refused": refused}
    return Verdict("placebo treatment", passed, sentence, numbers)


def random_cause(x: Floats, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """A covariate of N(0, 1) noise more: passes where the mean estimate moves by less than half a standard error."""
    g = _random(seed, "cause")
    samples = ((np.column_stack([x, g.normal(size=len(x))]), t, y) for _ in range(draws))
    return _unmoved("random common cause", "a covariate of pure noise", first, *effects(first, samples))


def subset(x: Floats, t: Bools, y: Floats, first: Estimator, *, draws: int = DRAWS, seed: int = 0) -> Verdict:
    """80 % of each arm, without replacement: passes where the mean estimate moves less than half a standard error."""
    found, refused = effects(first, _subsets(x, t, y, draws, seed))
    return _unmoved("subset", f"leaving out {1 - SHARE:.0%} of the units", first, found, refused)


def _unmoved(name: str, what: str, first: Estimator, found: Floats, refused: int) -> Verdict:
    moved = float(found.mean()) - first.effect_
    passed = abs(moved) < MOVED * first.se_
    sentence = (
        f"{what} moves the estimate by {shown(moved)} on average{_but(refused)}, {abs(moved) / first.se_:.2f} standard "
        f"errors: {'less' if passed else 'not less'} than {MOVED:g}"
    )
    numbers = {"mean": float(found.mean()), "sd": float(found.std()), "moved": moved, "refused": refused}
    return Verdict(name, passed, sentence, numbers)


def _subsets(x: Floats, t: Bools, y: Floats, draws: int, seed: int) -> Iterator[tuple[Floats, Bools, Floats]]:
    g = _random(seed, "subset")
    arms = [np.flatnonzero(t), np.flatnonzero(~t)]
    for _ in range(draws):
        kept = np.sort(np.concatenate([g.choice(arm, round(SHARE * len(arm)), replace=False) for arm in arms]))
        yield x[kept], t[kept], y[kept]


def placebo_outcome(
    name: str, X: Any, Y: ArrayLike, T: ArrayLike, first: Estimator, *, draws: int = DRAWS, seed: int = 0
) -> Verdict:
    """An outcome that the treatment cannot have changed (a negative control; Lipsitch, Tchetgen Tchetgen & Cohen 2010):
    passes where the 95 % interval of the effect on it covers zero."""
    done = fitted(first, X, T, Y, draws=draws, seed=seed)
    low, high = done.interval()
    passed = low <= 0 <= high
    sentence = (
        f"the effect on {name}, which the treatment cannot have changed, is {shown(done.effect_)} ({shown(low)} to "
        f"{shown(high)}): " + ("zero is in the interval" if passed else "the arms differ in more than the covariates")
    )
    numbers = {"outcome": name, "effect": done.effect_, "se": done.se_, "low": low, "high": high}
    return Verdict("placebo outcome", passed, sentence, numbers)


# --------------------------------------------------------------------------------------------- what nobody has measured


def unobserved_confounder(
    x: Floats, t: Bools, y: Floats, first: Estimator, names: Sequence[str], *, seed: int = 0
) -> Verdict:
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
    axes = [directions(x, t, y, seed=seed + k) for k in range(NOISES)]

    def under(k: int, r_t: float, r_y: float) -> tuple[Floats, Bools, Floats]:
        return np.column_stack([x, confounder(*axes[k], r_t, r_y, sign)]), t, y

    def cell(r_t: float, r_y: float) -> float | None:
        try:
            return clone(first).fit(*under(0, r_t, r_y)).effect_
        except UserError:
            return None

    grid = [[cell(r_t, r_y) for r_y in STRENGTHS] for r_t in STRENGTHS]
    name, r_t, r_y = strongest(x, t, y, names)
    kept: float | None = None
    try:
        kept = float(effects(first, (under(k, r_t, r_y) for k in range(NOISES)))[0].mean())
        what = f"makes it {shown(kept)} instead of {shown(first.effect_)}"
    except UserError as error:
        what = f"cannot be adjusted for: {error}"
    passed, value = kept is not None and kept * first.effect_ > 0, robustness_value(x, t, y)
    sentence = (
        f"a confounder as strong as {name} (partial R^2 {r_t:.2%} with the treatment, {r_y:.2%} with the outcome) "
        f"{what}; in a linear regression one of {value:.2%} with both would take all"
    )
    numbers = {
        "strengths": STRENGTHS,
        "grid": grid,
        "benchmark": {"covariate": name, "treatment": r_t, "outcome": r_y, "effect": kept},
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
    noise = _random(seed, "confounder").normal(size=len(x))
    found = []
    for v, k, what in (
        (t.astype(float), p, "treatment"),
        (y, p + 1, "outcome"),
        (noise, p + 2, "noise of a confounder"),
    ):
        rest = residual(whole[:, :k], v)
        size = float(np.linalg.norm(rest))
        if size < 1e-7 * np.linalg.norm(v - v.mean()):
            raise UserError(f"the covariates leave nothing of the {what}")
        found.append(rest / size)
    return found[0], found[1], found[2]


def confounder(t: Floats, y: Floats, noise: Floats, r_t: float, r_y: float, sign: float) -> Floats:
    """A covariate [n] of variance 1, of the unit vectors of :func:`directions`, whose partial R^2 in the sample with
    the treatment given x is r_t, and with the outcome given x and the treatment r_y; adjusting for it takes from an
    effect of this sign."""
    u = math.sqrt(r_t) * t + math.sqrt(1 - r_t) * (sign * math.sqrt(r_y) * y + math.sqrt(1 - r_y) * noise)
    return u * math.sqrt(len(u))


def strongest(x: Floats, t: Bools, y: Floats, names: Sequence[str]) -> tuple[str, float, float]:
    """The covariate after which a confounder of the same strength would bias a linear regression most, and that
    confounder's partial R^2 with the treatment and with the outcome (Cinelli & Hazlett 2020, Sec. 4.4, k = 1: not the
    covariate's own, which are from a model that lacks the confounder). Columns of one name, a factor's, count as one.
    Where the bound is beyond what can be, it is 0.99."""
    factors = np.array(names)
    whole = np.column_stack([x, t])
    found = []
    for name in dict.fromkeys(factors.tolist()):
        own = factors == name
        f_t = odds(partial_r2(x[:, ~own], x[:, own], t.astype(float)))
        r_t = min(f_t, 0.99)
        f_y = odds(partial_r2(whole[:, np.append(~own, True)], x[:, own], y))
        r_y = min((1 + r_t) / (1 - r_t) * f_y, 0.99)
        found.append((r_y * r_t / (1 - r_t), name, r_t, r_y))
    _, name, r_t, r_y = max(found)
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


def e_value(t: Bools, y: Floats, first: Estimator) -> Verdict:
    """The E-value (VanderWeele & Ding 2017): the risk ratio that a confounder must have with the treatment and with the
    outcome, both, to explain the effect away, and for the interval to reach zero. Passes where the interval excludes
    zero: how large an E-value is large, is for those to judge who know the confounders."""
    low, high = first.interval()
    near = low if first.effect_ > 0 else high
    passed = near * first.effect_ > 0
    whole, limit = (tied(risk_ratio(v, t, y, first.weights_)) for v in (first.effect_, near))
    limit = limit if passed else 1.0
    end = f"one with {limit:.2f} the interval's nearer end" if passed else "but the interval covers zero without one"
    sentence = (
        f"a confounder with risk ratios of {whole:.2f} on both treatment and outcome explains the estimate away, {end}"
    )
    return Verdict("E-value", passed, sentence, {"estimate": whole, "limit": limit})


def risk_ratio(effect: float, t: Bools, y: Floats, weights: Floats | None) -> float:
    """Of an outcome of 0 and 1: the treated's risk, weighted as the estimator does, over what it would be without the
    effect, each at least 1/n. Of others exp(0.91 d) with d the effect in standard deviations of y, which is more
    cautious than in those within the arms."""
    if not np.isin(y, (0, 1)).all():
        return math.exp(0.91 * effect / float(y.std(ddof=1)))
    risk = float(np.average(y[t], weights=None if weights is None else weights[t]))
    one, other = np.clip((risk, risk - effect), 1 / len(y), 1)
    return float(one / other)


def tied(ratio: float) -> float:
    """The E-value of a risk ratio: RR + sqrt(RR (RR - 1)), of its inverse where it is below 1."""
    ratio = max(ratio, 1 / ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def rosenbaum_bounds(
    x: Floats, t: Bools, y: Floats, first: Estimator, *, gamma: float = GAMMA, matching: Matching | None = None
) -> Verdict:
    """How much hidden bias the signed-rank test of matched pairs stands, on the side of the effect: passes where p <=
    0.05 at a Gamma of ``gamma``, when within pairs the odds of being the treated one differ by up to that factor
    (Rosenbaum 2002, Sec. 4.3). The pairs are 1:1 on the logit of the propensity score without replacement, within 0.2
    standard deviations, the smaller arm choosing; ``matching`` makes others."""
    if matching is None:
        matching = Matching("ATT" if t.sum() <= (~t).sum() else "ATC", replacement=False, caliper=0.2)
    i, j = clone(matching).fit(x, t).pairs_.T
    gain = np.where(t[i], y[i] - y[j], y[j] - y[i]) * math.copysign(1, first.effect_)
    largest, p = largest_gamma(gain), signed_rank(gain, 1.0)
    passed = largest >= gamma
    if largest < 1:
        sentence = f"{len(gain):,} matched pairs show no effect even without hidden bias (p = {p:.2g})"
    else:
        sentence = (
            f"{len(gain):,} matched pairs show the effect up to a hidden bias of Gamma = {largest:.2f}, "
            f"{'at least' if passed else 'below'} {gamma:g}"
        )
    numbers = {"pairs": len(gain), "gamma": largest, "asked": gamma, "p_without_bias": p}
    return Verdict("Rosenbaum bounds", passed, sentence, numbers)


def signed_rank(gain: Floats, gamma: float) -> float:
    """The largest one-sided p of Wilcoxon's signed ranks of the pairs' differences [m] under a hidden bias of gamma, by
    the normal approximation. Equal differences share their ranks; those of zero are ranked and then left out, as in the
    book (Table 4.3) and unlike in R's rbounds. 1 where all are zero."""
    W, total, squares = _ranks(gain)
    p = gamma / (1 + gamma)
    return float(norm.sf((W - p * total) / math.sqrt(p * (1 - p) * squares))) if squares else 1.0


def largest_gamma(gain: Floats, level: float = 0.05) -> float:
    """The largest Gamma at which :func:`signed_rank` is at most ``level``, below 1 where it never is.

    It solves W - p total = z sqrt(p (1 - p) squares), a quadratic in p, for p = Gamma / (1 + Gamma)."""
    W, total, squares = _ranks(gain)
    if not squares:
        return 0.0
    c = float(norm.isf(level)) ** 2 * squares
    a, b = total**2 + c, W * total + c / 2
    p = (b - math.sqrt(b**2 - a * W**2)) / a
    return p / (1 - p)


def _ranks(gain: Floats) -> tuple[float, float, float]:
    """Sums of the ranks of the positive differences, of all but zeros, and of the squares of these."""
    ranks = rankdata(np.abs(gain)) * (gain != 0)
    return float(ranks[gain > 0].sum()), float(ranks.sum()), float((ranks**2).sum())


def shown(value: float) -> str:
    """Three digits, or whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _but(refused: int) -> str:
    return f" ({refused} refused)" if refused else ""


def _random(seed: int, use: str) -> np.random.Generator:
    """A stream for each use, none of them default_rng(seed): a simulated study may be drawn from that very one."""
    return np.random.default_rng([seed, *use.encode()])
