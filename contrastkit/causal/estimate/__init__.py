"""What the treatment does: estimators with ``fit(X, T, Y)``, and then

``effect_``: the estimate, in units of Y. ``se_``: its standard error, NaN where none is known. ``estimand_``: of whom
it is the effect. ``weights_``: float64 [n], the weights under which the arms were compared, None where there are none.

    base.py            what an estimator is; those of one arm
    regression.py      differences of means, least squares, Oaxaca-Blinder
    weighted.py        under the weights of a weighting; strata of the propensity score
    matched.py         over matched pairs
    aipw.py            doubly robust
"""

from contrastkit.causal.estimate.aipw import AIPW
from contrastkit.causal.estimate.base import ArmwiseEstimator, Estimator
from contrastkit.causal.estimate.matched import Matched
from contrastkit.causal.estimate.regression import DifferenceInMeans, OaxacaBlinder, Regression
from contrastkit.causal.estimate.weighted import Stratified, Weighted

__all__ = [
    "AIPW",
    "ArmwiseEstimator",
    "DifferenceInMeans",
    "Estimator",
    "Matched",
    "OaxacaBlinder",
    "Regression",
    "Stratified",
    "Weighted",
]
