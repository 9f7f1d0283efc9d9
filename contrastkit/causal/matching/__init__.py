"""Matching each unit of one arm to the nearest of the other (review: Stuart 2010; model: MatchIt).

    matching.py        the class: options, strata, weights
    metric.py          coordinates whose Euclidean distance is the metric
    replacement.py     nearest partners, with replacement
    turns.py           greedy and optimal pairs, without replacement

With replacement, distances that differ only by rounding are equal, and without ties the first of equals in the data is
taken, so that pairs do not depend on the machine. Without replacement, of two equally near partners the one with the
lower score is taken, or the first that the search tree returns.
"""

from contrastkit.causal.matching.matching import Matching

__all__ = ["Matching"]
