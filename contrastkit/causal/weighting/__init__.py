"""Weights that balance the covariates of the arms.

After ``fit(X, T)`` each class has ``weights_``: float64 [n], not negative, with mean 1 in each weighted arm. The
difference of the weighted means of the arms is the effect on the population that ``estimand`` names: all (ATE), the
treated (ATT), the untreated (ATC), or the units with overlap (ATO). Those of ``several_arms.py`` take labels of more
arms, and those of ``continuous.py`` amounts, whose weights have mean 1 over all units. If covariates cannot be
balanced, the error states the remaining gap; weights that did not converge are never returned.
"""

from contrastkit.causal.weighting.approximate_balancing import ApproximateBalancing
from contrastkit.causal.weighting.continuous import (
    ContinuousCovariateBalancing,
    ContinuousEntropyBalancing,
    NormalDensity,
)
from contrastkit.causal.weighting.covariate_balancing import CovariateBalancing
from contrastkit.causal.weighting.entropy_balancing import EntropyBalancing
from contrastkit.causal.weighting.global_balancing import GlobalBalancing
from contrastkit.causal.weighting.inverse_probability import InverseProbability, trimming
from contrastkit.causal.weighting.normalise import mean_one
from contrastkit.causal.weighting.over_identified import OverIdentifiedBalancing
from contrastkit.causal.weighting.several_arms import GeneralisedPropensity, SeveralEntropyBalancing

__all__ = [
    "ApproximateBalancing",
    "ContinuousCovariateBalancing",
    "ContinuousEntropyBalancing",
    "CovariateBalancing",
    "EntropyBalancing",
    "GeneralisedPropensity",
    "GlobalBalancing",
    "InverseProbability",
    "NormalDensity",
    "OverIdentifiedBalancing",
    "SeveralEntropyBalancing",
    "mean_one",
    "trimming",
]
