"""Matching each unit of one arm to the nearest of the other (review: Stuart 2010; model: MatchIt).

    matching.py        the class: options, strata, weights
    metric.py          coordinates whose Euclidean distance is the metric
    replacement.py     nearest partners, with replacement
    turns.py           greedy and optimal pairs, without replacement

Distances that differ only by rounding are equal, and so are covariates that must agree and scores that decide who
chooses first. Of equally near partners the first in the data is taken, unless ties share; so pairs depend neither on
the machine nor on units. Of equally good optimal pairs those are taken that the solver finds first.
"""

from contrastkit.causal.matching.matching import Matching

__all__ = ["Matching"]
