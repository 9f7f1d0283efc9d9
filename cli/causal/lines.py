"""Lines that several commands of ``contrastkit causal`` print."""

import math
from typing import TYPE_CHECKING

from contrastkit.cli.tables import precise, probability, short

if TYPE_CHECKING:
    from contrastkit.causal.diagnostics import Balance
    from contrastkit.causal.estimate import Estimator


def estimate_line(estimator: "Estimator") -> str:
    """The effect, its standard error and its interval, if any."""
    if math.isnan(estimator.se_):
        return f"{precise(estimator.effect_)}, without a standard error"
    low, high = map(short, estimator.interval())
    return f"{precise(estimator.effect_)}, SE {precise(estimator.se_)}, 95 % interval {low} to {high}"


def sample_size_line(balance: "Balance") -> str:
    """The effective sample size of each arm, before and after weighting."""
    (treated, treated_after), (untreated, untreated_after) = balance.n
    return (
        f"effective sample size: treated {treated:,.1f} -> {treated_after:,.1f}, "
        f"untreated {untreated:,.1f} -> {untreated_after:,.1f}"
    )


def difference_line(balance: "Balance") -> str:
    """The largest standardised mean difference, before and after weighting."""
    return f"largest |SMD| {balance.worst_before:.4f} -> {balance.worst:.4f}"


def p_value(p: float) -> str:
    """p = 0.034, or p < 0.001; that it is not known."""
    if math.isnan(p):
        return "p unknown"
    text = probability(p)
    return f"p {text[0]} {text[1:]}" if text.startswith("<") else f"p = {text}"
