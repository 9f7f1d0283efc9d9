"""Estimates with their intervals, and tests, as reports have them."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

from contrastkit.tables.checks import Floats


@dataclass(frozen=True)
class Effect:
    """An estimate with its standard error, 95 % interval by Student's t, and the p-value of no difference from 0."""

    effect: float
    se: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, effect: float, se: float, df: float) -> "Effect":
        half = float(student.ppf(0.975, df)) * se
        p = 2 * float(student.sf(abs(effect) / se, df)) if se > 0 else float(effect == 0)
        return cls(effect, se, effect - half, effect + half, p)


@dataclass(frozen=True)
class Wald:
    """The Wald test that several linear combinations of coefficients are 0, by Fisher's F.

    Attributes:
        f: the statistic over its degrees of freedom; NaN, like p, where these are too few, as with few clusters.
        df: of the numerator and the denominator.
    """

    f: float
    df: tuple[int, int]
    p: float

    @classmethod
    def of(cls, values: Floats, covariance: Floats, df: int) -> "Wald":
        """The test that values [q] with this covariance [q, q] are all 0."""
        q = len(values)
        if min(df, np.linalg.matrix_rank(covariance, hermitian=True)) < q:
            return cls(math.nan, (q, df), math.nan)
        f = float(values @ np.linalg.solve(covariance, values)) / q
        return cls(f, (q, df), float(fisher.sf(f, q, df)))
