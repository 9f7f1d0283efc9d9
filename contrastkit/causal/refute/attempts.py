"""All attempts, one after the other."""

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
    """All attempts one after the other; one that cannot be made has failed, with the reason.

    Args:
        first: an estimator that :func:`fitted` gave, whose effect is doubted.
        placebo: an outcome that the treatment cannot have changed: its name, the covariates [n, p] to adjust it for,
            which must not tell it, and its values [n]. None leaves the attempt out.
        gamma: that the Rosenbaum bounds must reach.
        seed: random seed.
    """
    X = Covariates.of(X)
    t, y = as_treatment(T, len(X)), as_outcome(Y, len(X))
    attempts: dict[str, Callable[[], Verdict]] = {
        "placebo treatment": lambda: placebo_treatment(X, t, y, first, draws=draws, seed=seed),
        "random common cause": lambda: random_cause(X, t, y, first, draws=draws, seed=seed),
        "subset": lambda: subset(X, t, y, first, draws=draws, seed=seed),
    }
    if placebo is not None:
        attempts["placebo outcome"] = lambda: placebo_outcome(*placebo, t, first, draws=draws, seed=seed)
    attempts["unobserved confounder"] = lambda: unobserved_confounder(X, t, y, first, seed=seed)
    attempts["E-value"] = lambda: e_value(t, y, first)
    attempts["Rosenbaum bounds"] = lambda: rosenbaum_bounds(X, t, y, first, gamma=gamma)
    for name, attempt in attempts.items():
        try:
            yield attempt()
        except UserError as error:
            yield Verdict(name, False, f"it cannot be done: {error}")
