"""The estimating equations that weights solve, and how an estimate depends on them."""

from dataclasses import dataclass

import numpy as np

from contrastkit.tables.checks import Floats


@dataclass(frozen=True, eq=False)
class Equations:
    """Weights w_i(beta), where beta solves sum_i score_i(eta_i) A_i = 0 and eta_i = A_i'beta.

    Attributes:
        A: float64 [n, k]; columns may be linearly dependent.
        score: float64 [n]. curvature: float64 [n], minus its derivative by eta_i; not negative.
        slope: float64 [n], the derivative of log w_i by eta_i.
    """

    A: Floats
    score: Floats
    curvature: Floats
    slope: Floats

    def moves(self, own: Floats) -> tuple[Floats, Floats]:
        """How far eta_i moves an estimate, by unit of score_i [n], and the leverage of each unit on beta [n].

        Args:
            own: float64 [n], the derivative of the estimate by log w_i.
        """
        projected, leverage = leverages(self.A, self.curvature)
        return projected @ (self.A.T @ (own * self.slope)), leverage


def leverages(A: Floats, w: Floats) -> tuple[Floats, Floats]:
    """A times the pseudo-inverse of A'wA [n, k], and the leverage [n] of each row on the regression on A with weights
    w [n]; at most 1 - 1e-6, since a row that has all of it has no residual either."""
    projected = A @ np.linalg.pinv((A * w[:, None]).T @ A, rcond=1e-10, hermitian=True)
    return projected, np.minimum(w * np.einsum("ij,ij->i", projected, A), 1 - 1e-6)
