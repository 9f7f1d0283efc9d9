"""All checks in order."""

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import ArrayLike

from contrastkit.causal.estimate import Estimator
from contrastkit.causal.refute.confounding import unobserved_confounder
from contrastkit.causal.refute.hidden_bias import GAMMA, e_value, rosenbaum_bounds
from contrastkit.causal.refute.placebo import placebo_outcome, placebo_treatment, random_cause, subset
from contrastkit.causal.refute.verdict import DRAWS, Verdict
from contrastkit.errors import UserError
from contrastkit.tables.checks import as_outcome, as_treatment
from contrastkit.tables.covariates import Covariates


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
    """Run all checks in order; a check that cannot be run fails, with the reason.

    Args:
        first: an estimator from :func:`fitted`, whose effect is checked.
        placebo: an outcome that the treatment cannot have affected: its name, the covariates [n, p] to adjust it for,
            which must not determine it, and its values [n]. None skips the check.
        gamma: the Gamma that the Rosenbaum bounds must reach.
        seed: random seed.
    """
    X = Covariates.of(X)
    t, y = as_treatment(T, len(X)), as_outcome(Y, len(X))
    checks: dict[str, Callable[[], Verdict]] = {
        "placebo treatment": lambda: placebo_treatment(X, t, y, first, draws=draws, seed=seed),
        "random common cause": lambda: random_cause(X, t, y, first, draws=draws, seed=seed),
        "subset": lambda: subset(X, t, y, first, draws=draws, seed=seed),
    }
    if placebo is not None:
        checks["placebo outcome"] = lambda: placebo_outcome(*placebo, t, first, draws=draws, seed=seed)
    checks["unobserved confounder"] = lambda: unobserved_confounder(X, t, y, first, seed=seed)
    checks["E-value"] = lambda: e_value(t, y, first)
    checks["Rosenbaum bounds"] = lambda: rosenbaum_bounds(X, t, y, first, gamma=gamma)
    for name, check in checks.items():
        try:
            yield check()
        except UserError as error:
            yield Verdict(name, False, f"the check cannot be run: {error}")
