"""Weights that make the arms of a study alike.

Each class has ``fit(X, T)`` and then ``weights_``: float64 [n], not negative, with mean 1 in each arm that is weighted,
so that the difference of the arms' weighted means is the effect on the population that ``estimand`` names: all (ATE),
the treated (ATT), the untreated (ATC), or those who could have been either (ATO). What cannot be balanced is refused
with the gap that remains: weights that did not converge are never returned.
"""

from contrastkit.causal.weighting.approximate_balancing import ApproximateBalancing
from contrastkit.causal.weighting.covariate_balancing import CovariateBalancing
from contrastkit.causal.weighting.entropy_balancing import EntropyBalancing
from contrastkit.causal.weighting.global_balancing import GlobalBalancing
from contrastkit.causal.weighting.inverse_probability import InverseProbability
from contrastkit.causal.weighting.normalise import mean_one

__all__ = [
    "ApproximateBalancing",
    "CovariateBalancing",
    "EntropyBalancing",
    "GlobalBalancing",
    "InverseProbability",
    "mean_one",
]
