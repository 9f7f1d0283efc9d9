"""Weights that balance the covariates of the arms.

After ``fit(X, T)`` each class has ``weights_``: float64 [n], not negative, with mean 1 in each weighted arm. The
difference of the weighted means of the arms is the effect on the population that ``estimand`` names: all (ATE), the
treated (ATT), the untreated (ATC), or the units with overlap (ATO). If covariates cannot be balanced, the error states
the remaining gap; weights that did not converge are never returned.
"""

from contrastkit.causal.weighting.approximate_balancing import ApproximateBalancing
from contrastkit.causal.weighting.covariate_balancing import CovariateBalancing
from contrastkit.causal.weighting.entropy_balancing import EntropyBalancing
from contrastkit.causal.weighting.global_balancing import GlobalBalancing
from contrastkit.causal.weighting.inverse_probability import InverseProbability, trimming
from contrastkit.causal.weighting.normalise import mean_one

__all__ = [
    "ApproximateBalancing",
    "CovariateBalancing",
    "EntropyBalancing",
    "GlobalBalancing",
    "InverseProbability",
    "mean_one",
    "trimming",
]
