"""Matching: to each unit of one arm the nearest of the other (Stuart 2010 is a review; MatchIt the model).

    matching.py        the class: options, strata, weights
    metric.py          coordinates whose Euclidean distance is the metric
    replacement.py     the nearest, where a partner may serve again
    turns.py           one choice after the other, or the optimal pairs, where it may not

Distances that differ by rounding alone are equal, and of equals the first in the data is taken, so that pairs do not
depend on the machine; not so on a score without replacement, where of equals the lower score is taken.
"""

from contrastkit.causal.matching.matching import Matching

__all__ = ["Matching"]
