"""Matching each unit of one arm to the nearest of the other, or all units in groups (review: Stuart 2010; model:
MatchIt).

    matching.py        pairs: options, exact columns, weights
    full.py            optimal groups of one unit and several of the other arm
    metric.py          coordinates whose Euclidean distance is the metric
    limits.py          agreement on columns, calipers of covariates
    replacement.py     nearest partners, with replacement
    turns.py           greedy and optimal pairs, without replacement

Distances that differ only by rounding are equal, and so are covariates that must agree and scores that decide who
chooses first. Of equally near partners the first in the data is taken, unless ties share; so pairs depend neither on
the machine nor on units. Of equally good optimal pairs those are taken that the solver finds first.
"""

from contrastkit.causal.matching.full import FullMatching
from contrastkit.causal.matching.matching import Matching

__all__ = ["FullMatching", "Matching"]
