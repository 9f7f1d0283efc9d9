"""Estimators of treatment effects. After ``fit(X, T, Y)`` they have

``effect_``: the estimate, in units of Y, or the logarithm of a ratio. ``se_``: its standard error, NaN if unknown.
``means_``: float64 [2], the mean outcomes under treatment and without; None if unknown. ``estimand_``: the target
population. ``weights_``: float64 [n], the weights under which the arms were compared, None if unweighted.
``influence_``: float64 [n], how far each unit moves the estimate, so that the norm is the standard error, and with
clusters that of the sums within them; None if unknown. ``remarks_``: what a reader of the estimate should know.

    base.py            the base classes
    means.py           mean outcomes under each treatment, and the measures that compare them
    regression.py      difference in means, least squares, Oaxaca-Blinder
    standardised.py    generalised linear models
    weighted.py        weighted difference in means; strata of the propensity score
    matched.py         mean difference over matched pairs
    grouped.py         differences in means over groups of full matching, and over strata
    cross_fitted.py    the base of those below, whose models predict rows that they have not seen
    aipw.py            doubly robust
    resampling.py      bootstrap and jackknife
    partially_linear.py  double machine learning
    t_learner.py       one outcome model in each arm
    front_door.py      through mediators, with unobserved confounders
"""

from contrastkit.causal.estimate.aipw import AIPW
from contrastkit.causal.estimate.base import ArmwiseEstimator, Estimator
from contrastkit.causal.estimate.front_door import FrontDoor
from contrastkit.causal.estimate.grouped import Grouped, InSubclasses
from contrastkit.causal.estimate.matched import Matched
from contrastkit.causal.estimate.partially_linear import PartiallyLinear
from contrastkit.causal.estimate.regression import DifferenceInMeans, OaxacaBlinder, Regression
from contrastkit.causal.estimate.standardised import Standardised
from contrastkit.causal.estimate.t_learner import TLearner
from contrastkit.causal.estimate.weighted import Stratified, Weighted

__all__ = [
    "AIPW",
    "ArmwiseEstimator",
    "DifferenceInMeans",
    "Estimator",
    "FrontDoor",
    "Grouped",
    "InSubclasses",
    "Matched",
    "OaxacaBlinder",
    "PartiallyLinear",
    "Regression",
    "Standardised",
    "Stratified",
    "TLearner",
    "Weighted",
]
