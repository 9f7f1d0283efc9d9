"""The interval of Anderson & Rubin (1949), which covers as it should however weak the instruments are."""

import math
from itertools import pairwise

import numpy as np
from scipy.linalg import eigvals
from scipy.stats import f as fisher

from contrastkit.causal.instruments.sample import Sample
from contrastkit.tables.checks import Floats

Interval = tuple[float, float]


def anderson_rubin(sample: Sample, level: float = 0.95) -> list[Interval]:
    """The effects b for which the instruments are not rejected from the regression of y - b d on them, by the sandwich
    covariance: a union of intervals, which may be empty, or end at infinity.

    With r(b) = Z'(y - b d) and its covariance O(b), which is quadratic in b, it is the set where r(b)' O(b)^-1 r(b) is
    at most c, k times the quantile of Fisher's F. Its ends are among the real b at which the matrix of c, r(b) and O(b)
    is singular: a quadratic eigenvalue problem.
    """
    n, Z = sample.Z.shape[0], sample.Z
    y_scale, d_scale = np.linalg.norm(sample.y) / np.sqrt(n), np.linalg.norm(sample.d) / np.sqrt(n)
    y, d, k = sample.y / y_scale, sample.d / d_scale, Z.shape[1]
    c = k * float(fisher.ppf(level, k, sample.df(k)))
    of_y, of_d = Z.T @ y, Z.T @ d
    for_y, for_d = Z * (y - Z @ of_y)[:, None], Z * (d - Z @ of_d)[:, None]
    yy, dd = sample.covariance(for_y, coefficients=k), sample.covariance(for_d, coefficients=k)
    cross = sample.covariance(for_y, for_d, coefficients=k)
    yd = cross + cross.T

    def accepted(b: float) -> bool:
        r, V = (of_d, dd) if math.isinf(b) else (of_y - b * of_d, yy - b * yd + b * b * dd)
        return float(r @ np.linalg.solve(V, r)) <= c

    roots = _roots([_bordered(c, of_y, yy), _bordered(0.0, -of_d, -yd), _bordered(0.0, np.zeros(k), dd)])
    found: list[Interval] = []
    for low, high in pairwise([-math.inf, *roots, math.inf]):
        if accepted(math.inf if math.isinf(low) or math.isinf(high) else (low + high) / 2):
            if found and found[-1][1] == low:
                low = found.pop()[0]
            found.append((low, high))
    scale = float(y_scale / d_scale)
    return [(low * scale, high * scale) for low, high in found]


def _bordered(corner: float, edge: Floats, block: Floats) -> Floats:
    """[[corner, edge'], [edge, block]], [1 + k, 1 + k]."""
    return np.block([[np.array([[corner]]), edge[None]], [edge[:, None], block]])


def _roots(M: list[Floats]) -> list[float]:
    """The real b, in order, at which M[0] + b M[1] + b^2 M[2] is singular."""
    m = len(M[0])
    zero, one = np.zeros((m, m)), np.eye(m)
    values = eigvals(np.block([[zero, one], [-M[0], -M[1]]]), np.block([[one, zero], [zero, M[2]]]))
    values = values[np.isfinite(values)]
    return sorted({float(b.real) for b in values if abs(b.imag) <= 1e-6 * (1 + abs(b.real))})
